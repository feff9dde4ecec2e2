//! The keys that sign what we mint: the next one is published before it signs, the last one while its tokens live.

mod own;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use arc_swap::ArcSwap;
use serde_json::Map;
use serde_json::Value;
use tracing::info;
use tracing::warn;

use crate::clock::UnixTime;
use crate::exchange::disk::Drawer;
use crate::exchange::disk::from_files;
#[cfg(feature = "pkcs11")]
use crate::exchange::disk::in_order;
use crate::exchange::keys::RingError;
use crate::exchange::keys::RingKey;
use crate::exchange::keys::Witness;
use crate::exchange::keys::is_due;
use crate::exchange::keys::is_ours;
use crate::exchange::keys::published;
use crate::exchange::keys::signing;
use crate::exchange::keys::with_next;
use crate::exchange::ring::own::public;
use crate::exchange::settings;
use crate::exchange::shelf::Seal;
use crate::exchange::shelf::Shelf;
use crate::providers::Epoch;
use crate::store::Store;
use crate::telemetry::KeyUses;
use crate::telemetry::metrics::KeyUse;
use crate::token::KeySet;
use crate::token::MintError;
use crate::token::SigningKey;
use crate::token::public_jwks;

/// One key, as an operator sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RingKeyView {
    /// Its name in key sets.
    pub(crate) kid: String,
    /// What it signs with.
    pub(crate) algorithm: String,
    /// `next`, `signing` or `leaving`.
    pub(crate) state: &'static str,
    /// From when it signs, in seconds since 1970.
    pub(crate) from: u64,
    /// When it leaves the published set, in seconds since 1970.
    pub(crate) until: Option<u64>,
}

/// The keys of a process. Reading is one pointer; changing is rare and goes one after another.
#[derive(Debug)]
pub(crate) struct KeyRing {
    pub(super) drawer: Drawer,
    pub(super) settings: ArcSwap<settings::Ring>,
    pub(super) keys: ArcSwap<Vec<RingKey>>,
    /// The same, to check what they have signed.
    pub(super) public: ArcSwap<KeySet>,
    pub(super) changing: Mutex<()>,
    /// Where several instances keep them together.
    pub(super) shelf: Option<Shelf>,
    pub(super) turning: tokio::sync::Mutex<()>,
    uses: KeyUses,
    pub(super) witness: OnceLock<Arc<dyn Witness>>,
    /// What tokens that were signed rest on: a key that leaves before its time takes them along.
    epoch: Epoch,
}

