//! A throw-away authority and what it signs.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
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
    leaf: CertificateDer<'static>,
    leaf_key: Vec<u8>,
    attacker: CertificateDer<'static>,
    /// What clients believe.
    pub(crate) trust: Believes,
}

impl Pki {
    /// New certificates, in files of a directory of their own.
    pub(crate) fn new() -> Self {
        let authority_key = KeyPair::generate().expect("a key is made");
        let mut params =
            CertificateParams::new(vec!["authority.test".to_owned()]).expect("a good name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).expect("it signs itself");
        let issuer = Issuer::new(params, &authority_key);
        let names = ["app.test", "*.example.test", "*.b.example.test", "localhost", "127.0.0.1"];
        let params = CertificateParams::new(names.map(str::to_owned)).expect("good names");
        let leaf_key = KeyPair::generate().expect("a key is made");
        let leaf = params.signed_by(&leaf_key, &issuer).expect("the authority signs");
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
        Self {
            trust: Arc::new(Trust::new(authority.der())),
            leaf: leaf.der().clone(),
            leaf_key: leaf_key.serialize_der(),
            attacker: attacker.der().clone(),
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

    /// For servers of ours.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.clone()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.leaf.clone()], key)
            .expect("the key belongs to the certificate");
        Arc::new(config)
    }

    /// In `x5c`: a genuine certificate, and the attacker's own.
    pub(crate) fn for_tokens(&self) -> [Vec<u8>; 2] {
        [self.leaf.to_vec(), self.attacker.to_vec()]
    }
}
