//! A look at everybody, in both directories: traffic shows nobody who does not come, such as somebody who was locked out on
//! the old side and is not on the new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::providers::Known;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Providers;
use crate::shadow::Reader;
use crate::shadow::compare::Name;
use crate::shadow::compare::Side;
use crate::shadow::pace::Pace;
use crate::shadow::settings::Settings;
use crate::shadow::settings::Sweep;
use crate::shadow::weigh;
use crate::shadow::weigh::Opinion;
use crate::shadow::work::Shadow;
use crate::telemetry::metrics::Compared;
use crate::telemetry::metrics::Oracle;
use crate::telemetry::metrics::Skipped;

/// People of one sweep.
const MAX_PEOPLE: usize = 500_000;
/// Of the calls of a second, so many are left to people who come.
const SHARE: u32 = 2;
/// So often in a row one side gives no answer, and the sweep is given up until its time comes again.
const PATIENCE: u32 = 3;

/// How a sweep ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Swept {
    /// Everybody had a turn.
    All {
        /// So many people were compared.
        compared: u64,
        /// So many could not be: the old side does not describe them, or they have no name that both sides share.
        left_out: u64,
    },
    /// It was called off.
    CalledOff,
    /// One side does not answer.
    Unavailable,
}

/// Whom a list names, instead of the directory of the side that decides: by the value of a directory's key, what the list says
/// of somebody, and whether it lets them in.
pub(crate) type Listed = BTreeMap<Box<str>, (Arc<Identity>, bool)>;

/// How far a sweep has come: one that was called off goes on from there.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Everybody up to this one had a turn.
    after: Option<Box<str>>,
    compared: u64,
    left_out: u64,
}

/// One sweep.
struct Round<'a> {
    shadow: &'a Shadow,
    settings: &'a Settings,
    reader: &'a Arc<dyn Reader>,
    listed: Option<&'a Listed>,
    pace: Arc<Pace>,
    of: &'a dyn Provider,
    other: &'a dyn Provider,
}

impl Shadow {
    /// Looks at everybody of one application, from where it has come; `go_on` is asked before each of them.
    pub(crate) async fn sweep(
        &self,
        settings: &Settings,
        providers: &Providers,
        (reader, listed): (&Arc<dyn Reader>, Option<&Listed>),
        progress: &mut Progress,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Swept {
        let Some(Sweep { of, provider, .. }) = &settings.sweep else {
            return Swept::All {
                compared: 0,
                left_out: 0,
            };
        };
        let named = |id: &ProviderId| providers.named(id).map(AsRef::as_ref);
        let (Some(of), Some(other)) = (named(of), named(provider)) else {
            return Swept::Unavailable;
        };
        let round = Round {
            shadow: self,
            settings,
            reader,
            listed,
            pace: self.pace(&settings.app),
            of,
            other,
        };
        round.run(progress, go_on).await
    }
}

impl Round<'_> {
    async fn run(&self, progress: &mut Progress, go_on: &(dyn Fn() -> bool + Sync)) -> Swept {
        let clock = &self.shadow.parts().clock;
        let Some(everybody) = self.everybody(clock.now()).await else {
            return Swept::Unavailable;
        };
        // Each of them is asked about on both sides.
        let every = Duration::from_secs(1) / (self.settings.rps / SHARE).max(1);
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failures = 0;
        let done = progress.after.clone();
        for value in everybody
            .iter()
            .filter(|value| done.as_ref() < Some(*value))
        {
            loop {
                tick.tick().await;
                let shut = self.pace.shut_for(clock.now());
                tokio::time::sleep(shut).await;
                if !go_on() {
                    return Swept::CalledOff;
                }
                // People who come need their calls first: a sweep has time.
                if self.pace.take(self.settings.rps, clock.now()) != Err(Skipped::Budget) {
                    break;
                }
            }
            progress.after = Some(value.clone());
            let now = clock.now();
            match self.look(value, now).await {
                Ok(was_compared) => {
                    failures = 0;
                    progress.compared += u64::from(was_compared);
                    progress.left_out += u64::from(!was_compared);
                    continue;
                }
                Err(why) => {
                    let (breaker, rps) = (self.settings.breaker, self.settings.rps);
                    self.pace.failed(breaker, why, rps, now);
                }
            }
            failures += 1;
            let metrics = &self.shadow.parts().metrics;
            metrics.shadow_compared(&self.settings.app, Oracle::Sweep, Compared::Unavailable);
            if self.settings.breaker.calls().saturating_mul(PATIENCE) <= failures {
                return Swept::Unavailable;
            }
        }
        Swept::All {
            compared: progress.compared,
            left_out: progress.left_out,
        }
    }

