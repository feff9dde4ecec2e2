//! `upstream`: where an application lives, and how it is reached.

use std::time::Duration;

use crate::config::compile::address::Peer;
use crate::config::compile::address::path_pattern;
use crate::config::compile::address::url;
use crate::config::compile::context::Context;
use crate::config::compile::tokens::span;
use crate::config::raw::RawUpstream;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::proxy::settings::Origin;
use crate::proxy::settings::Upstream;

const SECOND: Duration = Duration::from_secs(1);

/// Where an application lives.
pub(super) fn upstream(context: &mut Context<'_>, raw: &RawUpstream) -> Option<Upstream> {
    let one = raw.url.get().into_iter();
    let many = raw.urls.get().map_or(&[][..], |list| &list.items);
    if let (Some(_), Some(list)) = (raw.url.get(), raw.urls.get()) {
        context
            .report
            .error(list.mark, "either `url` or `urls`, not both");
    }
    if raw.url.is_absent() && raw.urls.is_absent() {
        context.report.error(raw.mark, "`url` is missing");
    }
    let mut origins: Vec<Origin> = Vec::new();
    for at in one.chain(many) {
        let Some(origin) = origin(context, at) else {
            continue;
        };
        if origins.contains(&origin) {
            context
                .report
                .error(at.mark, "stands here twice")
                .value(&at.value);
        } else if origins.first().is_some_and(|first| first.tls != origin.tls) {
            context
                .report
                .error(at.mark, "some origins with TLS and some without")
                .value(&at.value);
        } else {
            origins.push(origin);
        }
    }
    let (hour, quick) = (Duration::from_secs(3_600), Duration::from_millis(10));
    span(
        context,
        &raw.connect_timeout,
        quick,
        60 * SECOND,
        "from `10ms` to `60s`",
    );
    span(
        context,
        &raw.response_timeout,
        quick,
        hour,
        "from `10ms` to `1h`",
    );
    span(context, &raw.idle, Duration::ZERO, hour, "at most `1h`");
    let ca = context.pem(&raw.ca, "the CA file", "CERTIFICATE");
    let client_certificate = raw.client_certificate.get().and_then(|pair| {
        let certificate = context.pem(&pair.certificate, "the certificate", "CERTIFICATE");
        let key = context.pem(&pair.key, "the private key", "PRIVATE KEY");
        for (key, field) in [("certificate", &pair.certificate), ("key", &pair.key)] {
            field.required(pair.mark, key, &mut context.report);
        }
        Some((certificate?, key?))
    });
    for (key, mark) in [
        ("ca", raw.ca.mark()),
        ("client_certificate", raw.client_certificate.mark()),
    ] {
        if let Some(mark) = mark
            && origins.first().is_some_and(|origin| !origin.tls)
        {
            context
                .report
                .error(mark, format!("`{key}` has no effect without TLS"))
                .hint("write `https://` in front of the origin");
        }
    }
    let health = raw.health.get();
    let health_path = health.and_then(|health| {
        span(
            context,
            &health.interval,
            SECOND / 10,
            hour,
            "from `100ms` to `1h`",
        );
        let at = health
            .path
            .required(health.mark, "path", &mut context.report)?;
        path_pattern(context, at).map(String::from)
    });
    if origins.is_empty() {
        return None;
    }
    Some(Upstream {
        origins,
        http2: raw.http2.or(false),
        connect_timeout: raw.connect_timeout.or(Span(3 * SECOND)).0,
        response_timeout: raw.response_timeout.or(Span(60 * SECOND)).0,
        idle: raw.idle.or(Span(4 * SECOND)).0,
        ca,
        client_certificate,
        health_path,
        health_interval: health.map_or(5 * SECOND, |health| health.interval.or(Span(5 * SECOND)).0),
        preserve_host: raw.preserve_host.or(true),
    })
}

fn origin(context: &mut Context<'_>, at: &At<String>) -> Option<Origin> {
    let uri = url(context, at, Peer::Other)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if !matches!(path, "" | "/") {
        context
            .report
            .error(
                at.mark,
                format!("`{}` has a path: requests keep their own", at.value),
            )
            .value(&at.value)
            .hint("write scheme, host and port alone");
        return None;
    }
    let tls = uri.scheme_str() == Some("https");
    Some(Origin {
        tls,
        host: uri.host()?.into(),
        port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
    })
}
