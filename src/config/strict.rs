//! What a strict check asks besides: that defaults which are safe have not been given up, or that somebody said why.
//!
//! Judges settings that are good already; each rule has an id that stays, so that pipelines and waivers can name it.

mod clients;
mod exchanges;

use std::net::IpAddr;
use std::time::Duration;

use crate::config::problem::Report;
use crate::config::settings::Settings;
use crate::config::tree::Content;
use crate::config::tree::Mark;
use crate::config::tree::Node;
use crate::providers::settings::ClientAuth;
use crate::providers::settings::KindSettings;
use crate::providers::settings::OAuthClient;
use crate::providers::settings::OidcDirectory;
use crate::providers::settings::Settings as Provider;
use crate::providers::settings::Verify;
use crate::rollout::Place;

/// A rule of the strict check.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Rule {
    /// What pipelines and waivers call it.
    pub(crate) id: &'static str,
    /// What it asks, in one sentence.
    pub(crate) asks: &'static str,
}

macro_rules! rules {
    ($($name:ident $id:literal $asks:literal;)+) => {
        $(static $name: Rule = Rule { id: $id, asks: $asks };)+

        /// Every rule, by id.
        pub(crate) static RULES: &[&Rule] = &[$(&$name),+];
    };
}

rules! {
    LONG_TOKENS "AFS001" "Tokens live for a day at most.";
    AUDIENCE "AFS002" "Every token is meant for somebody.";
    SHARED_SECRET "AFS003" "Who checks tokens cannot make them.";
    ANY_TYPE "AFS004" "A token says which kind it is.";
    WIDE_SCOPES "AFS005" "Nobody is asked for more than is needed: by a login, a client, an exchange.";
    PLAIN_PROVIDER "AFS006" "Providers are asked over TLS.";
    CLIENT_SECRET "AFS007" "We prove by a key who we are, not by a secret that both sides know.";
    ROTATION "AFS008" "The keys of sessions can be rotated: there is a second one.";
    WILDCARD_HOST "AFS009" "Logins return to hosts that are named.";
    FORWARDED "AFS010" "Credentials of clients do not reach applications.";
    WIDE_PROXIES "AFS011" "The peers that are believed are few.";
    LONG_SESSIONS "AFS012" "Sessions end within a day, and within eight hours without use.";
    LEEWAY "AFS013" "Clocks differ by two minutes at most.";
    PLAIN_LISTENER "AFS014" "Clients outside of this machine are served over TLS.";
    PLAIN_UPSTREAM "AFS015" "Applications outside of this machine are reached over TLS.";
    STALE_KEYS "AFS016" "Keys of an issuer that cannot be reached are believed for a day at most.";
    OPEN_ADMIN "AFS017" "The admin interface is reached from this machine only.";
    LONG_CLIENT_TOKENS "AFS018" "Tokens that clients get from us live for a quarter of an hour at most.";
    CLIENT_PROOF "AFS019" "Clients prove by a key or a certificate who they are.";
    UNFINISHED_ROTATION "AFS020" "A rotation of a secret comes to its end.";
    LONG_REFRESH "AFS021" "Refresh tokens live for 90 days at most.";
    LONG_MINTED "AFS022" "Tokens that we mint live for a quarter of an hour at most.";
    OLD_KEYS "AFS023" "A key signs for 90 days at most.";
    LOST_BINDING "AFS024" "A bound token stays bound, or is not exchanged.";
    LONGER_LIFE "AFS025" "What a token is exchanged for ends with it.";
    ONE_SIGNING_KEY "AFS026" "Keys that sign can be rotated: where they are kept elsewhere, the next one is there already.";
    PUBLIC_CLIENT "AFS027" "What a public client gets is little: tokens for five minutes, refresh tokens for 30 days, no wide scopes.";
    ROLE_SCOPES "AFS028" "A token does what its client was given, and not whatever its person may do.";
    SUBJECT_TOKENS "AFS029" "A client exchanges tokens that name it.";
    UNREADABLE "AFS030" "What a provider gives for a token can be read: it is about the same person.";
    UNWATCHED "AFS031" "Whoever is moved is watched: no stage that moves people says `guardrails: none`.";
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A rule that does not hold, and why that is meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Waiver {
    /// The rule.
    pub(crate) rule: Box<str>,
    /// The path below which it is waived; empty: everywhere.
    pub(crate) at: Box<str>,
    /// Why.
    pub(crate) reason: Box<str>,
}

/// Reports every rule that does not hold, and waivers that waive nothing.
pub(super) fn judge(
    root: &Node,
    (settings, session_keys): (&Settings, usize),
    report: &mut Report,
) {
    let mut judge = Judge {
        root,
        waivers: settings.waivers.iter().map(|own| (own, false)).collect(),
        report,
    };
    for provider in &settings.providers {
        judge.provider(provider);
    }
    judge.roles(settings);
    judge.rollouts(settings);
    judge.apps(settings);
    judge.exchanges(settings);
    judge.token_endpoint(settings);
    judge.server(settings, session_keys);
    judge.unused();
}

struct Judge<'a> {
    root: &'a Node,
    /// With whether it was needed.
    waivers: Vec<(&'a Waiver, bool)>,
    report: &'a mut Report,
}

impl Judge<'_> {
    /// A rule that does not hold at a path.
    fn broken(&mut self, rule: &'static Rule, path: &[&str], message: impl Into<String>) {
        let mark = mark(self.root, path);
        let whole = path.join(".");
        let below = |at: &str| {
            let rest = whole.strip_prefix(at);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || at.is_empty())
        };
        let waiver = self
            .waivers
            .iter_mut()
            .find(|(own, _)| *own.rule == *rule.id && below(&own.at));
        let reason = waiver.map(|(own, used)| {
            *used = true;
            own.reason.clone()
        });
        let said = match &reason {
            Some(_) => self.report.warning(mark, message),
            None => self.report.error(mark, message).hint(rule.asks),
        };
        said.path(whole).rule(rule.id, reason);
    }

    fn unused(&mut self) {
        let unused: Vec<_> = self.waivers.iter().filter(|(_, used)| !used).collect();
        for (waiver, _) in unused {
            let message = format!("the waiver of `{}` waives nothing", waiver.rule);
            let mark = mark(self.root, &["waivers"]);
            self.report.warning(mark, message).path("waivers");
        }
    }

    fn provider(&mut self, provider: &Provider) {
        let id = provider.id.as_str();
        match &provider.kind {
            KindSettings::Oidc(oidc) => {
                let path = ["providers", id, "oidc"];
                self.url(&path, "issuer", oidc.issuer.as_str());
                self.verify(&path, &oidc.verify);
                let wide = |scope: &str| clients::wide(scope) || scope == "offline_access";
                if let Some(scope) = oidc.scopes.iter().find(|scope| wide(scope)) {
                    let message = format!("the scope `{scope}` is wide");
                    self.broken(&WIDE_SCOPES, &["providers", id, "oidc", "scopes"], message);
                }
                if let Some(client) = &oidc.client {
                    self.client(&path, client);
                }
                if let Some(directory) = &oidc.directory {
                    self.directory(&[&path[..], &["directory"]].concat(), directory);
                }
            }
            KindSettings::Jwt(jwt) => {
                let path = ["providers", id, "jwt"];
                self.verify(&path, &jwt.verify);
                if let crate::providers::settings::Keys::Url(url) = &jwt.keys {
                    self.url(&path, "jwks", url);
                }
            }
            KindSettings::Introspection(own) => {
                let path = ["providers", id, "introspection"];
                self.url(&path, "url", &own.url);
                if let Some(url) = &own.revoke {
                    self.url(&[&path[..], &["revoke"]].concat(), "url", url);
                }
                self.client(&path, &own.client);
                if own.audiences.is_empty() {
                    let message = "no `audiences`: a token for anybody opens this door";
                    self.broken(&AUDIENCE, &path, message);
                }
            }
            KindSettings::SessionProbe(probe) => {
                let path = ["providers", id, "session_probe"];
                self.url(&path, "introspect", &probe.url);
            }
            #[cfg(feature = "ldap")]
            KindSettings::Ldap(ldap) => {
                if !ldap.starttls && !ldap.url.starts_with("ldaps://") {
                    let path = ["providers", id, "ldap", "url"];
                    self.broken(&PLAIN_PROVIDER, &path, "passwords are sent in cleartext");
                }
            }
            KindSettings::Basic(_) | KindSettings::ApiKey(_) | KindSettings::ClientCert(_) => {}
        }
    }

    fn directory(&mut self, path: &[&str], directory: &OidcDirectory) {
        let at = |kind| [path, &[kind]].concat();
        match directory {
            OidcDirectory::Keycloak(own) => {
                self.url(&at("keycloak"), "url", &own.url);
                self.client(&at("keycloak"), &own.client);
            }
            OidcDirectory::Scim(own) => self.url(&at("scim"), "url", &own.url),
            OidcDirectory::UserInfo(own) => self.url(&at("userinfo"), "url", &own.url),
        }
    }

    fn url(&mut self, path: &[&str], key: &str, url: &str) {
        if url.starts_with("http://") {
            let message = format!("`{url}` is asked in cleartext");
            self.broken(&PLAIN_PROVIDER, &[path, &[key]].concat(), message);
        }
    }

    fn verify(&mut self, path: &[&str], verify: &Verify) {
        let at = |key| [path, &["verify", key]].concat();
        if DAY < verify.max_life {
            self.broken(
                &LONG_TOKENS,
                &at("max_life"),
                "tokens may live longer than a day",
            );
        }
        if verify.algorithms.iter().any(|a| a.is_symmetric()) {
            self.broken(
                &SHARED_SECRET,
                &at("algs"),
                "tokens are signed with a secret that is shared",
            );
        }
        if verify.any_typ {
            self.broken(&ANY_TYPE, &at("any_typ"), "any kind of token is taken");
        }
        if Duration::from_secs(120) < verify.leeway {
            self.broken(&LEEWAY, &at("leeway"), "clocks may differ by minutes");
        }
        if DAY < verify.jwks_max_stale {
            let message = "keys may be older than a day";
            self.broken(&STALE_KEYS, &at("jwks_max_stale"), message);
        }
    }

    fn client(&mut self, path: &[&str], client: &OAuthClient) {
        self.registration(&[path, &["client"]].concat(), client);
    }

    fn registration(&mut self, path: &[&str], client: &OAuthClient) {
        let how = match client.auth {
            ClientAuth::PrivateKeyJwt(_)
            | ClientAuth::Certificate(_)
            | ClientAuth::SelfSigned(_) => return,
            ClientAuth::SecretBasic(_) | ClientAuth::SecretPost(_) | ClientAuth::SecretJwt(_) => {
                "by a shared secret"
            }
            ClientAuth::None => "by nothing",
        };
        let message = format!("we prove {how} to be `{}`", client.id);
        self.broken(&CLIENT_SECRET, path, message);
    }

    /// A token without scopes is one that says nothing of them, or one of a client that was given none: we cannot tell.
    fn roles(&mut self, settings: &Settings) {
        for provider in &settings.providers {
            let tokens = matches!(
                provider.kind,
                KindSettings::Oidc(_) | KindSettings::Jwt(_) | KindSettings::Introspection(_)
            );
            let map = settings.roles.get(&provider.id);
            if tokens && map.is_some_and(|map| map.scopes_for_tokens && !map.scopes.is_empty()) {
                let message = "a token without scopes gets those of its person's roles, whichever client it is of";
                let path = ["roles", provider.id.as_str(), "scopes_for_tokens"];
                self.broken(&ROLE_SCOPES, &path, message);
            }
        }
    }

    fn rollouts(&mut self, settings: &Settings) {
        for course in &settings.courses {
            let places = (0..course.legs.len()).map(|stage| Place { stage, step: 0 });
            let mut moving = places.filter(|place| course.moves_people(*place));
            let Some(unwatched) = moving.find(|place| course.guardrails(*place).is_none()) else {
                continue;
            };
            let name = course.name(unwatched);
            let short = mark(self.root, &["rollout"]) != self.root.mark;
            let path = if short {
                vec!["rollout"]
            } else {
                vec!["rollouts", course.id.as_str()]
            };
            let message = format!("nothing watches whoever is moved in `{name}`");
            self.broken(&UNWATCHED, &path, message);
        }
    }

    fn apps(&mut self, settings: &Settings) {
        for app in &settings.apps {
            let id = app.id.as_str();
            if app.forward_credentials {
                let path = ["apps", id, "forward_credentials"];
                self.broken(
                    &FORWARDED,
                    &path,
                    "the application gets the credentials of clients",
                );
            }
            if let Some(host) = app.hosts.iter().find(|host| host.starts_with("*.")) {
                let message = format!("logins may return to any host of `{host}`");
                self.broken(&WILDCARD_HOST, &["apps", id, "hosts"], message);
            }
            for origin in &app.upstream.origins {
                if !origin.tls && !is_here(&origin.host) {
                    let message = format!("`{}` is reached in cleartext", origin.host);
                    self.broken(&PLAIN_UPSTREAM, &["apps", id, "upstream"], message);
                }
            }
        }
    }

    fn server(&mut self, settings: &Settings, session_keys: usize) {
        let server = &settings.server;
        for listener in &server.listeners {
            if listener.tls.is_none() && !listener.address.ip().is_loopback() {
                let message = format!("`{}` is served in cleartext", listener.address);
                self.broken(&PLAIN_LISTENER, &["server"], message);
            }
        }
        for network in &server.trusted_proxies {
            let least = match network {
                ipnet::IpNet::V4(_) => 16,
                ipnet::IpNet::V6(_) => 48,
            };
            if network.prefix_len() < least {
                let message = format!("`{network}` is wide");
                self.broken(&WIDE_PROXIES, &["server", "trusted_proxies"], message);
            }
        }
        if settings
            .admin
            .listen
            .is_some_and(|at| !at.ip().is_loopback())
        {
            let path = ["server", "admin", "listen"];
            self.broken(
                &OPEN_ADMIN,
                &path,
                "the admin interface can be reached from the network",
            );
        }
        let sessions = &settings.sessions;
        if DAY < sessions.absolute || Duration::from_secs(8 * 3_600) < sessions.idle {
            self.broken(&LONG_SESSIONS, &["sessions"], "sessions live long");
        }
        if session_keys == 1 {
            let path = ["secrets", "session_keys"];
            let message = "one key of sessions: the next one would sign everybody out";
            self.broken(&ROTATION, &path, message);
        }
    }
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Where a path stands, or the last part of it that stands there.
fn mark(root: &Node, path: &[&str]) -> Mark {
    let mut node = root;
    let mut found = root.mark;
    for name in path {
        let Content::Map(entries) = &node.content else {
            break;
        };
        let Some((key, value)) = entries.iter().find(|(key, _)| *key.text == **name) else {
            break;
        };
        found = key.mark;
        node = value;
    }
    found
}
