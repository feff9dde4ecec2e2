//! A strict, bounded look at a token before anyone judges it: it chooses the judge, and nothing else.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Value;

use crate::identity::ClaimMap;
use crate::identity::Refusal;
use crate::token::algorithm::Algorithm;
use crate::token::json;
use crate::token::json::Bounded;
use crate::token::json::Budget;
use crate::token::json::Text;

/// The longest token, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// The longest `kid`, in bytes.
pub(super) const MAX_KID_BYTES: usize = 512;

/// The most JSON members of header and claims together.
pub(super) const MAX_MEMBERS: usize = 1_000;

/// What a token says about itself, parsed once. Nothing here is true before [`crate::token::verify`] has taken it.
///
/// Borrows the text of the token: the signed part of it is not copied.
#[derive(Clone)]
pub struct Unverified<'t> {
    pub(super) text: &'t str,
    pub(super) jws: Jws<'t>,
    pub(super) claims: ClaimMap,
}

impl<'t> Unverified<'t> {
    /// The token as it was sent.
    pub const fn text(&self) -> &'t str {
        self.text
    }

    /// `iss`: a string that is not empty. For the choice of the judge: compare it byte for byte.
    pub fn issuer(&self) -> &str {
        self.claims.text("iss").unwrap_or_default()
    }

    /// Whether `aud` names somebody: of a token that has been judged.
    pub fn is_for(&self, name: &str) -> bool {
        match self.claims.member("aud") {
            Some(Value::String(only)) => only == name,
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(name)),
            Some(_) | None => false,
        }
    }

    /// Whether `aud` names nobody but those: of a token that has been judged.
    pub fn is_only_for(&self, known: &dyn Fn(&str) -> bool) -> bool {
        match self.claims.member("aud") {
            Some(Value::String(only)) => known(only),
            Some(Value::Array(all)) => all.iter().all(|one| one.as_str().is_some_and(known)),
            Some(_) | None => false,
        }
    }

    /// `exp`, in seconds since 1970: of a token of ours, to say when it will be over.
    pub fn claimed_end(&self) -> Option<u64> {
        self.claims.member("exp")?.as_u64()
    }

    /// `iat`, in seconds since 1970: to compare clocks, and nothing else.
    pub fn claimed_begin(&self) -> Option<u64> {
        self.claims.member("iat")?.as_u64()
    }

    /// `alg`.
    pub const fn algorithm(&self) -> Algorithm {
        self.jws.header.algorithm
    }

    /// `kid`, at most 512 bytes.
    pub fn kid(&self) -> Option<&str> {
        self.jws.header.kid.as_deref()
    }
}

impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified")
            .field("header", &self.jws.header)
            .finish_non_exhaustive()
    }
}

/// Reads header and claims without believing them: three parts, canonical base64url, at most 16 KiB, JSON depth 16,
/// 1 000 members, no duplicate member at any depth, no `crit`, no `b64`, a known `alg`, an `iss`.
///
/// `jwk`, `jku`, `x5c` and `x5u` are read over: a token does not say which key made it (RFC 8725 §3.10).
///
/// # Errors
///
/// What cannot be a token of anyone.
pub fn peek(token: &str) -> Result<Unverified<'_>, Refusal> {
    let budget = Budget::new(MAX_MEMBERS);
    let (jws, payload) = Jws::split(token, &budget)?;
    let claims = json::claims(&payload, &budget).map_err(malformed)?;
    match claims.text("iss") {
        Some(issuer) if !issuer.is_empty() => Ok(Unverified {
            text: token,
            jws,
            claims,
        }),
        _ => Err(Refusal::WrongIssuer),
    }
}

/// A compact JWS (RFC 7515 §7.1) whose signature nobody has looked at.
#[derive(Clone, Debug)]
pub(super) struct Jws<'t> {
    /// What is signed: header, dot, payload, as sent.
    pub(super) signing_input: &'t str,
    /// The signature, decoded; not empty.
    pub(super) signature: Vec<u8>,
    /// The header.
    pub(super) header: Header,
}

impl<'t> Jws<'t> {
    /// Takes a token apart; the payload comes decoded.
    pub(super) fn split(token: &'t str, budget: &Budget) -> Result<(Self, Vec<u8>), Refusal> {
        if MAX_BYTES < token.len() {
            return Err(Refusal::BadCredentials);
        }
        // More than three parts leave a dot in the payload, which is no base64url.
        let (signing_input, signature) = token.rsplit_once('.').ok_or(Refusal::BadCredentials)?;
        let (header, payload) = signing_input
            .split_once('.')
            .ok_or(Refusal::BadCredentials)?;
        let signature = decode(signature)?;
        if signature.is_empty() {
            return Err(Refusal::BadCredentials);
        }
        let header = json::read(&decode(header)?, HeaderOf(budget)).map_err(malformed)?;
        let jws = Self {
            signing_input,
            signature,
            header,
        };
        Ok((jws, decode(payload)?))
    }
}

