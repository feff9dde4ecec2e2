//! `server.listen`, `server.listeners`, `server.limits`: where requests come in, and within which bounds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::compile::address::trusted;
use crate::config::compile::clients::certificate_headers;
use crate::config::compile::clients::client_certificates;
use crate::config::compile::context::Context;
use crate::config::compile::providers::whole;
use crate::config::compile::server::overriding;
use crate::config::compile::tokens::span;
use crate::config::raw::RawConfig;
use crate::config::raw::RawFile;
use crate::config::raw::RawLimits;
use crate::config::raw::RawServer;
use crate::config::raw::RawTls;
use crate::config::raw::TlsVersionWord;
use crate::config::scalar::Size;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::source::LISTEN_VARIABLE;
use crate::config::tree::Mark;
use crate::proxy::canonical::EncodedSlash;
use crate::proxy::country::Countries;
use crate::proxy::settings::Drain;
use crate::proxy::settings::Limits;
use crate::proxy::settings::Listener;
use crate::proxy::settings::Server;
use crate::proxy::settings::Tls;

const SECOND: Duration = Duration::from_secs(1);

const HOUR: Duration = Duration::from_secs(3_600);

/// Listeners and limits. `logins` says whether any provider has browser logins that end in a session of ours, `passwords`
/// whether any judges the passwords of requests.
pub(super) fn server(
    context: &mut Context<'_>,
    raw: &RawConfig,
    logins: bool,
    passwords: bool,
) -> Server {
    let absent = Field::Absent;
    let server = raw.server.get();
    let listeners = listeners(context, server);
    for (listener, mark) in &listeners {
        if logins && listener.tls.is_none() && !listener.address.ip().is_loopback() {
            context
                .report
                .error(
                    *mark,
                    format!(
                        "`{}` has logins in cleartext: sessions could be read and stolen",
                        listener.address
                    ),
                )
                .value(listener.address)
                .hint("give the listener `tls`; cleartext with logins is for loopback only");
        } else if passwords && listener.tls.is_none() && !listener.address.ip().is_loopback() {
            context
                .report
                .warning(
                    *mark,
                    format!("passwords come to `{}` in cleartext", listener.address),
                )
                .value(listener.address)
                .hint("give the listener `tls`, unless nothing but a proxy that has it can reach this address");
        }
    }
    let listeners: Vec<Listener> = listeners
        .into_iter()
        .map(|(listener, _)| listener)
        .collect();
    let limits = limits(context, server.map_or(&absent, |server| &server.limits));
    let cores = context.source.environment.cores().clamp(1, 1_024);
    let drain = server.and_then(|server| server.drain.get());
    if let Some(drain) = drain {
        span(
            context,
            &drain.announce,
            Duration::ZERO,
            HOUR,
            "at most `1h`",
        );
        span(
            context,
            &drain.timeout,
            Duration::ZERO,
            HOUR,
            "at most `1h`",
        );
    }
    Server {
        listeners,
        workers: server.map_or(cores, |server| {
            whole(context, &server.workers, (1, 1_024), cores)
        }),
        trusted_proxies: server.map_or_else(Vec::new, |server| {
            trusted(context, &server.trusted_proxies, "`trusted_proxies`")
        }),
        countries: server.and_then(|server| countries(context, &server.country_database)),
        certificate_headers: server
            .and_then(|server| certificate_headers(context, &server.certificate_headers)),
        limits,
        drain: Drain {
            announce: drain.map_or(5 * SECOND, |drain| drain.announce.or(Span(5 * SECOND)).0),
            timeout: drain.map_or(30 * SECOND, |drain| drain.timeout.or(Span(30 * SECOND)).0),
        },
    }
}

