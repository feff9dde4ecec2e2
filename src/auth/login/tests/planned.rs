//! Minutes in which the old side does not count, and the end of what has stopped counting for good.

use super::*;
use crate::rollout::Brownout;
use crate::rollout::Cohort;
use crate::rollout::CohortId;

/// Everybody belongs to the old side, which does not count from the first minute on for two minutes.
fn with_brownout() -> World {
    let mut world = both();
    everybody_to(&mut world, Arm::From);
    stage(&mut world).brownouts = vec![Brownout {
        at: at(60),
        span: Duration::from_secs(120),
    }];
    world
}

fn stage(world: &mut World) -> &mut crate::rollout::Stage {
    &mut world.plan.as_mut().unwrap().stage
}

/// The page that says until when; `seconds` later it is over.
fn says_until(seen: &Seen, seconds: &str) {
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE, "{seen:?}");
    assert_eq!(seen.retry_after, seconds, "{seen:?}");
    // 1 000 180 s after 1970: to the minute in which it is over.
    assert!(
        seen.body.contains("until 1970-01-12 13:50 UTC"),
        "{}",
        seen.body
    );
    assert!(seen.body.contains("Reference: <code>"), "{}", seen.body);
    assert!(seen.location.is_empty());
}

#[tokio::test]
async fn a_session_of_the_old_side_outlives_the_minutes_in_which_it_does_not_count() {
    let (world, mut browser) = (with_brownout(), Browser::default());
    log_in(&world, &mut browser, "alice").await;
    let (before, session) = (redeemed(&world), browser.jar[COOKIE].clone());
    for second in [60, 120, 179] {
        let seen = Visit::to("/a?b='c")
            .at(second)
            .with(&world, &mut browser)
            .await;
        says_until(&seen, &(180 - second).to_string());
        assert!(seen.body.contains("href=\"/a?b="), "{}", seen.body);
        assert_eq!(browser.jar[COOKIE], session);
    }
    let seen = Visit::to("/a").at(180).with(&world, &mut browser).await;
    assert_eq!(seen.admitted.unwrap().arm(), Some(Arm::From));
    assert_eq!(redeemed(&world), before, "nobody signs in without need");
    // What is no page is told so as ever.
    let script = Visit {
        fields: vec![("sec-fetch-mode", "cors")],
        ..Visit::to("/a").at(120)
    };
    let seen = script.with(&world, &mut browser).await;
    assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
    assert_eq!(browser.jar[COOKIE], session);
}

#[tokio::test]
async fn a_session_of_the_old_system_itself_outlives_them_too() {
    let (world, mut browser) = (with_brownout(), Browser::default());
    browser.jar.insert("OLDSID".to_owned(), "alice".to_owned());
    let seen = Visit::to("/a").at(90).with(&world, &mut browser).await;
    says_until(&seen, "90");
    assert_eq!(browser.jar["OLDSID"], "alice");
    assert_eq!(world.old.asked(), 0);
    let seen = Visit::to("/a").at(180).with(&world, &mut browser).await;
    assert!(seen.admitted.is_some());
}

