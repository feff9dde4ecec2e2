//! The composition root: the only place where everything meets. Builds, reloads, runs; decides nothing.

mod aftermath;
mod backend;
mod beside;
mod build;
pub(crate) mod catalog;
pub(crate) mod clients;
mod closing;
mod denials;
mod drill;
mod explain;
mod exposed;
mod forget;
pub(crate) mod inventory;
mod keeping;
mod life;
mod links;
pub(crate) mod list;
mod minted;
mod old_systems;
pub(crate) mod online;
pub(crate) mod plan;
mod process;
mod registered;
mod reload;
mod report;
mod reshuffle;
mod revision;
mod revoke;
mod second;
mod signing;
mod stage;
mod standing;
mod stated;
mod store;
mod sweep;
mod unchangeable;
mod unlinked;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::admin;
use crate::admin::Admin;
use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::config::Environment;
use crate::config::System;
use crate::control::KillError;
use crate::proxy::Service;
use crate::proxy::serve::Workers;
use crate::proxy::serve::listen::BindError;
use crate::proxy::serve::listen::Bound;

/// How to start.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// What time it is.
    pub(crate) clock: Arc<dyn Clock>,
    /// How often rollouts are looked at.
    pub(crate) tick: Duration,
    /// What the configuration may ask for.
    pub(crate) environment: Arc<dyn Environment>,
}

impl Options {
    /// Everything else as usual.
    pub(crate) fn for_config(config: PathBuf) -> Self {
        Self {
            config,
            clock: Arc::new(SystemClock),
            tick: Duration::from_secs(1),
            environment: Arc::new(System),
        }
    }
}

/// Why the program does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The configuration is not good; every problem, in words.
    #[error("{0}")]
    Config(String),
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin listener.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// The kill switch.
    #[error(transparent)]
    Kill(#[from] KillError),
    /// A key, a key file, the state directory.
    #[error("{what}: {cause}")]
    State {
        /// What it was about.
        what: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Something else that a configuration asks for cannot be built.
    #[error("{0}")]
    Build(String),
}

impl StartError {
    fn state(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |cause| Self::State { what, cause }
    }
}

/// The running proxy.
#[derive(Debug)]
pub(crate) struct Running {
    process: Arc<Process>,
    reloader: Arc<Reloader>,
    workers: Workers,
    admin: Admin,
}

impl Running {
    /// Loads the configuration, builds everything, listens. What a provider or a store does not answer never stops a start.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; nothing listens then.
    pub(crate) async fn start(options: Options) -> Result<Self, StartError> {
        let mut read =
            reload::read(&options.config, &options.environment).map_err(StartError::Config)?;
        // Listening comes first: a taken address must not cost the keys, the log and the kill switch a try.
        let bound = Bound::open(&read.settings.server)?;
        let process = Arc::new(Process::start(
            &read.settings,
            options.clock,
            options.environment,
        )?);
        // A store that is away does not stop a start; until it answers, nobody is said to be let in.
        if let Err(error) = process.revocations.load().await {
            warn!(%error, "What has been revoked is not known yet: credentials are answered 503 until it is.");
        }
        process.revocations.follow(&process.background);
        let learned = process.conductor.learn(&read.settings.courses).await;
        learned.map_err(StartError::Build)?;
        closing::learn(&process).await;
        let plans = process.conductor.plans(&read.settings.courses);
        read.settings.rollouts = plans.map_err(StartError::Build)?;
        reshuffle::check_start(&read.settings.state_dir, &read.settings)
            .map_err(StartError::Build)?;
        let settings = read.settings.clone();
        let built = build::snapshot(&process, &settings, None, 1).map_err(StartError::Build)?;
        let reloader = Reloader::start(
            Arc::clone(&process),
            options.config,
            read,
            built,
            bound.certificates(),
        );
        stage::conduct(&process, &reloader, options.tick);
        sweep::start(&process, &reloader);
        denials::start(&process, &reloader);
        let handlers = (Arc::clone(&process), Arc::clone(&reloader));
        let entries = settings.server.limits.cache_entries;
        let workers = Workers::start(&settings.server.limits, bound, move |index| {
            let (process, reloader) = &handlers;
            Service::start(process.worker(index, Arc::clone(reloader.snapshots()), entries))
        })
        .map_err(StartError::state("starting the workers"))?;
        reloader.limit(workers.limiter());
        process.count(Arc::clone(workers.counts()));
        let backend = Arc::new(backend::Backend::new(
            Arc::clone(&process),
            Arc::clone(&reloader),
        ));
        let admin = Admin::start(
            &settings.admin,
            backend,
            Arc::clone(&process.kill),
            Arc::clone(&process.metrics),
        )
        .await?;
        aftermath::fan_out(&process, &reloader);
        aftermath::follow(&process, &reloader);
        closing::work(&process, &reloader);
        aftermath::remember(&process);
        process.started();
        info!(revision = &*settings.revision, addresses = ?workers.local_addresses(), "Serving.");
        Ok(Self {
            process,
            reloader,
            workers,
            admin,
        })
    }

    /// Where the proxy listens.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.workers.local_addresses()
    }

    /// Where the admin listener is, if it has an address.
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.address()
    }

    /// Stops at once, for a demonstration that is over: what is under way is cut.
    pub(crate) async fn stop(self) {
        self.process.draining();
        let _drained = self.workers.drain(Duration::ZERO).await;
        self.process.stop(Duration::from_secs(2));
    }

    /// Serves until SIGTERM or SIGINT, then drains: `/-/ready` says no, what is under way ends, what does not end is cut.
    /// A second signal cuts it at once.
    ///
    /// `false`: a worker ended by itself.
    pub(crate) async fn until_stopped(mut self) -> bool {
        let mut stops = Stops::new();
        let orderly = tokio::select! {
            () = stops.next() => true,
            () = self.workers.failed() => false,
        };
        if orderly {
            info!("Draining.");
        } else {
            error!("A worker ended by itself.");
        }
        self.process.draining();
        self.process.conductor.leave().await;
        let drain = self.reloader.drain();
        let workers = self.workers;
        let ended = async {
            if orderly {
                tokio::time::sleep(drain.announce).await;
            }
            workers.drain(drain.timeout).await
        };
        // Who says it twice does not want to wait.
        let drained = tokio::select! {
            drained = ended => Some(drained),
            () = stops.next() => None,
        };
        self.process.stop(Duration::from_secs(2));
        match drained {
            Some(drained) => info!(cut = drained.cut, "Stopped."),
            None => warn!("Told to stop a second time: what was under way is cut."),
        }
        orderly
    }
}

/// SIGTERM and SIGINT, as often as they come.
struct Stops(Option<(Signal, Signal)>);

impl Stops {
    fn new() -> Self {
        let terminate = signal(SignalKind::terminate());
        Self(
            terminate
                .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)))
                .ok(),
        )
    }

    /// The next one. Without signals there is only the end of the process.
    async fn next(&mut self) {
        match &mut self.0 {
            Some((terminate, interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            None => std::future::pending().await,
        }
    }
}
