//! Sessions of the old side that come over to the new one, and those that stay.

use super::*;
use crate::auth::settings::Silent;
use crate::revocation::Asked as RevocationAsked;
use crate::revocation::Source as RevocationSource;
use crate::revocation::Target;

const DAY: u64 = 24 * 3_600;

/// Both providers have a login; whoever has a session of the old one and belongs to the new one is asked after.
pub(super) fn asking() -> World {
    asking_on(Arc::new(FakeStore::default()))
}

pub(super) fn asking_on(store: Arc<FakeStore>) -> World {
    let (old, new) = (FakeProvider::old().with_login(), FakeProvider::new());
    let mut world = World::on(store as _, old, new);
    world.plan = Some(plan(Mode::Canary, vec![all_to(Arm::From)]));
    world.canonical = Some(crate::links::settings::Canonical::by_claims(
        "uid:{subject}",
        Vec::new(),
        &["old", "new"],
    ));
    world.silent = Some(Silent {
        retry_after: Duration::from_secs(DAY),
        per_day: 2,
    });
    world
}

const PAGE: [(&str, &str); 3] = [
    ("accept", "text/html"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
];

/// Opens a page, and says so.
pub(super) fn page(target: &str) -> Visit<'_> {
    Visit {
        fields: PAGE.to_vec(),
        ..Visit::to(target)
    }
}

/// A browser that signed in at the old side, before its person was assigned to the new one.
pub(super) async fn of_the_old_side(world: &mut World) -> Browser {
    let mut browser = Browser::default();
    everybody_to(world, Arm::From);
    let seen = log_in(world, &mut browser, "alice").await;
    assert_eq!(seen.location, "/orders?x=1");
    everybody_to(world, Arm::To);
    browser
}

/// What the provider answers if it may not show a page and would have to.
pub(super) fn would_ask(location: &str) -> String {
    let answer = signed_in(location, "nobody");
    let (path, query) = answer.split_once('?').unwrap();
    let state = query.split_once("&state=").unwrap().1;
    format!("{path}?error=login_required&state={state}")
}

pub(super) fn counted(world: &World, outcome: &str) -> bool {
    let line = format!(
        "authferry_session_carryovers_total{{app=\"crm\",method=\"silent\",outcome=\"{outcome}\"}} 1\n"
    );
    world.metrics.render().unwrap().contains(&line)
}

pub(super) async fn arm(world: &World, browser: &mut Browser) -> Option<Arm> {
    let seen = open(world, browser, "/").await;
    seen.admitted.and_then(|admitted| admitted.arm())
}

