//! Who signs out while they are asked after without a page stays signed out, whichever of the two comes first.

use super::carry::arm;
use super::carry::asking;
use super::carry::asking_on;
use super::carry::counted;
use super::carry::of_the_old_side;
use super::carry::page;
use super::*;
use crate::identity::Refusal;

/// Somebody with a session of the old system itself who belongs to the new side.
fn of_the_old_system(world: &mut World) -> Browser {
    let mut browser = Browser::default();
    everybody_to(world, Arm::To);
    browser.jar.insert("OLDSID".to_owned(), "alice".to_owned());
    browser
}

/// Signs out in another tab, which knows what this one knew.
async fn signs_out(world: &World, tab: &mut Browser) -> Seen {
    let out = Visit {
        method: Method::POST,
        fields: vec![("sec-fetch-site", "same-origin")],
        ..Visit::to("/.authferry/logout")
    };
    out.with(world, tab).await
}

fn running(world: &World) -> bool {
    !world.sessions().in_use(at(0)).is_empty()
}

#[tokio::test]
async fn whoever_signs_out_while_the_new_session_is_written_stays_signed_out() {
    for native in [false, true] {
        let store = Arc::new(FakeStore::default());
        let mut world = asking_on(Arc::clone(&store));
        let mut browser = if native {
            of_the_old_system(&mut world)
        } else {
            of_the_old_side(&mut world).await
        };
        let asked = page("/").with(&world, &mut browser).await;
        let mut other_tab = browser.clone();
        let callback = signed_in(&asked.location, "alice");
        *store.halts_at.lock().unwrap() = Some("session");
        let out = async {
            store.halted.notified().await;
            let out = signs_out(&world, &mut other_tab).await;
            store.goes_on.notify_one();
            out
        };
        let back = page(&callback).with(&world, &mut browser);
        let (back, out) = tokio::join!(back, out);
        assert_eq!(out.status, StatusCode::SEE_OTHER, "{out:?}");
        assert_eq!(back.location, "/");
        assert!(counted(&world, "refused"), "native: {native}");
        assert_eq!(arm(&world, &mut browser).await, None, "native: {native}");
        assert!(!running(&world), "nobody holds what was made");
    }
}

#[tokio::test]
async fn whoever_signs_out_before_the_browser_has_heard_of_the_new_session_stays_signed_out() {
    for native in [false, true] {
        let mut world = asking();
        let mut browser = if native {
            of_the_old_system(&mut world)
        } else {
            of_the_old_side(&mut world).await
        };
        let asked = page("/").with(&world, &mut browser).await;
        let mut other_tab = browser.clone();
        let callback = signed_in(&asked.location, "alice");
        page(&callback).with(&world, &mut browser).await;
        assert!(counted(&world, "moved"), "native: {native}");
        // It was on its way with the session before.
        let out = signs_out(&world, &mut other_tab).await;
        assert_eq!(out.status, StatusCode::SEE_OTHER, "{out:?}");
        assert_eq!(arm(&world, &mut browser).await, None, "native: {native}");
        assert!(!running(&world), "native: {native}");
    }
}

#[tokio::test]
async fn whose_session_at_the_old_system_ends_meanwhile_is_not_moved() {
    let mut world = asking();
    let mut browser = of_the_old_system(&mut world);
    let asked = page("/").with(&world, &mut browser).await;
    // They sign out in the old application, which leaves its cookie where it is.
    *world.old.verdict.lock().unwrap() = Arc::new(|_| Err(Refusal::Inactive.into()));
    let callback = signed_in(&asked.location, "alice");
    page(&callback).with(&world, &mut browser).await;
    assert!(counted(&world, "refused"));
    assert!(!browser.jar.contains_key(COOKIE));
}

