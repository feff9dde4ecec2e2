//! How many people a stage sends to the new side by percent: shown, and nothing is decided by it.

use crate::clock::UnixTime;
use crate::rollout::bucket::Percent;
use crate::rollout::stage::Arm;
use crate::rollout::stage::AssignRule;
use crate::rollout::stage::Mode;
use crate::rollout::stage::Plan;
use crate::rollout::stage::Share;

impl Plan {
    /// The share of the people without a cohort of their own that the stage sends to `to`: for a gauge, and no decision.
    pub fn target(&self, now: UnixTime) -> Percent {
        match self.stage.mode {
            Mode::LegacyOnly | Mode::Shadow => Percent::NONE,
            Mode::ModernPrimary | Mode::ModernOnly => Percent::ALL,
            Mode::Canary => {
                // All percents read the same bucket: whoever the rules above have taken is not there for the next.
                let (mut taken, mut moved) = (0, 0);
                let running = |rule: &&AssignRule| rule.until.is_none_or(|until| now < until);
                for rule in self.stage.assign.iter().filter(running) {
                    if rule.cohort.is_some() {
                        continue;
                    }
                    let reach = match rule.share {
                        Share::All => Percent::ALL.millionths(),
                        Share::Percent(share) => share.millionths(),
                        Share::Chosen => break, // How many will choose it nobody knows.
                    };
                    if matches!(rule.to, Arm::To) {
                        moved += reach.saturating_sub(taken);
                    }
                    taken = taken.max(reach);
                }
                Percent::from_millionths(moved).unwrap_or(Percent::ALL)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::cohort::CohortId;
    use crate::rollout::testing::plan;

    #[test]
    fn the_target_is_what_the_percents_add_up_to() {
        let now = UnixTime::from_secs(100);
        let rule = |percent: &str, to: Arm, until: u64| AssignRule {
            cohort: None,
            share: Share::Percent(Percent::parse(percent).unwrap()),
            to,
            until: Some(UnixTime::from_secs(until)),
        };
        let staff = AssignRule {
            cohort: Some(CohortId::new("staff")),
            share: Share::All,
            ..rule("0", Arm::To, 200)
        };
        let target =
            |mode, rules: &[AssignRule]| plan(mode, rules.to_vec()).target(now).to_string();
        let ten = rule("10", Arm::To, 200);
        assert_eq!(target(Mode::Canary, &[]), "0");
        assert_eq!(target(Mode::Canary, &[staff, ten.clone()]), "10");
        assert_eq!(
            target(Mode::Canary, &[ten.clone(), rule("5", Arm::To, 200)]),
            "10"
        );
        assert_eq!(
            target(Mode::Canary, &[rule("5", Arm::From, 200), ten.clone()]),
            "5"
        );
        assert_eq!(
            target(Mode::Canary, &[rule("50", Arm::To, 100), ten.clone()]),
            "10"
        );
        let all = AssignRule {
            share: Share::All,
            ..ten.clone()
        };
        assert_eq!(
            target(Mode::Canary, &[rule("5", Arm::From, 200), all]),
            "95"
        );
        assert_eq!(target(Mode::Shadow, std::slice::from_ref(&ten)), "0");
        assert_eq!(target(Mode::ModernPrimary, &[ten]), "100");
    }
}
