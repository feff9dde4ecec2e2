//! *Assign*: where does a new login start?

use crate::clock::UnixTime;
use crate::rollout::bucket::Bucket;
use crate::rollout::bucket::BucketKey;
use crate::rollout::cohort::CohortId;
use crate::rollout::cohort::Cohorts;
use crate::rollout::facts::Facts;
use crate::rollout::kill::KillPosition;
use crate::rollout::stage::Arm;
use crate::rollout::stage::Plan;

/// That a person has been on an arm, in an epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pin {
    /// Which arm.
    pub arm: Arm,
    /// In which epoch; an older one is void.
    pub epoch: u64,
}

/// Why an arm was chosen; its text form is the label `rule`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RuleRef {
    /// The kill switch.
    Kill,
    /// The mode leaves no choice.
    Mode,
    /// A pin of the present epoch.
    Pin,
    /// A cohort rule.
    Cohort(CohortId),
    /// A percent rule.
    Percent,
    /// No rule matched.
    Default,
    /// The assigned provider is away.
    Fallback,
}

/// Where a login starts, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Assignment {
    /// The arm.
    pub arm: Arm,
    /// Why.
    pub rule: RuleRef,
    /// The bucket that was compared, if one was.
    pub bucket: Option<Bucket>,
}

/// Kill switch, mode, pin, rules, percent, `from`: in this order.
pub fn assign(
    _plan: &Plan,
    _cohorts: &Cohorts,
    _key: &BucketKey,
    _kill: KillPosition,
    _pin: Option<Pin>,
    _facts: &Facts<'_>,
    _now: UnixTime,
) -> Assignment {
    todo!()
}
