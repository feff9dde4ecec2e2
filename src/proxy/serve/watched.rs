//! A connection of which somebody sees what comes, before it is parsed. What goes passes.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// Who looks at the bytes of a client.
pub(super) trait Sees {
    /// Some came; never none.
    fn came(&mut self, bytes: &[u8]);
}

/// A stream, and who sees what comes over it.
pub(super) struct Watched<T, W> {
    inner: T,
    who: W,
}

impl<T, W> Watched<T, W> {
    /// Shows `who` what comes over `inner`.
    pub(super) const fn new(inner: T, who: W) -> Self {
        Self { inner, who }
    }
}

impl<T: AsyncRead + Unpin, W: Sees + Unpin> AsyncRead for Watched<T, W> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, into);
        let came = into.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            this.who.came(came);
        }
        result
    }
}

impl<T: AsyncWrite + Unpin, W: Unpin> AsyncWrite for Watched<T, W> {
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
