//! Exercises that people of a cohort meet: an outage, a slow provider, a way back.

use std::sync::Arc;
use std::time::Duration;

use crate::app::drill::Found;
use crate::app::drill::told::outage;
use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::config::settings::Settings;
use crate::control::Upset;
use crate::identity::ProviderId;
use crate::rollout::Arm;
use crate::rollout::CohortId;
use crate::rollout::Course;
use crate::rollout::Drill;
use crate::rollout::Exercise;

/// A share of other people who meet an outage meanwhile, above which it was no exercise.
const MOST_OTHERS: f64 = 0.01;

/// Something is wrong with a provider for a cohort.
pub(super) async fn met(
    (process, reloader, settings): (&Arc<Process>, &Arc<Reloader>, &Settings),
    (exercise, course): (Exercise, &Course),
    provider: &ProviderId,
    (cohort, span): (CohortId, Duration),
) -> Found {
    let drill = exercise.drill;
    let upset = match drill {
        Drill::Slow => Upset::Slow(Duration::from_millis(exercise.size.unwrap_or_default())),
        Drill::Rollback => Upset::Back,
        Drill::ModernOutage
        | Drill::LegacyOutage
        | Drill::RateLimited
        | Drill::IntrospectionGarbage
        | Drill::KeysGone
        | Drill::JwksRotation
        | Drill::BadTokenFormat
        | Drill::ClockSkew
        | Drill::CredentialLeak
        | Drill::ProviderLoad => Upset::Away(outage(drill)),
    };
    let now = process.clock.now();
    let own = (provider.clone(), upset);
    let Some(own) = process.away.begin(own, cohort, (now, now + span)) else {
        return Err(vec![String::from("another exercise is under way")]);
    };
    // Verdicts that are kept were made before it: they are let go.
    let renewed = renewed(reloader).await;
    let before = attempts(process, provider);
    if renewed.is_ok() {
        tokio::time::sleep(span).await;
    }
    process.away.end();
    renewed.map_err(|why| vec![why])?;
    let after = attempts(process, provider);
    let counted = Counted {
        met: own.met(),
        logins: own.logins(),
        all: (after.0 - before.0).max(0.0),
        without: (after.1 - before.1).max(0.0),
    };
    let elsewhere = falls_back(settings, course, (provider, upset), span);
    counted.judged((provider, &course.from), upset, elsewhere)
}

/// What was counted while people met it.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    /// Requests of the cohort.
    met: u64,
    /// Sign-ins of the cohort, and how many of them began at the other provider.
    logins: (u64, u64),
    /// Attempts at the provider, of everybody.
    all: f64,
    /// Those of them that had no answer.
    without: f64,
}

impl Counted {
    /// Whether that is as it should be; with `falls_back` a sign-in has had the time to begin elsewhere.
    fn judged(
        self,
        (provider, from): (&ProviderId, &ProviderId),
        upset: Upset,
        falls_back: bool,
    ) -> Found {
        let Self {
            met,
            logins: (logins, elsewhere),
            all,
            without,
        } = self;
        let mut seen = Vec::new();
        let others = match upset {
            Upset::Back => {
                seen.push(format!(
                    "{elsewhere} sign-ins of the cohort began at {from}"
                ));
                return if 0 < elsewhere { Ok(seen) } else { Err(seen) };
            }
            Upset::Slow(by) => {
                seen.push(format!(
                    "{} requests and sign-ins of the cohort waited {} ms longer",
                    met + logins,
                    by.as_millis()
                ));
                without
            }
            Upset::Away(outage) => {
                seen.push(format!(
                    "{met} requests of the cohort met the outage ({})",
                    outage.as_str()
                ));
                if 0 < logins {
                    seen.push(format!(
                        "{logins} sign-ins met it, {elsewhere} of them began at the other provider"
                    ));
                }
                (without - (met + logins) as f64).max(0.0)
            }
        };
        seen.push(format!(
            "{others} of {all} attempts at {provider} had no answer besides"
        ));
        let stayed = falls_back && 0 < logins && elsewhere == 0;
        if stayed {
            seen.push(String::from(
                "no sign-in began elsewhere, as `fallback` would have it",
            ));
        }
        if met + logins == 0 || stayed || MOST_OTHERS * all.max(1.0) < others {
            return Err(seen);
        }
        Ok(seen)
    }
}

