//! Sessions of an old system that get one of ours beside them.

use super::*;
use crate::providers::Authenticated;
use crate::revocation::Asked as RevocationAsked;
use crate::revocation::Source as RevocationSource;
use crate::revocation::Target;
use crate::session::SessionId;

/// The old system has a cookie of its own and is asked about it; nobody has moved yet.
fn wrapping() -> World {
    let mut world = both();
    everybody_to(&mut world, Arm::From);
    world.canonical = Some(crate::links::settings::Canonical::by_claims(
        "uid:{subject}",
        Vec::new(),
        &["old", "new"],
    ));
    world.wraps = true;
    world
}

/// A browser with a session of the old system.
fn with_old(value: &str) -> Browser {
    let mut browser = Browser::default();
    browser.jar.insert("OLDSID".to_owned(), value.to_owned());
    browser
}

async fn who(world: &World, browser: &mut Browser) -> Option<String> {
    let seen = open(world, browser, "/").await;
    seen.admitted
        .map(|admitted| admitted.canonical().as_str().to_owned())
}

fn wrapped(world: &World) -> u64 {
    let text = world.metrics.render().unwrap();
    let start =
        "authferry_session_carryovers_total{app=\"crm\",method=\"wrap\",outcome=\"moved\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(start));
    line.map_or(0, |count| count.parse().unwrap())
}

/// The old system says of every cookie that it is of `who` until told otherwise; `None`: of nobody.
fn says(world: &World, who: Option<&'static str>) {
    *world.old.verdict.lock().unwrap() = Arc::new(move |_| match who {
        Some(who) => Ok(Authenticated::for_test(identity("old", who), at(1_000_000))),
        None => Err(crate::identity::Refusal::Inactive.into()),
    });
}

#[tokio::test]
async fn a_session_of_the_old_system_gets_one_of_ours_beside_it_and_is_not_asked_about_each_time() {
    let (world, mut browser) = (wrapping(), with_old("alice"));
    let first = open(&world, &mut browser, "/").await;
    assert_eq!(first.status, StatusCode::OK);
    assert!(
        first.set.len() == 1 && browser.jar.contains_key(COOKIE),
        "{first:?}"
    );
    assert_eq!(world.old.asked(), 1);
    let second = open(&world, &mut browser, "/").await.admitted.unwrap();
    assert_eq!(
        (second.arm(), second.rule(), second.canonical().as_str()),
        (Some(Arm::From), "wrap", "uid:alice")
    );
    assert_eq!((world.old.asked(), wrapped(&world)), (1, 1));
    // It is no session without the cookie that it stands for.
    let mut stolen = Browser::default();
    stolen
        .jar
        .insert(COOKIE.to_owned(), browser.jar[COOKIE].clone());
    assert_eq!(who(&world, &mut stolen).await, None);
    assert_eq!(
        who(&world, &mut browser).await.as_deref(),
        Some("uid:alice")
    );
}

#[tokio::test]
async fn ten_requests_at_once_make_one_session_and_so_does_a_browser_that_forgets_it() {
    let world = wrapping();
    let at_once = (0..10).map(|_| async {
        let mut browser = with_old("alice");
        open(&world, &mut browser, "/").await;
        browser.jar.remove(COOKIE).unwrap()
    });
    let mut cookies = futures_util::future::join_all(at_once).await;
    let mut forgetful = with_old("alice");
    open(&world, &mut forgetful, "/").await;
    cookies.extend(forgetful.jar.remove(COOKIE));
    cookies.sort();
    cookies.dedup();
    assert_eq!((cookies.len(), wrapped(&world)), (1, 1));
    // Somebody else's old session is somebody else's.
    let mut bob = with_old("bob");
    open(&world, &mut bob, "/").await;
    assert_ne!(bob.jar[COOKIE], cookies[0]);
}