    /// Everybody, by the value of the key and in its order; `None`: nobody says who there is.
    async fn everybody(&self, now: UnixTime) -> Option<Vec<Box<str>>> {
        if let Some(listed) = self.listed {
            return Some(listed.keys().cloned().collect());
        }
        let directory = self.of.directory()?;
        let mut everybody = directory.everybody(MAX_PEOPLE, now).await.ok()?;
        everybody.sort_unstable();
        everybody.dedup();
        Some(everybody)
    }

    async fn ask(
        &self,
        provider: &dyn Provider,
        value: &str,
        now: UnixTime,
    ) -> Result<Known, ProviderError> {
        let Some(directory) = provider.directory() else {
            return Err(Outage::Malformed.into());
        };
        let asking = directory.find(value, now);
        let answer = tokio::time::timeout(self.settings.timeout, asking).await;
        answer.or(Err(Outage::Timeout))?
    }

    /// What the side that decides says: its directory, or the list where it has none.
    async fn decides(&self, value: &str, now: UnixTime) -> Result<Known, ProviderError> {
        let listed = self.listed.and_then(|listed| listed.get(value));
        match (self.of.directory(), listed) {
            (None, Some((identity, enabled))) => Ok(Known::Person {
                identity: Arc::clone(identity),
                enabled: *enabled,
            }),
            (Some(_) | None, _) => self.ask(self.of, value, now).await,
        }
    }

    /// One person; `false`: there is nobody to be compared.
    async fn look(&self, value: &str, now: UnixTime) -> Result<bool, Outage> {
        let of = match self.decides(value, now).await {
            Ok(known) => known,
            // The side that decides cannot describe the person: nothing can be compared.
            Err(ProviderError::Rejected(_)) => return Ok(false),
            Err(ProviderError::Unavailable { outage, .. }) => return Err(outage),
        };
        // An entry proves nothing: what somebody would prove at a login is not compared.
        let read = |identity| Side {
            assurance: None,
            ..self.reader.read(&self.settings.app, identity, None)
        };
        // Somebody who is gone by now, or whom nobody can name.
        let Known::Person { identity, enabled } = of else {
            return Ok(false);
        };
        let control = read(&identity);
        let Name::Person(person) = &control.name else {
            return Ok(false);
        };
        let other = match self.ask(self.other, value, now).await {
            Ok(Known::Nobody) => Opinion::Nobody,
            Ok(Known::Several) => Opinion::Several,
            Ok(Known::Person { enabled: false, .. }) => Opinion::Refused("disabled"),
            Ok(Known::Person { identity, .. }) => Opinion::Person(read(&identity)),
            Err(ProviderError::Rejected(refusal)) => Opinion::Refused(refusal.as_str()),
            Err(ProviderError::Unavailable { outage, .. }) => return Err(outage),
        };
        self.pace.answered(self.settings.breaker, now);
        let differences = if enabled {
            weigh::of_welcome(&control, &other)
        } else {
            weigh::of_barred(&control, &other)
        };
        let parts = self.shadow.parts();
        let about = (Oracle::Sweep, parts.pseudonyms.of(person));
        weigh::record(parts, self.settings, about, differences, now);
        Ok(true)
    }
}
