//! The contract against real servers: Keycloak, oidc-provider, Django, PHP and Express applications, OpenLDAP.
//!
//! `tests/real/run` starts them and says in the environment where they are. What a real server cannot be made to do, such as
//! to answer garbage, the relay before it does. Password files and key files have no server.

#![expect(
    clippy::disallowed_methods,
    reason = "tests learn from the environment where the servers are"
)]

mod pooled;

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ldap3::LdapConnAsync;
use ldap3::Mod;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::clock::Clock as _;
use crate::clock::SystemClock;
use crate::clock::UnixTime;
use crate::identity::ClaimPath;
use crate::identity::Credential;
use crate::identity::Issuer;
use crate::providers::Deps;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::contract::Case;
use crate::providers::contract::Double;
use crate::providers::contract::provider_contract;
use crate::providers::contract::relay::Relay;
use crate::providers::contract::somebody::code_of;
use crate::providers::contract::somebody::exchanges;
use crate::providers::contract::somebody::finds;
use crate::providers::contract::somebody::is_served;
use crate::providers::directory::settings::Keycloak;

use crate::providers::fixture::built;
use crate::providers::fixture::ready;
use crate::providers::fixture::settings;
use crate::providers::settings::ClientAuth;
use crate::providers::settings::Introspect;
use crate::providers::settings::Introspection;
use crate::providers::settings::Jwt;
use crate::providers::settings::Keys;
use crate::providers::settings::KindSettings;
use crate::providers::settings::Ldap;
use crate::providers::settings::LdapDirectory;
use crate::providers::settings::LdapGroups;
use crate::providers::settings::LdapPool;
use crate::providers::settings::LogoutMethod;
use crate::providers::settings::OAuthClient;
use crate::providers::settings::Oidc;
use crate::providers::settings::OidcDirectory;
use crate::providers::settings::ProbeAnswer;
use crate::providers::settings::ProbeLogout;
use crate::providers::settings::SessionProbe;
use crate::providers::settings::Settings;
use crate::providers::settings::Verify;
use crate::secret::Secret;
use crate::token::Algorithm;
use crate::token::Marker;
use crate::token::SigningKey;

pub(super) fn var(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: start these tests with tests/real/run"))
}

pub(super) fn port(name: &str) -> u16 {
    var(name).parse().unwrap()
}

