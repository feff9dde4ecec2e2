//! Sealing: AES-256-GCM-SIV under a ring of keys, bound to a purpose and its context.

use std::fmt;

use aws_lc_rs::aead;
use aws_lc_rs::digest;
use aws_lc_rs::hkdf;
use aws_lc_rs::hmac;

use crate::entropy::Entropy;
use crate::secret::Secret;
use crate::telemetry::KeyUses;
use crate::telemetry::metrics::KeyUse;

/// What a sealed value is for: one cannot be opened as the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// A login under way, in a cookie.
    Flow,
    /// A device and its pins, in a cookie.
    Device,
    /// The row of a session. The key also takes in the cookie's secret.
    SessionRow,
    /// What an operator said about a revocation.
    Revocation,
    /// What a session is found and ended by without its cookie.
    SessionHandle,
    /// What stands behind a refresh token. The key also takes in the token's secret.
    RefreshFamily,
    /// A device that waits for its person. The key also takes in the secret of its code.
    DeviceCode,
    /// The hash of a secret of a client that was learned.
    ClientSecret,
    /// Which session stands for one of an old system. The key also takes in the secret of that one.
    Wrap,
    /// Which session took the place of another one. The key also takes in the secret of that one.
    Successor,
    /// That somebody wants to be among the first, in a cookie.
    OptIn,
    /// A form that waits for its sender. The key also takes in the secret of their cookie.
    KeptForm,
    /// What a client got for another token, and by what that can be revoked. The key also takes in the token.
    HandedOut,
    /// The keys that sign what several instances mint.
    SigningKeys,
}

impl Purpose {
    /// The label of its uses.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Device => "device",
            Self::SessionRow => "session_row",
            Self::Revocation => "revocation",
            Self::SessionHandle => "session_handle",
            Self::RefreshFamily => "refresh_family",
            Self::DeviceCode => "device_code",
            Self::ClientSecret => "client_secret",
            Self::Wrap => "wrap",
            Self::Successor => "successor",
            Self::OptIn => "opt_in",
            Self::KeptForm => "kept_form",
            Self::HandedOut => "handed_out",
            Self::SigningKeys => "signing_keys",
        }
    }

    const fn label(self) -> &'static [u8] {
        match self {
            Self::Flow => b"flow",
            Self::Device => b"device",
            Self::SessionRow => b"session-row",
            Self::Revocation => b"revocation",
            Self::SessionHandle => b"session-handle",
            Self::RefreshFamily => b"refresh-family",
            Self::DeviceCode => b"device-code",
            Self::ClientSecret => b"client-secret",
            Self::Wrap => b"wrap",
            Self::Successor => b"successor",
            Self::OptIn => b"opt-in",
            Self::KeptForm => b"kept-form",
            Self::HandedOut => b"handed-out",
            Self::SigningKeys => b"signing-keys",
        }
    }
}

/// The keys that seal: the first seals, all open.
pub(crate) struct KeyRing {
    keys: Vec<Master>,
    uses: KeyUses,
}

struct Master {
    id: [u8; KEY_ID],
    /// The same, for operators.
    name: String,
    key: Secret<Vec<u8>>,
}

/// There is no key to seal with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no session key is configured")]
pub(crate) struct NoKeys;

/// A value that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The content.
    pub(crate) plain: Vec<u8>,
    /// Which key of the ring it was sealed under.
    pub(crate) under: SealedUnder,
}

/// The age of the key that sealed a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SealedUnder {
    /// The one that seals now.
    CurrentKey,
    /// One that only opens: seal the value again.
    OlderKey,
}

const VERSION: u8 = 1;
const KEY_ID: usize = 4;
const NONCE: usize = aead::NONCE_LEN;
/// The length of an index: 128 bits.
pub(crate) const INDEX: usize = 16;

