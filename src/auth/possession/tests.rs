//! Tokens that are bound, with and without what they are bound to.

use super::*;
use crate::auth::extract::extract;
use crate::auth::fake::World;
use crate::auth::fake::at;
use crate::auth::fake::headers;
use crate::auth::fake::identity;
use crate::auth::fake::token;
use crate::auth::gate::Gate;
use crate::identity::Outage;
use crate::providers::Authenticated;
use crate::rollout::KillPosition;
use crate::store::Key;
use crate::store::MemoryStore;
use crate::store::Store;
use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::KeyPair as _;
use serde_json::Value;
use serde_json::json;

/// A client with a key of its own.
struct Client(EcdsaKeyPair);

impl Client {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        json!({ "crv": "P-256", "kty": "EC", "x": b64(x), "y": b64(y) })
    }

    fn thumbprint(&self) -> Thumbprint {
        let text = self.jwk().to_string();
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        Thumbprint(hash.as_ref().try_into().unwrap())
    }

    /// A proof for `GET https://app.test/orders` with `token`.
    fn proof(&self, jti: &str, token: &str, change: &Value) -> String {
        let header = json!({ "alg": "ES256", "jwk": self.jwk(), "typ": "dpop+jwt" });
        let ath = b64(digest::digest(&digest::SHA256, token.as_bytes()));
        let mut claims = json!({ "jti": jti, "htm": "GET", "htu": "https://app.test/orders", "iat": at(0).as_secs(), "ath": ath });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let input = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", b64(signature))
    }
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn alice() -> String {
    token("https://new.idp.test", "alice")
}

/// Tokens of the new provider are bound to `confirmation`.
fn bound(world: &World, confirmation: Confirmation) {
    *world.new.verdict.lock().unwrap() = Arc::new(move |subject| {
        let proof = Authenticated::for_test(identity("new", subject), at(300));
        Ok(proof.bound_for_test(confirmation))
    });
}

fn to_key(client: &Client) -> Confirmation {
    Confirmation {
        key: Some(client.thumbprint()),
        certificate: None,
    }
}

