//! Asking an upstream for another protocol: on a connection of its own, which never belongs to the pool.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::response::Parts;
use http_body::Body;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::proxy::upgrade::Upgrade;
use crate::proxy::upstream::answer;
use crate::proxy::upstream::answer::Answer;
use crate::proxy::upstream::answer::AnswerFault;
use crate::proxy::upstream::connect::ConnectError;
use crate::proxy::upstream::fault::LinkFault;
use crate::proxy::upstream::link::BoxError;
use crate::proxy::upstream::link::H1_BUFFER;
use crate::proxy::upstream::link::Lease;
use crate::proxy::upstream::link::MAX_HEAD;
use crate::proxy::upstream::link::Received;
use crate::proxy::upstream::pool::Pool;
use crate::proxy::upstream::pool::SendError;
use crate::proxy::upstream::target::Target;
use crate::proxy::upstream_head::HeadPolicy;
use crate::proxy::upstream_head::UpstreamHead;

/// What came of asking.
pub(crate) enum Switched<B> {
    /// The head of a judged 101, and the upstream's side of the tunnel once the client has been told.
    Yes(Parts, OnUpgrade),
    /// Another answer, as whoever asks for no protocol gets it (RFC 9110 §7.8): whole, however long it is.
    No(Answer<B>),
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Asks for another protocol, and says which origin answered. An origin that does not connect is passed over; what was sent
    /// is never sent twice.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; a 101 that does not fit the request is one.
    pub(crate) async fn switch(
        &self,
        target: &Arc<Target>,
        policy: &HeadPolicy,
        upgrade: &Upgrade,
        head: UpstreamHead,
    ) -> Result<(Switched<B>, usize), SendError> {
        let (stream, origin, site) = self.apart(target).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(H1_BUFFER)
            .max_header_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| SendError::Connect(ConnectError::Protocol(error)))?;
        spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::trace!(%error, "An upstream connection ended before its tunnel.");
            }
        });
        let host = (!target.settings().preserve_host).then_some(&site.authority);
        let request = head.into_h1(host, Empty::<Bytes>::new())?;
        let limit = target.settings().response_timeout;
        let response = match timeout(limit, sender.send_request(request)).await {
            Ok(answered) => answered.map_err(LinkFault::H2)?,
            Err(_) => return Err(SendError::Timeout),
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // To a stream that became a tunnel, 200 says that it is one (RFC 8441 §5).
            if upgrade.multiplexed() && response.status().is_success() {
                return Err(SendError::BadAnswer(AnswerFault::Handshake));
            }
            let group = self.group(target);
            if !group.enter() {
                return Err(SendError::Busy);
            }
            let lease = Lease::apart(&group, origin);
            let answer = answer::accept(response.map(Received::H2), lease, policy)?;
            return Ok((Switched::No(answer), origin));
        }
        if upgrade.judge(response.headers()).is_err() {
            return Err(SendError::BadAnswer(AnswerFault::Handshake));
        }
        let mut response = response;
        let theirs = hyper::upgrade::on(&mut response);
        let (mut parts, _) = response.into_parts();
        answer::clean(&mut parts, policy)?;
        Ok((Switched::Yes(parts, theirs), origin))
    }
}
