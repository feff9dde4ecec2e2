//! What people have at the new side that a switch back would take from them: one row per person and rollout, from their move on.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::rollout::RolloutId;
use crate::session::pins::MAX_MOVED;
use crate::session::pins::Pins;
use crate::session::pins::prefix;
use crate::session::pins::row;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

const TABLE: &str = "stay";
/// The attribute that says when somebody's password was changed last.
const CHANGED: &str = "password_changed";
/// A row that says the same is written again at most once a day.
const AGAIN: Duration = Duration::from_hours(24);
/// So many classes of assurance are kept of one person.
const MAX_CLASSES: usize = 8;
/// A number above this counts milliseconds: as seconds it would be the year 5138.
const MILLIS: u64 = 100_000_000_000;

/// What is known of somebody since they moved.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Stay {
    /// In which epoch they moved.
    pub(crate) epoch: u64,
    /// Their password was changed at the new side since.
    pub(crate) password_changed: bool,
    /// When that was, as they said when they signed in last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<u64>,
    /// The classes of assurance with which they have signed in there.
    pub(crate) classes: BTreeSet<Box<str>>,
    /// Whether they have agreed there that others act for them, when they came last; `None`: it was not said.
    #[serde(default)]
    pub(crate) consented: Option<bool>,
    /// When they moved.
    since: u64,
    /// When this was written.
    written: u64,
}

impl Pins {
    /// Takes note of what the new side says of somebody who has just signed in there, or has just moved without that. It may say
    /// nothing yet: what comes later is compared with when they moved. When
    /// their password was changed last, if that was after they moved.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn stays(
        &self,
        (rollout, epoch): (&RolloutId, u64),
        (person, identity): (&CanonicalSubject, &Identity),
        now: UnixTime,
    ) -> Result<Option<UnixTime>, StoreError> {
        self.stays_since((rollout, epoch), (person, identity), (now, now))
            .await
    }

    /// As [`Self::stays`], of somebody whose password moves with them: what their provider says of it until `since` is of the
    /// move itself.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn stays_since(
        &self,
        (rollout, epoch): (&RolloutId, u64),
        (person, identity): (&CanonicalSubject, &Identity),
        (since, now): (UnixTime, UnixTime),
    ) -> Result<Option<UnixTime>, StoreError> {
        let changed = identity.attributes.member(CHANGED).and_then(moment);
        let place = place(rollout, person);
        let place = Key {
            table: TABLE,
            key: &place,
        };
        let found = self.store.get(place, now).await?;
        // What cannot be read is begun anew, as what is of an earlier epoch is: it is a count, and lets nobody in.
        let before = found.and_then(|row| serde_json::from_slice::<Stay>(&row.value).ok());
        let before = before.filter(|before| before.epoch == epoch);
        let mut stay = before.clone().unwrap_or_else(|| Stay {
            epoch,
            since: since.as_secs(),
            ..Stay::default()
        });
        if let Some(at) = changed.filter(|at| stay.since < *at) {
            stay.password_changed = true;
            stay.changed = Some(at);
        }
        let since = stay.changed.map(UnixTime::from_secs);
        if let Some(class) = &identity.acr
            && stay.classes.len() < MAX_CLASSES
        {
            stay.classes.insert(class.clone());
        }
        let recent = now.as_secs().saturating_sub(stay.written) < AGAIN.as_secs();
        if recent && before.as_ref() == Some(&stay) {
            return Ok(since);
        }
        stay.written = now.as_secs();
        let value = serde_json::to_vec(&stay);
        let value = value.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.store.put(place, &value, now + self.keep).await?;
        Ok(since)
    }

    /// Takes note of whether somebody who has moved has agreed at the new side that others act for them.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn consents(
        &self,
        (rollout, epoch): (&RolloutId, u64),
        person: &CanonicalSubject,
        given: bool,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let place = place(rollout, person);
        let place = Key {
            table: TABLE,
            key: &place,
        };
        let found = self.store.get(place, now).await?;
        // Who was forgotten or called back meanwhile has nothing there.
        let Some(found) = found else { return Ok(()) };
        let Ok(stay) = serde_json::from_slice::<Stay>(&found.value) else {
            return Ok(());
        };
        if stay.epoch != epoch || stay.consented == Some(given) {
            return Ok(());
        }
        let stay = Stay {
            consented: Some(given),
            ..stay
        };
        let value = serde_json::to_vec(&stay);
        let value = value.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let expect = Expect::Version(found.version);
        let ends = now + self.keep;
        let swapped = self
            .store
            .compare_and_swap(place, expect, &value, ends, now);
        // Whoever was faster has come again, and is asked about again.
        swapped.await.map(|_| ())
    }

    /// What is known of everybody who has moved in a rollout, by [`Pins::person_row`].
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn all_stays(
        &self,
        rollout: &RolloutId,
        now: UnixTime,
    ) -> Result<HashMap<[u8; 32], Stay>, StoreError> {
        let prefix = prefix(rollout);
        let rows = self.store.scan(TABLE, &prefix, MAX_MOVED, now);
        let read = |(key, row): (Vec<u8>, crate::store::Row)| {
            let stay: Stay = serde_json::from_slice(&row.value).ok()?;
            let person: [u8; 32] = *key.last_chunk()?;
            Some((person, stay))
        };
        let damaged = || StoreError::Damaged(String::from("what somebody has at the new side"));
        let rows = rows.await?.into_iter();
        rows.map(|row| read(row).ok_or_else(damaged)).collect()
    }

    pub(super) async fn forget_stay(
        &self,
        rollout: &RolloutId,
        person: &CanonicalSubject,
    ) -> Result<(), StoreError> {
        let place = place(rollout, person);
        self.store
            .delete(Key {
                table: TABLE,
                key: &place,
            })
            .await
    }
}

