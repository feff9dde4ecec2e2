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

/// Whether the first line is whole and a request line but for its version: a broken preface, or another protocol. Whoever
/// speaks neither would not understand an answer (RFC 9113 §3.4).
fn speaks_neither(bytes: &[u8]) -> bool {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return false;
    };
    let line = bytes.get(..end).unwrap_or_default();
    let mut words = line.trim_ascii_end().rsplit(|byte| *byte == b' ');
    let version = words.next().unwrap_or_default();
    words.count() == 2
        && !version
            .get(..5)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"HTTP/"))
}

/// Reads until the protocol is known, and gives back what was read.
///
/// # Errors
///
/// When the stream fails, or ends before a byte came or inside a preface.
pub(crate) async fn sniff(socket: &mut Socket) -> io::Result<Protocol> {
    // A silent connection holds no buffer.
    socket.readable().await?;
    let mut bytes = Vec::with_capacity(FIRST_READ);
    loop {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(protocol) = look(&bytes) {
            if speaks_neither(&bytes) {
                return Err(io::ErrorKind::InvalidData.into());
            }
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

/// What the first bytes say stays said, whatever follows. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(super) fn promise(bytes: &[u8]) {
    let whole = look(bytes);
    assert_eq!(whole == Some(Protocol::Http2), bytes.starts_with(PREFACE));
    assert!(whole.is_some() || PREFACE.starts_with(bytes));
    for end in 0..bytes.len().min(64) {
        let seen = look(bytes.get(..end).unwrap_or_default());
        assert!(seen.is_none() || seen == whole);
    }
    // A preface is understood.
    assert!(whole != Some(Protocol::Http2) || !speaks_neither(bytes));
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

    #[test]
    fn who_speaks_neither_protocol_gets_no_answer() {
        for line in ["INVALID CONNECTION PREFACE\r\n\r\n", "a b c\n"] {
            assert!(speaks_neither(line.as_bytes()), "{line}");
        }
        // These are told that they are wrong.
        for line in [
            "GET / HTTP/1.1\r\n",
            "GET /a b HTTP/1.1\r\n",
            "GET / http/1.1\r\n",
            "GET / HTTP/9.9\r\n",
            "GET /\r\n",
            "GET / PREFACE",
            "\r\nGET / HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            assert!(!speaks_neither(line.as_bytes()), "{line}");
        }
    }
}
