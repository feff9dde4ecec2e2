//! Who acts for whom: `act` and `may_act` of a credential (RFC 8693 §4.1, §4.4).

use std::fmt;

use serde_json::Map;
use serde_json::Value;

use crate::identity::ClaimMap;

/// The longest chain of actors that is carried on.
const MAX_CHAIN: usize = 8;

/// Who acts for the subject of a credential, and who may.
#[derive(Clone, Default, PartialEq)]
pub struct Delegation {
    act: Option<Value>,
    may_act: Option<Value>,
}

/// Why somebody may not act for the subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotDelegated {
    /// `may_act` names somebody else.
    #[error("`may_act` names another actor")]
    OtherActor,
    /// `act` or `may_act` is no object with members of text, or the chain is too long.
    #[error("`act` or `may_act` cannot be read")]
    Malformed,
}

/// Somebody who wants to act for the subject.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// Its `sub`.
    pub subject: &'a str,
    /// The issuer that names it so, where there is one.
    pub issuer: Option<&'a str>,
}

impl Delegation {
    /// As the claims of a credential say.
    pub fn read(claims: &ClaimMap) -> Self {
        let member = |name| claims.member(name).filter(|value| !value.is_null());
        Self {
            act: member("act").cloned(),
            may_act: member("may_act").cloned(),
        }
    }

    /// Of a token that was made of another one: who acts, as it says itself, and who may, as the first one said.
    #[must_use]
    pub fn further(own: &Self, first: &Self) -> Self {
        Self {
            act: own.act.clone(),
            may_act: first.may_act.clone(),
        }
    }

    /// `act` and `may_act`, as the credential says them.
    pub const fn said(&self) -> (Option<&Value>, Option<&Value>) {
        (self.act.as_ref(), self.may_act.as_ref())
    }

    /// Whether somebody else than the subject acts already.
    pub const fn is_delegated(&self) -> bool {
        self.act.is_some()
    }

    /// Whether the present chain of actors stands in `other`, at its top or below further actors: nobody was left out.
    pub fn is_kept_in(&self, other: &Self) -> bool {
        let Some(own) = &self.act else { return true };
        let mut place = other.act.as_ref();
        for _ in 0..=MAX_CHAIN {
            match place {
                Some(act) if act == own => return true,
                Some(act) => place = act.get("act"),
                None => return false,
            }
        }
        false
    }

    /// Whether `may_act` says whose names it uses.
    pub fn names_issuer(&self) -> bool {
        let may_act = self.may_act.as_ref();
        may_act.is_some_and(|may_act| may_act.get("iss").is_some())
    }

    /// Whether `actor` may act, as far as the credential limits it (RFC 8693 §4.4).
    ///
    /// # Errors
    ///
    /// See [`NotDelegated`].
    pub fn permits(&self, actor: Option<Actor<'_>>) -> Result<(), NotDelegated> {
        let Some(may_act) = &self.may_act else {
            return Ok(());
        };
        let may_act = may_act.as_object().ok_or(NotDelegated::Malformed)?;
        let actor = actor.ok_or(NotDelegated::OtherActor)?;
        let text = |name: &str| match may_act.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(NotDelegated::Malformed),
        };
        let subject = text("sub")?.or(text("client_id")?);
        let named = subject.ok_or(NotDelegated::Malformed)? == actor.subject;
        let issuer = text("iss")?.is_none_or(|issuer| actor.issuer == Some(issuer));
        if named && issuer {
            Ok(())
        } else {
            Err(NotDelegated::OtherActor)
        }
    }

    /// `act` of a token about the same subject in which `actor`, if any, acts next: earlier actors stay below it.
    ///
    /// # Errors
    ///
    /// When the present chain cannot be carried on.
    pub fn followed_by(&self, actor: Option<Actor<'_>>) -> Result<Option<Value>, NotDelegated> {
        if let Some(act) = &self.act {
            check_chain(act)?;
        }
        let Some(actor) = actor else {
            return Ok(self.act.clone());
        };
        let mut next = Map::new();
        next.insert("sub".to_owned(), actor.subject.into());
        if let Some(issuer) = actor.issuer {
            next.insert("iss".to_owned(), issuer.into());
        }
        if let Some(act) = &self.act {
            next.insert("act".to_owned(), act.clone());
        }
        let next = Value::Object(next);
        check_chain(&next)?;
        Ok(Some(next))
    }
}

