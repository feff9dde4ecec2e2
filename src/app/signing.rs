//! The keys that sign what we mint: in a file of this instance, or in the store that several share.

use std::fmt;
use std::sync::Arc;

use crate::admin::RevokeFailure;
use crate::admin::WithdrawRequest;
use crate::app::StartError;
use crate::app::process::Process;
use crate::app::revoke::KEY_KEPT;
use crate::app::revoke::failed;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::entropy::Entropy;
use crate::exchange::KeyRing;
use crate::exchange::Opened;
use crate::exchange::RingError;
use crate::exchange::RingKeyView;
use crate::exchange::Seal;
use crate::exchange::Witness;
use crate::identity::OWN_KEYS;
use crate::ledger::Entry;
use crate::ledger::Kind;
use crate::ledger::Ledger;
use crate::revocation::Asked;
use crate::revocation::Source;
use crate::revocation::Target;
use crate::session::Purpose;
use crate::session::SealedUnder;
use crate::session::Sessions;
use crate::store::Store;

/// Opens them.
pub(super) fn open(
    settings: &Settings,
    (store, sessions): (&Arc<dyn Store>, &Arc<Sessions>),
    (entropy, ledger): (&Arc<dyn Entropy>, &Arc<Ledger>),
    now: UnixTime,
) -> Result<Arc<KeyRing>, StartError> {
    let (directory, signing) = (settings.state_dir.join("keys"), settings.signing.clone());
    let seal: Arc<dyn Seal> = Arc::new(UnderSessionKeys {
        sessions: Arc::clone(sessions),
        entropy: Arc::clone(entropy),
    });
    let ring = if store.is_shared() {
        KeyRing::shared(&directory, signing, (Arc::clone(store), seal), now)
    } else {
        KeyRing::open(&directory, signing, Some(seal), now)
    };
    let ring = ring.map_err(|error| StartError::Build(error.to_string()))?;
    ring.told_to(Arc::new(InLedger(Arc::clone(ledger))));
    Ok(Arc::new(ring))
}

/// Takes a key out of every published set, in the name of `actor`. What it has signed counts no more: first where we are asked,
/// so that whoever tries again after a failure finds the key still there.
pub(super) async fn withdraw(
    process: &Process,
    wanted: WithdrawRequest,
    actor: &str,
) -> Result<Vec<RingKeyView>, RevokeFailure> {
    let (ring, now) = (&process.ring, process.clock.now());
    let WithdrawRequest {
        kid,
        reason,
        confirm,
    } = wanted;
    let request = |error: RingError| RevokeFailure::Request(error.to_string());
    let state = ring.may_withdraw(&kid, now).map_err(request)?;
    if reason.trim().is_empty() {
        let what = String::from("a reason is needed; it is recorded");
        return Err(RevokeFailure::Request(what));
    }
    if !confirm {
        let what = format!(
            "nothing was done: `{kid}` ({state}) would leave the published keys at once, and nothing that it has signed would count \
             any more; say `confirm`"
        );
        return Err(RevokeFailure::Request(what));
    }
    let asked = Asked {
        target: Target::Key {
            provider: OWN_KEYS.to_owned(),
            key: kid.clone(),
        },
        source: Source::Operator,
        actor: actor.to_owned(),
        reason,
        keep: Some(KEY_KEPT),
        provider: None,
    };
    process.revocations.revoke(asked).await.map_err(failed)?;
    let keys = ring.withdraw(&kid, actor, now).await;
    keys.map_err(|error| {
        RevokeFailure::Store(format!(
            "the key may still be published, look at `authferry keys list`: {error}"
        ))
    })
}

/// Each next key is a record (`key_rotated`), and each that is taken out (`key_withdrawn`).
struct InLedger(Arc<Ledger>);

impl Witness for InLedger {
    fn next_key(&self, kid: &str, from: UnixTime, actor: Option<&str>) -> Result<(), String> {
        let entry = Entry::new(Kind::KeyRotated, actor.unwrap_or("schedule"))
            .with("kid", kid)
            .with("signs_from", from.as_secs());
        if actor.is_some() {
            let written = self.0.append(entry);
            return written.map(|_| ()).map_err(|error| error.to_string());
        }
        // A full disk does not keep a key from growing old.
        self.0.append_or_owe(entry);
        Ok(())
    }

    fn withdrawn(&self, kid: &str, signs: &str, actor: &str) -> Result<(), String> {
        let entry = Entry::new(Kind::KeyWithdrawn, actor)
            .with("kid", kid)
            .with("signs", signs);
        let written = self.0.append(entry);
        written.map(|_| ()).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for InLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InLedger")
    }
}

/// `secrets.session_keys`, which all instances have, or the key that this one has made.
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
