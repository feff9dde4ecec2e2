//! Where a key set is fetched from: a fixed address, or the one that the provider's metadata name.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::providers::client::Endpoint;
use crate::providers::oauth::Discovered;

/// How long a fetch waits for metadata that are being fetched themselves.
const DISCOVERY_GRACE: Duration = Duration::from_secs(1);

/// Where a key set is fetched from.
#[derive(Debug)]
pub(in crate::providers) enum Source {
    /// An address from the configuration.
    Url(Endpoint),
    /// `jwks_uri` of the provider's metadata.
    Discovered(watch::Receiver<Discovered>),
}

impl Source {
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Self::Url(url) => Some(url.clone()),
            Self::Discovered(metadata) => metadata.borrow().jwks_uri(),
        }
    }

    /// The address; one that is being discovered is waited for, so that the first requests after a start need not fail.
    pub(super) async fn known(&mut self) -> Option<Endpoint> {
        // Whether it came in time shows below.
        drop(timeout(DISCOVERY_GRACE, self.moved(None)).await);
        self.endpoint()
    }

    /// Waits until the address is another one than `from`.
    pub(super) async fn moved(&mut self, from: Option<&Endpoint>) {
        while self.endpoint().as_ref() == from {
            let told = match self {
                Self::Discovered(metadata) => metadata.changed().await.is_ok(),
                Self::Url(_) => false,
            };
            if !told {
                return std::future::pending().await;
            }
        }
    }
}
