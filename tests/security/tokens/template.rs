//! A template of a case file becomes a token.

use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::jose::base64url;
use super::jose::compact;
use super::keys::Ec;
use super::keys::Issuer;
use super::keys::Odd;
use super::keys::Ring;
use super::keys::Rsa;
use super::keys::hmac;
use super::words;
use crate::names::Names;
use crate::now;

/// Words of a case that this runner does not understand: the case is skipped, never passed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unknown(pub(crate) String);

/// Makes tokens.
#[derive(Clone, Debug)]
pub(crate) struct Mint {
    /// All keys.
    pub(crate) ring: Arc<Ring>,
    /// Our names for the stand-ins.
    pub(crate) names: Names,
    /// Two certificates in DER: the new provider's, and the attacker's self-signed one.
    pub(crate) certificates: [Vec<u8>; 2],
}

/// Who signs.
pub(super) enum Signer<'a> {
    Rsa(&'a Rsa),
    Ec(&'a Ec),
    Odd(&'a Odd),
    Hmac(Vec<u8>),
}

impl Signer<'_> {
    pub(super) fn sign(&self, input: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.sign(input),
            Self::Ec(key) => key.sign(input),
            Self::Odd(key) => key.sign(input),
            Self::Hmac(key) => hmac(key, input),
        }
    }
}

/// A token before it is signed.
struct Draft<'a> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signer: Signer<'a>,
    /// What stands behind the token, such as disclosures.
    tail: &'static str,
}

/// The secret of the old issuer where it signs with HMAC: 32 bytes.
pub(crate) const OLD_SECRET: &str = "the-old-secret-of-32-bytes-or-so";

