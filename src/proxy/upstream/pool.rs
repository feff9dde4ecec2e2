//! The pool of one worker: a request goes in, the head of an answer comes out.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::rc::Weak;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body::Body;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::proxy::upstream::answer;
use crate::proxy::upstream::answer::Answer;
use crate::proxy::upstream::answer::AnswerFault;
use crate::proxy::upstream::connect;
use crate::proxy::upstream::connect::ConnectError;
use crate::proxy::upstream::connect::Speak;
use crate::proxy::upstream::fault::LinkFault;
use crate::proxy::upstream::group::Entered;
use crate::proxy::upstream::group::Group;
use crate::proxy::upstream::group::Ready;
use crate::proxy::upstream::group::Slot;
use crate::proxy::upstream::group::bit;
use crate::proxy::upstream::h1::H1;
use crate::proxy::upstream::health;
use crate::proxy::upstream::link::BoxError;
use crate::proxy::upstream::link::Failure;
use crate::proxy::upstream::link::H2;
use crate::proxy::upstream::link::Lease;
use crate::proxy::upstream::outgoing::Outgoing;
use crate::proxy::upstream::resolve::Resolver;
use crate::proxy::upstream::target::Site;
use crate::proxy::upstream::target::Target;
use crate::proxy::upstream::wire::Stream;
use crate::proxy::upstream_head::HeadError;
use crate::proxy::upstream_head::HeadPolicy;
use crate::proxy::upstream_head::UpstreamHead;

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// How often a request is given back unsent by connections that had died, before it is given up.
const MAX_UNSENT: u32 = 8;

/// The upstream connections of one worker. Cloning shares it. Used inside a `LocalSet`.
pub(crate) struct Pool<B>(Rc<Inner<B>>);

struct Inner<B> {
    resolver: Arc<Resolver>,
    groups: RefCell<HashMap<u64, Rc<Group<B>>>>,
    sweeping: Cell<bool>,
}

/// Which connections will do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// Whatever is open: the request may be sent again.
    Any,
    /// One whose end is not near, or a new one: the request is sent once.
    Lasting,
    /// A new one.
    Fresh,
}

/// Why there is no answer. Chooses the status; the client learns nothing else.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The client's head cannot be forwarded.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Too many requests are under way to this upstream.
    #[error("too many requests to this upstream")]
    Busy,
    /// No origin accepted a connection.
    #[error(transparent)]
    Connect(ConnectError),
    /// No origin accepted a connection in time.
    #[error("no connection in time")]
    ConnectTimeout,
    /// Not answered within `response_timeout`.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke before an answer came.
    #[error("the connection broke: {0}")]
    Broken(#[source] BoxError),
    /// What came is not an answer.
    #[error(transparent)]
    BadAnswer(#[from] AnswerFault),
    /// The client's body broke off, or came too slowly; its error is the source.
    #[error("the request body broke off")]
    ClientBody(#[source] BoxError),
}

impl From<LinkFault> for SendError {
    fn from(fault: LinkFault) -> Self {
        match fault {
            LinkFault::Io(error) => Self::Broken(error.into()),
            LinkFault::H2(error) if error.is_user() => Self::ClientBody(error.into()),
            LinkFault::H2(error) if error.is_parse() => Self::BadAnswer(AnswerFault::Malformed),
            LinkFault::H2(error) => Self::Broken(error.into()),
            LinkFault::Answer(fault) => Self::BadAnswer(fault),
            LinkFault::ClientBody(error) => Self::ClientBody(error),
        }
    }
}

impl From<ConnectError> for SendError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Timeout => Self::ConnectTimeout,
            error @ (ConnectError::Unresolved(_)
            | ConnectError::Io(_)
            | ConnectError::Tls(_)
            | ConnectError::Protocol(_)) => Self::Connect(error),
        }
    }
}

