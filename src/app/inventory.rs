//! Which links an inventory of accounts would get by a configuration: asked before anybody moves.

use std::collections::HashMap;
use std::io::Read;

use crate::app::stated;
use crate::config::settings::Settings;
use crate::links;
pub(crate) use crate::links::Preflight;

/// Reads the inventory, and names everybody in it as a login would.
///
/// # Errors
///
/// When nobody is linked at all, or the inventory cannot be read.
pub(crate) fn check(settings: &Settings, inventory: impl Read) -> Result<Preflight, String> {
    let canonical = settings.canonical.as_ref();
    let canonical = canonical.ok_or("without `identity.canonical` nobody is linked")?;
    let providers: HashMap<_, _> = settings
        .providers
        .iter()
        .map(|provider| {
            let issuer = stated::issuer(provider).clone();
            (provider.id.as_str(), (provider.id.clone(), issuer))
        })
        .collect();
    let accounts = links::inventory(inventory, &providers)?;
    Ok(links::preflight(canonical, &accounts))
}
