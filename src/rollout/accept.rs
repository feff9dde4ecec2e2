//! *Accept*: is this class of credential of this provider honoured now?

use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::rollout::cohort::Cohorts;
use crate::rollout::facts::Facts;
use crate::rollout::kill::KillPosition;
use crate::rollout::stage::Arm;
use crate::rollout::stage::OtherArm;
use crate::rollout::stage::Plan;

/// The answer for one class of credential of one provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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

/// Asked twice: by class before verification (`facts.person` is `None`), by `except` cohort after it.
pub fn accept(
    _plan: &Plan,
    _cohorts: &Cohorts,
    _kill: KillPosition,
    _provider: &ProviderId,
    _class: CredentialClass,
    _facts: &Facts<'_>,
    _now: UnixTime,
) -> Acceptance {
    todo!()
}

/// What happens to a good API credential of `owner` when its person is assigned to `arm`.
pub fn other_arm(_plan: &Plan, _owner: Arm, _assigned: Arm, _class: CredentialClass) -> OtherArm {
    todo!()
}
