//! Logouts that have counted, after their store was emptied.

use super::*;
use crate::revocation::NotLoggedOut;
use crate::token::LogoutToken;

fn logout(jti: &str, issued: UnixTime) -> LogoutToken {
    LogoutToken::for_test("https://new.idp.test", "alice", jti, issued)
}

async fn hears(here: &Instance, token: &LogoutToken) -> Result<(), NotLoggedOut> {
    here.list
        .logged_out(&ProviderId::new("modern"), token)
        .await
}

async fn empty(store: &MemoryStore, tables: &[&'static str]) {
    for table in tables {
        let rows = store.scan(table, b"", 99, at(0)).await.unwrap();
        assert!(!rows.is_empty(), "{table}");
        for (key, _) in rows {
            store.delete(Key { table, key: &key }).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_logout_that_comes_again_after_the_store_was_emptied_ends_nobody_who_has_signed_in_since()
{
    let rows = Arc::new(MemoryStore::default());
    let shared: Arc<dyn Store> = Arc::clone(&rows) as _;
    let here = Instance::on(&shared);
    here.list.load().await.unwrap();
    here.clock.set(at(11));
    let token = logout("j1", at(10));
    hears(&here, &token).await.unwrap();
    assert!(!here.holds(Some(at(9))));
    assert!(here.holds(Some(at(12))));
    let again = hears(&here, &token).await;
    assert!(matches!(again, Err(NotLoggedOut::Replayed)));
    empty(&rows, &["logout_jti", "whole"]).await;
    here.clock.set(at(20));
    here.list.load().await.unwrap();
    here.clock.set(at(30));
    hears(&here, &token).await.unwrap();
    assert!(here.holds(Some(at(25))), "signed in again");
    // It may be the first time that it comes: what it can have meant is over.
    assert!(!here.holds(Some(at(15))));
    // One that was issued since ends what began before it came.
    hears(&here, &logout("j2", at(26))).await.unwrap();
    assert!(!here.holds(Some(at(25))));
}
