//! What drives a rollout beside its configuration: evidence, people, the clock, and above all the kill switch; and who was
//! seen lately, for those who ask before they change it.
//!
//! Nothing here stands in the path of a request, except for one pointer load.

mod closing;
mod conductor;
mod drill;
mod exposure;
mod journeys;
mod keeper;
mod kill;
mod kill_files;
mod kill_told;
mod kill_watch;
mod partners;
mod record;
mod seen;
mod shared;
mod stragglers;
mod surface;

pub(crate) use closing::Account;
pub(crate) use closing::Closing;
pub(crate) use closing::ClosingParts;
pub(crate) use closing::NotOrdered;
pub(crate) use closing::Order;
pub(crate) use closing::Side;
pub(crate) use conductor::Conductor;
pub(crate) use conductor::Parts;
pub(crate) use conductor::Stage;
pub(crate) use conductor::Standing;
pub(crate) use drill::Drills;
pub(crate) use drill::Upset;
pub(crate) use exposure::Asked;
pub(crate) use exposure::Exposure;
pub(crate) use journeys::Departure;
pub(crate) use journeys::Journeys;
#[cfg(test)]
pub(crate) use journeys::Rules;
pub(crate) use journeys::Traveller;
pub(crate) use kill::KillError;
pub(crate) use kill::KillSettings;
pub(crate) use kill::KillSwitch;
pub(crate) use partners::KEEP as KEEP_PARTNERS;
pub(crate) use partners::PARTNERS;
pub(crate) use partners::Partners;
pub(crate) use seen::Seen;
pub(crate) use seen::Somebody;
pub(crate) use seen::Used;
pub(crate) use shared::Shared;
pub(crate) use stragglers::STRAGGLERS;
pub(crate) use stragglers::Stragglers;
pub(crate) use surface::Answered;
pub(crate) use surface::Kind as SurfaceKind;
pub(crate) use surface::Ours;
pub(crate) use surface::Shard as SurfaceShard;
pub(crate) use surface::Surface;
pub(crate) use surface::agreed;
