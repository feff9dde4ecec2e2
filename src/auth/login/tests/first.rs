//! The first who sign in at a new provider in a step: ten, whoever comes at the same moment, and nobody is let in elsewhere because
//! it is away.

use futures_util::future::join_all;
use tokio::sync::Barrier;

use super::*;
use crate::control::Rules;
use crate::rollout::Guardrails;

/// A step has begun in which the new provider has yet to prove itself.
pub(super) fn begins(world: &World) {
    world.journeys.configure(vec![Rules {
        rollout: world.plan.as_ref().unwrap().id.clone(),
        rails: Arc::new(Guardrails::default()),
        step: 1,
        together: true,
    }]);
}

/// So many browsers open a page at the same moment.
async fn all_at_once(world: &World, count: usize, kill: KillPosition) -> Vec<Seen> {
    let visits = (0..count).map(|_| async {
        let visit = Visit::to("/a").killed(kill);
        visit.with(world, &mut Browser::default()).await
    });
    join_all(visits).await
}

fn sent_to(seen: &[Seen], provider: &str) -> usize {
    let page = format!("https://{provider}.idp.test/authorize?");
    let sent = seen.iter().filter(|seen| seen.location.starts_with(&page));
    sent.count()
}

fn assigned(world: &World, arm: &str, rule: &str) -> bool {
    let text = world.metrics.render().unwrap();
    text.contains(&format!(
        "authferry_assignments_total{{rollout=\"crm-2026\",arm=\"{arm}\",rule=\"{rule}\"}} "
    ))
}

#[tokio::test]
async fn whoever_is_late_begins_at_the_old_side() {
    let world = both();
    begins(&world);
    // Nobody sets out before all of them have asked.
    let login = world.new.login.as_ref().unwrap();
    *login.together.lock().unwrap() = Some(Arc::new(Barrier::new(30)));
    let seen = all_at_once(&world, 30, KillPosition::Off).await;
    assert_eq!((sent_to(&seen, "new"), sent_to(&seen, "old")), (10, 20));
    let text = world.metrics.render().unwrap();
    for (arm, rule, count) in [("modern", "percent", 10), ("legacy", "first_logins", 20)] {
        let series = format!(
            "authferry_assignments_total{{rollout=\"crm-2026\",arm=\"{arm}\",rule=\"{rule}\"}} {count}\n"
        );
        assert!(text.contains(&series), "{series} {text}");
    }
}

/// An outage is no reason to be let in elsewhere, unless a fallback says so: whoever does not set out has taken no place.
#[tokio::test]
async fn while_the_new_provider_is_away_nobody_begins_at_the_old_one() {
    for known in [false, true] {
        let world = both();
        begins(&world);
        let login = world.new.login.as_ref().unwrap();
        *login.down.lock().unwrap() = Some(Outage::Connect);
        if known {
            away(&world.new, 0);
        }
        for seen in all_at_once(&world, 40, KillPosition::Off).await {
            assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE, "{seen:?}");
        }
        assert!(!assigned(&world, "legacy", "first_logins"));
    }
}

/// Whoever is not told where to sign in has not set out: neither is their place taken, nor does anybody wait for them.
#[tokio::test]
async fn whoever_hangs_up_before_the_redirect_has_taken_no_place() {
    let world = both();
    begins(&world);
    for _ in 0..25 {
        let visit = Visit::to("/a").gone();
        let seen = visit.with(&world, &mut Browser::default()).await;
        assert_eq!(sent_to(&[seen], "new"), 1);
    }
    let seen = all_at_once(&world, 11, KillPosition::Off).await;
    assert_eq!((sent_to(&seen, "new"), sent_to(&seen, "old")), (10, 1));
    let rollout = &world.plan.as_ref().unwrap().id;
    let outcomes = world.journeys.take(rollout, at(100_000)).await;
    assert_eq!(outcomes.len(), 22, "eleven have begun, and are lost");
    let text = world.metrics.render().unwrap();
    let event = "authferry_login_journeys_total{rollout=\"crm-2026\",arm=\"modern\",event=\"withdrawn\"} 25\n";
    assert!(text.contains(event), "{text}");
}

/// A browser that asks a second time is on its way when either of its requests was answered.
#[tokio::test]
async fn a_browser_that_asks_twice_has_one_place() {
    for first_is_gone in [true, false] {
        let world = both();
        let mut browser = Browser::default();
        // The browser is known before, and no journey of it.
        open(&world, &mut browser, "/a").await;
        begins(&world);
        for gone in [first_is_gone, !first_is_gone] {
            let mut visit = Visit::to("/a");
            visit.gone = gone;
            visit.with(&world, &mut browser).await;
        }
        let seen = all_at_once(&world, 10, KillPosition::Off).await;
        assert_eq!((sent_to(&seen, "new"), sent_to(&seen, "old")), (9, 1));
    }
}

/// Where the switch closes the old side there is nowhere else to begin.
#[tokio::test]
async fn the_switch_sends_everybody_to_the_new_side() {
    let world = both();
    begins(&world);
    let seen = all_at_once(&world, 40, KillPosition::Modern).await;
    assert_eq!(sent_to(&seen, "new"), 40);
}

/// Nor is there where nobody can sign in in a browser at the old side: the first who fail keep nobody out.
#[tokio::test]
async fn where_the_old_side_has_no_page_there_is_no_bound() {
    let mut world = World::of(FakeProvider::old(), FakeProvider::new());
    world.plan = Some(plan(Mode::Canary, vec![all_to(Arm::To)]));
    begins(&world);
    let seen = all_at_once(&world, 40, KillPosition::Off).await;
    assert_eq!(sent_to(&seen, "new"), 40);
}
