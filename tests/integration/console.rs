//! The console: what a browser is given, what it may send, and what comes of it.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::control::staged;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::reload::until;
use crate::two_providers;

/// The admin token as a browser sends it, under any name.
const PASSWORD: (&str, &str) = ("Authorization", "Basic b3BlcmF0b3I6YWRtaW4tdG9rZW4=");

async fn page(proxy: &Proxy, fields: &[(&str, &str)]) -> Answer {
    let host = proxy.admin.to_string();
    let fields = [&[("Host", host.as_str())], fields].concat();
    request(proxy.admin, "GET", "/console", &fields, b"").await
}

/// Sends a form as the page would, from `origin`.
async fn send(proxy: &Proxy, origin: &str, form: &str) -> Answer {
    let host = proxy.admin.to_string();
    let fields = [
        ("Host", host.as_str()),
        ("Origin", origin),
        ("Content-Type", "application/x-www-form-urlencoded"),
        PASSWORD,
    ];
    request(proxy.admin, "POST", "/console", &fields, form.as_bytes()).await
}

/// What stands between two marks.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).unwrap().1;
    rest.split_once(after).unwrap().0
}

fn proof(page: &Answer) -> String {
    between(&page.text(), "name=\"proof\" value=\"", "\"").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_shows_how_things_stand_and_loads_nothing_from_anywhere() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 100));
    proxy.settled().await;
    let token = format!("Bearer {}", new.token("alice"));
    let fields = [("Authorization", token.as_str())];
    assert_eq!(
        request(proxy.address, "GET", "/", &fields, b"")
            .await
            .status,
        200
    );
    let navigation = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")];
    request(proxy.address, "GET", "/", &navigation, b"").await;

    // One login was begun, at the new side; clients may hear of it a moment before it is counted.
    let (mut shown, mut counted) = (page(&proxy, &[PASSWORD]).await, Vec::new());
    until(async || {
        let text = shown.text();
        let side = between(&text, "new (modern)", "</tr>");
        let cells = side.split("<td class=\"n\">").skip(1);
        counted = cells
            .map(|cell| cell.split('<').next().unwrap().to_owned())
            .collect();
        let done = counted[..3] == ["1", "100.0 %", "1"];
        if !done {
            shown = page(&proxy, &[PASSWORD]).await;
        }
        done
    })
    .await;
    assert_eq!(shown.status, 200);
    let text = shown.text();
    for told in [
        "Rollout",
        "old → new",
        "100 %",
        "node_start",
        "Decisions for crm",
        "runs as it is on disk",
        "verified at start",
        "can judge",
    ] {
        assert!(text.contains(told), "no `{told}` in {text}");
    }
    assert!(!text.contains("admin-token") && !text.contains("alice"));

    // Only what is in the page counts, by its hash, and nothing in it leads elsewhere.
    let policy = shown.header("content-security-policy").unwrap();
    for (kind, tag) in [("style-src", "style"), ("script-src", "script")] {
        let inside = between(&text, &format!("<{tag}>"), &format!("</{tag}>"));
        let hash = STANDARD.encode(digest::digest(&digest::SHA256, inside.as_bytes()));
        assert!(
            policy.contains(&format!("{kind} 'sha256-{hash}';")),
            "{policy}"
        );
        assert_eq!(text.matches(&format!("<{tag}")).count(), 1);
    }
    for rule in [
        "default-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"));
    for outside in [
        "src=", "://", "url(", "@import", "style=", "onclick", "<link", "<img", "<iframe",
    ] {
        assert!(!text.contains(outside), "{outside}");
    }
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
    ] {
        assert_eq!(shown.header(name), Some(value), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_asks_for_the_token_and_opens_no_other_door() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 100));
    let asked = page(&proxy, &[]).await;
    assert_eq!(asked.status, 401);
    assert!(
        asked
            .header("www-authenticate")
            .unwrap()
            .starts_with("Basic realm=")
    );
    assert!(!asked.text().contains("<html"));
    let wrong = page(&proxy, &[("Authorization", "Basic b3BlcmF0b3I6d3Jvbmc=")]).await;
    assert_eq!(wrong.status, 401);
    for site in ["cross-site", "same-site"] {
        let answer = page(&proxy, &[PASSWORD, ("Sec-Fetch-Site", site)]).await;
        assert_eq!(answer.status, 403, "{site}");
    }
    let host = [("Host", "rebound.test"), PASSWORD];
    assert_eq!(
        request(proxy.admin, "GET", "/console", &host, b"")
            .await
            .status,
        403
    );
    // What a browser sends by itself opens nothing but the page.
    let here = proxy.admin.to_string();
    for (method, path) in [
        ("GET", "/-/config"),
        ("GET", "/admin/v1/kill"),
        ("POST", "/-/reload"),
    ] {
        let fields = [("Host", here.as_str()), PASSWORD];
        let answer = request(proxy.admin, method, path, &fields, b"").await;
        assert_eq!(answer.status, 401, "{path}");
    }
    let bearer = page(&proxy, &[("Authorization", "Bearer admin-token")]).await;
    assert_eq!(bearer.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_moves_the_switch_only_from_the_page_itself_with_a_reason() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 100));
    let ours = format!("http://{}", proxy.admin);
    let shown = page(&proxy, &[PASSWORD]).await;
    let proof = proof(&shown);
    let good = format!("proof={proof}&do=kill&position=legacy&rollout=&reason=drill+%3Cb%3E");
    let switch = async || {
        let on = proxy
            .metric("authferry_kill_switch{scope=\"global\",position=\"legacy\"}")
            .await;
        on > 0.0
    };
    for origin in ["http://evil.test", "null", "http://127.0.0.1", ""] {
        assert_eq!(send(&proxy, origin, &good).await.status, 403, "{origin}");
    }
    let here = proxy.admin.to_string();
    let fields = [
        ("Host", here.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
        PASSWORD,
    ];
    let without = request(proxy.admin, "POST", "/console", &fields, good.as_bytes()).await;
    assert_eq!(without.status, 403);
    for (form, status, told) in [
        (good.replace(&proof, "x"), 403, "try again from here"),
        (good.replace("drill+%3Cb%3E", "+"), 400, "say why"),
        (good.replace("legacy", "legcy"), 400, "the position is"),
        (good.replace("rollout=", "rollout=no-such"), 404, "no-such"),
        (good.clone() + "&force=1", 400, "not one of ours"),
    ] {
        let answer = send(&proxy, &ours, &form).await;
        assert_eq!(answer.status, status, "{form}");
        let text = answer.text();
        assert!(
            text.contains("<strong>Not done.</strong>") && text.contains(told),
            "{form}: {text}"
        );
    }
    assert!(!switch().await);

    let done = send(&proxy, &ours, &good).await;
    assert_eq!(
        (done.status, done.header("location")),
        (303, Some("/console#done"))
    );
    assert!(switch().await);
    let after = page(&proxy, &[PASSWORD]).await.text();
    let records = between(&after, "The last records", "</table>");
    for told in ["kill_switch", "<td>console</td>", "drill &lt;b&gt;"] {
        assert!(records.contains(told), "no `{told}` in {records}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_says_what_is_wrong_with_a_file() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 100));
    let proof = proof(&page(&proxy, &[PASSWORD]).await);
    proxy.edit(&two_providers(&old, &new, &upstream, 150));
    until(async || {
        proxy
            .metric("authferry_config_last_reload_successful ")
            .await
            == 0.0
    })
    .await;
    let text = page(&proxy, &[PASSWORD]).await.text();
    assert!(
        text.contains("the file was refused") && text.contains("150"),
        "{text}"
    );
    let ours = format!("http://{}", proxy.admin);
    let form = format!("proof={proof}&do=reload");
    let refused = send(&proxy, &ours, &form).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("the configuration was refused"));
    proxy.edit(&two_providers(&old, &new, &upstream, 50));
    let done = send(&proxy, &ours, &form).await;
    assert_eq!(done.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_orders_a_rollout_and_the_ledger_says_who_and_why() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&staged(&old, &new, &upstream));
    let ours = format!("http://{}", proxy.admin);
    let shown = page(&proxy, &[PASSWORD]).await;
    let proof = proof(&shown);
    assert!(shown.text().contains(">draft<"), "{}", shown.text());

    let form = |command: &str, reason: &str| {
        format!("proof={proof}&do={command}&rollout=move&reason={reason}")
    };
    for (form, told) in [
        (form("start", ""), "say why"),
        (form("set-stage", "x"), "nothing that can be done"),
        (
            form("start", "x").replace("=move", "=elsewhere"),
            "elsewhere",
        ),
    ] {
        let answer = send(&proxy, &ours, &form).await;
        assert_eq!(answer.status, 400, "{form}");
        assert!(answer.text().contains(told), "{form}: {}", answer.text());
    }
    assert!(page(&proxy, &[PASSWORD]).await.text().contains(">draft<"));

    let done = send(&proxy, &ours, &form("start", "IAM-1482")).await;
    assert_eq!(done.status, 303, "{}", done.text());
    let done = send(&proxy, &ours, &form("pause", "IAM-1483")).await;
    assert_eq!(done.status, 303, "{}", done.text());
    let text = page(&proxy, &[PASSWORD]).await.text();
    assert!(
        text.contains(">held<") && text.contains("install"),
        "{text}"
    );
    let records = between(&text, "The last records", "</table>");
    for told in ["<td>decision</td><td>console</td>", "IAM-1482", "IAM-1483"] {
        assert!(records.contains(told), "no `{told}` in {records}");
    }
}
