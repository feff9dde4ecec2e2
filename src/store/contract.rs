//! What every store does: one generic test.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::store::By;
use crate::store::Entry;
use crate::store::Event;
use crate::store::Expect;
use crate::store::Key;
use crate::store::NewRow;
use crate::store::PLACE;
use crate::store::Row;
use crate::store::Store;
use crate::store::Watch;

/// Runs the contract on fresh stores.
pub(super) async fn store_contract<S: Store + 'static>(fresh: impl Fn() -> S) {
    rows_come_back_until_they_expire(fresh()).await;
    tables_and_keys_do_not_mix(fresh()).await;
    a_swap_writes_only_what_it_expected(fresh()).await;
    of_many_swaps_one_wins(fresh()).await;
    two_rows_are_written_together_or_neither(fresh()).await;
    a_scan_is_ordered_bounded_and_by_prefix(fresh()).await;
    a_lease_has_one_holder(fresh()).await;
    a_sweep_removes_what_has_expired(fresh()).await;
    a_row_is_found_by_its_entries(fresh()).await;
    many_are_found_one_after_the_other(fresh()).await;
    entries_go_with_their_row(fresh()).await;
    a_watcher_is_told_what_changes_in_its_table(fresh()).await;
}

/// Far in the future, so that a store which also looks at a clock of its own removes nothing by it.
const fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(4_000_000_000 + seconds)
}

const fn key(key: &[u8]) -> Key<'_> {
    Key { table: "t", key }
}

async fn rows_come_back_until_they_expire(store: impl Store) {
    assert_eq!(store.get(key(b"a"), at(0)).await.unwrap(), None);
    store.put(key(b"a"), b"one", at(10)).await.unwrap();
    let first = store.get(key(b"a"), at(9)).await.unwrap().unwrap();
    assert_eq!(first.value, b"one");
    assert_eq!(store.get(key(b"a"), at(10)).await.unwrap(), None);
    store.put(key(b"a"), b"two", at(10)).await.unwrap();
    let second = store.get(key(b"a"), at(0)).await.unwrap().unwrap();
    assert_eq!(second.value, b"two");
    assert_ne!(first.version, second.version);
    store.delete(key(b"a")).await.unwrap();
    store.delete(key(b"a")).await.unwrap();
    assert_eq!(store.get(key(b"a"), at(0)).await.unwrap(), None);
    store.put(key(b""), b"", UnixTime::NEVER).await.unwrap();
    assert_eq!(
        store
            .get(key(b""), UnixTime::from_secs(u64::MAX / 2_000))
            .await
            .unwrap()
            .unwrap()
            .value,
        b""
    );
}

async fn tables_and_keys_do_not_mix(store: impl Store) {
    let other = |key| Key { table: "tt", key };
    store.put(key(b"tx"), b"1", at(10)).await.unwrap();
    store.put(other(b"x"), b"2", at(10)).await.unwrap();
    assert_eq!(
        store.get(key(b"tx"), at(0)).await.unwrap().unwrap().value,
        b"1"
    );
    assert_eq!(
        store.get(other(b"x"), at(0)).await.unwrap().unwrap().value,
        b"2"
    );
    assert_eq!(store.get(key(b"x"), at(0)).await.unwrap(), None);
    assert_eq!(store.scan("t", b"", 10, at(0)).await.unwrap().len(), 1);
}

async fn a_swap_writes_only_what_it_expected(store: impl Store) {
    let swap = async |expect, value: &[u8], now| {
        store
            .compare_and_swap(key(b"a"), expect, value, at(10), now)
            .await
            .unwrap()
    };
    assert!(!swap(Expect::Version(1), b"x", at(0)).await);
    assert!(swap(Expect::Absent, b"one", at(0)).await);
    assert!(!swap(Expect::Absent, b"x", at(0)).await);
    let version = store.get(key(b"a"), at(0)).await.unwrap().unwrap().version;
    assert!(!swap(Expect::Version(version + 1), b"x", at(0)).await);
    assert!(swap(Expect::Version(version), b"two", at(0)).await);
    assert!(!swap(Expect::Version(version), b"x", at(0)).await);
    assert_eq!(
        store.get(key(b"a"), at(0)).await.unwrap().unwrap().value,
        b"two"
    );
    let version = store.get(key(b"a"), at(0)).await.unwrap().unwrap().version;
    assert!(
        !swap(Expect::Version(version), b"x", at(10)).await,
        "an expired row is absent"
    );
    assert!(swap(Expect::Absent, b"three", at(10)).await);
}

