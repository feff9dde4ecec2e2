//! What results were made by, beside what their keys say. What is kept lives through a reload where all of that stays.

use crate::exchange::settings;
use crate::exchange::settings::Settings;
use crate::providers::Epoch;
use crate::providers::Providers;

/// Equal where results are as good in one snapshot as in the other.
#[derive(Debug)]
pub(super) struct Basis {
    /// With its secrets and keys, by their bytes.
    settings: Settings,
    /// The provider that is asked, as it was built: one whose settings changed is another one.
    asked: Option<Epoch>,
    /// What could not come back here was not noted, and nothing that it was made of would end it.
    comes_back: bool,
}

impl Basis {
    pub(super) fn of(settings: &Settings, providers: &Providers, comes_back: bool) -> Self {
        let asked = match &settings.way {
            settings::Way::TokenExchange(remote) | settings::Way::Assertion(remote, _) => {
                Some(&remote.provider)
            }
            settings::Way::Mint(_) => None,
        };
        let asked = asked.and_then(|id| providers.named(id));
        Self {
            settings: settings.clone(),
            asked: asked.map(|provider| provider.epoch().clone()),
            comes_back,
        }
    }
}

impl PartialEq for Basis {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            settings,
            asked,
            comes_back,
        } = self;
        let asks_the_same = match (asked, &other.asked) {
            (Some(one), Some(two)) => one.is(two),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        asks_the_same && *settings == other.settings && *comes_back == other.comes_back
    }
}