impl<B> Clone for Pool<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// An empty pool.
    pub(crate) fn new(resolver: Arc<Resolver>) -> Self {
        Self(Rc::new(Inner {
            resolver,
            groups: RefCell::default(),
            sweeping: Cell::new(false),
        }))
    }

    /// Sends a request and waits for the head of its answer, which has been cleaned.
    ///
    /// `head` is asked again when a request has to be sent again. That happens at most once, for an idempotent method
    /// (RFC 9110 §9.2.2) without a body, when a connection that had been idle broke before a byte of an answer, and only
    /// for one request in ten. A request of which nothing was sent is not a retry. What cannot be sent again gets a
    /// connection whose end is not near.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub(crate) async fn send<F>(
        &self,
        target: &Arc<Target>,
        policy: &HeadPolicy,
        body: Option<B>,
        head: F,
    ) -> Result<Answer<B>, SendError>
    where
        F: Fn() -> Result<UpstreamHead, HeadError>,
    {
        let group = self.group(target);
        let mut next = head()?;
        group.earn();
        let mut body = Outgoing::new(body);
        let replayable = body.is_empty();
        let (mut retried, mut unsent) = (false, 0);
        loop {
            let idempotent = is_idempotent(next.method());
            let binds = next.binds_connection();
            let now = Instant::now();
            let want = if retried || MAX_UNSENT <= unsent {
                Want::Fresh
            } else if idempotent && replayable {
                Want::Any
            } else {
                Want::Lasting
            };
            let (mut lease, site) = self.lease(target, &group, now, want).await?;
            if binds {
                lease.never_keep();
            }
            // What connecting took is not taken from the time to answer.
            let now = if lease.rested.is_some() {
                now
            } else {
                Instant::now()
            };
            let settings = target.settings();
            match lease.exchange(next, body, site, settings, now).await {
                Ok(response) => {
                    lease.served();
                    return Ok(answer::accept(response, lease, policy)?);
                }
                Err(Failure::Timeout) => return Err(SendError::Timeout),
                Err(Failure::Head(error)) => return Err(error.into()),
                Err(Failure::Unsent(unused)) => {
                    unsent += 1;
                    if MAX_UNSENT < unsent {
                        return Err(SendError::BadAnswer(AnswerFault::Closed));
                    }
                    body = unused;
                }
                Err(Failure::Broken { fault, answered }) => {
                    let clients = matches!(fault, LinkFault::ClientBody(_));
                    if !answered && !clients {
                        lease.found_ended(now);
                    }
                    let may = replayable
                        && idempotent
                        && lease.rested.is_some()
                        && !answered
                        && !retried
                        && !clients;
                    if !may || !group.may_retry() {
                        return Err(fault.into());
                    }
                    retried = true;
                    body = Outgoing::Empty;
                }
            }
            next = head()?;
        }
    }

    /// A connection to an origin of `target`: a resting one, or a new one.
    async fn lease<'t>(
        &self,
        target: &'t Arc<Target>,
        group: &Rc<Group<B>>,
        now: Instant,
        want: Want,
    ) -> Result<(Lease<B>, &'t Site), SendError> {
        // Counted out by the drop of the lease, or below.
        if !group.enter() {
            return Err(SendError::Busy);
        }
        let entered = Entered(Some(group));
        let connect =
            async |index, site: &'t Site| self.link(target, group, index, site, now, want).await;
        let ((link, rested), index, site) = somewhere(target, group, now, connect).await?;
        entered.hand_over();
        Ok((Lease::new(group, index, link, rested), site))
    }

    /// A new connection to an origin of `target` that speaks HTTP/1.1 and never belongs to the pool.
    pub(super) async fn apart<'t>(
        &self,
        target: &'t Arc<Target>,
    ) -> Result<(Stream, usize, &'t Site), SendError> {
        let group = self.group(target);
        let connect = async |index: usize, site: &'t Site| {
            let stream = connect::open(target, site, &self.0.resolver, Speak::Http1).await?;
            if let Some(slot) = group.slot(index) {
                slot.succeed();
            }
            Ok(stream)
        };
        somewhere(target, &group, Instant::now(), connect).await
    }

    async fn link(
        &self,
        target: &Arc<Target>,
        group: &Rc<Group<B>>,
        index: usize,
        site: &Site,
        now: Instant,
        want: Want,
    ) -> Result<(Ready<B>, Option<Duration>), ConnectError> {
        let slot = group.slot(index).ok_or(ConnectError::Timeout)?;
        let (idle, named) = (target.settings().idle, site.address.is_none());
        if want != Want::Fresh
            && let Some((link, rested)) = slot.take(now, (idle, named), want == Want::Lasting)
        {
            return Ok((link, Some(rested)));
        }
        // In a box: connecting is rare, and its future large.
        Box::pin(self.open(target, site, slot, (idle, named), want)).await
    }

    async fn open(
        &self,
        target: &Arc<Target>,
        site: &Site,
        slot: &Slot<B>,
        (idle, named): (Duration, bool),
        want: Want,
    ) -> Result<(Ready<B>, Option<Duration>), ConnectError> {
        if !target.settings().http2 {
            let stream = connect::open(target, site, &self.0.resolver, Speak::AsConfigured).await?;
            slot.succeed();
            return Ok((Ready::H1(H1::new(stream, Instant::now())), None));
        }
        let limit = target.settings().connect_timeout;
        let _turn = timeout(limit, slot.opening.lock())
            .await
            .or(Err(ConnectError::Timeout))?;
        // Whoever was first has opened one for all.
        if want != Want::Fresh
            && let Some((link, rested)) =
                slot.take(Instant::now(), (idle, named), want == Want::Lasting)
        {
            return Ok((link, Some(rested)));
        }
        let stream = connect::open(target, site, &self.0.resolver, Speak::AsConfigured).await?;
        slot.succeed();
        if site.origin.tls && !stream.agreed_on_h2() {
            return Ok((Ready::H1(H1::new(stream, Instant::now())), None));
        }
        let link = H2::start(stream, Instant::now()).await?;
        slot.share(link.clone());
        Ok((Ready::H2(link), None))
    }

    pub(super) fn group(&self, target: &Arc<Target>) -> Rc<Group<B>> {
        if let Some(group) = self.0.groups.borrow().get(&target.id()) {
            return group.clone();
        }
        let group = Group::new(target);
        health::watch(target, &self.0.resolver);
        self.0
            .groups
            .borrow_mut()
            .insert(target.id(), group.clone());
        if !self.0.sweeping.replace(true) {
            spawn_local(sweep(Rc::downgrade(&self.0)));
        }
        group
    }
}

