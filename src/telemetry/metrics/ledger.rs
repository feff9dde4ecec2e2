//! The ledger, counted.

use crate::telemetry::metrics::Metrics;

impl Metrics {
    /// A record was appended to the ledger.
    pub(crate) fn ledger_record(&self, kind: &'static str) {
        self.rare.decision_records.with(&[kind]).add(1);
    }

    /// Whether the ledger verified.
    pub(crate) fn ledger_intact(&self, intact: bool) {
        let cell = self.rare.decision_log_intact.with(&[]);
        cell.set(f64::from(u8::from(intact)));
    }

    /// How many records could not be written to the ledger yet.
    pub(crate) fn ledger_owed(&self, records: usize) {
        self.rare.decision_log_owed.with(&[]).set(records as f64);
    }
}