/// A password or secret under the salt of this run.
pub(super) fn secret(base: &str) -> String {
    let hash = digest::digest(
        &digest::SHA256,
        format!("{}{base}", var("REAL_SALT")).as_bytes(),
    );
    let hex: String = hash
        .as_ref()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{base}-{hex}")
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// One request, and the whole answer.
pub(super) async fn ask(
    to: SocketAddr,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> Response<Bytes> {
    send(
        to,
        method,
        path,
        fields,
        body,
        "application/x-www-form-urlencoded",
    )
    .await
}

async fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &str,
    kind: &str,
) -> Response<Bytes> {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", to.to_string());
    if !body.is_empty() {
        request = request.header("content-type", kind);
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

async fn access_token(to: SocketAddr, path: &str, fields: &[(&str, &str)], form: &str) -> String {
    let answer = ask(to, "POST", path, fields, form).await;
    let said: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    said["access_token"]
        .as_str()
        .unwrap_or_else(|| panic!("{}: {answer:?}", form.len()))
        .to_owned()
}

/// What a token says, unchecked.
fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// What every HTTP server is made to do before whichever provider.
async fn misbehave(relay: &mut Relay, case: Case) {
    let answer = |status: &str, fields: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    match case {
        Case::Busy => relay.answer(answer("429 Too Many Requests", "Retry-After: 1\r\n", "")),
        Case::Broken => relay.answer(answer("503 Service Unavailable", "", "")),
        Case::Garbage => relay.answer(answer("200 OK", "Content-Type: text/html\r\n", "<html>")),
        Case::Silent => relay.fall_silent(),
        Case::Gone => relay.close().await,
        _ => {}
    }
}

/// Settings with the patience of real servers.
fn real(owns: Owns, claims: &[(&str, &str)], kind: KindSettings) -> Settings {
    let mut settings = settings("real", owns, kind);
    let claim = |(name, path): &(&str, &str)| ((*name).into(), ClaimPath::parse(path).unwrap());
    settings.claims = claims.iter().map(claim).collect();
    settings.client.timeout = Duration::from_secs(5);
    settings
}

fn deps() -> Deps {
    Deps::with(Arc::new(SystemClock))
}

fn verify(audience: &str, markers: Vec<Marker>) -> Verify {
    Verify {
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
        audiences: vec![audience.into()],
        markers,
        claims: Vec::new(),
        any_typ: false,
        leeway: Duration::from_secs(30),
        max_life: Duration::from_secs(24 * 3_600),
        jwks_max_stale: Duration::from_secs(24 * 3_600),
        jwks_refresh: Duration::from_secs(600),
    }
}

const REALM: &str = "/realms/new";
/// What the two providers call their side of us.
const SIDES: [&str; 2] = ["modern", "legacy"];
/// Whom oidc-provider's signed tokens are for.
const AUDIENCE: &str = "urn:legacy-api";
const BY_PASSWORD: &str = "/realms/new/protocol/openid-connect/token";

/// Signed tokens of Keycloak or oidc-provider, read by either kind; or Keycloak is asked about each as well (`ASKED`).
struct Signed<const KEYCLOAK: bool, const OIDC: bool, const ASKED: bool> {
    relay: Relay,
    provider: Arc<dyn Provider>,
    now: UnixTime,
    /// Somebody may not come in there for now.
    barred: bool,
}

impl<const KEYCLOAK: bool, const OIDC: bool, const ASKED: bool> Signed<KEYCLOAK, OIDC, ASKED> {
    /// A token as a person or a program gets it there.
    async fn token(&self) -> String {
        if KEYCLOAK {
            return self.of_person(if ASKED { BARRED } else { "bob" }).await;
        }
        let us = basic("svc", &secret("svc-secret"));
        let form = "grant_type=client_credentials&resource=urn:legacy-api&scope=legacy:read";
        let to = self.relay.address;
        access_token(to, "/token", &[("authorization", &us)], form).await
    }

    /// An access token of somebody, whatever it looks like.
    async fn of_person(&self, name: &'static str) -> String {
        if KEYCLOAK {
            let form = format!(
                "grant_type=password&client_id=proxy-ropc&client_secret={}&username={name}&password={}&scope=openid",
                secret("proxy-ropc-secret"),
                secret(&format!("{name}-pw"))
            );
            access_token(self.relay.address, BY_PASSWORD, &[], &form).await
        } else {
            let form = code_of(&*self.provider, SIDES[1], name).await;
            let us = basic("proxy", &secret("proxy-secret"));
            let to = self.relay.address;
            access_token(to, "/token", &[("authorization", &us)], &form).await
        }
    }
}

/// A registration of ours.
fn client(id: &str) -> OAuthClient {
    OAuthClient {
        id: id.into(),
        auth: ClientAuth::SecretBasic(Secret::new(secret(&format!("{id}-secret")))),
        expires: None,
    }
}

/// Whose account is switched off for a while where tokens are asked about.
const BARRED: &str = "carol";

/// What an administrator of Keycloak does about somebody.
async fn switch_at_keycloak(name: &str, enabled: bool) {
    let to = SocketAddr::from(([127, 0, 0, 1], port("KC_PORT")));
    let form = "grant_type=password&client_id=admin-cli&username=admin&password=admin";
    let path = "/realms/master/protocol/openid-connect/token";
    let bearer = format!("Bearer {}", access_token(to, path, &[], form).await);
    let fields = [("authorization", bearer.as_str())];
    let users = format!("/admin{REALM}/users");
    let query = format!("{users}?exact=true&briefRepresentation=false&username={name}");
    let found = ask(to, "GET", &query, &fields, "").await;
    let mut found: Vec<Value> = serde_json::from_slice(found.body()).unwrap();
    assert_eq!(found.len(), 1, "{name}");
    let mut user = found.remove(0);
    user["enabled"] = enabled.into();
    let path = format!("{users}/{}", user["id"].as_str().unwrap());
    let said = send(
        to,
        "PUT",
        &path,
        &fields,
        &user.to_string(),
        "application/json",
    )
    .await;
    assert_eq!(said.status(), 204, "{said:?}");
}

impl<const KEYCLOAK: bool, const OIDC: bool, const ASKED: bool> Drop
    for Signed<KEYCLOAK, OIDC, ASKED>
{
    fn drop(&mut self) {
        if !self.barred {
            return;
        }
        // Also after a failure, or everything that follows would fail.
        let again = std::thread::spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(switch_at_keycloak(BARRED, true));
        });
        again.join().ok();
    }
}

#[async_trait]
impl<const KEYCLOAK: bool, const OIDC: bool, const ASKED: bool> Double
    for Signed<KEYCLOAK, OIDC, ASKED>
{
    // A signed token says nothing about what became of it or its person; and where another factor is wanted, there is none yet.
    const IMPOSSIBLE: &'static [Case] = if ASKED {
        &[Case::MfaRequired]
    } else {
        &[Case::Revoked, Case::Disabled, Case::MfaRequired]
    };

    async fn start() -> Self {
        let relay = Relay::to(port(if KEYCLOAK { "KC_PORT" } else { "OP_PORT" })).await;
        // Keycloak takes its name from the address by which it is called; oidc-provider has one name.
        let issuer = if KEYCLOAK {
            format!("http://{}{REALM}", relay.address)
        } else {
            format!("http://127.0.0.1:{}", var("OP_PORT"))
        };
        let keys = format!(
            "http://{}{}",
            relay.address,
            if KEYCLOAK {
                "/realms/new/protocol/openid-connect/certs"
            } else {
                "/jwks"
            }
        );
        let (audience, markers, subject) = if KEYCLOAK {
            let marker = Marker {
                claim: "typ".into(),
                equals: "Bearer".into(),
            };
            ("proxy-exchange", vec![marker], "legacy_uid")
        } else {
            (AUDIENCE, Vec::new(), "sub")
        };
        let (issuer, verify) = (Issuer::new(&issuer), verify(audience, markers));
        let issuers = vec![issuer.clone()];
        let kind = if OIDC {
            KindSettings::Oidc(Box::new(Oidc {
                issuer,
                verify,
                // What breaks is where the keys come from: the metadata name it by the server's own address.
                keys: if KEYCLOAK {
                    Keys::Discovered
                } else {
                    Keys::Url(keys)
                },
                // Keycloak tells of a token to those alone whom it is for, and of every other that it is not active.
                client: Some(client(if ASKED { "proxy-exchange" } else { "proxy" })),
                redirect_path: "/.authferry/cb/real".to_owned(),
                scopes: vec!["openid".into()],
                require_iss: true,
                directory: KEYCLOAK.then(|| {
                    OidcDirectory::Keycloak(Keycloak {
                        url: format!("http://{}/admin{REALM}", relay.address),
                        client: client("directory"),
                        key: subject.into(),
                        full_path: false,
                    })
                }),
                provisioning: None,
                par: crate::providers::settings::Par::Offered,
                introspect: ASKED.then_some(Introspect {
                    cache: Duration::from_secs(30),
                    stale: None,
                }),
                refreshes: true,
                rotates: false,
                revokes: true,
                back_channel: None,
            }))
        } else {
            KindSettings::Jwt(Jwt {
                issuer,
                verify,
                keys: Keys::Url(keys),
            })
        };
        let owns = Owns {
            issuers,
            ..Owns::default()
        };
        let provider = ready(&real(owns, &[("subject", subject)], kind), &deps()).await;
        Self {
            relay,
            provider,
            now: SystemClock.now(),
            barred: false,
        }
    }

    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    fn now(&self) -> UnixTime {
        self.now
    }

    async fn serve(&mut self) {
        if !OIDC || ASKED {
            return;
        }
        is_served(&*self.provider, SIDES[usize::from(!KEYCLOAK)]).await;
        // Carol may not go on to the application.
        let (bob, carol) = (self.of_person("bob").await, self.of_person("carol").await);
        let app: [Box<str>; 1] = [if KEYCLOAK { "legacy-api" } else { AUDIENCE }.into()];
        let none: &[Box<str>] = &[];
        let what = if KEYCLOAK {
            (&app[..], none)
        } else {
            (none, &app[..])
        };
        let (client, who) = (client("proxy-exchange"), (&*bob, &*carol));
        exchanges(&*self.provider, &client, who, what).await;
        if KEYCLOAK {
            finds(&*self.provider).await;
        }
    }

    async fn arrange(&mut self, case: Case) -> Option<Credential> {
        let token = self.token().await;
        let claims = claims_of(&token);
        let moment = |name: &str| UnixTime::from_secs(claims[name].as_u64().unwrap());
        let seconds = Duration::from_secs;
        let token = match case {
            Case::Good => token,
            Case::Expired => {
                self.now = moment("exp") + seconds(31);
                token
            }
            Case::SmallSkew => {
                self.now = moment("iat") - seconds(25);
                token
            }
            Case::LargeSkew => {
                self.now = moment("iat") - seconds(40);
                token
            }
            // Of the administrators' realm, or changed on the way.
            Case::Foreign if KEYCLOAK => {
                let form = "grant_type=password&client_id=admin-cli&username=admin&password=admin";
                let path = "/realms/master/protocol/openid-connect/token";
                access_token(self.relay.address, path, &[], form).await
            }
            Case::Foreign => forged(&claims, Some("https://elsewhere.example")),
            Case::MfaRequired => return None,
            Case::Revoked | Case::Disabled if !ASKED => return None,
            // RFC 7009, by the client that was given it.
            Case::Revoked => {
                let us = basic("proxy-ropc", &secret("proxy-ropc-secret"));
                let (fields, form) = ([("authorization", &*us)], format!("token={token}"));
                let path = "/realms/new/protocol/openid-connect/revoke";
                let said = ask(self.relay.address, "POST", path, &fields, &form).await;
                assert_eq!(said.status(), 200, "{said:?}");
                token
            }
            Case::Disabled => {
                self.barred = true;
                switch_at_keycloak(BARRED, false).await;
                token
            }
            // Its metadata and keys are known: what breaks is the question about the token.
            Case::Busy | Case::Gone | Case::Broken | Case::Silent | Case::Garbage if ASKED => {
                misbehave(&mut self.relay, case).await;
                token
            }
            Case::Unknown
            | Case::Busy
            | Case::Gone
            | Case::Broken
            | Case::Silent
            | Case::Garbage => {
                // A key that is not known makes the provider look for it.
                misbehave(&mut self.relay, case).await;
                forged(&claims, None)
            }
        };
        Some(Credential::Bearer(Secret::new(token)))
    }
}

