//! Everybody who takes part in the drill, and when they come.
//!
//! Time stands still while somebody asks for something: how long a sign-in takes is then the same on every machine.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::clock::ScaledClock;
use crate::demo::drill::PACE;
use crate::demo::drill::actors::Browser;
use crate::demo::drill::actors::Machine;
use crate::demo::drill::actors::Map;
use crate::demo::drill::observe::Observer;
use crate::demo::drill::table::MACHINES;
use crate::demo::drill::world::APPS;
use crate::demo::drill::world::World;
use crate::demo::people::Person;
use crate::demo::people::two_hundred;

/// Everybody who takes part.
pub(super) struct Crowd {
    people: Arc<Vec<Mutex<Browser>>>,
    tide: JoinHandle<()>,
    pause: Arc<AtomicBool>,
    /// Held while somebody asks for something.
    turn: Arc<Mutex<()>>,
}

impl Crowd {
    /// People come to their desks in an order of their own, again and again.
    pub(super) fn gather(
        world: &World,
        observer: &Arc<Observer>,
        clock: &ScaledClock,
        seed: u64,
    ) -> Self {
        let map = Map {
            proxy: world.proxy,
            old: world.old.issuer().to_owned(),
        };
        // A third of the people works with each application.
        let mut order: Vec<_> = two_hundred().into_iter().zip(APPS.iter().cycle()).collect();
        shuffle(&mut order, seed);
        let browser = |(person, app): (Person, &&'static str)| Browser::new(person.name, app);
        let browsers = order.into_iter().map(browser).map(Mutex::new);
        let people: Arc<Vec<_>> = Arc::new(browsers.collect());
        let mut machines: Vec<Machine> = (1..=MACHINES)
            .zip(APPS.iter().cycle())
            .map(|(n, app)| {
                let providers = (Arc::clone(&world.old), Arc::clone(&world.new));
                Machine::new(format!("batch-{n}"), app, providers)
            })
            .collect();
        let pause = Arc::new(AtomicBool::new(false));
        let turn = Arc::new(Mutex::new(()));
        let (crowd, quiet, desk) = (Arc::clone(&people), Arc::clone(&pause), Arc::clone(&turn));
        let (seen, clock) = (Arc::clone(observer), clock.clone());
        let tide = tokio::spawn(async move {
            let mut n = 0_usize;
            loop {
                sleep(PACE).await;
                let _turn = desk.lock().await;
                if quiet.load(Ordering::Relaxed) {
                    continue;
                }
                let who = n % crowd.len().max(1);
                let asks = machines.len().max(1);
                clock.hold(true);
                if n.is_multiple_of(20)
                    && let Some(machine) = machines.get_mut(n / 20 % asks)
                {
                    machine.ask(&map, &seen).await;
                }
                if let Some(person) = crowd.get(who) {
                    person.lock().await.visit(&map, &seen).await;
                }
                clock.hold(false);
                n += 1;
            }
        });
        Self {
            people,
            tide,
            pause,
            turn,
        }
    }

    /// Nobody comes any more.
    pub(super) fn disperse(&self) {
        self.tide.abort();
    }

    /// Everybody goes home, or comes back.
    pub(super) async fn home(&self, home: bool) {
        let _turn = self.turn.lock().await;
        self.pause.store(home, Ordering::Relaxed);
        if home {
            for person in &*self.people {
                person.lock().await.leave();
            }
        }
    }

    /// How many people hold a session of the old provider.
    pub(super) async fn held_at_old(&self) -> usize {
        let mut held = 0;
        for person in &*self.people {
            let person = person.lock().await;
            let at = person.session.as_ref().map(|(_, provider)| &**provider);
            held += usize::from(at == Some("old"));
        }
        held
    }
}

fn shuffle<T>(list: &mut [T], seed: u64) {
    let mut state = seed | 1;
    for last in (1..list.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = usize::try_from(state % (last as u64 + 1)).unwrap_or(0);
        list.swap(last, other);
    }
}
