//! Journeys: what is counted of them, and how many may set out; at one instance, and at several that share a store.

use futures_util::future::join_all;

use super::*;
use crate::clock::SystemClock;
use crate::rollout::testing::plan;
use crate::secret::Secret;
use crate::store::FakeStore;

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

    /// So many instances that share a store, and the store.
    fn several(count: usize) -> (Vec<Self>, Arc<FakeStore>) {
        let store = Arc::new(FakeStore::default());
        let shared: Arc<dyn Store> = Arc::<FakeStore>::clone(&store);
        let one = |_| {
            let bench = Self::new();
            let journeys = bench.journeys.among(&shared);
            Self { journeys, ..bench }
        };
        ((0..count).map(one).collect(), store)
    }

    fn step(&self, step: u64) {
        self.journeys.configure(vec![Rules {
            rollout: self.plan.id.clone(),
            rails: Arc::new(Guardrails::default()),
            step,
            together: true,
        }]);
    }

    fn at<'a>(&'a self, device: &'a str, arm: Arm, seconds: u64) -> Traveller<'a> {
        Traveller {
            plan: &self.plan,
            app: &self.app,
            device,
            arm,
            silent: false,
            now: at(seconds),
        }
    }

    async fn start(&self, device: &str, arm: Arm, seconds: u64) -> bool {
        self.looks(device, arm, seconds).await && self.sets_out(device, arm, seconds).await
    }

    async fn looks(&self, device: &str, arm: Arm, seconds: u64) -> bool {
        let traveller = self.at(device, arm, seconds);
        self.journeys.may_start(&traveller, &self.key).await
    }

    /// The same of somebody whose provider has been asked.
    async fn sets_out(&self, device: &str, arm: Arm, seconds: u64) -> bool {
        let traveller = self.at(device, arm, seconds);
        sets_out(&self.journeys, &traveller, &self.key).await
    }

    /// How many of them may set out for the new provider.
    async fn start_all(&self, devices: &[String], seconds: u64) -> usize {
        let mut started = 0;
        for device in devices {
            started += usize::from(self.start(device, Arm::To, seconds).await);
        }
        started
    }

    async fn stumble(&self, device: &str, seconds: u64) {
        let traveller = self.at(device, Arm::To, seconds);
        self.journeys.stumbled(&traveller, &self.key).await;
    }

    async fn succeed(&self, device: &str, seconds: u64) {
        let person = CanonicalSubject::named(&format!("person of {device}")).unwrap();
        let traveller = self.at(device, Arm::To, seconds);
        self.journeys
            .succeeded(&traveller, &person, None, &self.key)
            .await;
    }

    async fn seen(&self, seconds: u64) -> Vec<Observed> {
        let outcomes = self.journeys.take(&self.plan.id, at(seconds)).await;
        outcomes.iter().map(|outcome| outcome.observed).collect()
    }

    async fn fires(&self, seconds: u64) -> bool {
        self.journeys.fires(&self.plan.id, at(seconds)).await
    }
}

/// Somebody whose provider has been asked, and who is told where to go.
async fn sets_out(journeys: &Journeys, traveller: &Traveller<'_>, key: &BucketKey) -> bool {
    let (device, how) = (device(traveller, key), (None, true));
    let started = journeys.started(traveller, device, how, Departure::kept());
    started.await.is_some()
}

fn devices(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}{n}")).collect()
}

#[tokio::test]
async fn ten_may_be_under_way_until_five_have_come_back() {
    let bench = Bench::new();
    let devices = devices("d", 30);
    assert_eq!(bench.start_all(&devices, 0).await, 10);
    assert!(
        bench.start("d0", Arm::To, 1).await,
        "whoever is under way may try again"
    );
    assert!(
        bench.start("d20", Arm::From, 1).await,
        "the old side is open"
    );
    for device in devices.iter().take(4) {
        bench.succeed(device, 2).await;
    }
    let more = bench.start_all(&devices[10..], 3).await;
    assert_eq!(more, 4, "four have come back, four places are free");
    bench.succeed("d4", 4).await;
    let more = bench.start_all(&devices[14..], 5).await;
    assert_eq!(more, 10, "the way is proved, as far as people come back");
    bench.step(2);
    let again = bench.start_all(&devices, 6).await;
    assert_eq!(again, 10, "every step begins carefully");
}

