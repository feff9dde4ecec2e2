//! What happened to connections, counted for metrics.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::proxy::serve::vitals::Cut;

/// Counters of all workers together. Written once or twice in the life of a connection.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    accepted: AtomicU64,
    accept_errors: AtomicU64,
    handshake_failures: AtomicU64,
    refused_proxy_headers: AtomicU64,
    cut: [AtomicU64; Cut::ALL.len()],
}

impl Counts {
    /// Connections accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Times the system refused to hand out a connection, such as for want of descriptors.
    pub(crate) fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Relaxed)
    }

    /// TLS handshakes that failed.
    pub(crate) fn handshake_failures(&self) -> u64 {
        self.handshake_failures.load(Relaxed)
    }

    /// Connections of listed peers without a PROXY protocol header we understand.
    pub(crate) fn refused_proxy_headers(&self) -> u64 {
        self.refused_proxy_headers.load(Relaxed)
    }

    /// Connections ended by us, for `reason`.
    pub(crate) fn cut(&self, reason: Cut) -> u64 {
        self.cut
            .get(reason as usize)
            .map_or(0, |count| count.load(Relaxed))
    }

    pub(super) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
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

    pub(super) fn count_cut(&self, reason: Cut, n: u64) {
        if let Some(count) = self.cut.get(reason as usize) {
            count.fetch_add(n, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_count_and_label() {
        let counts = Counts::default();
        for (n, reason) in (1..).zip(Cut::ALL) {
            counts.count_cut(reason, n);
        }
        for (n, reason) in (1..).zip(Cut::ALL) {
            assert_eq!(counts.cut(reason), n, "{}", reason.label());
        }
        let labels: std::collections::BTreeSet<_> =
            Cut::ALL.iter().map(|cut| cut.label()).collect();
        assert_eq!(labels.len(), Cut::ALL.len());
    }
}
