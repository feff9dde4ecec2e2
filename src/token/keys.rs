//! Key sets (RFC 7517 §5): parsed key by key, looked up by `kid` and algorithm, replaced as a whole.

use std::sync::Arc;

use serde_json::Value;

use crate::identity::KeyPrint;
use crate::token::algorithm::Algorithm;
use crate::token::json;
use crate::token::json::Budget;
use crate::token::jwk;
use crate::token::key;
use crate::token::key::Key;
use crate::token::pem;

/// The most keys in a set.
const MAX_KEYS: usize = 100;

/// The most JSON members in a set.
const MAX_MEMBERS: usize = 10_000;

/// The keys of one issuer.
///
/// No two of them share a `kid` and a type: where a set names two different keys alike, neither is used, because which
/// one is meant would depend on their order.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Arc<[Key]>);

/// A key of a set that is not used, and why: for the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SkippedKey {
    /// Its `kid`, if it has one.
    pub kid: Option<Box<str>>,
    /// Why it is not used.
    pub reason: String,
}

/// Why a key set as a whole is not usable.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct KeySetError(pub String);

/// What a set says to a `kid` and an algorithm.
pub(super) enum Found<'a> {
    /// The one key that is meant.
    Key(&'a Key),
    /// There is such a `kid`, but not for this algorithm; or no `kid` and several keys.
    Unfit,
    /// No key that could be meant.
    Unknown,
}

impl KeySet {
    /// Whether this is the very same set, not only an equal one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Reads a set fetched from a provider: `oct`, unknown and unusable keys are skipped, each with a reason.
    ///
    /// # Errors
    ///
    /// When the document is no key set, is out of bounds (more than 100 keys), or has keys of which none is usable: then
    /// the last good set is the better one. A set without any key is a set.
    pub fn from_remote(json: &[u8]) -> Result<(Self, Vec<SkippedKey>), KeySetError> {
        let mut skipped = Vec::new();
        let mut usable = Vec::new();
        let entries = entries(json)?;
        let empty = entries.is_empty();
        for entry in &entries {
            match parse(entry, false) {
                Ok(key) => usable.push(key),
                Err(reason) => skipped.push(skip(entry, reason)),
            }
        }
        let (set, ambiguous) = Self::settle(usable);
        skipped.extend(ambiguous);
        if set.is_empty() && !empty {
            let reasons: Vec<_> = skipped.iter().map(SkippedKey::to_string).collect();
            return Err(KeySetError(format!(
                "no key is usable: {}",
                reasons.join("; ")
            )));
        }
        Ok((set, skipped))
    }

    /// Reads a set written in the configuration or a file of its own: nothing is skipped silently, a mix of symmetric
    /// and asymmetric keys is refused.
    ///
    /// # Errors
    ///
    /// When any key is unusable, or there is none.
    pub fn from_inline(json: &[u8]) -> Result<Self, KeySetError> {
        let entries = entries(json)?;
        let mut keys = Vec::with_capacity(entries.len());
        for entry in &entries {
            let key = parse(entry, true).map_err(|reason| skip(entry, reason));
            keys.push(key.map_err(|skipped| KeySetError(skipped.to_string()))?);
        }
        let secrets = keys
            .iter()
            .filter(|key| key.family == key::Family::Secret)
            .count();
        if keys.is_empty() {
            return Err(KeySetError("there is no key".to_owned()));
        }
        if 0 < secrets && secrets < keys.len() {
            return Err(KeySetError(
                "shared secrets and public keys are in one set".to_owned(),
            ));
        }
        let (set, ambiguous) = Self::settle(keys);
        match ambiguous.first() {
            Some(skipped) => Err(KeySetError(skipped.to_string())),
            None => Ok(set),
        }
    }