impl KeyRing {
    /// Reads the keys of `directory` (`state_dir/keys`), and makes the first one where there is none.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub(crate) fn open(
        directory: &Path,
        settings: settings::Ring,
        seal: Option<Arc<dyn Seal>>,
        now: UnixTime,
    ) -> Result<Self, RingError> {
        let drawer = Drawer::new(directory, seal);
        let keys = given(&drawer, &settings, now)?;
        Ok(Self::of(drawer, settings, keys, None))
    }

    /// The keys of several instances, in the store that they share. There is none before [`Self::keep`] has read them.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub(crate) fn shared(
        directory: &Path,
        settings: settings::Ring,
        (store, seal): (Arc<dyn Store>, Arc<dyn Seal>),
        now: UnixTime,
    ) -> Result<Self, RingError> {
        let drawer = Drawer::new(directory, Some(Arc::clone(&seal)));
        let keys = if is_ours(&settings) {
            Vec::new()
        } else {
            given(&drawer, &settings, now)?
        };
        let shelf = Some(Shelf { store, seal });
        Ok(Self::of(drawer, settings, keys, shelf))
    }

    fn of(
        drawer: Drawer,
        settings: settings::Ring,
        keys: Vec<RingKey>,
        shelf: Option<Shelf>,
    ) -> Self {
        Self {
            drawer,
            settings: ArcSwap::from_pointee(settings),
            public: ArcSwap::from_pointee(public(&keys)),
            keys: ArcSwap::from_pointee(keys),
            changing: Mutex::new(()),
            shelf,
            turning: tokio::sync::Mutex::new(()),
            uses: KeyUses::default(),
            witness: OnceLock::new(),
            epoch: Epoch::default(),
        }
    }

    /// What kept tokens that it signed rest on.
    pub(crate) const fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Other keys from now on. What one has signed that leaves before its time is handed on by nobody any more; which did.
    pub(super) fn put(&self, keys: Vec<RingKey>, now: UnixTime) -> Vec<String> {
        let keys = Arc::new(keys);
        let kids = |keys: &[RingKey]| -> Vec<String> {
            keys.iter().map(|key| key.key.kid().to_owned()).collect()
        };
        if kids(&keys) != kids(&self.keys.load()) {
            self.public.store(Arc::new(public(&keys)));
        }
        let before = self.keys.swap(Arc::clone(&keys));
        let stays = |kid: &str| keys.iter().any(|key| key.key.kid() == kid);
        let were = published(&before, now);
        let were = were.iter().map(|key| key.key.kid());
        let left: Vec<String> = were.filter(|kid| !stays(kid)).map(str::to_owned).collect();
        // After they were swapped: who sees the new epoch sees the new keys.
        if !left.is_empty() {
            self.epoch.raise();
        }
        left
    }

    /// Who counts the uses of keys: of those of the ring, and of others that sign for the same ends.
    pub(crate) const fn uses(&self) -> &KeyUses {
        &self.uses
    }

    /// Who is told of each next key, before it is published.
    pub(crate) fn told_to(&self, witness: Arc<dyn Witness>) {
        self.witness.get_or_init(|| witness);
    }

    /// Tells of the next key among `keys`.
    pub(super) fn tell(&self, keys: &[RingKey], actor: Option<&str>) -> Result<(), RingError> {
        let (Some(witness), Some(next)) = (self.witness.get(), keys.last()) else {
            return Ok(());
        };
        let told = witness.next_key(next.key.kid(), next.from, actor);
        told.map_err(RingError::NotRecorded)
    }

    /// Signs claims with the present key, for `purpose`.
    ///
    /// # Errors
    ///
    /// When the crypto library fails.
    pub(crate) fn sign(
        &self,
        purpose: &'static str,
        typ: &str,
        claims: &Map<String, Value>,
        now: UnixTime,
    ) -> Result<(String, Box<str>), MintError> {
        let keys = self.keys.load();
        let key = signing(&keys, now).ok_or_else(|| MintError("there is no key".to_owned()))?;
        let kid = key.key.kid();
        self.uses.used(kid, KeyUse::Sign, purpose);
        Ok((key.key.sign(typ, claims)?, kid.into()))
    }

    /// Every published key (RFC 7517 §5): the next one, the present one, and those whose tokens may still live.
    pub(crate) fn jwks(&self) -> Value {
        let keys = self.keys.load();
        let all: Vec<&SigningKey> = keys.iter().map(|key| &*key.key).collect();
        public_jwks(&all)
    }

    /// The keys, as an operator sees them.
    pub(crate) fn list(&self, now: UnixTime) -> Vec<RingKeyView> {
        let keys = self.keys.load();
        let present = signing(&keys, now).map(|key| Arc::clone(&key.key));
        let view = |key: &RingKey| RingKeyView {
            kid: key.key.kid().to_owned(),
            algorithm: key.key.algorithm().as_str().to_owned(),
            state: match &present {
                Some(present) if Arc::ptr_eq(present, &key.key) => "signing",
                Some(_) | None if now < key.from => "next",
                Some(_) | None => "leaving",
            },
            from: key.from.as_secs(),
            until: key.until.map(UnixTime::as_secs),
        };
        keys.iter().map(view).collect()
    }

    /// The name of each key that several instances have together, and when it leaves the published set, or the next one takes
    /// its place: as `succession` has it for those in files.
    pub(crate) fn together(&self) -> Vec<(String, UnixTime)> {
        let settings = self.settings.load();
        if self.shelf.is_none() || !is_ours(&settings) {
            return Vec::new();
        }
        let keys = self.keys.load();
        let one = |key: &RingKey| {
            let ends = key.until.unwrap_or(key.from + settings.rotate_every);
            (key.key.kid().to_owned(), ends)
        };
        keys.iter().map(one).collect()
    }

    /// Makes the next key now, for `actor` or because it is time. It is published at once and signs after `announce`; the present one leaves after `overlap`.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub(crate) fn rotate(
        &self,
        actor: Option<&str>,
        now: UnixTime,
    ) -> Result<Vec<RingKeyView>, RingError> {
        let guard = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = self.settings.load();
        if !settings.files.is_empty() {
            return Err(RingError::OperatorsKeys);
        }
        if settings.module.is_some() {
            return Err(RingError::ModulesKeys);
        }
        let keys = with_next(&self.keys.load(), &settings, now)?;
        self.tell(&keys, actor)?;
        self.drawer.write(&keys)?;
        let _left = self.put(keys, now);
        drop(guard);
        Ok(self.list(now))
    }

    /// As [`Self::rotate`], wherever the keys are.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub(crate) async fn rotate_now(
        self: &Arc<Self>,
        actor: &str,
        now: UnixTime,
    ) -> Result<Vec<RingKeyView>, RingError> {
        let settings = self.settings.load_full();
        if let Some(shelf) = self.shelf.as_ref().filter(|_| is_ours(&settings)) {
            let wanted = Some(actor.to_owned());
            self.turn_shared(shelf, &settings, wanted, now).await?;
            return Ok(self.list(now));
        }
        // Files are written.
        let (ring, actor) = (Arc::clone(self), actor.to_owned());
        let made = tokio::task::spawn_blocking(move || ring.rotate(Some(&actor), now));
        made.await.unwrap_or(Err(RingError::Busy))
    }

    /// What time asks for, wherever the keys are.
    pub(crate) async fn keep(self: &Arc<Self>, now: UnixTime) {
        let settings = self.settings.load_full();
        if let Some(shelf) = self.shelf.as_ref().filter(|_| is_ours(&settings)) {
            if let Err(error) = self.turn_shared(shelf, &settings, None, now).await {
                warn!(%error, "The signing keys stay as they are.");
            }
            return;
        }
        let ring = Arc::clone(self);
        let turned = tokio::task::spawn_blocking(move || ring.tick(now));
        if let Err(error) = turned.await {
            warn!(%error, "The signing keys stay as they are.");
        }
    }

    /// What time asks for: the next key in time, keys that have left, files that have changed.
    pub(crate) fn tick(&self, now: UnixTime) {
        let settings = self.settings.load_full();
        if let Err(error) = self.turn(&settings, now) {
            warn!(%error, "The signing keys stay as they are.");
        }
    }

    /// Another configuration.
    pub(crate) fn configure(&self, settings: settings::Ring, now: UnixTime) {
        let before = self.settings.swap(Arc::new(settings));
        let settings = self.settings.load();
        if settings.module != before.module && (self.shelf.is_none() || !is_ours(&settings)) {
            match given(&self.drawer, &settings, now) {
                Ok(keys) => drop(self.put(keys, now)),
                Err(error) => warn!(%error, "The signing keys stay as they are."),
            }
        }
        self.tick(now);
    }

    fn turn(&self, settings: &settings::Ring, now: UnixTime) -> Result<(), RingError> {
        if !settings.files.is_empty() {
            return self.read_again(&settings.files, now);
        }
        if settings.module.is_some() {
            return Ok(());
        }
        if self.shelf.is_some() {
            // Time is looked after by `keep`, together with the others.
            return Ok(());
        }
        if is_due(&self.keys.load(), settings, now) {
            self.rotate(None, now)?;
        }
        let guard = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.keys.load();
        let after = published(&before, now);
        // Before the key that the file is sealed under is gone.
        if after.len() != before.len() || self.drawer.is_to_be_sealed_again() {
            self.drawer.write(&after)?;
            let _left = self.put(after, now);
        }
        drop(guard);
        Ok(())
    }

    fn read_again(&self, files: &[PathBuf], now: UnixTime) -> Result<(), RingError> {
        let fresh = from_files(files)?;
        let kids = |keys: &[RingKey]| -> Vec<String> {
            keys.iter().map(|key| key.key.kid().to_owned()).collect()
        };
        if kids(&fresh) != kids(&self.keys.load()) {
            info!("The files of the signing keys have changed and were read again.");
            let _left = self.put(fresh, now);
        }
        Ok(())
    }
}

