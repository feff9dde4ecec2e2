//! How each of them is started: its file of `deploy/fronts` with other addresses, and what that goes into.

use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::harness::Answer;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::request;

/// Who forwards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Front {
    Nginx,
    Caddy,
    Envoy,
    Traefik,
}

impl Front {
    fn file(self) -> &'static str {
        match self {
            Self::Nginx => "nginx.conf",
            Self::Caddy => "Caddyfile",
            Self::Envoy => "envoy.yaml",
            Self::Traefik => "traefik.yaml",
        }
    }

    /// Its file for these addresses, with whatever that goes into.
    fn configured(self, dir: &Path, address: SocketAddr, text: &str) -> String {
        let at = dir.display();
        match self {
            Self::Nginx => {
                let server = text
                    .replace("127.0.0.1:8000", &address.to_string())
                    .replace("app.example.com", "127.0.0.1");
                format!(
                    "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
                     events {{ worker_connections 256; }}\n\
                     http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; \
                     uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n{server}\n}}\n"
                )
            }
            Self::Caddy => {
                let site = text.replace("app.example.com", &format!("http://{address}"));
                format!("{{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}}\n{site}")
            }
            Self::Envoy => {
                let manager = text.replace("app.example.com", &format!("\"{address}\""));
                let manager = manager.replace('\n', "\n          ");
                let socket = |port: &str| {
                    format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}")
                };
                let cluster = |name: &str, port: &str| {
                    format!(
                        "  - {{ name: {name}, type: STATIC, load_assignment: {{ cluster_name: {name}, endpoints: \
                         [{{ lb_endpoints: [{{ endpoint: {{ address: {} }} }}] }}] }} }}\n",
                        socket(port)
                    )
                };
                format!(
                    "static_resources:\n  listeners:\n  - name: front\n    address: {}\n    filter_chains:\n    - filters:\n      \
                     - name: envoy.filters.network.http_connection_manager\n        typed_config:\n          \
                     \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          \
                     stat_prefix: front\n          {manager}\n  clusters:\n{}{}",
                    socket(&address.port().to_string()),
                    cluster("authferry", "AUTHFERRY_PORT"),
                    cluster("application", "APPLICATION_PORT"),
                )
            }
            // Nobody has a certificate here.
            Self::Traefik => text
                .replace("app.example.com", "127.0.0.1")
                .replace("      tls: {}\n", ""),
        }
    }

    fn command(self, dir: &Path, file: &Path, address: SocketAddr) -> Command {
        let mut command = match self {
            Self::Nginx => {
                let mut command = Command::new("nginx");
                command.args(["-e", "stderr", "-p"]).arg(dir);
                command.arg("-c").arg(file);
                command
            }
            Self::Caddy => {
                let mut command = Command::new("caddy");
                command.args(["run", "--adapter", "caddyfile", "--config"]);
                command.arg(file);
                command
            }
            Self::Envoy => {
                let mut command = Command::new("envoy");
                command.args(["--concurrency", "1", "--disable-hot-restart"]);
                command.args(["-l", "error", "-c"]).arg(file);
                command
            }
            Self::Traefik => {
                let mut command = Command::new("traefik");
                command.arg(format!("--providers.file.filename={}", file.display()));
                command.arg(format!("--entrypoints.websecure.address={address}"));
                command.args([
                    "--global.checknewversion=false",
                    "--global.sendanonymoususage=false",
                ]);
                command
            }
        };
        // What they keep of themselves is kept there.
        command
            .env("XDG_DATA_HOME", dir)
            .env("XDG_CONFIG_HOME", dir);
        command
    }
}

/// One of them, running.
pub(super) struct Running {
    child: Child,
    pub(super) address: SocketAddr,
    dir: TempDir,
}

impl Running {
    pub(super) async fn start(front: Front, proxy: &Proxy, application: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let dir = tempfile::tempdir().unwrap();
        let root = env!("CARGO_MANIFEST_DIR");
        let text = std::fs::read_to_string(format!("{root}/deploy/fronts/{}", front.file()));
        let application = application.strip_prefix("http://").unwrap();
        let (_, port) = application.split_once(':').unwrap();
        let text = front
            .configured(dir.path(), address, &text.unwrap())
            .replace("127.0.0.1:8080", &proxy.address.to_string())
            .replace("127.0.0.1:9000", application)
            .replace("AUTHFERRY_PORT", &proxy.address.port().to_string())
            .replace("APPLICATION_PORT", port);
        // By its usual name Traefik would find it, and take it for its static configuration.
        let file = dir.path().join(format!("own-{}", front.file()));
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = front
            .command(dir.path(), &file, address)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|why| panic!("{front:?}: {why}; tests/real/run installs it"));
        let mut running = Self {
            child,
            address,
            dir,
        };
        let began = Instant::now();
        // Traefik listens before it knows of the application.
        while !running.serves().await {
            assert!(
                began.elapsed() < PATIENCE && running.child.try_wait().unwrap().is_none(),
                "{front:?} does not serve: {}",
                running.log()
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        running
    }

    /// Whether it answers at an address of ours as we do, or as if there was no such.
    async fn serves(&self) -> bool {
        if tokio::net::TcpStream::connect(self.address).await.is_err() {
            return false;
        }
        self.get("/.authferry/logout/done", &[]).await.status == 200
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub(super) async fn get(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask("GET", target, fields, b"").await
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let host = self.address.to_string();
        let fields = [&[("Host", host.as_str())][..], fields].concat();
        request(self.address, method, target, &fields, body).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
