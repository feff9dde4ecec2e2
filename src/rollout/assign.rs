//! *Assign*: where does a new login start?

use std::borrow::Cow;
use std::fmt;

use crate::clock::UnixTime;
use crate::rollout::accept::Acceptance;
use crate::rollout::accept::LoginBegun;
use crate::rollout::accept::accept_login;
use crate::rollout::bucket::Bucket;
use crate::rollout::bucket::BucketKey;
use crate::rollout::bucket::Percent;
use crate::rollout::bucket::UnitKind;
use crate::rollout::cohort::Cohort;
use crate::rollout::cohort::CohortId;
use crate::rollout::cohorts::Cohorts;
use crate::rollout::facts::Facts;
use crate::rollout::kill::KillPosition;
use crate::rollout::stage::Arm;
use crate::rollout::stage::AssignRule;
use crate::rollout::stage::BeforeKnown;
use crate::rollout::stage::Bucketing;
use crate::rollout::stage::Mode;
use crate::rollout::stage::OnDecrease;
use crate::rollout::stage::PinnedAtFrom;
use crate::rollout::stage::Plan;
use crate::rollout::stage::Share;

/// That a person has been on an arm, in an epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pin {
    /// Which arm.
    pub arm: Arm,
    /// In which epoch; one of another epoch is void.
    pub epoch: u64,
}

/// Why an arm was chosen; its text form is the label `rule`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RuleRef {
    /// The kill switch.
    Kill,
    /// The mode leaves no choice.
    Mode,
    /// A pin of the present epoch.
    Pin,
    /// A cohort rule.
    Cohort(CohortId),
    /// A percent rule.
    Percent,
    /// Their own choice, where a rule asks for it; or, before they have made one, `from`.
    Choice,
    /// No rule matched.
    Default,
    /// The assigned provider is away.
    Fallback,
    /// The new provider has not proved itself in this step yet, and as many as may be are on their way there.
    FirstLogins,
    /// An exercise lets people sign in on the old side.
    Drill,
}

impl RuleRef {
    /// The label value: `kill mode pin cohort:NAME percent choice default fallback first_logins drill`.
    pub fn label(&self) -> Cow<'static, str> {
        match self {
            Self::Kill => "kill".into(),
            Self::Mode => "mode".into(),
            Self::Pin => "pin".into(),
            Self::Cohort(id) => format!("cohort:{id}").into(),
            Self::Percent => "percent".into(),
            Self::Choice => "choice".into(),
            Self::Default => "default".into(),
            Self::Fallback => "fallback".into(),
            Self::FirstLogins => "first_logins".into(),
            Self::Drill => "drill".into(),
        }
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

/// Where a login starts, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Assignment {
    /// The arm.
    pub arm: Arm,
    /// Why.
    pub rule: RuleRef,
    /// The bucket that was compared, if one was.
    pub bucket: Option<Bucket>,
}

impl Assignment {
    const fn by(rule: RuleRef, arm: Arm) -> Self {
        Self {
            arm,
            rule,
            bucket: None,
        }
    }
}

/// Kill switch, mode, pin, rules, percent, `from`: in this order.
///
/// A pin holds people at `to`; one at `from` binds nobody, because whoever signed in there before a percent grew must
/// be able to move. With `on_decrease: recall` a pin counts only where the rules cannot say yet, for want of facts, that
/// the person goes to `from`. Where `deny` holds nothing is assigned; the caller has answered 503 before it asks.
pub fn assign(
    plan: &Plan,
    cohorts: &Cohorts,
    key: &BucketKey,
    kill: KillPosition,
    pin: Option<Pin>,
    facts: &Facts<'_>,
    now: UnixTime,
) -> Assignment {
    if plan.closed && kill != KillPosition::Deny {
        return Assignment::by(RuleRef::Mode, Arm::To);
    }
    match kill {
        KillPosition::Legacy | KillPosition::Deny => {
            return Assignment::by(RuleRef::Kill, Arm::From);
        }
        KillPosition::Modern => return Assignment::by(RuleRef::Kill, Arm::To),
        KillPosition::Freeze | KillPosition::Off => {}
    }
    match plan.stage.mode {
        Mode::LegacyOnly | Mode::Shadow => Assignment::by(RuleRef::Mode, Arm::From),
        Mode::ModernOnly => Assignment::by(RuleRef::Mode, Arm::To),
        Mode::ModernPrimary => kept_at_from(plan, cohorts, kill, facts, now)
            .unwrap_or(Assignment::by(RuleRef::Mode, Arm::To)),
        Mode::Canary => {
            let pinned = is_pinned_to(plan, pin);
            if pinned && matches!(plan.bucketing.on_decrease, OnDecrease::Hold) {
                return Assignment::by(RuleRef::Pin, Arm::To);
            }
            let (assignment, certain) = by_rules(plan, cohorts, key, facts, now);
            match assignment.arm {
                Arm::From if pinned && !certain => Assignment {
                    arm: Arm::To,
                    rule: RuleRef::Pin,
                    bucket: assignment.bucket,
                },
                Arm::From | Arm::To => assignment,
            }
        }
    }
}

