//! *Accept*: is this class of credential of this provider honoured now?

use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::rollout::cohorts::Cohorts;
use crate::rollout::facts::Facts;
use crate::rollout::kill::KillPosition;
use crate::rollout::passwords::Passwords;
use crate::rollout::stage::AcceptOverride;
use crate::rollout::stage::Arm;
use crate::rollout::stage::BasicPolicy;
use crate::rollout::stage::LoginPolicy;
use crate::rollout::stage::Mode;
use crate::rollout::stage::OtherArm;
use crate::rollout::stage::Plan;
use crate::rollout::stage::SessionPolicy;

/// The answer for one class of credential of one provider, mildest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Acceptance {
    /// Honoured; its owner judges it.
    Accepted,
    /// Refused unless the person, once verified, is in an `except` cohort.
    OnlyExcept,
    /// Refused: `not_accepted`.
    NotAccepted,
    /// Refused: the provider is quarantined.
    Quarantined,
}

/// How a login that has come back was begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoginBegun {
    /// When.
    pub at: UnixTime,
    /// Whether it is a fallback: begun here because the assigned provider is away.
    pub fallback: bool,
}

/// Asked twice: by class before verification (`facts.person` is `None`), by `except` cohort after it.
///
/// The mode says what is honoured, an override of the stage takes more away, and `except` gives it back to the people it
/// names, until the deadline. A kill position stands above all of these: `legacy` honours everything of `from`, since
/// everybody has to sign in there; `modern` honours everything of `to` and quarantines `from`. Where `deny` holds
/// nothing is honoured; the caller has answered 503 before it asks.
pub fn accept(
    plan: &Plan,
    cohorts: &Cohorts,
    kill: KillPosition,
    provider: &ProviderId,
    class: CredentialClass,
    facts: &Facts<'_>,
    now: UnixTime,
) -> Acceptance {
    let Some(arm) = plan.arm(provider) else {
        return Acceptance::NotAccepted;
    };
    let kill = plan.under(kill);
    match kill {
        KillPosition::Deny => Acceptance::NotAccepted,
        KillPosition::Modern => killed_modern(arm),
        KillPosition::Legacy => match (arm, class) {
            (Arm::From, _) => Acceptance::Accepted,
            // Passwords are judged at `from` only.
            (Arm::To, CredentialClass::Basic) => Acceptance::NotAccepted,
            (
                Arm::To,
                CredentialClass::Session
                | CredentialClass::Bearer
                | CredentialClass::Opaque
                | CredentialClass::ApiKey
                | CredentialClass::ClientCert
                | CredentialClass::Refresh,
            ) => by_stage(plan, cohorts, arm, Use::Credential(class), facts, now),
        },
        KillPosition::Freeze | KillPosition::Off => {
            by_stage(plan, cohorts, arm, Use::Credential(class), facts, now)
        }
    }
}

/// Whether a finished login at `provider` may become a session: the *new logins* of the mode and its overrides.
///
/// Asked once it has come back, with the person. A login that was begun at most
/// `started_logins_grace` ago may finish although new ones are refused by now. A fallback is also honoured in
/// `modern-primary`, where nothing else starts at `from`, unless the stage says `new_logins: refuse`.
pub fn accept_login(
    plan: &Plan,
    cohorts: &Cohorts,
    kill: KillPosition,
    provider: &ProviderId,
    begun: LoginBegun,
    facts: &Facts<'_>,
    now: UnixTime,
) -> Acceptance {
    let Some(arm) = plan.arm(provider) else {
        return Acceptance::NotAccepted;
    };
    match (plan.under(kill), arm) {
        (KillPosition::Deny, _) => Acceptance::NotAccepted,
        (KillPosition::Modern, arm) => killed_modern(arm),
        (KillPosition::Legacy, Arm::From) => Acceptance::Accepted,
        // What was begun at `to` before the switch may finish; new ones are not assigned there.
        (KillPosition::Legacy, Arm::To) | (KillPosition::Freeze | KillPosition::Off, _) => {
            by_stage(plan, cohorts, arm, Use::Login(begun), facts, now)
        }
    }
}

