//! What somebody gets who does not go on, and who is told about it.

use std::time::Duration;

use crate::auth::Answer;
use crate::auth::AuthError;
use crate::auth::Told;
use crate::auth::TurnedAway;
use crate::identity::Refusal;
use crate::proxy::admission::Asked;
use crate::proxy::admission::Turned;
use crate::proxy::admission::authority;
use crate::proxy::record::Record;
use crate::proxy::settings::OnUnauthenticated;
use crate::proxy::worker::Worker;
use crate::rollout::Arm;
use crate::telemetry::Decision;
use crate::telemetry::DecisionRecord;
use crate::telemetry::metrics::AppIndex;
use crate::telemetry::metrics::Attempt;
use crate::telemetry::metrics::Flow;

/// What somebody gets who does not go on; counted and logged.
pub(super) async fn turn_away(
    worker: &Worker,
    asked: &Asked<'_>,
    on_unauthenticated: OnUnauthenticated,
    why: Option<&AuthError>,
    record: &mut Record,
) -> Turned {
    if let Some(why) = why {
        tell(worker, asked, why, record);
    }
    match (asked.pages, on_unauthenticated) {
        (true, OnUnauthenticated::Auto) => {}
        (false, _) | (true, OnUnauthenticated::Unauthorized) => {
            let policy = &asked.entry.policy;
            let answer =
                why.map_or_else(|| Answer::unauthenticated(policy), |why| why.answer(policy));
            return Turned::Fault(answer.into());
        }
    }
    let authority = authority(asked.request);
    let request = asked.login(&authority);
    let logins = &asked.view.snapshot.logins;
    match logins
        .turn_away(&asked.entry.policy, &request, why, asked.kill, asked.now)
        .await
    {
        TurnedAway::Page(response) => Turned::Page(Box::new(response)),
        TurnedAway::Answer(answer) => Turned::Fault(answer.into()),
    }
}

pub(super) fn turned(why: &AuthError, asked: &Asked<'_>) -> Turned {
    Turned::Fault(why.answer(&asked.entry.policy).into())
}

/// Counts and logs a credential that was not honoured.
pub(super) fn tell(worker: &Worker, asked: &Asked<'_>, why: &AuthError, record: &mut Record) {
    let (provider, class, attempt) = match why {
        AuthError::Refused {
            refusal,
            provider,
            class,
        } => (provider.as_ref(), *class, Attempt::Rejected(*refusal)),
        AuthError::Unproven {
            refusal,
            provider,
            class,
            ..
        } => (provider.as_ref(), Some(*class), Attempt::Rejected(*refusal)),
        AuthError::InsufficientScope {
            provider, class, ..
        } => (
            Some(provider),
            Some(*class),
            Attempt::Rejected(Refusal::Policy),
        ),
        AuthError::StepUp {
            provider, class, ..
        } => (
            Some(provider),
            Some(*class),
            Attempt::Rejected(Refusal::MfaRequired),
        ),
        AuthError::Forbidden {
            refusal,
            provider,
            class,
        } => (Some(provider), Some(*class), Attempt::Rejected(*refusal)),
        AuthError::Limited {
            provider, class, ..
        } => (
            Some(provider),
            Some(*class),
            Attempt::Rejected(Refusal::BadSignature),
        ),
        AuthError::Unavailable {
            outage,
            provider,
            class,
            ..
        } => (provider.as_ref(), *class, Attempt::Unavailable(*outage)),
        AuthError::Closed => return,
    };
    let plan = asked.entry.policy.plan();
    let arm = provider.and_then(|provider| plan?.arm(provider));
    let leaves = matches!(
        attempt,
        Attempt::Rejected(Refusal::NotAccepted | Refusal::Quarantined)
    );
    if arm == Some(Arm::From) && leaves {
        record.beside = asked.entry.policy.refused_farewell(asked.now);
    }
    record.told = Some(Box::new(Told {
        provider: provider.cloned(),
        arm,
        credential: class,
        attempt: Some(attempt),
        subject: record.known,
        rule: None,
    }));
    let metrics = &asked.view.metrics;
    let place = provider.and_then(|provider| metrics.names().provider(provider));
    if let (Some(place), Some(class)) = (place, class) {
        metrics.attempt(
            AppIndex(asked.app),
            place,
            Flow::from(class),
            attempt,
            Duration::ZERO,
        );
    }
    let decision = match (attempt, provider) {
        (Attempt::Rejected(reason), provider) => Decision::Refused {
            reason,
            provider,
            arm,
            credential: class,
        },
        (Attempt::Unavailable(reason), Some(provider)) => Decision::Unavailable {
            reason,
            provider,
            arm,
            credential: class,
        },
        (Attempt::Unavailable(_) | Attempt::Success | Attempt::Abandoned, _) => return,
    };
    worker.decisions.write(&DecisionRecord {
        at: asked.now,
        request_id: Some(record.request_id.as_str()),
        trace: Some(&record.trace),
        app: Some(asked.entry.policy.app()),
        subject: record.known,
        client: record.client,
        took: Some(record.began.elapsed()),
        revision: &asked.view.snapshot.revision,
        decision,
    });
}
