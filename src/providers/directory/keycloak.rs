//! Keycloak's admin API: users by attribute, and their groups.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use http::Method;
use http::StatusCode;
use http::header;
use serde_json::Map;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::identity::Subject;
use crate::providers::ProviderError;
use crate::providers::TokenClient;
use crate::providers::client::Answer;
use crate::providers::client::Call;
use crate::providers::client::Client;
use crate::providers::client::Endpoint;
use crate::providers::directory::Consents;
use crate::providers::directory::Directory;
use crate::providers::directory::Known;
use crate::providers::directory::Shut;
use crate::providers::directory::described;
use crate::providers::directory::settings;
use crate::providers::oauth::Form;
use crate::providers::oauth::encoded;
use crate::providers::vouch::Voucher;
use crate::secret::Secret;
use crate::telemetry::metrics::Operation;

/// Users of one answer.
const PAGE: usize = 100;
/// Groups of a person; more are refused, because cut-off groups must never look like all groups.
const MAX_GROUPS: usize = 1_000;
/// A token that nobody bounds is asked for again so soon.
const LIFE: Duration = Duration::from_secs(60);
/// A token is not used in its last seconds.
const MARGIN: Duration = Duration::from_secs(10);

/// The users of one realm.
#[derive(Debug)]
pub(in crate::providers) struct KeycloakDirectory {
    settings: settings::Keycloak,
    tokens: TokenClient,
    http: Arc<Client>,
    voucher: Voucher,
    /// The registration by which people sign in here: that they agreed to it takes nothing from them.
    own: Option<Box<str>>,
    /// Our own token, until when.
    token: Mutex<Option<(Secret<String>, UnixTime)>>,
}

impl KeycloakDirectory {
    /// Nothing is asked yet.
    pub(in crate::providers) fn new(
        settings: settings::Keycloak,
        tokens: TokenClient,
        http: Arc<Client>,
        voucher: Voucher,
        own: Option<&str>,
    ) -> Self {
        Self {
            settings,
            tokens,
            http,
            voucher,
            own: own.map(Box::from),
            token: Mutex::default(),
        }
    }

    async fn token(&self, now: UnixTime) -> Result<Secret<String>, ProviderError> {
        let mut kept = self.token.lock().await;
        if let Some((token, until)) = &*kept
            && now + MARGIN < *until
        {
            return Ok(token.clone());
        }
        let (token, ends) = self.tokens.for_ourselves(now).await?;
        *kept = Some((token.clone(), ends.unwrap_or(now + LIFE)));
        Ok(token)
    }

    /// Our token, as a header has it.
    async fn bearer(&self, now: UnixTime) -> Result<HeaderValue, ProviderError> {
        let token = self.token(now).await?;
        let bearer = format!("Bearer {}", token.expose());
        let mut bearer = HeaderValue::from_str(&bearer).or(Err(Outage::Malformed))?;
        bearer.set_sensitive(true);
        Ok(bearer)
    }

    /// Sends a document, once, and says what `read` makes of the answer.
    pub(in crate::providers) async fn send(
        &self,
        what: (Operation, Method),
        path: &str,
        document: &Secret<String>,
        read: fn(&Answer) -> Result<(), ProviderError>,
        now: UnixTime,
    ) -> Result<(), ProviderError> {
        let address = format!("{}{path}", self.settings.url);
        let endpoint = Endpoint::parse(&address).or(Err(Outage::Malformed))?;
        let call = Call::document(what, &endpoint, "application/json", document);
        let call = call.header(header::AUTHORIZATION, self.bearer(now).await?);
        let answer = self.http.call(&call, |answer| read(&answer)).await;
        if matches!(answer, Err(ProviderError::Unavailable { .. })) {
            // It may be the token that is not taken any more.
            *self.token.lock().await = None;
        }
        answer
    }

    /// What people are looked up by.
    pub(in crate::providers) fn key(&self) -> &str {
        &self.settings.key
    }

    /// A list of documents.
    pub(in crate::providers) async fn list(
        &self,
        path: &str,
        query: Form,
        now: UnixTime,
    ) -> Result<Vec<Map<String, Value>>, ProviderError> {
        let address = query.onto(&format!("{}{path}", self.settings.url));
        let endpoint = Endpoint::parse(&address).or(Err(Outage::Malformed))?;
        let bearer = self.bearer(now).await?;
        let call = Call::get(Operation::Directory, &endpoint).header(header::AUTHORIZATION, bearer);
        let read = |answer: Answer| match answer.status {
            StatusCode::OK => {
                serde_json::from_slice(&answer.body).or(Err(Outage::Malformed.into()))
            }
            // What is said of us is no judgement of anybody.
            _ => Err(Outage::Malformed.into()),
        };
        let answer = self.http.call(&call, read).await;
        if answer.is_err() {
            // It may be the token that is not taken any more.
            *self.token.lock().await = None;
        }
        answer
    }