    /// Reads one public key or certificate in PEM, without a `kid`: it is meant whatever `kid` a token names.
    ///
    /// # Errors
    ///
    /// When it is no key, or too weak.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeySetError> {
        Self::single(pem::parse(pem))
    }

    /// A shared secret for the HS algorithms, only where the configuration names one of them; meant whatever `kid` a
    /// token names.
    ///
    /// # Errors
    ///
    /// When it is shorter than the hash (RFC 7518 §3.2).
    pub fn from_shared_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, KeySetError> {
        Self::single(Key::secret(secret, Some(algorithm)))
    }

    fn single(key: Result<Key, key::Unusable>) -> Result<Self, KeySetError> {
        let mut key = key.map_err(|reason| KeySetError(reason.to_owned()))?;
        key.any_kid = true;
        Ok(Self([key].into()))
    }

    /// Makes equal keys one, and drops both where two keys share a name.
    fn settle(all: Vec<Key>) -> (Self, Vec<SkippedKey>) {
        let mut keys: Vec<Key> = Vec::with_capacity(all.len());
        for key in all {
            let same = |own: &&mut Key| {
                (own.family, &own.kid, &own.material) == (key.family, &key.kid, &key.material)
            };
            match keys.iter_mut().find(same) {
                Some(twin) => twin.absorb(key),
                None => keys.push(key),
            }
        }
        let names: Vec<_> = keys
            .iter()
            .map(|key| (key.family, key.kid.clone()))
            .collect();
        let shared = |key: &Key| {
            let alike = names
                .iter()
                .filter(|(family, kid)| *family == key.family && *kid == key.kid);
            key.kid.is_some() && 1 < alike.count()
        };
        let (ambiguous, keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(shared);
        let skipped = ambiguous.into_iter().map(|key| SkippedKey {
            kid: key.kid,
            reason: "its kid names another key too".to_owned(),
        });
        (Self(keys.into()), skipped.collect())
    }

    /// How many keys are usable.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `kid`s of the usable keys.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|key| key.kid.as_deref())
    }

    /// Whether the set can judge such a token, or say for certain that it is not good. Else a newer set might know it.
    pub fn knows(&self, kid: Option<&str>, algorithm: Algorithm) -> bool {
        match self.find(kid, algorithm) {
            Found::Key(_) | Found::Unfit => true,
            Found::Unknown => false,
        }
    }

    /// Whether it has the key itself, whatever that is called, and takes what it signs by one of these algorithms.
    pub fn has(&self, print: &KeyPrint, taken: &[Algorithm]) -> bool {
        let is = |key: &Key| {
            let mut own = key
                .algorithms()
                .filter(|algorithm| taken.contains(algorithm));
            own.any(|algorithm| key.print(algorithm) == *print)
        };
        self.0.iter().any(is)
    }

    /// Whether a key of `before` is not in this set any more: then verdicts that rest on it must go.
    pub fn lost_a_key_of(&self, before: &Self) -> bool {
        let still = |old: &Key| {
            self.0.iter().any(|key| {
                (key.family, &key.kid, &key.material) == (old.family, &old.kid, &old.material)
                    && old.algorithms().all(|algorithm| key.fits(algorithm))
            })
        };
        !before.0.iter().all(still)
    }

    /// A digest of the set: equal sets have equal digests, whatever their order.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut keys: Vec<_> = self.0.iter().map(digest).collect();
        keys.sort_unstable();
        key::digest_of(&[&keys.concat()])
    }

    /// The key for a token: by `kid` and algorithm, or without a `kid` the only one that fits.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let named = |key: &&Key| match kid {
            Some(kid) => key.any_kid || key.kid.as_deref() == Some(kid),
            None => true,
        };
        let mut fitting = self
            .0
            .iter()
            .filter(named)
            .filter(|key| key.fits(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Found::Key(key),
            (Some(_), Some(_)) => Found::Unfit,
            (None, _) if kid.is_some() && self.0.iter().any(|key| named(&key)) => Found::Unfit,
            (None, _) => Found::Unknown,
        }
    }
}

impl std::fmt::Display for SkippedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kid {
            Some(kid) => write!(f, "key {kid:?}: {}", self.reason),
            None => write!(f, "a key without kid: {}", self.reason),
        }
    }
}

fn entries(json: &[u8]) -> Result<Vec<Value>, KeySetError> {
    let mut document = json::object(json, &Budget::new(MAX_MEMBERS))
        .map_err(|cause| KeySetError(format!("it is not a key set: {cause}")))?;
    match document.remove("keys") {
        Some(Value::Array(keys)) if keys.len() <= MAX_KEYS => Ok(keys),
        Some(Value::Array(_)) => Err(KeySetError(format!("it has more than {MAX_KEYS} keys"))),
        _ => Err(KeySetError(
            "it is not a key set: there is no list `keys`".to_owned(),
        )),
    }
}

fn parse(entry: &Value, secrets: bool) -> Result<Key, key::Unusable> {
    jwk::parse(entry.as_object().ok_or("it is no object")?, secrets)
}

fn skip(entry: &Value, reason: key::Unusable) -> SkippedKey {
    SkippedKey {
        kid: entry.get("kid").and_then(Value::as_str).map(Into::into),
        reason: reason.to_owned(),
    }
}

