//! The client's TCP stream: puts bytes back that were read too early, tells the vitals what moves, and closes without
//! taking an answer away.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::proxy::serve::slots::Slot;
use crate::proxy::serve::vitals::Phase;
use crate::proxy::serve::vitals::Vitals;

/// How many bytes of an unread body are thrown away before we close: enough that a client of an early answer sees the
/// answer instead of a reset, too little to be an upload.
const MAX_DISCARDED: usize = 64 * 1024;

/// A client's stream.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    prefix: Bytes,
    vitals: Arc<Vitals>,
    goodbye: Goodbye,
    /// Counts the connection until the last owner of the stream, perhaps a tunnel, lets go.
    _slot: Slot,
}

/// How far closing has come.
#[derive(Clone, Copy, Debug)]
enum Goodbye {
    NotSaid,
    Said { discarded: usize },
    Done,
}

impl Socket {
    /// Takes over an accepted stream.
    pub(crate) fn new(stream: TcpStream, vitals: Arc<Vitals>, slot: Slot) -> Self {
        Self {
            stream,
            prefix: Bytes::new(),
            vitals,
            goodbye: Goodbye::NotSaid,
            _slot: slot,
        }
    }

    /// Waits until something can be read. No buffer is needed for it.
    ///
    /// # Errors
    ///
    /// When the stream fails.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        if self.prefix.is_empty() {
            self.stream.readable().await
        } else {
            Ok(())
        }
    }

    /// Gives bytes back: they are read before anything else.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        debug_assert!(self.prefix.is_empty(), "bytes are given back once");
        self.prefix = bytes;
    }
}

impl Drop for Socket {
    /// A client that does not take what it was sent keeps nothing of it in the kernel, either: there, what is left of a closed
    /// connection waits on for as long as the client likes.
    fn drop(&mut self) {
        if self.vitals.forgets_the_rest() {
            // It fails only for a socket that is none.
            drop(self.stream.set_zero_linger());
        }
    }
}

/// Copies from bytes that were given back. False when there are none.
pub(crate) fn take_prefix(prefix: &mut Bytes, into: &mut ReadBuf<'_>) -> bool {
    if prefix.is_empty() {
        return false;
    }
    let n = prefix.len().min(into.remaining());
    into.put_slice(&prefix.split_to(n));
    if prefix.is_empty() {
        // The allocation goes now, not with the connection.
        *prefix = Bytes::new();
    }
    true
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if take_prefix(&mut this.prefix, into) {
            this.vitals.read();
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, into);
        if before < into.filled().len() {
            this.vitals.read();
        }
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        note(&self.vitals, &result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        note(&self.vitals, &result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP stream holds nothing back.
        Poll::Ready(Ok(()))
    }

    /// Ends our side. When the client is probably still sending, its bytes are read and thrown away until it closes too,
    /// within [`MAX_DISCARDED`] and the limit of [`Phase::Closing`]: closing with unread bytes resets the connection,
    /// and a reset may overtake the answer (RFC 9112 §9.6).
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match this.goodbye {
                Goodbye::NotSaid => {
                    let linger = this.vitals.wants_linger();
                    ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                    this.vitals.enter(Phase::Closing);
                    this.goodbye = if linger {
                        Goodbye::Said { discarded: 0 }
                    } else {
                        Goodbye::Done
                    };
                }
                Goodbye::Said { discarded } => {
                    let mut scratch = [0; 4096];
                    let mut into = ReadBuf::new(&mut scratch);
                    let result = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut into));
                    let n = into.filled().len();
                    let discarded = discarded.saturating_add(n);
                    this.goodbye = if result.is_err() || n == 0 || MAX_DISCARDED < discarded {
                        Goodbye::Done
                    } else {
                        Goodbye::Said { discarded }
                    };
                }
                Goodbye::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

fn note(vitals: &Vitals, result: &Poll<io::Result<usize>>) {
    match result {
        Poll::Pending => vitals.write_blocked(),
        Poll::Ready(Ok(bytes)) => vitals.wrote(*bytes),
        Poll::Ready(Err(_)) => vitals.wrote(0),
    }
}

/// A stream to which bytes were given back that had been decrypted already.
#[derive(Debug)]
pub(crate) struct Rewound<T> {
    inner: T,
    prefix: Bytes,
}

impl<T> Rewound<T> {
    /// `prefix` is read before anything else.
    pub(crate) const fn new(inner: T, prefix: Bytes) -> Self {
        Self { inner, prefix }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if take_prefix(&mut this.prefix, into) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.inner).poll_read(cx, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::proxy::serve::slots::Slots;

    /// What a client finds that begins to read after we closed: how much, and how it ends.
    async fn late(forget: bool) -> (usize, Option<io::ErrorKind>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let vitals = Vitals::new(Phase::Serving);
        let slot = Slots::new(1).take(&Arc::new(AtomicUsize::new(0)));
        let mut socket = Socket::new(stream, vitals.clone(), slot);
        socket.write_all(b"what waits").await.unwrap();
        assert_eq!(vitals.taken(), None);
        if forget {
            vitals.forget_the_rest();
        }
        drop(socket);
        let mut found = Vec::new();
        let end = client.read_to_end(&mut found).await;
        (found.len(), end.err().map(|error| error.kind()))
    }

    #[tokio::test]
    async fn what_nobody_took_goes_with_the_connection() {
        assert_eq!(late(false).await, (10, None));
        let (_, end) = late(true).await;
        assert_eq!(end, Some(io::ErrorKind::ConnectionReset));
    }
}
