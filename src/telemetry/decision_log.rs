//! One JSON line for every decision that is not a plain allow from memory, into the same stream as the access log.
//!
//! The events are called `decision.…`. A line says who decided what by which rule, so that a complaint can be answered
//! without asking the person for anything but the time.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::Assignment;
use crate::rollout::KillPosition;
use crate::rollout::OtherArm;
use crate::rollout::RolloutId;
use crate::telemetry::ExchangeEvent;
use crate::telemetry::line::Line;
use crate::telemetry::line::field;
use crate::telemetry::metrics::CarryOver;
use crate::telemetry::metrics::RevocationOutcome;
use crate::telemetry::metrics::RevocationSource;
use crate::telemetry::metrics::Shed;
use crate::telemetry::pseudonym::Pseudonym;
use crate::telemetry::recent::Place;
use crate::telemetry::sink::Inlet;
use crate::telemetry::trace::TraceContext;

/// What was decided.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decision<'a> {
    /// A new login starts at an arm.
    Assigned {
        /// The rollout.
        rollout: &'a RolloutId,
        /// Where, and why.
        assignment: &'a Assignment,
        /// The provider of the arm.
        provider: &'a ProviderId,
    },
    /// A credential or a login was refused.
    Refused {
        /// Why.
        reason: Refusal,
        /// Who judged; `None`: nobody was asked.
        provider: Option<&'a ProviderId>,
        /// The arm that this provider is.
        arm: Option<Arm>,
        /// What was presented.
        credential: Option<CredentialClass>,
    },
    /// Nobody could judge.
    Unavailable {
        /// Why.
        reason: Outage,
        /// Whom we asked, or would have.
        provider: &'a ProviderId,
        /// The arm that this provider is.
        arm: Option<Arm>,
        /// What was presented.
        credential: Option<CredentialClass>,
    },
    /// A good API credential whose owner is not its person's arm.
    OtherArm {
        /// The rollout.
        rollout: &'a RolloutId,
        /// The arm of the credential's owner.
        owner: Arm,
        /// Where the person belongs, and why.
        assignment: &'a Assignment,
        /// What was done.
        action: OtherArm,
        /// What was presented.
        credential: CredentialClass,
    },
    /// A login starts at the other provider because the assigned one is away.
    Fallback {
        /// The rollout.
        rollout: &'a RolloutId,
        /// The arm that is away.
        from: Arm,
        /// Why.
        reason: Outage,
    },
    /// A credential was exchanged for what an upstream expects, or was not.
    Exchanged(ExchangeEvent<'a>),
    /// The password of somebody who is assigned to the new side was to move there, after the old one had found it good.
    PasswordMoved {
        /// The rollout.
        rollout: &'a RolloutId,
        /// How it ended.
        outcome: CarryOver,
        /// Why not.
        reason: Option<&'static str>,
    },
    /// A client asked our token endpoint.
    Token(TokenEvent<'a>),
    /// The kill switch moved.
    Kill {
        /// One rollout, or all.
        scope: Option<&'a RolloutId>,
        /// Where it stood.
        before: KillPosition,
        /// Where it stands.
        after: KillPosition,
        /// Who moved it: a token, a unix user, the file.
        actor: &'a str,
        /// What they said.
        reason: &'a str,
    },
    /// Something was revoked, or was to be.
    Revoked {
        /// Its name, for a later look or to lift it.
        id: &'a str,
        /// Why.
        source: RevocationSource,
        /// The kind of thing.
        target: &'static str,
        /// Whether it is written down.
        outcome: RevocationOutcome,
        /// Who asked: a provider, a token, a unix user.
        actor: &'a str,
        /// What they said.
        reason: &'a str,
    },
    /// A revocation was taken back.
    Lifted {
        /// Its name.
        id: &'a str,
        /// Who did.
        actor: &'a str,
        /// What they said.
        reason: &'a str,
    },
}

/// What a client asked our token endpoint, and what it got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenEvent<'a> {
    /// `token_exchange`, `client_credentials`, `refresh_token`, `device_code`, `device_authorization`, `introspection`,
    /// `revocation`, or `none`.
    pub(crate) grant: &'static str,
    /// The client, once it has proved who it is.
    pub(crate) client: Option<&'a str>,
    /// Whom the token is for.
    pub(crate) audience: Option<&'a str>,
    /// What it may do.
    pub(crate) scope: Option<&'a str>,
    /// How many seconds it lives.
    pub(crate) lifetime: Option<u64>,
    /// The beginning of the SHA-256 of the token that was presented, in hexadecimal.
    pub(crate) parent: Option<&'a str>,
    /// Who issued it; `None`: we did, or nobody.
    pub(crate) provider: Option<&'a ProviderId>,
    /// The key of ours that signed it, or the assertion that it was had for.
    pub(crate) key: Option<&'a str>,
    /// `issued`, `answered`, `inactive`, `revoked`, `refused`, `unavailable`.
    pub(crate) outcome: &'static str,
    /// Why not.
    pub(crate) reason: Option<&'static str>,
}

