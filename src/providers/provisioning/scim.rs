//! Accounts by SCIM 2.0: a user is found by a filter, made by POST, and gets a password by PATCH (RFC 7644 §3.3, §3.5.2).

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::client::Call;
use crate::providers::directory::SCIM_MEDIA_TYPE;
use crate::providers::directory::ScimDirectory;
use crate::providers::directory::ScimResource;
use crate::providers::oauth::Form;
use crate::providers::oauth::encoded;
use crate::providers::provisioning::Account;
use crate::providers::provisioning::Looked;
use crate::providers::provisioning::Newcomer;
use crate::providers::provisioning::Provisioning;
use crate::providers::provisioning::settings;
use crate::providers::provisioning::the_one;
use crate::providers::provisioning::with_password;
use crate::secret::Secret;
use crate::telemetry::metrics::Operation;

/// RFC 7643 §8.7.1.
const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

/// The accounts of one service provider.
#[derive(Debug)]
pub(in crate::providers) struct ScimAccounts {
    directory: Arc<ScimDirectory>,
    settings: settings::Provisioning,
}

impl ScimAccounts {
    /// In a directory.
    pub(in crate::providers) const fn new(
        directory: Arc<ScimDirectory>,
        settings: settings::Provisioning,
    ) -> Self {
        Self {
            directory,
            settings,
        }
    }

    fn account(&self, user: &ScimResource, made: bool) -> Result<Account, ProviderError> {
        let text = |name: &str| user.get(name).and_then(Value::as_str);
        Ok(Account {
            identity: Arc::new(self.directory.describe(user)?),
            id: text("id").ok_or(Outage::Malformed)?.into(),
            username: text("userName").ok_or(Outage::Malformed)?.into(),
            enabled: ScimDirectory::is_active(user)?,
            // RFC 7643 §4.1.1: a password is never returned.
            has_password: made.then_some(false),
            made,
        })
    }

    fn resource(&self, newcomer: Newcomer<'_>, value: &str) -> Value {
        let mut user = Map::new();
        let mut schemas = vec![Value::from(USER)];
        user.insert("userName".to_owned(), newcomer.username.into());
        user.insert("active".to_owned(), true.into());
        let own = [(self.directory.key().to_owned(), value.to_owned())];
        let more = self.settings.attributes.iter();
        let more = more.filter_map(|(theirs, ours)| {
            Some((theirs.as_ref().to_owned(), newcomer.attribute(ours)?))
        });
        for (name, value) in more.chain(own) {
            if let Some((schema, name)) = extension(&name) {
                if !schemas.iter().any(|known| known == schema) {
                    schemas.push(schema.into());
                }
                let part = user.entry(schema).or_insert_with(|| json!({}));
                if let Value::Object(part) = part {
                    part.insert(name.to_owned(), value.into());
                }
            } else if name == "emails" {
                let emails = json!([{ "value": value, "primary": true }]);
                user.insert(name, emails);
            } else if let Some((outer, inner)) = name.split_once('.') {
                let part = user.entry(outer).or_insert_with(|| json!({}));
                if let Value::Object(part) = part {
                    part.insert(inner.to_owned(), value.into());
                }
            } else {
                user.insert(name, value.into());
            }
        }
        user.insert("schemas".to_owned(), schemas.into());
        Value::Object(user)
    }
}

/// An attribute of an extension: the URN of its schema, a colon, its name (RFC 7644 §3.10).
fn extension(name: &str) -> Option<(&str, &str)> {
    name.starts_with("urn:")
        .then(|| name.rsplit_once(':'))
        .flatten()
}

/// What an answer to a change means (RFC 7644 §3.12). What is said of us is no judgement of anybody.
fn refused(answer: &Answer) -> ProviderError {
    match answer.status {
        StatusCode::BAD_REQUEST => Refusal::Policy.into(),
        StatusCode::CONFLICT => Refusal::LinkConflict.into(),
        _ => Outage::Malformed.into(),
    }
}

#[async_trait]
impl Looked for ScimAccounts {
    async fn look(&self, value: &str, _now: UnixTime) -> Result<Option<Account>, ProviderError> {
        match self.directory.users_of(value).await?.as_slice() {
            [] => Ok(None),
            [user] => self.account(user, false).map(Some),
            // Several people go by that.
            [..] => Err(Refusal::LinkConflict.into()),
        }
    }
}

#[async_trait]
impl Provisioning for ScimAccounts {
    async fn find(
        &self,
        newcomer: Newcomer<'_>,
        now: UnixTime,
    ) -> Result<Option<Account>, ProviderError> {
        the_one(self, newcomer, &self.settings, now).await
    }

    async fn create(
        &self,
        newcomer: Newcomer<'_>,
        now: UnixTime,
    ) -> Result<Account, ProviderError> {
        if !self.settings.create {
            return Err(Refusal::NoLink.into());
        }
        let value = newcomer.value(&self.settings)?;
        let document = Secret::new(self.resource(newcomer, &value).to_string());
        let endpoint = self.directory.endpoint("/Users", Form::default())?;
        let what = (Operation::Provision, Method::POST);
        let call = Call::document(what, &endpoint, SCIM_MEDIA_TYPE, &document);
        let made = self
            .directory
            .call(call, |answer| match answer.status {
                StatusCode::CREATED => {
                    let made: Option<ScimResource> = serde_json::from_slice(&answer.body).ok();
                    Ok(made)
                }
                _ => Err(refused(&answer)),
            })
            .await;
        match made {
            Ok(Some(user)) if user.contains_key("id") && user.contains_key("userName") => {
                self.account(&user, true)
            }
            // RFC 7644 §3.3 lets the answer be empty.
            Ok(_) => {
                let found = self.look(&value, now).await?.ok_or(Outage::Malformed)?;
                Ok(Account {
                    has_password: Some(false),
                    made: true,
                    ..found
                })
            }
            // Somebody else was first: another instance for the same person, or another person with this name.
            Err(ProviderError::Rejected(Refusal::LinkConflict)) => {
                let found = self.find(newcomer, now).await?;
                Ok(found.ok_or(Refusal::LinkConflict)?)
            }
            Err(error) => Err(error),
        }
    }

    async fn set_password(
        &self,
        account: &Account,
        password: &Secret<String>,
        _now: UnixTime,
    ) -> Result<(), ProviderError> {
        let before = r#"{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","path":"password","value":"#;
        let document = with_password(before, password, "}]}")?;
        let path = format!("/Users/{}", encoded(&account.id));
        let endpoint = self.directory.endpoint(&path, Form::default())?;
        let what = (Operation::Provision, Method::PATCH);
        let call = Call::document(what, &endpoint, SCIM_MEDIA_TYPE, &document);
        let read = |answer: Answer| match answer.status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(refused(&answer)),
        };
        self.directory.call(call, read).await
    }
}
