//! What drives a rollout beside its configuration: for now the kill switch.
//!
//! Nothing here stands in the path of a request, except for one pointer load.

mod kill;
mod kill_files;
mod record;

pub(crate) use kill::KillError;
pub(crate) use kill::KillSettings;
pub(crate) use kill::KillSwitch;
