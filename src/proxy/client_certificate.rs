//! Which certificate the client of a request proved to hold: on the connection itself, or to a listed peer, which says so in
//! a header (RFC 9440, or `X-Forwarded-Client-Cert`). Nobody else's header is read, and none reaches an application.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::HeaderName;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::auth::ClientCertificate;
use crate::identity::Thumbprint;
use crate::proxy::canonical::BadRequest;
use crate::proxy::client_address::is_trusted;
use crate::proxy::conn::Conn;
use crate::proxy::settings::CertificateHeader;
use crate::proxy::settings::CertificateHeaders;

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// The most certificates of a chain.
const MAX_CHAIN: usize = 10;

/// The client's certificate. Where a listed peer connects, its own certificate is not the client's.
///
/// # Errors
///
/// [`BadRequest::Forwarding`], when a listed peer says something else than one certificate.
pub(crate) fn client_certificate(
    conn: &Conn,
    headers: &HeaderMap,
    believed: Option<&CertificateHeaders>,
) -> Result<Option<ClientCertificate>, BadRequest> {
    match believed {
        Some(believed) if is_trusted(conn.peer().ip(), &believed.from) => {
            said(headers, believed.format).ok_or(BadRequest::Forwarding)
        }
        Some(_) | None => Ok(conn.client_certificate().cloned()),
    }
}

/// What a listed peer says: `None` when that is nonsense, `Some(None)` when it says nothing.
fn said(headers: &HeaderMap, format: CertificateHeader) -> Option<Option<ClientCertificate>> {
    let name = match format {
        CertificateHeader::ClientCert => &CLIENT_CERT,
        CertificateHeader::Xfcc => &XFCC,
    };
    let mut values = headers.get_all(name).iter();
    let (Some(only), None) = (values.next(), values.next()) else {
        return (!headers.contains_key(name)).then_some(None);
    };
    let text = only.to_str().ok()?;
    match format {
        CertificateHeader::ClientCert => client_cert(text, headers),
        CertificateHeader::Xfcc => xfcc(text),
    }
    .map(Some)
}

/// RFC 9440 §2.1: one byte sequence (RFC 8941 §3.3.5), and the rest of the chain as a list of them.
fn client_cert(own: &str, headers: &HeaderMap) -> Option<ClientCertificate> {
    let mut chain = vec![sequence(own)?];
    for line in headers.get_all(CLIENT_CERT_CHAIN) {
        for item in line.to_str().ok()?.split(',') {
            chain.push(sequence(item.trim_matches([' ', '\t']))?);
            if MAX_CHAIN < chain.len() {
                return None;
            }
        }
    }
    ClientCertificate::of(chain)
}

fn sequence(item: &str) -> Option<Vec<u8>> {
    let inner = item.strip_prefix(':')?.strip_suffix(':')?;
    let bytes = STANDARD.decode(inner).ok()?;
    (!bytes.is_empty()).then_some(bytes)
}

/// One element of Envoy's header: more are the words of hops before the listed peer, or of the client. `Hash` and `Cert`
/// count, once each; names are not believed, because nothing proves that they are the certificate's.
fn xfcc(text: &str) -> Option<ClientCertificate> {
    let (mut hash, mut certificate) = (None, None);
    for pair in pairs(text)? {
        let (name, value) = pair.split_once('=')?;
        let value = value
            .strip_prefix('"')
            .map_or(Some(value), |value| value.strip_suffix('"'))?;
        let twice = match name.trim_ascii().to_ascii_lowercase().as_str() {
            "hash" => hash.replace(unhex(value)?).is_some(),
            "cert" => certificate.replace(unescaped(value)?).is_some(),
            _ => false,
        };
        if twice {
            return None;
        }
    }
    let Some(pem) = certificate else {
        return hash.map(ClientCertificate::known_by);
    };
    let own = CertificateDer::from_pem_slice(&pem).ok()?;
    let own = ClientCertificate::of(vec![own.to_vec()])?;
    hash.is_none_or(|hash| hash == own.thumbprint())
        .then_some(own)
}

/// The pairs of the only element. Separators within quotes separate nothing.
fn pairs(text: &str) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    let mut pairs = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return None,
            b';' if !quoted => {
                pairs.push(text.get(start..at)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    pairs.push(text.get(start..)?);
    (!quoted).then_some(pairs)
}

fn unhex(text: &str) -> Option<Thumbprint> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Thumbprint(bytes))
}

fn unescaped(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        rest = after;
        let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
        out.push(u8::try_from(high? * 16 + low?).ok()?);
    }
    Some(Cow::Owned(out))
}

