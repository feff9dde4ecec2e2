//! What is told of a token for an upstream that is fetched ahead of the end of the one that is kept: by nobody's request.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::auth::gate::exchanged::Holder;
use crate::auth::report::About;
use crate::auth::report::Reports;
use crate::auth::report::Source;
use crate::auth::report::beginning;
use crate::clock::UnixTime;
use crate::exchange;
use crate::exchange::Exchange;
use crate::exchange::Token;
use crate::identity::CanonicalSubject;
use crate::providers::ProviderError;
use crate::rollout::AppId;
use crate::telemetry::ExchangeEvent;
use crate::telemetry::ExchangeOutcome;
use crate::telemetry::Pseudonym;
use crate::telemetry::TraceContext;

/// What there is to tell.
struct Renewal {
    reports: Reports,
    exchange: Arc<Exchange>,
    app: AppId,
    person: CanonicalSubject,
    client: Option<Box<str>>,
    /// The beginning of a digest of the token that was presented.
    parent: Option<String>,
    /// The request that found it due, which has its answer by now.
    due: Option<Due>,
}

struct Due {
    request_id: Box<str>,
    trace: TraceContext,
    client: Option<Pseudonym>,
}

impl exchange::Renewal for Renewal {
    fn ended(&self, answer: &Result<Token, ProviderError>, (began, now): (Instant, UnixTime)) {
        let outcome = match answer {
            Ok(_) => ExchangeOutcome::Issued,
            Err(ProviderError::Rejected(refusal)) => ExchangeOutcome::Refused(*refusal),
            Err(ProviderError::Unavailable { outage, .. }) => ExchangeOutcome::Unavailable(*outage),
        };
        let (exchange, token) = (&self.exchange, answer.as_ref().ok());
        let grant = exchange.grant().as_str();
        self.reports
            .metrics
            .exchanged(exchange.name(), grant, outcome);
        let about = About {
            app: &self.app,
            plan: None,
            person: Some(&self.person),
            now,
            source: self.due.as_ref().map(|due| Source {
                request_id: &due.request_id,
                trace: &due.trace,
                client: due.client,
                began,
            }),
        };
        let audience = exchange.audiences().join(" ");
        let scope = token.map(|token| token.scopes.join(" "));
        let event = ExchangeEvent {
            exchange: exchange.name(),
            grant,
            client: self.client.as_deref(),
            audience: Some(&*audience).filter(|audience| !audience.is_empty()),
            scope: scope.as_deref().filter(|scope| !scope.is_empty()),
            lifetime: token.map(|token| token.ends.since(now).as_secs()),
            parent: self.parent.as_deref(),
            provider: exchange.yields(),
            key: token.and_then(|token| token.key.as_deref()),
            outcome,
        };
        self.reports.exchanged(about, event);
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewal")
    }
}

impl Gate {
    /// Who tells how a renewal of what `exchange` keeps for somebody comes out.
    pub(super) fn told_of_renewals(
        &self,
        asked: &Asked<'_>,
        exchange: &Arc<Exchange>,
        holder: &Holder<'_>,
    ) -> Arc<dyn exchange::Renewal> {
        Arc::new(Renewal {
            reports: self.deps.reports.clone(),
            exchange: Arc::clone(exchange),
            app: asked.policy.app().clone(),
            person: holder.canonical.clone(),
            client: holder.identity.client_id.clone(),
            parent: holder.token().map(|token| beginning(token.expose())),
            due: asked.channel.source.map(|source| Due {
                request_id: source.request_id.into(),
                trace: *source.trace,
                client: source.client,
            }),
        })
    }
}
