//! One revocation, and how it is written: what enforces it stands in the clear as digests, who and why is sealed.
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity::CanonicalSubject;
use crate::identity::Issuer;
use crate::identity::Mark;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::identity::TokenId;
use crate::revocation::denials::Said;
pub(super) use crate::revocation::hex::from_hex;
pub(super) use crate::revocation::hex::hex;
use crate::revocation::index::Entry;
use crate::session::KeyRing;
use crate::session::Purpose;
use crate::store::StoreError;
use crate::telemetry::metrics::RevocationSource;

/// The layout of a row.
const VERSION: u8 = 1;

/// The name of a revocation: 128 random bits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct RevocationId([u8; 16]);

impl RevocationId {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self(bytes)
    }

    /// Of what is always the same one.
    pub(super) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads 32 hex digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }

    /// The key of its row.
    pub(super) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why it was revoked; also the label.
pub(crate) type Source = RevocationSource;

/// What is revoked, in words that an operator uses.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Target {
    /// Everything of one person, whoever vouched: the canonical subject.
    Subject {
        /// The canonical subject.
        subject: String,
    },
    /// Everything of one account of one issuer.
    Account {
        /// Who issued the name.
        issuer: String,
        /// The name.
        subject: String,
    },
    /// One session of ours, by the hex digest that lists show.
    Session {
        /// SHA-256 of what the cookie holds, in hex.
        session: String,
    },
    /// One session at an issuer (`sid`), and all that was issued in it.
    ProviderSession {
        /// The issuer.
        issuer: String,
        /// Its `sid`.
        sid: String,
    },
    /// Everything that one client of a provider holds.
    Client {
        /// The provider.
        provider: String,
        /// Its client.
        client: String,
    },
    /// Everything that a provider vouched for.
    Provider {
        /// The provider.
        provider: String,
    },
    /// Everything that one key of a provider signed.
    Key {
        /// The provider.
        provider: String,
        /// The `kid`.
        key: String,
    },
    /// One token: by its `jti`.
    Token {
        /// The issuer.
        issuer: String,
        /// Its `jti`.
        jti: String,
    },
    /// One token without a `jti`: by the hex SHA-256 of its payload part, or of an opaque token.
    TokenDigest {
        /// The issuer.
        issuer: String,
        /// In hex.
        digest: String,
    },
}

/// How far a revocation reaches into time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reach {
    /// To what began until now: who signs in again is in again.
    Earlier,
    /// To the thing itself, whenever it began: it never comes back.
    Whole,
}

impl Target {
    /// How far it reaches: a session, a key and a token are things that do not begin anew.
    pub(crate) const fn reach(&self) -> Reach {
        match self {
            Self::Subject { .. }
            | Self::Account { .. }
            | Self::ProviderSession { .. }
            | Self::Client { .. }
            | Self::Provider { .. } => Reach::Earlier,
            Self::Session { .. }
            | Self::Key { .. }
            | Self::Token { .. }
            | Self::TokenDigest { .. } => Reach::Whole,
        }
    }

    /// The mark.
    ///
    /// # Errors
    ///
    /// In words, when it names what cannot exist.
    pub(crate) fn mark(&self) -> Result<Mark, String> {
        Ok(match self {
            Self::Subject { subject } => Mark::person(&person(subject)?),
            Self::Account { issuer, subject } => Mark::account(&SubjectKey {
                issuer: Issuer::new(issuer),
                subject: Subject::try_from(subject.as_str()).map_err(|error| error.to_string())?,
            }),
            Self::Session { session } => Mark::session(
                &from_hex(session)
                    .ok_or("a session is named by 64 hex digits, as lists show it")?,
            ),
            Self::ProviderSession { issuer, sid } => Mark::sid(issuer, sid),
            Self::Client { provider, client } => Mark::client(&ProviderId::new(provider), client),
            Self::Provider { provider } => Mark::provider(&ProviderId::new(provider)),
            Self::Key { provider, key } => Mark::key(&ProviderId::new(provider), key),
            Self::Token { issuer, jti } => {
                Mark::token(issuer, &TokenId::Named(jti.as_str().into()))
            }
            Self::TokenDigest { issuer, digest } => Mark::token(
                issuer,
                &TokenId::Digest(from_hex(digest).ok_or("a digest has 64 hex digits")?),
            ),
        })
    }

