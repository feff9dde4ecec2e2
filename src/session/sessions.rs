//! Our sessions: made by a login, restored from a cookie, ended once and for all.

use std::fmt;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quick_cache::sync::Cache;
use tokio::runtime::Handle as Runtime;
use tokio::sync::mpsc;
use tracing::debug;
use tracing::warn;

use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity::ProviderId;
use crate::rollout::Plan;
use crate::secret::Secret;
use crate::session::body::Body;
use crate::session::body::NewSession;
use crate::session::handle::Handle;
use crate::session::id;
use crate::session::id::SessionId;
use crate::session::kept::KeptForms;
use crate::session::left::Left;
use crate::session::lifetimes::Lifetimes;
use crate::session::live::Live;
use crate::session::registry::Registry;
use crate::session::registry::Tally;
use crate::session::seal::KeyRing;
use crate::session::seal::NoKeys;
use crate::session::settings::Settings;
use crate::session::wrap::Wrapping;
use crate::store::Event;
use crate::store::Sight;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Watch;
use crate::telemetry::KeyUses;
use crate::telemetry::Metrics;

pub(super) const TABLE: &str = "session";
/// Sessions kept in memory beside the store: 65 536. One more is read again when it comes back.
const KEPT: usize = 65_536;
/// Rows waiting to be written again: 1 024. When more are due, they wait for their next use.
const TOUCHES: usize = 1_024;
/// A session counts as running for this much longer than its idle time, because its last use may not be written yet.
pub(super) const SLACK: Duration = Duration::from_secs(120);

/// Our sessions. Lives as long as the process; a reload changes its settings.
pub(crate) struct Sessions {
    pub(super) store: Arc<dyn Store>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) active: ArcSwap<Active>,
    pub(super) registry: Arc<Registry>,
    lifetimes: Lifetimes,
    pub(super) kept: Cache<[u8; 32], Arc<Live>>,
    /// Who counts the uses of its keys.
    uses: KeyUses,
    pub(super) wrapping: Wrapping,
    pub(super) forms: KeptForms,
}

pub(super) struct Active {
    /// Raised by every reload: what was opened before is opened again.
    pub(super) generation: u64,
    pub(super) ring: Arc<KeyRing>,
    pub(super) idle: Duration,
    absolute: Duration,
    pub(super) revalidate: Duration,
    shortest: bool,
    pub(super) max_per_subject: usize,
}

/// A session that was made.
#[derive(Debug)]
pub(crate) struct Created {
    /// The value of the cookie.
    pub(crate) cookie: Secret<String>,
    /// When it ends at the latest.
    pub(crate) ends: UnixTime,
    /// The key of its row: names the session, opens nothing.
    pub(crate) row: [u8; 32],
    /// For whom room is to be made ([`Sessions::make_room_for`]) once it is theirs.
    pub(crate) room: Room,
}

/// A person who has one session more, and those of it that end by themselves in a moment.
pub(crate) struct Room {
    pub(super) person: Handle,
    pub(super) replaced: Vec<[u8; 32]>,
}

/// What is left of a session that was ended.
#[derive(Debug)]
pub(crate) struct Farewell {
    /// Where it came from.
    pub(crate) provider: ProviderId,
    /// The key of its row.
    pub(crate) row: [u8; 32],
    /// It was idle for too long: nobody could use it any more.
    pub(crate) rested: bool,
    /// For RP-initiated logout, if the login brought one and the cookie was there.
    pub(crate) id_token: Option<Secret<String>>,
    /// The row of the session that it was given for, which may still be there.
    pub(crate) follows: Option<[u8; 32]>,
    /// The session at another provider that ends with it, as far as the cookie was there.
    pub(crate) left: Option<Left>,
    /// To be revoked at its owner (RFC 7009); never of a session that has rested for too long.
    pub(crate) refresh_token: Option<Secret<String>>,
}