#[tokio::test]
async fn nobody_coming_back_is_seen_when_the_window_ends() {
    let bench = Bench::new();
    bench.start("d1", Arm::To, 0).await;
    assert_eq!(bench.seen(599).await, [Observed::Begun]);
    assert_eq!(bench.seen(600).await, [Observed::Abandoned]);
    assert_eq!(bench.seen(10_000).await, []);
}

#[tokio::test]
async fn a_failed_attempt_may_be_made_good_for_a_minute() {
    let bench = Bench::new();
    for device in ["d1", "d2"] {
        bench.start(device, Arm::To, 0).await;
        bench.stumble(device, 10).await;
        bench.stumble(device, 10).await;
    }
    let seen = bench.seen(11).await;
    let begun = Observed::Begun;
    assert_eq!(seen, [begun, Observed::Stumbled, begun, Observed::Stumbled]);
    bench.succeed("d1", 30).await;
    assert_eq!(
        bench.seen(70).await,
        [Observed::LoggedIn { took: None }, Observed::Failed]
    );
}

#[tokio::test]
async fn nobody_follows_the_first_who_did_not_come_back() {
    let bench = Bench::new();
    let devices = devices("d", 30);
    assert_eq!(bench.start_all(&devices, 0).await, 10);
    bench.seen(600).await;
    assert!(bench.fires(600).await);
    let started = bench.start_all(&devices, 700).await;
    assert_eq!(started, 0, "ten people were harmed, and nobody else");
    bench.step(2);
    assert!(!bench.fires(700).await);
}

/// The first who failed, with a few between them who did not, keep nobody out for the whole step: a while after the last of them one
/// more may find out, and once that is the fifth who comes back it is open to all.
#[tokio::test]
async fn a_while_after_the_first_have_failed_one_more_may_try() {
    let (all, _) = Bench::several(2);
    for bench in [&Bench::new(), &all[0]] {
        for device in devices("in", 4) {
            assert!(bench.start(&device, Arm::To, 0).await);
            bench.succeed(&device, 0).await;
        }
        assert_eq!(bench.start_all(&devices("out", 30), 0).await, 10);
        bench.seen(600).await;
        let others = devices("late", 30);
        assert_eq!(bench.start_all(&others, 719).await, 0);
        assert_eq!(bench.start_all(&others, 720).await, 1);
        let more = devices("more", 30);
        assert_eq!(bench.start_all(&more, 721).await, 0, "and only one");
        bench.succeed("late0", 721).await;
        assert_eq!(bench.start_all(&devices("next", 30), 722).await, 10);
    }
}

/// A redirect URI is taken away in the middle of a step: the provider shows its own error page, and nobody comes back.
#[tokio::test]
async fn what_breaks_later_harms_ten_people_until_one_comes_back() {
    let bench = Bench::new();
    for n in 0..200 {
        let device = format!("good{n}");
        assert!(bench.start(&device, Arm::To, n).await, "{n}");
        bench.succeed(&device, n + 1).await;
    }
    let devices = devices("bad", 500);
    let mut started = 0;
    for (n, device) in devices.iter().enumerate() {
        started += usize::from(bench.start(device, Arm::To, 300 + n as u64).await);
    }
    assert_eq!(started, 10);
    // It works again: whoever is under way comes back, and the others follow.
    bench.succeed("bad3", 850).await;
    assert!(bench.start("next", Arm::To, 851).await);
    assert_eq!(
        bench.start_all(&devices, 852).await,
        9 + 9,
        "nine who are under way already, and nine beside `next`"
    );
    bench.seen(2_000).await;
    assert!(bench.fires(2_000).await);
}

