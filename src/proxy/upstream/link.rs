//! One connection for one exchange, and its way back to the pool.

use std::cell::Cell;
use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::Request;
use http::Response;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep_until;

use crate::proxy::settings::Upstream;
use crate::proxy::upstream::connect::ConnectError;
use crate::proxy::upstream::fault::LinkFault;
use crate::proxy::upstream::group::Group;
use crate::proxy::upstream::group::Ready;
use crate::proxy::upstream::h1::Decoder;
use crate::proxy::upstream::h1::Message;
use crate::proxy::upstream::outgoing::Outgoing;
use crate::proxy::upstream::outgoing::Upload;
use crate::proxy::upstream::target::Site;
use crate::proxy::upstream::wire::Stream;
use crate::proxy::upstream_head::HeadError;
use crate::proxy::upstream_head::UpstreamHead;

/// What hyper buffers of a connection that becomes a tunnel. The head of an answer must fit.
pub(super) const H1_BUFFER: usize = 128 * 1024;

/// The head of an answer; more is 502.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// Windows of an HTTP/2 stream and connection.
const H2_STREAM_WINDOW: u32 = 256 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// A PING after this silence, and the time for its answer.
const H2_PING: Duration = Duration::from_secs(30);
const H2_PING_ANSWER: Duration = Duration::from_secs(10);

/// What bodies are made of on both sides.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An HTTP/2 connection; its streams share it.
pub(super) struct H2<B> {
    sender: http2::SendRequest<Outgoing<B>>,
    pub(super) streams: Cell<usize>,
    pub(super) born: Instant,
    pub(super) used: Cell<Instant>,
    /// No stream begins here any more.
    pub(super) retired: Cell<bool>,
}

/// Runs what belongs to a connection on its own thread.
#[derive(Clone, Copy)]
pub(super) struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(async move {
            future.await;
        });
    }
}

impl<B> H2<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) async fn start(stream: Stream, now: Instant) -> Result<Rc<Self>, ConnectError> {
        let (sender, connection) = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .keep_alive_interval(H2_PING)
            .keep_alive_timeout(H2_PING_ANSWER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ConnectError::Protocol)?;
        spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "Upstream connection ended.");
            }
        });
        Ok(Rc::new(Self {
            sender,
            streams: Cell::new(0),
            born: now,
            used: Cell::new(now),
            retired: Cell::new(false),
        }))
    }
}

impl<B> H2<B> {
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// One exchange on one connection. Dropped before its end, the connection goes with it; HTTP/2 resets the stream.
pub(crate) struct Lease<B> {
    group: Rc<Group<B>>,
    slot: usize,
    link: Option<Ready<B>>,
    keep: bool,
    /// How long the connection had rested since it served another request. `None`: it had served nobody.
    pub(super) rested: Option<Duration>,
}

/// How an exchange failed before the head of an answer came.
pub(super) enum Failure<B> {
    /// Not a byte was sent: here is the body again.
    Unsent(Outgoing<B>),
    /// Something may have been sent. `answered`: bytes of an answer came.
    Broken { fault: LinkFault, answered: bool },
    /// No head within the time.
    Timeout,
    /// The head cannot be said in HTTP/2.
    Head(HeadError),
}

impl<B> Failure<B> {
    /// After `read` bytes of an answer.
    pub(super) fn broken(fault: impl Into<LinkFault>, read: usize) -> Self {
        Self::Broken {
            fault: fault.into(),
            answered: 0 < read,
        }
    }
}

/// Where the content of an answer comes from.
pub(crate) enum Received {
    /// Out of the connection that the lease holds.
    H1(Decoder),
    /// Out of what hyper reads: a stream, or a connection that no pool has.
    H2(Incoming),
}

impl Received {
    /// Whether all of it has come.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::H1(decoder) => decoder.is_ended(),
            Self::H2(incoming) => incoming.is_end_stream(),
        }
    }

    /// What is still to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::H1(decoder) => decoder
                .left()
                .map_or_else(SizeHint::new, SizeHint::with_exact),
            Self::H2(incoming) => incoming.size_hint(),
        }
    }
}

impl<B> Lease<B> {
    pub(super) fn new(
        group: &Rc<Group<B>>,
        slot: usize,
        link: Ready<B>,
        rested: Option<Duration>,
    ) -> Self {
        if let Some(slot) = group.slot(slot) {
            slot.enter();
        }
        if let Ready::H2(link) = &link {
            link.streams.set(link.streams.get() + 1);
        }
        Self {
            group: group.clone(),
            slot,
            link: Some(link),
            keep: true,
            rested,
        }
    }

    /// For an exchange on a connection of its own, which never belongs to the pool. The group has counted it in.
    pub(super) fn apart(group: &Rc<Group<B>>, slot: usize) -> Self {
        if let Some(slot) = group.slot(slot) {
            slot.enter();
        }
        Self {
            group: group.clone(),
            slot,
            link: None,
            keep: false,
            rested: None,
        }
    }

    /// The connection was good after its rest.
    pub(super) fn served(&self) {
        if let Some(rested) = self.rested
            && let Some(slot) = self.group.slot(self.slot)
        {
            slot.rests.served(rested);
        }
    }

