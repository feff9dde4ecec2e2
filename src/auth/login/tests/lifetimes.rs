//! How long a session lives that a login makes, and how many of them a person has.

use super::*;
use crate::session::SessionId;

/// When the session of a browser ends.
async fn ends(world: &World, browser: &Browser) -> UnixTime {
    let id = SessionId::parse(&browser.jar[COOKIE]).unwrap();
    let restored = world.sessions().restore(id, at(1)).await.unwrap();
    restored.unwrap().ends()
}

async fn signs_in(world: &World, browser: &mut Browser) {
    let back = log_in(world, browser, "alice").await;
    assert_eq!(back.status, StatusCode::SEE_OTHER, "{}", back.body);
}

/// Everybody belongs to one side, and providers say how long their sessions last.
fn of(arm: Arm, old: Option<u64>, new: Option<u64>) -> World {
    let mut world = World::of(FakeProvider::old().with_login(), FakeProvider::new());
    world.plan = Some(plan(Mode::Canary, vec![all_to(arm)]));
    say(&world, old, new);
    world
}

fn say(world: &World, old: Option<u64>, new: Option<u64>) {
    for (provider, said) in [(&world.old, old), (&world.new, new)] {
        let login = provider.login.as_ref().unwrap();
        *login.session_lasts.lock().unwrap() = said.map(Duration::from_secs);
    }
}

fn aligned(world: &World, shortest: bool) {
    let settings = crate::session::settings::Settings {
        shortest,
        ..crate::auth::fake::session_settings()
    };
    world.sessions().reload(&settings).unwrap();
}

#[tokio::test]
async fn a_session_lives_no_longer_than_the_shorter_side_lets_one_if_the_settings_say_so() {
    let mut world = of(Arm::From, Some(600), Some(7_200));
    aligned(&world, true);
    let mut browser = Browser::default();
    signs_in(&world, &mut browser).await;
    assert_eq!(ends(&world, &browser).await, at(600));
    // At the other side too, which would let it live for longer.
    world.plan = Some(plan(Mode::Canary, vec![all_to(Arm::To)]));
    let mut browser = Browser::default();
    signs_in(&world, &mut browser).await;
    assert_eq!(ends(&world, &browser).await, at(600));
    // What it said once is known to whoever starts now.
    let mut other = World::on(
        Arc::clone(&world.store),
        FakeProvider::old().with_login(),
        FakeProvider::new(),
    );
    say(&other, None, Some(7_200));
    other.plan = Some(plan(Mode::Canary, vec![all_to(Arm::To)]));
    aligned(&other, true);
    let mut browser = Browser::default();
    signs_in(&other, &mut browser).await;
    assert_eq!(ends(&other, &browser).await, at(600));
    // Not where the keys say how long it lives.
    aligned(&other, false);
    let mut browser = Browser::default();
    signs_in(&other, &mut browser).await;
    assert_eq!(ends(&other, &browser).await, at(12 * 3_600));
}

#[tokio::test]
async fn what_was_said_while_nobody_minded_counts_from_the_moment_that_somebody_does() {
    let mut world = of(Arm::From, Some(600), Some(7_200));
    aligned(&world, false);
    signs_in(&world, &mut Browser::default()).await;
    aligned(&world, true);
    world.plan = Some(plan(Mode::Canary, vec![all_to(Arm::To)]));
    let mut browser = Browser::default();
    signs_in(&world, &mut browser).await;
    assert_eq!(ends(&world, &browser).await, at(600), "by the other side");
}

#[tokio::test]
async fn whoever_signs_in_again_in_the_same_browser_loses_no_other_session() {
    let world = of(Arm::To, None, None);
    let settings = crate::session::settings::Settings {
        max_per_subject: 2,
        ..crate::auth::fake::session_settings()
    };
    world.sessions().reload(&settings).unwrap();
    let (mut first, mut second) = (Browser::default(), Browser::default());
    signs_in(&world, &mut first).await;
    signs_in(&world, &mut second).await;
    // Its own session is replaced, so there are two as before.
    let start = Visit::to("/.authferry/login")
        .with(&world, &mut second)
        .await;
    let back = open(&world, &mut second, &signed_in(&start.location, "alice")).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER, "{}", back.body);
    for browser in [&mut first, &mut second] {
        assert!(open(&world, browser, "/orders").await.admitted.is_some());
    }
}