/// The keys that the configuration speaks of.
fn given(
    drawer: &Drawer,
    settings: &settings::Ring,
    now: UnixTime,
) -> Result<Vec<RingKey>, RingError> {
    match &settings.module {
        Some(module) => in_module(module).map_err(RingError::Module),
        None if settings.files.is_empty() => drawer.own(settings, now),
        None => from_files(&settings.files),
    }
}

#[cfg(feature = "pkcs11")]
fn in_module(module: &settings::Module) -> Result<Vec<RingKey>, String> {
    let keys = crate::exchange::module::open(module)?;
    Ok(in_order(keys))
}

#[cfg(not(feature = "pkcs11"))]
fn in_module(_module: &settings::Module) -> Result<Vec<RingKey>, String> {
    Err("it is not in this build".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::exchange::disk::FILE;
    use crate::exchange::disk::FIRST;
    use crate::exchange::keys::MAX_KEYS;
    use crate::token::Algorithm;
    use crate::token::verify_signature_only;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn at(days: u32) -> UnixTime {
        UnixTime::from_secs(1_000_000) + DAY * days
    }

    fn settings() -> settings::Ring {
        settings::Ring {
            announce: DAY,
            overlap: 2 * DAY,
            ..settings::Ring::default()
        }
    }

    fn states(ring: &KeyRing, now: UnixTime) -> Vec<&'static str> {
        ring.list(now).into_iter().map(|key| key.state).collect()
    }

    fn signed(ring: &KeyRing, now: UnixTime) -> String {
        ring.sign("mint", "JWT", &Map::new(), now).unwrap().0
    }

    fn is_published(ring: &KeyRing, token: &str) -> bool {
        let set = KeySet::from_remote(ring.jwks().to_string().as_bytes())
            .unwrap()
            .0;
        verify_signature_only(token, &set).is_ok()
    }

    /// A seal that can be told to be older, or another.
    #[derive(Debug)]
    struct Wax(&'static str, &'static [&'static str]);

    impl Seal for Wax {
        fn seal(&self, plain: &[u8]) -> Vec<u8> {
            let turned: Vec<u8> = plain.iter().map(|byte| !byte).collect();
            [self.0.as_bytes(), &turned].concat()
        }

        fn open(&self, sealed: &[u8]) -> Option<crate::exchange::Opened> {
            let own = [&[self.0], self.1].concat();
            let found = own.iter().enumerate();
            found.into_iter().find_map(|(place, name)| {
                let turned = sealed.strip_prefix(name.as_bytes())?;
                Some(crate::exchange::Opened {
                    plain: turned.iter().map(|byte| !byte).collect(),
                    again: 0 < place,
                })
            })
        }
    }

    fn open_with(dir: &Path, wax: Wax, now: UnixTime) -> Result<KeyRing, RingError> {
        KeyRing::open(dir, settings(), Some(Arc::new(wax)), now)
    }

    #[test]
    fn the_file_is_sealed_and_one_of_an_earlier_version_is_sealed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let earlier = KeyRing::open(dir.path(), settings(), None, at(0)).unwrap();
        let kids = |ring: &KeyRing| -> Vec<String> {
            ring.list(at(1)).into_iter().map(|key| key.kid).collect()
        };
        let read = || fs::read_to_string(&path).unwrap();
        assert!(read().contains("PRIVATE KEY"));
        let ring = open_with(dir.path(), Wax("one", &[]), at(0)).unwrap();
        assert_eq!(kids(&ring), kids(&earlier));
        ring.rotate(None, at(1)).unwrap();
        assert!(!read().contains("PRIVATE KEY"), "{}", read());
        for kid in kids(&ring) {
            assert!(read().contains(&kid), "whoever looks sees the names");
        }
        // The next session key: what is there is sealed under it, at the start and while it runs.
        let ring = open_with(dir.path(), Wax("two", &["one"]), at(1)).unwrap();
        let again = open_with(dir.path(), Wax("two", &[]), at(1)).unwrap();
        assert_eq!(kids(&ring), kids(&again));
        let before = open_with(dir.path(), Wax("three", &["two"]), at(1)).unwrap();
        open_with(dir.path(), Wax("two", &["three"]), at(1)).unwrap();
        before.tick(at(1));
        open_with(dir.path(), Wax("three", &[]), at(1)).unwrap();
        // Without any of the keys nothing takes its place.
        let lost = open_with(dir.path(), Wax("four", &[]), at(1)).unwrap_err();
        assert!(lost.to_string().contains("another session key"), "{lost}");
        open_with(dir.path(), Wax("three", &[]), at(1)).unwrap();
    }

    #[derive(Debug, Default)]
    struct Told(Mutex<Vec<(String, Option<String>)>>, bool);

    impl Witness for Told {
        fn withdrawn(&self, kid: &str, _: &str, actor: &str) -> Result<(), String> {
            self.next_key(kid, at(0), Some(actor))
        }

        fn next_key(&self, kid: &str, _: UnixTime, actor: Option<&str>) -> Result<(), String> {
            let told = (kid.to_owned(), actor.map(str::to_owned));
            self.0.lock().unwrap().push(told);
            if self.1 {
                Err("the disk is full".to_owned())
            } else {
                Ok(())
            }
        }
    }

    #[tokio::test]
    async fn each_next_key_is_recorded_before_it_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let ring = Arc::new(KeyRing::open(dir.path(), settings(), None, at(0)).unwrap());
        let told = Arc::new(Told::default());
        ring.told_to(Arc::clone(&told) as Arc<dyn Witness>);
        let by = ring.rotate_now("unix:7", at(1)).await.unwrap();
        ring.keep(at(40)).await;
        let kids: Vec<String> = ring.list(at(40)).into_iter().map(|key| key.kid).collect();
        let recorded = told.0.lock().unwrap().clone();
        assert_eq!(recorded.len(), 2, "{recorded:?}");
        assert_eq!(recorded[0], (by[1].kid.clone(), Some("unix:7".to_owned())));
        assert_eq!((kids.last(), &recorded[1].1), (Some(&recorded[1].0), &None));
        // What cannot be recorded does not happen.
        let dir = tempfile::tempdir().unwrap();
        let ring = Arc::new(KeyRing::open(dir.path(), settings(), None, at(0)).unwrap());
        ring.told_to(Arc::new(Told(Mutex::default(), true)));
        assert!(ring.rotate_now("unix:7", at(1)).await.is_err());
        assert_eq!(ring.list(at(1)).len(), 1);
        let again = KeyRing::open(dir.path(), settings(), None, at(1)).unwrap();
        assert_eq!(again.list(at(1)).len(), 1);
    }

    #[test]
    fn keys_turn_without_a_token_that_nobody_can_check() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(dir.path(), settings(), None, at(0)).unwrap();
        let first = signed(&ring, at(0));
        ring.tick(at(28));
        assert_eq!(states(&ring, at(28)), ["signing"]);
        ring.tick(at(29));
        assert_eq!(states(&ring, at(29)), ["signing", "next"]);
        ring.tick(at(29));
        assert_eq!(ring.list(at(29)).len(), 2, "once is enough");
        assert!(is_published(&ring, &signed(&ring, at(29))));
        assert_eq!(states(&ring, at(30)), ["leaving", "signing"]);
        let second = signed(&ring, at(30));
        assert!(is_published(&ring, &first) && is_published(&ring, &second));
        ring.tick(at(32));
        assert_eq!(states(&ring, at(32)), ["signing"]);
        assert!(!is_published(&ring, &first) && is_published(&ring, &second));
    }

    #[tokio::test]
    async fn a_key_that_is_withdrawn_is_gone_at_once_and_another_one_signs() {
        let dir = tempfile::tempdir().unwrap();
        let ring = Arc::new(KeyRing::open(dir.path(), settings(), None, at(0)).unwrap());
        let told = Arc::new(Told::default());
        ring.told_to(Arc::clone(&told) as Arc<dyn Witness>);
        let first = signed(&ring, at(0));
        let kids = |now| -> Vec<String> {
            let keys = ring.list(now).into_iter();
            keys.map(|key| format!("{} {}", key.state, key.kid))
                .collect()
        };
        // There is no other one yet.
        let leaked = ring.list(at(0)).remove(0).kid;
        let kept = ring.epoch().current();
        ring.withdraw(&leaked, "unix:7", at(0)).await.unwrap();
        assert_eq!(states(&ring, at(0)), ["signing"]);
        assert!(!is_published(&ring, &first));
        assert!(is_published(&ring, &signed(&ring, at(0))));
        assert_ne!(
            ring.epoch().current(),
            kept,
            "what it signed is kept by nobody"
        );
        let recorded = told.0.lock().unwrap().pop().unwrap();
        assert_eq!(recorded, (leaked.clone(), Some("unix:7".to_owned())));
        // The one that waits, at once, and for as long as any.
        let [signing, next] = <[_; 2]>::try_from(ring.rotate(None, at(1)).unwrap()).unwrap();
        let kept = ring.epoch().current();
        ring.withdraw(&signing.kid, "unix:7", at(1)).await.unwrap();
        assert_eq!(kids(at(1)), [format!("signing {}", next.kid)]);
        assert_eq!(ring.list(at(1))[0].until, None);
        assert_ne!(ring.epoch().current(), kept);
        // The one that waits: the present one goes on.
        let [signing, next] = <[_; 2]>::try_from(ring.rotate(None, at(2)).unwrap()).unwrap();
        ring.withdraw(&next.kid, "unix:7", at(2)).await.unwrap();
        assert_eq!(kids(at(2)), [format!("signing {}", signing.kid)]);
        assert_eq!(ring.list(at(2))[0].until, None);
        // One that is left over: nothing else changes.
        ring.rotate(None, at(2)).unwrap();
        let before = kids(at(4));
        let kept = ring.epoch().current();
        ring.withdraw(&signing.kid, "unix:7", at(4)).await.unwrap();
        assert_eq!(kids(at(4)), before[1..]);
        assert_ne!(ring.epoch().current(), kept);
        // It stays gone, and what time takes voids nothing.
        let again = KeyRing::open(dir.path(), settings(), None, at(4)).unwrap();
        assert_eq!(again.list(at(4)), ring.list(at(4)));
        let unknown = ring.withdraw(&leaked, "unix:7", at(4)).await;
        assert!(matches!(unknown, Err(RingError::Unknown(_))));
        let kept = ring.epoch().current();
        ring.tick(at(40));
        ring.tick(at(44));
        assert_eq!(ring.epoch().current(), kept);
        // What cannot be recorded does not happen.
        let dir = tempfile::tempdir().unwrap();
        let ring = Arc::new(KeyRing::open(dir.path(), settings(), None, at(0)).unwrap());
        ring.told_to(Arc::new(Told(Mutex::default(), true)));
        let before = ring.list(at(0));
        let refused = ring.withdraw(&before[0].kid, "unix:7", at(0)).await;
        assert!(refused.is_err());
        assert_eq!(ring.list(at(0)), before);
    }

    #[test]
    fn the_ring_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(dir.path(), settings(), None, at(0)).unwrap();
        ring.rotate(None, at(1)).unwrap();
        let again = KeyRing::open(dir.path(), settings(), None, at(1)).unwrap();
        assert_eq!(again.list(at(1)), ring.list(at(1)));
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o600
        );
    }

    #[test]
    fn the_key_of_an_earlier_version_is_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let old = SigningKey::generate().unwrap();
        fs::write(dir.path().join(FIRST), old.to_pem()).unwrap();
        let ring = KeyRing::open(dir.path(), settings(), None, at(0)).unwrap();
        assert_eq!(ring.list(at(0))[0].kid, old.kid());
    }

    #[test]
    fn a_changed_algorithm_takes_effect_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(dir.path(), settings(), None, at(0)).unwrap();
        for (day, algorithm) in [(1, Algorithm::EdDsa), (3, Algorithm::Rs256)] {
            let changed = settings::Ring {
                algorithm,
                ..settings()
            };
            ring.configure(changed, at(day));
            let keys = ring.list(at(day));
            let next = keys.iter().find(|key| key.state == "next").unwrap();
            assert_eq!(next.algorithm, algorithm.as_str());
            assert!(is_published(&ring, &signed(&ring, at(day + 1))));
        }
    }

    #[test]
    fn files_are_read_again_and_not_rotated_by_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        let (first, second) = (
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        );
        fs::write(&path, first.to_pem()).unwrap();
        let files = settings::Ring {
            files: vec![path.clone()],
            ..settings()
        };
        let ring = KeyRing::open(dir.path(), files, None, at(0)).unwrap();
        assert!(matches!(
            ring.rotate(None, at(0)),
            Err(RingError::OperatorsKeys)
        ));
        fs::write(&path, "half a fi").unwrap();
        ring.tick(at(1));
        assert_eq!(ring.list(at(1))[0].kid, first.kid());
        fs::write(&path, second.to_pem()).unwrap();
        ring.tick(at(1));
        assert_eq!(ring.list(at(1))[0].kid, second.kid());
    }

    #[test]
    fn the_set_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(dir.path(), settings(), None, at(0)).unwrap();
        for _ in 1..MAX_KEYS {
            ring.rotate(None, at(0)).unwrap();
        }
        assert!(matches!(ring.rotate(None, at(0)), Err(RingError::Full(_))));
        ring.rotate(None, at(40)).unwrap();
    }

    /// Turns every bit, under a mark that says whose it is.
    #[derive(Debug)]
    struct Turned(u8, u8);

    impl Seal for Turned {
        fn seal(&self, plain: &[u8]) -> Vec<u8> {
            let turned = plain.iter().map(|byte| !byte);
            std::iter::once(self.0).chain(turned).collect()
        }

        fn open(&self, sealed: &[u8]) -> Option<crate::exchange::Opened> {
            let (mark, rest) = sealed.split_first()?;
            (*mark == self.0 || *mark == self.1).then(|| crate::exchange::Opened {
                plain: rest.iter().map(|byte| !byte).collect(),
                again: *mark != self.0,
            })
        }
    }

    const ROW: crate::store::Key<'_> = crate::store::Key {
        table: "signing_keys",
        key: b"ring",
    };

    fn instance(dir: &Path, store: &Arc<crate::store::MemoryStore>, seal: Turned) -> Arc<KeyRing> {
        let parts = (
            Arc::clone(store) as Arc<dyn Store>,
            Arc::new(seal) as Arc<dyn Seal>,
        );
        Arc::new(KeyRing::shared(dir, settings(), parts, at(0)).unwrap())
    }

    #[tokio::test]
    async fn instances_that_share_a_store_sign_with_the_same_keys() {
        let (dir, store) = (tempfile::tempdir().unwrap(), Arc::default());
        let new = || instance(dir.path(), &store, Turned(1, 1));
        let (one, two) = (new(), new());
        assert!(one.sign("mint", "JWT", &Map::new(), at(0)).is_err());
        tokio::join!(one.keep(at(0)), two.keep(at(0)));
        assert_eq!(one.list(at(0)), two.list(at(0)));
        assert_eq!(states(&one, at(0)), ["signing"]);
        assert!(is_published(&two, &signed(&one, at(0))));
        // Made by one, published by both before it signs; in time, and once.
        one.rotate_now("unix:0", at(1)).await.unwrap();
        two.keep(at(1)).await;
        assert_eq!(states(&two, at(1)), ["signing", "next"]);
        assert!(is_published(&two, &signed(&one, at(2))));
        tokio::join!(one.keep(at(31)), two.keep(at(31)));
        one.keep(at(31)).await;
        assert_eq!(one.list(at(31)), two.list(at(31)));
        assert_eq!(states(&two, at(31)), ["signing", "next"]);
        assert_eq!(two.together().len(), 2);
        // A process that starts has them, an emptied store gets them back, and no file was written.
        store.delete(ROW).await.unwrap();
        one.keep(at(31)).await;
        let third = new();
        third.keep(at(31)).await;
        assert_eq!(third.list(at(31)), two.list(at(31)));
        assert!(!dir.path().join(FILE).exists());
    }

    #[tokio::test]
    async fn instances_find_no_key_that_could_not_be_recorded() {
        let (dir, store) = (tempfile::tempdir().unwrap(), Arc::default());
        let new = || instance(dir.path(), &store, Turned(1, 1));
        let (one, two) = (new(), new());
        one.keep(at(0)).await;
        let before = store.get(ROW, at(0)).await.unwrap().unwrap();
        one.told_to(Arc::new(Told(Mutex::default(), true)));
        assert!(one.rotate_now("unix:7", at(1)).await.is_err());
        assert_eq!(store.get(ROW, at(1)).await.unwrap().unwrap(), before);
        two.keep(at(1)).await;
        assert_eq!(states(&two, at(1)), ["signing"]);
    }

    #[tokio::test]
    async fn a_key_that_one_instance_withdraws_is_gone_at_all_of_them() {
        let (dir, store) = (tempfile::tempdir().unwrap(), Arc::default());
        let alone = KeyRing::open(dir.path(), settings(), None, at(0)).unwrap();
        let new = || instance(dir.path(), &store, Turned(1, 1));
        let (one, two) = (new(), new());
        one.keep(at(0)).await;
        two.keep(at(0)).await;
        assert_eq!(one.list(at(0)), alone.list(at(0)));
        let (leaked, kept) = (one.list(at(0)).remove(0).kid, two.epoch().current());
        let token = signed(&two, at(0));
        one.withdraw(&leaked, "unix:7", at(0)).await.unwrap();
        two.keep(at(0)).await;
        assert_eq!(states(&two, at(0)), ["signing"]);
        assert_eq!(one.list(at(0)), two.list(at(0)));
        assert!(!is_published(&one, &token) && !is_published(&two, &token));
        assert_ne!(two.epoch().current(), kept);
        // A store that was emptied does not bring it back, nor does what an instance had alone once.
        store.delete(ROW).await.unwrap();
        let third = new();
        third.keep(at(0)).await;
        let back = third.list(at(0)).iter().any(|key| key.kid == leaked);
        assert!(!back);
    }

    #[tokio::test]
    async fn the_row_is_sealed_and_what_does_not_open_stays() {
        let (dir, store) = (tempfile::tempdir().unwrap(), Arc::default());
        let one = instance(dir.path(), &store, Turned(1, 1));
        one.keep(at(0)).await;
        let row = store.get(ROW, at(0)).await.unwrap().unwrap();
        assert!(!row.value.windows(7).any(|part| part == b"PRIVATE"));
        let stranger = instance(dir.path(), &store, Turned(2, 2));
        stranger.keep(at(0)).await;
        assert!(stranger.list(at(0)).is_empty());
        assert!(stranger.rotate_now("unix:0", at(0)).await.is_err());
        assert_eq!(store.get(ROW, at(0)).await.unwrap().unwrap(), row);
        // The next session key: sealed again under it at once, and then without the last one.
        let next = instance(dir.path(), &store, Turned(2, 1));
        next.keep(at(0)).await;
        assert_eq!(next.list(at(0)), one.list(at(0)));
        stranger.keep(at(0)).await;
        assert_eq!(stranger.list(at(0)), one.list(at(0)));
    }

    #[tokio::test]
    async fn who_shares_a_store_from_now_on_brings_its_keys() {
        let (dir, store) = (tempfile::tempdir().unwrap(), Arc::default());
        let alone = KeyRing::open(dir.path(), settings(), None, at(0)).unwrap();
        let ring = instance(dir.path(), &store, Turned(1, 1));
        ring.keep(at(0)).await;
        assert_eq!(ring.list(at(0)), alone.list(at(0)));
        // The operator's files need no store.
        let file = dir.path().join("a.pem");
        fs::write(&file, SigningKey::generate().unwrap().to_pem()).unwrap();
        let files = settings::Ring {
            files: vec![file],
            ..settings()
        };
        ring.configure(files, at(0));
        ring.keep(at(0)).await;
        assert_ne!(ring.list(at(0))[0].kid, alone.list(at(0))[0].kid);
        ring.configure(settings(), at(0));
        ring.keep(at(0)).await;
        assert_eq!(ring.list(at(0)), alone.list(at(0)));
    }
}
