//! Bounds on our calls to a provider, and how long its answers are kept.

use std::time::Duration;

use crate::config::compile::context::Context;
use crate::config::compile::providers::Common;
use crate::config::compile::providers::permille;
use crate::config::compile::providers::whole;
use crate::config::compile::tokens::span;
use crate::config::scalar::Decimal;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::providers::settings::Breaker;
use crate::providers::settings::Client;

const MIN_CACHE: Duration = Duration::from_secs(1);
const MAX_CACHE: Duration = Duration::from_secs(600);

/// How long a good answer is kept; in no time at all it would be over before it counts.
pub(super) fn cache(context: &mut Context<'_>, field: &Field<At<Span>>) -> Duration {
    span(context, field, MIN_CACHE, MAX_CACHE, "from `1s` to `10m`");
    field.or(Span(Duration::from_secs(30))).0
}

/// For how long after that it counts while nobody can be asked.
pub(super) fn stale(context: &mut Context<'_>, field: &Field<At<Span>>) -> Option<Duration> {
    let hour = Duration::from_secs(3_600);
    span(context, field, MIN_CACHE, hour, "from `1s` to `1h`");
    field.get().map(|at| at.value.0)
}

/// Bounds on our calls to a provider.
pub(super) fn client(context: &mut Context<'_>, common: &Common<'_>) -> Client {
    let mut client = Client {
        timeout: Duration::from_secs(10),
        max_inflight: 64,
        rps: None,
        retries: 2,
        ca: context.pem(common.ca, "the CA file", "CERTIFICATE"),
        certificate: None,
        breaker: Breaker {
            window: Duration::from_secs(30),
            min_requests: 20,
            failure_permille: 500,
            open_for: Duration::from_secs(15),
        },
    };
    if let Some(raw) = common.limits.get() {
        span(
            context,
            &raw.timeout,
            Duration::from_millis(50),
            Duration::from_secs(60),
            "from `50ms` to `60s`",
        );
        client.timeout = raw.timeout.or(Span(client.timeout)).0;
        client.max_inflight = whole(context, &raw.max_inflight, (1, 65_536), 64);
        client.retries = whole(context, &raw.retries, (0, 5), 2);
        if !raw.rps.is_absent() {
            client.rps = Some(whole(context, &raw.rps, (1, 100_000), 1));
        }
    }
    if let Some(raw) = common.breaker.get() {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
        span(context, &raw.window, second, hour, "from `1s` to `1h`");
        span(context, &raw.open_for, second, hour, "from `1s` to `1h`");
        client.breaker.window = raw.window.or(Span(client.breaker.window)).0;
        client.breaker.open_for = raw.open_for.or(Span(client.breaker.open_for)).0;
        client.breaker.min_requests = whole(context, &raw.min_requests, (1, 1_000_000), 20);
        if let Some(at) = raw.failure_percent.get() {
            client.breaker.failure_permille = permille(context, at).unwrap_or(500);
            if client.breaker.failure_permille == 0 {
                context
                    .report
                    .error(at.mark, "a breaker that opens at 0 % is always open");
            }
        }
        if let Some(at) = raw.failure_rate.get() {
            if !raw.failure_percent.is_absent() {
                context
                    .report
                    .error(at.mark, "`failure_percent` says the same: only one of them");
            }
            client.breaker.failure_permille = thousandths(context, at).unwrap_or(500);
        }
    }
    client
}

/// A share above 0 in thousandths: at most three decimals.
fn thousandths(context: &mut Context<'_>, at: &At<Decimal>) -> Option<u32> {
    let thousandths = at.value.0 * 1_000.0;
    if !(1.0..=1_000.0).contains(&thousandths) || 1e-6 < (thousandths - thousandths.round()).abs() {
        context
            .report
            .error(at.mark, format!("`{}` is no such share", at.value.0))
            .hint("from `0.001` to `1`, with at most three decimals");
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 1 to 1 000"
    )]
    Some(thousandths.round() as u32)
}
