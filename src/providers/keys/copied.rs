//! When the kept copy of a provider's key set is too old, and the certificates in it end, for those who ask.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use crate::clock::UnixTime;
use crate::providers::client::Endpoint;
use crate::providers::keys::disk::DiskCopy;
use crate::providers::settings::Keys;
use crate::providers::settings::KindSettings;
use crate::providers::settings::Settings;

/// The copy of a key set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Copied {
    /// When it is too old to be believed, unless it is fetched again.
    pub(crate) until: UnixTime,
    /// The certificates of its keys (RFC 7517 §4.7), by `kid`, with their end.
    pub(crate) certificates: Vec<(String, UnixTime)>,
}

/// What is kept of the keys of a provider, if they are fetched and have been.
///
/// # Errors
///
/// When the copy cannot be read.
pub(crate) fn copied(
    settings: &Settings,
    state_dir: &Path,
    now: UnixTime,
) -> io::Result<Option<Copied>> {
    let (issuer, keys, verify) = match &settings.kind {
        KindSettings::Oidc(oidc) => (&oidc.issuer, &oidc.keys, &oidc.verify),
        KindSettings::Jwt(jwt) => (&jwt.issuer, &jwt.keys, &jwt.verify),
        KindSettings::Introspection(_)
        | KindSettings::SessionProbe(_)
        | KindSettings::Basic(_)
        | KindSettings::ApiKey(_)
        | KindSettings::ClientCert(_) => return Ok(None),
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(_) => return Ok(None),
    };
    let origin = match keys {
        Keys::Discovered => "discovered".to_owned(),
        Keys::Url(url) => match Endpoint::parse(url) {
            Ok(url) => url.to_string(),
            Err(_unusable) => return Ok(None),
        },
        Keys::File(_) | Keys::Inline(_) => return Ok(None),
    };
    let copy = DiskCopy::new(state_dir, &settings.id, issuer, &origin);
    Ok(copy.read(now)?.map(|(document, fetched)| Copied {
        until: fetched + verify.jwks_max_stale,
        certificates: certificates(&document),
    }))
}

/// What cannot be read says nothing about an end.
fn certificates(document: &str) -> Vec<(String, UnixTime)> {
    let Ok(set) = serde_json::from_str::<Value>(document) else {
        return Vec::new();
    };
    let keys = set.get("keys").and_then(Value::as_array);
    let end = |key: &Value| {
        let first = key.get("x5c")?.as_array()?.first()?.as_str()?;
        let der = STANDARD.decode(first).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let seconds = certificate.validity().not_after.timestamp();
        let kid = key.get("kid").and_then(Value::as_str).unwrap_or("none");
        let ends = UnixTime::from_secs(u64::try_from(seconds).unwrap_or(0));
        Some((kid.to_owned(), ends))
    };
    keys.into_iter().flatten().filter_map(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_a_key_tells_when_it_ends() {
        let mut params = rcgen::CertificateParams::new(vec!["idp.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let document = serde_json::json!({ "keys": [
            { "kid": "a", "x5c": [STANDARD.encode(der)] }, { "kid": "b" }, { "kid": "c", "x5c": ["!"] },
        ] });
        let ends = UnixTime::from_secs(1_893_456_000);
        assert_eq!(
            certificates(&document.to_string()),
            [("a".to_owned(), ends)]
        );
        assert!(certificates("no JSON").is_empty());
    }
}
