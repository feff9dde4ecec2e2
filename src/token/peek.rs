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
    pub(super) jws: Jws<'t>,
    pub(super) claims: ClaimMap,
}

impl Unverified<'_> {
    /// `iss`: a string that is not empty. For the choice of the judge: compare it byte for byte.
    pub fn issuer(&self) -> &str {
        self.claims.text("iss").unwrap_or_default()
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
    let claims = ClaimMap::new(json::object(&payload, &budget).map_err(malformed)?);
    match claims.text("iss") {
        Some(issuer) if !issuer.is_empty() => Ok(Unverified { jws, claims }),
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
        })
    }
}
