//! What holds for proofs of possession, whatever they are. See `crate::promises`.

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::clock::UnixTime;
use crate::identity::Thumbprint;
use crate::token::Algorithm;
use crate::token::Demand;
use crate::token::prove;
use crate::token::verify::MAX_ID_BYTES;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const TOKEN: &str = "a.b.c";

/// A client, and a proof that it made.
struct Client {
    key: Ed25519KeyPair,
    thumbprint: Thumbprint,
    header: String,
    claims: String,
    proof: String,
}

/// The same with every run: the signature says no more than the key and the text.
static CLIENT: LazyLock<Option<Client>> = LazyLock::new(|| {
    let key = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).ok()?;
    let x = URL_SAFE_NO_PAD.encode(key.public_key());
    // RFC 8037 §2: the members of the thumbprint, in order.
    let thumbprint = digest::digest(
        &digest::SHA256,
        format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes(),
    );
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    let ath = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, TOKEN.as_bytes()));
    let header = json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk }).to_string();
    let claims = json!({ "jti": "j", "htm": "GET", "htu": "https://app.test/x", "iat": 1_800_000_000, "ath": ath });
    let claims = claims.to_string();
    Some(Client {
        thumbprint: Thumbprint(thumbprint.as_ref().try_into().ok()?),
        proof: signed(&key, header.as_bytes(), claims.as_bytes()),
        key,
        header,
        claims,
    })
});

fn signed(key: &Ed25519KeyPair, header: &[u8], claims: &[u8]) -> String {
    let input = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let input = input.join(".");
    let signature = URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes()));
    format!("{input}.{signature}")
}

/// A proof has one text; and whatever its maker signs, it is for this request, for now, and can be remembered.
pub(crate) fn proof(bytes: &[u8]) {
    let Some(client) = &*CLIENT else { return };
    let demand = Demand {
        key: client.thumbprint,
        token: Some(TOKEN),
        method: "GET",
        secure: true,
        authority: "app.test",
        path: "/x",
        algorithms: &[Algorithm::EdDsa, Algorithm::Es256],
        max_age: Duration::from_secs(60),
        leeway: Duration::from_secs(10),
    };
    assert!(prove(&client.proof, &demand, NOW).is_ok());
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(prove(text, &demand, NOW).is_ok(), text == client.proof);
    }
    // Laid over the good one.
    let mut laid = client.proof.clone().into_bytes();
    for (byte, over) in laid.iter_mut().zip(bytes) {
        *byte ^= over;
    }
    if let Ok(text) = std::str::from_utf8(&laid) {
        assert_eq!(prove(text, &demand, NOW).is_ok(), text == client.proof);
    }
    for jwt in [
        signed(&client.key, client.header.as_bytes(), bytes),
        signed(&client.key, bytes, client.claims.as_bytes()),
    ] {
        let Ok(proof) = prove(&jwt, &demand, NOW) else {
            continue;
        };
        assert!(!proof.jti.is_empty() && proof.jti.len() <= MAX_ID_BYTES);
        assert!(NOW < proof.until && proof.issued <= NOW + demand.leeway);
        assert_eq!(proof.until, proof.issued + demand.max_age + demand.leeway);
        for other in [
            Demand {
                method: "POST",
                ..demand
            },
            Demand {
                path: "/y",
                ..demand
            },
            Demand {
                authority: "evil.test",
                ..demand
            },
            Demand {
                token: Some("d.e.f"),
                ..demand
            },
            Demand {
                secure: false,
                ..demand
            },
            Demand {
                key: Thumbprint([0; 32]),
                ..demand
            },
            Demand {
                algorithms: &[Algorithm::Es256],
                ..demand
            },
        ] {
            assert!(prove(&jwt, &other, NOW).is_err());
        }
        assert!(prove(&jwt, &demand, proof.until).is_err());
    }
}
