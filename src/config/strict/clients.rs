//! What a strict check asks of our token endpoint: short lives, proofs that only the client can make, refresh tokens that end.

use std::time::Duration;

use crate::config::settings::Settings;
use crate::config::strict::CLIENT_PROOF;
use crate::config::strict::DAY;
use crate::config::strict::Judge;
use crate::config::strict::LONG_CLIENT_TOKENS;
use crate::config::strict::LONG_REFRESH;
use crate::config::strict::PUBLIC_CLIENT;
use crate::config::strict::SUBJECT_TOKENS;
use crate::config::strict::UNFINISHED_ROTATION;
use crate::config::strict::WIDE_SCOPES;
use crate::issuer::settings::Client;
use crate::issuer::settings::Grant;
use crate::providers::settings::ClientAuth;

const MINUTE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(15 * 60);

impl Judge<'_> {
    pub(super) fn token_endpoint(&mut self, settings: &Settings) {
        for client in settings.issuer.iter().flat_map(|own| &own.clients) {
            let path = ["token_endpoint", "clients", &client.id];
            let at = |key| [&path[..], &[key]].concat();
            if client.public {
                self.public(&path, client);
            }
            if LONG < client.max_life {
                let message = "its tokens may live longer than a quarter of an hour";
                self.broken(&LONG_CLIENT_TOKENS, &at("max_life"), message);
            }
            if !client.public && client.keys.is_none() && client.certificates.is_empty() {
                let message = format!("`{}` proves itself by a secret that it sends", client.id);
                self.broken(&CLIENT_PROOF, &path, message);
            }
            if client.grants.contains(&Grant::TokenExchange) && !client.addressed {
                let message = format!("`{}` may exchange any token that it comes by", client.id);
                self.broken(&SUBJECT_TOKENS, &at("subject_tokens"), message);
            }
            if 1 < client.secrets.len() {
                let message = "two secrets are good: a rotation is not finished";
                self.broken(&UNFINISHED_ROTATION, &at("secret_hashes"), message);
            } else if !client.secrets.is_empty() && client.learn_at.is_some() {
                let message = "the learned secret is good beside the one that is stated: a rotation is not finished";
                self.broken(&UNFINISHED_ROTATION, &at("learn_secret_at"), message);
            }
            if let Some(scope) = client.scopes.iter().find(|scope| wide(scope)) {
                let message = format!("the scope `{scope}` is wide");
                self.broken(&WIDE_SCOPES, &at("scopes"), message);
            }
            if client.grants.contains(&Grant::RefreshToken) && 90 * DAY < client.refresh.max {
                let message = "its refresh tokens may live longer than 90 days";
                self.broken(&LONG_REFRESH, &at("refresh"), message);
            }
            for (provider, own) in &client.at {
                // It is there what it is here.
                if client.public && matches!(own.auth, ClientAuth::None) {
                    continue;
                }
                let path = [
                    "token_endpoint",
                    "clients",
                    &client.id,
                    "at",
                    provider.as_str(),
                ];
                self.registration(&path, own);
            }
        }
    }

    /// Nothing but its life and its scope limits what somebody has of it who took it from somebody else.
    fn public(&mut self, path: &[&str], client: &Client) {
        let at = |key| [path, &[key]].concat();
        if 5 * MINUTE < client.max_life {
            let message =
                "anybody may have taken its tokens, and they may live longer than five minutes";
            self.broken(&PUBLIC_CLIENT, &at("max_life"), message);
        }
        if client.grants.contains(&Grant::RefreshToken) && 30 * DAY < client.refresh.max {
            let message = "it proves nothing, and its refresh tokens may live longer than 30 days";
            self.broken(&PUBLIC_CLIENT, &at("refresh"), message);
        }
        let mut scopes = client.scopes.iter();
        if let Some(scope) = scopes.find(|scope| wide(scope) || &***scope == "offline_access") {
            let message = format!("it proves nothing, and the scope `{scope}` is wide");
            self.broken(&PUBLIC_CLIENT, &at("scopes"), message);
        }
    }
}

/// Whether a scope stands for many.
pub(super) fn wide(scope: &str) -> bool {
    scope.contains('*') || scope.ends_with("/.default")
}
