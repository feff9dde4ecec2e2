//! `authferry demo`: two throw-away identity providers, an old application and a small crowd, on loopback only.
//!
//! Nothing here can be switched on by a configuration file: the demonstration writes its own and starts the real proxy
//! with it. It must never listen on anything but 127.0.0.1, because its providers believe whoever says who they are.

mod crowd;
pub(crate) mod drill;
mod form;
mod old_app;
mod people;
mod programs;
mod provider;

use std::fs;
use std::future::Future;
use std::io;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;

use crate::app::Options;
use crate::app::Running;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::config::WithoutVariables;
use crate::demo::old_app::OldApp;
use crate::demo::provider::CLIENT_ID;
use crate::demo::provider::DemoProvider;
use crate::demo::provider::Look;
use crate::entropy::Entropy as _;
use crate::entropy::SystemEntropy;

/// Why the demonstration does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// A listener or a file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The crypto library.
    #[error(transparent)]
    Mint(#[from] crate::token::MintError),
    /// The proxy.
    #[error(transparent)]
    Start(Box<crate::app::StartError>),
}

impl From<crate::app::StartError> for DemoError {
    fn from(error: crate::app::StartError) -> Self {
        Self::Start(Box::new(error))
    }
}

/// Starts everything, says what to open, and serves until it is told to stop.
///
/// # Errors
///
/// When a listener, the directory or the proxy cannot be set up.
pub(crate) async fn run(out: &mut dyn Write) -> Result<(), DemoError> {
    let (old_listener, new_listener, app_listener) = (bind().await?, bind().await?, bind().await?);
    let old_look = Look {
        title: "Old sign-in",
        colour: "#7a5c1e",
        legacy_subjects: true,
    };
    let new_look = Look {
        title: "New sign-in",
        colour: "#1e5c7a",
        legacy_subjects: false,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let provider = |look, listener: &TcpListener| {
        let address = listener.local_addr()?;
        let provider = DemoProvider::new(look, address, people::forty(), Arc::clone(&clock));
        Ok::<_, DemoError>(provider?)
    };
    let old = provider(old_look, &old_listener)?;
    let new = provider(new_look, &new_listener)?;
    let app = Arc::new(OldApp {
        old: Arc::clone(&old),
        new: Arc::clone(&new),
    });
    let upstream = app_listener.local_addr()?;
    let (o, n) = (Arc::clone(&old), Arc::clone(&new));
    tokio::spawn(serve(old_listener, move |r| Arc::clone(&o).answer(r)));
    tokio::spawn(serve(new_listener, move |r| Arc::clone(&n).answer(r)));
    tokio::spawn(serve(app_listener, move |r| Arc::clone(&app).answer(r)));

    let directory = Directory::new()?;
    let config = write_config(&directory.0, &old, &new, upstream)?;
    let running = Running::start(Options {
        environment: Arc::new(WithoutVariables),
        ..Options::for_config(config.clone())
    })
    .await?;
    let address = running
        .addresses()
        .first()
        .copied()
        .ok_or_else(|| io::Error::other("the proxy listens nowhere"))?;
    old.allow_redirect(format!("http://{address}/.authferry/cb/old"));
    new.allow_redirect(format!("http://{address}/.authferry/cb/new"));
    let programs = format!("{}:{}", programs::HOST, address.port());
    new.allow_redirect(format!("http://{programs}/.authferry/cb/new"));
    tokio::spawn(crowd::run(address));
    tokio::spawn(programs::run(address, new));

    writeln!(
        out,
        "the application      http://{address}/   (sign in as anybody; forty simulated people do so all the time)"
    )?;
    writeln!(
        out,
        "its programs         curl -u 1001:{} http://{programs}/   (forty simulated ones; when theirs moves, the password is refused)",
        programs::PASSWORD
    )?;
    writeln!(
        out,
        "edit and save        {}   (`percent: 10`, twice: how many people, how many programs use the new provider)",
        config.display()
    )?;
    if let Some(admin) = running.admin_address() {
        writeln!(out, "metrics              http://{admin}/metrics")?;
        writeln!(
            out,
            "admin                http://{admin}/-/ready   (health; deploy/README.md says how to change things). Ctrl-C stops everything"
        )?;
    }
    out.flush()?;
    running.until_stopped().await;
    Ok(())
}

async fn bind() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

/// A directory of its own, readable by its owner alone; gone with the demonstration, whose keys lie in it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        // A process that was killed leaves its own behind, and its number comes again.
        let mut lot = [0; 8];
        SystemEntropy.fill(&mut lot);
        let name = format!("authferry-demo-{:016x}", u64::from_be_bytes(lot));
        let path = std::env::temp_dir().join(name);
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "The directory of the demonstration stays.");
        }
    }
}

