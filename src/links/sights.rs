//! What has been seen of the claims that link accounts, in the store: every instance and every later start knows it.
//!
//! A directory is not listed here. That a value is unique is what has been seen: from the second account of a provider on
//! that has it, it links nobody.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::identity::SubjectKey;
use crate::links::claim::ADDRESS_HELD;
use crate::links::claim::ClaimRule;
use crate::links::claim::Found;
use crate::links::claim::Place;
use crate::links::claim::Seen;
use crate::links::table::Links;
use crate::links::table::PART;
use crate::links::table::account_key;
use crate::links::table::row;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

/// What has been seen: row by rule and value.
pub(super) const SIGHTS: &str = "link_claim";
/// Two instances that see accounts with one value at once try so often: 16.
const TRIES: usize = 16;

/// Whom an account belongs to by a claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Partner {
    /// No account elsewhere is known to be the same person's.
    Nobody,
    /// This person.
    Person(CanonicalSubject),
    /// Nobody can tell.
    Contested,
}

impl Links {
    /// Takes note that an account has a value of a claim, and says whose it is by that. `person`: whose it is already.
    ///
    /// # Errors
    ///
    /// When the store gives no answer: then nothing is known, and nobody is linked.
    pub(crate) async fn sight(
        &self,
        rule: &ClaimRule,
        (place, value): (Place, &str),
        (provider, key): (&ProviderId, &SubjectKey),
        person: Option<&CanonicalSubject>,
        now: UnixTime,
    ) -> Result<Partner, StoreError> {
        let [old, new, ways, kind] = rule.name();
        let row_key = row(&["claim", &old, &new, &ways, &kind, value]);
        let account = account(provider, key);
        let name = person.map_or("", CanonicalSubject::as_str);
        let known = row(&["known", &digest(&row_key), &account, name]);
        let kept = self.sights.get(&known);
        if let Some((partner, said)) = &kept
            && self.is_fresh(*said, now)
        {
            return Ok(partner.clone());
        }
        // As of links: what was true a minute ago counts while nobody can say more.
        let held = kept.filter(|(_, said)| said.holds(now));
        let away = |error| held.clone().map(|(partner, _)| partner).ok_or(error);
        let lasts = rule.is_address().then_some(ADDRESS_HELD);
        let place_of = Key {
            table: SIGHTS,
            key: &row_key,
        };
        for _ in 0..TRIES {
            let (reading, said) = (self.reading(), self.asking(now));
            let found = match self.store.get(place_of, now).await {
                Ok(found) => found,
                Err(error) => return away(error),
            };
            let (mut seen, expect) = match &found {
                Some(row) => {
                    let seen = Seen::read(&row.value).ok_or_else(damaged)?;
                    (seen, Expect::Version(row.version))
                }
                None => (Seen::default(), Expect::Absent),
            };
            let (new, whose) = seen.see(place, &account, person, lasts, now);
            if new {
                let (written, until) = (seen.written(), self.lasting.until(now));
                let swap = self
                    .store
                    .compare_and_swap(place_of, expect, &written, until, now);
                if !swap.await? {
                    continue;
                }
            } else if let Some(row) = &found
                && self.lasting.is_due(&row_key, now)
            {
                self.lasting.used(&*self.store, place_of, row, now).await;
            }
            let partner = match whose {
                Found::Nobody => Partner::Nobody,
                Found::Contested => Partner::Contested,
                Found::Person(name) => {
                    let whose = CanonicalSubject::named(&name).ok();
                    let whose = whose.ok_or_else(damaged)?;
                    match self
                        .still_say(rule, &seen, (place, person), &whose, now)
                        .await
                    {
                        Ok(true) => Partner::Person(whose),
                        Ok(false) => Partner::Contested,
                        Err(error) => return away(error),
                    }
                }
            };
            // Somebody whose partner may come at any moment is looked at again each time.
            if person.is_some() && partner != Partner::Contested {
                self.keep(&self.sights, &known, (partner.clone(), said), reading);
            } else {
                self.sights.remove(&known);
            }
            return Ok(partner);
        }
        Err(StoreError::Unavailable(String::from(
            "what is known of a claim changed too often while it was read",
        )))
    }

    /// Whether the accounts by whose word a value names somebody are this person's today: what was seen of one outlives what an
    /// operator has decided about it since.
    async fn still_say(
        &self,
        rule: &ClaimRule,
        seen: &Seen,
        (place, known): (Place, Option<&CanonicalSubject>),
        whose: &CanonicalSubject,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        for (side, account) in seen.witnesses(place, known.is_some()) {
            let row = URL_SAFE_NO_PAD.decode(account).ok().ok_or_else(damaged)?;
            let provider = match side {
                Place::Old => &rule.old.provider,
                Place::New => &rule.new.provider,
            };
            if !self.row_is_of(whose, provider, &row, now).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whose an account would be by a claim, if it came. Nothing is taken note of.
    pub(super) async fn foreseen(
        &self,
        rule: &ClaimRule,
        (place, value): (Place, &str),
        (provider, key): (&ProviderId, &SubjectKey),
        now: UnixTime,
    ) -> Result<Option<CanonicalSubject>, StoreError> {
        let [old, new, ways, kind] = rule.name();
        let row_key = row(&["claim", &old, &new, &ways, &kind, value]);
        let at = Key {
            table: SIGHTS,
            key: &row_key,
        };
        let Some(found) = self.store.get(at, now).await? else {
            return Ok(None);
        };
        let mut seen = Seen::read(&found.value).ok_or_else(damaged)?;
        let lasts = rule.is_address().then_some(ADDRESS_HELD);
        match seen.see(place, &account(provider, key), None, lasts, now) {
            (_, Found::Person(name)) => {
                let person = CanonicalSubject::named(&name).ok().ok_or_else(damaged)?;
                let said = self.still_say(rule, &seen, (place, None), &person, now);
                Ok(said.await?.then_some(person))
            }
            (_, Found::Nobody | Found::Contested) => Ok(None),
        }
    }

    /// Forgets what was seen of a person's accounts.
    pub(super) async fn forget_sights(
        &self,
        person: &CanonicalSubject,
        accounts: &[Vec<u8>],
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let accounts: Vec<_> = accounts.iter().map(|row| digest(row)).collect();
        for part in 0..=u8::MAX {
            for (key, row) in self.store.scan(SIGHTS, &[part], PART, now).await? {
                let seen = Seen::read(&row.value);
                if seen.is_some_and(|seen| seen.is_about(&accounts, person.as_str())) {
                    let place = Key {
                        table: SIGHTS,
                        key: &key,
                    };
                    self.store.delete(place).await?;
                }
            }
        }
        Ok(())
    }
}

/// An account, as [`Seen`] names it: the digest of its row in the table of links.
fn account(provider: &ProviderId, key: &SubjectKey) -> String {
    digest(&account_key(provider, key))
}

fn digest(row: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(row)
}

fn damaged() -> StoreError {
    StoreError::Damaged(String::from(
        "what was seen of a claim that links accounts cannot be read",
    ))
}
