//! The subscription: what other instances change is told here, and a heartbeat through the server says whether it is.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::PubSubStream;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::timeout;
use tracing::debug;

use crate::store::redis::link::Link;
use crate::store::watch::Changes;

/// How often we say something to ourselves: each 250 ms.
const BEAT: Duration = Duration::from_millis(250);
/// When it is not heard for 1 s, changes are not told in time.
const DEAF: Duration = Duration::from_secs(1);
/// When it is not heard for 3 s, the subscription is made anew.
const GONE: Duration = Duration::from_secs(3);
/// A subscription is made within 1 s, or tried again this much later.
const AGAIN: Duration = Duration::from_secs(1);

/// What the subscription needs; it ends when the store does.
pub(super) struct Listener {
    pub(super) link: Weak<Link>,
    pub(super) changes: Weak<Changes>,
    /// Whether the heartbeat was heard within the last second.
    pub(super) hears: Arc<AtomicBool>,
    /// Where changes are published.
    pub(super) channel: String,
    /// Where our heartbeat is published: ours alone.
    pub(super) beat: String,
}

impl Listener {
    /// Listens until the store is dropped.
    pub(super) async fn run(self) {
        while let Some(link) = self.link.upgrade() {
            let began = Instant::now();
            match timeout(AGAIN, self.subscribe(&link)).await {
                Ok(Ok(stream)) => {
                    drop(link);
                    self.listen(stream).await;
                }
                Ok(Err(error)) => {
                    drop(link);
                    debug!(error = error.category(), "No subscription at the store.");
                }
                Err(_) => drop(link),
            }
            self.hears.store(false, Ordering::Release);
            tokio::time::sleep_until(began + AGAIN).await;
        }
    }

    async fn subscribe(&self, link: &Link) -> redis::RedisResult<PubSubStream> {
        let mut subscription = link.client().get_async_pubsub().await?;
        subscription.subscribe(&[&self.channel, &self.beat]).await?;
        Ok(subscription.into_on_message())
    }

    async fn listen(&self, mut stream: PubSubStream) {
        let mut heard = Instant::now();
        let mut tick = tokio::time::interval(BEAT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What was said before the subscription stood is not known.
        if let Some(changes) = self.changes.upgrade() {
            changes.missed();
        }
        loop {
            let message = tokio::select! {
                message = stream.next() => match message {
                    Some(message) => message,
                    None => return,
                },
                _ = tick.tick() => {
                    let silence = heard.elapsed();
                    if DEAF < silence {
                        self.hears.store(false, Ordering::Release);
                    }
                    if GONE < silence || !self.beat() {
                        return;
                    }
                    continue;
                }
            };
            if message.get_channel_name() == self.beat {
                heard = Instant::now();
                self.hears.store(true, Ordering::Release);
            } else if let Some(changes) = self.changes.upgrade() {
                changes.heard(message.get_payload_bytes().to_vec());
            }
        }
    }

    /// Says something to ourselves, through the connection that writes: it is heard only if both ways are well.
    fn beat(&self) -> bool {
        let Some(link) = self.link.upgrade() else {
            return false;
        };
        let beat = self.beat.clone();
        if !link.is_away() {
            tokio::spawn(async move {
                let said = link.call(|mut connection| async move {
                    let mut publish = redis::cmd("PUBLISH");
                    publish.arg(beat).arg("");
                    publish.query_async::<()>(&mut connection).await
                });
                if let Err(error) = said.await {
                    debug!(%error, "No heartbeat at the store.");
                }
            });
        }
        true
    }
}