impl KeyRing {
    /// A ring whose uses nobody counts.
    ///
    /// # Errors
    ///
    /// [`NoKeys`], when there is none.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn new(keys: &[Secret<Vec<u8>>]) -> Result<Self, NoKeys> {
        Self::counted(keys, KeyUses::default())
    }

    /// Takes the keys of the configuration, newest first; `uses` hears of each use.
    ///
    /// # Errors
    ///
    /// [`NoKeys`], when there is none.
    pub(crate) fn counted(keys: &[Secret<Vec<u8>>], uses: KeyUses) -> Result<Self, NoKeys> {
        if keys.is_empty() {
            return Err(NoKeys);
        }
        let keys = keys
            .iter()
            .map(|key| {
                let mut id = [0; KEY_ID];
                let mut context = digest::Context::new(&digest::SHA256);
                context.update(b"authferry/key-id/v1");
                context.update(key.expose());
                id.copy_from_slice(
                    context
                        .finish()
                        .as_ref()
                        .get(..KEY_ID)
                        .unwrap_or(&[0; KEY_ID]),
                );
                Master {
                    name: id.iter().map(|byte| format!("{byte:02x}")).collect(),
                    id,
                    key: key.clone(),
                }
            })
            .collect();
        Ok(Self { keys, uses })
    }

    /// Seals `plain`: version, key id, nonce, ciphertext and tag. `secret` goes into the key, `context` is bound to the value.
    pub(crate) fn seal(
        &self,
        purpose: Purpose,
        secret: &[u8],
        context: &[&[u8]],
        plain: &[u8],
        entropy: &dyn Entropy,
    ) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        entropy.fill(&mut nonce);
        let master = self
            .keys
            .first()
            .expect("a ring is made with at least one key");
        self.uses.used(&master.name, KeyUse::Seal, purpose.as_str());
        let mut sealed = Vec::with_capacity(1 + KEY_ID + NONCE + plain.len() + 16);
        sealed.push(VERSION);
        sealed.extend_from_slice(&master.id);
        sealed.extend_from_slice(&nonce);
        let bound = bound(purpose, &master.id, context);
        let mut body = plain.to_vec();
        key(master, purpose, secret)
            .seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(bound),
                &mut body,
            )
            .expect("a value of a few kilobytes is within the bounds of RFC 8452 §6");
        sealed.append(&mut body);
        sealed
    }

    /// Opens what [`Self::seal`] made; `None`: it is not, for whatever reason.
    pub(crate) fn open(
        &self,
        purpose: Purpose,
        secret: &[u8],
        context: &[&[u8]],
        sealed: &[u8],
    ) -> Option<Opened> {
        let (version, rest) = sealed.split_first()?;
        if *version != VERSION {
            return None;
        }
        let (id, rest) = rest.split_first_chunk::<KEY_ID>()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE>()?;
        let bound = bound(purpose, id, context);
        self.keys
            .iter()
            .enumerate()
            .filter(|(_, master)| master.id == *id)
            .find_map(|(place, master)| {
                let mut plain = body.to_vec();
                let length = key(master, purpose, secret)
                    .open_in_place(
                        aead::Nonce::assume_unique_for_key(*nonce),
                        aead::Aad::from(&bound),
                        &mut plain,
                    )
                    .ok()?
                    .len();
                plain.truncate(length);
                self.uses.used(&master.name, KeyUse::Open, purpose.as_str());
                let under = match place {
                    0 => SealedUnder::CurrentKey,
                    _ => SealedUnder::OlderKey,
                };
                Some(Opened { plain, under })
            })
    }
}

impl KeyRing {
    /// Whether there are keys that only open.
    pub(crate) fn has_older_keys(&self) -> bool {
        1 < self.keys.len()
    }

    /// What rows about `parts` are found by: keyed hashes, so that whoever reads the store cannot guess names. The first is
    /// under the key that seals now, the others under those that only open.
    pub(crate) fn indexes(&self, kind: &str, parts: &[&[u8]]) -> Vec<[u8; INDEX]> {
        let mut input = Vec::with_capacity(128);
        for part in std::iter::once(&kind.as_bytes()).chain(parts) {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            input.extend_from_slice(&length.to_be_bytes());
            input.extend_from_slice(part);
        }
        self.keys
            .iter()
            .map(|master| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, master.key.expose());
                let key = hmac::sign(&key, b"authferry/index-key/v1");
                let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
                let tag = hmac::sign(&key, &input);
                let mut index = [0; INDEX];
                index.copy_from_slice(tag.as_ref().get(..INDEX).unwrap_or(&[0; INDEX]));
                index
            })
            .collect()
    }
}

/// HKDF-SHA-256 (RFC 5869) of the ring's key and the holder's secret, if there is one.
fn key(master: &Master, purpose: Purpose, secret: &[u8]) -> aead::LessSafeKey {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, master.key.expose());
    let input = salt.extract(secret);
    let info: [&[u8]; 2] = [b"authferry/seal/v1/", purpose.label()];
    let output = input
        .expand(&info, &aead::AES_256_GCM_SIV)
        .expect("32 bytes are within the bounds of RFC 5869 §2.3");
    aead::LessSafeKey::new(aead::UnboundKey::from(output))
}

