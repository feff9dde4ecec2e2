//! Who is one person across providers: `identity.canonical`.

use std::borrow::Cow;
use std::cell::Cell;

use crate::identity::CanonicalSubject;
use crate::identity::HeaderScope;
use crate::identity::Identity;
use crate::identity::InvalidSubject;
use crate::identity::InvalidTemplate;
use crate::identity::RenderError;
use crate::identity::Template;
use crate::identity::render::trim;
use crate::identity::template::Absent;
use crate::identity::template::Filter;
use crate::identity::template::Scalars;
use crate::identity::template::Segment;

/// A way to make spellings equal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Normalise {
    /// ASCII white space at both ends goes.
    Trim,
    /// ASCII letters become small.
    Lowercase,
    /// `00042` becomes `42`.
    StripLeadingZeros,
}

impl Normalise {
    /// The word used in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trim => "trim",
            Self::Lowercase => "lowercase",
            Self::StripLeadingZeros => "strip_leading_zeros",
        }
    }

    /// The text in its normal spelling. Letters outside of ASCII stay: Unicode would make different letters equal.
    pub fn apply(self, text: Cow<'_, str>) -> Cow<'_, str> {
        match self {
            Self::Trim => trim(text),
            Self::Lowercase => text.to_ascii_lowercase().into(),
            Self::StripLeadingZeros => text.trim_start_matches('0').to_owned().into(),
        }
    }
}

/// Why an identity has no canonical name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotCanonical {
    /// An attribute that the template needs is absent: the person is known by this issuer only.
    #[error("an attribute of the canonical name is missing")]
    Missing,
    /// An attribute has the value that many accounts have which have none, such as `0000` or `n/a`: whoever shares it
    /// would become one person.
    #[error("an attribute of the canonical name is a placeholder")]
    Placeholder,
    /// Read backwards, the name could be another person's.
    #[error("an attribute contains the text that follows it in the canonical name")]
    Ambiguous,
    /// An attribute that cannot be part of a name.
    #[error(transparent)]
    Unfit(RenderError),
    /// The whole is no name.
    #[error(transparent)]
    Invalid(InvalidSubject),
}

/// The canonical name of a person: `template` over the normalised attributes, as text and not as header bytes.
///
/// A whole number counts as its digits, because one provider writes `10442` and the other `"10442"`.
/// Different attributes never give one name. The caller has made sure that the identity's provider is authoritative for
/// the attributes of the template, and that [`Template::check_canonical`] accepts it.
///
/// # Errors
///
/// Why there is none. Whoever has none is nobody else, either: the caller knows them by [`CanonicalSubject::unjoined`] or
/// refuses them.
pub fn canonical(
    template: &Template,
    normalise: &[Normalise],
    identity: &Identity,
) -> Result<CanonicalSubject, NotCanonical> {
    let scope = HeaderScope {
        identity,
        canonical: None,
        link: None,
        mark: None,
    };
    let mut name = String::new();
    let mut segments = template.segments.iter().peekable();
    let mut fields = template.fields().count();
    while let Some(segment) = segments.next() {
        let field = match segment {
            Segment::Literal(text) => {
                name.push_str(text);
                continue;
            }
            Segment::Field(field) => field,
        };
        let placeholder = Cell::new(false);
        let text = field.text(&scope, Scalars::Numbers, &|text| {
            let text = normalise.iter().fold(text, |text, way| way.apply(text));
            placeholder.set(placeholder.get() || is_placeholder(&text));
            Ok(text)
        });
        if placeholder.get() {
            return Err(NotCanonical::Placeholder);
        }
        let text = text
            .map_err(NotCanonical::Unfit)?
            .ok_or(NotCanonical::Missing)?;
        fields -= 1;
        if 0 < fields {
            let Some(Segment::Literal(next)) = segments.peek() else {
                return Err(NotCanonical::Ambiguous);
            };
            if format!("{text}{next}").find(&**next) != Some(text.len()) {
                return Err(NotCanonical::Ambiguous);
            }
        }
        name.push_str(&text);
    }
    CanonicalSubject::named(&name).map_err(NotCanonical::Invalid)
}

/// What directories hold where they have nothing to say.
fn is_placeholder(text: &str) -> bool {
    const WORDS: [&str; 6] = ["null", "(null)", "none", "undefined", "n/a", "unknown"];
    text.chars().all(|c| c == '0' || !c.is_alphanumeric())
        || WORDS
            .iter()
            .any(|word| word.eq_ignore_ascii_case(text.trim_ascii()))
}

