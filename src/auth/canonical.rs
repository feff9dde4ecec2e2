//! Who somebody is across providers.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use crate::auth::settings::Canonical;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Identity;
use crate::identity::Normalise;
use crate::identity::Refusal;
use crate::identity::Scope;
use crate::links::LinkError;
use crate::links::Links;
use crate::store::StoreError;

/// Finds the canonical subject of an identity, and makes sure that it is one person's.
#[derive(Clone, Debug)]
pub(crate) struct Joiner {
    canonical: Option<Arc<Canonical>>,
    links: Arc<Links>,
}

/// Why there is no canonical subject.
#[derive(Debug)]
pub(super) enum NotJoined {
    /// The name belongs to somebody else.
    Refused(Refusal),
    /// Nothing is known.
    Store(StoreError),
}

impl Joiner {
    /// `canonical: None`: nobody is joined.
    pub(crate) fn new(canonical: Option<Canonical>, links: Arc<Links>) -> Self {
        Self {
            canonical: canonical.map(Arc::new),
            links,
        }
    }

    /// The canonical subject. A provider that is not authoritative, or does not say what the template needs, speaks of
    /// somebody whom nobody else knows.
    pub(super) async fn join(
        &self,
        identity: &Identity,
        now: UnixTime,
    ) -> Result<CanonicalSubject, NotJoined> {
        let Some(rendered) = self.render(identity)? else {
            return Ok(CanonicalSubject::unjoined(&identity.key));
        };
        let claimed = self
            .links
            .claim(&rendered, &identity.provider, &identity.key, now)
            .await;
        match claimed {
            Ok(()) => Ok(rendered),
            Err(LinkError::Conflict) => Err(NotJoined::Refused(Refusal::LinkConflict)),
            Err(LinkError::Store(error)) => Err(NotJoined::Store(error)),
        }
    }

    fn render(&self, identity: &Identity) -> Result<Option<CanonicalSubject>, NotJoined> {
        let Some(canonical) = &self.canonical else {
            return Ok(None);
        };
        if !canonical.authoritative.contains(&identity.provider) {
            return Ok(None);
        }
        let scope = Normalised {
            attributes: &identity.attributes,
            steps: &canonical.normalise,
        };
        let Ok(Some(bytes)) = canonical.template.render(&scope) else {
            return Ok(None);
        };
        let conflict = NotJoined::Refused(Refusal::LinkConflict);
        let Ok(name) = std::str::from_utf8(&bytes) else {
            return Err(conflict);
        };
        // Nobody's name may read like that of somebody whom nobody else knows.
        if reads_unjoined(name) {
            return Err(conflict);
        }
        CanonicalSubject::named(name).map(Some).or(Err(conflict))
    }
}

/// Whether a name has the shape `LENGTH:ISSUER:SUBJECT` of [`CanonicalSubject::unjoined`].
fn reads_unjoined(name: &str) -> bool {
    let Some((length, rest)) = name.split_once(':') else {
        return false;
    };
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|_| is_number);
    length.is_some_and(|length: usize| rest.as_bytes().get(length) == Some(&b':'))
}

/// Attributes in one spelling. What is empty, or neither text nor a whole number, is absent: else all who lack it would be
/// one person.
struct Normalised<'a> {
    attributes: &'a ClaimMap,
    steps: &'a [Normalise],
}

impl Scope for Normalised<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, Value>> {
        let text = match self.attributes.member(name)? {
            Value::String(text) => normalise(text, self.steps),
            Value::Number(number) if number.is_u64() => normalise(&number.to_string(), self.steps),
            Value::Number(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Array(_)
            | Value::Object(_) => {
                return None;
            }
        };
        (!text.is_empty()).then_some(Cow::Owned(Value::String(text)))
    }
}

/// ASCII only: what Unicode calls white space or lower case differs between systems.
fn normalise(text: &str, steps: &[Normalise]) -> String {
    let mut text = text.to_owned();
    for step in steps {
        text = match step {
            Normalise::Trim => text
                .trim_matches(|c: char| c.is_ascii_whitespace())
                .to_owned(),
            Normalise::Lowercase => text.to_ascii_lowercase(),
            Normalise::StripLeadingZeros => text.trim_start_matches('0').to_owned(),
        };
    }
    text
}
