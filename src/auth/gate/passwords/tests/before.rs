//! Whether somebody is signed in when a form comes.

use std::sync::atomic::Ordering;

use super::typed::reads;
use super::typed::with_form;
use super::*;
use crate::auth::fake::COOKIE;
use crate::auth::gate::passwords::before::Stays;
use crate::session::Backing;
use crate::session::NewSession;
use crate::session::OldSession;
use crate::session::Origin;

/// The cookie of a session of ours, which stands for one of the old system or is of the new side.
async fn ours(world: &World, stands_for: Option<OldSession<'_>>) -> String {
    let proof = Authenticated::for_test(identity("new", "alice"), at(60));
    let canonical = CanonicalSubject::named("hr:alice").unwrap();
    let plan = world.plan.as_ref().unwrap();
    let new = NewSession {
        authenticated: &proof,
        canonical: &canonical,
        app: "crm",
        host: "app.test",
        backing: Some(Backing {
            rollout: plan.id.clone(),
            epoch: plan.epoch,
            arm: Arm::To,
        }),
        rule: "percent",
        origin: Origin::Login,
        until: UnixTime::NEVER,
        began: UnixTime::NEVER,
        id_token: None,
        sid: None,
        refresh_token: None,
        lasts: None,
        stands_for,
        came_by: None,
        left: None,
    };
    let created = world.sessions().create(new, at(0)).await.unwrap();
    format!("{COOKIE}={}", created.cookie.expose())
}

impl Instance<'_> {
    /// Whether nobody is signed in who sends a form with these cookies, to an address with this query.
    async fn nobody(&self, cookies: &str, query: Option<&str>) -> Result<(), Stays> {
        let policy = self.world.policy();
        let mut headers = headers(&[("cookie", cookies)]);
        if cookies.is_empty() {
            headers.clear();
        }
        let gate = Gate::new(self.deps.clone());
        let said = gate.nobody_is_signed_in(&policy, (&headers, query), "app.test", at(1));
        said.await
    }
}

fn world_of() -> World {
    let world = with_form(FakeAccounts::default());
    *world.old.verdict.lock().unwrap() = Arc::new(|name| match name {
        "gone" => Err(Refusal::Inactive.into()),
        "bad" => Err(Refusal::BadCredentials.into()),
        "disabled" => Err(Refusal::Disabled.into()),
        "late" => Err(Refusal::Expired.into()),
        "down" => Err(Outage::Timeout.into()),
        "odd" => Err(Outage::Malformed.into()),
        "earlier" => Ok(proof("alice").remembered_for_test()),
        name => Ok(proof(name)),
    });
    world
}

#[tokio::test]
async fn only_a_clear_no_of_the_owner_says_that_nobody_is_signed_in() {
    let mut world = world_of();
    let old = world.fields.get_mut(&ProviderId::new("old")).unwrap();
    old.remembered = vec!["stay".into()];
    let one = Instance::of(&world);
    for cookies in ["", "theme=dark", "OLDSID=gone", "OLDSID=gone; OLDSID2=gone"] {
        assert_eq!(one.nobody(cookies, None).await, Ok(()), "{cookies}");
    }
    let away = |outage| Err(Stays::away(outage));
    for (cookies, expected) in [
        ("OLDSID=alice", Err(Stays::SOMEBODY)),
        ("OLDSID2=alice", Err(Stays::SOMEBODY)),
        ("OLDSID=gone; OLDSID2=alice", Err(Stays::SOMEBODY)),
        // An earlier yes of an owner that is away.
        ("OLDSID=earlier", Err(Stays::SOMEBODY)),
        // Somebody who is barred is somebody; another no is not about the session.
        ("OLDSID=disabled", Err(Stays::UNCLEAR)),
        ("OLDSID=late", Err(Stays::UNCLEAR)),
        ("OLDSID=bad", Err(Stays::UNCLEAR)),
        ("OLDSID=gone; OLDSID=gone", Err(Stays::UNCLEAR)),
        ("oldsid=gone", Err(Stays::UNCLEAR)),
        ("OLDSID=down", away(Outage::Timeout)),
        ("OLDSID=odd", away(Outage::Malformed)),
        ("OLDSID=gone; OLDSID2=down", away(Outage::Timeout)),
        ("stay=a", Err(Stays::REMEMBERED)),
        ("OLDSID=gone; stay=a", Err(Stays::REMEMBERED)),
    ] {
        assert_eq!(one.nobody(cookies, None).await, expected, "{cookies}");
    }
    let query = Some("next=/&OLDSID=alice");
    assert_eq!(one.nobody("", query).await, Err(Stays::UNCLEAR));
}