/// Canonical base64url: no padding, no white space, no stray bits in the last letter. Another spelling of the same token
/// would escape whoever remembers tokens by their bytes.
fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(malformed)
}

/// The cause would tell an attacker where the parser stands, and an operator nothing that the token does not show.
fn malformed<E>(_cause: E) -> Refusal {
    Refusal::BadCredentials
}

/// What counts of a JOSE header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// `alg`.
    pub(super) algorithm: Algorithm,
    /// `kid`.
    pub(super) kid: Option<Box<str>>,
    /// `typ`.
    pub(super) typ: Typ,
    /// `jwk`: who made a proof says with which key. Nobody else looks at it (RFC 8725 §3.10).
    pub(super) jwk: Option<Value>,
}

/// `typ` (RFC 7515 §4.1.9, RFC 8725 §3.11): media types, so without regard to case and to `application/`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Typ {
    /// No `typ`.
    Absent,
    /// `JWT` (RFC 7519 §5.1).
    Jwt,
    /// `at+jwt` (RFC 9068 §2.1).
    AccessToken,
    /// `logout+jwt` (OpenID Connect Back-Channel Logout 1.0 §2.4).
    LogoutToken,
    /// `dpop+jwt` (RFC 9449 §4.2).
    DpopProof,
    /// Anything else.
    Other,
}

impl Typ {
    fn parse(text: &str) -> Self {
        const PREFIX: &str = "application/";
        let short = match text.split_at_checked(PREFIX.len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
            _ => text,
        };
        [
            ("jwt", Self::Jwt),
            ("at+jwt", Self::AccessToken),
            ("logout+jwt", Self::LogoutToken),
            ("dpop+jwt", Self::DpopProof),
        ]
        .into_iter()
        .find(|(name, _)| short.eq_ignore_ascii_case(name))
        .map_or(Self::Other, |(_, typ)| typ)
    }
}

