//! HTTP/1.1 to an upstream, driven by the task of the request itself: no task for the connection, no channel between the two.
//!
//! A connection that rests has nothing in its buffer and nothing to read; anything else is closed. RFC 9112.

mod content;
mod head;
#[cfg(any(test, fuzzing))]
pub(crate) mod promise;
mod sending;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use http::Response;
use http_body::Body;
use http_body::Frame;
use tokio::task::AbortHandle;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep_until;

use crate::proxy::upstream::answer::AnswerFault;
use crate::proxy::upstream::fault::LinkFault;
pub(crate) use crate::proxy::upstream::h1::content::Decoder;
use crate::proxy::upstream::h1::content::Piece;
use crate::proxy::upstream::h1::head::Head;
pub(crate) use crate::proxy::upstream::h1::sending::Framing;
use crate::proxy::upstream::h1::sending::SendFault;
use crate::proxy::upstream::h1::sending::Sending;
use crate::proxy::upstream::link::BoxError;
use crate::proxy::upstream::link::Failure;
use crate::proxy::upstream::link::MAX_HEAD;
use crate::proxy::upstream::link::overdue;
use crate::proxy::upstream::outgoing::Outgoing;
use crate::proxy::upstream::wire::Line;
use crate::proxy::upstream::wire::Stream;

/// What is read at once: at first, and at most when there is much. Each part of a large answer costs a call here and one
/// towards the client, and wakes both sides.
const READ: usize = 8 * 1024;
const MAX_READ: usize = 128 * 1024;

/// What may be read before the head of the answer has ended: interim answers and fields together. Default 256 KiB.
const MAX_HEAD_READ: usize = 256 * 1024;

/// The room for a request's head that a resting connection keeps.
const KEPT_ROOM: usize = 4 * 1024;

/// A connection.
pub(super) struct H1 {
    line: Rc<Line>,
    /// What has been read and belongs to nobody yet.
    buffer: BytesMut,
    /// How much of it has been looked at for the end of a head.
    looked: usize,
    /// How much is read at once.
    read: usize,
    /// Room for the next head.
    room: Vec<u8>,
    /// Kept with the connection: setting a later deadline is one atomic write.
    timer: Pin<Box<Sleep>>,
    /// Whether another request may follow.
    persists: bool,
    /// The rest of a request whose answer came before its end.
    upload: Option<Upload>,
    pub(super) born: Instant,
}

/// A task that sends the rest of a request. It ends with its owner.
struct Upload {
    done: Rc<Cell<bool>>,
    task: AbortHandle,
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request, as it goes over the wire.
pub(super) struct Message<B> {
    /// Writes the head; nothing else writes into the room it is given.
    pub(super) text: Vec<u8>,
    pub(super) framing: Framing,
    pub(super) body: Outgoing<B>,
    /// Whether the answer has no content, whatever it says (HEAD).
    pub(super) bodiless: bool,
}

impl H1 {
    pub(super) fn new(stream: Stream, now: Instant) -> Box<Self> {
        Box::new(Self {
            line: Rc::new(Line::new(stream)),
            buffer: BytesMut::new(),
            looked: 0,
            read: READ,
            room: Vec::new(),
            timer: Box::pin(sleep_until(now)),
            persists: true,
            upload: None,
            born: now,
        })
    }

    /// Whether the last exchange left nothing behind: no byte of it is under way in either direction.
    pub(super) fn is_clean(&self) -> bool {
        let sent = self.upload.as_ref().is_none_or(|upload| upload.done.get());
        self.persists && sent && self.buffer.is_empty() && self.line.holds_nothing()
    }

    /// A clean exchange has ended.
    pub(super) fn rest(&mut self) {
        self.upload = None;
        // Room for much is not kept by who rests.
        if READ < self.read {
            self.buffer = BytesMut::new();
            self.read = READ;
        }
    }

    /// Whether nothing has come since, as far as the reactor knows. The kernel is asked only when there is something.
    pub(super) fn seems_quiet(&self) -> bool {
        self.line.seems_quiet()
    }

    /// Asks the kernel whether nothing has come since.
    pub(super) fn is_quiet(&self) -> bool {
        self.line.is_quiet()
    }

    /// Room for the head of a request.
    pub(super) fn room(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.room)
    }

