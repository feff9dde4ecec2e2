//! The kinds of providers, one by one.

use crate::config::compile::address::Peer;
use crate::config::compile::address::path_pattern;
use crate::config::compile::address::url;
use crate::config::compile::bounds::cache;
use crate::config::compile::bounds::stale;
use crate::config::compile::client;
use crate::config::compile::context::Context;
use crate::config::compile::headers;
use crate::config::compile::providers::Kind;
use crate::config::compile::providers::whole;
use crate::config::compile::roles;
use crate::config::compile::tokens;
use crate::config::compile::tokens::own_issuer;
use crate::config::compile::tokens::texts;
use crate::config::raw::ClientAuthMethod;
use crate::config::raw::RawApiKey;
use crate::config::raw::RawBasic;
use crate::config::raw::RawIntrospection;
use crate::config::raw::RawJwt;
use crate::config::raw::RawOidc;
use crate::config::raw::RawProvider;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::identity::ClaimPath;
use crate::identity::Issuer;
use crate::providers::Owns;
use crate::providers::settings;
use crate::providers::settings::KindSettings;

/// Whatever kind it is. `None` after something of it has been reported.
pub(super) fn compile(
    context: &mut Context<'_>,
    name: &str,
    raw: &RawProvider,
    mapping: &[(Box<str>, ClaimPath)],
) -> Option<Kind> {
    if let Some(raw) = raw.oidc.get() {
        return oidc(context, name, raw);
    }
    if let Some(raw) = raw.jwt.get() {
        return jwt(context, raw);
    }
    if let Some(raw) = raw.introspection.get() {
        return introspection(context, name, raw);
    }
    if let Some(raw) = raw.session_probe.get() {
        let kind = super::probe::session_probe(context, name, raw);
        return super::directory::with_passwords(context, (name, raw, mapping), kind);
    }
    if let Some(raw) = raw.ldap.get() {
        return super::directory::ldap(context, name, raw, mapping);
    }
    if let Some(raw) = raw.basic.get() {
        return basic(context, name, raw);
    }
    if let Some(raw) = raw.client_cert.get() {
        return super::clients::client_cert(context, name, raw);
    }
    raw.api_key
        .get()
        .and_then(|raw| api_key(context, name, raw))
}

fn oidc(context: &mut Context<'_>, name: &str, raw: &RawOidc) -> Option<Kind> {
    let issuer = raw.issuer.required(raw.mark, "issuer", &mut context.report);
    let good_issuer = issuer.and_then(|at| tokens::issuer_url(context, at));
    let issuers = issuer.map(|at| tokens::owned_issuers(context, &raw.owns, at));
    let verify = tokens::verify(context, raw.mark, &raw.verify, &raw.owns, false);
    let algs = raw.verify.get().map(|verify| &verify.algs);
    let keys = match &raw.jwks {
        Field::Broken => None,
        jwks => tokens::keys(context, jwks.get(), algs),
    };
    let client = match &raw.client {
        Field::Given(client) => client::own(context, client, true).map(Some),
        Field::Absent => Some(None),
        Field::Broken => None,
    };
    let redirect_path = redirect_path(context, name, &raw.redirect_path);
    let scopes = scopes(context, raw);
    without_client(context, raw);
    let (introspect, back_channel) = (introspect(context, raw), back_channel(context, name, raw));
    let refresh = raw.refresh.get();
    let revoke = raw.revoke.get().and_then(|raw| {
        raw.enabled
            .required(raw.mark, "enabled", &mut context.report)
    });
    let owns = Owns {
        issuers: issuers?,
        ..Owns::default()
    };
    Some(Kind {
        owns,
        mark: issuer?.mark,
        timeout: None,
        settings: KindSettings::Oidc(Box::new(settings::Oidc {
            issuer: good_issuer?,
            verify: verify?,
            keys: keys?,
            client: client?,
            redirect_path: redirect_path?,
            scopes,
            require_iss: raw.require_iss.or(false),
            directory: super::oidc_directory::of_oidc(context, &issuer?.value, raw)?,
            provisioning: None,
            par: client::par(&raw.par),
            introspect,
            refreshes: refresh.is_none_or(|raw| raw.enabled.or(true)),
            rotates: refresh.is_some_and(|raw| raw.rotate.or(false)),
            revokes: revoke.is_none_or(|at| at.value),
            back_channel: back_channel?,
        })),
    })
}

