//! A browser that is about to be sent out. Until it has been told where to, its place is only lent: whoever hangs up before that
//! gives it back at once, and nobody waits for the end of its time.

use std::fmt;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::runtime::Handle;
use tracing::error;

use crate::clock::UnixTime;
use crate::control::journeys::Journeys;
use crate::control::journeys::Traveller;
use crate::control::journeys::book::Open;
use crate::control::journeys::device;
use crate::entropy::Entropy;
use crate::entropy::SystemEntropy;
use crate::rollout::Arm;
use crate::rollout::BucketKey;
use crate::rollout::First;
use crate::rollout::Observed;
use crate::rollout::RolloutId;
use crate::telemetry::metrics::Journey;

/// What a request holds that sends a browser out; several of one browser share it. Whoever drops the last without
/// [`Self::is_told`] gives the place back.
#[derive(Clone, Debug)]
pub(crate) struct Departure(Option<Arc<Trip>>);

/// One journey, until its browser knows of it.
pub(super) struct Trip {
    journeys: Arc<Journeys>,
    background: Handle,
    rollout: RolloutId,
    device: u64,
    now: UnixTime,
    mark: Mark,
}

/// By what a journey is known to whoever began it.
#[derive(Clone, Default)]
pub(super) struct Mark {
    /// Nobody else has it; zero: nobody takes this journey back.
    pub(super) number: u64,
    told: Arc<AtomicBool>,
    trip: Weak<Trip>,
}

impl Departure {
    /// A journey that nobody takes back.
    pub(crate) const fn kept() -> Self {
        Self(None)
    }

    /// The browser has been told where to go.
    pub(crate) fn is_told(&self) {
        if let Some(trip) = &self.0 {
            trip.mark.told.store(true, Ordering::SeqCst);
        }
    }

    /// What is remembered of it where the journey is.
    pub(super) fn mark(&self) -> Mark {
        let mark = self.0.as_ref().map(|trip| Mark {
            trip: Arc::downgrade(trip),
            ..trip.mark.clone()
        });
        mark.unwrap_or_default()
    }
}

impl Mark {
    /// As a row holds it: whoever reads it there has not begun it.
    pub(super) fn of(number: u64) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    /// Another request of a browser that is under way already: both are one departure. `None`: the first one was told, or is
    /// about to take back what it took, and may not any more.
    pub(super) fn joined(&mut self) -> Departure {
        let trip = self.trip.upgrade();
        if trip.is_none() && !self.told.load(Ordering::SeqCst) {
            self.number = 0;
        }
        Departure(trip)
    }
}

impl Journeys {
    /// As [`Self::started`], for as long as whoever asks is there: a browser that hangs up meanwhile, or is never told where to
    /// go, has not set out. `None`: others have taken the last places.
    pub(crate) async fn departs(
        self: &Arc<Self>,
        background: &Handle,
        traveller: &Traveller<'_>,
        how: (Option<Arm>, bool),
        key: &BucketKey,
    ) -> Option<Departure> {
        let device = device(traveller, key);
        let mut number = [0; 8];
        SystemEntropy.fill(&mut number);
        let departure = Departure(Some(Arc::new(Trip {
            journeys: Arc::clone(self),
            background: background.clone(),
            rollout: traveller.plan.id.clone(),
            device,
            now: traveller.now,
            mark: Mark::of(u64::from_be_bytes(number).max(1)),
        })));
        if self.ways.is_none() {
            // Nothing is waited for.
            return self.started(traveller, device, how, departure).await;
        }
        // What is written to a store is written wholly, whoever has gone meanwhile: what comes of it is dropped here then.
        let journeys = Arc::clone(self);
        let (plan, app) = (traveller.plan.clone(), traveller.app.clone());
        let (browser, arm) = (traveller.device.to_owned(), traveller.arm);
        let (silent, now) = (traveller.silent, traveller.now);
        let set_out = background.spawn(async move {
            let traveller = Traveller {
                plan: &plan,
                app: &app,
                device: &browser,
                arm,
                silent,
                now,
            };
            journeys.started(&traveller, device, how, departure).await
        });
        set_out.await.unwrap_or_else(|error| {
            error!(error = %error, "The start of a journey broke off.");
            Some(Departure::kept())
        })
    }

    /// A browser was never told where to go: what was taken for it here is given back. `Some`: what is to be given back where
    /// instances share their journeys.
    fn takes_back(&self, trip: &Trip) -> Option<Open> {
        let mut books = self.books();
        let book = books.get_mut(&trip.rollout)?;
        let is_it = |open: &Open| open.mark.number == trip.mark.number && !open.stumbled;
        book.open.get(&trip.device).filter(|open| is_it(open))?;
        let open = book.close(trip.device)?;
        if open.arm == Arm::To {
            book.first.entry(open.app.clone()).or_default().turns_back();
        }
        let begun = book.outcomes.iter().rposition(|outcome| {
            outcome.unit == trip.device && matches!(outcome.observed, Observed::Begun)
        });
        if let Some(begun) = begun {
            book.outcomes.remove(begun);
        }
        if !open.silent {
            self.metrics
                .journey(&trip.rollout, open.arm, Journey::Withdrawn);
        }
        self.ways(&book.rules).is_some().then_some(open)
    }

    /// The same where instances share their journeys; as good as it can be told.
    async fn takes_back_there(&self, rollout: RolloutId, device: u64, open: Open, now: UnixTime) {
        let rules = {
            let books = self.books();
            books.get(&rollout).map(|book| book.rules.clone())
        };
        let Some(rules) = rules else {
            return;
        };
        let Some(ways) = self.ways(&rules) else {
            return;
        };
        let step = rules.at(now);
        let number = open.mark.number;
        let has_place = if open.apart {
            !open.placeless
        } else {
            let is_it = |there: &Open| there.mark.number == number && !there.stumbled;
            match ways.end(&step, device, is_it).await {
                Ok(ended) => ended.is_some(),
                Err(error) => {
                    self.or_warn(&step, Err(error));
                    false
                }
            }
        };
        if has_place && open.arm == Arm::To {
            let told = ways.change(&step, &open.app, First::turns_back).await;
            self.or_warn(&step, told);
        }
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        if self.mark.told.load(Ordering::SeqCst) {
            return;
        }
        let Some(open) = self.journeys.takes_back(self) else {
            return;
        };
        let (journeys, rollout) = (Arc::clone(&self.journeys), self.rollout.clone());
        let (device, now) = (self.device, self.now);
        self.background.spawn(async move {
            let there = journeys.takes_back_there(rollout, device, open, now);
            there.await;
        });
    }
}

impl fmt::Debug for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trip")
    }
}