#[tokio::test]
async fn the_cookie_beside_it_decides_whose_it_is() {
    let (world, mut browser) = (wrapping(), with_old("alice"));
    open(&world, &mut browser, "/").await;
    let of_alice = browser.jar[COOKIE].clone();
    // The old application has signed somebody else in.
    browser.jar.insert("OLDSID".to_owned(), "bob".to_owned());
    let seen = open(&world, &mut browser, "/").await;
    assert_eq!(seen.admitted.unwrap().canonical().as_str(), "uid:bob");
    assert_ne!(
        browser.jar[COOKIE], of_alice,
        "another person, another session"
    );
    assert_eq!(who(&world, &mut browser).await.as_deref(), Some("uid:bob"));
    // Alice's is over, also beside what it stood for.
    let id = SessionId::parse(&of_alice).unwrap();
    assert!(world.sessions().restore(id, at(0)).await.unwrap().is_none());
    // A session of ours that somebody signed in for stays theirs: what else the browser holds says nothing.
    let mut other = Browser::default();
    let mut signed = World::of(FakeProvider::old(), FakeProvider::new());
    signed.plan = Some(plan(Mode::Canary, vec![all_to(Arm::To)]));
    signed.wraps = true;
    log_in(&signed, &mut other, "carol").await;
    let mine = other.jar[COOKIE].clone();
    other.jar.insert("OLDSID".to_owned(), "bob".to_owned());
    let seen = open(&signed, &mut other, "/").await.admitted.unwrap();
    assert_eq!(
        (seen.identity().key.subject.as_str(), signed.old.asked()),
        ("carol", 0)
    );
    assert_eq!(other.jar[COOKIE], mine);
}

#[tokio::test]
async fn a_cookie_that_the_old_system_exchanges_for_another_stays_the_same_session() {
    let (world, mut browser) = (wrapping(), with_old("one"));
    says(&world, Some("alice"));
    open(&world, &mut browser, "/").await;
    let ours = browser.jar[COOKIE].clone();
    for value in ["two", "three"] {
        browser.jar.insert("OLDSID".to_owned(), value.to_owned());
        assert_eq!(
            who(&world, &mut browser).await.as_deref(),
            Some("uid:alice")
        );
        assert_eq!(browser.jar[COOKIE], ours);
    }
    assert_eq!((world.old.asked(), wrapped(&world)), (3, 1));
    // While nobody can say whose the new one is, it is nobody's.
    *world.old.verdict.lock().unwrap() = Arc::new(|_| Err(Outage::Timeout.into()));
    browser.jar.insert("OLDSID".to_owned(), "four".to_owned());
    let seen = open(&world, &mut browser, "/").await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(browser.jar[COOKIE], ours, "an outage is no sign-out");
}

#[tokio::test]
async fn what_was_opened_with_a_former_cookie_goes_on_while_requests_confirm_the_session() {
    let (world, mut browser) = (wrapping(), with_old("one"));
    says(&world, Some("alice"));
    open(&world, &mut browser, "/").await;
    let mut opened = browser.clone();
    browser.jar.insert("OLDSID".to_owned(), "two".to_owned());
    open(&world, &mut browser, "/").await;
    let asked = world.old.asked();
    let still = async |seconds: u64, opened: &mut Browser| {
        let visit = Visit {
            still: true,
            ..Visit::to("/").at(seconds)
        };
        visit.with(&world, opened).await.admitted.is_some()
    };
    assert!(still(299, &mut opened).await);
    assert_eq!(world.old.asked(), asked, "it says nothing of this cookie");
    // Nobody comes any more: the old session may have ended, and nobody can be asked by this cookie.
    assert!(!still(301, &mut opened.clone()).await);
    // A request that comes confirms it for what is open, too.
    assert!(
        Visit::to("/")
            .at(302)
            .with(&world, &mut browser)
            .await
            .admitted
            .is_some()
    );
    assert!(still(303, &mut opened).await);
}

