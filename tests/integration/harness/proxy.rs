//! The program as a process.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use tempfile::TempDir;

use super::PATIENCE;
use super::client;

/// A running proxy; killed when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    dir: TempDir,
    /// Its first public listener.
    pub(crate) address: SocketAddr,
    /// Its admin listener.
    pub(crate) admin: SocketAddr,
}

impl Proxy {
    /// Starts the program with `yaml`. `{dir}` in the text is a directory of this proxy's own.
    ///
    /// A `server:` section is added when the text has none: one plain listener on a free loopback port, and an admin
    /// listener whose token is `admin-token`.
    pub(crate) fn start(yaml: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), yaml)
    }

    /// As [`Proxy::start`], in a directory that already holds files.
    pub(crate) fn start_in(dir: TempDir, yaml: &str) -> Self {
        std::fs::write(dir.path().join("admin.token"), "admin-token").unwrap();
        let config = write(dir.path(), yaml);
        let (child, address, admin) = spawn(dir.path(), &config);
        Self {
            child,
            dir,
            address,
            admin,
        }
    }

    /// Starts the program again in the same directory, once the process has ended.
    pub(crate) fn again(&mut self) {
        let config = self.dir.path().join("authferry.yaml");
        (self.child, self.address, self.admin) = spawn(self.dir.path(), &config);
    }

    /// Starts the program again, which must end by itself: what it says.
    pub(crate) fn refused(&mut self) -> String {
        let config = self.dir.path().join("authferry.yaml");
        self.child = program(self.dir.path(), &config).spawn().unwrap();
        let start = tokio::time::Instant::now();
        let ended = loop {
            if let Some(ended) = self.child.try_wait().unwrap() {
                break ended;
            }
            assert!(start.elapsed() < PATIENCE, "it runs");
            thread::sleep(std::time::Duration::from_millis(10));
        };
        assert!(!ended.success());
        self.log()
    }

    /// From here on the disk takes nothing of what the program writes, or everything again.
    pub(crate) fn disk_is_full(&self, is_full: bool) {
        let limit = rustix::process::Rlimit {
            current: is_full.then_some(0),
            maximum: None,
        };
        let pid = rustix::process::Pid::from_raw(self.pid().try_into().unwrap());
        let resource = rustix::process::Resource::Fsize;
        rustix::process::prlimit(pid, resource, limit).unwrap();
    }

    /// Replaces the configuration file, as an editor does: written beside it and renamed over it.
    pub(crate) fn edit(&self, yaml: &str) {
        let beside = self.dir.path().join("beside");
        std::fs::create_dir_all(&beside).unwrap();
        let text = std::fs::read_to_string(write(&beside, yaml)).unwrap();
        let text = text.replace(
            &beside.display().to_string(),
            &self.dir.path().display().to_string(),
        );
        let new = beside.join("authferry.yaml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, self.dir.path().join("authferry.yaml")).unwrap();
    }

    /// Waits until every provider can judge.
    pub(crate) async fn settled(&self) {
        let start = tokio::time::Instant::now();
        while client::get(self.admin, "/-/ready")
            .await
            .text()
            .contains("\"usable\":false")
        {
            assert!(start.elapsed() < PATIENCE, "a provider stays degraded");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Where the proxy's files are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The value of a metric line that begins with `series`, or 0.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = client::get(self.admin, "/metrics").await.text();
        text.lines()
            .find_map(|l| l.strip_prefix(series)?.trim().parse().ok())
            .unwrap_or(0.0)
    }

    /// What the proxy wrote to its diagnostics log.
    pub(crate) fn log(&self) -> String {
        read(&self.dir.path().join("stderr.log"))
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The program. What a file is not to hold is an error for it, and no signal: as on a full disk.
fn program(dir: &Path, config: &Path) -> Command {
    let mut command = Command::new("sh");
    // What is said of somebody's own installation is not meant.
    for name in [
        "CONFIG",
        "LISTEN",
        "ADMIN_LISTEN",
        "ADMIN_SOCKET",
        "STATE_DIR",
        "KILL",
        "LOG",
    ] {
        command.env_remove(format!("AUTHFERRY_{name}"));
    }
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_authferry"))
        .env("HARNESS_SECRET", "secret")
        .args(["run", "--config"])
        .arg(config)
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(dir.join("stderr.log")).unwrap());
    command
}

/// Starts the program and waits until it is ready: public and admin address.
fn spawn(dir: &Path, config: &Path) -> (Child, SocketAddr, SocketAddr) {
    let mut child = program(dir, config).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let ready = loop {
        match receive.recv_timeout(PATIENCE) {
            Ok(line) if line.starts_with("ready ") => break line,
            Ok(_) => {}
            Err(_) => panic!(
                "the proxy did not become ready:\n{}",
                read(&dir.join("stderr.log"))
            ),
        }
    };
    // Whatever is written later is kept beside it, so that the program never waits for its reader.
    let mut kept = std::fs::File::create(dir.join("stdout.log")).unwrap();
    thread::spawn(move || {
        for line in receive {
            drop(writeln!(kept, "{line}"));
        }
    });
    let address = |key: &str| {
        ready
            .split(' ')
            .find_map(|f| f.strip_prefix(key))
            .and_then(|a| a.split(',').next()?.parse().ok())
    };
    (
        child,
        address("public=").unwrap(),
        address("admin=").unwrap(),
    )
}

fn write(dir: &Path, yaml: &str) -> PathBuf {
    let server = "server:\n  listen: 127.0.0.1:0\n  admin: { listen: 127.0.0.1:0, token: { file: {dir}/admin.token } }\n  state_dir: {dir}/state\n";
    let mut text = yaml.to_owned();
    if !text.lines().any(|l| l.starts_with("server:")) {
        text.push('\n');
        text.push_str(server);
    }
    if !text.lines().any(|l| l.starts_with("version:")) {
        text.insert_str(0, "version: 1\n");
    }
    let path = dir.join("authferry.yaml");
    std::fs::write(&path, text.replace("{dir}", &dir.display().to_string())).unwrap();
    path
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