/// Reports what needs a registration of ours where there is none.
fn without_client(context: &mut Context<'_>, raw: &RawOidc) {
    if !raw.client.is_absent() {
        return;
    }
    for (key, given) in [
        ("redirect_path", raw.redirect_path.mark()),
        ("scopes", raw.scopes.mark()),
        ("require_iss", raw.require_iss.mark()),
        ("par", raw.par.mark()),
        ("refresh", raw.refresh.mark()),
        ("revoke", raw.revoke.mark()),
        ("backchannel_logout", raw.backchannel_logout.mark()),
    ] {
        if let Some(mark) = given {
            context.report.error(
                mark,
                format!("`{key}` is for logins, and without `client` there are none"),
            );
        }
    }
    if let Some(mark) = raw.introspect.mark() {
        context.report.error(
            mark,
            "whoever asks about tokens must prove who they are (RFC 7662 §2.1): there is no `client`",
        );
    }
}

/// Whether access tokens are asked about, and for how long an answer holds.
fn introspect(context: &mut Context<'_>, raw: &RawOidc) -> Option<settings::Introspect> {
    let wanted = raw.introspect.get()?;
    let enabled = wanted
        .enabled
        .required(wanted.mark, "enabled", &mut context.report)?;
    let (cache, stale) = (
        cache(context, &wanted.cache),
        stale(context, &wanted.stale_if_unavailable),
    );
    let public = raw
        .client
        .get()
        .and_then(|client| client.auth.get())
        .is_some_and(|auth| auth.value == ClientAuthMethod::None);
    if enabled.value && public {
        context.report.error(
            enabled.mark,
            "whoever asks about tokens must prove who they are (RFC 7662 §2.1)",
        );
    }
    enabled
        .value
        .then_some(settings::Introspect { cache, stale })
}

/// Where the provider says that somebody has signed out; `Some(None)`: nowhere.
fn back_channel(context: &mut Context<'_>, name: &str, raw: &RawOidc) -> Option<Option<String>> {
    let usual = format!("/.authferry/backchannel/{name}");
    let Some(raw) = raw.backchannel_logout.get() else {
        return Some(Some(usual));
    };
    let enabled = raw.enabled.or(true);
    let Some(at) = raw.path.get() else {
        return Some(enabled.then_some(usual));
    };
    let path = path_pattern(context, at)?;
    let named = ["/.authferry/bcl/", "/.authferry/backchannel/"]
        .iter()
        .any(|prefix| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty())
        });
    if !named || path.contains('*') {
        context
            .report
            .error(at.mark, format!("`{path}` is no address for this"))
            .value(&path)
            .hint("below `/.authferry/bcl/` or `/.authferry/backchannel/`, such as `/.authferry/bcl/NAME`");
        return None;
    }
    if !enabled {
        context
            .report
            .error(at.mark, "an address for what is switched off");
    }
    Some(enabled.then(|| path.into()))
}

fn redirect_path(
    context: &mut Context<'_>,
    name: &str,
    field: &Field<At<String>>,
) -> Option<String> {
    let Some(at) = field.get() else {
        return field.is_absent().then(|| format!("/.authferry/cb/{name}"));
    };
    if at.value.contains('*') {
        context
            .report
            .error(at.mark, format!("`{}` is not one path", at.value))
            .value(&at.value);
        return None;
    }
    let path = path_pattern(context, at)?;
    // The two that registrations at providers have; everything else below the prefix is an address of another purpose.
    let ours = ["/.authferry/cb/", "/.authferry/callback/"];
    if path.starts_with("/.authferry") && !ours.iter().any(|prefix| path.starts_with(prefix)) {
        context
            .report
            .error(at.mark, format!("`{path}` belongs to authferry itself"))
            .value(&path)
            .hint("below `/.authferry`, callbacks are `/.authferry/cb/NAME` or `/.authferry/callback/NAME`; a path elsewhere is good too");
        return None;
    }
    Some(path.into())
}

fn scopes(context: &mut Context<'_>, raw: &RawOidc) -> Vec<Box<str>> {
    let Some(list) = raw.scopes.get() else {
        return vec!["openid".into()];
    };
    roles::scopes(context, Some(list));
    if !list.items.iter().any(|at| at.value == "openid") {
        context
            .report
            .error(list.mark, "without the scope `openid` there is no ID token");
    }
    texts(Some(list))
}

fn jwt(context: &mut Context<'_>, raw: &RawJwt) -> Option<Kind> {
    let issuer = raw.issuer.required(raw.mark, "issuer", &mut context.report);
    let issuers = issuer.map(|at| tokens::owned_issuers(context, &raw.owns, at));
    let verify = tokens::verify(context, raw.mark, &raw.verify, &raw.owns, true);
    let algs = raw.verify.get().map(|verify| &verify.algs);
    let jwks = raw.jwks.required(raw.mark, "jwks", &mut context.report);
    let keys = jwks.and_then(|jwks| tokens::keys(context, Some(jwks), algs));
    let issuer = issuer?;
    Some(Kind {
        owns: Owns {
            issuers: issuers?,
            ..Owns::default()
        },
        mark: issuer.mark,
        timeout: None,
        settings: KindSettings::Jwt(settings::Jwt {
            issuer: Issuer::new(&issuer.value),
            verify: verify?,
            keys: keys?,
        }),
    })
}