#[tokio::test]
async fn nobody_with_a_session_is_sent_to_a_provider_that_is_known_to_be_away() {
    let mut world = asking();
    let mut browser = of_the_old_side(&mut world).await;
    // Its metadata and keys are known: it has an address, and can judge.
    world.new.health.lock().unwrap().down_since = Some(at(0));
    let seen = page("/deep").with(&world, &mut browser).await;
    assert!(
        seen.location.is_empty() && seen.admitted.is_some(),
        "{seen:?}"
    );
    world.new.health.lock().unwrap().down_since = None;
    let asked = page("/deep").with(&world, &mut browser).await;
    assert!(
        asked.location.starts_with("https://new.idp.test/"),
        "no try was used up: {asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_moves_without_a_page_where_the_new_provider_knows_the_person() {
    let mut world = asking();
    let mut browser = of_the_old_side(&mut world).await;
    let before = browser.jar[COOKIE].clone();
    let asked = page("/deep?a=b").with(&world, &mut browser).await;
    assert!(
        asked.location.starts_with("https://new.idp.test/")
            && asked.location.ends_with("&prompt=none"),
        "{asked:?}"
    );
    let back = page(&signed_in(&asked.location, "alice"))
        .with(&world, &mut browser)
        .await;
    assert_eq!(
        (back.status, back.location.as_str()),
        (StatusCode::SEE_OTHER, "/deep?a=b")
    );
    assert_ne!(browser.jar[COOKIE], before, "a new backing has a new name");
    let admitted = open(&world, &mut browser, "/").await.admitted.unwrap();
    assert_eq!(
        (
            admitted.arm(),
            admitted.rule(),
            admitted.canonical().as_str()
        ),
        (Some(Arm::To), "silent", "uid:alice")
    );
    assert!(counted(&world, "moved"));
    let text = world.metrics.render().unwrap();
    assert!(
        !text.contains("arm=\"modern\",event=\"started\"}"),
        "it is no journey of a login: {text}"
    );
    // Soon the old cookie opens nothing, what was issued for it is revoked, and the person is pinned.
    tokio::time::sleep(Duration::from_secs(6)).await;
    browser.jar.insert(COOKIE.to_owned(), before);
    assert_eq!(arm(&world, &mut browser).await, None);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let old = world.old.login.as_ref().unwrap();
    let revoked = old.revoked.lock().unwrap().clone();
    assert_eq!(revoked, ["refresh-token-of-alice"]);
    let plan = world.plan.as_ref().unwrap();
    let alice = CanonicalSubject::named("uid:alice").unwrap();
    let pin = world.pins().of(&plan.id, &alice, at(0)).await.unwrap();
    assert_eq!(pin.map(|pin| pin.arm), Some(Arm::To));
}

#[tokio::test]
async fn a_session_of_the_old_system_itself_moves_too() {
    let (mut world, mut browser) = (asking(), Browser::default());
    everybody_to(&mut world, Arm::To);
    browser.jar.insert("OLDSID".to_owned(), "alice".to_owned());
    let asked = page("/").with(&world, &mut browser).await;
    assert!(asked.location.ends_with("&prompt=none"), "{asked:?}");
    let callback = signed_in(&asked.location, "alice");
    page(&callback).with(&world, &mut browser).await;
    assert_eq!(arm(&world, &mut browser).await, Some(Arm::To));
}

#[tokio::test]
async fn whatever_else_comes_of_it_the_session_stays_as_it_is() {
    for (answer, outcome) in [
        (None, "login_required"),
        (Some("bob"), "subject_mismatch"),
        (Some("disabled"), "refused"),
        (Some("down"), "unavailable"),
    ] {
        let mut world = asking();
        let mut browser = of_the_old_side(&mut world).await;
        let asked = page("/deep?a=b").with(&world, &mut browser).await;
        let callback = match answer {
            None => would_ask(&asked.location),
            Some(person) => signed_in(&asked.location, person),
        };
        let back = page(&callback).with(&world, &mut browser).await;
        assert_eq!(
            (back.status, back.location.as_str()),
            (StatusCode::SEE_OTHER, "/deep?a=b"),
            "{outcome}"
        );
        assert!(counted(&world, outcome), "{outcome}");
        let given_back = || {
            let login = world.new.login.as_ref().unwrap();
            login.revoked.lock().unwrap().len()
        };
        assert_eq!(given_back(), 0, "it could end her session there");
        assert_eq!(browser.flows(), 0);
        // And it is left alone for a day.
        let again = page("/deep").with(&world, &mut browser).await;
        let admitted = again.admitted.unwrap();
        assert_eq!(
            (again.status, admitted.arm(), admitted.canonical().as_str()),
            (StatusCode::OK, Some(Arm::From), "uid:alice"),
            "{outcome}"
        );
    }
}

/// What an upstream got for the session whose place another one has taken ends with that one, too.
#[tokio::test]
async fn what_was_made_of_the_session_before_ends_with_the_sign_out() {
    use crate::revocation::Found;
    use crate::revocation::HandOut;
    use crate::revocation::Marks;
    use crate::revocation::Standing;
    use crate::session::SessionId;

    let mut world = asking();
    let mut browser = of_the_old_side(&mut world).await;
    let row = SessionId::parse(&browser.jar[COOKIE]).unwrap().row();
    let before = Visit::to("/").with(&world, &mut browser).await;
    let admitted = before.admitted.unwrap();
    let grounds = crate::identity::Grounds::default();
    let marks = Marks::of(admitted.identity(), admitted.canonical(), &grounds).and_session(&row);
    let parent = Standing::new(world.revocations.index(), marks);
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
    let noted = world.revocations.notes_made(made, Some(&row), at(0));
    noted.await.unwrap();
    let counts = async || {
        let Ok(Found::Handed(made)) = world.revocations.handed_out("made", at(1)).await else {
            panic!("it was noted");
        };
        world.revocations.still_counts(&made, &[], at(1)).unwrap()
    };
    let asked = page("/").with(&world, &mut browser).await;
    let callback = signed_in(&asked.location, "alice");
    page(&callback).with(&world, &mut browser).await;
    assert_eq!(arm(&world, &mut browser).await, Some(Arm::To));
    assert!(counts().await, "she is still there");
    let out = Visit {
        method: Method::POST,
        fields: vec![("sec-fetch-site", "same-origin")],
        ..Visit::to("/.authferry/logout")
    };
    out.with(&world, &mut browser).await;
    assert!(!counts().await);
}

#[tokio::test]
async fn whoever_signs_out_meanwhile_stays_signed_out() {
    let mut world = asking();
    let mut browser = of_the_old_side(&mut world).await;
    let asked = page("/").with(&world, &mut browser).await;
    let mut other_tab = browser.clone();
    let out = Visit {
        method: Method::POST,
        fields: vec![("sec-fetch-site", "same-origin")],
        ..Visit::to("/.authferry/logout")
    };
    out.with(&world, &mut other_tab).await;
    let callback = signed_in(&asked.location, "alice");
    let back = page(&callback).with(&world, &mut browser).await;
    assert_eq!(back.location, "/");
    assert!(counted(&world, "refused"));
    assert_eq!(arm(&world, &mut browser).await, None);
}

/// What was revoked while somebody was asked after is not outlived by what comes of it.
#[tokio::test]
async fn whoever_is_revoked_meanwhile_does_not_come_in_without_a_page() {
    for (revoked, comes_in) in [(false, Some(Arm::To)), (true, None)] {
        let (mut world, mut browser) = (asking(), Browser::default());
        everybody_to(&mut world, Arm::To);
        browser.jar.insert("OLDSID".to_owned(), "alice".to_owned());
        let asked = page("/").with(&world, &mut browser).await;
        if revoked {
            let asked = RevocationAsked {
                target: Target::Subject {
                    subject: "uid:alice".to_owned(),
                },
                source: RevocationSource::Operator,
                actor: String::from("test"),
                reason: String::new(),
                keep: None,
                provider: None,
            };
            world.revocations.revoke(asked).await.unwrap();
        }
        let callback = signed_in(&asked.location, "alice");
        let later = |visit| Visit {
            now: at(2),
            ..visit
        };
        later(page(&callback)).with(&world, &mut browser).await;
        browser.jar.remove("OLDSID");
        let seen = later(Visit::to("/")).with(&world, &mut browser).await;
        let arm = seen.admitted.and_then(|admitted| admitted.arm());
        assert_eq!(arm, comes_in);
    }
}

#[tokio::test]
async fn only_a_page_in_a_tab_of_somebody_who_belongs_to_the_new_side_asks() {
    let mut world = asking();
    let mut browser = of_the_old_side(&mut world).await;
    let mut quiet: Vec<Visit<'static>> = vec![
        Visit::to("/"),
        Visit {
            method: Method::POST,
            ..page("/")
        },
        page("/").killed(KillPosition::Legacy),
    ];
    for fields in [
        vec![("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        vec![("sec-fetch-mode", "cors"), ("sec-fetch-dest", "document")],
        vec![
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("x-requested-with", "XMLHttpRequest"),
        ],
    ] {
        quiet.push(Visit {
            fields,
            ..Visit::to("/")
        });
    }
    for visit in quiet {
        let seen = visit.with(&world, &mut browser).await;
        assert!(
            seen.admitted.is_some() && seen.status == StatusCode::OK,
            "{seen:?}"
        );
    }
    away(&world.new, 0);
    let seen = page("/").with(&world, &mut browser).await;
    assert_eq!(
        seen.status,
        StatusCode::OK,
        "a provider that is away is not asked"
    );
    *world.new.health.lock().unwrap() = world.old.health.lock().unwrap().clone();
    *world.new.login.as_ref().unwrap().down.lock().unwrap() = None;
    world.plan.as_mut().unwrap().stage.mode = Mode::Shadow;
    let seen = page("/").with(&world, &mut browser).await;
    assert_eq!(seen.status, StatusCode::OK);
    world.plan.as_mut().unwrap().stage.mode = Mode::ModernPrimary;
    let seen = page("/").with(&world, &mut browser).await;
    assert_eq!(seen.status, StatusCode::FOUND, "now it may");
}

#[tokio::test]
async fn a_browser_that_forgets_is_sent_round_twice_a_day() {
    let mut world = asking();
    let browser = of_the_old_side(&mut world).await;
    let mut asked = 0;
    for minute in 0..10 {
        let mut forgetful = browser.clone();
        let seen = page("/").at(60 * minute).with(&world, &mut forgetful).await;
        asked += u32::from(seen.status == StatusCode::FOUND);
    }
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn whoever_holds_another_session_by_then_is_nobody_who_was_asked_after() {
    let mut world = asking();
    let mut browser = of_the_old_side(&mut world).await;
    let asked = page("/deep").with(&world, &mut browser).await;
    // The old application has signed somebody else in meanwhile, or the same person anew: its cookie has the same name.
    let answer = signed_in(&asked.location, "alice");
    browser.jar.insert("OLDSID".into(), "bob".into());
    let seen = page(&answer).with(&world, &mut browser).await;
    assert_eq!(seen.location, "/deep");
    assert!(counted(&world, "refused"), "{seen:?}");
    browser.jar.remove("OLDSID");
    assert_eq!(arm(&world, &mut browser).await, Some(Arm::From));
}
