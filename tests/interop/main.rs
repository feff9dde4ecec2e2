//! Clients that others wrote, against our token endpoint and applications behind us: what each can do, and what is refused to
//! it, is in `expected.tsv`, which was there first. `make interop` installs them; here they are given by `INTEROP_CLIENTS`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and shows its table"
)]
#![allow(
    dead_code,
    unused_imports,
    reason = "the harness serves other tests too"
)]

#[path = "../integration/harness/mod.rs"]
mod harness;

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use serde_json::Value;
use serde_json::json;

use harness::Echo;
use harness::Idp;
use harness::Proxy;
use harness::now;

/// A step and its outcome, in the order of the client.
type Rows = Vec<(String, String)>;

/// Name, and the command that runs it.
const CLIENTS: [(&str, &[&str]); 3] = [
    ("openid-client", &["node", "client.mjs"]),
    ("authlib", &["venv/bin/python", "client.py"]),
    ("x/oauth2", &["./client"]),
];

fn pki(dir: &Path) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Of another name than what it signs: else those look as if they had signed themselves.
    params
        .distinguished_name
        .push(DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut client = Vec::new();
    for (name, usage) in [
        ("localhost", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &authority).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), signed.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        client = signed.der().to_vec();
    }
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    client
}

fn sha256(text: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, text).as_ref().to_vec()
}