/// The same claims under a key of nobody.
fn forged(claims: &Value, issuer: Option<&str>) -> String {
    let mut claims: Map<String, Value> = claims.as_object().unwrap().clone();
    if let Some(issuer) = issuer {
        claims.insert("iss".to_owned(), json!(issuer));
    }
    SigningKey::generate()
        .unwrap()
        .sign("at+jwt", &claims)
        .unwrap()
}

/// Opaque tokens of Django or oidc-provider (RFC 7662).
struct Introspected<const DJANGO: bool> {
    relay: Relay,
    provider: Arc<dyn Provider>,
    now: UnixTime,
}

impl<const DJANGO: bool> Introspected<DJANGO> {
    const REVOKE: &'static str = if DJANGO {
        "/o/revoke_token/"
    } else {
        "/token/revocation"
    };

    async fn token(&self) -> String {
        let (client, path, form) = if DJANGO {
            let form = format!(
                "grant_type=password&username=bob&password={}&scope=openid",
                secret("bob-pw")
            );
            ("proxy-ropc", "/o/token/", form)
        } else {
            ("svc", "/token", "grant_type=client_credentials".to_owned())
        };
        let us = basic(client, &secret(&format!("{client}-secret")));
        access_token(self.relay.address, path, &[("authorization", &us)], &form).await
    }

    /// RFC 7009.
    async fn revoke(&self, token: &str) {
        let client = if DJANGO { "proxy-ropc" } else { "svc" };
        let us = basic(client, &secret(&format!("{client}-secret")));
        let form = format!("token={token}");
        let answer = ask(
            self.relay.address,
            "POST",
            Self::REVOKE,
            &[("authorization", &us)],
            &form,
        )
        .await;
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
}