/// Whoever gives up leaves a place: a quiet night does not close the way for good.
#[tokio::test]
async fn where_nobody_is_under_way_one_more_may_try() {
    let bench = Bench::new();
    for device in &devices("good", 6) {
        bench.start(device, Arm::To, 0).await;
        bench.succeed(device, 1).await;
    }
    assert_eq!(bench.start_all(&devices("bad", 10), 2).await, 10);
    assert!(!bench.start("more", Arm::To, 3).await);
    bench.seen(700).await;
    assert!(bench.start("more", Arm::To, 701).await);
    assert!(!bench.start("yet more", Arm::To, 702).await);
}

/// While their provider is asked where its page is, others come: ten set out all the same, and whoever is late has changed
/// nothing.
#[tokio::test]
async fn of_two_hundred_who_come_at_once_ten_set_out() {
    let (shared, store) = Bench::several(2);
    store.slow.store(true, std::sync::atomic::Ordering::SeqCst);
    for all in [vec![Bench::new()], shared] {
        for step in 1..=2 {
            for bench in &all {
                bench.step(step);
            }
            let people = devices("d", 200);
            for (n, device) in people.iter().enumerate() {
                assert!(
                    all[n % all.len()].looks(device, Arm::To, 0).await,
                    "nobody has taken a place by looking"
                );
            }
            let all_at_once = people.iter().enumerate();
            let all_at_once =
                all_at_once.map(|(n, device)| all[n % all.len()].sets_out(device, Arm::To, 1));
            let out = join_all(all_at_once).await;
            assert_eq!(out.iter().filter(|out| **out).count(), 10);
            let begun = async |seconds| {
                let mut begun = 0;
                for bench in &all {
                    begun += bench.seen(seconds).await.len();
                }
                begun
            };
            assert_eq!(begun(2).await, 10, "nothing is known of the others");
            let first = out.iter().position(|out| *out).unwrap();
            let bench = &all[(first + 1) % all.len()];
            assert!(bench.start(&people[first], Arm::To, 3).await, "once more");
            assert!(!bench.sets_out("next", Arm::To, 3).await);
            bench.succeed(&people[first], 4).await;
            assert!(bench.sets_out("next", Arm::To, 5).await, "one is back");
            assert!(!bench.sets_out("another", Arm::To, 5).await);
            begun(6).await;
        }
    }
}

/// Where there is no room nothing is written: so many who come late keep nobody from being counted who comes back.
#[tokio::test]
async fn whoever_finds_no_room_writes_nothing() {
    let (all, store) = Bench::several(2);
    assert_eq!(all[0].start_all(&devices("d", 30), 0).await, 10);
    store.full.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(!all[1].sets_out("late", Arm::To, 1).await);
}

/// The store goes away between the look and the start: then an instance is bound by what it has seen itself.
#[tokio::test]
async fn without_the_store_whoever_comes_at_once_is_bound_as_well() {
    let (all, store) = Bench::several(1);
    let people = devices("d", 30);
    for device in &people {
        assert!(all[0].looks(device, Arm::To, 0).await);
    }
    store.away.store(true, std::sync::atomic::Ordering::SeqCst);
    let at_once = people
        .iter()
        .map(|device| all[0].sets_out(device, Arm::To, 1));
    let out = join_all(at_once).await;
    assert_eq!(out.iter().filter(|out| **out).count(), 10);
    // Once it is there again it knows how each of them ended, and that nobody is under way.
    store.away.store(false, std::sync::atomic::Ordering::SeqCst);
    for (device, _) in people.iter().zip(&out).filter(|(_, out)| **out).take(5) {
        all[0].succeed(device, 2).await;
    }
    all[0].seen(700).await;
    assert_eq!(all[0].start_all(&devices("e", 30), 701).await, 10);
}

/// A browser whose request holds this has not been told yet where to go.
async fn departs(of: &Bench, journeys: &Arc<Journeys>, device: &str) -> Option<Departure> {
    let background = tokio::runtime::Handle::current();
    let traveller = of.at(device, Arm::To, 0);
    let departs = journeys.departs(&background, &traveller, (None, true), &of.key);
    departs.await
}