fn configuration(port: u16, old: &Idp, new: &Idp, upstream: &Echo, thumbprint: &str) -> String {
    let provider = |idp: &Idp| {
        format!(
            "{{ oidc: {{ issuer: \"{}\", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}, verify: {{ audiences: [app] }}, claims: {{ subject: uid }}, authoritative: {{ claims: [uid] }} }} }}",
            idp.issuer()
        )
    };
    let at = "at: { old: { id: authferry, secret: { env: HARNESS_SECRET } }, new: { id: authferry, secret: { env: HARNESS_SECRET } } }";
    let hash: String = sha256(b"s3cret")
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let client = |grants: &str| {
        format!("secret_hashes: [\"sha256:{hash}\"], grants: [{grants}], audiences: [app], {at}")
    };
    format!(
        r#"
server:
  listen: 127.0.0.1:{port}
  tls:
    certificate: {{ file: {{dir}}/localhost.pem }}
    key: {{ file: {{dir}}/localhost.key }}
    client_certificates: [{{ hosts: [localhost], ca: {{ file: {{dir}}/ca.pem }}, mode: optional }}]
  admin: {{ listen: 127.0.0.1:0, token: {{ file: {{dir}}/admin.token }} }}
  state_dir: {{dir}}/state
providers:
  old: {old}
  new: {new}
identity: {{ canonical: {{ template: "{{subject}}" }} }}
exchange:
  to-new: {{ token_exchange: {{ provider: new, audiences: [app] }} }}
  to-old: {{ token_exchange: {{ provider: old, audiences: [app] }} }}
  ours: {{ mint: {{ issuer: "https://localhost:{port}/ours", audiences: [bound], binding: keep }} }}
apps:
  apis:
    hosts: [localhost]
    upstream: {{ url: "{upstream}" }}
    minted_tokens: [ours]
    routes:
      - {{ path: /old/*, exchange: to-old }}
      - {{ path: /new/*, exchange: to-new }}
      - {{ path: /plain/* }}
cohorts: {{ held: {{ client_id: [old] }}, moved: {{ client_id: [new] }} }}
rollout:
  from: old
  to: new
  bucketing: {{ salt: interop }}
  assign:
    - {{ cohort: held, to: old }}
    - {{ cohort: moved, to: new }}
    - {{ percent: 100, to: new }}
token_endpoint:
  app: apis
  origin: https://localhost:{port}
  audiences: {{ app: {{ exchanges: [to-new, to-old] }}, bound: {{ exchanges: [ours] }} }}
  clients:
    old: {{ {own} }}
    new: {{ {own} }}
    keyed: {{ {keyed} }}
    kept: {{ introspect: true, refresh: {{ adopt: old, grace: 0s }}, {all} }}
    certified: {{ certificates: ["{thumbprint}"], grants: [client_credentials], audiences: [app, bound], {at} }}
"#,
        old = provider(old),
        new = provider(new),
        upstream = upstream.url(),
        own = client("client_credentials"),
        keyed = client("client_credentials").replace("[app]", "[bound]"),
        all = client("client_credentials, refresh_token, token_exchange, device_code"),
    )
}

struct World {
    old: Idp,
    new: Idp,
    port: u16,
    proxy: Proxy,
    thumbprint: String,
    clients: PathBuf,
    _upstream: Echo,
}

async fn world() -> World {
    let clients =
        std::env::var_os("INTEROP_CLIENTS").expect("`make interop` says where the clients are");
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let dir = tempfile::tempdir().unwrap();
    let thumbprint = URL_SAFE_NO_PAD.encode(sha256(&pki(dir.path())));
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let yaml = configuration(port, &old, &new, &upstream, &thumbprint);
    let proxy = Proxy::start_in(dir, &yaml);
    proxy.settled().await;
    for idp in [&old, &new] {
        idp.exchanges(json!({ "exp": now() + 200 }), json!({ "expires_in": 200 }));
    }
    World {
        old,
        new,
        port,
        proxy,
        thumbprint,
        clients: clients.into(),
        _upstream: upstream,
    }
}

impl World {
    fn run(&self, command: &[&str]) -> Rows {
        let origin = format!("https://localhost:{}", self.port);
        let file = |name: &str| self.proxy.dir().join(name).display().to_string();
        let given = json!({
            "origin": origin, "issuer": format!("{origin}/.authferry/oauth2"), "secret": "s3cret", "refresh_token": self.old.refresh_token("alice"),
            "ca": file("ca.pem"), "certificate": file("client.pem"), "key": file("client.key"),
            "api_old": format!("{origin}/old/x"), "api_new": format!("{origin}/new/x"), "api_plain": format!("{origin}/plain/x"),
            "issuers": { "api_old": self.old.issuer(), "api_new": self.new.issuer() },
        });
        let input = self.proxy.dir().join("given.json");
        std::fs::write(&input, given.to_string()).unwrap();
        // Whoever types in the code of the device does so before it is asked about.
        self.new.types_in(Some("alice"));
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .arg(&input)
            .current_dir(&self.clients)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut rows = Rows::new();
        // The doubles run on other threads of the runtime.
        tokio::task::block_in_place(|| {
            for line in lines.map_while(Result::ok) {
                let Some((step, outcome)) = line.split_once('\t') else {
                    panic!("{command:?}: {line}");
                };
                if step == "bound to" {
                    let tokens = format!("{}\n", self.bound(outcome));
                    stdin.write_all(tokens.as_bytes()).unwrap();
                } else {
                    rows.push((step.to_owned(), outcome.to_owned()));
                }
            }
            assert!(child.wait().unwrap().success(), "{command:?}");
        });
        rows
    }

    /// A token that is bound to a key, and one that is bound to the certificate.
    fn bound(&self, jkt: &str) -> Value {
        let jkt = if jkt == "-" { &self.thumbprint } else { jkt };
        let sign = |cnf: Value| {
            let mut claims = self.new.claims("alice");
            claims.insert("cnf".to_owned(), cnf);
            self.new.sign(&claims)
        };
        json!({ "dpop": sign(json!({ "jkt": jkt })), "mtls": sign(json!({ "x5t#S256": self.thumbprint })) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_others_wrote_do_what_the_table_says() {
    let world = world().await;
    let mut table: BTreeMap<String, [String; CLIENTS.len()]> = BTreeMap::new();
    for (place, (name, command)) in CLIENTS.iter().enumerate() {
        for (step, outcome) in world.run(command) {
            println!("{name}\t{step}\t{outcome}");
            table.entry(step).or_default()[place] = outcome;
        }
    }
    let head = CLIENTS.map(|(name, _)| name).join("\t");
    let rows = table
        .iter()
        .map(|(step, all)| format!("{step}\t{}\n", all.join("\t")));
    let found = format!("step\t{head}\n{}", rows.collect::<String>());
    if let Some(file) = std::env::var_os("INTEROP_ROWS") {
        std::fs::write(file, &found).unwrap();
    }
    let expected = include_str!("expected.tsv");
    assert_eq!(found, expected, "\n{found}\n{}", world.proxy.log());
}
