//! `apps.NAME.minted_tokens`: which of the tokens that we mint for clients are credentials at an application.

use crate::config::compile::context::Context;
use crate::config::compile::instead::named;
use crate::config::compile::providers::Provider;
use crate::config::raw::RawConfig;
use crate::exchange::settings::Format;
use crate::exchange::settings::Mint;
use crate::exchange::settings::Settings as Exchange;
use crate::exchange::settings::Way;
use crate::issuer::settings::Settings as Issuer;
use crate::proxy::settings::App;

/// The kind of token that is told from all others that we sign.
const ACCESS: &str = "at+jwt";

/// Tells applications and the token endpoint which they are.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
    (apps, mut issuer): (&mut [App], Option<&mut Issuer>),
    (exchanges, providers): (&[Exchange], &[Provider]),
) {
    let given: Option<Vec<Box<str>>> = issuer.as_deref().map(|issuer| {
        let all = issuer.audiences.iter();
        all.flat_map(|one| one.exchanges.iter().cloned()).collect()
    });
    // Where the endpoint itself is not understood, that is said already.
    let said = !raw.token_endpoint.is_absent();
    let is_given = |name: &str| {
        let of = |given: &Vec<Box<str>>| given.iter().any(|own| **own == *name);
        given.as_ref().map_or(said, of)
    };
    let all = raw.apps.get().into_iter();
    for (name, raw) in all.flat_map(|named| named.readable()) {
        let mut own: Vec<Box<str>> = Vec::new();
        for at in raw.minted_tokens.get().map_or(&[][..], |list| &list.items) {
            let Some(exchange) = named(context, at, exchanges) else {
                continue;
            };
            if own.contains(&exchange.name) {
                context.report.error(at.mark, "stands here twice");
                continue;
            }
            if let Some((why, hint)) = unfit(exchange, is_given(&exchange.name), providers) {
                context
                    .report
                    .error(
                        at.mark,
                        format!("tokens of `{}` are no credentials here: {why}", at.value),
                    )
                    .value(&at.value)
                    .hint(hint);
                continue;
            }
            own.push(exchange.name.clone());
        }
        if let Some(issuer) = issuer.as_deref_mut() {
            let more = own.iter().filter(|name| !issuer.presented.contains(name));
            let more: Vec<_> = more.cloned().collect();
            issuer.presented.extend(more);
        }
        let is = |app: &&mut App| app.id.as_str() == name.value;
        if let Some(app) = apps.iter_mut().find(is) {
            app.minted_tokens = own;
        }
    }
}

/// Why nobody could tell such a token from another one, or nobody has one; and what would help.
fn unfit(
    exchange: &Exchange,
    is_given: bool,
    providers: &[Provider],
) -> Option<(&'static str, &'static str)> {
    let Way::Mint(mint) = &exchange.way else {
        return Some((
            "a provider gives them, and owns them",
            "name an exchange that mints",
        ));
    };
    match &mint.format {
        Format::Jwt(typ, None) if **typ == *ACCESS => {}
        Format::Jwt(_, None) => {
            return Some((
                "their `typ` is not `at+jwt`",
                "what we sign for others must not pass for an access token (RFC 9068 §2.1)",
            ));
        }
        Format::Jwt(_, Some(_)) | Format::SharedJwt(..) | Format::SignedText(..) => {
            return Some((
                "the keys of `secrets.signing` do not sign them",
                "leave `key` and `shared_secret` out",
            ));
        }
    }
    if providers.iter().any(|provider| owns(provider, mint)) {
        return Some((
            "a provider has their issuer",
            "mint them under a name of ourselves",
        ));
    }
    (!is_given).then_some((
        "no client gets one",
        "name the exchange at an audience of `token_endpoint`",
    ))
}

fn owns(provider: &Provider, mint: &Mint) -> bool {
    let settings = provider.settings.iter();
    let mut issuers = settings.flat_map(|settings| &settings.owns.issuers);
    issuers.any(|own| own.as_str() == &*mint.issuer)
}
