//! What a provider's directory knows of people who are not here: asked on the side, about somebody for whom another
//! provider has vouched.
//!
//! It must never make a proof: an entry of a directory lets nobody in. It has connections and a breaker of its own, so that
//! its trouble is nobody's who signs in.

mod keycloak;
#[cfg(feature = "ldap")]
mod ldap;
mod scim;
pub(crate) mod settings;
mod userinfo;

pub(super) use keycloak::KeycloakDirectory;
#[cfg(feature = "ldap")]
pub(super) use ldap::LdapDirectory;
pub(super) use scim::MEDIA_TYPE as SCIM_MEDIA_TYPE;
pub(super) use scim::Resource as ScimResource;
pub(super) use scim::ScimDirectory;
pub(crate) use userinfo::PLACE;
pub(super) use userinfo::UserInfoDirectory;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::UnixTime;
use crate::identity::Identity;
use crate::identity::Subject;
use crate::providers::ProviderError;

/// What holds whatever a directory of any kind answers. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(super) fn promise(answer: &crate::providers::client::Answer) {
    keycloak::promise(answer);
    scim::promise(answer);
    userinfo::promise(answer);
}

/// What a directory knows of somebody.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// Nobody goes by that.
    Nobody,
    /// Several people go by that.
    Several,
    /// One person.
    Person {
        /// As the provider would describe the person, its `claims` applied. No proof of anything.
        identity: Arc<Identity>,
        /// Whether the account may be used.
        enabled: bool,
    },
}

/// Somebody whose account may not be used.
#[derive(Clone, Debug)]
pub(crate) struct Shut {
    /// The value of the directory's key; `None`: the account has none, or several.
    pub(crate) key: Option<Box<str>>,
    /// As the provider would describe the person, without groups. No proof of anything.
    pub(crate) identity: Arc<Identity>,
}

/// A list of people that can be looked into.
#[async_trait]
pub(crate) trait Directory: fmt::Debug + Send + Sync {
    /// Looks somebody up by the value of the directory's key.
    ///
    /// # Errors
    ///
    /// An outage; a refusal when the person cannot be described, such as with more groups than are read.
    async fn find(&self, value: &str, now: UnixTime) -> Result<Known, ProviderError>;

    /// The values of the key of everybody, each once, at most `most`.
    ///
    /// # Errors
    ///
    /// An outage; a refusal when there are more: a list that is cut off looks like a list of fewer people.
    async fn everybody(&self, most: usize, now: UnixTime) -> Result<Vec<Box<str>>, ProviderError>;

    /// Everybody whose account may not be used until somebody says otherwise, at most `most`. Who cannot be described is left
    /// out: nobody comes as them.
    ///
    /// # Errors
    ///
    /// As [`Self::everybody`].
    async fn shut(&self, most: usize, now: UnixTime) -> Result<Vec<Shut>, ProviderError>;

    /// What its people have agreed to, if it says so.
    fn consents(&self) -> Option<&dyn Consents> {
        None
    }
}

/// What people have agreed to at their provider: that somebody else's applications act for them.
#[async_trait]
pub(crate) trait Consents: Send + Sync {
    /// Whether somebody has agreed to any, by what the provider itself calls them (`sub`).
    ///
    /// # Errors
    ///
    /// An outage: it is not known.
    async fn given(&self, subject: &Subject, now: UnixTime) -> Result<bool, ProviderError>;
}

/// A description, where there is one: who cannot be described is nobody who comes.
fn described(
    identity: Result<Identity, ProviderError>,
) -> Result<Option<Arc<Identity>>, ProviderError> {
    match identity {
        Ok(identity) => Ok(Some(Arc::new(identity))),
        Err(ProviderError::Rejected(_)) => Ok(None),
        Err(away @ ProviderError::Unavailable { .. }) => Err(away),
    }
}
