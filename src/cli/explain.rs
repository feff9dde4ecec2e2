//! `authferry explain`: what would happen to a person at an application, by the configuration that runs.

use std::io::Read as _;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use http::Method;
use serde_json::Map;
use serde_json::Value;

use crate::admin::ExplainRequest;
use crate::admin::Explanation;
use crate::admin::Token;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;
use crate::cli::ctl::printable;
use crate::cli::reference;

/// Asks a running instance what would happen to a person. It calls nobody, except the owner of a token.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    socket: Socket,
    /// The canonical subject, such as `uid:1002`; with --provider, what that provider calls the person
    #[arg(long, required_unless_present_any = ["token_file", "reference"])]
    subject: Option<String>,
    /// The reference that a page of ours showed: what happened to that request
    #[arg(long, value_name = "ID", conflicts_with_all = ["subject", "token_file", "app"])]
    reference: Option<String>,
    /// With --reference: a file of the access and decision log, instead of what the running instance remembers
    #[arg(long, value_name = "FILE", requires = "reference")]
    log_file: Option<PathBuf>,
    /// A file with a token, `-` for standard input: who it is, its owner says. It is never printed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "provider", "groups", "email", "claims"])]
    token_file: Option<PathBuf>,
    /// The application
    #[arg(long, required_unless_present = "reference")]
    app: Option<String>,
    /// The provider that is supposed to have vouched
    #[arg(long)]
    provider: Option<String>,
    /// A group that the provider is supposed to list; may be repeated. Without one, groups are not known
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// The verified address that the provider is supposed to know
    #[arg(long)]
    email: Option<String>,
    /// A further claim, by our name for it; may be repeated. JSON, or else a text
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// The path asked for
    #[arg(long)]
    path: Option<String>,
    /// The method
    #[arg(long)]
    method: Option<String>,
    /// The client's address
    #[arg(long)]
    address: Option<IpAddr>,
    /// How the answer looks
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Runs the command; what it has to say goes to `out`.
pub(crate) async fn run(args: Args, out: &mut dyn Write) -> ExitCode {
    let done = answer(&args, out).await;
    finish(done, out)
}

/// The longest token that is read.
const MAX_TOKEN: u64 = 64 * 1024;

/// A token from a file or standard input: on the command line everybody on the machine could read it.
fn token(file: &Path) -> std::io::Result<Token> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX_TOKEN).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(file)?
            .take(MAX_TOKEN)
            .read_to_string(&mut text)?;
    }
    Ok(Token::new(text.trim_ascii().to_owned()))
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_not_json| Value::String(value.into()));
    Ok((name.to_owned(), value))
}

async fn answer(args: &Args, out: &mut dyn Write) -> Result<(), CommandError> {
    if let Some(id) = &args.reference {
        let lines = match &args.log_file {
            Some(file) => reference::in_file(file, id)?,
            None => reference::at_instance(&args.socket, id).await?,
        };
        return match args.format {
            Format::Json => Ok(writeln!(out, "{}", serde_json::to_string_pretty(&lines)?)?),
            Format::Text => Ok(reference::write(id, &lines, out)?),
        };
    }
    let question = ExplainRequest {
        subject: args.subject.clone(),
        token: args.token_file.as_deref().map(token).transpose()?,
        app: args.app.clone().unwrap_or_default(),
        provider: args.provider.clone(),
        groups: args.groups.clone(),
        email: args.email.clone(),
        claims: args.claims.iter().cloned().collect::<Map<_, _>>(),
        path: args.path.clone(),
        method: args.method.clone(),
        address: args.address,
    };
    let body = serde_json::to_value(&question)?;
    let value = ask(&args.socket, Method::POST, "/admin/v1/explain", Some(&body)).await?;
    match args.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?,
        Format::Text => write_text(args, &serde_json::from_value(value)?, out)?,
    }
    Ok(())
}