fn listeners(context: &mut Context<'_>, raw: Option<&RawServer>) -> Vec<(Listener, Mark)> {
    let overriding = overriding(context, LISTEN_VARIABLE);
    let default = SocketAddr::from(([127, 0, 0, 1], 8080));
    let Some(raw) = raw else {
        let listener = Listener {
            address: overriding.unwrap_or(default),
            tls: None,
            proxy_protocol_from: Vec::new(),
        };
        return vec![(listener, Mark::default())];
    };
    let Some(list) = raw.listeners.get() else {
        let mark = raw.listen.get().map_or(raw.mark, |at| at.mark);
        let listener = Listener {
            address: overriding
                .or(raw.listen.get().map(|at| at.value.0))
                .unwrap_or(default),
            tls: tls(context, &raw.tls),
            proxy_protocol_from: proxy_protocol(context, &raw.proxy_protocol),
        };
        return vec![(listener, mark)];
    };
    for (key, given) in [
        ("listen", !raw.listen.is_absent()),
        ("tls", !raw.tls.is_absent()),
        ("proxy_protocol", !raw.proxy_protocol.is_absent()),
    ] {
        if given {
            context
                .report
                .error(
                    list.mark,
                    format!("either `{key}` or `listeners`, not both"),
                )
                .hint(format!(
                    "with several addresses, each item of `listeners` has its own `{key}`"
                ));
        }
    }
    if overriding.is_some() {
        context
            .report
            .error(
                Mark::default(),
                format!("{LISTEN_VARIABLE} is set, and the file has several `listeners`"),
            )
            .path(LISTEN_VARIABLE);
    }
    let mut listeners: Vec<(Listener, Mark)> = Vec::new();
    for raw in &list.items {
        let address = raw.listen.required(raw.mark, "listen", &mut context.report);
        let tls = tls(context, &raw.tls);
        let proxy_protocol_from = proxy_protocol(context, &raw.proxy_protocol);
        let Some(at) = address else { continue };
        let address = at.value.0;
        if address.port() != 0 && listeners.iter().any(|(other, _)| other.address == address) {
            context
                .report
                .error(at.mark, "stands here twice")
                .value(address);
        }
        let listener = Listener {
            address,
            tls,
            proxy_protocol_from,
        };
        listeners.push((listener, at.mark));
    }
    listeners
}

fn proxy_protocol(
    context: &mut Context<'_>,
    raw: &Field<crate::config::raw::RawProxyProtocol>,
) -> Vec<ipnet::IpNet> {
    let Some(raw) = raw.get() else {
        return Vec::new();
    };
    raw.from.required(raw.mark, "from", &mut context.report);
    trusted(context, &raw.from, "`proxy_protocol`")
}

pub(super) fn tls(context: &mut Context<'_>, raw: &Field<RawTls>) -> Option<Tls> {
    let raw = match raw {
        Field::Given(raw) => raw,
        Field::Absent => return None,
        // Whatever was meant, it was not cleartext.
        Field::Broken => {
            return Some(Tls {
                certificates: Vec::new(),
                clients: Vec::new(),
                newest_only: false,
            });
        }
    };
    let mut certificates = Vec::new();
    let mut pair = |context: &mut Context<'_>, mark, certificate: &Field<_>, key: &Field<_>| {
        for (name, field) in [("certificate", certificate), ("key", key)] {
            field.required(mark, name, &mut context.report);
        }
        let certificate = context.pem(certificate, "the certificate", "CERTIFICATE");
        let key = context.pem(key, "the private key", "PRIVATE KEY");
        if let (Some(certificate), Some(key)) = (certificate, key) {
            certificates.push((certificate, key));
        }
    };
    match raw.certificates.get() {
        Some(list) => {
            for raw in &list.items {
                pair(context, raw.mark, &raw.certificate, &raw.key);
            }
            if !raw.certificate.is_absent() || !raw.key.is_absent() {
                context.report.error(
                    list.mark,
                    "either `certificates`, or `certificate` and `key`, not both",
                );
            }
        }
        None if raw.certificates.is_absent() => pair(context, raw.mark, &raw.certificate, &raw.key),
        None => {}
    }
    Some(Tls {
        certificates,
        clients: client_certificates(context, raw),
        newest_only: raw.min_version.or(TlsVersionWord::Tls12) == TlsVersionWord::Tls13,
    })
}

