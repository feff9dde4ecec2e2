//! Whoever is asked who they are, or where they want to sign in, before they do.

mod anew;
mod known;

use super::*;
use crate::identity::ProviderId;
use crate::rollout::BeforeKnown;
use crate::rollout::Bucket;
use crate::rollout::BucketKey;
use crate::rollout::Cohort;
use crate::rollout::CohortId;
use crate::rollout::UnitKind;
use crate::secret::Secret;

const ON: &str = "/.authferry/login?rd=%2Forders%3Fx%3D1";
const OLD: &str = "https://old.idp.test/";
const NEW: &str = "https://new.idp.test/";

/// Both providers have a login, half of the people go to `new`, and all are asked who they are.
fn asking() -> World {
    let mut world = both();
    let plan = world.plan.as_mut().unwrap();
    plan.bucketing.before_known = BeforeKnown::IdentifierFirst;
    plan.stage.assign = vec![AssignRule {
        share: Share::Percent(Percent::parse("50").unwrap()),
        ..all_to(Arm::To)
    }]
    .into();
    world
}

fn is_in(world: &World, unit: &str) -> bool {
    let salt = &world.plan.as_ref().unwrap().bucketing.salt;
    let key = BucketKey::new(Secret::new(vec![7; 32]));
    Bucket::of(&key, salt, UnitKind::Subject, unit).is_within(Percent::parse("50").unwrap())
}

/// Somebody of this name who goes to `new`, and somebody who does not.
fn two(world: &World, like: &str) -> (String, String) {
    let all = || (0..).map(|n| format!("{like}{n}"));
    (
        all().find(|name| is_in(world, name)).unwrap(),
        all().find(|name| !is_in(world, name)).unwrap(),
    )
}

/// Sends the form of our page.
async fn answer(world: &World, browser: &mut Browser, body: &str) -> Seen {
    from("https://app.test", "same-origin", body)
        .with(world, browser)
        .await
}

fn from<'a>(origin: &'a str, site: &'a str, body: &'a str) -> Visit<'a> {
    Visit {
        method: Method::POST,
        fields: vec![
            ("content-type", "application/x-www-form-urlencoded"),
            ("origin", origin),
            ("sec-fetch-site", site),
        ],
        body,
        ..Visit::to(ON)
    }
}

fn named(name: &str) -> String {
    format!("identifier={}", query::encode(name))
}

#[tokio::test]
async fn what_somebody_says_they_are_decides_where_they_sign_in() {
    let world = asking();
    let (inside, outside) = two(&world, "p");
    for (name, place) in [(&inside, NEW), (&outside, OLD)] {
        // On whichever device, and however it is written.
        for written in [name.clone(), format!(" {} ", name.to_uppercase())] {
            let mut browser = Browser::default();
            let page = open(&world, &mut browser, "/orders?x=1").await;
            assert_eq!(page.status, StatusCode::OK);
            assert_eq!(browser.flows(), 0, "nothing has begun yet");
            for part in [
                "<form method=\"post\" action=\"/.authferry/login?rd=%2Forders%3Fx%3D1\">",
                "<label for=\"identifier\">",
                "autocomplete=\"username\"",
            ] {
                assert!(page.body.contains(part), "{}", page.body);
            }
            assert!(!page.body.contains("aria-invalid") && !page.body.contains("<script"));
            let start = answer(&world, &mut browser, &named(&written)).await;
            assert_eq!(start.status, StatusCode::SEE_OTHER);
            assert!(start.location.starts_with(place), "{name}: {start:?}");
            let hint = format!("&login_hint={}", written.trim());
            assert!(start.location.ends_with(&hint), "{}", start.location);
            let end = open(&world, &mut browser, &signed_in(&start.location, "alice")).await;
            assert_eq!(end.location, "/orders?x=1");
        }
    }
}

