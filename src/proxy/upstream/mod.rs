//! Connections to applications: one pool per worker, no lock shared between workers.
//!
//! A connection returns to the pool only after a provably clean exchange, and no identity is ever kept with it.

mod answer;
mod connect;
mod group;
mod health;
mod link;
mod outgoing;
mod pool;
mod resolve;
mod switch;
mod target;
mod tls;
mod wire;

pub(crate) use crate::proxy::upstream::answer::AnswerFault;
pub(crate) use crate::proxy::upstream::answer::binds_connection;
pub(crate) use crate::proxy::upstream::connect::ConnectError;
pub(crate) use crate::proxy::upstream::link::Lease;
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
mod tests_h2;
