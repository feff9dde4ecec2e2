//! Where a rollout sends somebody, told in the order in which it is decided.

use crate::admin::AcceptView;
use crate::admin::Explanation;
use crate::app::process::Process;
use crate::config::settings::Settings;
use crate::identity::CredentialClass;
use crate::providers;
use crate::providers::settings::KindSettings;
use crate::rollout;
use crate::rollout::Acceptance;
use crate::rollout::AssignRule;
use crate::rollout::Assignment;
use crate::rollout::Facts;
use crate::rollout::Pin;
use crate::rollout::Plan;
use crate::rollout::RuleRef;
use crate::rollout::Share;
use crate::store::StoreError;

/// What makes groups known.
pub(super) const GIVE_GROUPS: &str =
    "give --group, or --claim groups=[] for somebody who is in none";

/// Where a new login of the person starts, why, and which credentials count. `groupless`, where nobody has said what groups
/// they are in: the same facts about somebody who is in none.
pub(super) fn assigned(
    process: &Process,
    settings: &Settings,
    (plan, pin): (&Plan, &Result<Option<Pin>, StoreError>),
    (facts, groupless): (&Facts<'_>, Option<&Facts<'_>>),
    answer: &mut Explanation,
) {
    let (kill, now) = (
        process.kill.current().position(&plan.id),
        process.clock.now(),
    );
    answer.steps.push(format!("kill switch: {}", kill.as_str()));
    answer.steps.push(match pin {
        Ok(pin) => pinned(plan, *pin),
        Err(error) => format!("pin: not known, {error}"),
    });
    let assign = |pin: Option<Pin>| {
        rollout::assign(
            plan,
            &settings.cohorts,
            &settings.bucket_key,
            kill,
            pin,
            facts,
            now,
        )
    };
    // Without an answer of the store a login goes by the rules, too.
    let assignment = assign(pin.as_ref().ok().copied().flatten());
    let by_rules = assign(None);
    answer.rollout = Some(plan.id.to_string());
    answer.stage = Some(plan.stage.id.to_string());
    answer.mode = Some(plan.stage.mode.as_str().to_owned());
    answer.kill = kill.as_str().to_owned();
    answer.arm = Some(assignment.arm.as_str().to_owned());
    answer.rule = Some(assignment.rule.to_string());
    answer.bucket = by_rules.bucket.map(rollout::Bucket::number);
    answer.provider = plan.provider(assignment.arm).to_string();
    if !matches!(assignment.rule, RuleRef::Kill | RuleRef::Mode) {
        let rules = rules(settings, plan, (facts, groupless), &by_rules, now);
        answer.steps.extend(rules);
    }
    answer.steps.push(format!(
        "arm {} by {}",
        assignment.arm.as_str(),
        assignment.rule
    ));
    if assignment.rule == RuleRef::Pin {
        answer.steps.push(format!(
            "without the pin: arm {} by {}",
            by_rules.arm.as_str(),
            by_rules.rule
        ));
    }
    answer.steps.push(format!(
        "API credentials of the other provider: {}",
        plan.stage.other_arm.as_str()
    ));
    for provider in [&plan.from, &plan.to] {
        let owner = settings.providers.iter().find(|one| one.id == *provider);
        for class in CredentialClass::ALL {
            if !owner.is_some_and(|owner| owns(owner, class)) {
                continue;
            }
            let acceptance =
                match rollout::accept(plan, &settings.cohorts, kill, provider, class, facts, now) {
                    Acceptance::Accepted => "accepted",
                    Acceptance::OnlyExcept => "only_except",
                    Acceptance::NotAccepted => "not_accepted",
                    Acceptance::Quarantined => "quarantined",
                };
            answer.accepts.push(AcceptView {
                provider: provider.to_string(),
                credential: class.as_str().to_owned(),
                acceptance: acceptance.to_owned(),
            });
        }
    }
}

/// Whether there are credentials of this class at a provider: of others nothing is to be said.
const fn owns(provider: &providers::settings::Settings, class: CredentialClass) -> bool {
    let owns = &provider.owns;
    let logins = matches!(&provider.kind, KindSettings::Oidc(oidc) if oidc.client.is_some());
    match class {
        CredentialClass::Session => logins || !owns.cookies.is_empty(),
        CredentialClass::Refresh => logins,
        CredentialClass::Bearer => !owns.issuers.is_empty(),
        CredentialClass::Opaque => owns.opaque.is_some(),
        CredentialClass::Basic => owns.basic,
        CredentialClass::ApiKey => owns.api_key_header.is_some(),
        CredentialClass::ClientCert => owns.client_cert,
    }
}

fn pinned(plan: &Plan, pin: Option<Pin>) -> String {
    match pin {
        None => "pin: none".to_owned(),
        Some(pin) if pin.epoch == plan.epoch => format!("pin: at {}", plan.provider(pin.arm)),
        Some(pin) => format!(
            "pin: at {}, void since somebody went back",
            plan.provider(pin.arm)
        ),
    }
}

/// What each rule says, up to the one that decides.
fn rules(
    settings: &Settings,
    plan: &Plan,
    (facts, groupless): (&Facts<'_>, Option<&Facts<'_>>),
    by_rules: &Assignment,
    now: crate::clock::UnixTime,
) -> Vec<String> {
    let mut steps = Vec::new();
    for (place, rule) in plan.stage.assign.iter().enumerate() {
        let (said, decides) = if rule.until.is_some_and(|until| until <= now) {
            ("its time is over".to_owned(), false)
        } else {
            hit(settings, rule, (facts, groupless), by_rules)
        };
        let whom = rule.cohort.as_ref().map_or("everybody", |id| id.as_str());
        let to = plan.provider(rule.to);
        steps.push(format!("assign[{place}] {whom} to {to}: {said}"));
        if decides {
            break;
        }
    }
    steps
}

/// What a rule says about somebody, and whether that decides.
fn hit(
    settings: &Settings,
    rule: &AssignRule,
    (facts, groupless): (&Facts<'_>, Option<&Facts<'_>>),
    by_rules: &Assignment,
) -> (String, bool) {
    let contains = |facts: &Facts<'_>| match &rule.cohort {
        None => Some(true),
        Some(id) => settings
            .cohorts
            .get(id)
            .and_then(|cohort| cohort.contains(facts)),
    };
    let for_want_of_groups = || groupless.is_some_and(|facts| contains(facts).is_some());
    match (contains(facts), rule.share, by_rules.bucket) {
        (None, ..) if for_want_of_groups() => (format!("not known: {GIVE_GROUPS}"), false),
        (None, ..) => ("not known".to_owned(), false),
        (Some(false), ..) => ("miss".to_owned(), false),
        (Some(true), Share::All, _) => ("hit".to_owned(), true),
        (Some(true), Share::Chosen, _) => ("as they choose".to_owned(), true),
        (Some(true), Share::Percent(_), None) => {
            ("not known, for want of a unit".to_owned(), false)
        }
        (Some(true), Share::Percent(share), Some(bucket)) => {
            let within = bucket.is_within(share);
            let word = if within { "in" } else { "not in" };
            let number = bucket.number();
            (format!("{word} the {share} % (bucket {number})"), within)
        }
    }
}
