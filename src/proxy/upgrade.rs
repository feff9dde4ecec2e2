//! WebSockets, the only upgrade there is: a checked handshake, a checked 101, then a tunnel that knows frame boundaries.

mod frames;
pub(crate) mod handshake;
pub(crate) mod tunnel;

#[cfg(any(test, fuzzing))]
pub(crate) use crate::proxy::upgrade::frames::Frames;
pub(crate) use crate::proxy::upgrade::handshake::Handshake;
pub(crate) use crate::proxy::upgrade::handshake::HandshakeError;