/// Whether a sign-in would begin elsewhere before such an outage is over.
fn falls_back(
    settings: &Settings,
    course: &Course,
    (provider, upset): (&ProviderId, Upset),
    span: Duration,
) -> bool {
    let Upset::Away(outage) = upset else {
        return false;
    };
    settings.fallbacks.iter().any(|fallback| {
        let from = match fallback.from {
            Arm::From => &course.from,
            Arm::To => &course.to,
        };
        from == provider
            && course.apps.contains(&fallback.app)
            && fallback.when.contains(&outage)
            // Somebody must have had the time to come.
            && 2 * fallback.provider_down_for < span
    })
}

async fn renewed(reloader: &Arc<Reloader>) -> Result<(), String> {
    let reloader = Arc::clone(reloader);
    let renewed = tokio::task::spawn_blocking(move || reloader.replan()).await;
    renewed.map_err(|error| error.to_string())?
}

/// Attempts at a provider until now, and those without an answer.
fn attempts(process: &Process, provider: &ProviderId) -> (f64, f64) {
    let figures = process.metrics.figures();
    let own = figures
        .attempts
        .iter()
        .filter(|((_, of), _)| of == provider.as_str());
    own.fold((0.0, 0.0), |(all, away), (_, one)| {
        let total = one.success + one.rejected + one.unavailable;
        (all + total, away + one.unavailable)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::config::Source;
    use crate::config::System;
    use crate::identity::Outage;

    /// What a drill of an outage comes to: whether it passed, and its words.
    fn judged(counted: Counted, falls_back: bool) -> (bool, String) {
        let (old, new) = (ProviderId::new("old"), ProviderId::new("new"));
        let found = counted.judged((&new, &old), Upset::Away(Outage::Connect), falls_back);
        let passed = found.is_ok();
        (passed, found.unwrap_or_else(|seen| seen).join("; "))
    }

    #[test]
    fn an_outage_is_met_by_sign_ins_that_begin_elsewhere_where_a_fallback_says_so() {
        let counted = |logins| Counted {
            met: 3,
            logins,
            all: 500.0,
            without: 3.0,
        };
        let (passed, said) = judged(counted((4, 2)), true);
        assert!(
            passed && said.contains("4 sign-ins met it, 2 of them"),
            "{said}"
        );
        let (passed, said) = judged(counted((4, 0)), true);
        assert!(
            !passed && said.contains("as `fallback` would have it"),
            "{said}"
        );
        // Without a fallback nobody is to begin elsewhere, and where nobody signed in nobody could.
        assert!(judged(counted((4, 0)), false).0);
        assert!(judged(counted((0, 0)), true).0);
    }

    #[test]
    fn an_outage_that_nobody_met_or_that_others_met_as_well_is_no_exercise() {
        assert!(!judged(Counted::default(), false).0);
        let counted = |without| Counted {
            met: 3,
            all: 500.0,
            without,
            ..Counted::default()
        };
        for (without, passes) in [(3.0, true), (8.0, true), (9.0, false)] {
            let (passed, said) = judged(counted(without), false);
            assert_eq!(passed, passes, "{said}");
        }
    }

    #[test]
    fn a_fallback_counts_for_its_provider_its_outages_and_after_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authferry.yaml");
        let text = r#"
version: 1
providers:
  old: { oidc: { issuer: "https://old.corp.example", client: { id: a, secret: { file: secret } }, verify: { audiences: [app] } } }
  new: { oidc: { issuer: "https://new.corp.example", client: { id: a, secret: { file: secret } }, verify: { audiences: [app] } } }
apps: { crm: { hosts: [app.test], upstream: { url: "http://127.0.0.1:9" } } }
fallback:
  crm: { from: new, to: old, when: [connect], require: { provider_down_for: 10s } }
rollout: { from: old, to: new, bucketing: { salt: test }, assign: [{ percent: 10, to: new }] }
"#;
        std::fs::write(&path, text).unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        let source = Source::read(&path, Arc::new(System)).unwrap();
        let compiled = config::load(&source).unwrap_or_else(|problems| panic!("{problems}"));
        let settings = compiled.draft.ensure().unwrap().0;
        let course = settings.courses.first().unwrap();
        let second = Duration::from_secs(1);
        for (provider, upset, span, falls) in [
            ("new", Upset::Away(Outage::Connect), 21 * second, true),
            ("new", Upset::Away(Outage::Connect), 20 * second, false),
            ("new", Upset::Away(Outage::Timeout), 21 * second, false),
            ("new", Upset::Slow(second), 21 * second, false),
            ("old", Upset::Away(Outage::Connect), 21 * second, false),
        ] {
            let of = (&ProviderId::new(provider), upset);
            assert_eq!(falls_back(&settings, course, of, span), falls, "{of:?}");
        }
    }
}