    /// The connection ended before a byte of an answer: perhaps because it had rested.
    pub(super) fn found_ended(&self, now: Instant) {
        if let Some(rested) = self.rested
            && !self.is_h2()
            && let Some(slot) = self.group.slot(self.slot)
        {
            slot.rests.found_ended(rested, now);
        }
    }

    /// The place of the origin in its target.
    pub(super) const fn slot(&self) -> usize {
        self.slot
    }

    pub(super) const fn is_h2(&self) -> bool {
        matches!(self.link, Some(Ready::H2(_)))
    }

    /// The connection carries more than this exchange knows, such as an identity bound to it: nobody else may use it.
    pub(super) fn never_keep(&mut self) {
        self.keep = false;
        if let Some(Ready::H2(link)) = &self.link {
            link.retired.set(true);
        }
    }

    /// The exchange has ended cleanly: the connection goes back to the pool.
    pub(crate) fn give_back(mut self) {
        if let Some(Ready::H1(mut link)) = self.link.take()
            && self.keep
            && link.is_clean()
            && let Some(slot) = self.group.slot(self.slot)
        {
            link.rest();
            slot.rest(link, Instant::now());
        }
    }

    /// The next part of the content that comes over this connection.
    pub(crate) fn poll_content(
        &mut self,
        received: &mut Received,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LinkFault>>> {
        match (received, &mut self.link) {
            (Received::H1(decoder), Some(Ready::H1(link))) => link.poll_content(decoder, cx),
            (Received::H2(incoming), _) => {
                Pin::new(incoming).poll_frame(cx).map_err(LinkFault::from)
            }
            (Received::H1(_), Some(Ready::H2(_)) | None) => {
                Poll::Ready(Some(Err(LinkFault::ended())))
            }
        }
    }
}

impl<B> Lease<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Sends a request and waits for the head of its answer. `limit` runs while it is the upstream's turn.
    pub(super) async fn exchange(
        &mut self,
        head: UpstreamHead,
        body: Outgoing<B>,
        site: &Site,
        settings: &Upstream,
        now: Instant,
    ) -> Result<Response<Received>, Failure<B>> {
        let host = (!settings.preserve_host).then_some(&site.authority);
        let limit = settings.response_timeout;
        match &mut self.link {
            Some(Ready::H1(link)) => {
                let mut text = link.room();
                let framing = body.framing(head.method());
                head.encode(host, framing, &mut text);
                let message = Message {
                    text,
                    framing,
                    body,
                    bodiless: *head.method() == Method::HEAD,
                };
                let answer = link.exchange(message, limit, now).await?;
                Ok(answer.map(Received::H1))
            }
            Some(Ready::H2(link)) => {
                let upload = body.upload();
                let request = match head.into_h2(site.scheme(), host, body) {
                    Ok(request) => request,
                    Err(error) => return Err(Failure::Head(error)),
                };
                let timer = pin!(sleep_until(now + limit));
                let sending = link.sender.clone().try_send_request(request);
                match await_head(sending, timer, upload.as_deref(), limit).await {
                    Some(Ok(answer)) => Ok(answer.map(Received::H2)),
                    Some(Err(error)) => Err(failure(error)),
                    None => Err(Failure::Timeout),
                }
            }
            None => Err(Failure::Unsent(body)),
        }
    }
}

fn failure<B>(mut error: TrySendError<Request<Outgoing<B>>>) -> Failure<B> {
    match error.take_message() {
        Some(request) => Failure::Unsent(request.into_body()),
        None => Failure::broken(error.into_error(), 0),
    }
}

/// `None`: the upstream has had the turn for `limit`.
async fn await_head<T>(
    sending: impl Future<Output = T>,
    mut timer: Pin<&mut Sleep>,
    upload: Option<&Upload>,
    limit: Duration,
) -> Option<T> {
    let mut sending = pin!(sending);
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = sending.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        if overdue(timer.as_mut(), cx, upload, limit) {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// Whether the upstream has had the turn for `limit`.
pub(super) fn overdue(
    mut timer: Pin<&mut Sleep>,
    cx: &mut Context<'_>,
    upload: Option<&Upload>,
    limit: Duration,
) -> bool {
    while timer.as_mut().poll(cx).is_ready() {
        let now = Instant::now();
        let due = match upload.map(Upload::upstream_owes_since) {
            // Nothing is sent but the head: the time began with the request.
            None => return true,
            // The client owes bytes; who watches over that is not here.
            Some(None) => now + limit,
            Some(Some(since)) => since + limit,
        };
        if due <= now {
            return true;
        }
        timer.as_mut().reset(due);
    }
    false
}

impl<B> Drop for Lease<B> {
    fn drop(&mut self) {
        if let Some(Ready::H2(link)) = &self.link {
            link.streams.set(link.streams.get().saturating_sub(1));
            link.used.set(Instant::now());
        }
        if let Some(slot) = self.group.slot(self.slot) {
            slot.leave();
        }
        self.group.leave();
    }
}
