//! Login journeys, counted by person: begun, and how they ended. And the bound of harm: how many may be under way at the
//! new provider before the first have succeeded there.
//!
//! Where instances share a store, a journey may begin at one and end at another, and the bound is one for all of them. What
//! the store does not say, each instance decides by what it has seen itself.

mod book;
mod departure;
mod travel;
mod ways;

pub(crate) use departure::Departure;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::clock::UnixTime;
use crate::control::journeys::book::Book;
use crate::control::journeys::book::Open;
use crate::control::journeys::ways::Step;
use crate::control::journeys::ways::Ways;
use crate::identity::CanonicalSubject;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::BucketKey;
use crate::rollout::First;
use crate::rollout::Guardrails;
use crate::rollout::Mode;
use crate::rollout::Observed;
use crate::rollout::Outcome;
use crate::rollout::Plan;
use crate::rollout::RolloutId;
use crate::rollout::UnitKind;
use crate::rollout::unit;
use crate::store::Store;
use crate::store::StoreError;
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
    /// Whether their browser is sent round while they are in: nothing is told to the guards, and the ways there are bounded by
    /// themselves, because most who cannot sign in there never come this way.
    pub(crate) silent: bool,
    /// Now.
    pub(crate) now: UnixTime,
}

impl Traveller<'_> {
    /// Only while both sides take logins there is another place to start at; and while sessions of the old side count, whoever has
    /// one need not be sent round.
    const fn is_bounded(&self) -> bool {
        match (self.arm, self.plan.stage.mode) {
            (Arm::To, Mode::Canary) => true,
            (Arm::To, Mode::ModernPrimary) => self.silent,
            (Arm::To, Mode::LegacyOnly | Mode::Shadow | Mode::ModernOnly) | (Arm::From, _) => false,
        }
    }

    /// By what the bound of an application knows this kind of way.
    fn way(&self) -> AppId {
        if self.silent {
            AppId::new(&format!("{}{ROUND}", self.app))
        } else {
            self.app.clone()
        }
    }
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
    /// Whether all instances are in the same one: where a file says the step, each has its own.
    pub(crate) together: bool,
}

impl Rules {
    const fn at(&self, now: UnixTime) -> Step<'_> {
        Step {
            rollout: &self.rollout,
            step: self.step,
            now,
        }
    }
}

/// All journeys.
pub(crate) struct Journeys {
    metrics: Arc<Metrics>,
    books: Mutex<HashMap<RolloutId, Book>>,
    /// Where instances share them, if there may be several.
    ways: Option<Ways>,
}

/// How long one look at a rollout may spend on journeys that nobody came back from.
const SETTLING: Duration = Duration::from_secs(1);

/// What the names end in by which the ways of browsers that are sent round are counted. No other name has a zero byte.
const ROUND: &str = "\0silent";