#[tokio::test]
async fn what_is_made_while_the_store_goes_away_is_given_to_nobody() {
    let store = Arc::new(FakeStore::default());
    let mut world = asking_on(Arc::clone(&store));
    let mut browser = of_the_old_side(&mut world).await;
    let before = browser.jar[COOKIE].clone();
    let asked = page("/").with(&world, &mut browser).await;
    let callback = signed_in(&asked.location, "alice");
    *store.halts_at.lock().unwrap() = Some("handover");
    let goes_away = async {
        store.halted.notified().await;
        store.away.store(true, Ordering::SeqCst);
        store.goes_on.notify_one();
    };
    let back = page(&callback).with(&world, &mut browser);
    let (back, ()) = tokio::join!(back, goes_away);
    assert_eq!(back.location, "/");
    assert_eq!(browser.jar[COOKIE], before);
    store.away.store(false, Ordering::SeqCst);
    assert_eq!(arm(&world, &mut browser).await, Some(Arm::From));
}

/// Another instance over the same store, with the same two providers.
fn beside(world: &World, store: &Arc<FakeStore>) -> World {
    let mut other = asking_on(Arc::clone(store));
    (other.old, other.new) = (Arc::clone(&world.old), Arc::clone(&world.new));
    everybody_to(&mut other, Arm::To);
    other
}

/// The refresh tokens that were given back at both providers, once all of them are.
async fn given_back(world: &World) -> [Vec<String>; 2] {
    for _ in 0..40 {
        tokio::task::yield_now().await;
    }
    [&world.old, &world.new].map(|at| at.login.as_ref().unwrap().revoked.lock().unwrap().clone())
}

const TOKEN: &str = "refresh-token-of-alice";

#[tokio::test]
async fn whoever_signs_out_at_another_instance_stays_signed_out_and_all_tokens_are_given_back() {
    for (native, before) in [(false, true), (true, true), (false, false), (true, false)] {
        let store = Arc::new(FakeStore::default());
        let mut world = asking_on(Arc::clone(&store));
        let mut browser = if native {
            of_the_old_system(&mut world)
        } else {
            of_the_old_side(&mut world).await
        };
        let other = beside(&world, &store);
        let asked = page("/").with(&world, &mut browser).await;
        let mut other_tab = browser.clone();
        let callback = signed_in(&asked.location, "alice");
        let case = format!("native: {native}, before: {before}");
        if before {
            *store.halts_at.lock().unwrap() = Some("session");
            let out = async {
                store.halted.notified().await;
                let out = signs_out(&other, &mut other_tab).await;
                store.goes_on.notify_one();
                out
            };
            let back = page(&callback).with(&world, &mut browser);
            let (_, out) = tokio::join!(back, out);
            assert_eq!(out.status, StatusCode::SEE_OTHER, "{case}: {out:?}");
            assert!(counted(&world, "refused"), "{case}");
        } else {
            page(&callback).with(&world, &mut browser).await;
            assert!(counted(&world, "moved"), "{case}");
            let out = signs_out(&other, &mut other_tab).await;
            assert_eq!(out.status, StatusCode::SEE_OTHER, "{case}: {out:?}");
        }
        // Whichever instance is asked: nothing is left of what was made.
        // A browser has one jar: what the sign-out took of the old system's cookies is gone in both tabs.
        if native {
            let left = &other_tab.jar;
            browser
                .jar
                .retain(|name, _| name == COOKIE || left.contains_key(name));
        }
        for instance in [&other, &world] {
            assert_eq!(arm(instance, &mut browser).await, None, "{case}");
        }
        let own: &[&str] = if native { &[] } else { &[TOKEN] };
        let [old, new] = given_back(&world).await;
        assert_eq!(old, own, "{case}");
        assert_eq!(new, [TOKEN], "{case}");
    }
}