#[tokio::test]
async fn it_ends_with_the_old_session_when_it_is_asked_about_again() {
    let (world, mut browser) = (wrapping(), with_old("alice"));
    says(&world, Some("alice"));
    open(&world, &mut browser, "/").await;
    says(&world, None);
    assert_eq!(
        who(&world, &mut browser).await.as_deref(),
        Some("uid:alice")
    );
    let after = Visit::to("/").at(301).with(&world, &mut browser).await;
    assert!(
        after.admitted.is_none() && after.status == StatusCode::FOUND,
        "{after:?}"
    );
    assert!(!browser.jar.contains_key(COOKIE));

    // Away: one more period, and then nobody can say any more. It is not a sign-out.
    let mut browser = with_old("alice");
    says(&world, Some("alice"));
    open(&world, &mut browser, "/").await;
    *world.old.verdict.lock().unwrap() = Arc::new(|_| Err(Outage::Timeout.into()));
    for (seconds, status) in [
        (301, StatusCode::OK),
        (601, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let seen = Visit::to("/").at(seconds).with(&world, &mut browser).await;
        assert_eq!(seen.status, status, "{seconds}");
    }
    says(&world, Some("alice"));
    let seen = Visit::to("/").at(620).with(&world, &mut browser).await;
    assert_eq!(seen.status, StatusCode::OK);
}

#[tokio::test]
async fn it_lives_no_longer_than_the_old_session_and_ends_where_that_is_no_longer_honoured() {
    let (mut world, mut browser) = (wrapping(), with_old("alice"));
    *world.old.verdict.lock().unwrap() =
        Arc::new(|_| Ok(Authenticated::for_test(identity("old", "alice"), at(100))));
    open(&world, &mut browser, "/").await;
    assert!(open(&world, &mut browser, "/").await.admitted.is_some());
    says(&world, None);
    let seen = Visit::to("/").at(101).with(&world, &mut browser).await;
    assert!(seen.admitted.is_none());

    let mut browser = with_old("another");
    says(&world, Some("alice"));
    open(&world, &mut browser, "/").await;
    let asked = world.old.asked();
    world.plan.as_mut().unwrap().stage.mode = Mode::ModernOnly;
    let seen = Visit::to("/").at(301).with(&world, &mut browser).await;
    assert!(seen.admitted.is_none());
    for _ in 0..40 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        world.old.asked(),
        asked + 1,
        "who is not honoured is not asked, but whether there is something to end"
    );
    assert_eq!(*world.old.ended.lock().unwrap(), ["another"]);
}

#[tokio::test]
async fn one_that_was_idle_for_too_long_is_made_anew_but_not_of_somebody_who_has_moved() {
    let (world, mut browser) = (wrapping(), with_old("alice"));
    says(&world, Some("alice"));
    open(&world, &mut browser, "/").await;
    let first = browser.jar[COOKIE].clone();
    let later = Visit::to("/").at(4_000).with(&world, &mut browser).await;
    assert_eq!(later.status, StatusCode::OK, "nobody signs in for this");
    assert_ne!(browser.jar[COOKIE], first);

    let plan = world.plan.as_ref().unwrap();
    let alice = CanonicalSubject::named("uid:alice").unwrap();
    let pins = world.pins();
    let moved = pins.moved(&plan.id, (&alice, &[0; 32]), plan.epoch, at(4_000));
    moved.await.unwrap();
    let after = Visit::to("/").at(8_000).with(&world, &mut browser).await;
    assert!(
        after.admitted.is_none() && after.status == StatusCode::FOUND,
        "{after:?}"
    );
}

#[tokio::test]
async fn a_sign_out_ends_both_and_a_revocation_ends_it_for_good() {
    let (world, mut browser) = (wrapping(), with_old("alice"));
    open(&world, &mut browser, "/").await;
    let copy = browser.clone();
    let out = Visit {
        method: Method::POST,
        fields: vec![("sec-fetch-site", "same-origin")],
        ..Visit::to("/.authferry/logout")
    };
    out.with(&world, &mut browser).await;
    assert!(!browser.jar.contains_key(COOKIE) && !browser.jar.contains_key("OLDSID"));
    let id = SessionId::parse(&copy.jar[COOKIE]).unwrap();
    assert!(world.sessions().restore(id, at(0)).await.unwrap().is_none());

    let mut bob = with_old("bob");
    open(&world, &mut bob, "/").await;
    let asked = RevocationAsked {
        target: Target::Subject {
            subject: "uid:bob".to_owned(),
        },
        source: RevocationSource::Operator,
        actor: String::from("test"),
        reason: String::new(),
        keep: None,
        provider: None,
    };
    world.revocations.revoke(asked).await.unwrap();
    assert_eq!(who(&world, &mut bob).await, None);
    bob.jar.remove(COOKIE);
    bob.jar.insert("OLDSID".to_owned(), "bob".to_owned());
    assert_eq!(who(&world, &mut bob).await, None);
}

