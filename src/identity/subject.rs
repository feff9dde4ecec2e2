//! Names of people and of those who vouch for them.

use std::fmt;
use std::sync::Arc;

/// The name of a provider, as written in the configuration.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ProviderId(Arc<str>);

impl ProviderId {
    /// Names a provider. The configuration has checked the spelling.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text: safe to log and to use as a label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An issuer identifier (RFC 8414 §2): compared byte for byte, a trailing slash included.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Issuer(Arc<str>);

impl Issuer {
    /// Names an issuer.
    pub fn new(identifier: &str) -> Self {
        Self(identifier.into())
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A subject identifier, as issued (OpenID Connect Core 1.0 §2, `sub`).
///
/// Opaque and case-sensitive, 1 to 255 bytes, free of control characters: safe to compare and store; logged only
/// as a pseudonym, rendered into a header only by `identity::render`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Subject(Arc<str>);

impl Subject {
    /// The longest subject accepted, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[subject]")
    }
}

impl TryFrom<&str> for Subject {
    type Error = InvalidSubject;

    fn try_from(raw: &str) -> Result<Self, Self::Error> {
        if raw.is_empty() {
            return Err(InvalidSubject::Empty);
        }
        if Self::MAX_BYTES < raw.len() {
            return Err(InvalidSubject::TooLong { bytes: raw.len() });
        }
        if raw.chars().any(char::is_control) {
            return Err(InvalidSubject::ControlCharacter);
        }
        Ok(Self(raw.into()))
    }
}

/// Why a text is not a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSubject {
    /// Nobody is called nothing.
    #[error("the subject is empty")]
    Empty,
    /// Longer than [`Subject::MAX_BYTES`].
    #[error("the subject has {bytes} bytes, more than 255")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// CR, LF, NUL and the like never are part of a name.
    #[error("the subject contains a control character")]
    ControlCharacter,
    /// Spelled like a person who is known by one issuer only.
    #[error("the name has the form of an unjoined person")]
    Reserved,
}

/// Who someone is at one issuer. The same subject at another issuer is another person.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SubjectKey {
    /// Who issued the name.
    pub issuer: Issuer,
    /// The name.
    pub subject: Subject,
}

/// One person across all providers: what bucketing, pins, links and records speak about.
///
/// Built from `identity.canonical`, or injectively from (issuer, subject) where nobody is joined.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CanonicalSubject(Arc<str>);

impl CanonicalSubject {
    /// A person named by the rendered `identity.canonical` template.
    ///
    /// # Errors
    ///
    /// As for [`Subject`]: an empty, overlong or control-carrying name is nobody. A name that reads like an unjoined
    /// person would be that person.
    pub fn named(rendered: &str) -> Result<Self, InvalidSubject> {
        if is_unjoined(rendered) {
            return Err(InvalidSubject::Reserved);
        }
        Subject::try_from(rendered).map(|s| Self(s.0))
    }

    /// A person known by one issuer only. The length prefix keeps (`a`, `bc`) and (`ab`, `c`) apart.
    pub fn unjoined(key: &SubjectKey) -> Self {
        let (issuer, subject) = (key.issuer.as_str(), key.subject.as_str());
        Self(format!("{}:{issuer}:{subject}", issuer.len()).into())
    }

    /// The name as text: never logged, see `telemetry::Pseudonyms`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a name has the form that [`CanonicalSubject::unjoined`] gives: `LENGTH:ISSUER:SUBJECT`.
fn is_unjoined(name: &str) -> bool {
    name.split_once(':').is_some_and(|(length, rest)| {
        let length = length.parse::<usize>().ok();
        length.is_some_and(|length| rest.as_bytes().get(length) == Some(&b':'))
    })
}

impl fmt::Debug for CanonicalSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[canonical subject]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_short_and_printable() {
        assert_eq!(Subject::try_from(""), Err(InvalidSubject::Empty));
        assert_eq!(
            Subject::try_from("a\r\nb"),
            Err(InvalidSubject::ControlCharacter)
        );
        let long = "x".repeat(256);
        assert_eq!(
            Subject::try_from(long.as_str()),
            Err(InvalidSubject::TooLong { bytes: 256 })
        );
        assert!(Subject::try_from("Zoë").is_ok());
    }

    #[test]
    fn unjoined_people_of_two_issuers_never_meet() {
        let key = |issuer: &str, subject: &str| SubjectKey {
            issuer: Issuer::new(issuer),
            subject: Subject::try_from(subject).unwrap(),
        };
        assert_ne!(
            CanonicalSubject::unjoined(&key("https://a", "b:c")),
            CanonicalSubject::unjoined(&key("https://a:b", "c"))
        );
    }
}
