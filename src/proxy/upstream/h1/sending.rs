//! A request on its way to the upstream: its head, then the client's body as it comes.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Buf as _;
use bytes::Bytes;
use http_body::Body;

use crate::proxy::upstream::link::BoxError;
use crate::proxy::upstream::outgoing::Outgoing;
use crate::proxy::upstream::wire::Line;

/// How the end of a request's content is said (RFC 9112 §6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Framing {
    /// There is none, and nobody expects any.
    None,
    /// So many bytes.
    Length(u64),
    /// Each part says how long it is.
    Chunked,
}

/// What is still to be sent.
pub(super) struct Sending<B> {
    /// The head, later the sizes of chunks.
    text: Vec<u8>,
    at: usize,
    /// Content, behind `text`.
    data: Bytes,
    /// Whether a line end follows the content.
    ends_line: bool,
    framing: Framing,
    body: Outgoing<B>,
    /// Whether everything has been put into the fields above.
    complete: bool,
    /// Whether a byte has left.
    begun: bool,
}

/// Why a request could not be sent to its end.
pub(super) enum SendFault {
    /// The upstream's connection.
    Io(io::Error),
    /// The client's body.
    Client(BoxError),
}

impl<B> Sending<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// `text` is the head.
    pub(super) fn new(text: Vec<u8>, framing: Framing, body: Outgoing<B>) -> Self {
        Self {
            complete: body.is_empty(),
            text,
            at: 0,
            data: Bytes::new(),
            ends_line: false,
            framing,
            body,
            begun: false,
        }
    }

    /// Whether a byte has left.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// The body, of which nothing has been sent.
    pub(super) fn into_body(self) -> Outgoing<B> {
        self.body
    }

    /// The room that the text took.
    pub(super) fn into_room(self) -> Vec<u8> {
        self.text
    }

    /// Sends what there is; ready when all of it has left.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        line: &Line,
    ) -> Poll<Result<(), SendFault>> {
        loop {
            ready!(self.poll_write(cx, line)).map_err(SendFault::Io)?;
            // Nothing can follow; that the body says so itself may take another frame of the client.
            if self.complete || self.framing == Framing::Length(0) {
                return line.poll_flush(cx).map_err(SendFault::Io);
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    // What has come so far is on its way before more is waited for.
                    let _flushed = line.poll_flush(cx).map_err(SendFault::Io)?;
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers of a client are never forwarded.
                    if let Ok(data) = frame.into_data() {
                        self.put(data)?;
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(SendFault::Client(error.into())));
                }
                Poll::Ready(None) => self.finish()?,
            }
        }
    }

    fn put(&mut self, data: Bytes) -> Result<(), SendFault> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::None => return Err(Self::misfit()),
            Framing::Length(left) => {
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                *left = left.checked_sub(length).ok_or_else(Self::misfit)?;
            }
            Framing::Chunked => {
                self.text.clear();
                self.at = 0;
                // Writing to a Vec does not fail.
                let _written =
                    io::Write::write_fmt(&mut self.text, format_args!("{:x}\r\n", data.len()));
                self.ends_line = true;
            }
        }
        self.data = data;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SendFault> {
        match self.framing {
            Framing::None | Framing::Length(0) => {}
            // The upstream waits for bytes that will not come.
            Framing::Length(_) => return Err(Self::misfit()),
            Framing::Chunked => {
                self.text.clear();
                self.at = 0;
                self.text.extend_from_slice(b"0\r\n\r\n");
            }
        }
        self.complete = true;
        Ok(())
    }

    /// A body that is not as long as was said would end in the middle of the next request, or never.
    fn misfit() -> SendFault {
        SendFault::Client("the body is not as long as was said".into())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, line: &Line) -> Poll<io::Result<()>> {
        loop {
            let text = self.text.get(self.at..).unwrap_or_default();
            let tail: &[u8] = if self.ends_line { b"\r\n" } else { b"" };
            let n = if self.data.is_empty() && tail.is_empty() {
                if text.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                ready!(line.poll_write(cx, text))?
            } else if text.is_empty() && tail.is_empty() {
                ready!(line.poll_write(cx, &self.data))?
            } else {
                let parts = [
                    IoSlice::new(text),
                    IoSlice::new(&self.data),
                    IoSlice::new(tail),
                ];
                ready!(line.poll_write_vectored(cx, &parts))?
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.advance(n);
        }
    }

    fn advance(&mut self, mut n: usize) {
        let text = n.min(self.text.len() - self.at);
        self.at += text;
        n -= text;
        let data = n.min(self.data.len());
        self.data.advance(data);
        n -= data;
        // A line end of which one byte has left: the other is text.
        if self.ends_line && self.data.is_empty() && 0 < n {
            self.ends_line = false;
            if n == 1 {
                self.text.clear();
                self.at = 0;
                self.text.push(b'\n');
            }
        }
    }
}