impl Sessions {
    /// Opens the sessions of a store. Rows in use are written again by a task on `background`; another one listens to what
    /// other instances change.
    ///
    /// # Errors
    ///
    /// [`NoKeys`], when the settings name none.
    pub(crate) fn new(
        settings: &Settings,
        store: Arc<dyn Store>,
        entropy: Arc<dyn Entropy>,
        background: &Runtime,
    ) -> Result<Arc<Self>, NoKeys> {
        let (touches, due) = mpsc::channel(TOUCHES);
        let uses = KeyUses::default();
        let registry = Registry::new(Arc::clone(&store), touches);
        let sessions = Arc::new(Self {
            active: ArcSwap::from_pointee(Active::new(settings, 1, &uses)?),
            kept: Cache::new(KEPT),
            wrapping: Wrapping::default(),
            forms: KeptForms::default(),
            lifetimes: Lifetimes::new(Arc::clone(&store)),
            registry: Arc::clone(&registry),
            store,
            entropy,
            uses,
        });
        background.spawn(write_again(Arc::downgrade(&sessions), due));
        if sessions.store.sight() != Sight::Alone {
            let told = sessions.store.watch(TABLE);
            background.spawn(listen(Arc::downgrade(&registry), told));
        }
        Ok(sessions)
    }

    /// Takes over changed keys and lifetimes. Running sessions keep their end.
    ///
    /// # Errors
    ///
    /// [`NoKeys`], when the settings name none; nothing changes then.
    pub(crate) fn reload(&self, settings: &Settings) -> Result<(), NoKeys> {
        let next = self.active.load().generation + 1;
        let next = Active::new(settings, next, &self.uses)?;
        self.active.store(Arc::new(next));
        Ok(())
    }

    /// Has the uses of its keys counted from now on, those of later keys too.
    pub(crate) fn count_keys_by(&self, metrics: &Arc<Metrics>) {
        self.uses.count_by(metrics);
    }

    /// The ring that seals sessions: the login's cookies are sealed under it too.
    pub(crate) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.active.load().ring)
    }

    /// Takes in how long `provider` lets the session of a login live; how long ours may live at most because of that, if the
    /// settings say so.
    ///
    /// # Errors
    ///
    /// When the store gives no answer: nobody knows what the other side has said.
    pub(crate) async fn may_live(
        &self,
        plan: Option<&Plan>,
        provider: &ProviderId,
        said: Option<Duration>,
        now: UnixTime,
    ) -> Result<Option<Duration>, StoreError> {
        let learned = self.lifetimes.learn(provider, said, now).await;
        if !self.active.load().shortest {
            // It is for a later setting, and fails nobody's login.
            if let Err(error) = learned {
                debug!(%error, "How long a provider lets a session live is learned at another login.");
            }
            return Ok(None);
        }
        learned?;
        self.lifetimes.shortest(plan, provider, said, now).await
    }

    /// Makes a session, under a new id. It exists once this returns, and is found by whoever may end it. No room is made for it
    /// yet: whoever gets it may have to give it back.
    ///
    /// # Errors
    ///
    /// When the store did not take it.
    pub(crate) async fn create(
        &self,
        new: NewSession<'_>,
        now: UnixTime,
    ) -> Result<Created, StoreError> {
        self.create_in_place_of(None, new, now).await
    }

    /// The same, of a browser whose earlier session the caller ends in a moment.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) async fn create_in_place_of(
        &self,
        earlier: Option<[u8; 32]>,
        new: NewSession<'_>,
        now: UnixTime,
    ) -> Result<Created, StoreError> {
        let active = self.active.load_full();
        let mut bytes = [0; 32];
        self.entropy.fill(&mut bytes);
        let ends = new.until.min(now + active.absolute);
        let (body, handle) = (
            Body::new(&new, now),
            Handle::new(&new, (active.idle, ends), now),
        );
        let row = id::row(&bytes);
        // Nobody could end what is found by nothing, and nobody could go on with it.
        if Handle::read(Secret::new(handle.written()).expose()).is_none() {
            let what = String::from("what a session is found by cannot be read back");
            return Err(StoreError::Damaged(what));
        }
        self.write_new(&active, (&bytes, &row), (&body, &handle))
            .await?;
        let follows = new.came_by.as_ref().map(|came_by| *came_by.follows());
        Ok(Created {
            cookie: Secret::new(URL_SAFE_NO_PAD.encode(bytes)),
            ends,
            row,
            room: Room {
                person: handle,
                replaced: earlier.into_iter().chain(follows).collect(),
            },
        })
    }

    /// The row of a session that somebody has used here a moment ago: what is no session is none of these.
    pub(crate) fn in_use_here(&self, id: SessionId<'_>, now: UnixTime) -> Option<[u8; 32]> {
        let row = id.row();
        let live = self.registry.find(&row)?;
        live.is_live(now).then_some(row)
    }

    /// Ends a session for everybody who holds it, and removes its row; `None`: there was none.
    ///
    /// # Errors
    ///
    /// When the store did not confirm, and the end must not be acknowledged. In this process the session is over, unless its row
    /// could not even be read.
    pub(crate) async fn end(
        &self,
        id: SessionId<'_>,
        now: UnixTime,
    ) -> Result<Option<Farewell>, StoreError> {
        let active = self.active.load_full();
        let row = id.row();
        let live = self.registry.entry(&row);
        let opened = self.read(&active, id.bytes(), &row, now).await?;
        live.end();
        let Some(opened) = opened else {
            return self.end_unopened(&active, &row, now).await;
        };
        let farewell = self.end_row(&active, &row, now).await?;
        Ok(farewell.map(|farewell| Farewell {
            id_token: opened.body.id_token.map(Secret::new),
            left: opened.body.left.map(Left::read),
            ..farewell
        }))
    }

    /// Sessions in use here: how many of each application, side and origin. What nobody has used for too long is kept in
    /// memory no longer.
    pub(crate) fn in_use(&self, now: UnixTime) -> Tally {
        let (tally, unused) = self.registry.count(now);
        for row in &unused {
            self.kept.remove(row);
        }
        tally
    }

    /// Ends a session for everybody who holds it in this process.
    pub(super) fn forget(&self, row: &[u8; 32]) {
        if let Some(live) = self.registry.find(row) {
            live.end();
        }
        self.kept.remove(row);
    }
}

