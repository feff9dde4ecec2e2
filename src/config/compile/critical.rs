//! What watches for critical differences where nobody has said anything of it.

use std::sync::Arc;

use crate::rollout::Course;
use crate::rollout::Leg;
use crate::rollout::Limit;
use crate::rollout::Mode;
use crate::rollout::OnTrip;
use crate::rollout::Stage;
use crate::rollout::Watched;
use crate::shadow::Class;
use crate::shadow::settings::Settings;

/// Its name.
const ID: &str = "critical_differences";

/// Where second opinions are compared and people move, one critical difference takes everybody back to `from`, unless a
/// guard of the stage says what differences mean. Without anybody who compares nothing is added: a limit that nobody can
/// read would only block.
pub(super) fn watch(courses: &mut [Course], shadow: &[Settings]) {
    for course in courses {
        let compares = |stage: &Stage| {
            let own = shadow.iter().filter(|one| course.apps.contains(&one.app));
            let mut own = own.filter(|one| stage.shadow.covers(&one.app));
            // An old directory that nobody keeps any more differs from day to day: that is no reason to send people back to it.
            let looks_back = |one: &Settings| !one.back.is_empty();
            let grows_old = stage.mode == Mode::ModernPrimary && own.clone().any(looks_back);
            !grows_old && own.any(Settings::compares)
        };
        let asked = course.legs.iter().map(|leg| compares(&leg.stage));
        let asked: Vec<bool> = asked.collect();
        for (leg, asked) in course.legs.iter_mut().zip(asked) {
            if asked {
                add(leg);
            }
        }
    }
}

fn add(leg: &mut Leg) {
    match leg.stage.mode {
        // Nobody has moved: whoever looks first wants to see all of it.
        Mode::LegacyOnly | Mode::Shadow => return,
        Mode::Canary | Mode::ModernPrimary | Mode::ModernOnly => {}
    }
    let Some(rails) = &mut leg.guardrails else {
        return;
    };
    let said = |limit: &Limit| match limit.of {
        Watched::Divergences(_) => true,
        Watched::Query(_) => false,
    };
    let taken = rails.guards.iter().map(|guard| &*guard.id);
    let mut taken = taken.chain(rails.limits.iter().map(|limit| &*limit.id));
    if rails.limits.iter().any(said) || taken.any(|id| id == ID) {
        return;
    }
    let limit = Limit {
        id: ID.into(),
        of: Watched::Divergences(watched().map(|class| class.as_str().into()).collect()),
        max: 0.0,
        on_trip: OnTrip::RollbackRevoke,
    };
    Arc::make_mut(rails).limits.push(limit);
}

/// What nobody has asked to look at is no reason to send everybody back where the client alone decides it: whether a token is
/// bound, and comes to an exchange that loses that, is the choice of whoever asks for it. A guard may name it.
fn watched() -> impl Iterator<Item = Class> {
    let all = Class::ALL.into_iter();
    all.filter(|class| class.is_critical() && *class != Class::BindingLost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_loses_its_binding_sends_nobody_back_unasked() {
        assert!(Class::BindingLost.is_critical());
        assert!(watched().all(|class| class != Class::BindingLost));
        assert!(watched().any(|class| class == Class::SubjectMismatch));
        let critical = Class::ALL.into_iter().filter(|class| class.is_critical());
        assert_eq!(watched().count() + 1, critical.count());
    }
}