#[tokio::test]
async fn a_form_of_another_site_says_nothing() {
    let world = asking();
    let (inside, _) = two(&world, "p");
    let body = named(&inside);
    for (origin, site) in [
        ("https://evil.test", "cross-site"),
        ("https://app.test", "cross-site"),
        ("https://other.app.test", "same-site"),
        ("null", "cross-site"),
    ] {
        let mut browser = Browser::default();
        let seen = from(origin, site, &body).with(&world, &mut browser).await;
        assert_eq!((seen.status, browser.flows()), (StatusCode::OK, 0));
        assert!(seen.body.contains("<label"), "{origin}: {}", seen.body);
    }
    let silent = Visit {
        fields: vec![("content-type", "application/x-www-form-urlencoded")],
        ..from("", "", &body)
    };
    let seen = silent.with(&world, &mut Browser::default()).await;
    assert!(seen.body.contains("<label"));
    let text = Visit {
        fields: vec![
            ("content-type", "text/plain"),
            ("sec-fetch-site", "same-origin"),
        ],
        ..from("", "", &body)
    };
    let seen = text.with(&world, &mut Browser::default()).await;
    assert!(seen.body.contains("<label"));
}

#[tokio::test]
async fn what_is_no_name_is_asked_for_again_and_not_shown() {
    let world = asking();
    let long = "b".repeat(255);
    for name in ["", "  ", "a\nb<script>", &long] {
        let seen = answer(&world, &mut Browser::default(), &named(name)).await;
        assert_eq!(seen.status, StatusCode::OK, "{name:?}");
        assert!(seen.body.contains("aria-invalid=\"true\""));
        assert!(!seen.body.contains("<script") && !seen.body.contains(&long));
    }
    for form in ["identifier=a&identifier=b", "identifier=%zz", "\u{0}"] {
        let seen = answer(&world, &mut Browser::default(), form).await;
        assert!(seen.body.contains("<label"), "{form:?}");
    }
}

#[tokio::test]
async fn nobody_is_asked_where_the_switch_or_the_mode_decides() {
    let mut world = asking();
    for (kill, place) in [(KillPosition::Legacy, OLD), (KillPosition::Modern, NEW)] {
        let visit = Visit::to("/orders?x=1").killed(kill);
        let seen = visit.with(&world, &mut Browser::default()).await;
        assert!(seen.location.starts_with(place), "{kill:?}: {seen:?}");
        // Nor does what was said before it was pulled count against it.
        let (inside, outside) = two(&world, "p");
        for name in [inside, outside] {
            let body = named(&name);
            let visit = from("https://app.test", "same-origin", &body).killed(kill);
            let seen = visit.with(&world, &mut Browser::default()).await;
            assert!(seen.location.starts_with(place), "{kill:?}: {seen:?}");
        }
    }
    let denied = from("https://app.test", "same-origin", "identifier=a");
    let denied = denied.killed(KillPosition::Deny);
    let seen = denied.with(&world, &mut Browser::default()).await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
    for (mode, place) in [(Mode::LegacyOnly, OLD), (Mode::ModernOnly, NEW)] {
        world.plan.as_mut().unwrap().stage.mode = mode;
        let seen = open(&world, &mut Browser::default(), "/").await;
        assert!(seen.location.starts_with(place), "{mode:?}: {seen:?}");
    }
}

#[tokio::test]
async fn who_shares_a_browser_with_somebody_who_has_moved_is_sent_where_they_belong() {
    let world = asking();
    let (inside, outside) = two(&world, "p");
    let mut browser = Browser::default();
    let start = answer(&world, &mut browser, &named(&inside)).await;
    open(&world, &mut browser, &signed_in(&start.location, "alice")).await;
    for (name, place) in [(&outside, OLD), (&inside, NEW)] {
        browser.jar.remove(COOKIE);
        let page = open(&world, &mut browser, "/").await;
        assert!(page.body.contains("<label"), "{page:?}");
        let start = answer(&world, &mut browser, &named(name)).await;
        assert!(start.location.starts_with(place), "{name}: {start:?}");
    }
}