/// What happens to a good API credential of `owner` when its person is assigned to `arm`.
///
/// Sessions and refresh tokens are never concerned: a session moves by carry-over only. Nor are passwords where they move
/// themselves.
pub const fn other_arm(plan: &Plan, owner: Arm, assigned: Arm, class: CredentialClass) -> OtherArm {
    match (owner, assigned) {
        (Arm::From, Arm::From) | (Arm::To, Arm::To) => OtherArm::Accept,
        (Arm::From, Arm::To) | (Arm::To, Arm::From) => match class {
            CredentialClass::Session | CredentialClass::Refresh => OtherArm::Accept,
            CredentialClass::Basic if follows(plan, owner) => OtherArm::Accept,
            CredentialClass::Bearer
            | CredentialClass::Opaque
            | CredentialClass::Basic
            | CredentialClass::ApiKey
            | CredentialClass::ClientCert => plan.stage.other_arm,
        },
    }
}

/// Whether a password is good where it is judged, whatever the arm of its person: at `to` it has no other judge any more, and
/// at `from` it is about to move.
const fn follows(plan: &Plan, owner: Arm) -> bool {
    match (plan.stage.passwords, owner) {
        (Passwords::Kept | Passwords::Moving, Arm::To) | (Passwords::Moving, Arm::From) => true,
        (Passwords::AtFrom, _) | (Passwords::Kept, Arm::From) => false,
    }
}

/// What somebody wants to use.
#[derive(Clone, Copy, Debug)]
enum Use {
    Credential(CredentialClass),
    Login(LoginBegun),
}

/// Kill position `modern`: the old provider is compromised.
const fn killed_modern(arm: Arm) -> Acceptance {
    match arm {
        Arm::From => Acceptance::Quarantined,
        Arm::To => Acceptance::Accepted,
    }
}

fn by_stage(
    plan: &Plan,
    cohorts: &Cohorts,
    arm: Arm,
    wanted: Use,
    facts: &Facts<'_>,
    now: UnixTime,
) -> Acceptance {
    let provider = plan.provider(arm);
    let brown = matches!(arm, Arm::From) && plan.stage.is_brown(now);
    let sessions_honoured = mode_honours(plan.stage.mode, arm) && !brown;
    let honoured = match wanted {
        Use::Credential(_) => sessions_honoured,
        Use::Login(begun) => mode_starts(plan.stage.mode, arm, begun.fallback) && !brown,
    };
    let plain = if honoured {
        Acceptance::Accepted
    } else {
        Acceptance::NotAccepted
    };
    // The configuration allows one override for each provider; of several, the strictest would count.
    let strictest = plan
        .stage
        .accept
        .iter()
        .filter(|rules| rules.provider == *provider)
        .map(|rules| {
            by_override(
                rules,
                cohorts,
                honoured,
                sessions_honoured,
                wanted,
                facts,
                now,
            )
        })
        .max();
    strictest.unwrap_or(plain)
}

fn by_override(
    rules: &AcceptOverride,
    cohorts: &Cohorts,
    honoured: bool,
    sessions_honoured: bool,
    wanted: Use,
    facts: &Facts<'_>,
    now: UnixTime,
) -> Acceptance {
    if rules.deadline.is_some_and(|deadline| deadline <= now) {
        return Acceptance::NotAccepted;
    }
    // Where the mode refuses even the sessions of this side, a login could not be used.
    let in_time = |begun: LoginBegun| {
        let age = now.since(begun.at);
        sessions_honoured && begun.at <= now && age <= rules.started_logins_grace
    };
    let honoured = match wanted {
        Use::Credential(class) => honoured && allows(rules, class),
        Use::Login(begun) => match rules.new_logins {
            LoginPolicy::Allow => honoured || in_time(begun),
            LoginPolicy::Refuse => !begun.fallback && in_time(begun),
        },
    };
    if honoured {
        return Acceptance::Accepted;
    }
    match facts.person {
        _ if rules.except.is_empty() => Acceptance::NotAccepted,
        None => Acceptance::OnlyExcept,
        Some(_) if is_excepted(rules, cohorts, facts) => Acceptance::Accepted,
        Some(_) => Acceptance::NotAccepted,
    }
}

