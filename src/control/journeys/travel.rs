//! What becomes of a browser on its way: it sets out, it stumbles, it comes back.

use std::time::Duration;

use crate::control::journeys::Journeys;
use crate::control::journeys::MAX_OPEN;
use crate::control::journeys::Rules;
use crate::control::journeys::Traveller;
use crate::control::journeys::book::Open;
use crate::control::journeys::departure::Departure;
use crate::control::journeys::departure::Mark;
use crate::control::journeys::device;
use crate::control::journeys::ways::Step;
use crate::control::journeys::ways::Ways;
use crate::identity::CanonicalSubject;
use crate::rollout::Arm;
use crate::rollout::BucketKey;
use crate::rollout::First;
use crate::rollout::FirstLogins;
use crate::rollout::Observed;
use crate::rollout::Outcome;
use crate::rollout::UnitKind;
use crate::rollout::unit;
use crate::store::Expect;
use crate::store::StoreError;
use crate::telemetry::metrics::Journey;

impl Journeys {
    /// A browser is sent to a provider. `placed` is the side that the percent alone would have chosen, if it did; with `bounded`
    /// it needs one of the places that there are until the new provider has proved itself. `None`: it is not sent, because others
    /// have taken them since [`Self::may_start`], and nothing has changed. `departure` is whose journey it becomes, unless it is
    /// under way.
    pub(super) async fn started(
        &self,
        traveller: &Traveller<'_>,
        device: u64,
        (placed, bounded): (Option<Arm>, bool),
        departure: Departure,
    ) -> Option<Departure> {
        if let Some(book) = self.books().get_mut(&traveller.plan.id) {
            self.expire(book, traveller.now);
        }
        let Some((rules, own)) = self.under_way(traveller, device) else {
            self.count(traveller, Journey::Started);
            return Some(departure);
        };
        let step = rules.at(traveller.now);
        let bounded = bounded && traveller.is_bounded();
        let mut limits = bounded.then_some(rules.rails.first_logins);
        // What has ended elsewhere is under way no more.
        let (before, shared) = self.standing(&step, &rules, device, own).await;
        let goes_there = |open: &Open| open.arm == traveller.arm;
        if let Some(open) = before.as_ref().filter(|open| goes_there(open)) {
            return Some(self.joins(&step, device, open, shared).await);
        }
        if self.is_full(traveller, device) {
            return Some(Departure::kept());
        }
        let mut open = Open {
            app: traveller.way(),
            arm: traveller.arm,
            began: traveller.now,
            due: traveller.now + rules.rails.window,
            stumbled: false,
            placed,
            silent: traveller.silent,
            mark: departure.mark(),
            apart: shared.is_none(),
            placeless: shared.is_none(),
        };
        // Its place first: whoever finds none has changed nothing.
        if let (Some(most), Some((ways, _))) = (limits, shared) {
            match ways.takes_place(&step, &open.app, (most, open.due)).await {
                // What this instance has seen itself says no more than that.
                Ok(true) => limits = None,
                Ok(false) => {
                    // Unless another request of the same browser has.
                    let there = ways
                        .of(&step, device)
                        .await
                        .ok()
                        .and_then(|there| there.open);
                    let there = there.filter(goes_there)?;
                    return Some(self.joins(&step, device, &there, None).await);
                }
                Err(error) => {
                    (open.apart, open.placeless) = (true, true);
                    self.or_warn(&step, Err(error));
                }
            }
        }
        if let Some((ways, expect)) = shared.filter(|_| !open.apart) {
            match ways.set_out(&step, device, &open, expect).await {
                Ok(true) => {}
                // Another request of the same browser was faster: it sets out once.
                Ok(false) => {
                    if bounded {
                        let given_back = ways.change(&step, &open.app, First::turns_back).await;
                        self.or_warn(&step, given_back);
                    }
                    return Some(self.joins(&step, device, &open, None).await);
                }
                Err(error) => {
                    (open.apart, open.placeless) = (true, !bounded);
                    self.or_warn(&step, Err(error));
                }
            }
        }
        if !self.sets_out(traveller, device, (&open, limits), before.is_some()) {
            return None;
        }
        self.count(traveller, Journey::Started);
        let Some((ways, _)) = shared.filter(|_| !open.apart) else {
            return Some(departure);
        };
        let told = async {
            // Sent to the other side meanwhile: by a fallback, or one more time. Where it ends is what counts.
            if let Some(before) = before.filter(|open| open.arm == Arm::To) {
                ways.change(&step, &before.app, First::turns_back).await?;
            }
            if open.arm == Arm::To && !bounded {
                let sets_out = |first: &mut First| first.sets_out(open.due);
                ways.change(&step, &open.app, sets_out).await?;
            }
            Ok::<_, StoreError>(())
        };
        self.or_warn(&step, told.await);
        Some(departure)
    }

