//! What a configuration means for those who audit it, as Markdown: who vouches, for how long, what is read, told and kept.

mod clients;
mod exchanges;
pub(crate) mod expiring;
mod kept;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::auth::assertion_claims;
use crate::config::settings::Settings;
use crate::exchange::settings::Remote;
use crate::exchange::settings::Way;
use crate::issuer::settings::Grant;
use crate::providers::settings::ClientAuth;
use crate::providers::settings::KindSettings;
use crate::providers::settings::Oidc;
use crate::providers::settings::Settings as Provider;
use crate::providers::settings::Verify;

/// The catalog. Writing to a String does not fail.
pub(crate) fn markdown(settings: &Settings) -> String {
    let mut out = format!(
        "# Catalog\n\nRevision `{}` of the configuration.\n\n## Providers\n",
        settings.revision
    );
    for provider in &settings.providers {
        self::provider(&mut out, settings, provider);
    }
    out.push_str("\n## Applications\n\n| Application | Hosts | Told about people | Credentials forwarded |\n|---|---|---|---|\n");
    for app in &settings.apps {
        let rules = app.identity_headers.iter().map(|rule| {
            let roots: Vec<&str> = rule.template.roots().collect();
            format!("{} ← {}", rule.name, roots.join(", "))
        });
        let said = assertion_claims().join(", ");
        let assertions = app.assertion.iter();
        let assertions = assertions.map(|own| format!("{} ← {said}", own.header));
        let headers: Vec<String> = rules.chain(assertions).collect();
        let _written = writeln!(
            out,
            "| {} | {} | {} | {} |",
            cell(app.id.as_str()),
            code(app.hosts.iter().map(|host| &**host)),
            code(headers.iter().map(String::as_str)),
            yes(app.forward_credentials)
        );
    }
    exchanges::exchanges(&mut out, settings);
    clients::clients(&mut out, settings);
    out.push_str(
        "\n## Personal data\n\n- Read: the claims in the tables above; of every token also who issued it to whom and for what (`iss`, `sub`, `aud`, `client_id` or `azp`, `scope`), when (`iat`, `exp`, `nbf`, `auth_time`), how sure that is (`acr`), who acts and may act (`act`, `may_act`), what it is bound to (`cnf`), and by what it is found again (`jti`, `sid`). Nothing else of a credential.\n\
         - Forwarded: what stands behind the headers above, to the application they stand with; what exchanges say, to their audiences.\n\
         - Logged: pseudonyms in place of people and addresses.\n\
         - Stored:\n",
    );
    kept::kept(&mut out, settings);
    out
}

fn provider(out: &mut String, settings: &Settings, provider: &Provider) {
    let mut rows: Vec<(&str, String)> = Vec::new();
    let kind = match &provider.kind {
        KindSettings::Oidc(oidc) => {
            rows.push(("Issuer", code([oidc.issuer.as_str()])));
            let grants = match &oidc.client {
                Some(client) => {
                    rows.push(("Client", code([&*client.id])));
                    rows.push((
                        "Client authentication",
                        authentication(&client.auth).to_owned(),
                    ));
                    rows.push(("Scopes asked for", code(oidc.scopes.iter().map(|s| &**s))));
                    let more = grants_at(settings, provider, oidc.refreshes);
                    [
                        &["bearer tokens", "authorization_code with PKCE"][..],
                        &more,
                    ]
                    .concat()
                }
                None => vec!["bearer tokens"],
            };
            rows.push(("Grant types", grants.join("; ")));
            verify(&mut rows, &oidc.verify);
            revocation(&mut rows, oidc);
            "OpenID provider"
        }
        KindSettings::Jwt(jwt) => {
            rows.push(("Issuer", code([jwt.issuer.as_str()])));
            rows.push(("Grant types", "bearer tokens".to_owned()));
            verify(&mut rows, &jwt.verify);
            "Issuer of signed tokens"
        }
        KindSettings::Introspection(own) => {
            rows.push(("Endpoint", code([own.url.as_str()])));
            rows.push(("Grant types", "opaque tokens".to_owned()));
            rows.push((
                "Client authentication",
                authentication(&own.client.auth).to_owned(),
            ));
            rows.push(("Audiences", code(own.audiences.iter().map(|a| &**a))));
            rows.push(("Revocation", asked(own.cache)));
            "Authorization server"
        }
        KindSettings::SessionProbe(own) => {
            rows.push(("Endpoint", code([own.url.as_str()])));
            rows.push(("Grant types", "session cookies".to_owned()));
            rows.push(("Revocation", asked(own.cache)));
            "Old sign-on"
        }
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(own) => {
            rows.push(("Endpoint", code([own.url.as_str()])));
            rows.push(("Grant types", "passwords".to_owned()));
            rows.push(("Revocation", asked(own.cache)));
            "Directory"
        }
        KindSettings::Basic(own) => {
            rows.push(("Grant types", "passwords".to_owned()));
            rows.push(("Revocation", asked(own.cache)));
            "Password file"
        }
        KindSettings::ApiKey(_) => {
            rows.push(("Grant types", "API keys".to_owned()));
            rows.push(("Revocation", "when the file changes".to_owned()));
            "API keys"
        }
        KindSettings::ClientCert(own) => {
            rows.push(("Grant types", "client certificates".to_owned()));
            rows.push(("Subject", code([own.subject.as_str()])));
            let words = "when the file of authorities and revocation lists changes";
            rows.push(("Revocation", words.to_owned()));
            "Client certificates"
        }
    };
    let claims = provider
        .claims
        .iter()
        .map(|(name, path)| format!("{name} ← {path}"));
    let claims: Vec<String> = claims.collect();
    rows.push(("Claims read", code(claims.iter().map(String::as_str))));
    if let Some(map) = settings.roles.get(&provider.id) {
        let sorted: BTreeMap<_, _> = map.groups.iter().collect();
        let roles = sorted
            .into_iter()
            .map(|(group, roles)| format!("{group} → {}", roles.join(", ")));
        let roles: Vec<String> = roles.collect();
        rows.push(("Roles", code(roles.iter().map(String::as_str))));
    }
    let _written = writeln!(out, "\n### {}\n\n{kind}.\n\n| | |\n|---|---|", provider.id);
    for (name, value) in rows {
        let _written = writeln!(out, "| {name} | {value} |");
    }
}

