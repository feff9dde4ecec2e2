//! What a route asks of whoever is known: what cannot be known of them is not fulfilled.

use serde_json::Value;
use serde_json::json;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::limits::TRUSTING;
use crate::two_providers;

/// A database in the MaxMind format that knows the first three bytes of IPv4 networks.
fn countries(networks: &[([u8; 3], &str)]) -> Vec<u8> {
    const DEPTH: usize = 24;
    let text = |text: &str| {
        let mut out = vec![0x40 | u8::try_from(text.len()).unwrap()];
        out.extend(text.as_bytes());
        out
    };
    let map = |members: &[(&str, Vec<u8>)]| {
        let mut out = vec![0xe0 | u8::try_from(members.len()).unwrap()];
        for (name, value) in members {
            // Longer than 28 bytes is no name of these.
            out.extend([text(name), value.clone()].concat());
        }
        out
    };
    let number = |number: u16| [&[0xa2][..], &number.to_be_bytes()].concat();
    // Where each side of a node leads: to another node, or to what is known.
    let mut nodes = vec![[None::<Result<usize, usize>>; 2]];
    let mut known = Vec::new();
    for (network, country) in networks {
        let place = known.len();
        let code = map(&[("iso_code", text(country))]);
        known.extend(map(&[("country", code)]));
        let mut at = 0;
        for depth in 0..DEPTH {
            let side = usize::from((network[depth / 8] >> (7 - depth % 8)) & 1);
            if depth + 1 == DEPTH {
                nodes[at][side] = Some(Err(place));
                break;
            }
            let next = match nodes[at][side] {
                Some(Ok(next)) => next,
                Some(Err(_)) | None => nodes.len(),
            };
            if next == nodes.len() {
                nodes.push([None; 2]);
            }
            nodes[at][side] = Some(Ok(next));
            at = next;
        }
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for side in nodes.iter().flatten() {
        let value = match side {
            None => count,
            Some(Ok(node)) => *node,
            Some(Err(place)) => count + 16 + place,
        };
        file.extend(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(known);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let nodes = [&[0xc4][..], &u32::try_from(count).unwrap().to_be_bytes()].concat();
    file.extend(map(&[
        ("node_count", nodes),
        ("record_size", number(24)),
        ("ip_version", number(4)),
        ("database_type", text("Test-Country")),
        ("languages", vec![0x00, 0x04]),
        ("binary_format_major_version", number(2)),
        ("binary_format_minor_version", number(0)),
        ("build_epoch", vec![0x01, 0x02, 0x01]),
        ("description", map(&[("en", text("for tests"))])),
    ]));
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_no_known_country_or_says_nothing_does_not_get_further() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let known = countries(&[([192, 0, 2], "DE"), ([198, 51, 100], "FR")]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("countries.mmdb"), known).unwrap();
    let text = two_providers(&old, &new, &upstream, 100)
        .replace("groups: groups }", "groups: groups, department: department }")
        .replace(
            "    public_paths: [/public/*]\n",
            "    routes:\n      - { path: /here/*, require: { country: [DE] } }\n      - { path: /sales/*, require: { claims: { department: sales } } }\n      \
             - { path: /sellers/*, require: { roles: [seller] } }\n      - { path: /* }\n",
        );
    let trusting = TRUSTING.replace(
        "server: { ",
        "server: { country_database: { file: {dir}/countries.mmdb }, ",
    );
    let roles = "roles: { new: { groups: { sales: [seller] } } }\n";
    let proxy = Proxy::start_in(dir, &(text + &trusting + roles));
    proxy.settled().await;
    let status = async |path: &str, from: &str, said: Value| {
        let mut claims = new.claims("alice");
        claims.extend(said.as_object().unwrap().clone());
        let bearer = format!("Bearer {}", new.sign(&claims));
        let fields = [("Authorization", &*bearer), ("X-Forwarded-For", from)];
        let answer = request(proxy.address, "GET", path, &fields, b"").await;
        answer.status
    };
    for (from, expected) in [
        ("192.0.2.7", 200),
        ("198.51.100.7", 403),
        // Nobody knows where these are.
        ("203.0.113.7", 403),
        ("127.0.0.1", 403),
        ("2001:db8::7", 403),
    ] {
        let got = status("/here/x", from, json!({})).await;
        assert_eq!(got, expected, "{from}\n{}", proxy.log());
        assert_eq!(status("/x", from, json!({})).await, 200, "{from}");
    }
    for (said, expected) in [
        (json!({ "department": "sales" }), 200),
        (json!({ "department": "Sales" }), 403),
        (json!({ "department": ["it"] }), 403),
        (json!({}), 403),
    ] {
        let got = status("/sales/x", "192.0.2.7", said.clone()).await;
        assert_eq!(got, expected, "{said}\n{}", proxy.log());
    }
    for (groups, expected) in [
        (json!(["sales"]), 200),
        (json!(["seller"]), 403),
        (json!([]), 403),
    ] {
        let said = json!({ "groups": groups });
        let got = status("/sellers/x", "192.0.2.7", said.clone()).await;
        assert_eq!(got, expected, "{said}\n{}", proxy.log());
    }
    assert_eq!(upstream.hits(), 8);
}

/// What a token lacks is said in the challenge: scopes (RFC 6750 §3.1), or a stronger sign-in (RFC 9470 §3).
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_too_little_or_was_had_too_easily_is_told_what_is_wanted() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let verify = "verify: { audiences: [app]";
    let acr =
        format!("assurance: {{ acr_claim: acr, map: {{ \"1\": pwd, \"2\": mfa }} }}, {verify}");
    let text = two_providers(&old, &new, &upstream, 100)
        .replace(verify, &acr)
        .replace(
            "    public_paths: [/public/*]\n",
            "    routes: [{ path: /strict/*, require: { acr: [mfa] } }, { path: /orders/*, require: { scopes: [orders.read] } }, { path: /* }]\n",
        );
    let proxy = Proxy::start(&text);
    proxy.settled().await;
    let ask = async |path: &str, said: Value| {
        let mut claims = new.claims("alice");
        claims.extend(said.as_object().unwrap().clone());
        let bearer = format!("Bearer {}", new.sign(&claims));
        let fields = [("Authorization", &*bearer)];
        let answer = request(proxy.address, "GET", path, &fields, b"").await;
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        (answer.status, challenge.to_owned())
    };
    for (path, good) in [
        ("/strict/x", json!({ "acr": "2" })),
        ("/orders/x", json!({ "scope": "a orders.read" })),
        ("/x", json!({})),
    ] {
        let (status, challenge) = ask(path, good).await;
        assert_eq!((status, &*challenge), (200, ""), "{path}\n{}", proxy.log());
    }
    for said in [json!({ "acr": "1" }), json!({ "acr": "3" }), json!({})] {
        let (status, challenge) = ask("/strict/x", said.clone()).await;
        assert_eq!(status, 401, "{said}");
        let wanted = "error=\"insufficient_user_authentication\"";
        assert!(challenge.contains(wanted), "{said} {challenge}");
        assert!(challenge.contains("acr_values=\"2\""), "{said} {challenge}");
    }
    for said in [
        json!({ "scope": "orders.write" }),
        json!({ "scope": "ORDERS.READ" }),
        json!({}),
    ] {
        let (status, challenge) = ask("/orders/x", said.clone()).await;
        assert_eq!(status, 403, "{said}");
        assert!(
            challenge.contains("error=\"insufficient_scope\""),
            "{challenge}"
        );
        assert!(challenge.contains("scope=\"orders.read\""), "{challenge}");
    }
    assert_eq!(upstream.hits(), 3);
}
