//! From a TCP connection to an HTTP request: listeners, workers, TLS, limits and time. It decides nothing about a request
//! and never looks into one; that is the handler's part.
//!
//! Workers are threads that share nothing on the path of a request. Each has its own socket of every listener
//! (`SO_REUSEPORT`: the kernel spreads connections), its own runtime, and one handler.

pub(crate) mod connection;
pub(crate) mod counts;
mod fragment;
mod frames;
mod handshake;
pub(crate) mod listen;
mod memory;
pub(crate) mod proxy_header;
pub(crate) mod slots;
mod sniff;
pub(crate) mod socket;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod vitals;
pub(crate) mod ward;
mod watched;
pub(crate) mod worker;

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Request;
use http::Response;
use http_body::Body;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::proxy::client_body::ClientBody;
use crate::proxy::conn::Conn;
use crate::proxy::serve::counts::Counts;
use crate::proxy::serve::listen::Bound;
use crate::proxy::serve::slots::Slots;
use crate::proxy::serve::worker::Start;
use crate::proxy::settings::Limits;

/// See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(crate) fn first_bytes(bytes: &[u8]) {
    sniff::promise(bytes);
    fragment::promise(bytes);
    frames::promise(bytes);
}

/// Answers requests. One per worker; it stays on its thread, so it need not be `Send`.
///
/// A panic ends its request: on HTTP/1.1 the connection too, on HTTP/2 the stream.
pub(crate) trait Handler: 'static {
    /// What it answers with.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + 'static;

    /// Answers one request. Dropped when the client goes away or resets the stream.
    fn handle(
        self: Rc<Self>,
        conn: Rc<Conn>,
        request: Request<ClientBody>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;
}

/// The running workers.
#[derive(Debug)]
pub(crate) struct Workers {
    orders: watch::Sender<Option<Duration>>,
    ends: Vec<oneshot::Receiver<usize>>,
    addresses: Vec<SocketAddr>,
    limits: Arc<ArcSwap<Limits>>,
    slots: Arc<Slots>,
    counts: Arc<Counts>,
}

/// Changes the limits of running workers.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    limits: Arc<ArcSwap<Limits>>,
    slots: Arc<Slots>,
}

impl Limiter {
    /// Limits of connections that come from here on. Requests under way keep theirs.
    pub(crate) fn set(&self, limits: &Limits) {
        self.slots.set_max(slots::bound(limits.connections));
        self.limits.store(Arc::new(limits.clone()));
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Drained {
    /// Connections and tunnels that had not ended in time and were cut.
    pub(crate) cut: usize,
}

impl Workers {
    /// Starts the workers on `bound`; `make_handler` is called once in the thread of each, inside its runtime, with its
    /// number.
    ///
    /// # Errors
    ///
    /// When a thread or a runtime cannot be made. Workers that run already are drained at once then.
    pub(crate) fn start<H, F>(limits: &Limits, bound: Bound, make_handler: F) -> io::Result<Self>
    where
        H: Handler,
        F: Fn(usize) -> Rc<H> + Clone + Send + 'static,
    {
        let (orders, ordered) = watch::channel(None);
        let mut workers = Self {
            orders,
            ends: Vec::new(),
            addresses: bound.addresses(),
            limits: Arc::new(ArcSwap::from_pointee(limits.clone())),
            slots: Slots::new(slots::bound(limits.connections)),
            counts: Arc::default(),
        };
        memory::watch(&workers.slots, &workers.limits)?;
        let (started, starts) = mpsc::channel();
        let sockets = bound.per_worker();
        let count = sockets.len();
        for (number, sockets) in sockets.into_iter().enumerate() {
            let start = Start {
                number,
                sockets,
                limits: workers.limits.clone(),
                slots: workers.slots.clone(),
                counts: workers.counts.clone(),
                orders: ordered.clone(),
            };
            let (end, ended) = oneshot::channel();
            let (make_handler, started) = (make_handler.clone(), started.clone());
            thread::Builder::new()
                .name(format!("serve-{number}"))
                .spawn(move || {
                    let cut = worker::run(start, make_handler, |result| {
                        // The other end is only gone when starting has failed already.
                        drop(started.send(result));
                    });
                    // Nobody may be interested any more; then the number is of no use.
                    end.send(cut).unwrap_or_default();
                })?;
            workers.ends.push(ended);
        }
        drop(started);
        for _ in 0..count {
            match starts.recv() {
                Ok(result) => result?,
                Err(mpsc::RecvError) => {
                    return Err(io::Error::other("a worker ended while it was starting"));
                }
            }
        }
        Ok(workers)
    }

    /// Where the listeners are, in the order of the settings; with real ports where the settings said 0.
    pub(crate) fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Changes the limits while the workers run.
    pub(crate) fn limiter(&self) -> Limiter {
        Limiter {
            limits: Arc::clone(&self.limits),
            slots: Arc::clone(&self.slots),
        }
    }

    /// Connections open now, tunnels included, and how many there may be.
    #[cfg(test)]
    pub(crate) fn open(&self) -> (usize, usize) {
        (self.slots.open(), self.slots.max())
    }

    /// What happened to connections.
    pub(crate) const fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Ends when a worker ends that was not asked to: something is badly wrong then, and its connections are gone.
    pub(crate) async fn failed(&mut self) {
        if self.ends.is_empty() {
            return;
        }
        // Whether it came with a number or with an error, one has ended.
        drop(futures_util::future::select_all(&mut self.ends).await);
    }

    /// Serves what is in the queues, then closes the listeners; finishes what is under way, tells tunnels, and cuts what
    /// is left after `timeout`.
    ///
    /// HTTP/1.1 answers say `Connection: close` from here on, and a connection without a request stays open for
    /// [`ward::DRAIN_IDLE`] more, for the request that may be on its way. HTTP/2 clients get a GOAWAY.
    pub(crate) async fn drain(self, timeout: Duration) -> Drained {
        self.orders.send_replace(Some(timeout));
        let mut cut = 0_usize;
        for end in self.ends {
            // An error: the worker panicked, and its connections went with it.
            cut = cut.saturating_add(end.await.unwrap_or(0));
        }
        Drained { cut }
    }
}
