//! Accounts that are joined with nobody, and people who prove that both are theirs.

use super::*;
use crate::links::settings::Canonical;
use crate::links::settings::OnMissing;

/// Only the old provider says who its people are.
pub(super) fn unlinked() -> World {
    let mut world = both();
    world.canonical = Some(Canonical::by_claims("uid:{subject}", Vec::new(), &["old"]));
    world
}

pub(super) fn settings(world: &mut World) -> &mut Canonical {
    world.canonical.as_mut().unwrap()
}

pub(super) fn counted(world: &World, method: &str, outcome: &str) -> bool {
    let line =
        format!("authferry_subject_links_total{{method=\"{method}\",outcome=\"{outcome}\"}} 1\n");
    world.metrics.render().unwrap().contains(&line)
}

/// What the new provider issued for a login that goes on at the old one was given back: nobody comes back for it.
async fn given_back(world: &World, wanted: usize) {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let revoked = world.new.login.as_ref().unwrap().revoked.lock().unwrap();
    assert_eq!(revoked.len(), wanted, "{revoked:?}");
}

#[tokio::test]
async fn who_has_no_partner_goes_where_the_configuration_says() {
    // Without a word about it: a person of their own.
    let mut world = unlinked();
    let seen = log_in(&world, &mut Browser::default(), "n-1").await;
    assert_eq!(seen.location, "/orders?x=1");

    settings(&mut world).on_missing = OnMissing::Deny;
    let mut browser = Browser::default();
    let seen = log_in(&world, &mut browser, "n-1").await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
    assert!(!browser.jar.contains_key(COOKIE));

    // Once more at the old side, while the stage has logins there, and no error page between.
    settings(&mut world).on_missing = OnMissing::From;
    let mut browser = Browser::default();
    let at_old = log_in(&world, &mut browser, "n-1").await;
    assert!(
        at_old.location.starts_with("https://old.idp.test/"),
        "{at_old:?}"
    );
    given_back(&world, 2).await;
    let end = open(&world, &mut browser, &signed_in(&at_old.location, "alice")).await;
    assert_eq!(end.location, "/orders?x=1");
    let admitted = open(&world, &mut browser, "/").await.admitted.unwrap();
    assert_eq!(
        (
            admitted.canonical().as_str(),
            admitted.arm(),
            admitted.rule()
        ),
        ("uid:alice", Some(Arm::From), "no_link")
    );
    world.plan.as_mut().unwrap().stage.mode = Mode::ModernPrimary;
    let seen = log_in(&world, &mut Browser::default(), "n-1").await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_token_of_an_account_without_partner_is_refused_where_a_login_would_be() {
    let mut world = unlinked();
    let token = format!(
        "Bearer {}",
        crate::auth::fake::token("https://new.idp.test", "n-1")
    );
    let ask = async |world: &World| {
        let visit = Visit {
            fields: vec![("authorization", token.as_str())],
            ..Visit::to("/")
        };
        visit.with(world, &mut Browser::default()).await
    };
    assert!(ask(&world).await.admitted.is_some());
    for policy in [OnMissing::From, OnMissing::Deny] {
        settings(&mut world).on_missing = policy;
        let seen = ask(&world).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN, "{policy:?}");
    }
}

/// Accounts with the same name are one person's, whatever the size of its letters.
fn linked_by_name() -> World {
    let mut world = unlinked();
    world.canonical = world.canonical.map(|c| c.and_by("subject", None));
    world
}

async fn person_of(world: &World, browser: &mut Browser) -> (String, Option<Arm>, String) {
    let admitted = open(world, browser, "/").await.admitted.unwrap();
    let canonical = admitted.canonical().as_str().to_owned();
    (canonical, admitted.arm(), admitted.rule().to_owned())
}

#[tokio::test]
async fn who_may_be_somebody_else_goes_on_at_the_old_side_once_and_without_a_page() {
    let mut world = linked_by_name();
    everybody_to(&mut world, Arm::From);
    let mut browser = Browser::default();
    let at_old = open(&world, &mut browser, "/").await;
    open(&world, &mut browser, &signed_in(&at_old.location, "alice")).await;
    everybody_to(&mut world, Arm::To);
    let mut browser = Browser::default();
    log_in(&world, &mut browser, "alice").await;
    let (person, arm, _) = person_of(&world, &mut browser).await;
    assert_eq!((person.as_str(), arm), ("uid:alice", Some(Arm::To)));

    // A second account of that name is a conflict, and never hers.
    let mut browser = Browser::default();
    let back = log_in(&world, &mut browser, "ALICE").await;
    assert!(
        back.location.starts_with("https://old.idp.test/"),
        "{back:?}"
    );
    assert!(!browser.jar.contains_key(COOKIE));
    given_back(&world, 1).await;
    let end = open(&world, &mut browser, &signed_in(&back.location, "bob")).await;
    assert_eq!(end.location, "/orders?x=1");
    let (person, arm, rule) = person_of(&world, &mut browser).await;
    assert_eq!(
        (person.as_str(), arm, rule.as_str()),
        ("uid:bob", Some(Arm::From), "link_conflict")
    );
    assert!(counted(&world, "claim", "conflict"));
    let again = log_in(&world, &mut Browser::default(), "alice").await;
    assert_eq!(
        again.location, "/orders?x=1",
        "the first link stands: {again:?}"
    );
}

