//! Whom a switch back would hurt now: asked of the store, and told to whatever drives rollouts.

use std::time::Duration;

use crate::app::process::Process;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::control::Asked;
use crate::identity::ProviderId;
use crate::providers::settings::KindSettings;
use crate::providers::settings::OidcDirectory;
use crate::revocation::Barred;
use crate::revocation::Revocations;
use crate::rollout::Plan;
use crate::store::StoreError;

/// How long what was read of whoever is barred is good for what is counted all the time: all that is revoked is read for it.
const BARRED_FOR: Duration = Duration::from_mins(5);

/// Whom providers bar, as it was read.
#[derive(Default)]
pub(super) struct Seen {
    until: Option<UnixTime>,
    barred: Vec<Barred>,
}

impl Seen {
    /// As it was read within [`BARRED_FOR`], or as it is now.
    ///
    /// # Errors
    ///
    /// When the store gives no answer: then what was read before counts no more.
    async fn barred(
        &mut self,
        denials: &Revocations,
        now: UnixTime,
    ) -> Result<&[Barred], StoreError> {
        if self.until.is_none_or(|until| until <= now) {
            let all = denials.denials().await?;
            self.barred = all.into_iter().filter_map(|one| one.barred).collect();
            self.until = Some(now + BARRED_FOR);
        }
        Ok(&self.barred)
    }
}

/// Counts, and says what was found where a stage asks for it.
///
/// # Errors
///
/// When the store gives no answer: then it is not known.
pub(super) async fn look(
    process: &Process,
    settings: &Settings,
    seen: &mut Seen,
    now: UnixTime,
) -> Result<(), String> {
    let known = look_at_all(process, settings, seen, now).await;
    for plan in &settings.rollouts {
        let exposed = process.exposure.of(&plan.id).filter(|_| known.is_ok());
        let people = exposed.map(|exposed| exposed.locked_out);
        process.conductor.exposed(&plan.id, people);
    }
    known
}

async fn look_at_all(
    process: &Process,
    settings: &Settings,
    seen: &mut Seen,
    now: UnixTime,
) -> Result<(), String> {
    // Where nobody is asked, nobody is barred.
    let barred = if settings.denials.is_none() || settings.rollouts.is_empty() {
        *seen = Seen::default();
        &[]
    } else {
        let barred = seen.barred(&process.revocations, now).await;
        barred.map_err(|error| error.to_string())?
    };
    let asked = settings.rollouts.iter().map(|plan| {
        let theirs = barred.iter().filter(|one| one.provider == plan.from);
        Asked {
            plan,
            barred: theirs.filter_map(|one| one.person.clone()).collect(),
            above: above(settings, &plan.from),
            demanded: is_demanded(settings, plan),
            consents: tells_consents(settings, &plan.to),
        }
    });
    let asked: Vec<_> = asked.collect();
    process.exposure.look(&asked, now).await
}

/// The classes of assurance that a provider yields.
fn classes<'a>(
    settings: &'a Settings,
    provider: &'a ProviderId,
) -> impl Iterator<Item = &'a str> + 'a {
    let mut all = settings.providers.iter();
    let says = all.find(|one| one.id == *provider);
    says.into_iter().flat_map(|one| {
        let mapped = one.assurance.map.iter().map(|(_, class)| class);
        one.assurance
            .fixed
            .iter()
            .chain(mapped)
            .map(|class| &**class)
    })
}

/// The classes that stand above whatever a provider yields. One that says nothing of it is taken for the weakest.
fn above(settings: &Settings, provider: &ProviderId) -> Vec<Box<str>> {
    let order = &settings.assurance;
    let places = classes(settings, provider)
        .filter_map(|class| order.iter().position(|known| **known == *class));
    let best = places.max().unwrap_or(0);
    order.iter().skip(best + 1).cloned().collect()
}

/// Whether the directory of a provider says what its people have agreed to.
fn tells_consents(settings: &Settings, provider: &ProviderId) -> bool {
    let mut all = settings.providers.iter();
    let says = all.find(|one| one.id == *provider);
    says.is_some_and(|one| {
        let KindSettings::Oidc(oidc) = &one.kind else {
            return false;
        };
        matches!(oidc.directory, Some(OidcDirectory::Keycloak(_)))
    })
}

