//! An OpenID provider that can be told to misbehave.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::body::Incoming;
use rustls::ServerConfig;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio::time::sleep;

use super::doubles;
use super::doubles::Body;
use super::doubles::answer;
use crate::names::Names;
use crate::tokens::Mint;
use crate::tokens::Unknown;
use crate::tokens::base64url;
use crate::tokens::unique;

/// How an endpoint misbehaves.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status.
    Status(u16),
    /// This JSON instead.
    Json(Value),
    /// Something that is no JSON.
    Html,
    /// One byte a second.
    Drip,
    /// No answer at all.
    Silence,
    /// So many bytes.
    Huge(usize),
    /// The beginning of an answer, and the end of the connection.
    Half,
    /// Zeros, packed: a thousandth of what they are.
    Bomb,
    /// 429, and when to come again.
    Later(u32),
}

/// A provider on a free loopback port, over TLS. Its client is `app` with the secret `CLIENT_SECRET`.
#[derive(Clone, Debug)]
pub(crate) struct Idp(Arc<State>);

#[derive(Debug)]
struct State {
    name: &'static str,
    mint: Mint,
    hits: Mutex<Vec<(String, Instant)>>,
    codes: Mutex<HashMap<String, Grant>>,
    /// Refresh tokens, each good once; `None`: it gives none.
    refreshes: Mutex<Option<HashMap<String, Grant>>>,
    /// The last one that it gave.
    refresh: Mutex<String>,
    opaque: Mutex<HashMap<String, Value>>,
    faults: Mutex<BTreeMap<String, Fault>>,
    keys: Mutex<Option<Vec<Value>>>,
    id_token: Mutex<Map<String, Value>>,
    metadata: Mutex<Map<String, Value>>,
    /// Users of its directory, by what they are looked up by.
    people: Mutex<HashMap<String, Value>>,
    /// Everything that it is told, from when somebody wants to know.
    heard: Mutex<Option<Vec<String>>>,
}

#[derive(Clone, Debug)]
struct Grant {
    user: String,
    nonce: String,
}

/// What our program proves to be its client with.
pub(crate) const CLIENT_SECRET: &str = "client-secret-of-the-run-0123456789";

/// Where its directory is.
pub(super) const DIRECTORY: &str = "/admin/realms/";

impl Idp {
    pub(super) fn start(
        name: &'static str,
        listener: TcpListener,
        mint: Mint,
        tls: Arc<ServerConfig>,
    ) -> Self {
        let idp = Self(Arc::new(State {
            name,
            mint,
            hits: Mutex::default(),
            codes: Mutex::default(),
            refreshes: Mutex::default(),
            refresh: Mutex::default(),
            opaque: Mutex::default(),
            faults: Mutex::default(),
            keys: Mutex::default(),
            id_token: Mutex::default(),
            metadata: Mutex::default(),
            people: Mutex::default(),
            heard: Mutex::default(),
        }));
        let served = idp.clone();
        doubles::serve(listener, Some(tls), move |request| {
            let idp = served.clone();
            async move { idp.answer(request).await }
        });
        idp
    }

    /// Listens at another address, too, with another certificate.
    pub(crate) async fn also(&self, tls: Arc<ServerConfig>) -> String {
        let (listener, name) = doubles::listen().await;
        let served = self.clone();
        doubles::serve(listener, Some(tls), move |request| {
            let idp = served.clone();
            async move { idp.answer(request).await }
        });
        name
    }

    /// The issuer identifier.
    pub(crate) fn issuer(&self) -> String {
        self.names().issuer(self.0.name)
    }

    fn names(&self) -> &Names {
        &self.0.mint.names
    }

    /// How often an endpoint was asked since `since`.
    pub(crate) fn hits(&self, endpoint: &str, since: Instant) -> Vec<Instant> {
        lock(&self.0.hits)
            .iter()
            .filter(|(name, at)| name == endpoint && since <= *at)
            .map(|(_, at)| *at)
            .collect()
    }

