//! Sessions without their cookies: found while keys change, let go when they have rested for too long.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::runtime::Handle as Runtime;

use crate::clock::UnixTime;
use crate::entropy::SystemEntropy;
use crate::identity::CanonicalSubject;
use crate::identity::Mark;
use crate::providers::Authenticated;
use crate::secret::Secret;
use crate::session::NewSession;
use crate::session::Origin;
use crate::session::SessionId;
use crate::session::Sessions;
use crate::session::handle::BY_PERSON;
use crate::session::handle::entries_of;
use crate::session::rows;
use crate::session::seal::Purpose;
use crate::session::sessions::Created;
use crate::session::settings::Settings;
use crate::session::size::NOW;
use crate::session::size::settings;
use crate::session::size::somebody;
use crate::store::FakeStore;
use crate::store::MemoryStore;
use crate::store::Store;

/// Idle for this long: with what is not written yet, a session has rested for too long.
const RESTED: Duration = Duration::from_secs(900 + 120);

fn keyed(keys: &[u8]) -> Settings {
    Settings {
        keys: keys.iter().map(|key| Secret::new(vec![*key; 32])).collect(),
        idle: Duration::from_secs(900),
        max_per_subject: 1,
        ..settings()
    }
}

fn opened(store: &Arc<MemoryStore>, keys: &[u8]) -> Arc<Sessions> {
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    let entropy = Arc::new(SystemEntropy);
    Sessions::new(&keyed(keys), store, entropy, &Runtime::current()).unwrap()
}

fn person() -> CanonicalSubject {
    CanonicalSubject::named("hr:765432").unwrap()
}

async fn log_in(sessions: &Sessions, token: &str, now: UnixTime) -> Created {
    let (proof, person, token) = (
        somebody(765_432),
        person(),
        Secret::new(String::from(token)),
    );
    let new = new(&proof, &person, &token, now);
    sessions.create(new, now).await.unwrap()
}

fn new<'a>(
    proof: &'a Authenticated,
    person: &'a CanonicalSubject,
    token: &'a Secret<String>,
    began: UnixTime,
) -> NewSession<'a> {
    NewSession {
        authenticated: proof,
        canonical: person,
        app: "crm",
        host: "crm.corp.example",
        backing: None,
        rule: "percent",
        origin: Origin::Login,
        until: UnixTime::NEVER,
        began,
        id_token: None,
        sid: Some("S1"),
        refresh_token: Some(token),
        lasts: None,
        stands_for: None,
        came_by: None,
        left: None,
    }
}

fn id(created: &Created) -> SessionId<'_> {
    SessionId::parse(created.cookie.expose()).unwrap()
}

/// Where the row of the person stands under the key that seals now.
fn place(sessions: &Sessions) -> u8 {
    let entry = entries_of(&sessions.ring(), BY_PERSON, Mark::person(&person())).next_back();
    entry.unwrap().place[0]
}

/// A use, which writes the row again under the key that seals now.
async fn used(sessions: &Sessions, created: &Created) {
    let restored = sessions.restore(id(created), NOW).await.unwrap().unwrap();
    sessions.touch(restored.live()).await.unwrap();
}

#[tokio::test]
async fn places_under_older_keys_are_looked_at_before_the_one_to_which_rows_move() {
    let store = Arc::default();
    let (mark, sessions) = (Mark::person(&person()), opened(&store, &[3, 2, 1]));
    let looked: Vec<_> = entries_of(&sessions.ring(), BY_PERSON, mark).collect();
    let one = |key| entries_of(&opened(&store, &[key]).ring(), BY_PERSON, mark).next();
    assert_eq!(looked, [one(1), one(2), one(3)].map(Option::unwrap));
}

#[tokio::test]
async fn a_session_that_moves_to_another_key_behind_a_walk_is_met_by_the_next_one() {
    // A new key under which the place of the person comes before the one under the old key.
    let store = Arc::default();
    let before = place(&opened(&store, &[1]));
    let mut keys = 2..=u8::MAX;
    let key = keys.find(|key| place(&opened(&store, &[*key])) < before);
    let sessions = opened(&store, &[1]);
    let created = log_in(&sessions, "RT", NOW).await;
    assert_eq!(sessions.walks(), 1);
    sessions.reload(&keyed(&[key.unwrap(), 1])).unwrap();
    let mut met = 0;
    for walk in 0..sessions.walks() {
        for first in 0..=u8::MAX {
            if walk == 0 && first == before {
                used(&sessions, &created).await;
            }
            let mut each = |known: crate::session::Known| {
                assert_eq!(known.row, created.row);
                met += 1;
            };
            let prefix = [first];
            let more = sessions.of_people(&prefix, 9, NOW, &mut each);
            assert!(!more.await.unwrap());
        }
    }
    assert_eq!(met, 1, "the first walk has missed it");
    let found = sessions.found_by(
        Mark::sid(somebody(765_432).identity().key.issuer.as_str(), "S1"),
        9,
        NOW,
    );
    assert_eq!(found.await.unwrap().len(), 1, "by each name, and once");
}

#[tokio::test]
async fn what_is_long_is_kept_and_given_back_whole() {
    let store = Arc::default();
    let sessions = opened(&store, &[1]);
    for length in [1_usize, 100, 20_000, 70_000, 200_000] {
        let token = "t".repeat(length);
        let created = log_in(&sessions, &token, NOW).await;
        // By another process, from what was written.
        let sessions = opened(&store, &[1]);
        let restored = sessions.restore(id(&created), NOW).await.unwrap();
        assert_eq!(restored.unwrap().canonical(), &person(), "{length}");
        let farewell = sessions.end(id(&created), NOW).await.unwrap().unwrap();
        assert!(
            *farewell.refresh_token.unwrap().expose() == token,
            "{length}"
        );
    }
}

