//! People who prove that two accounts are theirs, and say so.

use super::linked::counted;
use super::linked::settings;
use super::linked::unlinked;
use super::*;

/// Where a page of ours sends the answer: yes first, then no.
pub(super) fn answers(asked: &Seen) -> Vec<String> {
    let forms = asked.body.split("action=\"").skip(1);
    let actions = forms.map(|form| form.split('"').next().unwrap());
    actions.map(|action| action.replace("&amp;", "&")).collect()
}

/// Answers from that page.
pub(super) async fn says(world: &World, browser: &mut Browser, asked: &Seen, yes: bool) -> Seen {
    assert_eq!(asked.status, StatusCode::OK, "{asked:?}");
    let actions = answers(asked);
    assert_eq!(actions.len(), 2, "{}", asked.body);
    posted(&actions[usize::from(!yes)], "same-origin")
        .with(world, browser)
        .await
}

pub(super) fn posted<'a>(action: &'a str, site: &'a str) -> Visit<'a> {
    Visit {
        method: Method::POST,
        fields: vec![("accept", "text/html"), ("sec-fetch-site", site)],
        ..Visit::to(action)
    }
}

/// A world and a browser in which `n-1` has signed in at the new side, and `alice` after them at the old one.
pub(super) async fn asked() -> (World, Browser, Seen) {
    let (mut world, mut browser) = (unlinked(), Browser::default());
    settings(&mut world).prove_both = true;
    let at_new = open(&world, &mut browser, "/orders?x=1").await;
    let at_old = open(&world, &mut browser, &signed_in(&at_new.location, "n-1")).await;
    let asked = open(&world, &mut browser, &signed_in(&at_old.location, "alice")).await;
    (world, browser, asked)
}

pub(super) async fn is_linked(world: &World) -> bool {
    let links = crate::links::Links::new(Arc::clone(&world.store));
    let account = identity("new", "n-1");
    let found = links
        .person_of(&account.provider, &account.key, at(0))
        .await;
    found.unwrap().is_some()
}

#[tokio::test]
async fn nobody_is_joined_with_an_account_that_they_do_not_say_is_theirs() {
    let (world, mut browser, asked) = asked().await;
    assert!(!is_linked(&world).await, "not before they say so");
    for words in ["<code>n-1</code>", "<code>alice</code>"] {
        assert!(asked.body.contains(words), "{}", asked.body);
    }
    assert!(!browser.jar.contains_key(COOKIE));
    let seen = says(&world, &mut browser, &asked, false).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN, "{seen:?}");
    assert!(seen.body.contains("Reference: <code>"), "{}", seen.body);
    // Nor can anybody who comes to the browser afterwards say it for them.
    let seen = says(&world, &mut browser, &asked, true).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST, "{seen:?}");
    assert!(!is_linked(&world).await);
    assert!(!counted(&world, "prove_both", "linked"));
}

#[tokio::test]
async fn a_login_that_is_on_its_way_says_nothing_about_accounts() {
    let (mut world, mut browser) = (unlinked(), Browser::default());
    settings(&mut world).prove_both = true;
    let at_new = open(&world, &mut browser, "/").await;
    let at_old = open(&world, &mut browser, &signed_in(&at_new.location, "n-1")).await;
    let state = at_old.location.split_once("&state=").unwrap().1;
    let state = state.split('&').next().unwrap();
    let action = format!("/.authferry/join?state={state}");
    let seen = posted(&action, "same-origin")
        .with(&world, &mut browser)
        .await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    assert!(!is_linked(&world).await);
}

#[tokio::test]
async fn what_ends_while_the_page_waits_joins_nobody() {
    let (mut world, browser, asked) = asked().await;
    let barred = crate::revocation::Barred {
        provider: ProviderId::new("new"),
        account: identity("new", "n-1").key,
        person: None,
        key: None,
    };
    world.plan.as_mut().unwrap().stage.mode = Mode::ModernOnly;
    let seen = says(&world, &mut browser.clone(), &asked, true).await;
    assert_eq!(
        seen.status,
        StatusCode::FORBIDDEN,
        "the old side is over: {seen:?}"
    );
    world.plan.as_mut().unwrap().stage.mode = Mode::Canary;
    world.plan.as_mut().unwrap().epoch += 1;
    let seen = says(&world, &mut browser.clone(), &asked, true).await;
    assert_eq!(
        seen.status,
        StatusCode::FORBIDDEN,
        "another epoch: {seen:?}"
    );
    world.plan.as_mut().unwrap().epoch -= 1;
    settings(&mut world).prove_both = false;
    let seen = says(&world, &mut browser.clone(), &asked, true).await;
    assert_eq!(
        seen.status,
        StatusCode::FORBIDDEN,
        "nobody proves anything: {seen:?}"
    );
    settings(&mut world).prove_both = true;
    world.revocations.deny(&barred).await.unwrap();
    let seen = says(&world, &mut browser.clone(), &asked, true).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN, "barred: {seen:?}");
    assert!(!is_linked(&world).await);
}

