//! The signed assertion: who somebody is, as a token that an application can check by itself.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde_json::Map;
use serde_json::Value;

use crate::auth::gate::Admitted;
use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::exchange::KeyRing;
use crate::token::MintError;

/// Attributes that an assertion repeats, under the same names.
const REPEATED: &[&str] = &["subject", "name", "email", "email_verified", "groups"];

/// What an assertion says of a person.
pub(crate) fn assertion_claims() -> Vec<&'static str> {
    [&["sub", "acr", "client_id", "act"], REPEATED].concat()
}

/// Mints assertions under the keys of the ring, which are published under `/.authferry/jwks.json`.
#[derive(Clone, Debug)]
pub(crate) struct Assertions {
    ring: Arc<KeyRing>,
    entropy: Arc<dyn Entropy>,
}

/// What one application's assertions say beside the person.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// `iss`.
    pub(crate) issuer: &'a str,
    /// `aud`.
    pub(crate) audience: &'a str,
    /// From `iat` to `exp`; a credential that ends earlier ends it.
    pub(crate) ttl: Duration,
}

impl Assertions {
    /// Assertions under the keys of `ring`.
    pub(crate) const fn new(ring: Arc<KeyRing>, entropy: Arc<dyn Entropy>) -> Self {
        Self { ring, entropy }
    }

    /// The public keys (RFC 7517 §5).
    pub(crate) fn jwks(&self) -> Value {
        self.ring.jwks()
    }

    /// What assertions that were made rest on: it changes when a key leaves before its time.
    pub(crate) fn rest_on(&self) -> u64 {
        self.ring.epoch().current()
    }

    /// A token about an admitted person, and when it ends.
    ///
    /// # Errors
    ///
    /// When the crypto library fails: the request is denied then.
    pub(crate) fn mint(
        &self,
        admitted: &Admitted,
        terms: Terms<'_>,
        now: UnixTime,
    ) -> Result<(HeaderValue, UnixTime), MintError> {
        // A token that counts only by the leeway is honoured, so what is said about it must be good at least as long.
        let expires = (now + terms.ttl).min(admitted.ends());
        let mut id = [0; 16];
        self.entropy.fill(&mut id);
        let mut claims = Map::new();
        let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        say("iss", terms.issuer.into());
        say("aud", terms.audience.into());
        say("sub", admitted.canonical().as_str().into());
        say("iat", now.as_secs().into());
        say("exp", expires.as_secs().into());
        say("jti", URL_SAFE_NO_PAD.encode(id).into());
        let identity = admitted.identity();
        if let Some(acr) = &identity.acr {
            say("acr", (**acr).into());
        }
        if let Some(client) = &identity.client_id {
            say("client_id", (**client).into());
        }
        // Or it would look like a login of the subject (RFC 8693 §1.1).
        if let (Some(act), _) = identity.delegation.said() {
            say("act", act.clone());
        }
        for name in REPEATED {
            if let Some(value) = identity.attributes.member(name) {
                say(name, value.clone());
            }
        }
        let (token, _kid) = self.ring.sign("assertion", "JWT", &claims, now)?;
        let mut value =
            HeaderValue::try_from(token).map_err(|error| MintError(error.to_string()))?;
        value.set_sensitive(true);
        Ok((value, expires))
    }
}
