//! How much a session takes in a file: a million of them fit into a gibibyte.

use std::sync::Arc;
use std::time::Duration;

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
fn somebody() -> Authenticated {
    let said = json!({
        "email": "person.765432@corp.example",
        "employee_id": "0765432",
        "name": "Person Number 765432",
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
            subject: Subject::try_from("0f8fad5b-d9cb-469f-a165-70867728950e").unwrap(),
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

#[tokio::test]
async fn a_session_takes_so_many_bytes_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.redb");
    let store = Arc::new(EmbeddedStore::open(&file, 1_000).unwrap());
    let rows: Arc<dyn Store> = Arc::clone(&store) as _;
    let entropy = Arc::new(SystemEntropy);
    let sessions = Sessions::new(&settings(), rows, entropy, &Handle::current()).unwrap();
    let (proof, person) = (somebody(), CanonicalSubject::named("hr:765432").unwrap());
    let token = Secret::new(String::from("6f8fad5b-d9cb-469f-a165-70867728950e"));
    let new = NewSession {
        authenticated: &proof,
        canonical: &person,
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
        refresh_token: Some(&token),
        lasts: Some(Duration::from_mins(5)),
        stands_for: None,
        came_by: None,
    };
    let created = sessions.create(new, NOW).await.unwrap();
    // Keys and values. A page holds eight rows of 511 with their places in it; of two thirds of what pages hold, a million make
    // 890 MiB together with what is below.
    let [row, due, entries] = store.bytes();
    assert!(row <= 503, "{row}");
    assert!(due <= 37, "{due}");
    assert!(entries <= 3 * 24, "{entries}");
    let id = SessionId::parse(created.cookie.expose()).unwrap();
    assert!(sessions.restore(id, NOW).await.unwrap().is_some());
    // What is left of it when it is over is little, and goes with its time.
    sessions.end(id, NOW).await.unwrap();
    let [row, due, entries] = store.bytes();
    assert!(row <= 260 && due <= 37 && entries <= 3 * 24, "{row}");
    store.sweep(created.ends).await.unwrap();
    assert_eq!(store.bytes(), [0; 3]);
}