/// What is authenticated beside the value. Every part is length-prefixed: no two contexts read the same.
fn bound(purpose: Purpose, id: &[u8; KEY_ID], context: &[&[u8]]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(128);
    bound.extend_from_slice(b"authferry/seal/v1");
    bound.push(VERSION);
    bound.extend_from_slice(id);
    for part in std::iter::once(&purpose.label()).chain(context) {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bound.extend_from_slice(&length.to_be_bytes());
        bound.extend_from_slice(part);
    }
    bound
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use proptest::prelude::*;

    fn ring(keys: &[u8]) -> KeyRing {
        let keys: Vec<_> = keys.iter().map(|k| Secret::new(vec![*k; 32])).collect();
        KeyRing::new(&keys).unwrap()
    }

    fn seal(ring: &KeyRing, context: &[&[u8]]) -> Vec<u8> {
        ring.seal(Purpose::Flow, b"", context, b"content", &SystemEntropy)
    }

    #[test]
    fn what_was_sealed_is_opened_in_its_context_only() {
        let ring = ring(&[1]);
        let sealed = seal(&ring, &[b"app.test", b"0"]);
        let open = |purpose, secret: &[u8], context: &[&[u8]]| {
            ring.open(purpose, secret, context, &sealed)
                .map(|o| o.plain)
        };
        assert_eq!(
            open(Purpose::Flow, b"", &[b"app.test", b"0"]).unwrap(),
            b"content"
        );
        assert_eq!(open(Purpose::Device, b"", &[b"app.test", b"0"]), None);
        assert_eq!(open(Purpose::Flow, b"x", &[b"app.test", b"0"]), None);
        assert_eq!(open(Purpose::Flow, b"", &[b"app2.test", b"0"]), None);
        assert_eq!(open(Purpose::Flow, b"", &[b"app.test0", b""]), None);
        assert_eq!(open(Purpose::Flow, b"", &[b"app.test"]), None);
    }

    #[test]
    fn every_bit_is_protected_and_every_cut_is_noticed() {
        let ring = ring(&[1]);
        let sealed = seal(&ring, &[b"h"]);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                ring.open(Purpose::Flow, b"", &[b"h"], &changed).is_none(),
                "bit {bit}"
            );
        }
        for length in 0..sealed.len() {
            assert!(
                ring.open(Purpose::Flow, b"", &[b"h"], &sealed[..length])
                    .is_none()
            );
        }
        let mut longer = sealed;
        longer.push(0);
        assert!(ring.open(Purpose::Flow, b"", &[b"h"], &longer).is_none());
    }

    #[test]
    fn an_older_key_opens_and_a_removed_one_does_not() {
        let sealed = seal(&ring(&[1]), &[]);
        let open = |keys: &[u8]| {
            ring(keys)
                .open(Purpose::Flow, b"", &[], &sealed)
                .map(|o| o.under)
        };
        assert_eq!(open(&[1]), Some(SealedUnder::CurrentKey));
        assert_eq!(open(&[2, 1]), Some(SealedUnder::OlderKey));
        assert_eq!(open(&[2]), None);
        assert_eq!(KeyRing::new(&[]).unwrap_err(), NoKeys);
    }

    #[test]
    fn an_index_is_of_its_key_its_kind_and_its_parts() {
        let of = |keys: &[u8], kind, parts: &[&[u8]]| ring(keys).indexes(kind, parts);
        let one = of(&[1], "subject", &[b"ab", b"c"]);
        assert_eq!(of(&[2, 1], "subject", &[b"ab", b"c"]).get(1), one.first());
        for other in [
            of(&[2], "subject", &[b"ab", b"c"]),
            of(&[1], "sid", &[b"ab", b"c"]),
            of(&[1], "subject", &[b"a", b"bc"]),
            of(&[1], "subject", &[b"abc"]),
        ] {
            assert_ne!(other, one);
        }
    }

    #[test]
    fn equal_contents_look_different() {
        let ring = ring(&[1]);
        assert_ne!(seal(&ring, &[]), seal(&ring, &[]));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_offered(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(ring(&[1]).open(Purpose::Flow, b"", &[], &bytes).is_none());
        }
    }
}