/// Two instances that share a store, as a request holds them.
fn two() -> ([(Bench, Arc<Journeys>); 2], Arc<FakeStore>) {
    let (all, store) = Bench::several(2);
    let shared: Arc<dyn Store> = Arc::<FakeStore>::clone(&store);
    let one = |bench: Bench| {
        let journeys = Journeys::new(Metrics::new(Arc::new(SystemClock), 100)).among(&shared);
        let rules = bench
            .journeys
            .books()
            .values()
            .next()
            .unwrap()
            .rules
            .clone();
        journeys.configure(vec![rules]);
        (bench, Arc::new(journeys))
    };
    let mut all = all.into_iter().map(one);
    let pair = [all.next().unwrap(), all.next().unwrap()];
    (pair, store)
}

/// Until nothing is left to be done in the background.
async fn settles() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_hangs_up_gives_the_place_back_for_all_instances() {
    let ([one, two], _) = two();
    let held: Vec<_> = join_all((0..10).map(async |n| {
        let (bench, journeys) = if n % 2 == 0 { &one } else { &two };
        departs(bench, journeys, &format!("d{n}")).await
    }))
    .await;
    assert!(held.iter().all(Option::is_some));
    assert!(departs(&two.0, &two.1, "late").await.is_none());
    let mut held = held.into_iter().flatten();
    held.next().unwrap().is_told();
    drop(held);
    settles().await;
    let again: Vec<_> = join_all((0..10).map(async |n| {
        let departure = departs(&two.0, &two.1, &format!("e{n}")).await;
        departure.inspect(Departure::is_told)
    }))
    .await;
    assert_eq!(again.iter().flatten().count(), 9, "one is under way");
    // Nobody who has gone is waited for.
    let lost = async |journeys: &Journeys| {
        let outcomes = journeys.take(&one.0.plan.id, at(750)).await;
        let lost = |outcome: &&Outcome| outcome.observed == Observed::Abandoned;
        outcomes.iter().filter(lost).count()
    };
    assert_eq!((lost(&one.1).await, lost(&two.1).await), (1, 9));
}

/// The request is gone in the middle of what it writes: what is written is taken back when it is there.
#[tokio::test]
async fn who_hangs_up_while_the_place_is_taken_gives_it_back() {
    for table in ["journey_first", "journey"] {
        let ([one, two], store) = two();
        *store.halts_at.lock().unwrap() = Some(table);
        {
            let mut gone = Box::pin(departs(&one.0, &one.1, "gone"));
            tokio::select! {
                _ = &mut gone => panic!("it waits for the store"),
                () = store.halted.notified() => {}
            }
        }
        store.goes_on.notify_one();
        settles().await;
        let held: Vec<_> = join_all((0..11).map(async |n| {
            let departure = departs(&two.0, &two.1, &format!("d{n}")).await;
            departure.inspect(Departure::is_told)
        }))
        .await;
        assert_eq!(held.iter().flatten().count(), 10, "{table}");
    }
}

#[tokio::test]
async fn requests_of_one_browser_are_one_departure() {
    let ([one, _], _) = two();
    let alone = Arc::new(Journeys::new(Metrics::new(Arc::new(SystemClock), 100)));
    let rules = one
        .0
        .journeys
        .books()
        .values()
        .next()
        .unwrap()
        .rules
        .clone();
    alone.configure(vec![rules]);
    for journeys in [&alone, &one.1] {
        for told in [true, false] {
            let first = departs(&one.0, journeys, "anna").await.unwrap();
            let second = departs(&one.0, journeys, "anna").await.unwrap();
            if told {
                second.is_told();
            }
            drop(first);
            drop(second);
            settles().await;
            let mut held = Vec::new();
            for n in 0..10 {
                held.extend(departs(&one.0, journeys, &format!("d{n}")).await);
            }
            assert_eq!(held.len(), 10 - usize::from(told));
            drop(held);
            settles().await;
            let person = CanonicalSubject::named("anna").unwrap();
            let traveller = one.0.at("anna", Arm::To, 5);
            journeys
                .succeeded(&traveller, &person, None, &one.0.key)
                .await;
        }
    }
}