#[tokio::test]
async fn nobody_is_sent_to_a_sign_in_page_that_lets_nobody_in_for_minutes() {
    let (mut world, mut browser) = (with_brownout(), Browser::default());
    let url = "https://intranet.corp.test/move?a=b";
    stage(&mut world).warning = Some(crate::rollout::Warning {
        deprecated: None,
        sunset: None,
        notice: Some(url.into()),
    });
    let seen = Visit::to("/a").at(90).with(&world, &mut browser).await;
    says_until(&seen, "90");
    assert_eq!(seen.link, format!("<{url}>; rel=\"deprecation\""));
    assert!(
        seen.body.contains(&format!("href=\"{url}\"")),
        "{}",
        seen.body
    );
    assert_eq!(browser.flows(), 0);
    // Whoever belongs to the other side signs in as ever.
    everybody_to(&mut world, Arm::To);
    let seen = Visit::to("/a").at(90).with(&world, &mut browser).await;
    assert!(
        seen.location.starts_with("https://new.idp.test/"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_sign_in_that_comes_back_within_these_minutes_is_told_so_and_not_begun_again() {
    let (world, mut browser) = (with_brownout(), Browser::default());
    let start = Visit::to("/a").at(59).with(&world, &mut browser).await;
    assert!(
        start.location.starts_with("https://old.idp.test/"),
        "{start:?}"
    );
    let callback = signed_in(&start.location, "alice");
    let seen = Visit::to(&callback).at(61).with(&world, &mut browser).await;
    says_until(&seen, "119");
    assert!(!browser.jar.contains_key(COOKIE));
    // What was issued for it is given back.
    let login = world.old.login.as_ref().unwrap();
    while login.revoked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let seen = Visit::to("/a").at(180).with(&world, &mut browser).await;
    assert!(
        seen.location.starts_with("https://old.idp.test/"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn whoever_is_excepted_signs_in_within_them() {
    let (mut world, mut browser) = (with_brownout(), Browser::default());
    world.canonical = Some(crate::links::settings::Canonical::by_claims(
        "uid:{subject}",
        Vec::new(),
        &["old", "new"],
    ));
    let glass = Cohort::Subjects(std::iter::once("uid:alice".into()).collect());
    let glass = std::iter::once((CohortId::new("glass"), glass));
    world.cohorts = glass.collect();
    stage(&mut world).accept = vec![AcceptOverride {
        provider: ProviderId::new("old"),
        new_logins: LoginPolicy::Allow,
        except: vec![CohortId::new("glass")],
        started_logins_grace: Duration::ZERO,
        sessions: SessionPolicy::UntilExpiry,
        basic: BasicPolicy::Accept,
        deadline: None,
    }];
    for (person, status) in [
        ("alice", StatusCode::SEE_OTHER),
        ("bob", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let start = Visit::to("/a").at(61).with(&world, &mut browser).await;
        assert!(
            start.location.starts_with("https://old.idp.test/"),
            "{start:?}"
        );
        let callback = signed_in(&start.location, person);
        let mut own = browser.clone();
        let seen = Visit::to(&callback).at(62).with(&world, &mut own).await;
        assert_eq!(seen.status, status, "{person}: {seen:?}");
        // And whoever is in already goes on, or is told so.
        let mut earlier = Browser::default();
        let start = open(&world, &mut earlier, "/a").await;
        open(&world, &mut earlier, &signed_in(&start.location, person)).await;
        let seen = Visit::to("/a").at(62).with(&world, &mut earlier).await;
        let goes_on = seen.admitted.is_some();
        assert_eq!(goes_on, status == StatusCode::SEE_OTHER, "{person}");
        assert_eq!(seen.status == StatusCode::SERVICE_UNAVAILABLE, !goes_on);
        assert!(earlier.jar.contains_key(COOKIE), "{person}");
    }
}

#[tokio::test]
async fn what_does_not_count_anyway_is_not_said_to_be_planned() {
    for mode in [Mode::ModernPrimary, Mode::ModernOnly] {
        let (mut world, mut browser) = (with_brownout(), Browser::default());
        stage(&mut world).mode = mode;
        // Nobody signs in at the old side in these.
        let seen = Visit::to("/a").at(90).with(&world, &mut browser).await;
        assert!(
            seen.location.starts_with("https://new.idp.test/"),
            "{seen:?}"
        );
    }
    let (mut world, mut browser) = (with_brownout(), Browser::default());
    log_in(&world, &mut browser, "alice").await;
    stage(&mut world).mode = Mode::ModernOnly;
    let seen = Visit::to("/a").at(90).with(&world, &mut browser).await;
    assert!(
        seen.location.starts_with("https://new.idp.test/"),
        "{seen:?}"
    );
    assert!(!browser.jar.contains_key(COOKIE));
}

#[tokio::test]
async fn what_has_stopped_counting_for_good_ends_at_its_owner_and_its_cookie_goes() {
    let (mut world, mut browser) = (both(), Browser::default());
    everybody_to(&mut world, Arm::From);
    log_in(&world, &mut browser, "alice").await;
    let session = browser.jar[COOKIE].clone();
    stage(&mut world).mode = Mode::ModernOnly;
    let seen = open(&world, &mut browser, "/a").await;
    assert!(
        seen.location.starts_with("https://new.idp.test/"),
        "{seen:?}"
    );
    assert!(!browser.jar.contains_key(COOKIE));
    let login = world.old.login.as_ref().unwrap();
    while login.revoked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    // Also for who has kept a copy, should the stage go back.
    stage(&mut world).mode = Mode::Canary;
    browser.jar.insert(COOKIE.to_owned(), session);
    assert!(open(&world, &mut browser, "/a").await.admitted.is_none());
}

/// What the old system was told to end, once everything is done that was begun.
async fn told(world: &World) -> Vec<String> {
    for _ in 0..40 {
        tokio::task::yield_now().await;
    }
    world.old.ended.lock().unwrap().clone()
}

const THEIRS: &str = "OLDSID";

fn of_the_old_system(session: &str) -> Browser {
    let mut browser = Browser::default();
    browser.jar.insert(THEIRS.to_owned(), session.to_owned());
    browser
}

/// The last stage, or the deadline of the old side in one before it (row 9).
#[tokio::test]
async fn a_session_of_an_old_system_that_counts_nowhere_any_more_is_ended_there_once_and_its_cookie_goes()
 {
    for (by_deadline, wraps) in [(false, false), (false, true), (true, false), (true, true)] {
        let store = Arc::new(FakeStore::default());
        let on = || {
            let (old, new) = (FakeProvider::old().with_login(), FakeProvider::new());
            let mut world = World::on(Arc::clone(&store) as _, old, new);
            world.plan = Some(plan(Mode::Canary, vec![all_to(Arm::From)]));
            world.wraps = wraps;
            world
        };
        let (mut world, mut other) = (on(), on());
        other.old = Arc::clone(&world.old);
        let mut browser = of_the_old_system("alice");
        let seen = open(&world, &mut browser, "/a").await;
        assert_eq!(seen.admitted.unwrap().arm(), Some(Arm::From));
        assert_eq!(browser.jar.contains_key(COOKIE), wraps);
        for world in [&mut world, &mut other] {
            everybody_to(world, Arm::To);
            if by_deadline {
                stage(world).accept = vec![AcceptOverride {
                    deadline: Some(at(0)),
                    ..old_logins(Duration::ZERO)
                }];
            } else {
                stage(world).mode = Mode::ModernOnly;
            }
        }
        let case = format!("by_deadline: {by_deadline}, wraps: {wraps}");
        let mut tabs = [browser.clone(), browser.clone(), browser];
        let [first, second, third] = &mut tabs;
        for (world, tab) in [(&world, first), (&world, second), (&other, third)] {
            let seen = open(world, tab, "/a").await;
            assert!(seen.status == StatusCode::FOUND, "{case}: {seen:?}");
            assert!(!tab.jar.contains_key(THEIRS), "{case}");
            assert!(!tab.jar.contains_key(COOKIE), "{case}");
            assert_eq!(told(world).await, ["alice"], "{case}");
        }
    }
}

#[tokio::test]
async fn a_session_that_counts_for_somebody_or_somewhere_or_is_made_up_is_not_ended_at_its_system()
{
    let last = |world: &World| {
        let mut plan = world.plan.clone().unwrap();
        plan.stage.mode = Mode::ModernOnly;
        Some(Arc::new(plan))
    };
    for case in [
        "one that does not move",
        "one before",
        "closed as well",
        "made up",
        "away",
    ] {
        let mut world = both();
        let before = world.plan.clone().map(Arc::new);
        stage(&mut world).mode = Mode::ModernOnly;
        world.others = match case {
            "one that does not move" => vec![last(&world), None],
            "one before" => vec![before],
            _ => vec![last(&world)],
        };
        match case {
            "made up" => {
                let no = Arc::new(|_: &str| Err(crate::identity::Refusal::Inactive.into()));
                *world.old.verdict.lock().unwrap() = no;
            }
            "away" => {
                let away = Arc::new(|_: &str| Err(Outage::Connect.into()));
                *world.old.verdict.lock().unwrap() = away;
            }
            _ => {}
        }
        let mut browser = of_the_old_system("alice");
        let seen = open(&world, &mut browser, "/a").await;
        assert_eq!(seen.status, StatusCode::FOUND, "{case}: {seen:?}");
        let ends = ["closed as well", "away"].contains(&case);
        assert_eq!(told(&world).await.len(), usize::from(ends), "{case}");
        let stays = ["one that does not move", "one before"].contains(&case);
        assert_eq!(browser.jar.contains_key(THEIRS), stays, "{case}");
    }
    // Nor while it is only not to count for some minutes.
    let (mut world, mut browser) = (with_brownout(), of_the_old_system("alice"));
    stage(&mut world).mode = Mode::Canary;
    let seen = Visit::to("/a").at(60).with(&world, &mut browser).await;
    says_until(&seen, "120");
    assert!(told(&world).await.is_empty() && browser.jar.contains_key(THEIRS));
}
