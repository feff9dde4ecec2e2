//! What a snapshot knows of old systems: whose forms people sign in by, and who else takes their sessions.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::settings::Settings;
use crate::identity::ProviderId;
use crate::providers::settings::FormFields;
use crate::providers::settings::KindSettings;
use crate::providers::settings::SessionProbe;
use crate::providers::settings::Settings as Provider;
use crate::rollout::AppId;
use crate::rollout::Plan;

/// The only provider of an application that does not move.
pub(super) fn single(settings: &Settings, app: &AppId) -> Option<ProviderId> {
    settings
        .single
        .iter()
        .find(|(id, _)| id == app)
        .map(|(_, provider)| provider.clone())
}

/// The rollouts of the other applications that know the old side of this one; `None`: one that does not move, or whose upstream
/// lives by the cookies of old systems, whatever counts in it.
pub(super) fn others(settings: &Settings, app: &AppId) -> Vec<Option<Arc<Plan>>> {
    let plan = |app: &AppId| settings.rollouts.iter().find(|plan| plan.covers(app));
    let Some(from) = plan(app).map(|plan| &plan.from) else {
        return Vec::new();
    };
    let others = settings.apps.iter().filter(|other| other.id != *app);
    others
        .filter_map(|other| match plan(&other.id) {
            _ if other.forward_credentials => Some(None),
            Some(plan) => plan.arm(from).map(|_| Some(Arc::new(plan.clone()))),
            None => (single(settings, &other.id).as_ref() == Some(from)).then_some(None),
        })
        .collect()
}

/// An old system that says itself whose its sessions are.
const fn probe(provider: &Provider) -> Option<&SessionProbe> {
    match &provider.kind {
        KindSettings::SessionProbe(probe) => Some(probe),
        KindSettings::Oidc(_)
        | KindSettings::Jwt(_)
        | KindSettings::Introspection(_)
        | KindSettings::Basic(_)
        | KindSettings::ApiKey(_)
        | KindSettings::ClientCert(_) => None,
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(_) => None,
    }
}

/// Sign-in forms at the application itself.
pub(super) fn forms(settings: &Settings) -> HashMap<ProviderId, String> {
    let form =
        |provider: &Provider| Some((provider.id.clone(), probe(provider)?.login_path.clone()?));
    settings.providers.iter().filter_map(form).collect()
}

/// What stands in them, where passwords in them move.
pub(super) fn fields(settings: &Settings) -> HashMap<ProviderId, FormFields> {
    let fields = |provider: &Provider| {
        Some((
            provider.id.clone(),
            probe(provider)?.fields.as_deref().cloned()?,
        ))
    };
    settings.providers.iter().filter_map(fields).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::Source;
    use crate::config::System;

    fn of(apps: &str) -> Settings {
        let text = format!(
            "version: 1\nproviders:\n  old: {{ oidc: {{ issuer: \"https://old.corp.example\", verify: {{ audiences: [crm] }} }} }}\n  new: {{ oidc: {{ issuer: \"https://new.corp.example\", verify: {{ audiences: [crm] }} }} }}\napps:\n{apps}rollout: {{ from: old, to: new, bucketing: {{ salt: a }}, percent: 10, apps: [crm, hr] }}\n"
        );
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authferry.yaml");
        std::fs::write(&path, text).unwrap();
        let source = Source::read(&path, Arc::new(System)).unwrap();
        let compiled = config::load(&source).unwrap_or_else(|problems| panic!("{problems}"));
        compiled.draft.ensure().unwrap().0
    }

    fn app(name: &str, more: &str) -> String {
        format!(
            "  {name}: {{ hosts: [{name}.corp.example], upstream: {{ url: \"http://127.0.0.1:8081\" }}{more} }}\n"
        )
    }

    /// What the other applications say of the cookies of the old side, seen from the first one.
    fn seen(hr: &str, news: &str) -> Vec<bool> {
        let apps = [app("crm", ""), app("hr", hr), app("news", news)].concat();
        let settings = of(&apps);
        let all = others(&settings, &AppId::new("crm"));
        all.iter().map(Option::is_some).collect()
    }

    #[test]
    fn an_application_whose_upstream_gets_the_cookies_keeps_them_wherever_it_stands() {
        let [new, old] = [", provider: new", ", provider: old"];
        let gets = ", forward_credentials: true";
        assert_eq!(seen("", new), [true], "one moves as well");
        assert_eq!(seen("", old), [true, false]);
        assert_eq!(seen(gets, new), [false], "as if it did not move");
        let also = format!("{new}{gets}");
        assert_eq!(
            seen("", &also),
            [true, false],
            "it knows the new side alone"
        );
    }
}
