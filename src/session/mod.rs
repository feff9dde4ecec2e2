//! What we remember of a browser: its session, and which arm its person has been on.
//!
//! A session is a row in the store, opened by a random cookie; the row alone opens nothing. Only this module can make
//! [`Restored`]. A store error is an outage: it must never look like a logout, and never like a session.

mod body;
mod came_by;
#[cfg(feature = "bench")]
mod crowd;
mod end;
mod found;
mod given;
mod handle;
mod handover;
mod id;
mod kept;
mod left;
mod lifetimes;
mod live;
#[cfg(test)]
mod named;
mod pins;
#[cfg(any(test, fuzzing))]
pub(crate) mod promises;
mod registry;
mod renew;
mod renewal;
mod restored;
mod rows;
mod seal;
mod sessions;
pub(crate) mod settings;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod size;
mod stays;
mod tight;
mod unread;
mod wrap;

pub(crate) use body::Backing;
pub(crate) use body::NewSession;
pub(crate) use body::Origin;
pub(crate) use came_by::CameBy;
#[cfg(feature = "bench")]
pub(crate) use crowd::Member;
pub(crate) use found::Known;
pub(crate) use handle::Before;
pub(crate) use handover::Owed;
pub(crate) use id::SessionId;
pub(crate) use kept::KEPT_FOR;
pub(crate) use left::LeftBehind;
pub(crate) use live::Live;
pub(crate) use pins::MAX_MOVED;
pub(crate) use pins::Pins;
pub(crate) use renew::AskAgain;
pub(crate) use renew::Renewed;
pub(crate) use renewal::Standing;
pub(crate) use restored::Restored;
pub(crate) use seal::KeyRing;
pub(crate) use seal::Purpose;
pub(crate) use seal::SealedUnder;
pub(crate) use sessions::Created;
pub(crate) use sessions::Farewell;
pub(crate) use sessions::Sessions;
pub(crate) use stays::Stay;
pub(crate) use wrap::OldSession;