/// Whether a verified person is in an `except` cohort. A cohort that rests on an address or a header counts as not
/// matching: such facts steer a login, they never let anybody in.
fn is_excepted(rules: &AcceptOverride, cohorts: &Cohorts, facts: &Facts<'_>) -> bool {
    rules.except.iter().any(|id| {
        cohorts.get(id).is_some_and(|cohort| {
            !cohort.rests_on_unverified() && cohort.contains(facts) == Some(true)
        })
    })
}

/// The cells of the mode matrix for a presented credential.
const fn mode_honours(mode: Mode, arm: Arm) -> bool {
    match (mode, arm) {
        (Mode::LegacyOnly | Mode::Shadow | Mode::Canary | Mode::ModernPrimary, Arm::From)
        | (Mode::Canary | Mode::ModernPrimary | Mode::ModernOnly, Arm::To) => true,
        (Mode::ModernOnly, Arm::From) | (Mode::LegacyOnly | Mode::Shadow, Arm::To) => false,
    }
}

/// The cells of the mode matrix for a new login.
const fn mode_starts(mode: Mode, arm: Arm, fallback: bool) -> bool {
    match (mode, arm) {
        (Mode::LegacyOnly | Mode::Shadow | Mode::Canary, Arm::From)
        | (Mode::Canary | Mode::ModernPrimary | Mode::ModernOnly, Arm::To) => true,
        (Mode::ModernPrimary, Arm::From) => fallback,
        (Mode::ModernOnly, Arm::From) | (Mode::LegacyOnly | Mode::Shadow, Arm::To) => false,
    }
}

