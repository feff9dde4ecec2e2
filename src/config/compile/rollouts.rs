//! `rollout` and `rollouts`: both forms become one list of courses.

use std::sync::Arc;

use crate::config::compile::context::Context;
use crate::config::compile::courses;
use crate::config::compile::courses::Rails;
use crate::config::compile::lint;
use crate::config::compile::outline::Outline;
use crate::config::compile::pinned;
use crate::config::compile::providers::Provider;
use crate::config::compile::ramp;
use crate::config::compile::shadow;
use crate::config::compile::stages;
use crate::config::raw::BeforeKnownWord;
use crate::config::raw::ControlWord;
use crate::config::raw::OnDecreaseWord;
use crate::config::raw::PinnedAtFromWord;
use crate::config::raw::RawBucketing;
use crate::config::raw::RawConfig;
use crate::config::raw::RawRollout;
use crate::config::raw::RawShortRollout;
use crate::config::raw::UnitWord;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::shape::List;
use crate::config::tree::Mark;
use crate::identity::ProviderId;
use crate::rollout::AppId;
use crate::rollout::BeforeKnown;
use crate::rollout::Bucketing;
use crate::rollout::Cohorts;
use crate::rollout::Control;
use crate::rollout::Course;
use crate::rollout::Guardrails;
use crate::rollout::Leg;
use crate::rollout::Mode;
use crate::rollout::OnDecrease;
use crate::rollout::PinnedAtFrom;
use crate::rollout::Place;
use crate::rollout::Plan;
use crate::rollout::RolloutId;
use crate::rollout::Stage;
use crate::rollout::UnitKind;

/// The name of the short form's rollout.
const SHORT_NAME: &str = "default";
/// The name of the short form's stage.
const SHORT_STAGE: &str = "canary";

/// The two sides of a rollout, with the places where they are named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    /// The provider that people leave.
    pub(super) from: &'a At<String>,
    /// The provider that people move to.
    pub(super) to: &'a At<String>,
}

/// A rollout in either form.
pub(super) struct Either<'a> {
    pub(super) name: &'a str,
    pub(super) mark: Mark,
    apps: &'a Field<List<At<String>>>,
    pub(super) from: &'a Field<At<String>>,
    pub(super) to: &'a Field<At<String>>,
    bucketing: &'a Field<RawBucketing>,
}

pub(super) fn all(raw: &RawConfig) -> Vec<Either<'_>> {
    let short = raw.rollout.get().map(|short| Either {
        name: SHORT_NAME,
        mark: short.mark,
        apps: &short.apps,
        from: &short.from,
        to: &short.to,
        bucketing: &short.bucketing,
    });
    let staged = raw
        .rollouts
        .get()
        .into_iter()
        .flat_map(|named| named.readable());
    let staged = staged.map(|(name, staged)| Either {
        name: &name.value,
        mark: staged.mark,
        apps: &staged.apps,
        from: &staged.from,
        to: &staged.to,
        bucketing: &staged.bucketing,
    });
    short.into_iter().chain(staged).collect()
}

/// The applications of a rollout: those listed, or in the short form all without a provider of their own.
pub(super) fn apps_of(raw: &RawConfig, rollout: &Either<'_>) -> Vec<(String, Option<Mark>)> {
    if let Some(list) = rollout.apps.get() {
        return list
            .items
            .iter()
            .map(|at| (at.value.clone(), Some(at.mark)))
            .collect();
    }
    if rollout.name != SHORT_NAME || raw.rollout.is_absent() {
        return Vec::new();
    }
    let apps = raw.apps.get().into_iter().flat_map(|named| &named.entries);
    apps.filter(|(_, app)| app.as_ref().is_none_or(|app| app.provider.is_absent()))
        .map(|(name, _)| (name.value.clone(), None))
        .collect()
}

/// What a rollout goes through.
enum Way {
    /// The file says where it stands.
    Pinned(Box<Stage>, Option<Arc<Guardrails>>),
    /// Somebody drives.
    Driven(Control, Vec<Leg>),
}

