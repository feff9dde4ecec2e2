//! Listening sockets: one per worker and listener, all bound before anything is served.

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;

use crate::proxy::serve::worker::Door;
use crate::proxy::settings::Listener;
use crate::proxy::settings::Server;
use crate::proxy::tls::Certificates;
use crate::proxy::tls::TlsError;

/// Connections the kernel holds for each socket until we accept them (it takes the smaller of this and `somaxconn`).
const BACKLOG: i32 = 4_096;

/// What the kernel takes of an answer before the client's window has room for it. By itself it takes up to 4 MiB: of memory that
/// nobody counts, and then nothing of what a slow client takes can be seen here for minutes.
const UNSENT: u32 = 128 * 1024;

/// How long the kernel waits for a client that takes, or acknowledges, nothing of it: for connections that are closed already,
/// and those whose answers fit into the kernel. The sweep is sooner, and says what it does.
const UNTAKEN: Duration = Duration::from_secs(70);

/// Everything that is needed to listen.
#[derive(Debug)]
pub(crate) struct Bound {
    listeners: Vec<BoundListener>,
    workers: usize,
}

#[derive(Debug)]
struct BoundListener {
    sockets: Vec<TcpListener>,
    address: SocketAddr,
    certificates: Option<Arc<Certificates>>,
    proxy_protocol_from: Arc<[IpNet]>,
}

/// Why we cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The certificates of a listener are not usable.
    #[error("cannot serve TLS on {address}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// What is wrong.
        #[source]
        source: TlsError,
    },
}

impl Bound {
    /// Loads certificates and binds every socket. Nothing is accepted yet; the kernel queues.
    ///
    /// # Errors
    ///
    /// See [`BindError`]. Nothing stays bound then.
    pub(crate) fn open(settings: &Server) -> Result<Self, BindError> {
        let workers = settings.workers.max(1);
        let listeners = settings
            .listeners
            .iter()
            .map(|listener| open_one(listener, workers))
            .collect::<Result<_, _>>()?;
        Ok(Self { listeners, workers })
    }

    /// Where the listeners are, in the order of the settings.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .map(|listener| listener.address)
            .collect()
    }

    /// The certificates of the listeners that have some, in the order of the settings; for reloading and expiry.
    pub(crate) fn certificates(&self) -> Vec<Arc<Certificates>> {
        self.listeners
            .iter()
            .filter_map(|listener| listener.certificates.clone())
            .collect()
    }

    /// The sockets, by worker.
    pub(super) fn per_worker(self) -> Vec<Vec<(TcpListener, Door)>> {
        let mut workers: Vec<Vec<_>> = (0..self.workers).map(|_| Vec::new()).collect();
        for listener in self.listeners {
            for (worker, socket) in workers.iter_mut().zip(listener.sockets) {
                let door = Door {
                    certificates: listener.certificates.clone(),
                    proxy_protocol_from: listener.proxy_protocol_from.clone(),
                };
                worker.push((socket, door));
            }
        }
        workers
    }
}

fn open_one(listener: &Listener, workers: usize) -> Result<BoundListener, BindError> {
    let certificates = match &listener.tls {
        None => None,
        Some(tls) => Some(Certificates::load(tls).map_err(|source| BindError::Tls {
            address: listener.address,
            source,
        })?),
    };
    let failed = |address| move |source| BindError::Address { address, source };
    let first = bind(listener.address).map_err(failed(listener.address))?;
    // Port 0 is anything; the others must be the same.
    let address = first.local_addr().map_err(failed(listener.address))?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(bind(address).map_err(failed(address))?);
    }
    Ok(BoundListener {
        sockets,
        address,
        certificates,
        proxy_protocol_from: listener.proxy_protocol_from.as_slice().into(),
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Accepted connections inherit both.
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_user_timeout(Some(UNTAKEN))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::io::Write;
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::*;
    use crate::proxy::serve::testing::server;

    #[test]
    fn little_of_an_answer_waits_in_the_kernel_and_not_for_ever() {
        let bound = Bound::open(&server()).unwrap();
        // The workers share the address: the client comes to one of them.
        let client = TcpStream::connect(bound.addresses()[0]).unwrap();
        SockRef::from(&client).set_recv_buffer_size(4_096).unwrap();
        let mut accepted = None;
        while accepted.is_none() {
            for listener in &bound.listeners[0].sockets {
                accepted = accepted.or_else(|| listener.accept().ok());
            }
        }
        let (mut stream, _) = accepted.unwrap();
        let socket = SockRef::from(&stream);
        assert!(crate::proxy::serve::ward::WRITE_STALL < UNTAKEN);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNTAKEN));
        stream.set_nonblocking(true).unwrap();
        let mut taken = 0;
        let end = loop {
            match stream.write(&[0; 16 * 1024]) {
                Ok(bytes) => taken += bytes,
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(end, ErrorKind::WouldBlock);
        // What is under way comes on top: this client's window, which is small.
        let most = usize::try_from(UNSENT).unwrap() * 4;
        assert!((16 * 1024..most).contains(&taken), "{taken}");
    }
}
