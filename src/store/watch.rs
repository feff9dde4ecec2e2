//! Who is told of changes: one channel per store, and receivers that pick their table.

use std::fmt;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Changes that wait for a slow watcher: 4 096. With more, it is told that it missed some.
const WAITING: usize = 4_096;

/// What a watcher is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// This row was written or removed. A row that expires is not told.
    Changed(Box<[u8]>),
    /// Changes were missed: read again what matters.
    Missed,
}

/// The changes of one table, by anybody who shares the store, from the moment this was made.
pub(crate) struct Watch {
    table: &'static str,
    changes: broadcast::Receiver<Told>,
}

impl Watch {
    /// The next change; `None`: the store is gone.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            match self.changes.recv().await {
                Ok(Told::Row(row)) if row.table() == self.table => {
                    return Some(Event::Changed(row.key().into()));
                }
                Ok(Told::Row(_)) => {}
                Ok(Told::Missed) | Err(RecvError::Lagged(_)) => return Some(Event::Missed),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({})", self.table)
    }
}

#[derive(Clone)]
enum Told {
    Row(Arc<Place>),
    Missed,
}

/// A row: the length of its table's name, the name, the key. One piece, because it also travels between instances.
struct Place(Vec<u8>);

impl Place {
    fn table(&self) -> &str {
        let name = self.split().map(|(table, _)| std::str::from_utf8(table));
        name.and_then(Result::ok).unwrap_or_default()
    }

    fn key(&self) -> &[u8] {
        self.split().map(|(_, key)| key).unwrap_or_default()
    }

    fn split(&self) -> Option<(&[u8], &[u8])> {
        let (length, rest) = self.0.split_first()?;
        rest.split_at_checked(usize::from(*length))
    }
}

/// The telling side.
pub(super) struct Changes(broadcast::Sender<Told>);

impl Changes {
    /// With nobody listening yet.
    pub(super) fn new() -> Self {
        Self(broadcast::channel(WAITING).0)
    }

    /// Listens to one table.
    pub(super) fn watch(&self, table: &'static str) -> Watch {
        Watch {
            table,
            changes: self.0.subscribe(),
        }
    }

    /// Tells of a row that was written or removed.
    pub(super) fn changed(&self, table: &str, key: &[u8]) {
        if 0 < self.0.receiver_count() {
            self.heard(pack(table, key));
        }
    }

    /// Tells of a change that [`pack`] wrote down.
    pub(super) fn heard(&self, packed: Vec<u8>) {
        // Without listeners there is nobody to tell.
        drop(self.0.send(Told::Row(Arc::new(Place(packed)))));
    }

    /// Tells everybody that changes may have been missed.
    pub(super) fn missed(&self) {
        drop(self.0.send(Told::Missed));
    }
}

/// A row as one piece of bytes. Tables are short words of ours.
pub(super) fn pack(table: &str, key: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(1 + table.len() + key.len());
    packed.push(u8::try_from(table.len()).unwrap_or(u8::MAX));
    packed.extend_from_slice(table.as_bytes());
    packed.extend_from_slice(key);
    packed
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Changes({} watchers)", self.0.receiver_count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_watcher_learns_that_it_missed_something_and_goes_on() {
        let changes = Changes::new();
        let mut watch = changes.watch("t");
        for n in 0..=WAITING {
            changes.changed("t", &n.to_be_bytes());
        }
        assert_eq!(watch.next().await, Some(Event::Missed));
        let first = 1_usize.to_be_bytes();
        assert_eq!(
            watch.next().await,
            Some(Event::Changed((&first[..]).into()))
        );
        changes.missed();
        for _ in 2..=WAITING {
            assert!(matches!(watch.next().await, Some(Event::Changed(_))));
        }
        assert_eq!(watch.next().await, Some(Event::Missed));
        drop(changes);
        assert_eq!(watch.next().await, None);
    }

    #[test]
    fn what_another_instance_sends_is_read_with_care() {
        let place = Place(pack("session", b"key"));
        assert_eq!((place.table(), place.key()), ("session", &b"key"[..]));
        for odd in [&b""[..], &[9, b't'], &[1, 0xff, 0]] {
            assert_eq!(Place(odd.to_vec()).table(), "");
        }
    }
}