/// All rollouts.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
    providers: &[Provider],
    cohorts: &Cohorts,
    rails: &Rails,
) -> Vec<Course> {
    let mut all_courses = Vec::new();
    for rollout in all(raw) {
        let from = rollout
            .from
            .required(rollout.mark, "from", &mut context.report);
        let to = rollout.to.required(rollout.mark, "to", &mut context.report);
        for side in [from, to].into_iter().flatten() {
            context.knows_provider(side);
        }
        let pair = match (from, to) {
            (Some(from), Some(to)) => Some(Pair { from, to }),
            _ => None,
        };
        if let Some(pair) = pair {
            if pair.from.value == pair.to.value {
                context
                    .report
                    .error(pair.to.mark, "people would move to where they are: `from` and `to` are the same provider")
                    .value(&pair.to.value);
            }
            lint::sign_in(context, &pair, providers);
        }
        let bucketing = bucketing(context, &rollout);
        let way = match (raw.rollout.get(), raw.rollouts.get()) {
            (Some(short), _) if rollout.name == SHORT_NAME && rollout.mark.id == short.mark.id => {
                let stage = short_stage(context, short, pair, cohorts);
                let stage = stage.zip(pair).map(|(stage, pair)| {
                    let placed = lint::Placed::alone(stage, short.mark);
                    let outline = Outline::new(SHORT_NAME, &pair, [&placed], Some(0), cohorts);
                    context.outlines.push(outline);
                    placed.stage
                });
                let named = (&short.guardrails, &Field::Absent);
                let watch = courses::rails(context, named, Mode::Canary, rails);
                stage.map(|stage| Way::Pinned(Box::new(stage), watch))
            }
            (_, Some(named)) => {
                let staged = named
                    .readable()
                    .find(|(name, _)| name.value == rollout.name);
                staged.and_then(|(name, staged)| {
                    context.name("a rollout", name);
                    staged_way(context, raw, (name, staged), pair, (cohorts, rails))
                })
            }
            _ => None,
        };
        let apps = apps_of(raw, &rollout);
        if let (Some(pair), Some(bucketing), Some(way)) = (pair, bucketing, way) {
            let course = |stage, rails| {
                let plan = Plan {
                    id: RolloutId::new(rollout.name),
                    apps: apps.iter().map(|(name, _)| AppId::new(name)).collect(),
                    from: ProviderId::new(&pair.from.value),
                    to: ProviderId::new(&pair.to.value),
                    bucketing,
                    stage,
                    epoch: 0,
                    closed: false,
                };
                Course::pinned(plan, rails)
            };
            match way {
                Way::Pinned(stage, rails) => all_courses.push(course(*stage, rails)),
                Way::Driven(control, legs) => {
                    let first = legs.first().map(|leg| leg.stage.clone());
                    all_courses.extend(first.map(|stage| Course {
                        control,
                        legs,
                        pinned: Place::default(),
                        ..course(stage, None)
                    }));
                }
            }
        }
    }
    all_courses
}

fn bucketing(context: &mut Context<'_>, rollout: &Either<'_>) -> Option<Bucketing> {
    if rollout.bucketing.is_absent() {
        context
            .report
            .error(rollout.mark, "`bucketing` is missing")
            .hint("`bucketing: { salt: … }`: a word of your own; rollouts with equal salts choose the same people first");
    }
    let raw = rollout.bucketing.get()?;
    if raw.salt.is_absent() {
        context
            .report
            .error(raw.mark, "`salt` is missing")
            .hint("a word of your own; rollouts with equal salts choose the same people first");
    }
    let salt = raw.salt.get()?;
    if 255 < salt.value.len() {
        context
            .report
            .error(salt.mark, "a salt has at most 255 bytes");
    }
    Some(Bucketing {
        salt: salt.value.as_str().into(),
        unit: match raw.unit.or(UnitWord::Subject) {
            UnitWord::Subject => UnitKind::Subject,
            UnitWord::Device => UnitKind::Device,
            UnitWord::ClientId => UnitKind::ClientId,
        },
        before_known: before_known(context, raw),
        on_decrease: match raw.on_decrease.or(OnDecreaseWord::Hold) {
            OnDecreaseWord::Hold => OnDecrease::Hold,
            OnDecreaseWord::Recall => OnDecrease::Recall,
        },
        pinned_at_from: match raw.pinned_at_from.or(PinnedAtFromWord::Redirect) {
            PinnedAtFromWord::Redirect => PinnedAtFrom::Redirect,
            PinnedAtFromWord::Allow => PinnedAtFrom::Allow,
        },
    })
}

fn before_known(context: &mut Context<'_>, raw: &RawBucketing) -> BeforeKnown {
    match raw.before_known.or(BeforeKnownWord::Device) {
        BeforeKnownWord::Device => BeforeKnown::Device,
        BeforeKnownWord::IdentifierFirst => {
            if let (Some(at), UnitWord::Device | UnitWord::ClientId) =
                (raw.before_known.get(), raw.unit.or(UnitWord::Subject))
            {
                context
                    .report
                    .error(
                        at.mark,
                        "who is asked for their name is put into buckets by it",
                    )
                    .hint("`unit: subject`, or `before_known: device`");
            }
            BeforeKnown::IdentifierFirst
        }
    }
}

