//! The body of an answer: ours, or the upstream's as it comes, with somebody who learns how it ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http::header;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;

use crate::proxy::patrol::Ticket;
use crate::proxy::protected::Protected;
use crate::proxy::upstream::Lease;
use crate::proxy::upstream::LinkFault;
use crate::proxy::upstream::Received;
use crate::telemetry::metrics::TunnelEnd;

/// How a body ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// All of it was handed to the client's connection.
    Complete,
    /// The upstream broke off, or the client went away.
    Aborted,
}

/// Learns how an answer ended: exactly once, whatever happens.
pub(crate) trait OnEnd: Unpin {
    /// `bytes` of content were passed on; framing is not counted.
    fn end(self, bytes: u64, ended: Ended);

    /// Has the answer looked after while its next bytes are waited for; `None`: nobody can be put out.
    fn watch(&self, _waker: &Waker) -> Option<Ticket> {
        None
    }

    /// The answer is ended before its time.
    fn cut(&mut self, _why: TunnelEnd) {}
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The upstream's connection failed.
    #[error(transparent)]
    Upstream(#[from] LinkFault),
    /// Its reader may no longer have it.
    #[error("the session or the token is {}", .0.as_str())]
    Cut(TunnelEnd),
}

/// The body of an answer.
pub(crate) struct ResponseBody<B, E: OnEnd> {
    content: Content<B>,
    meter: Meter<E>,
    ticket: Option<Ticket>,
    /// What ends the answer before its time, once what came before it has been sent.
    broken: Option<BodyError>,
    /// An event stream (`text/event-stream`) has no end of its own: it ends in order, and with its reader's session or token.
    events: bool,
}

enum Content<B> {
    Empty,
    Full(Bytes),
    Upstream {
        received: Received,
        /// Until the last byte has come.
        lease: Option<Lease<B>>,
        trailers: Option<Arc<Protected>>,
    },
}

impl<B, E: OnEnd> ResponseBody<B, E> {
    /// No content.
    pub(crate) const fn empty(end: E) -> Self {
        Self {
            content: Content::Empty,
            meter: Meter::new(end),
            ticket: None,
            broken: None,
            events: false,
        }
    }

    /// Content of ours.
    pub(crate) const fn full(content: Bytes, end: E) -> Self {
        Self {
            content: Content::Full(content),
            meter: Meter::new(end),
            ticket: None,
            broken: None,
            events: false,
        }
    }

    /// The upstream's content. Its connection goes back to the pool when the last byte has come, and is closed when this
    /// is dropped before.
    pub(super) fn upstream(
        received: Received,
        lease: Lease<B>,
        trailers: Option<Arc<Protected>>,
        events: bool,
        end: E,
    ) -> Self {
        let mut body = Self {
            content: Content::Upstream {
                received,
                lease: Some(lease),
                trailers,
            },
            meter: Meter::new(end),
            ticket: None,
            broken: None,
            events,
        };
        if body.is_end_stream() {
            body.release();
        }
        body
    }

    /// Why the answer must end now. A file that is under way ends with a revocation, or with what its reader was, not with the life
    /// of the token that it was asked for with.
    fn must_end(&self) -> Option<TunnelEnd> {
        let why = self.ticket.as_ref()?.cut()?;
        (self.events || why != TunnelEnd::Expired).then_some(why)
    }

    /// Ends the answer: an event stream in order, anything else such that it does not look complete.
    fn cut(&mut self, why: TunnelEnd) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.ticket = None;
        // The upstream's connection is in the middle of an answer: it is closed with its lease.
        self.content = Content::Empty;
        self.meter.cut(why);
        if self.events {
            self.meter.end(Ended::Complete);
            return None;
        }
        self.meter.end(Ended::Aborted);
        Some(Err(BodyError::Cut(why)))
    }

    /// The next bytes are waited for.
    fn wait(&mut self, waker: &Waker) {
        match &self.ticket {
            Some(ticket) => ticket.wakes(waker),
            None => self.ticket = self.meter.watch(waker),
        }
    }