async fn of_many_swaps_one_wins(store: impl Store + 'static) {
    let store = std::sync::Arc::new(store);
    let tasks: Vec<_> = (0..32_u8)
        .map(|n| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                let value = [n];
                store
                    .compare_and_swap(key(b"a"), Expect::Absent, &value, at(10), at(0))
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
}

async fn two_rows_are_written_together_or_neither(store: impl Store) {
    let both = async |one: &[u8], two: &[u8], now| {
        let rows = [(key(one), b"1".as_slice()), (key(two), b"2")];
        store.put_both(rows, at(10), now).await.unwrap()
    };
    let value = async |row: &[u8], now| {
        let row = store.get(key(row), now).await.unwrap();
        row.map(|row| row.value)
    };
    let Some(written) = both(b"a", b"b", at(0)).await else {
        assert_eq!(value(b"a", at(0)).await, None, "nothing was written");
        return;
    };
    assert!(written);
    assert_eq!(value(b"a", at(9)).await.as_deref(), Some(&b"1"[..]));
    assert_eq!(value(b"b", at(9)).await.as_deref(), Some(&b"2"[..]));
    assert_eq!(both(b"c", b"b", at(0)).await, Some(false));
    assert_eq!(both(b"a", b"c", at(0)).await, Some(false));
    assert_eq!(value(b"c", at(0)).await, None);
    assert_eq!(
        both(b"a", b"c", at(10)).await,
        Some(true),
        "an expired row is absent"
    );
}

async fn a_scan_is_ordered_bounded_and_by_prefix(store: impl Store) {
    for n in 0..40_u8 {
        store
            .put(key(&[b'p', n]), &[n], at(if n == 0 { 5 } else { 10 }))
            .await
            .unwrap();
    }
    store.put(key(b"o"), b"", at(10)).await.unwrap();
    store.put(key(b"q"), b"", at(10)).await.unwrap();
    store.put(key(&[0xff, 0xff]), b"", at(10)).await.unwrap();
    let found = store.scan("t", b"p", 3, at(5)).await.unwrap();
    let keys: Vec<_> = found.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys, [[b'p', 1], [b'p', 2], [b'p', 3]]);
    assert_eq!(store.scan("t", b"p", 100, at(5)).await.unwrap().len(), 39);
    assert_eq!(store.scan("t", &[0xff], 100, at(5)).await.unwrap().len(), 1);
    assert_eq!(store.scan("u", b"", 100, at(5)).await.unwrap().len(), 0);
}

const fn entry(kind: u8, place: u8) -> Entry {
    Entry {
        kind,
        place: [place; PLACE],
    }
}

/// Writes a row whose key is `row` over and over.
async fn enter(store: &impl Store, row: u8, entries: &[Entry], expires: UnixTime) {
    let digest = [row; 32];
    let row = NewRow {
        key: key(&digest),
        value: &digest,
        entries,
        expires,
    };
    assert!(store.write(row, None).await.unwrap());
}

/// The rows of a kind of entry.
async fn found(store: &impl Store, kind: u8, prefix: &[u8], limit: usize) -> Vec<u8> {
    let by = By {
        table: "t",
        kind,
        prefix,
    };
    let mut found = Vec::new();
    let mut each = |key: &[u8], row: Row| {
        assert!(key.len() == 32 && *key == row.value);
        found.push(key[0]);
    };
    let handed = store.find(by, limit, at(0), &mut each).await.unwrap();
    assert_eq!(handed, found.len());
    found
}

