//! What follows from what accounts say, and from what was seen of it.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::identity::ClaimMap;
use crate::identity::Delegation;
use crate::identity::Issuer;
use crate::identity::Subject;
use crate::identity::SubjectKey;

const NOW: UnixTime = UnixTime::from_secs(1_000_000_000);
const LASTS: Option<Duration> = Some(ADDRESS_HELD);

fn speaker(provider: &str, attribute: &str, verified: bool) -> Speaker {
    Speaker {
        provider: ProviderId::new(provider),
        value: Template::parse(&format!("{{{attribute}}}")).unwrap(),
        verified,
    }
}

fn ids() -> ClaimRule {
    ClaimRule {
        old: speaker("old", "employee", false),
        new: speaker("new", "employee", false),
        normalise: vec![
            Normalise::Trim,
            Normalise::Lowercase,
            Normalise::StripLeadingZeros,
        ],
        domains: None,
    }
}

fn addresses() -> ClaimRule {
    ClaimRule {
        old: speaker("old", "email", false),
        new: speaker("new", "email", true),
        normalise: vec![Normalise::Trim, Normalise::Lowercase],
        domains: Some(vec!["corp.example".into()]),
    }
}

fn says(provider: &str, attributes: serde_json::Value) -> Identity {
    let serde_json::Value::Object(attributes) = attributes else {
        panic!("attributes are an object")
    };
    Identity {
        provider: ProviderId::new(provider),
        key: SubjectKey {
            issuer: Issuer::new("https://idp.test"),
            subject: Subject::try_from("x").unwrap(),
        },
        attributes: Arc::new(ClaimMap::new(attributes)),
        client_id: None,
        acr: None,
        scopes: Box::default(),
        delegation: Delegation::default(),
    }
}

fn said(rule: &ClaimRule, provider: &str, attributes: serde_json::Value) -> Option<String> {
    let (_, value) = rule.said_of(&says(provider, attributes))?;
    Some(value.into())
}

#[test]
fn an_identifier_is_compared_in_its_normal_spelling_and_a_placeholder_is_none() {
    let said = |provider, value| said(&ids(), provider, json!({ "employee": value }));
    for value in [json!("0A42"), json!(" a42 "), json!("00a42")] {
        assert_eq!(said("new", value).as_deref(), Some("a42"));
    }
    assert_eq!(said("old", json!(42)).as_deref(), Some("42"));
    for value in [
        json!(""),
        json!("0000"),
        json!("n/a"),
        json!(null),
        json!(["1"]),
        json!(true),
        json!("1\n2"),
        json!("x".repeat(300)),
    ] {
        assert_eq!(said("new", value.clone()), None, "{value}");
    }
    assert_eq!(said("partner", json!("42")), None, "another provider");
}

#[test]
fn an_address_counts_when_it_is_verified_and_ours_to_give() {
    let said = |provider, value: serde_json::Value| said(&addresses(), provider, value);
    let good = json!({ "email": "Zoe@Corp.Example", "email_verified": true });
    assert_eq!(
        said("new", good.clone()).as_deref(),
        Some("zoe@corp.example")
    );
    assert_eq!(
        said("old", json!({ "email": "zoe@corp.example" })),
        said("new", good)
    );
    for bad in [
        json!({ "email": "zoe@corp.example" }),
        json!({ "email": "zoe@corp.example", "email_verified": "true" }),
        json!({ "email": "zoe@corp.example", "email_verified": false }),
        json!({ "email": "zoe@mail.example", "email_verified": true }),
        json!({ "email": "zoe@sub.corp.example", "email_verified": true }),
        json!({ "email": "zoe+crm@corp.example", "email_verified": true }),
        json!({ "email": "zoe@corp.example,eve@evil.example", "email_verified": true }),
        json!({ "email_verified": true }),
    ] {
        assert_eq!(said("new", bad.clone()), None, "{bad}");
    }
}

struct Watch(Seen, Option<Duration>);

impl Watch {
    fn sees(&mut self, place: Place, account: &str, person: &str, now: UnixTime) -> Found {
        let person = CanonicalSubject::named(person).ok();
        let (_, found) = self.0.see(place, account, person.as_ref(), self.1, now);
        let kept = Seen::read(&self.0.written()).unwrap();
        let again = self.0.clone();
        self.0 = kept;
        assert_eq!(
            again.found(place, account),
            found,
            "a row says what was seen"
        );
        found
    }
}

fn person(name: &str) -> Found {
    Found::Person(name.to_owned())
}