/// A second request of the same browser, at another instance, was answered: it is on its way, whatever becomes of the first.
#[tokio::test]
async fn what_another_instance_has_told_nobody_takes_back() {
    let ([one, two], _) = two();
    let first = departs(&one.0, &one.1, "anna").await.unwrap();
    departs(&two.0, &two.1, "anna").await.unwrap().is_told();
    drop(first);
    settles().await;
    let person = CanonicalSubject::named("anna").unwrap();
    let traveller = two.0.at("anna", Arm::To, 5);
    two.1.succeeded(&traveller, &person, None, &two.0.key).await;
    let outcomes = two.1.take(&two.0.plan.id, at(6)).await;
    let arrived = outcomes.iter().filter(|outcome| outcome.device.is_some());
    assert_eq!(arrived.count(), 1);
}

/// Whoever is in and is sent round to a provider that shows an error page of its own never comes back either.
#[tokio::test]
async fn ten_may_be_sent_round_and_the_guards_hear_nothing_of_it() {
    let (shared, _) = Bench::several(2);
    for all in [vec![Bench::new()], shared] {
        let round = |bench: usize, device: String, seconds| {
            let bench = &all[bench % all.len()];
            async move {
                let traveller = Traveller {
                    silent: true,
                    ..bench.at(&device, Arm::To, seconds)
                };
                let (journeys, key) = (&bench.journeys, &bench.key);
                journeys.may_start(&traveller, key).await
                    && sets_out(journeys, &traveller, key).await
            }
        };
        let mut sent = 0;
        for n in 0..30 {
            sent += usize::from(round(n, format!("d{n}"), 0).await);
        }
        assert_eq!(sent, 10);
        // A sign-in of one of them is a journey of its own, with a bound of its own.
        assert_eq!(all[0].start_all(&devices("d", 30), 1).await, 10);
        let bench = &all[0];
        let back = Traveller {
            silent: true,
            ..bench.at("d3", Arm::To, 2)
        };
        bench.journeys.came_round(&back, &bench.key).await;
        assert!(round(0, String::from("next"), 3).await, "one is back");
        assert!(!round(1, String::from("one more"), 3).await);
        let mut seen = Vec::new();
        for bench in &all {
            seen.extend(bench.seen(700).await);
        }
        let (begun, gone) = (Observed::Begun, Observed::Abandoned);
        assert_eq!(seen, [[begun; 10], [gone; 10]].concat(), "the sign-ins");
        let mut sent = Vec::new();
        for (n, seconds) in [(0, 722), (1, 723), (2, 724)] {
            sent.push(round(0, format!("later{n}"), seconds).await);
        }
        assert_eq!(sent, [false, true, false], "they were lost");
    }
}

/// Once all new sign-ins are at the new provider there is no other side for them, and there is for who still has a session of it.
#[tokio::test]
async fn ten_are_sent_round_at_once_where_everybody_signs_in_at_the_new_provider() {
    let mut bench = Bench::new();
    bench.plan.stage.mode = Mode::ModernPrimary;
    let mut sent = 0;
    for device in devices("d", 30) {
        let traveller = Traveller {
            silent: true,
            ..bench.at(&device, Arm::To, 0)
        };
        let (journeys, key) = (&bench.journeys, &bench.key);
        sent += usize::from(
            journeys.may_start(&traveller, key).await && sets_out(journeys, &traveller, key).await,
        );
    }
    assert_eq!(sent, 10);
    assert_eq!(bench.start_all(&devices("d", 30), 1).await, 30);
}

#[tokio::test]
async fn whoever_is_lost_on_the_way_round_is_no_fire() {
    let (shared, _) = Bench::several(1);
    for all in [vec![Bench::new()], shared] {
        let bench = &all[0];
        for device in devices("d", 10) {
            let traveller = Traveller {
                silent: true,
                ..bench.at(&device, Arm::To, 0)
            };
            assert!(sets_out(&bench.journeys, &traveller, &bench.key).await);
        }
        bench.seen(750).await;
        assert!(!bench.fires(750).await);
        bench.start_all(&devices("e", 10), 751).await;
        bench.seen(1_500).await;
        assert!(bench.fires(1_500).await);
    }
}

