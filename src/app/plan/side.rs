//! What one configuration says of somebody, and whether another one says something else.

use std::net::IpAddr;

use crate::app::stated;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::control::Somebody;
use crate::control::Used;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::rollout;
use crate::rollout::Acceptance;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::Facts;
use crate::rollout::Hearsay;
use crate::rollout::KillState;
use crate::rollout::OtherArm;
use crate::rollout::Person;
use crate::rollout::Pin;
use crate::rollout::Plan;
use crate::rollout::RolloutId;
use crate::session::Pins;

/// A rollout, where it leads, and its epoch.
pub(super) type Of = (RolloutId, ProviderId, u64);

/// Somebody at an application, and what they use there.
pub(super) struct Case<'a> {
    pub(super) app: &'a AppId,
    pub(super) canonical: &'a CanonicalSubject,
    uses: &'a [Used],
    host: &'a str,
    path: &'a str,
    method: &'a str,
    address: Option<IpAddr>,
}

/// What becomes of somebody, with the rule that says so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Move {
    /// New logins start at the new provider.
    Forward(String),
    /// New logins start at the old provider again.
    Back(String),
    /// Something that is accepted now is not accepted any more.
    Refused(String),
}

impl<'a> Case<'a> {
    pub(super) fn of(somebody: &'a Somebody) -> Self {
        Self {
            app: &somebody.app,
            canonical: &somebody.canonical,
            uses: &somebody.uses,
            host: &somebody.host,
            path: &somebody.path,
            method: &somebody.method,
            address: somebody.address,
        }
    }

    fn facts<'b>(&'b self, canonical: &'b CanonicalSubject, identity: &'b Identity) -> Facts<'b> {
        Facts {
            app: self.app,
            host: self.host,
            path: self.path,
            method: self.method,
            client_ip: self.address,
            peer: None,
            fields: None,
            device: None,
            hearsay: Hearsay::default(),
            person: Some(Person {
                canonical,
                identity,
            }),
        }
    }
}

/// Whether somebody has moved. Without an answer of the store, whoever was seen with the new provider's word has.
pub(super) async fn pin(
    pins: Option<&Pins>,
    of: Option<&Of>,
    case: &Case<'_>,
    now: UnixTime,
) -> Option<Pin> {
    let ((id, to, epoch), pins) = (of?, pins?);
    match pins.of(id, case.canonical, now).await {
        Ok(pin) => pin,
        Err(_) => {
            let moved = case.uses.iter().any(|used| used.by.provider == *to);
            moved.then_some(Pin {
                arm: Arm::To,
                epoch: *epoch,
            })
        }
    }
}

/// What a configuration says of somebody.
struct Side<'a> {
    plan: Option<&'a Plan>,
    starts_at: Option<&'a ProviderId>,
    rule: String,
    accepted: Vec<bool>,
}

/// What becomes of somebody when the second configuration follows the first; `None`: nothing.
pub(super) fn moved(
    (before, after): (&Settings, &Settings),
    kill: &KillState,
    (was, is): (Option<Pin>, Option<Pin>),
    case: &Case<'_>,
    now: UnixTime,
) -> Option<Move> {
    let identity = &case.uses.last()?.by;
    let Ok(renamed) = renamed((before, after), case, identity) else {
        return Some(Move::Refused(String::from("identity.canonical")));
    };
    let before = side(before, kill, was, (case, case.canonical), now);
    let after = side(after, kill, is, (case, &renamed), now);
    let lost = before.accepted.iter().zip(&after.accepted);
    if lost.clone().any(|(was, is)| *was && !is) {
        let stage = after.plan.map(|plan| format!("stage:{}", plan.stage.id));
        return Some(Move::Refused(stage.unwrap_or(after.rule)));
    }
    if before.starts_at == after.starts_at {
        return None;
    }
    let leads_to = after.plan.or(before.plan).map(|plan| &plan.to);
    Some(if after.starts_at == leads_to {
        Move::Forward(after.rule)
    } else {
        Move::Back(after.rule)
    })
}

/// The name by the second configuration, if by the first it comes from the same words; who was linked otherwise keeps it.
fn renamed(
    (before, after): (&Settings, &Settings),
    case: &Case<'_>,
    identity: &Identity,
) -> Result<CanonicalSubject, String> {
    match stated::name_of(before, identity) {
        Ok((name, _)) if name == *case.canonical => {
            stated::name_of(after, identity).map(|(name, _)| name)
        }
        Ok(_) | Err(_) => Ok(case.canonical.clone()),
    }
}

fn side<'a>(
    settings: &'a Settings,
    kill: &KillState,
    pin: Option<Pin>,
    (case, canonical): (&Case<'_>, &CanonicalSubject),
    now: UnixTime,
) -> Side<'a> {
    let plan = settings.rollouts.iter().find(|plan| plan.covers(case.app));
    let (Some(plan), Some(Used { by: identity, .. })) = (plan, case.uses.last()) else {
        let single = settings.single.iter().find(|(app, _)| app == case.app);
        let single = single.map(|(_, single)| single);
        let uses = case.uses.iter();
        return Side {
            plan: None,
            starts_at: single,
            rule: String::from("single"),
            accepted: uses.map(|used| single == Some(&used.by.provider)).collect(),
        };
    };
    let (cohorts, kill) = (&settings.cohorts, kill.position(&plan.id));
    let facts = case.facts(canonical, identity);
    let key = &settings.bucket_key;
    let assigned = rollout::assign(plan, cohorts, key, kill, pin, &facts, now);
    let accepted = |Used { class, by, .. }: &Used| {
        let facts = case.facts(canonical, by);
        match rollout::accept(plan, cohorts, kill, &by.provider, *class, &facts, now) {
            Acceptance::Accepted => {}
            Acceptance::OnlyExcept | Acceptance::NotAccepted | Acceptance::Quarantined => {
                return false;
            }
        }
        let action = plan
            .arm(&by.provider)
            .map(|owner| rollout::other_arm(plan, owner, assigned.arm, *class));
        action != Some(OtherArm::Reject)
    };
    Side {
        plan: Some(plan),
        starts_at: Some(plan.provider(assigned.arm)),
        accepted: case.uses.iter().map(accepted).collect(),
        rule: assigned.rule.to_string(),
    }
}