    /// What the key of a user says. `username` and `email` are written in small letters there.
    fn key_of<'a>(&self, user: &'a Map<String, Value>) -> Option<&'a str> {
        match &*self.settings.key {
            key @ ("username" | "email") => user.get(key)?.as_str(),
            key => match user.get("attributes")?.get(key)?.as_array()?.as_slice() {
                [one] => one.as_str(),
                _ => None,
            },
        }
    }

    /// As the realm's tokens would say it, with the mappers that a new client has.
    fn claims(user: &Map<String, Value>, groups: Vec<Value>) -> ClaimMap {
        let mut claims = Map::new();
        let attributes = user.get("attributes").and_then(Value::as_object);
        for (name, values) in attributes.into_iter().flatten() {
            let value = match values.as_array().map(Vec::as_slice) {
                Some([one]) => one.clone(),
                Some(_) | None => values.clone(),
            };
            claims.insert(name.clone(), value);
        }
        for (claim, member) in [
            ("sub", "id"),
            ("preferred_username", "username"),
            ("email", "email"),
            ("email_verified", "emailVerified"),
            ("given_name", "firstName"),
            ("family_name", "lastName"),
        ] {
            if let Some(value) = user.get(member).filter(|value| !value.is_null()) {
                claims.insert(claim.to_owned(), value.clone());
            }
        }
        let names = ["firstName", "lastName"].into_iter();
        let names = names.filter_map(|name| user.get(name).and_then(Value::as_str));
        let name = names.collect::<Vec<_>>().join(" ");
        if !name.is_empty() {
            claims.insert("name".to_owned(), name.into());
        }
        claims.insert("groups".to_owned(), Value::Array(groups));
        ClaimMap::new(claims)
    }

    /// The users whose key has a value.
    pub(in crate::providers) async fn users_of(
        &self,
        value: &str,
        now: UnixTime,
    ) -> Result<Vec<Map<String, Value>>, ProviderError> {
        let query = Form::default()
            .with("exact", "true")
            .with("briefRepresentation", "false")
            .with("max", "3");
        let small = matches!(&*self.settings.key, "username" | "email");
        let query = match &*self.settings.key {
            key @ ("username" | "email") => query.with(key, value),
            key => query.with("q", &format!("{}:{}", quoted(key), quoted(value))),
        };
        // What comes is looked at again: a search that was meant in another way must not name somebody else.
        let same = |said: &str| said == value || small && said.eq_ignore_ascii_case(value);
        let mut users = self.list("/users", query, now).await?;
        users.retain(|user| self.key_of(user).is_some_and(same));
        Ok(users)
    }

    /// A user as the realm would describe them. Nobody is vouched for.
    pub(in crate::providers) fn describe(
        &self,
        user: &Map<String, Value>,
        groups: Vec<Value>,
    ) -> Result<Identity, ProviderError> {
        let id = user.get("id").and_then(Value::as_str);
        let id = id.ok_or(Outage::Malformed)?;
        Ok(self.voucher.describe(id, &Self::claims(user, groups))?)
    }

    async fn groups(&self, id: &str, now: UnixTime) -> Result<Vec<Value>, ProviderError> {
        let most = (MAX_GROUPS + 1).to_string();
        let query = Form::default()
            .with("max", &most)
            .with("briefRepresentation", "true");
        let path = format!("/users/{}/groups", encoded(id));
        let groups = self.list(&path, query, now).await?;
        if MAX_GROUPS < groups.len() {
            return Err(Refusal::Policy.into());
        }
        let member = if self.settings.full_path {
            "path"
        } else {
            "name"
        };
        groups
            .into_iter()
            .map(|mut group| Ok(group.remove(member).ok_or(Outage::Malformed)?))
            .collect()
    }
}