    /// Another request of a browser that is under way: it has been told where to go when any of them has. One that another
    /// instance has sent out is not taken back there from here on: neither knows of the other.
    async fn joins(
        &self,
        step: &Step<'_>,
        device: u64,
        open: &Open,
        shared: Option<(&Ways, Expect)>,
    ) -> Departure {
        let here = {
            let mut books = self.books();
            let book = books.get_mut(step.rollout);
            let open = book.and_then(|book| book.open.get_mut(&device));
            open.map(|open| open.mark.joined())
        };
        if let Some(here) = here {
            return here;
        }
        if let Some((ways, expect)) = shared.filter(|_| open.mark.number != 0) {
            let kept = Open {
                mark: Mark::default(),
                ..open.clone()
            };
            let told = ways.set_out(step, device, &kept, expect).await;
            self.or_warn(step, told.map(|_| ()));
        }
        Departure::kept()
    }

    /// Where a browser stands, and where that is shared: what the store says, or what is known here where it says nothing.
    async fn standing<'a>(
        &'a self,
        step: &Step<'_>,
        rules: &Rules,
        device: u64,
        own: Option<Open>,
    ) -> (Option<Open>, Option<(&'a Ways, Expect)>) {
        let Some(ways) = self.ways(rules) else {
            return (own, None);
        };
        match ways.of(step, device).await {
            Ok(standing) => (standing.open, Some((ways, standing.expect))),
            Err(_) => (own, None),
        }
    }

    /// Whether too many are under way for one more to be counted. Whoever begins as many as that at the old side does not keep
    /// those from being counted who set out for the new one.
    fn is_full(&self, traveller: &Traveller<'_>, device: u64) -> bool {
        let most = match traveller.arm {
            Arm::From => MAX_OPEN,
            Arm::To => 2 * MAX_OPEN,
        };
        let books = self.books();
        let book = books.get(&traveller.plan.id);
        book.is_some_and(|book| most <= book.open.len() && !book.open.contains_key(&device))
    }

    /// A browser sets out, as far as this instance is concerned: if there is room within these limits, looked at and taken in one
    /// step.
    fn sets_out(
        &self,
        traveller: &Traveller<'_>,
        device: u64,
        (open, limits): (&Open, Option<FirstLogins>),
        turns_back: bool,
    ) -> bool {
        let mut books = self.books();
        let Some(book) = books.get_mut(&traveller.plan.id) else {
            return true;
        };
        // Another request of the same browser may have been faster.
        let there = book.open.get(&device);
        let limits = limits.filter(|_| there.is_none_or(|open| open.arm == Arm::From));
        let first = book.first.get(&open.app).copied().unwrap_or_default();
        if limits.is_some_and(|limits| !first.may_start(limits, traveller.now)) {
            return false;
        }
        match book.close(device) {
            Some(known) if turns_back && known.arm == Arm::To => {
                book.first.entry(known.app).or_default().turns_back();
            }
            known => book.gives_back(known.as_ref()),
        }
        book.opens(device, open.clone());
        if open.arm == Arm::To {
            let first = book.first.entry(open.app.clone()).or_default();
            first.sets_out(open.due);
        }
        if open.silent {
            return true;
        }
        book.tell(Outcome {
            unit: device,
            device: None,
            arm: open.arm,
            observed: Observed::Begun,
            placed: open.placed,
            at: open.began,
        });
        true
    }

    /// A login came back without an identity. It may be tried again for a while.
    pub(crate) async fn stumbled(&self, traveller: &Traveller<'_>, key: &BucketKey) {
        let device = device(traveller, key);
        let Some((rules, own)) = self.under_way(traveller, device) else {
            return self.count(traveller, Journey::Failed);
        };
        let step = rules.at(traveller.now);
        let (open, shared) = self.standing(&step, &rules, device, own).await;
        let Some(mut open) = open.filter(|open| !open.stumbled) else {
            return;
        };
        open.stumbled = true;
        open.due = open.due.min(traveller.now + rules.rails.retry);
        if let Some((ways, expect)) = shared {
            match ways.set_out(&step, device, &open, expect).await {
                Ok(true) => {}
                // It has come back by another of its requests, or stumbled there.
                Ok(false) => return,
                Err(error) => self.or_warn(&step, Err(error)),
            }
        }
        let mut books = self.books();
        if let Some(book) = books.get_mut(&traveller.plan.id) {
            // Where it was seen to stumble its end is seen, whichever instance sent it out.
            if book.close(device).is_none() && open.arm == Arm::To {
                book.first.entry(open.app.clone()).or_default().unfinished += 1;
            }
            book.opens(device, open.clone());
            book.tell(Outcome {
                unit: device,
                device: None,
                arm: traveller.arm,
                observed: Observed::Stumbled,
                placed: open.placed,
                at: traveller.now,
            });
        }
    }

    /// A login became a session. `took` is the time from the provider's answer to it.
    pub(crate) async fn succeeded(
        &self,
        traveller: &Traveller<'_>,
        person: &CanonicalSubject,
        took: Option<Duration>,
        key: &BucketKey,
    ) {
        self.is_back(traveller, Some((person, took)), key).await;
    }

    /// A browser that was sent round came back, with whatever answer: the way there and back is good.
    pub(crate) async fn came_round(&self, traveller: &Traveller<'_>, key: &BucketKey) {
        self.is_back(traveller, None, key).await;
    }

    async fn is_back(
        &self,
        traveller: &Traveller<'_>,
        signed_in: Option<(&CanonicalSubject, Option<Duration>)>,
        key: &BucketKey,
    ) {
        let device = device(traveller, key);
        let Some((rules, own)) = self.under_way(traveller, device) else {
            return self.count(traveller, Journey::Succeeded);
        };
        let step = rules.at(traveller.now);
        let apart = own.clone().filter(|open| open.apart);
        let placeless = apart.as_ref().is_some_and(|open| open.placeless);
        let open = match (self.ways(&rules), apart) {
            // Nobody else knows of it.
            (Some(_), Some(apart)) => Some(apart),
            (Some(ways), None) => ways.end(&step, device, |_| true).await.unwrap_or(own),
            (None, _) => own,
        };
        {
            let mut books = self.books();
            let Some(book) = books.get_mut(&traveller.plan.id) else {
                return;
            };
            let known = book.close(device);
            let Some(open) = &open else {
                // Begun before this step, or not counted.
                return book.gives_back(known.as_ref());
            };
            if open.arm == Arm::To {
                let first = book.first.entry(open.app.clone()).or_default();
                // One that was sent out elsewhere has no place here.
                first.unfinished += u32::from(known.is_none());
                first.comes_back();
            }
            let rollout = &traveller.plan.id;
            if let Some((person, took)) = signed_in {
                book.tell(Outcome {
                    unit: unit(key, rollout, UnitKind::Subject, person.as_str()),
                    device: Some(device),
                    arm: traveller.arm,
                    observed: Observed::LoggedIn { took },
                    placed: open.placed,
                    at: traveller.now,
                });
            }
        }
        self.count(traveller, Journey::Succeeded);
        let moved = open.filter(|open| open.arm == Arm::To);
        if let (Some(ways), Some(open)) = (self.ways(&rules), moved) {
            let comes_back = |first: &mut First| {
                first.unfinished += u32::from(placeless);
                first.comes_back();
            };
            let told = ways.change(&step, &open.app, comes_back).await;
            self.or_warn(&step, told);
        }
    }

    /// As [`Self::succeeded`], of a browser that may not be on its way at all.
    pub(crate) async fn arrived(
        &self,
        traveller: &Traveller<'_>,
        person: &CanonicalSubject,
        key: &BucketKey,
    ) {
        let device = device(traveller, key);
        let Some((rules, own)) = self.under_way(traveller, device) else {
            return;
        };
        let step = rules.at(traveller.now);
        let (open, _) = self.standing(&step, &rules, device, own).await;
        if open.is_some_and(|open| open.arm == traveller.arm) {
            self.succeeded(traveller, person, None, key).await;
        }
    }
}
