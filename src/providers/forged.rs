//! Tokens whose signature was seen to be wrong: whoever repeats one is told so again, without another look at the signature.

use std::fmt;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::token::KeySet;

/// How many bytes of tokens are remembered for one issuer: 1 MiB.
const ROOM: u64 = 1024 * 1024;

/// What a token takes beside its bytes, about.
const BESIDE: u64 = 128;

/// How many tokens of the usual length that is.
const USUAL: usize = 1_024;

/// The refused tokens of one issuer, whole, so that none can stand for another.
///
/// A signature is wrong as long as the keys are the same. Each token is therefore remembered with the very key set that
/// refused it: another set, with a key more or a key less, judges it anew.
pub(super) struct Forged(Cache<Box<str>, KeySet, Bytes>);

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<str>, KeySet> for Bytes {
    fn weight(&self, token: &Box<str>, _keys: &KeySet) -> u64 {
        token.len() as u64 + BESIDE
    }
}

impl Forged {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(USUAL, ROOM, Bytes))
    }

    /// Whether these keys have refused the signature of this token before.
    pub(super) fn knows(&self, token: &str, keys: &KeySet) -> bool {
        self.0.get(token).is_some_and(|by| by.is(keys))
    }

    pub(super) fn remember(&self, token: &str, keys: &KeySet) {
        self.0.insert(token.into(), keys.clone());
    }
}

impl fmt::Debug for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Forged").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> KeySet {
        KeySet::from_inline(br#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#).unwrap()
    }

    #[test]
    fn a_token_is_known_to_the_very_keys_that_refused_it() {
        let (forged, first, second) = (Forged::new(), keys(), keys());
        assert!(!forged.knows("a.b.c", &first));
        forged.remember("a.b.c", &first);
        assert!(forged.knows("a.b.c", &first));
        assert!(!forged.knows("a.b.C", &first));
        assert!(!forged.knows("a.b.c", &second));
        forged.remember("a.b.c", &second);
        assert!(forged.knows("a.b.c", &second) && !forged.knows("a.b.c", &first));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (forged, keys) = (Forged::new(), keys());
        for n in 0..1_000 {
            forged.remember(&format!("{n}.{}", "x".repeat(16_000)), &keys);
        }
        assert!(forged.0.weight() <= ROOM);
        assert!(!forged.0.is_empty());
    }
}