/// Whether it would steer a login to know what its person calls themselves: `before_known: identifier_first`, and a rule that
/// is reached looks at that, or at the bucket that is made of it. Not asked where the kill switch or the mode decides, and not
/// about what a pin would say: whose that is can be told only then.
pub fn wants_identifier(
    plan: &Plan,
    cohorts: &Cohorts,
    kill: KillPosition,
    facts: &Facts<'_>,
    now: UnixTime,
) -> bool {
    let asks = matches!(plan.bucketing.before_known, BeforeKnown::IdentifierFirst)
        && matches!(plan.stage.mode, Mode::Canary)
        && matches!(kill, KillPosition::Off | KillPosition::Freeze)
        && !plan.closed
        && facts.hearsay.identifier.is_none();
    if !asks {
        return false;
    }
    for rule in plan.stage.assign.iter().filter(|rule| runs(rule, now)) {
        let heeds = |id: &CohortId| cohorts.get(id).is_some_and(Cohort::heeds_identifier);
        match (matches(rule, cohorts, facts), rule.share) {
            (Some(false), _) | (Some(true), Share::Percent(Percent::NONE)) => {}
            (Some(true), Share::Percent(_)) => return true,
            (Some(true), Share::All | Share::Chosen) => return false,
            (None, _) if rule.cohort.as_ref().is_some_and(heeds) => return true,
            (None, _) => {}
        }
    }
    false
}

/// Whether a finished login is not turned into a session, and one sign-in at `to` follows: the person is pinned to `to`
/// and came to `from` on a device that does not remember it (`pinned_at_from: redirect`).
///
/// `login` is where the login was, `assigned` what [`assign`] says now that the person is known. Not asked about a
/// fallback, which is meant to be at the other side.
pub fn restarts_at_to(plan: &Plan, pin: Option<Pin>, login: Arm, assigned: &Assignment) -> bool {
    matches!((login, assigned.arm), (Arm::From, Arm::To))
        && matches!(plan.bucketing.pinned_at_from, PinnedAtFrom::Redirect)
        && is_pinned_to(plan, pin)
}

/// The side that the percent alone chooses for somebody, if no rule about them stands above it: by these people the split
/// is checked.
pub fn placed_by_percent(
    plan: &Plan,
    cohorts: &Cohorts,
    key: &BucketKey,
    facts: &Facts<'_>,
    now: UnixTime,
) -> Option<Arm> {
    let (assignment, _) = by_rules(plan, cohorts, key, facts, now);
    match (plan.stage.mode, assignment.rule) {
        (Mode::Canary, RuleRef::Percent | RuleRef::Default) => {
            assignment.bucket.map(|_| assignment.arm)
        }
        (
            Mode::Canary | Mode::LegacyOnly | Mode::Shadow | Mode::ModernPrimary | Mode::ModernOnly,
            _,
        ) => None,
    }
}

/// Whether somebody is where the percent has them, and not where a rule about them sends them: people of both sides who can
/// be compared. A browser may have had a bucket before it was known whose it is, so which side that was is not asked.
pub fn is_left_to_percent(
    plan: &Plan,
    cohorts: &Cohorts,
    key: &BucketKey,
    facts: &Facts<'_>,
    now: UnixTime,
) -> bool {
    let (assignment, _) = by_rules(plan, cohorts, key, facts, now);
    plan.stage.mode == Mode::Canary
        && matches!(assignment.rule, RuleRef::Percent | RuleRef::Default)
}

fn is_pinned_to(plan: &Plan, pin: Option<Pin>) -> bool {
    pin.is_some_and(|pin| matches!(pin.arm, Arm::To) && pin.epoch == plan.epoch)
}