#[async_trait]
impl<const DJANGO: bool> Double for Introspected<DJANGO> {
    // Neither server looks at the account again, and both ask for another factor before there is a token.
    const IMPOSSIBLE: &'static [Case] = &[Case::Disabled, Case::MfaRequired];

    async fn start() -> Self {
        let relay = Relay::to(port(if DJANGO { "DOT_PORT" } else { "OP_PORT" })).await;
        let path = if DJANGO {
            "/o/introspect/"
        } else {
            "/token/introspection"
        };
        let issuer = if DJANGO {
            format!("http://127.0.0.1:{}/o", var("DOT_PORT"))
        } else {
            format!("http://127.0.0.1:{}", var("OP_PORT"))
        };
        let kind = KindSettings::Introspection(Introspection {
            url: format!("http://{}{path}", relay.address),
            issuer: Issuer::new(&issuer),
            // Whose the tokens are: nobody else takes them back.
            client: client(if DJANGO { "proxy-ropc" } else { "svc" }),
            audiences: Vec::new(),
            cache: Duration::from_secs(30),
            stale: None,
            revoke: Some(format!("http://{}{}", relay.address, Self::REVOKE)),
        });
        let owns = Owns {
            opaque: Some(Vec::new()),
            ..Owns::default()
        };
        let subject = if DJANGO { "legacy_uid" } else { "client_id" };
        let provider = built(&real(owns, &[("subject", subject)], kind), &deps());
        Self {
            relay,
            provider,
            now: SystemClock.now(),
        }
    }

    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    fn now(&self) -> UnixTime {
        self.now
    }

