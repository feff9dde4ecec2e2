//! Never wider than what was presented.

use tracing::warn;

use crate::exchange::Subject;
use crate::exchange::settings::ScopeRules;
use crate::identity::CredentialClass;
use crate::identity::Refusal;

/// What one exchange may ask for and take.
#[derive(Debug)]
pub(super) struct Narrowed {
    /// What is asked for; empty: nothing in particular.
    pub(super) asked: Vec<Box<str>>,
    /// The most that the result may have; `None`: the credential says nothing about scopes.
    most: Option<Vec<Box<str>>>,
    /// What the roles of a person may do whose credential has no scopes of its own.
    of_roles: Vec<Box<str>>,
}

/// The scopes of an exchange for `subject`.
///
/// # Errors
///
/// When nothing of what the rules grant is left.
pub(super) fn narrow(rules: &ScopeRules, subject: &Subject) -> Result<Narrowed, Refusal> {
    let translate = |scope: &str| {
        let mapped = rules.map.iter().find(|(from, _)| **from == *scope);
        mapped.map_or_else(|| Box::from(scope), |(_, to)| to.clone())
    };
    let has: Vec<Box<str>> = subject
        .identity
        .scopes
        .iter()
        .map(|scope| translate(scope))
        .collect();
    match subject.class {
        CredentialClass::Bearer | CredentialClass::Opaque | CredentialClass::Refresh => {
            let granted = rules.grants.iter().filter(|scope| has.contains(scope));
            let asked: Vec<_> = if subject.narrowed && rules.grants.is_empty() {
                has.clone()
            } else {
                granted.cloned().collect()
            };
            if asked.is_empty() && !rules.grants.is_empty() {
                return Err(Refusal::ExchangeRefused);
            }
            let most = if rules.grants.is_empty() {
                has
            } else {
                asked.clone()
            };
            Ok(Narrowed {
                asked,
                most: Some([most, rules.harmless.clone()].concat()),
                of_roles: Vec::new(),
            })
        }
        // The person's own credential: it has no scopes, and what an application may do with it is the operator's word.
        CredentialClass::Session
        | CredentialClass::Basic
        | CredentialClass::ApiKey
        | CredentialClass::ClientCert => Ok(Narrowed {
            asked: rules.grants.clone(),
            most: (!rules.grants.is_empty())
                .then(|| [rules.grants.clone(), rules.harmless.clone()].concat()),
            of_roles: has,
        }),
    }
}

impl Narrowed {
    /// What a token that we mint says: all that it may have, without what has no rights.
    pub(super) fn minted(&self, rules: &ScopeRules) -> Vec<Box<str>> {
        if !self.asked.is_empty() {
            return self.asked.clone();
        }
        let most = self.most.as_ref().unwrap_or(&self.of_roles);
        most.iter()
            .filter(|scope| !rules.harmless.contains(scope))
            .cloned()
            .collect()
    }

    /// Whether a result of which nobody says what it may do could do more than it may.
    pub(super) const fn is_boundless(&self) -> bool {
        self.asked.is_empty() && self.most.is_some()
    }

    /// Whether a result has nothing beyond.
    ///
    /// # Errors
    ///
    /// When it has.
    pub(super) fn check(&self, result: &[Box<str>]) -> Result<(), Refusal> {
        let Some(most) = &self.most else {
            return Ok(());
        };
        match result.iter().find(|scope| !most.contains(scope)) {
            None => Ok(()),
            Some(scope) => {
                warn!(
                    scope = &**scope,
                    "An exchanged token can do more than the one presented; it is not used."
                );
                Err(Refusal::ExchangeRefused)
            }
        }
    }
}
