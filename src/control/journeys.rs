//! Login journeys, counted by person: begun, and how they ended. And the bound of harm: how many may be under way at the
//! new provider before the first have succeeded there.

mod book;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::control::journeys::book::Book;
use crate::control::journeys::book::First;
use crate::control::journeys::book::Open;
use crate::identity::CanonicalSubject;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::BucketKey;
use crate::rollout::Guardrails;
use crate::rollout::Mode;
use crate::rollout::Observed;
use crate::rollout::Outcome;
use crate::rollout::Plan;
use crate::rollout::RolloutId;
use crate::rollout::UnitKind;
use crate::rollout::unit;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Journey;

/// Journeys under way that one rollout keeps in mind; whoever comes later is not counted.
const MAX_OPEN: usize = 50_000;

/// A browser on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traveller<'a> {
    /// The rollout, in the step it is in.
    pub(crate) plan: &'a Plan,
    /// The application.
    pub(crate) app: &'a AppId,
    /// The browser.
    pub(crate) device: &'a str,
    /// The side.
    pub(crate) arm: Arm,
    /// Now.
    pub(crate) now: UnixTime,
}

/// What a rollout asks of its journeys.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The rollout.
    pub(crate) rollout: RolloutId,
    /// What watches it.
    pub(crate) rails: Arc<Guardrails>,
    /// Changes with every step: what was begun in another is not counted in this one.
    pub(crate) step: u64,
}

/// All journeys.
pub(crate) struct Journeys {
    metrics: Arc<Metrics>,
    books: Mutex<HashMap<RolloutId, Book>>,
}

/// So many in a row that did not succeed are no chance, at whatever share.
const ROW: u32 = 10;

