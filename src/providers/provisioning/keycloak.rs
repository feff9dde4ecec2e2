//! Accounts by Keycloak's admin API: `users`, and their `reset-password`.

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tracing::warn;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::directory::KeycloakDirectory;
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

/// The accounts of one realm.
#[derive(Debug)]
pub(in crate::providers) struct KeycloakAccounts {
    directory: Arc<KeycloakDirectory>,
    settings: settings::Provisioning,
}

impl KeycloakAccounts {
    /// In the realm of a directory.
    pub(in crate::providers) const fn new(
        directory: Arc<KeycloakDirectory>,
        settings: settings::Provisioning,
    ) -> Self {
        Self {
            directory,
            settings,
        }
    }

    async fn account(
        &self,
        user: &Map<String, Value>,
        made: bool,
        now: UnixTime,
    ) -> Result<Account, ProviderError> {
        let text = |name: &str| user.get(name).and_then(Value::as_str);
        let (id, username) = (text("id"), text("username"));
        let id = id.ok_or(Outage::Malformed)?;
        let enabled = user.get("enabled").and_then(Value::as_bool);
        // A federated directory keeps the password: the realm lists none, and would write a new one through to it.
        let federated = text("federationLink").is_some();
        let has_password = if made || federated {
            federated
        } else {
            let path = format!("/users/{}/credentials", encoded(id));
            let credentials = self.directory.list(&path, Form::default(), now).await?;
            let kinds = credentials.iter().map(|one| one.get("type"));
            kinds.flatten().any(|kind| kind == "password")
        };
        Ok(Account {
            // Nobody is let in by it: groups are not asked for.
            identity: Arc::new(self.directory.describe(user, Vec::new())?),
            id: id.into(),
            username: username.ok_or(Outage::Malformed)?.into(),
            enabled: enabled.ok_or(Outage::Malformed)?,
            has_password: Some(has_password),
            made,
        })
    }

    async fn by_key(
        &self,
        value: &str,
        made: bool,
        now: UnixTime,
    ) -> Result<Option<Account>, ProviderError> {
        match self.directory.users_of(value, now).await?.as_slice() {
            [] => Ok(None),
            [user] => self.account(user, made, now).await.map(Some),
            // Several people go by that.
            [..] => Err(Refusal::LinkConflict.into()),
        }
    }

    fn representation(&self, newcomer: Newcomer<'_>, value: &str) -> Value {
        let mut user = Map::new();
        let mut attributes = Map::new();
        let mut proven = false;
        let mut put = |name: &str, value: String| match name {
            "username" | "email" | "firstName" | "lastName" => {
                user.insert(name.to_owned(), value.into());
            }
            name => {
                attributes.insert(name.to_owned(), json!([value]));
            }
        };
        put("username", newcomer.username.to_owned());
        put(self.directory.key(), value.to_owned());
        for (theirs, ours) in &self.settings.attributes {
            if let Some(value) = newcomer.attribute(ours) {
                put(theirs, value);
                // An address that nobody answers for is no attribute `email` of ours.
                proven |= &**theirs == "email" && &**ours == "email";
            }
        }
        user.insert("emailVerified".to_owned(), proven.into());
        user.insert("enabled".to_owned(), true.into());
        user.insert("attributes".to_owned(), attributes.into());
        Value::Object(user)
    }
}

/// What an answer to a change means. What is said of us is no judgement of anybody.
fn changed(answer: &Answer) -> Result<(), ProviderError> {
    match answer.status {
        StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
        // The policy for passwords, or for what people are like.
        StatusCode::BAD_REQUEST => Err(Refusal::Policy.into()),
        StatusCode::CONFLICT => Err(Refusal::LinkConflict.into()),
        _ => Err(Outage::Malformed.into()),
    }
}

#[async_trait]
impl Looked for KeycloakAccounts {
    async fn look(&self, value: &str, now: UnixTime) -> Result<Option<Account>, ProviderError> {
        self.by_key(value, false, now).await
    }
}

#[async_trait]
impl Provisioning for KeycloakAccounts {
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
        let body = self.representation(newcomer, &value);
        let sent = self
            .directory
            .send(
                (Operation::Provision, Method::POST),
                "/users",
                &Secret::new(body.to_string()),
                changed,
                now,
            )
            .await;
        let made = match sent {
            Ok(()) => true,
            // Somebody else was first: another instance for the same person, or another person with this name.
            Err(ProviderError::Rejected(Refusal::LinkConflict)) => false,
            Err(error) => return Err(error),
        };
        match self.by_key(&value, made, now).await? {
            Some(account) => Ok(account),
            None if made => {
                warn!(
                    key = self.directory.key(),
                    "A new account is not found by the key that it was made with: does the realm keep such an attribute?"
                );
                Err(Outage::Malformed.into())
            }
            None => Err(Refusal::LinkConflict.into()),
        }
    }

    async fn set_password(
        &self,
        account: &Account,
        password: &Secret<String>,
        now: UnixTime,
    ) -> Result<(), ProviderError> {
        let body = with_password(
            r#"{"type":"password","temporary":false,"value":"#,
            password,
            "}",
        )?;
        let path = format!("/users/{}/reset-password", encoded(&account.id));
        let what = (Operation::Provision, Method::PUT);
        self.directory.send(what, &path, &body, changed, now).await
    }
}
