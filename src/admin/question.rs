//! What is asked about people and requests: of `explain`, and to forget somebody.

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::secret::Secret;

/// A question to `explain`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainRequest {
    /// The canonical subject; with `provider`, what that provider calls the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// A token instead of a subject: its owner says who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Token>,
    /// The application.
    pub(crate) app: String,
    /// The provider that is supposed to have vouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// Groups that the provider is supposed to list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
    /// The verified address that the provider is supposed to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
    /// Further claims, by our names.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub(crate) claims: serde_json::Map<String, serde_json::Value>,
    /// The path; default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// The method; default `GET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<std::net::IpAddr>,
}

/// What a page named as its reference.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReferenceRequest {
    /// The id of a request.
    pub(crate) reference: String,
}

/// Who is to be forgotten.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgetRequest {
    /// The canonical subject.
    pub(crate) subject: String,
    /// Why; recorded.
    #[serde(default)]
    pub(crate) reason: String,
}

/// What was kept of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct ForgetAnswer {
    /// Running sessions.
    pub(crate) sessions: usize,
    /// Accounts that were linked.
    pub(crate) accounts: usize,
    /// Rollouts in which they had moved.
    pub(crate) pins: usize,
    /// Whether there may be more sessions: ask again.
    pub(crate) at_least: bool,
}

/// A pasted credential: it is sent, and never printed.
#[derive(Clone, Debug)]
pub(crate) struct Token(Secret<String>);

impl Token {
    /// What was pasted.
    pub(crate) const fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// What was pasted, for its owner.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::new)
    }
}

impl ExplainRequest {
    /// Whether `subject` is what a provider calls the person, and not the canonical name.
    pub(crate) const fn subject_is_raw(&self) -> bool {
        self.provider.is_some()
    }
}
