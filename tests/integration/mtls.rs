//! Client certificates: who is asked for one, what a bound token needs, and who a certificate is.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;

/// A certificate with its key.
type Own = (CertificateDer<'static>, Vec<u8>);

struct Stage {
    idp: Idp,
    upstream: Echo,
    proxy: Proxy,
    server: CertificateDer<'static>,
    billing: Own,
    other: Own,
}

/// `open.test` asks for nothing; `mtls.test` for a certificate of our authority.
async fn stage() -> Stage {
    stage_with(|yaml, _| yaml).await
}

/// With another configuration, given the certificate of `billing`.
async fn stage_with(change: impl Fn(String, &Own) -> String) -> Stage {
    let (idp, upstream) = (Idp::start().await, Echo::start().await);
    let dir = tempfile::tempdir().unwrap();
    let names = ["open.test", "mtls.test", "machines.test"].map(str::to_owned);
    let server = rcgen::generate_simple_self_signed(names).unwrap();
    write(dir.path(), "tls.pem", &server.cert.pem());
    write(dir.path(), "tls.key", &server.signing_key.serialize_pem());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    write(dir.path(), "ca.pem", &authority.pem());
    let own = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &authority).unwrap();
        (signed.der().clone(), key.serialize_der())
    };
    let yaml = format!(
        r#"
server:
  listen: 127.0.0.1:0
  tls:
    certificate: {{ file: {{dir}}/tls.pem }}
    key: {{ file: {{dir}}/tls.key }}
    client_certificates: [{{ hosts: [mtls.test, machines.test], ca: {{ file: {{dir}}/ca.pem }} }}]
  admin: {{ listen: 127.0.0.1:0, token: {{ file: {{dir}}/admin.token }} }}
  state_dir: {{dir}}/state
providers:
  new: {{ oidc: {{ issuer: "{issuer}", verify: {{ audiences: [app] }} }} }}
  machines: {{ client_cert: {{ ca: {{ file: {{dir}}/ca.pem }}, subject: san_dns }} }}
apps:
  crm: {{ hosts: [open.test, mtls.test], provider: new, upstream: {{ url: "{upstream}" }}, identity_headers: {{ X-Remote-User: "{{subject}}" }} }}
  batch: {{ hosts: [machines.test], provider: machines, upstream: {{ url: "{upstream}" }}, identity_headers: {{ X-Remote-User: "{{subject}}" }} }}
"#,
        issuer = idp.issuer(),
        upstream = upstream.url(),
    );
    let (billing, other) = (own("billing.corp.test"), own("other.corp.test"));
    let yaml = change(yaml, &billing);
    let proxy = Proxy::start_in(dir, &yaml);
    // Whoever asks the admin interface may need a certificate.
    if !yaml.contains("client_ca:") {
        proxy.settled().await;
    }
    Stage {
        idp,
        upstream,
        proxy,
        server: server.cert.der().clone(),
        billing,
        other,
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

/// The status of `GET /` at `host`, over a connection that named `sni`; `None`: no connection.
async fn status(
    stage: &Stage,
    (sni, host): (&str, &str),
    own: Option<&Own>,
    fields: &str,
) -> Option<u16> {
    let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n");
    let text = send(stage, sni, own, &head).await?;
    text.get(9..12)?.parse().ok()
}

/// What comes of a request over a connection that named `sni`; `None`: no connection.
async fn send(stage: &Stage, sni: &str, own: Option<&Own>, request: &str) -> Option<String> {
    send_to(stage, stage.proxy.address, sni, own, request).await
}

/// The same, to another of its addresses.
async fn send_to(
    stage: &Stage,
    to: SocketAddr,
    sni: &str,
    own: Option<&Own>,
    request: &str,
) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(stage.server.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => config
            .with_client_auth_cert(
                vec![certificate.clone()],
                PrivateKeyDer::try_from(key.clone()).unwrap(),
            )
            .unwrap(),
    };
    let stream = TcpStream::connect(to).await.unwrap();
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_hosts_of_its_own_policy_only() {
    let stage = stage().await;
    let bearer = format!("Authorization: Bearer {}\r\n", stage.idp.token("alice"));
    let own = Some(&stage.billing);
    for (hosts, own, expected) in [
        (("open.test", "open.test"), None, Some(200)),
        (("mtls.test", "mtls.test"), own, Some(200)),
        (("mtls.test", "mtls.test"), None, None),
        (("open.test", "mtls.test"), None, Some(421)),
        (("open.test", "MTLS.test"), own, Some(421)),
        (("mtls.test", "open.test"), own, Some(421)),
        (("127.0.0.1", "mtls.test"), own, None),
    ] {
        let said = status(&stage, hosts, own, &bearer).await;
        assert_eq!(said, expected, "{hosts:?}\n{}", stage.proxy.log());
    }
    assert_eq!(stage.upstream.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_counts_on_the_connection_of_its_certificate_only() {
    let stage = stage().await;
    let mut claims = stage.idp.claims("alice");
    let hash = digest::digest(&digest::SHA256, &stage.billing.0);
    let bound = json!({ "x5t#S256": URL_SAFE_NO_PAD.encode(hash) });
    claims.insert("cnf".to_owned(), bound);
    let bearer = format!("Authorization: Bearer {}\r\n", stage.idp.sign(&claims));
    let shown = base64::engine::general_purpose::STANDARD.encode(&stage.billing.0);
    let header = format!("{bearer}Client-Cert: :{shown}:\r\n");
    let mtls = ("mtls.test", "mtls.test");
    for (hosts, own, fields, expected) in [
        (("open.test", "open.test"), None, &bearer, Some(401)),
        (("open.test", "open.test"), None, &header, Some(401)),
        (mtls, Some(&stage.other), &bearer, Some(401)),
        (mtls, Some(&stage.other), &header, Some(401)),
        (mtls, Some(&stage.billing), &bearer, Some(200)),
        // What is kept for the one is not kept for the other.
        (mtls, Some(&stage.other), &bearer, Some(401)),
    ] {
        let said = status(&stage, hosts, own, fields).await;
        assert_eq!(said, expected, "{hosts:?}\n{}", stage.proxy.log());
    }
    assert_eq!(stage.upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_somebody_where_a_provider_says_so() {
    let stage = stage().await;
    let machines = ("machines.test", "machines.test");
    let said = status(&stage, machines, Some(&stage.billing), "").await;
    assert_eq!(said, Some(200), "{}", stage.proxy.log());
    let seen = stage.upstream.last();
    assert_eq!(seen.all("x-remote-user"), ["billing.corp.test"]);
    assert!(seen.all("client-cert").is_empty());
    // At an application of another provider it is nobody.
    let elsewhere = ("mtls.test", "mtls.test");
    let said = status(&stage, elsewhere, Some(&stage.billing), "").await;
    assert_eq!(said, Some(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_token_endpoint_is_known_by_its_certificate() {
    let stage = stage_with(|yaml, billing| {
        let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &billing.0));
        yaml + &format!(
            "token_endpoint:\n  app: crm\n  origin: https://mtls.test\n  clients:\n    \
             billing: {{ certificates: [{hash}], grants: [client_credentials], audiences: [app], \
             at: {{ new: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }} }} }}\n"
        )
    })
    .await;
    let body = "grant_type=client_credentials&audience=app&client_id=";
    let ask = |id: &str| {
        let body = format!("{body}{id}");
        format!(
            "POST /.authferry/oauth2/token HTTP/1.1\r\nHost: mtls.test\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let said = send(&stage, "mtls.test", Some(&stage.billing), &ask("billing")).await;
    let said = said.unwrap();
    assert!(
        said.starts_with("HTTP/1.1 200") && said.contains("access_token"),
        "{said}"
    );
    // Another certificate, another name, and the header of a peer that nobody believes.
    let shown = base64::engine::general_purpose::STANDARD.encode(&stage.billing.0);
    let forged = ask("billing").replacen("Host:", &format!("Client-Cert: :{shown}:\r\nHost:"), 1);
    for (own, request) in [
        (&stage.other, ask("billing")),
        (&stage.billing, ask("another")),
        (&stage.billing, ask("")),
        (&stage.other, forged),
    ] {
        let said = send(&stage, "mtls.test", Some(own), &request)
            .await
            .unwrap();
        assert!(
            said.starts_with("HTTP/1.1 401") && said.contains("invalid_client"),
            "{said}"
        );
    }
    assert_eq!(stage.idp.hits("/token"), 1);
}

/// RFC 8705 §3: what a machine gets for itself, its provider gave to us: it is bound where we mint of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_gets_for_itself_is_bound_to_its_certificate_where_tokens_are_bound() {
    let stage = stage_with(|yaml, billing| {
        let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &billing.0));
        yaml + &format!(
            "exchange:\n  ours: {{ mint: {{ issuer: \"https://ferry.test\", audiences: [api], binding: keep }} }}\n\
             token_endpoint:\n  app: crm\n  origin: https://mtls.test\n  audiences: {{ api: {{ exchanges: [ours] }} }}\n  clients:\n    \
             billing: {{ certificates: [{hash}], grants: [client_credentials], audiences: [app, api], \
             at: {{ new: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }} }} }}\n"
        )
    })
    .await;
    let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &stage.billing.0));
    let bound = json!({ "x5t#S256": hash });
    for (audience, cnf) in [("api", Some(&bound)), ("app", None)] {
        let body = format!("grant_type=client_credentials&audience={audience}&client_id=billing");
        let ask = format!(
            "POST /.authferry/oauth2/token HTTP/1.1\r\nHost: mtls.test\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let said = send(&stage, "mtls.test", Some(&stage.billing), &ask).await;
        let said = said.unwrap();
        assert!(
            said.starts_with("HTTP/1.1 200"),
            "{said}\n{}",
            stage.proxy.log()
        );
        let (_, body) = said.split_once("\r\n\r\n").unwrap();
        let got: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(got["token_type"], "Bearer");
        let own = crate::token_endpoint::claims(&got["access_token"]);
        assert_eq!(own.get("cnf"), cnf, "{audience}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_is_kept_lost_or_not_exchanged_as_configured() {
    let mint = |binding: &str| {
        format!(
            "{{ mint: {{ issuer: \"https://ferry.test\", audiences: [api], binding: {binding} }} }}"
        )
    };
    let stage = stage_with(|yaml, _| {
        let exchanges =
            ["keep", "lose", "refuse"].map(|word| format!("  {word}-it: {}\n", mint(word)));
        let routes = ["keep", "lose", "refuse"]
            .map(|word| format!("{{ path: /{word}/*, exchange: {word}-it }}"))
            .join(", ");
        yaml.replace(
            "apps:\n  crm: {",
            &format!(
                "exchange:\n{}apps:\n  crm: {{ routes: [{routes}],",
                exchanges.concat()
            ),
        )
    })
    .await;
    let mut claims = stage.idp.claims("alice");
    let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &stage.billing.0));
    claims.insert("cnf".to_owned(), json!({ "x5t#S256": hash }));
    let token = stage.idp.sign(&claims);
    for (path, status, cnf) in [
        ("keep", "200", Some(json!({ "x5t#S256": hash }))),
        ("lose", "200", None),
        ("refuse", "403", None),
    ] {
        let ask = format!(
            "GET /{path}/x HTTP/1.1\r\nHost: mtls.test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let said = send(&stage, "mtls.test", Some(&stage.billing), &ask)
            .await
            .unwrap();
        assert_eq!(
            said.get(9..12),
            Some(status),
            "{path}: {said}\n{}",
            stage.proxy.log()
        );
        if status == "200" {
            let got = stage.upstream.last().all("authorization").remove(0);
            let payload = got.split('.').nth(1).unwrap();
            let got: serde_json::Value =
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
            assert_eq!(got.get("cnf"), cnf.as_ref(), "{path}");
        }
    }
    let series = [
        "authferry_bindings_lost_total{exchange=\"lose-it\"}",
        "authferry_shadow_divergences_total{app=\"crm\",class=\"binding_lost\",severity=\"critical\"}",
    ];
    for series in series {
        assert_eq!(stage.proxy.metric(series).await, 1.0, "{series}");
    }
    let log = stage.proxy.log();
    assert!(
        log.contains("exchanged for one that anybody can use"),
        "{log}"
    );
}

/// The same at the token endpoint: by the connection that the client asks over.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_exchanges_a_token_that_is_bound_to_the_certificate_of_its_connection() {
    let stage = stage_with(|yaml, _| {
        let hash = crate::token_endpoint::hash("s3cret");
        yaml + &format!(
            "exchange:\n  ours: {{ mint: {{ issuer: \"https://ferry.test\", audiences: [api], binding: keep }} }}\n\
             token_endpoint:\n  app: crm\n  origin: https://mtls.test\n  audiences: {{ api: {{ exchanges: [ours] }} }}\n  \
             clients: {{ batch: {{ secret_hashes: [\"{hash}\"], grants: [token_exchange], audiences: [api] }} }}\n"
        )
    })
    .await;
    let mut claims = stage.idp.claims("alice");
    let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &stage.billing.0));
    claims.insert("cnf".to_owned(), json!({ "x5t#S256": hash }));
    let body = crate::token_endpoint::form(&[
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ("subject_token", &stage.idp.sign(&claims)),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("audience", "api"),
        ("client_id", "batch"),
        ("client_secret", "s3cret"),
    ]);
    let ask = format!(
        "POST /.authferry/oauth2/token HTTP/1.1\r\nHost: mtls.test\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let said = send(&stage, "mtls.test", Some(&stage.billing), &ask).await;
    let said = said.unwrap();
    assert!(
        said.starts_with("HTTP/1.1 200"),
        "{said}\n{}",
        stage.proxy.log()
    );
    let (_, body) = said.split_once("\r\n\r\n").unwrap();
    let got: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(got["token_type"], "Bearer");
    let own = crate::token_endpoint::claims(&got["access_token"]);
    assert_eq!(own["cnf"], json!({ "x5t#S256": hash }));
    let said = send(&stage, "mtls.test", Some(&stage.other), &ask).await;
    assert!(said.unwrap().starts_with("HTTP/1.1 400"));
}

/// RFC 8705 §3: a client that comes with its certificate gets what is bound to that, for a token that was bound to nothing, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_minted_for_a_client_that_is_known_by_its_certificate_is_bound_to_it() {
    let stage = stage_with(|yaml, billing| {
        let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &billing.0));
        let secret = crate::token_endpoint::hash("s3cret");
        let mint = |audience: &str, binding: &str| {
            format!("{{ mint: {{ issuer: \"https://ferry.test\", audiences: [{audience}], binding: {binding} }} }}")
        };
        let (keeps, loses) = (mint("api", "keep"), mint("lax", "lose"));
        yaml + &format!(
            "exchange:\n  keeps: {keeps}\n  loses: {loses}\n\
             token_endpoint:\n  app: crm\n  origin: https://mtls.test\n  \
             audiences: {{ api: {{ exchanges: [keeps] }}, lax: {{ exchanges: [loses] }} }}\n  clients:\n    \
             billing: {{ certificates: [{hash}], grants: [token_exchange], audiences: [api, lax] }}\n    \
             batch: {{ secret_hashes: [\"{secret}\"], grants: [token_exchange], audiences: [api, lax] }}\n"
        )
    })
    .await;
    let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &stage.billing.0));
    let bound = Some(json!({ "x5t#S256": hash }));
    for (client, audience, cnf) in [
        (&[("client_id", "billing")][..], "api", bound),
        // What loses a binding says none.
        (&[("client_id", "billing")][..], "lax", None),
        // A certificate that a client shows and is not known by is another matter.
        (
            &[("client_id", "batch"), ("client_secret", "s3cret")][..],
            "api",
            None,
        ),
    ] {
        let grant = "urn:ietf:params:oauth:grant-type:token-exchange";
        let kind = "urn:ietf:params:oauth:token-type:access_token";
        let token = stage.idp.token("alice");
        let pairs = [
            ("grant_type", grant),
            ("subject_token", &*token),
            ("subject_token_type", kind),
            ("audience", audience),
        ];
        let body = crate::token_endpoint::form(&[&pairs[..], client].concat());
        let ask = format!(
            "POST /.authferry/oauth2/token HTTP/1.1\r\nHost: mtls.test\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let said = send(&stage, "mtls.test", Some(&stage.billing), &ask).await;
        let said = said.unwrap();
        assert!(
            said.starts_with("HTTP/1.1 200"),
            "{said}\n{}",
            stage.proxy.log()
        );
        let (_, body) = said.split_once("\r\n\r\n").unwrap();
        let got: serde_json::Value = serde_json::from_str(body).unwrap();
        let own = crate::token_endpoint::claims(&got["access_token"]);
        assert_eq!(own.get("cnf"), cnf.as_ref(), "{client:?} {audience}");
    }
}