/// Whether an override leaves a class of credential alone. Keys and certificates of clients go with sessions and tokens.
const fn allows(rules: &AcceptOverride, class: CredentialClass) -> bool {
    match class {
        CredentialClass::Basic => match rules.basic {
            BasicPolicy::Accept | BasicPolicy::Migrate => true,
            BasicPolicy::Refuse => false,
        },
        CredentialClass::Session
        | CredentialClass::Bearer
        | CredentialClass::Opaque
        | CredentialClass::ApiKey
        | CredentialClass::ClientCert
        | CredentialClass::Refresh => matches!(rules.sessions, SessionPolicy::UntilExpiry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::cohort::Cohort;
    use crate::rollout::cohort::CohortId;
    use crate::rollout::testing::People;
    use crate::rollout::testing::facts;
    use crate::rollout::testing::plan;
    use Acceptance::*;
    use CredentialClass::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::Duration;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn cohorts() -> Cohorts {
        let cidr = || Cohort::Cidr(vec!["0.0.0.0/0".parse().unwrap()]);
        let header = Cohort::Header {
            name: "x-canary".into(),
            equals: "1".into(),
            trusted_from: vec!["0.0.0.0/0".parse().unwrap()],
        };
        let glass = Cohort::Subjects(std::iter::once("hr:17".into()).collect());
        [
            ("orders", Cohort::Path(vec!["/orders/*".into()])),
            ("office", cidr()),
            ("canary", header),
            ("outside", Cohort::Not(Box::new(cidr()))),
            ("either", Cohort::Any(vec![cidr(), glass.clone()])),
            ("break-glass", glass),
        ]
        .into_iter()
        .map(|(name, cohort)| (CohortId::new(name), cohort))
        .collect()
    }

    fn provider(arm: Arm) -> ProviderId {
        ProviderId::new(match arm {
            Arm::From => "legacy",
            Arm::To => "modern",
        })
    }

    fn asked(
        plan: &Plan,
        kill: KillPosition,
        arm: Arm,
        class: CredentialClass,
        facts: &Facts<'_>,
    ) -> Acceptance {
        accept(plan, &cohorts(), kill, &provider(arm), class, facts, NOW)
    }

    /// An override that changes nothing.
    fn lenient(arm: Arm) -> AcceptOverride {
        AcceptOverride {
            provider: provider(arm),
            new_logins: LoginPolicy::Allow,
            except: Vec::new(),
            started_logins_grace: Duration::ZERO,
            sessions: SessionPolicy::UntilExpiry,
            basic: BasicPolicy::Accept,
            deadline: None,
        }
    }

    fn with(mode: Mode, rules: AcceptOverride) -> Plan {
        let mut plan = plan(mode, Vec::new());
        plan.stage.accept = vec![rules];
        plan
    }

    fn except(names: &[&str]) -> Vec<CohortId> {
        names.iter().copied().map(CohortId::new).collect()
    }

    /// The table of modes, cell by cell; a cell is the same for every class of credential.
    #[test]
    fn the_mode_matrix_holds_for_every_class() {
        for (mode, from, to) in [
            (Mode::LegacyOnly, Accepted, NotAccepted),
            (Mode::Shadow, Accepted, NotAccepted),
            (Mode::Canary, Accepted, Accepted),
            (Mode::ModernPrimary, Accepted, Accepted),
            (Mode::ModernOnly, NotAccepted, Accepted),
        ] {
            let plan = plan(mode, Vec::new());
            for class in CredentialClass::ALL {
                for kill in [KillPosition::Off, KillPosition::Freeze] {
                    let cell = |arm| asked(&plan, kill, arm, class, &facts());
                    assert_eq!(
                        (cell(Arm::From), cell(Arm::To)),
                        (from, to),
                        "{mode:?} {class:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn new_logins_follow_the_first_column_of_the_table() {
        for (mode, from, fallback, to) in [
            (Mode::LegacyOnly, Accepted, Accepted, NotAccepted),
            (Mode::Shadow, Accepted, Accepted, NotAccepted),
            (Mode::Canary, Accepted, Accepted, Accepted),
            (Mode::ModernPrimary, NotAccepted, Accepted, Accepted),
            (Mode::ModernOnly, NotAccepted, NotAccepted, Accepted),
        ] {
            for plan in [plan(mode, Vec::new()), with(mode, lenient(Arm::From))] {
                let login = |arm, fallback| {
                    let begun = LoginBegun {
                        at: NOW - MINUTE,
                        fallback,
                    };
                    let provider = provider(arm);
                    accept_login(
                        &plan,
                        &cohorts(),
                        KillPosition::Off,
                        &provider,
                        begun,
                        &facts(),
                        NOW,
                    )
                };
                let found = (
                    login(Arm::From, false),
                    login(Arm::From, true),
                    login(Arm::To, false),
                );
                assert_eq!(found, (from, fallback, to), "{mode:?}");
            }
        }
    }

    /// Neither a stage, nor the kill switch, nor an exception opens a side again that is closed for good.
    #[test]
    fn what_is_closed_for_good_stays_closed() {
        let excepted = AcceptOverride {
            except: except(&["break-glass"]),
            ..lenient(Arm::From)
        };
        let glass = People::of("legacy", "hr:17", json!({}));
        for mode in Mode::ALL {
            let open = with(mode, excepted.clone());
            let closed = Plan {
                closed: true,
                ..open.clone()
            };
            for kill in [
                KillPosition::Off,
                KillPosition::Freeze,
                KillPosition::Legacy,
                KillPosition::Modern,
            ] {
                for class in CredentialClass::ALL {
                    let cell = |arm| asked(&closed, kill, arm, class, &glass.facts());
                    let cells = (cell(Arm::From), cell(Arm::To));
                    assert_eq!(cells, (Quarantined, Accepted), "{mode:?} {kill:?}");
                }
                let begun = LoginBegun {
                    at: NOW,
                    fallback: true,
                };
                let (from, facts) = (provider(Arm::From), glass.facts());
                let login =
                    |plan: &Plan| accept_login(plan, &cohorts(), kill, &from, begun, &facts, NOW);
                assert_eq!(login(&closed), Quarantined, "{mode:?} {kill:?}");
            }
            assert_eq!(open.under(KillPosition::Legacy), KillPosition::Legacy);
            assert_eq!(closed.under(KillPosition::Deny), KillPosition::Deny);
        }
    }

    #[test]
    fn a_provider_that_takes_no_part_is_not_accepted() {
        let plan = plan(Mode::Canary, Vec::new());
        let other = ProviderId::new("partner");
        for kill in KillPosition::ALL {
            let found = accept(&plan, &cohorts(), kill, &other, Bearer, &facts(), NOW);
            assert_eq!(found, NotAccepted);
        }
    }

    #[test]
    fn an_override_takes_away_by_class() {
        let no_passwords = with(
            Mode::ModernPrimary,
            AcceptOverride {
                basic: BasicPolicy::Refuse,
                ..lenient(Arm::From)
            },
        );
        let passwords_only = with(
            Mode::ModernPrimary,
            AcceptOverride {
                sessions: SessionPolicy::Refuse,
                ..lenient(Arm::From)
            },
        );
        for class in CredentialClass::ALL {
            let (first, second) = match class {
                Basic => (NotAccepted, Accepted),
                Session | Bearer | Opaque | ApiKey | ClientCert | Refresh => {
                    (Accepted, NotAccepted)
                }
            };
            assert_eq!(
                asked(&no_passwords, KillPosition::Off, Arm::From, class, &facts()),
                first
            );
            assert_eq!(
                asked(
                    &passwords_only,
                    KillPosition::Off,
                    Arm::From,
                    class,
                    &facts()
                ),
                second
            );
            assert_eq!(
                asked(&passwords_only, KillPosition::Off, Arm::To, class, &facts()),
                Accepted
            );
        }
    }

    #[test]
    fn an_override_without_exceptions_never_gives() {
        for mode in Mode::ALL {
            for arm in [Arm::From, Arm::To] {
                let (plain, lenient) = (plan(mode, Vec::new()), with(mode, lenient(arm)));
                for class in CredentialClass::ALL {
                    assert_eq!(
                        asked(&lenient, KillPosition::Off, arm, class, &facts()),
                        asked(&plain, KillPosition::Off, arm, class, &facts()),
                    );
                }
            }
        }
    }

    #[test]
    fn excepted_people_are_let_in_once_they_are_known() {
        let plan = with(
            Mode::ModernOnly,
            AcceptOverride {
                except: except(&["break-glass"]),
                ..lenient(Arm::From)
            },
        );
        let person = |canonical| People::of("legacy", canonical, json!({}));
        let ask = |facts: &Facts<'_>| asked(&plan, KillPosition::Off, Arm::From, Basic, facts);
        assert_eq!(ask(&facts()), OnlyExcept);
        assert_eq!(ask(&person("hr:17").facts()), Accepted);
        assert_eq!(ask(&person("hr:18").facts()), NotAccepted);
    }

    #[test]
    fn where_a_request_goes_may_except_but_where_it_comes_from_may_not() {
        let people = People::of("legacy", "hr:17", json!({}));
        let equals = |_: &str, _: &str| true;
        let facts = Facts {
            client_ip: Some("10.0.0.1".parse().unwrap()),
            peer: Some("10.0.0.1".parse().unwrap()),
            fields: Some(&equals),
            ..people.facts()
        };
        let ask = |names: &[&str]| {
            let rules = AcceptOverride {
                except: except(names),
                ..lenient(Arm::From)
            };
            asked(
                &with(Mode::ModernOnly, rules),
                KillPosition::Off,
                Arm::From,
                Bearer,
                &facts,
            )
        };
        assert_eq!(ask(&["orders"]), Accepted);
        // `either` names the person, too; but its answer rests on an address.
        for name in ["office", "canary", "outside", "either", "nobody"] {
            assert_eq!(ask(&[name]), NotAccepted, "{name}");
        }
        assert_eq!(ask(&["office", "break-glass"]), Accepted);
    }

    #[test]
    fn the_deadline_ends_everything_of_a_provider() {
        let people = People::of("legacy", "hr:17", json!({}));
        let ask = |deadline| {
            let rules = AcceptOverride {
                except: except(&["break-glass"]),
                deadline: Some(deadline),
                ..lenient(Arm::From)
            };
            asked(
                &with(Mode::ModernPrimary, rules),
                KillPosition::Off,
                Arm::From,
                Session,
                &people.facts(),
            )
        };
        assert_eq!(ask(NOW + Duration::from_millis(1)), Accepted);
        assert_eq!(ask(NOW), NotAccepted);
    }

    #[test]
    fn of_two_overrides_the_stricter_counts() {
        let strict = AcceptOverride {
            sessions: SessionPolicy::Refuse,
            ..lenient(Arm::From)
        };
        let mut plan = with(Mode::Canary, lenient(Arm::From));
        plan.stage.accept.push(strict);
        assert_eq!(
            asked(&plan, KillPosition::Off, Arm::From, Session, &facts()),
            NotAccepted
        );
    }

    #[test]
    fn a_login_begun_before_new_ones_were_refused_may_finish() {
        let grace = Duration::from_secs(900);
        let rules = |new_logins| AcceptOverride {
            new_logins,
            started_logins_grace: grace,
            ..lenient(Arm::From)
        };
        let finished = |mode, rules, at, fallback| {
            let begun = LoginBegun { at, fallback };
            let plan = with(mode, rules);
            accept_login(
                &plan,
                &cohorts(),
                KillPosition::Off,
                &plan.from,
                begun,
                &facts(),
                NOW,
            )
        };
        let refuse = || rules(LoginPolicy::Refuse);
        assert_eq!(
            finished(Mode::ModernPrimary, refuse(), NOW - grace, false),
            Accepted
        );
        assert_eq!(
            finished(Mode::ModernPrimary, refuse(), NOW - grace - MINUTE, false),
            NotAccepted
        );
        assert_eq!(
            finished(Mode::ModernPrimary, refuse(), NOW + MINUTE, false),
            NotAccepted
        );
        assert_eq!(
            finished(Mode::ModernPrimary, refuse(), NOW, true),
            NotAccepted
        );
        assert_eq!(
            finished(Mode::ModernPrimary, rules(LoginPolicy::Allow), NOW, true),
            Accepted
        );
        assert_eq!(
            finished(Mode::Canary, refuse(), NOW - grace - MINUTE, false),
            NotAccepted
        );
        assert_eq!(
            finished(Mode::ModernOnly, refuse(), NOW, false),
            NotAccepted
        );
    }

    #[test]
    fn kill_legacy_lets_everybody_sign_in_at_from_and_keeps_sessions_of_to() {
        let refuse = AcceptOverride {
            new_logins: LoginPolicy::Refuse,
            sessions: SessionPolicy::Refuse,
            basic: BasicPolicy::Refuse,
            deadline: Some(NOW),
            ..lenient(Arm::From)
        };
        let kill = KillPosition::Legacy;
        for plan in [
            with(Mode::ModernOnly, refuse),
            plan(Mode::ModernOnly, Vec::new()),
        ] {
            let begun = LoginBegun {
                at: NOW,
                fallback: false,
            };
            assert_eq!(
                accept_login(&plan, &cohorts(), kill, &plan.from, begun, &facts(), NOW),
                Accepted
            );
            for class in CredentialClass::ALL {
                assert_eq!(asked(&plan, kill, Arm::From, class, &facts()), Accepted);
            }
            assert_eq!(asked(&plan, kill, Arm::To, Session, &facts()), Accepted);
            assert_eq!(asked(&plan, kill, Arm::To, Bearer, &facts()), Accepted);
            assert_eq!(asked(&plan, kill, Arm::To, Basic, &facts()), NotAccepted);
        }
        let shadow = plan(Mode::Shadow, Vec::new());
        assert_eq!(
            asked(&shadow, kill, Arm::To, Session, &facts()),
            NotAccepted
        );
    }

    #[test]
    fn kill_modern_quarantines_from_for_everybody() {
        let people = People::of("legacy", "hr:17", json!({}));
        for mode in Mode::ALL {
            let rules = AcceptOverride {
                except: except(&["break-glass"]),
                ..lenient(Arm::From)
            };
            let plan = with(mode, rules);
            let begun = LoginBegun {
                at: NOW,
                fallback: true,
            };
            let login = accept_login(
                &plan,
                &cohorts(),
                KillPosition::Modern,
                &plan.from,
                begun,
                &people.facts(),
                NOW,
            );
            assert_eq!(login, Quarantined);
            for class in CredentialClass::ALL {
                let ask = |arm| asked(&plan, KillPosition::Modern, arm, class, &people.facts());
                assert_eq!((ask(Arm::From), ask(Arm::To)), (Quarantined, Accepted));
            }
        }
    }

    #[test]
    fn kill_deny_lets_nobody_in() {
        let people = People::of("legacy", "hr:17", json!({}));
        for mode in Mode::ALL {
            let plan = plan(mode, Vec::new());
            for class in CredentialClass::ALL {
                let ask = |arm| asked(&plan, KillPosition::Deny, arm, class, &people.facts());
                assert_eq!((ask(Arm::From), ask(Arm::To)), (NotAccepted, NotAccepted));
            }
        }
    }

    #[test]
    fn a_credential_of_the_other_arm_is_treated_as_the_stage_says() {
        let mut plan = plan(Mode::Canary, Vec::new());
        plan.stage.other_arm = OtherArm::Reject;
        for class in CredentialClass::ALL {
            assert_eq!(other_arm(&plan, Arm::To, Arm::To, class), OtherArm::Accept);
            let expected = match class {
                Session | Refresh => OtherArm::Accept,
                Bearer | Opaque | Basic | ApiKey | ClientCert => OtherArm::Reject,
            };
            assert_eq!(other_arm(&plan, Arm::From, Arm::To, class), expected);
            assert_eq!(other_arm(&plan, Arm::To, Arm::From, class), expected);
        }
    }

    #[test]
    fn a_brownout_refuses_the_old_side_for_its_minutes_and_spares_the_excepted() {
        let mut plan = with(Mode::ModernPrimary, lenient(Arm::From));
        let brownout = |at| crate::rollout::stage::Brownout { at, span: MINUTE };
        plan.stage.brownouts = vec![brownout(NOW)];
        let glass = People::of("legacy", "hr:17", json!({}));
        let ask = |plan: &Plan, arm, now| {
            let (facts, none) = (glass.facts(), KillPosition::Off);
            accept(plan, &cohorts(), none, &provider(arm), Session, &facts, now)
        };
        assert_eq!(ask(&plan, Arm::From, NOW - MINUTE), Accepted);
        assert_eq!(ask(&plan, Arm::From, NOW), NotAccepted);
        assert_eq!(ask(&plan, Arm::To, NOW), Accepted);
        assert_eq!(ask(&plan, Arm::From, NOW + MINUTE), Accepted);
        plan.stage.accept = vec![AcceptOverride {
            except: vec![CohortId::new("break-glass")],
            ..lenient(Arm::From)
        }];
        assert_eq!(ask(&plan, Arm::From, NOW), Accepted);
    }

    proptest! {
        /// Whatever is known before verification, the closed side of a mode stays closed.
        #[test]
        fn facts_from_before_verification_never_open_a_closed_side(
            address in any::<[u8; 4]>(),
            header in any::<bool>(),
            path in "/[a-z/]{0,12}",
            names in proptest::collection::vec(
                proptest::sample::select(vec!["orders", "office", "canary", "outside", "either"]), 0..4),
            class in proptest::sample::select(CredentialClass::ALL.as_slice()),
            person in any::<bool>(),
        ) {
            let people = People::of("legacy", "hr:18", json!({}));
            let equals = |_: &str, _: &str| header;
            let facts = Facts {
                path: &path,
                client_ip: Some(address.into()),
                peer: Some(address.into()),
                fields: Some(&equals),
                person: people.facts().person.filter(|_| person),
                ..facts()
            };
            for (mode, arm) in [
                (Mode::LegacyOnly, Arm::To),
                (Mode::Shadow, Arm::To),
                (Mode::ModernOnly, Arm::From),
            ] {
                for kill in [KillPosition::Off, KillPosition::Freeze, KillPosition::Deny] {
                    let plain = plan(mode, Vec::new());
                    prop_assert_eq!(asked(&plain, kill, arm, class, &facts), NotAccepted);
                    let rules = AcceptOverride { except: except(&names), ..lenient(arm) };
                    let found = asked(&with(mode, rules), kill, arm, class, &facts);
                    // Only a verified person, and then only by where the request goes.
                    let by_path = person && names.contains(&"orders") && path.starts_with("/orders/");
                    prop_assert!(found != Accepted || by_path);
                }
            }
        }
    }
}
