//! `server`, `sessions`, `kill_switch`: what runs, and within which bounds.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::admin;
use crate::config::compile::context::Context;
use crate::config::compile::headers;
use crate::config::compile::listeners;
use crate::config::compile::store;
use crate::config::compile::tokens::span;
use crate::config::raw::LifetimePolicyWord;
use crate::config::raw::ModernSessions;
use crate::config::raw::RawAdmin;
use crate::config::raw::RawConfig;
use crate::config::raw::SameSiteWord;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::settings::KillSwitch;
use crate::config::source::ADMIN_LISTEN_VARIABLE;
use crate::config::source::STATE_DIR_VARIABLE;
use crate::config::tree::Mark;
use crate::proxy::settings::ClientCertificates;
use crate::proxy::settings::Server;
use crate::proxy::settings::Tls;
use crate::session;
use crate::session::settings::SameSite;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// An address that the environment sets instead of the file.
pub(super) fn overriding(context: &mut Context<'_>, variable: &str) -> Option<SocketAddr> {
    let text = context.source.environment.variable(variable)?;
    let address = text.parse().ok();
    if address.is_none() {
        context
            .report
            .error(
                Mark::default(),
                format!("{variable}: `{text}` is not an address to listen on"),
            )
            .path(variable)
            .value(&text)
            .hint("an IP address and a port, such as `127.0.0.1:8080`");
    }
    address
}

/// Where state lives.
pub(super) fn state_dir(context: &Context<'_>, raw: &RawConfig) -> PathBuf {
    if let Some(directory) = context.source.environment.variable(STATE_DIR_VARIABLE) {
        return directory.into();
    }
    let server = raw.server.get();
    let given = server.and_then(|server| server.state_dir.get());
    context.path(given.map_or(Path::new("authferry-state"), |at| &at.value))
}

/// The admin interface.
pub(super) fn admin(
    context: &mut Context<'_>,
    raw: &RawConfig,
    state_dir: &Path,
    requests: &Server,
) -> admin::settings::Settings {
    let overriding = overriding(context, ADMIN_LISTEN_VARIABLE);
    let server = raw.server.get();
    let own = server.and_then(|server| server.admin.get());
    let given = own.and_then(|own| own.listen.get());
    let default = SocketAddr::from((IpAddr::from([127, 0, 0, 1]), 9901));
    let listen = overriding.or(given.map(|at| at.value.0)).unwrap_or(default);
    let metrics = server.and_then(|server| server.metrics.get());
    let metrics = metrics.and_then(|metrics| {
        metrics
            .listen
            .required(metrics.mark, "listen", &mut context.report)
    });
    let token = own.and_then(|own| {
        let token = context.secret_text(&own.token, "the admin token")?;
        let short =
            token.expose().len() < 8 || !token.expose().bytes().all(|b| b.is_ascii_graphic());
        if let (true, Some(text)) = (short, own.token.get()) {
            context.report.error(
                text.0.mark,
                "the admin token has fewer than 8 characters, or one that cannot stand in a header",
            );
        }
        Some(token)
    });
    if let Some(at) = given
        && at.value.0.port() != 0
        && requests
            .listeners
            .iter()
            .any(|listener| listener.address == listen)
    {
        context
            .report
            .error(at.mark, "requests come in here already: `server.listen`")
            .value(listen)
            .hint("the admin interface has an address of its own");
    }
    let tls = own.and_then(|own| admin_tls(context, own, requests));
    if !listen.ip().is_loopback() && tls.is_none() {
        let mark = match (overriding, given) {
            (None, Some(at)) => at.mark,
            (Some(_), _) | (None, None) => Mark::default(),
        };
        context
            .report
            .warning(mark, format!("the admin interface at `{listen}` can be reached from the network, in cleartext"))
            .value(listen)
            .hint("listen on loopback; `server.metrics.listen` serves `/metrics` alone");
    }
    if let Some(at) = metrics
        && at.value.0.port() != 0
        && at.value.0 == listen
    {
        context
            .report
            .error(
                at.mark,
                "the admin interface listens here already: it serves `/metrics` too",
            )
            .value(listen);
    }
    admin::settings::Settings {
        listen: Some(listen),
        socket: Some(own.and_then(|own| own.socket.get()).map_or_else(
            || state_dir.join("admin.sock"),
            |at| context.path(&at.value),
        )),
        token,
        metrics: metrics.map(|at| at.value.0),
        tls,
    }
}

/// TLS of the admin interface: with our certificate there, or the one for requests.
fn admin_tls(context: &mut Context<'_>, own: &RawAdmin, requests: &Server) -> Option<Tls> {
    let mut tls = listeners::tls(context, &own.tls);
    if let Some(raw) = own.tls.get() {
        for (key, mark) in [
            ("client_certificates", raw.client_certificates.mark()),
            ("client_ca", raw.client_ca.mark()),
        ] {
            if let Some(mark) = mark {
                context
                    .report
                    .error(mark, format!("`{key}` is for requests"))
                    .hint("operators have `server.admin.client_ca`");
            }
        }
    }
    let Some(raw) = own.client_ca.get() else {
        return tls;
    };
    let ca = context.pem(
        &own.client_ca,
        "the authorities of operators",
        "CERTIFICATE",
    );
    if tls.is_none() {
        let mut public = requests.listeners.iter();
        tls = public.find_map(|listener| listener.tls.clone());
    }
    let Some(mut tls) = tls else {
        context
            .report
            .error(
                raw.mark,
                "operators are asked for certificates over TLS, and there is none",
            )
            .hint("give `server.admin.tls` a certificate, or `server.tls`, whose certificate is used here too");
        return None;
    };
    tls.clients = vec![ClientCertificates {
        hosts: Vec::new(),
        ca: ca?,
        required: true,
    }];
    Some(tls)
}