/// The database of countries.
fn countries(context: &mut Context<'_>, raw: &Field<RawFile>) -> Option<PathBuf> {
    let raw = raw.get()?;
    let path = raw.file.required(raw.mark, "file", &mut context.report)?;
    context.readable(path, "the database of countries", |content| {
        Countries::read(content.to_vec()).map(drop)
    })
}

/// What stands for a size that cannot be read; the configuration is refused then.
const UNSAID: u64 = u64::MAX;

fn limits(context: &mut Context<'_>, raw: &Field<RawLimits>) -> Limits {
    let mut limits = Limits {
        handshake: 10 * SECOND,
        head: 10 * SECOND,
        head_bytes: 32 << 10,
        head_fields: 100,
        target_bytes: 8 << 10,
        // Routes say it, and they are compiled elsewhere.
        encoded_slash: EncodedSlash::Refused,
        idle_h1: 60 * SECOND,
        idle_h2: 300 * SECOND,
        body_grace: 10 * SECOND,
        body_rate: 1 << 10,
        h2_streams: 100,
        connections: 50_000,
        memory: None,
        identity_bytes: 16 << 10,
        cache_entries: 16_384,
        cache_ttl: 60 * SECOND,
    };
    let Some(raw) = raw.get() else {
        return limits;
    };
    for (field, limit) in [
        (&raw.handshake, &mut limits.handshake),
        (&raw.head, &mut limits.head),
        (&raw.idle_h1, &mut limits.idle_h1),
        (&raw.idle_h2, &mut limits.idle_h2),
        (&raw.body_grace, &mut limits.body_grace),
    ] {
        span(context, field, SECOND / 10, HOUR, "from `100ms` to `1h`");
        *limit = field.or(Span(*limit)).0;
    }
    span(
        context,
        &raw.cache_ttl,
        Duration::ZERO,
        HOUR / 6,
        "at most `10m`",
    );
    limits.cache_ttl = raw.cache_ttl.or(Span(limits.cache_ttl)).0;
    limits.head_bytes = size(
        context,
        &raw.head_size,
        (1 << 10, 1 << 20),
        limits.head_bytes,
    );
    limits.target_bytes = size(
        context,
        &raw.target_size,
        (256, 64 << 10),
        limits.target_bytes,
    );
    limits.identity_bytes = size(
        context,
        &raw.identity_size,
        (256, 256 << 10),
        limits.identity_bytes,
    );
    limits.body_rate = size(context, &raw.body_rate, (0, 1 << 30), limits.body_rate);
    limits.head_fields = whole(context, &raw.head_fields, (16, 1_000), limits.head_fields);
    limits.h2_streams = whole(context, &raw.h2_streams, (1, 10_000), limits.h2_streams);
    limits.connections = whole(
        context,
        &raw.connections,
        (1, 10_000_000),
        limits.connections,
    );
    if !raw.memory.is_absent() {
        limits.memory = Some(size(context, &raw.memory, (16 << 20, 1 << 50), UNSAID));
    }
    limits.cache_entries = whole(
        context,
        &raw.cache_entries,
        (1, 10_000_000),
        limits.cache_entries,
    );
    limits
}

fn size<T: TryFrom<u64>>(
    context: &mut Context<'_>,
    field: &Field<At<Size>>,
    (least, most): (u64, u64),
    default: T,
) -> T {
    let Some(at) = field.get() else {
        return default;
    };
    context.range(
        at.mark,
        &at.value.0,
        (least, most),
        &format!("from `{}` to `{}`", written(least), written(most)),
    );
    T::try_from(at.value.0).unwrap_or(default)
}

/// A size as it is written, in the largest unit that has it whole.
fn written(size: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let whole = |(_, unit): &(&str, u64)| *unit <= size && size.is_multiple_of(*unit);
    match units.into_iter().find(whole) {
        Some((name, unit)) => format!("{}{name}", size / unit),
        None => format!("{size}B"),
    }
}