/// `ok`, the challenge, or the error.
async fn judged(world: &World, fields: &[(&'static str, &str)], now: UnixTime) -> String {
    let (policy, headers) = (world.policy(), headers(fields));
    let (facts, channel) = (world.facts(), world.channel());
    let gate = Gate::new(world.deps());
    let presented = match extract(&headers, None, policy.owners(), &[]) {
        Ok(presented) => presented.expect("a credential"),
        Err(error) => return error.to_string(),
    };
    let way = (&facts, &channel);
    match gate
        .admit(&policy, 0, &presented, way, KillPosition::Off, now)
        .await
    {
        Ok(admitted) => {
            // What is kept is asked again, and this proof has been used.
            let again = gate.proven(&admitted, &presented, way, now).await;
            assert_eq!(
                again.is_ok(),
                admitted.confirmation().is_none_or(|c| c.key.is_none())
            );
            String::from("ok")
        }
        Err(AuthError::Unproven { challenge, .. }) => challenge.to_str().unwrap().to_owned(),
        Err(error) => error.to_string(),
    }
}

async fn with_proof(world: &World, proof: &str, now: UnixTime) -> String {
    let authorization = format!("DPoP {}", alice());
    judged(
        world,
        &[("authorization", &authorization), ("dpop", proof)],
        now,
    )
    .await
}

const TOKEN: &str = r#"DPoP realm="crm", error="invalid_token", algs="ES256""#;
const PROOF: &str = r#"DPoP realm="crm", error="invalid_dpop_proof", algs="ES256""#;
const NONCE: &str = r#"DPoP realm="crm", error="use_dpop_nonce", algs="ES256""#;

#[tokio::test]
async fn a_bound_token_needs_its_scheme_and_a_proof() {
    let (world, client) = (World::canary(), Client::new());
    bound(&world, to_key(&client));
    let bearer = format!("Bearer {}", alice());
    let good = || client.proof("j", &alice(), &json!({}));
    assert_eq!(
        judged(&world, &[("authorization", &bearer)], at(0)).await,
        TOKEN
    );
    let beside = [("authorization", bearer.as_str()), ("dpop", &good())];
    assert_eq!(judged(&world, &beside, at(0)).await, TOKEN);
    let dpop = format!("DPoP {}", alice());
    assert_eq!(
        judged(&world, &[("authorization", &dpop)], at(0)).await,
        PROOF
    );
    let twice = [
        ("authorization", dpop.as_str()),
        ("dpop", &good()),
        ("dpop", &good()),
    ];
    assert_eq!(judged(&world, &twice, at(0)).await, PROOF);
    assert_eq!(with_proof(&world, "", at(0)).await, PROOF);
    let other = Client::new().proof("j", &alice(), &json!({}));
    assert_eq!(with_proof(&world, &other, at(0)).await, PROOF);
    for change in [
        json!({ "htm": "POST" }),
        json!({ "htu": "https://app.test/" }),
        json!({ "htu": "http://app.test/orders" }),
        json!({ "ath": "" }),
        json!({ "iat": at(0).as_secs() - 70 }),
    ] {
        let proof = client.proof("k", &alice(), &change);
        assert_eq!(with_proof(&world, &proof, at(0)).await, PROOF, "{change}");
    }
    assert_eq!(with_proof(&world, &good(), at(0)).await, "ok");
    assert_eq!(with_proof(&world, &good(), at(0)).await, PROOF, "a replay");
    let next = client.proof("l", &alice(), &json!({}));
    assert_eq!(with_proof(&world, &next, at(0)).await, "ok");
}

#[tokio::test]
async fn the_scheme_is_for_bound_tokens_only() {
    let (world, client) = (World::canary(), Client::new());
    let proof = client.proof("j", &alice(), &json!({}));
    assert_eq!(with_proof(&world, &proof, at(0)).await, TOKEN);
    let bearer = format!("Bearer {}", alice());
    let plain = [("authorization", bearer.as_str()), ("dpop", &proof)];
    assert_eq!(judged(&world, &plain, at(0)).await, "ok");
    let nobody = format!("DPoP {}", token("https://new.idp.test", "bad"));
    assert_eq!(
        judged(&world, &[("authorization", &nobody)], at(0)).await,
        TOKEN
    );
    let down = format!("DPoP {}", token("https://new.idp.test", "down"));
    assert_eq!(
        judged(&world, &[("authorization", &down)], at(0)).await,
        "unavailable: timeout"
    );
}

#[tokio::test]
async fn two_instances_share_what_they_have_seen() {
    let client = Client::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let instance = || {
        use crate::auth::fake::FakeProvider;
        let world = World::on(Arc::clone(&store), FakeProvider::old(), FakeProvider::new());
        bound(&world, to_key(&client));
        world
    };
    let (one, two) = (instance(), instance());
    let proof = client.proof("j", &alice(), &json!({}));
    assert_eq!(with_proof(&one, &proof, at(0)).await, "ok");
    assert_eq!(with_proof(&two, &proof, at(0)).await, PROOF);
    // As long as it would be taken it is remembered.
    assert_eq!(with_proof(&two, &proof, at(69)).await, PROOF);
}

#[tokio::test]
async fn without_the_store_no_proof_is_taken() {
    let client = Client::new();
    let full: Arc<dyn Store> = Arc::new(MemoryStore::new(0));
    let mut world = World::canary();
    world.replays = Arc::new(Replays::new(full));
    bound(&world, to_key(&client));
    let proof = client.proof("j", &alice(), &json!({}));
    assert_eq!(
        with_proof(&world, &proof, at(0)).await,
        format!("unavailable: {}", Outage::Connect)
    );
}

#[tokio::test]
async fn what_may_have_been_used_before_the_memory_was_lost_is_refused() {
    let client = Client::new();
    let store = Arc::new(MemoryStore::default());
    let mut world = World::canary();
    world.replays = Arc::new(Replays::new(store.clone()));
    bound(&world, to_key(&client));
    let made = |jti: &str, seconds| {
        let iat = json!({ "iat": at(seconds).as_secs() });
        client.proof(jti, &alice(), &iat)
    };
    let used = made("used", 10);
    assert_eq!(with_proof(&world, &made("first", 0), at(0)).await, "ok");
    assert_eq!(with_proof(&world, &used, at(11)).await, "ok");
    assert_eq!(with_proof(&world, &used, at(12)).await, PROOF);
    for table in ["dpop", "whole"] {
        let rows = store.scan(table, b"", 10, at(12)).await.unwrap();
        assert!(!rows.is_empty(), "{table}");
        for (key, _) in rows {
            store.delete(Key { table, key: &key }).await.unwrap();
        }
    }
    assert_eq!(with_proof(&world, &used, at(13)).await, PROOF);
    // Nobody knows of these either, and one that is made from now on is good.
    assert_eq!(with_proof(&world, &made("other", 12), at(14)).await, PROOF);
    assert_eq!(with_proof(&world, &made("new", 14), at(15)).await, "ok");
    assert_eq!(with_proof(&world, &used, at(16)).await, PROOF);
}

#[tokio::test]
async fn what_is_remembered_has_a_bound() {
    let (mut world, client) = (World::canary(), Client::new());
    world.possession.replay_entries = 8;
    bound(&world, to_key(&client));
    // Each is asked for twice by the helper.
    for (jti, seconds, expected) in [
        ("a", 0, "ok"),
        ("b", 0, "ok"),
        ("c", 0, "unavailable: connect"),
        ("d", 200, "ok"),
    ] {
        let iat = json!({ "iat": at(seconds).as_secs() });
        let proof = client.proof(jti, &alice(), &iat);
        let said = with_proof(&world, &proof, at(seconds)).await;
        assert_eq!(said, expected, "{jti}");
    }
    // Whoever makes many proofs shuts out nobody else.
    let bob = token("https://new.idp.test", "bob");
    let authorization = format!("DPoP {bob}");
    for (subject, jti, expected) in [
        (alice(), "e", "ok"),
        (alice(), "f", "unavailable: connect"),
        (bob.clone(), "g", "ok"),
    ] {
        let proof = client.proof(jti, &subject, &json!({ "iat": at(200).as_secs() }));
        let said = if subject == bob {
            let fields = [("authorization", authorization.as_str()), ("dpop", &proof)];
            judged(&world, &fields, at(200)).await
        } else {
            with_proof(&world, &proof, at(200)).await
        };
        assert_eq!(said, expected, "{jti}");
    }
}

#[tokio::test]
async fn a_nonce_of_ours_is_asked_for_and_lives_for_its_time() {
    let (mut world, client) = (World::canary(), Client::new());
    world.possession.nonce_life = Some(Duration::from_secs(100));
    bound(&world, to_key(&client));
    let proof = |jti: &str, nonce: &Value, seconds: u64| {
        let iat = at(seconds).as_secs();
        client.proof(jti, &alice(), &json!({ "iat": iat, "nonce": nonce }))
    };
    let none = client.proof("a", &alice(), &json!({}));
    assert_eq!(with_proof(&world, &none, at(0)).await, NONCE);
    let fresh = world.possession().nonce(at(0)).unwrap();
    let fresh = json!(fresh.to_str().unwrap());
    for (jti, nonce, seconds, expected) in [
        ("b", json!("stale"), 0, NONCE),
        ("c", json!(""), 0, NONCE),
        ("d", fresh.clone(), 0, "ok"),
        ("e", fresh.clone(), 49, "ok"),
        ("f", fresh.clone(), 99, "ok"),
        ("g", fresh.clone(), 150, NONCE),
    ] {
        let said = with_proof(&world, &proof(jti, &nonce, seconds), at(seconds)).await;
        assert_eq!(said, expected, "{jti}");
    }
    // Another instance with the same key takes it too; one with another key does not.
    let mut other = World::canary();
    other.possession = world.possession.clone();
    bound(&other, to_key(&client));
    assert_eq!(
        with_proof(&other, &proof("h", &fresh, 0), at(0)).await,
        "ok"
    );
    let key = BucketKey::new(crate::secret::Secret::new(vec![8; 32]));
    let stranger = Nonces::new(&key, Duration::from_secs(100));
    assert!(!stranger.takes(fresh.as_str(), at(0)));
    assert_eq!(World::canary().possession().nonce(at(0)), None);
}

#[tokio::test]
async fn a_token_of_a_certificate_counts_on_its_connection_only() {
    let mut world = World::canary();
    let (own, other) = (Thumbprint([1; 32]), Thumbprint([2; 32]));
    bound(
        &world,
        Confirmation {
            key: None,
            certificate: Some(own),
        },
    );
    let bearer = format!("Bearer {}", alice());
    for (certificate, expected) in [
        (None, "refused: pop_failed"),
        (Some(other), "refused: pop_failed"),
        (Some(own), "ok"),
    ] {
        world.certificate = certificate;
        let said = judged(&world, &[("authorization", &bearer)], at(0)).await;
        assert_eq!(said, expected);
    }
}

#[tokio::test]
async fn a_token_that_is_bound_twice_needs_both() {
    let (mut world, client) = (World::canary(), Client::new());
    let own = Thumbprint([1; 32]);
    bound(
        &world,
        Confirmation {
            certificate: Some(own),
            ..to_key(&client)
        },
    );
    let proof = |jti| client.proof(jti, &alice(), &json!({}));
    assert_eq!(with_proof(&world, &proof("a"), at(0)).await, TOKEN);
    world.certificate = Some(own);
    assert_eq!(with_proof(&world, "", at(0)).await, PROOF);
    assert_eq!(with_proof(&world, &proof("a"), at(0)).await, "ok");
}
