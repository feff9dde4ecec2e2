//! How long something that we vouch for may live at the longest.

use std::time::Duration;

use crate::config::settings::Settings;
use crate::providers::settings::KindSettings;

/// The longest that a session, a signed token or a family of refresh tokens may live: what is revoked must be remembered as
/// long.
pub(super) fn longest_life(settings: &Settings) -> Duration {
    let tokens = settings
        .providers
        .iter()
        .map(|provider| match &provider.kind {
            KindSettings::Oidc(oidc) => oidc.verify.max_life + oidc.verify.leeway,
            KindSettings::Jwt(jwt) => jwt.verify.max_life + jwt.verify.leeway,
            // What is asked about each time is not kept by us.
            KindSettings::Introspection(_)
            | KindSettings::SessionProbe(_)
            | KindSettings::Basic(_)
            | KindSettings::ApiKey(_)
            | KindSettings::ClientCert(_) => Duration::ZERO,
            #[cfg(feature = "ldap")]
            KindSettings::Ldap(_) => Duration::ZERO,
        });
    let clients = settings.issuer.iter().flat_map(|issuer| &issuer.clients);
    let families = clients
        .filter(|client| client.grants.iter().any(|grant| grant.has_families()))
        .map(|client| client.refresh.max);
    let all = tokens.chain(families);
    let least = settings
        .sessions
        .absolute
        .max(settings.retention.revocations);
    all.fold(least, Duration::max)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::config::Source;
    use crate::config::System;

    fn settings(directory: &Path, grants: &str) -> Settings {
        let people = directory.join("people");
        fs::write(&people, "").unwrap();
        let text = format!(
            r#"
version: 1
providers: {{ old: {{ basic: {{ file: "{}" }} }} }}
apps: {{ crm: {{ hosts: [crm.test], provider: old, upstream: {{ url: "http://127.0.0.1:9" }} }} }}
"#,
            people.display()
        );
        let path = directory.join("authferry.yaml");
        fs::write(&path, text).unwrap();
        let source = Source::read(&path, Arc::new(System)).unwrap();
        let compiled = config::load(&source).unwrap_or_else(|problems| panic!("{problems}"));
        let mut settings = compiled.draft.ensure().unwrap().0;
        settings.issuer = Some(crate::issuer::settings::for_test(grants));
        settings
    }

    #[test]
    fn a_revocation_is_kept_as_long_as_a_refresh_token_may_come() {
        let directory = tempfile::tempdir().unwrap();
        let life = |grants| longest_life(&settings(directory.path(), grants));
        let month = Duration::from_secs(30 * 86_400);
        assert_eq!(life("refresh_token"), month);
        assert_eq!(life("device_code"), month);
        assert!(life("client_credentials") < month);
    }
}
