//! Two sessions that stand for one person one after the other: what ends one of them at either side ends the other, too.

use super::carry::arm;
use super::carry::asking;
use super::carry::asking_on;
use super::carry::counted;
use super::carry::of_the_old_side;
use super::carry::page;
use super::*;
use crate::identity::Issuer;
use crate::providers::Authenticated;
use crate::revocation::Asked;
use crate::revocation::Source as RevocationSource;
use crate::revocation::Target;
use crate::session::CameBy;
use crate::session::NewSession;
use crate::session::Origin;
use crate::token::LogoutToken;

pub(super) const OLD: &str = "https://old.idp.test";
const NEW: &str = "https://new.idp.test";

pub(super) fn row(cookie: &str) -> [u8; 32] {
    crate::session::SessionId::parse(cookie).unwrap().row()
}

fn operator(target: Target) -> Asked {
    Asked {
        target,
        source: RevocationSource::Operator,
        actor: String::from("test"),
        reason: String::new(),
        keep: None,
        provider: None,
    }
}

pub(super) fn at_issuer(issuer: &str, sid: &str) -> Target {
    Target::ProviderSession {
        issuer: issuer.to_owned(),
        sid: sid.to_owned(),
    }
}

/// Another instance over the same store.
pub(super) fn beside(world: &World, store: &Arc<FakeStore>) -> World {
    let mut other = asking_on(Arc::clone(store));
    (other.old, other.new) = (Arc::clone(&world.old), Arc::clone(&world.new));
    everybody_to(&mut other, Arm::To);
    other
}

/// Who can say that a session at a provider is over.
#[derive(Clone, Copy, Debug)]
enum Says {
    BackChannel,
    FrontChannel,
    Operator,
}

