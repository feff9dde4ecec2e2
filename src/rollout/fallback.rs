//! When a new login may start at the other provider: only for an outage, never for a refusal.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::rollout::accept::Acceptance;
use crate::rollout::accept::LoginBegun;
use crate::rollout::accept::accept_login;
use crate::rollout::cohort::path_matches;
use crate::rollout::cohorts::Cohorts;
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
    /// Whether its person goes back early: at the next page, once the provider that was away is healthy again and knows them.
    pub recheck: bool,
    /// How many logins an hour may take it.
    pub per_hour: u32,
    /// The classes of assurance that are enough for such a login; empty: any is.
    pub assurance: Vec<Box<str>>,
    /// The attribute by which an account is looked up, that may be used, before its login counts; `None`: nobody is asked.
    pub account_by: Option<Box<str>>,
    /// What such a session is called towards the application.
    pub mark: Option<Box<str>>,
}

impl Fallback {
    /// Whether a login of this class is enough.
    pub fn takes(&self, class: Option<&str>) -> bool {
        self.assurance.is_empty()
            || class.is_some_and(|class| self.assurance.iter().any(|one| **one == *class))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::stage::Mode;
    use crate::rollout::testing::facts;
    use crate::rollout::testing::plan;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn crm() -> Fallback {
        Fallback {
            app: AppId::new("crm"),
            from: Arm::To,
            when: vec![Outage::Connect, Outage::Timeout, Outage::CircuitOpen],
            provider_down_for: Duration::from_secs(30),
            not_paths: vec!["/admin/*".into()],
            max_age: Duration::from_secs(3_600),
            recheck: false,
            per_hour: 500,
            assurance: Vec::new(),
            account_by: None,
            mark: None,
        }
    }

    #[test]
    fn a_login_that_is_not_enough_or_says_nothing_of_itself_is_not_taken() {
        let any = crm();
        assert!(any.takes(None) && any.takes(Some("pwd")));
        let strong = Fallback {
            assurance: vec!["mfa".into(), "hwk".into()],
            ..crm()
        };
        assert!(strong.takes(Some("mfa")) && strong.takes(Some("hwk")));
        assert!(!strong.takes(Some("pwd")) && !strong.takes(None));
    }

    /// Away for exactly as long as it takes.
    fn down() -> Down {
        Down {
            assigned: Arm::To,
            outage: Outage::CircuitOpen,
            since: Some(NOW - Duration::from_secs(30)),
        }
    }

    struct Case {
        fallback: Option<Fallback>,
        mode: Mode,
        kill: KillPosition,
        down: Down,
        taken: u32,
        path: &'static str,
    }

    fn case() -> Case {
        Case {
            fallback: Some(crm()),
            mode: Mode::Canary,
            kill: KillPosition::Off,
            down: down(),
            taken: 0,
            path: "/orders/7",
        }
    }

    fn ask(case: &Case) -> Result<FallbackLeave, NoFallback> {
        let facts = Facts {
            path: case.path,
            ..facts()
        };
        let plan = plan(case.mode, Vec::new());
        let fallback = case.fallback.as_ref();
        fall_back(
            fallback,
            &plan,
            &Cohorts::new(),
            case.kill,
            case.down,
            case.taken,
            &facts,
            NOW,
        )
    }

    #[test]
    fn opens_for_a_lasting_outage_of_the_assigned_provider() {
        let leave = FallbackLeave {
            arm: Arm::From,
            max_age: Duration::from_secs(3_600),
        };
        assert_eq!(ask(&case()), Ok(leave));
        assert_eq!(
            ask(&Case {
                mode: Mode::ModernPrimary,
                ..case()
            }),
            Ok(leave)
        );
    }

    #[test]
    fn stays_closed_for_everything_else() {
        let other_app = Fallback {
            app: AppId::new("erp"),
            ..crm()
        };
        let other_arm = Fallback {
            from: Arm::From,
            ..crm()
        };
        let shed = Down {
            outage: Outage::Shed,
            ..down()
        };
        let one_call = Down {
            since: None,
            ..down()
        };
        let just_now = Down {
            since: Some(NOW - Duration::from_secs(29)),
            ..down()
        };
        let tomorrow = Down {
            since: Some(NOW + Duration::from_secs(86_400)),
            ..down()
        };
        let at_once = Fallback {
            provider_down_for: Duration::ZERO,
            ..crm()
        };
        for (why, case) in [
            (
                NoFallback::NotConfigured,
                Case {
                    fallback: None,
                    ..case()
                },
            ),
            (
                NoFallback::NotConfigured,
                Case {
                    fallback: Some(other_app),
                    ..case()
                },
            ),
            (
                NoFallback::NotConfigured,
                Case {
                    fallback: Some(other_arm),
                    ..case()
                },
            ),
            (
                NoFallback::Outage,
                Case {
                    down: shed,
                    ..case()
                },
            ),
            (
                NoFallback::NotDownLongEnough,
                Case {
                    down: one_call,
                    ..case()
                },
            ),
            (
                NoFallback::NotDownLongEnough,
                Case {
                    fallback: Some(at_once.clone()),
                    down: one_call,
                    ..case()
                },
            ),
            (
                NoFallback::NotDownLongEnough,
                Case {
                    down: just_now,
                    ..case()
                },
            ),
            (
                NoFallback::NotDownLongEnough,
                Case {
                    fallback: Some(at_once),
                    down: tomorrow,
                    ..case()
                },
            ),
            (
                NoFallback::Path,
                Case {
                    path: "/admin/users",
                    ..case()
                },
            ),
            (
                NoFallback::Path,
                Case {
                    path: "/admin",
                    ..case()
                },
            ),
            (
                NoFallback::NotAccepted,
                Case {
                    mode: Mode::ModernOnly,
                    ..case()
                },
            ),
            (
                NoFallback::NotAccepted,
                Case {
                    kill: KillPosition::Modern,
                    ..case()
                },
            ),
            (
                NoFallback::NotAccepted,
                Case {
                    kill: KillPosition::Deny,
                    ..case()
                },
            ),
            (
                NoFallback::Budget,
                Case {
                    taken: 500,
                    ..case()
                },
            ),
        ] {
            assert_eq!(ask(&case), Err(why), "{}", case.path);
        }
        assert!(
            ask(&Case {
                taken: 499,
                ..case()
            })
            .is_ok()
        );
    }

    #[test]
    fn the_kill_switch_is_not_walked_around() {
        let reverse = Case {
            fallback: Some(Fallback {
                from: Arm::From,
                ..crm()
            }),
            down: Down {
                assigned: Arm::From,
                ..down()
            },
            ..case()
        };
        assert_eq!(ask(&reverse).map(|leave| leave.arm), Ok(Arm::To));
        let killed = Case {
            kill: KillPosition::Legacy,
            ..reverse
        };
        assert_eq!(ask(&killed), Err(NoFallback::NotAccepted));
    }
}
