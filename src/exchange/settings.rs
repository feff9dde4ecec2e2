//! What the configuration says about exchanges and our signing keys: plain data.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use crate::identity::ProviderId;
use crate::identity::Template;
use crate::providers::settings::OAuthClient;
use crate::secret::Secret;
use crate::token::Algorithm;

/// One way to turn a credential into a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Settings {
    /// Its name.
    pub(crate) name: Box<str>,
    /// The provider whose tokens come out, or are stood in for: its own need no exchange.
    pub(crate) yields: Option<ProviderId>,
    /// Whether tokens of that provider pass as they were presented. Default yes.
    pub(crate) own_pass: bool,
    /// What becomes of a binding. Default: it is lost.
    pub(crate) binding: Binding,
    /// How much longer than the presented token a provider's may live by itself. Default 1 min.
    pub(crate) longer_life: Duration,
    /// The header that carries the result. Default `Authorization`.
    pub(crate) header: HeaderName,
    /// What stands before it. Default `Bearer`.
    pub(crate) scheme: Box<str>,
    /// What the result may do.
    pub(crate) scopes: ScopeRules,
    /// How.
    pub(crate) way: Way,
}

/// What becomes of the binding of a presented token (RFC 7800), which was proven here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Binding {
    /// A token that we mint says the same.
    Keep,
    /// The result is good without the key or the certificate.
    Lose,
    /// There is no result.
    Refuse,
}

/// What a result may do: never more than the credential.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ScopeRules {
    /// What is asked for, as far as the credential has it; empty: all that the credential has.
    pub(crate) grants: Vec<Box<str>>,
    /// A scope of the credential → what it is called at the target.
    pub(crate) map: Vec<(Box<str>, Box<str>)>,
    /// Scopes without rights, which a result may have besides. Default `openid`.
    pub(crate) harmless: Vec<Box<str>>,
}

/// How a token comes about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// RFC 8693 at a provider.
    TokenExchange(Remote),
    /// RFC 7523 §2.1 at a provider.
    Assertion(Remote, Box<Assertion>),
    /// We mint it.
    Mint(Box<Mint>),
}

/// A token endpoint, and what is asked for there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Remote {
    /// The provider.
    pub(crate) provider: ProviderId,
    /// Our registration; `None`: that of its logins.
    pub(crate) client: Option<OAuthClient>,
    /// Whom the result is for.
    pub(crate) audiences: Vec<Box<str>>,
    /// The same, as addresses (RFC 8707).
    pub(crate) resources: Vec<Box<str>>,
    /// Who may be in `aud` of a result besides.
    pub(crate) also: Vec<Box<str>>,
    /// How `may_act` calls us; default: our client id.
    pub(crate) actor: Option<Box<str>>,
    /// Whether a result that cannot be read is not used. Default yes.
    pub(crate) must_be_read: bool,
}

/// The assertion that we sign for a provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Assertion {
    /// `iss`.
    pub(crate) issuer: Box<str>,
    /// `aud`; `None`: the provider's issuer identifier.
    pub(crate) audience: Option<Box<str>>,
    /// `sub`.
    pub(crate) subject: Template,
    /// Its life. Default 60 s.
    pub(crate) ttl: Duration,
    /// The key, PEM; `None`: the ring.
    pub(crate) key: Option<Secret<String>>,
}

/// A token that we mint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mint {
    /// `iss`.
    pub(crate) issuer: Box<str>,
    /// `aud`.
    pub(crate) audiences: Vec<Box<str>>,
    /// `sub`. Default `{canonical}`.
    pub(crate) subject: Template,
    /// Further claims that are texts.
    pub(crate) claims: Vec<(Box<str>, Template)>,
    /// Further claims that are attributes of the person, as they are.
    pub(crate) attributes: Vec<(Box<str>, Box<str>)>,
    /// The longest life. Default 5 min.
    pub(crate) ttl: Duration,
    /// How `act` and `may_act` call us; `None`: we are not named as an actor.
    pub(crate) actor: Option<Box<str>>,
    /// Whether `act` names the client of our token endpoint that asked instead. Default no.
    pub(crate) names_client: bool,
    /// How it is written and signed.
    pub(crate) format: Format,
}

impl Mint {
    /// Whether a key of the ring signs it.
    pub(crate) const fn is_under_the_ring(&self) -> bool {
        matches!(self.format, Format::Jwt(_, None))
    }
}

/// How a minted token is written and signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    /// A JWT with this `typ`, by a key of the ring, or this one in PEM.
    Jwt(Box<str>, Option<Secret<String>>),
    /// A JWT with this `typ`, by a secret shared with the upstream (HS256): an old format.
    SharedJwt(Box<str>, Secret<Vec<u8>>),
    /// A text, a dot, and its HMAC-SHA-256 in hexadecimal: an old format.
    SignedText(Template, Secret<Vec<u8>>),
}

/// The keys that sign what we mint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ring {
    /// Default ES256.
    pub(crate) algorithm: Algorithm,
    /// How long a key signs. Default 30 d.
    pub(crate) rotate_every: Duration,
    /// How long a key is published before it signs. Default 1 h.
    pub(crate) announce: Duration,
    /// How long it stays published after. Default 25 h.
    pub(crate) overlap: Duration,
    /// Keys in PEM instead: the first signs, all are published; read again when they change.
    pub(crate) files: Vec<PathBuf>,
    /// Keys in a PKCS#11 module instead.
    pub(crate) module: Option<Module>,
}

/// Keys of a token of a PKCS#11 module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Module {
    /// Its library.
    pub(crate) library: PathBuf,
    /// The label of the token.
    pub(crate) token: Box<str>,
    /// The PIN of its user.
    pub(crate) pin: Secret<String>,
    /// The labels of the keys: the first signs, all are published.
    pub(crate) keys: Vec<Box<str>>,
}

impl Default for Ring {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3_600);
        Self {
            algorithm: Algorithm::Es256,
            rotate_every: 30 * 24 * HOUR,
            announce: HOUR,
            overlap: 25 * HOUR,
            files: Vec::new(),
            module: None,
        }
    }
}
