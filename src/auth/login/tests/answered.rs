//! What becomes of the answer of somebody who was asked whether two accounts are theirs.

use super::joined::answers;
use super::joined::is_linked;
use super::joined::posted;
use super::linked::settings;
use super::linked::unlinked;
use super::*;

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
