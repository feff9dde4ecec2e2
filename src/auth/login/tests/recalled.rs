//! People who are sent back to the old side: whom it does not know, and who has a newer password.

use super::*;

/// Both sides say who their people are; everybody goes to the new one.
fn joined() -> World {
    let mut world = both();
    world.canonical = Some(crate::links::settings::Canonical::by_claims(
        "uid:{subject}",
        Vec::new(),
        &["old", "new"],
    ));
    world
}

/// Signs in at the new side, and loses the session.
async fn moves(world: &World, browser: &mut Browser, person: &str) {
    let seen = log_in(world, browser, person).await;
    assert_eq!(seen.location, "/orders?x=1", "{seen:?}");
    browser.jar.remove(COOKIE);
}

async fn under_legacy(world: &World, browser: &mut Browser, target: &str) -> Seen {
    let visit = Visit::to(target).killed(KillPosition::Legacy);
    visit.with(world, browser).await
}

#[tokio::test]
async fn who_has_no_account_at_the_old_side_stays_at_the_new_one_when_the_switch_sends_everybody_back()
 {
    let mut world = joined();
    let (mut alice, mut newcomer) = (Browser::default(), Browser::default());
    everybody_to(&mut world, Arm::From);
    log_in(&world, &mut alice, "alice").await;
    alice.jar.remove(COOKIE);
    everybody_to(&mut world, Arm::To);
    moves(&world, &mut alice, "alice").await;
    moves(&world, &mut newcomer, "newcomer").await;

    let seen = under_legacy(&world, &mut alice, "/a").await;
    assert!(
        seen.location.starts_with("https://old.idp.test/"),
        "{seen:?}"
    );
    let seen = under_legacy(&world, &mut newcomer, "/a").await;
    assert!(
        seen.location.starts_with("https://new.idp.test/"),
        "{seen:?}"
    );
    let callback = signed_in(&seen.location, "newcomer");
    let end = under_legacy(&world, &mut newcomer, &callback).await;
    assert_eq!(end.location, "/a", "{end:?}");
    assert!(
        under_legacy(&world, &mut newcomer, "/a")
            .await
            .admitted
            .is_some()
    );
    // Nobody else is what a copied browser says: it steers, and the account decides.
    newcomer.jar.remove(COOKIE);
    let seen = under_legacy(&world, &mut Browser::default(), "/a").await;
    assert!(
        seen.location.starts_with("https://old.idp.test/"),
        "{seen:?}"
    );
}

