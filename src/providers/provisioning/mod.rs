//! How a provider takes in people who come from elsewhere: an account, the password that another provider has found good,
//! and from then on its own judgement of that password.
//!
//! It must never be asked about anybody for whom nobody has vouched, never keep or print a password, and never change one
//! that somebody has chosen at this provider.

mod keycloak;
mod scim;
pub(crate) mod settings;

pub(super) use keycloak::KeycloakAccounts;
pub(super) use scim::ScimAccounts;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::ProviderError;
use crate::secret::Secret;

/// Somebody for whom another provider has just vouched.
#[derive(Clone, Copy)]
pub(crate) struct Newcomer<'a> {
    /// The name that they sign in with there.
    pub(crate) username: &'a str,
    /// Who they are there.
    pub(crate) identity: &'a Identity,
}

impl Newcomer<'_> {
    /// One of their attributes, as a text. Numbers are as good a name as texts.
    fn attribute(&self, name: &str) -> Option<String> {
        let Some(value) = self.identity.attributes.member(name) else {
            let own = self.identity.key.subject.as_str();
            return (name == "subject").then(|| own.to_owned());
        };
        let found = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_u64() => number.to_string(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => {
                return None;
            }
        };
        Some(found).filter(|text| !text.is_empty())
    }

    /// What they are called there, spelled as people are named here.
    ///
    /// # Errors
    ///
    /// When nothing is known of them by which they could be found.
    fn value(&self, settings: &settings::Provisioning) -> Result<String, ProviderError> {
        let value = self.attribute(&settings.by).ok_or(Refusal::NoLink)?;
        let ways = settings.normalise.iter();
        let value = ways.fold(Cow::from(value), |text, way| way.apply(text));
        if value.is_empty() {
            return Err(Refusal::NoLink.into());
        }
        Ok(value.into_owned())
    }

    /// What they are looked up by: the same, and as the other provider spells it, so that nobody gets a second account because
    /// of a zero.
    ///
    /// # Errors
    ///
    /// As [`Self::value`].
    fn values_of(&self, settings: &settings::Provisioning) -> Result<Vec<String>, ProviderError> {
        let mut values = vec![self.value(settings)?];
        let raw = self.attribute(&settings.by);
        values.extend(raw.filter(|raw| !values.contains(raw)));
        Ok(values)
    }
}

/// An account at the provider.
#[derive(Clone)]
pub(crate) struct Account {
    /// As the provider would describe its holder. No proof of anything.
    pub(crate) identity: Arc<Identity>,
    /// What the provider calls it, where it is changed.
    id: Box<str>,
    /// The name that its holder signs in with.
    pub(crate) username: Box<str>,
    /// Whether it may be used.
    pub(crate) enabled: bool,
    /// Whether it has a password; `None`: the provider does not say.
    pub(crate) has_password: Option<bool>,
    /// Whether it was made just now.
    pub(crate) made: bool,
}

#[cfg(test)]
impl Account {
    /// An account for tests of other modules: whether it may be used, has a password, and was made just now.
    pub(crate) fn for_test(
        identity: Arc<Identity>,
        username: &str,
        (enabled, has_password, made): (bool, Option<bool>, bool),
    ) -> Self {
        Self {
            id: username.into(),
            identity,
            username: username.into(),
            enabled,
            has_password,
            made,
        }
    }
}

/// It names a person.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account")
    }
}

/// Accounts of people who come from elsewhere. Doing anything of it once more does no harm.
#[async_trait]
pub(crate) trait Provisioning: fmt::Debug + Send + Sync {
    /// The account of a newcomer, if there is one.
    ///
    /// # Errors
    ///
    /// A refusal when it is not one account, or nothing is known by which it could be found.
    async fn find(
        &self,
        newcomer: Newcomer<'_>,
        now: UnixTime,
    ) -> Result<Option<Account>, ProviderError>;

    /// Makes the account of a newcomer who has none. It has no password yet.
    ///
    /// # Errors
    ///
    /// A refusal when the provider, or the configuration, wants no such account.
    async fn create(&self, newcomer: Newcomer<'_>, now: UnixTime)
    -> Result<Account, ProviderError>;

    /// Sets the password of an account.
    ///
    /// # Errors
    ///
    /// A refusal when the provider's policy does not take it.
    async fn set_password(
        &self,
        account: &Account,
        password: &Secret<String>,
        now: UnixTime,
    ) -> Result<(), ProviderError>;
}

/// Where accounts are looked up one value at a time.
#[async_trait]
trait Looked: Sync {
    /// The account that goes by a value.
    async fn look(&self, value: &str, now: UnixTime) -> Result<Option<Account>, ProviderError>;
}

/// The one account that a newcomer goes by, however they are spelled.
async fn the_one(
    accounts: &impl Looked,
    newcomer: Newcomer<'_>,
    settings: &settings::Provisioning,
    now: UnixTime,
) -> Result<Option<Account>, ProviderError> {
    let mut found: Option<Account> = None;
    for value in newcomer.values_of(settings)? {
        match (accounts.look(&value, now).await?, &found) {
            (Some(account), Some(other)) if account.id != other.id => {
                return Err(Refusal::LinkConflict.into());
            }
            (Some(account), None) => found = Some(account),
            (Some(_), Some(_)) | (None, _) => {}
        }
    }
    Ok(found)
}

/// A document with a password in it, of which no copy is left behind.
fn with_password(
    before: &str,
    password: &Secret<String>,
    after: &str,
) -> Result<Secret<String>, Outage> {
    let value = serde_json::to_string(password.expose()).or(Err(Outage::Malformed))?;
    let value = Secret::new(value);
    // As long as it will be, so that it is not moved while it grows.
    let mut body = String::with_capacity(before.len() + value.expose().len() + after.len());
    body.push_str(before);
    body.push_str(value.expose());
    body.push_str(after);
    Ok(Secret::new(body))
}

/// A provider's own judgement of a password that was presented to us.
#[async_trait]
pub(crate) trait Passwords: fmt::Debug + Send + Sync {
    /// Whether it is the password of the account with this name.
    ///
    /// # Errors
    ///
    /// As [`crate::providers::Provider::authenticate`].
    async fn check(
        &self,
        username: &str,
        password: &Secret<String>,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError>;
}

#[cfg(test)]
mod tests;