#[test]
fn one_account_on_each_side_is_one_person_whoever_comes_first() {
    let mut watch = Watch(Seen::default(), None);
    assert_eq!(watch.sees(Place::New, "n", "", NOW), Found::Nobody);
    assert_eq!(watch.sees(Place::Old, "o", "hr:1", NOW), person("hr:1"));
    assert_eq!(watch.sees(Place::New, "n", "", NOW), person("hr:1"));
    // From then on a second candidate changes nothing but its own fate.
    assert_eq!(watch.sees(Place::New, "m", "", NOW), Found::Contested);
    assert_eq!(watch.sees(Place::Old, "p", "hr:2", NOW), Found::Contested);
    assert_eq!(watch.sees(Place::New, "n", "hr:1", NOW), person("hr:1"));
    assert_eq!(watch.sees(Place::Old, "o", "hr:1", NOW), person("hr:1"));
}

#[test]
fn a_value_of_two_accounts_of_one_provider_links_nobody_from_then_on() {
    for (first, second) in [(Place::New, Place::Old), (Place::Old, Place::New)] {
        let mut watch = Watch(Seen::default(), None);
        watch.sees(first, "a", "", NOW);
        assert_eq!(watch.sees(first, "b", "", NOW), Found::Contested);
        assert_eq!(watch.sees(first, "a", "", NOW), Found::Contested);
        assert_eq!(watch.sees(second, "c", "hr:1", NOW), Found::Contested);
        let much_later = UnixTime::from_secs(NOW.as_secs() * 2);
        assert_eq!(
            watch.sees(second, "c", "hr:1", much_later),
            Found::Contested
        );
    }
}

#[test]
fn two_people_or_nobody_with_a_name_are_no_link() {
    let mut watch = Watch(Seen::default(), None);
    watch.sees(Place::Old, "o", "hr:1", NOW);
    assert_eq!(watch.sees(Place::New, "n", "hr:2", NOW), Found::Contested);
    assert_eq!(watch.sees(Place::Old, "o", "hr:1", NOW), Found::Contested);
    let mut watch = Watch(Seen::default(), None);
    watch.sees(Place::Old, "o", "", NOW);
    assert_eq!(watch.sees(Place::New, "n", "", NOW), Found::Nobody);
    // One who is named later links both, unless somebody else came between.
    assert_eq!(watch.sees(Place::Old, "o", "hr:1", NOW), person("hr:1"));
    let mut watch = Watch(Seen::default(), None);
    watch.sees(Place::Old, "o", "", NOW);
    watch.sees(Place::New, "n", "", NOW);
    watch.sees(Place::New, "m", "", NOW);
    assert_eq!(watch.sees(Place::Old, "o", "hr:1", NOW), Found::Contested);
}

#[test]
fn an_address_of_somebody_who_has_left_does_not_name_who_got_it() {
    let day = 86_400;
    let later = |days: u64| UnixTime::from_secs(NOW.as_secs() + days * day);
    // He has not been seen with it for a month: she is not him.
    let mut watch = Watch(Seen::default(), LASTS);
    watch.sees(Place::Old, "john", "hr:1", NOW);
    assert_eq!(watch.sees(Place::New, "jane", "", later(30)), Found::Nobody);
    assert_eq!(
        watch.sees(Place::Old, "jane", "hr:2", later(30)),
        person("hr:2")
    );
    // He still is: nobody can tell.
    let mut watch = Watch(Seen::default(), LASTS);
    watch.sees(Place::Old, "john", "hr:1", NOW);
    watch.sees(Place::Old, "john", "hr:1", later(20));
    assert_eq!(
        watch.sees(Place::Old, "jane", "hr:2", later(40)),
        Found::Contested
    );
    assert_eq!(
        watch.sees(Place::New, "jane", "", later(40)),
        Found::Contested
    );
    // She had it besides him a while ago: that he is gone does not make it whose it was.
    let mut watch = Watch(Seen::default(), LASTS);
    watch.sees(Place::Old, "john", "hr:1", NOW);
    let contested = watch.sees(Place::Old, "jane", "hr:2", later(20));
    assert_eq!(contested, Found::Contested);
    for (account, day) in [("jim", 31), ("jane", 49)] {
        let contested = watch.sees(Place::New, account, "", later(day));
        assert_eq!(contested, Found::Contested, "{account}");
    }
    // An identifier is never given twice, whatever its age.
    let mut watch = Watch(Seen::default(), None);
    watch.sees(Place::Old, "john", "hr:1", NOW);
    assert_eq!(
        watch.sees(Place::New, "j", "", later(4_000)),
        person("hr:1")
    );
}

#[test]
fn what_cannot_be_read_is_nothing_that_was_seen() {
    for row in [
        &b""[..],
        b"{}",
        b"null",
        br#"{"v":9,"old":null,"new":null,"linked":true}"#,
    ] {
        assert_eq!(Seen::read(row), None);
    }
    let row = Seen::default().written();
    assert!(Seen::read(&row).is_some());
}