#[tokio::test]
async fn a_session_of_ours_is_somebody_unless_it_stands_for_one_that_is_gone() {
    let world = world_of();
    let one = Instance::of(&world);
    let own = ours(&world, None).await;
    assert_eq!(one.nobody(&own, None).await, Err(Stays::SOMEBODY));
    let beside = format!("{own}; OLDSID=gone");
    assert_eq!(one.nobody(&beside, None).await, Err(Stays::SOMEBODY));
    let unknown = format!("{COOKIE}={}", "A".repeat(43));
    assert_eq!(one.nobody(&unknown, None).await, Ok(()));
    let stands_for = |value| OldSession {
        cookie: "OLDSID",
        value,
    };
    for (value, expected) in [("gone", Ok(())), ("alice", Err(Stays::SOMEBODY))] {
        let own = ours(&world, Some(stands_for(value))).await;
        let cookies = format!("{own}; OLDSID={value}");
        assert_eq!(one.nobody(&cookies, None).await, expected, "{value}");
    }
    // It alone is nothing to the application.
    let own = ours(&world, Some(stands_for("gone"))).await;
    assert_eq!(one.nobody(&own, None).await, Ok(()));
}

#[tokio::test]
async fn a_store_that_gives_no_answer_says_nothing_of_a_session_of_ours() {
    let store = Arc::new(FakeStore::default());
    let mut world = on(Arc::clone(&store) as _, FakeAccounts::default());
    reads(&mut world);
    let one = Instance::of(&world);
    store.away.store(true, Ordering::SeqCst);
    let unknown = format!("{COOKIE}={}", "A".repeat(43));
    assert_eq!(one.nobody(&unknown, None).await, Err(Stays::STORE));
    assert_eq!(one.nobody("", None).await, Ok(()), "nobody needs it");
}

#[tokio::test]
async fn what_was_said_of_a_session_a_moment_ago_does_not_count() {
    let world = world_of();
    let one = Instance::of(&world);
    assert!(one.opens("OLDSID=gone", at(0)).await.contains("inactive"));
    assert_eq!(one.nobody("OLDSID=gone", None).await, Ok(()));
    let asked = world.old.asked();
    // Somebody has signed in by it since.
    *world.old.verdict.lock().unwrap() = Arc::new(|_| Ok(proof("alice")));
    assert_eq!(one.nobody("OLDSID=gone", None).await, Err(Stays::SOMEBODY));
    assert_eq!(world.old.asked(), asked + 1);
    // And the other way round: what was good is asked about once more, too.
    assert_eq!(one.opens("OLDSID=gone", at(0)).await, "old hr:alice");
    *world.old.verdict.lock().unwrap() = Arc::new(|_| Err(Refusal::Inactive.into()));
    assert_eq!(one.nobody("OLDSID=gone", None).await, Ok(()));
}

#[tokio::test]
async fn forms_that_come_at_the_same_time_with_one_session_know_of_each_other() {
    let world = world_of();
    let one = Instance::of(&world);
    let policy = world.policy();
    let gate = Gate::new(one.deps.clone());
    let comes = |cookies| gate.form_comes(&policy, &headers(&[("cookie", cookies)]));
    let first = comes("OLDSID=a; theme=dark");
    let (other, none) = (comes("OLDSID=b"), comes("theme=dark"));
    assert!(first.was_alone() && other.was_alone() && none.was_alone());
    // In another snapshot, beside another cookie.
    let again = Gate::new(one.deps.clone());
    let second = again.form_comes(&policy, &headers(&[("cookie", "OLDSID2=c; OLDSID=a")]));
    assert!(!first.was_alone() && !second.was_alone() && other.was_alone());
    drop((first, second));
    assert!(comes("OLDSID=a").was_alone());
}

#[tokio::test]
async fn operators_are_told_why_what_was_typed_stays() {
    let world = world_of();
    let one = Instance::of(&world);
    let (policy, gate) = (world.policy(), Gate::new(one.deps.clone()));
    for why in [
        Stays::SOMEBODY,
        Stays::AT_ONCE,
        Stays::away(Outage::Timeout),
    ] {
        gate.form_stays(&policy, why, None, at(0));
    }
    assert_eq!((one.told("refused"), one.told("unavailable")), (2, 1));
}
