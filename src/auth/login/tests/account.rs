//! Where somebody looks after their account: at the provider that judges their password now, not where a stranger would sign in.

use super::carry::asking;
use super::carry::of_the_old_side;
use super::carry::page;
use super::*;
use crate::auth::login::account::AccountPage;
use crate::auth::settings::AccountPages;
use crate::auth::settings::Pages;
use crate::identity::SubjectKey;
use crate::links::Home;
use crate::links::Move;

const PASSWORD: &str = "/password";

/// Each provider has a page for passwords.
fn with_pages(world: &mut World) {
    let pages = |name: &str| AccountPages {
        password: Some(format!("https://{name}.idp.test{PASSWORD}").into()),
        profile: None,
    };
    let all = ["old", "new"].map(|name| (ProviderId::new(name), pages(name)));
    world.look = Arc::new(Look::new(&Pages {
        accounts: all.into_iter().collect(),
        ..Pages::default()
    }));
}

/// Where somebody is led, by what the gate knows of them.
async fn led(world: &World, who: Option<&Admitted>) -> String {
    let settings = LoginSettings {
        cookie: COOKIE.into(),
        same_site: SameSite::Lax,
        secure: true,
        revision: "0123456789ab".into(),
        silent: world.silent,
        look: Arc::clone(&world.look),
        kept: KeptByLogins::default(),
    };
    let (policy, logins) = (world.policy(), Logins::new(world.deps(), &settings));
    let headers = HeaderMap::new();
    let request = Request {
        facts: Facts {
            host: "app.test",
            path: "/.well-known/change-password",
            method: "GET",
            ..world.facts()
        },
        authority: "app.test",
        query: None,
        method: &Method::GET,
        headers: &headers,
        source: None,
    };
    let which = (AccountPage::Password, who);
    let led = logins.account_page(&policy, &request, which, KillPosition::Off, at(0));
    let response = led.await;
    let location = response.headers().get(LOCATION);
    let location = location.map(|location| location.to_str().unwrap().to_owned());
    location.unwrap_or_default()
}

fn at_page(name: &str) -> String {
    format!("https://{name}.idp.test{PASSWORD}")
}

#[tokio::test]
async fn each_is_led_to_the_provider_that_judges_their_password_now() {
    let mut world = asking();
    with_pages(&mut world);
    world.silent = None;
    let mut browser = of_the_old_side(&mut world).await;
    let still = open(&world, &mut browser, "/").await.admitted.unwrap();
    assert_eq!(still.arm(), Some(Arm::From));
    // Strangers sign in at the new side; whoever is known is led home.
    assert_eq!(led(&world, None).await, at_page("new"));
    assert_eq!(led(&world, Some(&still)).await, at_page("old"));
    everybody_to(&mut world, Arm::From);
    assert_eq!(led(&world, None).await, at_page("old"));
    everybody_to(&mut world, Arm::To);
    let mut there = Browser::default();
    let begun = open(&world, &mut there, "/").await;
    open(&world, &mut there, &signed_in(&begun.location, "bob")).await;
    let moved = open(&world, &mut there, "/").await.admitted.unwrap();
    everybody_to(&mut world, Arm::From);
    assert_eq!(led(&world, Some(&moved)).await, at_page("new"));
    // Her password has moved, and her session has not.
    let plan = world.plan.clone().unwrap();
    let way = Move {
        from: &plan.from,
        to: &plan.to,
    };
    let left: SubjectKey = still.identity().key.clone();
    let home = Home::new(still.canonical(), ("alice", "a1"), &left);
    let homes = world.deps().homes;
    let named = (still.canonical(), "alice");
    homes.moved(way, named, (&home, at(0))).await.unwrap();
    assert_eq!(led(&world, Some(&still)).await, at_page("new"));
    assert_eq!(led(&world, None).await, at_page("old"), "nobody else");
}

#[tokio::test]
async fn whoever_has_moved_without_a_sign_in_is_led_to_the_new_side() {
    let mut world = asking();
    with_pages(&mut world);
    let mut browser = of_the_old_side(&mut world).await;
    let asked = page("/").with(&world, &mut browser).await;
    let callback = signed_in(&asked.location, "alice");
    page(&callback).with(&world, &mut browser).await;
    let moved = open(&world, &mut browser, "/").await.admitted.unwrap();
    everybody_to(&mut world, Arm::From);
    assert_eq!(led(&world, None).await, at_page("old"));
    assert_eq!(led(&world, Some(&moved)).await, at_page("new"));
}
