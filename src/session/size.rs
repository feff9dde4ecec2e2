//! How much a session takes in a file: a million of them fit into a gibibyte.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Handle;

use crate::clock::UnixTime;
use crate::entropy::SystemEntropy;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Delegation;
use crate::identity::Grounds;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::providers::Authenticated;
use crate::rollout::Arm;
use crate::rollout::RolloutId;
use crate::secret::Secret;
use crate::session::Backing;
use crate::session::NewSession;
use crate::session::Origin;
use crate::session::SessionId;
use crate::session::Sessions;
use crate::session::settings::SameSite;
use crate::session::settings::Settings;
use crate::session::settings::StoreKind;
use crate::store::EmbeddedStore;
use crate::store::Store;

pub(super) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

pub(super) fn settings() -> Settings {
    Settings {
        cookie: "__Host-authferry".into(),
        secure: true,
        same_site: SameSite::Lax,
        shortest: false,
        idle: Duration::from_hours(24),
        absolute: Duration::from_hours(24),
        keys: vec![Secret::new(vec![7; 32])],
        revalidate: Duration::from_hours(24),
        max_per_subject: 50,
        store: StoreKind::Embedded,
    }
}

/// Somebody with an e-mail address, a name, a number and three groups; a refresh token that is opaque, and no ID token.
pub(super) fn somebody(n: usize) -> Authenticated {
    let said = json!({
        "email": format!("person.{n:06}@corp.example"),
        "employee_id": format!("{n:07}"),
        "name": format!("Person Number {n:06}"),
        "groups": ["staff", "crm-users", "emea-sales"],
        "auth_time": 1_800_000_000,
    });
    let Value::Object(said) = said else {
        unreachable!("an object");
    };
    let identity = Identity {
        provider: ProviderId::new("modern"),
        key: SubjectKey {
            issuer: Issuer::new("https://id.corp.example/realms/corp"),
            subject: Subject::try_from(&*format!("{n:08x}-d9cb-469f-a165-70867728950e")).unwrap(),
        },
        attributes: Arc::new(ClaimMap::new(said)),
        client_id: Some("authferry-crm".into()),
        acr: Some("mfa".into()),
        scopes: ["openid", "profile", "email"].map(Box::from).into(),
        delegation: Delegation::default(),
    };
    Authenticated::for_test(identity, UnixTime::NEVER).for_test_on(Grounds {
        kid: Some("k-2026-1".into()),
        ..Grounds::default()
    })
}

/// Whose it is differs, not how long it is.
fn new<'a>(
    proof: &'a Authenticated,
    person: &'a CanonicalSubject,
    token: &'a Secret<String>,
) -> NewSession<'a> {
    NewSession {
        authenticated: proof,
        canonical: person,
        app: "crm",
        host: "crm.corp.example",
        backing: Some(Backing {
            rollout: RolloutId::new("crm-2026"),
            epoch: 1,
            arm: Arm::To,
        }),
        rule: "percent",
        origin: Origin::Login,
        until: UnixTime::NEVER,
        began: NOW,
        id_token: None,
        sid: Some("1f8fad5b-d9cb-469f-a165-70867728950e"),
        refresh_token: Some(token),
        lasts: Some(Duration::from_mins(5)),
        stands_for: None,
        came_by: None,
        left: None,
    }
}

fn open(directory: &tempfile::TempDir) -> (Arc<EmbeddedStore>, Arc<Sessions>) {
    let file = directory.path().join("store.redb");
    let store = Arc::new(EmbeddedStore::open(&file, 10_000).unwrap());
    let rows: Arc<dyn Store> = Arc::clone(&store) as _;
    let entropy = Arc::new(SystemEntropy);
    let sessions = Sessions::new(&settings(), rows, entropy, &Handle::current()).unwrap();
    (store, sessions)
}

#[tokio::test]
async fn a_session_takes_so_many_bytes_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let (store, sessions) = open(&directory);
    let (proof, person) = (
        somebody(765_432),
        CanonicalSubject::named("hr:765432").unwrap(),
    );
    let token = Secret::new(String::from("6f8fad5b-d9cb-469f-a165-70867728950e"));
    let created = sessions
        .create(new(&proof, &person, &token), NOW)
        .await
        .unwrap();
    let used = || store.bytes().map(|(used, _)| used);
    // Eight rows of 503 and their places are a page.
    let [row, due, entries] = used();
    assert!(row <= 503, "{row}");
    assert!(due <= 37, "{due}");
    assert!(entries <= 3 * 24, "{entries}");
    let id = SessionId::parse(created.cookie.expose()).unwrap();
    assert!(sessions.restore(id, NOW).await.unwrap().is_some());
    // What is left of it when it is over is little, and goes with its time.
    sessions.end(id, NOW).await.unwrap();
    let [row, due, entries] = used();
    assert!(row <= 260 && due <= 37 && entries <= 3 * 24, "{row}");
    store.sweep(created.ends).await.unwrap();
    assert_eq!(used(), [0; 3]);
}

/// As long as those of Keycloak: a header, claims, a signature.
#[tokio::test]
async fn a_session_with_the_tokens_of_keycloak_takes_half_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let (store, sessions) = open(&directory);
    let (proof, person) = (somebody(7), CanonicalSubject::named("hr:000007").unwrap());
    let jwt = |parts: [usize; 3]| {
        let parts = parts.map(|length| URL_SAFE_NO_PAD.encode(vec![0xa5; length]));
        Secret::new(parts.join("."))
    };
    let (id_token, refresh_token) = (jwt([77, 600, 256]), jwt([70, 340, 64]));
    let new = NewSession {
        id_token: Some(&id_token),
        ..new(&proof, &person, &refresh_token)
    };
    let created = sessions.create(new, NOW).await.unwrap();
    // Two rows of 2 038 and their places are a page.
    let [(row, _), ..] = store.bytes();
    assert!(row <= 2_038, "{row}");
    let id = SessionId::parse(created.cookie.expose()).unwrap();
    let farewell = sessions.end(id, NOW).await.unwrap().unwrap();
    assert_eq!(farewell.id_token.unwrap().expose(), id_token.expose());
    let left = farewell.refresh_token.unwrap();
    assert_eq!(left.expose(), refresh_token.expose());
}

#[tokio::test]
async fn a_million_sessions_are_less_than_a_gibibyte() {
    const MANY: usize = 3_000;
    let directory = tempfile::tempdir().unwrap();
    let (store, sessions) = open(&directory);
    let token = Secret::new(String::from("6f8fad5b-d9cb-469f-a165-70867728950e"));
    let join = async |n: usize| {
        let (proof, person) = (
            somebody(n),
            CanonicalSubject::named(&format!("hr:{n:06}")).unwrap(),
        );
        sessions
            .create(new(&proof, &person, &token), NOW)
            .await
            .unwrap();
    };
    let joining = stream::iter(0..MANY).map(join);
    joining.buffer_unordered(400).collect::<Vec<()>>().await;
    // Pages with what is free in them: a tree with random keys is filled to two thirds, however large it is.
    let pages = store.bytes().map(|(_, pages)| pages);
    let each = pages.iter().sum::<u64>() / MANY as u64;
    assert!(each <= 960, "{each}: {pages:?}");
}