    async fn arrange(&mut self, case: Case) -> Option<Credential> {
        let token = match case {
            Case::Unknown => "nobody-issued-this".to_owned(),
            _ => self.token().await,
        };
        // Both servers give their tokens five minutes.
        let end = SystemClock.now() + Duration::from_secs(300);
        match case {
            Case::Revoked => self.revoke(&token).await,
            Case::Expired | Case::LargeSkew => self.now = end + Duration::from_secs(60),
            Case::SmallSkew => self.now = end + Duration::from_secs(20),
            Case::Disabled | Case::MfaRequired => return None,
            _ => misbehave(&mut self.relay, case).await,
        }
        let token = Secret::new(token);
        Some(match case {
            Case::Foreign => Credential::Bearer(token),
            _ => Credential::Opaque(token),
        })
    }
}

/// The applications that keep sessions of their own.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Site {
    /// Sessions in SQL.
    Django,
    /// Sessions in files.
    Php,
    /// Sessions in Redis.
    Express,
}

const DJANGO: u8 = 0;
const PHP: u8 = 1;
const EXPRESS: u8 = 2;

struct Probed<const SITE: u8> {
    relay: Relay,
    provider: Arc<dyn Provider>,
}

const fn site(number: u8) -> Site {
    match number {
        DJANGO => Site::Django,
        PHP => Site::Php,
        _ => Site::Express,
    }
}

