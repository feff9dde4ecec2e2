//! Certificates of TLS clients: by which authority, and whose.
//!
//! The connection has proved that the client holds the key. Here the chain is judged once more, by the authorities of this
//! provider alone: a listener may trust others too, and a listed peer only says what it saw.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::UnixTime as RustlsTime;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use serde_json::Map;
use serde_json::Value;
use tokio::runtime::Handle;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::Credential;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::settings::CertificateName;
use crate::providers::settings::ClientCert;
use crate::providers::settings::Settings;
use crate::providers::vouch::Voucher;
use crate::providers::watched::Watched;

/// How long a verdict may be kept: the file is watched, and a change raises the epoch.
const KEEP: Duration = Duration::from_secs(300);

/// A provider whose people and programs are known by their certificates.
#[derive(Debug)]
pub(super) struct ClientCertProvider {
    settings: Settings,
    epoch: Epoch,
    voucher: Voucher,
    subject: CertificateName,
    authorities: Watched<Authorities>,
}

/// The authorities, as the file says now.
#[derive(Debug)]
struct Authorities(Arc<dyn ClientCertVerifier>);

impl ClientCertProvider {
    /// Reads the file and goes on watching it.
    pub(super) fn new(settings: Settings, own: &ClientCert, background: &Handle) -> Self {
        let epoch = Epoch::default();
        Self {
            voucher: Voucher::new(&settings, &own.issuer),
            authorities: Watched::start(&own.ca, authorities, epoch.clone(), background),
            subject: own.subject,
            settings,
            epoch,
        }
    }

    fn judge(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let Credential::ClientCert(chain) = credential else {
            return Err(Refusal::Unsupported.into());
        };
        let (own, rest) = chain.split_first().ok_or(Refusal::BadCredentials)?;
        let Some(authorities) = self.authorities.content() else {
            return Err(Outage::KeysUnavailable.into());
        };
        let rest: Vec<CertificateDer<'_>> = rest.iter().map(|der| der.as_slice().into()).collect();
        let moment = RustlsTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        authorities
            .0
            .verify_client_cert(&own.as_slice().into(), &rest, moment)
            .map_err(|error| refusal(&error))?;
        let (_, certificate) = X509Certificate::from_der(own).or(Err(Refusal::BadCredentials))?;
        let names = Names::of(&certificate).ok_or(Refusal::BadCredentials)?;
        let subject = names.only(self.subject).ok_or(Refusal::BadCredentials)?;
        let ends = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        let expires = UnixTime::from_secs(ends).min(now + KEEP);
        Ok(self
            .voucher
            .vouch(subject, &names.claims(subject), expires)?)
    }
}

fn authorities(pem: &str) -> Result<Authorities, String> {
    let bytes = pem.as_bytes();
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let certificates = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| words(&error))?;
    let lists = CertificateRevocationListDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| words(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| words(&error))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls(lists)
        .only_check_end_entity_revocation()
        .enforce_revocation_expiration()
        .build()
        .map(Authorities)
        .map_err(|error| words(&error))
}

/// What the authorities say, in our words.
fn refusal(error: &rustls::Error) -> Refusal {
    use rustls::CertificateError;
    let rustls::Error::InvalidCertificate(why) = error else {
        return Refusal::BadCredentials;
    };
    match why {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Refusal::Expired,
        CertificateError::Revoked => Refusal::Revoked,
        CertificateError::BadSignature => Refusal::BadSignature,
        CertificateError::UnknownIssuer => Refusal::WrongIssuer,
        _ => Refusal::BadCredentials,
    }
}

/// The names of a certificate, by type: a name of one type is never a name of another.
#[derive(Debug, Default)]
struct Names {
    dns: Vec<String>,
    uri: Vec<String>,
    email: Vec<String>,
    common: Vec<String>,
    unit: Vec<String>,
}