impl Says {
    async fn over(self, world: &World, provider: &str, (issuer, sid): (&str, &str)) {
        let (provider, list) = (ProviderId::new(provider), &world.revocations);
        match self {
            Self::BackChannel => {
                let token = LogoutToken::of_session(&Issuer::new(issuer), sid, at(0));
                list.logged_out(&provider, &token).await.unwrap();
            }
            Self::FrontChannel => {
                let known = list.front_channel(&provider, issuer, sid).await.unwrap();
                assert!(known, "it is known here");
            }
            Self::Operator => {
                let asked = operator(at_issuer(issuer, sid));
                let affected = list.affected(&asked.target).await.unwrap();
                assert!(!affected.sessions.is_empty(), "it is counted");
                list.revoke(asked).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_logout_that_names_a_session_of_the_old_provider_alone_ends_the_one_that_has_moved_from_it()
 {
    for says in [Says::BackChannel, Says::FrontChannel, Says::Operator] {
        // What is left of the session before may have ended by itself, or the store had no room for it.
        for forgotten in [false, true] {
            let store = Arc::new(FakeStore::default());
            let mut world = asking_on(Arc::clone(&store));
            let mut browser = of_the_old_side(&mut world).await;
            let before = row(&browser.jar[COOKIE]);
            let asked = page("/").with(&world, &mut browser).await;
            let callback = signed_in(&asked.location, "alice");
            page(&callback).with(&world, &mut browser).await;
            assert!(counted(&world, "moved"));
            if forgotten {
                world.sessions().erase(&before).await.unwrap();
            }
            let case = format!("{says:?}, forgotten: {forgotten}");
            // As what is open asks.
            let open = open(&world, &mut browser, "/").await.admitted.unwrap();
            assert_eq!(open.arm(), Some(Arm::To), "{case}");
            let other = beside(&world, &store);
            let [bobs, elsewhere] = [OLD, NEW].map(|issuer| at_issuer(issuer, "sid-2"));
            for nobodys in [bobs, elsewhere] {
                world.revocations.revoke(operator(nobodys)).await.unwrap();
            }
            assert!(open.still_good(KillPosition::Off, at(0)), "{case}");
            for instance in [&other, &world] {
                let fresh = Says::Operator;
                let says = if std::ptr::eq(instance, &world) {
                    says
                } else {
                    fresh
                };
                says.over(instance, "old", (OLD, "sid-1")).await;
                assert_eq!(arm(instance, &mut browser.clone()).await, None, "{case}");
            }
            assert!(!open.still_good(KillPosition::Off, at(0)), "{case}");
        }
    }
}

/// A session of the new side that was given for the one that a browser holds, which has not heard of it; its cookie.
pub(super) async fn given(world: &World, browser: &Browser) -> String {
    let sessions = world.sessions();
    let id = crate::session::SessionId::parse(&browser.jar[COOKIE]).unwrap();
    let before = sessions.restore(id, at(0)).await.unwrap().unwrap();
    let proof = Authenticated::for_test(identity("new", "alice"), at(9_999));
    let new = NewSession {
        authenticated: &proof,
        canonical: before.canonical(),
        app: "crm",
        host: "app.test",
        backing: Some(crate::session::Backing {
            rollout: world.plan.as_ref().unwrap().id.clone(),
            epoch: world.plan.as_ref().unwrap().epoch,
            arm: Arm::To,
        }),
        rule: "exchange",
        origin: Origin::Exchange,
        until: UnixTime::NEVER,
        began: at(0),
        id_token: None,
        sid: Some("sid-of-the-new-one"),
        refresh_token: None,
        lasts: None,
        stands_for: None,
        came_by: Some(CameBy::new("vouch", &before)),
        left: None,
    };
    let created = sessions.create(new, at(0)).await.unwrap();
    created.cookie.expose().clone()
}

pub(super) async fn signs_out(world: &World, browser: &mut Browser, seconds: u64) -> Seen {
    let out = Visit {
        method: Method::POST,
        fields: vec![("sec-fetch-site", "same-origin")],
        ..Visit::to("/.authferry/logout").at(seconds)
    };
    out.with(world, browser).await
}

/// What somebody is let in by who holds both, at that time.
pub(super) async fn let_in(world: &World, cookies: [&str; 2], seconds: u64) -> Vec<Arm> {
    let mut arms = Vec::new();
    for cookie in cookies {
        let mut browser = Browser::default();
        browser.jar.insert(COOKIE.to_owned(), cookie.to_owned());
        let mut visit = Visit::to("/").at(seconds);
        // No page: nobody is sent round.
        visit.fields = Vec::new();
        let admitted = visit.with(world, &mut browser).await.admitted;
        arms.extend(admitted.and_then(|admitted| admitted.arm()));
    }
    arms
}

#[tokio::test]
async fn whoever_signs_out_with_one_of_two_sessions_of_which_the_browser_knows_one_is_out_of_both()
{
    // Long after the exchange, too, and whichever of both it has.
    for (with_new, seconds) in [(true, 1), (false, 1), (false, 600), (true, 600)] {
        let store = Arc::new(FakeStore::default());
        // One of several instances: what it has read is read again.
        store.deaf.store(true, Ordering::SeqCst);
        let mut world = asking_on(Arc::clone(&store));
        let mut browser = of_the_old_side(&mut world).await;
        let before = browser.jar[COOKIE].clone();
        let (lost, new) = (given(&world, &browser).await, given(&world, &browser).await);
        assert!(
            world
                .revocations
                .affected(&at_issuer(OLD, "sid-1"))
                .await
                .unwrap()
                .sessions
                .len()
                == 3
        );
        if with_new {
            browser.jar.insert(COOKIE.to_owned(), new.clone());
        }
        let other = beside(&world, &store);
        let out = signs_out(&other, &mut browser, seconds).await;
        assert_eq!(out.status, StatusCode::SEE_OTHER, "{out:?}");
        for instance in [&other, &world] {
            for cookies in [[&*before, &*new], [&*lost, &*lost]] {
                let left = let_in(instance, cookies, seconds + 1).await;
                assert!(left.is_empty(), "with_new: {with_new}, {seconds}: {left:?}");
            }
        }
        for _ in 0..40 {
            tokio::task::yield_now().await;
        }
        let revoked = world
            .old
            .login
            .as_ref()
            .unwrap()
            .revoked
            .lock()
            .unwrap()
            .clone();
        assert_eq!(
            revoked,
            ["refresh-token-of-alice"],
            "with_new: {with_new}, {seconds}"
        );
    }
}

/// Its first use is what ends the one before, and a store that is away then keeps neither alive.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_exchanged_ends_however_long_the_store_is_away() {
    let store = Arc::new(FakeStore::default());
    let mut world = asking_on(Arc::clone(&store));
    let browser = of_the_old_side(&mut world).await;
    let before = browser.jar[COOKIE].clone();
    let new = given(&world, &browser).await;
    assert_eq!(let_in(&world, ["A", &new], 0).await, [Arm::To]);
    let owed = async || {
        let owed = world.sessions().owed_ends(at(9_999), at(0)).await;
        owed.unwrap().len()
    };
    while owed().await == 0 {
        tokio::task::yield_now().await;
    }
    store.away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_mins(10)).await;
    store.away.store(false, Ordering::SeqCst);
    assert_eq!(owed().await, 1);
    world.clock.set(at(600));
    let list = &world.revocations;
    list.fan_out(
        Box::new(|_: &ProviderId| None),
        &tokio::runtime::Handle::current(),
    );
    while 0 < owed().await {
        tokio::task::yield_now().await;
    }
    assert_eq!(let_in(&world, [&before, &new], 0).await, [Arm::To]);
}

#[tokio::test]
async fn what_is_said_of_a_session_that_nobody_has_used_yet_is_said_of_the_one_that_it_was_given_for()
 {
    for which in ["session", "sid", "frame", "other", "old"] {
        let store = Arc::new(FakeStore::default());
        let mut world = asking_on(store);
        let browser = of_the_old_side(&mut world).await;
        let before = browser.jar[COOKIE].clone();
        let new = given(&world, &browser).await;
        let list = &world.revocations;
        let hex = |cookie: &str| {
            row(cookie)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        let both = let_in(&world, [&before, "A"], 0).await;
        assert_eq!(both, [Arm::From], "it is not used by that");
        let target = match which {
            "session" => Target::Session { session: hex(&new) },
            "old" => Target::Session {
                session: hex(&before),
            },
            "sid" => at_issuer(NEW, "sid-of-the-new-one"),
            "other" => at_issuer(NEW, "sid-of-another"),
            _ => {
                let provider = ProviderId::new("new");
                let told = list
                    .front_channel(&provider, NEW, "sid-of-the-new-one")
                    .await;
                assert!(told.unwrap());
                assert!(
                    let_in(&world, [&before, &new], 0).await.is_empty(),
                    "{which}"
                );
                continue;
            }
        };
        let counted = list.affected(&target).await.unwrap().sessions.len();
        assert_eq!(counted, if which == "other" { 0 } else { 2 }, "{which}");
        list.revoke(operator(target)).await.unwrap();
        let left = let_in(&world, [&before, &new], 0).await;
        let all: &[Arm] = if which == "other" {
            &[Arm::From, Arm::To]
        } else {
            &[]
        };
        assert_eq!(left, all, "{which}");
    }
}

#[tokio::test]
async fn whoever_signs_out_of_a_session_that_another_version_has_written_is_out_there_too() {
    for whole in [true, false] {
        let mut world = asking_on(Arc::new(FakeStore::default()));
        let mut browser = of_the_old_side(&mut world).await;
        let row = row(&browser.jar[COOKIE]);
        let sessions = world.sessions();
        sessions.as_another_version(&row, whole, at(0)).await;
        let still = async || {
            let known = sessions.known(&row, at(1)).await.unwrap().is_some();
            known || sessions.is_unread(&row, at(1)).await.unwrap()
        };
        assert!(still().await, "whole: {whole}");
        let out = signs_out(&world, &mut browser, 1).await;
        assert_eq!(out.status, StatusCode::SEE_OTHER, "{out:?}");
        assert!(!still().await, "whole: {whole}");
        for _ in 0..40 {
            tokio::task::yield_now().await;
        }
        let revoked = world
            .old
            .login
            .as_ref()
            .unwrap()
            .revoked
            .lock()
            .unwrap()
            .len();
        assert_eq!(
            revoked,
            usize::from(!whole),
            "what can be known is given back"
        );
    }
}

/// Somebody whose session of the old side has run out, by its own end or because they were away, and who belongs to the new side by
/// then (row 8).
#[tokio::test]
async fn a_session_of_the_old_side_that_has_run_out_leads_to_the_new_one_once_and_to_the_page() {
    let settings = crate::auth::fake::session_settings();
    let spans = [settings.idle, settings.absolute];
    for (span, native) in spans.into_iter().zip([false, true]) {
        let mut world = asking();
        world.silent = None;
        let mut browser = of_the_old_side(&mut world).await;
        let before = browser.jar[COOKIE].clone();
        // A form of the old application may have left a cookie that counts no more.
        if native {
            browser.jar.insert("OLDSID".to_owned(), "gone".to_owned());
            let no = Arc::new(|_: &str| Err(crate::identity::Refusal::Inactive.into()));
            *world.old.verdict.lock().unwrap() = no;
        }
        let over = span.as_secs() + 180;
        let begun = page("/deep?a=b").at(over).with(&world, &mut browser).await;
        assert!(
            begun.location.starts_with("https://new.idp.test/"),
            "{begun:?}"
        );
        assert!(!begun.location.contains("prompt=none"), "{begun:?}");
        assert!(!browser.jar.contains_key(COOKIE), "it is over");
        let callback = signed_in(&begun.location, "alice");
        let back = page(&callback)
            .at(over + 1)
            .with(&world, &mut browser)
            .await;
        assert_eq!(
            (back.status, back.location.as_str()),
            (StatusCode::SEE_OTHER, "/deep?a=b")
        );
        assert_ne!(browser.jar[COOKIE], before);
        let opened = page("/deep?a=b")
            .at(over + 2)
            .with(&world, &mut browser)
            .await;
        assert_eq!(opened.admitted.unwrap().arm(), Some(Arm::To));
        // The old cookie lets nobody in any more.
        browser.jar.insert(COOKIE.to_owned(), before);
        browser.jar.remove("OLDSID");
        let old = Visit::to("/").at(over + 3).with(&world, &mut browser).await;
        assert!(old.admitted.is_none(), "{old:?}");
    }
}
