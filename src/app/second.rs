//! What is compared of two opinions: names, roles and headers, made as a request would get them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth;
use crate::auth::settings::RoleMap;
use crate::config::settings::Canonical;
use crate::config::settings::Settings;
use crate::identity::CanonicalSubject;
use crate::identity::HeaderScope;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::links;
use crate::proxy::settings::HeaderRule;
use crate::rollout::AppId;
use crate::shadow::Name;
use crate::shadow::Reader;
use crate::shadow::Side;

/// The reading of one configuration.
#[derive(Debug)]
pub(super) struct Reading {
    canonical: Option<Canonical>,
    roles: HashMap<ProviderId, RoleMap>,
    headers: HashMap<AppId, Vec<HeaderRule>>,
}

impl Reading {
    pub(super) fn of(settings: &Settings) -> Arc<dyn Reader> {
        let apps = settings.apps.iter();
        Arc::new(Self {
            canonical: settings.canonical.clone(),
            roles: settings.roles.clone(),
            headers: apps
                .map(|app| {
                    let rules = app.identity_headers.iter();
                    // Of two opinions only one knows its account: what is linked is not compared.
                    let rules =
                        rules.filter(|rule| !rule.template.roots().any(|root| root == "link"));
                    (app.id.clone(), rules.cloned().collect())
                })
                .collect(),
        })
    }

    fn name(&self, identity: &Identity) -> Name {
        let joined = self
            .canonical
            .as_ref()
            .map(|canonical| links::joined(canonical, identity));
        match joined {
            Some(Ok(Some((name, _)))) => Name::Person(name),
            Some(Ok(None)) | None => Name::Nobody,
            Some(Err(_)) => Name::Conflict,
        }
    }
}

impl Reader for Reading {
    fn read(
        &self,
        app: &AppId,
        identity: &Arc<Identity>,
        known: Option<&CanonicalSubject>,
    ) -> Side {
        let map = self.roles.get(&identity.provider);
        let mapped = map.and_then(|map| auth::with_roles(map, identity).ok());
        let list = if mapped.is_some() { "roles" } else { "groups" };
        let identity = mapped.as_ref().unwrap_or(identity);
        let name = known.map_or_else(|| self.name(identity), |known| Name::Person(known.clone()));
        let groups = identity.attributes.list(list).unwrap_or_default();
        let rules = self.headers.get(app).map_or(&[][..], Vec::as_slice);
        let scope = HeaderScope {
            identity,
            canonical: match &name {
                Name::Person(name) => Some(name),
                Name::Nobody | Name::Conflict => None,
            },
            link: None,
            mark: None,
        };
        let rendered = |rule: &HeaderRule| {
            let value = rule.template.render(&scope).ok().flatten();
            (rule.name.as_str().into(), value)
        };
        Side {
            groups: groups.into_iter().map(Into::into).collect(),
            scopes: identity.scopes.iter().cloned().collect(),
            headers: rules.iter().map(rendered).collect(),
            assurance: identity.acr.clone(),
            lifetime: None,
            name,
        }
    }
}
