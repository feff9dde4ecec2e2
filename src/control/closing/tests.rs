//! The closing of an old side over a store that outlives the process, with a provider that may be away.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::*;
use crate::clock::ManualClock;
use crate::entropy::SystemEntropy;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Credential;
use crate::identity::Delegation;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::ledger::LedgerSettings;
use crate::providers::Ability;
use crate::providers::Authenticated;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::LoggedIn;
use crate::providers::Login;
use crate::providers::LoginAnswer;
use crate::providers::LoginStart;
use crate::providers::Owns;
use crate::providers::ProviderError;
use crate::providers::Refreshed;
use crate::secret::Secret;
use crate::session::NewSession;
use crate::session::Origin;
use crate::session::settings::Settings;
use crate::store::Key;
use crate::store::MemoryStore;

/// The old side: it revokes tokens, unless it is away.
#[derive(Debug)]
struct Old {
    id: ProviderId,
    owns: Owns,
    epoch: Epoch,
    away: AtomicBool,
    revoked: Mutex<Vec<(String, Instant)>>,
}

#[async_trait]
impl Provider for Old {
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
        _: &Credential,
        _: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        Err(Refusal::Unsupported.into())
    }
    fn login(&self) -> Option<&dyn Login> {
        Some(self)
    }
    fn abilities(&self) -> &'static [Ability] {
        &[Ability::Login, Ability::Revoke]
    }
    fn health(&self) -> Health {
        Health::of_calls(None)
    }
}

#[async_trait]
impl Login for Old {
    fn redirect_path(&self) -> &str {
        "/cb"
    }
    fn client_id(&self) -> &str {
        "us"
    }
    async fn start(&self, _: LoginStart<'_>) -> Result<String, ProviderError> {
        Err(Refusal::Unsupported.into())
    }
    async fn finish(&self, _: LoginAnswer<'_>, _: UnixTime) -> Result<LoggedIn, ProviderError> {
        Err(Refusal::Unsupported.into())
    }
    async fn refresh(&self, _: &Secret<String>, _: UnixTime) -> Result<Refreshed, ProviderError> {
        Err(Refusal::Unsupported.into())
    }
    async fn revoke(&self, token: &Secret<String>, _: UnixTime) -> Result<(), ProviderError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Outage::Connect.into());
        }
        let one = (token.expose().clone(), Instant::now());
        self.revoked.lock().unwrap().push(one);
        Ok(())
    }
}

/// The program: what it was told to quarantine, and why nothing may be closed.
#[derive(Debug)]
struct Program {
    old: Arc<Old>,
    open: Mutex<Option<String>>,
    quarantined: Mutex<BTreeSet<ProviderId>>,
    /// So many times it cannot quarantine.
    fails: Mutex<u32>,
}

impl Side for Program {
    fn provider(&self, id: &ProviderId) -> Option<Arc<dyn Provider>> {
        (*id == self.old.id).then(|| Arc::clone(&self.old) as _)
    }
    fn may_close(&self, _: &ProviderId) -> Result<(), String> {
        self.open.lock().unwrap().clone().map_or(Ok(()), Err)
    }
    fn quarantine(&self, ids: &BTreeSet<ProviderId>) -> Result<(), String> {
        let mut fails = self.fails.lock().unwrap();
        if let Some(fewer) = fails.checked_sub(1) {
            *fails = fewer;
            return Err(String::from("no snapshot"));
        }
        self.quarantined.lock().unwrap().clone_from(ids);
        Ok(())
    }
}

/// What a restart does not change.
struct World {
    store: Arc<dyn Store>,
    clock: ManualClock,
    program: Arc<Program>,
    directory: tempfile::TempDir,
}

/// One process.
struct Running {
    closing: Arc<Closing>,
    sessions: Arc<Sessions>,
}

fn old() -> ProviderId {
    ProviderId::new("old")
}

fn order(per_minute: u32) -> Order {
    Order {
        provider: old(),
        per_minute,
        told: true,
        actor: String::from("unix:0"),
        reason: String::from("all have moved"),
    }
}

