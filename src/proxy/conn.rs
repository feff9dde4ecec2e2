//! A client connection as the request path sees it: who is at the other end, and what is asked of it.

use std::cell::Cell;
use std::cell::OnceCell;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;

use crate::auth::ClientCertificate;
use crate::proxy::canonical::Authority;
use crate::proxy::forwarded::Hop;
use crate::proxy::serve::counts::Counts;
use crate::proxy::serve::slots::Slots;
use crate::proxy::serve::vitals::Vitals;
use crate::proxy::settings::Limits;
use crate::proxy::tls::Policies;
use crate::telemetry::Pseudonym;
use crate::telemetry::Pseudonyms;

/// One client connection. Its requests share it; no identity is ever kept here.
pub(crate) struct Conn {
    id: u64,
    peer: SocketAddr,
    tls: Option<TlsInfo>,
    limits: Arc<Limits>,
    vitals: Arc<Vitals>,
    closing: Closing,
    slots: Arc<Slots>,
    counts: Arc<Counts>,
    close_after_answer: Cell<bool>,
    last_authority: RefCell<Option<(Box<[u8]>, Authority)>>,
    hop: OnceCell<Hop>,
    pseudonym: OnceCell<Pseudonym>,
}

/// What TLS told about the client.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsInfo {
    /// The certificate that it proved to hold.
    pub(crate) client_certificate: Option<ClientCertificate>,
    /// Which names may be asked for on this connection, where client certificates are asked for at all.
    pub(crate) policies: Option<(Arc<Policies>, usize)>,
}

/// What a connection is made of.
pub(crate) struct Arrival {
    /// Unique in this process.
    pub(crate) id: u64,
    /// The other end; behind a listed peer what its PROXY protocol header says. IPv4-mapped addresses are IPv4 here.
    pub(crate) peer: SocketAddr,
    /// `None`: cleartext.
    pub(crate) tls: Option<TlsInfo>,
    /// As they were when the connection came.
    pub(crate) limits: Arc<Limits>,
    /// What the connection is doing.
    pub(crate) vitals: Arc<Vitals>,
    /// The worker's drain.
    pub(crate) closing: Closing,
    /// Connections of all workers.
    pub(crate) slots: Arc<Slots>,
    /// Counters of all workers.
    pub(crate) counts: Arc<Counts>,
}

impl Conn {
    /// A connection that has just been accepted.
    pub(crate) fn new(arrival: Arrival) -> Rc<Self> {
        Rc::new(Self {
            id: arrival.id,
            peer: arrival.peer,
            tls: arrival.tls,
            limits: arrival.limits,
            vitals: arrival.vitals,
            closing: arrival.closing,
            slots: arrival.slots,
            counts: arrival.counts,
            close_after_answer: Cell::new(false),
            last_authority: RefCell::new(None),
            hop: OnceCell::new(),
            pseudonym: OnceCell::new(),
        })
    }