/// What is said of the session before, while its person is asked after.
#[tokio::test]
async fn a_session_that_is_revoked_meanwhile_is_not_moved_before_its_row_has_gone() {
    for by_the_provider in [true, false] {
        let mut world = asking();
        let mut browser = of_the_old_side(&mut world).await;
        let id = crate::session::SessionId::parse(&browser.jar[COOKIE]).unwrap();
        let row = id.row();
        let asked = page("/").with(&world, &mut browser).await;
        if by_the_provider {
            let old = ProviderId::new("old");
            let issuer = "https://old.idp.test";
            let told = world.revocations.front_channel(&old, issuer, "sid-1");
            assert!(told.await.unwrap(), "it is known here");
        } else {
            let asked = crate::revocation::Asked {
                target: crate::revocation::Target::Session {
                    session: row.iter().map(|byte| format!("{byte:02x}")).collect(),
                },
                source: crate::revocation::Source::Operator,
                actor: String::from("test"),
                reason: String::new(),
                keep: None,
                provider: None,
            };
            world.revocations.revoke(asked).await.unwrap();
        }
        let still = world.sessions().known(&row, at(0)).await.unwrap();
        assert!(still.is_some(), "what ends it comes behind");
        let callback = signed_in(&asked.location, "alice");
        page(&callback).with(&world, &mut browser).await;
        assert!(counted(&world, "refused"), "{by_the_provider}");
        assert_eq!(arm(&world, &mut browser).await, None, "{by_the_provider}");
    }
}

#[tokio::test]
async fn a_sign_out_that_the_store_could_not_take_has_its_way_once_it_is_back() {
    let store = Arc::new(FakeStore::default());
    let mut world = asking_on(Arc::clone(&store));
    let mut browser = of_the_old_side(&mut world).await;
    let asked = page("/").with(&world, &mut browser).await;
    let (mut other_tab, callback) = (browser.clone(), signed_in(&asked.location, "alice"));
    // It is in use here: it was asked for a moment ago.
    let id = crate::session::SessionId::parse(&browser.jar[COOKIE]).unwrap();
    let used = world.sessions().restore(id, at(0)).await.unwrap();
    store.away.store(true, Ordering::SeqCst);
    let out = signs_out(&world, &mut other_tab).await;
    assert_eq!(out.status, StatusCode::SERVICE_UNAVAILABLE, "{out:?}");
    assert!(!other_tab.jar.contains_key(COOKIE), "this browser forgets");
    store.away.store(false, Ordering::SeqCst);
    page(&callback).with(&world, &mut browser).await;
    assert!(counted(&world, "refused"));
    assert_eq!(arm(&world, &mut browser).await, None);
    drop(used);
}

#[tokio::test]
async fn a_move_that_broke_off_half_way_goes_with_whoever_signs_out() {
    let store = Arc::new(FakeStore::default());
    let mut world = asking_on(Arc::clone(&store));
    let mut browser = of_the_old_side(&mut world).await;
    let asked = page("/").with(&world, &mut browser).await;
    let mut other_tab = browser.clone();
    let callback = signed_in(&asked.location, "alice");
    // The place is taken, and nobody is left to end the session before: the instance is gone.
    *store.halts_at.lock().unwrap() = Some("handover");
    let breaks_off = async {
        store.halted.notified().await;
        *store.halts_at.lock().unwrap() = Some("successor");
        store.goes_on.notify_one();
        store.halted.notified().await;
    };
    tokio::select! {
        _ = page(&callback).with(&world, &mut browser) => panic!("it is not to end"),
        () = breaks_off => {}
    }
    let out = signs_out(&world, &mut other_tab).await;
    assert_eq!(out.status, StatusCode::SEE_OTHER, "{out:?}");
    assert!(
        !running(&world),
        "the one that nobody was given is over too"
    );
    assert_eq!(given_back(&world).await, [[TOKEN], [TOKEN]]);
}

