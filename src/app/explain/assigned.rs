//! Where a rollout sends somebody, told in the order in which it is decided.

use crate::admin::AcceptView;
use crate::admin::Explanation;
use crate::app::process::Process;
use crate::config::settings::Settings;
use crate::identity::CredentialClass;
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

/// Where a new login of the person starts, why, and which credentials count.
pub(super) fn assigned(
    process: &Process,
    settings: &Settings,
    (plan, pin): (&Plan, &Result<Option<Pin>, StoreError>),
    facts: &Facts<'_>,
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
        let rules = rules(settings, plan, facts, &by_rules, now);
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
        for class in CredentialClass::ALL {
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
    facts: &Facts<'_>,
    by_rules: &Assignment,
    now: crate::clock::UnixTime,
) -> Vec<String> {
    let mut steps = Vec::new();
    for (place, rule) in plan.stage.assign.iter().enumerate() {
        let (said, decides) = if rule.until.is_some_and(|until| until <= now) {
            ("its time is over".to_owned(), false)
        } else {
            hit(settings, rule, facts, by_rules)
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
    facts: &Facts<'_>,
    by_rules: &Assignment,
) -> (String, bool) {
    let matches = match &rule.cohort {
        None => Some(true),
        Some(id) => settings
            .cohorts
            .get(id)
            .and_then(|cohort| cohort.contains(facts)),
    };
    match (matches, rule.share, by_rules.bucket) {
        (None, ..) => ("not known".to_owned(), false),
        (Some(false), ..) => ("miss".to_owned(), false),
        (Some(true), Share::All, _) => ("hit".to_owned(), true),
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
