//! Other people's clients: curl over HTTP/2, a WebSocket client, a gRPC client.

use std::process::Command;
use std::process::Output;

use crate::harness::Echo;
use crate::harness::Proxy;
use crate::modern::token_of;
use crate::proxy;
use crate::two_sides;
use crate::var;

pub(crate) fn run(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let words = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, words)
}

pub(crate) fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command
        .arg(format!(
            "{}/tests/real/clients/{script}",
            env!("CARGO_MANIFEST_DIR")
        ))
        .env("MODULES", var("CLIENT_MODULES"));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_speaks_http_2_to_us() {
    let upstream = Echo::start().await;
    let proxy = proxy(&two_sides(&upstream.url(), "50"));
    let token = token_of("bob").await;
    let (output, words) = run(Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "-H"])
        .arg(format!("Authorization: Bearer {token}"))
        .args(["-d", "body over h2", "-w", "\n%{http_version} %{http_code}"])
        .arg(format!("http://{}/over/h2?q", proxy.address)));
    assert!(output.status.success(), "{words}");
    assert!(words.ends_with("2 200"), "{words}");
    let seen = upstream.last();
    assert_eq!(seen.line(), "POST /over/h2?q HTTP/1.1");
    assert_eq!(seen.all("x-remote-user"), ["1002"]);
    assert_eq!(seen.body, b"body over h2");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_agrees_on_http_2_within_tls() {
    let upstream = Echo::start().await;
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed([String::from("127.0.0.1")]).unwrap();
    let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    for client in ["proxy", "legacy-api", "directory"] {
        std::fs::write(dir.path().join(format!("{client}.secret")), "unused").unwrap();
    }
    let server = format!(
        "server:\n  listen: 127.0.0.1:0\n  tls: {{ certificate: {{ file: \"{}\" }}, key: {{ file: \"{}\" }} }}\n  admin: {{ listen: 127.0.0.1:0, token: {{ file: \"{{dir}}/admin.token\" }} }}\n  state_dir: \"{{dir}}/state\"\n",
        certificate.display(),
        key.display(),
    );
    let yaml = two_sides(&upstream.url(), "50");
    let proxy = Proxy::start_in(dir, &format!("{yaml}\n{server}"));
    let token = token_of("bob").await;
    let (output, words) = run(Command::new("curl")
        .args(["-sS", "--http2", "--cacert"])
        .arg(&certificate)
        .arg("-H")
        .arg(format!("Authorization: Bearer {token}"))
        .args(["-w", "\n%{http_version} %{http_code}"])
        .arg(format!("https://{}/within/tls", proxy.address)));
    assert!(output.status.success(), "{words}\n{}", proxy.log());
    assert!(words.ends_with("2 200"), "{words}");
    let seen = upstream.last();
    assert_eq!(seen.line(), "GET /within/tls HTTP/1.1");
    assert_eq!(seen.all("x-remote-user"), ["1002"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_client_talks_through_us() {
    let (mut server, address) = serve("websocket-server.mjs");
    let yaml = two_sides(&format!("http://{address}"), "50").replace("    public_paths: [/public/*]\n", "    routes:\n      - { path: /ws, access: required, websocket: true }\n      - { path: \"/*\", access: required }\n");
    let proxy = proxy(&yaml);
    let token = token_of("bob").await;
    let (output, words) = run(node("websocket-client.mjs")
        .arg(format!("ws://{}/ws", proxy.address))
        .arg(&token));
    assert!(output.status.success(), "{words}\n{}", proxy.log());
    assert!(
        words.contains("user 1002") && words.contains("echo 100 messages"),
        "{words}"
    );
    let (output, words) = run(node("websocket-client.mjs")
        .arg(format!("ws://{}/ws", proxy.address))
        .arg("not-a-token"));
    assert!(!output.status.success() && words.contains("401"), "{words}");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_client_calls_through_us() {
    let (mut server, address) = serve("grpc-server.mjs");
    let yaml = two_sides(&format!("http://{address}"), "50").replace(
        &format!("url: \"http://{address}\""),
        &format!("url: \"http://{address}\", http2: true"),
    );
    let proxy = proxy(&yaml);
    let token = token_of("bob").await;
    let (output, words) = run(node("grpc-client.mjs")
        .arg(proxy.address.to_string())
        .arg(&token));
    assert!(output.status.success(), "{words}\n{}", proxy.log());
    assert!(
        words.contains("unary hello 1002")
            && words.contains("stream 50")
            && words.contains("status 5 not here"),
        "{words}"
    );
    server.kill().unwrap();
    server.wait().unwrap();
}

/// Starts a server of `clients/` and waits for the address it prints.
fn serve(script: &str) -> (std::process::Child, String) {
    let mut child = node(script)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    let address = line.trim().to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{script}: {address}");
    (child, address)
}
