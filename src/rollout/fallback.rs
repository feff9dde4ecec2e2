//! When a new login may start at the other provider: only for an outage, never for a refusal.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::rollout::accept::Acceptance;
use crate::rollout::accept::LoginBegun;
use crate::rollout::accept::accept_login;
use crate::rollout::cohort::Cohorts;
use crate::rollout::cohort::path_matches;
use crate::rollout::facts::Facts;
use crate::rollout::kill::KillPosition;
use crate::rollout::stage::AppId;
use crate::rollout::stage::Arm;
use crate::rollout::stage::Plan;

/// One app's fallback.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// The application.
    pub app: AppId,
    /// The arm whose outage opens it.
    pub from: Arm,
    /// The outages that count.
    pub when: Vec<Outage>,
    /// How long the provider's breaker must have been open without one success.
    pub provider_down_for: Duration,
    /// Paths without fallback; a trailing `*` matches any rest, and `/admin/*` also stands for `/admin`.
    pub not_paths: Vec<Box<str>>,
    /// How long a session made this way lives.
    pub max_age: Duration,
    /// How many logins an hour may take it.
    pub per_hour: u32,
}

/// An outage of the assigned provider, met by a new login.
#[derive(Clone, Copy, Debug)]
pub struct Down {
    /// Where the login should have started.
    pub assigned: Arm,
    /// What happened. A refusal is no outage, and cannot be one: there is no conversion.
    pub outage: Outage,
    /// Since when the whole provider has been away without one success, as its breaker and its probe know it.
    pub since: Option<UnixTime>,
}

/// Leave to start a login at the other arm. The session made of it is marked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FallbackLeave {
    /// Where it starts.
    pub arm: Arm,
    /// How long its session lives at most.
    pub max_age: Duration,
}

/// Why a login does not start elsewhere: the label `reason` of `authferry_fallbacks_refused_total`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum NoFallback {
    /// The application has none, or none for this arm.
    #[error("not_configured")]
    NotConfigured,
    /// This kind of outage opens none.
    #[error("outage")]
    Outage,
    /// The provider has not been away for long enough: one failed call chooses no judge.
    #[error("not_down_long_enough")]
    NotDownLongEnough,
    /// The path has none.
    #[error("path")]
    Path,
    /// The other side takes no new logins now.
    #[error("not_accepted")]
    NotAccepted,
    /// Too many logins took it within an hour.
    #[error("budget")]
    Budget,
}

impl NoFallback {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::Outage => "outage",
            Self::NotDownLongEnough => "not_down_long_enough",
            Self::Path => "path",
            Self::NotAccepted => "not_accepted",
            Self::Budget => "budget",
        }
    }
}

/// Whether a *new* login may start at the other arm. `taken` is how many did within the last hour; the caller counts one
/// more when it acts on the leave.
///
/// # Errors
///
/// Why not; the login is then answered 503.
#[expect(
    clippy::too_many_arguments,
    reason = "each is one fact that the decision rests on"
)]
pub fn fall_back(
    fallback: Option<&Fallback>,
    plan: &Plan,
    cohorts: &Cohorts,
    kill: KillPosition,
    down: Down,
    taken: u32,
    facts: &Facts<'_>,
    now: UnixTime,
) -> Result<FallbackLeave, NoFallback> {
    let fallback = fallback
        .filter(|fallback| fallback.app == *facts.app && fallback.from == down.assigned)
        .ok_or(NoFallback::NotConfigured)?;
    if !fallback.when.contains(&down.outage) {
        return Err(NoFallback::Outage);
    }
    let long_enough = down
        .since
        .is_some_and(|since| since <= now && fallback.provider_down_for <= now.since(since));
    if !long_enough {
        return Err(NoFallback::NotDownLongEnough);
    }
    if fallback
        .not_paths
        .iter()
        .any(|path| covers(path, facts.path))
    {
        return Err(NoFallback::Path);
    }
    let arm = down.assigned.other();
    let begun = LoginBegun {
        at: now,
        fallback: true,
    };
    let killed_away = matches!(
        (kill, arm),
        (KillPosition::Legacy, Arm::To) | (KillPosition::Modern, Arm::From)
    );
    match accept_login(plan, cohorts, kill, plan.provider(arm), begun, facts, now) {
        Acceptance::Accepted if !killed_away => {}
        // Who it is will be known only afterwards: too late to have chosen the door.
        Acceptance::Accepted
        | Acceptance::OnlyExcept
        | Acceptance::NotAccepted
        | Acceptance::Quarantined => return Err(NoFallback::NotAccepted),
    }
    if fallback.per_hour <= taken {
        return Err(NoFallback::Budget);
    }
    Ok(FallbackLeave {
        arm,
        max_age: fallback.max_age,
    })
}

fn covers(pattern: &str, path: &str) -> bool {
    path_matches(pattern, path) || pattern.strip_suffix("/*") == Some(path)
}