impl Mint {
    /// The token that a template describes.
    pub(crate) fn mint(&self, template: &Map<String, Value>) -> Result<String, Unknown> {
        const KNOWN: &[&str] = &[
            "base",
            "set",
            "del",
            "hdr",
            "hdr_del",
            "sign_with",
            "sig",
            "raw",
            "raw_claims",
            "raw_header",
            "post",
            "wrap",
        ];
        if let Some(other) = template.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(Unknown(format!("token member `{other}`")));
        }
        let text = |name: &str| template.get(name).and_then(Value::as_str);
        if let Some(raw) = text("raw") {
            return Ok(raw.to_owned());
        }
        let mut draft = self.draft(text("base").unwrap_or("new.access"))?;
        let whole = draft.header.clone();
        self.change(template, &mut draft)?;
        let post = text("post").unwrap_or_default();
        let mut header = Value::Object(draft.header.clone()).to_string();
        if post == "re-encode header with different whitespace, re-sign" {
            header = header.replace(':', " : ").replace(',', " ,\t");
        }
        if let Some(raw) = text("raw_header") {
            header = raw.to_owned();
        }
        let claims = match text("raw_claims") {
            Some(raw) => words::raw_claims(raw, &draft.claims)?,
            None => Value::Object(draft.claims.clone()).to_string(),
        };
        if let Some(words) = text("sign_with") {
            draft.signer = words::signer(words, self)?;
        } else if !draft.header.contains_key("jwk") || whole.contains_key("jwk") {
            self.choose_signer(&whole, &mut draft);
        }
        let sign = |input: &[u8]| draft.signer.sign(input);
        let mut token = compact(&header, &claims, sign);
        if let Some(words) = text("sig") {
            let before = Value::Object(whole).to_string();
            token = words::signature(words, self, &token, &before, &claims)?;
        }
        token.push_str(draft.tail);
        if let Some(words) = text("wrap") {
            token = words::wrap(words, self, &token, &claims)?;
        }
        words::post(post, self, &token)
    }

    /// A good token of this base, as another person than Alice or with other claims.
    pub(crate) fn good(&self, base: &str, set: &Value) -> String {
        let template = json!({ "base": base, "set": set });
        template
            .as_object()
            .and_then(|template| self.mint(template).ok())
            .expect("the bases of this file are known to it")
    }

    fn issuer(&self, name: &str) -> Option<&Issuer> {
        match name {
            "new" => Some(&self.ring.new),
            "old" => Some(&self.ring.old),
            "evil" => Some(&self.ring.evil),
            _ => None,
        }
    }

    fn change(&self, template: &Map<String, Value>, draft: &mut Draft<'_>) -> Result<(), Unknown> {
        let members = |name: &str| {
            template
                .get(name)
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
        };
        let names = |name: &str| {
            template
                .get(name)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
        };
        for (name, value) in members("set") {
            match words::value(value, self)? {
                Some(value) => draft.claims.insert(name.clone(), value),
                None => draft.claims.remove(name),
            };
        }
        for name in names("del") {
            draft.claims.remove(name);
        }
        for (name, value) in members("hdr") {
            match words::header_value(value, self)? {
                Some(value) => draft.header.insert(name.clone(), value),
                None => draft.header.remove(name),
            };
        }
        for name in names("hdr_del") {
            draft.header.remove(name);
        }
        Ok(())
    }

    /// The key that a careless validator would try: by algorithm, then by `kid`.
    fn choose_signer<'a>(&'a self, before: &Map<String, Value>, draft: &mut Draft<'a>) {
        let of = |map: &Map<String, Value>, name: &str| {
            map.get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (alg, kid) = (of(&draft.header, "alg"), of(&draft.header, "kid"));
        if alg == of(before, "alg") {
            return;
        }
        for issuer in [&self.ring.new, &self.ring.old] {
            if kid == issuer.ec_kid && !alg.starts_with("RS") {
                draft.signer = Signer::Ec(&issuer.ec);
            }
        }
    }

    fn draft(&self, base: &str) -> Result<Draft<'_>, Unknown> {
        let name = base.split(' ').next().unwrap_or_default();
        let unknown = || Unknown(format!("token base `{base}`"));
        let (whose, kind) = name.split_once('.').ok_or_else(unknown)?;
        let issuer = self.issuer(whose).ok_or_else(unknown)?;
        let audience = if whose == "old" { "legacy-app" } else { "app" };
        let subject = if whose == "old" {
            SUB_OLD_ALICE
        } else {
            "alice"
        };
        let iss = self.names.issuer(whose);
        let now = now();
        let jti = base64url(unique());
        let mut claims = json!({
            "iss": iss, "sub": subject, "aud": audience, "iat": now - 60, "exp": now + 300, "jti": jti,
            "preferred_username": "alice", "name": "Alice", "email": "alice@corp.test", "email_verified": true,
            "groups": ["users"],
        });
        let mut typ = "JWT";
        let mut tail = "";
        let mut also = |more: Value| {
            if let (Some(claims), Value::Object(more)) = (claims.as_object_mut(), more) {
                claims.extend(more);
            }
        };
        match kind {
            "access" => {
                typ = "at+jwt";
                also(json!({ "client_id": "app", "scope": "openid profile" }));
            }
            "id" => also(
                json!({ "nonce": "n-0S6_WzA2Mj", "at_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng", "auth_time": now, "azp": "app" }),
            ),
            "logout_token" => {
                typ = "logout+jwt";
                also(
                    json!({ "sid": "s1", "events": { "http://schemas.openid.net/event/backchannel-logout": {} } }),
                );
            }
            "client_assertion" => also(json!({ "sub": "app", "aud": [iss, "app"] })),
            "jarm_response" => also(json!({ "code": "c", "state": "s" })),
            "userinfo_jwt" => also(json!({ "updated_at": now })),
            "refresh_token_jwt" => {
                also(json!({ "typ": "Refresh", "client_id": "app", "scope": "openid" }))
            }
            "secevent" => {
                typ = "secevent+jwt";
                also(
                    json!({ "events": { "https://schemas.openid.net/secevent/risc/event-type/account-disabled": {} } }),
                );
            }
            "sd_jwt" => {
                typ = "dc+sd-jwt";
                tail = "~WyJzYWx0IiwiZ3JvdXBzIixbImFkbWlucyJdXQ~";
                also(json!({ "_sd_alg": "sha-256", "vct": "person" }));
            }
            "introspection_jwt" => {
                typ = "token-introspection+jwt";
                also(json!({ "token_introspection": { "active": true, "sub": "alice" } }));
            }
            "dpop_proof" => return Ok(self.dpop_proof(&jti)),
            "hs" => return Ok(hs(claims)),
            _ => return Err(unknown()),
        }
        Ok(Draft {
            header: object(json!({ "alg": "RS256", "typ": typ, "kid": issuer.rsa_kid })),
            claims: object(claims),
            signer: Signer::Rsa(&issuer.rsa),
            tail,
        })
    }

    fn dpop_proof(&self, jti: &str) -> Draft<'_> {
        let key = &self.ring.dpop;
        Draft {
            header: object(json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": key.bare_jwk() })),
            claims: object(
                json!({ "jti": jti, "htm": "GET", "htu": "https://app.test/api/x", "iat": now(),
                "ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo" }),
            ),
            signer: Signer::Ec(key),
            tail: "",
        }
    }
}

/// Alice's subject at the old provider.
pub(crate) const SUB_OLD_ALICE: &str = "old-4711";

fn hs(mut claims: Value) -> Draft<'static> {
    claims["client_id"] = json!("app");
    Draft {
        header: object(json!({ "alg": "HS256", "typ": "at+jwt" })),
        claims: object(claims),
        signer: Signer::Hmac(OLD_SECRET.as_bytes().to_vec()),
        tail: "",
    }
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

/// Sixteen random bytes.
pub(crate) fn unique() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the machine has randomness");
    bytes
}