/// Whether some route of its applications takes nobody of the old provider, by what it asks of their sign-in.
fn is_demanded(settings: &Settings, plan: &Plan) -> bool {
    let apps = settings.apps.iter().filter(|app| plan.covers(&app.id));
    let mut asked = apps
        .flat_map(|app| &app.routes)
        .map(|route| &route.require.acr)
        .filter(|enough| !enough.is_empty());
    asked.any(|enough| {
        let mut theirs = classes(settings, &plan.from);
        !theirs.any(|class| enough.iter().any(|one| **one == *class))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::clock::ManualClock;
    use crate::config;
    use crate::config::Source;
    use crate::config::System;
    use crate::entropy::SystemEntropy;
    use crate::identity::CanonicalSubject;
    use crate::identity::Issuer;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use crate::rollout::RolloutId;
    use crate::session;
    use crate::session::Sessions;
    use crate::store::FakeStore;
    use crate::store::Store;
    use crate::telemetry::Metrics;

    fn barred(n: u32) -> Barred {
        Barred {
            provider: ProviderId::new("old"),
            account: SubjectKey {
                issuer: Issuer::new("https://old.corp.example"),
                subject: Subject::try_from(format!("uid-{n}").as_str()).unwrap(),
            },
            person: Some(CanonicalSubject::named(&format!("hr:{n}")).unwrap()),
            key: None,
        }
    }

    /// All that is revoked is read for it: so it is read every five minutes, and after an outage not trusted a moment longer.
    #[tokio::test]
    async fn whoever_is_barred_is_known_within_five_minutes() {
        let store = Arc::new(FakeStore::default());
        let shared: Arc<dyn Store> = Arc::<FakeStore>::clone(&store);
        let background = tokio::runtime::Handle::current();
        let of = session::settings::Settings::for_test(&[9]);
        let entropy = Arc::new(SystemEntropy);
        let sessions = Sessions::new(&of, Arc::clone(&shared), entropy, &background).unwrap();
        let clock = ManualClock::at(UnixTime::from_secs(1_000_000));
        let metrics = Metrics::new(Arc::new(clock.clone()), 100);
        let list: Arc<dyn Clock> = Arc::new(clock.clone());
        let list = Revocations::for_test(&shared, &sessions, list, &metrics);
        let mut seen = Seen::default();
        list.deny(&barred(1)).await.unwrap();
        let now = clock.now();
        assert_eq!(seen.barred(&list, now).await.unwrap(), [barred(1)]);
        list.deny(&barred(2)).await.unwrap();
        let second = Duration::from_secs(1);
        let late = now + 299 * second;
        assert_eq!(seen.barred(&list, late).await.unwrap(), [barred(1)]);
        clock.advance(300 * second);
        let both = seen.barred(&list, now + 300 * second).await.unwrap().len();
        assert_eq!(both, 2);
        // A store that is away says nothing, and what was read before has had its time.
        store.away.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(seen.barred(&list, now + 599 * second).await.is_ok());
        for _ in 0..2 {
            assert!(seen.barred(&list, now + 600 * second).await.is_err());
        }
        store.away.store(false, std::sync::atomic::Ordering::SeqCst);
        let again = seen.barred(&list, now + 600 * second).await;
        assert_eq!(again.unwrap().len(), 2);
    }

    fn settings(old: &str, new: &str, route: &str) -> Settings {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authferry.yaml");
        let text = format!(
            r#"
version: 1
assurance: [pwd, otp, mfa]
providers:
  old: {{ oidc: {{ issuer: "https://old.corp.example", verify: {{ audiences: [app] }}, client: {{ id: a, secret: {{ file: secret }} }}{old} }} }}
  new: {{ oidc: {{ issuer: "https://new.corp.example", verify: {{ audiences: [app] }}, client: {{ id: a, secret: {{ file: secret }} }}, assurance: {{ acr_claim: acr, map: {{ "1": pwd, "2": mfa }} }}{new} }} }}
apps: {{ crm: {{ hosts: [app.test], upstream: {{ url: "http://127.0.0.1:9" }}{route} }} }}
rollouts:
  move: {{ apps: [crm], from: old, to: new, bucketing: {{ salt: test }}, stages: [{{ id: look, mode: canary }}] }}
"#
        );
        std::fs::write(&path, text).unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        let source = Source::read(&path, Arc::new(System)).unwrap();
        let compiled = config::load(&source).unwrap_or_else(|problems| panic!("{problems}"));
        compiled.draft.ensure().unwrap().0
    }

    fn plan(settings: &Settings) -> Plan {
        let course = settings.courses.first().unwrap();
        assert_eq!(course.id, RolloutId::new("move"));
        course.plan(None, false, 0)
    }

    #[test]
    fn what_stands_above_the_old_side_is_what_it_never_vouches_for() {
        let old = ProviderId::new("old");
        for (says, classes) in [
            ("", vec!["otp", "mfa"]),
            (", assurance: { acr: otp }", vec!["mfa"]),
            (
                ", assurance: { acr_claim: acr, map: { a: pwd, b: mfa } }",
                Vec::new(),
            ),
        ] {
            let found = above(&settings(says, "", ""), &old);
            assert_eq!(
                found,
                classes.into_iter().map(Box::from).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_factor_locks_somebody_out_where_a_route_takes_nothing_of_the_old_side() {
        let floor = ", assurance_floor: { \"/admin/*\": mfa }";
        for (says, route, demanded) in [
            ("", "", false),
            ("", floor, true),
            (", assurance: { acr: otp }", floor, true),
            (", assurance: { acr: mfa }", floor, false),
        ] {
            let settings = settings(says, "", route);
            let found = is_demanded(&settings, &plan(&settings));
            assert_eq!(found, demanded, "{says} {route}");
        }
    }

    #[test]
    fn only_a_directory_by_keycloak_says_what_people_have_agreed_to() {
        let keycloak = ", directory: { keycloak: { url: \"https://new.corp.example/admin/realms/a\", key: username, client: { id: d, secret: { file: secret } } } }";
        let scim = ", directory: { scim: { url: \"https://new.corp.example/scim\", token: { file: secret } } }";
        for (directory, tells) in [("", false), (keycloak, true), (scim, false)] {
            let settings = settings("", directory, "");
            assert_eq!(tells_consents(&settings, &ProviderId::new("new")), tells);
            assert!(!tells_consents(&settings, &ProviderId::new("old")));
        }
    }
}
