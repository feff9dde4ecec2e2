//! Which protocol a cleartext client speaks: HTTP/2 begins with a preface (RFC 9113 §3.4), everything else is HTTP/1.1.

use std::io;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;

use crate::proxy::serve::socket::Socket;

/// The 24 bytes an HTTP/2 client sends first.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is read at once: usually the whole first head, so that sniffing costs no further system call.
const FIRST_READ: usize = 4 * 1024;

/// A protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// `None`: the bytes so far could become a preface.
fn look(bytes: &[u8]) -> Option<Protocol> {
    let n = bytes.len().min(PREFACE.len());
    match (bytes.get(..n), PREFACE.get(..n)) {
        (Some(seen), Some(expected)) if seen != expected => Some(Protocol::Http1),
        _ if n == PREFACE.len() => Some(Protocol::Http2),
        _ => None,
    }
}

/// Reads until the protocol is known, and gives back what was read.
///
/// # Errors
///
/// When the stream fails, or ends before a byte came or inside a preface.
pub(crate) async fn sniff(socket: &mut Socket) -> io::Result<Protocol> {
    // A silent connection holds no buffer.
    socket.stream().readable().await?;
    let mut bytes = Vec::with_capacity(FIRST_READ);
    loop {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(protocol) = look(&bytes) {
            socket.unread(Bytes::from(bytes));
            return Ok(protocol);
        }
    }
}

/// Reads the preface of a client that has promised HTTP/2.
///
/// # Errors
///
/// When the stream fails or ends, or something else comes.
pub(crate) async fn preface(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut bytes = [0; PREFACE.len()];
    stream.read_exact(&mut bytes).await?;
    if bytes == *PREFACE {
        Ok(Bytes::from_static(PREFACE))
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_preface_is_http2() {
        assert_eq!(look(b""), None);
        assert_eq!(look(b"P"), None);
        assert_eq!(look(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), None);
        assert_eq!(look(PREFACE), Some(Protocol::Http2));
        assert_eq!(
            look(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"),
            Some(Protocol::Http2)
        );
        assert_eq!(look(b"POST / HTTP/1.1"), Some(Protocol::Http1));
        assert_eq!(look(b"G"), Some(Protocol::Http1));
        assert_eq!(look(b"PRI * HTTP/1.1"), Some(Protocol::Http1));
    }
}
