//! What is told of what upstreams get in place of a credential.

use crate::auth::report::About;
use crate::auth::report::Reports;
use crate::auth::report::Said;
use crate::telemetry::Decision;
use crate::telemetry::ExchangeEvent;
use crate::telemetry::ExchangeOutcome;
use crate::telemetry::Value;

impl Reports {
    /// A credential was exchanged for what an upstream expects, or was not: an event, and what is not from memory is a span.
    pub(in crate::auth) fn exchanged(&self, about: About<'_>, event: ExchangeEvent<'_>) {
        self.write(about, Decision::Exchanged(event));
        match event.outcome {
            ExchangeOutcome::Kept => return,
            ExchangeOutcome::Issued
            | ExchangeOutcome::Renewing
            | ExchangeOutcome::Refused(_)
            | ExchangeOutcome::Unavailable(_) => {}
        }
        if let (Some(traces), Some(source)) = (&self.traces, about.source)
            && source.trace.is_sampled()
        {
            let text = |text: &str| Value::Text(text.to_owned());
            let own = vec![
                ("authferry.exchange", text(event.exchange)),
                ("authferry.grant", text(event.grant)),
            ];
            let said = Said {
                client: event.client,
                audience: event.audience,
                scope: event.scope,
                provider: event.provider,
                lifetime: event.lifetime,
                outcome: event.outcome.as_str(),
                reason: event.outcome.reason(),
            };
            let name = format!("exchange {}", event.exchange);
            traces.record(self.span((name, own), &said, (about.app, about.now), &source));
        }
    }
}
