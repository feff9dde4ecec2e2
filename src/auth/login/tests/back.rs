//! Sessions of a fallback, once the provider that was away is healthy again.

use super::carry::would_ask;
use super::*;
use crate::revocation::Asked as RevocationAsked;
use crate::revocation::Source as RevocationSource;
use crate::revocation::Target;

const PAGE: [(&str, &str); 3] = [
    ("accept", "text/html"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
];

/// Opens a page, and says so.
fn page(target: &str) -> Visit<'_> {
    Visit {
        fields: PAGE.to_vec(),
        ..Visit::to(target)
    }
}

/// The new provider is away, and somebody took the fallback at 40.
async fn fallen(recheck: bool) -> (World, Browser) {
    let mut world = both();
    world.canonical = Some(crate::links::settings::Canonical::by_claims(
        "uid:{subject}",
        Vec::new(),
        &["old", "new"],
    ));
    away(&world.new, 0);
    world.fallbacks = vec![Fallback {
        app: world.app.clone(),
        from: Arm::To,
        when: vec![Outage::Connect],
        provider_down_for: Duration::from_secs(30),
        not_paths: Vec::new(),
        max_age: Duration::from_secs(3_600),
        recheck,
        per_hour: 2,
        assurance: Vec::new(),
        account_by: None,
        mark: None,
    }];
    let mut browser = Browser::default();
    let start = Visit::to("/a").at(40).with(&world, &mut browser).await;
    let callback = signed_in(&start.location, "alice");
    let seen = Visit::to(&callback).at(41).with(&world, &mut browser).await;
    assert_eq!(seen.location, "/a", "{seen:?}");
    (world, browser)
}

fn back_again(provider: &FakeProvider) {
    *provider.login.as_ref().unwrap().down.lock().unwrap() = None;
    let mut health = provider.health.lock().unwrap();
    health.usable = true;
    health.down_since = None;
}

/// Where the session is, and where the browser was sent.
async fn stands(visit: Visit<'_>, world: &World, browser: &mut Browser) -> (Option<Arm>, String) {
    let seen = visit.with(world, browser).await;
    (seen.admitted.and_then(|good| good.arm()), seen.location)
}

#[tokio::test(start_paused = true)]
async fn the_session_of_a_fallback_moves_at_the_next_page_once_its_provider_is_healthy() {
    let (world, mut browser) = fallen(true).await;
    let stays = (Some(Arm::From), String::new());
    let seen = stands(page("/a").at(100), &world, &mut browser).await;
    assert_eq!(seen, stays, "still away");
    // It can be reached, and has not yet shown that it works.
    back_again(&world.new);
    world.new.health.lock().unwrap().down_since = Some(at(0));
    let seen = stands(page("/a").at(101), &world, &mut browser).await;
    assert_eq!(seen, stays, "being tried again");

    back_again(&world.new);
    let call = Visit {
        fields: vec![("accept", "application/json")],
        ..Visit::to("/api")
    };
    let seen = stands(call.at(102), &world, &mut browser).await;
    assert_eq!(seen, stays, "no page: nothing to send round");
    let post = Visit {
        method: Method::POST,
        ..page("/a")
    };
    let seen = stands(post.at(102), &world, &mut browser).await;
    assert_eq!(seen, stays, "what was typed is not lost");

    let mut copy = browser.clone();
    let (_, location) = stands(page("/orders?x=1").at(103), &world, &mut browser).await;
    assert!(
        location.starts_with("https://new.idp.test/authorize?")
            && location.ends_with("&prompt=none"),
        "{location}"
    );
    assert_eq!(browser.jar[COOKIE], copy.jar[COOKIE], "nothing has ended");
    let callback = signed_in(&location, "alice");
    let seen = Visit::to(&callback)
        .at(105)
        .with(&world, &mut browser)
        .await;
    assert_eq!(seen.location, "/orders?x=1");
    let seen = stands(page("/a").at(106), &world, &mut browser).await;
    assert_eq!(seen, (Some(Arm::To), String::new()), "and there it stays");
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (arm, _) = stands(Visit::to("/a").at(112), &world, &mut copy).await;
    assert_eq!(arm, None, "a copy of the cookie is worth nothing");
}

#[tokio::test]
async fn whoever_would_have_to_sign_in_there_keeps_the_session_of_a_fallback_until_its_end() {
    for answer in [None, Some("bob"), Some("down")] {
        let (world, mut browser) = fallen(true).await;
        back_again(&world.new);
        let settings = crate::session::settings::Settings {
            revalidate: Duration::from_secs(7_200),
            ..crate::auth::fake::session_settings()
        };
        world.sessions().reload(&settings).unwrap();
        let mut asked = Vec::new();
        for minutes in [2, 3, 13, 20, 30, 40, 50, 58] {
            let seen = stands(page("/a").at(60 * minutes), &world, &mut browser).await;
            if seen == (Some(Arm::From), String::new()) {
                continue;
            }
            let (arm, location) = seen;
            assert!(
                arm == Some(Arm::From) && location.contains("prompt=none"),
                "{answer:?}: {location}"
            );
            asked.push(minutes);
            let callback = match answer {
                None => would_ask(&location),
                Some(person) => signed_in(&location, person),
            };
            let back = page(&callback).at(60 * minutes + 1);
            let back = back.with(&world, &mut browser).await;
            assert_eq!(back.location, "/a", "{answer:?}: {back:?}");
        }
        assert_eq!(asked, [2, 13], "{answer:?}: left alone, and twice a day");
        let (arm, location) = stands(page("/a").at(3_700), &world, &mut browser).await;
        assert!(
            arm.is_none()
                && location.starts_with("https://new.idp.test/authorize?")
                && !location.contains("prompt="),
            "{answer:?}: {location}"
        );
    }
}

