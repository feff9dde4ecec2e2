//! What the rollouts of a file come to, rule by rule, for whoever reads a check of it: nothing here decides anything.

use crate::config::compile::lint::Placed;
use crate::config::compile::rollouts::Pair;
use crate::rollout::Arm;
use crate::rollout::AssignRule;
use crate::rollout::CohortId;
use crate::rollout::Cohorts;
use crate::rollout::Mode;
use crate::rollout::Percent;
use crate::rollout::Phase;
use crate::rollout::Share;

/// A rollout of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outline {
    /// Its name.
    pub(crate) rollout: String,
    /// The provider that people leave.
    pub(crate) from: String,
    /// The provider that people move to.
    pub(crate) to: String,
    /// Its stages, in order.
    pub(crate) stages: Vec<StageOutline>,
}

/// A stage of a rollout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StageOutline {
    /// Its name.
    pub(crate) id: String,
    /// What it does.
    pub(crate) mode: Mode,
    /// Whether the file says that it is the present one.
    pub(crate) present: bool,
    /// The percents of everybody that it goes through.
    pub(crate) steps: Vec<Percent>,
    /// Where new logins start; the first match wins.
    pub(crate) rules: Vec<RuleOutline>,
}

/// A rule of a stage.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RuleOutline {
    /// Whom it concerns; `None`: everybody.
    pub(crate) cohort: Option<String>,
    /// How many of them; `None`: all.
    pub(crate) percent: Option<Percent>,
    /// Whether its percent climbs by steps.
    pub(crate) climbs: bool,
    /// Whether they choose for themselves.
    pub(crate) chosen: bool,
    /// The provider they go to.
    pub(crate) to: String,
    /// When it is known whom it concerns. A rule that needs to know the person is skipped where a login starts; what it says
    /// then holds for the next one.
    pub(crate) phase: Phase,
}

impl Outline {
    /// A rollout whose stages are all there.
    pub(super) fn new<'a>(
        rollout: &str,
        pair: &Pair<'_>,
        stages: impl IntoIterator<Item = &'a Placed>,
        present: Option<usize>,
        cohorts: &Cohorts,
    ) -> Self {
        let stages = stages.into_iter().map(|placed| {
            let stage = &placed.stage;
            let rules = stage.assign.iter().enumerate();
            StageOutline {
                id: stage.id.to_string(),
                mode: stage.mode,
                present: present == Some(stage.index),
                steps: steps(placed),
                rules: rules
                    .map(|(place, rule)| outline(rule, placed.ramp == Some(place), pair, cohorts))
                    .collect(),
            }
        });
        Self {
            rollout: rollout.to_owned(),
            from: pair.from.value.clone(),
            to: pair.to.value.clone(),
            stages: stages.collect(),
        }
    }
}

/// The percents of everybody: those of the ramp, or the one that is set.
fn steps(placed: &Placed) -> Vec<Percent> {
    let rules = placed.stage.assign.iter().enumerate();
    let mut of_all = rules.filter(|(_, rule)| rule.cohort.is_none() && rule.to == Arm::To);
    match (placed.stage.mode, of_all.next_back()) {
        (Mode::LegacyOnly | Mode::Shadow, _) | (Mode::Canary, None) => Vec::new(),
        (Mode::ModernPrimary | Mode::ModernOnly, _) => vec![Percent::ALL],
        (Mode::Canary, Some((place, _))) if placed.ramp == Some(place) => placed.climbs.clone(),
        (Mode::Canary, Some((_, rule))) => match rule.share {
            Share::All => vec![Percent::ALL],
            Share::Percent(percent) => vec![percent],
            Share::Chosen => Vec::new(),
        },
    }
}

fn outline(rule: &AssignRule, climbs: bool, pair: &Pair<'_>, cohorts: &Cohorts) -> RuleOutline {
    let phase = |id: &CohortId| cohorts.get(id).map(|cohort| cohort.phase());
    RuleOutline {
        cohort: rule.cohort.as_ref().map(|id| id.as_str().to_owned()),
        percent: match rule.share {
            Share::All | Share::Chosen => None,
            Share::Percent(percent) => Some(percent),
        },
        climbs,
        chosen: rule.share == Share::Chosen,
        to: match rule.to {
            Arm::From => pair.from.value.clone(),
            Arm::To => pair.to.value.clone(),
        },
        // A browser has a bucket before it is known whose it is.
        phase: rule
            .cohort
            .as_ref()
            .and_then(phase)
            .unwrap_or(Phase::Before),
    }
}