#[tokio::test]
async fn a_person_who_signs_in_at_both_sides_has_both_accounts_from_then_on() {
    let (mut world, mut browser) = (unlinked(), Browser::default());
    settings(&mut world).prove_both = true;
    let at_new = open(&world, &mut browser, "/orders?x=1").await;
    let at_old = open(&world, &mut browser, &signed_in(&at_new.location, "n-1")).await;
    assert!(
        at_old.location.starts_with("https://old.idp.test/"),
        "{at_old:?}"
    );
    assert!(
        at_old.location.ends_with("&max_age=0"),
        "whoever signed in there before is not asked for: {}",
        at_old.location
    );
    assert!(
        !browser.jar.contains_key(COOKIE),
        "one account is no session yet"
    );
    let asked = open(&world, &mut browser, &signed_in(&at_old.location, "alice")).await;
    let again = says(&world, &mut browser, &asked, true).await;
    assert!(
        again.location.starts_with("https://new.idp.test/"),
        "{again:?}"
    );
    let end = open(&world, &mut browser, &signed_in(&again.location, "n-1")).await;
    assert_eq!(end.location, "/orders?x=1", "{end:?}");
    let admitted = open(&world, &mut browser, "/").await.admitted.unwrap();
    assert_eq!(admitted.canonical().as_str(), "uid:alice");
    assert_eq!(admitted.arm(), Some(Arm::To));
    assert!(counted(&world, "prove_both", "linked"));

    // Once and for all: the next login goes the short way.
    let seen = log_in(&world, &mut Browser::default(), "n-1").await;
    assert_eq!(seen.location, "/orders?x=1");

    // A second account for the same person is refused, and so is the person of another account.
    let mut mallory = Browser::default();
    let at_new = open(&world, &mut mallory, "/").await;
    let at_old = open(&world, &mut mallory, &signed_in(&at_new.location, "n-2")).await;
    let asked = open(&world, &mut mallory, &signed_in(&at_old.location, "alice")).await;
    let seen = says(&world, &mut mallory, &asked, true).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
    assert!(!mallory.jar.contains_key(COOKIE));
    assert!(counted(&world, "prove_both", "conflict"));
    while revoked(&world.old).is_empty() || revoked(&world.new).is_empty() {
        tokio::task::yield_now().await;
    }
    let left = ["refresh-token-of-n-2"];
    assert_eq!(
        revoked(&world.new),
        left,
        "whoever comes back is known there"
    );
}

fn revoked(at: &FakeProvider) -> Vec<String> {
    at.login.as_ref().unwrap().revoked.lock().unwrap().clone()
}

#[tokio::test]
async fn what_was_issued_for_the_first_of_two_accounts_is_given_back_where_nobody_comes_back() {
    for how in ["no", "late", "not let in", "error", "another epoch"] {
        let (mut world, mut browser, asked) = asked().await;
        match how {
            "no" => drop(says(&world, &mut browser, &asked, false).await),
            "late" => {
                let action = &answers(&asked)[0];
                let visit = posted(action, "same-origin").at(121);
                visit.with(&world, &mut browser).await;
            }
            "not let in" | "error" | "another epoch" => {
                let mut browser = Browser::default();
                let at_new = open(&world, &mut browser, "/").await;
                let at_old = open(&world, &mut browser, &signed_in(&at_new.location, "n-1")).await;
                assert!(revoked(&world.new).is_empty(), "they may come back");
                let mut back = signed_in(&at_old.location, "left");
                if how == "error" {
                    let state = back.split_once("&state=").unwrap().1;
                    back = format!("/.authferry/cb/old?error=access_denied&state={state}");
                }
                if how == "another epoch" {
                    world.plan.as_mut().unwrap().epoch += 1;
                }
                open(&world, &mut browser, &back).await;
            }
            _ => unreachable!(),
        }
        while revoked(&world.new).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(revoked(&world.new), ["refresh-token-of-n-1"], "{how}");
        if how == "no" {
            let again = says(&world, &mut browser, &asked, true).await;
            assert_eq!(again.status, StatusCode::BAD_REQUEST, "it is over");
        }
    }
}

#[tokio::test]
async fn a_proof_counts_in_its_own_login_alone() {
    let (mut world, mut browser) = (unlinked(), Browser::default());
    settings(&mut world).prove_both = true;
    let at_new = open(&world, &mut browser, "/").await;
    open(&world, &mut browser, &signed_in(&at_new.location, "n-1")).await;
    // Somebody else begins a login of their own at the old side, in the same browser.
    everybody_to(&mut world, Arm::From);
    let other = open(&world, &mut browser, "/").await;
    let seen = open(&world, &mut browser, &signed_in(&other.location, "bob")).await;
    assert_eq!(seen.location, "/");
    let links = crate::links::Links::new(Arc::clone(&world.store));
    let account = identity("new", "n-1");
    let found = links
        .person_of(&account.provider, &account.key, at(0))
        .await;
    assert_eq!(found.unwrap(), None);
}

