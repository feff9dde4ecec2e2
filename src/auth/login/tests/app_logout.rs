//! The path by which people sign out of the application itself.

use super::*;
use crate::auth::login::SigningOut;

/// What becomes of a request of a browser with these cookies.
fn whose(
    world: &World,
    (method, path): (&Method, &str),
    cookies: &str,
    fields: &[(&'static str, &'static str)],
) -> SigningOut {
    let settings = LoginSettings {
        cookie: COOKIE.into(),
        same_site: SameSite::Lax,
        secure: true,
        revision: "0123456789ab".into(),
        silent: None,
        look: Arc::clone(&world.look),
        kept: KeptByLogins::default(),
    };
    let (policy, logins) = (world.policy(), Logins::new(world.deps(), &settings));
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    if !cookies.is_empty() {
        headers.insert(COOKIE_HEADER, HeaderValue::from_str(cookies).unwrap());
    }
    let request = Request {
        facts: Facts {
            host: "app.test",
            path,
            method: method.as_str(),
            ..world.facts()
        },
        authority: "app.test",
        query: None,
        method,
        headers: &headers,
        source: None,
    };
    logins.signing_out(&policy, &request, KillPosition::Off, at(0))
}

#[tokio::test]
async fn only_somebody_who_opens_it_or_sends_a_form_of_the_application_signs_out_here() {
    let world = World::canary();
    let (ours, theirs) = (format!("{COOKIE}=x"), format!("{COOKIE}=x; OLDSID=y"));
    let page = [
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    let form = [
        ("origin", "https://app.test"),
        ("sec-fetch-site", "same-origin"),
    ];
    for (method, fields) in [(&Method::GET, page), (&Method::POST, form)] {
        let of = |path, cookies: &str| whose(&world, (method, path), cookies, &fields);
        assert_eq!(of("/signout", ""), SigningOut::Ours);
        assert_eq!(of("/signout", &ours), SigningOut::Ours);
        assert_eq!(of("/signout", &theirs), SigningOut::Both);
        assert_eq!(of("/signout", "OLDSID=y"), SigningOut::Both);
        for path in ["/signout/", "/Signout", "/signout/x", "/"] {
            assert_eq!(of(path, &theirs), SigningOut::Theirs, "{path}");
        }
    }
    let elsewhere = [
        ("origin", "https://evil.test"),
        ("sec-fetch-site", "cross-site"),
    ];
    let script = [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
    let image = [("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    for (method, fields) in [
        (&Method::POST, elsewhere),
        (&Method::POST, page),
        (&Method::GET, script),
        (&Method::GET, image),
        (&Method::HEAD, page),
        (&Method::PUT, form),
        (&Method::DELETE, form),
    ] {
        for cookies in [&ours, &theirs] {
            let whose = whose(&world, (method, "/signout"), cookies, &fields);
            assert_eq!(whose, SigningOut::Theirs, "{method} {fields:?}");
        }
    }
}
