//! The certificate of a client, as the TLS connection or a listed peer showed it.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::identity::Thumbprint;

/// The certificate that a client proved to hold. Whose it is, is a question to the provider that owns such certificates.
#[derive(Clone)]
pub(crate) struct ClientCertificate {
    thumbprint: Thumbprint,
    /// Of the whole chain: it decides whether the certificate is believed.
    digest: [u8; 32],
    chain: Arc<[Vec<u8>]>,
}

impl ClientCertificate {
    /// From DER: the client's own certificate first. `None`: there is none.
    pub(crate) fn of(chain: Vec<Vec<u8>>) -> Option<Self> {
        let own = chain.first()?;
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest::digest(&digest::SHA256, own).as_ref());
        let mut context = digest::Context::new(&digest::SHA256);
        for one in &chain {
            context.update(&u64::try_from(one.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(one);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Some(Self {
            thumbprint: Thumbprint(thumbprint),
            digest,
            chain: chain.into(),
        })
    }

    /// Of which a listed peer said no more than the hash: good for tokens that are bound to it, and for nothing else.
    pub(crate) fn known_by(thumbprint: Thumbprint) -> Self {
        Self {
            digest: thumbprint.0,
            thumbprint,
            chain: Arc::from([]),
        }
    }

    /// `x5t#S256` (RFC 8705 §3.1).
    pub(crate) const fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// What a verdict about it depends on.
    pub(super) const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The chain, the client's own certificate first; empty where only its hash is known.
    pub(crate) const fn chain(&self) -> &Arc<[Vec<u8>]> {
        &self.chain
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[certificate]")
    }
}