#[tokio::test]
async fn nothing_is_given_back_of_a_session_that_has_rested_for_too_long() {
    let store = Arc::default();
    let sessions = opened(&store, &[1]);
    let created = log_in(&sessions, "RT1", NOW).await;
    let later = NOW + RESTED;
    assert!(
        sessions
            .restore(id(&created), later)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        sessions.end(id(&created), later).await.unwrap().is_none(),
        "nobody was signed in"
    );
    let known = sessions.known(&created.row, later).await.unwrap().unwrap();
    assert!(known.rested && known.refresh_token.is_none());
    let early = NOW + RESTED - Duration::from_millis(1);
    assert!(
        !sessions.end_rested(&created.row, early).await.unwrap(),
        "it runs"
    );
    let farewell = sessions.end_known(&created.row, later).await.unwrap();
    let farewell = farewell.unwrap();
    assert!(farewell.rested);
    assert!(
        farewell.refresh_token.is_none(),
        "its provider may end more with it"
    );
    assert!(sessions.known(&created.row, later).await.unwrap().is_none());
    assert!(
        sessions
            .end_known(&created.row, later)
            .await
            .unwrap()
            .is_none(),
        "once"
    );
    let other = log_in(&sessions, "RT4", NOW).await;
    assert!(sessions.end_rested(&other.row, later).await.unwrap());
    assert!(
        !sessions.end_rested(&other.row, later).await.unwrap(),
        "once"
    );
    // Who signs in again has room made for it, too.
    log_in(&sessions, "RT2", NOW).await;
    let next = log_in(&sessions, "RT3", later).await;
    let made = sessions.make_room_for(&next.room, later).await;
    let [ended] = made.as_slice() else {
        panic!("{made:?}");
    };
    assert!(ended.rested && ended.refresh_token.is_none());
    let known = sessions.known(&next.row, later).await.unwrap().unwrap();
    assert!(!known.rested);
    // One that runs has it given back, whoever ends it.
    let farewell = sessions.end_known(&next.row, later).await.unwrap().unwrap();
    assert_eq!(farewell.refresh_token.unwrap().expose(), "RT3");
}

#[tokio::test]
async fn a_store_that_takes_nothing_more_lets_go_of_who_has_rested_for_too_long() {
    let (full, same) = (Arc::new(FakeStore::default()), keyed(&[1]));
    let store: Arc<dyn Store> = Arc::clone(&full) as _;
    let entropy = Arc::new(SystemEntropy);
    let sessions = Sessions::new(&same, store, entropy, &Runtime::current()).unwrap();
    let created = log_in(&sessions, "RT", NOW).await;
    let later = NOW + RESTED;
    let row = async || {
        let row = full.rows.get(rows::key(&created.row), later).await;
        row.unwrap().is_some()
    };
    full.away.store(true, SeqCst);
    assert!(sessions.end_rested(&created.row, later).await.is_err());
    full.away.store(false, SeqCst);
    full.full.store(true, SeqCst);
    assert!(row().await, "it is looked at again");
    assert!(sessions.end_rested(&created.row, later).await.unwrap());
    assert!(!row().await);
}

#[tokio::test]
async fn a_session_that_nobody_could_find_is_not_made() {
    let sessions = opened(&Arc::default(), &[1]);
    // Called as somebody whom another issuer knows.
    let other = somebody(1).identity().key.clone();
    let person = CanonicalSubject::unjoined(&other);
    let (proof, token) = (somebody(2), Secret::new(String::from("RT")));
    let new = new(&proof, &person, &token, NOW);
    assert!(sessions.create(new, NOW).await.is_err());
    let found = sessions.found_by(Mark::person(&person), 9, NOW);
    assert!(found.await.unwrap().is_empty());
}

#[tokio::test]
async fn a_row_of_another_layout_is_no_session() {
    let store: Arc<MemoryStore> = Arc::default();
    let sessions = opened(&store, &[1]);
    let created = log_in(&sessions, "RT", NOW).await;
    let row = rows::key(&created.row);
    let written = store.get(row, NOW).await.unwrap().unwrap().value;
    let sealed = sessions.ring().seal(
        Purpose::SessionHandle,
        b"",
        &[&created.row],
        br#"{"provider":"modern","refresh_token":"RT"}"#,
        &SystemEntropy,
    );
    let length = u32::try_from(sealed.len()).unwrap().to_be_bytes();
    let former = [&[2][..], &length, &sealed, b"body"].concat();
    let cut = written.get(..written.len() / 4).unwrap().to_vec();
    let other = [&[4][..], written.get(1..).unwrap()].concat();
    for value in [former, cut, other, Vec::new(), vec![3], vec![3, 0xff]] {
        store.put(row, &value, NOW + RESTED).await.unwrap();
        let sessions = opened(&store, &[1]);
        assert!(sessions.restore(id(&created), NOW).await.unwrap().is_none());
        assert!(sessions.known(&created.row, NOW).await.unwrap().is_none());
        assert!(
            sessions
                .end_known(&created.row, NOW)
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            store.get(row, NOW).await.unwrap().is_none(),
            "whoever ends it removes it"
        );
    }
}
