//! Sign-outs of two sessions, one of which was given for the other, that come to an end half way; and what comes between.

use super::both::OLD;
use super::both::beside;
use super::both::given;
use super::both::let_in;
use super::both::row;
use super::both::signs_out;
use super::carry::asking;
use super::carry::asking_on;
use super::carry::of_the_old_side;
use super::*;
use crate::identity::Grounds;
use crate::revocation::Found;
use crate::revocation::HandOut;
use crate::revocation::Marks;
use crate::revocation::Standing;

#[tokio::test]
async fn who_signs_out_again_after_the_first_of_two_has_ended_is_out_of_both() {
    let mut world = asking();
    let mut browser = of_the_old_side(&mut world).await;
    let before = browser.jar[COOKIE].clone();
    let new = given(&world, &browser).await;
    // The process stopped between the two.
    let ended = world.sessions().end_known(&row(&new), at(0)).await.unwrap();
    assert!(ended.is_some());
    assert_eq!(let_in(&world, [&before, &new], 0).await, [Arm::From]);
    browser.jar.insert(COOKIE.to_owned(), new.clone());
    let out = signs_out(&world, &mut browser, 1).await;
    assert_eq!(out.status, StatusCode::SEE_OTHER, "{out:?}");
    assert!(let_in(&world, [&before, &new], 1).await.is_empty());
}

#[tokio::test]
async fn where_the_store_goes_away_after_the_first_of_two_has_ended_both_are_over_everywhere() {
    let store = Arc::new(FakeStore::default());
    let mut world = asking_on(Arc::clone(&store));
    let mut browser = of_the_old_side(&mut world).await;
    let before = browser.jar[COOKIE].clone();
    let new = given(&world, &browser).await;
    browser.jar.insert(COOKIE.to_owned(), new.clone());
    *store.halts_at.lock().unwrap() = Some("session");
    let goes_away = async {
        store.halted.notified().await;
        store.away.store(true, Ordering::SeqCst);
        store.goes_on.notify_one();
    };
    let (out, ()) = tokio::join!(signs_out(&world, &mut browser, 1), goes_away);
    assert_eq!(out.status, StatusCode::SERVICE_UNAVAILABLE, "{out:?}");
    store.away.store(false, Ordering::SeqCst);
    let kept = world.sessions().known(&row(&before), at(1)).await.unwrap();
    assert!(kept.is_some(), "nobody has ended its row");
    assert!(let_in(&world, [&before, &new], 1).await.is_empty(), "here");
    let other = beside(&world, &store);
    for list in [&world.revocations, &other.revocations] {
        list.load().await.unwrap();
    }
    assert!(let_in(&other, [&before, &new], 1).await.is_empty());
}

/// A sign-out with one of two cookies, and an exchange of the session before that is under way in another tab.
#[tokio::test]
async fn what_is_given_while_the_session_before_ends_goes_with_it() {
    let store = Arc::new(FakeStore::default());
    store.deaf.store(true, Ordering::SeqCst);
    let mut world = asking_on(Arc::clone(&store));
    let mut browser = of_the_old_side(&mut world).await;
    let tab = browser.clone();
    let new = given(&world, &browser).await;
    browser.jar.insert(COOKIE.to_owned(), new);
    let elsewhere = beside(&world, &store);
    let halts = || *store.halts_at.lock().unwrap() = Some("session");
    halts();
    let exchange = async {
        // The new one ends,
        store.halted.notified().await;
        halts();
        store.goes_on.notify_one();
        // and the one before is about to.
        store.halted.notified().await;
        let late = given(&elsewhere, &tab).await;
        let (sessions, earlier) = (elsewhere.sessions(), row(&tab.jar[COOKIE]));
        let known = sessions.known(&earlier, at(0)).await.unwrap();
        assert!(known.is_some(), "so that its cookie is given");
        store.goes_on.notify_one();
        late
    };
    let (out, late) = tokio::join!(signs_out(&world, &mut browser, 1), exchange);
    assert_eq!(out.status, StatusCode::SEE_OTHER, "{out:?}");
    assert!(let_in(&elsewhere, [&late, "A"], 1).await.is_empty());
}

#[tokio::test]
async fn a_front_channel_logout_reaches_a_session_that_another_version_has_written() {
    let mut world = asking();
    let browser = of_the_old_side(&mut world).await;
    let (sessions, row) = (world.sessions(), row(&browser.jar[COOKIE]));
    sessions.as_another_version(&row, true, at(0)).await;
    let (list, old) = (&world.revocations, ProviderId::new("old"));
    list.fan_out(
        Box::new(|_: &ProviderId| None),
        &tokio::runtime::Handle::current(),
    );
    let nobodys = list.front_channel(&old, OLD, "sid-2").await.unwrap();
    assert!(!nobodys && sessions.is_unread(&row, at(0)).await.unwrap());
    assert!(list.front_channel(&old, OLD, "sid-1").await.unwrap());
    let gone = async {
        while sessions.is_unread(&row, at(0)).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(20), gone).await;
    assert!(gone.is_ok(), "it is ended by what it is found by");
}

/// A request that was on its way gets something for its upstream after the session it came with has ended.
#[tokio::test]
async fn what_is_made_of_a_session_that_has_just_moved_puts_nobody_out_and_ends_with_the_new_one() {
    for (moved, signs_out_before) in [(true, false), (true, true), (false, false)] {
        let case = format!("moved: {moved}, signed out before: {signs_out_before}");
        let mut world = asking();
        let mut browser = of_the_old_side(&mut world).await;
        let before = row(&browser.jar[COOKIE]);
        let admitted = open(&world, &mut browser.clone(), "/").await.admitted;
        let admitted = admitted.unwrap();
        let sessions = world.sessions();
        let mut new = String::from("A");
        if moved {
            new = given(&world, &browser).await;
        }
        sessions.end_known(&before, at(0)).await.unwrap();
        if signs_out_before {
            sessions.end_known(&row(&new), at(0)).await.unwrap();
        }
        let marks = Marks::of(
            admitted.identity(),
            admitted.canonical(),
            &Grounds::default(),
        );
        let parent = Standing::new(world.revocations.index(), marks.and_session(&before));
        let made = HandOut {
            token: "made",
            client: None,
            minted: false,
            key: None,
            parent: &parent,
            owner: admitted.provider(),
            origin: None,
            ends: at(300),
        };
        let noted = world.revocations.notes_made(made, Some(&before), at(0));
        noted.await.unwrap();
        let counts = async || {
            let Ok(Found::Handed(made)) = world.revocations.handed_out("made", at(1)).await else {
                panic!("it was noted");
            };
            world.revocations.still_counts(&made, &[], at(1)).unwrap()
        };
        let goes_on = moved && !signs_out_before;
        assert_eq!(counts().await, goes_on, "{case}");
        let left = let_in(&world, ["A", &new], 1).await;
        assert_eq!(left.len(), usize::from(goes_on), "{case}");
        if goes_on {
            browser.jar.insert(COOKIE.to_owned(), new);
            signs_out(&world, &mut browser, 1).await;
            assert!(!counts().await, "{case}");
        }
    }
}
