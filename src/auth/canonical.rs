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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::at;
    use crate::auth::fake::identity;
    use crate::identity::ProviderId;
    use crate::identity::Template;
    use crate::store::MemoryStore;
    use serde_json::json;

    fn joiner(template: &str) -> Joiner {
        let canonical = Canonical {
            template: Template::parse(template).unwrap(),
            normalise: vec![
                Normalise::Trim,
                Normalise::Lowercase,
                Normalise::StripLeadingZeros,
            ],
            authoritative: vec![ProviderId::new("old"), ProviderId::new("new")],
        };
        let links = Links::new(Arc::new(MemoryStore::default()));
        Joiner::new(Some(canonical), Arc::new(links))
    }

    fn person(provider: &str, subject: &str, employee: Value) -> Identity {
        let mut identity = identity(provider, subject);
        let mut attributes = ClaimMap::default();
        attributes.insert("employee", employee);
        identity.attributes = Arc::new(attributes);
        identity
    }

    async fn name(joiner: &Joiner, identity: &Identity) -> String {
        match joiner.join(identity, at(0)).await {
            Ok(canonical) => canonical.as_str().to_owned(),
            Err(NotJoined::Refused(refusal)) => refusal.to_string(),
            Err(NotJoined::Store(error)) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn two_accounts_with_one_number_are_one_person() {
        let joiner = joiner("hr:{employee}");
        let old = name(&joiner, &person("old", "alice", json!(" 00A42 "))).await;
        let new = name(&joiner, &person("new", "f81d", json!("a42"))).await;
        assert_eq!((old.as_str(), new.as_str()), ("hr:a42", "hr:a42"));
        assert_eq!(
            name(&joiner, &person("new", "n", json!(10_442))).await,
            "hr:10442"
        );
    }

    #[tokio::test]
    async fn who_says_nothing_usable_is_joined_with_nobody() {
        let joiner = joiner("hr:{employee}");
        for value in [
            json!(""),
            json!("  "),
            json!("0000"),
            json!(null),
            json!(true),
            json!(1.5),
            json!(-1),
            json!(["1"]),
            json!({}),
        ] {
            let found = name(&joiner, &person("new", "x", value.clone())).await;
            assert_eq!(found, "20:https://new.idp.test:x", "{value}");
        }
        let other = person("partner", "x", json!("a42"));
        assert_eq!(name(&joiner, &other).await, "24:https://partner.idp.test:x");
    }

    #[tokio::test]
    async fn a_second_account_of_a_person_is_refused() {
        let joiner = joiner("hr:{employee}");
        assert_eq!(
            name(&joiner, &person("new", "a1", json!("1"))).await,
            "hr:1"
        );
        assert_eq!(
            name(&joiner, &person("new", "a2", json!("1"))).await,
            "link_conflict"
        );
        assert_eq!(
            name(&joiner, &person("new", "a1", json!("2"))).await,
            "link_conflict"
        );
        assert_eq!(
            name(&joiner, &person("old", "o1", json!("1"))).await,
            "hr:1"
        );
    }

    #[tokio::test]
    async fn nobody_can_take_the_name_of_somebody_who_is_joined_with_nobody() {
        let joiner = joiner("{employee}");
        let alice = person("partner", "alice", json!(null));
        let hers = name(&joiner, &alice).await;
        assert_eq!(
            name(&joiner, &person("new", "mallory", json!(hers))).await,
            "link_conflict"
        );
        assert_eq!(
            name(&joiner, &person("new", "x", json!("1:2"))).await,
            "1:2"
        );
    }
}
