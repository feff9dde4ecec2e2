//! An OpenID provider that can be told to misbehave.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use authferry::token::SigningKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;

/// No two tokens have the same name.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A provider on a free loopback port. Its client is `authferry` with the secret `secret`.
#[derive(Clone, Debug)]
pub(crate) struct Idp(Arc<State>);

#[derive(Debug)]
struct State {
    address: SocketAddr,
    keys: Mutex<Vec<Arc<SigningKey>>>,
    hits: Mutex<BTreeMap<String, usize>>,
    codes: Mutex<HashMap<String, (String, String)>>,
    /// Refresh tokens and whose they are; taken out when they are used.
    refresh: Mutex<HashMap<String, String>>,
    reused: Mutex<usize>,
    refuses_refresh: Mutex<bool>,
    /// Who typed in the code of a device: nobody yet, somebody, or somebody who said no.
    device: Mutex<Option<Option<String>>>,
    /// What the device that asked last is for.
    resource: Mutex<Option<String>>,
    /// Whose token a refresh gives instead of the right one.
    refreshes_as: Mutex<Option<String>>,
    revoked: Mutex<Vec<String>>,
    /// How many revocations are still answered 503.
    revokes_later: Mutex<usize>,
    revokes_none: Mutex<bool>,
    opaque: Mutex<HashMap<String, Value>>,
    fault: Mutex<Option<u16>>,
    signs_in: Mutex<String>,
    remembers: Mutex<bool>,
    /// How often it had to ask somebody who they are.
    pages: Mutex<usize>,
    callbacks: Mutex<Option<Vec<String>>>,
    /// Requests that were pushed, by name; `None`: it wants none to be.
    pushed: Mutex<Option<HashMap<String, HashMap<String, String>>>>,
    date: Mutex<Option<String>>,
    exchanged: Mutex<(Value, Value)>,
    exchange_error: Mutex<Option<String>>,
    /// Whoever holds it lets no question for a token be answered.
    counter: Arc<tokio::sync::Mutex<()>>,
    /// Accounts by SCIM: the name somebody signs in with, and the password; a password with `weak` in it is refused.
    people: Mutex<BTreeMap<String, Option<String>>>,
    /// Those of them that may not be used.
    /// What its ID tokens say beside.
    says: Mutex<Map<String, Value>>,
    barred: Mutex<Vec<String>>,
}

