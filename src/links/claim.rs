//! A claim by which an account of one provider is known to be the same person's as one of another: who says it, and what
//! has been seen of one value of it. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::identity;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::Normalise;
use crate::identity::ProviderId;
use crate::identity::Template;
use crate::identity::email_domain;

/// So long after it was last seen, an account still counts as the holder of an e-mail address: addresses are given to others
/// some time after their holder has left.
pub(crate) const ADDRESS_HELD: Duration = Duration::from_secs(30 * 86_400);
/// How often it is written down that an account still holds an address.
const SEEN_AGAIN: Duration = Duration::from_secs(86_400);
/// The layout of what has been seen.
const VERSION: u8 = 1;

/// `identity.links[].claim`: two providers that say the same of a person.
#[derive(Clone, Debug)]
pub(crate) struct ClaimRule {
    /// The provider people come from: its accounts keep working where it is not certain who somebody is at the other.
    pub(crate) old: Speaker,
    /// The other.
    pub(crate) new: Speaker,
    /// Applied to each value before it is compared.
    pub(crate) normalise: Vec<Normalise>,
    /// The claim is an e-mail address in one of these domains. `None`: an identifier that is never given twice.
    pub(crate) domains: Option<Vec<Box<str>>>,
}

/// One side of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Speaker {
    /// Who speaks.
    pub(crate) provider: ProviderId,
    /// About which attribute: a template of it alone.
    pub(crate) value: Template,
    /// Whether the address must be verified (`email_verified`).
    pub(crate) verified: bool,
}

/// The side of a rule on which an account is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// Where people come from.
    Old,
    /// The other.
    New,
}

impl ClaimRule {
    /// Whether it speaks of addresses, which are given to others some day.
    pub(crate) const fn is_address(&self) -> bool {
        self.domains.is_some()
    }

    /// What is said of an account, as it is compared; `None`: nothing by which anybody is known.
    pub(crate) fn said_of(&self, identity: &Identity) -> Option<(Place, Box<str>)> {
        let sides = [(Place::Old, &self.old), (Place::New, &self.new)];
        let (place, speaker) = sides
            .into_iter()
            .find(|(_, speaker)| speaker.provider == identity.provider)?;
        // Nothing, a placeholder, a list, control characters: whoever says so is nobody's partner by it.
        let value = identity::canonical(&speaker.value, &self.normalise, identity).ok()?;
        let value = value.as_str();
        if let Some(domains) = &self.domains {
            let domain = email_domain(value)?;
            let (local, _) = value.split_once('@')?;
            let ours = domains.iter().any(|own| own.eq_ignore_ascii_case(domain));
            let verified = !speaker.verified || identity.attributes.flag("email_verified");
            // `a+b@` is the mailbox of `a@` to some and another one to others.
            if !ours || !verified || local.contains('+') {
                return None;
            }
        }
        Some((place, value.into()))
    }

    /// Whether it asks the same as another.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let asked = |rule: &Self| rule.name().into_iter().take(2).collect::<Vec<_>>();
        asked(self) == asked(other)
    }

    /// What tells it from every other rule.
    pub(super) fn name(&self) -> [String; 4] {
        let attribute = |speaker: &Speaker| speaker.value.names().collect::<String>();
        let ways = self.normalise.iter().map(|way| way.as_str());
        [
            format!("{}\0{}", self.old.provider, attribute(&self.old)),
            format!("{}\0{}", self.new.provider, attribute(&self.new)),
            ways.collect::<Vec<_>>().join(","),
            String::from(if self.is_address() { "address" } else { "id" }),
        ]
    }
}

/// What has been seen of one value: the first account of each provider that had it, and whether a second one did.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Seen {
    v: u8,
    old: Option<Holder>,
    new: Option<Holder>,
    /// One account on each side, of one known person, while nobody else had the value.
    linked: bool,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Holder {
    /// A digest of the account.
    account: String,
    /// Whose it is, once that is known.
    person: Option<String>,
    /// When it was seen, in seconds since 1970.
    at: u64,
    /// When another account of this provider was seen with the value.
    rival: Option<u64>,
}

/// What follows for an account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Found {
    /// No account of the other provider has been seen with the value, or none of a known person.
    Nobody,
    /// One of each has: they are this person's.
    Person(String),
    /// Two of one provider have, or two people: nobody can tell whose the value is.
    Contested,
}

impl Seen {
    /// What a row says; `None`: it is damaged.
    pub(super) fn read(row: &[u8]) -> Option<Self> {
        let seen: Self = serde_json::from_slice(row).ok()?;
        (seen.v == VERSION).then_some(seen)
    }

