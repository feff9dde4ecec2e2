//! Whose passwords have come along: who judges the password of somebody who has moved.

use crate::rollout::kill::KillPosition;
use crate::rollout::stage::Arm;
use crate::rollout::stage::Mode;
use crate::rollout::stage::Plan;

/// Who judges the passwords that people send with their requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Passwords {
    /// `from`, everybody's.
    #[default]
    AtFrom,
    /// `to`, of people whose password has moved; no other moves.
    Kept,
    /// The same, and the password of who is assigned to `to` moves once `from` has found it good.
    Moving,
}

/// Whether a password has a home of its own here: one that has moved is judged at `to`, and never at `from` again.
///
/// `from` judges everybody where nobody is at `to`: in `legacy-only` and `shadow`, and while the kill switch stands at
/// `legacy`.
pub const fn passwords_have_homes(plan: &Plan, kill: KillPosition) -> bool {
    let kept = match plan.stage.passwords {
        Passwords::AtFrom => false,
        Passwords::Kept | Passwords::Moving => true,
    };
    kept && match plan.under(kill) {
        KillPosition::Legacy | KillPosition::Deny => false,
        KillPosition::Modern => true,
        KillPosition::Off | KillPosition::Freeze => match plan.stage.mode {
            Mode::LegacyOnly | Mode::Shadow => false,
            Mode::Canary | Mode::ModernPrimary | Mode::ModernOnly => true,
        },
    }
}

/// Whether the password of somebody who is assigned to an arm moves once `from` has found it good. Nobody moves while
/// the kill switch is anywhere but off.
pub const fn password_moves(plan: &Plan, kill: KillPosition, assigned: Arm) -> bool {
    let moving = match plan.stage.passwords {
        Passwords::AtFrom | Passwords::Kept => false,
        Passwords::Moving => true,
    };
    let calm = match plan.under(kill) {
        KillPosition::Off => true,
        KillPosition::Freeze | KillPosition::Legacy | KillPosition::Modern | KillPosition::Deny => {
            false
        }
    };
    moving && calm && matches!(assigned, Arm::To) && passwords_have_homes(plan, kill)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::testing::plan;

    fn with(mode: Mode, passwords: Passwords) -> Plan {
        let mut plan = plan(mode, Vec::new());
        plan.stage.passwords = passwords;
        plan
    }

    #[test]
    fn a_password_that_has_moved_is_judged_at_to_where_anybody_is() {
        for mode in Mode::ALL {
            let honoured = !matches!(mode, Mode::LegacyOnly | Mode::Shadow);
            for passwords in [Passwords::Kept, Passwords::Moving] {
                let plan = with(mode, passwords);
                let at_to = |kill| passwords_have_homes(&plan, kill);
                assert_eq!(at_to(KillPosition::Off), honoured, "{mode:?}");
                assert_eq!(at_to(KillPosition::Freeze), honoured, "{mode:?}");
                assert!(!at_to(KillPosition::Legacy), "{mode:?}");
                assert!(at_to(KillPosition::Modern), "{mode:?}");
            }
            let plan = with(mode, Passwords::AtFrom);
            assert!(!passwords_have_homes(&plan, KillPosition::Off), "{mode:?}");
        }
    }

    #[test]
    fn only_who_is_assigned_to_the_new_side_moves_and_only_while_nobody_holds_the_switch() {
        let moving = with(Mode::ModernPrimary, Passwords::Moving);
        let moves = |plan: &Plan, kill, arm| password_moves(plan, kill, arm);
        assert!(moves(&moving, KillPosition::Off, Arm::To));
        assert!(!moves(&moving, KillPosition::Off, Arm::From));
        for kill in [
            KillPosition::Freeze,
            KillPosition::Legacy,
            KillPosition::Modern,
            KillPosition::Deny,
        ] {
            assert!(!moves(&moving, kill, Arm::To), "{kill:?}");
        }
        for passwords in [Passwords::AtFrom, Passwords::Kept] {
            let plan = with(Mode::ModernPrimary, passwords);
            assert!(!moves(&plan, KillPosition::Off, Arm::To), "{passwords:?}");
        }
        let closed = Plan {
            closed: true,
            ..moving
        };
        assert!(!moves(&closed, KillPosition::Off, Arm::To));
        assert!(passwords_have_homes(&closed, KillPosition::Legacy));
    }
}
