//! Which provider a credential belongs to, within one application.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;

use crate::clock::UnixTime;
use crate::identity::Refusal;
use crate::providers::Provider;

/// The providers of one application, found by what they own. A credential of any other provider has no owner here.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// The name of our own session cookie.
    pub(super) session_cookie: Box<str>,
    issuers: HashMap<Box<str>, Arc<dyn Provider>>,
    pub(super) cookies: Vec<(Box<str>, Arc<dyn Provider>)>,
    prefixes: Vec<(Box<str>, Arc<dyn Provider>)>,
    opaque: Owner,
    basic: Owner,
    client_cert: Owner,
    pub(super) api_keys: Vec<(HeaderName, Arc<dyn Provider>)>,
    /// Who judges what we have minted ourselves, by the issuer that it names.
    own: Vec<Arc<dyn Provider>>,
}

/// Who owns a kind of credential that carries no name.
#[derive(Debug, Default)]
enum Owner {
    #[default]
    Nobody,
    One(Arc<dyn Provider>),
    Several,
}

impl Owner {
    fn add(&mut self, provider: &Arc<dyn Provider>) {
        *self = match self {
            Self::Nobody => Self::One(Arc::clone(provider)),
            Self::One(_) | Self::Several => Self::Several,
        };
    }

    const fn one(&self) -> Result<&Arc<dyn Provider>, Refusal> {
        match self {
            Self::Nobody => Err(Refusal::Unsupported),
            Self::One(provider) => Ok(provider),
            Self::Several => Err(Refusal::Ambiguous),
        }
    }
}

impl Owners {
    /// Indexes what the providers of an application own, beside tokens that we mint.
    pub(super) fn new<'a>(
        session_cookie: &str,
        providers: impl IntoIterator<Item = &'a Arc<dyn Provider>>,
        own: Vec<Arc<dyn Provider>>,
    ) -> Self {
        let mut owners = Self {
            session_cookie: session_cookie.into(),
            own,
            ..Self::default()
        };
        for provider in providers {
            let owns = provider.owns();
            for issuer in &owns.issuers {
                let issuer = issuer.as_str().into();
                owners.issuers.insert(issuer, Arc::clone(provider));
            }
            for cookie in &owns.cookies {
                owners.cookies.push((cookie.clone(), Arc::clone(provider)));
            }
            match owns.opaque.as_deref() {
                None => {}
                Some([]) => owners.opaque.add(provider),
                Some(prefixes) => {
                    for prefix in prefixes {
                        owners.prefixes.push((prefix.clone(), Arc::clone(provider)));
                    }
                }
            }
            if owns.basic {
                owners.basic.add(provider);
            }
            if owns.client_cert {
                owners.client_cert.add(provider);
            }
            if let Some(header) = &owns.api_key_header {
                owners.api_keys.push((header.clone(), Arc::clone(provider)));
            }
        }
        // The longest prefix first: `ory_at_` before `ory_`.
        owners
            .prefixes
            .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        owners
    }

    /// Whose issuer it is, byte for byte.
    pub(super) fn of_issuer(&self, issuer: &str) -> Result<&Arc<dyn Provider>, Refusal> {
        self.issuers.get(issuer).ok_or(Refusal::WrongIssuer)
    }

    /// Who judges tokens of an issuer that we mint as; `None`: nobody takes them.
    pub(super) fn of_own(&self, issuer: &str) -> Option<&Arc<dyn Provider>> {
        let is =
            |own: &&Arc<dyn Provider>| own.owns().issuers.iter().any(|one| one.as_str() == issuer);
        self.own.iter().find(is)
    }

    /// Whether anything that we mint is taken.
    pub(super) const fn take_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// Who has refused the signature of this token before, and would again.
    pub(super) fn who_refused(&self, token: &str, now: UnixTime) -> Option<&Arc<dyn Provider>> {
        self.issuers
            .iter()
            .find(|(issuer, provider)| provider.has_refused(issuer, token, now))
            .map(|(_, provider)| provider)
    }

    /// Whose prefix an opaque token begins with.
    pub(super) fn of_prefix(&self, token: &str) -> Option<&Arc<dyn Provider>> {
        self.prefixes
            .iter()
            .find(|(prefix, _)| !prefix.is_empty() && token.starts_with(&**prefix))
            .map(|(_, provider)| provider)
    }

    /// Whose opaque tokens have no prefix.
    pub(super) const fn of_opaque(&self) -> Result<&Arc<dyn Provider>, Refusal> {
        self.opaque.one()
    }

    /// Who judges passwords.
    pub(super) const fn of_basic(&self) -> Result<&Arc<dyn Provider>, Refusal> {
        self.basic.one()
    }

    /// Who judges client certificates; `None`: nobody, they are no credential here.
    pub(super) fn of_client_cert(&self) -> Option<Result<&Arc<dyn Provider>, Refusal>> {
        match &self.client_cert {
            Owner::Nobody => None,
            owner @ (Owner::One(_) | Owner::Several) => Some(owner.one()),
        }
    }

    /// Whether anybody here takes bearer tokens.
    pub(super) fn take_bearer(&self) -> bool {
        !self.issuers.is_empty()
            || self.take_own()
            || !self.prefixes.is_empty()
            || !matches!(self.opaque, Owner::Nobody)
    }

    /// Whether anybody here takes passwords.
    pub(super) const fn take_basic(&self) -> bool {
        !matches!(self.basic, Owner::Nobody)
    }
}