    /// Everything that ends with it: what it names, and where that is a provider, what was given for its word.
    pub(super) fn ends(&self) -> Result<Vec<Mark>, String> {
        let given = match self {
            Self::Provider { provider } => Some(Mark::came_from(&ProviderId::new(provider))),
            Self::Subject { .. }
            | Self::Account { .. }
            | Self::Session { .. }
            | Self::ProviderSession { .. }
            | Self::Client { .. }
            | Self::Key { .. }
            | Self::Token { .. }
            | Self::TokenDigest { .. } => None,
        };
        Ok([self.mark()?].into_iter().chain(given).collect())
    }

    /// The person it names, if it names one.
    pub(crate) fn person(&self) -> Option<CanonicalSubject> {
        match self {
            Self::Subject { subject } => person(subject).ok(),
            Self::Account { .. }
            | Self::Session { .. }
            | Self::ProviderSession { .. }
            | Self::Client { .. }
            | Self::Provider { .. }
            | Self::Key { .. }
            | Self::Token { .. }
            | Self::TokenDigest { .. } => None,
        }
    }

    /// The kind, for the log.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Subject { .. } => "subject",
            Self::Account { .. } => "account",
            Self::Session { .. } => "session",
            Self::ProviderSession { .. } => "provider_session",
            Self::Client { .. } => "client",
            Self::Provider { .. } => "provider",
            Self::Key { .. } => "key",
            Self::Token { .. } | Self::TokenDigest { .. } => "token",
        }
    }
}

/// The canonical subject as operators write it: as `explain` shows it, joined or not.
pub(super) fn person(subject: &str) -> Result<CanonicalSubject, String> {
    if let Some((length, rest)) = subject.split_once(':')
        && let Ok(length) = length.parse::<usize>()
        && let (Some(issuer), Some(name)) = (rest.get(..length), rest.get(length..))
        && let Some(name) = name.strip_prefix(':')
    {
        let subject = Subject::try_from(name).map_err(|error| error.to_string())?;
        return Ok(CanonicalSubject::unjoined(&SubjectKey {
            issuer: Issuer::new(issuer),
            subject,
        }));
    }
    CanonicalSubject::named(subject).map_err(|error| error.to_string())
}

/// One revocation.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Its name.
    pub(crate) id: RevocationId,
    /// When it was made.
    pub(crate) at: UnixTime,
    /// What began then or before is denied.
    pub(crate) not_before: UnixTime,
    /// Whether what does not say when it began is denied too.
    pub(crate) undated: bool,
    /// Until when it is in force: everything it speaks about has ended by itself then.
    pub(crate) expires: UnixTime,
    /// Why.
    pub(crate) source: Source,
    /// When it was lifted.
    pub(crate) lifted: Option<UnixTime>,
    /// What it denies.
    pub(crate) marks: Vec<Mark>,
    /// Who said so and why; `None`: sealed under a key that is gone.
    pub(crate) details: Option<Details>,
}

/// Who said so, about whom, and why.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Details {
    /// What was revoked, in words; `None`: a logout, which names nobody.
    pub(crate) target: Option<Target>,
    /// Who revoked.
    pub(crate) actor: String,
    /// What they said.
    pub(crate) reason: String,
    /// The account that its provider has barred, if that is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) barred: Option<Said>,
    /// Whether the person is forgotten: whoever learns of it keeps nothing of them in mind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) forgets: bool,
}

/// A record as it is stored.
#[derive(Deserialize, Serialize)]
struct Stored {
    v: u8,
    id: String,
    at: u64,
    not_before: u64,
    undated: bool,
    expires: u64,
    source: String,
    lifted: Option<u64>,
    marks: Vec<String>,
    sealed: String,
}

impl Record {
    /// Whether an operator can take it back. What a logout ended is over.
    pub(crate) const fn can_be_lifted(&self) -> bool {
        match self.source {
            Source::Operator | Source::Client | Source::Denial => true,
            Source::Logout | Source::BackChannel | Source::FrontChannel | Source::Revalidation => {
                false
            }
        }
    }

    pub(super) const fn entry(&self) -> Entry {
        Entry {
            id: self.id,
            not_before: self.not_before,
            undated: self.undated,
            expires: self.expires,
            merges: !self.can_be_lifted(),
            bars: matches!(self.source, Source::Denial),
        }
    }

