//! What was on its way, and what was open, when a session moved without a page.

use super::carry::arm;
use super::carry::asking;
use super::carry::asking_on;
use super::carry::of_the_old_side;
use super::carry::page;
use super::*;
use crate::auth::gate::Over;
use crate::providers::Provider;
use crate::revocation::Revocations;
use crate::session::SessionId;
use crate::store::Store as _;

/// Somebody who has moved, and a tab of theirs that has not heard of it.
async fn moved(world: &mut World) -> (Browser, Browser) {
    let mut browser = of_the_old_side(world).await;
    let tab = browser.clone();
    moves(world, &mut browser).await;
    (browser, tab)
}

async fn moves(world: &World, browser: &mut Browser) {
    let asked = page("/").with(world, browser).await;
    let callback = signed_in(&asked.location, "alice");
    page(&callback).with(world, browser).await;
    assert_eq!(arm(world, browser).await, Some(Arm::To));
}

async fn signs_out(world: &World, tab: &mut Browser) {
    let out = Visit {
        method: Method::POST,
        fields: vec![("sec-fetch-site", "same-origin")],
        ..Visit::to("/.authferry/logout")
    };
    let out = out.with(world, tab).await;
    assert_eq!(out.status, StatusCode::SEE_OTHER, "{out:?}");
}

