//! What the gate and the login tell operators. No subject, token, cookie or address is told, except as a pseudonym.
//!
//! Attempts with presented credentials are counted and logged by the proxy, which knows the request; what only this module
//! knows is told here.

mod exchanged;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::time::Instant;

use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity::CanonicalSubject;
use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::Assignment;
use crate::rollout::NoFallback;
use crate::rollout::OtherArm;
use crate::rollout::Plan;
use crate::rollout::RolloutId;
use crate::telemetry::Decision;
use crate::telemetry::DecisionLog;
use crate::telemetry::DecisionRecord;
use crate::telemetry::Metrics;
use crate::telemetry::Pseudonym;
use crate::telemetry::Pseudonyms;
use crate::telemetry::Span;
use crate::telemetry::TokenEvent;
use crate::telemetry::TraceContext;
use crate::telemetry::Traces;
use crate::telemetry::Value;
use crate::telemetry::metrics::Attempt;
use crate::telemetry::metrics::CarryOver;
use crate::telemetry::metrics::Flow;

/// Where it is told.
#[derive(Clone)]
pub(crate) struct Reports {
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// The decision log.
    pub(crate) decisions: DecisionLog,
    /// Who hides the names.
    pub(crate) pseudonyms: Pseudonyms,
    /// The revision of the configuration that decides.
    pub(crate) revision: Box<str>,
    /// Where spans go; `None`: nowhere.
    pub(crate) traces: Option<Traces>,
    /// Where their ids come from.
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// What became of a request to our token endpoint.
pub(crate) struct TokenReport<'a> {
    /// The application whose endpoint it is.
    pub(crate) app: &'a AppId,
    /// Whom the token is about, where that is known.
    pub(crate) person: Option<&'a CanonicalSubject>,
    /// When.
    pub(crate) now: UnixTime,
    /// Which request asked.
    pub(crate) source: Option<Source<'a>>,
    /// What was asked for, and what came of it.
    pub(crate) event: TokenEvent<'a>,
}

/// What the access log says of a request that we answer ourselves: who judged, or will, and what became of it. It travels in
/// the extensions of the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Who judged, or where the login starts.
    pub(crate) provider: Option<ProviderId>,
    /// The arm that this provider is.
    pub(crate) arm: Option<Arm>,
    /// Why that arm.
    pub(crate) rule: Option<Box<str>>,
    /// What was presented.
    pub(crate) credential: Option<CredentialClass>,
    /// What became of it.
    pub(crate) attempt: Option<Attempt>,
    /// Who, once that is known.
    pub(crate) subject: Option<Pseudonym>,
}

/// Enough of a digest to find a token again, and too little to be one.
pub(crate) fn beginning(token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    let first = hash.as_ref().iter().take(8);
    first.map(|byte| format!("{byte:02x}")).collect()
}

/// The circumstances of one decision.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) app: &'a AppId,
    /// The rollout of the application.
    pub(super) plan: Option<&'a Plan>,
    pub(super) person: Option<&'a CanonicalSubject>,
    pub(super) now: UnixTime,
    /// `None`: not on behalf of a request that is under way.
    pub(super) source: Option<Source<'a>>,
}

/// The request that a decision is about, so that its lines in both logs and its trace find each other.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Our name for it.
    pub(crate) request_id: &'a str,
    /// The trace it belongs to.
    pub(crate) trace: &'a TraceContext,
    /// The client's address.
    pub(crate) client: Option<Pseudonym>,
    /// When its head was there.
    pub(crate) began: Instant,
}

/// What a span says of a token.
struct Said<'a> {
    client: Option<&'a str>,
    audience: Option<&'a str>,
    scope: Option<&'a str>,
    provider: Option<&'a ProviderId>,
    lifetime: Option<u64>,
    outcome: &'static str,
    reason: Option<&'static str>,
}

impl About<'_> {
    fn arm(&self, provider: &ProviderId) -> Option<Arm> {
        self.plan.and_then(|plan| plan.arm(provider))
    }
}

impl Reports {
    /// A new login was assigned.
    pub(super) fn assigned(&self, about: About<'_>, plan: &Plan, assignment: &Assignment) {
        self.metrics
            .assigned(&plan.id, assignment.arm, &assignment.rule);
        self.write(
            about,
            Decision::Assigned {
                rollout: &plan.id,
                assignment,
                provider: plan.provider(assignment.arm),
            },
        );
    }

    /// A good API credential came from the arm that its person is not on.
    pub(super) fn other_arm(
        &self,
        about: About<'_>,
        plan: &Plan,
        owner: Arm,
        assignment: &Assignment,
        action: OtherArm,
        credential: CredentialClass,
    ) {
        self.metrics.other_arm(&plan.id, action, credential);
        self.write(
            about,
            Decision::OtherArm {
                rollout: &plan.id,
                owner,
                assignment,
                action,
                credential,
            },
        );
    }

