//! What a strict check asks of cohorts: that somebody can be in them.

use crate::config::settings::Settings;
use crate::config::strict::Judge;
use crate::config::strict::UNMAPPED_CLAIM;

impl Judge<'_> {
    pub(super) fn cohorts(&mut self, settings: &Settings) {
        for (id, cohort) in settings.cohorts.iter() {
            cohort.claims(&mut |provider, claim| {
                let own = settings.providers.iter().find(|own| own.id == *provider);
                let attribute = claim.first();
                if own.is_some_and(|own| own.claims.iter().all(|(name, _)| **name != *attribute)) {
                    let message = format!("provider `{provider}` maps no `{attribute}`");
                    self.broken(&UNMAPPED_CLAIM, &["cohorts", id.as_str()], message);
                }
            });
        }
    }
}