fn digest(key: &Key) -> [u8; 32] {
    let mut algorithms: Vec<_> = key.algorithms().collect();
    algorithms.sort_unstable();
    let algorithms: Vec<_> = algorithms.into_iter().map(Algorithm::as_str).collect();
    let kid = key.kid.as_deref();
    key::digest_of(&[
        &[u8::from(kid.is_some()), u8::from(key.any_kid)],
        kid.unwrap_or_default().as_bytes(),
        algorithms.join(" ").as_bytes(),
        &key.material,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::forge::Smith;
    use crate::token::forge::jwks;
    use serde_json::json;

    fn remote(keys: &[Value]) -> (KeySet, Vec<SkippedKey>) {
        KeySet::from_remote(&jwks(keys)).unwrap()
    }

    fn kids(set: &KeySet) -> Vec<&str> {
        set.kids().collect()
    }

    #[test]
    fn a_remote_set_is_read_key_by_key() {
        let mut encryption = Smith::new(Algorithm::Rs256).jwk("enc");
        encryption["use"] = json!("enc");
        let (set, skipped) = remote(&[
            json!({ "kty": "EC", "crv": "secp256k1", "kid": "bitcoin" }),
            json!({ "kty": "AKP", "kid": "post-quantum", "alg": "ML-DSA-44" }),
            Smith::new(Algorithm::Hs256).jwk("secret"),
            encryption,
            json!("no object"),
            Smith::new(Algorithm::Es256).jwk("good"),
        ]);
        assert_eq!(kids(&set), ["good"]);
        let skipped: Vec<_> = skipped.iter().map(|key| key.kid.as_deref()).collect();
        let expected = ["bitcoin", "post-quantum", "secret", "enc"];
        assert_eq!(skipped[..4], expected.map(Some));
        assert_eq!(skipped[4], None);
    }

    #[test]
    fn a_key_is_itself_by_whatever_name_and_only_for_what_it_signs_by() {
        let smith = Smith::new(Algorithm::Es256);
        let (set, _) = remote(&[smith.jwk("a")]);
        let print = set.0.first().unwrap().print(Algorithm::Es256);
        let all = [Algorithm::Es256, Algorithm::Rs256];
        assert!(set.has(&print, &all));
        assert!(!set.has(&print, &[Algorithm::Rs256]), "nobody takes it");
        assert!(remote(&[smith.jwk("b")]).0.has(&print, &all));
        let other = remote(&[Smith::new(Algorithm::Es256).jwk("a")]).0;
        assert!(!other.has(&print, &all), "another key of the same name");
        assert!(!KeySet::default().has(&print, &all));
    }

    #[test]
    fn a_set_without_a_usable_key_is_an_error_and_an_empty_one_is_not() {
        let secret = Smith::new(Algorithm::Hs256).jwk("s");
        let error = KeySet::from_remote(&jwks(&[secret])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no key is usable: key \"s\": it is a shared secret"
        );
        assert!(remote(&[]).0.is_empty());
    }

    #[test]
    fn what_is_no_key_set_is_an_error() {
        for json in [
            "",
            "[]",
            "{}",
            "<html>",
            r#"{"keys":{}}"#,
            r#"{"keys":[],"keys":[]}"#,
            r#"{"keys":[]}x"#,
        ] {
            assert!(KeySet::from_remote(json.as_bytes()).is_err(), "{json}");
            assert!(KeySet::from_inline(json.as_bytes()).is_err(), "{json}");
        }
        let many = vec![Smith::new(Algorithm::EdDsa).jwk("k"); 101];
        assert!(KeySet::from_remote(&jwks(&many)).is_err());
        assert_eq!(remote(&many[..100]).0.len(), 1);
    }

    #[test]
    fn an_inline_set_has_no_unusable_key_and_one_kind_of_keys() {
        let inline = |keys: &[Value]| KeySet::from_inline(&jwks(keys)).map(|set| set.len());
        let (secret, public) = (Smith::new(Algorithm::Hs256), Smith::new(Algorithm::Es256));
        assert_eq!(inline(&[secret.jwk("a"), secret.jwk("b")]), Ok(2));
        assert_eq!(inline(&[public.jwk("a"), public.jwk("b")]), Ok(2));
        for (bad, reason) in [
            (vec![secret.jwk("a"), public.jwk("b")], "in one set"),
            (vec![public.jwk("a"), json!({ "kty": "EC" })], "without kid"),
            (vec![], "no key"),
            (
                vec![public.jwk("a"), Smith::new(Algorithm::Es256).jwk("a")],
                "names another key",
            ),
        ] {
            let error = inline(&bad).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn two_keys_of_one_name_and_type_are_used_by_nobody_in_any_order() {
        let (a, b) = (Smith::new(Algorithm::Es256), Smith::new(Algorithm::Es256));
        let (rsa, other) = (Smith::new(Algorithm::Rs256), Smith::new(Algorithm::EdDsa));
        let mut set = vec![a.jwk("x"), b.jwk("x"), rsa.jwk("x"), other.jwk("y")];
        let mut prints = Vec::new();
        for _ in 0..set.len() {
            set.rotate_left(1);
            let (keys, skipped) = remote(&set);
            assert!(!keys.knows(Some("z"), Algorithm::Es256));
            assert!(matches!(
                keys.find(Some("x"), Algorithm::Es256),
                Found::Unfit
            ));
            // Another type under the same name stays: RFC 7517 §4.5.
            assert!(matches!(
                keys.find(Some("x"), Algorithm::Rs256),
                Found::Key(_)
            ));
            assert_eq!((keys.len(), skipped.len()), (2, 2));
            prints.push(keys.fingerprint());
        }
        prints.dedup();
        assert_eq!(prints.len(), 1);
    }

    #[test]
    fn one_key_listed_for_two_algorithms_is_one_key_for_both() {
        let smith = Smith::new(Algorithm::Rs256);
        let mut second = smith.jwk("k");
        second["alg"] = json!("PS256");
        let (set, skipped) = remote(&[smith.jwk("k"), second, smith.jwk("k")]);
        assert_eq!((set.len(), skipped.len()), (1, 0));
        for algorithm in [Algorithm::Rs256, Algorithm::Ps256] {
            assert!(matches!(set.find(Some("k"), algorithm), Found::Key(_)));
        }
        assert!(matches!(
            set.find(Some("k"), Algorithm::Rs512),
            Found::Unfit
        ));
    }

    #[test]
    fn a_token_without_kid_finds_the_only_key_that_fits() {
        let (a, b) = (Smith::new(Algorithm::Es256), Smith::new(Algorithm::Es256));
        let (rsa, mut nameless) = (Smith::new(Algorithm::Rs256), b.jwk(""));
        nameless.as_object_mut().unwrap().remove("kid");
        let (set, _) = remote(&[a.jwk("a"), rsa.jwk("r")]);
        assert!(set.knows(None, Algorithm::Es256));
        assert!(set.knows(None, Algorithm::Rs256));
        assert!(!set.knows(None, Algorithm::EdDsa));
        assert!(matches!(set.find(None, Algorithm::Es256), Found::Key(_)));
        let (set, _) = remote(&[a.jwk("a"), nameless]);
        assert!(matches!(set.find(None, Algorithm::Es256), Found::Unfit));
        assert!(matches!(
            set.find(Some("a"), Algorithm::Es256),
            Found::Key(_)
        ));
        assert!(matches!(
            set.find(Some("b"), Algorithm::Es256),
            Found::Unknown
        ));
        assert!(matches!(
            set.find(Some(""), Algorithm::Es256),
            Found::Unknown
        ));
    }

    #[test]
    fn a_lone_secret_answers_to_any_kid_but_only_for_its_algorithm() {
        let set = KeySet::from_shared_secret(&[7; 64], Algorithm::Hs256).unwrap();
        assert!(matches!(
            set.find(Some("any"), Algorithm::Hs256),
            Found::Key(_)
        ));
        assert!(matches!(
            set.find(Some("any"), Algorithm::Hs512),
            Found::Unfit
        ));
        assert!(KeySet::from_shared_secret(&[7; 31], Algorithm::Hs256).is_err());
        assert!(KeySet::from_shared_secret(b"", Algorithm::Hs256).is_err());
        assert!(KeySet::from_shared_secret(&[7; 64], Algorithm::Rs256).is_err());
    }

    #[test]
    fn notices_a_key_that_left() {
        let (a, b) = (Smith::new(Algorithm::Es256), Smith::new(Algorithm::Es256));
        let (old, _) = remote(&[a.jwk("a"), b.jwk("b")]);
        let (more, _) = remote(&[
            Smith::new(Algorithm::EdDsa).jwk("c"),
            b.jwk("b"),
            a.jwk("a"),
        ]);
        let (less, _) = remote(&[a.jwk("a")]);
        let (swapped, _) = remote(&[b.jwk("a"), a.jwk("b")]);
        assert!(!old.lost_a_key_of(&old));
        assert!(!more.lost_a_key_of(&old));
        assert!(less.lost_a_key_of(&old));
        assert!(swapped.lost_a_key_of(&old));
        assert!(!old.lost_a_key_of(&less));
        assert_eq!(
            old.fingerprint(),
            remote(&[b.jwk("b"), a.jwk("a")]).0.fingerprint()
        );
        for other in [&more, &less, &swapped] {
            assert_ne!(old.fingerprint(), other.fingerprint());
        }
    }

    #[test]
    fn a_key_that_loses_an_algorithm_has_left() {
        let smith = Smith::new(Algorithm::Rs256);
        let mut any = smith.jwk("k");
        any.as_object_mut().unwrap().remove("alg");
        let (narrow, wide) = (remote(&[smith.jwk("k")]).0, remote(&[any]).0);
        assert!(narrow.lost_a_key_of(&wide));
        assert!(!wide.lost_a_key_of(&narrow));
    }

    #[test]
    fn debug_shows_no_secret() {
        let set = KeySet::from_shared_secret(&[b'A'; 32], Algorithm::Hs256).unwrap();
        let text = format!("{set:?}");
        assert!(!text.contains("AAAA") && !text.contains("65, 65"), "{text}");
    }
}
