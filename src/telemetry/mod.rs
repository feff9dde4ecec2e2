//! What operators see: metrics, access log, decision log, traces, diagnostics.
//!
//! Nothing here decides. A subject, token, cookie or address must never reach a line or a label, except as a pseudonym.

mod access_log;
mod decision_event;
mod decision_log;
pub(crate) mod diagnostics;
mod exchange_outcome;
mod key_uses;
mod line;
pub(crate) mod metrics;
pub(crate) mod otlp;
pub(crate) mod promql;
mod pseudonym;
mod recent;
pub(crate) mod settings;
mod sink;
mod trace;
pub(crate) mod webhook;

pub(crate) use access_log::AccessLine;
pub(crate) use access_log::AccessLog;
pub(crate) use access_log::Logs;
pub(crate) use access_log::Somebody;
pub(crate) use decision_log::Decision;
pub(crate) use decision_log::DecisionLog;
pub(crate) use decision_log::DecisionRecord;
pub(crate) use decision_log::TokenEvent;
pub(crate) use exchange_outcome::ExchangeEvent;
pub(crate) use exchange_outcome::ExchangeOutcome;
pub(crate) use key_uses::KeyUses;
pub(crate) use line::is_unprintable;
pub(crate) use line::put_hex;
pub(crate) use metrics::Metrics;
pub(crate) use metrics::WorkerMetrics;
pub(crate) use otlp::Span;
pub(crate) use otlp::Traces;
pub(crate) use otlp::Value;
pub(crate) use promql::Prometheus;
pub(crate) use pseudonym::Pseudonym;
pub(crate) use pseudonym::Pseudonyms;
pub(crate) use trace::TraceContext;
pub(crate) use trace::Tracer;
#[cfg(any(test, fuzzing))]
pub(crate) use trace::promise as traceparent;
pub(crate) use webhook::Webhook;
