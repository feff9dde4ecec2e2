//! What an owner gives out for a session that ends meanwhile, or while the store is away.

use tokio::task::JoinHandle;

use super::*;

/// A session whose owner is being asked for it, and the cookie.
struct Asking {
    task: JoinHandle<Renewed>,
    cookie: String,
}

impl Asking {
    async fn begin(a: &Arc<Instance>, owner: &Arc<Owner>) -> Self {
        owner.hold.store(true, Ordering::SeqCst);
        let cookie = a.log_in("alice", at(0)).await;
        let restored = a.restore(&cookie, at(100)).await.unwrap();
        let task = tokio::spawn({
            let (a, owner) = (Arc::clone(a), Arc::clone(owner));
            async move { a.renew(&restored, &owner, at(100)).await }
        });
        owner.came.notified().await;
        Self { task, cookie }
    }

    fn row(&self) -> [u8; 32] {
        SessionId::parse(&self.cookie).unwrap().row()
    }

    async fn answered(self, owner: &Owner) -> Renewed {
        owner.hold.store(false, Ordering::SeqCst);
        owner.go.notify_one();
        self.task.await.unwrap()
    }
}

/// The token that is left of a session that is over.
fn left(renewed: Renewed) -> Option<String> {
    match renewed {
        Renewed::Ended { left } => left.map(|token| token.expose().clone()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_logout_while_the_owner_is_asked_is_final_and_what_the_owner_gave_out_is_left() {
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (Arc::new(instance(&rows)), instance(&rows));
    let owner = Owner::new();
    let asking = Asking::begin(&a, &owner).await;
    let cookie = asking.cookie.clone();
    let id = SessionId::parse(&cookie).unwrap();
    let farewell = b.sessions.end(id, at(100)).await.unwrap().unwrap();
    let gone = farewell.refresh_token.unwrap();
    assert_eq!(gone.expose(), "RT-of-alice");
    assert_eq!(left(asking.answered(&owner).await).as_deref(), Some("RT1"));
    assert!(a.restore(&cookie, at(101)).await.is_none());
    assert!(b.restore(&cookie, at(101)).await.is_none());
    // The same where nothing is kept of it. Another owner: this one has taken the token.
    let owner = Owner::new();
    let asking = Asking::begin(&a, &owner).await;
    b.sessions.erase(&asking.row()).await.unwrap();
    assert_eq!(left(asking.answered(&owner).await).as_deref(), Some("RT1"));
}

#[tokio::test(start_paused = true)]
async fn what_was_given_out_for_a_session_that_has_rested_for_too_long_is_left_alone() {
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (Arc::new(instance(&rows)), instance(&rows));
    let owner = Owner::new();
    let asking = Asking::begin(&a, &owner).await;
    let rested = at(100 + 900 + 120);
    tokio::time::advance(Duration::from_secs(900 + 120)).await;
    assert!(b.sessions.end_rested(&asking.row(), rested).await.unwrap());
    assert_eq!(left(asking.answered(&owner).await), None);
}

#[tokio::test]
async fn what_was_given_out_for_somebody_else_is_left() {
    let rows = Arc::new(MemoryStore::default());
    let (a, owner) = (Arc::new(instance(&rows)), Owner::new());
    owner.says(Says::SomebodyElse);
    let asking = Asking::begin(&a, &owner).await;
    assert_eq!(left(asking.answered(&owner).await).as_deref(), Some("RT1"));
}

#[tokio::test]
async fn what_was_given_out_twice_goes_on_where_somebody_uses_it() {
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (Arc::new(instance(&rows)), instance(&rows));
    // An owner that takes a token twice: two that know nothing of each other.
    let (slow, owner) = (Owner::new(), Owner::new());
    owner.asked.store(7, Ordering::SeqCst);
    let asking = Asking::begin(&a, &slow).await;
    rows.delete(Key {
        table: "lease",
        key: lease_of(&asking.cookie).as_bytes(),
    })
    .await
    .unwrap();
    let cookie = asking.cookie.clone();
    let elsewhere = b.restore(&cookie, at(100)).await.unwrap();
    let renewed = b.renew(&elsewhere, &owner, at(100)).await;
    assert!(matches!(renewed, Renewed::Session(_)), "{renewed:?}");
    let renewed = asking.answered(&slow).await;
    assert!(matches!(renewed, Renewed::Session(_)), "{renewed:?}");
    let id = SessionId::parse(&cookie).unwrap();
    let farewell = b.sessions.end(id, at(101)).await.unwrap().unwrap();
    assert_eq!(farewell.refresh_token.unwrap().expose(), "RT8");
}

#[tokio::test(start_paused = true)]
async fn what_an_owner_gave_out_waits_for_a_store_that_is_away() {
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (Arc::new(instance(&rows)), instance(&rows));
    let owner = Owner::new();
    let asking = Asking::begin(&a, &owner).await;
    let cookie = asking.cookie.clone();
    a.store.away.store(true, Ordering::SeqCst);
    owner.hold.store(false, Ordering::SeqCst);
    owner.go.notify_one();
    for _ in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        settle().await;
        assert!(!asking.task.is_finished(), "it cannot be had again");
    }
    a.store.away.store(false, Ordering::SeqCst);
    let renewed = asking.task.await.unwrap();
    assert!(matches!(renewed, Renewed::Session(_)), "{renewed:?}");
    let restored = b.restore(&cookie, at(261)).await.unwrap();
    let renewed = b.renew(&restored, &owner, at(261)).await;
    assert!(matches!(renewed, Renewed::Session(_)), "{renewed:?}");
    assert!(owner.taken.lock().unwrap().contains("RT1"));
}

#[tokio::test(start_paused = true)]
async fn nobody_offers_a_store_for_ever_what_the_session_cannot_use() {
    let rows = Arc::new(MemoryStore::default());
    let (a, owner) = (Arc::new(instance(&rows)), Owner::new());
    owner.hold.store(true, Ordering::SeqCst);
    let cookie = a.log_in("alice", at(0)).await;
    let restored = a.restore(&cookie, at(100)).await.unwrap();
    let task = tokio::spawn({
        let (a, owner) = (Arc::clone(&a), Arc::clone(&owner));
        let owner: Arc<dyn Provider> = owner;
        async move { a.sessions.renew(&restored, (&owner, None), at(100)).await }
    });
    owner.came.notified().await;
    a.store.away.store(true, Ordering::SeqCst);
    owner.go.notify_one();
    tokio::time::advance(Duration::from_secs(8 * 3_600)).await;
    assert!(task.await.unwrap().is_err());
}
