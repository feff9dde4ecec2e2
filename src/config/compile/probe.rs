//! An old single sign-on or application that judges its own session cookie.

use std::time::Duration;

use crate::config::compile::address::Peer;
use crate::config::compile::address::path_pattern;
use crate::config::compile::address::url;
use crate::config::compile::bounds::cache;
use crate::config::compile::bounds::stale;
use crate::config::compile::claims::OPENID;
use crate::config::compile::context::Context;
use crate::config::compile::headers;
use crate::config::compile::providers::Kind;
use crate::config::compile::tokens::own_issuer;
use crate::config::compile::tokens::span;
use crate::config::compile::tokens::texts;
use crate::config::raw::ProbeForm;
use crate::config::raw::ProbeLogoutMethod;
use crate::config::raw::RawSessionProbe;
use crate::config::raw::RawUpstreamForm;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::providers::Owns;
use crate::providers::settings;
use crate::providers::settings::KindSettings;

pub(super) fn session_probe(
    context: &mut Context<'_>,
    name: &str,
    raw: &RawSessionProbe,
) -> Option<Kind> {
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
        (
            cache(context, &probe.cache),
            stale(context, &probe.stale_if_unavailable),
        )
    });
    if let (Some(limits), Some(probe)) = (raw.limits.get(), probe)
        && let (Some(_), Some(at)) = (limits.timeout.get(), probe.timeout.get())
    {
        context
            .report
            .error(at.mark, "`limits.timeout` says the same: only one of them");
    }
    let login_path = login_path(context, raw);
    let fields = fields(context, raw, login_path.as_deref());
    let logout = probe_logout(context, raw);
    good_url?;
    let (probe, endpoint, (cache, stale)) = (probe?, endpoint?, kept?);
    Some(Kind {
        owns: Owns {
            cookies: judged_first(texts(Some(cookies?)), raw),
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
            cache,
            stale,
            login_path,
            fields: fields.map(Box::new),
            logout,
            bind: None,
        }),
    })
}

fn probe_logout(context: &mut Context<'_>, raw: &RawSessionProbe) -> Option<settings::ProbeLogout> {
    if let (Some(_), Some(twice)) = (raw.logout.get(), raw.revoke.get()) {
        context
            .report
            .error(twice.mark, "`logout` says the same: only one of them");
    }
    let logout = raw.revoke.get().or_else(|| raw.logout.get())?;
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

/// The cookie that a login sets is the one that is judged where a browser has several.
fn judged_first(mut cookies: Vec<Box<str>>, raw: &RawSessionProbe) -> Vec<Box<str>> {
    if let Some(first) = form(raw).and_then(|form| form.success_cookie.get()) {
        cookies.sort_by_key(|cookie| **cookie != *first.value);
    }
    cookies
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

/// Where a password stands in the form, so that it can move.
fn fields(
    context: &mut Context<'_>,
    raw: &RawSessionProbe,
    start: Option<&str>,
) -> Option<settings::FormFields> {
    let fields = form(raw)?.fields.get()?;
    let named = |given: &Field<At<String>>, default: &str| {
        let given = given.get().map(|at| at.value.as_str());
        Box::from(given.unwrap_or(default))
    };
    let username: Box<str> = named(&fields.username, "username");
    let password: Box<str> = named(&fields.password, "password");
    if username.is_empty() || password.is_empty() || username == password {
        context.report.error(
            fields.mark,
            "a name and a password stand in two fields, and both have a name",
        );
    }
    let action = match fields.action.get() {
        None => start.map(Box::from),
        Some(at) if at.value.ends_with('*') => {
            context
                .report
                .error(at.mark, "a form is sent to one path")
                .value(&at.value);
            None
        }
        Some(at) => path_pattern(context, at),
    };
    // One that was forgotten would let what nobody has judged move.
    let remembered = fields
        .remembered
        .required(fields.mark, "remembered", &mut context.report);
    for cookie in remembered.map_or(&[][..], |list| &list.items) {
        headers::cookie_name(context, cookie);
    }
    Some(settings::FormFields {
        action: path_of(&action?).into(),
        username,
        password,
        claim: claim(context, raw, &fields.claim),
        remembered: texts(remembered),
    })
}

/// The attribute that holds the name that people type; `None`: it is their subject.
fn claim(
    context: &mut Context<'_>,
    raw: &RawSessionProbe,
    given: &Field<At<String>>,
) -> Option<Box<str>> {
    let at = given.get().filter(|at| at.value != "subject")?;
    let claims = raw.claims.get();
    let mapped = claims.is_some_and(|claims| claims.names().any(|name| name == at.value));
    if !mapped && !OPENID.iter().any(|(name, _)| *name == at.value) {
        context
            .report
            .error(at.mark, format!("`{}` is not among `claims`", at.value))
            .value(&at.value);
    }
    Some(at.value.as_str().into())
}

/// Without a query.
fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// The form of the application itself.
pub(super) fn form(raw: &RawSessionProbe) -> Option<&RawUpstreamForm> {
    raw.login.get()?.upstream_form.get()
}