#[tokio::test]
async fn ten_in_a_row_are_a_fire_at_whatever_share() {
    let bench = Bench::new();
    for device in &devices("good", 6) {
        bench.start(device, Arm::To, 0).await;
        bench.succeed(device, 1).await;
    }
    bench.start_all(&devices("bad", 9), 2).await;
    bench.seen(700).await;
    assert!(!bench.fires(700).await);
    bench.start("bad9", Arm::To, 701).await;
    bench.seen(1_400).await;
    assert!(bench.fires(1_400).await);
}

#[tokio::test]
async fn what_began_in_another_step_is_not_counted() {
    let bench = Bench::new();
    bench.start("d1", Arm::To, 0).await;
    bench.seen(1).await;
    bench.step(2);
    bench.succeed("d1", 5).await;
    assert_eq!(bench.seen(1_000).await, []);
}

/// However many instances there are, ten people are the first.
#[tokio::test]
async fn instances_that_share_a_store_let_ten_set_out_together() {
    let (all, _) = Bench::several(3);
    let devices = devices("d", 30);
    let mut started = Vec::new();
    for (n, device) in devices.iter().enumerate() {
        if all[n % 3].start(device, Arm::To, 0).await {
            started.push(device);
        }
    }
    assert_eq!(started.len(), 10);
    assert!(
        all[1].start("d0", Arm::To, 1).await,
        "whoever is under way may try again, at whichever instance"
    );
    // Who comes back to another instance than they set out from is back all the same.
    for device in started.iter().take(5) {
        all[2].succeed(device, 2).await;
    }
    assert_eq!(all[0].start_all(&devices[20..], 3).await, 10);
    for bench in &all {
        bench.step(2);
    }
    assert_eq!(all[1].start_all(&devices, 4).await, 10);
    assert_eq!(all[2].start_all(&devices[10..], 5).await, 0);
}

#[tokio::test]
async fn a_journey_that_ends_at_another_instance_is_counted_once() {
    let (all, _) = Bench::several(2);
    let [a, b] = &all[..] else { unreachable!() };
    for device in ["d1", "d2", "d3"] {
        assert!(a.start(device, Arm::To, 0).await);
    }
    b.succeed("d1", 10).await;
    b.stumble("d2", 10).await;
    assert_eq!(a.seen(11).await, [Observed::Begun; 3]);
    assert_eq!(
        b.seen(70).await,
        [
            Observed::LoggedIn { took: None },
            Observed::Stumbled,
            Observed::Failed
        ]
    );
    // The first has set out anew meanwhile, from the other instance: that has its own time.
    assert!(b.start("d1", Arm::To, 100).await);
    assert_eq!(a.seen(600).await, [Observed::Abandoned], "d3 alone");
    assert_eq!(b.seen(699).await, [Observed::Begun]);
    assert_eq!(b.seen(700).await, [Observed::Abandoned]);
}

#[tokio::test]
async fn ten_in_a_row_are_a_fire_wherever_they_set_out() {
    let (all, _) = Bench::several(2);
    let [a, b] = &all[..] else { unreachable!() };
    for device in &devices("good", 6) {
        assert!(a.start(device, Arm::To, 0).await);
        b.succeed(device, 1).await;
    }
    assert_eq!(a.start_all(&devices("a", 5), 2).await, 5);
    assert_eq!(
        b.start_all(&devices("b", 9), 2).await,
        5,
        "since the last who came back ten have set out"
    );
    a.seen(700).await;
    assert!(!b.fires(700).await);
    b.seen(700).await;
    assert!(a.fires(700).await && b.fires(700).await);
}

/// One browser that opens many tabs at once is one person: it closes the way to nobody.
#[tokio::test]
async fn a_browser_sets_out_once_however_many_of_its_requests_do() {
    let (all, store) = Bench::several(2);
    store.slow.store(true, std::sync::atomic::Ordering::SeqCst);
    let tabs = (0..40).map(|n| all[n % 2].start("tabs", Arm::To, 0));
    join_all(tabs).await;
    let others = devices("d", 30);
    assert_eq!(all[0].start_all(&others, 1).await, 9, "and nine others");
    let begun = [all[0].seen(2).await, all[1].seen(2).await].concat();
    assert_eq!(begun, [Observed::Begun; 10]);
    // Nor does one that comes back and stumbles at the same time end badly.
    tokio::join!(all[0].succeed("tabs", 3), all[1].stumble("tabs", 3));
    let seen = [all[0].seen(500).await, all[1].seen(500).await].concat();
    assert!(!seen.contains(&Observed::Failed), "{seen:?}");
}

