//! What a connection is doing, and for how long: the numbers the sweep looks at.
//!
//! The hot path only stores small numbers; no clock is read and no timer is set per request. Every tick the sweep of the
//! worker compares what it sees with what it saw, and cuts what stood still for too long.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::telemetry::metrics::Shed;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Its PROXY protocol header is awaited.
    ProxyHeader,
    /// TLS is negotiated.
    Handshake,
    /// Nothing has come yet, or not yet enough to tell the protocol.
    FirstByte,
    /// HTTP/1.1: a head has begun.
    Head,
    /// At least one request is under way.
    Serving,
    /// HTTP/1.1: between two requests.
    Idle,
    /// HTTP/2: without streams.
    Quiet,
    /// We said goodbye; the client may still read and send.
    Closing,
}

impl Phase {
    const fn of(raw: u8) -> Self {
        match raw {
            0 => Self::ProxyHeader,
            1 => Self::Handshake,
            2 => Self::FirstByte,
            3 => Self::Head,
            4 => Self::Serving,
            5 => Self::Idle,
            6 => Self::Quiet,
            _ => Self::Closing,
        }
    }
}

/// Why a connection was ended by us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cut {
    /// No PROXY protocol header in time.
    ProxyHeader,
    /// No TLS handshake in time.
    Handshake,
    /// Silent since it came.
    FirstByte,
    /// A head that did not end in time.
    Head,
    /// Idle for too long.
    Idle,
    /// The client does not take what we write.
    Write,
    /// The client does not close after our goodbye.
    Closing,
    /// The drain ran out of time.
    Drain,
}

impl Cut {
    /// All reasons, for metrics.
    pub(crate) const ALL: [Self; 8] = [
        Self::ProxyHeader,
        Self::Handshake,
        Self::FirstByte,
        Self::Head,
        Self::Idle,
        Self::Write,
        Self::Closing,
        Self::Drain,
    ];

    /// How it is counted.
    pub(super) const fn shed(self) -> Shed {
        match self {
            Self::ProxyHeader => Shed::ProxyHeaderTimeout,
            Self::Handshake => Shed::HandshakeTimeout,
            Self::FirstByte => Shed::FirstByteTimeout,
            Self::Head => Shed::HeadTimeout,
            Self::Idle => Shed::Idle,
            Self::Write => Shed::WriteStalled,
            Self::Closing => Shed::CloseTimeout,
            Self::Drain => Shed::DrainTimeout,
        }
    }
}

/// What a client has taken of what waits for it. Wraps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// So many bytes from the socket.
    Bytes(u64),
    /// So often an answer went on: all it gave before had found room in its window, and in the socket.
    Turns(u32),
}

/// What the sweep asks of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Verdict {
    /// Nothing.
    Go,
    /// Finish what is under way, then close.
    Finish,
    /// End now.
    End,
}

/// The numbers of one connection.
///
/// Only the thread of the worker writes them; they are atomic because hyper wants the stream of an upgrade to be `Send`.
/// Relaxed loads and stores are plain moves.
#[derive(Debug)]
pub(crate) struct Vitals {
    phase: AtomicU8,
    moves: AtomicU32,
    in_flight: AtomicU32,
    multiplexed: AtomicBool,
    write_blocked: AtomicBool,
    written: AtomicU64,
    owed: AtomicU32,
    paid: AtomicU32,
    reset: AtomicBool,
    verdict: AtomicU8,
    unread_body: AtomicBool,
    begun: AtomicU32,
    head_owed: AtomicU32,
    fragment: AtomicBool,
}

impl Vitals {
    /// Of a connection that is in `phase`.
    pub(crate) fn new(phase: Phase) -> Arc<Self> {
        Arc::new(Self {
            phase: AtomicU8::new(phase as u8),
            moves: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            multiplexed: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            written: AtomicU64::new(0),
            owed: AtomicU32::new(0),
            paid: AtomicU32::new(0),
            reset: AtomicBool::new(false),
            verdict: AtomicU8::new(Verdict::Go as u8),
            unread_body: AtomicBool::new(false),
            begun: AtomicU32::new(0),
            head_owed: AtomicU32::new(0),
            fragment: AtomicBool::new(false),
        })
    }

    /// What the connection is doing.
    pub(crate) fn phase(&self) -> Phase {
        Phase::of(self.phase.load(Relaxed))
    }