/// A decision and its circumstances. Absent values leave their field out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecisionRecord<'a> {
    /// When.
    pub(crate) at: UnixTime,
    /// The request it belongs to.
    pub(crate) request_id: Option<&'a str>,
    /// The trace it belongs to.
    pub(crate) trace: Option<&'a TraceContext>,
    /// The application.
    pub(crate) app: Option<&'a AppId>,
    /// Who.
    pub(crate) subject: Option<Pseudonym>,
    /// From where.
    pub(crate) client: Option<Pseudonym>,
    /// From the head of its request to the decision.
    pub(crate) took: Option<Duration>,
    /// The configuration that decided; empty for the kill switch, which stands outside it.
    pub(crate) revision: &'a str,
    /// What.
    pub(crate) decision: Decision<'a>,
}

/// Where decisions are written.
#[derive(Clone, Debug)]
pub(crate) struct DecisionLog {
    inlet: Option<Inlet>,
    recent: Option<Place>,
    /// Whether lines name people.
    subjects: bool,
}

impl DecisionLog {
    pub(super) const fn new(inlet: Option<Inlet>, recent: Place, subjects: bool) -> Self {
        Self {
            inlet,
            subjects,
            recent: Some(recent),
        }
    }

    /// A log that goes nowhere.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) const fn off() -> Self {
        Self {
            inlet: None,
            subjects: true,
            recent: None,
        }
    }

    /// Writes one decision. Never waits for the disk.
    pub(crate) fn write(&self, record: &DecisionRecord<'_>) {
        let event = record.decision.event();
        let compose = |out: Line<'_>| compose(record, self.subjects, out);
        let copy = |line: &[u8]| {
            if let Some(inlet) = &self.inlet {
                inlet.copy(line, Shed::DecisionLog);
            }
        };
        if let (Some(recent), Some(request_id)) = (&self.recent, record.request_id)
            && record.decision.ends_a_request()
        {
            recent.keep((request_id, record.at, event), compose, copy);
        } else if let Some(inlet) = &self.inlet {
            inlet.write(record.at, event, Shed::DecisionLog, compose);
        }
    }
}

fn compose(record: &DecisionRecord<'_>, subjects: bool, mut out: Line<'_>) {
    let subject = record.subject.filter(|_| subjects);
    out.maybe(field!("request_id"), record.request_id);
    if let Some(trace) = record.trace {
        out.hex(field!("trace_id"), &trace.trace_id());
    }
    out.maybe(field!("app"), record.app.map(AppId::as_str))
        .maybe(field!("subject"), subject.as_ref().map(Pseudonym::as_str))
        .maybe(
            field!("client"),
            record.client.as_ref().map(Pseudonym::as_str),
        );
    match record.decision {
        Decision::Assigned {
            rollout,
            assignment,
            provider,
        } => {
            out.text(field!("rollout"), rollout.as_str());
            write_assignment(&mut out, assignment);
            out.text(field!("provider"), provider.as_str());
        }
        Decision::Refused {
            reason,
            provider,
            arm,
            credential,
        } => {
            out.word(field!("reason"), reason.as_str())
                .maybe(field!("provider"), provider.map(ProviderId::as_str))
                .maybe(field!("arm"), arm.map(Arm::as_str))
                .maybe(
                    field!("credential"),
                    credential.map(CredentialClass::as_str),
                );
        }
        Decision::Unavailable {
            reason,
            provider,
            arm,
            credential,
        } => {
            out.word(field!("reason"), reason.as_str())
                .text(field!("provider"), provider.as_str())
                .maybe(field!("arm"), arm.map(Arm::as_str))
                .maybe(
                    field!("credential"),
                    credential.map(CredentialClass::as_str),
                );
        }
        Decision::OtherArm {
            rollout,
            owner,
            assignment,
            action,
            credential,
        } => {
            out.text(field!("rollout"), rollout.as_str())
                .text(field!("owner_arm"), owner.as_str());
            write_assignment(&mut out, assignment);
            out.text(field!("action"), action.as_str())
                .text(field!("credential"), credential.as_str());
        }
        Decision::Fallback {
            rollout,
            from,
            reason,
        } => {
            out.text(field!("rollout"), rollout.as_str())
                .text(field!("from"), from.as_str())
                .text(field!("to"), from.other().as_str())
                .word(field!("reason"), reason.as_str());
        }
        Decision::Exchanged(event) => {
            out.text(field!("exchange"), event.exchange)
                .word(field!("grant"), event.grant)
                .maybe(field!("oauth_client"), event.client)
                .maybe(field!("audience"), event.audience)
                .maybe(field!("scope"), event.scope)
                .maybe(field!("parent"), event.parent)
                .maybe(field!("provider"), event.provider.map(ProviderId::as_str))
                .maybe(field!("key"), event.key)
                .word(field!("outcome"), event.outcome.as_str())
                .maybe(field!("reason"), event.outcome.reason());
            if let Some(seconds) = event.lifetime {
                out.number(field!("lifetime"), seconds);
            }
        }
        Decision::PasswordMoved {
            rollout,
            outcome,
            reason,
        } => {
            out.text(field!("rollout"), rollout.as_str())
                .word(field!("outcome"), outcome.as_str())
                .maybe(field!("reason"), reason);
        }
        Decision::Token(event) => {
            out.word(field!("grant"), event.grant)
                .maybe(field!("oauth_client"), event.client)
                .maybe(field!("audience"), event.audience)
                .maybe(field!("scope"), event.scope)
                .maybe(field!("parent"), event.parent)
                .maybe(field!("provider"), event.provider.map(ProviderId::as_str))
                .maybe(field!("key"), event.key)
                .word(field!("outcome"), event.outcome)
                .maybe(field!("reason"), event.reason);
            if let Some(seconds) = event.lifetime {
                out.number(field!("lifetime"), seconds);
            }
        }
        Decision::Kill {
            scope,
            before,
            after,
            actor,
            reason,
        } => {
            out.text(field!("scope"), scope.map_or("global", RolloutId::as_str))
                .text(field!("before"), before.as_str())
                .text(field!("after"), after.as_str())
                .text(field!("actor"), actor)
                .text(field!("reason"), reason);
        }
        Decision::Revoked {
            id,
            source,
            target,
            outcome,
            actor,
            reason,
        } => {
            out.text(field!("revocation"), id)
                .word(field!("source"), source.as_str())
                .word(field!("target"), target)
                .word(field!("outcome"), outcome.as_str())
                .text(field!("actor"), actor)
                .text(field!("reason"), reason);
        }
        Decision::Lifted { id, actor, reason } => {
            out.text(field!("revocation"), id)
                .text(field!("actor"), actor)
                .text(field!("reason"), reason);
        }
    }
    if let Some(took) = record.took {
        out.millis(field!("duration_ms"), took);
    }
    if !record.revision.is_empty() {
        out.text(field!("revision"), record.revision);
    }
    out.end();
}

