//! What happened, told to whoever counts and logs it. No subject, token, cookie or address is ever told.

use std::fmt;
use std::time::Duration;

use crate::identity::CanonicalSubject;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::OtherArm;
use crate::rollout::RolloutId;

/// What became of one attempt: the label `outcome` of `authferry_auth_attempts_total`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Attempt {
    /// Admitted, or logged in.
    Success,
    /// Refused, and why.
    Rejected(crate::identity::Refusal),
    /// No judgement, and why.
    Unavailable(crate::identity::Outage),
    /// Given up by the person.
    Abandoned,
}

/// The label `flow`: a class of credential, or a login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flow {
    /// A presented credential.
    Credential(CredentialClass),
    /// A browser login.
    Login,
}

/// What a login journey did: the label `event` of `authferry_login_journeys_total`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Journey {
    /// Began.
    Started,
    /// Ended in a session.
    Succeeded,
    /// Ended in a page.
    Failed,
    /// Began again, at another provider or stage.
    Restarted,
}

/// One decision about somebody who is known: for the decision log, which knows the pseudonym key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decision<'a> {
    /// The application.
    pub(crate) app: &'a AppId,
    /// The rollout.
    pub(crate) rollout: &'a RolloutId,
    /// Who: never written as such.
    pub(crate) canonical: &'a CanonicalSubject,
    /// Where they are assigned.
    pub(crate) assigned: Arm,
    /// By which rule.
    pub(crate) rule: &'a str,
}

/// Counts and logs. Every method may be called on the data path and must not wait.
pub(crate) trait Watch: fmt::Debug + Send + Sync {
    /// One attempt came to its end.
    fn attempt(
        &self,
        _app: &AppId,
        _provider: Option<&ProviderId>,
        _flow: Flow,
        _attempt: Attempt,
        _took: Duration,
    ) {
    }

    /// A login was assigned.
    fn assigned(&self, _rollout: &RolloutId, _arm: Arm, _rule: &str) {}

    /// A login journey moved on.
    fn journey(&self, _rollout: &RolloutId, _arm: Arm, _journey: Journey) {}

    /// A good API credential came from the arm that its person is not on.
    fn other_arm(&self, _decision: Decision<'_>, _class: CredentialClass, _answer: OtherArm) {}

    /// A browser went round in circles and was stopped.
    fn bounce_refused(&self, _app: &AppId) {}

    /// A login took the fallback.
    fn fallback(&self, _app: &AppId, _from: &ProviderId, _to: &ProviderId, _outage: &str) {}

    /// A fallback did not open.
    fn fallback_refused(&self, _app: &AppId, _reason: &'static str) {}

    /// A subject was linked, or was not.
    fn linked(&self, _outcome: &'static str) {}
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unwatched;

impl Watch for Unwatched {}