impl Active {
    fn new(settings: &Settings, generation: u64, uses: &KeyUses) -> Result<Self, NoKeys> {
        Ok(Self {
            generation,
            ring: Arc::new(KeyRing::counted(&settings.keys, uses.clone())?),
            idle: settings.idle,
            absolute: settings.absolute,
            revalidate: settings.revalidate,
            shortest: settings.shortest,
            max_per_subject: settings.max_per_subject,
        })
    }
}

async fn write_again(sessions: Weak<Sessions>, mut due: mpsc::Receiver<Arc<Live>>) {
    while let Some(live) = due.recv().await {
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        if let Err(error) = sessions.touch(&live).await {
            warn!(error = %error, "The use of a session was not written; it may end early after a restart.");
        }
    }
}

/// Has sessions read again that other instances have changed or ended.
async fn listen(registry: Weak<Registry>, mut told: Watch) {
    while let Some(event) = told.next().await {
        let Some(registry) = registry.upgrade() else {
            return;
        };
        match event {
            Event::Changed(key) => {
                if let Ok(row) = (*key).try_into() {
                    registry.tell(&row);
                }
            }
            Event::Missed => registry.has_missed(),
        }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[room for a session]")
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::identity::CanonicalSubject;
    use crate::identity::ClaimMap;
    use crate::identity::Identity;
    use crate::identity::Issuer;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use crate::providers::Authenticated;
    use crate::rollout::Arm;
    use crate::rollout::RolloutId;
    use crate::session::body::Backing;
    use crate::session::body::Origin;
    use crate::session::restored::Restored;
    use crate::session::settings::StoreKind;
    use crate::store::By;
    use crate::store::Each;
    use crate::store::Expect;
    use crate::store::Key;
    use crate::store::MemoryStore;
    use crate::store::NewRow;
    use crate::store::Row;
    use async_trait::async_trait;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;
    use tokio::runtime::Handle;
    use tokio::sync::Notify;

    fn settings(keys: &[u8]) -> Settings {
        Settings {
            cookie: "__Host-authferry".into(),
            secure: true,
            idle: Duration::from_secs(900),
            absolute: Duration::from_secs(8 * 3_600),
            keys: keys.iter().map(|k| Secret::new(vec![*k; 32])).collect(),
            revalidate: Duration::from_secs(100),
            max_per_subject: 3,
            same_site: crate::session::settings::SameSite::Lax,
            shortest: false,
            store: StoreKind::Memory,
        }
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(1_000_000 + seconds)
    }

    fn alice() -> Authenticated {
        let mut attributes = ClaimMap::default();
        attributes.insert("email", "alice@corp.test".into());
        let identity = Identity {
            provider: ProviderId::new("modern"),
            key: SubjectKey {
                issuer: Issuer::new("https://new.idp.test"),
                subject: Subject::try_from("alice").unwrap(),
            },
            attributes: Arc::new(attributes),
            client_id: None,
            acr: Some("mfa".into()),
            scopes: Box::default(),
            delegation: crate::identity::Delegation::default(),
        };
        Authenticated::for_test(identity, at(60))
    }

    fn open(store: &Arc<MemoryStore>) -> Arc<Sessions> {
        let store: Arc<dyn Store> = Arc::clone(store) as _;
        let entropy = Arc::new(SystemEntropy);
        Sessions::new(&settings(&[1]), store, entropy, &Handle::current()).unwrap()
    }

    async fn log_in(sessions: &Sessions, until: UnixTime) -> String {
        let (authenticated, canonical) = (alice(), CanonicalSubject::named("hr:1").unwrap());
        let new = NewSession {
            authenticated: &authenticated,
            canonical: &canonical,
            app: "crm",
            host: "app.test",
            backing: Some(Backing {
                rollout: RolloutId::new("crm"),
                epoch: 3,
                arm: Arm::To,
            }),
            rule: "percent",
            origin: Origin::Login,
            until,
            began: UnixTime::NEVER,
            id_token: Some(&Secret::new(String::from("ID"))),
            sid: None,
            refresh_token: None,
            lasts: None,
            stands_for: None,
            came_by: None,
            left: None,
        };
        let created = sessions.create(new, at(0)).await.unwrap();
        created.cookie.expose().clone()
    }

    async fn restore(sessions: &Sessions, cookie: &str, now: UnixTime) -> Option<Restored> {
        let id = SessionId::parse(cookie)?;
        sessions.restore(id, now).await.unwrap()
    }

    #[tokio::test]
    async fn a_session_is_restored_as_it_was_made_by_another_process_too() {
        let store = Arc::new(MemoryStore::default());
        let cookie = log_in(&open(&store), UnixTime::NEVER).await;
        assert!(cookie.len() < 200);
        let restored = restore(&open(&store), &cookie, at(1)).await.unwrap();
        assert_eq!(restored.identity().key, alice().identity().key);
        assert_eq!(
            restored.identity().attributes,
            alice().identity().attributes
        );
        assert_eq!(restored.identity().acr.as_deref(), Some("mfa"));
        assert_eq!(restored.canonical().as_str(), "hr:1");
        assert_eq!(restored.host(), "app.test");
        assert_eq!(restored.content.backing.as_ref().unwrap().epoch, 3);
        assert_eq!(&**restored.rule(), "percent");
    }

    #[tokio::test]
    async fn an_unknown_or_changed_cookie_is_no_session_and_leaves_nothing_behind() {
        let store = Arc::new(MemoryStore::default());
        let sessions = open(&store);
        let cookie = log_in(&sessions, UnixTime::NEVER).await;
        assert!(restore(&sessions, &"A".repeat(43), at(1)).await.is_none());
        for place in 0..cookie.len() {
            let mut changed = cookie.clone().into_bytes();
            changed[place] = if changed[place] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(
                restore(&sessions, &changed, at(1)).await.is_none(),
                "{place}"
            );
        }
        assert_eq!(sessions.registry.len(), 0);
        assert!(restore(&sessions, &cookie, at(1)).await.is_some());
    }

    /// Another release has written it, beside which this one runs, or to which somebody goes back.
    #[tokio::test]
    async fn a_row_of_another_format_is_no_session_and_stays_as_it_is() {
        let store = Arc::new(MemoryStore::default());
        let cookie = log_in(&open(&store), UnixTime::NEVER).await;
        let (key, whole) = store.scan(TABLE, b"", 9, at(1)).await.unwrap().remove(0);
        let key = Key {
            table: TABLE,
            key: &key,
        };
        let put = async |value: &[u8]| {
            let (entries, expires) = (&[], at(8 * 3_600));
            let row = NewRow {
                key,
                value,
                entries,
                expires,
            };
            assert!(store.write(row, None).await.unwrap());
        };
        // The first byte is the layout of a row; both that are sealed in it begin with theirs.
        for place in 0..whole.value.len() {
            let mut other = whole.value.clone();
            other[place] ^= 4;
            put(&other).await;
            assert!(restore(&open(&store), &cookie, at(1)).await.is_none());
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            let left = store.get(key, at(5)).await.unwrap().unwrap();
            assert_eq!(left.value, other, "{place}");
        }
        put(&whole.value).await;
        assert!(restore(&open(&store), &cookie, at(6)).await.is_some());
    }

    #[tokio::test]
    async fn a_session_ends_when_idle_and_whatever_happens_when_it_is_over() {
        let sessions = open(&Arc::new(MemoryStore::default()));
        let cookie = log_in(&sessions, UnixTime::NEVER).await;
        let mut now = 0;
        while now < 8 * 3_600 {
            assert!(
                restore(&sessions, &cookie, at(now)).await.is_some(),
                "{now}"
            );
            tokio::task::yield_now().await;
            now += 840;
        }
        assert!(restore(&sessions, &cookie, at(8 * 3_600)).await.is_none());
        let idle = log_in(&sessions, UnixTime::NEVER).await;
        assert!(restore(&sessions, &idle, at(899)).await.is_some());
        assert!(restore(&sessions, &idle, at(899 + 900)).await.is_none());
        let short = log_in(&sessions, at(10)).await;
        assert!(restore(&sessions, &short, at(9)).await.is_some());
        assert!(restore(&sessions, &short, at(10)).await.is_none());
    }

    #[tokio::test]
    async fn who_has_rested_for_too_long_stays_out_whatever_is_allowed_later() {
        let store = Arc::new(MemoryStore::default());
        let cookie = log_in(&open(&store), UnixTime::NEVER).await;
        let mut longer = settings(&[1]);
        longer.idle = Duration::from_hours(8);
        let sessions = open(&store);
        sessions.reload(&longer).unwrap();
        assert!(restore(&sessions, &cookie, at(900 + 120)).await.is_none());
        assert!(restore(&sessions, &cookie, at(900)).await.is_some());
    }

    #[tokio::test]
    async fn a_use_is_written_at_most_each_minute_and_survives_a_restart() {
        let store = Arc::new(MemoryStore::default());
        let sessions = open(&store);
        let cookie = log_in(&sessions, UnixTime::NEVER).await;
        let live = Arc::clone(restore(&sessions, &cookie, at(1)).await.unwrap().live());
        let version = async || {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let key = Key {
                table: TABLE,
                key: &live.row,
            };
            store.get(key, at(1)).await.unwrap().unwrap().version
        };
        let first = version().await;
        assert!(live.use_at(at(59)));
        assert_eq!(version().await, first);
        assert!(live.use_at(at(850)));
        let second = version().await;
        assert_ne!(second, first);
        assert!(live.use_at(at(851)));
        assert_eq!(version().await, second);
        assert!(restore(&open(&store), &cookie, at(1_700)).await.is_some());
    }

    #[tokio::test]
    async fn whoever_holds_a_session_sees_its_end_at_once() {
        let store = Arc::new(MemoryStore::default());
        let sessions = open(&store);
        let cookie = log_in(&sessions, UnixTime::NEVER).await;
        let held = restore(&sessions, &cookie, at(1)).await.unwrap();
        sessions.kept.clear();
        let id = SessionId::parse(&cookie).unwrap();
        let farewell = sessions.end(id, at(2)).await.unwrap().unwrap();
        assert_eq!(farewell.id_token.unwrap().expose(), "ID");
        assert!(!held.live().use_at(at(2)));
        assert!(restore(&sessions, &cookie, at(2)).await.is_none());
        assert!(restore(&open(&store), &cookie, at(2)).await.is_none());
        assert!(sessions.end(id, at(2)).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn writing_a_use_never_brings_an_ended_session_back() {
        let store = Arc::new(MemoryStore::default());
        let sessions = open(&store);
        let cookie = log_in(&sessions, UnixTime::NEVER).await;
        let held = restore(&sessions, &cookie, at(1)).await.unwrap();
        let key = Key {
            table: TABLE,
            key: &held.live().row,
        };
        store.delete(key).await.unwrap();
        sessions.touch(held.live()).await.unwrap();
        assert!(!held.live().use_at(at(2)));
        assert!(store.get(key, at(2)).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_new_key_takes_over_and_a_removed_one_ends_its_sessions() {
        let store = Arc::new(MemoryStore::default());
        let sessions = open(&store);
        let rotated = log_in(&sessions, UnixTime::NEVER).await;
        let stale = log_in(&sessions, UnixTime::NEVER).await;
        let held = restore(&sessions, &stale, at(1)).await;
        sessions.reload(&settings(&[2, 1])).unwrap();
        assert!(restore(&sessions, &rotated, at(1)).await.is_some());
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        sessions.reload(&settings(&[2])).unwrap();
        assert!(restore(&sessions, &rotated, at(2)).await.is_some());
        assert!(restore(&sessions, &stale, at(2)).await.is_none());
        assert!(!held.unwrap().live().use_at(at(2)));
        assert!(sessions.reload(&settings(&[])).is_err());
    }

    #[tokio::test]
    async fn a_row_moved_under_another_id_opens_nothing() {
        let store = Arc::new(MemoryStore::default());
        let sessions = open(&store);
        let (a, b) = (
            log_in(&sessions, UnixTime::NEVER).await,
            log_in(&sessions, UnixTime::NEVER).await,
        );
        let row = |cookie: &str| SessionId::parse(cookie).unwrap().row();
        let (row_a, row_b) = (row(&a), row(&b));
        let stolen = store
            .get(
                Key {
                    table: TABLE,
                    key: &row_b,
                },
                at(1),
            )
            .await
            .unwrap()
            .unwrap();
        store
            .put(
                Key {
                    table: TABLE,
                    key: &row_a,
                },
                &stolen.value,
                at(900),
            )
            .await
            .unwrap();
        assert!(restore(&sessions, &a, at(1)).await.is_none());
    }

    /// A store whose reads wait, and which may be away.
    #[derive(Debug, Default)]
    struct SlowStore {
        rows: MemoryStore,
        away: AtomicBool,
        asked: Notify,
        answer: Notify,
        wait: AtomicBool,
    }

    #[async_trait]
    impl Store for SlowStore {
        async fn get(&self, key: Key<'_>, now: UnixTime) -> Result<Option<Row>, StoreError> {
            if self.away.load(Ordering::SeqCst) {
                return Err(StoreError::Unavailable(String::from("away")));
            }
            let row = self.rows.get(key, now).await;
            if self.wait.swap(false, Ordering::SeqCst) {
                self.asked.notify_one();
                self.answer.notified().await;
            }
            row
        }
        async fn write(
            &self,
            row: NewRow<'_>,
            condition: Option<(Expect, UnixTime)>,
        ) -> Result<bool, StoreError> {
            self.rows.write(row, condition).await
        }
        async fn find(
            &self,
            by: By<'_>,
            limit: usize,
            now: UnixTime,
            each: Each<'_>,
        ) -> Result<usize, StoreError> {
            self.rows.find(by, limit, now, each).await
        }
        async fn delete(&self, key: Key<'_>) -> Result<(), StoreError> {
            self.rows.delete(key).await
        }
        async fn scan(
            &self,
            table: &'static str,
            prefix: &[u8],
            limit: usize,
            now: UnixTime,
        ) -> Result<Vec<(Vec<u8>, Row)>, StoreError> {
            self.rows.scan(table, prefix, limit, now).await
        }
        async fn lease(
            &self,
            name: &str,
            holder: &str,
            span: Duration,
            now: UnixTime,
        ) -> Result<bool, StoreError> {
            self.rows.lease(name, holder, span, now).await
        }
        async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
            self.rows.release(name, holder).await
        }
        fn watch(&self, table: &'static str) -> Watch {
            self.rows.watch(table)
        }
        async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError> {
            self.rows.sweep(now).await
        }
    }

    fn slow() -> (Arc<SlowStore>, Arc<Sessions>) {
        let store = Arc::new(SlowStore::default());
        let shared: Arc<dyn Store> = Arc::clone(&store) as _;
        let entropy = Arc::new(SystemEntropy);
        let sessions = Sessions::new(&settings(&[1]), shared, entropy, &Handle::current()).unwrap();
        (store, sessions)
    }

    #[tokio::test]
    async fn a_logout_wins_over_a_restore_that_began_before_it() {
        let (store, sessions) = slow();
        let cookie = log_in(&sessions, UnixTime::NEVER).await;
        store.wait.store(true, Ordering::SeqCst);
        let late = tokio::spawn({
            let (sessions, cookie) = (Arc::clone(&sessions), cookie.clone());
            async move { restore(&sessions, &cookie, at(1)).await.is_some() }
        });
        store.asked.notified().await;
        sessions
            .end(SessionId::parse(&cookie).unwrap(), at(1))
            .await
            .unwrap();
        store.answer.notify_one();
        assert!(!late.await.unwrap());
    }

    /// The value that the restore began with has been replaced by one that is gone, with the end that it heard of.
    #[tokio::test]
    async fn a_logout_wins_over_a_restore_that_a_renewal_overtook() {
        let (store, sessions) = slow();
        let cookie = log_in(&sessions, UnixTime::NEVER).await;
        store.wait.store(true, Ordering::SeqCst);
        let late = tokio::spawn({
            let (sessions, cookie) = (Arc::clone(&sessions), cookie.clone());
            async move { restore(&sessions, &cookie, at(1)).await.is_some() }
        });
        store.asked.notified().await;
        let id = SessionId::parse(&cookie).unwrap();
        let (active, bytes, row) = (sessions.active.load_full(), id.bytes(), id.row());
        let read = sessions.read(&active, bytes, &row, at(1)).await;
        let mut renewed = read.unwrap().unwrap();
        renewed.body.revision += 1;
        let written = sessions.write_again(&active, bytes, &row, &renewed, at(1));
        assert!(written.await.unwrap());
        let live = sessions.take_in(&active, bytes, &row, &renewed, at(1));
        assert!(live.unwrap().count_use(at(1)));
        drop(renewed);
        sessions.end(id, at(1)).await.unwrap();
        store.answer.notify_one();
        assert!(!late.await.unwrap());
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_an_outage_and_not_a_logout() {
        let (store, sessions) = slow();
        let cookie = log_in(&sessions, UnixTime::NEVER).await;
        store.away.store(true, Ordering::SeqCst);
        let id = SessionId::parse(&cookie).unwrap();
        assert!(sessions.restore(id, at(1)).await.is_err());
        assert!(sessions.end(id, at(1)).await.is_err());
        store.away.store(false, Ordering::SeqCst);
        assert!(restore(&sessions, &cookie, at(1)).await.is_some());
        store.away.store(true, Ordering::SeqCst);
        assert!(sessions.end_known(&id.row(), at(1)).await.is_err());
        let goes_on = sessions.in_use_here(id, at(1));
        assert!(goes_on.is_some(), "what could not be looked at");
    }

    #[tokio::test]
    async fn a_form_that_was_given_back_makes_room() {
        let sessions = open(&Arc::default());
        for _ in 0..=crate::session::kept::AT_ONCE {
            let given = sessions
                .keep_form(b"a=b", crate::session::KEPT_FOR, at(0))
                .await
                .unwrap();
            let given = given.expect("only one waits at a time");
            let given = SessionId::parse(given.expose()).unwrap();
            assert!(sessions.take_form(given, at(1)).await.unwrap().is_some());
            assert!(sessions.take_form(given, at(1)).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_session_that_is_over_stays_so_for_a_clock_that_is_put_back() {
        let sessions = open(&Arc::default());
        let cookie = log_in(&sessions, at(300)).await;
        let id = SessionId::parse(&cookie).unwrap();
        assert!(sessions.restore(id, at(299)).await.unwrap().is_some());
        sessions.in_use(at(299));
        assert!(sessions.restore(id, at(299)).await.unwrap().is_some());
        // Nobody asks for it meanwhile.
        sessions.in_use(at(300));
        for now in [at(301), at(10), at(299)] {
            assert!(sessions.restore(id, now).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn what_nobody_uses_is_in_memory_no_longer_than_in_the_store() {
        let sessions = open(&Arc::default());
        let unused = log_in(&sessions, UnixTime::NEVER).await;
        let used = log_in(&sessions, UnixTime::NEVER).await;
        assert!(restore(&sessions, &unused, at(1)).await.is_some());
        // Used again before it has been idle for its 15 minutes; its row is kept for two more.
        for second in [1, 600, 1_200] {
            assert!(restore(&sessions, &used, at(second)).await.is_some());
        }
        sessions.in_use(at(1_020));
        assert_eq!(sessions.kept.len(), 2);
        sessions.in_use(at(1_021));
        assert_eq!((sessions.kept.len(), sessions.registry.len()), (1, 1));
        assert!(restore(&sessions, &unused, at(1_021)).await.is_none());
        assert!(restore(&sessions, &used, at(1_201)).await.is_some());
    }
}