/// What else is asked for there, by us or for clients of ours.
fn grants_at(settings: &Settings, provider: &Provider, refreshes: bool) -> Vec<&'static str> {
    let exchanged = |is: fn(&Way) -> Option<&Remote>| {
        let mut all = settings.exchanges.iter();
        all.any(|one| is(&one.way).is_some_and(|remote| remote.provider == provider.id))
    };
    let clients = settings.issuer.iter().flat_map(|issuer| &issuer.clients);
    let registered = clients.filter(|client| client.at.iter().any(|(at, _)| *at == provider.id));
    let granted: Vec<Grant> = registered
        .flat_map(|client| client.grants.clone())
        .collect();
    let passwords = settings.rollouts.iter().any(|plan| {
        plan.to == provider.id && plan.stage.passwords != crate::rollout::Passwords::AtFrom
    });
    [
        (
            refreshes || granted.contains(&Grant::RefreshToken),
            "refresh_token",
        ),
        (
            exchanged(|way| match way {
                Way::TokenExchange(remote) => Some(remote),
                Way::Assertion(..) | Way::Mint(_) => None,
            }),
            "token-exchange",
        ),
        (
            exchanged(|way| match way {
                Way::Assertion(remote, _) => Some(remote),
                Way::TokenExchange(_) | Way::Mint(_) => None,
            }),
            "jwt-bearer",
        ),
        (
            granted.contains(&Grant::ClientCredentials),
            "client_credentials",
        ),
        (granted.contains(&Grant::DeviceCode), "device_code"),
        (passwords, "password (of people whose password has moved)"),
    ]
    .into_iter()
    .filter_map(|(is, word)| is.then_some(word))
    .collect()
}

/// What ends a token or a session of an OpenID provider before its own end, beside its keys.
fn revocation(rows: &mut Vec<(&str, String)>, oidc: &Oidc) {
    if let Some(introspect) = oidc.introspect {
        rows.push(("Introspection", asked(introspect.cache)));
    }
    if let Some(path) = oidc.back_channel.as_ref().filter(|_| oidc.client.is_some()) {
        rows.push(("Back-channel logout", code([&**path])));
    }
    if oidc.client.is_some() {
        rows.push(("Refresh tokens given back", yes(oidc.revokes).to_owned()));
    }
}

fn verify(rows: &mut Vec<(&str, String)>, verify: &Verify) {
    let algorithms = verify.algorithms.iter().map(|a| a.as_str());
    rows.push(("Algorithms", code(algorithms)));
    rows.push(("Audiences", code(verify.audiences.iter().map(|a| &**a))));
    rows.push(("Longest life of a token", span(verify.max_life)));
    let words = format!(
        "by the token's own end; a key that leaves the set voids its tokens within {}",
        span(verify.jwks_refresh)
    );
    rows.push(("Revocation", words));
}

fn asked(cache: Duration) -> String {
    if cache.is_zero() {
        "asked with every request".to_owned()
    } else {
        format!("asked again after {}", span(cache))
    }
}

const fn authentication(auth: &ClientAuth) -> &'static str {
    match auth {
        ClientAuth::SecretBasic(_) => "client_secret_basic",
        ClientAuth::SecretPost(_) => "client_secret_post",
        ClientAuth::PrivateKeyJwt(_) => "private_key_jwt",
        ClientAuth::SecretJwt(_) => "client_secret_jwt",
        ClientAuth::Certificate(_) => "tls_client_auth",
        ClientAuth::SelfSigned(_) => "self_signed_tls_client_auth",
        ClientAuth::None => "none",
    }
}

/// A list as code, in one cell.
fn code<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<String> = items
        .into_iter()
        .map(|item| format!("`{}`", cell(&item.replace('`', "'"))))
        .collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}

/// A text that does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

const fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => "0 s".to_owned(),
        s if s.is_multiple_of(86_400) => format!("{} d", s / 86_400),
        s if s.is_multiple_of(3_600) => format!("{} h", s / 3_600),
        s if s.is_multiple_of(60) => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_ends_where_it_should() {
        assert_eq!(code(["a|b`c"]), "`a\\|b'c`");
        assert_eq!(code([]), "none");
        for (seconds, words) in [
            (0, "0 s"),
            (90, "90 s"),
            (120, "2 min"),
            (7_200, "2 h"),
            (86_400, "1 d"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), words);
        }
    }
}
