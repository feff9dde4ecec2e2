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

/// The answer of `explain`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Explanation {
    /// The configuration that would decide.
    pub(crate) revision: String,
    /// Who it is across providers; empty if nobody.
    #[serde(default)]
    pub(crate) subject: String,
    /// What the owner of a pasted token says about it; the rest is empty unless it is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) judged: Option<String>,
    /// The rollout; `None`: the application takes no part in one.
    pub(crate) rollout: Option<String>,
    /// The stage.
    pub(crate) stage: Option<String>,
    /// The mode.
    pub(crate) mode: Option<String>,
    /// The position of the kill switch.
    pub(crate) kill: String,
    /// `legacy` or `modern`; `None` without a rollout.
    pub(crate) arm: Option<String>,
    /// Why that arm: the word of the label `rule`.
    pub(crate) rule: Option<String>,
    /// The person's bucket, 0 to 999 999.
    pub(crate) bucket: Option<u32>,
    /// Where a new login would start.
    pub(crate) provider: String,
    /// The route that matches, and what it asks.
    pub(crate) route: Option<String>,
    /// Each class of credential of each provider, and whether it would be honoured.
    pub(crate) accepts: Vec<AcceptView>,
    /// The headers that the upstream would see.
    pub(crate) headers: Vec<HeaderView>,
    /// Each check in order, with its result, for people.
    pub(crate) steps: Vec<String>,
}

/// Whether one class of credential of one provider would be honoured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct AcceptView {
    /// The provider.
    pub(crate) provider: String,
    /// The class of credential.
    pub(crate) credential: String,
    /// `accepted`, `only_except`, `not_accepted`, `quarantined`.
    pub(crate) acceptance: String,
}

/// One header that the upstream would see.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct HeaderView {
    /// Its name.
    pub(crate) name: String,
    /// Its value; `None`: left out, or made for each request.
    pub(crate) value: Option<String>,
    /// What is made for each request and stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) made: Option<String>,
    /// Why it cannot be rendered, which denies the request.
    pub(crate) error: Option<String>,
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
    /// Sessions beside them that nobody here could read.
    #[serde(default)]
    pub(crate) unread: usize,
    /// Accounts that were linked.
    pub(crate) accounts: usize,
    /// Rollouts in which they had moved.
    pub(crate) pins: usize,
    /// Whether there may be more sessions: ask again.
    pub(crate) at_least: bool,
}

/// Whose an account is to be.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkRequest {
    /// The canonical subject.
    pub(crate) person: String,
    /// The provider of the account.
    pub(crate) provider: String,
    /// What the provider calls it (`sub`).
    pub(crate) account: String,
    /// Why; recorded.
    #[serde(default)]
    pub(crate) reason: String,
}

/// What that changed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct LinkAnswer {
    /// Another account of this provider was the person's until now, and is no longer.
    pub(crate) displaced: bool,
    /// The account was another person's until now.
    pub(crate) taken: bool,
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