impl Names {
    /// `None`: a name is no printable text, or cannot be read at all.
    fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let mut names = Self::default();
        let alternative = certificate.subject_alternative_name().ok()?;
        for name in alternative
            .iter()
            .flat_map(|names| &names.value.general_names)
        {
            match name {
                GeneralName::DNSName(name) => names.dns.push(plain(name)?.to_ascii_lowercase()),
                GeneralName::URI(name) => names.uri.push(plain(name)?),
                GeneralName::RFC822Name(name) => names.email.push(plain(name)?),
                _ => {}
            }
        }
        for attribute in certificate.subject().iter_common_name() {
            names.common.push(text(attribute.as_str().ok()?)?);
        }
        for attribute in certificate.subject().iter_organizational_unit() {
            names.unit.push(text(attribute.as_str().ok()?)?);
        }
        Some(names)
    }

    /// The only name of a type.
    fn only(&self, kind: CertificateName) -> Option<&str> {
        let names = match kind {
            CertificateName::Dns => &self.dns,
            CertificateName::Uri => &self.uri,
            CertificateName::Email => &self.email,
            CertificateName::CommonName => &self.common,
        };
        match names.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    fn claims(&self, subject: &str) -> ClaimMap {
        let list = |names: &[String]| Value::from(names.to_vec());
        ClaimMap::new(Map::from_iter([
            ("subject".to_owned(), Value::from(subject)),
            ("san_dns".to_owned(), list(&self.dns)),
            ("san_uri".to_owned(), list(&self.uri)),
            ("san_email".to_owned(), list(&self.email)),
            ("common_name".to_owned(), list(&self.common)),
            ("organizational_unit".to_owned(), list(&self.unit)),
        ]))
    }
}

/// Visible ASCII, as IA5String names are.
fn plain(name: &str) -> Option<String> {
    let visible = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    visible.then(|| name.to_owned())
}

/// A name for people: without control characters.
fn text(name: &str) -> Option<String> {
    let good = !name.is_empty() && !name.chars().any(char::is_control);
    good.then(|| name.to_owned())
}

#[async_trait]
impl Provider for ClientCertProvider {
    fn id(&self) -> &ProviderId {
        &self.settings.id
    }

