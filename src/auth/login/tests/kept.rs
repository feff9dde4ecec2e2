//! Forms that come on a session that is over.

use super::*;

const OUR_PAGE: [(&str, &str); 5] = [
    ("origin", "https://app.test"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("content-type", "application/x-www-form-urlencoded"),
];

/// When the session has not been used for too long.
const OVER: u64 = 1_900;

fn form(fields: &[(&'static str, &'static str)]) -> Visit<'static> {
    Visit {
        method: Method::POST,
        fields: fields.to_vec(),
        body: "note=a+%26+b",
        ..Visit::to("/save?a=b").at(OVER)
    }
}

async fn signed_in_before(world: &World) -> Browser {
    let mut browser = Browser::default();
    log_in(world, &mut browser, "alice").await;
    assert!(open(world, &mut browser, "/").await.admitted.is_some());
    browser
}

fn waits(browser: &Browser) -> bool {
    browser.jar.contains_key(&format!("{COOKIE}_form"))
}

/// Signs in after the form, as somebody; where that leads.
async fn signs_in(world: &World, browser: &mut Browser, person: &str) -> String {
    let start = Visit::to("/.authferry/login?rd=%2Fsave%3Fa%3Db").at(OVER);
    let start = start.with(world, browser).await;
    let callback = signed_in(&start.location, person);
    let back = Visit::to(&callback).at(OVER + 1).with(world, browser).await;
    back.location
}

#[tokio::test]
async fn a_form_waits_for_its_sender_and_is_given_back_once() {
    let world = both();
    let mut browser = signed_in_before(&world).await;
    let kept = form(&OUR_PAGE).with(&world, &mut browser).await;
    assert_eq!(kept.status, StatusCode::FORBIDDEN, "{kept:?}");
    assert!(kept.body.contains("kept for 10 minutes"), "{kept:?}");
    let link = "href=\"/.authferry/login?rd=%2Fsave%3Fa%3Db\"";
    assert!(kept.body.contains(link), "{kept:?}");
    assert!(waits(&browser) && !browser.jar.contains_key(COOKIE));
    // Nobody has it without a session.
    let mut stranger = browser.clone();
    let seen = Visit::to("/.authferry/form").at(OVER);
    let seen = seen.with(&world, &mut stranger).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
    assert!(!seen.body.contains("a &amp; b"));

    let to = signs_in(&world, &mut browser, "alice").await;
    assert_eq!(to, "/.authferry/form?rd=%2Fsave%3Fa%3Db");
    // Nor without the cookie, or from another host.
    let mut without = browser.clone();
    without.jar.remove(&format!("{COOKIE}_form"));
    let seen = Visit::to(&to).at(OVER + 2).with(&world, &mut without).await;
    assert_eq!(seen.location, "/save?a=b");
    let mut copied = browser.clone();
    let page = Visit::to(&to).at(OVER + 2).with(&world, &mut browser).await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    for part in [
        "<form method=\"post\" action=\"/save?a=b\"",
        "name=\"note\" value=\"a &amp; b\"",
    ] {
        assert!(page.body.contains(part), "{part}: {page:?}");
    }
    assert!(!waits(&browser));
    let again = Visit::to(&to).at(OVER + 3).with(&world, &mut copied).await;
    assert_eq!(
        (again.status, again.location.as_str()),
        (StatusCode::SEE_OTHER, "/save?a=b"),
        "once"
    );
}

#[tokio::test]
async fn a_form_is_offered_where_a_page_goes_on_by_itself_too() {
    let world = both();
    let mut browser = signed_in_before(&world).await;
    form(&OUR_PAGE).with(&world, &mut browser).await;
    let start = Visit::to("/.authferry/login?rd=%2Fsave%3Fa%3Db").at(OVER);
    let start = start.strictly().with(&world, &mut browser).await;
    let callback = signed_in(&start.location, "alice");
    let back = Visit::to(&callback).at(OVER + 1).strictly();
    let back = back.with(&world, &mut browser).await;
    assert_eq!(
        back.refresh, "0;url=/.authferry/form?rd=%2Fsave%3Fa%3Db",
        "{back:?}"
    );
    let link = "href=\"/.authferry/form?rd=%2Fsave%3Fa%3Db\"";
    assert!(back.body.contains(link), "{back:?}");
}

#[tokio::test]
async fn a_form_that_came_on_another_session_than_that_of_the_last_login_is_not_kept() {
    let world = both();
    let mut browser = signed_in_before(&world).await;
    // Made up, or of somebody whose session came by another way.
    let other = "A".repeat(43);
    browser.jar.insert(COOKIE.to_owned(), other);
    let seen = form(&OUR_PAGE).with(&world, &mut browser).await;
    assert_eq!(seen.status, StatusCode::UNAUTHORIZED, "{seen:?}");
    assert!(!waits(&browser));
}

#[tokio::test]
async fn a_form_is_not_given_to_somebody_else_and_not_for_longer_than_ten_minutes() {
    let world = both();
    let mut browser = signed_in_before(&world).await;
    form(&OUR_PAGE).with(&world, &mut browser).await;
    let to = signs_in(&world, &mut browser, "bob").await;
    let page = Visit::to(&to).at(OVER + 2).with(&world, &mut browser).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{page:?}");
    assert!(page.body.contains("somebody else") && !page.body.contains("a &amp; b"));
    assert!(!waits(&browser));

    let mut browser = signed_in_before(&world).await;
    form(&OUR_PAGE).with(&world, &mut browser).await;
    let to = signs_in(&world, &mut browser, "alice").await;
    let late = Visit::to(&to).at(OVER + 600);
    let late = late.with(&world, &mut browser).await;
    assert_eq!(
        (late.status, late.location.as_str()),
        (StatusCode::SEE_OTHER, "/save?a=b")
    );
}

#[tokio::test]
async fn nothing_but_a_form_of_the_applications_own_page_is_kept() {
    let world = both();
    let with = |name: &'static str, value: &'static str| {
        OUR_PAGE.map(|(own, before)| (own, if own == name { value } else { before }))
    };
    for fields in [
        with("origin", "https://evil.test"),
        with("sec-fetch-site", "cross-site"),
        with("sec-fetch-mode", "cors"),
        with("sec-fetch-dest", "iframe"),
        with("content-type", "application/json"),
        with("content-type", "multipart/form-data; boundary=a"),
    ] {
        let mut browser = signed_in_before(&world).await;
        let seen = form(&fields).with(&world, &mut browser).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED, "{fields:?}");
        assert!(!waits(&browser));
    }
    let mut browser = signed_in_before(&world).await;
    let odd = Visit {
        body: "note=%ff",
        ..form(&OUR_PAGE)
    };
    let seen = odd.with(&world, &mut browser).await;
    assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
    let seen = form(&OUR_PAGE).with(&world, &mut Browser::default()).await;
    assert_eq!(
        seen.status,
        StatusCode::UNAUTHORIZED,
        "there was no session"
    );
}