fn write_text(asked: &Args, answer: &Explanation, out: &mut dyn Write) -> std::io::Result<()> {
    let whom = asked.subject.as_deref().unwrap_or(&answer.subject);
    writeln!(
        out,
        "{} at {}, configuration {}",
        printable(if whom.is_empty() { "nobody" } else { whom }),
        printable(asked.app.as_deref().unwrap_or_default()),
        printable(&answer.revision)
    )?;
    if let Some(judged) = &answer.judged {
        writeln!(out, "token        {}", printable(judged))?;
        if answer.subject.is_empty() {
            return Ok(());
        }
    }
    if !answer.subject.is_empty() && answer.subject != whom {
        writeln!(out, "known as     {}", printable(&answer.subject))?;
    }
    let known = |text: &Option<String>| printable(text.as_deref().unwrap_or("none"));
    match &answer.rollout {
        None => writeln!(out, "rollout      none")?,
        Some(rollout) => writeln!(
            out,
            "rollout      {}, stage {} ({})",
            printable(rollout),
            known(&answer.stage),
            known(&answer.mode)
        )?,
    }
    writeln!(out, "kill switch  {}", printable(&answer.kill))?;
    if answer.arm.is_some() {
        let bucket = answer.bucket.map_or_else(String::new, |bucket| {
            format!(", bucket {bucket} of 1000000")
        });
        writeln!(
            out,
            "arm          {}, by {}{bucket}",
            known(&answer.arm),
            known(&answer.rule)
        )?;
    }
    writeln!(out, "login at     {}", printable(&answer.provider))?;
    if answer.route.is_some() {
        writeln!(out, "route        {}", known(&answer.route))?;
    }
    for accept in &answer.accepts {
        writeln!(
            out,
            "credential   {} of {}: {}",
            printable(&accept.credential),
            printable(&accept.provider),
            printable(&accept.acceptance)
        )?;
    }
    for header in &answer.headers {
        let name = printable(&header.name);
        match (
            header.value.as_ref().or(header.made.as_ref()),
            &header.error,
        ) {
            (_, Some(error)) => writeln!(out, "header       {name}: denied, {}", printable(error))?,
            (Some(value), None) => writeln!(out, "header       {name}: {}", printable(value))?,
            (None, None) => writeln!(out, "header       {name} is left out")?,
        }
    }
    for (number, step) in answer.steps.iter().enumerate() {
        writeln!(out, "{:>2}. {}", number + 1, printable(step))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::admin::fake::FakeAdmin;
    use crate::admin::fake::FakeBackend;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    async fn said(words: &[&str]) -> (ExitCode, String) {
        let admin = FakeAdmin::start(FakeBackend::default()).await;
        let socket = admin.socket();
        let line = ["explain", "--socket", socket.to_str().unwrap()];
        let mut out = Vec::new();
        let args = Cli::parse_from(line.iter().chain(words)).args;
        let code = run(args, &mut out).await;
        (code, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn a_person_is_explained_for_people_and_for_programs() {
        let question = ["--subject", "uid:1002", "--app", "crm"];
        let (code, text) = said(&question).await;
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(
            text.starts_with("uid:1002 at crm, configuration abc\n"),
            "{text}"
        );
        assert!(text.contains("login at     modern"), "{text}");
        let (_, text) = said(&[&question[..], &["--format", "json"]].concat()).await;
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["provider"], "modern");
    }

    #[tokio::test]
    async fn an_application_that_does_not_exist_is_an_error() {
        let (code, text) = said(&["--subject", "uid:1002", "--app", "crn"]).await;
        assert_ne!(code, ExitCode::SUCCESS);
        assert!(text.contains("`crn`"), "{text}");
    }

    #[test]
    fn a_claim_is_json_or_else_a_text() {
        assert_eq!(claim("n=1"), Ok(("n".into(), Value::from(1))));
        assert_eq!(claim("n=[\"a\"]"), Ok(("n".into(), Value::from(vec!["a"]))));
        assert_eq!(claim("n=a=b"), Ok(("n".into(), Value::from("a=b"))));
        assert!(claim("n").is_err());
    }
}
