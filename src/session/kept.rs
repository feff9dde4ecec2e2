//! What somebody had typed in when their session was over: kept for as long as a sign-in takes, and given back once. It opens
//! with what their browser was given alone: who reads the store learns nothing.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tracing::warn;

use crate::clock::UnixTime;
use crate::secret::Secret;
use crate::session::id;
use crate::session::id::SessionId;
use crate::session::seal::Purpose;
use crate::session::sessions::Sessions;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

const TABLE: &str = "kept_form";

/// What somebody needs again who is about to come back is kept for 10 min; forms for as long as `retention.forms` says.
pub(crate) const KEPT_FOR: Duration = Duration::from_mins(10);

/// So many forms are kept at once by one instance: anybody can send one.
pub(super) const AT_ONCE: usize = 1_000;

/// The forms that this instance keeps, by their rows, and when they end.
#[derive(Debug, Default)]
pub(super) struct KeptForms(Mutex<HashMap<[u8; 32], UnixTime>>);

impl KeptForms {
    /// Whether there is room for one more, which is taken then.
    fn has_room(&self, row: [u8; 32], (span, now): (Duration, UnixTime)) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if AT_ONCE <= all.len() {
            all.retain(|_, ends| now < *ends);
        }
        let room = all.len() < AT_ONCE;
        if room {
            all.insert(row, now + span);
        }
        room
    }

    /// Gives the place back of a form that is kept no longer, if it is kept here.
    fn has_left(&self, row: &[u8; 32]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(row);
    }
}

impl Sessions {
    /// Keeps a form for so long; what its browser is given. `None`: there is no room.
    ///
    /// # Errors
    ///
    /// When the store did not take it.
    pub(crate) async fn keep_form(
        &self,
        form: &[u8],
        span: Duration,
        now: UnixTime,
    ) -> Result<Option<Secret<String>>, StoreError> {
        let mut bytes = [0; 32];
        self.entropy.fill(&mut bytes);
        let row = id::row(&bytes);
        if !self.forms.has_room(row, (span, now)) {
            return Ok(None);
        }
        let entropy = &*self.entropy;
        let sealed = self
            .ring()
            .seal(Purpose::KeptForm, &bytes, &[&row], form, entropy);
        let key = Key {
            table: TABLE,
            key: &row,
        };
        let put = self.store.put(key, &sealed, now + span).await;
        if put.is_err() {
            self.forms.has_left(&row);
        }
        put?;
        Ok(Some(Secret::new(URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The form that a browser was given this for; it is kept no longer. `None`: there is none.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn take_form(
        &self,
        given: SessionId<'_>,
        now: UnixTime,
    ) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        let row = given.row();
        let key = || Key {
            table: TABLE,
            key: &row,
        };
        let Some(found) = self.store.get(key(), now).await? else {
            return Ok(None);
        };
        // Of two who ask at once one gets it; what is taken opens no more.
        let expect = Expect::Version(found.version);
        let taken = self
            .store
            .compare_and_swap(key(), expect, b"-", now + KEPT_FOR, now);
        if !taken.await? {
            return Ok(None);
        }
        self.forms.has_left(&row);
        if let Err(error) = self.store.delete(key()).await {
            warn!(%error, "What is left of a form that was given back ends by itself.");
        }
        let ring = self.ring();
        let opened = ring.open(Purpose::KeptForm, given.bytes(), &[&row], &found.value);
        Ok(opened.map(|opened| Secret::new(opened.plain)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: usize) -> [u8; 32] {
        let mut row = [0; 32];
        row[..8].copy_from_slice(&number.to_be_bytes());
        row
    }

    #[test]
    fn there_is_room_for_so_many_at_once() {
        let (forms, now) = (KeptForms::default(), UnixTime::from_secs(1_000));
        assert!((0..AT_ONCE).all(|number| forms.has_room(row(number), (KEPT_FOR, now))));
        assert!(!forms.has_room(row(AT_ONCE), (KEPT_FOR, now)));
        assert!(!forms.has_room(
            row(AT_ONCE),
            (KEPT_FOR, now + KEPT_FOR - Duration::from_secs(1))
        ));
        assert!(forms.has_room(row(AT_ONCE), (KEPT_FOR, now + KEPT_FOR)));
    }

    #[test]
    fn the_place_of_a_form_that_is_kept_no_longer_is_given_back_and_no_other() {
        let (forms, now) = (KeptForms::default(), UnixTime::from_secs(1_000));
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(
            forms.has_room(row(0), (KEPT_FOR, now)) && forms.has_room(row(1), (KEPT_FOR, later(1)))
        );
        forms.has_left(&row(1));
        forms.has_left(&row(7));
        assert!((1..AT_ONCE).all(|number| forms.has_room(row(number), (KEPT_FOR, later(2)))));
        assert!(!forms.has_room(row(AT_ONCE), (KEPT_FOR, later(2))));
        // The first is over, and the second did not stay.
        assert!(forms.has_room(row(AT_ONCE), (KEPT_FOR, now + KEPT_FOR)));
        assert!(!forms.has_room(row(AT_ONCE + 1), (KEPT_FOR, now + KEPT_FOR)));
    }
}
