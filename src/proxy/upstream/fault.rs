//! Why an exchange with an upstream failed, whichever version of HTTP it was in.

use std::io;

use crate::proxy::upstream::answer::AnswerFault;
use crate::proxy::upstream::link::BoxError;

/// What went wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkFault {
    /// The connection failed, or ended in the middle.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// HTTP/2 says why.
    #[error(transparent)]
    H2(#[from] hyper::Error),
    /// What came is not HTTP, or not framed as it should be.
    #[error(transparent)]
    Answer(#[from] AnswerFault),
    /// The client's body broke off, or came too slowly; its error is the source.
    #[error("the request body broke off")]
    ClientBody(#[source] BoxError),
}

impl LinkFault {
    /// The connection ended before what was due had come.
    pub(super) fn ended() -> Self {
        Self::Io(io::ErrorKind::UnexpectedEof.into())
    }
}