#[tokio::test]
async fn who_may_be_somebody_else_is_refused_once_the_old_side_takes_no_logins() {
    let mut world = linked_by_name();
    world.plan.as_mut().unwrap().stage.mode = Mode::ModernPrimary;
    log_in(&world, &mut Browser::default(), "Bob").await;
    for name in ["bob", "Bob"] {
        let mut browser = Browser::default();
        let seen = log_in(&world, &mut browser, name).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN, "{name}");
        assert!(seen.body.contains("Reference: <code>"), "{}", seen.body);
        assert!(!browser.jar.contains_key(COOKIE));
    }
}

#[tokio::test]
async fn a_conflict_stops_tokens_of_the_new_side_and_no_password_of_the_old_one() {
    let world = linked_by_name();
    let ask = async |field: (&'static str, &str)| {
        let visit = Visit {
            fields: vec![field],
            ..Visit::to("/")
        };
        visit.with(&world, &mut Browser::default()).await
    };
    let token = |name: &str| {
        let token = crate::auth::fake::token("https://new.idp.test", name);
        format!("Bearer {token}")
    };
    let first = ask(("authorization", &token("alice"))).await;
    assert!(first.admitted.is_some(), "alone, and nobody else yet");
    let second = ask(("authorization", &token("Alice"))).await;
    assert_eq!(second.status, StatusCode::FORBIDDEN);
    let old = ask(("authorization", "Basic YWxpY2U6cHc=")).await;
    let admitted = old.admitted.unwrap();
    assert_eq!(admitted.canonical().as_str(), "uid:alice");
    let first = ask(("authorization", &token("alice"))).await;
    assert_eq!(first.status, StatusCode::FORBIDDEN, "from then on");
}

#[tokio::test]
async fn the_application_learns_the_old_name_whichever_side_decides() {
    let mut world = linked_by_name();
    world.named = vec!["old"];
    everybody_to(&mut world, Arm::From);
    let mut browser = Browser::default();
    let at_old = open(&world, &mut browser, "/").await;
    open(&world, &mut browser, &signed_in(&at_old.location, "alice")).await;
    let old_name = async |browser: &mut Browser| {
        let admitted = open(&world, browser, "/").await.admitted.unwrap();
        let accounts = admitted.accounts().unwrap();
        accounts.text("old_subject").map(str::to_owned)
    };
    assert_eq!(old_name(&mut browser).await.as_deref(), Some("alice"));
    let mut new = Browser::default();
    {
        let mut moved = linked_by_name();
        moved.store = Arc::clone(&world.store);
        let token = crate::auth::fake::token("https://new.idp.test", "ALICE");
        let token = format!("Bearer {token}");
        moved.named = vec!["old"];
        let visit = Visit {
            fields: vec![("authorization", token.as_str())],
            ..Visit::to("/")
        };
        let seen = visit.with(&moved, &mut new).await;
        let admitted = seen.admitted.unwrap();
        assert_eq!(admitted.identity().key.subject.as_str(), "ALICE");
        assert_eq!(
            admitted.accounts().unwrap().text("old_subject"),
            Some("alice")
        );
    }
}

#[tokio::test]
async fn what_an_operator_decides_stands_above_a_conflict() {
    let world = linked_by_name();
    let ask = async |name: &str| {
        let token = crate::auth::fake::token("https://new.idp.test", name);
        let token = format!("Bearer {token}");
        let visit = Visit {
            fields: vec![("authorization", token.as_str())],
            ..Visit::to("/")
        };
        let seen = visit.with(&world, &mut Browser::default()).await;
        seen.admitted
            .map(|admitted| admitted.canonical().as_str().to_owned())
    };
    ask("alice").await;
    assert_eq!(ask("Alice").await, None);
    assert_eq!(ask("alice").await, None);
    let links = crate::links::Links::new(Arc::clone(&world.store));
    let person = CanonicalSubject::named("uid:alice").unwrap();
    let account = identity("new", "Alice");
    let (provider, key) = (&account.provider, &account.key);
    let changes = links.would_change(&person, provider, key, at(0)).await;
    let decided = links
        .decide(&person, provider, key, (&changes.unwrap(), at(0)))
        .await;
    decided.unwrap();
    assert_eq!(ask("Alice").await.as_deref(), Some("uid:alice"));
    assert_eq!(ask("alice").await, None);
}

#[tokio::test]
async fn whoever_another_provider_has_barred_gets_no_session() {
    let (mut world, mut browser) = (unlinked(), Browser::default());
    everybody_to(&mut world, Arm::From);
    let barred = crate::revocation::Barred {
        provider: ProviderId::new("new"),
        account: identity("new", "n-1").key,
        person: Some(CanonicalSubject::named("uid:alice").unwrap()),
        key: None,
    };
    world.revocations.deny(&barred).await.unwrap();
    let seen = log_in(&world, &mut browser, "alice").await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN, "{seen:?}");
    assert!(!browser.jar.contains_key(COOKIE));
    let seen = log_in(&world, &mut browser, "bob").await;
    assert!(browser.jar.contains_key(COOKIE), "{seen:?}");
}