#[tokio::test]
async fn a_login_that_begins_anew_does_not_ask_again() {
    let mut world = asking();
    let (inside, _) = two(&world, "p");
    let mut browser = Browser::default();
    let start = answer(&world, &mut browser, &named(&inside)).await;
    world.plan.as_mut().unwrap().epoch += 1;
    let callback = signed_in(&start.location, "alice");
    let again = open(&world, &mut browser, &callback).await;
    assert!(again.location.starts_with(NEW), "{again:?}");
    assert!(again.location.ends_with(&format!("&login_hint={inside}")));
    let end = open(&world, &mut browser, &signed_in(&again.location, "alice")).await;
    assert_eq!(end.location, "/orders?x=1");
}

#[tokio::test]
async fn who_is_told_that_the_page_has_changed_does_not_say_it_twice() {
    let mut world = asking();
    world.look = Arc::new(Look::new(&crate::auth::settings::Pages {
        changed: true,
        ..Default::default()
    }));
    let (inside, _) = two(&world, "p<&");
    let mut browser = Browser::default();
    let told = answer(&world, &mut browser, &named(&inside)).await;
    assert!(told.body.contains("Your sign-in page has changed"));
    let kept = inside.replace('&', "&amp;").replace('<', "&lt;");
    let field = format!("<input type=\"hidden\" name=\"identifier\" value=\"{kept}\">");
    assert!(told.body.contains(&field), "{}", told.body);
    let start = answer(&world, &mut browser, &named(&inside)).await;
    assert!(start.location.starts_with(NEW), "{start:?}");
}

/// Whoever goes to `/orders` chooses; the others go to `old`.
fn choosing() -> World {
    let mut world = both();
    let orders = CohortId::new("orders");
    let paths = Cohort::Path(vec!["/orders*".into()]);
    world.cohorts.insert(orders.clone(), paths);
    world.plan.as_mut().unwrap().stage.assign = vec![AssignRule {
        cohort: Some(orders),
        share: Share::Chosen,
        ..all_to(Arm::To)
    }]
    .into();
    world.look = Arc::new(Look::new(&crate::auth::settings::Pages {
        providers: vec![(ProviderId::new("old"), "R&D account".into())],
        ..Default::default()
    }));
    world
}

#[tokio::test]
async fn people_choose_only_where_a_rule_asks_them() {
    let world = choosing();
    for (choice, place) in [("at=old", OLD), ("at=new", NEW)] {
        let mut browser = Browser::default();
        let page = open(&world, &mut browser, "/orders?x=1").await;
        assert_eq!((page.status, browser.flows()), (StatusCode::OK, 0));
        let old = page
            .body
            .find("<button name=\"at\" value=\"old\">R&amp;D account</button>");
        let new = page
            .body
            .find("<button name=\"at\" value=\"new\">new</button>");
        assert!(old.is_some() && old < new, "{}", page.body);
        let start = answer(&world, &mut browser, choice).await;
        assert!(start.location.starts_with(place), "{choice}: {start:?}");
        let end = open(&world, &mut browser, &signed_in(&start.location, "alice")).await;
        assert_eq!(end.location, "/orders?x=1");
        // Whoever has moved is not asked again; whoever has not may change their mind.
        browser.jar.remove(COOKIE);
        let next = open(&world, &mut browser, "/orders?x=1").await;
        assert_eq!(next.location.starts_with(NEW), place == NEW, "{next:?}");
        assert_eq!(next.body.contains("<button name=\"at\""), place == OLD);
    }
    for nothing in ["at=", "at=elsewhere", "identifier=x"] {
        let seen = answer(&world, &mut Browser::default(), nothing).await;
        assert!(seen.body.contains("<button name=\"at\""), "{nothing}");
    }
    // Neither an address nor a form of another site is a choice, and elsewhere there is none.
    let linked = format!("{ON}&at=new");
    let seen = open(&world, &mut Browser::default(), &linked).await;
    assert!(seen.body.contains("<button name=\"at\""));
    let foreign = from("https://evil.test", "cross-site", "at=new");
    let seen = foreign.with(&world, &mut Browser::default()).await;
    assert!(seen.body.contains("<button name=\"at\""));
    let elsewhere = Visit {
        target: "/.authferry/login?rd=%2F",
        ..from("https://app.test", "same-origin", "at=new")
    };
    let seen = elsewhere.with(&world, &mut Browser::default()).await;
    assert!(seen.location.starts_with(OLD), "{seen:?}");
}