/// What comes of a refresh is bound as well, where tokens are: its provider gave a plain one.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_refresh_gives_a_client_is_bound_to_its_certificate_where_tokens_are_bound() {
    for binding in ["keep", "lose"] {
        let stage = stage_with(|yaml, billing| {
            let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &billing.0));
            yaml + &format!(
                "exchange:\n  ours: {{ mint: {{ issuer: \"https://ferry.test\", audiences: [app], binding: {binding} }} }}\n\
                 token_endpoint:\n  app: crm\n  origin: https://mtls.test\n  audiences: {{ app: {{ exchanges: [ours] }} }}\n  clients:\n    \
                 billing: {{ certificates: [{hash}], grants: [refresh_token], audiences: [app], refresh: {{ adopt: new }}, \
                 at: {{ new: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }} }} }}\n"
            )
        })
        .await;
        let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &stage.billing.0));
        let bound = Some(json!({ "x5t#S256": hash })).filter(|_| binding == "keep");
        let token = stage.idp.refresh_token("alice");
        let body = crate::token_endpoint::form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &token),
            ("client_id", "billing"),
        ]);
        let ask = format!(
            "POST /.authferry/oauth2/token HTTP/1.1\r\nHost: mtls.test\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let said = send(&stage, "mtls.test", Some(&stage.billing), &ask).await;
        let said = said.unwrap();
        assert!(
            said.starts_with("HTTP/1.1 200"),
            "{said}\n{}",
            stage.proxy.log()
        );
        let (_, body) = said.split_once("\r\n\r\n").unwrap();
        let got: serde_json::Value = serde_json::from_str(body).unwrap();
        let own = crate::token_endpoint::claims(&got["access_token"]);
        assert_eq!(own.get("cnf"), bound.as_ref(), "{binding}");
    }
}

