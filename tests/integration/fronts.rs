//! A real nginx in front of the application, with the file of `deploy/fronts`: what is decided here happens there.

use std::net::SocketAddr;
use std::net::TcpListener;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::forward_auth::config;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::request;

struct Nginx {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Nginx {
    async fn start(proxy: &Proxy, application: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let dir = tempfile::tempdir().unwrap();
        let root = env!("CARGO_MANIFEST_DIR");
        let server = std::fs::read_to_string(format!("{root}/deploy/fronts/nginx.conf")).unwrap();
        let server = server
            .replace("127.0.0.1:8080", &proxy.address.to_string())
            .replace(
                "127.0.0.1:9000",
                application.strip_prefix("http://").unwrap(),
            )
            .replace("127.0.0.1:8000", &address.to_string())
            .replace("app.example.com", "app.test 127.0.0.1");
        let at = dir.path().display();
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; \
             uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n{server}\n}}\n"
        );
        std::fs::write(dir.path().join("nginx.conf"), text).unwrap();
        let child = Command::new("nginx")
            .args(["-e", "stderr", "-p"])
            .arg(dir.path())
            .arg("-c")
            .arg(dir.path().join("nginx.conf"))
            .stdout(Stdio::null())
            .spawn()
            .expect("nginx is installed (Debian: nginx)");
        let began = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(began.elapsed() < PATIENCE, "nginx does not listen");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Self {
            child,
            address,
            _dir: dir,
        }
    }

    async fn get(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        let host = self.address.to_string();
        let fields = [&[("Host", host.as_str())][..], fields].concat();
        request(self.address, "GET", target, &fields, b"").await
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const PAGE: [(&str, &str); 3] = [
    ("Accept", "text/html"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
];

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_and_out_through_nginx_and_nobody_speaks_for_somebody_else() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = config(&old, &new, &upstream, "127.0.0.1/32")
        .replace("hosts: [app.test]", "hosts: [app.test, 127.0.0.1]");
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    let nginx = Nginx::start(&proxy, &upstream.url()).await;

    // What anybody may see, and says of oneself.
    let open = nginx
        .get(
            "/public/a",
            &[("X-Remote-User", "root"), ("X_Remote_User", "root")],
        )
        .await;
    assert_eq!(open.status, 200, "{}", open.text());
    let seen = upstream.last();
    assert!(
        !seen
            .head
            .to_ascii_lowercase()
            .replace('_', "-")
            .contains("x-remote-user"),
        "{}",
        seen.head
    );

    // A program gets the challenge, a person the sign-in.
    let hits = upstream.hits();
    let program = nginx.get("/report", &[]).await;
    assert_eq!(program.status, 401, "{}", program.text());
    assert!(program.header("www-authenticate").is_some());
    let start = nginx.get("/report?year=2026", &PAGE).await;
    assert_eq!(start.status, 302, "{}", start.text());
    let to: http::Uri = start.header("location").unwrap().parse().unwrap();
    let at = to.authority().unwrap().as_str().parse().unwrap();
    let there = request(at, "GET", to.path_and_query().unwrap().as_str(), &[], b"").await;
    let back: http::Uri = there.header("location").unwrap().parse().unwrap();
    assert_eq!(
        back.authority().unwrap().as_str(),
        nginx.address.to_string()
    );
    let cookies = start.cookies().join("; ");
    let fields = [&PAGE[..], &[("Cookie", cookies.as_str())]].concat();
    let done = nginx
        .get(back.path_and_query().unwrap().as_str(), &fields)
        .await;
    assert_eq!(done.status, 303, "{}\n{}", done.text(), proxy.log());
    assert_eq!(done.header("location"), Some("/report?year=2026"));
    let session = done
        .cookies()
        .into_iter()
        .filter(|pair| !pair.ends_with('='));
    let session = session.collect::<Vec<_>>().join("; ");
    assert_eq!(upstream.hits(), hits, "the application saw none of it");

    let cookies = format!("{session}; theirs=1");
    let fields = [("Cookie", cookies.as_str()), ("X-Remote-User", "root")];
    let page = nginx.get("/report?year=2026", &fields).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let seen = upstream.last();
    assert_eq!(seen.line(), "GET /report?year=2026 HTTP/1.1");
    assert_eq!(seen.all("x-remote-user"), ["uid-alice"]);
    assert_eq!(seen.all("cookie"), ["theirs=1"], "our cookies stay here");

    // Questions are asked from inside only.
    for path in [
        "/.authferry/decide",
        "/.authferry/forward_auth",
        "/.authferry/ext_authz/report",
    ] {
        assert_eq!(nginx.get(path, &fields).await.status, 404, "{path}");
    }
    // What nginx and we would read differently.
    let hits = upstream.hits();
    for path in ["//report", "/public/..%2freport", "/public/%2e%2e/report"] {
        let answer = nginx.get(path, &fields).await;
        assert_eq!(answer.status, 400, "{path} {}", answer.text());
    }
    assert_eq!(upstream.hits(), hits);

    // Signed out is signed out.
    let origin = format!("http://{}", nginx.address);
    let host = nginx.address.to_string();
    let out = [
        ("Host", host.as_str()),
        ("Origin", origin.as_str()),
        ("Cookie", cookies.as_str()),
    ];
    let out = request(nginx.address, "POST", "/.authferry/logout", &out, b"").await;
    assert_eq!(out.status, 303, "{}", out.text());
    assert_eq!(nginx.get("/report", &fields).await.status, 401);

    // Without a decision nobody comes in.
    drop(proxy);
    let hits = upstream.hits();
    for path in ["/report", "/public/a"] {
        let answer = nginx.get(path, &fields).await;
        assert!(500 <= answer.status, "{path} {}", answer.status);
    }
    assert_eq!(upstream.hits(), hits);
}