#[tokio::test]
async fn nobody_loses_another_session_for_one_that_takes_no_place() {
    let store = Arc::new(FakeStore::default());
    let mut world = asking_on(Arc::clone(&store));
    let settings = crate::session::settings::Settings {
        max_per_subject: 1,
        ..crate::auth::fake::session_settings()
    };
    world.sessions().reload(&settings).unwrap();
    // At another computer, and here with that of the old system alone.
    let mut elsewhere = of_the_old_side(&mut world).await;
    let mut browser = of_the_old_system(&mut world);
    let asked = page("/").with(&world, &mut browser).await;
    let mut other_tab = browser.clone();
    let callback = signed_in(&asked.location, "alice");
    *store.halts_at.lock().unwrap() = Some("session");
    let out = async {
        store.halted.notified().await;
        signs_out(&world, &mut other_tab).await;
        store.goes_on.notify_one();
    };
    tokio::join!(page(&callback).with(&world, &mut browser), out);
    assert!(counted(&world, "refused"));
    assert_eq!(arm(&world, &mut elsewhere).await, Some(Arm::From));
}

/// Who is sent back to us by the provider at which they have signed out.
async fn comes_back(world: &World, browser: &mut Browser) -> Seen {
    open(world, browser, "/.authferry/logout/done").await
}

#[tokio::test]
async fn whoever_has_moved_without_a_sign_in_signs_out_at_both_providers() {
    let mut world = asking();
    let mut browser = of_the_old_side(&mut world).await;
    let asked = page("/").with(&world, &mut browser).await;
    let callback = signed_in(&asked.location, "alice");
    page(&callback).with(&world, &mut browser).await;
    assert_eq!(arm(&world, &mut browser).await, Some(Arm::To));
    let out = signs_out(&world, &mut browser).await;
    assert!(
        out.location
            .starts_with("https://new.idp.test/logout?id_token_hint="),
        "{out:?}"
    );
    // What is noted is for this browser alone.
    let mut other = Browser::default();
    let theirs = comes_back(&world, &mut other).await;
    assert_eq!(
        (theirs.status, theirs.location.as_str()),
        (StatusCode::OK, "")
    );
    let mut stolen = browser.clone();
    let back = comes_back(&world, &mut browser).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER, "{back:?}");
    let hint = "id-token-of-alice";
    let there = format!(
        "https://old.idp.test/logout?id_token_hint={hint}&post_logout_redirect_uri=https://app.test/.authferry/logout/done"
    );
    assert_eq!(back.location, there);
    // Somebody else signs in where it was left behind: it is nobody's then.
    let mut left_behind = stolen.clone();
    let name = left_behind.jar.keys().find(|name| name.ends_with("_leave"));
    let name = name.unwrap().clone();
    let begun = open(&world, &mut left_behind, "/").await;
    open(&world, &mut left_behind, &signed_in(&begun.location, "bob")).await;
    assert!(!left_behind.jar.contains_key(&name));
    // Once, and that is the end of it.
    for browser in [&mut browser, &mut stolen] {
        let done = comes_back(&world, browser).await;
        assert_eq!((done.status, done.location.as_str()), (StatusCode::OK, ""));
        let done = comes_back(&world, browser).await;
        assert!(done.set.is_empty(), "{done:?}");
    }
}

#[tokio::test]
async fn a_session_of_somebody_else_before_is_not_signed_out_with_that_of_whoever_signs_in() {
    for (person, left) in [("alice", true), ("bob", false)] {
        let mut world = asking();
        world.silent = None;
        let mut browser = of_the_old_side(&mut world).await;
        // A sign-in at the new side in a tab that was opened before, by whoever it is.
        let begun = open(&world, &mut browser, "/.authferry/login?rd=/").await;
        let callback = signed_in(&begun.location, person);
        open(&world, &mut browser, &callback).await;
        assert_eq!(arm(&world, &mut browser).await, Some(Arm::To), "{person}");
        signs_out(&world, &mut browser).await;
        let back = comes_back(&world, &mut browser).await;
        assert_eq!(!back.location.is_empty(), left, "{person}: {back:?}");
    }
}
