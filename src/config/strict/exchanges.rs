//! What a strict check asks of exchanges: short lives, signatures that only we can make, keys that do not grow old.

use std::time::Duration;

use crate::config::settings::Settings;
use crate::config::strict::DAY;
use crate::config::strict::Judge;
use crate::config::strict::LONG_MINTED;
use crate::config::strict::LONGER_LIFE;
use crate::config::strict::LOST_BINDING;
use crate::config::strict::OLD_KEYS;
use crate::config::strict::ONE_SIGNING_KEY;
use crate::config::strict::SHARED_SECRET;
use crate::config::strict::UNREADABLE;
use crate::config::strict::WIDE_SCOPES;
use crate::config::strict::clients::wide;
use crate::exchange::settings::Binding;
use crate::exchange::settings::Format;
use crate::exchange::settings::Mint;
use crate::exchange::settings::Way;

const LONG: Duration = Duration::from_secs(15 * 60);

impl Judge<'_> {
    pub(super) fn exchanges(&mut self, settings: &Settings) {
        for exchange in &settings.exchanges {
            let path = ["exchange", &*exchange.name];
            let kind = match &exchange.way {
                Way::TokenExchange(_) => "token_exchange",
                Way::Assertion(..) => "assertion",
                Way::Mint(_) => "mint",
            };
            match exchange.binding {
                Binding::Lose => {
                    let message = "a token that is bound becomes one that anybody can use";
                    let path = [&path[..], &[kind, "binding"]].concat();
                    self.broken(&LOST_BINDING, &path, message);
                }
                Binding::Keep | Binding::Refuse => {}
            }
            let named = exchange.scopes.map.iter().map(|(_, there)| there);
            let mut granted = exchange.scopes.grants.iter().chain(named);
            if let Some(scope) = granted.find(|scope| wide(scope)) {
                let message = format!("the scope `{scope}` is wide");
                let path = [&path[..], &[kind, "scopes"]].concat();
                self.broken(&WIDE_SCOPES, &path, message);
            }
            if !exchange.longer_life.is_zero() {
                let message = "what a token is exchanged for may outlive it (`longer_life: 0s`)";
                let path = [&path[..], &[kind, "longer_life"]].concat();
                self.broken(&LONGER_LIFE, &path, message);
            }
            let remote = match &exchange.way {
                Way::TokenExchange(remote) | Way::Assertion(remote, _) => remote,
                Way::Mint(mint) => {
                    self.mint(&[&path[..], &["mint"]].concat(), mint);
                    continue;
                }
            };
            if !remote.must_be_read {
                let message = "a result that nobody here can read may be about somebody else";
                let path = [&path[..], &[kind, "unreadable"]].concat();
                self.broken(&UNREADABLE, &path, message);
            }
            if let Some(client) = &remote.client {
                self.registration(&[&path[..], &[kind, "client"]].concat(), client);
            }
        }
        // Whoever keeps the keys in files or in a module rotates them there.
        let module = settings.signing.module.as_ref();
        let elsewhere = [
            ("files", settings.signing.files.len()),
            ("pkcs11", module.map_or(0, |module| module.keys.len())),
        ];
        for (key, number) in elsewhere {
            if number == 1 {
                let message = "one key signs, and nobody knows the next one before it does";
                self.broken(&ONE_SIGNING_KEY, &["secrets", "signing", key], message);
            }
        }
        if 90 * DAY < settings.signing.rotate_every {
            let message = "a key signs for longer than 90 days";
            self.broken(&OLD_KEYS, &["secrets", "signing", "rotate_every"], message);
        }
    }

    fn mint(&mut self, path: &[&str], mint: &Mint) {
        if LONG < mint.ttl {
            let message = "its tokens may live longer than a quarter of an hour";
            self.broken(&LONG_MINTED, &[path, &["ttl"]].concat(), message);
        }
        match &mint.format {
            Format::Jwt(..) => {}
            Format::SharedJwt(..) | Format::SignedText(..) => {
                let message = "tokens are signed with a secret that is shared";
                self.broken(&SHARED_SECRET, &[path, &["format"]].concat(), message);
            }
        }
    }
}