    pub(super) fn encode(
        &self,
        ring: &KeyRing,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, StoreError> {
        let broken = |error: serde_json::Error| StoreError::Damaged(error.to_string());
        let plain = serde_json::to_vec(&self.details).map_err(broken)?;
        let bound: &[&[u8]] = &[self.id.as_bytes()];
        let sealed = ring.seal(Purpose::Revocation, b"", bound, &plain, entropy);
        let stored = Stored {
            v: VERSION,
            id: self.id.to_string(),
            at: self.at.as_millis(),
            not_before: self.not_before.as_millis(),
            undated: self.undated,
            expires: self.expires.as_millis(),
            source: self.source.as_str().to_owned(),
            lifted: self.lifted.map(UnixTime::as_millis),
            marks: self.marks.iter().map(|mark| hex(mark.as_bytes())).collect(),
            sealed: URL_SAFE_NO_PAD.encode(sealed),
        };
        serde_json::to_vec(&stored).map_err(broken)
    }

    /// # Errors
    ///
    /// A row that is none is damage: whoever takes it for nothing lets in who was thrown out.
    pub(super) fn decode(value: &[u8], ring: &KeyRing) -> Result<Self, StoreError> {
        let damaged = |what: &str| StoreError::Damaged(format!("a revocation: {what}"));
        let stored: Stored =
            serde_json::from_slice(value).map_err(|error| damaged(&error.to_string()))?;
        if stored.v != VERSION {
            return Err(damaged("written by another version"));
        }
        let id = RevocationId::parse(&stored.id).ok_or_else(|| damaged("its name"))?;
        let marks = stored
            .marks
            .iter()
            .map(|mark| from_hex(mark).map(Mark::from_bytes));
        let marks: Option<Vec<_>> = marks.collect();
        let sealed = URL_SAFE_NO_PAD.decode(&stored.sealed).unwrap_or_default();
        let opened = ring.open(Purpose::Revocation, b"", &[id.as_bytes()], &sealed);
        Ok(Self {
            id,
            at: UnixTime::from_millis(stored.at),
            not_before: UnixTime::from_millis(stored.not_before),
            undated: stored.undated,
            expires: UnixTime::from_millis(stored.expires),
            source: Source::parse(&stored.source).ok_or_else(|| damaged("its source"))?,
            lifted: stored.lifted.map(UnixTime::from_millis),
            marks: marks.ok_or_else(|| damaged("its marks"))?,
            details: opened.and_then(|opened| serde_json::from_slice(&opened.plain).ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::secret::Secret;
    use proptest::prelude::*;

    fn ring(key: u8) -> KeyRing {
        KeyRing::new(&[Secret::new(vec![key; 32])]).unwrap()
    }

    fn record() -> Record {
        let target = Target::Subject {
            subject: "hr:10442".into(),
        };
        Record {
            id: RevocationId::new(&SystemEntropy),
            at: UnixTime::from_secs(10),
            not_before: UnixTime::from_secs(10),
            undated: true,
            expires: UnixTime::from_secs(100),
            source: Source::Operator,
            lifted: None,
            marks: vec![target.mark().unwrap()],
            details: Some(Details {
                target: Some(target),
                actor: "unix:0".into(),
                reason: "left".into(),
                barred: None,
                forgets: false,
            }),
        }
    }

    #[test]
    fn a_row_names_nobody_and_is_enforced_without_the_key_that_sealed_it() {
        let record = record();
        let row = record.encode(&ring(1), &SystemEntropy).unwrap();
        assert!(!String::from_utf8_lossy(&row).contains("10442"));
        let same = Record::decode(&row, &ring(1)).unwrap();
        assert_eq!(same.details, record.details);
        let sealed = Record::decode(&row, &ring(2)).unwrap();
        assert_eq!(sealed.details, None);
        assert_eq!(sealed.marks, record.marks);
        assert_eq!(sealed.entry(), record.entry());
    }

    #[test]
    fn an_unjoined_person_is_named_as_explain_names_them() {
        let key = SubjectKey {
            issuer: Issuer::new("https://idp.test"),
            subject: Subject::try_from("a:b").unwrap(),
        };
        let unjoined = CanonicalSubject::unjoined(&key);
        let target = Target::Subject {
            subject: unjoined.as_str().into(),
        };
        assert_eq!(target.mark().unwrap(), Mark::person(&unjoined));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_damage(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Record::decode(&bytes, &ring(1)).is_err());
        }

        #[test]
        fn hex_goes_both_ways(bytes in any::<[u8; 16]>(), text in "\\PC{0,40}") {
            prop_assert_eq!(from_hex(&hex(&bytes)), Some(bytes));
            if let Some(read) = from_hex::<16>(&text) {
                prop_assert_eq!(hex(&read), text.to_lowercase());
            }
        }
    }
}