    /// Sends a request and waits for the head of its answer. `limit` runs while it is the upstream's turn.
    pub(super) async fn exchange<B>(
        &mut self,
        message: Message<B>,
        limit: Duration,
        now: Instant,
    ) -> Result<Response<Decoder>, Failure<B>>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let turn = message.body.upload();
        let bodiless = message.bodiless;
        let mut sending = Some(Sending::new(message.text, message.framing, message.body));
        let (mut got, mut broken) = (0, None);
        self.timer.as_mut().reset(now + limit);
        let head = poll_fn(|cx| {
            if let Some(mut under_way) = sending.take() {
                match under_way.poll(cx, &self.line) {
                    Poll::Pending => sending = Some(under_way),
                    Poll::Ready(Ok(())) => self.keep_room(under_way.into_room()),
                    Poll::Ready(Err(SendFault::Client(error))) => {
                        return Poll::Ready(Err(Failure::broken(
                            LinkFault::ClientBody(error),
                            got,
                        )));
                    }
                    Poll::Ready(Err(SendFault::Io(_))) if !under_way.has_begun() => {
                        return Poll::Ready(Err(Failure::Unsent(under_way.into_body())));
                    }
                    // It may have answered before it closed.
                    Poll::Ready(Err(SendFault::Io(error))) => {
                        self.persists = false;
                        broken = Some(error);
                    }
                }
            }
            match self.poll_head(cx, bodiless, &mut got) {
                Poll::Ready(Ok(head)) => return Poll::Ready(Ok(head)),
                Poll::Ready(Err(LinkFault::Io(error))) => {
                    let first = broken.take().unwrap_or(error);
                    return Poll::Ready(Err(Failure::broken(LinkFault::Io(first), got)));
                }
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(Failure::broken(fault, got))),
                Poll::Pending => {}
            }
            if overdue(self.timer.as_mut(), cx, turn.as_deref(), limit) {
                return Poll::Ready(Err(Failure::Timeout));
            }
            Poll::Pending
        })
        .await?;
        self.persists &= head.persists && !head.framing.ends_with_connection();
        if let Some(rest) = sending {
            self.upload = Some(self.send_rest(rest));
        }
        let mut response = Response::new(head.framing);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    /// The head of the answer; interim ones are skipped. `got` counts what was read.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        bodiless: bool,
        got: &mut usize,
    ) -> Poll<Result<Head, LinkFault>> {
        loop {
            while head::may_end(&self.buffer, self.looked)
                && let Some(head) = head::parse(&mut self.buffer, bodiless)?
            {
                self.looked = 0;
                // 101 is judged by whoever asked.
                if !head.status.is_informational() || head.status.as_u16() == 101 {
                    return Poll::Ready(Ok(head));
                }
            }
            self.looked = self.buffer.len();
            if MAX_HEAD < self.buffer.len() || MAX_HEAD_READ < *got {
                return Poll::Ready(Err(AnswerFault::Malformed.into()));
            }
            match ready!(self.poll_read(cx))? {
                0 => return Poll::Ready(Err(LinkFault::ended())),
                n => *got += n,
            }
        }
    }

    /// The next part of the answer's content, or its trailers.
    pub(super) fn poll_content(
        &mut self,
        decoder: &mut Decoder,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LinkFault>>> {
        loop {
            match decoder.decode(&mut self.buffer) {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::Trailers(fields)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::More) => {}
                Err(fault) => return Poll::Ready(Some(Err(fault.into()))),
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) if decoder.end_with_connection() => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(LinkFault::ended()))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.reserve(self.read);
        let n = ready!(self.line.poll_read(cx, &mut self.buffer))?;
        // There is more than fits: larger parts cost less.
        if self.read <= n {
            self.read = (self.read * 2).min(MAX_READ);
        }
        Poll::Ready(Ok(n))
    }

    fn keep_room(&mut self, mut room: Vec<u8>) {
        if room.capacity() <= KEPT_ROOM {
            room.clear();
            self.room = room;
        }
    }

    /// An answer that comes before the request has ended: a client that reads only once it has said everything must not
    /// wait for us to read on.
    fn send_rest<B>(&self, mut rest: Sending<B>) -> Upload
    where
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (done, line) = (Rc::new(Cell::new(false)), self.line.clone());
        let said = done.clone();
        let task = spawn_local(async move {
            match poll_fn(|cx| rest.poll(cx, &line)).await {
                Ok(()) => said.set(true),
                // The upstream must not take what it has for all.
                Err(SendFault::Io(_) | SendFault::Client(_)) => line.shut(),
            }
        });
        Upload {
            done,
            task: task.abort_handle(),
        }
    }
}
