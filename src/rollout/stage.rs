//! A rollout, and the stage it is in: plain data, compiled from the configuration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::rollout::bucket::Percent;
use crate::rollout::bucket::UnitKind;
use crate::rollout::cohort::CohortId;
use crate::rollout::kill::KillPosition;
use crate::rollout::passwords::Passwords;
use crate::rollout::rules::Rules;
use crate::rollout::shadowed::Shadowed;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name, as the configuration spells it.
            pub fn new(name: &str) -> Self {
                Self(name.into())
            }

            /// The name as text: safe to log and to use as a label.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of an application behind the proxy.
    AppId
);
name!(
    /// The name of a rollout.
    RolloutId
);

/// One side of a rollout.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum Arm {
    /// The provider people leave; *legacy* in mode names and in the label `arm`.
    #[serde(rename = "legacy")]
    From,
    /// The provider people move to; *modern* in mode names and in the label `arm`.
    #[serde(rename = "modern")]
    To,
}

impl Arm {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::From => "legacy",
            Self::To => "modern",
        }
    }

    /// The other side.
    pub const fn other(self) -> Self {
        match self {
            Self::From => Self::To,
            Self::To => Self::From,
        }
    }
}

/// What a stage does with credentials and logins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Everything at `from`; credentials of `to` are refused.
    LegacyOnly,
    /// As `LegacyOnly`, while `to` is compared on the side.
    Shadow,
    /// New logins by rule and percent; both sides' credentials are accepted.
    Canary,
    /// New logins at `to`; credentials of `from` are drained.
    ModernPrimary,
    /// Credentials of `from` are refused.
    ModernOnly,
}

impl Mode {
    /// Every mode, in the order of a migration.
    pub const ALL: [Self; 5] = [
        Self::LegacyOnly,
        Self::Shadow,
        Self::Canary,
        Self::ModernPrimary,
        Self::ModernOnly,
    ];

    /// The word used in configuration and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LegacyOnly => "legacy-only",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::ModernPrimary => "modern-primary",
            Self::ModernOnly => "modern-only",
        }
    }
}

impl OtherArm {
    /// The word used in configuration and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Exchange => "exchange",
            Self::Reject => "reject",
        }
    }
}

/// What to do with an API credential whose owner is not its person's arm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OtherArm {
    /// Honour it: its owner vouched for it.
    Accept,
    /// Exchange it for a token of the person's arm.
    Exchange,
    /// Refuse it (`not_accepted`).
    Reject,
}

/// Where the bucket of a login comes from before the person is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BeforeKnown {
    /// The sealed device cookie.
    Device,
    /// Ask for the name first.
    IdentifierFirst,
}

/// What lowering a percent does to people who have moved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnDecrease {
    /// They stay.
    Hold,
    /// They go back.
    Recall,
}

/// What happens when a person pinned to `to` signs in at `from` on a fresh device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PinnedAtFrom {
    /// The login is not turned into a session; one sign-in at `to` follows.
    Redirect,
    /// The login is accepted once.
    Allow,
}

/// How people are put into buckets.
#[derive(Clone, Debug)]
pub struct Bucketing {
    /// Public; equal salts of two rollouts choose the same people first.
    pub salt: Box<str>,
    /// What is hashed once the person is known.
    pub unit: UnitKind,
    /// What is hashed before.
    pub before_known: BeforeKnown,
    /// See [`OnDecrease`].
    pub on_decrease: OnDecrease,
    /// See [`PinnedAtFrom`].
    pub pinned_at_from: PinnedAtFrom,
}

/// How much of what a rule matches goes its way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Share {
    /// All.
    All,
    /// A share of the buckets.
    Percent(Percent),
    /// Whoever chooses it, on a page of ours; the others go the other way.
    Chosen,
}

/// One line of `assign`. First match wins.
#[derive(Clone, Debug)]
pub struct AssignRule {
    /// Whom it concerns; `None` is everybody.
    pub cohort: Option<CohortId>,
    /// How many of them.
    pub share: Share,
    /// Where they go.
    pub to: Arm,
    /// When the rule ends.
    pub until: Option<UnixTime>,
}

/// Whether new logins may start at a provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoginPolicy {
    /// They may.
    Allow,
    /// They may not.
    Refuse,
}

/// Whether a provider's sessions and tokens are honoured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionPolicy {
    /// Until they expire by themselves, at the latest at the deadline.
    UntilExpiry,
    /// No.
    Refuse,
}

