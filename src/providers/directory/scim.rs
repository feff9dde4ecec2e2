//! People of a provider by SCIM 2.0 (RFC 7643, RFC 7644).

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use http::StatusCode;
use http::header;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::client::Call;
use crate::providers::client::Client;
use crate::providers::client::Endpoint;
use crate::providers::directory::Directory;
use crate::providers::directory::Known;
use crate::providers::directory::Shut;
use crate::providers::directory::described;
use crate::providers::directory::settings;
use crate::providers::oauth::Form;
use crate::providers::vouch::Voucher;
use crate::telemetry::metrics::Operation;

/// Users of one answer.
const PAGE: usize = 100;
/// RFC 7644 §3.1, §8.1.
pub(in crate::providers) const MEDIA_TYPE: &str = "application/scim+json";

/// One user, as a resource.
pub(in crate::providers) type Resource = Map<String, Value>;

/// The users of one service provider.
#[derive(Debug)]
pub(in crate::providers) struct ScimDirectory {
    settings: settings::Scim,
    http: Arc<Client>,
    voucher: Voucher,
}

impl ScimDirectory {
    /// Nothing is asked yet.
    pub(in crate::providers) const fn new(
        settings: settings::Scim,
        http: Arc<Client>,
        voucher: Voucher,
    ) -> Self {
        Self {
            settings,
            http,
            voucher,
        }
    }

    /// What people are looked up by.
    pub(in crate::providers) fn key(&self) -> &str {
        &self.settings.key
    }

    /// An address of the service.
    pub(in crate::providers) fn endpoint(
        &self,
        path: &str,
        query: Form,
    ) -> Result<Endpoint, ProviderError> {
        let address = query.onto(&format!("{}{path}", self.settings.url));
        Ok(Endpoint::parse(&address).or(Err(Outage::Malformed))?)
    }

    /// Makes a call as us.
    pub(in crate::providers) async fn call<T>(
        &self,
        call: Call,
        read: impl FnOnce(Answer) -> Result<T, ProviderError> + Send,
    ) -> Result<T, ProviderError> {
        let bearer = format!("Bearer {}", self.settings.token.expose());
        let mut bearer = HeaderValue::from_str(&bearer).or(Err(Outage::Malformed))?;
        bearer.set_sensitive(true);
        self.http.sends("directory_token");
        let call = call
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
        self.http.call(&call, read).await
    }

    async fn list(&self, query: Form) -> Result<(Vec<Resource>, usize), ProviderError> {
        let call = Call::get(Operation::Directory, &self.endpoint("/Users", query)?);
        self.call(call, |answer| listed(&answer)).await
    }

    /// The users whose key has a value.
    pub(in crate::providers) async fn users_of(
        &self,
        value: &str,
    ) -> Result<Vec<Resource>, ProviderError> {
        let filter = format!("{} eq {}", self.settings.key, Value::from(value));
        let query = Form::default().with("filter", &filter).with("count", "3");
        let (mut users, _) = self.list(query).await?;
        // What comes is looked at again: a service that passes over filters must not name somebody else.
        users.retain(|user| self.key_of(user).is_some_and(|said| self.same(said, value)));
        Ok(users)
    }

    /// RFC 7643 §4.1.1: `userName` does not know small letters from capital ones, `externalId` does.
    fn same(&self, said: &str, value: &str) -> bool {
        said == value || &*self.settings.key == "userName" && said.eq_ignore_ascii_case(value)
    }

    fn key_of<'a>(&self, user: &'a Resource) -> Option<&'a str> {
        user.get(&*self.settings.key)?.as_str()
    }

    /// A user as the provider's tokens would describe them, as far as they say the same. Nobody is vouched for.
    pub(in crate::providers) fn describe(
        &self,
        user: &Resource,
    ) -> Result<Identity, ProviderError> {
        let id = user.get("id").and_then(Value::as_str);
        let id = id.ok_or(Outage::Malformed)?;
        Ok(self.voucher.describe(id, &claims(id, user)?)?)
    }

    /// Whether the account may be used (RFC 7643 §4.1.1); one that says nothing of it may.
    pub(in crate::providers) fn is_active(user: &Resource) -> Result<bool, ProviderError> {
        match user.get("active") {
            None | Some(Value::Null) => Ok(true),
            Some(Value::Bool(active)) => Ok(*active),
            Some(_) => Err(Outage::Malformed.into()),
        }
    }
}

