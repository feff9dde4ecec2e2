//! Verdicts kept for the next request with the same credential: per worker, bounded, and gone with what they rest on.

use std::cell::RefCell;
use std::fmt;
use std::hash::BuildHasher;
use std::hash::Hasher;
use std::rc::Rc;

use aws_lc_rs::digest;
use quick_cache::OptionsBuilder;
use quick_cache::UnitWeighter;
use quick_cache::unsync::Cache;
use quick_cache::unsync::DefaultLifecycle;

use crate::auth::Admitted;
use crate::auth::VerdictKey;
use crate::clock::UnixTime;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::secret::Secret;
use crate::telemetry::Pseudonym;

/// An admission, and the header values that were rendered from it.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The proof.
    pub(crate) admitted: Admitted,
    /// What the application is told.
    pub(crate) headers: IdentityHeaders,
    /// The person in logs.
    pub(crate) pseudonym: Pseudonym,
    /// Which snapshot decided.
    pub(crate) generation: u64,
    /// When it was made: a clock that is set back knows nothing of it yet.
    pub(crate) since: UnixTime,
    /// Until when it may be kept.
    pub(crate) until: UnixTime,
}

/// What identifies a verdict: a keyed digest of every input, each with its length, so that no two inputs can meet.
pub(crate) type Digest = [u8; 32];

/// The kept verdicts of one worker.
pub(crate) struct Verdicts {
    key: Secret<[u8; 32]>,
    kept: RefCell<Cache<Digest, Rc<Verdict>, UnitWeighter, DigestHasher>>,
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdicts")
            .field("kept", &self.kept.borrow().len())
            .finish_non_exhaustive()
    }
}

impl Verdicts {
    /// Room for `entries` verdicts, under a key that lives as long as the process: whoever sees a digest learns nothing.
    pub(crate) fn new(entries: usize, key: [u8; 32]) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(entries)
            .weight_capacity(entries as u64)
            .build()
            .expect("both sizes are given");
        let cache = Cache::with_options(
            options,
            UnitWeighter,
            DigestHasher,
            DefaultLifecycle::default(),
        );
        Self {
            key: Secret::new(key),
            kept: RefCell::new(cache),
        }
    }

    /// The digest of a credential for an application, and for what its upstream gets instead of it.
    pub(crate) fn digest(&self, app: usize, exchange: u64, credential: VerdictKey<'_>) -> Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut head = [0_u8; 32 + 8 + 8 + 1 + 8 + 8];
        let (key, rest) = head.split_at_mut(32);
        key.copy_from_slice(self.key.expose());
        let (place, rest) = rest.split_at_mut(8);
        place.copy_from_slice(&(app as u64).to_be_bytes());
        let (instead, rest) = rest.split_at_mut(8);
        instead.copy_from_slice(&exchange.to_be_bytes());
        let (class, rest) = rest.split_at_mut(1);
        class.fill(credential.class as u8);
        let (slot, material) = rest.split_at_mut(8);
        slot.copy_from_slice(&(credential.slot.len() as u64).to_be_bytes());
        material.copy_from_slice(&(credential.material.len() as u64).to_be_bytes());
        context.update(&head);
        context.update(credential.slot.as_bytes());
        context.update(credential.material);
        // The length of the material is known: what follows it is this or nothing.
        if let Some((name, value)) = credential.beside {
            context.update(&(name.len() as u64).to_be_bytes());
            context.update(name.as_bytes());
            context.update(value);
        }
        let mut out = Digest::default();
        out.copy_from_slice(context.finish().as_ref());
        out
    }

    /// The verdict, if there is one of this generation that has not run out. Whether what it rests on still holds is the
    /// caller's question to [`Admitted::still_good`].
    pub(crate) fn find(
        &self,
        digest: &Digest,
        generation: u64,
        now: UnixTime,
    ) -> Option<Rc<Verdict>> {
        let kept = self.kept.borrow();
        let verdict = kept.get(digest)?;
        let fresh = verdict.since <= now && now < verdict.until;
        (verdict.generation == generation && fresh).then(|| Rc::clone(verdict))
    }

    /// Keeps a verdict.
    pub(crate) fn keep(&self, digest: Digest, verdict: Rc<Verdict>) {
        self.kept.borrow_mut().insert(digest, verdict);
    }

    /// Drops a verdict that no longer holds.
    pub(crate) fn forget(&self, digest: &Digest) {
        self.kept.borrow_mut().remove(digest);
    }
}

/// Keys are digests already: their first eight bytes are as good as any hash of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DigestHasher;

impl BuildHasher for DigestHasher {
    type Hasher = FirstEight;

    fn build_hasher(&self) -> FirstEight {
        FirstEight(0)
    }
}

/// Takes the first eight bytes of what it is given last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstEight(u64);

impl Hasher for FirstEight {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // `[u8; 32]` hashes its length first; the digest that follows is what counts.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CredentialClass;

    fn key<'a>(class: CredentialClass, slot: &'a str, material: &'a str) -> VerdictKey<'a> {
        VerdictKey {
            class,
            slot,
            material: material.as_bytes(),
            beside: None,
        }
    }

    fn beside<'a>(name: &'a str, value: &'a str) -> VerdictKey<'a> {
        VerdictKey {
            beside: Some((name, value.as_bytes())),
            ..key(CredentialClass::Session, "a", "bc")
        }
    }

    #[test]
    fn no_two_inputs_share_a_digest() {
        let verdicts = Verdicts::new(8, [7; 32]);
        let all = [
            verdicts.digest(0, 0, key(CredentialClass::Session, "ab", "c")),
            verdicts.digest(0, 0, key(CredentialClass::Session, "a", "bc")),
            verdicts.digest(0, 0, key(CredentialClass::Session, "", "abc")),
            verdicts.digest(0, 0, beside("SID", "1")),
            verdicts.digest(0, 0, beside("SID", "2")),
            verdicts.digest(0, 0, beside("SID1", "")),
            verdicts.digest(0, 0, key(CredentialClass::Bearer, "", "abc")),
            verdicts.digest(1, 0, key(CredentialClass::Bearer, "", "abc")),
            verdicts.digest(0, 1, key(CredentialClass::Bearer, "", "abc")),
            Verdicts::new(8, [8; 32]).digest(0, 0, key(CredentialClass::Bearer, "", "abc")),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_digest_spreads_over_the_table() {
        let mut first = [0; 32];
        first[0] = 1;
        assert_ne!(
            DigestHasher.hash_one(first),
            DigestHasher.hash_one([0_u8; 32])
        );
    }
}