impl Journeys {
    /// None yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            books: Mutex::default(),
        }
    }

    /// The rollouts that run, each in its step. A step that goes on keeps its journeys.
    pub(crate) fn configure(&self, rules: Vec<Rules>) {
        let mut books = self.books();
        books.retain(|rollout, _| rules.iter().any(|rules| rules.rollout == *rollout));
        for rules in rules {
            let book = books
                .entry(rules.rollout.clone())
                .or_insert_with(|| Book::new(rules.clone()));
            if book.rules.step != rules.step {
                *book = Book::new(rules);
            } else {
                book.rules = rules;
            }
        }
    }

    /// Whether one more login may start at the new provider now. Whoever is under way there already may try again.
    pub(crate) fn may_start(&self, traveller: &Traveller<'_>, key: &BucketKey) -> bool {
        match (traveller.arm, traveller.plan.stage.mode) {
            (Arm::To, Mode::Canary) => {}
            // Only while both sides take logins there is another place to start at.
            (Arm::From, _)
            | (Arm::To, Mode::LegacyOnly | Mode::Shadow | Mode::ModernPrimary | Mode::ModernOnly) =>
            {
                return true;
            }
        }
        let mut books = self.books();
        let Some(book) = books.get_mut(&traveller.plan.id) else {
            return true;
        };
        book.expire(traveller.now, &self.metrics);
        let device = device(traveller, key);
        if book
            .open
            .get(&device)
            .is_some_and(|open| open.arm == Arm::To)
        {
            return true;
        }
        let limits = book.rules.rails.first_logins;
        let first = book.first.get(traveller.app).copied().unwrap_or_default();
        first.may_start(limits)
    }

    /// A browser was sent to a provider. `placed` is the side that the percent alone would have chosen, if it did.
    pub(crate) fn started(&self, traveller: &Traveller<'_>, placed: Option<Arm>, key: &BucketKey) {
        let mut books = self.books();
        let Some(book) = books.get_mut(&traveller.plan.id) else {
            drop(books);
            self.count(traveller, Journey::Started);
            return;
        };
        book.expire(traveller.now, &self.metrics);
        let device = device(traveller, key);
        if let Some(open) = book.open.get(&device) {
            if open.arm == traveller.arm {
                return;
            }
            // Sent to the other side meanwhile: by a fallback, or one more time. Where it ends is what counts.
            if let Some(open) = book.close(device).filter(|open| open.arm == Arm::To) {
                let first = book.first.entry(open.app).or_default();
                first.since = first.since.saturating_sub(1);
            }
        }
        if MAX_OPEN <= book.open.len() {
            return;
        }
        let due = traveller.now + book.rules.rails.window;
        let open = Open {
            app: traveller.app.clone(),
            arm: traveller.arm,
            began: traveller.now,
            due,
            stumbled: false,
            placed,
        };
        book.due.insert((due, device), ());
        book.open.insert(device, open);
        if traveller.arm == Arm::To {
            let first = book.first.entry(traveller.app.clone()).or_default();
            first.unfinished += 1;
            first.since += 1;
        }
        book.tell(Outcome {
            unit: device,
            device: None,
            arm: traveller.arm,
            observed: Observed::Begun,
            placed,
            at: traveller.now,
        });
        drop(books);
        self.count(traveller, Journey::Started);
    }

    /// A login came back without an identity. It may be tried again for a while.
    pub(crate) fn stumbled(&self, traveller: &Traveller<'_>, key: &BucketKey) {
        let mut books = self.books();
        let Some(book) = books.get_mut(&traveller.plan.id) else {
            drop(books);
            self.count(traveller, Journey::Failed);
            return;
        };
        let device = device(traveller, key);
        let Some(open) = book.open.get_mut(&device) else {
            return;
        };
        if open.stumbled {
            return;
        }
        open.stumbled = true;
        let sooner = open.due.min(traveller.now + book.rules.rails.retry);
        book.due.remove(&(open.due, device));
        open.due = sooner;
        book.due.insert((sooner, device), ());
        let placed = open.placed;
        book.tell(Outcome {
            unit: device,
            device: None,
            arm: traveller.arm,
            observed: Observed::Stumbled,
            placed,
            at: traveller.now,
        });
    }

    /// A login became a session. `took` is the time from the provider's answer to it.
    pub(crate) fn succeeded(
        &self,
        traveller: &Traveller<'_>,
        person: &CanonicalSubject,
        took: Option<Duration>,
        key: &BucketKey,
    ) {
        let mut books = self.books();
        if let Some(book) = books.get_mut(&traveller.plan.id) {
            let device = device(traveller, key);
            let Some(open) = book.close(device) else {
                // Begun before this step, or not counted.
                return;
            };
            if open.arm == Arm::To {
                let first = book.first.entry(open.app).or_default();
                first.succeeded += 1;
                (first.row, first.since) = (0, 0);
            }
            let rollout = &traveller.plan.id;
            book.tell(Outcome {
                unit: unit(key, rollout, UnitKind::Subject, person.as_str()),
                device: Some(device),
                arm: traveller.arm,
                observed: Observed::LoggedIn { took },
                placed: open.placed,
                at: traveller.now,
            });
        }
        drop(books);
        self.count(traveller, Journey::Succeeded);
    }

    /// As [`Self::succeeded`], of a browser that may not be on its way at all.
    pub(crate) fn arrived(
        &self,
        traveller: &Traveller<'_>,
        person: &CanonicalSubject,
        key: &BucketKey,
    ) {
        let device = device(traveller, key);
        let books = self.books();
        let book = books.get(&traveller.plan.id);
        let under_way = book
            .and_then(|book| book.open.get(&device))
            .is_some_and(|open| open.arm == traveller.arm);
        drop(books);
        if under_way {
            self.succeeded(traveller, person, None, key);
        }
    }

    /// A session of somebody was looked at.
    pub(crate) fn session(
        &self,
        plan: &Plan,
        arm: Arm,
        person: &CanonicalSubject,
        observed: Observed,
        now: UnixTime,
        key: &BucketKey,
    ) {
        let mut books = self.books();
        if let Some(book) = books.get_mut(&plan.id) {
            book.tell(Outcome {
                unit: unit(key, &plan.id, UnitKind::Subject, person.as_str()),
                device: None,
                arm,
                observed,
                placed: None,
                at: now,
            });
        }
    }

    /// An application that is plainly on fire: of the first at the new provider none came back, or ten in a row did not.
    pub(crate) fn fires(&self, rollout: &RolloutId) -> bool {
        let books = self.books();
        let Some(book) = books.get(rollout) else {
            return false;
        };
        let first = book.rules.rails.first_logins.until_succeeded.max(1);
        let burns = |seen: &First| ROW <= seen.row || (seen.succeeded == 0 && first <= seen.bad);
        book.first.values().any(burns)
    }

    /// What has happened since it was asked last.
    pub(crate) fn take(&self, rollout: &RolloutId, now: UnixTime) -> Vec<Outcome> {
        let mut books = self.books();
        let Some(book) = books.get_mut(rollout) else {
            return Vec::new();
        };
        book.expire(now, &self.metrics);
        std::mem::take(&mut book.outcomes)
    }

    fn count(&self, traveller: &Traveller<'_>, event: Journey) {
        self.metrics
            .journey(&traveller.plan.id, traveller.arm, event);
    }

    fn books(&self) -> MutexGuard<'_, HashMap<RolloutId, Book>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn device(traveller: &Traveller<'_>, key: &BucketKey) -> u64 {
    unit(key, &traveller.plan.id, UnitKind::Device, traveller.device)
}

