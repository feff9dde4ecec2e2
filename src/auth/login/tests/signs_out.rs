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
