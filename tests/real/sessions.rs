//! Sessions that began at a provider: renewed there, given back there, and over when they are over there.

use std::io::Write as _;
use std::process::Command;
use std::process::Stdio;

use crate::behind::Behind;
use crate::browser::Browser;
use crate::harness::Echo;
use crate::harness::Proxy;
use crate::old_provider;
use crate::operators::until;
use crate::origin;
use crate::proxy;
use crate::secret;
use crate::two_sides;
use crate::var;

/// Where each provider says that somebody has signed out there.
fn told(yaml: &str) -> String {
    let mut yaml = yaml.to_owned();
    for (side, verify) in [
        (
            "legacy",
            "      verify: { audiences: [\"urn:legacy-api\"] }\n",
        ),
        ("modern", "      verify: { audiences: [proxy-exchange] }\n"),
    ] {
        let path = format!("      backchannel_logout: {{ path: /.authferry/bcl/{side} }}\n");
        assert_eq!(yaml.matches(verify).count(), 1);
        yaml = yaml.replace(verify, &format!("{verify}{path}"));
    }
    yaml
}

pub(crate) async fn signed_in(proxy: &Proxy, name: &str) -> Browser {
    let mut browser = Browser::default();
    let password = secret(&format!("{name}-pw"));
    let page = format!("{}/", origin());
    let landed = browser.open(&page, Some((name, &password))).await;
    let said = landed.answer.text();
    assert_eq!(landed.answer.status, 200, "{name} {said}\n{}", proxy.log());
    assert_eq!(landed.url, page);
    browser
}

/// Whether the application still knows who it is, without a login.
pub(crate) async fn is_in(proxy: &Proxy, browser: &Browser, uid: &str) -> bool {
    let site = origin();
    let cookies = browser.cookie_line(site.strip_prefix("http://").unwrap());
    let fields = [("Host", "127.0.0.1"), ("Cookie", cookies.as_str())];
    let answer = crate::harness::request(proxy.address, "GET", "/", &fields, b"").await;
    let said = answer.text().to_ascii_lowercase();
    match answer.status {
        200 => {
            let who = format!("\r\nx-remote-user: {uid}\r\n");
            assert!(said.contains(&who), "somebody else: {said}");
            true
        }
        401 => false,
        status => panic!("{status}: {said}\n{}", proxy.log()),
    }
}

