//! A provider measured with test accounts, before people depend on it: what it can bear, and what it says when that is too much.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::LoadView;
use crate::app::drill::Found;
use crate::app::drill::told;
use crate::app::process::Process;
use crate::app::stated;
use crate::config::settings::Settings;
use crate::identity::ProviderId;
use crate::providers;
use crate::providers::Measured;
use crate::providers::ProviderError;
use crate::providers::Rate;
use crate::providers::TestAccount;
use crate::providers::Trial;
use crate::rollout::AppId;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::MAX_SERIES_PER_FAMILY;

/// Calls without an answer, of which no more may be.
const MOST_UNANSWERED: f64 = 0.01;
/// Of the calls that are asked for, so many must have an answer in time.
const LEAST_REACHED: f64 = 0.95;
/// So often an account is tried whose provider was just built: it may still have to fetch its keys.
const TRIES: u32 = 3;
/// And so long is waited in between.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks a provider about test accounts, and says how it went.
pub(super) async fn load(
    process: &Process,
    settings: &Settings,
    (id, accounts, apps): (&ProviderId, &[TestAccount], &[AppId]),
    (rate, p99): (Rate, Duration),
) -> (Found, Option<LoadView>) {
    let trial = match trial(process, settings, (id, accounts, apps)).await {
        Ok(trial) => trial,
        Err(why) => return (Err(vec![why]), None),
    };
    let measured = trial.run(accounts, rate).await;
    let wrong = wrong(&measured, rate, p99);
    let view = view(id, &measured, rate);
    if wrong.is_empty() {
        let seen = format!("{} answers at {} calls a second", measured.good, rate.rps);
        (Ok(vec![seen]), Some(view))
    } else {
        (Err(wrong), Some(view))
    }
}

/// The provider, and each account tried once: a wrong password that is sent many times locks somebody out.
async fn trial(
    process: &Process,
    settings: &Settings,
    (id, accounts, apps): (&ProviderId, &[TestAccount], &[AppId]),
) -> Result<Trial, String> {
    let mut named = settings.providers.iter();
    let own = named.find(|one| one.id == *id);
    let own = own.ok_or_else(|| format!("there is no provider `{id}`"))?;
    let deps = providers::Deps {
        clock: Arc::clone(&process.clock),
        entropy: Arc::clone(&process.entropy),
        // What is measured here is no figure of the provider's daily work.
        metrics: Metrics::new(Arc::clone(&process.clock), MAX_SERIES_PER_FAMILY),
        background: process.background.clone(),
        state_dir: settings.state_dir.clone(),
    };
    let (copy, given) = (own.clone(), accounts.to_vec());
    // Files are read.
    let built = tokio::task::spawn_blocking(move || Trial::of(&copy, &given, &deps)).await;
    let trial = built.map_err(|error| error.to_string())??;
    let (seen, _) = process.seen.all(process.clock.now());
    for (place, account) in accounts.iter().enumerate() {
        let place = place + 1;
        let mut tries = 1;
        let proof = loop {
            match trial.ask(account).await {
                Ok(proof) => break proof,
                Err(ProviderError::Unavailable { .. }) if tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(format!("test account {place}: {error}")),
            }
        };
        let person = stated::about(settings, Arc::clone(proof.identity()));
        let person = person.map_err(|why| format!("test account {place}: {why}"))?;
        let person = (&person.name, &*person.identity);
        let mut anywhere = apps.iter();
        if !anywhere.any(|app| told::is_tester(settings, app, person)) {
            return Err(format!(
                "test account {place} is none (`drills.test_accounts`)"
            ));
        }
        let key = &proof.identity().key;
        let mut uses = seen.iter().flat_map(|one| &one.uses);
        if uses.any(|used| used.by.key == *key) {
            return Err(format!(
                "test account {place} is somebody who was let in here lately: take one that nobody works with"
            ));
        }
    }
    Ok(trial)
}