impl<const SITE: u8> Probed<SITE> {
    const fn cookie() -> &'static str {
        match site(SITE) {
            Site::Django => "sessionid",
            Site::Php => "PHPSESSID",
            Site::Express => "connect.sid",
        }
    }

    /// Signs in as a browser would, and gives the value of the session cookie.
    async fn sign_in(&self, name: &str) -> String {
        let to = self.relay.address;
        let path = match site(SITE) {
            Site::Django => "/accounts/login/",
            Site::Php | Site::Express => "/login",
        };
        let mut jar = BTreeMap::new();
        let page = ask(to, "GET", path, &[], "").await;
        keep(&page, &mut jar);
        let text = String::from_utf8_lossy(page.body()).into_owned();
        let hidden = text
            .split("name=\"csrfmiddlewaretoken\" value=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .map_or_else(String::new, |token| format!("&csrfmiddlewaretoken={token}"));
        let form = format!(
            "username={name}&password={}{hidden}",
            secret(&format!("{name}-pw"))
        );
        let line: Vec<_> = jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let answer = ask(to, "POST", path, &[("cookie", &line.join("; "))], &form).await;
        assert_eq!(answer.status(), 302, "{answer:?}");
        keep(&answer, &mut jar);
        jar.remove(Self::cookie()).unwrap()
    }

    async fn sign_out(&self, session: &str) {
        let to = self.relay.address;
        let cookie = format!("{}={session}", Self::cookie());
        match site(SITE) {
            // By POST with a token of its own; the row is what a sign-out removes.
            Site::Django => django("delete from django_session"),
            Site::Php | Site::Express => {
                let answer = ask(to, "GET", "/logout", &[("cookie", &cookie)], "").await;
                assert_eq!(answer.status(), 302);
            }
        }
    }

    /// Lets every session there end by its age.
    async fn let_sessions_end(&self) {
        match site(SITE) {
            Site::Django => django("update django_session set expire_date = '2001-01-01 00:00:00'"),
            Site::Php => {
                let directory = format!("{}/php-sessions", var("IDPS_RUN"));
                for entry in std::fs::read_dir(directory).unwrap() {
                    std::fs::remove_file(entry.unwrap().path()).unwrap();
                }
            }
            Site::Express => {
                let redis = ("127.0.0.1", port("APP_REDIS_PORT"));
                let mut redis = TcpStream::connect(redis).await.unwrap();
                redis.write_all(b"FLUSHALL\r\n").await.unwrap();
                let mut said = [0; 5];
                redis.read_exact(&mut said).await.unwrap();
                assert_eq!(&said, b"+OK\r\n");
            }
        }
    }
}

/// What an administrator of the Django site would do to its tables.
fn django(statement: &str) {
    let script = "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1], timeout=20) as db: db.execute(sys.argv[2])";
    let file = format!("{}/dot/legacy.sqlite3", var("IDPS_RUN"));
    let status = Command::new("python3")
        .args(["-c", script, &file, statement])
        .status()
        .unwrap();
    assert!(status.success(), "{statement}");
}

fn keep(answer: &Response<Bytes>, jar: &mut BTreeMap<String, String>) {
    for set in answer.headers().get_all("set-cookie") {
        let pair = set.to_str().unwrap().split(';').next().unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        jar.insert(name.to_owned(), value.to_owned());
    }
}