fn check_chain(act: &Value) -> Result<(), NotDelegated> {
    let mut place = Some(act);
    for _ in 0..MAX_CHAIN {
        let Some(act) = place else { return Ok(()) };
        place = act.as_object().ok_or(NotDelegated::Malformed)?.get("act");
    }
    place.map_or(Ok(()), |_| Err(NotDelegated::Malformed))
}

/// Names people: says only what there is.
impl fmt::Debug for Delegation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delegation")
            .field("act", &self.act.is_some())
            .field("may_act", &self.may_act.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn delegation(claims: Value) -> Delegation {
        let Value::Object(members) = claims else {
            panic!("an object")
        };
        Delegation::read(&ClaimMap::new(members))
    }

    const US: Actor<'_> = Actor {
        subject: "ferry",
        issuer: Some("https://ferry.test"),
    };

    #[test]
    fn only_the_named_actor_may_act() {
        assert_eq!(delegation(json!({})).permits(None), Ok(()));
        for (may_act, verdict) in [
            (json!({ "sub": "ferry" }), Ok(())),
            (json!({ "client_id": "ferry" }), Ok(())),
            (
                json!({ "sub": "ferry", "iss": "https://ferry.test" }),
                Ok(()),
            ),
            (
                json!({ "sub": "ferry", "iss": "https://else.test" }),
                Err(NotDelegated::OtherActor),
            ),
            (json!({ "sub": "else" }), Err(NotDelegated::OtherActor)),
            (json!({}), Err(NotDelegated::Malformed)),
            (json!({ "sub": ["ferry"] }), Err(NotDelegated::Malformed)),
            (
                json!({ "sub": "ferry", "iss": 7 }),
                Err(NotDelegated::Malformed),
            ),
            (json!("ferry"), Err(NotDelegated::Malformed)),
        ] {
            let given = delegation(json!({ "may_act": may_act }));
            assert_eq!(given.permits(Some(US)), verdict, "{may_act}");
        }
        let given = delegation(json!({ "may_act": { "sub": "ferry" } }));
        assert_eq!(given.permits(None), Err(NotDelegated::OtherActor));
        assert!(!given.names_issuer());
        let given =
            delegation(json!({ "may_act": { "sub": "ferry", "iss": "https://ferry.test" } }));
        assert!(given.names_issuer());
    }

    #[test]
    fn earlier_actors_stay_below_the_next_one() {
        let given = delegation(json!({ "act": { "sub": "bot" } }));
        assert_eq!(given.followed_by(None), Ok(Some(json!({ "sub": "bot" }))));
        let next = given.followed_by(Some(US)).unwrap().unwrap();
        assert_eq!(
            next,
            json!({ "sub": "ferry", "iss": "https://ferry.test", "act": { "sub": "bot" } })
        );
        assert!(given.is_kept_in(&delegation(json!({ "act": next }))));
        assert!(!given.is_kept_in(&delegation(json!({ "act": { "sub": "ferry" } }))));
        assert!(!given.is_kept_in(&delegation(json!({}))));
        assert_eq!(delegation(json!({})).followed_by(None), Ok(None));
    }

    #[test]
    fn a_chain_ends() {
        let mut act = json!({ "sub": "a" });
        for _ in 1..MAX_CHAIN {
            act = json!({ "sub": "a", "act": act });
        }
        let given = delegation(json!({ "act": act }));
        assert!(given.followed_by(None).is_ok());
        assert_eq!(given.followed_by(Some(US)), Err(NotDelegated::Malformed));
        let given = delegation(json!({ "act": "bot" }));
        assert_eq!(given.followed_by(None), Err(NotDelegated::Malformed));
    }
}
