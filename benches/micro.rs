//! What single steps of a request cost: CPU time of the thread, median of rounds. Verifying, per algorithm, is `token.rs`.
//!
//! ```text
//! cargo bench --features bench --bench micro
//! ```

mod report;

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use authferry::bench::Crowd;
use authferry::bench::Size;
use authferry::bench::micro::Hosts;
use authferry::bench::micro::Steps;
use authferry::clock::UnixTime;
use authferry::identity::CanonicalSubject;
use authferry::identity::ClaimMap;
use authferry::identity::CredentialClass;
use authferry::identity::Delegation;
use authferry::identity::Identity;
use authferry::identity::Issuer;
use authferry::identity::ProviderId;
use authferry::identity::Subject;
use authferry::identity::SubjectKey;
use authferry::rollout;
use authferry::rollout::Acceptance;
use authferry::rollout::AppId;
use authferry::rollout::Arm;
use authferry::rollout::AssignRule;
use authferry::rollout::BeforeKnown;
use authferry::rollout::Bucket;
use authferry::rollout::BucketKey;
use authferry::rollout::Bucketing;
use authferry::rollout::Cohort;
use authferry::rollout::CohortId;
use authferry::rollout::Cohorts;
use authferry::rollout::Facts;
use authferry::rollout::Hearsay;
use authferry::rollout::KillPosition;
use authferry::rollout::Mode;
use authferry::rollout::OnDecrease;
use authferry::rollout::OtherArm;
use authferry::rollout::Passwords;
use authferry::rollout::Percent;
use authferry::rollout::Person;
use authferry::rollout::PinnedAtFrom;
use authferry::rollout::Plan;
use authferry::rollout::RolloutId;
use authferry::rollout::Shadowed;
use authferry::rollout::Share;
use authferry::rollout::Stage;
use authferry::rollout::UnitKind;
use authferry::secret::Secret;

use crate::report::heading;
use crate::report::report;
use crate::report::tail;

type Failed = Box<dyn Error>;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// Sessions in the store that is looked into.
const SESSIONS: usize = 2_000;

fn main() -> Result<(), Failed> {
    heading();
    let token = "eyJhbGciOiJSUzI1NiJ9.".repeat(43);
    let steps = Steps::new(&token)?;
    report("canonicalise", || black_box(&steps).canonicalise());
    report("fold the names of 8 fields", || black_box(&steps).fold());
    report("digest a token of 900 bytes", || black_box(&steps).digest());
    let key = BucketKey::new(Secret::new(vec![7; 32]));
    let salt = "crm-2026-a";
    report("bucket", || {
        Bucket::of(&key, salt, UnitKind::Subject, black_box("hr:10442")).is_within(Percent::ALL)
    });
    let hosts = Hosts::new(&steps, 200, 1_000)?;
    report("route among 1000, at 200 hosts", || {
        black_box(&hosts).route()
    });
    for rules in [1, 30, 1_000] {
        decide(&key, rules, &hosts)?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("store.redb");
    let (crowd, _) = runtime.block_on(Crowd::open(&file))?;
    let cookies = runtime.block_on(crowd.fill((SESSIONS, 0), Size::Keycloak, SESSIONS))?;
    report("find and open a session", || {
        runtime.block_on(crowd.look_up(&cookies)).is_ok()
    });
    report("look into the store in vain", || {
        runtime.block_on(crowd.look_in_vain())
    });
    Ok(())
}

/// What matching rules may cost, a hundredth of the requests left out.
const MATCHED: Duration = Duration::from_micros(20);

/// *Accept* and *assign*, of somebody whom none of so many rules concerns; and the same after the route was found.
fn decide(key: &BucketKey, rules: usize, hosts: &Hosts) -> Result<(), Failed> {
    let id = |n: usize| CohortId::new(&format!("c{n}"));
    let people = |n: usize| Cohort::Subjects(std::iter::once(format!("hr:{n}").into()).collect());
    let cohorts: Cohorts = (0..rules).map(|n| (id(n), people(n))).collect();
    let named = (0..rules).map(|n| AssignRule {
        cohort: Some(id(n)),
        share: Share::All,
        to: Arm::To,
        until: None,
    });
    let rest = AssignRule {
        cohort: None,
        share: Share::Percent(Percent::ALL),
        to: Arm::To,
        until: None,
    };
    let plan = plan(named.chain([rest]).collect());
    let canonical = CanonicalSubject::named("hr:somebody-else")?;
    let identity = Identity {
        provider: plan.from.clone(),
        key: SubjectKey {
            issuer: Issuer::new("https://id.corp.example"),
            subject: Subject::try_from("f81d")?,
        },
        attributes: Arc::new(ClaimMap::default()),
        client_id: None,
        acr: None,
        scopes: Box::default(),
        delegation: Delegation::default(),
    };
    let app = AppId::new("crm");
    let facts = Facts {
        app: &app,
        host: "crm.corp.example",
        path: "/orders/7",
        method: "GET",
        client_ip: None,
        peer: None,
        fields: None,
        device: None,
        hearsay: Hearsay::default(),
        person: Some(Person {
            canonical: &canonical,
            identity: &identity,
        }),
    };
    let (kill, class) = (KillPosition::Off, CredentialClass::Bearer);
    let decided = || {
        let facts = black_box(&facts);
        let accepted = rollout::accept(&plan, &cohorts, kill, &plan.from, class, facts, NOW);
        let assigned = rollout::assign(&plan, &cohorts, key, kill, None, facts, NOW);
        accepted == Acceptance::Accepted && assigned.arm == Arm::To
    };
    report(&format!("decide among {rules} rules"), decided);
    tail(&format!("route and decide, {rules} rules"), MATCHED, || {
        black_box(hosts).route() && decided()
    });
    Ok(())
}

fn plan(assign: Vec<AssignRule>) -> Plan {
    Plan {
        id: RolloutId::new("crm-2026"),
        apps: vec![AppId::new("crm")],
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
            mode: Mode::Canary,
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
