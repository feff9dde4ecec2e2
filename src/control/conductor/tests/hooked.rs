//! A hook that is asked before a stage is left.

use super::*;
use crate::control::conductor::beside::Hook;

#[tokio::test]
async fn whoever_leads_asks_the_hook_of_a_stage_that_has_baked() {
    let estate = Estate::new();
    let mut hooked = course();
    for leg in &mut hooked.legs {
        leg.require.webhook = true;
        leg.guardrails = None;
        for step in &mut leg.steps {
            step.min_units = 0;
        }
    }
    let (one, two) = (estate.instance("one"), estate.instance("two"));
    for instance in [&one, &two] {
        let courses = vec![hooked.clone()];
        instance.conductor.learn(&courses).await.unwrap();
        instance.conductor.adopt(courses).unwrap();
        instance.conductor.tick().await;
    }
    one.order(Command::Start).await.unwrap();
    one.order(Command::SetStage("ramp/98".into()))
        .await
        .unwrap();
    assert!(one.conductor.hooks().is_empty(), "it has not baked");
    estate.clock.advance(Duration::from_hours(1_000));
    for instance in [&one, &two] {
        instance.conductor.tick().await;
    }
    assert!(two.conductor.hooks().is_empty(), "it is led elsewhere");
    let asked = one.conductor.hooks();
    let about = |hook: &Hook| (hook.step.clone(), hook.next.clone(), hook.stage.to_string());
    let of_ramp = ("ramp/98".into(), Some("primary".into()), "ramp".into());
    assert_eq!(asked.iter().map(about).collect::<Vec<_>>(), [of_ramp]);
    let no = Err(String::from("it answers 409"));
    one.conductor.hook_said(&asked[0], no.clone());
    one.conductor.tick().await;
    assert_eq!(one.stands(), ("ramp/98".into(), State::Held));
    assert_eq!(one.standing().progress.why, "webhook: it answers 409");
    assert!(one.conductor.hooks().is_empty(), "it is held");
    // What was said before the halt counts no more.
    one.order(Command::Resume).await.unwrap();
    one.conductor.hook_said(&asked[0], Ok(()));
    estate.clock.advance(Duration::from_secs(1));
    one.conductor.tick().await;
    assert_eq!(one.stands(), ("ramp/98".into(), State::Baking));
    let again = one.conductor.hooks();
    one.conductor.hook_said(&again[0], Ok(()));
    one.conductor.tick().await;
    assert_eq!(one.stands(), ("primary".into(), State::Baking));
}
