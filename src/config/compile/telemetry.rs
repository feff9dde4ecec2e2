//! `telemetry`: logs, traces, and bounds on metrics.

use crate::config::compile::address::Peer;
use crate::config::compile::address::url;
use crate::config::compile::context::Context;
use crate::config::compile::providers::permille;
use crate::config::compile::providers::whole;
use crate::config::compile::unheard;
use crate::config::raw::AccessLogTo;
use crate::config::raw::LogSubjects;
use crate::config::raw::RawConfig;
use crate::config::scalar::Decimal;
use crate::config::shape::At;
use crate::secret::Secret;
use crate::telemetry;

/// A share in millionths.
fn millionths(context: &mut Context<'_>, at: &At<Decimal>) -> Option<u32> {
    let millionths = at.value.0 * 1_000_000.0;
    if !(0.0..=1_000_000.0).contains(&millionths) || 1e-3 < (millionths - millionths.round()).abs()
    {
        context
            .report
            .error(at.mark, format!("`{}` is no such share", at.value.0))
            .hint("from `0` to `1`, with at most six decimals");
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 1 000 000"
    )]
    Some(millionths.round() as u32)
}

/// Logs and traces. The key of pseudonyms is filled in once it is known whether it must be made.
pub(super) fn telemetry(
    context: &mut Context<'_>,
    raw: &RawConfig,
) -> telemetry::settings::Settings {
    unheard::of_telemetry(context, raw);
    let raw = raw.telemetry.get();
    let log = raw.and_then(|raw| raw.access_log.get());
    let file = log
        .and_then(|log| log.file.get())
        .map(|at| context.path(&at.value));
    let access_log = match (file, log.map(|log| log.to.or(AccessLogTo::Stdout))) {
        (Some(file), _) => telemetry::settings::AccessLog::File(file),
        (None, Some(AccessLogTo::Nowhere)) => telemetry::settings::AccessLog::Off,
        (None, Some(AccessLogTo::Stdout) | None) => telemetry::settings::AccessLog::Stdout,
    };
    let traces = raw.and_then(|raw| raw.traces.get());
    let otlp = traces
        .and_then(|traces| traces.otlp.get())
        .and_then(|at| url(context, at, Peer::Other).map(|_| at.value.clone()));
    let sample = traces.and_then(|traces| traces.sample_percent.get());
    let log = raw.and_then(|raw| raw.log.get());
    let share = log.and_then(|log| log.sample_success.get());
    let series = raw.and_then(|raw| raw.metrics.get());
    let series = series.map_or(2_000, |bounds| {
        whole(
            context,
            &bounds.max_series_per_family,
            (100, 100_000),
            2_000,
        )
    });
    telemetry::settings::Settings {
        access_log,
        log: telemetry::settings::Log {
            subjects: log.is_none_or(|log| {
                log.subjects.or(LogSubjects::Pseudonym) == LogSubjects::Pseudonym
            }),
            sample_success: share
                .and_then(|at| millionths(context, at))
                .unwrap_or(1_000_000),
        },
        max_series: series,
        pseudonym_key: Secret::new(Vec::new()),
        otlp,
        trace_permille: sample.and_then(|at| permille(context, at)).unwrap_or(10),
    }
}
