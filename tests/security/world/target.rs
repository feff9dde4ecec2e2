//! The program under test, as a process: authferry, or the naive proxy that must fail.

use std::io::BufRead as _;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::Plan;
use super::World;
use super::config;
use super::idp::CLIENT_SECRET;
use crate::tokens::OLD_SECRET;

/// What a run is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The program.
    Authferry,
    /// The negative control.
    Naive,
}

/// A running proxy; killed when dropped.
#[derive(Debug)]
pub(crate) struct Target {
    child: Child,
    directory: TempDir,
    kind: Kind,
    /// Its public listener.
    pub(crate) public: SocketAddr,
    /// Its admin listener.
    pub(crate) admin: SocketAddr,
    /// What it was started for.
    pub(crate) plan: Plan,
}

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The token of the admin listener.
pub(crate) const ADMIN_TOKEN: &str = "admin-token-of-the-run-0123456789";

impl Target {
    /// Starts a proxy for a plan.
    pub(crate) fn start(kind: Kind, plan: &Plan, world: &World) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
        let yaml = config::yaml(plan, world, directory.path());
        Self::start_with(kind, plan, world, directory, &yaml)
    }

    /// Starts a proxy in a directory that may hold the state of another, with this file.
    pub(crate) fn start_with(
        kind: Kind,
        plan: &Plan,
        world: &World,
        directory: TempDir,
        yaml: &str,
    ) -> Result<Self, String> {
        let file = |name: &str| directory.path().join(name);
        let put = |name: &str, text: &str| {
            std::fs::write(file(name), text).map_err(|e| format!("{name}: {e}"))
        };
        put("authferry.yaml", yaml)?;
        put("admin.token", ADMIN_TOKEN)?;
        put("old.secret", OLD_SECRET)?;
        // Copies of its own: some cases replace them.
        for name in ["tls.pem", "tls.key"] {
            std::fs::copy(world.pki.file(name), file(name)).map_err(|e| e.to_string())?;
        }
        for (name, byte) in [("key-1", 1), ("key-2", 2)] {
            std::fs::write(file(name), [byte; 32]).map_err(|e| e.to_string())?;
        }
        let program = match kind {
            Kind::Authferry => env!("CARGO_BIN_EXE_authferry").into(),
            Kind::Naive => std::env::current_exe().map_err(|e| e.to_string())?,
        };
        let mut command = match plan.descriptors {
            // `ulimit` is the shell's: the program itself need not be trusted to lower its own limit.
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]);
                shell.arg(&program);
                shell
            }
            None => Command::new(&program),
        };
        match kind {
            Kind::Authferry => command
                .args(["run", "--config"])
                .arg(file("authferry.yaml")),
            Kind::Naive => command
                .arg("--be-naive")
                .arg(world.upstream.address.to_string())
                .arg(world.pki.directory())
                .arg(naive_keys(world, directory.path())?),
        };
        let stderr = std::fs::File::options()
            .create(true)
            .append(true)
            .open(file("stderr.log"))
            .map_err(|e| e.to_string())?;
        let mut child = command
            .env("CASES_CLIENT_SECRET", CLIENT_SECRET)
            .envs(plan.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let ready = ready(&mut child);
        let address = |key: &str| {
            let line = ready.as_deref()?;
            let field = line.split(' ').find_map(|field| field.strip_prefix(key))?;
            field.split(',').next()?.parse::<SocketAddr>().ok()
        };
        let (Some(mut public), Some(admin)) = (address("public="), address("admin=")) else {
            drop(child.kill());
            drop(child.wait());
            let log = std::fs::read_to_string(file("stderr.log")).unwrap_or_default();
            return Err(format!("it did not start: {}", log.trim()));
        };
        if public.ip().is_unspecified() {
            public.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Ok(Self {
            child,
            directory,
            kind,
            public,
            admin,
            plan: plan.clone(),
        })
    }

    /// Which program it is.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its directory: configuration, state, logs.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file it was started with.
    pub(crate) fn yaml(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("authferry.yaml")).unwrap_or_default()
    }

    /// Replaces its configuration file as an editor does.
    pub(crate) fn edit(&self, yaml: &str) -> Result<(), String> {
        let path = self.directory.path().join("authferry.yaml");
        let beside = self.directory.path().join("authferry.yaml.new");
        std::fs::write(&beside, yaml).map_err(|e| e.to_string())?;
        std::fs::rename(&beside, &path).map_err(|e| e.to_string())
    }

    /// How long its logs are: access lines and decisions, then diagnostics.
    pub(crate) fn logged(&self) -> [usize; 2] {
        self.logs().map(|log| log.len())
    }

    /// What it has logged since.
    pub(crate) fn log_since(&self, since: [usize; 2]) -> String {
        let [access, diagnostics] = self.logs();
        let [before, earlier] = since;
        let new = |log: &str, at: usize| log.get(at..).unwrap_or(log).to_owned();
        new(&access, before) + &new(&diagnostics, earlier)
    }

    fn logs(&self) -> [String; 2] {
        ["access.log", "stderr.log"].map(|name| {
            std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
        })
    }

    /// Its resident memory in KiB.
    pub(crate) fn rss(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").trim().parse().ok()
    }

    /// Sends a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status();
        drop(kill);
    }

    /// Ends it at once and starts another in its directory.
    pub(crate) fn again(mut self, world: &World) -> Result<Self, String> {
        drop(self.child.kill());
        drop(self.child.wait());
        let yaml = self.yaml();
        let directory = std::mem::replace(
            &mut self.directory,
            tempfile::tempdir().map_err(|e| e.to_string())?,
        );
        let plan = self.plan.clone();
        Self::start_with(self.kind, &plan, world, directory, &yaml)
    }

    /// The exit status, if it ends in time.
    pub(crate) async fn ends_within(&mut self, time: Duration) -> Option<std::process::ExitStatus> {
        let start = tokio::time::Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if time < start.elapsed() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The naive proxy reads its one key set from a file.
fn naive_keys(world: &World, directory: &Path) -> Result<std::path::PathBuf, String> {
    let path = directory.join("keys.json");
    let keys = serde_json::json!({ "keys": world.new.published() }).to_string();
    std::fs::write(&path, keys).map_err(|e| e.to_string())?;
    Ok(path)
}

/// The line that says where it listens; what follows is read and dropped, so that the program never waits for a reader.
fn ready(child: &mut Child) -> Option<String> {
    let stdout = child.stdout.take()?;
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut told = false;
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if !told && line.starts_with("ready ") {
                told = true;
                drop(send.send(line));
            }
        }
    });
    receive.recv_timeout(PATIENCE).ok()
}