fn write_config(
    dir: &Path,
    old: &DemoProvider,
    new: &DemoProvider,
    upstream: SocketAddr,
) -> io::Result<PathBuf> {
    for (name, provider) in [("old", old), ("new", new)] {
        fs::write(dir.join(format!("{name}.secret")), provider.client_secret())?;
    }
    let passwords = dir.join("passwords");
    fs::write(&passwords, programs::password_file())?;
    let provider = |name: &str, provider: &DemoProvider| {
        format!(
            "  {name}:\n    oidc:\n      issuer: \"{}\"\n      client: {{ id: {CLIENT_ID}, secret: {{ file: {} }} }}\n      \
             verify: {{ audiences: [{CLIENT_ID}] }}\n      claims: {{ subject: legacy_uid, name: name, groups: groups }}\n      \
             authoritative: {{ claims: [legacy_uid] }}\n",
            provider.issuer(),
            dir.join(format!("{name}.secret")).display(),
        )
    };
    let text = format!(
        "# Written by `authferry demo`. Edit, save, and watch: no restart.\nversion: 1\n\nserver:\n  listen: 127.0.0.1:0\n  \
         admin: {{ listen: 127.0.0.1:0 }}\n  state_dir: {}\n\ntelemetry: {{ access_log: {{ file: {} }} }}\n\n\
         # When programs move, their passwords stop counting: that is meant here, for all forty.\naudit: {{ max_recall: 40 }}\n\nproviders:\n{}{}  \
         passwords:\n    basic: {{ file: {}, authoritative: {{ claims: [subject] }} }}\n\n\
         # Who is one person at all of them: the old user number.\n\
         identity: {{ canonical: {{ template: \"uid:{{subject}}\" }} }}\n\n\
         apps:\n  intranet:\n    hosts: [127.0.0.1, localhost]\n    upstream: {{ url: \"http://{upstream}\" }}\n    \
         identity_headers: {{ X-Remote-User: \"{{subject}}\", X-Remote-Name: \"{{name}}\", X-Remote-Groups: \"{{groups|sort|join:,}}\" }}\n  \
         reports:                          # for programs\n    hosts: [{}]\n    upstream: {{ url: \"http://{upstream}\" }}\n    \
         identity_headers: {{ X-Remote-User: \"{{subject}}\", X-Remote-Groups: \"{{groups|sort|join:,}}\" }}\n\n\
         rollouts:\n  people:\n    apps: [intranet]\n    from: old\n    to: new\n    bucketing: {{ salt: demo }}\n    stages:\n      \
         - id: move\n        mode: canary\n        assign:\n          - {{ percent: 10, to: new }}      # 0, 25, 50, 100 …\n  \
         programs:\n    apps: [reports]\n    from: passwords\n    to: new\n    bucketing: {{ salt: demo }}\n    stages:\n      \
         - id: move\n        mode: canary\n        other_arm: reject              # who has moved comes with a token\n        \
         assign:\n          - {{ percent: 10, to: new }}\n",
        dir.display(),
        dir.join("access.log").display(),
        provider("old", old),
        provider("new", new),
        passwords.display(),
        programs::HOST,
    );
    let path = dir.join("authferry.yaml");
    fs::write(&path, text)?;
    Ok(path)
}

async fn serve<F, A>(listener: TcpListener, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(request);
                async move { Ok::<_, std::convert::Infallible>(response.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of the demonstration ended early");
            }
        });
    }
}
