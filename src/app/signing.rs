//! The keys that sign what we mint: in a file of this instance, or in the store that several share.

use std::fmt;
use std::sync::Arc;

use crate::app::StartError;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::entropy::Entropy;
use crate::exchange::KeyRing;
use crate::exchange::Opened;
use crate::exchange::Seal;
use crate::session::Purpose;
use crate::session::SealedUnder;
use crate::session::Sessions;
use crate::store::Store;

/// Opens them.
pub(super) fn open(
    settings: &Settings,
    (store, sessions): (&Arc<dyn Store>, &Arc<Sessions>),
    entropy: &Arc<dyn Entropy>,
    now: UnixTime,
) -> Result<Arc<KeyRing>, StartError> {
    let (directory, signing) = (settings.state_dir.join("keys"), settings.signing.clone());
    let ring = if store.is_shared() {
        let seal = Arc::new(UnderSessionKeys {
            sessions: Arc::clone(sessions),
            entropy: Arc::clone(entropy),
        });
        KeyRing::shared(&directory, signing, (Arc::clone(store), seal), now)
    } else {
        KeyRing::open(&directory, signing, now)
    };
    let ring = ring.map_err(|error| StartError::Build(error.to_string()))?;
    Ok(Arc::new(ring))
}

/// `secrets.session_keys`, which all instances have.
struct UnderSessionKeys {
    sessions: Arc<Sessions>,
    entropy: Arc<dyn Entropy>,
}

impl Seal for UnderSessionKeys {
    fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let ring = self.sessions.ring();
        ring.seal(Purpose::SigningKeys, b"", &[], plain, &*self.entropy)
    }

    fn open(&self, sealed: &[u8]) -> Option<Opened> {
        let ring = self.sessions.ring();
        let opened = ring.open(Purpose::SigningKeys, b"", &[], sealed)?;
        Some(Opened {
            plain: opened.plain,
            again: opened.under == SealedUnder::OlderKey,
        })
    }
}

impl fmt::Debug for UnderSessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnderSessionKeys")
    }
}