impl World {
    fn new() -> Self {
        let old = Arc::new(Old {
            id: old(),
            owns: Owns::default(),
            epoch: Epoch::default(),
            away: AtomicBool::new(false),
            revoked: Mutex::default(),
        });
        Self {
            store: Arc::new(MemoryStore::default()),
            clock: ManualClock::at(UnixTime::from_secs(1_000_000)),
            program: Arc::new(Program {
                old,
                open: Mutex::default(),
                quarantined: Mutex::default(),
                fails: Mutex::default(),
            }),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn start(&self) -> Running {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let metrics = Metrics::new(Arc::clone(&clock), 100);
        let settings = Settings::for_test(&[9]);
        let entropy = Arc::new(SystemEntropy);
        let store = Arc::clone(&self.store);
        let sessions = Sessions::new(&settings, store, entropy, &Handle::current()).unwrap();
        let revocations =
            Revocations::for_test(&self.store, &sessions, Arc::clone(&clock), &metrics);
        let ledger = LedgerSettings {
            file: self.directory.path().join("decisions.jsonl"),
            configurations: self.directory.path().join("configurations"),
            mirror: false,
            node: String::from("one"),
        };
        let ledger = Ledger::open(ledger, Arc::clone(&clock), Arc::clone(&metrics)).unwrap();
        let closing = Closing::new(ClosingParts {
            store: Arc::clone(&self.store),
            sessions: Arc::clone(&sessions),
            revocations,
            ledger: Arc::new(ledger),
            metrics,
            clock,
            entropy: Arc::new(SystemEntropy),
        });
        Running { closing, sessions }
    }

    fn side(&self) -> Arc<dyn Side> {
        Arc::clone(&self.program) as _
    }

    /// The tokens that the old side has revoked.
    fn revoked(&self) -> Vec<String> {
        let revoked = self.program.old.revoked.lock().unwrap();
        let mut tokens: Vec<_> = revoked.iter().map(|(token, _)| token.clone()).collect();
        tokens.sort();
        tokens
    }

    /// The records of the closing: state and sessions.
    fn recorded(&self) -> Vec<(String, Option<u64>)> {
        let text = std::fs::read_to_string(self.directory.path().join("decisions.jsonl"));
        let text = text.unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let ours = lines.filter(|line: &serde_json::Value| line["kind"] == "legacy_close");
        let state = |line: &serde_json::Value| line["state"].as_str().unwrap().to_owned();
        ours.map(|line| (state(&line), line["sessions"].as_u64()))
            .collect()
    }
}

impl Running {
    /// Signs people in at a provider, each with the refresh token of their name.
    async fn sign_in(&self, provider: &str, names: &[&str], now: UnixTime) {
        for name in names {
            let identity = Identity {
                provider: ProviderId::new(provider),
                key: SubjectKey {
                    issuer: Issuer::new("https://idp.test"),
                    subject: Subject::try_from(*name).unwrap(),
                },
                attributes: Arc::new(ClaimMap::default()),
                client_id: None,
                acr: None,
                scopes: Box::default(),
                delegation: Delegation::default(),
            };
            let canonical = CanonicalSubject::named(&format!("uid:{name}")).unwrap();
            let authenticated = Authenticated::for_test(identity, UnixTime::NEVER);
            let token = Secret::new((*name).to_owned());
            let new = NewSession {
                authenticated: &authenticated,
                canonical: &canonical,
                app: "crm",
                host: "app.test",
                backing: None,
                rule: "percent",
                origin: Origin::Login,
                until: UnixTime::NEVER,
                began: UnixTime::NEVER,
                id_token: None,
                sid: None,
                refresh_token: Some(&token),
                lasts: None,
                stands_for: None,
                came_by: None,
                left: None,
            };
            self.sessions.create(new, now).await.unwrap();
        }
    }

    async fn account(&self) -> Account {
        self.closing.accounts().await.unwrap().remove(0).1
    }

    async fn until_closed(&self) {
        while self.account().await.phase != Phase::Closed {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_sessions_a_minute_end_and_those_of_others_stay() {
    let world = World::new();
    let running = world.start();
    let now = world.clock.now();
    running.sign_in("old", &["a", "b", "c", "d"], now).await;
    running.sign_in("new", &["e"], now).await;
    assert_eq!(running.closing.count(&old()).await.unwrap(), 4);
    running.closing.order(order(6)).await.unwrap();
    let working = tokio::spawn(Arc::clone(&running.closing).run(world.side()));
    running.until_closed().await;
    assert_eq!(world.revoked(), ["a", "b", "c", "d"]);
    {
        let revoked = world.program.old.revoked.lock().unwrap();
        let gaps = revoked.windows(2).map(|pair| pair[1].1 - pair[0].1);
        for gap in gaps {
            assert!(Duration::from_secs(10) <= gap, "{gap:?}");
        }
    }
    let account = running.account().await;
    assert_eq!((account.sessions, account.revoked, account.left), (4, 4, 0));
    assert_eq!(running.closing.count(&old()).await.unwrap(), 0);
    let new = ProviderId::new("new");
    assert_eq!(running.closing.count(&new).await.unwrap(), 1);
    let recorded = [("closing".to_owned(), None), ("closed".to_owned(), Some(4))];
    assert_eq!(world.recorded(), recorded);
    while !world.program.quarantined.lock().unwrap().contains(&old()) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let again = running.closing.order(order(6)).await.unwrap_err();
    assert!(again.to_string().contains("closed already"), "{again}");
    working.abort();
}

#[tokio::test(start_paused = true)]
async fn orders_that_meet_are_each_recorded_once_and_none_is_lost() {
    let world = World::new();
    let running = world.start();
    let now = world.clock.now();
    running.sign_in("old", &["a"], now).await;
    let (first, second) = tokio::join!(
        running.closing.order(order(6)),
        running.closing.order(order(12)),
    );
    let paces = [first.unwrap().per_minute, second.unwrap().per_minute];
    assert_eq!(paces, [6, 12]);
    assert!(paces.contains(&running.account().await.per_minute));
    let begun = ("closing".to_owned(), None);
    assert_eq!(world.recorded(), [begun.clone(), begun]);
}

#[tokio::test(start_paused = true)]
async fn an_order_does_not_overrule_a_stop_that_it_did_not_know_of() {
    let world = World::new();
    let running = world.start();
    let now = world.clock.now();
    running.sign_in("old", &["a"], now).await;
    running.closing.order(order(6)).await.unwrap();
    let old = old();
    let (faster, stopped) = tokio::join!(
        running.closing.order(order(12)),
        running.closing.stop(&old, "unix:0", "lunch"),
    );
    assert_eq!(stopped.unwrap().phase, Phase::Stopped);
    let why = faster.unwrap_err().to_string();
    assert!(why.contains("stopped meanwhile"), "{why}");
    assert_eq!(running.account().await.phase, Phase::Stopped);
    // Whoever knows of it has it go on.
    running.closing.order(order(12)).await.unwrap();
    assert_eq!(running.account().await.phase, Phase::Closing);
}

#[tokio::test(start_paused = true)]
async fn sessions_under_an_older_key_are_counted_once_and_end() {
    let world = World::new();
    let running = world.start();
    let now = world.clock.now();
    running.sign_in("old", &["a", "b"], now).await;
    running
        .sessions
        .reload(&Settings::for_test(&[8, 9]))
        .unwrap();
    running.sign_in("old", &["c"], now).await;
    assert_eq!(running.closing.count(&old()).await.unwrap(), 3);
    running.closing.order(order(60)).await.unwrap();
    let working = tokio::spawn(Arc::clone(&running.closing).run(world.side()));
    running.until_closed().await;
    assert_eq!(world.revoked(), ["a", "b", "c"]);
    assert_eq!(running.account().await.sessions, 3);
    assert_eq!(running.closing.count(&old()).await.unwrap(), 0);
    working.abort();
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_off_or_stopped_goes_on_where_it_was() {
    let world = World::new();
    let running = world.start();
    let now = world.clock.now();
    running.sign_in("old", &["a", "b", "c", "d"], now).await;
    running.closing.order(order(60)).await.unwrap();
    let working = tokio::spawn(Arc::clone(&running.closing).run(world.side()));
    while running.account().await.sessions < 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let stopped = running
        .closing
        .stop(&old(), "unix:0", "lunch")
        .await
        .unwrap();
    assert_eq!(stopped.phase, Phase::Stopped);
    let at_most = world.revoked().len() + 1;
    tokio::time::sleep(Duration::from_mins(5)).await;
    let rest = world.revoked().len();
    assert!(rest <= at_most && rest < 4, "it has stopped: {rest}");
    assert_eq!(running.account().await.phase, Phase::Stopped);
    working.abort();

    // Another process takes over.
    let next = world.start();
    next.closing.order(order(600)).await.unwrap();
    let working = tokio::spawn(Arc::clone(&next.closing).run(world.side()));
    next.until_closed().await;
    assert_eq!(world.revoked(), ["a", "b", "c", "d"], "each once");
    assert_eq!(next.account().await.sessions, 4);
    assert_eq!(next.closing.closed().await.unwrap(), [old()].into());
    working.abort();
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_away_is_waited_for_and_one_that_is_gone_is_not_told() {
    let world = World::new();
    let running = world.start();
    running.sign_in("old", &["a", "b"], world.clock.now()).await;
    world.program.old.away.store(true, Ordering::SeqCst);
    running.closing.order(order(600)).await.unwrap();
    let working = tokio::spawn(Arc::clone(&running.closing).run(world.side()));
    while running.account().await.waits.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_mins(2)).await;
    let account = running.account().await;
    assert_eq!((account.phase, account.sessions), (Phase::Closing, 0));
    assert_eq!(
        running.closing.count(&old()).await.unwrap(),
        2,
        "nothing is lost"
    );
    let gone = Order {
        told: false,
        ..order(600)
    };
    running.closing.order(gone).await.unwrap();
    running.until_closed().await;
    let account = running.account().await;
    assert_eq!((account.sessions, account.revoked, account.left), (2, 0, 2));
    assert_eq!(world.revoked(), [""; 0]);
    working.abort();
}

#[tokio::test(start_paused = true)]
async fn it_stops_where_people_sign_in_there_again() {
    let world = World::new();
    let running = world.start();
    running.sign_in("old", &["a", "b"], world.clock.now()).await;
    let why = String::from("the rollout is in stage `ramp`");
    *world.program.open.lock().unwrap() = Some(why.clone());
    running.closing.order(order(600)).await.unwrap();
    let working = tokio::spawn(Arc::clone(&running.closing).run(world.side()));
    while running.account().await.phase != Phase::Stopped {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(running.account().await.waits, Some(why));
    assert_eq!(running.closing.count(&old()).await.unwrap(), 2);
    assert!(world.program.quarantined.lock().unwrap().is_empty());
    working.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_closed_holds_before_the_next_has_its_turn_and_is_tried_until_it_does() {
    let world = World::new();
    *world.program.fails.lock().unwrap() = 2;
    let running = world.start();
    let older = ProviderId::new("older");
    let now = world.clock.now();
    running.sign_in("old", &["a"], now).await;
    running.sign_in("older", &["x", "y", "z"], now).await;
    let slow = Order {
        provider: older.clone(),
        ..order(1)
    };
    running.closing.order(slow).await.unwrap();
    running.closing.order(order(600)).await.unwrap();
    let working = tokio::spawn(Arc::clone(&running.closing).run(world.side()));
    while world.program.quarantined.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(*world.program.quarantined.lock().unwrap(), [old()].into());
    assert_ne!(running.closing.count(&older).await.unwrap(), 0);
    working.abort();
}

#[tokio::test]
async fn a_row_that_nobody_can_read_is_of_a_side_that_is_closed() {
    let world = World::new();
    let running = world.start();
    running.closing.order(order(600)).await.unwrap();
    assert_eq!(running.closing.closed().await.unwrap(), [].into());
    let newer = Key {
        table: "legacy_close",
        key: b"older",
    };
    let written = world.store.put(newer, br#"{"v":9}"#, UnixTime::NEVER);
    written.await.unwrap();
    let older = ProviderId::new("older");
    assert_eq!(running.closing.closed().await.unwrap(), [older].into());
}