#[async_trait]
impl<const SITE: u8> Double for Probed<SITE> {
    // Each is its own clock; only one of the three looks at the account again, and only one wants a second factor.
    const IMPOSSIBLE: &'static [Case] = match site(SITE) {
        Site::Django => &[Case::MfaRequired, Case::SmallSkew, Case::LargeSkew],
        Site::Php => Case::ACCOUNTS_AND_CLOCKS,
        Site::Express => &[Case::Disabled, Case::SmallSkew, Case::LargeSkew],
    };

    async fn start() -> Self {
        let port = port(match site(SITE) {
            Site::Django => "DOT_PORT",
            Site::Php => "APP_PHP_PORT",
            Site::Express => "APP_EXPRESS_PORT",
        });
        let relay = Relay::to(port).await;
        let kind = KindSettings::SessionProbe(SessionProbe {
            bind: None,
            issuer: Issuer::new("https://old.example"),
            url: format!("http://{}/whoami", relay.address),
            answer: ProbeAnswer::Json,
            cache: Duration::from_secs(30),
            stale: None,
            login_path: None,
            fields: None,
            // Django signs nobody out whose form it has not made.
            logout: (site(SITE) != Site::Django).then(|| ProbeLogout {
                url: format!("http://{}/logout", relay.address),
                method: match site(SITE) {
                    Site::Php => LogoutMethod::Get,
                    Site::Django | Site::Express => LogoutMethod::Post,
                },
            }),
        });
        let owns = Owns {
            cookies: vec![Self::cookie().into()],
            ..Owns::default()
        };
        let provider = built(&real(owns, &[("subject", "uid")], kind), &deps());
        Self { relay, provider }
    }

    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    async fn arrange(&mut self, case: Case) -> Option<Credential> {
        let value = match case {
            Case::Unknown => "0123456789abcdef0123456789".to_owned(),
            Case::SmallSkew | Case::LargeSkew => return None,
            Case::Disabled if site(SITE) != Site::Django => return None,
            Case::MfaRequired if site(SITE) != Site::Express => return None,
            Case::MfaRequired => self.sign_in("grace").await,
            _ => self.sign_in("erin").await,
        };
        match case {
            Case::Revoked => self.sign_out(&value).await,
            Case::Expired => self.let_sessions_end().await,
            Case::Disabled => django("update auth_user set is_active = 0 where username = 'erin'"),
            _ => misbehave(&mut self.relay, case).await,
        }
        let value = Secret::new(value);
        Some(match case {
            Case::Foreign => Credential::Opaque(value),
            _ => Credential::Session {
                cookie: Self::cookie().into(),
                value,
            },
        })
    }
}

impl<const SITE: u8> Drop for Probed<SITE> {
    fn drop(&mut self) {
        if site(SITE) == Site::Django {
            django("update auth_user set is_active = 1 where username = 'erin'");
        }
    }
}

const PLAIN: u8 = 0;
const STARTTLS: u8 = 1;
const LDAPS: u8 = 2;

/// OpenLDAP: in cleartext on this machine, with StartTLS, and with TLS from the first byte.
struct Directory<const TLS: u8> {
    relay: Relay,
    provider: Arc<dyn Provider>,
}

#[async_trait]
impl<const TLS: u8> Double for Directory<TLS> {
    // It is its own clock, and cannot be busy before there is a TLS session.
    const IMPOSSIBLE: &'static [Case] = match TLS {
        PLAIN => &[Case::SmallSkew, Case::LargeSkew],
        _ => &[Case::Busy, Case::SmallSkew, Case::LargeSkew],
    };

    async fn start() -> Self {
        let relay = Relay::to(port(if TLS == LDAPS {
            "LDAPS_PORT"
        } else {
            "LDAP_PORT"
        }))
        .await;
        let scheme = if TLS == LDAPS { "ldaps" } else { "ldap" };
        let kind = KindSettings::Ldap(Ldap {
            issuer: Issuer::new("ldap://directory"),
            url: format!("{scheme}://{}", relay.address),
            starttls: TLS == STARTTLS,
            user_dn: "uid={username},ou=people,dc=legacy,dc=test".to_owned(),
            attributes: vec!["uid".into(), "employeeNumber".into()],
            groups: Some(LdapGroups {
                base: "ou=groups,dc=legacy,dc=test".to_owned(),
                filter: "(member={dn})".to_owned(),
                attribute: "cn".to_owned(),
            }),
            directory: Some(LdapDirectory {
                bind: None,
                base: "ou=people,dc=legacy,dc=test".to_owned(),
                filter: "(!(uid=p*))".to_owned(),
                key: "employeeNumber".to_owned(),
            }),
            cache: Duration::from_secs(30),
            pool: LdapPool::default(),
        });
        let owns = Owns {
            basic: true,
            ..Owns::default()
        };
        let claims = [("subject", "employeeNumber"), ("groups", "groups")];
        let mut settings = real(owns, &claims, kind);
        settings.client.ca = Some(format!("{}/pki/ca.crt", var("IDPS_RUN")).into());
        let provider = built(&settings, &deps());
        Self { relay, provider }
    }

    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    async fn serve(&mut self) {
        finds(&*self.provider).await;
    }

    async fn arrange(&mut self, case: Case) -> Option<Credential> {
        let name = match case {
            Case::Expired => "greta",
            Case::Revoked => "ivan",
            Case::Disabled => "dave",
            // The directory wants a new password before anything else.
            Case::MfaRequired => "heidi",
            Case::SmallSkew | Case::LargeSkew => return None,
            Case::Busy if TLS != PLAIN => return None,
            _ => "bob",
        };
        match case {
            Case::Revoked => withdraw_password("ivan").await,
            // The response to a bind (RFC 4511 §4.2.2): busy, unavailable.
            Case::Busy => self.relay.answer(bind_response(51)),
            Case::Broken => self.relay.answer(bind_response(52)),
            Case::Garbage => self.relay.answer("<html>"),
            Case::Silent => self.relay.fall_silent(),
            Case::Gone => self.relay.close().await,
            _ => {}
        }
        let password = match case {
            Case::Unknown => "wrong".to_owned(),
            _ => secret(&format!("{name}-pw")),
        };
        let password = Secret::new(password);
        Some(match case {
            Case::Foreign => Credential::Opaque(password),
            _ => Credential::Basic {
                username: name.into(),
                password,
            },
        })
    }
}