impl Idp {
    /// Starts a provider that signs everybody in as `alice`.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idp = Self(Arc::new(State {
            address: listener.local_addr().unwrap(),
            keys: Mutex::new(vec![Arc::new(SigningKey::generate().unwrap())]),
            hits: Mutex::default(),
            codes: Mutex::default(),
            refresh: Mutex::default(),
            reused: Mutex::default(),
            refreshes_as: Mutex::default(),
            device: Mutex::default(),
            resource: Mutex::default(),
            refuses_refresh: Mutex::default(),
            revoked: Mutex::default(),
            revokes_later: Mutex::default(),
            revokes_none: Mutex::default(),
            opaque: Mutex::default(),
            fault: Mutex::default(),
            signs_in: Mutex::new("alice".to_owned()),
            remembers: Mutex::default(),
            pages: Mutex::default(),
            callbacks: Mutex::default(),
            pushed: Mutex::default(),
            date: Mutex::default(),
            exchanged: Mutex::new((json!({}), json!({}))),
            exchange_error: Mutex::default(),
            counter: Arc::default(),
            people: Mutex::default(),
            says: Mutex::default(),
            barred: Mutex::default(),
        }));
        let served = idp.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let idp = served.clone();
                let service = service_fn(move |request| {
                    let idp = idp.clone();
                    async move { Ok::<_, std::convert::Infallible>(idp.answer(request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        idp
    }

    /// The issuer identifier.
    pub(crate) fn issuer(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// The claims of a good access token for `subject`, for the audience `app`.
    pub(crate) fn claims(&self, subject: &str) -> Map<String, Value> {
        let now = now();
        let claims = json!({
            "iss": self.issuer(), "sub": subject, "aud": "app", "iat": now, "exp": now + 300, "jti": format!("{subject}-{now}-{}", COUNT.fetch_add(1, Ordering::Relaxed)),
            "client_id": "tests", "name": subject, "groups": ["users"], "uid": format!("uid-{subject}"),
        });
        let Value::Object(claims) = claims else {
            unreachable!()
        };
        claims
    }

    /// Signs claims as an access token (RFC 9068).
    pub(crate) fn sign(&self, claims: &Map<String, Value>) -> String {
        self.sign_as("at+jwt", claims)
    }

    /// Signs claims with another `typ`.
    pub(crate) fn sign_as(&self, typ: &str, claims: &Map<String, Value>) -> String {
        self.0
            .keys
            .lock()
            .unwrap()
            .last()
            .unwrap()
            .sign(typ, claims)
            .unwrap()
    }

    /// A good access token.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.sign(&self.claims(subject))
    }

    /// A logout token (OpenID Connect Back-Channel Logout 1.0 §2.4) with these members beside the usual ones.
    pub(crate) fn logout_token(&self, jti: &str, members: &Value) -> String {
        let now = now();
        let claims = json!({
            "iss": self.issuer(), "aud": "authferry", "iat": now, "exp": now + 120, "jti": jti,
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        let (Value::Object(mut claims), Value::Object(members)) = (claims, members.clone()) else {
            unreachable!()
        };
        claims.extend(members);
        self.sign_as("logout+jwt", &claims)
    }

    /// Makes an opaque token that introspection will call active.
    pub(crate) fn opaque(&self, token: &str, subject: &str) {
        let mut answer = self.claims(subject);
        answer.insert("active".to_owned(), json!(true));
        self.0
            .opaque
            .lock()
            .unwrap()
            .insert(token.to_owned(), Value::Object(answer));
    }

    /// Introspection says this of an opaque token from now on.
    pub(crate) fn opaque_says(&self, token: &str, member: &str, value: Value) {
        let mut all = self.0.opaque.lock().unwrap();
        all.get_mut(token).unwrap()[member] = value;
    }

    /// Signs with a new key from now on; the old ones are gone from the key set.
    pub(crate) fn rotate(&self) {
        *self.0.keys.lock().unwrap() = vec![Arc::new(SigningKey::generate().unwrap())];
    }

    /// Every answer is this status, or as usual again.
    pub(crate) fn fail_with(&self, status: Option<u16>) {
        *self.0.fault.lock().unwrap() = status;
    }

    /// Whether it knows the browser, and needs no page to say who sits there.
    pub(crate) fn remembers(&self, remembers: bool) {
        *self.0.remembers.lock().unwrap() = remembers;
    }

    /// How often it has shown its sign-in page.
    pub(crate) fn pages(&self) -> usize {
        *self.0.pages.lock().unwrap()
    }

    /// Who signs in next.
    pub(crate) fn signs_in(&self, name: &str) {
        *self.0.signs_in.lock().unwrap() = name.to_owned();
    }

    /// Knows these callbacks only; without a call it takes any.
    pub(crate) fn registers(&self, callbacks: &[&str]) {
        let callbacks = callbacks.iter().map(|&callback| callback.to_owned());
        *self.0.callbacks.lock().unwrap() = Some(callbacks.collect());
    }

    /// Takes no authorization request that was not pushed (RFC 9126 §5).
    pub(crate) fn requires_pushed(&self) {
        *self.0.pushed.lock().unwrap() = Some(HashMap::new());
    }

    /// What a request to begin a login says, in its address or as it was pushed; `None`: it is not taken.
    fn begins(&self, query: HashMap<String, String>) -> Option<HashMap<String, String>> {
        let mut pushed = self.0.pushed.lock().unwrap();
        let begun = match &mut *pushed {
            None => query,
            Some(pushed) => pushed.remove(query.get("request_uri")?)?,
        };
        let callbacks = self.0.callbacks.lock().unwrap();
        let known = callbacks.as_ref();
        known
            .is_none_or(|known| known.contains(&begun["redirect_uri"]))
            .then_some(begun)
    }

    /// Tokens that are given for another token, or for an assertion, differ by these claims and members of the answer.
    pub(crate) fn exchanges(&self, claims: Value, answer: Value) {
        *self.0.exchanged.lock().unwrap() = (claims, answer);
    }

    /// Gives no token for another one, with this error; with an empty one it does again.
    pub(crate) fn refuses_exchanges(&self, error: &str) {
        let error = Some(error.to_owned()).filter(|error| !error.is_empty());
        *self.0.exchange_error.lock().unwrap() = error;
    }

    /// Answers no question for a token, as long as the guard lives.
    pub(crate) async fn keeps_waiting(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.0.counter).lock_owned().await
    }

    /// RFC 8693, RFC 7523 §2.1: whoever the token or the assertion is about gets one of ours.
    fn exchange(&self, form: &HashMap<String, String>) -> Response<Full<Bytes>> {
        if let Some(error) = &*self.0.exchange_error.lock().unwrap() {
            return answer(400, &json!({ "error": error }));
        }
        let presented = form.get("subject_token").or(form.get("assertion")).unwrap();
        let payload = presented.split('.').nth(1).unwrap();
        let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
        let about: Map<String, Value> = serde_json::from_slice(&payload).unwrap();
        let uid = about.get("uid").unwrap_or(&about["sub"]).as_str().unwrap();
        let mut claims = self.claims(uid.strip_prefix("uid-").unwrap());
        let audience = form.get("audience").map_or("api", String::as_str);
        claims.insert("aud".to_owned(), json!(audience));
        let (changed, members) = self.0.exchanged.lock().unwrap().clone();
        claims.extend(changed.as_object().unwrap().clone());
        claims.retain(|_, said| !said.is_null());
        let mut body = json!({
            "access_token": self.sign(&claims), "token_type": "Bearer", "expires_in": 300,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        });
        let body = body.as_object_mut().unwrap();
        body.extend(members.as_object().unwrap().clone());
        answer(200, &Value::Object(body.clone()))
    }

    /// From now on its ID tokens say this, too.
    pub(crate) fn says(&self, name: &str, value: Value) {
        self.0.says.lock().unwrap().insert(name.to_owned(), value);
    }

    /// RFC 6749 §4.4: a token for the client itself, which differs as those of exchanges do.
    fn for_client(&self, form: &HashMap<String, String>) -> Response<Full<Bytes>> {
        if let Some(error) = &*self.0.exchange_error.lock().unwrap() {
            return answer(400, &json!({ "error": error }));
        }
        let mut claims = self.claims("service");
        // What it calls a resource it knows under that name alone (RFC 8707).
        let wanted = form.get("resource").or(form.get("audience")).unwrap();
        claims.insert("aud".to_owned(), json!(wanted));
        if let Some(scope) = form.get("scope") {
            claims.insert("scope".to_owned(), json!(scope));
        }
        let (changed, members) = self.0.exchanged.lock().unwrap().clone();
        claims.extend(changed.as_object().unwrap().clone());
        let body = json!({ "access_token": self.sign(&claims), "token_type": "Bearer", "expires_in": 300 });
        let mut body = body.as_object().unwrap().clone();
        body.extend(members.as_object().unwrap().clone());
        answer(200, &Value::Object(body))
    }

    /// Writes this `Date` instead of the real one.
    pub(crate) fn dates(&self, date: &str) {
        *self.0.date.lock().unwrap() = Some(date.to_owned());
    }

    /// The names of the accounts, and their passwords.
    pub(crate) fn people(&self) -> BTreeMap<String, Option<String>> {
        self.0.people.lock().unwrap().clone()
    }

    /// Somebody's account may not be used from now on, or may be again.
    pub(crate) fn bars(&self, name: &str, barred: bool) {
        let mut people = self.0.people.lock().unwrap();
        people.entry(name.to_owned()).or_default();
        let mut all = self.0.barred.lock().unwrap();
        all.retain(|one| one != name);
        if barred {
            all.push(name.to_owned());
        }
    }

    /// Somebody's account is gone.
    pub(crate) fn removes(&self, name: &str) {
        self.0.people.lock().unwrap().remove(name);
        self.0.barred.lock().unwrap().retain(|one| one != name);
    }

    /// Somebody chooses another password here.
    pub(crate) fn chooses(&self, name: &str, password: &str) {
        let mut people = self.0.people.lock().unwrap();
        people.insert(name.to_owned(), Some(password.to_owned()));
    }

    /// RFC 6749 §4.3.
    fn password(&self, form: &HashMap<String, String>) -> Response<Full<Bytes>> {
        let people = self.0.people.lock().unwrap();
        let right = people.get(&form["username"]).cloned().flatten();
        if right.as_ref() != Some(&form["password"]) {
            return answer(401, &json!({ "error": "invalid_grant" }));
        }
        let mut claims = self.claims(form["username"].strip_prefix("uid-").unwrap());
        claims.insert("aud".to_owned(), json!("authferry"));
        answer(
            200,
            &json!({ "id_token": self.sign_as("JWT", &claims), "access_token": "a", "token_type": "Bearer", "expires_in": 300, "refresh_token": "of a password" }),
        )
    }

    /// RFC 7644: accounts whose `externalId` is the name that they sign in with, too.
    async fn scim(
        &self,
        path: &str,
        query: &HashMap<String, String>,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        assert_eq!(request.headers()["authorization"], "Bearer secret");
        let barred = self.0.barred.lock().unwrap().clone();
        let user = |name: &str| json!({ "id": name.strip_prefix("uid-").unwrap(), "userName": name, "externalId": name, "uid": name, "active": !barred.iter().any(|one| one == name) });
        let method = request.method().clone();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut people = self.0.people.lock().unwrap();
        if method == http::Method::GET && query["filter"] == "active eq false" {
            // One to a page.
            let first: usize = query["startIndex"].parse().unwrap();
            let page = barred.iter().skip(first - 1).take(1).map(|name| user(name));
            return answer(
                200,
                &json!({ "totalResults": barred.len(), "Resources": page.collect::<Vec<_>>() }),
            );
        }
        if method == http::Method::GET {
            let asked = query["filter"].strip_prefix("externalId eq ").unwrap();
            let asked: String = serde_json::from_str(asked).unwrap();
            let found: Vec<_> = people
                .get_key_value(&asked)
                .map(|(name, _)| user(name))
                .into_iter()
                .collect();
            return answer(
                200,
                &json!({ "totalResults": found.len(), "Resources": found }),
            );
        }
        let document: Value = serde_json::from_slice(&body).unwrap();
        if method == http::Method::POST {
            let name = document["userName"].as_str().unwrap();
            assert_eq!(document["externalId"], name);
            people.insert(name.to_owned(), None);
            return answer(201, &user(name));
        }
        assert_eq!(method, http::Method::PATCH);
        let name = format!("uid-{}", path.rsplit('/').next().unwrap());
        let change = &document["Operations"][0];
        assert_eq!(
            (&change["op"], &change["path"]),
            (&json!("replace"), &json!("password"))
        );
        let password = change["value"].as_str().unwrap();
        if password.contains("weak") {
            return answer(400, &json!({ "scimType": "invalidValue" }));
        }
        people.insert(name, Some(password.to_owned()));
        answer(204, &json!({}))
    }

    /// Refuses whoever asks with a refresh token.
    pub(crate) fn refuses_refresh(&self, refuses: bool) {
        *self.0.refuses_refresh.lock().unwrap() = refuses;
    }

    /// A refresh token that somebody's client got elsewhere.
    pub(crate) fn refresh_token(&self, who: &str) -> String {
        let token = format!("elsewhere-{who}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.0
            .refresh
            .lock()
            .unwrap()
            .insert(token.clone(), who.to_owned());
        token
    }

    /// Somebody signs in with the code of a device; `None`: they say no.
    pub(crate) fn types_in(&self, who: Option<&str>) {
        *self.0.device.lock().unwrap() = Some(who.map(str::to_owned));
    }

    /// RFC 8628 §3.5.
    fn device(&self, form: &HashMap<String, String>) -> Response<Full<Bytes>> {
        let Some(typed) = self.0.device.lock().unwrap().take() else {
            return answer(400, &json!({ "error": "authorization_pending" }));
        };
        let Some(who) = typed else {
            return answer(400, &json!({ "error": "access_denied" }));
        };
        let refresh = self.refresh_token(&who);
        answer(
            200,
            &json!({ "access_token": self.access(&who, form), "token_type": "Bearer", "expires_in": 300, "refresh_token": refresh }),
        )
    }

    /// A good access token, for the resource that was asked for (RFC 8707), where a device asked for the same one before.
    fn access(&self, who: &str, form: &HashMap<String, String>) -> String {
        let mut claims = self.claims(who);
        let granted = self.0.resource.lock().unwrap();
        if let Some(resource) = form
            .get("resource")
            .filter(|own| granted.as_ref() == Some(own))
        {
            claims.insert("aud".to_owned(), json!(resource));
        }
        self.sign(&claims)
    }

    /// Mixes people up: whoever refreshes gets a token of this one.
    pub(crate) fn refreshes_as(&self, who: &str) {
        *self.0.refreshes_as.lock().unwrap() = Some(who.to_owned());
    }

    /// How often a refresh token came that had been used, or was none.
    pub(crate) fn reused(&self) -> usize {
        *self.0.reused.lock().unwrap()
    }

    /// Answers so many revocations with 503 before it takes one.
    pub(crate) fn revokes_later(&self, times: usize) {
        *self.0.revokes_later.lock().unwrap() = times;
    }

    /// Ends no refresh token from now on (RFC 7009 §2.2.1).
    pub(crate) fn revokes_none(&self) {
        *self.0.revokes_none.lock().unwrap() = true;
    }

    /// The tokens that were revoked (RFC 7009).
    pub(crate) fn revoked(&self) -> Vec<String> {
        self.0.revoked.lock().unwrap().clone()
    }

    /// How often a path was asked.
    pub(crate) fn hits(&self, path: &str) -> usize {
        self.0.hits.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = self.respond(request).await;
        if let Some(date) = &*self.0.date.lock().unwrap() {
            response.headers_mut().insert("date", date.parse().unwrap());
        }
        response
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        *self.0.hits.lock().unwrap().entry(path.clone()).or_default() += 1;
        if let Some(status) = *self.0.fault.lock().unwrap() {
            return answer(status, &json!({}));
        }
        let issuer = self.issuer();
        let mut query = pairs(request.uri().query().unwrap_or_default());
        if path == "/authorize" {
            match self.begins(query) {
                Some(begun) => query = begun,
                None => return answer(400, &json!({})),
            }
        }
        // `authferry:secret`, `svc:secret` for a client with a registration of its own, `shared:secret` for two with one.
        let known = [
            "Basic YXV0aGZlcnJ5OnNlY3JldA==",
            "Basic c3ZjOnNlY3JldA==",
            "Basic c2hhcmVkOnNlY3JldA==",
        ];
        let knows_us = request
            .headers()
            .get("authorization")
            .is_some_and(|own| known.iter().any(|known| own == known));
        match path.as_str() {
            "/.well-known/openid-configuration" => {
                let mut metadata = json!({
                    "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
                    "jwks_uri": format!("{issuer}/jwks"), "introspection_endpoint": format!("{issuer}/introspect"),
                    "end_session_endpoint": format!("{issuer}/end_session"), "revocation_endpoint": format!("{issuer}/revoke"), "device_authorization_endpoint": format!("{issuer}/device"), "code_challenge_methods_supported": ["S256"],
                    "authorization_response_iss_parameter_supported": true, "id_token_signing_alg_values_supported": ["ES256"],
                });
                if self.0.pushed.lock().unwrap().is_some() {
                    metadata["pushed_authorization_request_endpoint"] =
                        json!(format!("{issuer}/par"));
                    metadata["require_pushed_authorization_requests"] = json!(true);
                }
                answer(200, &metadata)
            }
            "/jwks" => {
                let keys: Vec<_> = self
                    .0
                    .keys
                    .lock()
                    .unwrap()
                    .iter()
                    .map(|k| k.public_jwk())
                    .collect();
                answer(200, &json!({ "keys": keys }))
            }
            "/device" => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let form = pairs(&String::from_utf8_lossy(&body));
                *self.0.resource.lock().unwrap() = form.get("resource").cloned();
                answer(
                    200,
                    &json!({ "device_code": "the provider's", "user_code": "WDJB-MJHT", "verification_uri": format!("{issuer}/type"), "expires_in": 600, "interval": 1 }),
                )
            }
            "/introspect" if !knows_us => answer(401, &json!({ "error": "invalid_client" })),
            "/par" if !knows_us => answer(401, &json!({ "error": "invalid_client" })),
            "/par" => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let form = pairs(&String::from_utf8_lossy(&body));
                let name = format!("urn:ietf:params:oauth:request_uri:{}", self.hits("/par"));
                let mut pushed = self.0.pushed.lock().unwrap();
                pushed.as_mut().unwrap().insert(name.clone(), form);
                answer(201, &json!({ "request_uri": name, "expires_in": 60 }))
            }
            "/authorize"
                if query.get("prompt").is_some_and(|prompt| prompt == "none")
                    && !*self.0.remembers.lock().unwrap() =>
            {
                let to = format!(
                    "{}?error=login_required&state={}&iss={issuer}",
                    query["redirect_uri"], query["state"]
                );
                let mut response = answer(302, &json!({}));
                response
                    .headers_mut()
                    .insert("location", to.parse().unwrap());
                response
            }
            "/authorize" => {
                let knows = *self.0.remembers.lock().unwrap();
                *self.0.pages.lock().unwrap() += usize::from(!knows);
                let code = format!("code-{}", self.hits("/authorize"));
                let who = self.0.signs_in.lock().unwrap().clone();
                self.0
                    .codes
                    .lock()
                    .unwrap()
                    .insert(code.clone(), (who, query["nonce"].clone()));
                let to = format!(
                    "{}?code={code}&state={}&iss={issuer}",
                    query["redirect_uri"], query["state"]
                );
                let mut response = answer(302, &json!({}));
                response
                    .headers_mut()
                    .insert("location", to.parse().unwrap());
                response
            }
            "/token" => {
                drop(self.0.counter.lock().await);
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let form = pairs(&String::from_utf8_lossy(&body));
                if !knows_us && !is_public(&form) {
                    return answer(401, &json!({ "error": "invalid_client" }));
                }
                if form["grant_type"] == "password" {
                    return self.password(&form);
                }
                if form["grant_type"].ends_with(":device_code") {
                    assert_eq!(form["device_code"], "the provider's");
                    return self.device(&form);
                }
                if form["grant_type"].starts_with("urn:") {
                    return self.exchange(&form);
                }
                if form["grant_type"] == "client_credentials" {
                    return self.for_client(&form);
                }
                let who = match form.get("refresh_token") {
                    Some(_) if *self.0.refuses_refresh.lock().unwrap() => None,
                    Some(token) => {
                        let known = self.0.refresh.lock().unwrap().remove(token);
                        *self.0.reused.lock().unwrap() += usize::from(known.is_none());
                        known.map(|who| (who, None))
                    }
                    None => {
                        let begun = self.0.codes.lock().unwrap().remove(&form["code"]);
                        begun.map(|(who, nonce)| (who, Some(nonce)))
                    }
                };
                let Some((who, nonce)) = who else {
                    return answer(400, &json!({ "error": "invalid_grant" }));
                };
                let told = self.0.refreshes_as.lock().unwrap().clone();
                let access = self.access(told.as_deref().unwrap_or(&who), &form);
                let mut claims = self.claims(&who);
                claims.insert("aud".to_owned(), json!("authferry"));
                claims.extend(self.0.says.lock().unwrap().clone());
                if let Some(nonce) = nonce {
                    claims.insert("nonce".to_owned(), json!(nonce));
                    claims.insert("sid".to_owned(), json!(form["code"]));
                }
                let refresh = format!("refresh-{}", self.hits("/token"));
                self.0.refresh.lock().unwrap().insert(refresh.clone(), who);
                answer(
                    200,
                    &json!({ "id_token": self.sign_as("JWT", &claims), "access_token": access, "token_type": "Bearer", "expires_in": 300, "refresh_token": refresh }),
                )
            }
            _ if path.starts_with("/scim/Users") => self.scim(&path, &query, request).await,
            "/revoke" => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let form = pairs(&String::from_utf8_lossy(&body));
                if !knows_us && !is_public(&form) {
                    return answer(401, &json!({ "error": "invalid_client" }));
                }
                if *self.0.revokes_none.lock().unwrap() {
                    return answer(400, &json!({ "error": "unsupported_token_type" }));
                }
                let mut later = self.0.revokes_later.lock().unwrap();
                if 0 < *later {
                    *later -= 1;
                    return answer(503, &json!({}));
                }
                assert!(["access_token", "refresh_token"].contains(&&*form["token_type_hint"]));
                let token = form["token"].clone();
                self.0.refresh.lock().unwrap().remove(&token);
                self.0.revoked.lock().unwrap().push(token);
                answer(200, &json!({}))
            }
            "/introspect" => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let form = pairs(&String::from_utf8_lossy(&body));
                let known = self.0.opaque.lock().unwrap().get(&form["token"]).cloned();
                answer(200, &known.unwrap_or_else(|| json!({ "active": false })))
            }
            _ => answer(404, &json!({})),
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests stand outside the program and its clock"
    )]
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Whether a registration that proves nothing asks: the one called `public`.
fn is_public(form: &HashMap<String, String>) -> bool {
    form.get("client_id").is_some_and(|id| id == "public") && !form.contains_key("client_secret")
}

fn answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    response
}

fn pairs(text: &str) -> HashMap<String, String> {
    text.split('&')
        .filter_map(|p| p.split_once('='))
        .map(|(n, v)| (n.to_owned(), decode(v)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            out.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
            rest = &rest[2..];
        } else {
            out.push(if *first == b'+' { b' ' } else { *first });
        }
    }
    String::from_utf8(out).unwrap()
}