/// First match wins. The second value says whether more facts could not change the answer.
fn by_rules(
    plan: &Plan,
    cohorts: &Cohorts,
    key: &BucketKey,
    facts: &Facts<'_>,
    now: UnixTime,
) -> (Assignment, bool) {
    let mut bucket = None;
    let mut certain = true;
    let concerning = plan.stage.assign.concerning(cohorts, facts);
    let open = concerning.open;
    for (place, rule) in concerning.filter(|(_, rule)| runs(rule, now)) {
        // A cohort that nobody defined, which the configuration refuses, matches nobody.
        match matches(rule, cohorts, facts) {
            Some(true) => {}
            Some(false) => continue,
            None => {
                certain = false;
                continue;
            }
        }
        let within = match rule.share {
            Share::All => true,
            Share::Chosen => {
                let assignment = Assignment {
                    arm: facts.hearsay.chosen.unwrap_or(Arm::From),
                    rule: RuleRef::Choice,
                    bucket,
                };
                return (assignment, facts.hearsay.chosen.is_some());
            }
            Share::Percent(share) => {
                if bucket.is_none() {
                    bucket = bucket_of(&plan.bucketing, key, facts);
                }
                match bucket {
                    Some(bucket) => bucket.is_within(share),
                    // Without a unit everybody starts at the old provider.
                    None => {
                        certain = false;
                        false
                    }
                }
            }
        };
        if within {
            let rule_ref = match &rule.cohort {
                Some(id) => RuleRef::Cohort(id.clone()),
                None => RuleRef::Percent,
            };
            let assignment = Assignment {
                arm: rule.to,
                rule: rule_ref,
                bucket,
            };
            return (assignment, certain && open.is_none_or(|open| place < open));
        }
    }
    let assignment = Assignment {
        arm: Arm::From,
        rule: RuleRef::Default,
        bucket,
    };
    (assignment, certain && open.is_none())
}

/// In `modern-primary` everything starts at `to`, except for people whom a rule keeps at `from` and whose login there
/// will be honoured (`accept.….except`, or a fallback's). Nobody is sent where they would be refused.
fn kept_at_from(
    plan: &Plan,
    cohorts: &Cohorts,
    kill: KillPosition,
    facts: &Facts<'_>,
    now: UnixTime,
) -> Option<Assignment> {
    let begun = LoginBegun {
        // Before any grace: this login begins now.
        at: UnixTime::NEVER,
        fallback: false,
    };
    match accept_login(plan, cohorts, kill, &plan.from, begun, facts, now) {
        Acceptance::Accepted | Acceptance::OnlyExcept => {}
        Acceptance::NotAccepted | Acceptance::Quarantined => return None,
    }
    let mut concerning = plan.stage.assign.concerning(cohorts, facts);
    let (_, rule) = concerning.find(|(_, rule)| {
        runs(rule, now)
            && matches!(rule.share, Share::All)
            && rule.cohort.is_some()
            && matches(rule, cohorts, facts) == Some(true)
    })?;
    match (rule.to, &rule.cohort) {
        (Arm::From, Some(id)) => Some(Assignment::by(RuleRef::Cohort(id.clone()), Arm::From)),
        (Arm::From, None) | (Arm::To, _) => None,
    }
}

fn runs(rule: &AssignRule, now: UnixTime) -> bool {
    rule.until.is_none_or(|until| now < until)
}

fn matches(rule: &AssignRule, cohorts: &Cohorts, facts: &Facts<'_>) -> Option<bool> {
    match &rule.cohort {
        None => Some(true),
        Some(id) => cohorts.get(id)?.contains(facts),
    }
}

