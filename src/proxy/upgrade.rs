//! What a connection is switched to: a checked request, a checked 101, then a tunnel. A WebSocket's knows where frames end;
//! what is in the protocols that a route names besides is nobody's here.

mod frames;
pub(crate) mod handshake;
mod named;
pub(crate) mod tunnel;

use http::HeaderMap;

#[cfg(any(test, fuzzing))]
pub(crate) use crate::proxy::upgrade::frames::Frames;
pub(crate) use crate::proxy::upgrade::handshake::AcceptError;
pub(crate) use crate::proxy::upgrade::handshake::Handshake;
pub(crate) use crate::proxy::upgrade::handshake::HandshakeError;
pub(crate) use crate::proxy::upgrade::named::Named;
use crate::proxy::upgrade::tunnel::Speech;
use crate::proxy::upstream_head::fields::Fields;

/// What a client asks to switch to, checked.
#[derive(Clone, Debug)]
pub(crate) enum Upgrade {
    /// A WebSocket (RFC 6455, RFC 8441).
    WebSocket(Handshake),
    /// A protocol that the route names.
    Named(Named),
}

impl Upgrade {
    /// Whether the client is answered 200 on a stream instead of 101 on a connection.
    pub(crate) const fn multiplexed(&self) -> bool {
        match self {
            Self::WebSocket(handshake) => handshake.multiplexed(),
            Self::Named(_) => false,
        }
    }

    /// What is spoken in its tunnel.
    pub(crate) const fn speech(&self) -> Speech {
        match self {
            Self::WebSocket(_) => Speech::Frames,
            Self::Named(_) => Speech::Bytes,
        }
    }

    /// Adds the request to the upstream head. Called by its builder only.
    pub(in crate::proxy) fn write(&self, into: &mut Fields) {
        match self {
            Self::WebSocket(handshake) => handshake.write(into),
            Self::Named(named) => named.write(into),
        }
    }

    /// Judges the head of the upstream's 101.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`]: nothing of it reaches the client.
    pub(crate) fn judge(&self, headers: &HeaderMap) -> Result<(), AcceptError> {
        match self {
            Self::WebSocket(handshake) => handshake.judge(headers),
            Self::Named(named) => named.judge(headers),
        }
    }

    /// Turns the judged head of the upstream into the one for this client.
    pub(crate) fn answer_fields(&self, headers: &mut HeaderMap) {
        match self {
            Self::WebSocket(handshake) => handshake.answer_fields(headers),
            Self::Named(named) => named.answer_fields(headers),
        }
    }
}