    /// As a row.
    pub(super) fn written(&self) -> Vec<u8> {
        let row = Self {
            v: VERSION,
            ..self.clone()
        };
        serde_json::to_vec(&row).unwrap_or_default()
    }

    /// Takes note of an account that has the value, and says what follows for it. `true`: something is new.
    pub(super) fn see(
        &mut self,
        place: Place,
        account: &str,
        person: Option<&CanonicalSubject>,
        lasts: Option<Duration>,
        now: UnixTime,
    ) -> (bool, Found) {
        let before = self.clone();
        if let Some(lasts) = lasts {
            self.drop_what_is_old(lasts, now);
        }
        let at = now.as_secs();
        let is_due = |then: u64| lasts.is_some() && then + SEEN_AGAIN.as_secs() <= at;
        let person = person.map(|person| person.as_str().to_owned());
        match self.side(place) {
            Some(holder) if holder.account == account => {
                if person.is_some() {
                    holder.person = person;
                }
                if is_due(holder.at) {
                    holder.at = at;
                }
            }
            Some(holder) => {
                if holder.rival.is_none_or(is_due) {
                    holder.rival = Some(at);
                }
            }
            empty @ None => {
                *empty = Some(Holder {
                    account: account.to_owned(),
                    person,
                    at,
                    rival: None,
                });
            }
        }
        self.linked |= self.is_certain();
        let found = self.found(place, account);
        (*self != before, found)
    }

    /// The accounts by whose word the value names somebody. `known`: without the one on this side, whose person has just been
    /// looked up.
    pub(super) fn witnesses(
        &self,
        place: Place,
        known: bool,
    ) -> impl Iterator<Item = (Place, &str)> {
        let sides = [(Place::Old, &self.old), (Place::New, &self.new)];
        let named = sides.into_iter().filter_map(|(side, holder)| {
            let holder = holder.as_ref().filter(|holder| holder.person.is_some())?;
            Some((side, holder.account.as_str()))
        });
        named.filter(move |(side, _)| !known || *side != place)
    }

    /// Whether an account holds the value.
    pub(super) fn is_about(&self, accounts: &[String], person: &str) -> bool {
        let mut holders = [&self.old, &self.new].into_iter().flatten();
        holders.any(|holder| {
            holder.person.as_deref() == Some(person) || accounts.contains(&holder.account)
        })
    }

    fn side(&mut self, place: Place) -> &mut Option<Holder> {
        match place {
            Place::Old => &mut self.old,
            Place::New => &mut self.new,
        }
    }

    fn drop_what_is_old(&mut self, lasts: Duration, now: UnixTime) {
        for side in [&mut self.old, &mut self.new] {
            // Who holds it besides may hold it still: a value of two does not become one's because the first has left.
            let is_old = |holder: &Holder| {
                let last = holder.rival.map_or(holder.at, |rival| rival.max(holder.at));
                last + lasts.as_secs() <= now.as_secs()
            };
            if side.as_ref().is_some_and(is_old) {
                *side = None;
                self.linked = false;
            }
        }
    }

    /// Exactly one account on each side, and one person.
    fn is_certain(&self) -> bool {
        let (Some(old), Some(new)) = (&self.old, &self.new) else {
            return false;
        };
        let alone = old.rival.is_none() && new.rival.is_none();
        let one = match (&old.person, &new.person) {
            (Some(old), Some(new)) => old == new,
            (Some(_), None) | (None, Some(_)) => true,
            (None, None) => false,
        };
        alone && one
    }

    fn found(&self, place: Place, account: &str) -> Found {
        let (own, other) = match place {
            Place::Old => (&self.old, &self.new),
            Place::New => (&self.new, &self.old),
        };
        let Some(own) = own.as_ref().filter(|own| own.account == account) else {
            return Found::Contested;
        };
        let whose = own.person.as_ref();
        let theirs = other.as_ref().and_then(|other| other.person.as_ref());
        let rivals = own.rival.is_some() || other.as_ref().is_some_and(|o| o.rival.is_some());
        let two_people = whose.is_some() && theirs.is_some() && whose != theirs;
        if two_people || (rivals && !self.linked) {
            return Found::Contested;
        }
        let person = whose.or(theirs).filter(|_| self.linked);
        person.map_or(Found::Nobody, |person| Found::Person(person.clone()))
    }
}

#[cfg(test)]
mod tests;
