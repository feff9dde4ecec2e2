//! The body of an answer: nothing, a page of ours, or what the upstream sends, streamed.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;

use crate::proxy::upstream_head::drop_unforwardable;

/// What happens when an answer has ended.
pub(crate) trait OnEnd: 'static {
    /// Called exactly once. `complete` is false when the client or the upstream broke off.
    fn ended(&mut self, bytes: u64, complete: bool);
}

/// The body of an answer.
pub(crate) struct ResponseBody<E: OnEnd> {
    kind: Kind,
    bytes: u64,
    complete: bool,
    end: Option<E>,
}

enum Kind {
    Full(Option<Bytes>),
    Upstream(Incoming),
}

impl<E: OnEnd> ResponseBody<E> {
    /// A whole answer of ours.
    pub(crate) fn full(bytes: Bytes, end: Option<E>) -> Self {
        let content = if bytes.is_empty() { None } else { Some(bytes) };
        Self { complete: content.is_none(), kind: Kind::Full(content), bytes: 0, end }
    }

    /// An answer of the upstream.
    pub(crate) fn upstream(body: Incoming, end: Option<E>) -> Self {
        Self { complete: body.is_end_stream(), kind: Kind::Upstream(body), bytes: 0, end }
    }
}

impl<E: OnEnd + Unpin> Body for ResponseBody<E> {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match &mut this.kind {
            Kind::Full(content) => match content.take() {
                Some(bytes) => {
                    this.bytes = bytes.len() as u64;
                    this.complete = true;
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                None => Poll::Ready(None),
            },
            Kind::Upstream(body) => match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let frame = match frame.into_trailers() {
                        Ok(trailers) => Frame::trailers(clean(trailers)),
                        Err(frame) => {
                            if let Some(data) = frame.data_ref() {
                                this.bytes = this.bytes.saturating_add(data.len() as u64);
                            }
                            frame
                        }
                    };
                    this.complete = body.is_end_stream();
                    Poll::Ready(Some(Ok(frame)))
                }
                // The client's connection is cut: half an answer must not look like a whole one.
                Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
                None => {
                    this.complete = true;
                    Poll::Ready(None)
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(content) => content.is_none(),
            Kind::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(content) => SizeHint::with_exact(content.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Upstream(body) => body.size_hint(),
        }
    }
}

/// Trailers pass (gRPC), less what belongs to one connection.
fn clean(mut trailers: HeaderMap) -> HeaderMap {
    drop_unforwardable(&mut trailers);
    trailers
}

impl<E: OnEnd> Drop for ResponseBody<E> {
    fn drop(&mut self) {
        if let Some(mut end) = self.end.take() {
            end.ended(self.bytes, self.complete);
        }
    }
}

impl<E: OnEnd> fmt::Debug for ResponseBody<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("bytes", &self.bytes).field("complete", &self.complete).finish_non_exhaustive()
    }
}