fn place(rollout: &RolloutId, person: &CanonicalSubject) -> Vec<u8> {
    [&prefix(rollout)[..], &row(rollout, person)].concat()
}

/// A moment as providers write it, in seconds since 1970: a number of seconds or milliseconds, RFC 3339, or the generalized time of
/// directories (RFC 4517 §3.3.13) in UTC.
fn moment(said: &Value) -> Option<u64> {
    let number = |number: u64| {
        if MILLIS < number {
            number / 1_000
        } else {
            number
        }
    };
    match said {
        Value::Number(found) => found.as_u64().map(number),
        Value::String(text) => {
            let whole = text
                .split_once('.')
                .map_or(text.as_str(), |(whole, _)| whole);
            let whole = whole.strip_suffix('Z').unwrap_or(whole);
            if whole.len() == 14 && whole.bytes().all(|byte| byte.is_ascii_digit()) {
                let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", whole).ok()?;
                let at = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
                return u64::try_from(at.timestamp().as_second()).ok();
            }
            if let Ok(found) = text.parse::<u64>() {
                return Some(number(found));
            }
            let at = text.parse::<jiff::Timestamp>().ok()?;
            u64::try_from(at.as_second()).ok()
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::identity::ClaimMap;
    use crate::identity::Delegation;
    use crate::identity::Issuer;
    use crate::identity::ProviderId;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use crate::store::MemoryStore;

    #[test]
    fn moments_are_read_as_providers_write_them() {
        for said in [
            json!(1_772_709_631),
            json!("1772709631"),
            json!(1_772_709_631_004_u64),
            json!("2026-03-05T11:20:31Z"),
            json!("2026-03-05T12:20:31.004+01:00"),
            json!("20260305112031Z"),
            json!("20260305112031.0Z"),
        ] {
            assert_eq!(moment(&said), Some(1_772_709_631), "{said}");
        }
        for said in [
            json!(null),
            json!(true),
            json!("yesterday"),
            json!("20261305112031Z"),
            json!(-1),
        ] {
            assert_eq!(moment(&said), None, "{said}");
        }
    }

    fn says(changed: Option<u64>, class: Option<&str>) -> Identity {
        let mut attributes = ClaimMap::default();
        if let Some(changed) = changed {
            attributes.insert(CHANGED, json!(changed));
        }
        Identity {
            provider: ProviderId::new("new"),
            key: SubjectKey {
                issuer: Issuer::new("https://new"),
                subject: Subject::try_from("n-1").unwrap(),
            },
            attributes: Arc::new(attributes),
            client_id: None,
            acr: class.map(Into::into),
            scopes: Box::default(),
            delegation: Delegation::default(),
        }
    }

    #[tokio::test]
    async fn a_password_counts_as_newer_if_it_was_changed_since_its_person_moved() {
        let pins = Pins::new(Arc::new(MemoryStore::default()));
        let (rollout, at) = (RolloutId::new("crm"), UnixTime::from_secs);
        let zoe = CanonicalSubject::named("hr:7").unwrap();
        let changed = std::cell::Cell::new(None);
        let signs_in = async |epoch, said: Identity, now| {
            let told = pins.stays((&rollout, epoch), (&zoe, &said), at(now)).await;
            changed.set(told.unwrap().map(UnixTime::as_secs));
            let all = pins.all_stays(&rollout, at(now)).await.unwrap();
            all.get(&pins.person_row(&rollout, &zoe)).cloned()
        };
        // They move without a page, and nothing is said of them yet: what is said later is compared with that.
        let known = signs_in(1, says(None, None), 90).await.unwrap();
        assert!(!known.password_changed && known.classes.is_empty());
        let known = signs_in(1, says(Some(50), Some("pwd")), 100).await.unwrap();
        assert!(!known.password_changed, "that was before");
        assert_eq!(changed.get(), None);
        // A sign-in with less takes nothing away of what they have there.
        signs_in(1, says(None, Some("mfa")), 200).await;
        let known = signs_in(1, says(Some(95), Some("pwd")), 300).await.unwrap();
        assert!(known.password_changed);
        assert_eq!(known.classes, ["mfa", "pwd"].map(Box::from).into());
        let known = signs_in(1, says(None, Some("pwd")), 400).await.unwrap();
        assert!(known.password_changed, "once is enough");
        assert_eq!(changed.get(), Some(95), "and when is known");
        // Who was called back and comes again knows the old password.
        let known = signs_in(2, says(Some(450), None), 500).await.unwrap();
        assert!(!known.password_changed && known.classes.is_empty());
        // A password that came along was written a moment after its person moved.
        let nina = CanonicalSubject::named("hr:8").unwrap();
        for (said, since, newer) in [
            (None, 1_060, false),
            (Some(1_003), 1_060, false),
            (Some(1_061), 2_000, true),
        ] {
            let told = (&nina, &says(said, None));
            let told = pins.stays_since((&rollout, 2), told, (at(since), at(1_000)));
            told.await.unwrap();
            let all = pins.all_stays(&rollout, at(1_000)).await.unwrap();
            let known = all.get(&pins.person_row(&rollout, &nina)).unwrap();
            assert_eq!(known.password_changed, newer, "{said:?}");
        }
        for (epoch, given, known) in [
            (2, true, Some(true)),
            (2, false, Some(false)),
            (1, true, Some(false)),
        ] {
            let noted = pins
                .consents((&rollout, epoch), &nina, given, at(1_000))
                .await;
            noted.unwrap();
            let all = pins.all_stays(&rollout, at(1_000)).await.unwrap();
            let nina = all.get(&pins.person_row(&rollout, &nina)).unwrap();
            assert_eq!((nina.consented, nina.password_changed), (known, true));
        }
        // Of whoever was forgotten meanwhile nothing is written.
        let zora = CanonicalSubject::named("hr:9").unwrap();
        pins.consents((&rollout, 2), &zora, true, at(1_000))
            .await
            .unwrap();
        assert_eq!(pins.all_stays(&rollout, at(1_000)).await.unwrap().len(), 2);
        assert!(!pins.forget(&rollout, &nina, at(600)).await.unwrap());
        assert!(!pins.forget(&rollout, &zoe, at(600)).await.unwrap());
        assert!(pins.all_stays(&rollout, at(600)).await.unwrap().is_empty());
    }
}