    /// An endpoint misbehaves from now on.
    pub(crate) fn fail(&self, endpoint: &str, fault: Fault) {
        lock(&self.0.faults).insert(endpoint.to_owned(), fault);
    }

    /// An endpoint is well again.
    pub(crate) fn heal(&self, endpoint: &str) {
        lock(&self.0.faults).remove(endpoint);
    }

    /// Publishes these keys from now on.
    pub(crate) fn publish(&self, keys: Vec<Value>) {
        *lock(&self.0.keys) = Some(keys);
    }

    /// The keys that are published.
    pub(crate) fn published(&self) -> Vec<Value> {
        let ring = &self.0.mint.ring;
        lock(&self.0.keys)
            .clone()
            .unwrap_or_else(|| match self.0.name {
                "new" => ring.new_jwks(),
                _ => ring.old.jwks(),
            })
    }

    /// Members of a token template for the ID tokens of the logins that follow.
    pub(crate) fn id_token(&self, template: Map<String, Value>) {
        *lock(&self.0.id_token) = template;
    }

    /// Members that the metadata have besides.
    pub(crate) fn metadata(&self, members: Map<String, Value>) {
        *lock(&self.0.metadata) = members;
    }

    /// Gives refresh tokens from now on.
    pub(crate) fn gives_refresh_tokens(&self) {
        *lock(&self.0.refreshes) = Some(HashMap::new());
    }

    /// The refresh token that it gave last.
    pub(crate) fn last_refresh_token(&self) -> String {
        lock(&self.0.refresh).clone()
    }

    /// Makes an opaque token that introspection answers with `answer`.
    pub(crate) fn opaque(&self, answer: Value) -> String {
        let token = format!("opq_{}", base64url(unique()));
        lock(&self.0.opaque).insert(token.clone(), answer);
        token
    }

    /// A good introspection answer.
    pub(crate) fn active(&self, user: &str) -> Value {
        let now = crate::now();
        json!({ "active": true, "iss": self.issuer(), "sub": format!("opaque-{user}"), "aud": "legacy-app", "client_id": "app",
            "token_type": "Bearer", "exp": now + 300, "iat": now, "preferred_username": user, "groups": ["users"], "scope": "read" })
    }

    /// Its directory has this user (as Keycloak's admin API would show it), who is looked up by `key`.
    pub(crate) fn person(&self, key: &str, user: Value) {
        lock(&self.0.people).insert(key.to_owned(), user);
    }

    /// Keeps what it is told from now on: request lines, fields, bodies.
    pub(crate) fn listen(&self) {
        *lock(&self.0.heard) = Some(Vec::new());
    }

    /// What it was told.
    pub(crate) fn heard(&self) -> Vec<String> {
        lock(&self.0.heard).clone().unwrap_or_default()
    }

    /// Everything as usual.
    pub(crate) fn calm(&self) {
        lock(&self.0.faults).clear();
        lock(&self.0.id_token).clear();
        lock(&self.0.metadata).clear();
        lock(&self.0.people).clear();
        *lock(&self.0.heard) = None;
        *lock(&self.0.keys) = None;
        *lock(&self.0.refreshes) = None;
    }

