//! What stands in `Authorization`: a token in one of two schemes, or name and password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroize as _;

use crate::auth::cookies;
use crate::auth::error::AuthError;
use crate::auth::extract::Kind;
use crate::auth::extract::Scheme;
use crate::auth::extract::only;
use crate::auth::owners::Owners;
use crate::identity::CredentialClass;
use crate::identity::Refusal;

/// The longest token looked at, in bytes.
pub(super) const MAX_TOKEN: usize = 16 * 1024;
/// The longest `user:password`, in bytes.
const MAX_BASIC: usize = 1_024;

/// The credential of the field, if it has one that a route looks at, and how it was presented.
pub(super) fn authorization<'a>(
    headers: &'a HeaderMap,
    owners: &'a Owners,
    looks: &impl Fn(CredentialClass) -> bool,
) -> Result<Option<(Kind<'a>, Scheme)>, AuthError> {
    let token = looks(CredentialClass::Bearer) || looks(CredentialClass::Opaque);
    if !token && !looks(CredentialClass::Basic) {
        return Ok(None);
    }
    let Some(value) = only(headers, &AUTHORIZATION)? else {
        return Ok(None);
    };
    let end = value.iter().position(|byte| *byte == b' ');
    let (scheme, rest) = value.split_at(end.unwrap_or(value.len()));
    // Exactly one space: a second spelling of a token is a second key in whatever refuses tokens by their bytes.
    let rest = rest.get(1..).unwrap_or_default();
    let how = if scheme.eq_ignore_ascii_case(b"bearer") {
        Scheme::Bearer
    } else if scheme.eq_ignore_ascii_case(b"dpop") {
        Scheme::Dpop
    } else {
        Scheme::Other
    };
    if how != Scheme::Other {
        if token {
            Ok(bearer(rest, owners, looks)?.map(|kind| (kind, how)))
        } else {
            Ok(None)
        }
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        if looks(CredentialClass::Basic) {
            basic(rest, owners).map(|kind| Some((kind, how)))
        } else {
            Ok(None)
        }
    } else {
        Err(AuthError::Refused {
            refusal: Refusal::Unsupported,
            provider: None,
            class: None,
        })
    }
}

/// `b64token` of RFC 6750 §2.1. A token that a provider claims by prefix is opaque; what looks signed is never shown to
/// anybody but the issuer it names.
fn bearer<'a>(
    token: &'a [u8],
    owners: &'a Owners,
    looks: &impl Fn(CredentialClass) -> bool,
) -> Result<Option<Kind<'a>>, AuthError> {
    let bad = AuthError::unowned(Refusal::BadCredentials, CredentialClass::Bearer);
    if token.is_empty() || MAX_TOKEN < token.len() {
        return Err(bad);
    }
    let Some(token) = cookies::visible(token) else {
        return Err(bad);
    };
    if let Some(owner) = owners.of_prefix(token) {
        return Ok(looks(CredentialClass::Opaque).then_some(Kind::Opaque { token, owner }));
    }
    if looks_signed(token) {
        return Ok(looks(CredentialClass::Bearer).then_some(Kind::Bearer(token)));
    }
    if !looks(CredentialClass::Opaque) {
        // It stands where a signed token is expected.
        return Err(bad);
    }
    match owners.of_opaque() {
        Ok(owner) => Ok(Some(Kind::Opaque { token, owner })),
        Err(Refusal::Unsupported) => Err(bad),
        Err(refusal) => Err(AuthError::unowned(refusal, CredentialClass::Opaque)),
    }
}

/// Whether a token claims structure (RFC 7515 §7.1, RFC 7516 §7.1): base64url of `{"` and a dot, or three parts.
fn looks_signed(token: &str) -> bool {
    (token.starts_with("eyJ") && token.contains('.'))
        || (token.bytes().filter(|byte| *byte == b'.').count() == 2
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')))
}

/// RFC 7617 §2: base64 of `user-id:password`, without control characters. An empty password is never sent to a judge: a
/// directory would take it for an anonymous bind (RFC 4513 §5.1.2).
fn basic<'a>(encoded: &'a [u8], owners: &'a Owners) -> Result<Kind<'a>, AuthError> {
    let class = CredentialClass::Basic;
    let owner = owners
        .of_basic()
        .map_err(|refusal| AuthError::unowned(refusal, class))?;
    let encoded = std::str::from_utf8(encoded)
        .ok()
        .filter(|encoded| with_basic(encoded, |_, _| ()).is_some())
        .ok_or_else(|| AuthError::refused(Refusal::BadCredentials, owner.id(), class))?;
    Ok(Kind::Basic { encoded, owner })
}

/// Decodes on the stack and hands out name and password.
pub(super) fn with_basic<T>(encoded: &str, take: impl FnOnce(&str, &str) -> T) -> Option<T> {
    let mut buffer = [0; MAX_BASIC];
    let taken = STANDARD
        .decode_slice(encoded, &mut buffer)
        .ok()
        .and_then(|length| std::str::from_utf8(buffer.get(..length)?).ok())
        .and_then(|text| text.split_once(':'))
        .filter(|(name, password)| !name.is_empty() && !password.is_empty())
        .filter(|(name, password)| !name.chars().chain(password.chars()).any(char::is_control))
        .map(|(name, password)| take(name, password));
    buffer.zeroize();
    taken
}

/// A field is one credential, spelt in one way, or none. The bytes are the field. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(in crate::auth) fn promise(bytes: &[u8], owners: &Owners) {
    let Ok(value) = http::HeaderValue::from_bytes(bytes) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, value);
    let all = |_| true;
    if let Ok(found) = authorization(&headers, owners, &all) {
        // Every class is looked at, so a field that is taken is a credential.
        let Some((kind, how)) = found else {
            unreachable!("a field that is neither taken nor refused");
        };
        let (scheme, rest) = bytes.split_at(bytes.iter().position(|b| *b == b' ').unwrap_or(0));
        let rest = rest.strip_prefix(b" ").unwrap_or_default();
        let is = |word: &[u8]| scheme.eq_ignore_ascii_case(word);
        match kind {
            Kind::Bearer(token) | Kind::Opaque { token, .. } => {
                assert_eq!(token.as_bytes(), rest);
                assert!(!rest.is_empty() && rest.len() <= MAX_TOKEN);
                assert!(rest.iter().all(u8::is_ascii_graphic));
                assert!(is(if how == Scheme::Dpop {
                    b"dpop"
                } else {
                    b"bearer"
                }));
            }
            Kind::Basic { encoded, .. } => {
                assert!(is(b"basic") && how == Scheme::Other);
                assert_eq!(encoded.as_bytes(), rest);
                let joined = with_basic(encoded, |name, password| {
                    assert!(!name.is_empty() && !name.contains(':') && !password.is_empty());
                    let joined = format!("{name}:{password}");
                    assert!(joined.len() <= MAX_BASIC && !joined.chars().any(char::is_control));
                    STANDARD.encode(joined)
                });
                assert_eq!(joined.as_deref(), Some(encoded));
            }
            Kind::Ours { .. }
            | Kind::Cookie { .. }
            | Kind::ApiKey { .. }
            | Kind::Certificate { .. } => unreachable!("{kind:?} in Authorization"),
        }
    }
    // A second one, and be it the same, is no credential.
    if let Ok(value) = http::HeaderValue::from_bytes(bytes) {
        headers.append(AUTHORIZATION, value);
        assert!(authorization(&headers, owners, &all).is_err());
    }
}