/// Reads a header without building a map of what is not needed.
struct HeaderOf<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for HeaderOf<'_> {
    type Value = Header;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderOf<'_> {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JOSE header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Header, A::Error> {
        let twice = || A::Error::custom("a member occurs twice");
        let inner = Bounded::new(self.0).inner()?;
        let (mut algorithm, mut kid, mut typ) = (None, None, None);
        let mut others = Map::new();
        while let Some(Text(name)) = members.next_key()? {
            self.0.spend()?;
            match &*name {
                "alg" => {
                    let Text(name) = members.next_value()?;
                    let known = Algorithm::parse(&name)
                        .ok_or_else(|| A::Error::custom("unknown algorithm"))?;
                    if algorithm.replace(known).is_some() {
                        return Err(twice());
                    }
                }
                "kid" => {
                    let Text(text) = members.next_value()?;
                    if MAX_KID_BYTES < text.len() {
                        return Err(A::Error::custom("kid is too long"));
                    }
                    if kid.replace(text.into()).is_some() {
                        return Err(twice());
                    }
                }
                "typ" => {
                    let Text(text) = members.next_value()?;
                    if typ.replace(Typ::parse(&text)).is_some() {
                        return Err(twice());
                    }
                }
                // RFC 7515 §4.1.11: what must be understood and is not. We understand no extension.
                "crit" => return Err(A::Error::custom("crit")),
                // RFC 7797: the payload would not be what is signed.
                "b64" => return Err(A::Error::custom("b64")),
                _ => {
                    let value = members.next_value_seed(inner)?;
                    if others.insert(name.into_owned(), value).is_some() {
                        return Err(twice());
                    }
                }
            }
        }
        Ok(Header {
            algorithm: algorithm.ok_or_else(|| A::Error::missing_field("alg"))?,
            kid,
            typ: typ.unwrap_or(Typ::Absent),
            jwk: others.remove("jwk"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::forge::b64;
    use proptest::prelude::*;

    const HEADER: &str = r#"{"alg":"ES256","kid":"k","typ":"at+jwt"}"#;
    const CLAIMS: &str = r#"{"iss":"https://idp","sub":"alice"}"#;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.{}", b64(header), b64(claims), b64("sig"))
    }

    #[track_caller]
    fn refuses(token: &str) {
        assert!(peek(token).is_err(), "{token}");
    }

    #[test]
    fn shows_issuer_algorithm_and_key() {
        let token = token(HEADER, CLAIMS);
        let seen = peek(&token).unwrap();
        assert_eq!(seen.issuer(), "https://idp");
        assert_eq!(seen.algorithm(), Algorithm::Es256);
        assert_eq!(seen.kid(), Some("k"));
    }

    #[test]
    fn takes_escapes_and_white_space_of_json() {
        let token = token(
            "\n{ \"\\u0061lg\" : \"ES\\u003256\" , \"x\":{\"y\":[1]} }\t",
            r#" {"\u0069ss":"https:\/\/idp"} "#,
        );
        let seen = peek(&token).unwrap();
        assert_eq!(
            (seen.issuer(), seen.algorithm(), seen.kid()),
            ("https://idp", Algorithm::Es256, None)
        );
    }

    #[test]
    fn takes_exactly_three_parts() {
        let good = token(HEADER, CLAIMS);
        assert!(peek(&good).is_ok());
        let (header, claims) = (b64(HEADER), b64(CLAIMS));
        for bad in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "....".to_owned(),
            header.clone(),
            format!("{header}.{claims}"),
            format!("{header}.{claims}."),
            format!("{header}..c2ln"),
            format!(".{claims}.c2ln"),
            format!("{good}."),
            format!("{good}.c2ln"),
            format!("{good}.c2ln.c2ln"),
            format!(".{good}"),
        ] {
            refuses(&bad);
        }
    }

    #[test]
    fn takes_one_spelling_only() {
        let good = token(HEADER, CLAIMS);
        for bad in [
            format!("{good}="),
            format!("{good}=="),
            format!("{good}\n"),
            format!(" {good}"),
            format!("{good} "),
            format!("{good},Bearer x"),
            good.replace('.', "\u{ff0e}"),
            good.replacen('.', "=.", 1),
            good.replacen('.', ".\n", 1),
            good.replacen('.', "%2E", 1),
            format!("{{\"payload\":\"{}\"}}", b64(CLAIMS)),
        ] {
            refuses(&bad);
        }
        // `c2ln` has no spare bits; `c2k` has two, `c2l` sets one of them.
        let with = |signature: &str| format!("{}.{}.{signature}", b64(HEADER), b64(CLAIMS));
        assert!(peek(&with("c2k")).is_ok());
        refuses(&with("c2l"));
        // The other alphabet.
        assert!(peek(&with("-_-_")).is_ok());
        refuses(&with("+/+/"));
    }

    #[test]
    fn a_header_may_demand_nothing() {
        for header in [
            r#"{"alg":"ES256","crit":["exp"]}"#,
            r#"{"alg":"ES256","crit":[]}"#,
            r#"{"alg":"ES256","crit":null}"#,
            r#"{"alg":"ES256","cr\u0069t":["b64"],"b64":false}"#,
            r#"{"alg":"ES256","b64":false}"#,
            r#"{"alg":"ES256","b64":true}"#,
        ] {
            refuses(&token(header, CLAIMS));
        }
    }

    #[test]
    fn a_header_names_a_known_algorithm_once() {
        for header in [
            "{}",
            "[]",
            "null",
            r#""alg""#,
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"nOnE","kid":"k"}"#,
            r#"{"alg":""}"#,
            r#"{"alg":null}"#,
            r#"{"alg":["ES256"]}"#,
            r#"{"alg":256}"#,
            r#"{"Alg":"ES256"}"#,
            r#"{"alg":"ES256","alg":"ES256"}"#,
            r#"{"alg":"none","alg":"ES256"}"#,
            r#"{"alg":"ES256","\u0061lg":"HS256"}"#,
            r#"{"alg":"ES256","kid":"a","kid":"b"}"#,
            r#"{"alg":"ES256","kid":1}"#,
            r#"{"alg":"ES256","kid":null}"#,
            r#"{"alg":"ES256","typ":"JWT","typ":"at+jwt"}"#,
            r#"{"alg":"ES256","typ":["at+jwt"]}"#,
            r#"{"alg":"ES256","x":1,"x":1}"#,
            r#"{"alg":"ES256","jwk":{"kty":"EC","kty":"RSA"}}"#,
            r#"{"alg":"ES256"}{}"#,
            r#"{"alg":"ES256"} x"#,
        ] {
            refuses(&token(header, CLAIMS));
        }
        let kid = |bytes: usize| format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(bytes));
        assert!(peek(&token(&kid(512), CLAIMS)).is_ok());
        refuses(&token(&kid(513), CLAIMS));
    }

    #[test]
    fn an_issuer_is_a_string_with_something_in_it() {
        for claims in [
            r#"{"iss":""}"#,
            r#"{"iss":1}"#,
            r#"{"iss":{}}"#,
            r#"{"iss":["https://idp"]}"#,
            r#"{"iss":["https://evil","https://idp"]}"#,
            r#"{"iss":null}"#,
            r#"{"sub":"alice"}"#,
            r#"{"Iss":"https://idp"}"#,
        ] {
            assert_eq!(
                peek(&token(HEADER, claims)).err(),
                Some(Refusal::WrongIssuer),
                "{claims}"
            );
        }
    }

    #[test]
    fn claims_are_one_object_without_a_member_twice() {
        for claims in [
            "",
            "[]",
            "foo",
            r#""iss""#,
            r#"{"iss":"a"}{"iss":"b"}"#,
            r#"{"iss":"a","iss":"a"}"#,
            r#"{"iss":"a","\u0069ss":"b"}"#,
            r#"{"iss":"a","sub":"alice","\u0073ub":"admin"}"#,
            r#"{"iss":"a","x":{"y":{"z":1,"z":2}}}"#,
            r#"{"iss":"a","x":[{"z":1,"z":2}]}"#,
        ] {
            refuses(&token(HEADER, claims));
        }
        let bytes = [br#"{"iss":"a","x":""#.as_slice(), &[0xff], b"\"}"].concat();
        refuses(&format!("{}.{}.c2ln", b64(HEADER), b64(bytes)));
    }

    #[test]
    fn is_bounded() {
        let claims = |fill: usize| format!(r#"{{"iss":"a","x":"{}"}}"#, "x".repeat(fill));
        let room = MAX_BYTES - token(HEADER, &claims(0)).len();
        assert!(peek(&token(HEADER, &claims(room * 3 / 4 - 3))).is_ok());
        refuses(&token(HEADER, &claims(room * 3 / 4 + 3)));

        let deep = |depth: usize| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"iss":"a","x":{open}{close}}}"#)
        };
        assert!(peek(&token(HEADER, &deep(15))).is_ok());
        refuses(&token(HEADER, &deep(16)));

        // Header and claims share one budget: 3 + 997.
        let wide = |members: usize| {
            let members: String = (1..members).map(|n| format!(",\"{n}\":0")).collect();
            format!(r#"{{"iss":"a"{members}}}"#)
        };
        assert!(peek(&token(HEADER, &wide(997))).is_ok());
        refuses(&token(HEADER, &wide(998)));
    }

    #[test]
    fn a_type_is_read_like_a_media_type() {
        for (text, typ) in [
            ("JWT", Typ::Jwt),
            ("jwt", Typ::Jwt),
            ("application/JWT", Typ::Jwt),
            ("at+jwt", Typ::AccessToken),
            ("AT+JWT", Typ::AccessToken),
            ("Application/at+jwt", Typ::AccessToken),
            ("logout+jwt", Typ::LogoutToken),
            ("", Typ::Other),
            ("at+jwt ", Typ::Other),
            ("dpop+jwt", Typ::DpopProof),
            ("dpop", Typ::Other),
            ("application/", Typ::Other),
            ("application/application/at+jwt", Typ::Other),
            ("aţ+jwt", Typ::Other),
        ] {
            assert_eq!(Typ::parse(text), typ, "{text}");
        }
    }

    #[test]
    fn debug_shows_no_claim() {
        let token = token(HEADER, CLAIMS);
        assert!(!format!("{:?}", peek(&token).unwrap()).contains("alice"));
    }

    proptest! {
        /// Whatever comes, the answer is a refusal, not a panic.
        #[test]
        fn no_text_is_too_strange(text in ".{0,200}") {
            prop_assert!(peek(&text).is_err());
        }

        /// Parts that decode are met by the JSON reader.
        #[test]
        fn no_bytes_are_too_strange(
            header in prop::collection::vec(any::<u8>(), 0..80),
            claims in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let text = format!("{}.{}.c2ln", b64(header), b64(claims));
            prop_assert!(peek(&text).is_err());
        }

        /// JSON of JSON's own letters comes further than noise does.
        #[test]
        fn no_json_is_too_strange(claims in r#"[{}\[\]",:0-9aeilnrstu\\ .-]{0,60}"#) {
            let text = token(HEADER, &format!(r#"{{"iss":"a",{claims}}}"#));
            if let Ok(seen) = peek(&text) {
                prop_assert_eq!(seen.issuer(), "a");
            }
        }
    }
}