/// Signs out at oidc-provider, which asks first.
async fn signs_out_at_the_old_one(browser: &mut Browser) {
    let page = format!("http://127.0.0.1:{}/session/end", var("OP_PORT"));
    let asked = browser.open(&page, None).await;
    let text = asked.answer.text();
    assert!(text.contains("Log out?"), "{}: {text}", asked.url);
    let done = browser.press(&asked, "logout=yes").await;
    assert_eq!(done.answer.status, 200, "{}", done.answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_out_at_a_provider_is_out_here_and_nobody_else() {
    let upstream = Echo::start().await;
    for (percent, side) in [("0", "legacy"), ("100", "modern")] {
        // Nothing is asked for: what we know of a sign-out, we were told.
        let proxy = proxy(&told(&two_sides(&upstream.url(), percent)));
        let mut bob = signed_in(&proxy, "bob").await;
        let carol = signed_in(&proxy, "carol").await;
        assert!(is_in(&proxy, &bob, "1002").await);
        if side == "legacy" {
            signs_out_at_the_old_one(&mut bob).await;
        } else {
            let behind = Behind::admin().await;
            let out = format!("/users/{}/logout", behind.id_of("bob").await);
            let ended = behind.call("POST", &out, "").await;
            assert_eq!(ended.status, 204, "{}", ended.text());
        }
        until(async || !is_in(&proxy, &bob, "1002").await).await;
        assert!(is_in(&proxy, &carol, "1003").await, "{}", proxy.log());
        // Keycloak tells of every session of his, also of those that are not of this test.
        let lag = format!("authferry_revocation_lag_seconds_count{{provider=\"{side}\"}}");
        assert!(1.0 <= proxy.metric(&lag).await, "{}", proxy.log());
        // He is in again when he has signed in again, and not before.
        let landed = bob.open(&format!("{}/", origin()), None).await;
        assert_ne!(landed.url, format!("{}/", origin()));
        signed_in(&proxy, "bob").await;
    }
}

/// What an administrator of a side does about somebody; `directory` is OpenLDAP, where a lock passes when somebody takes it off.
pub(crate) async fn lets_in(side: &str, name: &str, enabled: bool) {
    match side {
        "modern" => return Behind::admin().await.lets_in(name, enabled).await,
        "directory" => return locks(name, !enabled),
        _ => {}
    }
    let to = format!("127.0.0.1:{}", var("OP_PORT"));
    let (path, host) = (format!("/__test/accounts/{name}"), [("Host", to.as_str())]);
    let change = serde_json::json!({ "disabled": !enabled }).to_string();
    let address = to.parse().unwrap();
    let said = crate::harness::request(address, "POST", &path, &host, change.as_bytes()).await;
    assert_eq!(said.status, 200, "{}", said.text());
}

fn locks(name: &str, locked: bool) {
    let change = if locked {
        "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z"
    } else {
        "delete: pwdAccountLockedTime"
    };
    let change =
        format!("dn: uid={name},ou=people,dc=legacy,dc=test\nchangetype: modify\n{change}\n");
    let url = format!("ldap://127.0.0.1:{}", var("LDAP_PORT"));
    let mut modify = Command::new("ldapmodify")
        .args([
            "-x",
            "-H",
            &url,
            "-D",
            "cn=admin,dc=legacy,dc=test",
            "-w",
            "admin-pw",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = modify.stdin.take().unwrap();
    input.write_all(change.as_bytes()).unwrap();
    drop(input);
    assert!(modify.wait().unwrap().success(), "{change}");
}

/// Somebody who is kept out at a provider; let in again also after a failure, or everything that follows would fail.
pub(crate) struct Barred(pub(crate) &'static str, pub(crate) &'static str);

impl Drop for Barred {
    fn drop(&mut self) {
        let Self(side, name) = *self;
        let again = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(lets_in(side, name, true));
        });
        again.join().ok();
    }
}

/// One who is switched off at `side` is out here when that is asked next, and one who is not stays.
async fn is_out_when_switched_off(side: &'static str, percent: &'static str) {
    let upstream = Echo::start().await;
    // Nobody tells us of it: neither of the two does when an account is switched off.
    let yaml = two_sides(&upstream.url(), percent) + "sessions: { revalidate: 5s }\n";
    let proxy = proxy(&yaml);
    let (bob, carol) = (
        signed_in(&proxy, "bob").await,
        signed_in(&proxy, "carol").await,
    );
    let refused = format!(
        "authferry_provider_request_duration_seconds_count{{provider=\"{side}\",operation=\"token\",outcome=\"rejected\"}}"
    );
    let renewed = refused.replace("rejected", "success");
    let before = proxy.metric(&renewed).await;
    // Both are asked about before anything happens, so that his next question is not his first.
    until(async || {
        assert!(is_in(&proxy, &bob, "1002").await, "{}", proxy.log());
        assert!(is_in(&proxy, &carol, "1003").await, "{}", proxy.log());
        before + 2.0 <= proxy.metric(&renewed).await
    })
    .await;
    assert_eq!(proxy.metric(&refused).await, 0.0, "{}", proxy.log());

    let barred = Barred(side, "bob");
    lets_in(side, "bob", false).await;
    // She is not asked for meanwhile: what is renewed would be his.
    let before = proxy.metric(&renewed).await;
    until(async || !is_in(&proxy, &bob, "1002").await).await;
    let after = proxy.metric(&renewed).await;
    assert_eq!(after, before, "he was asked about, and stayed");
    assert_eq!(proxy.metric(&refused).await, 1.0, "{}", proxy.log());
    assert!(!is_in(&proxy, &bob, "1002").await, "it is remembered");
    let mut again = bob;
    let landed = again.open(&format!("{}/", origin()), None).await;
    assert_ne!(landed.url, format!("{}/", origin()), "without a sign-in");
    assert!(is_in(&proxy, &carol, "1003").await, "{}", proxy.log());
    drop(barred);
    signed_in(&proxy, "bob").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_switched_off_at_a_provider_is_out_when_the_session_is_next_confirmed() {
    for (percent, side) in [("0", "legacy"), ("100", "modern")] {
        is_out_when_switched_off(side, percent).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_here_is_out_at_the_old_side_too() {
    let upstream = Echo::start().await;
    let sides = two_sides(&upstream.url(), "0");
    let django = format!("http://127.0.0.1:{}", var("DOT_PORT"));
    let at_django = sides
        .replace(&old_provider(), &format!("{django}/o"))
        .replace("urn:legacy-api", "proxy");
    for (yaml, there) in [(sides, old_provider()), (at_django, django)] {
        let proxy = proxy(&yaml);
        let mut bob = signed_in(&proxy, "bob").await;
        let asks = there.strip_prefix("http://").unwrap();
        assert_eq!(bob.forms, [asks]);
        let mut left = bob.send(&format!("{}/.authferry/logout", origin())).await;
        if left.url.starts_with(&there) {
            // It asks first.
            left = bob.press(&left, "logout=yes").await;
        }
        let said = left.answer.text();
        let done = format!("{}/.authferry/logout/done", origin());
        assert!(left.url.starts_with(&done), "{}: {said}", left.url);
        assert!(said.contains("Signed out"), "{said}");
        assert!(!is_in(&proxy, &bob, "1002").await);
        // The next page asks for the password.
        let page = format!("{}/", origin());
        let next = bob.open(&page, Some(("bob", &secret("bob-pw")))).await;
        assert_eq!(next.url, page, "{}", next.answer.text());
        assert_eq!(bob.forms, [asks, asks]);
    }
}
