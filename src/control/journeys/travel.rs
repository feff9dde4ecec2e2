//! What becomes of a browser on its way: it sets out, it stumbles, it comes back.

use std::time::Duration;

use crate::control::journeys::Journeys;
use crate::control::journeys::MAX_OPEN;
use crate::control::journeys::Traveller;
use crate::control::journeys::book::First;
use crate::control::journeys::book::Open;
use crate::control::journeys::device;
use crate::identity::CanonicalSubject;
use crate::rollout::Arm;
use crate::rollout::BucketKey;
use crate::rollout::Observed;
use crate::rollout::Outcome;
use crate::rollout::UnitKind;
use crate::rollout::unit;
use crate::store::StoreError;
use crate::telemetry::metrics::Journey;

impl Journeys {
    /// A browser was sent to a provider. `placed` is the side that the percent alone would have chosen, if it did.
    pub(crate) async fn started(
        &self,
        traveller: &Traveller<'_>,
        placed: Option<Arm>,
        key: &BucketKey,
    ) {
        let device = device(traveller, key);
        if let Some(book) = self.books().get_mut(&traveller.plan.id) {
            self.expire(book, traveller.now);
        }
        let Some((rules, own)) = self.under_way(traveller, device) else {
            return self.count(traveller, Journey::Started);
        };
        let step = rules.at(traveller.now);
        let before = match self.ways(&rules) {
            // What has ended elsewhere is under way no more.
            Some(ways) => ways.of(&step, device).await.unwrap_or(own),
            None => own,
        };
        if before
            .as_ref()
            .is_some_and(|open| open.arm == traveller.arm)
        {
            return;
        }
        let open = Open {
            app: traveller.app.clone(),
            arm: traveller.arm,
            began: traveller.now,
            due: traveller.now + rules.rails.window,
            stumbled: false,
            placed,
        };
        if !self.sets_out(traveller, device, &open, before.is_some()) {
            return;
        }
        self.count(traveller, Journey::Started);
        let Some(ways) = self.ways(&rules) else {
            return;
        };
        let told = async {
            // Sent to the other side meanwhile: by a fallback, or one more time. Where it ends is what counts.
            if let Some(before) = before.filter(|open| open.arm == Arm::To) {
                ways.change(&step, &before.app, First::turns_back).await?;
            }
            ways.set_out(&step, device, &open).await?;
            if open.arm == Arm::To {
                ways.change(&step, &open.app, First::sets_out).await?;
            }
            Ok::<_, StoreError>(())
        };
        self.or_warn(&step, told.await);
    }

    /// The same, as far as this instance is concerned; `false`: too many are under way, and this one is not counted.
    fn sets_out(
        &self,
        traveller: &Traveller<'_>,
        device: u64,
        open: &Open,
        turns_back: bool,
    ) -> bool {
        let mut books = self.books();
        let Some(book) = books.get_mut(&traveller.plan.id) else {
            return true;
        };
        match book.close(device) {
            Some(known) if turns_back && known.arm == Arm::To => {
                book.first.entry(known.app).or_default().turns_back();
            }
            known => book.gives_back(known.as_ref()),
        }
        if MAX_OPEN <= book.open.len() {
            return false;
        }
        book.opens(device, open.clone());
        if open.arm == Arm::To {
            book.first.entry(open.app.clone()).or_default().sets_out();
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
        let open = match self.ways(&rules) {
            Some(ways) => ways.of(&step, device).await.unwrap_or(own),
            None => own,
        };
        let Some(mut open) = open.filter(|open| !open.stumbled) else {
            return;
        };
        open.stumbled = true;
        open.due = open.due.min(traveller.now + rules.rails.retry);
        {
            let mut books = self.books();
            let Some(book) = books.get_mut(&traveller.plan.id) else {
                return;
            };
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
        if let Some(ways) = self.ways(&rules) {
            self.or_warn(&step, ways.set_out(&step, device, &open).await);
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
        let device = device(traveller, key);
        let Some((rules, own)) = self.under_way(traveller, device) else {
            return self.count(traveller, Journey::Succeeded);
        };
        let step = rules.at(traveller.now);
        let open = match self.ways(&rules) {
            Some(ways) => ways.end(&step, device, |_| true).await.unwrap_or(own),
            None => own,
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
            book.tell(Outcome {
                unit: unit(key, rollout, UnitKind::Subject, person.as_str()),
                device: Some(device),
                arm: traveller.arm,
                observed: Observed::LoggedIn { took },
                placed: open.placed,
                at: traveller.now,
            });
        }
        self.count(traveller, Journey::Succeeded);
        let moved = open.filter(|open| open.arm == Arm::To);
        if let (Some(ways), Some(open)) = (self.ways(&rules), moved) {
            let told = ways.change(&step, &open.app, First::comes_back).await;
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
        let open = match self.ways(&rules) {
            Some(ways) => {
                let way = ways.of(&rules.at(traveller.now), device).await;
                way.unwrap_or(own)
            }
            None => own,
        };
        if open.is_some_and(|open| open.arm == traveller.arm) {
            self.succeeded(traveller, person, None, key).await;
        }
    }
}