    /// Begins `phase`.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.moves
            .store(self.moves.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// From here on the connection speaks HTTP/2.
    pub(crate) fn speak_h2(&self) {
        self.multiplexed.store(true, Relaxed);
        self.enter(Phase::Quiet);
    }

    /// Whether the connection speaks HTTP/2.
    pub(crate) fn multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// How often the phase changed. Wraps.
    pub(crate) fn moves(&self) -> u32 {
        self.moves.load(Relaxed)
    }

    /// How far the client has come with what it has to take; `None` while that is nothing.
    ///
    /// That is the socket's buffer, and on HTTP/2 the windows: a client can keep the one full and the others shut.
    pub(crate) fn taken(&self) -> Option<Taken> {
        if self.write_blocked.load(Relaxed) {
            Some(Taken::Bytes(self.written.load(Relaxed)))
        } else if 0 < self.owed.load(Relaxed) {
            Some(Taken::Turns(self.paid.load(Relaxed)))
        } else {
            None
        }
    }

    /// Bytes came in.
    pub(crate) fn read(&self) {
        match self.phase() {
            Phase::Idle => self.enter(Phase::Head),
            Phase::FirstByte if !self.multiplexed.load(Relaxed) => self.enter(Phase::Head),
            Phase::ProxyHeader
            | Phase::Handshake
            | Phase::FirstByte
            | Phase::Head
            | Phase::Serving
            | Phase::Quiet
            | Phase::Closing => {}
        }
    }

    /// An answer gave bytes, and until it is asked for more the client owes us room for them.
    pub(crate) fn owe(&self) {
        self.owed
            .store(self.owed.load(Relaxed).saturating_add(1), Relaxed);
    }

    /// An answer is asked for more, or has ended.
    pub(crate) fn pay(&self) {
        self.owed
            .store(self.owed.load(Relaxed).saturating_sub(1), Relaxed);
        self.paid
            .store(self.paid.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// A write could not proceed.
    pub(crate) fn write_blocked(&self) {
        self.write_blocked.store(true, Relaxed);
    }

    /// A write proceeded.
    pub(crate) fn wrote(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.write_blocked.store(false, Relaxed);
        self.written
            .store(self.written.load(Relaxed).wrapping_add(bytes), Relaxed);
    }

    /// Whatever waits to be taken is not waited for when the connection closes.
    pub(crate) fn forget_the_rest(&self) {
        self.reset.store(true, Relaxed);
    }

    /// See [`Vitals::forget_the_rest`].
    pub(crate) fn forgets_the_rest(&self) -> bool {
        self.reset.load(Relaxed)
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        self.in_flight
            .store(self.in_flight.load(Relaxed).saturating_add(1), Relaxed);
        self.begun
            .store(self.begun.load(Relaxed).wrapping_add(1), Relaxed);
        self.enter(Phase::Serving);
    }

    /// How many requests have begun. Wraps.
    pub(crate) fn begun(&self) -> u32 {
        self.begun.load(Relaxed)
    }

    /// HTTP/2: which head, or other frame, the client has begun and not ended; 0: none.
    pub(crate) fn owes_head(&self, which: u32) {
        self.head_owed.store(which, Relaxed);
    }

    /// See [`Vitals::owes_head`]. `None` while our own bytes wait for the client: nothing may be read of it then, and it is those
    /// that count.
    pub(crate) fn head_owed(&self) -> Option<u32> {
        let blocked = self.write_blocked.load(Relaxed);
        (!blocked).then(|| self.head_owed.load(Relaxed))
    }

    /// HTTP/1.1: the target of the next request has a fragment.
    pub(crate) fn note_fragment(&self) {
        self.fragment.store(true, Relaxed);
    }

    /// HTTP/1.1: whether the target of the present request had a fragment. The connection ends with its refusal.
    pub(crate) fn has_fragment(&self) -> bool {
        self.fragment.load(Relaxed)
    }

    /// The answer to a request has ended, or nobody wants it any more.
    pub(crate) fn end(&self) {
        let left = self.in_flight.load(Relaxed).saturating_sub(1);
        self.in_flight.store(left, Relaxed);
        if left == 0 && self.phase() == Phase::Serving {
            self.enter(match (self.verdict(), self.multiplexed()) {
                (Verdict::Go, false) => Phase::Idle,
                (Verdict::Go, true) => Phase::Quiet,
                (Verdict::Finish | Verdict::End, _) => Phase::Closing,
            });
        }
    }

    /// The client is told to leave. It has the limit of [`Phase::Closing`] for it, from the end of its last request.
    pub(crate) fn say_goodbye(&self) {
        if self.in_flight() == 0 {
            self.enter(Phase::Closing);
        }
    }

    /// An answer went out before its request's body was read. On HTTP/1.1 the connection closes after it.
    pub(crate) fn leave_body_unread(&self) {
        self.unread_body.store(true, Relaxed);
    }

    /// Whether bytes of the client are probably on their way when we close: then closing at once would reset the connection
    /// and could take our answer with it.
    pub(crate) fn wants_linger(&self) -> bool {
        self.unread_body.load(Relaxed) || self.phase() == Phase::Head
    }

    /// What is asked of the connection.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.verdict.load(Relaxed) {
            0 => Verdict::Go,
            1 => Verdict::Finish,
            _ => Verdict::End,
        }
    }

    /// Asks for `verdict`, unless more is asked already.
    pub(crate) fn ask(&self, verdict: Verdict) {
        let asked = self.verdict.load(Relaxed);
        self.verdict.store(asked.max(verdict as u8), Relaxed);
    }
}
