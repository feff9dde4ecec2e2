//! The first command that anybody types.

use std::io::BufRead as _;
use std::io::BufReader;
use std::net::SocketAddr;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::get;
use crate::harness::request;
use crate::reload::until;

struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_to_open_serves_it_moves_people_and_leaves_nothing_behind() {
    let (temp, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let child = Command::new(env!("CARGO_BIN_EXE_authferry"))
        .arg("demo")
        .env("TMPDIR", temp.path())
        // Whatever is said of the installation of whoever tries it.
        .envs([
            ("AUTHFERRY_ADMIN_LISTEN", "0.0.0.0:0"),
            ("AUTHFERRY_LISTEN", "0.0.0.0:0"),
            ("AUTHFERRY_STATE_DIR", elsewhere.path().to_str().unwrap()),
            ("AUTHFERRY_KILL", "deny"),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut demo = Demo(child);
    let out = BufReader::new(demo.0.stdout.take().unwrap());
    let lines: Vec<String> = out.lines().take(5).map(Result::unwrap).collect();
    let said = |what: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(what));
        let line = line.unwrap_or_else(|| panic!("nothing about {what}: {lines:?}"));
        line.split_whitespace().next().unwrap().to_owned()
    };
    let address = |url: String| -> SocketAddr {
        let rest = url.strip_prefix("http://").unwrap();
        rest.split('/').next().unwrap().parse().unwrap()
    };
    let (app, metrics) = (address(said("the application")), address(said("metrics")));
    assert!(app.ip().is_loopback() && metrics.ip().is_loopback());

    let admin = said("admin");
    assert!(admin.ends_with("/-/ready"), "{admin}");
    let admin = address(admin);
    assert_eq!(admin, metrics, "one listener for operators");
    until(async || get(admin, "/-/ready").await.status == 200).await;
    let families = get(metrics, "/metrics").await.text();
    assert!(families.contains("\nauthferry_"), "{families}");

    // Who moved is told by the providers, in the table that the application shows; never by the proxy's own numbers.
    let file = said("edit and save");
    let text = std::fs::read_to_string(&file).unwrap();
    let upstream = text.split("upstream: { url: \"").nth(1).unwrap();
    let upstream = address(upstream.split('"').next().unwrap().to_owned());
    let counted = async |row: &str| -> [u64; 2] {
        let page = request(upstream, "GET", "/", &[], b"").await.text();
        let rows = page.split("Sign-ins, counted at the providers").nth(1);
        let row = rows.unwrap().rsplit_once(row).unwrap().1;
        let number = |cell: &str| cell.split(' ').next().unwrap().parse().unwrap();
        let cells: Vec<u64> = row.split("<td>").skip(1).take(2).map(number).collect();
        cells.try_into().unwrap()
    };
    let (old, new, programs) = ("old provider", "new provider", "<tr><th>");
    // Programs: the password counts for those whose person has not moved, and they are who they say.
    let curl = said("its programs");
    assert_eq!(curl, "curl");
    let line = lines.iter().find(|line| line.starts_with("its programs"));
    let url = line.unwrap().split("http://").nth(1).unwrap();
    let host = url.split('/').next().unwrap();
    assert_eq!(host, format!("reports.localhost:{}", app.port()));
    let by_password = async || {
        let mut in_by_it = Vec::new();
        for number in 1001..=1040 {
            let basic = STANDARD.encode(format!("{number}:demo"));
            let basic = format!("Basic {basic}");
            let fields = [("Host", host), ("Authorization", basic.as_str())];
            let answer = request(app, "GET", "/", &fields, b"").await;
            if answer.status == 200 {
                let told = format!("<code>{number}</code>");
                assert!(answer.text().contains(&told), "{}", answer.text());
                in_by_it.push(number);
            } else {
                assert_eq!(answer.status, 401, "{}", answer.text());
            }
        }
        in_by_it
    };
    let before = by_password().await.len();
    assert!((25..=40).contains(&before), "{before} of 40 at 10 %");
    let wrong = [("Host", host), ("Authorization", "Basic MTAwMTp3cm9uZw==")];
    assert_eq!(request(app, "GET", "/", &wrong, b"").await.status, 401);

    // The crowd signs in at the old side; with everybody on the new side, there.
    until(async || 0 < counted(old).await[1]).await;
    assert_eq!(text.matches("percent: 10,").count(), 2, "{text}");
    std::fs::write(&file, text.replace("percent: 10,", "percent: 100,")).unwrap();
    let [people, times] = counted(new).await;
    let mut then = [0; 2];
    until(async || {
        then = counted(new).await;
        people + 5 <= then[0] && times + 5 <= then[1]
    })
    .await;
    // Whoever is under way at the old side may finish there; nobody begins there any more.
    let mut settled = counted(old).await;
    until(async || {
        let (before, at) = (settled, counted(new).await[1]);
        until(async || at + 3 <= counted(new).await[1]).await;
        settled = counted(old).await;
        settled == before
    })
    .await;
    until(async || by_password().await.is_empty()).await;
    // Theirs come with a token of the new provider instead.
    until(async || {
        let [who, tokens] = counted(programs).await;
        5 <= who && who <= tokens
    })
    .await;

    let written = std::fs::read_dir(elsewhere.path()).unwrap().count();
    assert_eq!(written, 0, "it has state of its own");
    let told = Command::new("kill")
        .arg("-TERM")
        .arg(demo.0.id().to_string())
        .status();
    assert!(told.unwrap().success());
    assert!(demo.0.wait().unwrap().success());
    let left: Vec<_> = std::fs::read_dir(temp.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
