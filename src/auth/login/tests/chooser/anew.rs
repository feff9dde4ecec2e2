//! A login that begins anew goes on with what its person has said, and asks nothing a second time: a question would lead back
//! to a first login, and round again.

use super::*;

#[tokio::test]
async fn whoever_is_taken_to_where_they_have_moved_is_not_asked_who_they_are_again() {
    let world = asking();
    // She has moved, which this browser does not know. (Both providers know her by one name.)
    let alice = CanonicalSubject::unjoined(&identity("old", "alice").key);
    let plan = world.plan.clone().unwrap();
    let moved = world.pins();
    let moved = moved.moved(&plan.id, (&alice, &[0; 32]), plan.epoch, at(0));
    moved.await.unwrap();
    // An address so long that the name is not kept beside it, and a name that belongs to the old side.
    let (_, outside) = two(&world, "p");
    let rd = format!("/orders?{}", "x".repeat(2_040));
    let target = format!("/.authferry/login?rd={}", query::encode(&rd));
    let body = named(&outside);
    let mut browser = Browser::default();
    let said = Visit {
        target: &target,
        ..from("https://app.test", "same-origin", &body)
    };
    let start = said.with(&world, &mut browser).await;
    assert!(start.location.starts_with(OLD), "{start:?}");
    let again = open(&world, &mut browser, &signed_in(&start.location, "alice")).await;
    assert!(again.location.starts_with(NEW), "{again:?}");
    assert!(!again.location.contains("login_hint"), "{again:?}");
    let end = open(&world, &mut browser, &signed_in(&again.location, "alice")).await;
    assert_eq!(end.location, rd);
}

#[tokio::test]
async fn whoever_has_chosen_goes_on_there_and_is_told_when_they_may_not() {
    let mut world = choosing();
    let mut browser = Browser::default();
    let start = answer(&world, &mut browser, "at=new").await;
    world.plan.as_mut().unwrap().epoch += 1;
    let again = open(&world, &mut browser, &signed_in(&start.location, "alice")).await;
    assert!(again.location.starts_with(NEW), "{again:?}");
    let end = open(&world, &mut browser, &signed_in(&again.location, "alice")).await;
    assert_eq!(end.location, "/orders?x=1");
    // A second time ends with a page, and never with a question.
    let mut browser = Browser::default();
    let start = answer(&world, &mut browser, "at=new").await;
    world.plan.as_mut().unwrap().epoch += 1;
    let again = open(&world, &mut browser, &signed_in(&start.location, "bob")).await;
    assert!(again.location.starts_with(NEW), "{again:?}");
    world.plan.as_mut().unwrap().epoch += 1;
    let end = open(&world, &mut browser, &signed_in(&again.location, "bob")).await;
    assert_eq!(end.status, StatusCode::FORBIDDEN, "{end:?}");
    assert!(!end.body.contains("<button name=\"at\""), "{}", end.body);
}
