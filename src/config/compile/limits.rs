//! What one address, client or person may do in a minute.

use crate::auth::settings::RateLimits;
use crate::config::compile::context::Context;
use crate::config::raw::RawRateLimits;
use crate::config::raw::RawTokenLimits;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::issuer::settings::Limits;

const MOST: u64 = 1_000_000;

/// `token_endpoint.limits`.
pub(super) fn token_limits(context: &mut Context<'_>, raw: Option<&RawTokenLimits>) -> Limits {
    let mut read = |field: Option<&Field<At<Whole>>>, otherwise| count(context, field, otherwise);
    Limits {
        address: read(raw.map(|raw| &raw.address), 3_000),
        client: read(raw.map(|raw| &raw.client), 600),
        introspection: read(raw.map(|raw| &raw.introspection), 6_000),
        subject: read(raw.map(|raw| &raw.subject), 300),
    }
}

/// `apps.APP.rate_limits`.
pub(super) fn rate_limits(context: &mut Context<'_>, raw: Option<&RawRateLimits>) -> RateLimits {
    let usual = RateLimits::default();
    let mut read = |field: Option<&Field<At<Whole>>>, otherwise| count(context, field, otherwise);
    RateLimits {
        logins: read(raw.map(|raw| &raw.logins), usual.logins),
        unknown_keys: read(raw.map(|raw| &raw.unknown_keys), usual.unknown_keys),
    }
}

fn count(context: &mut Context<'_>, field: Option<&Field<At<Whole>>>, otherwise: u32) -> u32 {
    let Some(at) = field.and_then(Field::get) else {
        return otherwise;
    };
    if !(1..=MOST).contains(&at.value.0) {
        context
            .report
            .error(at.mark, "out of range: from `1` to `1000000` in a minute");
    }
    u32::try_from(at.value.0).unwrap_or(u32::MAX)
}