/// An operator with a certificate needs no token, and is named by it in the record; over TCP nobody else gets that far.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_known_by_a_certificate_and_named_in_the_record() {
    let stage = stage_with(|yaml, _| {
        let admin = "admin: { listen: 127.0.0.1:0, token: { file: {dir}/admin.token } }";
        assert!(yaml.contains(admin));
        let mutual = "admin: { listen: 127.0.0.1:0, client_ca: { file: {dir}/ca.pem } }\n  metrics: { listen: 127.0.0.1:0 }";
        yaml.replace(admin, mutual)
    });
    let stage = stage.await;
    let wish = r#"{"position":"freeze","reason":"test"}"#;
    let kill = format!(
        "POST /admin/v1/kill HTTP/1.1\r\nHost: open.test:9901\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{wish}",
        wish.len()
    );
    let admin = stage.proxy.admin;
    let self_signed = rcgen::generate_simple_self_signed(["ops.test".to_owned()]).unwrap();
    let stranger = (
        self_signed.cert.der().clone(),
        self_signed.signing_key.serialize_der(),
    );
    for own in [None, Some(&stranger)] {
        let said = send_to(&stage, admin, "open.test", own, &kill).await;
        assert!(said.is_none_or(|said| said.is_empty()));
    }
    let from_a_page = kill.replace(
        "Host: open.test:9901",
        "Host: open.test:9901\r\nOrigin: https://evil.test",
    );
    // A name that somebody else has resolved to us, whoever's browser was sent here by it.
    let by_another_name = kill.replace("Host: open.test:9901", "Host: evil.test:9901");
    for refused in [&from_a_page, &by_another_name] {
        let said = send_to(&stage, admin, "open.test", Some(&stage.billing), refused).await;
        assert!(said.unwrap().starts_with("HTTP/1.1 403 "), "{refused}");
    }
    let said = send_to(&stage, admin, "open.test", Some(&stage.billing), &kill).await;
    let said = said.unwrap();
    assert!(
        said.starts_with("HTTP/1.1 200 "),
        "{said}\n{}",
        stage.proxy.log()
    );
    let record = std::fs::read_to_string(stage.proxy.dir().join("state/decisions.jsonl")).unwrap();
    let moved = record.lines().find(|line| line.contains("kill_switch"));
    let actor = r#""actor":"cert:CN=rcgen self signed cert""#;
    let moved = moved.unwrap_or_default().replace("\": \"", "\":\"");
    assert!(moved.contains(actor), "{record}");
}
