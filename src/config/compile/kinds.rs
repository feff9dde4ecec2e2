//! The kinds of providers, one by one.

use std::time::Duration;

use crate::config::compile::address::Peer;
use crate::config::compile::address::path_pattern;
use crate::config::compile::address::url;
use crate::config::compile::client;
use crate::config::compile::context::Context;
use crate::config::compile::headers;
use crate::config::compile::providers::Kind;
use crate::config::compile::tokens;
use crate::config::compile::tokens::own_issuer;
use crate::config::compile::tokens::span;
use crate::config::compile::tokens::texts;
use crate::config::raw::ProbeForm;
use crate::config::raw::ProbeLogoutMethod;
use crate::config::raw::RawApiKey;
use crate::config::raw::RawBasic;
use crate::config::raw::RawIntrospection;
use crate::config::raw::RawJwt;
use crate::config::raw::RawOidc;
use crate::config::raw::RawProvider;
use crate::config::raw::RawSessionProbe;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::identity::ClaimPath;
use crate::identity::Issuer;
use crate::providers::Owns;
use crate::providers::settings;
use crate::providers::settings::KindSettings;

const MIN_CACHE: Duration = Duration::from_secs(1);
const MAX_CACHE: Duration = Duration::from_secs(600);

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
        let kind = session_probe(context, name, raw);
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

/// How long a good answer is kept; in no time at all it would be over before it counts.
pub(super) fn cache(context: &mut Context<'_>, field: &Field<At<Span>>) -> Duration {
    span(context, field, MIN_CACHE, MAX_CACHE, "from `1s` to `10m`");
    field.or(Span(Duration::from_secs(30))).0
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
        Field::Given(client) => client::client(context, client, true).map(Some),
        Field::Absent => Some(None),
        Field::Broken => None,
    };
    let redirect_path = redirect_path(context, name, &raw.redirect_path);
    let scopes = scopes(context, raw);
    for (key, given) in [
        ("redirect_path", raw.redirect_path.mark()),
        ("scopes", raw.scopes.mark()),
        ("require_iss", raw.require_iss.mark()),
        ("par", raw.par.mark()),
    ] {
        if let Some(mark) = given
            && raw.client.is_absent()
        {
            context.report.error(
                mark,
                format!("`{key}` is for logins, and without `client` there are none"),
            );
        }
    }
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
        })),
    })
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
    for at in &list.items {
        // RFC 6749 §3.3: %x21 / %x23-5B / %x5D-7E.
        if !at
            .value
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
        {
            context
                .report
                .error(at.mark, format!("`{}` is not one scope", at.value))
                .value(&at.value)
                .hint("one scope per item");
        }
    }
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
    let client = client.and_then(|client| client::client(context, client, false));
    let cache = cache(context, &raw.cache);
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
        }),
    })
}

fn session_probe(context: &mut Context<'_>, name: &str, raw: &RawSessionProbe) -> Option<Kind> {
    let owns = raw.owns.required(raw.mark, "owns", &mut context.report);
    let cookies = owns.and_then(|owns| {
        owns.cookies
            .required(owns.mark, "cookies", &mut context.report)
    });
    for cookie in cookies.map_or(&[][..], |list| &list.items) {
        headers::cookie_name(context, cookie);
        if cookie.value.to_ascii_lowercase().contains("authferry") {
            context
                .report
                .error(
                    cookie.mark,
                    format!("the cookie `{}` is our own", cookie.value),
                )
                .value(&cookie.value);
        }
    }
    let probe = raw
        .introspect
        .required(raw.mark, "introspect", &mut context.report);
    let endpoint =
        probe.and_then(|probe| probe.url.required(probe.mark, "url", &mut context.report));
    let good_url = endpoint.and_then(|at| url(context, at, Peer::Provider));
    let kept = probe.map(|probe| {
        let (least, most) = (Duration::from_millis(50), Duration::from_secs(60));
        span(context, &probe.timeout, least, most, "from `50ms` to `60s`");
        cache(context, &probe.cache)
    });
    if let (Some(limits), Some(probe)) = (raw.limits.get(), probe)
        && let (Some(_), Some(at)) = (limits.timeout.get(), probe.timeout.get())
    {
        context
            .report
            .error(at.mark, "`limits.timeout` says the same: only one of them");
    }
    let login_path = login_path(context, raw);
    let logout = probe_logout(context, raw);
    good_url?;
    let (probe, endpoint) = (probe?, endpoint?);
    Some(Kind {
        owns: Owns {
            cookies: texts(Some(cookies?)),
            ..Owns::default()
        },
        mark: cookies?.mark,
        timeout: probe.timeout.get().map(|at| at.value.0),
        settings: KindSettings::SessionProbe(settings::SessionProbe {
            issuer: own_issuer(name, &raw.issuer),
            url: endpoint.value.clone(),
            answer: match probe.answer.or(ProbeForm::Json) {
                ProbeForm::Json => settings::ProbeAnswer::Json,
                ProbeForm::Headers => settings::ProbeAnswer::Headers,
            },
            cache: kept?,
            login_path,
            logout,
            bind: None,
        }),
    })
}

fn probe_logout(context: &mut Context<'_>, raw: &RawSessionProbe) -> Option<settings::ProbeLogout> {
    let logout = raw.logout.get()?;
    let (key, mark) = (&logout.url, logout.mark);
    let at = key.required(mark, "url", &mut context.report)?;
    url(context, at, Peer::Provider)?;
    Some(settings::ProbeLogout {
        url: at.value.clone(),
        method: match logout.method.or(ProbeLogoutMethod::Post) {
            ProbeLogoutMethod::Post => settings::LogoutMethod::Post,
            ProbeLogoutMethod::Get => settings::LogoutMethod::Get,
        },
    })
}

fn login_path(context: &mut Context<'_>, raw: &RawSessionProbe) -> Option<String> {
    let login = raw.login.get()?;
    let form = login
        .upstream_form
        .required(login.mark, "upstream_form", &mut context.report)?;
    if let (Some(cookie), Some(owns)) = (form.success_cookie.get(), raw.owns.get()) {
        let owned = owns.cookies.get().map_or(&[][..], |list| &list.items);
        if !owned.iter().any(|own| own.value == cookie.value) {
            context
                .report
                .error(
                    cookie.mark,
                    format!("`{}` is not among `owns.cookies`", cookie.value),
                )
                .value(&cookie.value);
        }
    }
    let start = form
        .start
        .required(form.mark, "start", &mut context.report)?;
    path_pattern(context, start).map(String::from)
}

fn basic(context: &mut Context<'_>, name: &str, raw: &RawBasic) -> Option<Kind> {
    let file = raw.file.required(raw.mark, "file", &mut context.report);
    let path = file.and_then(|at| context.readable(at, "the password file", |_| Ok(())));
    let cache = cache(context, &raw.cache);
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