impl Template {
    /// Whether the template can name people in `identity.canonical`.
    ///
    /// # Errors
    ///
    /// What stands against it: nothing that differs from person to person, a default that many would share, a list, an
    /// encoding, two values that run into each other, a name that stands for the result.
    pub fn check_canonical(&self) -> Result<(), InvalidTemplate> {
        let mut after_field = false;
        let mut fields = 0;
        for segment in &self.segments {
            let field = match segment {
                Segment::Literal(_) => {
                    after_field = false;
                    continue;
                }
                Segment::Field(field) => field,
            };
            let name = field.path.as_str();
            let reason = if after_field {
                "two values run into each other; put a text between them"
            } else if name == "canonical" || name.starts_with("link.") {
                "the canonical name is made from attributes only"
            } else if matches!(name, "provider" | "acr" | "client_id" | "scopes") {
                "this differs between providers or between two logins of one person"
            } else if matches!(field.absent, Absent::Default(_)) {
                "with `default` everybody without the attribute would be one person"
            } else if matches!(field.absent, Absent::Omit) {
                "`omit` leaves out a header; there is none here"
            } else if field.encoding.is_some() {
                "the canonical name is not encoded"
            } else if field.path.is_many()
                || field
                    .filters
                    .iter()
                    .any(|filter| matches!(filter, Filter::Join(_) | Filter::Sort))
            {
                "a list is not a name"
            } else {
                after_field = true;
                fields += 1;
                continue;
            };
            return Err(InvalidTemplate::new(field.at, reason));
        }
        if fields == 0 {
            let reason = "without an attribute everybody would be one person";
            return Err(InvalidTemplate::new(0, reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ClaimMap;
    use crate::identity::Issuer;
    use crate::identity::ProviderId;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use Normalise::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::json;
    use std::sync::Arc;

    fn identity(attributes: Value) -> Identity {
        let Value::Object(attributes) = attributes else {
            panic!("attributes are an object")
        };
        Identity {
            provider: ProviderId::new("modern"),
            key: SubjectKey {
                issuer: Issuer::new("https://id.corp.example"),
                subject: Subject::try_from("f81d").unwrap(),
            },
            attributes: Arc::new(ClaimMap::new(attributes)),
            client_id: None,
            acr: None,
            scopes: Box::default(),
            delegation: crate::identity::Delegation::default(),
        }
    }

    fn named(
        template: &str,
        normalise: &[Normalise],
        attributes: Value,
    ) -> Result<String, NotCanonical> {
        let template = Template::parse(template).unwrap();
        template.check_canonical().unwrap();
        canonical(&template, normalise, &identity(attributes)).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn one_person_has_one_name_at_both_providers() {
        let normalise = [Trim, StripLeadingZeros, Lowercase];
        for employee_id in ["10442", "0010442", " 10442 "] {
            let name = named(
                "hr:{employee_id}",
                &normalise,
                json!({ "employee_id": employee_id }),
            );
            assert_eq!(name, Ok("hr:10442".to_owned()), "{employee_id}");
        }
        let number = named(
            "hr:{employee_id}",
            &normalise,
            json!({ "employee_id": 10_442 }),
        );
        assert_eq!(number, Ok("hr:10442".to_owned()));
    }

    #[test]
    fn a_name_is_text_and_not_header_bytes() {
        let name = named("uid:{uid}", &[Lowercase], json!({ "uid": "Zoë 100%" }));
        assert_eq!(name, Ok("uid:zoë 100%".to_owned()));
    }

    #[test]
    fn without_normalisation_spellings_stay_apart() {
        let name = |uid: &str| named("uid:{uid}", &[], json!({ "uid": uid }));
        assert_ne!(name("Alice"), name("alice"));
        assert_ne!(name("alice "), name("alice"));
        // KELVIN SIGN is not `k`.
        let lower = |uid: &str| named("uid:{uid}", &[Lowercase], json!({ "uid": uid }));
        assert_ne!(lower("\u{212a}im"), lower("kim"));
    }

    #[test]
    fn a_placeholder_names_nobody() {
        for value in [
            "0",
            "0000",
            " 000 ",
            "-",
            "--",
            "",
            " ",
            "00000000-0000-0000-0000-000000000000",
            "null",
            "N/A",
            "None",
            "unknown",
            "(null)",
        ] {
            for normalise in [&[] as &[Normalise], &[Trim, StripLeadingZeros]] {
                let name = named(
                    "hr:{employee_id}",
                    normalise,
                    json!({ "employee_id": value }),
                );
                let nobody = matches!(name, Err(NotCanonical::Placeholder | NotCanonical::Missing));
                assert!(nobody, "{value:?}: {name:?}");
            }
        }
        assert!(named("hr:{employee_id}", &[], json!({ "employee_id": "100" })).is_ok());
    }

    #[test]
    fn what_is_absent_or_unfit_names_nobody() {
        let name = |attributes| named("hr:{employee_id}", &[Trim], attributes);
        assert_eq!(name(json!({})), Err(NotCanonical::Missing));
        assert_eq!(
            name(json!({ "employee_id": null })),
            Err(NotCanonical::Missing)
        );
        assert_eq!(
            name(json!({ "employee_id": true })),
            Err(NotCanonical::Unfit(RenderError::WrongType))
        );
        assert_eq!(
            name(json!({ "employee_id": ["10442"] })),
            Err(NotCanonical::Unfit(RenderError::WrongType))
        );
        assert_eq!(
            name(json!({ "employee_id": "10442\n" })),
            Err(NotCanonical::Unfit(RenderError::ControlCharacter))
        );
        assert_eq!(
            name(json!({ "employee_id": "x".repeat(300) })),
            Err(NotCanonical::Invalid(InvalidSubject::TooLong {
                bytes: 303
            }))
        );
    }

    /// The issuer writes into its attributes what it likes; it must not spell somebody whom another issuer knows.
    #[test]
    fn no_attribute_spells_a_person_of_another_issuer() {
        let key = SubjectKey {
            issuer: Issuer::new("https://sso-old.corp.example"),
            subject: Subject::try_from("alice").unwrap(),
        };
        let unjoined = CanonicalSubject::unjoined(&key);
        let name = named("{uid}", &[], json!({ "uid": unjoined.as_str() }));
        assert_eq!(name, Err(NotCanonical::Invalid(InvalidSubject::Reserved)));
    }

    #[test]
    fn two_attributes_never_run_into_each_other() {
        let name = |a: &str, b: &str| named("{a}:{b}", &[], json!({ "a": a, "b": b }));
        assert_eq!(name("x", "y:z"), Ok("x:y:z".to_owned()));
        assert_eq!(name("x:y", "z"), Err(NotCanonical::Ambiguous));
    }

    #[test]
    fn a_template_that_would_join_people_is_refused() {
        for (template, at, reason) in [
            ("everybody", 0, "without an attribute"),
            ("hr:{employee_id|default:none}", 3, "would be one person"),
            ("hr:{employee_id|omit}", 3, "`omit`"),
            ("{a}{b}", 3, "run into each other"),
            ("{a}-{b}{c}", 7, "run into each other"),
            ("x{canonical}", 1, "attributes only"),
            ("{link.legacy_subject}", 0, "attributes only"),
            ("{provider}:{a}", 0, "differs"),
            ("{groups|join:,}", 0, "a list"),
            ("{a[*].b}", 0, "a list"),
            ("{a|utf8}", 0, "not encoded"),
        ] {
            let found = Template::parse(template)
                .unwrap()
                .check_canonical()
                .unwrap_err();
            assert!(found.reason.contains(reason), "{template}: {found}");
            assert_eq!(found.at, at, "{template}");
        }
    }

    proptest! {
        #[test]
        fn different_attributes_never_give_one_name(
            a in "[a-c:=]{1,4}", b in "[a-c:=]{1,4}", c in "[a-c:=]{1,4}", d in "[a-c:=]{1,4}",
        ) {
            for template in ["{x}:{y}", "{x}::{y}", "p{x}=:{y}:s"] {
                let name = |x: &str, y: &str| named(template, &[], json!({ "x": x, "y": y }));
                if let (Ok(one), Ok(two)) = (name(&a, &b), name(&c, &d)) {
                    prop_assert_eq!(one == two, (&a, &b) == (&c, &d));
                }
            }
        }

        #[test]
        fn an_unjoined_person_is_never_a_named_one(issuer in "\\PC{1,40}", subject in "\\PC{1,40}") {
            let key = SubjectKey {
                issuer: Issuer::new(&issuer),
                subject: Subject::try_from(&*subject).unwrap(),
            };
            let unjoined = CanonicalSubject::unjoined(&key);
            prop_assert!(CanonicalSubject::named(unjoined.as_str()).is_err());
        }
    }
}