impl Journeys {
    /// None yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            books: Mutex::default(),
            ways: None,
        }
    }

    /// With those of other instances, if they share this store.
    pub(crate) fn among(mut self, store: &Arc<dyn Store>) -> Self {
        self.ways = store.is_shared().then(|| Ways::new(Arc::clone(store)));
        self
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

    /// Whether one more login may start at the new provider, as it looks now: its place is taken by [`Self::started`] alone, once
    /// its provider has been asked. Whoever is under way there already may try again.
    pub(crate) async fn may_start(&self, traveller: &Traveller<'_>, key: &BucketKey) -> bool {
        if !traveller.is_bounded() {
            return true;
        }
        let (device, way) = (device(traveller, key), traveller.way());
        let (rules, own, under_way) = {
            let mut books = self.books();
            let Some(book) = books.get_mut(&traveller.plan.id) else {
                return true;
            };
            self.expire(book, traveller.now);
            let open = book.open.get(&device);
            let first = book.first.get(&way).copied().unwrap_or_default();
            let under_way = open.is_some_and(|open| open.arm == Arm::To);
            (book.rules.clone(), first, under_way)
        };
        let limits = rules.rails.first_logins;
        let Some(ways) = self.ways(&rules) else {
            return under_way || own.may_start(limits, traveller.now);
        };
        let step = rules.at(traveller.now);
        match ways.first(&step, &way).await {
            Ok(first) if first.may_start(limits, traveller.now) => true,
            Ok(_) => {
                let there = ways.of(&step, device).await;
                there.map_or(under_way, |there| {
                    there.open.is_some_and(|open| open.arm == Arm::To)
                })
            }
            // What the others have seen is not known: then each counts for itself.
            Err(_) => under_way || own.may_start(limits, traveller.now),
        }
    }

    /// A session of somebody was looked at. `placed`: the side they are at, where the percent may have brought them there.
    pub(crate) fn session(
        &self,
        plan: &Plan,
        arm: Arm,
        person: &CanonicalSubject,
        (observed, placed): (Observed, Option<Arm>),
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
                placed,
                at: now,
            });
        }
    }

    /// An application that is plainly on fire: of the first at the new provider none came back, or ten in a row did not.
    pub(crate) async fn fires(&self, rollout: &RolloutId, now: UnixTime) -> bool {
        let (rules, own) = {
            let books = self.books();
            let Some(book) = books.get(rollout) else {
                return false;
            };
            let signing_in = book
                .first
                .iter()
                .filter(|(app, _)| !app.as_str().ends_with(ROUND));
            let own: Vec<First> = signing_in.map(|(_, first)| *first).collect();
            (book.rules.clone(), own)
        };
        let all = match self.ways(&rules) {
            Some(ways) => ways.all(&rules.at(now)).await.unwrap_or(own),
            None => own,
        };
        let limits = rules.rails.first_logins;
        all.iter().any(|seen| seen.fires(limits))
    }

    /// What has happened since it was asked last.
    pub(crate) async fn take(&self, rollout: &RolloutId, now: UnixTime) -> Vec<Outcome> {
        self.settle(rollout, now).await;
        let mut books = self.books();
        let Some(book) = books.get_mut(rollout) else {
            return Vec::new();
        };
        self.expire(book, now);
        std::mem::take(&mut book.outcomes)
    }

    /// Ends what nobody came back from in time, where it may have ended at another instance.
    async fn settle(&self, rollout: &RolloutId, now: UnixTime) {
        let (rules, due) = {
            let books = self.books();
            let Some(book) = books.get(rollout) else {
                return;
            };
            let apart = |device| {
                let open: Option<&Open> = book.open.get(&device);
                (device, open.filter(|open| open.apart).cloned())
            };
            let due: Vec<_> = book.is_due(now).into_iter().map(apart).collect();
            (book.rules.clone(), due)
        };
        let Some(ways) = self.ways(&rules) else {
            return;
        };
        let step = rules.at(now);
        let began = Instant::now();
        let mut away = false;
        for (device, apart) in due {
            // The others wait for the next look: a slow store must not hold up the rollouts.
            if SETTLING < began.elapsed() {
                return;
            }
            let placeless = apart.as_ref().is_some_and(|open| open.placeless);
            let ended = match apart {
                // Nobody else knows of it.
                Some(open) => Some(open),
                None if away => continue,
                // It may have set out anew, and has its time then.
                None => match ways.end(&step, device, |open| open.due <= now).await {
                    Ok(ended) => ended,
                    Err(error @ StoreError::Damaged(_)) => {
                        self.or_warn(&step, Err(error));
                        None
                    }
                    // Until the store says how it ended, nothing is known of it.
                    Err(error) => {
                        away = true;
                        self.or_warn(&step, Err(error));
                        continue;
                    }
                },
            };
            {
                let mut books = self.books();
                let Some(book) = books.get_mut(rollout).filter(|b| b.rules.step == step.step)
                else {
                    return;
                };
                let known = book.close(device);
                match &ended {
                    Some(open) => book.lose(device, open, &self.metrics),
                    None => book.gives_back(known.as_ref()),
                }
            }
            if let Some(open) = ended.filter(|open| open.arm == Arm::To && !away) {
                let is_lost = |first: &mut First| {
                    first.unfinished += u32::from(placeless);
                    first.is_lost();
                };
                let told = ways.change(&step, &open.app, is_lost).await;
                self.or_warn(&step, told);
            }
        }
    }

    /// Ends what nobody came back from in time, where nobody else may know better.
    fn expire(&self, book: &mut Book, now: UnixTime) {
        if self.ways(&book.rules).is_none() {
            book.expire(now, &self.metrics);
        }
    }

    /// Where the journeys of a rollout are shared, if they are.
    fn ways(&self, rules: &Rules) -> Option<&Ways> {
        self.ways.as_ref().filter(|_| rules.together)
    }

    /// The step that a rollout is in, and the journey of a browser as it is known here.
    fn under_way(&self, traveller: &Traveller<'_>, device: u64) -> Option<(Rules, Option<Open>)> {
        let books = self.books();
        let book = books.get(&traveller.plan.id)?;
        Some((book.rules.clone(), book.open.get(&device).cloned()))
    }

    fn or_warn(&self, step: &Step<'_>, told: Result<(), StoreError>) {
        if let Err(error) = told {
            let rollout = step.rollout;
            warn!(%rollout, %error, "A journey is not known to the other instances.");
        }
    }

    fn count(&self, traveller: &Traveller<'_>, event: Journey) {
        if traveller.silent {
            return;
        }
        self.metrics
            .journey(&traveller.plan.id, traveller.arm, event);
    }

    fn books(&self) -> MutexGuard<'_, HashMap<RolloutId, Book>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn device(traveller: &Traveller<'_>, key: &BucketKey) -> u64 {
    let Traveller { plan, device, .. } = traveller;
    if traveller.silent {
        // Beside a sign-in of the same browser, and not in its place.
        return unit(key, &plan.id, UnitKind::Device, &format!("{device}{ROUND}"));
    }
    unit(key, &plan.id, UnitKind::Device, device)
}

impl fmt::Debug for Journeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journeys")
    }
}

#[cfg(test)]
mod tests;
