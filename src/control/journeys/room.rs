//! The bound of harm: whether one more may set out for the new provider, and the place that is kept for them until they do.

use crate::control::journeys::Journeys;
use crate::control::journeys::Traveller;
use crate::control::journeys::book::First;
use crate::control::journeys::device;
use crate::rollout::Arm;
use crate::rollout::BucketKey;
use crate::rollout::Mode;

/// What is made of the room that there is.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Room {
    /// It is only looked at.
    Seen,
    /// A place of it is kept: for half a minute, or until they set out.
    Taken,
}

impl Journeys {
    /// Whether one more login could start at the new provider now, as far as that is known before one does. Whoever is under
    /// way there already may try again.
    pub(crate) async fn may_start(&self, traveller: &Traveller<'_>, key: &BucketKey) -> bool {
        self.has_room(traveller, key, Room::Seen).await
    }

    /// The same of one that starts: looked at and taken in one step, so that the tenth is the tenth, however many come while its
    /// provider is asked.
    pub(crate) async fn takes_place(&self, traveller: &Traveller<'_>, key: &BucketKey) -> bool {
        self.has_room(traveller, key, Room::Taken).await
    }

    async fn has_room(&self, traveller: &Traveller<'_>, key: &BucketKey, room: Room) -> bool {
        match (traveller.arm, traveller.plan.stage.mode) {
            (Arm::To, Mode::Canary) => {}
            // Only while both sides take logins there is another place to start at.
            (Arm::From, _)
            | (Arm::To, Mode::LegacyOnly | Mode::Shadow | Mode::ModernPrimary | Mode::ModernOnly) =>
            {
                return true;
            }
        }
        let (device, way, now) = (device(traveller, key), traveller.way(), traveller.now);
        let (rules, under_way) = {
            let mut books = self.books();
            let Some(book) = books.get_mut(&traveller.plan.id) else {
                return true;
            };
            self.expire(book, now);
            let open = book.open.get(&device);
            let under_way = open.is_some_and(|open| open.arm == Arm::To);
            (book.rules.clone(), under_way)
        };
        let limits = rules.rails.first_logins;
        let look = |first: &mut First| match room {
            Room::Seen => first.has_room(device, limits, now),
            Room::Taken => first.holds(device, limits, now),
        };
        if let Some(ways) = self.ways(&rules) {
            let step = rules.at(now);
            let known = async {
                let there = ways.of(&step, device).await?.open;
                if there.is_some_and(|open| open.arm == Arm::To) {
                    return Ok(true);
                }
                match room {
                    Room::Seen => Ok(look(&mut ways.first(&step, &way).await?)),
                    Room::Taken => ways.change(&step, &way, look).await,
                }
            };
            // What the others have seen is not known: then each counts for itself.
            if let Ok(may) = known.await {
                return may;
            }
        }
        let mut books = self.books();
        let Some(book) = books.get_mut(&traveller.plan.id) else {
            return true;
        };
        under_way || look(book.first.entry(way).or_default())
    }
}