/// The bucket of whatever is known: the configured unit of a person, else the device. One unit never stands in for
/// another, because the two would lie in different buckets.
fn bucket_of(bucketing: &Bucketing, key: &BucketKey, facts: &Facts<'_>) -> Option<Bucket> {
    let (kind, value) = match (facts.person, bucketing.unit) {
        (Some(person), UnitKind::Subject) => (UnitKind::Subject, person.canonical.as_str()),
        (Some(person), UnitKind::ClientId) => {
            (UnitKind::ClientId, person.identity.client_id.as_deref()?)
        }
        (Some(_), UnitKind::Device) => (UnitKind::Device, facts.device?),
        (None, UnitKind::Subject | UnitKind::ClientId | UnitKind::Device) => {
            match bucketing.before_known {
                BeforeKnown::Device => (UnitKind::Device, facts.device?),
                BeforeKnown::IdentifierFirst => (UnitKind::Subject, facts.hearsay.unit?),
            }
        }
    };
    Some(Bucket::of(key, &bucketing.salt, kind, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ProviderId;
    use crate::rollout::facts::Hearsay;
    use crate::rollout::stage::AcceptOverride;
    use crate::rollout::stage::BasicPolicy;
    use crate::rollout::stage::LoginPolicy;
    use crate::rollout::stage::SessionPolicy;
    use crate::rollout::testing::People;
    use crate::rollout::testing::facts;
    use crate::rollout::testing::plan;
    use crate::secret::Secret;
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::Duration;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn key() -> BucketKey {
        BucketKey::new(Secret::new((0..32).collect()))
    }

    fn cohorts() -> Cohorts {
        let group = |provider: &str| Cohort::Group {
            provider: ProviderId::new(provider),
            any_of: std::iter::once("it".into()).collect(),
        };
        [
            (
                "break-glass",
                Cohort::Subjects(std::iter::once("hr:17".into()).collect()),
            ),
            ("it", group("legacy")),
            (
                "office",
                Cohort::Cidr(vec!["10.20.0.0/16".parse().unwrap()]),
            ),
            ("orders", Cohort::Path(vec!["/orders/*".into()])),
        ]
        .into_iter()
        .map(|(name, cohort)| (CohortId::new(name), cohort))
        .collect()
    }

    fn percent(text: &str) -> AssignRule {
        AssignRule {
            cohort: None,
            share: Share::Percent(Percent::parse(text).unwrap()),
            to: Arm::To,
            until: None,
        }
    }

    fn cohort(name: &str, to: Arm) -> AssignRule {
        AssignRule {
            cohort: Some(CohortId::new(name)),
            share: Share::All,
            to,
            until: None,
        }
    }

    fn by(rule: RuleRef, arm: Arm) -> (RuleRef, Arm) {
        (rule, arm)
    }

    fn by_cohort(name: &str, arm: Arm) -> (RuleRef, Arm) {
        (RuleRef::Cohort(CohortId::new(name)), arm)
    }

    /// Kill switch off.
    fn start(plan: &Plan, pin: Option<Pin>, facts: &Facts<'_>) -> (RuleRef, Arm) {
        let found = assign(plan, &cohorts(), &key(), KillPosition::Off, pin, facts, NOW);
        (found.rule, found.arm)
    }

    /// Where the old side is closed for good there is nowhere else to go.
    #[test]
    fn nobody_is_sent_to_a_side_that_is_closed() {
        for mode in Mode::ALL {
            let rules = vec![cohort("break-glass", Arm::From), percent("0")];
            let closed = Plan {
                closed: true,
                ..plan(mode, rules)
            };
            let glass = People::of("legacy", "hr:17", json!({}));
            for kill in [KillPosition::Off, KillPosition::Legacy] {
                let found = assign(&closed, &cohorts(), &key(), kill, None, &glass.facts(), NOW);
                assert_eq!(found.arm, Arm::To, "{mode:?} {kill:?}");
            }
        }
    }

    fn killed(
        plan: &Plan,
        kill: KillPosition,
        pin: Option<Pin>,
        facts: &Facts<'_>,
    ) -> (RuleRef, Arm) {
        let found = assign(plan, &cohorts(), &key(), kill, pin, facts, NOW);
        (found.rule, found.arm)
    }

    /// Bucket 236 486: within 25 %, outside of 20 %.
    fn alice() -> People {
        People::of("legacy", "hr:10442", json!({}))
    }

    const PINNED: Option<Pin> = Some(Pin {
        arm: Arm::To,
        epoch: 3,
    });

    #[test]
    fn a_percent_takes_the_buckets_below_it() {
        let alice = alice();
        let assigned = |share| {
            let plan = plan(Mode::Canary, vec![percent(share)]);
            assign(
                &plan,
                &cohorts(),
                &key(),
                KillPosition::Off,
                None,
                &alice.facts(),
                NOW,
            )
        };
        let below = assigned("20");
        assert_eq!((below.arm, below.rule), (Arm::From, RuleRef::Default));
        assert_eq!(below.bucket.unwrap().number(), 236_486);
        let above = assigned("25");
        assert_eq!((above.arm, above.rule), (Arm::To, RuleRef::Percent));
        assert_eq!(above.bucket.unwrap().number(), 236_486);
        assert_eq!(assigned("23.6486").arm, Arm::From);
        assert_eq!(assigned("23.6487").arm, Arm::To);
    }

    #[test]
    fn the_first_matching_rule_wins() {
        let staff = People::of("legacy", "hr:17", json!({ "groups": "it" }));
        let rules = vec![
            cohort("break-glass", Arm::From),
            cohort("it", Arm::To),
            percent("100"),
        ];
        let forward = plan(Mode::Canary, rules.clone());
        assert_eq!(
            start(&forward, None, &staff.facts()),
            by_cohort("break-glass", Arm::From)
        );
        assert_eq!(
            start(&forward, None, &alice().facts()),
            by(RuleRef::Percent, Arm::To)
        );
        let backward = plan(Mode::Canary, rules.into_iter().rev().collect());
        assert_eq!(
            start(&backward, None, &staff.facts()),
            by(RuleRef::Percent, Arm::To)
        );
    }

    #[test]
    fn a_share_of_a_cohort_leaves_the_rest_to_later_rules() {
        let staff = People::of("legacy", "hr:10442", json!({ "groups": "it" }));
        let some = |share| AssignRule {
            cohort: Some(CohortId::new("it")),
            ..percent(share)
        };
        let within = plan(Mode::Canary, vec![some("25")]);
        assert_eq!(
            start(&within, None, &staff.facts()),
            by_cohort("it", Arm::To)
        );
        let outside = plan(Mode::Canary, vec![some("20"), percent("30")]);
        assert_eq!(
            start(&outside, None, &staff.facts()),
            by(RuleRef::Percent, Arm::To)
        );
        assert_eq!(
            start(&within, None, &alice().facts()),
            by(RuleRef::Default, Arm::From)
        );
    }

    #[test]
    fn a_rule_that_needs_later_facts_is_skipped_before_them() {
        let rules = vec![cohort("it", Arm::To), cohort("office", Arm::To)];
        let plan = plan(Mode::Canary, rules);
        let office = Facts {
            client_ip: Some("10.20.1.1".parse().unwrap()),
            ..facts()
        };
        assert_eq!(start(&plan, None, &office), by_cohort("office", Arm::To));
        assert_eq!(
            start(&plan, None, &facts()),
            by(RuleRef::Default, Arm::From)
        );
    }

    #[test]
    fn a_rule_ends_at_its_time() {
        let rule = |until| AssignRule {
            until: Some(until),
            ..cohort("orders", Arm::From)
        };
        let assigned = |until| {
            let plan = plan(Mode::Canary, vec![rule(until), percent("100")]);
            start(&plan, None, &alice().facts()).1
        };
        assert_eq!(assigned(NOW + Duration::from_millis(1)), Arm::From);
        assert_eq!(assigned(NOW), Arm::To);
    }

    #[test]
    fn without_a_unit_a_login_starts_at_from() {
        let plan = plan(Mode::Canary, vec![percent("100")]);
        assert_eq!(
            start(&plan, None, &facts()),
            by(RuleRef::Default, Arm::From)
        );
        let device = Facts {
            device: Some("d1"),
            ..facts()
        };
        assert_eq!(start(&plan, None, &device), by(RuleRef::Percent, Arm::To));
    }

    #[test]
    fn the_unit_is_the_configured_one_and_nothing_stands_in_for_it() {
        let bucket = |unit, before_known, facts: &Facts<'_>| {
            let mut plan = plan(Mode::Canary, vec![percent("50")]);
            plan.bucketing.unit = unit;
            plan.bucketing.before_known = before_known;
            let found = assign(
                &plan,
                &cohorts(),
                &key(),
                KillPosition::Off,
                None,
                facts,
                NOW,
            );
            found.bucket.map(Bucket::number)
        };
        let mut alice = alice();
        let known = |alice: &People, device| {
            bucket(
                device,
                BeforeKnown::Device,
                &Facts {
                    device: Some("hr:10442"),
                    ..alice.facts()
                },
            )
        };
        assert_eq!(known(&alice, UnitKind::Subject), Some(236_486));
        assert_eq!(known(&alice, UnitKind::Device), Some(131_504));
        assert_eq!(known(&alice, UnitKind::ClientId), None);
        alice.identity.client_id = Some("hr:10442".into());
        assert!(known(&alice, UnitKind::ClientId).is_some());
        let unknown = Facts {
            device: Some("hr:10442"),
            ..facts()
        };
        assert_eq!(
            bucket(UnitKind::Subject, BeforeKnown::Device, &unknown),
            Some(131_504)
        );
        assert_eq!(
            bucket(UnitKind::Subject, BeforeKnown::IdentifierFirst, &unknown),
            None
        );
        // Whom links know by what was typed has the bucket that the person will have.
        let typed = Facts {
            hearsay: Hearsay {
                identifier: Some("alice@corp.example"),
                unit: Some("hr:10442"),
                chosen: None,
            },
            ..unknown
        };
        assert_eq!(
            bucket(UnitKind::Subject, BeforeKnown::IdentifierFirst, &typed),
            Some(236_486)
        );
        assert_eq!(
            bucket(UnitKind::Subject, BeforeKnown::Device, &typed),
            Some(131_504)
        );
    }

    #[test]
    fn somebody_is_asked_who_they_are_only_where_that_decides() {
        let mut cohorts = cohorts();
        let partners = Cohort::LoginHint(vec!["*@partner.example".into()]);
        cohorts.insert(CohortId::new("partners"), partners);
        let office = Facts {
            client_ip: Some("10.20.0.1".parse().unwrap()),
            ..facts()
        };
        let asked = |rules: Vec<AssignRule>, facts: &Facts<'_>| {
            let mut plan = plan(Mode::Canary, rules);
            plan.bucketing.before_known = BeforeKnown::IdentifierFirst;
            wants_identifier(&plan, &cohorts, KillPosition::Off, facts, NOW)
        };
        let everywhere = facts();
        assert!(asked(vec![percent("5")], &everywhere));
        assert!(asked(vec![cohort("partners", Arm::To)], &everywhere));
        assert!(asked(
            vec![cohort("office", Arm::To), percent("5")],
            &everywhere
        ));
        // Whoever is in the office goes there whatever they are called.
        let rules = vec![cohort("office", Arm::To), percent("5")];
        let office = Facts {
            client_ip: office.client_ip,
            ..everywhere
        };
        assert!(!asked(rules, &office));
        assert!(!asked(vec![percent("0")], &everywhere));
        assert!(!asked(vec![], &everywhere));
        // Groups are known after the login, whoever somebody says they are.
        assert!(!asked(vec![cohort("it", Arm::To)], &everywhere));
        let said = Facts {
            hearsay: Hearsay {
                identifier: Some("alice"),
                ..Hearsay::default()
            },
            ..everywhere
        };
        assert!(!asked(vec![percent("5")], &said));
        for (mode, kill, closed, first) in [
            (Mode::LegacyOnly, KillPosition::Off, false, true),
            (Mode::ModernPrimary, KillPosition::Off, false, true),
            (Mode::Canary, KillPosition::Legacy, false, true),
            (Mode::Canary, KillPosition::Modern, false, true),
            (Mode::Canary, KillPosition::Deny, false, true),
            (Mode::Canary, KillPosition::Off, true, true),
            (Mode::Canary, KillPosition::Off, false, false),
        ] {
            let mut plan = plan(mode, vec![percent("5")]);
            plan.closed = closed;
            plan.bucketing.before_known = if first {
                BeforeKnown::IdentifierFirst
            } else {
                BeforeKnown::Device
            };
            assert!(!wants_identifier(&plan, &cohorts, kill, &everywhere, NOW));
        }
    }

    #[test]
    fn a_rule_that_lets_people_choose_takes_their_word_and_no_other_rule_does() {
        let chosen = AssignRule {
            share: Share::Chosen,
            ..cohort("orders", Arm::To)
        };
        let said = |chosen| Facts {
            hearsay: Hearsay {
                chosen,
                ..Hearsay::default()
            },
            ..facts()
        };
        let open = plan(Mode::Canary, vec![chosen.clone(), percent("100")]);
        let (to, from) = (said(Some(Arm::To)), said(Some(Arm::From)));
        assert_eq!(start(&open, None, &to), by(RuleRef::Choice, Arm::To));
        assert_eq!(start(&open, None, &from), by(RuleRef::Choice, Arm::From));
        assert_eq!(start(&open, None, &facts()), by(RuleRef::Choice, Arm::From));
        // Whoever has moved is not asked again, and nobody overrules the switch.
        assert_eq!(start(&open, PINNED, &from), by(RuleRef::Pin, Arm::To));
        assert_eq!(
            killed(&open, KillPosition::Legacy, None, &to),
            by(RuleRef::Kill, Arm::From)
        );
        // Where no rule asks, a word more in the form changes nothing.
        let shut = plan(Mode::Canary, vec![percent("0")]);
        assert_eq!(start(&shut, None, &to), by(RuleRef::Default, Arm::From));
        let elsewhere = Facts { path: "/", ..to };
        let only = plan(Mode::Canary, vec![chosen]);
        assert_eq!(
            start(&only, None, &elsewhere),
            by(RuleRef::Default, Arm::From)
        );
    }

    #[test]
    fn the_mode_leaves_a_choice_only_in_canary() {
        let alice = alice();
        let rules = || vec![percent("100")];
        for (mode, expected) in [
            (Mode::LegacyOnly, by(RuleRef::Mode, Arm::From)),
            (Mode::Shadow, by(RuleRef::Mode, Arm::From)),
            (Mode::Canary, by(RuleRef::Pin, Arm::To)),
            (Mode::ModernPrimary, by(RuleRef::Mode, Arm::To)),
            (Mode::ModernOnly, by(RuleRef::Mode, Arm::To)),
        ] {
            let plan = plan(mode, rules());
            assert_eq!(start(&plan, PINNED, &alice.facts()), expected, "{mode:?}");
        }
    }

    #[test]
    fn the_kill_switch_stands_above_mode_pin_and_rules() {
        let alice = alice();
        for mode in Mode::ALL {
            let plan = plan(mode, vec![percent("100")]);
            let kill = |position| killed(&plan, position, PINNED, &alice.facts());
            assert_eq!(kill(KillPosition::Legacy), by(RuleRef::Kill, Arm::From));
            assert_eq!(kill(KillPosition::Modern), by(RuleRef::Kill, Arm::To));
            assert_eq!(
                kill(KillPosition::Freeze),
                start(&plan, PINNED, &alice.facts())
            );
        }
    }

    #[test]
    fn a_pin_of_the_present_epoch_holds_people_at_to() {
        let alice = alice();
        let plan = plan(Mode::Canary, vec![percent("0")]);
        let pin = |epoch| {
            Some(Pin {
                arm: Arm::To,
                epoch,
            })
        };
        assert_eq!(
            start(&plan, pin(3), &alice.facts()),
            by(RuleRef::Pin, Arm::To)
        );
        assert_eq!(
            start(&plan, pin(2), &alice.facts()),
            by(RuleRef::Default, Arm::From)
        );
        assert_eq!(
            start(&plan, pin(4), &alice.facts()),
            by(RuleRef::Default, Arm::From)
        );
    }

    /// Everybody who signed in at 0 % has such a pin; they must move when the percent grows.
    #[test]
    fn a_pin_at_from_keeps_nobody_from_moving() {
        let plan = plan(Mode::Canary, vec![percent("100")]);
        let pin = Some(Pin {
            arm: Arm::From,
            epoch: 3,
        });
        assert_eq!(
            start(&plan, pin, &alice().facts()),
            by(RuleRef::Percent, Arm::To)
        );
    }

    #[test]
    fn recall_sends_back_who_is_certainly_out() {
        let alice = alice();
        let recall = |rules| {
            let mut plan = plan(Mode::Canary, rules);
            plan.bucketing.on_decrease = OnDecrease::Recall;
            plan
        };
        let lowered = recall(vec![percent("20")]);
        assert_eq!(
            start(&lowered, PINNED, &alice.facts()),
            by(RuleRef::Default, Arm::From)
        );
        let enough = recall(vec![percent("25")]);
        assert_eq!(
            start(&enough, PINNED, &alice.facts()),
            by(RuleRef::Percent, Arm::To)
        );
        // Before the login nobody knows whether she is in `it`: she is not sent back on a guess.
        let unsure = recall(vec![cohort("it", Arm::To), percent("0")]);
        let device = Facts {
            device: Some("d1"),
            ..facts()
        };
        assert_eq!(start(&unsure, PINNED, &device), by(RuleRef::Pin, Arm::To));
        assert_eq!(
            start(&unsure, None, &device),
            by(RuleRef::Default, Arm::From)
        );
        assert_eq!(
            start(&unsure, PINNED, &alice.facts()),
            by(RuleRef::Default, Arm::From)
        );
        assert_eq!(start(&lowered, PINNED, &facts()), by(RuleRef::Pin, Arm::To));
    }

    #[test]
    fn in_modern_primary_only_excepted_people_start_at_from() {
        let glass = People::of("legacy", "hr:17", json!({}));
        let mut plan = plan(Mode::ModernPrimary, vec![cohort("break-glass", Arm::From)]);
        assert_eq!(
            start(&plan, None, &glass.facts()),
            by(RuleRef::Mode, Arm::To)
        );
        plan.stage.accept = vec![AcceptOverride {
            provider: plan.from.clone(),
            new_logins: LoginPolicy::Refuse,
            except: vec![CohortId::new("break-glass")],
            started_logins_grace: Duration::from_secs(900),
            sessions: SessionPolicy::UntilExpiry,
            basic: BasicPolicy::Refuse,
            deadline: None,
        }];
        assert_eq!(
            start(&plan, None, &glass.facts()),
            by_cohort("break-glass", Arm::From)
        );
        assert_eq!(
            start(&plan, None, &alice().facts()),
            by(RuleRef::Mode, Arm::To)
        );
        assert_eq!(start(&plan, None, &facts()), by(RuleRef::Mode, Arm::To));
    }

    #[test]
    fn a_moved_person_on_a_new_device_signs_in_at_to_once_more() {
        let alice = alice();
        let mut plan = plan(Mode::Canary, vec![percent("0")]);
        let restarts = |plan: &Plan, kill, pin, login| {
            let assigned = assign(plan, &cohorts(), &key(), kill, pin, &alice.facts(), NOW);
            restarts_at_to(plan, pin, login, &assigned)
        };
        assert!(restarts(&plan, KillPosition::Off, PINNED, Arm::From));
        assert!(!restarts(&plan, KillPosition::Off, PINNED, Arm::To));
        assert!(!restarts(&plan, KillPosition::Off, None, Arm::From));
        assert!(!restarts(&plan, KillPosition::Legacy, PINNED, Arm::From));
        plan.bucketing.pinned_at_from = PinnedAtFrom::Allow;
        assert!(!restarts(&plan, KillPosition::Off, PINNED, Arm::From));
    }

    #[test]
    fn rules_have_label_values() {
        assert_eq!(
            RuleRef::Cohort(CohortId::new("it")).to_string(),
            "cohort:it"
        );
        assert_eq!(RuleRef::Default.label(), "default");
    }

    fn rule() -> impl Strategy<Value = AssignRule> {
        let cohorts = [
            None,
            Some("break-glass"),
            Some("it"),
            Some("office"),
            Some("orders"),
            Some("nobody"),
        ];
        let share = prop_oneof![
            Just(Share::All),
            (0..=1_000_000_u32).prop_map(|n| Share::Percent(Percent::from_millionths(n).unwrap())),
        ];
        (proptest::sample::select(cohorts.to_vec()), share).prop_map(|(cohort, share)| AssignRule {
            cohort: cohort.map(CohortId::new),
            share,
            to: Arm::To,
            until: None,
        })
    }

    /// Exclusions first, as a rollout that only moves forward has them.
    fn rules() -> impl Strategy<Value = Vec<AssignRule>> {
        let exclusion =
            proptest::sample::select(vec![vec![], vec![cohort("break-glass", Arm::From)]]);
        (exclusion, proptest::collection::vec(rule(), 0..4))
            .prop_map(|(first, rest)| [first, rest].concat())
    }

    fn raised(rules: &[AssignRule], by: u32) -> Vec<AssignRule> {
        let raise = |share| match share {
            same @ (Share::All | Share::Chosen) => same,
            Share::Percent(share) => {
                let more = (share.millionths() + by).min(1_000_000);
                Share::Percent(Percent::from_millionths(more).unwrap())
            }
        };
        rules
            .iter()
            .map(|rule| AssignRule {
                share: raise(rule.share),
                ..rule.clone()
            })
            .collect()
    }

    proptest! {
        /// Raising a percent never sends a moved person back, known or not, pinned or not, hold or recall.
        #[test]
        fn raising_a_percent_never_sends_anybody_back(
            rules in rules(),
            more in 0..1_000_000_u32,
            subject in "hr:[0-9]{1,3}",
            known in any::<bool>(),
            recall in any::<bool>(),
            kept_pin in any::<bool>(),
        ) {
            let people = People::of("legacy", &subject, json!({ "groups": "it" }));
            let unknown = Facts { device: Some(&subject), ..facts() };
            let request = if known { people.facts() } else { unknown };
            let mut before = plan(Mode::Canary, rules.clone());
            let mut after = plan(Mode::Canary, raised(&rules, more));
            if recall {
                before.bucketing.on_decrease = OnDecrease::Recall;
                after.bucketing.on_decrease = OnDecrease::Recall;
            }
            if start(&before, None, &request).1 == Arm::To {
                let pin = kept_pin.then_some(PINNED).flatten();
                prop_assert_eq!(start(&after, pin, &request).1, Arm::To);
            }
        }

        #[test]
        fn equal_facts_give_equal_answers(rules in rules(), subject in "[a-z]{1,8}") {
            let people = People::of("modern", &subject, json!({}));
            let plan = plan(Mode::Canary, rules);
            prop_assert_eq!(start(&plan, None, &people.facts()), start(&plan, None, &people.facts()));
        }
    }
}