/// RFC 7644 §3.4.2: the resources of one page, and how many there are in all.
fn listed(answer: &Answer) -> Result<(Vec<Resource>, usize), ProviderError> {
    // What is said of us is no judgement of anybody.
    if answer.status != StatusCode::OK {
        return Err(Outage::Malformed.into());
    }
    let mut document: Map<String, Value> =
        serde_json::from_slice(&answer.body).or(Err(Outage::Malformed))?;
    let total = document.get("totalResults").and_then(Value::as_u64);
    let total = total.and_then(|total| usize::try_from(total).ok());
    let users = match document.remove("Resources") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(users)) => users,
        Some(_) => return Err(Outage::Malformed.into()),
    };
    let users = users.into_iter().map(|user| match user {
        Value::Object(user) => Ok(user),
        _ => Err(ProviderError::from(Outage::Malformed)),
    });
    let users = users.collect::<Result<_, _>>()?;
    Ok((users, total.ok_or(Outage::Malformed)?))
}

/// What only the resource itself says (RFC 7643 §3.1, §4.1), and the claims that are made of it.
const OWN: [&str; 18] = [
    "id",
    "externalId",
    "userName",
    "displayName",
    "nickName",
    "profileUrl",
    "title",
    "userType",
    "preferredLanguage",
    "locale",
    "timezone",
    "sub",
    "preferred_username",
    "name",
    "given_name",
    "family_name",
    "email",
    "groups",
];

/// What extensions say under names that nothing else has: one that comes twice could speak of two things, and a person is
/// known by what is said here.
fn of_extensions(user: &Resource) -> Map<String, Value> {
    let own = || user.keys().map(String::as_str).chain(OWN);
    let taken = |name: &str| own().any(|other| other.eq_ignore_ascii_case(name));
    let extensions = user.iter().filter(|(name, _)| name.starts_with("urn:"));
    let members = extensions.filter_map(|(_, extension)| extension.as_object());
    let members: Vec<_> = members.flatten().collect();
    let alone = |name: &str| {
        let same = |(other, _): &&(&String, &Value)| other.eq_ignore_ascii_case(name);
        members.iter().filter(same).count() == 1 && !taken(name)
    };
    let simple = members
        .iter()
        .filter(|(name, value)| value.is_string() && alone(name));
    simple
        .map(|(name, value)| ((*name).clone(), (*value).clone()))
        .collect()
}

