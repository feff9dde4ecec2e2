//! A password that was typed into the form of the old application: it moves like one that came with a request, once the session
//! that the application gave for it is found good, and is that of whom it was typed for.

use std::sync::Mutex;

use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::extract::extract;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::auth::gate::asked::Instead;
use crate::auth::gate::credential::Judged;
use crate::auth::gate::passwords::before::Stays;
use crate::auth::gate::passwords::way;
use crate::auth::policy::AppPolicy;
use crate::auth::possession::Channel;
use crate::auth::typed_form::Typed;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::links::Home;
use crate::rollout::Facts;
use crate::rollout::KillPosition;
use crate::store::StoreError;
use crate::telemetry::metrics::CarryOver;

/// The old application signs in somebody whom it does not call by the name that was typed.
const OTHER_NAME: &str = "other_name";

/// What was typed, until it is known whose it is.
pub(in crate::auth::gate) struct InHand {
    typed: Typed,
    /// Its room among the passwords on their way.
    room: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Gate {
    /// Somebody has filled in the form of the old application, which has answered with a session (`session`: the cookie, as
    /// their browser will send it). Where it is good and they are assigned to the new side, what they typed moves. The answer is
    /// theirs already: nobody waits for this, and nobody is let in by it.
    pub(crate) async fn signed_in_by_form(
        &self,
        policy: &AppPolicy,
        (session, typed): (&HeaderMap, Typed),
        way: (&Facts<'_>, &Channel<'_>),
        kill: KillPosition,
        now: UnixTime,
    ) {
        let classes = [CredentialClass::Session];
        let Ok(Some(presented)) = extract(session, None, policy.owners(), &classes) else {
            return;
        };
        let mut asked = Asked::new(policy, Instead::Nothing, way, kill, now);
        let Some(room) = self.deps.homes.room() else {
            self.could_not(&asked, Outage::Shed);
            return;
        };
        let in_hand = InHand {
            typed,
            room: Mutex::new(Some(room)),
        };
        asked.typed = Some(&in_hand);
        match self.by_credential(&asked, &presented).await {
            Ok(_) => {}
            Err(AuthError::Unavailable { outage, .. }) => self.could_not(&asked, outage),
            // A wrong password, most of the time.
            Err(error) => debug!(%error, "Nobody has signed in by the form."),
        }
    }

    /// The same of who is known now.
    pub(in crate::auth::gate) async fn may_move_typed(
        &self,
        asked: &Asked<'_>,
        (presented, judged): (&Presented<'_>, &Judged<'_>),
        (person, side): (&CanonicalSubject, Option<&ProviderId>),
        in_hand: &InHand,
    ) {
        // An earlier yes says nothing of what was typed: its owner is away.
        if judged.proof.is_remembered() {
            self.could_not(asked, Outage::Connect);
            return;
        }
        let form = asked.policy.typed();
        let own = own_name(judged.proof.identity(), form.and_then(|form| form.claim()));
        let own = own.filter(|own| *own == in_hand.typed.username.expose());
        let name = judged.owner.person_name(own.unwrap_or_default());
        let password = &in_hand.typed.password;
        let Some(removal) = self.removal(asked, judged, (person, side), (name, password)) else {
            return;
        };
        match self.has_moved(asked, judged, person).await {
            Ok(false) => {}
            // It has one judge already, and the old application is not it.
            Ok(true) => return,
            Err(error) => {
                debug!(%error, "Whether a password has moved is not known.");
                removal.told(CarryOver::Unavailable, Some("store"));
                return;
            }
        }
        if own.is_none() {
            removal.told(CarryOver::Refused, Some(OTHER_NAME));
            return;
        }
        // Before anybody knows that they have moved: this sign-in is the last one that the old side has to vouch for.
        let wrapped = self.stands_beside(asked, presented, judged.proof, person);
        // Without one they would be nobody with the session that they have just got.
        if wrapped.await.is_none() && asked.policy.wraps() {
            removal.told(CarryOver::Unavailable, Some("store"));
            return;
        }
        let room = in_hand.room.lock().ok().and_then(|mut room| room.take());
        if let Some(room) = room {
            self.sets_out(removal, room);
        }
    }

    /// Whether the password of an account has moved.
    async fn has_moved(
        &self,
        asked: &Asked<'_>,
        judged: &Judged<'_>,
        person: &CanonicalSubject,
    ) -> Result<bool, StoreError> {
        let Some(plan) = asked.policy.plan() else {
            return Ok(false);
        };
        let home = self.deps.homes.of_person(way(plan), person, asked.now);
        let left = home.await?.as_ref().map(Home::left).transpose()?;
        let own = &judged.proof.identity().key;
        // Of another account, which was theirs before: this one has another password.
        Ok(left.is_some_and(|left| left.is_none_or(|left| left == *own)))
    }

    /// Tells operators that nobody could look.
    fn could_not(&self, asked: &Asked<'_>, outage: Outage) {
        let why = Stays::away(outage);
        self.form_stays(asked.policy, why, asked.channel.source, asked.now);
    }
}

/// The name by which the old application knows its person, and by which they sign in there: their subject, or what `claim` says.
/// Nothing else that it says of them is one: whoever writes it may be somebody else.
fn own_name<'a>(identity: &'a Identity, claim: Option<&str>) -> Option<&'a str> {
    match claim {
        None => Some(identity.key.subject.as_str()),
        Some(claim) => identity.attributes.text(claim),
    }
}
