//! What becomes of the answer of somebody who was asked whether two accounts are theirs.

use super::joined::answers;
use super::joined::asked;
use super::joined::is_linked;
use super::joined::posted;
use super::joined::says;
use super::linked::settings;
use super::linked::unlinked;
use super::*;

/// Why an answer is refused.
#[derive(Clone, Copy, Debug)]
enum Refused {
    /// Nobody was asked this.
    Stray,
    TooLate,
    NotAllowed,
    /// Nobody signs in at all.
    Unavailable,
}

impl Refused {
    const fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::Stray => (
                StatusCode::BAD_REQUEST,
                "<h1>This sign-in is not yours to finish</h1>",
            ),
            Self::TooLate => (
                StatusCode::BAD_REQUEST,
                "<h1>The sign-in took too long</h1>",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "<h1>The sign-in service is not reachable</h1>",
            ),
            Self::NotAllowed => (
                StatusCode::FORBIDDEN,
                "<h1>This account may not come in</h1>",
            ),
        }
    }
}

#[tokio::test]
async fn only_our_own_page_says_it_in_the_browser_that_was_asked_and_in_time() {
    let yes = |asked: &Seen| answers(asked)[0].clone();
    let state = |yes: &str| yes.split_once("state=").unwrap().1.to_owned();
    type Change = fn(Visit<'_>) -> Visit<'_>;
    let as_it_is: Change = |visit| visit;
    let here = "same-origin";
    // Of the same address, sent from elsewhere or otherwise, or another address.
    let rows: [(&str, &str, Change, Refused); 12] = [
        ("", "cross-site", as_it_is, Refused::Stray),
        ("", "same-site", as_it_is, Refused::Stray),
        (
            "",
            "none",
            |visit| Visit {
                fields: vec![("accept", "text/html")],
                ..visit
            },
            Refused::Stray,
        ),
        (
            "",
            here,
            |visit| Visit {
                method: Method::GET,
                ..visit
            },
            Refused::Stray,
        ),
        (
            "/.authferry/join?state=STATEx",
            here,
            as_it_is,
            Refused::Stray,
        ),
        ("/.authferry/join", here, as_it_is, Refused::Stray),
        // What a provider would send is no answer to this either.
        (
            "/.authferry/cb/old?code=alice,n,v&state=STATE",
            "none",
            |visit| Visit {
                method: Method::GET,
                fields: vec![("accept", "text/html")],
                ..visit
            },
            Refused::Stray,
        ),
        (
            "",
            here,
            |visit| Visit {
                now: at(120),
                ..visit
            },
            Refused::TooLate,
        ),
        (
            "",
            here,
            |visit| visit.killed(KillPosition::Modern),
            Refused::NotAllowed,
        ),
        (
            "",
            here,
            |visit| visit.killed(KillPosition::Legacy),
            Refused::NotAllowed,
        ),
        (
            "",
            here,
            |visit| visit.killed(KillPosition::Deny),
            Refused::Unavailable,
        ),
        (
            "",
            here,
            |visit| Visit {
                host: "app2.test",
                ..visit
            },
            Refused::Stray,
        ),
    ];
    for (n, (address, site, change, why)) in rows.into_iter().enumerate() {
        let (world, mut browser, asked) = asked().await;
        let yes = yes(&asked);
        let address = match address {
            "" => yes.clone(),
            other => other
                .replace("STATEx", &format!("{}x", &state(&yes)[1..]))
                .replace("STATE", &state(&yes)),
        };
        let (before, (status, title)) = (browser.clone(), why.answer());
        let seen = change(posted(&address, site))
            .with(&world, &mut browser)
            .await;
        assert_eq!(seen.status, status, "row {n}: {seen:?}");
        assert!(seen.body.contains(title), "row {n}: {}", seen.body);
        assert!(!is_linked(&world).await, "row {n}");
        // What the browser held was good: nothing else was wrong with it.
        let mut browser = before;
        let seen = says(&world, &mut browser, &asked, true).await;
        assert!(
            seen.location.starts_with("https://new.idp.test/"),
            "row {n}: {seen:?}"
        );
        assert!(is_linked(&world).await, "row {n}");
    }
    let (world, _, asked) = asked().await;
    let mut other = Browser::default();
    let seen = posted(&yes(&asked), here).with(&world, &mut other).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    assert!(!is_linked(&world).await);
}

/// A whole sign-in lies between the first proof and the question.
#[tokio::test]
async fn what_is_revoked_after_the_first_proof_joins_nobody() {
    use crate::revocation::Target;
    let targets = [
        Target::Provider {
            provider: String::from("new"),
        },
        Target::Account {
            issuer: String::from("https://new.idp.test"),
            subject: String::from("n-1"),
        },
        Target::Subject {
            subject: String::from("uid:alice"),
        },
        Target::Provider {
            provider: String::from("unused"),
        },
    ];
    for (n, target) in targets.into_iter().enumerate() {
        let (mut world, mut browser) = (unlinked(), Browser::default());
        settings(&mut world).prove_both = true;
        let at_new = open(&world, &mut browser, "/orders?x=1").await;
        let proof = signed_in(&at_new.location, "n-1");
        let at_old = Visit::to(&proof).at(1).with(&world, &mut browser).await;
        // As of the world's clock, which stands at 0: of what began until then.
        let revoked = crate::revocation::Asked {
            target,
            source: crate::revocation::Source::Operator,
            actor: String::from("test"),
            reason: String::new(),
            keep: None,
            provider: None,
        };
        let other = n == 3;
        world.revocations.revoke(revoked).await.unwrap();
        let proof = signed_in(&at_old.location, "alice");
        let asked = Visit::to(&proof).at(2).with(&world, &mut browser).await;
        let yes = answers(&asked)[0].clone();
        let seen = posted(&yes, "same-origin")
            .at(3)
            .with(&world, &mut browser)
            .await;
        assert_eq!(
            seen.status == StatusCode::FORBIDDEN,
            !other,
            "{n}: {seen:?}"
        );
        assert_eq!(is_linked(&world).await, other, "{n}");
    }
}