/// Nor is there another place to begin at for them while the new side has yet to prove itself.
#[tokio::test]
async fn who_has_no_account_at_the_old_side_is_not_sent_there_by_the_bound_of_the_first_sign_ins() {
    let (world, mut newcomer) = (joined(), Browser::default());
    moves(&world, &mut newcomer, "newcomer").await;
    first::begins(&world);
    let mut last = String::new();
    for _ in 0..11 {
        let seen = open(&world, &mut Browser::default(), "/a").await;
        last = seen.location;
    }
    assert!(last.starts_with("https://old.idp.test/"), "{last}");
    let seen = open(&world, &mut newcomer, "/a").await;
    assert!(
        seen.location.starts_with("https://new.idp.test/"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn who_has_no_account_at_the_old_side_is_told_why_when_the_new_one_cannot_be_used() {
    let mut world = joined();
    let mut newcomer = Browser::default();
    moves(&world, &mut newcomer, "newcomer").await;
    world.fallbacks = vec![Fallback {
        app: world.app.clone(),
        from: Arm::To,
        when: vec![Outage::Connect],
        provider_down_for: Duration::from_secs(30),
        not_paths: Vec::new(),
        max_age: Duration::from_secs(3_600),
        recheck: false,
        per_hour: 9,
        assurance: Vec::new(),
        account_by: None,
        mark: None,
    }];
    away(&world.new, 0);
    let visit = Visit::to("/a").at(60).killed(KillPosition::Legacy);
    let seen = visit.with(&world, &mut newcomer).await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE, "{seen:?}");
    assert!(
        seen.body
            .contains("Your account is at the new sign-in service only")
    );
    assert!(seen.body.contains("Reference: <code>"));

    // It is there, and who it lets in is what the switch is about.
    let mut world = joined();
    let mut newcomer = Browser::default();
    moves(&world, &mut newcomer, "newcomer").await;
    world.revokes = true;
    let seen = under_legacy(&world, &mut newcomer, "/a").await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE, "{seen:?}");
    assert!(seen.location.is_empty());
}

/// Somebody who has moved and is sent back, and what they are told first.
async fn sent_back(person: &str, pages: crate::auth::settings::Pages) -> (World, Browser, Seen) {
    let (mut world, mut browser) = (joined(), Browser::default());
    moves(&world, &mut browser, person).await;
    world.look = Arc::new(Look::new(&crate::auth::settings::Pages {
        changed: true,
        ..pages
    }));
    everybody_to(&mut world, Arm::From);
    world.plan.as_mut().unwrap().epoch += 1;
    let told = open(&world, &mut browser, "/orders").await;
    assert_eq!(told.status, StatusCode::OK, "{told:?}");
    assert!(told.body.contains("Your usual sign-in page is back"));
    (world, browser, told)
}

const ON: &str = "/.authferry/login?rd=%2Forders";

#[tokio::test]
async fn who_has_a_newer_password_is_told_which_one_it_is_and_where_to_choose_another() {
    use crate::auth::settings::AccountPages;
    use crate::auth::settings::Pages;

    let page = AccountPages {
        password: Some("https://old.idp.test/reset?a=1&b=2".into()),
        profile: None,
    };
    let elsewhere = AccountPages {
        password: Some("https://new.idp.test/reset".into()),
        profile: None,
    };
    let accounts = [
        (ProviderId::new("old"), page),
        (ProviderId::new("new"), elsewhere),
    ];
    let pages = || Pages {
        accounts: accounts.clone().into(),
        ..Pages::default()
    };
    // Whose password is the one of before has nothing to hear of it.
    let (_, _, told) = sent_back("alice", pages()).await;
    assert!(!told.body.contains("password") && !told.body.contains("reset"));
    assert!(told.body.contains(&format!("href=\"{ON}\"")), "{told:?}");

    let (world, mut browser, told) = sent_back("resets", pages()).await;
    assert!(
        told.body.contains(
            "a new password of yours since 1970-01-15. Here you need the one from before."
        ),
        "{told:?}"
    );
    let reset = "href=\"https://old.idp.test/reset?a=1&amp;b=2\"";
    assert!(
        told.body.contains(reset) && !told.body.contains("new.idp.test"),
        "{told:?}"
    );
    assert!(told.body.contains(&format!("href=\"{ON}\"")), "{told:?}");
    let start = open(&world, &mut browser, ON).await;
    assert!(start.location.starts_with("https://old.idp.test/"));

    let (_, _, told) = sent_back("resets", Pages::default()).await;
    assert!(told.body.contains("1970-01-15") && !told.body.contains("reset"));
    // Somebody else has signed in there since, in the same browser.
    let (mut world, mut browser) = (joined(), Browser::default());
    moves(&world, &mut browser, "resets").await;
    moves(&world, &mut browser, "alice").await;
    world.look = Arc::new(Look::new(&Pages {
        changed: true,
        ..pages()
    }));
    everybody_to(&mut world, Arm::From);
    let told = open(&world, &mut browser, "/orders").await;
    assert!(!told.body.contains("password"), "{told:?}");
}

#[tokio::test]
async fn who_is_sent_back_is_told_once_that_the_page_from_before_is_back() {
    let (mut world, mut alice, _) = sent_back("alice", Default::default()).await;
    let on = ON;
    let start = open(&world, &mut alice, on).await;
    assert!(
        start.location.starts_with("https://old.idp.test/"),
        "{start:?}"
    );
    // Forward again: the same people, and the new page once more.
    world.plan.as_mut().unwrap().epoch += 1;
    everybody_to(&mut world, Arm::To);
    open(&world, &mut alice, on).await;
    let start = open(&world, &mut alice, on).await;
    assert!(
        start.location.starts_with("https://new.idp.test/"),
        "{start:?}"
    );
    // Who has never been there has nothing to hear.
    everybody_to(&mut world, Arm::From);
    let start = open(&world, &mut Browser::default(), "/").await;
    assert!(
        start.location.starts_with("https://old.idp.test/"),
        "{start:?}"
    );
}
