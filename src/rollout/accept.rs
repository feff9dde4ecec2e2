//! *Accept*: is this class of credential of this provider honoured now?

use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::rollout::cohort::Cohorts;
use crate::rollout::facts::Facts;
use crate::rollout::kill::KillPosition;
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
    match (kill, arm) {
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
/// Sessions and refresh tokens are never concerned: a session moves by carry-over only.
pub const fn other_arm(plan: &Plan, owner: Arm, assigned: Arm, class: CredentialClass) -> OtherArm {
    match (owner, assigned) {
        (Arm::From, Arm::From) | (Arm::To, Arm::To) => OtherArm::Accept,
        (Arm::From, Arm::To) | (Arm::To, Arm::From) => match class {
            CredentialClass::Session | CredentialClass::Refresh => OtherArm::Accept,
            CredentialClass::Bearer
            | CredentialClass::Opaque
            | CredentialClass::Basic
            | CredentialClass::ApiKey
            | CredentialClass::ClientCert => plan.stage.other_arm,
        },
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
    let sessions_honoured = mode_honours(plan.stage.mode, arm);
    let honoured = match wanted {
        Use::Credential(_) => sessions_honoured,
        Use::Login(begun) => mode_starts(plan.stage.mode, arm, begun.fallback),
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
        CredentialClass::Basic => matches!(rules.basic, BasicPolicy::Accept),
        CredentialClass::Session
        | CredentialClass::Bearer
        | CredentialClass::Opaque
        | CredentialClass::ApiKey
        | CredentialClass::ClientCert
        | CredentialClass::Refresh => matches!(rules.sessions, SessionPolicy::UntilExpiry),
    }
}
