//! Who judges the passwords of an old system by a bind, and looks up its people.

use std::sync::Arc;

use crate::providers::Deps;
use crate::providers::build::Problem;
use crate::providers::client::Guard;
use crate::providers::client::Trust;
use crate::providers::directory::LdapDirectory;
use crate::providers::ldap::LdapProvider;
use crate::providers::settings;
use crate::providers::settings::SessionProbe;
use crate::providers::settings::Settings;

/// A directory that judges passwords by bind.
pub(super) fn directory(
    settings: &Settings,
    ldap: &settings::Ldap,
    trust: &Trust,
    deps: &Deps,
) -> Result<LdapProvider, Problem> {
    let tls = Arc::new(trust.client_config(settings.client.ca.as_deref(), None)?);
    let guard = || Guard::new(settings.id.clone(), &settings.client, deps);
    let (own, aside) = (guard(), guard().aside());
    let (settings, ldap) = (settings.clone(), ldap.clone());
    let directory = ldap.directory.clone().map(|wanted| {
        let (settings, tls) = (settings.clone(), Arc::clone(&tls));
        LdapDirectory::new(settings, ldap.clone(), wanted, tls, aside)
    });
    Ok(LdapProvider::new(settings, ldap, tls, own, directory))
}

/// With breakers of their own: the one that operators see is that of the other calls.
pub(super) fn of(
    settings: &Settings,
    probe: &SessionProbe,
    trust: &Trust,
    deps: &Deps,
) -> Result<Option<LdapProvider>, Problem> {
    let Some(bind) = &probe.bind else {
        return Ok(None);
    };
    let tls = Arc::new(trust.client_config(settings.client.ca.as_deref(), None)?);
    let guard = || Guard::new(settings.id.clone(), &settings.client, deps).aside();
    let directory = bind.directory.clone().map(|wanted| {
        let (settings, tls) = (settings.clone(), Arc::clone(&tls));
        LdapDirectory::new(settings, bind.clone(), wanted, tls, guard())
    });
    let (settings, bind, own) = (settings.clone(), bind.clone(), guard());
    Ok(Some(LdapProvider::new(settings, bind, tls, own, directory)))
}