impl fmt::Debug for Journeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::rollout::testing::plan;
    use crate::secret::Secret;

    struct Bench {
        journeys: Journeys,
        plan: Plan,
        app: AppId,
        key: BucketKey,
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(1_000_000 + seconds)
    }

    impl Bench {
        fn new() -> Self {
            let journeys = Journeys::new(Metrics::new(Arc::new(SystemClock), 100));
            let bench = Self {
                journeys,
                plan: plan(Mode::Canary, Vec::new()),
                app: AppId::new("crm"),
                key: BucketKey::new(Secret::new(vec![7; 32])),
            };
            bench.step(1);
            bench
        }

        fn step(&self, step: u64) {
            self.journeys.configure(vec![Rules {
                rollout: self.plan.id.clone(),
                rails: Arc::new(Guardrails::default()),
                step,
            }]);
        }

        fn at<'a>(&'a self, device: &'a str, arm: Arm, seconds: u64) -> Traveller<'a> {
            Traveller {
                plan: &self.plan,
                app: &self.app,
                device,
                arm,
                now: at(seconds),
            }
        }

        fn start(&self, device: &str, arm: Arm, seconds: u64) -> bool {
            let traveller = self.at(device, arm, seconds);
            let may = self.journeys.may_start(&traveller, &self.key);
            if may {
                self.journeys.started(&traveller, None, &self.key);
            }
            may
        }

        fn succeed(&self, device: &str, seconds: u64) {
            let person = CanonicalSubject::named(&format!("person of {device}")).unwrap();
            let traveller = self.at(device, Arm::To, seconds);
            self.journeys
                .succeeded(&traveller, &person, None, &self.key);
        }

        fn seen(&self, seconds: u64) -> Vec<Observed> {
            let outcomes = self.journeys.take(&self.plan.id, at(seconds));
            outcomes.iter().map(|outcome| outcome.observed).collect()
        }
    }

    #[test]
    fn ten_may_be_under_way_until_five_have_come_back() {
        let bench = Bench::new();
        let devices: Vec<String> = (0..30).map(|n| format!("d{n}")).collect();
        let started = devices
            .iter()
            .filter(|d| bench.start(d, Arm::To, 0))
            .count();
        assert_eq!(started, 10);
        assert!(
            bench.start("d0", Arm::To, 1),
            "whoever is under way may try again"
        );
        assert!(bench.start("d20", Arm::From, 1), "the old side is open");
        for device in devices.iter().take(4) {
            bench.succeed(device, 2);
        }
        let more = devices
            .iter()
            .skip(10)
            .filter(|d| bench.start(d, Arm::To, 3))
            .count();
        assert_eq!(more, 4, "four have come back, four places are free");
        bench.succeed("d4", 4);
        let more = devices
            .iter()
            .skip(14)
            .filter(|d| bench.start(d, Arm::To, 5))
            .count();
        assert_eq!(more, 10, "the way is proved, as far as people come back");
        bench.step(2);
        let again = devices
            .iter()
            .filter(|d| bench.start(d, Arm::To, 6))
            .count();
        assert_eq!(again, 10, "every step begins carefully");
    }

    #[test]
    fn nobody_coming_back_is_seen_when_the_window_ends() {
        let bench = Bench::new();
        bench.start("d1", Arm::To, 0);
        assert_eq!(bench.seen(599), [Observed::Begun]);
        assert_eq!(bench.seen(600), [Observed::Abandoned]);
        assert_eq!(bench.seen(10_000), []);
    }

    #[test]
    fn a_failed_attempt_may_be_made_good_for_a_minute() {
        let bench = Bench::new();
        for device in ["d1", "d2"] {
            bench.start(device, Arm::To, 0);
            let traveller = bench.at(device, Arm::To, 10);
            bench.journeys.stumbled(&traveller, &bench.key);
            bench.journeys.stumbled(&traveller, &bench.key);
        }
        let seen = bench.seen(11);
        let begun = Observed::Begun;
        assert_eq!(seen, [begun, Observed::Stumbled, begun, Observed::Stumbled]);
        bench.succeed("d1", 30);
        assert_eq!(
            bench.seen(70),
            [Observed::LoggedIn { took: None }, Observed::Failed]
        );
    }

    #[test]
    fn nobody_follows_the_first_who_did_not_come_back() {
        let bench = Bench::new();
        let devices: Vec<String> = (0..30).map(|n| format!("d{n}")).collect();
        let started = |seconds| {
            devices
                .iter()
                .filter(|d| bench.start(d, Arm::To, seconds))
                .count()
        };
        assert_eq!(started(0), 10);
        bench.seen(600);
        assert!(bench.journeys.fires(&bench.plan.id));
        assert_eq!(started(700), 0, "ten people were harmed, and nobody else");
        bench.step(2);
        assert!(!bench.journeys.fires(&bench.plan.id));
    }

    /// A redirect URI is taken away in the middle of a step: the provider shows its own error page, and nobody comes back.
    #[test]
    fn what_breaks_later_harms_ten_people_until_one_comes_back() {
        let bench = Bench::new();
        for n in 0..200 {
            let device = format!("good{n}");
            assert!(bench.start(&device, Arm::To, n), "{n}");
            bench.succeed(&device, n + 1);
        }
        let devices: Vec<String> = (0..500).map(|n| format!("bad{n}")).collect();
        let started = |seconds| {
            let devices = devices.iter().enumerate();
            let started = devices.filter(|(n, d)| bench.start(d, Arm::To, seconds + *n as u64));
            started.count()
        };
        assert_eq!(started(300), 10);
        // It works again: whoever is under way comes back, and the others follow.
        bench.succeed("bad3", 850);
        assert!(bench.start("next", Arm::To, 851));
        assert_eq!(
            devices
                .iter()
                .filter(|d| bench.start(d, Arm::To, 852))
                .count(),
            9 + 9,
            "nine who are under way already, and nine beside `next`"
        );
        bench.seen(2_000);
        assert!(bench.journeys.fires(&bench.plan.id));
    }

    /// Whoever gives up leaves a place: a quiet night does not close the way for good.
    #[test]
    fn where_nobody_is_under_way_one_more_may_try() {
        let bench = Bench::new();
        for n in 0..6 {
            bench.start(&format!("good{n}"), Arm::To, 0);
            bench.succeed(&format!("good{n}"), 1);
        }
        for n in 0..10 {
            assert!(bench.start(&format!("bad{n}"), Arm::To, 2));
        }
        assert!(!bench.start("more", Arm::To, 3));
        bench.seen(700);
        assert!(bench.start("more", Arm::To, 701));
        assert!(!bench.start("yet more", Arm::To, 702));
    }

    #[test]
    fn ten_in_a_row_are_a_fire_at_whatever_share() {
        let bench = Bench::new();
        for n in 0..6 {
            bench.start(&format!("good{n}"), Arm::To, 0);
            bench.succeed(&format!("good{n}"), 1);
        }
        for n in 0..9 {
            bench.start(&format!("bad{n}"), Arm::To, 2);
        }
        bench.seen(700);
        assert!(!bench.journeys.fires(&bench.plan.id));
        bench.start("bad9", Arm::To, 701);
        bench.seen(1_400);
        assert!(bench.journeys.fires(&bench.plan.id));
    }

    #[test]
    fn what_began_in_another_step_is_not_counted() {
        let bench = Bench::new();
        bench.start("d1", Arm::To, 0);
        bench.seen(1);
        bench.step(2);
        bench.succeed("d1", 5);
        assert_eq!(bench.seen(1_000), []);
    }
}
