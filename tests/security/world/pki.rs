//! A throw-away authority and what it signs.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::SanType;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::TempDir;

use super::Believes;
use crate::wire::Trust;

/// Certificates of one run.
#[derive(Debug)]
pub(crate) struct Pki {
    directory: TempDir,
    authority: (CertificateParams, KeyPair),
    leaf: CertificateDer<'static>,
    leaf_key: Vec<u8>,
    attacker: CertificateDer<'static>,
    /// They sign the certificates of clients.
    clients: [CertifiedIssuer<'static, KeyPair>; 2],
    /// What clients believe.
    pub(crate) trust: Believes,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// Nobody signed it.
    SelfSigned,
    /// It speaks of another host.
    OtherName,
    /// Its time is over.
    Expired,
}

/// A certificate with its key.
pub(crate) type Own = (CertificateDer<'static>, Vec<u8>);

/// What is strange about the certificate of a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Odd {
    /// A name of a host stands there as a mail address.
    Mail,
    /// A NUL in a name.
    Nul,
    /// A name in the subject alone.
    CommonName,
    /// Two names.
    Two,
    /// A line break in a name.
    Newline,
    /// A name of no letters.
    Empty,
    /// Its time is over.
    Expired,
    /// It is for servers.
    NoClient,
}

impl Odd {
    /// All there are.
    pub(crate) const ALL: [Self; 8] = [
        Self::Mail,
        Self::Nul,
        Self::CommonName,
        Self::Two,
        Self::Newline,
        Self::Empty,
        Self::Expired,
        Self::NoClient,
    ];
}

/// The hosts of certificates.
const NAMES: [&str; 12] = [
    "open.test",
    "mtls.test",
    "*.mtls.test",
    "mtls2.test",
    "machines.test",
    "app.test",
    "other.test",
    "*.example.test",
    "*.b.example.test",
    "*.other.test",
    "localhost",
    "127.0.0.1",
];

impl Pki {
    /// New certificates, in files of a directory of their own.
    pub(crate) fn new() -> Self {
        let authority_key = KeyPair::generate().expect("a key is made");
        let mut params =
            CertificateParams::new(vec!["authority.test".to_owned()]).expect("a good name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).expect("it signs itself");
        let issuer = Issuer::from_params(&params, &authority_key);
        let leaf_params = CertificateParams::new(NAMES.map(str::to_owned)).expect("good names");
        let leaf_key = KeyPair::generate().expect("a key is made");
        let leaf = leaf_params
            .signed_by(&leaf_key, &issuer)
            .expect("the authority signs");
        let attacker_key = KeyPair::generate().expect("a key is made");
        let attacker = CertificateParams::new(vec!["new.idp.test".to_owned()])
            .and_then(|params| params.self_signed(&attacker_key))
            .expect("it signs itself");
        let directory = tempfile::tempdir().expect("a temporary directory is made");
        let write = |name: &str, text: String| {
            std::fs::write(directory.path().join(name), text).expect("the directory is ours");
        };
        write("ca.pem", authority.pem());
        write("tls.pem", leaf.pem());
        write("tls.key", leaf_key.serialize_pem());
        let clients = [1, 2].map(|n| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let name = format!("clients {n}");
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().expect("a key is made");
            let authority = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
            write(&format!("clients-{n}.pem"), authority.pem());
            authority
        });
        Self {
            clients,
            trust: Arc::new(Trust::new(authority.der())),
            leaf: leaf.der().clone(),
            leaf_key: leaf_key.serialize_der(),
            attacker: attacker.der().clone(),
            authority: (params, authority_key),
            directory,
        }
    }

    /// Where the files are: `ca.pem`, `tls.pem`, `tls.key`.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file of the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The certificate of a client called `name`, signed by the first or the second authority.
    pub(crate) fn own(&self, authority: usize, name: &str) -> Own {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a good name");
        self.client(authority, params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn client(
        &self,
        authority: usize,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Own {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key is made");
        let authority = &self.clients[authority - 1];
        let signed = params.signed_by(&key, authority).expect("it signs");
        (signed.der().clone(), key.serialize_der())
    }

    /// A certificate of the first authority that should be nobody's.
    pub(crate) fn odd(&self, odd: Odd) -> Own {
        let name = |text: &str| SanType::DnsName(text.try_into().expect("ASCII"));
        let mail = |text: &str| SanType::Rfc822Name(text.try_into().expect("ASCII"));
        let good = "billing.corp.test";
        let mut params = CertificateParams::default();
        params.subject_alt_names = match odd {
            Odd::Mail => vec![mail(good)],
            Odd::Nul => vec![name("billing.corp.test\0.evil.test")],
            Odd::CommonName => Vec::new(),
            Odd::Two => vec![name(good), name("admin.corp.test")],
            Odd::Newline => vec![name("billing.corp.test\nX-Auth-User: admin")],
            Odd::Empty => vec![name("")],
            Odd::Expired | Odd::NoClient => vec![name(good)],
        };
        if odd == Odd::CommonName {
            params.distinguished_name.push(DnType::CommonName, "admin");
        }
        if odd == Odd::Expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let usage = if odd == Odd::NoClient {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        };
        self.client(1, params, usage)
    }

    /// A new pair in PEM: certificate and key.
    pub(crate) fn pair(&self, flaw: Flaw) -> (String, String) {
        let (certificate, key) = self.issue(flaw);
        (certificate.pem(), key.serialize_pem())
    }

    /// For a server that must not be believed.
    pub(crate) fn flawed(&self, flaw: Flaw) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue(flaw);
        config(certificate.der().clone(), key.serialize_der())
    }

    fn issue(&self, flaw: Flaw) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = match flaw {
            Flaw::OtherName => vec!["another.test".to_owned()],
            Flaw::None | Flaw::Expired | Flaw::SelfSigned => NAMES.map(str::to_owned).to_vec(),
        };
        let key = KeyPair::generate().expect("a key is made");
        let mut params = CertificateParams::new(names).expect("good names");
        if flaw == Flaw::Expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let certificate = match flaw {
            Flaw::SelfSigned => params.self_signed(&key),
            Flaw::None | Flaw::OtherName | Flaw::Expired => {
                let (authority, authority_key) = &self.authority;
                params.signed_by(&key, &Issuer::from_params(authority, authority_key))
            }
        };
        (certificate.expect("the authority signs"), key)
    }

    /// For servers of ours.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        config(self.leaf.clone(), self.leaf_key.clone())
    }

    /// In `x5c`: a genuine certificate, and the attacker's own.
    pub(crate) fn for_tokens(&self) -> [Vec<u8>; 2] {
        [self.leaf.to_vec(), self.attacker.to_vec()]
    }
}

fn config(certificate: CertificateDer<'static>, key: Vec<u8>) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("the key belongs to the certificate");
    Arc::new(config)
}