fn bind_response(code: u8) -> Vec<u8> {
    vec![0x30, 12, 2, 1, 1, 0x61, 7, 10, 1, code, 4, 0, 4, 0]
}

/// What an administrator does about a password that leaked.
async fn withdraw_password(name: &str) {
    let url = format!("ldap://127.0.0.1:{}", var("LDAP_PORT"));
    let (connection, mut ldap) = LdapConnAsync::new(&url).await.unwrap();
    tokio::spawn(async move { drop(connection.drive().await) });
    let admin = ldap
        .simple_bind("cn=admin,dc=legacy,dc=test", "admin-pw")
        .await;
    admin.unwrap().success().unwrap();
    let dn = format!("uid={name},ou=people,dc=legacy,dc=test");
    let other = std::iter::once("another").collect();
    let changed = ldap
        .modify(&dn, vec![Mod::Replace("userPassword", other)])
        .await;
    changed.unwrap().success().unwrap();
    ldap.unbind().await.unwrap();
}

#[tokio::test]
async fn openid_at_keycloak() {
    provider_contract::<Signed<true, true, false>>().await;
}

#[tokio::test]
async fn openid_at_keycloak_that_is_asked_about_tokens() {
    provider_contract::<Signed<true, true, true>>().await;
}

#[tokio::test]
async fn openid_at_oidc_provider() {
    provider_contract::<Signed<false, true, false>>().await;
}

#[tokio::test]
async fn plain_issuer_keycloak() {
    provider_contract::<Signed<true, false, false>>().await;
}

#[tokio::test]
async fn plain_issuer_oidc_provider() {
    provider_contract::<Signed<false, false, false>>().await;
}

#[tokio::test]
async fn introspection_at_django() {
    provider_contract::<Introspected<true>>().await;
}

#[tokio::test]
async fn introspection_at_oidc_provider() {
    provider_contract::<Introspected<false>>().await;
}

#[tokio::test]
async fn sessions_of_django() {
    provider_contract::<Probed<DJANGO>>().await;
}

#[tokio::test]
async fn sessions_of_php() {
    provider_contract::<Probed<PHP>>().await;
}

#[tokio::test]
async fn sessions_of_express() {
    provider_contract::<Probed<EXPRESS>>().await;
}

#[tokio::test]
async fn passwords_at_openldap() {
    provider_contract::<Directory<PLAIN>>().await;
}

#[tokio::test]
async fn passwords_at_openldap_with_starttls() {
    provider_contract::<Directory<STARTTLS>>().await;
}

#[tokio::test]
async fn passwords_at_openldap_with_tls() {
    provider_contract::<Directory<LDAPS>>().await;
}