    fn owns(&self) -> &Owns {
        &self.settings.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    fn judge_locally(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        Some(self.judge(credential, now))
    }

    async fn authenticate(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        self.judge(credential, now)
    }

    fn health(&self) -> Health {
        Health {
            usable: self.authorities.usable(),
            down_since: None,
            problem: self.authorities.problem(),
        }
    }

    fn file_is_good(&self) -> Option<bool> {
        Some(self.authorities.is_good())
    }
}

/// What cannot be read as one name of its type is none; the bytes are a certificate, or are laid over one.
#[cfg(any(test, fuzzing))]
pub(crate) fn promise(bytes: &[u8]) {
    const OWN: &[u8] = include_bytes!("../../fuzz/corpus/certificate_names/example");
    let mut laid = OWN.to_vec();
    for (byte, over) in laid.iter_mut().zip(bytes) {
        *byte ^= over;
    }
    for der in [bytes, &laid] {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            continue;
        };
        let Some(names) = Names::of(&certificate) else {
            continue;
        };
        for name in names.uri.iter().chain(&names.email).chain(&names.dns) {
            assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        assert!(
            names
                .dns
                .iter()
                .all(|name| *name == name.to_ascii_lowercase())
        );
        for name in names.common.iter().chain(&names.unit) {
            assert!(!name.is_empty() && !name.chars().any(char::is_control));
        }
        for (kind, of_it) in [
            (CertificateName::Dns, &names.dns),
            (CertificateName::Uri, &names.uri),
            (CertificateName::Email, &names.email),
            (CertificateName::CommonName, &names.common),
        ] {
            match (names.only(kind), of_it.as_slice()) {
                (Some(only), [one]) => assert_eq!(only, one),
                (None, [] | [_, _, ..]) => {}
                (only, all) => unreachable!("{only:?} of {all:?}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Issuer;
    use crate::providers::settings::Assurance;
    use crate::providers::settings::Client;
    use crate::providers::settings::KindSettings;
    use rcgen::BasicConstraints;
    use rcgen::CertificateParams;
    use rcgen::CertificateRevocationListParams;
    use rcgen::CertifiedIssuer;
    use rcgen::DnType;
    use rcgen::ExtendedKeyUsagePurpose;
    use rcgen::IsCa;
    use rcgen::KeyIdMethod;
    use rcgen::KeyPair;
    use rcgen::KeyUsagePurpose;
    use rcgen::RevokedCertParams;
    use rcgen::SanType;
    use rcgen::SerialNumber;
    use rcgen::date_time_ymd;
    use tempfile::TempDir;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn params(names: &[SanType]) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from(7_u64));
        params
    }

    fn signed(params: &CertificateParams, by: &Authority) -> Credential {
        let own = params.signed_by(&KeyPair::generate().unwrap(), by).unwrap();
        Credential::ClientCert(Arc::from([own.der().to_vec()]))
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().unwrap())
    }

    struct Fixture {
        authority: Authority,
        provider: ClientCertProvider,
        _dir: TempDir,
    }

    fn fixture(subject: CertificateName, more: impl Fn(&Authority) -> String) -> Fixture {
        let (authority, dir) = (authority("ours"), TempDir::new().unwrap());
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, authority.pem() + &more(&authority)).unwrap();
        let issuer = Issuer::new("urn:machines");
        let own = ClientCert {
            issuer,
            ca,
            subject,
        };
        let settings = Settings {
            id: ProviderId::new("machines"),
            owns: Owns {
                client_cert: true,
                ..Owns::default()
            },
            claims: Vec::new(),
            email_domains: Vec::new(),
            assurance: Assurance::default(),
            client: Client::for_test(),
            kind: KindSettings::ClientCert(own.clone()),
        };
        Fixture {
            provider: ClientCertProvider::new(settings, &own, &Handle::current()),
            authority,
            _dir: dir,
        }
    }

    fn judged(fixture: &Fixture, params: &CertificateParams) -> Result<String, ProviderError> {
        let proof = fixture
            .provider
            .judge(&signed(params, &fixture.authority), NOW)?;
        Ok(proof.identity().key.subject.as_str().to_owned())
    }

    #[tokio::test]
    async fn the_subject_is_the_only_name_of_its_type() {
        let fixture = fixture(CertificateName::Dns, |_| String::new());
        let bad = Err(Refusal::BadCredentials.into());
        let good = params(&[dns("Billing.corp.test"), uri("spiffe://corp/billing")]);
        assert_eq!(judged(&fixture, &good), Ok("billing.corp.test".to_owned()));
        let mut common = params(&[uri("spiffe://corp/billing")]);
        common
            .distinguished_name
            .push(DnType::CommonName, "admin.corp.test");
        let email = SanType::Rfc822Name("admin.corp.test".try_into().unwrap());
        for none in [
            params(&[]),
            params(&[email]),
            params(&[dns("a.test"), dns("b.test")]),
            params(&[dns("a.test\0.evil.test")]),
            params(&[dns("a.test\nX-User: admin")]),
            params(&[dns("")]),
            common,
        ] {
            assert_eq!(judged(&fixture, &none), bad, "{:?}", none.subject_alt_names);
        }
    }

    #[tokio::test]
    async fn each_type_has_its_word() {
        let mut all = params(&[
            dns("a.test"),
            uri("spiffe://corp/a"),
            SanType::Rfc822Name("a@corp.test".try_into().unwrap()),
        ]);
        all.distinguished_name.push(DnType::CommonName, "A Machine");
        for (word, name) in [
            (CertificateName::Dns, "a.test"),
            (CertificateName::Uri, "spiffe://corp/a"),
            (CertificateName::Email, "a@corp.test"),
            (CertificateName::CommonName, "A Machine"),
        ] {
            let fixture = fixture(word, |_| String::new());
            assert_eq!(judged(&fixture, &all), Ok(name.to_owned()), "{word:?}");
        }
    }

    #[tokio::test]
    async fn only_certificates_of_its_authorities_count() {
        let fixture = fixture(CertificateName::Dns, |_| String::new());
        let stranger = authority("theirs");
        let theirs = signed(&params(&[dns("a.test")]), &stranger);
        assert_eq!(
            fixture.provider.judge(&theirs, NOW).unwrap_err(),
            Refusal::WrongIssuer.into()
        );
        let mut server = params(&[dns("a.test")]);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        assert_eq!(
            judged(&fixture, &server),
            Err(Refusal::BadCredentials.into())
        );
        let mut old = params(&[dns("a.test")]);
        old.not_after = date_time_ymd(2020, 1, 1);
        assert_eq!(judged(&fixture, &old), Err(Refusal::Expired.into()));
        let mut early = params(&[dns("a.test")]);
        early.not_before = date_time_ymd(2090, 1, 1);
        early.not_after = date_time_ymd(2091, 1, 1);
        assert_eq!(judged(&fixture, &early), Err(Refusal::Expired.into()));
        for none in [
            Credential::ClientCert(Arc::from([])),
            Credential::ClientCert(Arc::from([b"nonsense".to_vec()])),
        ] {
            assert!(fixture.provider.judge(&none, NOW).is_err());
        }
    }

    fn list(authority: &Authority, serials: &[u64], until: i32) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(authority).unwrap().pem().unwrap()
    }

    #[tokio::test]
    async fn what_was_revoked_is_refused_and_so_is_what_nobody_can_tell() {
        let own = params(&[dns("a.test")]);
        for (serials, until, expected) in [
            (&[8][..], 2_090, Ok("a.test".to_owned())),
            (&[7, 8], 2_090, Err(Refusal::Revoked.into())),
            (&[8], 2_025, Err(Refusal::BadCredentials.into())),
        ] {
            let fixture = fixture(CertificateName::Dns, |by| list(by, serials, until));
            assert_eq!(judged(&fixture, &own), expected, "{serials:?} {until}");
        }
    }
}
