//! Where a stage has people looked at a second time.

use crate::rollout::stage::AppId;

/// In which of its applications a stage has people looked at a second time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Shadowed {
    /// Wherever somebody gives a second opinion.
    #[default]
    All,
    /// In this one.
    Only(AppId),
    /// In none: other stages say where.
    Nowhere,
}

impl Shadowed {
    /// Whether people of an application are looked at.
    pub fn covers(&self, app: &AppId) -> bool {
        match self {
            Self::All => true,
            Self::Only(own) => own == app,
            Self::Nowhere => false,
        }
    }
}
