//! What the application would be told: by the code that writes it.

use std::slice;

use crate::admin::HeaderView;
use crate::app::explain::assigned::GIVE_GROUPS;
use crate::app::explain::with_groups;
use crate::config::settings::Settings;
use crate::exchange::settings as exchanges;
use crate::exchange::settings::Way;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::HeaderScope;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::proxy::settings::App;
use crate::proxy::settings::HeaderRule;

/// The identity headers, and the signed assertion. `groupless`: their groups are not known, so a header that needs some says
/// what to give.
pub(super) fn headers(
    settings: &Settings,
    app: &App,
    (identity, name, accounts): (&Identity, &CanonicalSubject, Option<&ClaimMap>),
    groupless: bool,
) -> Vec<HeaderView> {
    let scope = |identity| HeaderScope {
        identity,
        canonical: Some(name),
        link: accounts,
        mark: None,
    };
    let budget = settings.server.limits.identity_bytes;
    let some = with_groups(identity, vec!["g"].into());
    let follow =
        |rules: &[HeaderRule], identity| IdentityHeaders::follow(rules, &scope(identity), budget);
    let one = |rule: &HeaderRule| {
        let rules = slice::from_ref(rule);
        let (value, error) = match follow(rules, identity) {
            Ok(headers) => {
                let mut values = headers.iter().map(|(_, value)| value.as_bytes());
                let value = values.next();
                (
                    value.map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
                    None,
                )
            }
            Err(error) if groupless && follow(rules, &some).is_ok() => {
                (None, Some(format!("{}: {GIVE_GROUPS}", error.why())))
            }
            Err(error) => (None, Some(error.why())),
        };
        HeaderView {
            name: rule.name.to_string(),
            value,
            made: None,
            error,
        }
    };
    let mut all: Vec<_> = app.identity_headers.iter().map(one).collect();
    let each_fits = all.iter().all(|header| header.error.is_none());
    if each_fits
        && follow(&app.identity_headers, identity).is_err()
        && let Some(last) = all.last_mut()
    {
        last.error = Some(format!(
            "all of them are more than {budget} bytes (`limits.identity_size`)"
        ));
    }
    all.extend(app.assertion.iter().map(|assertion| HeaderView {
        name: assertion.header.to_string(),
        value: None,
        made: Some(format!(
            "a JWT by our key for `{}`, good for {} s",
            assertion.audience,
            assertion.ttl.as_secs()
        )),
        error: None,
    }));
    all
}

/// The header that an exchange writes; none where the credential passes as it was presented.
pub(super) fn exchanged(
    exchange: &exchanges::Settings,
    vouches: &ProviderId,
) -> Option<HeaderView> {
    (!passes(exchange, vouches)).then(|| HeaderView {
        name: exchange.header.to_string(),
        value: None,
        made: Some(instead(exchange)),
        error: None,
    })
}

/// The same as a step.
pub(super) fn by_exchange(exchange: &exchanges::Settings, vouches: &ProviderId) -> String {
    let name = &exchange.name;
    if passes(exchange, vouches) {
        format!("exchange {name}: a token of {vouches} passes as it was presented")
    } else {
        format!(
            "exchange {name}: {} instead of the credential",
            instead(exchange)
        )
    }
}

fn passes(exchange: &exchanges::Settings, vouches: &ProviderId) -> bool {
    exchange.own_pass && exchange.yields.as_ref() == Some(vouches)
}

fn instead(exchange: &exchanges::Settings) -> String {
    match &exchange.way {
        Way::TokenExchange(remote) => format!("a token that {} exchanges it for", remote.provider),
        Way::Assertion(remote, _) => {
            format!("a token of {} for an assertion of ours", remote.provider)
        }
        Way::Mint(mint) => format!("a token of ours ({})", mint.issuer),
    }
}
