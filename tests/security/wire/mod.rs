//! Clients that send what a case says, byte for byte, and report what came back.

pub(crate) mod h1;
pub(crate) mod h2;
mod hpack;
mod trust;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

pub(crate) use trust::Manner;
pub(crate) use trust::Tickets;
pub(crate) use trust::Trust;

/// One answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The fields in order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// All values of a field (name in lower case).
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The first value of a field (name in lower case).
    pub(crate) fn header<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Status, fields and body as one text.
    pub(crate) fn whole(&self) -> String {
        let mut text = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push_str(&String::from_utf8_lossy(&self.body));
        text
    }
}

/// What came back on one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Final answers, in order.
    pub(crate) answers: Vec<Answer>,
    /// Interim statuses (1xx).
    pub(crate) interim: Vec<u16>,
    /// The other side closed the connection.
    pub(crate) closed: bool,
    /// RST_STREAM or GOAWAY, on HTTP/2.
    pub(crate) reset: bool,
    /// From the first byte sent to the first byte back.
    pub(crate) first: Option<Duration>,
    /// Why there is no connection.
    pub(crate) failed: Option<String>,
    /// Everything that came, for reports.
    pub(crate) raw: Vec<u8>,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    /// The address.
    pub(crate) to: SocketAddr,
    /// TLS; `None` is cleartext.
    pub(crate) tls: Option<Arc<Trust>>,
}

/// Both halves of a connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Wire {
    /// The certificate that is served now.
    pub(crate) async fn certificate(&self) -> Result<Vec<u8>, String> {
        let Some(trust) = &self.tls else {
            return Err("no TLS".to_owned());
        };
        let plain = TcpStream::connect(self.to)
            .await
            .map_err(|e| format!("no connection: {e}"))?;
        let stream = trust.shake_hands(plain, b"http/1.1").await?;
        let (_, session) = stream.get_ref();
        let first = session.peer_certificates().and_then(|all| all.first());
        Ok(first
            .map(|certificate| certificate.to_vec())
            .unwrap_or_default())
    }

    /// A fresh connection.
    pub(crate) async fn connect(&self, alpn: &[u8]) -> Result<Box<dyn Stream>, String> {
        let plain = TcpStream::connect(self.to)
            .await
            .map_err(|e| format!("no connection: {e}"))?;
        plain.set_nodelay(true).map_err(|e| e.to_string())?;
        let Some(trust) = &self.tls else {
            return Ok(Box::new(plain));
        };
        let stream = trust.shake_hands(plain, alpn).await?;
        Ok(Box::new(stream))
    }
}
