//! What a plan cannot say, so that nobody takes its zeros for an answer.

use crate::config::settings::Settings;
use crate::rollout::Plan;
use crate::rollout::Share;
use crate::rollout::UnitKind;

/// In words. `others`: other instances have let people in as well.
pub(super) fn all(new: &Settings, others: bool) -> Vec<String> {
    let mut notes = by_browser(new);
    if others {
        let note = "those who were seen are whom this instance has let in: ask each of them";
        notes.push(note.to_owned());
    }
    notes
}

/// Nobody knows with which browser somebody will come.
fn by_browser(new: &Settings) -> Vec<String> {
    let by_browser = |plan: &&Plan| {
        let mut rules = plan.stage.assign.iter();
        let by_share = rules.any(|rule| matches!(rule.share, Share::Percent(_)));
        plan.bucketing.unit == UnitKind::Device && by_share
    };
    let note = |plan: &Plan| {
        format!(
            "rollouts.{}: a percent goes by browsers (`bucketing.unit: device`), which are not known here: who moves by it, or back, is not counted",
            plan.id
        )
    };
    new.rollouts.iter().filter(by_browser).map(note).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::config::Source;
    use crate::config::System;

    fn settings(unit: &str, assign: &str) -> Settings {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authferry.yaml");
        let text = format!(
            r#"
version: 1
providers:
  old: {{ oidc: {{ issuer: "https://old.corp.example", verify: {{ audiences: [app] }} }} }}
  new: {{ oidc: {{ issuer: "https://new.corp.example", verify: {{ audiences: [app] }} }} }}
apps: {{ crm: {{ hosts: [app.test], upstream: {{ url: "http://127.0.0.1:9" }} }} }}
cohorts: {{ x: {{ path: ["/new/*"] }} }}
rollout: {{ from: old, to: new, bucketing: {{ salt: test{unit} }}, assign: [{assign}] }}
"#
        );
        std::fs::write(&path, text).unwrap();
        let source = Source::read(&path, Arc::new(System)).unwrap();
        let compiled = config::load(&source).unwrap_or_else(|problems| panic!("{problems}"));
        let mut settings = compiled.draft.ensure().unwrap().0;
        let plan = |course: &crate::rollout::Course| course.plan(Some(course.pinned), false, 0);
        settings.rollouts = settings.courses.iter().map(plan).collect();
        settings
    }

    #[test]
    fn whom_a_percent_moves_by_their_browser_is_said_not_to_be_known() {
        let percent = "{ percent: 10, to: new }";
        let told = all(&settings(", unit: device", percent), false);
        assert!(
            matches!(&*told, [one] if one.starts_with("rollouts.default: a percent goes by browsers")),
            "{told:?}"
        );
        for (unit, assign) in [
            ("", percent),
            (", unit: subject", percent),
            (", unit: device", "{ cohort: x, to: new }"),
        ] {
            assert_eq!(all(&settings(unit, assign), false), Vec::<String>::new());
        }
        let told = all(&settings("", percent), true);
        assert!(
            matches!(&*told, [one] if one.contains("this instance")),
            "{told:?}"
        );
    }
}