async fn a_row_is_found_by_its_entries(store: impl Store) {
    enter(&store, 1, &[entry(0, 7), entry(1, 3)], at(10)).await;
    enter(&store, 2, &[entry(0, 7), entry(1, 4)], at(10)).await;
    enter(&store, 3, &[entry(0, 9)], at(10)).await;
    enter(&store, 4, &[], at(10)).await;
    let place = [7; PLACE];
    assert_eq!(found(&store, 0, &place, 9).await, [1, 2]);
    assert_eq!(found(&store, 0, &place, 1).await, [1]);
    assert_eq!(found(&store, 0, &[7], 9).await, [1, 2]);
    assert_eq!(found(&store, 0, &[8], 9).await, [0; 0]);
    assert_eq!(found(&store, 0, b"", 9).await, [1, 2, 3]);
    assert_eq!(found(&store, 1, b"", 9).await, [1, 2]);
    assert_eq!(found(&store, 1, &[4; PLACE], 9).await, [2]);
    assert_eq!(found(&store, 2, b"", 9).await, [0; 0]);
    let other = By {
        table: "tt",
        kind: 0,
        prefix: b"",
    };
    let found = async |by, now| store.find(by, 9, now, &mut |_, _| {}).await.unwrap();
    assert_eq!(found(other, at(0)).await, 0);
    // By its key too, and by nothing of it once it has expired.
    let row = store.get(key(&[1; 32]), at(0)).await.unwrap();
    assert_eq!(row.unwrap().value, [1; 32]);
    let by = By {
        table: "t",
        kind: 0,
        prefix: b"",
    };
    assert_eq!(found(by, at(10)).await, 0);
}

async fn many_are_found_one_after_the_other(store: impl Store) {
    for row in 0..200_u8 {
        // Whole batches of what has expired have others behind them.
        let expires = at(if (20..170).contains(&row) { 5 } else { 10 });
        enter(&store, row, &[entry(0, row), entry(1, 7)], expires).await;
    }
    let live: Vec<u8> = (0..20).chain(170..200).collect();
    let turns = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let taken = std::sync::Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            taken.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    for (kind, prefix) in [(0, &b""[..]), (1, &[7])] {
        for limit in [usize::MAX, 50, 49, 21, 20, 1, 0] {
            let by = By {
                table: "t",
                kind,
                prefix,
            };
            let mut found = Vec::new();
            let before = turns.load(std::sync::atomic::Ordering::SeqCst);
            let mut each = |key: &[u8], _| found.push(key[0]);
            let handed = store.find(by, limit, at(5), &mut each).await.unwrap();
            assert_eq!(handed, limit.min(50));
            let most = live.iter().take(limit).copied().collect::<Vec<_>>();
            assert_eq!(found, most);
            let turns = turns.load(std::sync::atomic::Ordering::SeqCst) - before;
            assert!(limit < 21 || 1 < turns, "others have their turn meanwhile");
        }
    }
    other.abort();
}

async fn entries_go_with_their_row(store: impl Store) {
    enter(&store, 1, &[entry(0, 1), entry(1, 1)], at(10)).await;
    enter(&store, 2, &[entry(0, 1), entry(1, 1)], at(10)).await;
    enter(&store, 3, &[entry(0, 1)], at(5)).await;
    // Replaced: what it is found by no more is gone, what it is found by still is there once.
    enter(&store, 1, &[entry(1, 1), entry(0, 2)], at(10)).await;
    assert_eq!(found(&store, 0, &[1], 9).await, [2, 3]);
    assert_eq!(found(&store, 0, &[2], 9).await, [1]);
    assert_eq!(found(&store, 1, &[1], 9).await, [1, 2]);
    // A swap that loses changes nothing; one that wins does.
    let swap = async |expect| {
        let row = NewRow {
            key: key(&[2; 32]),
            value: &[2; 32],
            entries: &[entry(0, 3)],
            expires: at(10),
        };
        store.write(row, Some((expect, at(0)))).await.unwrap()
    };
    assert!(!swap(Expect::Absent).await);
    assert_eq!(found(&store, 0, &[1], 9).await, [2, 3]);
    let row = store.get(key(&[2; 32]), at(0)).await.unwrap().unwrap();
    assert!(swap(Expect::Version(row.version)).await);
    assert_eq!(found(&store, 0, &[1], 9).await, [3]);
    assert_eq!(found(&store, 0, &[3], 9).await, [2]);
    // A row that is put without entries has none, and is not removed with what they were.
    enter(&store, 4, &[entry(0, 4)], at(5)).await;
    store.put(key(&[4; 32]), &[4; 32], at(10)).await.unwrap();
    assert_eq!(found(&store, 0, &[4], 9).await, [0; 0]);
    // However often it is put, it goes when it is due, and not when it was due before.
    store.put(key(&[4; 32]), &[4; 32], at(20)).await.unwrap();
    assert_eq!(store.sweep(at(4)).await.unwrap(), 0);
    // Swept.
    assert_eq!(store.sweep(at(5)).await.unwrap(), 1);
    assert_eq!(found(&store, 0, &[1], 9).await, [0; 0]);
    assert!(store.get(key(&[4; 32]), at(0)).await.unwrap().is_some());
    // Removed; and written anew, it has none of what it had.
    store.delete(key(&[2; 32])).await.unwrap();
    assert_eq!(found(&store, 0, &[3], 9).await, [0; 0]);
    enter(&store, 2, &[], at(10)).await;
    assert_eq!(found(&store, 0, b"", 9).await, [1]);
    assert_eq!(found(&store, 1, b"", 9).await, [1]);
    store.sweep(at(10)).await.unwrap();
    assert!(store.get(key(&[4; 32]), at(10)).await.unwrap().is_some());
}

