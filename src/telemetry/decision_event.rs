//! What a decision is called in the log, and whether somebody may be left with a page because of it.

use crate::telemetry::decision_log::Decision;

impl Decision<'_> {
    /// Whether somebody may be left with a page, and ask about it.
    pub(super) const fn ends_a_request(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Unavailable { .. } | Self::Fallback { .. }
        )
    }

    /// The name of its lines.
    pub(super) const fn event(&self) -> &'static str {
        match self {
            Self::Assigned { .. } => "decision.assigned",
            Self::Refused { .. } => "decision.refused",
            Self::Unavailable { .. } => "decision.unavailable",
            Self::OtherArm { .. } => "decision.other_arm",
            Self::Fallback { .. } => "decision.fallback",
            Self::Exchanged(_) => "decision.exchanged",
            Self::PasswordMoved { .. } => "decision.password_moved",
            Self::Token(_) => "decision.token",
            Self::Kill { .. } => "decision.kill",
            Self::Revoked { .. } => "decision.revoked",
            Self::Lifted { .. } => "decision.revocation_lifted",
        }
    }
}