/// Our sessions. Their keys are filled in once it is known whether they must be made.
pub(super) fn sessions(
    context: &mut Context<'_>,
    raw: &RawConfig,
    server: &Server,
) -> session::settings::Settings {
    // A cookie that a cleartext listener hands out cannot say `Secure`; on loopback that is the demonstration.
    let secure = server
        .listeners
        .iter()
        .any(|listener| listener.tls.is_some())
        || !server
            .listeners
            .iter()
            .all(|listener| listener.address.ip().is_loopback());
    let default = if secure {
        "__Host-authferry"
    } else {
        "authferry"
    };
    let raw = raw.sessions.get();
    let mut name: Box<str> = default.into();
    if let Some(at) = raw
        .and_then(|raw| raw.cookie.get())
        .and_then(|cookie| cookie.name.get())
    {
        headers::cookie_name(context, at);
        if at.value.starts_with("__") && !secure {
            context
                .report
                .error(at.mark, "a cleartext listener cannot set a cookie with this prefix (RFC 6265bis §4.1.3)")
                .value(&at.value)
                .hint("leave the name out, or give every listener `tls`");
        } else if secure && !at.value.starts_with("__Host-") {
            context
                .report
                .error(
                    at.mark,
                    format!(
                        "`{}`: another host of the domain could set this cookie",
                        at.value
                    ),
                )
                .value(&at.value)
                .hint(format!(
                    "write `__Host-{}`",
                    at.value.trim_start_matches("__Secure-")
                ));
        }
        name = at.value.as_str().into();
    }
    let same_site = raw.and_then(|raw| raw.cookie.get());
    let same_site = same_site.and_then(|cookie| cookie.same_site.get());
    if let Some(at) = same_site
        && at.value == SameSiteWord::None
        && !secure
    {
        context
            .report
            .error(
                at.mark,
                "browsers take no `SameSite=None` without `Secure`, and there is no TLS",
            )
            .value("none");
    }
    let default = (Duration::from_secs(1_800), 12 * HOUR);
    let (mut idle, mut absolute) = default;
    let (revalidate, most) = (Span(Duration::from_mins(5)), Whole(50));
    if let Some(raw) = raw {
        span(
            context,
            &raw.idle,
            60 * SECOND,
            30 * 24 * HOUR,
            "from `1m` to `30d`",
        );
        span(
            context,
            &raw.absolute,
            60 * SECOND,
            90 * 24 * HOUR,
            "from `1m` to `90d`",
        );
        span(
            context,
            &raw.revalidate,
            SECOND,
            24 * HOUR,
            "from `1s` to `24h`",
        );
        if let Some(at) = raw.max_per_subject.get() {
            context.range(at.mark, &at.value.0, (1, 10_000), "from 1 to 10000");
        }
        (idle, absolute) = (raw.idle.or(Span(idle)).0, raw.absolute.or(Span(absolute)).0);
        if let Some(at) = raw.idle.get()
            && absolute < idle
        {
            context.report.error(
                at.mark,
                "`idle` is longer than `absolute`: it has no effect",
            );
        }
    }
    session::settings::Settings {
        cookie: name,
        secure,
        same_site: match same_site.map(|at| at.value) {
            Some(SameSiteWord::Lax) | None => SameSite::Lax,
            Some(SameSiteWord::Strict) => SameSite::Strict,
            Some(SameSiteWord::None) => SameSite::None,
        },
        shortest: raw.is_some_and(|raw| {
            raw.lifetime_policy.or(LifetimePolicyWord::Configured) == LifetimePolicyWord::Min
        }),
        idle,
        absolute,
        keys: Vec::new(),
        revalidate: raw
            .map_or(revalidate, |raw| raw.revalidate.or(revalidate))
            .0,
        max_per_subject: usize::try_from(raw.map_or(most, |raw| raw.max_per_subject.or(most)).0)
            .unwrap_or(usize::MAX),
        store: store::store(context, raw),
    }
}

/// The kill switch.
pub(super) fn kill_switch(
    context: &mut Context<'_>,
    raw: &RawConfig,
    state_dir: &Path,
) -> KillSwitch {
    let raw = raw.kill_switch.get();
    let default = Span(Duration::from_millis(200));
    if let Some(raw) = raw {
        span(
            context,
            &raw.poll,
            SECOND / 100,
            SECOND / 2,
            "from `10ms` to `500ms`",
        );
    }
    let sessions = raw.map_or(ModernSessions::Keep, |raw| {
        raw.modern_sessions.or(ModernSessions::Keep)
    });
    KillSwitch {
        file: raw
            .and_then(|raw| raw.file.get())
            .map_or_else(|| state_dir.join("kill"), |at| context.path(&at.value)),
        poll: raw.map_or(default, |raw| raw.poll.or(default)).0,
        revokes: sessions == ModernSessions::Revoke,
    }
}