    /// The other end; behind a listed peer what its PROXY protocol header says. IPv4-mapped addresses are IPv4 here.
    pub(crate) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether TLS ends here.
    pub(crate) const fn secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The certificate that the client proved to hold on this connection.
    pub(crate) fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.tls.as_ref()?.client_certificate.as_ref()
    }

    /// Whether a host has the policy for client certificates that this connection was made under (RFC 9110 §15.5.20).
    pub(crate) fn is_for(&self, host: &str) -> bool {
        let policies = self.tls.as_ref().and_then(|tls| tls.policies.as_ref());
        policies.is_none_or(|(policies, own)| policies.find(Some(host)) == *own)
    }

    /// The limits the connection was accepted under.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether the connection speaks HTTP/2.
    pub(crate) fn multiplexed(&self) -> bool {
        self.vitals.multiplexed()
    }

    /// Closes the connection after the answer to the present request (HTTP/1.1; HTTP/2 frames its messages soundly). For
    /// requests whose framing is in doubt.
    pub(crate) fn close_after_answer(&self) {
        self.close_after_answer.set(true);
    }

    /// Whether the answer must say `Connection: close`.
    pub(crate) fn must_close(&self) -> bool {
        (self.close_after_answer.get() || self.closing.begun()) && !self.multiplexed()
    }

    /// Whether the present request is to be turned away because memory is short; counted, and the connection ends with it.
    pub(crate) fn sheds(&self) -> bool {
        let sheds = self.slots.sheds();
        if sheds {
            self.counts.count_out_of_memory();
            self.close_after_answer();
        }
        sheds
    }

    /// Whether a drain has begun.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.begun()
    }

    /// Ends when a drain begins. For tunnels, which say goodbye to both sides then; they have the drain's timeout for it.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + 'static {
        self.closing.clone().wait()
    }

    /// What the connection is doing.
    pub(crate) const fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// What forwarding fields say about this connection; rendered once.
    pub(crate) fn hop(&self) -> &Hop {
        self.hop
            .get_or_init(|| Hop::new(self.peer.ip(), self.secure()))
    }

    /// The peer in logs; made once.
    pub(crate) fn pseudonym(&self, pseudonyms: &Pseudonyms) -> Pseudonym {
        *self
            .pseudonym
            .get_or_init(|| pseudonyms.of_address(self.peer.ip()))
    }

    /// The authority of the last host seen here, when this one is equal byte for byte.
    pub(crate) fn known_authority(&self, raw: &[u8]) -> Option<Authority> {
        match &*self.last_authority.borrow() {
            Some((known, authority)) if **known == *raw => Some(authority.clone()),
            Some(_) | None => None,
        }
    }

    /// Remembers how a host is read.
    pub(crate) fn remember_authority(&self, raw: &[u8], authority: &Authority) {
        *self.last_authority.borrow_mut() = Some((raw.into(), authority.clone()));
    }

    /// A connection from 203.0.113.7 that nobody is at the other end of.
    #[cfg(any(test, fuzzing, feature = "bench"))]
    pub(crate) fn for_test(secure: bool) -> Rc<Self> {
        Self::new(Arrival {
            id: 1,
            peer: SocketAddr::from(([203, 0, 113, 7], 40_000)),
            tls: secure.then(TlsInfo::default),
            limits: Arc::new(Limits::usual()),
            vitals: Vitals::new(crate::proxy::serve::vitals::Phase::Serving),
            closing: Closing::never(),
            slots: Slots::new(1),
            counts: Arc::default(),
        })
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("id", &self.id)
            .field("secure", &self.secure())
            .field("multiplexed", &self.multiplexed())
            .finish_non_exhaustive()
    }
}

/// The drain of a worker, seen from its connections.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    flag: Rc<Cell<bool>>,
    signal: watch::Receiver<bool>,
}

impl Closing {
    /// `signal` wakes those who wait, `flag` is what requests look at.
    pub(crate) const fn new(flag: Rc<Cell<bool>>, signal: watch::Receiver<bool>) -> Self {
        Self { flag, signal }
    }

    /// Whether the drain has begun.
    pub(crate) fn begun(&self) -> bool {
        self.flag.get()
    }

    /// Ends when the drain begins, or when the worker is gone.
    pub(crate) async fn wait(mut self) {
        // The sender lives as long as the worker: an error means that there is nothing left to wait for.
        drop(self.signal.wait_for(|begun| *begun).await);
    }

    /// A drain that never begins.
    #[cfg(any(test, fuzzing, feature = "bench"))]
    pub(crate) fn never() -> Self {
        let (sender, signal) = watch::channel(false);
        // Never drop the sender: its end would look like a drain.
        std::mem::forget(sender);
        Self {
            flag: Rc::default(),
            signal,
        }
    }
}

/// Something under way: a request until its answer has ended or nobody wants it any more, or a tunnel. While there is one
/// an HTTP/2 connection is not idle, so a tunnel on it must hold one, too.
#[derive(Debug)]
pub(crate) struct InFlight(Rc<Conn>);

impl InFlight {
    /// A request begins.
    pub(crate) fn begin(conn: Rc<Conn>) -> Self {
        conn.vitals.begin();
        Self(conn)
    }

    /// Of its connection.
    pub(crate) fn vitals(&self) -> &Vitals {
        &self.0.vitals
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.vitals.end();
    }
}
