//! A throw-away OpenID provider for the demonstration: code flow with PKCE, ES256, a sign-in page that asks only for a name.
//!
//! It believes whoever says who they are, so it must never be reachable from anywhere but this machine.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::body::Incoming;
use serde_json::Value;
use serde_json::json;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::demo::form;
use crate::demo::people::Person;
use crate::entropy::Entropy as _;
use crate::entropy::SystemEntropy;
use crate::token::MintError;
use crate::token::SigningKey;

const CODE_LIFE: Duration = Duration::from_secs(60);
const TOKEN_LIFE: Duration = Duration::from_secs(300);
const MAX_CODES: usize = 10_000;
const MAX_FORM_BYTES: usize = 16 * 1024;

/// What the provider looks like to a person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Its name on the page.
    pub(super) title: &'static str,
    /// The colour of the page.
    pub(super) colour: &'static str,
    /// Whether its `sub` is the old user number (an old provider) or something else (a new one).
    pub(super) legacy_subjects: bool,
}

/// A provider that runs in this process.
#[derive(Debug)]
pub(super) struct DemoProvider {
    look: Look,
    issuer: String,
    client_secret: String,
    /// Each with whether it is known: after another typing error it is not.
    redirect_uris: Mutex<Vec<(String, bool)>>,
    key: SigningKey,
    codes: Mutex<HashMap<String, Pending>>,
    sign_ins: Mutex<BTreeMap<String, u64>>,
    /// By program.
    tokens: Mutex<BTreeMap<String, u64>>,
    people: Vec<Person>,
    clock: Arc<dyn Clock>,
    /// Whether our client's secret is refused, as after a typing error.
    refuses_client: AtomicBool,
}

#[derive(Debug)]
struct Pending {
    person: Person,
    nonce: String,
    challenge: String,
    expires: UnixTime,
}

/// The one client of both providers.
pub(super) const CLIENT_ID: &str = "authferry-demo";

impl DemoProvider {
    /// A provider that will answer at `address`.
    pub(super) fn new(
        look: Look,
        address: SocketAddr,
        people: Vec<Person>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, MintError> {
        Ok(Arc::new(Self {
            look,
            issuer: format!("http://{address}"),
            client_secret: SystemEntropy.token(),
            redirect_uris: Mutex::default(),
            tokens: Mutex::default(),
            key: SigningKey::generate()?,
            codes: Mutex::default(),
            sign_ins: Mutex::default(),
            people,
            clock,
            refuses_client: AtomicBool::new(false),
        }))
    }

    /// Its issuer identifier.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The client's secret, written to a file for the proxy.
    pub(super) fn client_secret(&self) -> &str {
        &self.client_secret
    }

    /// Refuses our client from here on, or takes it again: the fault of the drill.
    pub(super) fn refuse_client(&self, refuse: bool) {
        self.refuses_client.store(refuse, Ordering::Relaxed);
    }

    /// Knows no callback that begins like this from here on, or all again: whoever has one sees a page of ours and never comes back.
    pub(super) fn forget_callbacks(&self, like: Option<&str>) {
        let registered = self.redirect_uris.lock();
        let mut registered = registered.unwrap_or_else(PoisonError::into_inner);
        for (uri, known) in &mut *registered {
            *known = like.is_none_or(|like| !uri.starts_with(like));
        }
    }

    /// Registers a callback of the proxy, once its address is known.
    pub(super) fn allow_redirect(&self, uri: String) {
        let registered = self.redirect_uris.lock();
        let mut registered = registered.unwrap_or_else(PoisonError::into_inner);
        registered.push((uri, true));
    }

    /// How many programs have fetched tokens here, and how many in all.
    pub(super) fn programs(&self) -> (usize, u64) {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        (tokens.len(), tokens.values().sum())
    }

    /// How many people have signed in here, and how often in all.
    pub(super) fn seen(&self) -> (usize, u64) {
        let sign_ins = self.sign_ins.lock().unwrap_or_else(PoisonError::into_inner);
        (sign_ins.len(), sign_ins.values().sum())
    }

    /// Answers one request.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let query = form::parse(request.uri().query().unwrap_or_default());
        match path.as_str() {
            "/.well-known/openid-configuration" => json_answer(StatusCode::OK, &self.metadata()),
            "/jwks" => json_answer(StatusCode::OK, &json!({ "keys": [self.key.public_jwk()] })),
            "/authorize" => self.authorize(&query),
            "/token" => {
                let basic = request
                    .headers()
                    .get(header::AUTHORIZATION)
                    .and_then(|v| v.to_str().ok())
                    .map(str::to_owned);
                match Limited::new(request.into_body(), MAX_FORM_BYTES)
                    .collect()
                    .await
                {
                    Ok(body) => {
                        let bytes = body.to_bytes();
                        self.token(
                            basic.as_deref(),
                            &form::parse(&String::from_utf8_lossy(&bytes)),
                        )
                    }
                    Err(_) => json_answer(
                        StatusCode::BAD_REQUEST,
                        &json!({ "error": "invalid_request" }),
                    ),
                }
            }
            "/end_session" => form::redirect(
                query
                    .get("post_logout_redirect_uri")
                    .map_or("/", String::as_str),
            ),
            _ => form::page(
                StatusCode::NOT_FOUND,
                self.look.title,
                self.look.colour,
                "<p>Nothing here.</p>",
            ),
        }
    }

