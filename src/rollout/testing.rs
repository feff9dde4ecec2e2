//! Boring people and plans, of which a test changes the one thing it is about.

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::rollout::bucket::Percent;
use crate::rollout::bucket::UnitKind;
use crate::rollout::cohort::CohortId;
use crate::rollout::course::Control;
use crate::rollout::course::Course;
use crate::rollout::course::Leg;
use crate::rollout::course::Place;
use crate::rollout::course::PromoteWhen;
use crate::rollout::course::Require;
use crate::rollout::course::RollbackTo;
use crate::rollout::course::Step;
use crate::rollout::facts::Facts;
use crate::rollout::facts::Hearsay;
use crate::rollout::facts::Person;
use crate::rollout::guard::Guardrails;
use crate::rollout::passwords::Passwords;
use crate::rollout::shadowed::Shadowed;
use crate::rollout::stage::AppId;
use crate::rollout::stage::Arm;
use crate::rollout::stage::AssignRule;
use crate::rollout::stage::BeforeKnown;
use crate::rollout::stage::Bucketing;
use crate::rollout::stage::Mode;
use crate::rollout::stage::OnDecrease;
use crate::rollout::stage::OtherArm;
use crate::rollout::stage::PinnedAtFrom;
use crate::rollout::stage::Plan;
use crate::rollout::stage::RolloutId;
use crate::rollout::stage::Share;
use crate::rollout::stage::Stage;

static CRM: LazyLock<AppId> = LazyLock::new(|| AppId::new("crm"));

/// `GET https://crm.corp.example/orders/7` of which nothing else is known.
pub(super) fn facts() -> Facts<'static> {
    Facts {
        app: &CRM,
        host: "crm.corp.example",
        path: "/orders/7",
        method: "GET",
        client_ip: None,
        peer: None,
        fields: None,
        device: None,
        hearsay: Hearsay::default(),
        person: None,
    }
}

/// One person, and the provider that vouches for them.
pub(super) struct People {
    pub(super) canonical: CanonicalSubject,
    pub(super) identity: Identity,
}

impl People {
    pub(super) fn of(provider: &str, canonical: &str, attributes: Value) -> Self {
        let Value::Object(attributes) = attributes else {
            panic!("attributes are an object")
        };
        Self {
            canonical: CanonicalSubject::named(canonical).unwrap(),
            identity: Identity {
                provider: ProviderId::new(provider),
                key: SubjectKey {
                    issuer: Issuer::new("https://issuer.example"),
                    subject: Subject::try_from("f81d").unwrap(),
                },
                attributes: Arc::new(ClaimMap::new(attributes)),
                client_id: None,
                acr: None,
                scopes: Box::default(),
                delegation: crate::identity::Delegation::default(),
            },
        }
    }

    /// [`facts`], with this person.
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            person: Some(Person {
                canonical: &self.canonical,
                identity: &self.identity,
            }),
            ..facts()
        }
    }
}

/// From `legacy` to `modern`, without exceptions, in epoch 3.
pub(crate) fn plan(mode: Mode, assign: Vec<AssignRule>) -> Plan {
    Plan {
        id: RolloutId::new("crm-2026"),
        apps: vec![CRM.clone()],
        from: ProviderId::new("legacy"),
        to: ProviderId::new("modern"),
        bucketing: Bucketing {
            salt: "crm-2026-a".into(),
            unit: UnitKind::Subject,
            before_known: BeforeKnown::Device,
            on_decrease: OnDecrease::Hold,
            pinned_at_from: PinnedAtFrom::Redirect,
        },
        stage: Stage {
            id: "one".into(),
            index: 0,
            mode,
            assign: assign.into(),
            accept: Vec::new(),
            other_arm: OtherArm::Accept,
            brownouts: Vec::new(),
            warning: None,
            passwords: Passwords::AtFrom,
            shadow: Shadowed::All,
        },
        epoch: 3,
        closed: false,
    }
}

/// From `legacy` to `modern`: staff by name, a ramp of 1, 25 and 98 %, and everybody.
pub(crate) fn course() -> Course {
    let rails = Some(Arc::new(Guardrails::default()));
    let named = |cohort: &str, to| AssignRule {
        cohort: Some(CohortId::new(cohort)),
        share: Share::All,
        to,
        until: None,
    };
    let stage = |id: &str, index, mode, assign| Stage {
        id: id.into(),
        index,
        ..plan(mode, assign).stage
    };
    let step = |percent: &str, hours, min_units| Step {
        percent: Some(Percent::parse(percent).unwrap()),
        bake: Duration::from_hours(hours),
        min_units,
        at: None,
    };
    let leg = |stage, steps, when| Leg {
        stage,
        ramp: None,
        steps,
        when,
        require: Require::default(),
        windows: None,
        rollback: RollbackTo::PreviousStep,
        rollback_revokes: false,
        guardrails: rails.clone(),
    };
    let ramp = AssignRule {
        cohort: None,
        share: Share::Percent(Percent::NONE),
        to: Arm::To,
        until: None,
    };
    let day = Duration::from_hours(24);
    let staff = stage("staff", 0, Mode::Canary, vec![named("it", Arm::To)]);
    let climbing = stage(
        "ramp",
        1,
        Mode::Canary,
        vec![named("break-glass", Arm::From), ramp],
    );
    let steps = vec![step("1", 24, 50), step("25", 48, 300), step("98", 72, 0)];
    let primary = stage("primary", 2, Mode::ModernPrimary, Vec::new());
    let plan = plan(Mode::Canary, Vec::new());
    Course {
        id: plan.id,
        apps: plan.apps,
        from: plan.from,
        to: plan.to,
        bucketing: plan.bucketing,
        control: Control::Controller,
        pinned: Place::default(),
        legs: vec![
            Leg {
                require: Require {
                    units: 30,
                    bad_rate_upper_bound: None,
                    drills_passed: vec!["modern-outage".into()],
                    ..Require::default()
                },
                ..leg(staff, vec![Step::whole(day)], PromoteWhen::Manual)
            },
            Leg {
                ramp: Some(1),
                ..leg(climbing, steps, PromoteWhen::Auto)
            },
            leg(primary, vec![Step::whole(day)], PromoteWhen::Manual),
        ],
    }
}
