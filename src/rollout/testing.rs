//! Boring people and plans, of which a test changes the one thing it is about.

use std::sync::Arc;
use std::sync::LazyLock;

use serde_json::Value;

use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::rollout::bucket::UnitKind;
use crate::rollout::facts::Facts;
use crate::rollout::facts::Person;
use crate::rollout::stage::AppId;
use crate::rollout::stage::AssignRule;
use crate::rollout::stage::BeforeKnown;
use crate::rollout::stage::Bucketing;
use crate::rollout::stage::Mode;
use crate::rollout::stage::OnDecrease;
use crate::rollout::stage::OtherArm;
use crate::rollout::stage::PinnedAtFrom;
use crate::rollout::stage::Plan;
use crate::rollout::stage::RolloutId;
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
pub(super) fn plan(mode: Mode, assign: Vec<AssignRule>) -> Plan {
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
            assign,
            accept: Vec::new(),
            other_arm: OtherArm::Accept,
        },
        epoch: 3,
    }
}