/// Whether a provider's passwords are honoured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BasicPolicy {
    /// As the mode says.
    Accept,
    /// As the mode says, and the password of who is assigned to `to` moves there.
    Migrate,
    /// No.
    Refuse,
}

/// A stage's exceptions from the accept matrix of its mode, for one provider.
#[derive(Clone, Debug)]
pub struct AcceptOverride {
    /// The provider whose credentials are meant.
    pub provider: ProviderId,
    /// New logins.
    pub new_logins: LoginPolicy,
    /// People to whom the refusals do not apply. Verified facts only.
    pub except: Vec<CohortId>,
    /// How long a login that began before the stage may still finish.
    pub started_logins_grace: Duration,
    /// Sessions and tokens.
    pub sessions: SessionPolicy,
    /// Passwords.
    pub basic: BasicPolicy,
    /// When every credential of the provider stops counting.
    pub deadline: Option<UnixTime>,
}

/// Some minutes in which credentials of `from` do not count, while somebody watches who still needs them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Brownout {
    /// When it begins.
    pub at: UnixTime,
    /// How long it lasts.
    pub span: Duration,
}

/// What answers to credentials of `from` say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// Since when they are deprecated (RFC 9745); `None`: since the stage began.
    pub deprecated: Option<UnixTime>,
    /// When they stop working (RFC 8594).
    pub sunset: Option<UnixTime>,
    /// Where it can be read what to do instead (RFC 9745 §3).
    pub notice: Option<Box<str>>,
}

/// The stage a rollout is in.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name.
    pub id: Box<str>,
    /// Its place in the list, from 0.
    pub index: usize,
    /// What it does.
    pub mode: Mode,
    /// Where new logins start.
    pub assign: Rules,
    /// Exceptions from the mode.
    pub accept: Vec<AcceptOverride>,
    /// API credentials of the other arm.
    pub other_arm: OtherArm,
    /// When credentials of `from` do not count for a while.
    pub brownouts: Vec<Brownout>,
    /// What answers to credentials of `from` say.
    pub warning: Option<Warning>,
    /// Who judges passwords.
    pub passwords: Passwords,
    /// Where people are looked at a second time.
    pub shadow: Shadowed,
}

impl Stage {
    /// Whether credentials of `from` do not count just now.
    pub fn is_brown(&self, now: UnixTime) -> bool {
        self.brown_until(now).is_some()
    }

    /// Until when credentials of `from` do not count; `None`: they do just now.
    pub fn brown_until(&self, now: UnixTime) -> Option<UnixTime> {
        let within = |brownout: &&Brownout| brownout.at <= now && now < brownout.at + brownout.span;
        let brownouts = self.brownouts.iter().filter(within);
        brownouts.map(|brownout| brownout.at + brownout.span).max()
    }
}

/// A rollout in its present stage: everything a decision needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub id: RolloutId,
    /// The applications that move.
    pub apps: Vec<AppId>,
    /// Where people come from.
    pub from: ProviderId,
    /// Where they go.
    pub to: ProviderId,
    /// How they are put into buckets.
    pub bucketing: Bucketing,
    /// The present stage.
    pub stage: Stage,
    /// Raised by a rollback or a kill switch that moves people; pins of an older epoch are void.
    pub epoch: u64,
    /// Whether `from` is closed for good: nothing of it counts any more, whatever the stage or the kill switch says.
    pub closed: bool,
}

impl Plan {
    /// The provider of an arm.
    pub const fn provider(&self, arm: Arm) -> &ProviderId {
        match arm {
            Arm::From => &self.from,
            Arm::To => &self.to,
        }
    }

    /// The arm of a provider; `None` when it takes no part.
    pub fn arm(&self, provider: &ProviderId) -> Option<Arm> {
        if *provider == self.from {
            Some(Arm::From)
        } else if *provider == self.to {
            Some(Arm::To)
        } else {
            None
        }
    }

    /// The position that decides here: where `from` is closed there is no way back to it.
    pub const fn under(&self, kill: KillPosition) -> KillPosition {
        match kill {
            KillPosition::Off
            | KillPosition::Freeze
            | KillPosition::Legacy
            | KillPosition::Modern
                if self.closed =>
            {
                KillPosition::Modern
            }
            open @ (KillPosition::Off
            | KillPosition::Freeze
            | KillPosition::Legacy
            | KillPosition::Modern
            | KillPosition::Deny) => open,
        }
    }

    /// Whether an application is part of the rollout.
    pub fn covers(&self, app: &AppId) -> bool {
        self.apps.contains(app)
    }
}