/// A listed peer says one certificate or none, and what others said before it counts for nothing. Fields, one a line.
#[cfg(any(test, fuzzing))]
pub(crate) fn promise(bytes: &[u8]) {
    let headers = crate::proxy::promises::fields(&mut bytes.split(|byte| *byte == b'\n'));
    for (name, format, other) in [
        (CLIENT_CERT, CertificateHeader::ClientCert, ", :AQ==:"),
        (XFCC, CertificateHeader::Xfcc, ",By=a"),
    ] {
        let values: Vec<_> = headers.get_all(&name).iter().collect();
        let Some(found) = said(&headers, format) else {
            continue;
        };
        let Some(found) = found else {
            assert!(values.is_empty());
            continue;
        };
        let [only] = values.as_slice() else {
            unreachable!("one of {} counts", values.len());
        };
        assert!(found.chain().len() <= MAX_CHAIN);
        if let (CertificateHeader::ClientCert, Some(own)) = (format, found.chain().first()) {
            // Another spelling of a certificate is none.
            assert_eq!(
                format!(":{}:", STANDARD.encode(own)),
                only.to_str().unwrap_or_default()
            );
        }
        let mut more = headers.clone();
        let value = [only.as_bytes(), other.as_bytes()].concat();
        if let Ok(value) = http::HeaderValue::from_bytes(&value) {
            more.insert(&name, value);
            assert!(said(&more, format).is_none());
        }
        more.append(&name, http::HeaderValue::from_static("x"));
        assert!(said(&more, format).is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn of(format: CertificateHeader, fields: &[(HeaderName, &str)]) -> Option<Option<String>> {
        let found = said(&headers(fields), format)?;
        Some(found.map(|own| format!("{} {}", own.thumbprint(), own.chain().len())))
    }

    const AA: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const AA_64: &str = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo";

    #[test]
    fn a_certificate_stands_in_its_header() {
        let one = [(CLIENT_CERT, ":AQID:")];
        let is = |fields: &[_]| of(CertificateHeader::ClientCert, fields);
        assert!(is(&one).unwrap().unwrap().ends_with(" 1"));
        assert_eq!(is(&[]), Some(None));
        let chain = [
            (CLIENT_CERT, ":AQID:"),
            (CLIENT_CERT_CHAIN, ":AQ==:, :Ag==:"),
        ];
        assert!(is(&chain).unwrap().unwrap().ends_with(" 3"));
        for bad in ["", "AQID", ":AQID", "::", ":AQ:", ":AQID:, :AQID:", ":A Q:"] {
            assert_eq!(is(&[(CLIENT_CERT, bad)]), None, "{bad}");
        }
        assert_eq!(is(&[one[0].clone(), one[0].clone()]), None);
        let long = [":AQ==:"; MAX_CHAIN].join(", ");
        let bad = [(CLIENT_CERT, ":AQID:"), (CLIENT_CERT_CHAIN, &*long)];
        assert_eq!(is(&bad), None);
        // The other format says nothing.
        assert_eq!(is(&[(XFCC, "Hash=00")]), Some(None));
    }

    #[test]
    fn one_element_says_one_certificate() {
        let is = |text: &str| of(CertificateHeader::Xfcc, &[(XFCC, text)]);
        let known = Some(Some(format!("{AA_64} 0")));
        assert_eq!(is(&format!("Hash={AA}")), known);
        let quoted = format!("By=spiffe://x;Hash={AA};Subject=\"CN=a,O=\\\"b;c\\\"\";URI=");
        assert_eq!(is(&quoted), known);
        assert_eq!(is(&format!("hash=\"{}\"", AA.to_uppercase())), known);
        for bad in [
            String::new(),
            "Hash=aa".to_owned(),
            "Subject=\"CN=admin\"".to_owned(),
            format!("Hash={AA},Hash={AA}"),
            format!("Hash={AA};Hash={AA}"),
            format!("Hash={AA},"),
            format!("Hash={AA};Subject=\"CN=a"),
            format!("Hash={AA};Cert=\"x\""),
            format!("Hash={AA}0"),
            AA.to_owned(),
        ] {
            assert_eq!(is(&bad), None, "{bad}");
        }
        let twice = [(XFCC, "Hash=aa"), (XFCC, "Hash=bb")];
        assert_eq!(of(CertificateHeader::Xfcc, &twice), None);
    }

    #[test]
    fn a_hash_must_be_that_of_its_certificate() {
        let signed = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let escaped: String = signed
            .cert
            .pem()
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let own = ClientCertificate::of(vec![signed.cert.der().to_vec()]).unwrap();
        let hex: String = own
            .thumbprint()
            .0
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let is = |text: &str| of(CertificateHeader::Xfcc, &[(XFCC, text)]);
        let expected = Some(Some(format!("{} 1", own.thumbprint())));
        assert_eq!(is(&format!("Cert=\"{escaped}\"")), expected);
        assert_eq!(is(&format!("Hash={hex};Cert=\"{escaped}\"")), expected);
        assert_eq!(is(&format!("Hash={AA};Cert=\"{escaped}\"")), None);
    }
}
