//! The header a listed load balancer puts before a connection to say whose it is (PROXY protocol, versions 1 and 2).

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::AsyncReadExt;

use crate::proxy::serve::socket::Socket;

/// What begins a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header of version 1, line end included.
const MAX_V1: usize = 107;

/// The longest header of version 2, type-length-value fields included.
const MAX_V2: usize = 4 * 1024;

/// What was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Found {
    /// The header is not complete.
    More,
    /// A header of `length` bytes. `source`: whose connection this is; `None`: the peer's own (a health check).
    Header {
        length: usize,
        source: Option<SocketAddr>,
    },
}

/// No header, or not one we understand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct NotAHeader;

/// Reads the header and gives back what came after it. `None`: the peer speaks for itself.
///
/// # Errors
///
/// When the stream fails or ends, or no header comes.
pub(crate) async fn read(socket: &mut Socket) -> io::Result<Option<SocketAddr>> {
    let mut bytes = Vec::with_capacity(256);
    loop {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match find(&bytes) {
            Ok(Found::More) => {}
            Ok(Found::Header { length, source }) => {
                let rest = Bytes::from(bytes);
                socket.unread(rest.slice(length..));
                return Ok(source);
            }
            Err(NotAHeader) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn find(bytes: &[u8]) -> Result<Found, NotAHeader> {
    let begins = |with: &[u8]| {
        let n = bytes.len().min(with.len());
        bytes.get(..n) == with.get(..n)
    };
    if begins(SIGNATURE) {
        binary(bytes)
    } else if begins(b"PROXY ") {
        text(bytes)
    } else {
        Err(NotAHeader)
    }
}

fn text(bytes: &[u8]) -> Result<Found, NotAHeader> {
    let window = bytes.get(..bytes.len().min(MAX_V1)).unwrap_or_default();
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < MAX_V1 {
            Ok(Found::More)
        } else {
            Err(NotAHeader)
        };
    };
    let line = window
        .get(..end)
        .and_then(|line| std::str::from_utf8(line).ok())
        .ok_or(NotAHeader)?;
    let length = end.saturating_add(2);
    let mut words = line.split(' ');
    words.next();
    let family = words.next().ok_or(NotAHeader)?;
    if family == "UNKNOWN" {
        return Ok(Found::Header {
            length,
            source: None,
        });
    }
    let mut word = || words.next().ok_or(NotAHeader);
    let (source, _destination, port, _destination_port) = (word()?, word()?, word()?, word()?);
    let source: IpAddr = match family {
        "TCP4" => source.parse::<Ipv4Addr>().ok().ok_or(NotAHeader)?.into(),
        "TCP6" => source.parse::<Ipv6Addr>().ok().ok_or(NotAHeader)?.into(),
        _ => return Err(NotAHeader),
    };
    if words.next().is_some() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotAHeader);
    }
    let port: u16 = port.parse().ok().ok_or(NotAHeader)?;
    Ok(Found::Header {
        length,
        source: Some(SocketAddr::new(source, port)),
    })
}

fn binary(bytes: &[u8]) -> Result<Found, NotAHeader> {
    let Some(&[version_command, family, high, low]) =
        bytes.get(12..).and_then(|rest| rest.first_chunk())
    else {
        return Ok(Found::More);
    };
    let length = usize::from(u16::from_be_bytes([high, low])).saturating_add(16);
    if MAX_V2 < length {
        return Err(NotAHeader);
    }
    if bytes.len() < length {
        return Ok(Found::More);
    }
    let body = bytes.get(16..length).unwrap_or_default();
    let source = match (version_command, family) {
        // LOCAL: the peer speaks for itself, whatever addresses follow.
        (0x20, _) => None,
        // PROXY, unspecified.
        (0x21, 0x00) => None,
        // PROXY, TCP over IPv4: two addresses, two ports.
        (0x21, 0x11) => {
            let address: [u8; 4] = field(body, 0)?;
            field::<12>(body, 0)?;
            Some((IpAddr::from(address), field(body, 8)?))
        }
        // PROXY, TCP over IPv6.
        (0x21, 0x21) => {
            let address: [u8; 16] = field(body, 0)?;
            field::<36>(body, 0)?;
            Some((IpAddr::from(address), field(body, 32)?))
        }
        _ => return Err(NotAHeader),
    };
    Ok(Found::Header {
        length,
        source: source.map(|(address, port)| SocketAddr::new(address, u16::from_be_bytes(port))),
    })
}

fn field<const N: usize>(body: &[u8], at: usize) -> Result<[u8; N], NotAHeader> {
    body.get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or(NotAHeader)
}