async fn a_lease_has_one_holder(store: impl Store) {
    let lease = async |name, holder, now| {
        store
            .lease(name, holder, Duration::from_secs(10), now)
            .await
            .unwrap()
    };
    assert!(lease("leader", "a", at(0)).await);
    assert!(!lease("leader", "b", at(1)).await);
    assert!(lease("other", "b", at(1)).await);
    assert!(lease("leader", "a", at(2)).await, "the holder renews");
    store.release("leader", "b").await.unwrap();
    assert!(!lease("leader", "b", at(3)).await, "only its own");
    store.release("leader", "a").await.unwrap();
    assert!(lease("leader", "b", at(3)).await);
    assert!(!lease("leader", "a", at(3)).await);
}

/// For stores that count the span of a lease from `now`.
pub(super) async fn a_lease_ends_with_its_span(store: impl Store) {
    let lease = async |holder, now| {
        store
            .lease("leader", holder, Duration::from_secs(10), now)
            .await
            .unwrap()
    };
    assert!(lease("a", at(0)).await);
    assert!(!lease("b", at(9)).await);
    assert!(lease("a", at(9)).await, "the holder renews");
    assert!(!lease("b", at(18)).await);
    assert!(lease("b", at(19)).await);
}

async fn a_watcher_is_told_what_changes_in_its_table(store: impl Store) {
    let other = |key| Key { table: "tt", key };
    store.put(key(b"before"), b"", at(10)).await.unwrap();
    let mut watch = store.watch("t");
    let mut second = store.watch("t");
    until_told(&store, &mut watch).await;
    until_told(&store, &mut second).await;
    store.put(other(b"x"), b"", at(10)).await.unwrap();
    store.put(key(b"put"), b"", at(10)).await.unwrap();
    let swap = async |expect| {
        store
            .compare_and_swap(key(b"swapped"), expect, b"", at(10), at(0))
            .await
            .unwrap()
    };
    assert!(!swap(Expect::Version(1)).await);
    assert!(swap(Expect::Absent).await);
    store.delete(key(b"put")).await.unwrap();
    for watch in [&mut watch, &mut second] {
        for told in [&b"put"[..], b"swapped", b"put"] {
            assert_eq!(next_but_marks(watch).await, Event::Changed(told.into()));
        }
    }
}

/// A shared store may need a moment before it tells; whatever it told until then is read here.
async fn until_told(store: &impl Store, watch: &mut Watch) {
    let mut round = 0_u32;
    loop {
        round += 1;
        let mark = round.to_be_bytes();
        store.put(key(&mark), b"", at(10)).await.unwrap();
        let heard = async { while next(watch).await != Event::Changed((&mark[..]).into()) {} };
        if tokio::time::timeout(Duration::from_secs(1), heard)
            .await
            .is_ok()
        {
            return;
        }
    }
}

/// The marks of [`until_told`] reach every watcher.
async fn next_but_marks(watch: &mut Watch) -> Event {
    loop {
        match next(watch).await {
            Event::Changed(key) if key.len() == 4 => {}
            event @ (Event::Changed(_) | Event::Missed) => return event,
        }
    }
}

async fn next(watch: &mut Watch) -> Event {
    tokio::time::timeout(Duration::from_secs(10), watch.next())
        .await
        .expect("something is told")
        .expect("the store is there")
}

async fn a_sweep_removes_what_has_expired(store: impl Store) {
    store.put(key(b"a"), b"", at(5)).await.unwrap();
    store.put(key(b"b"), b"", at(6)).await.unwrap();
    assert_eq!(store.sweep(at(5)).await.unwrap(), 1);
    assert_eq!(store.sweep(at(5)).await.unwrap(), 0);
    assert!(store.get(key(b"b"), at(5)).await.unwrap().is_some());
}