    /// A browser follows a redirect here and `user` signs in: where it is sent back to.
    pub(crate) fn authorize(&self, location: &str, user: &str) -> Result<String, String> {
        let at = format!("{}/authorize?", self.issuer());
        let query = location
            .strip_prefix(&at)
            .ok_or_else(|| format!("the login went to `{location}`, not to {at}…"))?;
        let query = pairs(query);
        let of = |name: &str| query.get(name).cloned().unwrap_or_default();
        let code = base64url(unique());
        let grant = Grant {
            user: user.to_owned(),
            nonce: of("nonce"),
        };
        lock(&self.0.codes).insert(code.clone(), grant);
        Ok(format!(
            "{}?code={code}&state={}&iss={}",
            of("redirect_uri"),
            encode(&of("state")),
            encode(&self.issuer())
        ))
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let endpoint = match request.uri().path() {
            "/.well-known/openid-configuration" => "discovery".to_owned(),
            path if path.starts_with(DIRECTORY) => "users".to_owned(),
            path => path.trim_start_matches('/').to_owned(),
        };
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Err(_) => String::new(),
        };
        if let Some(heard) = lock(&self.0.heard).as_mut() {
            heard.push(format!(
                "{} {} {:?} {body}",
                parts.method, parts.uri, parts.headers
            ));
        }
        lock(&self.0.hits).push((endpoint.clone(), Instant::now()));
        let fault = lock(&self.0.faults).get(&endpoint).cloned();
        if let Some(fault) = fault {
            return broken(fault).await;
        }
        let issuer = self.issuer();
        match endpoint.as_str() {
            "discovery" => {
                let mut metadata = json!({
                    "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
                    "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
                    "introspection_endpoint": format!("{issuer}/introspect"), "end_session_endpoint": format!("{issuer}/end_session"),
                    "response_types_supported": ["code"], "subject_types_supported": ["public"],
                    "code_challenge_methods_supported": ["S256"], "authorization_response_iss_parameter_supported": true,
                    "id_token_signing_alg_values_supported": ["RS256"],
                });
                if let Some(members) = metadata.as_object_mut() {
                    members.extend(lock(&self.0.metadata).clone());
                }
                answer(200, &metadata)
            }
            "jwks" => answer(200, &json!({ "keys": self.published() })),
            "token" => {
                let form = pairs(&body);
                if form
                    .get("grant_type")
                    .is_some_and(|grant| grant == "client_credentials")
                {
                    return answer(
                        200,
                        &json!({ "access_token": "our-own", "token_type": "Bearer", "expires_in": 300 }),
                    );
                }
                if let (Some(_), Some(audience)) = (form.get("subject_token"), form.get("audience"))
                {
                    // Nobody can read it, so its provider must say what it may do.
                    let kind = "urn:ietf:params:oauth:token-type:access_token";
                    return answer(
                        200,
                        &json!({ "access_token": format!("exchanged-for-{audience}"), "issued_token_type": kind, "token_type": "Bearer", "expires_in": 60, "scope": "openid" }),
                    );
                }
                let code = form.get("code").cloned().unwrap_or_default();
                let grant = match form.get("refresh_token") {
                    Some(token) => lock(&self.0.refreshes)
                        .as_mut()
                        .and_then(|all| all.remove(token)),
                    None => lock(&self.0.codes).remove(&code),
                };
                match grant.map(|grant| self.tokens(&grant)) {
                    Some(Ok(tokens)) => answer(200, &tokens),
                    Some(Err(Unknown(what))) => answer(500, &json!({ "error": what })),
                    None => answer(400, &json!({ "error": "invalid_grant" })),
                }
            }
            "introspect" => {
                let form = pairs(&body);
                let token = form.get("token").cloned().unwrap_or_default();
                let known = lock(&self.0.opaque).get(&token).cloned();
                answer(200, &known.unwrap_or_else(|| json!({ "active": false })))
            }
            "users" => answer(200, &self.users(&parts.uri)),
            _ => answer(404, &json!({})),
        }
    }

    /// Who is found in the directory, or the groups of one.
    fn users(&self, uri: &http::Uri) -> Value {
        let people = lock(&self.0.people);
        if uri.path().ends_with("/groups") {
            return json!([{ "name": "users", "path": "/users" }]);
        }
        let query = pairs(uri.query().unwrap_or_default());
        let asked = query.get("q").cloned().unwrap_or_default();
        let key = asked.rsplit(':').next().unwrap_or_default();
        let found = people.get(key.trim_matches('"'));
        json!(found.into_iter().collect::<Vec<_>>())
    }

    fn tokens(&self, grant: &Grant) -> Result<Value, Unknown> {
        let user = &grant.user;
        let groups = if user == "admin" { "admins" } else { "users" };
        let sub = if self.0.name == "old" && user == "alice" {
            crate::tokens::SUB_OLD_ALICE
        } else {
            user
        };
        let template = json!({ "base": format!("{}.id", self.0.name), "set": {
            "sub": sub, "preferred_username": user, "name": user, "email": format!("{user}@corp.test"), "groups": [groups],
            "nonce": grant.nonce, "aud": "app", "sid": "s1" }, "del": ["at_hash"] });
        let Value::Object(mut template) = template else {
            return Err(Unknown("template".to_owned()));
        };
        for (name, value) in lock(&self.0.id_token).iter() {
            match (template.get_mut(name), value) {
                (Some(Value::Object(members)), Value::Object(more)) => members.extend(more.clone()),
                (Some(Value::Array(items)), Value::Array(more)) => items.extend(more.clone()),
                _ => drop(template.insert(name.clone(), value.clone())),
            }
        }
        let access = self
            .0
            .mint
            .good(&format!("{}.access", self.0.name), &json!({ "sub": user }));
        let mut tokens = json!({ "id_token": self.0.mint.mint(&template)?, "access_token": access, "token_type": "Bearer", "expires_in": 300 });
        if let Some(all) = lock(&self.0.refreshes).as_mut() {
            let token = base64url(unique());
            tokens["refresh_token"] = json!(token);
            lock(&self.0.refresh).clone_from(&token);
            all.insert(token, grant.clone());
        }
        Ok(tokens)
    }
}

