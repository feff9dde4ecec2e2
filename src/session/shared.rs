//! Sessions of several instances over one store, and their owner: who asks, how often, and what becomes of it.

mod given;
mod room;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::clock::UnixTime;
use crate::entropy::SystemEntropy;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Credential;
use crate::identity::Delegation;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::providers::Authenticated;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::LoggedIn;
use crate::providers::Login;
use crate::providers::LoginAnswer;
use crate::providers::LoginStart;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Refreshed;
use crate::secret::Secret;
use crate::session::NewSession;
use crate::session::Origin;
use crate::session::Renewed;
use crate::session::Restored;
use crate::session::SessionId;
use crate::session::Sessions;
use crate::session::Standing;
use crate::session::settings::Settings;
use crate::session::settings::StoreKind;
use crate::store::By;
use crate::store::Each;
use crate::store::Expect;
use crate::store::Key;
use crate::store::MemoryStore;
use crate::store::NewRow;
use crate::store::Row;
use crate::store::Sight;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Watch;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(1_000_000 + seconds)
}

/// A store as one of several instances sees it.
#[derive(Debug)]
struct Seen {
    rows: Arc<MemoryStore>,
    away: AtomicBool,
}

impl Seen {
    fn ask(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) {
            Err(StoreError::Timeout)
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Store for Seen {
    async fn get(&self, key: Key<'_>, now: UnixTime) -> Result<Option<Row>, StoreError> {
        self.ask()?;
        tokio::task::yield_now().await;
        self.rows.get(key, now).await
    }
    async fn write(
        &self,
        row: NewRow<'_>,
        condition: Option<(Expect, UnixTime)>,
    ) -> Result<bool, StoreError> {
        self.ask()?;
        self.rows.write(row, condition).await
    }
    async fn find(
        &self,
        by: By<'_>,
        limit: usize,
        now: UnixTime,
        each: Each<'_>,
    ) -> Result<usize, StoreError> {
        self.ask()?;
        self.rows.find(by, limit, now, each).await
    }
    async fn delete(&self, key: Key<'_>) -> Result<(), StoreError> {
        self.ask()?;
        self.rows.delete(key).await
    }
    async fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        limit: usize,
        now: UnixTime,
    ) -> Result<Vec<(Vec<u8>, Row)>, StoreError> {
        self.ask()?;
        self.rows.scan(table, prefix, limit, now).await
    }
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        self.ask()?;
        self.rows.lease(name, holder, span, now).await
    }
    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.ask()?;
        self.rows.release(name, holder).await
    }
    fn watch(&self, table: &'static str) -> Watch {
        self.rows.watch(table)
    }
    fn sight(&self) -> Sight {
        if self.away.load(Ordering::SeqCst) {
            Sight::Away
        } else {
            Sight::Told
        }
    }
    async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError> {
        self.rows.sweep(now).await
    }
}

/// The owner of sessions: says what the test wants, and takes no refresh token twice.
#[derive(Debug)]
struct Owner {
    id: ProviderId,
    owns: Owns,
    epoch: Epoch,
    asked: AtomicUsize,
    taken: Mutex<HashSet<String>>,
    says: Mutex<Says>,
    /// The answer waits for it.
    hold: AtomicBool,
    came: Notify,
    go: Notify,
}

#[derive(Clone, Copy, Debug)]
enum Says {
    Yes,
    SomebodyElse,
    No,
    Later(Option<Duration>),
}

