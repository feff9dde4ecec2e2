//! Two accounts, one person: what a login does about an account that is joined with nobody, and how a person proves both.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::auth::login::Logins;
use crate::auth::login::callback::NoSession;
use crate::auth::login::callback::Returned;
use crate::auth::login::flow::Errand;
use crate::auth::login::flow::Proof;
use crate::auth::login::page::Page;
use crate::auth::login::settle::refused;
use crate::auth::login::start::Directed;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::Refusal;
use crate::links::settings::OnMissing;
use crate::providers::StepUp;
use crate::rollout::Acceptance;
use crate::rollout::Arm;
use crate::rollout::KillPosition;
use crate::rollout::Mode;
use crate::rollout::Plan;

/// The rule of the logins that prove two accounts.
const PROVE: &str = "prove_both";

/// Logins in a row, of one person on the way to one session: at the new side, there anew where a session was open, at the old
/// one, at the new one again.
const STEPS: u8 = 2;

/// Seconds by which the clock of a provider may be behind.
const LEEWAY: u64 = 5;

impl Logins {
    /// Goes on with a login whose account is somebody's; else says where it leads.
    pub(super) fn linked(
        &self,
        returned: &Returned<'_>,
        plan: &Plan,
        identity: &Identity,
        person: &CanonicalSubject,
    ) -> Result<(), NoSession> {
        let joiner = &self.deps.joiner;
        let alone = *person == CanonicalSubject::unjoined(&identity.key);
        match (plan.arm(&identity.provider), &returned.flow.errand) {
            // What is quarantined proves nothing, and while logins go back to where they were nothing new is made of them.
            (Some(Arm::From), Errand::Prove(_)) if returned.ask.kill != KillPosition::Off => {
                Err(refused(Page::NotAllowed, Refusal::Quarantined))
            }
            // Nor does what no longer lets anybody in.
            (Some(Arm::From), Errand::Prove(_))
                if self.acceptance(returned, plan, identity, person) != Acceptance::Accepted =>
            {
                Err(self.not_taken(returned, identity, person))
            }
            (Some(Arm::From), Errand::Prove(_)) if !is_anew(identity, returned.flow.began()) => {
                Err(refused(Page::NotAllowed, Refusal::Expired))
            }
            (Some(Arm::From), Errand::Prove(proof)) => {
                // The name of somebody whom one provider knows is no name for two accounts.
                if alone {
                    return Err(refused(Page::NotAllowed, Refusal::NoLink));
                }
                // Whoever has signed in first in this browser may be somebody else: the owner of both says so.
                Err(NoSession::Asks(Box::new(Errand::Join {
                    new: proof.clone(),
                    old: Proof::of(identity, returned.flow.began()),
                    person: person.as_str().to_owned(),
                })))
            }
            (Some(Arm::To), _) if alone => {
                let first = returned.flow.restarts < STEPS
                    && returned.flow.rule != "linked"
                    && returned.ask.kill == KillPosition::Off;
                if joiner.proves_both() && first && self.has_login(plan, Arm::From) {
                    // Whoever sits here now, and not whoever signed in there this morning: at both sides.
                    let now = StepUp {
                        acr_values: Vec::new(),
                        max_age: Some(Duration::ZERO),
                    };
                    if is_anew(identity, returned.flow.began()) {
                        let proof = Proof::of(identity, returned.flow.began());
                        let proof = Errand::Prove(proof);
                        return Err(at(plan, Arm::From, PROVE, Some(now), proof));
                    }
                    if returned.flow.rule == PROVE {
                        return Err(refused(Page::NotAllowed, Refusal::Expired));
                    }
                    return Err(at(plan, Arm::To, PROVE, Some(now), Errand::Session));
                }
                match joiner.on_missing(identity, person) {
                    OnMissing::Alone => Ok(()),
                    OnMissing::From if returned.flow.restarts == 0 && may_go_back(plan) => {
                        warn!(provider = %identity.provider, "An account is joined with nobody; its owner signs in at the old provider.");
                        self.told_back(returned, identity, Refusal::NoLink);
                        Err(at(plan, Arm::From, "no_link", None, Errand::Session))
                    }
                    OnMissing::From | OnMissing::Deny => {
                        Err(refused(Page::NotAllowed, Refusal::NoLink))
                    }
                }
            }
            (Some(Arm::From | Arm::To) | None, _) => Ok(()),
        }
    }

    fn has_login(&self, plan: &Plan, arm: Arm) -> bool {
        let provider = self.deps.providers.named(plan.provider(arm));
        provider.is_some_and(|provider| provider.login().is_some())
    }

    /// A login whose account may be somebody else's: its owner goes on at the old provider while the stage has logins there,
    /// once. Who somebody is there is not in doubt. An account that says it is somebody who has another one is refused instead.
    pub(super) fn contested(&self, returned: &Returned<'_>, identity: &Identity) -> NoSession {
        let refusal = Refusal::LinkConflict;
        let plan = returned.ask.policy.plan();
        let plan = plan.filter(|plan| plan.arm(&identity.provider) == Some(Arm::To));
        let asked_after = matches!(returned.flow.errand, Errand::Silent { .. });
        let first = returned.flow.restarts == 0 && returned.ask.kill != KillPosition::Modern;
        match plan {
            Some(plan) if may_go_back(plan) && first && !asked_after => {
                warn!(provider = %identity.provider, "An account may be somebody else's; its owner signs in at the old provider.");
                self.told_back(returned, identity, refusal);
                at(plan, Arm::From, "link_conflict", None, Errand::Session)
            }
            Some(_) | None => refused(Page::NotAllowed, refusal),
        }
    }

    fn told_back(&self, returned: &Returned<'_>, identity: &Identity, refusal: Refusal) {
        let about = returned.ask.about();
        let reports = &self.deps.reports;
        reports.refused(about, Some(&identity.provider), refusal);
    }
}

/// Whether the person has signed in since the login began, and not with a session that somebody left there: a provider that is
/// asked for `max_age` says when it was (OpenID Connect Core 1.0 §3.1.2.1), in whole seconds. Clocks may differ by so much.
fn is_anew(identity: &Identity, began: UnixTime) -> bool {
    let signed_in = identity.attributes.member("auth_time");
    let signed_in = signed_in.and_then(serde_json::Value::as_u64);
    signed_in.is_some_and(|signed_in| began.as_secs() <= signed_in.saturating_add(LEEWAY))
}

/// Whether the old provider still takes new logins by the mode of the stage.
const fn may_go_back(plan: &Plan) -> bool {
    matches!(
        plan.stage.mode,
        Mode::LegacyOnly | Mode::Shadow | Mode::Canary
    )
}

fn at(
    plan: &Plan,
    arm: Arm,
    rule: &'static str,
    wanted: Option<StepUp>,
    errand: Errand,
) -> NoSession {
    NoSession::At(Box::new(directed(plan, arm, rule, wanted, errand)))
}

/// A login at one side, whatever the rollout would choose.
pub(super) fn directed(
    plan: &Plan,
    arm: Arm,
    rule: &'static str,
    wanted: Option<StepUp>,
    errand: Errand,
) -> Directed {
    Directed {
        provider: plan.provider(arm).clone(),
        rule,
        wanted: wanted.map(Arc::new),
        errand,
    }
}