/// The claims that OpenID Connect has for what a user resource says; every simple attribute, and those of extensions, under
/// its own name.
fn claims(id: &str, user: &Resource) -> Result<ClaimMap, ProviderError> {
    let mut claims = of_extensions(user);
    for (name, value) in user {
        match value {
            Value::String(_) | Value::Number(_) => {
                claims.insert(name.clone(), value.clone());
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
        }
    }
    let mut put = |claim: &str, value: Option<&Value>| {
        if let Some(value) = value.filter(|value| value.is_string()) {
            claims.insert(claim.to_owned(), value.clone());
        }
    };
    let name = user.get("name");
    let part = |member: &str| name.and_then(|name| name.get(member));
    put("sub", Some(&Value::from(id)));
    put("preferred_username", user.get("userName"));
    put(
        "name",
        user.get("displayName").or_else(|| part("formatted")),
    );
    put("given_name", part("givenName"));
    put("family_name", part("familyName"));
    let list = |member: &str| {
        let list = user.get(member).and_then(Value::as_array);
        list.into_iter().flatten()
    };
    let primary = |item: &&Value| item.get("primary") == Some(&Value::Bool(true));
    let email = list("emails").find(primary).or(list("emails").next());
    put("email", email.and_then(|email| email.get("value")));
    // A group that cannot be read must not pass for no group.
    let groups = list("groups").map(|group| {
        let name = group.get("display").filter(|name| name.is_string());
        name.cloned().ok_or(Refusal::Policy)
    });
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    claims.insert("groups".to_owned(), Value::Array(groups));
    Ok(ClaimMap::new(claims))
}

#[async_trait]
impl Directory for ScimDirectory {
    async fn find(&self, value: &str, _now: UnixTime) -> Result<Known, ProviderError> {
        match self.users_of(value).await?.as_slice() {
            [] => Ok(Known::Nobody),
            [user] => Ok(Known::Person {
                identity: Arc::new(self.describe(user)?),
                enabled: Self::is_active(user)?,
            }),
            [..] => Ok(Known::Several),
        }
    }

    async fn everybody(&self, most: usize, _now: UnixTime) -> Result<Vec<Box<str>>, ProviderError> {
        let mut all: Vec<Box<str>> = Vec::new();
        let mut seen = 0;
        loop {
            // RFC 7644 §3.4.2.4: counted from 1.
            let query = Form::default()
                .with("startIndex", &(seen + 1).to_string())
                .with("count", &PAGE.to_string());
            let (users, total) = self.list(query).await?;
            let keys = users.iter().filter_map(|user| self.key_of(user));
            all.extend(keys.map(Box::from));
            seen += users.len();
            if most < all.len() {
                return Err(Refusal::Policy.into());
            }
            if total <= seen {
                break;
            }
            // A list that stops before its end looks like a list of fewer people.
            if users.is_empty() {
                return Err(Outage::Malformed.into());
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    async fn shut(&self, most: usize, _now: UnixTime) -> Result<Vec<Shut>, ProviderError> {
        let mut all = Vec::new();
        let mut seen = 0;
        loop {
            let query = Form::default()
                .with("filter", "active eq false")
                .with("startIndex", &(seen + 1).to_string())
                .with("count", &PAGE.to_string());
            let (users, total) = self.list(query).await?;
            for user in &users {
                // What comes is looked at again: a service that passes over filters must lock nobody out.
                if Self::is_active(user)? {
                    continue;
                }
                // Without groups: one that cannot be named must not keep somebody in.
                let mut alone = user.clone();
                alone.remove("groups");
                if let Some(identity) = described(self.describe(&alone))? {
                    let key = self.key_of(user).map(Box::from);
                    all.push(Shut { key, identity });
                }
            }
            seen += users.len();
            if most < all.len() {
                return Err(Refusal::Policy.into());
            }
            if total <= seen {
                return Ok(all);
            }
            // A list that stops before its end looks like a list of fewer people.
            if users.is_empty() {
                return Err(Outage::Malformed.into());
            }
        }
    }
}

/// A resource is about whom its `id` names, whatever else it says. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(in crate::providers) fn promise(answer: &Answer) {
    let Ok((users, _)) = listed(answer) else {
        return;
    };
    assert_eq!(answer.status, StatusCode::OK);
    for user in users {
        let active = user.get("active");
        if let Ok(active_now) = ScimDirectory::is_active(&user) {
            assert_eq!(active_now, active != Some(&Value::Bool(false)));
        }
        let Some(id) = user.get("id").and_then(Value::as_str) else {
            continue;
        };
        let Ok(said) = claims(id, &user) else {
            continue;
        };
        assert_eq!(said.text("sub"), Some(id));
        // No extension speaks under the name of something else.
        let name = user.get("userName").filter(|name| name.is_string());
        assert!(name.is_none() || said.member("preferred_username") == name);
        let groups = said.member("groups").and_then(Value::as_array);
        assert!(groups.is_some_and(|groups| groups.iter().all(Value::is_string)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_extension_says_nothing_under_a_name_that_something_else_has() {
        let user = json!({
            "id": "u-1",
            "userName": "alice",
            "badge": "7",
            "urn:example:a:2.0:User": {
                "userName": "mallory", "Badge": "666", "externalId": "x", "sub": "s", "email": "m@evil.example",
                "cost": "1", "employeeNumber": "10442",
            },
            "urn:example:b:2.0:User": { "COST": "2", "room": "3.14" },
        });
        let claims = claims("u-1", user.as_object().unwrap()).unwrap();
        let said = [
            "userName",
            "preferred_username",
            "badge",
            "sub",
            "employeeNumber",
            "room",
        ];
        let said = said.map(|name| claims.text(name));
        let expected = ["alice", "alice", "7", "u-1", "10442", "3.14"];
        assert_eq!(said, expected.map(Some));
        for name in ["Badge", "externalId", "email", "cost", "COST"] {
            assert_eq!(claims.member(name), None, "{name}");
        }
    }
}
