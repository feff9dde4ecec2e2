//! What happened to connections, counted for metrics.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::proxy::serve::vitals::Cut;
use crate::telemetry::metrics::Shed;

/// Counters of all workers together. Written once or twice in the life of a connection.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    accept_errors: AtomicU64,
    handshake_failures: AtomicU64,
    refused_proxy_headers: AtomicU64,
    out_of_memory: AtomicU64,
    bad_heads: AtomicU64,
    cut: [AtomicU64; Cut::ALL.len()],
}

impl Counts {
    /// What has happened since this was asked last.
    pub(crate) fn take(&self) -> impl Iterator<Item = (Shed, u64)> {
        let cut = Cut::ALL
            .into_iter()
            .zip(&self.cut)
            .map(|(reason, count)| (reason.shed(), count));
        let others = [
            (Shed::AcceptError, &self.accept_errors),
            (Shed::Handshake, &self.handshake_failures),
            (Shed::ProxyHeader, &self.refused_proxy_headers),
            (Shed::Memory, &self.out_of_memory),
            (Shed::BadHead, &self.bad_heads),
        ];
        cut.chain(others)
            .map(|(reason, count)| (reason, count.swap(0, Relaxed)))
            .filter(|(_, count)| 0 < *count)
    }

    pub(super) fn count_accept_error(&self) {
        self.accept_errors.fetch_add(1, Relaxed);
    }

    pub(super) fn count_handshake_failure(&self) {
        self.handshake_failures.fetch_add(1, Relaxed);
    }

    pub(super) fn count_refused_proxy_header(&self) {
        self.refused_proxy_headers.fetch_add(1, Relaxed);
    }

    /// A connection or request was turned away because memory is short.
    pub(crate) fn count_out_of_memory(&self) {
        self.out_of_memory.fetch_add(1, Relaxed);
    }

    /// What came is no head, and was answered before it was a request.
    pub(super) fn count_bad_head(&self) {
        self.bad_heads.fetch_add(1, Relaxed);
    }

    pub(super) fn count_cut(&self, reason: Cut, n: u64) {
        if let Some(count) = self.cut.get(reason as usize) {
            count.fetch_add(n, Relaxed);
        }
    }
}

#[cfg(test)]
impl Counts {
    /// Connections ended by us, for `reason`, since the last [`Self::take`].
    pub(crate) fn cut(&self, reason: Cut) -> u64 {
        self.cut
            .get(reason as usize)
            .map_or(0, |count| count.load(Relaxed))
    }

    /// TLS handshakes that failed.
    pub(crate) fn handshake_failures(&self) -> u64 {
        self.handshake_failures.load(Relaxed)
    }

    /// Heads that were none.
    pub(crate) fn bad_heads(&self) -> u64 {
        self.bad_heads.load(Relaxed)
    }

    /// PROXY protocol headers that were refused.
    pub(crate) fn refused_proxy_headers(&self) -> u64 {
        self.refused_proxy_headers.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told_once() {
        let counts = Counts::default();
        for (n, reason) in (1..).zip(Cut::ALL) {
            counts.count_cut(reason, n);
        }
        counts.count_accept_error();
        let told: Vec<_> = counts.take().collect();
        assert_eq!(told.len(), Cut::ALL.len() + 1);
        assert!(told.contains(&(Shed::DrainTimeout, 8)));
        assert_eq!(counts.take().count(), 0);
    }
}