/// What is not as people will need it.
fn wrong(measured: &Measured, rate: Rate, most: Duration) -> Vec<String> {
    let mut wrong = Vec::new();
    if measured.stopped {
        wrong.push(format!(
            "stopped after {} of {} calls: the provider has had enough",
            measured.sent, measured.due
        ));
    }
    if 0 < measured.too_many {
        wrong.push(format!(
            "{} calls were too many for it (429)",
            measured.too_many
        ));
    }
    let unanswered = measured.unanswered - measured.too_many;
    if MOST_UNANSWERED * measured.sent as f64 <= unanswered as f64 && 0 < unanswered {
        wrong.push(format!(
            "{unanswered} of {} calls had no answer",
            measured.sent
        ));
    }
    let refused = measured.sent - measured.good - measured.unanswered;
    if 0 < refused {
        wrong.push(format!(
            "{refused} calls were refused that were good before"
        ));
    }
    let reached = measured.reached(rate.span);
    if reached < LEAST_REACHED * f64::from(rate.rps) {
        wrong.push(format!(
            "{reached:.1} answers a second, where {} were asked for; {} calls began late, because no test account was free",
            rate.rps, measured.late
        ));
    }
    match measured.percentile(99) {
        Some(p99) if p99 <= most => {}
        Some(p99) => wrong.push(format!(
            "99 of 100 calls took up to {} ms, where {} may be",
            p99.as_millis(),
            most.as_millis()
        )),
        None => wrong.push(String::from("no call was made")),
    }
    wrong
}

fn view(id: &ProviderId, measured: &Measured, rate: Rate) -> LoadView {
    let percentiles = [
        ("p50", 50),
        ("p90", 90),
        ("p95", 95),
        ("p99", 99),
        ("max", 100),
    ];
    let rounded = |value: f64| (10.0 * value).round() / 10.0;
    let millis = percentiles.iter().filter_map(|(name, of)| {
        let took = measured.percentile(*of)?;
        Some(((*name).to_owned(), rounded(1_000.0 * took.as_secs_f64())))
    });
    let others = measured.others.iter();
    LoadView {
        provider: id.to_string(),
        asked_rps: rate.rps,
        reached_rps: rounded(measured.reached(rate.span)),
        seconds: rounded(measured.took.as_secs_f64()),
        due: measured.due,
        sent: measured.sent,
        good: measured.good,
        unanswered: measured.unanswered,
        too_many: measured.too_many,
        late: measured.late,
        stopped: measured.stopped,
        others: others
            .map(|(why, count)| ((*why).to_owned(), *count))
            .collect(),
        millis: millis.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        rps: 10,
        span: Duration::from_secs(10),
    };

    fn measured(slow: usize) -> Measured {
        let quick = vec![Duration::from_millis(20); 100 - slow];
        Measured {
            due: 100,
            sent: 100,
            good: 100,
            took: Duration::from_secs(10),
            times: [quick, vec![Duration::from_secs(2); slow]].concat(),
            ..Measured::default()
        }
    }

    #[test]
    fn what_people_would_feel_is_wrong() {
        let says = |measured: &Measured| wrong(measured, RATE, Duration::from_secs(1)).join("; ");
        assert_eq!(says(&measured(1)), "");
        assert!(says(&measured(2)).starts_with("99 of 100 calls took up to 2000 ms"));
        let one = Measured {
            good: 99,
            unanswered: 1,
            too_many: 1,
            ..measured(0)
        };
        assert_eq!(says(&one), "1 calls were too many for it (429)");
        let none = Measured {
            good: 99,
            unanswered: 1,
            ..measured(0)
        };
        assert_eq!(says(&none), "1 of 100 calls had no answer");
        let no = Measured {
            good: 99,
            ..measured(0)
        };
        assert!(says(&no).starts_with("1 calls were refused"));
        let few = Measured {
            last: Duration::from_secs(20),
            late: 80,
            ..measured(0)
        };
        assert!(says(&few).starts_with("5.0 answers a second, where 10 were asked for; 80 calls"));
        assert!(says(&Measured::default()).contains("no call was made"));
    }
}
