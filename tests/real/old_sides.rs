//! Sessions of both old providers, oidc-provider and Django: renewed with a token that is good once, given back with a
//! sign-out, and over when they are over there.

use std::process::Command;

use serde_json::Value;

use crate::behind::Behind;
use crate::harness::Echo;
use crate::harness::Proxy;
use crate::harness::request;
use crate::old_provider;
use crate::operators::until;
use crate::origin;
use crate::proxy;
use crate::sessions::is_in;
use crate::sessions::signed_in;
use crate::two_sides;
use crate::var;

/// Who vouches for a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    OidcProvider,
    Django,
    Keycloak,
}

/// `two_sides` with Django as the old one.
pub(crate) fn at_django(sides: &str) -> String {
    let django = format!("http://127.0.0.1:{}/o", var("DOT_PORT"));
    let moved = sides.replace(&old_provider(), &django);
    assert_ne!(moved, sides);
    // Its access tokens are opaque: what is judged is its ID tokens.
    moved.replace("urn:legacy-api", "proxy")
}

/// What the database of Django has to say, in one number; or what it is told, and how many rows that was.
pub(crate) fn sql(statement: &str) -> usize {
    let script = "import sqlite3, sys\nd = sqlite3.connect(sys.argv[1], timeout=20)\nc = d.execute(sys.argv[2])\nr = c.fetchone()\nd.commit()\nprint(r[0] if r else c.rowcount)";
    let file = format!("{}/dot/legacy.sqlite3", var("IDPS_RUN"));
    let said = Command::new("python3")
        .args(["-c", script, &file, statement])
        .output()
        .unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    let number = text.trim().parse();
    number.unwrap_or_else(|_| {
        panic!(
            "{statement}: {text}{}",
            String::from_utf8_lossy(&said.stderr)
        )
    })
}

impl Side {
    fn sides(self, upstream: &str) -> String {
        match self {
            Self::OidcProvider => two_sides(upstream, "0"),
            Self::Django => at_django(&two_sides(upstream, "0")),
            Self::Keycloak => two_sides(upstream, "100"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::OidcProvider | Self::Django => "legacy",
            Self::Keycloak => "modern",
        }
    }

    /// What oidc-provider has counted of bob's tokens.
    async fn counted(what: &str) -> usize {
        let host = format!("127.0.0.1:{}", var("OP_PORT"));
        let fields = [("Host", host.as_str())];
        let seen = request(host.parse().unwrap(), "GET", "/__test/seen", &fields, b"").await;
        let seen: Value = serde_json::from_str(&seen.text()).unwrap();
        seen["tokens"]["1002"][what].as_u64().unwrap_or(0) as usize
    }

    /// How often a token of bob's was given for another one, as the provider itself has it.
    async fn renewed(self) -> usize {
        match self {
            Self::OidcProvider => Self::counted("consumed").await,
            // What is given for another one stays in the table, revoked.
            Self::Django => sql(
                "SELECT count(*) FROM oauth2_provider_refreshtoken WHERE user_id = 1002 AND revoked IS NOT NULL",
            ),
            Self::Keycloak => happened("REFRESH_TOKEN").await,
        }
    }

    /// Whether a token of bob's that was good before is not any more, after `before` were.
    async fn given_back(self) -> usize {
        match self {
            Self::OidcProvider => Self::counted("destroyed").await,
            Self::Django => self.renewed().await,
            Self::Keycloak => happened("REVOKE_GRANT").await,
        }
    }

    /// What an administrator does who ends all that bob has there.
    async fn ends(self) {
        match self {
            Self::OidcProvider => {
                let host = format!("127.0.0.1:{}", var("OP_PORT"));
                let fields = [("Host", host.as_str())];
                let path = "/__test/end/1002";
                let said = request(host.parse().unwrap(), "POST", path, &fields, b"{}").await;
                assert_eq!(said.status, 200, "{}", said.text());
            }
            Self::Django => {
                let of = "WHERE user_id = 1002";
                assert_ne!(
                    sql(&format!("DELETE FROM oauth2_provider_refreshtoken {of}")),
                    0
                );
                sql(&format!("DELETE FROM oauth2_provider_accesstoken {of}"));
            }
            Self::Keycloak => {
                let behind = Behind::admin().await;
                let out = format!("/users/{}/logout", behind.id_of("bob").await);
                let ended = behind.call("POST", &out, "").await;
                assert_eq!(ended.status, 204, "{}", ended.text());
            }
        }
    }
}

/// What Keycloak's log has of bob.
async fn happened(kind: &str) -> usize {
    let behind = Behind::admin().await;
    let account = behind.id_of("bob").await;
    behind.happened("proxy", kind, &account).await
}

const SIDES: [Side; 3] = [Side::OidcProvider, Side::Django, Side::Keycloak];

async fn counts(proxy: &Proxy, side: Side, outcome: &str) -> f64 {
    let series = format!(
        "authferry_provider_request_duration_seconds_count{{provider=\"{}\",operation=\"token\",outcome=\"{outcome}\"}}",
        side.name()
    );
    proxy.metric(&series).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_renewed_at_each_provider_and_lasts_no_longer_than_it_does_there() {
    let upstream = Echo::start().await;
    for side in SIDES {
        // Nobody tells us of a sign-out: what we know of one, we have asked for.
        let yaml = side.sides(&upstream.url()) + "sessions: { revalidate: 2s }\n";
        let proxy = proxy(&yaml);
        let (bob, carol) = (
            signed_in(&proxy, "bob").await,
            signed_in(&proxy, "carol").await,
        );
        // Each time with the token that came with the last one: none of them takes one twice.
        let before = side.renewed().await;
        until(async || {
            assert!(
                is_in(&proxy, &bob, "1002").await,
                "{side:?} {}",
                proxy.log()
            );
            before + 3 <= side.renewed().await
        })
        .await;
        assert_eq!(counts(&proxy, side, "rejected").await, 0.0, "{side:?}");

        side.ends().await;
        until(async || !is_in(&proxy, &bob, "1002").await).await;
        // It is remembered, and nobody else's.
        assert!(!is_in(&proxy, &bob, "1002").await);
        assert!(
            is_in(&proxy, &carol, "1003").await,
            "{side:?} {}",
            proxy.log()
        );
        assert_eq!(counts(&proxy, side, "rejected").await, 1.0, "{side:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_gives_the_token_back_at_each_provider() {
    let upstream = Echo::start().await;
    for side in SIDES {
        let proxy = proxy(&side.sides(&upstream.url()));
        let bob = signed_in(&proxy, "bob").await;
        let before = side.given_back().await;
        // The page of ours is left before the browser goes on to the provider: that it never gets there changes nothing.
        let site = origin();
        let host = site.strip_prefix("http://").unwrap();
        let cookies = bob.cookie_line(host);
        let fields = [
            ("Host", host),
            ("Origin", site.as_str()),
            ("Cookie", cookies.as_str()),
        ];
        let path = "/.authferry/logout";
        let out = request(proxy.address, "POST", path, &fields, b"").await;
        assert_eq!(out.status, 303, "{side:?} {}\n{}", out.text(), proxy.log());
        assert!(!is_in(&proxy, &bob, "1002").await);
        until(async || before < side.given_back().await).await;
        let told = format!(
            "authferry_logout_fanout_total{{provider=\"{}\",outcome=\"success\"}}",
            side.name()
        );
        until(async || proxy.metric(&told).await == 1.0).await;
    }
}