#[tokio::test]
async fn whoever_signs_out_is_out_with_the_bare_cookie_of_the_old_system_too() {
    let (world, mut browser) = (wrapping(), with_old("alice"));
    says(&world, Some("alice"));
    open(&world, &mut browser, "/").await;
    // Kept, by a worker or another instance, for the next request with that cookie alone.
    let bare = open(&world, &mut with_old("alice"), "/").await;
    let kept = bare.admitted.unwrap();
    let beside = open(&world, &mut browser, "/").await.admitted.unwrap();
    assert!(kept.still_good(KillPosition::Off, at(0)));
    let out = || Visit {
        method: Method::POST,
        fields: vec![("sec-fetch-site", "same-origin")],
        ..Visit::to("/.authferry/logout")
    };
    out().with(&world, &mut browser).await;
    for kept in [&kept, &beside] {
        assert!(!kept.still_good(KillPosition::Off, at(0)));
    }
    // The old system has not heard of it, and says yes for as long.
    assert_eq!(who(&world, &mut with_old("alice")).await, None);
    let bob = who(&world, &mut with_old("bob")).await;
    assert_eq!(bob.as_deref(), Some("uid:alice"), "another session of hers");

    // One that came alone counts if its system says that it is one; what somebody has made up fills no list.
    let known = async || world.revocations.list(9).await.unwrap().len();
    assert_eq!(known().await, 1);
    let alone = open(&world, &mut with_old("carol"), "/").await;
    let alone = alone.admitted.unwrap();
    out().with(&world, &mut with_old("carol")).await;
    assert!(!alone.still_good(KillPosition::Off, at(0)));
    says(&world, None);
    out().with(&world, &mut with_old("made-up")).await;
    assert_eq!(known().await, 2);
}

#[tokio::test]
async fn whatever_ends_to_make_room_for_it_is_given_back_at_its_provider() {
    let (world, mut elsewhere) = (wrapping(), Browser::default());
    let settings = crate::session::settings::Settings {
        max_per_subject: 1,
        ..crate::auth::fake::session_settings()
    };
    world.sessions().reload(&settings).unwrap();
    log_in(&world, &mut elsewhere, "alice").await;
    assert!(who(&world, &mut elsewhere).await.is_some());
    // A moment later: it is the older one that ends.
    let later = Visit::to("/").at(1);
    later.with(&world, &mut with_old("alice")).await;
    assert_eq!(
        (who(&world, &mut elsewhere).await, wrapped(&world)),
        (None, 1)
    );
    let old = world.old.login.as_ref().unwrap();
    while old.revoked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*old.revoked.lock().unwrap(), ["refresh-token-of-alice"]);
}

#[tokio::test]
async fn without_a_store_the_old_session_goes_on_by_itself() {
    let store = Arc::new(FakeStore::default());
    let mut world = World::on(
        Arc::clone(&store) as _,
        FakeProvider::old().with_login(),
        FakeProvider::new(),
    );
    world.plan = Some(plan(Mode::Canary, vec![all_to(Arm::From)]));
    world.wraps = true;
    let mut browser = with_old("alice");
    store.away.store(true, Ordering::SeqCst);
    let seen = open(&world, &mut browser, "/").await;
    assert!(seen.admitted.is_some() && seen.set.is_empty(), "{seen:?}");
}

#[tokio::test]
async fn nothing_opens_what_stands_for_an_old_session_but_that_session() {
    let (world, mut browser) = (wrapping(), with_old("alice"));
    open(&world, &mut browser, "/").await;
    let rows = world.store.scan("wrap", b"", 10, at(0)).await.unwrap();
    assert_eq!(rows.len(), 1);
    let ring = world.sessions().ring();
    let (key, row) = &rows[0];
    let open = |secret: &[u8]| ring.open(crate::session::Purpose::Wrap, secret, &[key], &row.value);
    assert!(open(b"alice").is_some() && open(b"").is_none() && open(b"bob").is_none());
}
