//! `authferry clients`: registrations of an old provider in, ours out, and secrets rotated.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;

use crate::app::clients;
use crate::app::clients::import::Wanted;
use crate::app::clients::rotate::Step;
use crate::config;
use crate::config::CONFIG_VARIABLE;
use crate::config::Source;
use crate::config::System;
use crate::config::settings::Settings;
use crate::entropy::SystemEntropy;
use crate::secret::Secret;

/// The clients of our token endpoint.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Turn registrations of an old provider into entries for `token_endpoint.clients`, with hashes of their secrets. Public
    /// clients come as `auth: none`, for devices and refresh tokens alone; those that prove by a key are known by it, if its
    /// public half is in the file. Those that prove by a certificate, or by a key that is elsewhere, are named and left out: a
    /// secret would be less
    Import {
        /// A realm that Keycloak exported, or client metadata (RFC 7591) in JSON.
        file: PathBuf,
        /// The provider in the configuration that they are registered at.
        #[arg(long)]
        provider: String,
        /// Whom their tokens are for; may be repeated.
        #[arg(long = "audience", value_name = "AUDIENCE", required = true)]
        audiences: Vec<String>,
        /// Write their secrets here, one file each, for what is asked at the provider in their name.
        #[arg(long, value_name = "DIRECTORY")]
        secrets: Option<PathBuf>,
    },
    /// Print the clients of a configuration as client metadata (RFC 7591), without what proves one of them
    Export {
        /// The configuration file.
        #[arg(env = CONFIG_VARIABLE)]
        file: PathBuf,
    },
    /// Give a client a second secret, which is printed once; `--finish` ends the first
    Rotate {
        /// `client_id`.
        client: String,
        /// The configuration file: it is changed.
        #[arg(env = CONFIG_VARIABLE)]
        file: PathBuf,
        /// The client has the new secret: the old one is good no longer.
        #[arg(long)]
        finish: bool,
    },
}

/// Runs the command; what it has to say goes to `out`. Exit codes: 0 done, 1 refused, 2 a file cannot be read.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> ExitCode {
    let done = match &args.command {
        Command::Import {
            file,
            provider,
            audiences,
            secrets,
        } => import(file, provider, audiences, secrets.as_deref(), out),
        Command::Export { file } => export(file, out),
        Command::Rotate {
            client,
            file,
            finish,
        } => rotate(client, file, *finish, out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, words)) => {
            drop(writeln!(io::stderr(), "error: {words}"));
            ExitCode::from(code)
        }
    }
}

type Done = Result<(), (u8, String)>;

fn unreadable(path: &Path, error: &io::Error) -> (u8, String) {
    (2, format!("{}: {error}", path.display()))
}

fn written(error: &io::Error) -> (u8, String) {
    (1, error.to_string())
}

fn import(
    file: &Path,
    provider: &str,
    audiences: &[String],
    secrets: Option<&Path>,
    out: &mut dyn Write,
) -> Done {
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    let place = secrets.map_or_else(|| "secrets".to_owned(), |dir| dir.display().to_string());
    let wanted = Wanted {
        provider,
        audiences,
        secrets: &place,
    };
    let imported = clients::import::import(&text, wanted)
        .map_err(|why| (1, format!("{}: {why}", file.display())))?;
    if let Some(dir) = secrets {
        keep(dir, &imported.secrets).map_err(|error| unreadable(dir, &error))?;
    }
    for note in &imported.notes {
        writeln!(out, "# {note}").map_err(|error| written(&error))?;
    }
    out.write_all(imported.yaml.as_bytes())
        .map_err(|error| written(&error))
}

/// One file each, which nobody else reads, and none that is there.
fn keep(dir: &Path, secrets: &[(String, Secret<String>)]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (name, secret) in secrets {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(dir.join(name))?;
        file.write_all(secret.expose().as_bytes())?;
    }
    Ok(())
}

fn export(file: &Path, out: &mut dyn Write) -> Done {
    let (_, settings) = load(file)?;
    let all = clients::export(&settings);
    let text = serde_json::to_string_pretty(&all).map_err(|error| (1, error.to_string()))?;
    writeln!(out, "{text}").map_err(|error| written(&error))
}

fn rotate(client: &str, file: &Path, finish: bool, out: &mut dyn Write) -> Done {
    let (source, settings) = load(file)?;
    let step = if finish { Step::Finish } else { Step::Begin };
    let secret = clients::rotate::rotate(&source, &settings, client, step, &SystemEntropy);
    let secret = secret.map_err(|why| (1, format!("{}: {why}", file.display())))?;
    match secret {
        Some(secret) => writeln!(
            out,
            "{}\n# The old secret is good until `authferry clients rotate --finish {client}`.",
            secret.expose()
        ),
        None => writeln!(out, "# The newer secret alone is good."),
    }
    .map_err(|error| written(&error))
}

fn load(file: &Path) -> Result<(Source, Settings), (u8, String)> {
    let source = Source::read(file, Arc::new(System)).map_err(|error| (2, error.to_string()))?;
    let compiled = config::load(&source).map_err(|problems| (1, problems.to_string()))?;
    let settings = compiled
        .draft
        .for_a_look(&SystemEntropy)
        .map_err(|error| (2, error.to_string()))?;
    Ok((source, settings))
}
