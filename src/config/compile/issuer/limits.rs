//! How often clients of our token endpoint may ask.

use crate::config::compile::context::Context;
use crate::config::raw::RawTokenLimits;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::issuer::settings::Limits;

const MOST: u64 = 1_000_000;

pub(super) fn limits(context: &mut Context<'_>, raw: Option<&RawTokenLimits>) -> Limits {
    let mut read = |field: Option<&Field<At<Whole>>>, otherwise: u32| {
        let Some(at) = field.and_then(Field::get) else {
            return otherwise;
        };
        if !(1..=MOST).contains(&at.value.0) {
            context
                .report
                .error(at.mark, "out of range: from `1` to `1000000` in a minute");
        }
        u32::try_from(at.value.0).unwrap_or(u32::MAX)
    };
    Limits {
        address: read(raw.map(|raw| &raw.address), 3_000),
        client: read(raw.map(|raw| &raw.client), 600),
        introspection: read(raw.map(|raw| &raw.introspection), 6_000),
        subject: read(raw.map(|raw| &raw.subject), 300),
    }
}
