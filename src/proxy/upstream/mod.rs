//! Connections to applications: one pool per worker, no lock shared between workers.
//!
//! A connection returns to the pool only after a provably clean exchange, and no identity is ever kept with it.

mod answer;
mod connect;
mod fault;
mod group;
mod h1;
mod health;
mod link;
mod outgoing;
mod pool;
mod resolve;
mod rests;
mod switch;
mod target;
mod tls;
mod wire;

pub(crate) use crate::proxy::upstream::answer::Answer;
pub(crate) use crate::proxy::upstream::answer::AnswerFault;
pub(crate) use crate::proxy::upstream::answer::binds_connection;
pub(crate) use crate::proxy::upstream::connect::ConnectError;
pub(crate) use crate::proxy::upstream::fault::LinkFault;
pub(crate) use crate::proxy::upstream::h1::Framing;
#[cfg(any(test, fuzzing))]
pub(crate) use crate::proxy::upstream::h1::promise::answer;
pub(crate) use crate::proxy::upstream::link::BoxError;
pub(crate) use crate::proxy::upstream::link::Lease;
pub(crate) use crate::proxy::upstream::link::Received;
pub(crate) use crate::proxy::upstream::pool::Pool;
pub(crate) use crate::proxy::upstream::pool::SendError;
pub(crate) use crate::proxy::upstream::resolve::Resolver;
pub(crate) use crate::proxy::upstream::switch::Switched;
pub(crate) use crate::proxy::upstream::target::Target;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_h1;
#[cfg(test)]
mod tests_h2;