#[tokio::test]
async fn a_session_that_somebody_left_open_proves_nothing() {
    let (mut world, mut browser) = (unlinked(), Browser::default());
    settings(&mut world).prove_both = true;
    let at_new = open(&world, &mut browser, "/").await;
    let at_old = open(&world, &mut browser, &signed_in(&at_new.location, "n-1")).await;
    let seen = open(&world, &mut browser, &signed_in(&at_old.location, "left")).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
    assert!(!counted(&world, "prove_both", "linked"));
}

#[tokio::test]
async fn a_session_that_somebody_left_open_at_the_new_side_proves_nothing_either() {
    let (mut world, mut browser) = (unlinked(), Browser::default());
    settings(&mut world).prove_both = true;
    let at_new = open(&world, &mut browser, "/orders?x=1").await;
    // Whoever sits here is asked to sign in there, and not yet at the other side.
    let anew = open(&world, &mut browser, &signed_in(&at_new.location, "left")).await;
    assert!(
        anew.location.starts_with("https://new.idp.test/") && anew.location.ends_with("&max_age=0"),
        "{anew:?}"
    );
    let seen = open(&world, &mut browser, &signed_in(&anew.location, "left")).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
    assert!(!browser.jar.contains_key(COOKIE));

    // Somebody who does sign in gets to the end.
    let mut browser = Browser::default();
    let at_new = open(&world, &mut browser, "/orders?x=1").await;
    let anew = open(&world, &mut browser, &signed_in(&at_new.location, "left")).await;
    let at_old = open(&world, &mut browser, &signed_in(&anew.location, "n-1")).await;
    let asked = open(&world, &mut browser, &signed_in(&at_old.location, "alice")).await;
    let again = says(&world, &mut browser, &asked, true).await;
    let end = open(&world, &mut browser, &signed_in(&again.location, "n-1")).await;
    assert_eq!(end.location, "/orders?x=1", "{end:?}");
    let admitted = open(&world, &mut browser, "/").await.admitted.unwrap();
    assert_eq!(admitted.canonical().as_str(), "uid:alice");
}

#[tokio::test]
async fn a_link_outlives_the_setting_that_made_it() {
    let (mut world, mut browser) = (unlinked(), Browser::default());
    settings(&mut world).prove_both = true;
    let at_new = open(&world, &mut browser, "/").await;
    let at_old = open(&world, &mut browser, &signed_in(&at_new.location, "n-1")).await;
    let asked = open(&world, &mut browser, &signed_in(&at_old.location, "alice")).await;
    says(&world, &mut browser, &asked, true).await;
    settings(&mut world).prove_both = false;
    let mut browser = Browser::default();
    log_in(&world, &mut browser, "n-1").await;
    let admitted = open(&world, &mut browser, "/").await.admitted.unwrap();
    assert_eq!(admitted.canonical().as_str(), "uid:alice");
}

#[tokio::test]
async fn what_no_longer_lets_anybody_in_proves_nothing() {
    let (mut world, mut browser) = (unlinked(), Browser::default());
    settings(&mut world).prove_both = true;
    let at_new = open(&world, &mut browser, "/").await;
    let at_old = open(&world, &mut browser, &signed_in(&at_new.location, "n-1")).await;
    world.plan.as_mut().unwrap().stage.mode = Mode::ModernOnly;
    let seen = open(&world, &mut browser, &signed_in(&at_old.location, "alice")).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
    assert!(!counted(&world, "prove_both", "linked"));
}

#[tokio::test]
async fn a_quarantined_provider_proves_nothing() {
    let (mut world, mut browser) = (unlinked(), Browser::default());
    settings(&mut world).prove_both = true;
    let at_new = open(&world, &mut browser, "/").await;
    let at_old = open(&world, &mut browser, &signed_in(&at_new.location, "n-1")).await;
    let seen = Visit::to(&signed_in(&at_old.location, "alice"))
        .killed(KillPosition::Modern)
        .with(&world, &mut browser)
        .await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
    assert!(!counted(&world, "prove_both", "linked"));
}

#[tokio::test]
async fn who_signed_in_half_a_minute_before_has_not_signed_in_anew() {
    let (mut world, mut browser) = (unlinked(), Browser::default());
    settings(&mut world).prove_both = true;
    let at_new = open(&world, &mut browser, "/").await;
    let at_old = open(&world, &mut browser, &signed_in(&at_new.location, "n-1")).await;
    let seen = open(&world, &mut browser, &signed_in(&at_old.location, "just")).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
}
