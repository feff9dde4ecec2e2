//! What the refresh tokens of a client are.

use std::time::Duration;

use crate::config::compile::context::Context;
use crate::config::compile::tokens::span;
use crate::config::raw::RawTokenClient;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::identity::ProviderId;
use crate::issuer::settings::Grant;
use crate::issuer::settings::Refresh;

const DAY: Duration = Duration::from_secs(86_400);
const GRACE: Duration = Duration::from_secs(10);

/// With the registrations that the client has: whose refresh tokens it brings, there it must be known.
pub(super) fn refresh(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &RawTokenClient,
    grants: &[Grant],
    known_at: &[ProviderId],
) -> Refresh {
    let mut found = Refresh {
        max: 30 * DAY,
        grace: GRACE,
        adopt: None,
    };
    let own = raw.refresh.get();
    let asks = grants.contains(&Grant::RefreshToken);
    if let Some(own) = own {
        if !asks {
            context
                .report
                .error(own.mark, "it has no part in `grants`")
                .hint("`grants: [refresh_token]`");
        }
        let minute = Duration::from_secs(60);
        span(context, &own.max, minute, 400 * DAY, "from `1m` to `400d`");
        span(
            context,
            &own.grace,
            Duration::ZERO,
            minute,
            "from `0s` to `1m`",
        );
        found.max = own.max.or(Span(found.max)).0;
        found.grace = own.grace.or(Span(found.grace)).0;
        if let Some(at) = own.adopt.get().filter(|at| context.knows_provider(at)) {
            let provider = ProviderId::new(&at.value);
            if !known_at.contains(&provider) {
                context
                    .report
                    .error(at.mark, format!("`at.{}` is missing", at.value))
                    .value(&at.value)
                    .hint("its refresh tokens are good with the client's registration there alone");
            }
            found.adopt = Some(provider);
        }
    }
    if asks && found.adopt.is_none() && !grants.contains(&Grant::DeviceCode) {
        context
            .report
            .error(name.mark, format!("nothing gives `{}` a refresh token", name.value))
            .hint("`refresh: { adopt: PROVIDER }`: it brings those that the provider gave it; or `device_code` beside it");
    }
    found
}
