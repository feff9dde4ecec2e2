//! Which key of which provider has signed what a token was made of: where that is gone from there, the one it has signed is worth
//! nothing, and what was made of that neither.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;

use crate::identity::KeyPrint;
use crate::identity::ProviderId;

/// A key of a provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Signer {
    /// Whose it is.
    pub(crate) provider: ProviderId,
    /// Which.
    pub(crate) key: KeyPrint,
}

/// The same in a row of ours.
#[derive(Deserialize, Serialize)]
pub(super) struct Written {
    provider: String,
    key: String,
}

impl Signer {
    pub(super) fn written(&self) -> Written {
        Written {
            provider: self.provider.as_str().to_owned(),
            key: URL_SAFE_NO_PAD.encode(self.key.as_bytes()),
        }
    }
}

impl Written {
    /// `None`: the row cannot be of this program.
    pub(super) fn read(&self) -> Option<Signer> {
        let key = URL_SAFE_NO_PAD.decode(&self.key).ok()?;
        Some(Signer {
            provider: ProviderId::new(&self.provider),
            key: KeyPrint::from_bytes(key.try_into().ok()?),
        })
    }
}
