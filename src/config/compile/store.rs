//! `sessions.store` and `sessions.redis`: where rows are kept, and what a shared store asks for.

use crate::config::compile::address::is_loopback_host;
use crate::config::compile::context::Context;
use crate::config::raw::RawConfig;
use crate::config::raw::RawRedis;
use crate::config::raw::RawSessions;
use crate::config::raw::StoreWord;
use crate::config::shape::At;
use crate::session::settings::StoreKind;
use crate::store::settings::RedisSettings;

/// Where rows are kept.
pub(super) fn store(context: &mut Context<'_>, raw: Option<&RawSessions>) -> StoreKind {
    let word = raw.map_or(StoreWord::Embedded, |raw| raw.store.or(StoreWord::Embedded));
    let redis = raw.and_then(|raw| raw.redis.get());
    match (word, redis) {
        (StoreWord::Redis, Some(redis)) => {
            server(context, redis).map_or(StoreKind::Memory, StoreKind::Redis)
        }
        (StoreWord::Redis, None) => {
            if let Some(raw) = raw
                && raw.redis.is_absent()
            {
                context
                    .report
                    .error(raw.mark, "`redis` is missing: where the server is")
                    .hint("`redis: { url: \"rediss://redis.corp.example:6379\" }`");
            }
            StoreKind::Memory
        }
        (StoreWord::Memory | StoreWord::Embedded, Some(redis)) => {
            context
                .report
                .error(redis.mark, "`redis` has no effect without `store: redis`");
            StoreKind::Memory
        }
        (StoreWord::Memory, None) => StoreKind::Memory,
        (StoreWord::Embedded, None) => StoreKind::Embedded,
    }
}

fn server(context: &mut Context<'_>, raw: &RawRedis) -> Option<RedisSettings> {
    let url = raw.url.required(raw.mark, "url", &mut context.report);
    let place = url.and_then(|at| place(context, at));
    let password = context.secret_text(&raw.password, "the password of the store");
    let username = raw.username.get();
    if let Some(username) = username
        && raw.password.is_absent()
    {
        context
            .report
            .error(username.mark, "a `username` without a `password`");
    }
    let ca = raw.ca.get().and_then(|file| {
        let path = file.file.required(file.mark, "file", &mut context.report)?;
        context.pem(&raw.ca, "the CA certificate", "CERTIFICATE")?;
        context.content(path, "the CA certificate")
    });
    let prefix = raw.prefix.get().map_or("authferry:", |at| &*at.value);
    if let Some(at) = raw.prefix.get() {
        let fits = (1..=64).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_graphic());
        if !fits {
            context
                .report
                .error(at.mark, "a prefix is 1 to 64 visible ASCII characters")
                .value(prefix);
        }
    }
    let place = place?;
    if let (false, Some(file)) = (place.tls, raw.ca.get()) {
        context
            .report
            .error(file.mark, "`ca` has no effect on `redis://`")
            .hint("`rediss://` is TLS");
    }
    Some(RedisSettings {
        host: place.host,
        port: place.port,
        tls: place.tls.then_some(ca),
        database: place.database,
        username: username.map(|at| at.value.clone()),
        password,
        prefix: prefix.to_owned(),
    })
}

struct Place {
    tls: bool,
    host: String,
    port: u16,
    database: u16,
}

fn place(context: &mut Context<'_>, at: &At<String>) -> Option<Place> {
    let text = at.value.as_str();
    let report = &mut context.report;
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    if rest.contains('@') {
        report.blot(at.mark);
        report
            .error(at.mark, "a URL with a user name or password in it")
            .hint("write `username` and `password: { file: … }`");
        return None;
    }
    let Some(place) = parse(text) else {
        report
            .error(
                at.mark,
                format!("`{text}` is not the URL of a Redis server"),
            )
            .value(text)
            .hint("`rediss://HOST:PORT`, with `/N` for the database N");
        return None;
    };
    if !place.tls && !is_loopback_host(&place.host) {
        report
            .error(at.mark, format!("`{text}` is cleartext over a network"))
            .value(text)
            .hint("use `rediss://`; cleartext is for loopback only");
        return None;
    }
    Some(place)
}

fn parse(text: &str) -> Option<Place> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let authority: http::uri::Authority = authority.parse().ok()?;
    let port = match authority.port() {
        None if authority.as_str() == authority.host() => 6379,
        None => return None,
        Some(port) => port.as_str().parse().ok().filter(|port| 0 < *port)?,
    };
    let database = match database {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    let bare = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    (!bare.is_empty()).then(|| Place {
        tls,
        host: bare.to_owned(),
        port,
        database,
    })
}

/// Keys that are made are of one instance: those who share a store must be given theirs.
pub(super) fn shared_keys(context: &mut Context<'_>, raw: &RawConfig, store: &StoreKind) {
    match store {
        StoreKind::Memory | StoreKind::Embedded => return,
        StoreKind::Redis(_) => {}
    }
    let secrets = raw.secrets.get();
    let mark = raw
        .sessions
        .get()
        .map_or(raw.mark, |sessions| sessions.mark);
    for (name, missing) in [
        (
            "bucket_key",
            secrets.is_none_or(|s| s.bucket_key.is_absent()),
        ),
        (
            "session_keys",
            secrets.is_none_or(|s| s.session_keys.is_absent()),
        ),
    ] {
        if missing {
            context
                .report
                .error(
                    mark,
                    format!(
                        "instances that share a store share their keys: `secrets.{name}` is missing"
                    ),
                )
                .hint("make it once, `openssl rand -hex 32`, and give it to every instance");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_perhaps_a_port_and_a_database() {
        let read = |text| parse(text).map(|p| (p.tls, p.host, p.port, p.database));
        let place = |tls, host: &str, port, database| Some((tls, host.to_owned(), port, database));
        assert_eq!(
            read("rediss://r.example"),
            place(true, "r.example", 6379, 0)
        );
        assert_eq!(
            read("redis://127.0.0.1:7/3"),
            place(false, "127.0.0.1", 7, 3)
        );
        assert_eq!(read("redis://[::1]:7/"), place(false, "::1", 7, 0));
        for odd in [
            "",
            "redis://",
            "redis://:6379",
            "redis://h:",
            "redis://h:0",
            "redis://h:70000",
            "redis://h/x",
            "redis://h/1/2",
            "http://h",
            "redis:h",
            "redis://h:1?x=1",
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }
}
