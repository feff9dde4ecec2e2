//! The body of a client's request: streamed, without trailers, and cut when it does not make progress.

use std::cell::Cell;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Buf;
use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep_until;
use zeroize::Zeroizing;

use crate::proxy::conn::Conn;
use crate::proxy::settings::Limits;

/// The body of a request. Trailers are dropped: nothing a client says after the head can become a header upstream.
///
/// Without a body nothing is allocated.
pub(crate) struct ClientBody {
    inner: Incoming,
    pace: Option<Rc<Pace>>,
    /// What is left of the client's time: waiting uses it up, bytes give it back.
    allowance: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    glimpse: Option<Glimpse>,
}

/// What has passed of a body, kept beside it up to a bound and cleared when dropped: nothing waits for it, and nothing is
/// changed by it.
#[derive(Clone)]
pub(crate) struct Glimpse(Rc<RefCell<Passed>>);

struct Passed {
    /// `None`: there was too much.
    bytes: Option<Zeroizing<Vec<u8>>>,
    most: usize,
}

impl Glimpse {
    fn of(most: usize) -> Self {
        // It never grows: what a longer one is copied from would not be cleared.
        let bytes = Some(Zeroizing::new(Vec::with_capacity(most)));
        Self(Rc::new(RefCell::new(Passed { bytes, most })))
    }

    fn add(&self, data: &[u8]) {
        let mut passed = self.0.borrow_mut();
        let most = passed.most;
        if let Some(bytes) = &mut passed.bytes {
            if data.len() <= most.saturating_sub(bytes.len()) {
                bytes.extend_from_slice(data);
            } else {
                passed.bytes = None;
            }
        }
    }

    /// All of it, once, and nothing of what is still to pass; `None`: there was too much.
    pub(super) fn take(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.0.borrow_mut().bytes.take()
    }
}

impl fmt::Debug for Glimpse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[glimpse]")
    }
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientBodyError {
    /// Fewer than `body_rate` bytes a second for longer than `body_grace`.
    #[error("the request body makes no progress")]
    TooSlow,
    /// The client broke its framing, reset the stream or went away.
    #[error("the request body broke off")]
    Broken(#[source] hyper::Error),
}

/// What is known about a body while others read it.
#[derive(Debug)]
struct Pace {
    conn: Rc<Conn>,
    received: Cell<u64>,
    ended: Cell<bool>,
    unpaced: Cell<bool>,
}

/// A view of a body that somebody else reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Option<Rc<Pace>>);

impl Progress {
    /// Bytes the client has sent of this body.
    pub(crate) fn received(&self) -> u64 {
        self.0.as_ref().map_or(0, |pace| pace.received.get())
    }

    /// Whether all of it has been read.
    pub(super) fn ended(&self) -> bool {
        self.0.as_ref().is_none_or(|pace| pace.ended.get())
    }

    /// From here on the client may send as slowly as it likes: the upstream has begun to answer, or the request is an
    /// admitted stream whose ends talk in turns (gRPC).
    pub(crate) fn unpace(&self) {
        if let Some(pace) = &self.0 {
            pace.unpaced.set(true);
        }
    }
}

impl ClientBody {
    /// Wraps what hyper read from `conn`.
    pub(crate) fn new(inner: Incoming, conn: &Rc<Conn>) -> Self {
        let pace = (!inner.is_end_stream()).then(|| {
            Rc::new(Pace {
                conn: conn.clone(),
                received: Cell::new(0),
                ended: Cell::new(false),
                unpaced: Cell::new(false),
            })
        });
        Self {
            allowance: conn.limits().body_grace,
            inner,
            pace,
            waiting: None,
            glimpse: None,
        }
    }

    /// Keeps what passes of it, beside it; `None`: it does not say how long it is, or is longer than `most`, or nothing.
    pub(super) fn glimpse(&mut self, most: usize) -> Option<Glimpse> {
        let length = usize::try_from(self.inner.size_hint().exact()?).ok()?;
        if self.is_empty() || most < length {
            return None;
        }
        let glimpse = Glimpse::of(length);
        self.glimpse = Some(glimpse.clone());
        Some(glimpse)
    }

    /// A view that outlives the body. Without a body it is free.
    pub(crate) fn progress(&self) -> Progress {
        Progress(self.pace.clone())
    }

    /// Whether the client may still send something. Then a request cannot be sent to an upstream twice.
    pub(crate) fn is_empty(&self) -> bool {
        self.pace.is_none()
    }

    /// Charges the time the client let us wait.
    fn stop_waiting(&mut self, bytes: usize, limits: &Limits) {
        let waited = self
            .waiting
            .take()
            .map_or(Duration::ZERO, |(since, _)| since.elapsed());
        let earned = u64::try_from(bytes)
            .unwrap_or(u64::MAX)
            .saturating_mul(1_000_000_000)
            / limits.body_rate.max(1);
        self.allowance = self
            .allowance
            .saturating_sub(waited)
            .saturating_add(Duration::from_nanos(earned))
            .min(limits.body_grace);
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let this = &mut *self;
        let Some(pace) = this.pace.clone() else {
            return Poll::Ready(None);
        };
        loop {
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        let n = data.remaining();
                        this.stop_waiting(n, pace.conn.limits());
                        pace.received.set(
                            pace.received
                                .get()
                                .saturating_add(u64::try_from(n).unwrap_or(u64::MAX)),
                        );
                        if let Some(glimpse) = &this.glimpse {
                            glimpse.add(&data);
                        }
                        if this.inner.is_end_stream() {
                            pace.ended.set(true);
                        }
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    // Trailers: the end follows.
                    Err(_) => continue,
                },
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(ClientBodyError::Broken(error))));
                }
                Poll::Ready(None) => {
                    pace.ended.set(true);
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
            if pace.unpaced.get() {
                return Poll::Pending;
            }
            let allowance = this.allowance;
            let (_, timer) = this.waiting.get_or_insert_with(|| {
                let now = Instant::now();
                (now, Box::pin(sleep_until(now + allowance)))
            });
            ready!(timer.as_mut().poll(cx));
            if pace.unpaced.get() {
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(ClientBodyError::TooSlow)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pace.as_ref().is_none_or(|pace| pace.ended.get()) || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Some(pace) = &self.pace
            && !pace.ended.get()
        {
            pace.conn.vitals().leave_body_unread();
        }
    }
}

impl fmt::Debug for ClientBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBody")
            .field("empty", &self.is_empty())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(length: usize, pieces: &[&str]) -> Option<String> {
        let glimpse = Glimpse::of(length);
        let view = glimpse.clone();
        for piece in pieces {
            glimpse.add(piece.as_bytes());
        }
        assert_eq!(format!("{view:?}"), "[glimpse]");
        let bytes = view.take()?;
        assert!(view.take().is_none(), "once");
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn what_passes_is_kept_whole_or_not_at_all() {
        assert_eq!(seen(4, &["ab", "", "cd"]).as_deref(), Some("abcd"));
        assert_eq!(seen(4, &["abcd"]).as_deref(), Some("abcd"));
        // More than it was said to be.
        assert_eq!(seen(4, &["ab", "cde"]), None);
        assert_eq!(seen(4, &["ab", "cde", "f"]), None);
        assert_eq!(seen(2, &["abcdefghijklmnop"]), None);
    }
}