impl Owner {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            id: ProviderId::new("modern"),
            owns: Owns::default(),
            epoch: Epoch::default(),
            asked: AtomicUsize::new(0),
            taken: Mutex::default(),
            says: Mutex::new(Says::Yes),
            hold: AtomicBool::new(false),
            came: Notify::new(),
            go: Notify::new(),
        })
    }

    fn says(&self, what: Says) {
        *self.says.lock().unwrap() = what;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Provider for Owner {
    fn id(&self) -> &ProviderId {
        &self.id
    }
    fn owns(&self) -> &Owns {
        &self.owns
    }
    fn epoch(&self) -> &Epoch {
        &self.epoch
    }
    async fn authenticate(
        &self,
        _credential: &Credential,
        _now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        Err(Refusal::Unsupported.into())
    }
    fn login(&self) -> Option<&dyn Login> {
        Some(self)
    }
    fn health(&self) -> Health {
        Health::of_calls(None)
    }
}

#[async_trait]
impl Login for Owner {
    fn redirect_path(&self) -> &str {
        "/cb"
    }
    fn client_id(&self) -> &str {
        "us"
    }
    async fn start(&self, _start: LoginStart<'_>) -> Result<String, ProviderError> {
        Err(Outage::Shed.into())
    }
    async fn finish(
        &self,
        _answer: LoginAnswer<'_>,
        _now: UnixTime,
    ) -> Result<LoggedIn, ProviderError> {
        Err(Outage::Shed.into())
    }
    async fn refresh(
        &self,
        refresh_token: &Secret<String>,
        _now: UnixTime,
    ) -> Result<Refreshed, ProviderError> {
        let count = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        if self.hold.load(Ordering::SeqCst) {
            self.came.notify_one();
            self.go.notified().await;
        }
        let says = *self.says.lock().unwrap();
        let person = match says {
            Says::Yes => "alice",
            Says::SomebodyElse => "mallory",
            Says::No => return Err(Refusal::BadCredentials.into()),
            Says::Later(retry_after) => {
                return Err(ProviderError::Unavailable {
                    outage: Outage::RateLimited,
                    retry_after,
                });
            }
        };
        let token = refresh_token.expose().clone();
        assert!(self.taken.lock().unwrap().insert(token), "presented twice");
        Ok(Refreshed {
            authenticated: Some(proof(person, "member")),
            id_token: Some(Secret::new(format!("ID{count}"))),
            refresh_token: Some(Secret::new(format!("RT{count}"))),
            lasts: None,
        })
    }
}

fn key(person: &str) -> SubjectKey {
    SubjectKey {
        issuer: Issuer::new("https://new.idp.test"),
        subject: Subject::try_from(person).unwrap(),
    }
}

fn proof(person: &str, group: &str) -> Authenticated {
    let mut attributes = ClaimMap::default();
    attributes.insert("groups", group.into());
    let identity = Identity {
        provider: ProviderId::new("modern"),
        key: key(person),
        attributes: Arc::new(attributes),
        client_id: None,
        acr: None,
        scopes: Box::default(),
        delegation: Delegation::default(),
    };
    Authenticated::for_test(identity, at(60))
}

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

struct Instance {
    store: Arc<Seen>,
    sessions: Arc<Sessions>,
}

fn instance(rows: &Arc<MemoryStore>) -> Instance {
    let store = Arc::new(Seen {
        rows: Arc::clone(rows),
        away: AtomicBool::new(false),
    });
    let shared: Arc<dyn Store> = Arc::clone(&store) as _;
    let entropy = Arc::new(SystemEntropy);
    let sessions = Sessions::new(&settings(&[1]), shared, entropy, &Handle::current()).unwrap();
    Instance { store, sessions }
}

impl Instance {
    async fn log_in(&self, person: &str, now: UnixTime) -> String {
        let canonical = CanonicalSubject::named(&format!("hr:{person}")).unwrap();
        self.log_in_as(person, &canonical, None, now).await
    }

    /// Of an account of somebody, perhaps in place of another session.
    async fn log_in_as(
        &self,
        person: &str,
        canonical: &CanonicalSubject,
        earlier: Option<&str>,
        now: UnixTime,
    ) -> String {
        let new = NewSession {
            authenticated: &proof(person, "guest"),
            canonical,
            app: "crm",
            host: "app.test",
            backing: None,
            rule: "percent",
            origin: Origin::Login,
            until: UnixTime::NEVER,
            began: UnixTime::NEVER,
            id_token: Some(&Secret::new(String::from("ID0"))),
            sid: Some("their-session"),
            refresh_token: Some(&Secret::new(format!("RT-of-{person}"))),
            lasts: None,
            stands_for: None,
            came_by: None,
            left: None,
        };
        let earlier = earlier.map(|cookie| SessionId::parse(cookie).unwrap().row());
        let created = self.sessions.create_in_place_of(earlier, new, now).await;
        let created = created.unwrap();
        self.sessions.make_room_for(&created.room, now).await;
        // What the store tells of the login itself has arrived everywhere.
        settle().await;
        created.cookie.expose().clone()
    }

    async fn restore(&self, cookie: &str, now: UnixTime) -> Option<Restored> {
        let id = SessionId::parse(cookie).unwrap();
        self.sessions.restore(id, now).await.unwrap()
    }

    async fn renew(&self, restored: &Restored, owner: &Arc<Owner>, now: UnixTime) -> Renewed {
        let owner: Arc<dyn Provider> = Arc::clone(owner) as _;
        self.sessions
            .renew(restored, (&owner, None), now)
            .await
            .unwrap()
    }
}

fn group(restored: &Restored) -> &str {
    restored.identity().attributes.text("groups").unwrap()
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn sixty_four_requests_at_two_instances_ask_the_owner_once() {
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (Arc::new(instance(&rows)), Arc::new(instance(&rows)));
    let owner = Owner::new();
    let cookie = a.log_in("alice", at(0)).await;
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let at_instance = Arc::clone(if n % 2 == 0 { &a } else { &b });
            let (owner, cookie) = (Arc::clone(&owner), cookie.clone());
            tokio::spawn(async move {
                let restored = at_instance.restore(&cookie, at(100)).await.unwrap();
                if restored.standing(at(100)) == Standing::Fresh {
                    return group(&restored).to_owned();
                }
                match at_instance.renew(&restored, &owner, at(100)).await {
                    Renewed::Session(restored) => group(&restored).to_owned(),
                    other => panic!("{other:?}"),
                }
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "member");
    }
    assert_eq!(owner.asked(), 1);
    // And what was rotated is what is sent the next time.
    let restored = b.restore(&cookie, at(201)).await.unwrap();
    assert!(matches!(
        b.renew(&restored, &owner, at(201)).await,
        Renewed::Session(_)
    ));
    assert_eq!(owner.asked(), 2);
    assert!(owner.taken.lock().unwrap().contains("RT1"));
}

#[tokio::test]
async fn who_holds_what_an_old_answer_brought_asks_again_after_a_renewal() {
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (instance(&rows), instance(&rows));
    let owner = Owner::new();
    let cookie = a.log_in("alice", at(0)).await;
    let elsewhere = b.restore(&cookie, at(50)).await.unwrap();
    assert!(elsewhere.live().use_at(at(52)));
    let held = a.restore(&cookie, at(100)).await.unwrap();
    assert_eq!(group(&held), "guest");
    assert!(!held.live().use_at(at(100)), "its renewal is due");
    let Renewed::Session(renewed) = a.renew(&held, &owner, at(100)).await else {
        panic!("renewed");
    };
    assert!(renewed.live().count_use(at(101)));
    assert!(!held.live().use_at(at(101)), "of the guest it was before");
    settle().await;
    assert!(!elsewhere.live().use_at(at(52)), "it was told");
    assert_eq!(group(&b.restore(&cookie, at(101)).await.unwrap()), "member");
}

#[tokio::test]
async fn a_refusal_of_the_owner_ends_the_session_everywhere() {
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (instance(&rows), instance(&rows));
    let owner = Owner::new();
    for says in [Says::No, Says::SomebodyElse] {
        owner.says(says);
        let cookie = a.log_in("alice", at(0)).await;
        let restored = a.restore(&cookie, at(100)).await.unwrap();
        let elsewhere = b.restore(&cookie, at(100)).await.unwrap();
        let renewed = a.renew(&restored, &owner, at(100)).await;
        assert!(matches!(renewed, Renewed::Ended { .. }), "{renewed:?}");
        assert!(a.restore(&cookie, at(100)).await.is_none());
        settle().await;
        assert!(!elsewhere.live().use_at(at(100)));
        assert!(b.restore(&cookie, at(100)).await.is_none());
        owner.taken.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn a_refusal_after_somebody_else_renewed_it_ends_nothing() {
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (Arc::new(instance(&rows)), instance(&rows));
    let (slow, owner) = (Owner::new(), Owner::new());
    slow.says(Says::No);
    slow.hold.store(true, Ordering::SeqCst);
    let cookie = a.log_in("alice", at(0)).await;
    let restored = a.restore(&cookie, at(100)).await.unwrap();
    let task = tokio::spawn({
        let (a, slow) = (Arc::clone(&a), Arc::clone(&slow));
        async move { a.renew(&restored, &slow, at(100)).await }
    });
    slow.came.notified().await;
    // The lease of an instance that stood still has ended; another one has renewed the session.
    rows.delete(Key {
        table: "lease",
        key: lease_of(&cookie).as_bytes(),
    })
    .await
    .unwrap();
    let elsewhere = b.restore(&cookie, at(100)).await.unwrap();
    assert!(matches!(
        b.renew(&elsewhere, &owner, at(100)).await,
        Renewed::Session(_)
    ));
    slow.go.notify_one();
    let renewed = task.await.unwrap();
    assert!(matches!(renewed, Renewed::Session(_)), "{renewed:?}");
    assert!(b.restore(&cookie, at(101)).await.is_some());
}

fn lease_of(cookie: &str) -> String {
    use base64::Engine as _;
    let row = SessionId::parse(cookie).unwrap().row();
    let row = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(row);
    format!("renew:{row}")
}

#[tokio::test]
async fn an_owner_that_is_away_is_left_alone_as_long_as_it_asked_for_and_the_session_counts_one_period_more()
 {
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (instance(&rows), instance(&rows));
    let owner = Owner::new();
    owner.says(Says::Later(Some(Duration::from_secs(30))));
    let cookie = a.log_in("alice", at(0)).await;
    let restored = a.restore(&cookie, at(100)).await.unwrap();
    assert_eq!(restored.standing(at(100)), Standing::Overdue);
    let renewed = a.renew(&restored, &owner, at(100)).await;
    let Renewed::Away {
        retry_after: Some(wait),
        ..
    } = renewed
    else {
        panic!("{renewed:?}");
    };
    assert!((30..=33).contains(&wait.as_secs()), "{wait:?}");
    settle().await;
    let again = a.restore(&cookie, at(104)).await.unwrap();
    assert!(again.live().use_at(at(104)), "not looked at before");
    assert_eq!(restored.standing(at(129)), Standing::Fresh);
    let elsewhere = b.restore(&cookie, at(129)).await.unwrap();
    assert_eq!(elsewhere.standing(at(129)), Standing::Fresh, "it was told");
    let renewed = b.renew(&elsewhere, &owner, at(129)).await;
    assert!(matches!(renewed, Renewed::Away { .. }));
    assert_eq!(owner.asked(), 1);
    assert_eq!(elsewhere.standing(at(134)), Standing::Overdue);
    assert_eq!(elsewhere.standing(at(200)), Standing::Lapsed);
    owner.says(Says::Yes);
    let renewed = b.renew(&elsewhere, &owner, at(200)).await;
    assert!(matches!(renewed, Renewed::Session(_)), "nothing is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_reads_a_session_that_was_renewed_this_moment_is_signed_in() {
    const TOGETHER: usize = 16;
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (Arc::new(instance(&rows)), Arc::new(instance(&rows)));
    let owner = Owner::new();
    let cookie = a.log_in("alice", at(0)).await;
    for round in 0..200 {
        let held = a.restore(&cookie, at(100)).await.unwrap();
        let before = b.restore(&cookie, at(100)).await.unwrap();
        let Renewed::Session(renewed) = a.renew(&held, &owner, at(100)).await else {
            panic!("not renewed");
        };
        before.live().has_changed();
        let gate = Arc::new(tokio::sync::Barrier::new(TOGETHER));
        let tasks: Vec<_> = (0..TOGETHER)
            .map(|n| {
                let (b, owner, gate) = (Arc::clone(&b), Arc::clone(&owner), Arc::clone(&gate));
                let (cookie, before) = (cookie.clone(), before.clone());
                tokio::spawn(async move {
                    gate.wait().await;
                    if n % 2 == 0 {
                        return b.restore(&cookie, at(100)).await;
                    }
                    match b.renew(&before, &owner, at(100)).await {
                        Renewed::Session(restored) => Some(restored),
                        Renewed::Ended { .. } | Renewed::Away { .. } => None,
                    }
                })
            })
            .collect();
        for task in tasks {
            let restored = task.await.unwrap();
            let restored = restored.unwrap_or_else(|| panic!("signed out in round {round}"));
            assert_eq!(restored.content.revision, renewed.content.revision);
        }
    }
    assert_eq!(owner.asked.load(Ordering::SeqCst), 200);
}

#[tokio::test]
async fn without_the_store_a_session_counts_for_thirty_seconds_and_an_unknown_one_not_at_all() {
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (instance(&rows), instance(&rows));
    let (known, unknown) = (a.log_in("alice", at(0)).await, a.log_in("bob", at(0)).await);
    let held = a.restore(&known, at(1)).await.unwrap();
    assert!(held.live().use_at(at(5)), "read 4 s ago");
    assert!(!held.live().use_at(at(6)), "read 5 s ago");
    a.store.away.store(true, Ordering::SeqCst);
    assert!(held.live().use_at(at(30)));
    assert!(a.restore(&known, at(30)).await.is_some());
    assert!(!held.live().use_at(at(31)));
    let id = SessionId::parse(&known).unwrap();
    assert!(
        a.sessions.restore(id, at(31)).await.is_err(),
        "not: no session"
    );
    let stranger = SessionId::parse(&unknown).unwrap();
    assert!(a.sessions.restore(stranger, at(1)).await.is_err());
    a.store.away.store(false, Ordering::SeqCst);
    assert!(
        a.restore(&known, at(31)).await.is_some(),
        "nobody was signed out"
    );
    // A change that was told is not overlooked because the store goes away.
    b.sessions.end(id, at(31)).await.unwrap();
    settle().await;
    a.store.away.store(true, Ordering::SeqCst);
    assert!(!held.live().use_at(at(32)));
    assert!(a.sessions.restore(id, at(32)).await.is_err());
}

#[tokio::test]
async fn a_change_of_keys_signs_nobody_out_and_the_sessions_of_a_person_are_still_known() {
    let rows = Arc::new(MemoryStore::default());
    let a = instance(&rows);
    let mut cookies = Vec::new();
    for n in 0..3 {
        cookies.push(a.log_in("alice", at(n)).await);
    }
    a.sessions.reload(&settings(&[2, 1])).unwrap();
    for cookie in &cookies {
        assert!(a.restore(cookie, at(4)).await.is_some());
    }
    settle().await;
    a.sessions.reload(&settings(&[2])).unwrap();
    for cookie in &cookies {
        assert!(a.restore(cookie, at(4)).await.is_some(), "signed out");
    }
    let held = a.restore(&cookies[0], at(4)).await.unwrap();
    a.log_in("alice", at(5)).await;
    assert!(!held.live().use_at(at(5)), "the oldest has ended");
    assert!(a.restore(&cookies[0], at(5)).await.is_none());
    assert!(a.restore(&cookies[1], at(5)).await.is_some());
}

#[tokio::test]
async fn a_dump_of_the_store_names_nobody_and_opens_nothing() {
    let rows = Arc::new(MemoryStore::default());
    let a = instance(&rows);
    let cookie = a.log_in("alice", at(0)).await;
    assert!(cookie.len() < 200);
    let mut dump = Vec::new();
    let found = rows.scan("session", b"", 9, at(1)).await.unwrap();
    assert_eq!(found.len(), 1);
    for (key, row) in found {
        dump.extend(key);
        dump.extend(row.value);
    }
    let places = rows.places();
    assert_eq!(places.len(), 3, "person, account, session at the issuer");
    dump.extend(places.concat());
    let holds = |word: &[u8]| dump.windows(word.len()).any(|window| window == word);
    let id = SessionId::parse(&cookie).unwrap();
    for word in [
        &b"alice"[..],
        b"hr:alice",
        b"RT-of",
        b"ID0",
        b"idp.test",
        b"their-session",
        b"modern",
        b"app.test",
        cookie.as_bytes(),
        id.bytes(),
    ] {
        assert!(!holds(word), "{}", String::from_utf8_lossy(word));
    }
    // With the keys of the process but without the cookie, the body stays closed; with the cookie alone, everything does.
    let found = rows.scan("session", b"", 9, at(1)).await.unwrap();
    let (key, row) = &found[0];
    let key: &[u8; 32] = key.as_slice().try_into().unwrap();
    let (ring, other) = (a.sessions.ring(), instance(&rows));
    assert!(crate::session::rows::open_handle(&ring, key, &row.value).is_some());
    other.sessions.reload(&settings(&[7])).unwrap();
    let ring = other.sessions.ring();
    assert!(crate::session::rows::open_handle(&ring, key, &row.value).is_none());
    assert!(other.restore(&cookie, at(1)).await.is_none());
}
