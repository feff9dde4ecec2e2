//! What is made for as long as `retention` says.

use std::sync::Arc;

use crate::config::settings::Settings;
use crate::links::Links;
use crate::store::Store;

/// Links, and what is in doubt.
pub(super) fn links(settings: &Settings, store: &Arc<dyn Store>) -> Links {
    let (kept, providers) = (&settings.retention, settings.providers.iter());
    let names = providers.map(|one| one.id.clone()).collect();
    Links::new(Arc::clone(store))
        .kept_for(kept.links, names)
        .doubts_for(kept.conflicts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::config;
    use crate::config::Source;
    use crate::config::System;
    use crate::identity::CanonicalSubject;
    use crate::identity::Issuer;
    use crate::identity::ProviderId;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use crate::store::MemoryStore;

    const DAY: u64 = 86_400;

    fn of(retention: &str) -> Settings {
        let text = format!(
            "version: 1\nproviders:\n  old: {{ oidc: {{ issuer: \"https://old.corp.example\", verify: {{ audiences: [crm] }} }} }}\n  new: {{ oidc: {{ issuer: \"https://new.corp.example\", verify: {{ audiences: [crm] }} }} }}\napps:\n  crm: {{ hosts: [crm.corp.example], upstream: {{ url: \"http://127.0.0.1:8081\" }} }}\nrollout: {{ from: old, to: new, bucketing: {{ salt: a }}, percent: 10 }}\n{retention}\n"
        );
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authferry.yaml");
        std::fs::write(&path, text).unwrap();
        let source = Source::read(&path, Arc::new(System)).unwrap();
        let compiled = config::load(&source).unwrap_or_else(|problems| panic!("{problems}"));
        compiled.draft.ensure().unwrap().0
    }

    /// How many accounts are in doubt after so many days, of one that was refused on the first.
    async fn in_doubt(settings: &Settings, days: u64) -> usize {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let links = links(settings, &store);
        let (old, first) = (ProviderId::new("old"), UnixTime::from_secs(DAY));
        let key = SubjectKey {
            issuer: Issuer::new("https://old.corp.example"),
            subject: Subject::try_from("alice").unwrap(),
        };
        let person = CanonicalSubject::named("hr:1").unwrap();
        links.in_conflict(&person, (&old, &key), first).await;
        let later = UnixTime::from_secs(DAY + days * DAY - 1);
        links.conflicts(&old, later).await.unwrap().len()
    }

    #[tokio::test]
    async fn an_account_is_in_doubt_for_as_long_as_the_key_says_and_no_longer_than_links() {
        for (retention, days) in [
            ("", 30),
            ("retention: { conflicts: 2d }", 2),
            ("retention: { conflicts: 400d }", 400),
            (
                "retention: { conflicts: 400d, links: 90d, passwords: 90d }",
                90,
            ),
        ] {
            let settings = of(retention);
            assert_eq!(in_doubt(&settings, days).await, 1, "{retention}");
            assert_eq!(in_doubt(&settings, days + 1).await, 0, "{retention}");
        }
    }
}