    fn metadata(&self) -> Value {
        let issuer = &self.issuer;
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "end_session_endpoint": format!("{issuer}/end_session"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "authorization_response_iss_parameter_supported": true,
        })
    }

    fn authorize(&self, query: &HashMap<String, String>) -> Response<Full<Bytes>> {
        let of = |name: &str| query.get(name).map_or("", String::as_str);
        let callback = of("redirect_uri");
        let registered = self.redirect_uris.lock();
        let registered = registered
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .any(|(uri, known)| uri == callback && *known);
        if of("client_id") != CLIENT_ID || !registered || of("code_challenge_method") != "S256" {
            return form::page(
                StatusCode::BAD_REQUEST,
                self.look.title,
                self.look.colour,
                "<p>This sign-in request is not valid.</p>",
            );
        }
        if of("prompt") == "none" {
            // Nobody is asked, and nobody is signed in here (OpenID Connect Core 1.0 §3.1.2.6).
            let (state, iss) = (form::encode(of("state")), form::encode(&self.issuer));
            return form::redirect(&format!(
                "{callback}?error=login_required&state={state}&iss={iss}"
            ));
        }
        let Some(person) = self.people.iter().find(|p| p.name == of("who")) else {
            return form::page(
                StatusCode::OK,
                self.look.title,
                self.look.colour,
                &form::sign_in(query, &self.people),
            );
        };
        let code = SystemEntropy.token();
        let now = self.clock.now();
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if MAX_CODES <= codes.len() {
            codes.retain(|_, pending| now < pending.expires);
        }
        codes.insert(
            code.clone(),
            Pending {
                person: person.clone(),
                nonce: of("nonce").to_owned(),
                challenge: of("code_challenge").to_owned(),
                expires: now + CODE_LIFE,
            },
        );
        drop(codes);
        *self
            .sign_ins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(person.name.clone())
            .or_default() += 1;
        let (state, iss) = (form::encode(of("state")), form::encode(&self.issuer));
        form::redirect(&format!("{callback}?code={code}&state={state}&iss={iss}"))
    }

    fn token(
        &self,
        basic: Option<&str>,
        fields: &HashMap<String, String>,
    ) -> Response<Full<Bytes>> {
        let of = |name: &str| fields.get(name).map_or("", String::as_str);
        let expected = format!("{CLIENT_ID}:{}", self.client_secret);
        let presented = basic
            .and_then(|b| b.strip_prefix("Basic "))
            .and_then(|b| base64::engine::general_purpose::STANDARD.decode(b).ok());
        let machine = presented
            .as_deref()
            .and_then(|presented| self.machine(presented));
        if let (Some(machine), "client_credentials") = (machine, of("grant_type")) {
            return self.access_token(&machine);
        }
        let refuses = self.refuses_client.load(Ordering::Relaxed);
        if refuses || presented.as_deref() != Some(expected.as_bytes()) {
            return json_answer(
                StatusCode::UNAUTHORIZED,
                &json!({ "error": "invalid_client" }),
            );
        }
        let pending = self
            .codes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(of("code"));
        let now = self.clock.now();
        let Some(pending) =
            pending.filter(|p| now < p.expires && p.challenge == s256(of("code_verifier")))
        else {
            return json_answer(
                StatusCode::BAD_REQUEST,
                &json!({ "error": "invalid_grant" }),
            );
        };
        match self.id_token(&pending, now) {
            Ok(id_token) => json_answer(
                StatusCode::OK,
                &json!({ "access_token": SystemEntropy.token(), "token_type": "Bearer", "expires_in": TOKEN_LIFE.as_secs(), "id_token": id_token }),
            ),
            Err(_) => json_answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({ "error": "server_error" }),
            ),
        }
    }

    /// A machine, or the program of a person, that shows its name and the secret of all of them.
    fn machine(&self, presented: &[u8]) -> Option<String> {
        let (name, secret) = std::str::from_utf8(presented).ok()?.split_once(':')?;
        let known = name.starts_with("batch-") || self.people.iter().any(|p| p.number == name);
        (known && secret == self.client_secret).then(|| name.to_owned())
    }

    /// An access token of a machine (RFC 6749 §4.4, RFC 9068).
    fn access_token(&self, machine: &str) -> Response<Full<Bytes>> {
        let now = self.clock.now();
        let tokens = self.tokens.lock();
        *tokens
            .unwrap_or_else(PoisonError::into_inner)
            .entry(machine.to_owned())
            .or_default() += 1;
        // The program of a person acts as that person: one account, whoever comes.
        let subject = match self.people.iter().find(|person| person.number == machine) {
            Some(person) => self.subject(&person.number),
            None => machine.to_owned(),
        };
        let claims = json!({
            "iss": self.issuer, "sub": subject, "aud": CLIENT_ID, "client_id": machine,
            "iat": now.as_secs(), "exp": (now + TOKEN_LIFE).as_secs(), "jti": SystemEntropy.token(),
            "legacy_uid": machine, "name": machine, "groups": ["batch"],
        });
        let Value::Object(members) = claims else {
            return json_answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({}));
        };
        match self.key.sign("at+jwt", &members) {
            Ok(token) => json_answer(
                StatusCode::OK,
                &json!({ "access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE.as_secs() }),
            ),
            Err(_) => json_answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({})),
        }
    }

    /// What somebody with an old user number is called here.
    fn subject(&self, number: &str) -> String {
        if self.look.legacy_subjects {
            number.to_owned()
        } else {
            format!("new-{}", s256(number))
        }
    }

    fn id_token(&self, pending: &Pending, now: UnixTime) -> Result<String, MintError> {
        let person = &pending.person;
        let subject = self.subject(&person.number);
        let claims = json!({
            "iss": self.issuer, "sub": subject, "aud": CLIENT_ID, "nonce": pending.nonce,
            "iat": now.as_secs(), "exp": (now + TOKEN_LIFE).as_secs(),
            "legacy_uid": person.number, "name": person.name, "groups": person.groups,
            "email": format!("{}@example.test", person.name), "email_verified": true,
        });
        match claims {
            Value::Object(members) => self.key.sign("JWT", &members),
            _ => Err(MintError("claims are an object".to_owned())),
        }
    }
}

fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}
