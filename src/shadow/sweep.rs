//! A look at everybody, in both directories: traffic shows nobody who does not come, such as somebody who was locked out on
//! the old side and is not on the new one.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::providers::Known;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Providers;
use crate::shadow::Reader;
use crate::shadow::compare::Name;
use crate::shadow::pace::Pace;
use crate::shadow::settings::Settings;
use crate::shadow::settings::Sweep;
use crate::shadow::weigh;
use crate::shadow::weigh::Opinion;
use crate::shadow::work::Shadow;
use crate::telemetry::metrics::Compared;
use crate::telemetry::metrics::Oracle;

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

/// One sweep.
struct Round<'a> {
    shadow: &'a Shadow,
    settings: &'a Settings,
    reader: &'a Arc<dyn Reader>,
    pace: Arc<Pace>,
    of: &'a dyn Provider,
    other: &'a dyn Provider,
}

impl Shadow {
    /// Looks at everybody of one application; `go_on` is asked before each of them.
    pub(crate) async fn sweep(
        &self,
        settings: &Settings,
        providers: &Providers,
        reader: &Arc<dyn Reader>,
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
            pace: self.pace(&settings.app),
            of,
            other,
        };
        round.run(go_on).await
    }
}

impl Round<'_> {
    async fn run(&self, go_on: &(dyn Fn() -> bool + Sync)) -> Swept {
        let clock = &self.shadow.parts().clock;
        let Some(directory) = self.of.directory() else {
            return Swept::Unavailable;
        };
        let Ok(everybody) = directory.everybody(MAX_PEOPLE, clock.now()).await else {
            return Swept::Unavailable;
        };
        // Each of them is asked about on both sides.
        let every = Duration::from_secs(1) / (self.settings.rps / SHARE).max(1);
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut compared, mut left_out, mut failures) = (0, 0, 0);
        for value in &everybody {
            tick.tick().await;
            let shut = self.pace.shut_for(clock.now());
            tokio::time::sleep(shut).await;
            if !go_on() {
                return Swept::CalledOff;
            }
            if let Ok(was_compared) = self.look(value, clock.now()).await {
                failures = 0;
                compared += u64::from(was_compared);
                left_out += u64::from(!was_compared);
                continue;
            }
            failures += 1;
            let metrics = &self.shadow.parts().metrics;
            metrics.shadow_compared(&self.settings.app, Oracle::Sweep, Compared::Unavailable);
            self.pace.failed(self.settings.breaker, clock.now());
            if self.settings.breaker.failures.saturating_mul(PATIENCE) <= failures {
                return Swept::Unavailable;
            }
        }
        Swept::All { compared, left_out }
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

    /// One person; `false`: there is nobody to be compared.
    async fn look(&self, value: &str, now: UnixTime) -> Result<bool, ProviderError> {
        let of = match self.ask(self.of, value, now).await {
            Ok(known) => known,
            // The side that decides cannot describe the person: nothing can be compared.
            Err(ProviderError::Rejected(_)) => return Ok(false),
            Err(outage) => return Err(outage),
        };
        let read = |identity| self.reader.read(&self.settings.app, identity, None);
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
            Err(outage) => return Err(outage),
        };
        self.pace.answered();
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
