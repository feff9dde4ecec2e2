//! Where the people of an OpenID provider are looked up.

use std::time::Duration;

use crate::config::compile::address::Peer;
use crate::config::compile::address::url;
use crate::config::compile::client;
use crate::config::compile::context::Context;
use crate::config::compile::tokens::span;
use crate::config::raw::RawKeycloak;
use crate::config::raw::RawOidc;
use crate::config::raw::RawScim;
use crate::config::raw::RawUserInfo;
use crate::config::raw::ScimKeyWord;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::providers::PLACE;
use crate::providers::settings::KeycloakDirectory;
use crate::providers::settings::OidcDirectory;
use crate::providers::settings::ScimDirectory;
use crate::providers::settings::UserInfoDirectory;

/// The directory of an OpenID provider. The outer `None`: something of it has been reported.
#[expect(
    clippy::option_option,
    reason = "nothing asked for, or nothing understood"
)]
pub(super) fn of_oidc(
    context: &mut Context<'_>,
    issuer: &str,
    raw: &RawOidc,
) -> Option<Option<OidcDirectory>> {
    let raw = match &raw.directory {
        Field::Given(raw) => raw,
        Field::Absent => return Some(None),
        Field::Broken => return None,
    };
    let found = match (&raw.keycloak, &raw.scim, &raw.userinfo) {
        (Field::Given(raw), _, _) => OidcDirectory::Keycloak(keycloak(context, issuer, raw)?),
        (_, Field::Given(raw), _) => OidcDirectory::Scim(scim(context, raw)?),
        (_, _, Field::Given(raw)) => OidcDirectory::UserInfo(userinfo(context, raw)?),
        (Field::Absent | Field::Broken, _, _) => return None,
    };
    Some(Some(found))
}

fn keycloak(
    context: &mut Context<'_>,
    issuer: &str,
    raw: &RawKeycloak,
) -> Option<KeycloakDirectory> {
    let client = raw.client.required(raw.mark, "client", &mut context.report);
    let client = client.and_then(|client| client::client(context, client, false));
    let key = raw.key.required(raw.mark, "key", &mut context.report);
    let address = match raw.url.get() {
        Some(at) => {
            let good = url(context, at, Peer::Provider);
            good.map(|_| at.value.trim_end_matches('/').to_owned())
        }
        None => issuer
            .rsplit_once("/realms/")
            .map(|(server, realm)| format!("{server}/admin/realms/{realm}"))
            .or_else(|| {
                context
                    .report
                    .error(
                        raw.mark,
                        "the issuer does not say where Keycloak's admin API is: `url` is missing",
                    )
                    .hint("such as `https://id.corp.example/admin/realms/NAME`");
                None
            }),
    };
    Some(KeycloakDirectory {
        url: address?,
        client: client?,
        key: key?.value.as_str().into(),
        full_path: raw.full_path.or(false),
    })
}

fn scim(context: &mut Context<'_>, raw: &RawScim) -> Option<ScimDirectory> {
    let at = raw.url.required(raw.mark, "url", &mut context.report);
    let good_url = at.and_then(|at| url(context, at, Peer::Provider));
    if raw.token.is_absent() {
        context.report.error(raw.mark, "`token` is missing");
    }
    let token = context.secret_text(&raw.token, "the token for SCIM");
    let (least, most) = (Duration::from_millis(50), Duration::from_secs(60));
    span(context, &raw.timeout, least, most, "from `50ms` to `60s`");
    good_url?;
    Some(ScimDirectory {
        url: at?.value.trim_end_matches('/').to_owned(),
        token: token?,
        key: match raw.key.or(ScimKeyWord::ExternalId) {
            ScimKeyWord::ExternalId => "externalId".into(),
            ScimKeyWord::UserName => "userName".into(),
        },
        timeout: raw.timeout.get().map(|at| at.value.0),
    })
}

fn userinfo(context: &mut Context<'_>, raw: &RawUserInfo) -> Option<UserInfoDirectory> {
    let at = raw.url.required(raw.mark, "url", &mut context.report);
    let good_url = at.and_then(|at| {
        if at.value.matches(PLACE).count() != 1 {
            context
                .report
                .error(at.mark, "the address names nobody: `{value}` once")
                .value(&at.value)
                .hint("such as `https://id.corp.example/people/{value}`");
            return None;
        }
        let named = At {
            value: at.value.replace(PLACE, "x"),
            mark: at.mark,
        };
        url(context, &named, Peer::Provider).map(|_| ())
    });
    if raw.token.is_absent() {
        context.report.error(raw.mark, "`token` is missing");
    }
    let token = context.secret_text(&raw.token, "the token for the directory");
    good_url?;
    Some(UserInfoDirectory {
        url: at?.value.clone(),
        token: token?,
        key: raw.key.or("sub".into()).into(),
        enabled: raw.enabled.get().map(|at| at.value.as_str().into()),
    })
}