/// An instance that goes away takes with it who was to end what it has sent out: the way is not closed for good.
#[tokio::test]
async fn what_nobody_ends_is_under_way_no_more_a_while_after_its_time() {
    let (all, _) = Bench::several(2);
    let [gone, stays] = &all[..] else {
        unreachable!()
    };
    assert_eq!(gone.start_all(&devices("d", 30), 0).await, 10);
    let others = devices("e", 30);
    assert_eq!(stays.start_all(&others, 719).await, 0);
    assert_eq!(stays.start_all(&others, 720).await, 10);
}

/// While the store is away nobody knows of the others, and each instance has its own ten.
#[tokio::test]
async fn without_the_store_each_instance_counts_for_itself() {
    let (all, store) = Bench::several(2);
    let [a, b] = &all[..] else { unreachable!() };
    assert_eq!(a.start_all(&devices("a", 4), 0).await, 4);
    store.away.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(a.start_all(&devices("more", 30), 1).await, 6);
    assert_eq!(b.start_all(&devices("b", 30), 1).await, 10);
    // Of those who set out meanwhile nobody else knows. How the others ended is not known before the store says so.
    let seen = a.seen(700).await;
    assert_eq!(seen[..10], [Observed::Begun; 10]);
    assert_eq!(seen[10..], [Observed::Abandoned; 6]);
    assert_eq!(b.seen(700).await.len(), 20);
    store.away.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(a.seen(701).await, [Observed::Abandoned; 4]);
}

#[tokio::test]
async fn who_sets_out_while_the_store_is_away_counts_once_it_is_back() {
    let (all, store) = Bench::several(2);
    let [a, b] = &all[..] else { unreachable!() };
    store.away.store(true, std::sync::atomic::Ordering::SeqCst);
    for device in ["good", "lost"] {
        assert!(a.start(device, Arm::To, 0).await);
    }
    store.away.store(false, std::sync::atomic::Ordering::SeqCst);
    a.succeed("good", 1).await;
    let (begun, back) = (Observed::Begun, Observed::LoggedIn { took: None });
    assert_eq!(a.seen(2).await, [begun, begun, back]);
    assert_eq!(a.seen(600).await, [Observed::Abandoned]);
    // The others know how it went, and that nobody is under way.
    assert_eq!(b.start_all(&devices("d", 30), 601).await, 9, "one was lost");
}

/// An instance that has yet to hear of a step knows nothing of how it goes in it, and is bound by what it has seen itself.
#[tokio::test]
async fn an_instance_that_is_behind_counts_for_itself_and_disturbs_nobody() {
    let (all, _) = Bench::several(2);
    let [a, b] = &all[..] else { unreachable!() };
    b.step(2);
    assert_eq!(b.start_all(&devices("b", 8), 0).await, 8);
    assert_eq!(a.start_all(&devices("a", 30), 0).await, 10);
    assert_eq!(b.start_all(&devices("more", 30), 0).await, 2);
}

/// Where a file says the step, each instance has begun it at a moment of its own.
#[tokio::test]
async fn what_a_file_drives_is_counted_by_each_instance() {
    let (all, store) = Bench::several(2);
    for (n, bench) in all.iter().enumerate() {
        bench.journeys.configure(vec![Rules {
            rollout: bench.plan.id.clone(),
            rails: Arc::new(Guardrails::default()),
            step: n as u64 + 10,
            together: false,
        }]);
        assert_eq!(bench.start_all(&devices("d", 30), 0).await, 10);
    }
    assert_eq!(store.reads.load(std::sync::atomic::Ordering::SeqCst), 0);
}