fn write_assignment(out: &mut Line<'_>, assignment: &Assignment) {
    out.text(field!("arm"), assignment.arm.as_str());
    out.text(field!("rule"), &assignment.rule.label());
    if let Some(bucket) = assignment.bucket {
        out.number(field!("bucket"), bucket.number().into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::rollout::RuleRef;
    use crate::telemetry::Metrics;
    use crate::telemetry::access_log::Logs;
    use crate::telemetry::settings;

    fn written(decision: Decision<'_>) -> serde_json::Value {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let metrics = Metrics::new(Arc::new(SystemClock), 100);
        let logs = Logs::open(
            (
                &settings::AccessLog::File(path.clone()),
                settings::Log::default(),
            ),
            1,
            metrics,
        )
        .unwrap();
        logs.background().write(&DecisionRecord {
            at: UnixTime::from_secs(1),
            request_id: Some("r1"),
            trace: None,
            app: None,
            subject: None,
            client: None,
            took: Some(Duration::from_micros(1_500)),
            revision: "abc",
            decision,
        });
        assert!(logs.flush(Duration::from_secs(20)));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn an_assignment_says_arm_rule_and_provider() {
        let line = written(Decision::Assigned {
            rollout: &RolloutId::new("crm-2026"),
            assignment: &Assignment {
                arm: Arm::To,
                rule: RuleRef::Percent,
                bucket: None,
            },
            provider: &ProviderId::new("modern"),
        });
        assert_eq!(line["event"], "decision.assigned");
        assert_eq!(line["arm"], "modern");
        assert_eq!(line["rule"], "percent");
        assert_eq!(line["provider"], "modern");
        assert_eq!(line["revision"], "abc");
        assert_eq!(line["duration_ms"], 1.5);
    }

    #[test]
    fn a_refusal_says_whose_credential_it_was_and_on_which_side() {
        let line = written(Decision::Refused {
            reason: Refusal::Expired,
            provider: Some(&ProviderId::new("old")),
            arm: Some(Arm::From),
            credential: Some(CredentialClass::Basic),
        });
        for (field, value) in [
            ("event", "decision.refused"),
            ("reason", "expired"),
            ("provider", "old"),
            ("arm", "legacy"),
            ("credential", "basic"),
        ] {
            assert_eq!(line[field], value, "{field}");
        }
    }

    #[test]
    fn what_an_operator_typed_cannot_add_a_field() {
        let line = written(Decision::Kill {
            scope: None,
            before: KillPosition::Off,
            after: KillPosition::Deny,
            actor: "unix:0",
            reason: "\",\"after\":\"off\n",
        });
        assert_eq!(line["scope"], "global");
        assert_eq!(line["after"], "deny");
        assert_eq!(line["reason"], "\",\"after\":\"off\n");
    }
}
