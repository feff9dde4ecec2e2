//! What is over before its time: logouts, and what an operator takes back.
//!
//! A revocation is written into the store before anybody is told that it holds, and is looked up in memory by every use of a
//! session, a token or a kept verdict: no lock, no I/O. It must never answer that something holds because the store is away,
//! and never forget an entry before everything it speaks about has ended by itself.

mod backchannel;
mod before;
mod denials;
mod fanout;
mod farewell;
mod follow;
mod handed;
mod held;
mod hex;
mod index;
mod lift;
mod list;
mod logins;
mod made;
mod meanwhile;
mod notice;
mod once;
mod origin;
mod owed;
mod record;
mod respelled;
mod rested;
mod signer;
mod standing;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod throttle;
mod told;
mod unread;

pub(crate) use backchannel::NotLoggedOut;
pub(crate) use denials::Barred;
pub(crate) use denials::Denial;
pub(crate) use fanout::Named;
pub(crate) use handed::CLOCKS;
pub(crate) use handed::Found;
pub(crate) use handed::HANDED_OUT;
pub(crate) use handed::HandOut;
pub(crate) use handed::Handed;
pub(crate) use list::Asked;
pub(crate) use list::ListError;
pub(crate) use list::Parts;
pub(crate) use list::Revocations;
pub(crate) use logins::Affected;
pub(crate) use logins::Login;
pub(crate) use notice::AGAIN;
pub(crate) use notice::LONGEST;
pub(crate) use notice::Notice;
pub(crate) use notice::Notices;
pub(crate) use notice::Spent;
#[cfg(test)]
pub(crate) use notice::TRIES;
pub(crate) use origin::Origin;
pub(crate) use record::Record;
pub(crate) use record::RevocationId;
pub(crate) use record::Source;
pub(crate) use record::Target;
pub(crate) use standing::Marks;
pub(crate) use standing::Standing;