/// Whether any of these is an agreement to another application than `own`. A session that outlives its page (an offline token)
/// stands in the same list, and is none.
fn has_agreed(consents: &[Map<String, Value>], own: Option<&str>) -> Result<bool, Outage> {
    let mut agreed = false;
    for consent in consents {
        let client = consent.get("clientId").and_then(Value::as_str);
        let client = client.ok_or(Outage::Malformed)?;
        let scopes = consent.get("grantedClientScopes").and_then(Value::as_array);
        let any = scopes.is_some_and(|scopes| !scopes.is_empty());
        agreed |= any && own != Some(client);
    }
    Ok(agreed)
}

#[async_trait]
impl Consents for KeycloakDirectory {
    async fn given(&self, subject: &Subject, now: UnixTime) -> Result<bool, ProviderError> {
        let path = format!("/users/{}/consents", encoded(subject.as_str()));
        let consents = self.list(&path, Form::default(), now).await?;
        Ok(has_agreed(&consents, self.own.as_deref())?)
    }
}

#[async_trait]
impl Directory for KeycloakDirectory {
    fn consents(&self) -> Option<&dyn Consents> {
        Some(self)
    }

    async fn find(&self, value: &str, now: UnixTime) -> Result<Known, ProviderError> {
        let mut users = self.users_of(value, now).await?.into_iter();
        let (user, other) = (users.next(), users.next());
        let Some(user) = user else {
            return Ok(Known::Nobody);
        };
        if other.is_some() {
            return Ok(Known::Several);
        }
        let id = user.get("id").and_then(Value::as_str);
        let groups = self.groups(id.ok_or(Outage::Malformed)?, now).await?;
        let enabled = user.get("enabled").and_then(Value::as_bool);
        Ok(Known::Person {
            identity: Arc::new(self.describe(&user, groups)?),
            enabled: enabled.ok_or(Outage::Malformed)?,
        })
    }

    async fn everybody(&self, most: usize, now: UnixTime) -> Result<Vec<Box<str>>, ProviderError> {
        let mut all: Vec<Box<str>> = Vec::new();
        let mut first = 0;
        loop {
            let query = Form::default()
                .with("first", &first.to_string())
                .with("max", &PAGE.to_string())
                .with("briefRepresentation", "false");
            let users = self.list("/users", query, now).await?;
            let keys = users.iter().filter_map(|user| self.key_of(user));
            all.extend(keys.map(Box::from));
            first += users.len();
            if most < all.len() {
                return Err(Refusal::Policy.into());
            }
            if users.len() < PAGE {
                break;
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    async fn shut(&self, most: usize, now: UnixTime) -> Result<Vec<Shut>, ProviderError> {
        let mut all = Vec::new();
        let mut first = 0;
        loop {
            let query = Form::default()
                .with("enabled", "false")
                .with("first", &first.to_string())
                .with("max", &PAGE.to_string())
                .with("briefRepresentation", "false");
            let users = self.list("/users", query, now).await?;
            for user in &users {
                // What comes is looked at again: a server that passes over the question must lock nobody out.
                let enabled = user.get("enabled").and_then(Value::as_bool);
                if enabled.ok_or(Outage::Malformed)? {
                    continue;
                }
                if let Some(identity) = described(self.describe(user, Vec::new()))? {
                    let key = self.key_of(user).map(Box::from);
                    all.push(Shut { key, identity });
                }
            }
            first += users.len();
            if most < all.len() {
                return Err(Refusal::Policy.into());
            }
            if users.len() < PAGE {
                return Ok(all);
            }
        }
    }
}

/// A word of a search, in quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A user is who their `id` says, whatever their attributes are called. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(in crate::providers) fn promise(answer: &Answer) {
    let Ok(users) = serde_json::from_slice::<Vec<Map<String, Value>>>(&answer.body) else {
        return;
    };
    // What is no list of agreements says nothing, and our own registration is never one.
    let agreed = has_agreed(&users, Some("ours"));
    let other = |user: &Map<String, Value>| {
        let client = user.get("clientId").and_then(Value::as_str);
        client.is_some_and(|client| client != "ours")
    };
    assert!(agreed != Ok(true) || users.iter().any(other));
    for user in users {
        let claims = KeycloakDirectory::claims(&user, vec!["staff".into()]);
        for (claim, member) in [
            ("sub", "id"),
            ("preferred_username", "username"),
            ("email", "email"),
        ] {
            let own = user.get(member).filter(|value| !value.is_null());
            assert!(own.is_none() || claims.member(claim) == own);
        }
        // Attributes are what people may write themselves: none of them makes a group.
        assert_eq!(claims.member("groups"), Some(&Value::from(vec!["staff"])));
    }
}
