//! What a token is bound to (RFC 7800): a key of the client, or its certificate.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;

use crate::identity::ClaimMap;
use crate::identity::Refusal;

/// SHA-256 of a key (RFC 7638) or of a certificate (RFC 8705 §3.1).
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Thumbprint(pub [u8; 32]);

impl Thumbprint {
    /// Reads unpadded base64url of 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[thumbprint]")
    }
}

/// What the holder of a token must prove besides. At least one of the two; both where both are there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Confirmation {
    /// `jkt`: a key, proven with every request (RFC 9449 §6.1).
    pub key: Option<Thumbprint>,
    /// `x5t#S256`: the certificate of the TLS connection (RFC 8705 §3.1).
    pub certificate: Option<Thumbprint>,
}

impl Confirmation {
    /// Reads `cnf`; `None`: the token is bound to nothing.
    ///
    /// Members that nobody here understands are read over (RFC 7800 §3.1) as long as there is one that is understood.
    ///
    /// # Errors
    ///
    /// When it is bound in a way that cannot be checked here: such a token is good for nobody.
    pub fn of(claims: &ClaimMap) -> Result<Option<Self>, Refusal> {
        let bound = match claims.member("cnf") {
            None | Some(Value::Null) => return Ok(None),
            Some(bound) => bound,
        };
        let member = |name: &str| match bound.get(name) {
            None => Ok(None),
            Some(value) => value
                .as_str()
                .and_then(Thumbprint::parse)
                .map(Some)
                .ok_or(Refusal::PopFailed),
        };
        let bound = Self {
            key: member("jkt")?,
            certificate: member("x5t#S256")?,
        };
        if bound.key.is_none() && bound.certificate.is_none() {
            return Err(Refusal::PopFailed);
        }
        Ok(Some(bound))
    }

    /// How a token is presented that is bound so, or to nothing: `token_type` (RFC 6749 §5.1, RFC 9449 §5).
    pub fn token_type(bound: Option<&Self>) -> &'static str {
        match bound.and_then(|bound| bound.key) {
            Some(_) => "DPoP",
            None => "Bearer",
        }
    }

    /// The members of `cnf` in what is said of a token that is bound so.
    pub fn members(&self) -> Map<String, Value> {
        let members = [("jkt", self.key), ("x5t#S256", self.certificate)];
        members
            .into_iter()
            .filter_map(|(name, print)| Some((name.to_owned(), print?.to_string().into())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(cnf: &Value) -> Result<Option<Confirmation>, Refusal> {
        let claims = json!({ "cnf": cnf });
        Confirmation::of(&ClaimMap::new(claims.as_object().unwrap().clone()))
    }

    const ONES: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

    #[test]
    fn a_token_says_what_it_is_bound_to() {
        assert_eq!(Confirmation::of(&ClaimMap::default()), Ok(None));
        assert_eq!(of(&json!(null)), Ok(None));
        let print = Thumbprint([1; 32]);
        let ones = Some(print);
        let bound = of(&json!({ "jkt": ONES, "kid": "k" })).unwrap().unwrap();
        assert_eq!((bound.key, bound.certificate), (ones, None));
        let bound = of(&json!({ "x5t#S256": ONES })).unwrap().unwrap();
        assert_eq!((bound.key, bound.certificate), (None, ones));
        let bound = of(&json!({ "x5t#S256": ONES, "jkt": ONES })).unwrap();
        assert_eq!(bound.unwrap().key, bound.unwrap().certificate);
        assert_eq!(print.to_string(), ONES);
        let only = |key, certificate| Some(Confirmation { key, certificate });
        for (bound, kind) in [
            (None, "Bearer"),
            (only(None, ones), "Bearer"),
            (only(ones, None), "DPoP"),
        ] {
            assert_eq!(Confirmation::token_type(bound.as_ref()), kind);
        }
        for cnf in [
            json!({ "jkt": ONES }),
            json!({ "x5t#S256": ONES }),
            json!({ "x5t#S256": ONES, "jkt": ONES }),
        ] {
            let members = of(&cnf).unwrap().unwrap().members();
            assert_eq!(Value::Object(members), cnf);
        }
    }

    #[test]
    fn what_cannot_be_checked_is_no_binding_at_all() {
        for cnf in [
            json!({}),
            json!("jkt"),
            json!([]),
            json!(true),
            json!({ "kid": "k" }),
            json!({ "jwk": {} }),
            json!({ "JKT": ONES }),
            json!({ "jkt": null }),
            json!({ "jkt": "" }),
            json!({ "jkt": [ONES] }),
            json!({ "jkt": ONES.trim_start_matches("AQEB") }),
            json!({ "jkt": format!("{ONES}=") }),
            json!({ "jkt": ONES, "x5t#S256": "" }),
            json!({ "x5t#S256": 1 }),
        ] {
            assert_eq!(of(&cnf), Err(Refusal::PopFailed), "{cnf}");
        }
    }
}
