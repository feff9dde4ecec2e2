//! What several claims that link accounts say of one account, taken together. Pure.

use crate::identity::CanonicalSubject;
use crate::links::Partner;
use crate::links::Place;

/// What the claims that link accounts say of one.
#[derive(Debug, Default)]
pub(super) struct ByClaims {
    /// The first person whom an identifier names,
    by_id: Option<CanonicalSubject>,
    /// and whom an address does.
    by_address: Option<CanonicalSubject>,
    /// What is uncertain of an account of the new side,
    pub(super) at_new: Doubt,
    /// and of one of the old side.
    at_old: Doubt,
}

/// Of which claims nobody can tell whose they are: they are somebody else's too, or two of them name two people.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubt {
    pub(super) id: bool,
    pub(super) address: bool,
}

impl ByClaims {
    fn doubt(&mut self, place: Place) -> &mut Doubt {
        match place {
            Place::Old => &mut self.at_old,
            Place::New => &mut self.at_new,
        }
    }

    /// Takes in what follows from one rule.
    pub(super) fn hears(&mut self, place: Place, said: Partner, is_address: bool) {
        match said {
            Partner::Nobody => {}
            Partner::Contested if is_address => self.doubt(place).address = true,
            Partner::Contested => self.doubt(place).id = true,
            // An address is weaker than whatever else says who somebody is.
            Partner::Person(_) if is_address && self.by_id.is_some() => {}
            Partner::Person(whose) => {
                let earlier = self.by_id.as_ref().or(self.by_address.as_ref());
                let differs = earlier.is_some_and(|earlier| *earlier != whose);
                let doubt = self.doubt(place);
                let named = if is_address {
                    doubt.address |= differs;
                    &mut self.by_address
                } else {
                    doubt.id |= differs;
                    &mut self.by_id
                };
                named.get_or_insert(whose);
            }
        }
    }

    /// Whom the rules agree on. An account of the old side of which they do not goes on as itself: whom it would become could
    /// be somebody else.
    pub(super) fn partner(self) -> Option<CanonicalSubject> {
        let (old, new) = (self.at_old, self.at_new);
        let by_address = self.by_address.filter(|_| !old.address && !new.address);
        let named = self.by_id.or(by_address);
        named.filter(|_| !old.id && !new.id)
    }
}