fn short_stage(
    context: &mut Context<'_>,
    raw: &RawShortRollout,
    pair: Option<Pair<'_>>,
    cohorts: &Cohorts,
) -> Option<Stage> {
    if let (Some(at), Some(_)) = (raw.percent.get(), raw.assign.get()) {
        context
            .report
            .error(at.mark, "either `percent` or `assign`, not both")
            .hint("in `assign`, write `{ percent: … }` as the last rule");
    }
    if raw.percent.is_absent() && raw.assign.is_absent() {
        context.report.error(
            raw.mark,
            "nobody would move: `percent` or `assign` is missing",
        );
    }
    for rule in raw.assign.get().map_or(&[][..], |list| &list.items) {
        if let Some(at) = rule.ramp.get() {
            context
                .report
                .error(at.mark, "a ramp belongs to a stage, which says its steps")
                .hint("write `percent`, or the long form: `rollouts` with `stages`");
        }
    }
    let pair = pair?;
    let parts = stages::Parts {
        mode: Mode::Canary,
        percent: raw.percent.get(),
        assign: &raw.assign,
        accept: &raw.accept,
        other_arm: &raw.other_arm,
    };
    let mut stage = stages::compile(context, &parts, &pair, cohorts);
    stage.id = SHORT_STAGE.into();
    Some(stage)
}

fn staged_way(
    context: &mut Context<'_>,
    raw: &RawConfig,
    (name, staged): (&At<String>, &RawRollout),
    pair: Option<Pair<'_>>,
    (cohorts, rails): (&Cohorts, &Rails),
) -> Option<Way> {
    if staged.apps.is_absent() {
        context.report.error(staged.mark, "`apps` is missing");
    }
    let list = staged
        .stages
        .required(staged.mark, "stages", &mut context.report);
    let (pair, list) = (pair?, list?);
    let mut all: Vec<lint::Placed> = Vec::new();
    let mut complete = true;
    for (index, raw) in list.items.iter().enumerate() {
        let id = raw.id.required(raw.mark, "id", &mut context.report);
        let mode = raw.mode.required(raw.mark, "mode", &mut context.report);
        if let Some(id) = id {
            context.name("a stage", id);
            if all.iter().any(|other| *other.stage.id == *id.value) {
                context
                    .report
                    .error(id.mark, format!("two stages are called `{}`", id.value))
                    .value(&id.value);
            }
        }
        let (Some(id), Some(mode)) = (id, mode) else {
            complete = false;
            continue;
        };
        let parts = stages::Parts {
            mode: stages::mode(mode.value),
            percent: None,
            assign: &raw.assign,
            accept: &raw.accept,
            other_arm: &raw.other_arm,
        };
        if parts.mode == Mode::Canary && raw.assign.is_absent() {
            context
                .report
                .warning(raw.mark, "nobody moves in this stage: it has no rules");
        }
        let mut stage = stages::compile(context, &parts, &pair, cohorts);
        stage.id = id.value.as_str().into();
        stage.index = index;
        let climbs = ramp::ramp(context, raw, &mut stage);
        ramp::farewell(context, raw, &mut stage);
        stage.shadow = shadow::looks(context, staged, raw);
        let steps = raw.ramp.get().map_or(&[][..], |list| &list.items);
        let steps = steps.iter().filter_map(|step| step.percent.get());
        all.push(lint::Placed {
            ramp: climbs,
            climbs: steps.map(|at| at.value).collect(),
            stage,
            mode_mark: mode.mark,
            assign_mark: raw.assign.get().map_or(raw.mark, |list| list.mark),
        });
    }
    let acknowledged = raw.change.get().and_then(|change| change.acknowledge.get());
    let control = match staged.control.or(ControlWord::Pinned) {
        ControlWord::Pinned => {
            let present = pinned::present(context, staged, &mut all, complete)?;
            let outline = Outline::new(&name.value, &pair, &all, Some(present), cohorts);
            context.outlines.push(outline);
            lint::stages(context, &all, acknowledged.map(|at| at.value));
            let watch = list.items.get(present);
            let placed = all.into_iter().nth(present)?;
            let watch = watch.and_then(|raw| {
                let named = (&raw.guardrails, &staged.guardrails);
                courses::rails(context, named, placed.stage.mode, rails)
            });
            return Some(Way::Pinned(Box::new(placed.stage), watch));
        }
        ControlWord::Controller => Control::Controller,
        ControlWord::Schedule => Control::Schedule,
    };
    lint::stages(context, &all, acknowledged.map(|at| at.value));
    let outline = Outline::new(&name.value, &pair, &all, None, cohorts);
    context.outlines.push(outline);
    let word = staged.control.or(ControlWord::Pinned);
    let legs = courses::legs(context, word, staged, &all, rails);
    (complete && !legs.is_empty()).then_some(Way::Driven(control, legs))
}