    /// The password of somebody was to move to the new side.
    pub(super) fn password_moved(
        &self,
        about: About<'_>,
        rollout: &RolloutId,
        outcome: CarryOver,
        reason: Option<&'static str>,
    ) {
        self.metrics.carried_over(about.app, "credential", outcome);
        self.write(
            about,
            Decision::PasswordMoved {
                rollout,
                outcome,
                reason,
            },
        );
    }

    /// A client asked our token endpoint.
    pub(crate) fn token(&self, report: &TokenReport<'_>) {
        let event = &report.event;
        self.metrics.token_request(event.grant, event.outcome);
        let about = About {
            app: report.app,
            plan: None,
            person: report.person,
            now: report.now,
            source: report.source,
        };
        self.write(about, Decision::Token(*event));
        if let (Some(traces), Some(source)) = (&self.traces, report.source)
            && source.trace.is_sampled()
        {
            let event = &report.event;
            let app = report.app;
            let own = vec![("authferry.grant", Value::Text(event.grant.to_owned()))];
            let said = Said {
                client: event.client,
                audience: event.audience,
                scope: event.scope,
                provider: event.provider,
                lifetime: event.lifetime,
                outcome: event.outcome,
                reason: event.reason,
            };
            let name = format!("token {}", event.grant);
            traces.record(self.span((name, own), &said, (app, report.now), &source));
        }
    }

    /// What a token came of, or did not, as a part of its request. Nobody is named in it.
    fn span(
        &self,
        (name, own): (String, Vec<(&'static str, Value)>),
        said: &Said<'_>,
        (app, start): (&AppId, UnixTime),
        source: &Source<'_>,
    ) -> Span {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut attributes = vec![
            ("authferry.app", text(app.as_str())),
            ("authferry.request_id", text(source.request_id)),
            ("authferry.outcome", text(said.outcome)),
        ];
        attributes.extend(own);
        let maybe = [
            ("authferry.client", said.client),
            ("authferry.audience", said.audience),
            ("authferry.scope", said.scope),
            ("authferry.provider", said.provider.map(ProviderId::as_str)),
            ("authferry.reason", said.reason),
        ];
        attributes.extend(
            maybe
                .into_iter()
                .filter_map(|(name, value)| Some((name, text(value?)))),
        );
        let lifetime = said.lifetime.and_then(|life| i64::try_from(life).ok());
        attributes.extend(lifetime.map(|life| ("authferry.lifetime", Value::Number(life))));
        Span {
            context: source.trace.part(&*self.entropy),
            part: true,
            name,
            start,
            took: source.began.elapsed(),
            attributes,
            error: said.reason,
        }
    }

    /// A login starts at the other provider.
    pub(super) fn fallback(&self, about: About<'_>, plan: &Plan, from: Arm, reason: Outage) {
        self.metrics.fallback(about.app, from, reason);
        self.write(
            about,
            Decision::Fallback {
                rollout: &plan.id,
                from,
                reason,
            },
        );
    }

    /// A login met an outage and does not start elsewhere.
    pub(super) fn fallback_refused(&self, about: About<'_>, reason: NoFallback) {
        self.metrics.fallback_refused(about.app, reason);
    }

    /// A login came to its end at a provider.
    pub(super) fn login(
        &self,
        about: About<'_>,
        provider: &ProviderId,
        attempt: Attempt,
        took: Duration,
    ) {
        self.metrics
            .attempt(about.app, provider, Flow::Login, attempt, took);
        match attempt {
            Attempt::Success | Attempt::Abandoned => {}
            Attempt::Rejected(reason) => self.refused(about, Some(provider), reason),
            Attempt::Unavailable(reason) => self.write(
                about,
                Decision::Unavailable {
                    reason,
                    provider,
                    arm: about.arm(provider),
                    credential: None,
                },
            ),
        }
    }

    /// A login was refused before anybody judged it, or in spite of it.
    pub(super) fn refused(&self, about: About<'_>, provider: Option<&ProviderId>, reason: Refusal) {
        self.write(
            about,
            Decision::Refused {
                reason,
                provider,
                arm: provider.and_then(|provider| about.arm(provider)),
                credential: None,
            },
        );
    }

    fn write(&self, about: About<'_>, decision: Decision<'_>) {
        self.decisions.write(&DecisionRecord {
            at: about.now,
            request_id: about.source.map(|source| source.request_id),
            trace: about.source.map(|source| source.trace),
            app: Some(about.app),
            subject: about.person.map(|person| self.pseudonyms.of(person)),
            client: about.source.and_then(|source| source.client),
            took: about.source.map(|source| source.began.elapsed()),
            revision: &self.revision,
            decision,
        });
    }
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reports")
    }
}
