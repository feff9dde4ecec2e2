//! Whom links know by what somebody calls themselves.

use super::*;
use crate::identity::Issuer;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::identity::Template;
use crate::links::settings::Canonical;
use crate::links::settings::OnMissing;

#[tokio::test]
async fn whom_links_know_by_their_account_has_the_bucket_that_they_will_have() {
    let mut world = asking();
    world.canonical = Some(Canonical {
        template: Template::parse("hr:{employee_id}-{site}").unwrap(),
        normalise: Vec::new(),
        authoritative: Vec::new(),
        files: Vec::new(),
        claims: Vec::new(),
        prove_both: false,
        on_missing: OnMissing::Alone,
    });
    // Of a name that would be outside, the person is inside.
    let (_, typed) = two(&world, "p");
    let (person, _) = two(&world, "hr:7-");
    let start = answer(&world, &mut Browser::default(), &named(&typed)).await;
    assert!(start.location.starts_with(OLD), "{start:?}");
    let key = SubjectKey {
        issuer: Issuer::new("https://new.idp.test"),
        subject: Subject::try_from(typed.as_str()).unwrap(),
    };
    let person = CanonicalSubject::named(&person).unwrap();
    crate::links::Links::new(Arc::clone(&world.store))
        .claim(&person, &ProviderId::new("new"), &key, at(0))
        .await
        .unwrap();
    let start = answer(&world, &mut Browser::default(), &named(&typed)).await;
    assert!(start.location.starts_with(NEW), "{start:?}");
}
