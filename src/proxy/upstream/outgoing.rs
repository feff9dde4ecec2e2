//! The request body on its way to the upstream, and whose turn it is.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::Method;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use tokio::time::Instant;

use crate::proxy::upstream::h1::Framing;

/// What hyper sends: nothing, or the client's body as it comes.
pub(crate) enum Outgoing<B> {
    /// Nothing; can be sent again.
    Empty,
    /// The client's body. What has been read of it is gone, so it can be sent once.
    Client(B, Rc<Upload>),
}

/// Whose turn it is in an upload: the time in which the upstream must answer runs only while it is the upstream's.
pub(crate) struct Upload {
    client_owes: Cell<bool>,
    since: Cell<Instant>,
}

impl Upload {
    /// Since when the upstream has had the turn; `None` while the client owes bytes.
    pub(super) fn upstream_owes_since(&self) -> Option<Instant> {
        (!self.client_owes.get()).then(|| self.since.get())
    }

    fn turn(&self, client_owes: bool) {
        self.client_owes.set(client_owes);
        if !client_owes {
            self.since.set(Instant::now());
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Outgoing<B> {
    /// Wraps the client's body; without one nothing is allocated.
    pub(super) fn new(body: Option<B>) -> Self {
        match body {
            Some(body) if !body.is_end_stream() => {
                let upload = Upload {
                    client_owes: Cell::new(false),
                    since: Cell::new(Instant::now()),
                };
                Self::Client(body, Rc::new(upload))
            }
            Some(_) | None => Self::Empty,
        }
    }

    /// Whether there is nothing to send, so that it can be sent again.
    pub(super) const fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(..) => false,
        }
    }

    /// How its end is said on HTTP/1.1. An empty body is said to be empty where methods are expected to have one
    /// (RFC 9110 §8.6).
    pub(super) fn framing(&self, method: &Method) -> Framing {
        match (self, self.size_hint().exact()) {
            (Self::Empty, _) if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
                Framing::Length(0)
            }
            (Self::Empty, _) => Framing::None,
            (Self::Client(..), Some(length)) => Framing::Length(length),
            (Self::Client(..), None) => Framing::Chunked,
        }
    }

    /// A view of the upload.
    pub(super) fn upload(&self) -> Option<Rc<Upload>> {
        match self {
            Self::Empty => None,
            Self::Client(_, upload) => Some(upload.clone()),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Outgoing<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(body, upload) => {
                let frame = Pin::new(body).poll_frame(cx);
                upload.turn(frame.is_pending());
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body, _) => body.size_hint(),
        }
    }
}
