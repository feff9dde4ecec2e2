//! What goes on while a provider hangs that is asked whether it is there.

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::*;
use crate::rollout::Control;

type Answer = Option<Result<(), String>>;

/// A provider that answers when a test says so.
#[derive(Debug)]
struct Slow(watch::Receiver<Answer>);

#[async_trait]
impl Stage for Slow {
    fn rebuild(&self) -> Result<(), String> {
        Ok(())
    }

    async fn is_ready(&self, _: &ProviderId) -> Result<(), String> {
        let mut answers = self.0.clone();
        let answer = answers.wait_for(Option::is_some).await.unwrap();
        answer.clone().unwrap()
    }

    async fn may_begin(&self, _: &RolloutId, _: &str, _: Option<u64>) -> Result<(), String> {
        Ok(())
    }

    async fn revoke(&self, _: &ProviderId, _: &str) -> Result<(), String> {
        Ok(())
    }
}

/// One instance, and what its provider answers.
fn with(estate: &Estate, course: Course, answer: Answer) -> (Instance, watch::Sender<Answer>) {
    let (answers, slow) = watch::channel(answer);
    let one = estate.start("alone", tempfile::tempdir().unwrap(), None);
    one.conductor.adopt(vec![course]).unwrap();
    one.conductor.on(Arc::new(Slow(slow)));
    (one, answers)
}

/// Longer than any test, and shorter than a provider may take.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn an_order_that_waits_for_a_provider_keeps_nobody_from_going_back() {
    let (estate, ready) = (Estate::new(), Some(Ok(())));
    let (one, answers) = with(&estate, course(), ready.clone());
    one.order(Command::Start).await.unwrap();
    one.order(Command::SetStage("ramp/25".into()))
        .await
        .unwrap();
    answers.send_replace(None);
    let mut forward = Box::pin(one.order(Command::SetStage("ramp/98".into())));
    assert!((&mut forward).now_or_never().is_none());
    timeout(SOON, one.conductor.tick()).await.unwrap();
    let back = timeout(SOON, one.order(Command::Rollback)).await;
    back.unwrap().unwrap();
    assert_eq!(one.stands(), ("ramp/1".into(), State::RolledBack));
    answers.send_replace(ready);
    let refused = forward.await.unwrap_err();
    assert!(refused.contains("it has moved meanwhile"), "{refused}");
    assert_eq!(one.stands(), ("ramp/1".into(), State::RolledBack));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_answers_is_given_up() {
    let estate = Estate::new();
    let (one, answers) = with(&estate, course(), None);
    let refused = one.order(Command::Start).await.unwrap_err();
    assert!(refused.contains("modern is not ready"), "{refused}");
    assert_eq!(one.stands().1, State::Draft);
    answers.send_replace(Some(Err("it is red".into())));
    let refused = one.order(Command::Start).await.unwrap_err();
    assert!(refused.contains("it is red"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_goes_on_by_itself_asks_while_it_is_looked_at_again() {
    let estate = Estate::new();
    let mut course = course();
    course.control = Control::Schedule;
    let now = estate.clock.now();
    course.legs[0].steps[0].at = Some(now);
    course.legs[1].steps[0].at = Some(now + Duration::from_secs(60));
    course.legs[1].steps[1].at = Some(now + Duration::from_secs(600));
    let (one, answers) = with(&estate, course, None);
    let tick = async || timeout(SOON, one.conductor.tick()).await.unwrap();
    estate.clock.advance(Duration::from_secs(61));
    tick().await;
    tick().await;
    assert_eq!(one.stands().0, "staff", "there is no answer");
    answers.send_replace(Some(Ok(())));
    tick().await;
    assert_eq!(one.stands().0, "ramp/1");
    // A refusal is told, and one that never comes is one.
    answers.send_replace(None);
    estate.clock.advance(Duration::from_secs(600));
    tick().await;
    tokio::time::advance(Duration::from_secs(31)).await;
    tick().await;
    let missing = one.standing().missing;
    let told = missing.iter().any(|why| why.contains("within 30 s"));
    assert!(told, "{missing:?}");
    assert_eq!(one.stands().0, "ramp/1");
    // Going back by itself asks nobody.
    let back = timeout(SOON, one.order(Command::Rollback)).await;
    back.unwrap().unwrap();
    assert_eq!(one.stands().0, "staff");
}