/// A header is found in what came, whatever follows it, and not before it is complete. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(crate) fn promise(bytes: &[u8]) {
    let found = find(bytes);
    match found {
        Ok(Found::Header { length, .. }) => {
            assert!(length <= bytes.len() && length <= MAX_V2);
            let exactly = bytes.get(..length).unwrap_or_default();
            assert_eq!(find(exactly), found);
            for less in [length / 2, length.saturating_sub(1)] {
                let piece = find(bytes.get(..less).unwrap_or_default());
                assert_eq!(piece, Ok(Found::More));
            }
            let mut more = bytes.to_vec();
            more.extend_from_slice(b"GET / HTTP/1.1\r\n");
            assert_eq!(find(&more), found);
        }
        // More is asked for up to a bound.
        Ok(Found::More) => assert!(bytes.len() < MAX_V2),
        Err(NotAHeader) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn says(bytes: &[u8], length: usize, source: Option<&str>) {
        let source = source.map(|s| s.parse().unwrap());
        assert_eq!(find(bytes), Ok(Found::Header { length, source }));
    }

    fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version_command, family]);
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn version_1_names_the_client() {
        says(
            b"PROXY TCP4 192.0.2.9 192.0.2.1 5000 443\r\nGET / HTTP",
            41,
            Some("192.0.2.9:5000"),
        );
        says(
            b"PROXY TCP6 2001:db8::9 2001:db8::1 5000 443\r\n",
            45,
            Some("[2001:db8::9]:5000"),
        );
        says(b"PROXY UNKNOWN\r\n", 15, None);
        says(b"PROXY UNKNOWN a b c d\r\n", 23, None);
    }

    #[test]
    fn version_2_names_the_client() {
        let v4 = v2(
            0x21,
            0x11,
            &[192, 0, 2, 9, 192, 0, 2, 1, 0x13, 0x88, 1, 0xBB, 3, 0, 1, 0],
        );
        says(&v4, v4.len(), Some("192.0.2.9:5000"));
        let mut addresses = [0; 36];
        addresses[..16].copy_from_slice(&"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
        addresses[32..34].copy_from_slice(&5_000_u16.to_be_bytes());
        let v6 = v2(0x21, 0x21, &addresses);
        says(&v6, v6.len(), Some("[2001:db8::9]:5000"));
        let local = v2(0x20, 0x00, b"");
        says(&local, 16, None);
    }

    #[test]
    fn whatever_else_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.9 192.0.2.1 5000\r\n",
            b"PROXY TCP4 192.0.2.9 192.0.2.1 5000 443 x\r\n",
            b"PROXY TCP4 2001:db8::9 192.0.2.1 5000 443\r\n",
            b"PROXY TCP4 192.0.2.9 192.0.2.1 +5 443\r\n",
            b"PROXY TCP4 192.0.2.9 192.0.2.1 70000 443\r\n",
            b"PROXY UDP4 192.0.2.9 192.0.2.1 5000 443\r\n",
            b"PROXY  TCP4 192.0.2.9 192.0.2.1 5000 443\r\n",
            &[b'P'; 1],
        ] {
            if bytes == b"P" {
                assert_eq!(find(bytes), Ok(Found::More));
            } else {
                assert_eq!(
                    find(bytes),
                    Err(NotAHeader),
                    "{:?}",
                    String::from_utf8_lossy(bytes)
                );
            }
        }
        assert_eq!(
            find(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat()),
            Err(NotAHeader)
        );
        assert_eq!(find(&v2(0x21, 0x11, &[1, 2, 3])), Err(NotAHeader));
        assert_eq!(find(&v2(0x21, 0x31, &[0; 216])), Err(NotAHeader));
        assert_eq!(find(&v2(0x31, 0x11, &[0; 12])), Err(NotAHeader));
        assert_eq!(find(&v2(0x21, 0x11, &[0; 5_000])), Err(NotAHeader));
    }

    proptest! {
        /// Every proper beginning of a header asks for more; bytes behind it change nothing.
        #[test]
        fn headers_may_come_in_pieces(cut in 0..41_usize, tail in prop::collection::vec(any::<u8>(), 0..16)) {
            let header = b"PROXY TCP4 192.0.2.9 192.0.2.1 5000 443\r\n";
            prop_assert_eq!(find(&header[..cut]), Ok(Found::More));
            let whole = [header.as_slice(), &tail].concat();
            prop_assert_eq!(find(&whole), find(header));
        }

        /// Any bytes get an answer, and no header is longer than what was read.
        #[test]
        fn no_bytes_panic(rest in prop::collection::vec(any::<u8>(), 0..300), begin in 0..3_u8) {
            let begin: &[u8] = match begin { 0 => b"", 1 => b"PROXY ", _ => SIGNATURE };
            let bytes = [begin, &rest].concat();
            if let Ok(Found::Header { length, .. }) = find(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