async fn broken(fault: Fault) -> Response<Body> {
    match fault {
        Fault::Status(status) => answer(status, &json!({ "error": "as told" })),
        Fault::Json(body) => answer(200, &body),
        Fault::Html => doubles::text(200, "text/html", "<html>sign in</html>"),
        Fault::Huge(bytes) => doubles::text(200, "application/json", vec![b' '; bytes]),
        Fault::Half => {
            // It says more than it sends: the server ends the connection for that.
            let first = Frame::data(Bytes::from_static(b"{\"keys\":["));
            let parts = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(first)]);
            let mut response = answer(200, &json!({}));
            *response.body_mut() = StreamBody::new(parts).boxed_unsync();
            let more = http::HeaderValue::from_static("1000");
            response.headers_mut().insert("content-length", more);
            response
        }
        Fault::Bomb => {
            let mut response = doubles::text(200, "application/json", bomb());
            let packed = http::HeaderValue::from_static("gzip");
            response.headers_mut().insert("content-encoding", packed);
            response
        }
        Fault::Later(seconds) => {
            let mut response = answer(429, &json!({}));
            let value = http::HeaderValue::from(seconds);
            response.headers_mut().insert("retry-after", value);
            response
        }
        Fault::Silence => {
            sleep(Duration::from_secs(60)).await;
            answer(504, &json!({}))
        }
        Fault::Drip => {
            let drops = futures_util::stream::unfold(0_u32, |n| async move {
                if 0 < n {
                    sleep(Duration::from_secs(1)).await;
                }
                let drop = Frame::data(Bytes::from_static(b" "));
                (n < 60).then_some((Ok::<_, std::convert::Infallible>(drop), n + 1))
            });
            let mut response = answer(200, &json!({}));
            *response.body_mut() = StreamBody::new(drops).boxed_unsync();
            response
        }
    }
}

/// A gibibyte of zeros: what is packed may be a sequence of packed parts (RFC 1952 §2.2).
fn bomb() -> Vec<u8> {
    let packed = std::process::Command::new("sh")
        .args(["-c", "head -c 16777216 /dev/zero | gzip -9"])
        .output();
    packed.map_or_else(|_| Vec::new(), |packed| packed.stdout.repeat(64))
}

/// A query or form.
pub(crate) fn pairs(text: &str) -> HashMap<String, String> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let hex: String = bytes.by_ref().take(2).map(char::from).collect();
                out.push(u8::from_str_radix(&hex, 16).unwrap_or(b'?'));
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}
