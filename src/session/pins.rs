//! Who has been on the new side: one row per person and rollout.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::rollout::Arm;
use crate::rollout::Pin;
use crate::rollout::RolloutId;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;

const TABLE: &str = "pin";
/// A pin is kept this long after the last login that made it: 400 days, as long as the device cookie.
const KEEP: Duration = Duration::from_hours(400 * 24);

/// Pins of people. Only the new side is remembered: who signed in at the old side is free to move.
pub(crate) struct Pins {
    store: Arc<dyn Store>,
}

impl Pins {
    /// Keeps pins in `store`.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The pin of a person, of whatever epoch.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn of(
        &self,
        rollout: &RolloutId,
        person: &CanonicalSubject,
        now: UnixTime,
    ) -> Result<Option<Pin>, StoreError> {
        let key = row(rollout, person);
        let key = Key {
            table: TABLE,
            key: &key,
        };
        let Some(row) = self.store.get(key, now).await? else {
            return Ok(None);
        };
        match row.value.split_first_chunk::<8>() {
            Some((epoch, [b'T'])) => Ok(Some(Pin {
                arm: Arm::To,
                epoch: u64::from_be_bytes(*epoch),
            })),
            _ => Err(StoreError::Damaged(String::from("a pin"))),
        }
    }

    /// Remembers that a person signed in at the new side.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn moved(
        &self,
        rollout: &RolloutId,
        person: &CanonicalSubject,
        epoch: u64,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let key = row(rollout, person);
        let mut value = epoch.to_be_bytes().to_vec();
        value.push(b'T');
        self.store
            .put(
                Key {
                    table: TABLE,
                    key: &key,
                },
                &value,
                now + KEEP,
            )
            .await
    }
}

/// Length-prefixed and hashed: two pairs never share a row, and the store learns no name.
fn row(rollout: &RolloutId, person: &CanonicalSubject) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"authferry/pin/v1");
    for part in [rollout.as_str(), person.as_str()] {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        context.update(&length.to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut row = [0; 32];
    row.copy_from_slice(context.finish().as_ref());
    row
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pins")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn a_pin_is_of_one_person_and_one_rollout() {
        let pins = Pins::new(Arc::new(MemoryStore::default()));
        let now = UnixTime::from_secs(1);
        let (a, b) = (RolloutId::new("a"), RolloutId::new("ab"));
        let person = |name| CanonicalSubject::named(name).unwrap();
        pins.moved(&a, &person("bc"), 7, now).await.unwrap();
        let pin = pins.of(&a, &person("bc"), now).await.unwrap().unwrap();
        assert_eq!((pin.arm, pin.epoch), (Arm::To, 7));
        assert_eq!(pins.of(&b, &person("c"), now).await.unwrap(), None);
        assert_eq!(pins.of(&a, &person("b"), now).await.unwrap(), None);
    }
}