#[tokio::test]
async fn the_session_of_a_fallback_stays_where_it_is_not_to_go_back_or_cannot() {
    let stays = (Some(Arm::From), String::new());
    let (world, mut browser) = fallen(false).await;
    back_again(&world.new);
    let seen = stands(page("/a").at(100), &world, &mut browser).await;
    assert_eq!(seen, stays, "nobody asked for it");

    let (mut world, mut browser) = fallen(true).await;
    back_again(&world.new);
    let called_back = page("/a").at(100).killed(KillPosition::Legacy);
    let seen = stands(called_back, &world, &mut browser).await;
    assert_eq!(seen, stays, "called back meanwhile");
    everybody_to(&mut world, Arm::From);
    let seen = stands(page("/a").at(101), &world, &mut browser).await;
    assert_eq!(seen, stays, "belongs there now");
    everybody_to(&mut world, Arm::To);
    *world.new.login.as_ref().unwrap().down.lock().unwrap() = Some(Outage::Connect);
    let seen = stands(page("/a").at(102), &world, &mut browser).await;
    assert_eq!(seen, stays, "away again");

    // A login at the old side that no outage sent there is no fallback.
    let (mut world, mut browser) = fallen(true).await;
    back_again(&world.new);
    browser.jar.clear();
    everybody_to(&mut world, Arm::From);
    log_in(&world, &mut browser, "alice").await;
    everybody_to(&mut world, Arm::To);
    let seen = stands(page("/a").at(103), &world, &mut browser).await;
    assert_eq!(seen, stays);
}

/// Somebody whose session was ended with everything that the new provider had vouched for.
async fn ended_for_safety() -> (World, Browser) {
    let (world, mut browser) = (both(), Browser::default());
    log_in(&world, &mut browser, "alice").await;
    let asked = RevocationAsked {
        target: Target::Provider {
            provider: "new".to_owned(),
        },
        source: RevocationSource::Operator,
        actor: String::from("test"),
        reason: String::new(),
        keep: None,
        provider: None,
    };
    world.revocations.revoke(asked).await.unwrap();
    (world, browser)
}

#[tokio::test]
async fn who_is_told_that_they_were_signed_out_comes_back_to_the_whole_address() {
    let (mut world, mut browser) = ended_for_safety().await;
    let told = Visit::to("/a?b=1").in_a_tab();
    let told = told.with(&world, &mut browser.clone()).await;
    assert!(!told.body.contains("<script>"), "nobody wants it kept");
    world.look = Arc::new(Look::new(&crate::auth::settings::Pages {
        keep_fragment: true,
        ..Default::default()
    }));
    let told = Visit::to("/a?b=1").in_a_tab();
    let told = told.with(&world, &mut browser).await;
    assert_eq!(told.status, StatusCode::FORBIDDEN, "{told:?}");
    assert!(told.body.contains("You were signed out for security"));
    let place = format!("{COOKIE}_place");
    let script = told.body.split_once("<script>").unwrap().1;
    let script = script.split_once("</script>").unwrap().0;
    assert!(script.contains(&format!("\"{place}=\"")), "{script}");
    assert!(!script.contains("replace"), "it waits for its reader");
    // What the script does, and the link of the page.
    let link = "/.authferry/login?rd=%2Fa%3Fb%3D1";
    assert!(told.body.contains(&format!("href=\"{link}\"")));
    let kept = "%2Fa%3Fb%3D1%23%2Fc%2Fd";
    browser.jar.insert(place, kept.to_owned());
    let start = Visit::to(link).at(10).with(&world, &mut browser).await;
    let callback = signed_in(&start.location, "alice");
    let end = Visit::to(&callback).at(11).with(&world, &mut browser).await;
    assert_eq!(end.location, "/a?b=1#/c/d");
}

#[tokio::test]
async fn whose_own_session_was_ended_with_all_of_the_new_provider_is_told_so_and_nobody_else() {
    let (world, mut browser) = ended_for_safety().await;
    let mut stranger = Browser::default();
    let mut made_up = browser.clone();
    let told = open(&world, &mut browser, "/").await;
    assert_eq!(told.status, StatusCode::FORBIDDEN, "{told:?}");
    assert!(told.body.contains("You were signed out for security"));
    for other in [&mut made_up, &mut stranger] {
        other.jar.insert(COOKIE.to_owned(), "A".repeat(43));
        let seen = open(&world, other, "/").await;
        assert_eq!(seen.status, StatusCode::FOUND, "{seen:?}");
    }
    // A session from after that ends by itself.
    let mut later = Browser::default();
    let start = Visit::to("/").at(10).with(&world, &mut later).await;
    let callback = signed_in(&start.location, "alice");
    let end = Visit::to(&callback).at(11).with(&world, &mut later).await;
    assert_eq!(end.status, StatusCode::SEE_OTHER, "{end:?}");
    let seen = Visit::to("/").at(2_000).with(&world, &mut later).await;
    assert_eq!(seen.status, StatusCode::FOUND, "{seen:?}");
}