    /// The upstream has said everything.
    fn release(&mut self) {
        if let Content::Upstream { lease, .. } = &mut self.content
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
    }
}

impl<B, E: OnEnd> Body for ResponseBody<B, E> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(why) = this.must_end() {
            return Poll::Ready(this.cut(why));
        }
        let polled = match &mut this.content {
            _ if this.broken.is_some() => this.broken.take().map(Err),
            Content::Empty => None,
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
            }
            Content::Upstream { lease: None, .. } => None,
            Content::Upstream {
                received,
                lease: Some(lease),
                trailers,
            } => match lease.poll_content(received, cx) {
                Poll::Pending => {
                    this.wait(cx.waker());
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(error))) => {
                    // The client's connection is closed at once by an error, with whatever has not been sent: a client that
                    // got nothing at all might ask again.
                    this.broken = Some(error.into());
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {
                    let passing = frame
                        .into_trailers()
                        .ok()
                        .and_then(|fields| passing(&fields, trailers.as_deref()?));
                    passing.map(|fields| Ok(Frame::trailers(fields)))
                }
                Poll::Ready(Some(Ok(frame))) => Some(Ok(frame)),
                Poll::Ready(None) => None,
            },
        };
        match &polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.meter.count(data.len());
                }
                if frame.is_trailers() || this.is_end_stream() {
                    this.release();
                    this.meter.end(Ended::Complete);
                }
            }
            Some(Err(_)) => this.meter.end(Ended::Aborted),
            None => {
                this.release();
                this.meter.end(Ended::Complete);
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(bytes) => bytes.is_empty(),
            Content::Upstream { received, .. } => received.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Content::Upstream { received, .. } => received.size_hint(),
        }
    }
}

impl<B, E: OnEnd> Drop for ResponseBody<B, E> {
    fn drop(&mut self) {
        // A body of which nothing is left to read is complete though nobody read it to its end: HEAD, 204, 304.
        if self.is_end_stream() {
            self.release();
            self.meter.end(Ended::Complete);
        }
    }
}

/// Counts, and tells once.
struct Meter<E: OnEnd> {
    end: Option<E>,
    bytes: u64,
}

impl<E: OnEnd> Meter<E> {
    fn watch(&self, waker: &Waker) -> Option<Ticket> {
        self.end.as_ref()?.watch(waker)
    }

    fn cut(&mut self, why: TunnelEnd) {
        if let Some(end) = &mut self.end {
            end.cut(why);
        }
    }

    const fn new(end: E) -> Self {
        Self {
            end: Some(end),
            bytes: 0,
        }
    }

    fn count(&mut self, bytes: usize) {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn end(&mut self, ended: Ended) {
        if let Some(end) = self.end.take() {
            end.end(self.bytes, ended);
        }
    }
}

impl<E: OnEnd> Drop for Meter<E> {
    fn drop(&mut self) {
        self.end(Ended::Aborted);
    }
}

/// The trailers that may pass (RFC 9110 §6.5.1): nothing that frames, routes, authenticates or steers, and none of our
/// names. `None` when nothing is left.
fn passing(fields: &HeaderMap, protected: &Protected) -> Option<HeaderMap> {
    let mut kept = HeaderMap::new();
    for (name, value) in fields {
        let steers = matches!(
            *name,
            header::AGE
                | header::CACHE_CONTROL
                | header::CONTENT_ENCODING
                | header::CONTENT_LOCATION
                | header::CONTENT_RANGE
                | header::CONTENT_SECURITY_POLICY
                | header::CONTENT_TYPE
                | header::DATE
                | header::EXPIRES
                | header::LOCATION
                | header::RETRY_AFTER
                | header::SET_COOKIE
                | header::STRICT_TRANSPORT_SECURITY
                | header::VARY
                | header::WARNING
                | header::WWW_AUTHENTICATE
        );
        if !steers && !protected.contains(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    (!kept.is_empty()).then_some(kept)
}