/// Whether an answer touches the cookie of the session, which has the same name for the old and the new one.
fn touches(seen: &Seen) -> bool {
    let name = format!("{COOKIE}=");
    seen.set.iter().any(|cookie| cookie.starts_with(&name))
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_is_answered_as_before_and_takes_nothing_of_the_new_session() {
    let mut world = asking();
    let (mut browser, mut tab) = moved(&mut world).await;
    let call = || Visit {
        fields: vec![("accept", "application/json")],
        ..Visit::to("/api")
    };
    // Also a page of a tab that does not know that somebody was asked after.
    for visit in [call(), page("/other"), Visit::to("/")] {
        let seen = visit.with(&world, &mut tab).await;
        assert_eq!(seen.status, StatusCode::OK, "{seen:?}");
        let admitted = seen.admitted.as_ref().unwrap();
        assert_eq!(admitted.arm(), Some(Arm::From));
        assert!(seen.location.is_empty() && !touches(&seen), "{seen:?}");
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    // Whatever comes later still forgets nothing that it does not know.
    for visit in [call(), page("/other")] {
        let seen = visit.with(&world, &mut tab).await;
        assert!(seen.admitted.is_none() && !touches(&seen), "{seen:?}");
    }
    assert_eq!(arm(&world, &mut browser).await, Some(Arm::To));
}

#[tokio::test]
async fn whoever_signs_out_of_the_new_session_is_out_of_the_one_that_still_answers() {
    let mut world = asking();
    let (mut browser, mut tab) = moved(&mut world).await;
    assert_eq!(arm(&world, &mut tab).await, Some(Arm::From));
    signs_out(&world, &mut browser).await;
    assert_eq!(arm(&world, &mut tab).await, None);
    assert!(world.sessions().in_use(at(0)).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_session_that_others_end_takes_along_the_one_that_still_answers() {
    let mut world = asking();
    let (browser, mut tab) = moved(&mut world).await;
    assert_eq!(arm(&world, &mut tab).await, Some(Arm::From));
    let row = SessionId::parse(&browser.jar[COOKIE]).unwrap().row();
    let ended = world.sessions().end_known(&row, at(0)).await.unwrap();
    assert!(ended.is_some());
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(arm(&world, &mut tab).await, None);
}

/// What is done behind requests, as long as the list is there.
fn looks_after(world: &World, list: &Arc<Revocations>) {
    let old: Arc<dyn Provider> = Arc::clone(&world.old) as _;
    let named = move |id: &ProviderId| (id.as_str() == "old").then(|| Arc::clone(&old));
    list.fan_out(Box::new(named), &tokio::runtime::Handle::current());
}

fn revoked_at_old(world: &World) -> Vec<String> {
    let login = world.old.login.as_ref().unwrap();
    login.revoked.lock().unwrap().clone()
}

async fn owed(world: &World) -> usize {
    let owed = world.sessions().owed_ends(at(9_999), at(0)).await;
    owed.unwrap().len()
}

#[tokio::test]
async fn what_a_process_was_about_to_end_is_ended_when_it_starts_again() {
    let mut world = asking();
    let (mut browser, mut tab) = moved(&mut world).await;
    assert_eq!(arm(&world, &mut tab).await, Some(Arm::From));
    assert_eq!(owed(&world).await, 1);
    // Long after whoever was to end it would have.
    world.clock.set(at(600));
    let again = Revocations::unknown_for_test(&world.revocations);
    looks_after(&world, &again);
    let ended = async {
        while 0 < owed(&world).await {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(4), ended).await;
    assert!(ended.is_ok(), "before whoever was to end it does");
    assert_eq!(arm(&world, &mut tab).await, None);
    assert_eq!(arm(&world, &mut browser).await, Some(Arm::To));
    for _ in 0..40 {
        tokio::task::yield_now().await;
    }
    assert_eq!(revoked_at_old(&world), ["refresh-token-of-alice"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_to_end_ends_however_long_the_store_is_away() {
    let store = Arc::new(FakeStore::default());
    let mut world = asking_on(Arc::clone(&store));
    let (mut browser, mut tab) = moved(&mut world).await;
    looks_after(&world, &world.revocations);
    store.away.store(true, Ordering::SeqCst);
    // Nobody has patience any more.
    tokio::time::sleep(Duration::from_mins(10)).await;
    world.clock.set(at(600));
    store.away.store(false, Ordering::SeqCst);
    assert_eq!(owed(&world).await, 1);
    assert!(revoked_at_old(&world).is_empty());
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert_eq!(arm(&world, &mut tab).await, None);
    assert_eq!(arm(&world, &mut browser).await, Some(Arm::To));
    assert_eq!(owed(&world).await, 0);
    assert_eq!(revoked_at_old(&world), ["refresh-token-of-alice"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_owed_once_it_has_ended_or_where_it_stays() {
    let store = Arc::new(FakeStore::default());
    let mut world = asking_on(Arc::clone(&store));
    looks_after(&world, &world.revocations);
    let (mut browser, mut tab) = moved(&mut world).await;
    assert_eq!(owed(&world).await, 1);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(owed(&world).await, 0, "by whoever was to end it");
    assert_eq!(arm(&world, &mut tab).await, None);
    assert_eq!(arm(&world, &mut browser).await, Some(Arm::To));
    // Nobody is in the place of whoever stays.
    let mut world = asking();
    looks_after(&world, &world.revocations);
    let mut stays = of_the_old_side(&mut world).await;
    world.clock.set(at(600));
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(owed(&world).await, 0);
    everybody_to(&mut world, Arm::From);
    assert_eq!(arm(&world, &mut stays).await, Some(Arm::From));
}

#[tokio::test(start_paused = true)]
async fn what_is_open_is_led_to_the_session_in_the_place_of_its_own_and_ends_with_that() {
    let store = Arc::new(FakeStore::default());
    let mut world = asking_on(Arc::clone(&store));
    let mut browser = of_the_old_side(&mut world).await;
    let before = browser.clone();
    let opened = open(&world, &mut browser, "/ws").await.admitted.unwrap();
    moves(&world, &mut browser).await;
    assert_eq!(opened.over(KillPosition::Off, at(0)), None, "not yet");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(
        opened.over(KillPosition::Off, at(0)),
        Some(Over::AskAgain),
        "nobody was put out"
    );
    let (gate, policy, facts) = (Gate::new(world.deps()), world.policy(), world.facts());
    let fields = |browser: &Browser| {
        let mut headers = HeaderMap::new();
        let cookies = HeaderValue::from_str(&browser.cookies()).unwrap();
        headers.insert(COOKIE_HEADER, cookies);
        headers
    };
    let headers = fields(&before);
    let presented = extract(&headers, None, policy.owners(), &[]);
    let presented = presented.unwrap().unwrap();
    let cookie = gate.moved_to(&presented, at(0)).await.unwrap().unwrap();
    assert_eq!(*cookie.expose(), browser.jar[COOKIE]);
    let follows = presented.with_session(cookie.expose()).unwrap();
    let channel = world.channel();
    let asks = async || {
        let way = (&facts, &channel);
        gate.admit_again(&policy, 0, &follows, way, KillPosition::Off, at(0))
            .await
    };
    let after = asks().await.unwrap();
    assert_eq!(
        (after.arm(), after.canonical()),
        (Some(Arm::To), opened.canonical())
    );
    // Whoever reads the store learns of neither, and whoever holds another cookie is led nowhere.
    let id = SessionId::parse(&browser.jar[COOKIE]).unwrap();
    let rows = store.scan("successor", b"", 9, at(0)).await.unwrap();
    assert_eq!(rows.len(), 1);
    for (_, row) in &rows {
        let shown = |bytes: &[u8]| row.value.windows(bytes.len()).any(|part| part == bytes);
        assert!(!shown(&id.row()) && !shown(id.as_str().as_bytes()));
    }
    let mut stranger = Browser::default();
    stranger.jar.insert(COOKIE.to_owned(), "A".repeat(43));
    let headers = fields(&stranger);
    let theirs = extract(&headers, None, policy.owners(), &[]);
    let theirs = theirs.unwrap().unwrap();
    assert!(gate.moved_to(&theirs, at(0)).await.unwrap().is_none());

    signs_out(&world, &mut browser).await;
    assert_eq!(
        after.over(KillPosition::Off, at(0)),
        Some(Over::Revoked),
        "for good"
    );
    assert!(asks().await.is_err());
    assert!(gate.moved_to(&follows, at(0)).await.unwrap().is_none());
}

/// A new sign-in in the same browser ends the session before it, whether the store takes its row away or not.
#[tokio::test]
async fn a_session_is_over_after_a_new_sign_in_though_the_store_keeps_its_row() {
    for side in [Arm::From, Arm::To] {
        let store = Arc::new(FakeStore::default());
        let mut world = World::on(
            Arc::clone(&store) as _,
            FakeProvider::old().with_login(),
            FakeProvider::new(),
        );
        plan_of(&mut world, Arm::To);
        let mut browser = Browser::default();
        let second_tab = open(&world, &mut browser, "/a").await;
        everybody_to(&mut world, side);
        log_in(&world, &mut browser, "alice").await;
        let before = browser.clone();
        store.keeps.store(true, Ordering::SeqCst);
        let callback = signed_in(&second_tab.location, "alice");
        open(&world, &mut browser, &callback).await;
        assert_ne!(browser.jar[COOKIE], before.jar[COOKIE]);
        for keeps in [true, false] {
            store.keeps.store(keeps, Ordering::SeqCst);
            let seen = open(&world, &mut browser, "/").await;
            assert_eq!(seen.admitted.unwrap().arm(), Some(Arm::To), "{keeps}");
            let seen = open(&world, &mut before.clone(), "/").await;
            assert!(seen.admitted.is_none(), "{keeps}: {seen:?}");
        }
    }
}