impl<B> fmt::Debug for Pool<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("upstreams", &self.0.groups.borrow().len())
            .finish_non_exhaustive()
    }
}

/// Closes idle connections and forgets upstreams that the configuration has forgotten, until the pool is gone.
async fn sweep<B>(pool: Weak<Inner<B>>) {
    loop {
        sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        let now = Instant::now();
        pool.groups.borrow_mut().retain(|_, group| {
            group.sweep(now);
            !group.is_orphan()
        });
    }
}

/// Connects to one origin after the other until one accepts. One that does not is passed over and left alone for a while;
/// nothing has been sent to it.
async fn somewhere<'t, B, T>(
    target: &'t Arc<Target>,
    group: &Group<B>,
    now: Instant,
    connect: impl AsyncFn(usize, &'t Site) -> Result<T, ConnectError>,
) -> Result<(T, usize, &'t Site), SendError> {
    let mut tried = 0;
    let mut last = SendError::Busy;
    while let Some(index) = group.choose(target, tried, now) {
        let Some(site) = target.sites().get(index) else {
            break;
        };
        match connect(index, site).await {
            Ok(connected) => return Ok((connected, index, site)),
            Err(error) => {
                if let Some(slot) = group.slot(index) {
                    slot.fail(Instant::now());
                }
                tracing::debug!(%error, origin = %site.origin.host, port = site.origin.port, "No connection to an upstream.");
                last = error.into();
                if tried & bit(index) == bit(index) {
                    break;
                }
                tried |= bit(index);
            }
        }
    }
    Err(last)
}

/// RFC 9110 §9.2.2, of the methods that are forwarded.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    )
}