fn introspection(context: &mut Context<'_>, name: &str, raw: &RawIntrospection) -> Option<Kind> {
    let endpoint = raw.url.required(raw.mark, "url", &mut context.report);
    let good_url = endpoint.and_then(|at| url(context, at, Peer::Provider));
    let client = raw.client.required(raw.mark, "client", &mut context.report);
    let client = client.and_then(|client| client::own(context, client, false));
    let cache = cache(context, &raw.cache);
    let stale = stale(context, &raw.stale_if_unavailable);
    let revoke = raw.revoke.get().and_then(|revoke| {
        let at = revoke
            .url
            .required(revoke.mark, "url", &mut context.report)?;
        url(context, at, Peer::Provider)?;
        Some(at.value.clone())
    });
    let prefixes = raw.owns.get().and_then(|owns| owns.opaque_prefixes.get());
    for prefix in prefixes.map_or(&[][..], |list| &list.items) {
        if !prefix.value.bytes().all(|b| b.is_ascii_graphic()) {
            context
                .report
                .error(prefix.mark, "a token has no such character")
                .value(&prefix.value);
        }
    }
    if raw.issuer.is_absent() {
        context
            .report
            .warning(
                raw.mark,
                format!("answers that name an issuer will be refused: without `issuer` it is `urn:authferry:{name}`"),
            )
            .hint("write the `iss` of the server's answers (RFC 7662 §2.2); changing it later makes other people of its people");
    }
    good_url?;
    let endpoint = endpoint?;
    Some(Kind {
        owns: Owns {
            opaque: Some(texts(prefixes)),
            ..Owns::default()
        },
        mark: endpoint.mark,
        timeout: None,
        settings: KindSettings::Introspection(settings::Introspection {
            url: endpoint.value.clone(),
            issuer: own_issuer(name, &raw.issuer),
            client: client?,
            audiences: texts(raw.audiences.get()),
            cache,
            stale,
            revoke,
        }),
    })
}

fn basic(context: &mut Context<'_>, name: &str, raw: &RawBasic) -> Option<Kind> {
    let file = raw.file.required(raw.mark, "file", &mut context.report);
    let path = file.and_then(|at| context.readable(at, "the password file", |_| Ok(())));
    let cache = cache(context, &raw.cache);
    let limits = raw.limits.get();
    for (key, given) in limits.into_iter().flat_map(|limits| {
        [
            ("timeout", limits.timeout.mark()),
            ("retries", limits.retries.mark()),
            ("rps", limits.rps.mark()),
        ]
    }) {
        if let Some(mark) = given {
            context
                .report
                .error(mark, format!("`{key}` is for calls, and a file gets none"));
        }
    }
    let at_once = limits.filter(|limits| !limits.max_inflight.is_absent());
    let at_once = at_once.map(|limits| whole(context, &limits.max_inflight, (1, 65_536), 64));
    if let Some(at) = raw.realm.get()
        && at.value.contains(['"', '\\'])
    {
        context
            .report
            .error(at.mark, "a realm without quotes and backslashes")
            .value(&at.value);
    }
    Some(Kind {
        owns: Owns {
            basic: true,
            ..Owns::default()
        },
        mark: raw.mark,
        timeout: None,
        settings: KindSettings::Basic(settings::Basic {
            issuer: own_issuer(name, &raw.issuer),
            file: path?,
            realm: raw.realm.or(name.to_owned()).into(),
            cache,
            at_once,
        }),
    })
}

fn api_key(context: &mut Context<'_>, name: &str, raw: &RawApiKey) -> Option<Kind> {
    let file = raw.file.required(raw.mark, "file", &mut context.report);
    let path = file.and_then(|at| context.readable(at, "the key file", |_| Ok(())));
    let header = match raw.header.get() {
        Some(at) => headers::credential_header(context, at)?,
        None => http::HeaderName::from_static("x-api-key"),
    };
    Some(Kind {
        owns: Owns {
            api_key_header: Some(header),
            ..Owns::default()
        },
        mark: raw.header.get().map_or(raw.mark, |at| at.mark),
        timeout: None,
        settings: KindSettings::ApiKey(settings::ApiKey {
            issuer: own_issuer(name, &raw.issuer),
            file: path?,
        }),
    })
}
