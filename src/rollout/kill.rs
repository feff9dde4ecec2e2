//! The kill switch: positions and scopes. It stands outside the configuration.

use std::collections::BTreeMap;

use crate::rollout::stage::RolloutId;

/// A position of the kill switch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KillPosition {
    /// No effect.
    #[default]
    Off,
    /// Nothing moves.
    Freeze,
    /// All new logins and password checks at `from`.
    Legacy,
    /// All at `to`; credentials of `from` are quarantined.
    Modern,
    /// Everything is answered 503.
    Deny,
}

/// All inputs combined: the global position and one per rollout. The most restrictive wins.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KillState {
    /// For every rollout.
    pub global: KillPosition,
    /// For one rollout.
    pub rollouts: BTreeMap<RolloutId, KillPosition>,
}

impl KillPosition {
    /// `deny` > `modern`/`legacy` > `freeze` > `off`; `modern` and `legacy` together are `deny`.
    #[must_use]
    pub const fn combine(self, _other: Self) -> Self {
        todo!()
    }

    /// The word used in the file, the API and the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Freeze => "freeze",
            Self::Legacy => "legacy",
            Self::Modern => "modern",
            Self::Deny => "deny",
        }
    }
}

impl KillState {
    /// Reads the kill file: lines of `POSITION [rollout=ID]`. What cannot be read is an error that names the line;
    /// the caller keeps the last good state.
    ///
    /// # Errors
    ///
    /// The number of the line and what is wrong with it.
    pub fn parse(_text: &str) -> Result<Self, (usize, String)> {
        todo!()
    }

    /// The position that holds for one rollout.
    pub fn position(&self, _rollout: &RolloutId) -> KillPosition {
        todo!()
    }

    /// Both inputs together.
    #[must_use]
    pub fn combine(&self, _other: &Self) -> Self {
        todo!()
    }
}
