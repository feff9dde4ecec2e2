//! Who is given something else for a credential, who asked, and who is told.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use crate::clock::UnixTime;
use crate::exchange::Noted;
use crate::exchange::Token;
use crate::identity::CanonicalSubject;
use crate::identity::Confirmation;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::providers::ProviderError;
use crate::secret::Secret;

/// Somebody who was vouched for, and how.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Who.
    pub(crate) identity: Arc<Identity>,
    /// Who across providers.
    pub(crate) canonical: CanonicalSubject,
    /// What was presented.
    pub(crate) class: CredentialClass,
    /// The presented token, where there is one that can be exchanged.
    pub(crate) token: Option<Secret<String>>,
    /// A digest of the credential under a key of the process.
    pub(crate) digest: [u8; 32],
    /// When the credential ends.
    pub(crate) ends: UnixTime,
    /// The epoch of the provider that vouched.
    pub(crate) epoch: u64,
    /// What the token was bound to, where the result is to say so.
    pub(crate) confirmation: Option<Confirmation>,
    /// The end of the presented token, which what comes out may outlive by no more than the exchange says. `None`: it was no
    /// token, or whoever asked looks at it.
    pub(crate) outlived: Option<UnixTime>,
    /// Whether a client asked for just these scopes: then they are asked for at the target, not what it gives by default.
    pub(crate) narrowed: bool,
    /// The client of our token endpoint that asked, where one did.
    pub(crate) asked_by: Option<Arc<AskedBy>>,
    /// Whether the presented token was made here of another one.
    pub(crate) made: bool,
    /// Who notes what is made for an upstream.
    pub(crate) noted: Option<Arc<dyn Noted>>,
    /// Who tells how a renewal comes out.
    pub(crate) renewal: Option<Arc<dyn Renewal>>,
    /// A result of before that counts no more: another one is made in its place.
    pub(crate) over: Option<Secret<String>>,
}

/// Who tells operators what became of a question that nobody waits for.
pub(crate) trait Renewal: fmt::Debug + Send + Sync {
    /// It came to its end, at this moment's clock and as long after it began.
    fn ended(&self, answer: &Result<Token, ProviderError>, at: (Instant, UnixTime));
}

/// A client of our token endpoint: whoever exchanges there (RFC 8693 §2.1).
#[derive(Debug, Eq, Hash, PartialEq)]
pub(crate) struct AskedBy {
    /// What it is called here.
    pub(crate) id: Box<str>,
    /// The issuer identifier that calls it so.
    pub(crate) issuer: Box<str>,
    /// What the provider of the subject token calls it, where it is registered there.
    pub(crate) there: Option<Box<str>>,
}