#[tokio::test]
async fn a_choice_of_one_is_none() {
    let mut world = choosing();
    world.plan.as_mut().unwrap().stage.accept = vec![AcceptOverride {
        provider: ProviderId::new("old"),
        new_logins: LoginPolicy::Refuse,
        except: Vec::new(),
        started_logins_grace: Duration::ZERO,
        sessions: SessionPolicy::UntilExpiry,
        basic: BasicPolicy::Accept,
        deadline: None,
    }];
    let seen = open(&world, &mut Browser::default(), "/orders").await;
    assert!(seen.location.starts_with(NEW), "{seen:?}");
    // Nor does anybody get in there by saying so.
    let seen = answer(&world, &mut Browser::default(), "at=old").await;
    assert!(seen.location.starts_with(NEW), "{seen:?}");
}

#[tokio::test]
async fn somebody_who_is_asked_who_they_are_and_where_says_each_once() {
    let mut world = choosing();
    let plan = world.plan.as_mut().unwrap();
    plan.bucketing.before_known = BeforeKnown::IdentifierFirst;
    let partners = CohortId::new("partners");
    let named_so = Cohort::LoginHint(vec!["*@partner.example".into()]);
    world.cohorts.insert(partners.clone(), named_so);
    let partners = AssignRule {
        cohort: Some(partners),
        ..all_to(Arm::To)
    };
    let rules = [vec![partners], plan.stage.assign.to_vec()].concat();
    plan.stage.assign = rules.into();
    let mut browser = Browser::default();
    let page = open(&world, &mut browser, "/orders?x=1").await;
    assert!(page.body.contains("<label"), "{}", page.body);
    let partner = named("bob@partner.example");
    let start = answer(&world, &mut browser, &partner).await;
    assert!(start.location.starts_with(NEW), "{start:?}");
    let page = answer(&world, &mut Browser::default(), &named("bob")).await;
    for part in [
        "name=\"identifier\" value=\"bob\"",
        "<button name=\"at\" value=\"new\">",
    ] {
        assert!(page.body.contains(part), "{}", page.body);
    }
    let start = answer(&world, &mut Browser::default(), "identifier=bob&at=old").await;
    assert!(start.location.starts_with(OLD), "{start:?}");
    assert!(start.location.ends_with("&login_hint=bob"));
    // A link says who somebody is, too.
    let link = "/.authferry/login?rd=%2F&login_hint=eve%40partner.example";
    let start = open(&world, &mut Browser::default(), link).await;
    assert!(start.location.starts_with(NEW), "{start:?}");
    assert!(start.location.ends_with("&login_hint=eve@partner.example"));
}

/// Whoever says that they are somebody else signs in as themselves, or not at all.
#[tokio::test]
async fn what_somebody_says_lets_nobody_in() {
    let mut world = asking();
    let partners = CohortId::new("partners");
    let named_so = Cohort::LoginHint(vec!["*@partner.example".into()]);
    world.cohorts.insert(partners.clone(), named_so);
    let plan = world.plan.as_mut().unwrap();
    plan.stage.assign = vec![AssignRule {
        cohort: Some(partners.clone()),
        ..all_to(Arm::From)
    }]
    .into();
    plan.stage.accept = vec![AcceptOverride {
        provider: ProviderId::new("old"),
        new_logins: LoginPolicy::Refuse,
        // As `check` would not let anybody write it.
        except: vec![partners],
        started_logins_grace: Duration::ZERO,
        sessions: SessionPolicy::UntilExpiry,
        basic: BasicPolicy::Accept,
        deadline: None,
    }];
    let mut browser = Browser::default();
    let start = answer(&world, &mut browser, &named("bob@partner.example")).await;
    assert!(start.location.starts_with(OLD), "{start:?}");
    let callback = signed_in(&start.location, "bob");
    let end = Visit::to(&callback).at(1).with(&world, &mut browser).await;
    assert!(!browser.jar.contains_key(COOKIE), "{end:?}");
}
