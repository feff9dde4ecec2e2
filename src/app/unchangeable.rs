//! What a reload cannot change, key by key: the process was made with it.

use std::mem::discriminant;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::config::settings::Settings;
use crate::proxy::settings::ClientCertificates;
use crate::secret::Secret;
use crate::session::settings::StoreKind;

/// A key of the file, and whether two configurations differ in it.
type Key = (&'static str, fn(&Settings, &Settings) -> bool);

/// Every key that the reference calls *not reloaded*. A file that a key names is another matter: certificates are read again.
const KEYS: &[Key] = &[
    ("server.listen", |a, b| addresses(a) != addresses(b)),
    ("server.tls", |a, b| certificates(a) != certificates(b)),
    ("server.proxy_protocol", |a, b| peers(a) != peers(b)),
    ("server.workers", |a, b| {
        a.server.workers != b.server.workers
    }),
    ("server.state_dir", |a, b| a.state_dir != b.state_dir),
    ("server.limits.connections", |a, b| {
        a.server.limits.connections != b.server.limits.connections
    }),
    ("server.limits.cache_entries", |a, b| {
        a.server.limits.cache_entries != b.server.limits.cache_entries
    }),
    ("server.admin.listen", |a, b| {
        a.admin.listen != b.admin.listen
    }),
    ("server.admin.socket", |a, b| {
        a.admin.socket != b.admin.socket
    }),
    ("server.admin.token", |a, b| {
        let [a, b] = [a, b].map(|s| s.admin.token.as_ref().map(Secret::expose));
        a != b
    }),
    ("server.admin.tls", |a, b| {
        let [a, b] = [a, b].map(|s| s.admin.tls.as_ref());
        a.map(|tls| (&tls.certificates, tls.newest_only))
            != b.map(|tls| (&tls.certificates, tls.newest_only))
    }),
    ("server.admin.client_ca", |a, b| {
        let [a, b] = [a, b].map(|s| s.admin.tls.as_ref());
        a.map(|tls| &tls.clients) != b.map(|tls| &tls.clients)
    }),
    ("server.metrics.listen", |a, b| {
        a.admin.metrics != b.admin.metrics
    }),
    ("audit.file", |a, b| a.audit.file != b.audit.file),
    ("audit.mirror", |a, b| a.audit.mirror != b.audit.mirror),
    ("sessions.store", |a, b| {
        discriminant(&a.sessions.store) != discriminant(&b.sessions.store)
    }),
    ("sessions.redis", |a, b| redis(a) != redis(b)),
    ("retention.links", |a, b| {
        a.retention.links != b.retention.links
    }),
    ("retention.passwords", |a, b| {
        a.retention.passwords != b.retention.passwords
    }),
    ("retention.pins", |a, b| {
        a.retention.pins != b.retention.pins
    }),
    ("retention.findings", |a, b| {
        a.retention.findings != b.retention.findings
    }),
    ("retention.legacy_usage", |a, b| {
        a.retention.legacy_usage != b.retention.legacy_usage
    }),
    ("retention.conflicts", |a, b| {
        a.retention.conflicts != b.retention.conflicts
    }),
    ("retention.facts", |a, b| {
        a.retention.facts != b.retention.facts
    }),
    ("secrets.pseudonym_key", |a, b| {
        !a.telemetry
            .pseudonym_key
            .matches(b.telemetry.pseudonym_key.expose())
    }),
    ("kill_switch.file", |a, b| {
        a.kill_switch.file != b.kill_switch.file
    }),
    ("kill_switch.poll", |a, b| {
        a.kill_switch.poll != b.kill_switch.poll
    }),
    ("telemetry.access_log", |a, b| {
        a.telemetry.access_log != b.telemetry.access_log
    }),
    ("telemetry.log", |a, b| a.telemetry.log != b.telemetry.log),
    ("telemetry.metrics", |a, b| {
        a.telemetry.max_series != b.telemetry.max_series
    }),
    ("telemetry.traces.otlp", |a, b| {
        a.telemetry.otlp != b.telemetry.otlp
    }),
    ("telemetry.traces.sample_percent", |a, b| {
        a.telemetry.trace_permille != b.telemetry.trace_permille
    }),
];

/// The keys in which a new configuration differs from the one that the process was started with.
pub(super) fn waiting(started: &Settings, new: &Settings) -> Vec<&'static str> {
    let differs = KEYS.iter().filter(|(_, differ)| differ(started, new));
    differs.map(|(key, _)| *key).collect()
}

fn addresses(settings: &Settings) -> Vec<std::net::SocketAddr> {
    settings
        .server
        .listeners
        .iter()
        .map(|l| l.address)
        .collect()
}

/// Certificates of a listener, and who is asked for one.
type Asked<'a> = (&'a [(PathBuf, PathBuf)], &'a [ClientCertificates]);

fn certificates(settings: &Settings) -> Vec<Option<Asked<'_>>> {
    let listeners = settings.server.listeners.iter();
    listeners
        .map(|l| {
            l.tls
                .as_ref()
                .map(|tls| (&*tls.certificates, &*tls.clients))
        })
        .collect()
}

/// What is shown of the server, and its password, which is not.
fn redis(settings: &Settings) -> Option<(String, Option<&str>)> {
    match &settings.sessions.store {
        StoreKind::Redis(redis) => {
            let password = redis
                .password
                .as_ref()
                .map(|secret| secret.expose().as_str());
            Some((format!("{redis:?}"), password))
        }
        StoreKind::Memory | StoreKind::Embedded => None,
    }
}

fn peers(settings: &Settings) -> Vec<&[IpNet]> {
    let listeners = settings.server.listeners.iter();
    listeners.map(|l| &*l.proxy_protocol_from).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::config;
    use crate::config::Source;
    use crate::config::System;

    const BASE: &str = r#"
version: 1
providers: { old: { basic: { file: "{dir}/people" } } }
apps: { crm: { hosts: [crm.test], provider: old, upstream: { url: "http://127.0.0.1:9" } } }
"#;

    fn settings(directory: &Path, more: &str) -> Settings {
        let text = format!("{BASE}{more}").replace("{dir}", &directory.display().to_string());
        let path = directory.join("authferry.yaml");
        std::fs::write(&path, text).unwrap();
        let source = Source::read(&path, Arc::new(System)).unwrap();
        let compiled = config::load(&source).unwrap_or_else(|problems| panic!("{problems}"));
        compiled.draft.ensure().unwrap().0
    }

    /// Whatever stands before a change and after it.
    const CHANGES: &[(&str, &str, &str)] = &[
        (
            "server.listen",
            "server: { listen: 127.0.0.1:81 }",
            "server: { listen: 127.0.0.1:82 }",
        ),
        (
            "server.tls",
            "server: { tls: { certificate: { file: chain-1.pem }, key: { file: key.pem } } }",
            "server: { tls: { certificate: { file: chain-2.pem }, key: { file: key.pem } } }",
        ),
        (
            "server.proxy_protocol",
            "server: { proxy_protocol: { from: [10.0.0.1/32] } }",
            "server: { proxy_protocol: { from: [10.0.0.2/32] } }",
        ),
        (
            "server.workers",
            "server: { workers: 1 }",
            "server: { workers: 2 }",
        ),
        (
            "server.limits.connections",
            "server: { limits: { connections: 100 } }",
            "server: { limits: { connections: 200 } }",
        ),
        (
            "server.limits.cache_entries",
            "server: { limits: { cache_entries: 100 } }",
            "server: { limits: { cache_entries: 200 } }",
        ),
        (
            "server.admin.listen",
            "server: { admin: { listen: 127.0.0.1:83 } }",
            "server: { admin: { listen: 127.0.0.1:84 } }",
        ),
        (
            "server.admin.socket",
            "server: { admin: { socket: a.sock } }",
            "server: { admin: { socket: b.sock } }",
        ),
        (
            "server.admin.token",
            "server: { admin: { token: { file: token-1 } } }",
            "server: { admin: { token: { file: token-2 } } }",
        ),
        (
            "server.metrics.listen",
            "server: { metrics: { listen: 127.0.0.1:85 } }",
            "server: { metrics: { listen: 127.0.0.1:86 } }",
        ),
        (
            "sessions.store",
            "sessions: { store: memory }",
            "sessions: { store: embedded }",
        ),
        (
            "sessions.redis",
            "secrets: { bucket_key: { file: pseudonym-1 }, session_keys: [{ file: pseudonym-2 }] }\nsessions: { store: redis, redis: { url: \"redis://127.0.0.1:1\" } }",
            "secrets: { bucket_key: { file: pseudonym-1 }, session_keys: [{ file: pseudonym-2 }] }\nsessions: { store: redis, redis: { url: \"redis://127.0.0.1:2\" } }",
        ),
        ("audit.file", "audit: { file: a }", "audit: { file: b }"),
        ("audit.mirror", "", "audit: { mirror: [stdout] }"),
        (
            "secrets.pseudonym_key",
            "secrets: { pseudonym_key: { file: pseudonym-1 } }",
            "secrets: { pseudonym_key: { file: pseudonym-2 } }",
        ),
        (
            "kill_switch.file",
            "kill_switch: { file: a }",
            "kill_switch: { file: b }",
        ),
        (
            "kill_switch.poll",
            "kill_switch: { poll: 100ms }",
            "kill_switch: { poll: 200ms }",
        ),
        (
            "telemetry.access_log",
            "telemetry: { access_log: { to: nowhere } }",
            "telemetry: { access_log: { to: stdout } }",
        ),
        (
            "telemetry.log",
            "telemetry: { log: { sample_success: 1 } }",
            "telemetry: { log: { sample_success: 0.5 } }",
        ),
        (
            "telemetry.metrics",
            "telemetry: { metrics: { max_series_per_family: 2000 } }",
            "telemetry: { metrics: { max_series_per_family: 3000 } }",
        ),
        (
            "telemetry.traces.otlp",
            "telemetry: { traces: { otlp: \"http://127.0.0.1:1/\" } }",
            "telemetry: { traces: { otlp: \"http://127.0.0.1:2/\" } }",
        ),
        (
            "telemetry.traces.sample_percent",
            "telemetry: { traces: { otlp: \"http://127.0.0.1:4318/v1/traces\", sample_percent: 1 } }",
            "telemetry: { traces: { otlp: \"http://127.0.0.1:4318/v1/traces\", sample_percent: 2 } }",
        ),
    ];

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let signed = rcgen::generate_simple_self_signed(vec!["crm.test".to_owned()]).unwrap();
        for (name, content) in [
            ("people", String::new()),
            ("chain-1.pem", signed.cert.pem()),
            ("chain-2.pem", signed.cert.pem()),
            ("key.pem", signed.signing_key.serialize_pem()),
            ("token-1", "token-number-1".to_owned()),
            ("token-2", "token-number-2".to_owned()),
            ("pseudonym-1", "1".repeat(64)),
            ("pseudonym-2", "2".repeat(64)),
        ] {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    }

    #[test]
    fn every_key_that_waits_for_the_next_start_is_named_and_no_other() {
        let directory = directory();
        // The keys of a first start are made; from then on they stay.
        settings(directory.path(), "server: { state_dir: state }");
        let one = |text: &str| {
            let with_state = match text.strip_prefix("server: {") {
                Some(rest) => format!("server: {{ state_dir: state, {rest}"),
                None => format!("server: {{ state_dir: state }}\n{text}"),
            };
            settings(directory.path(), &with_state)
        };
        for (key, before, after) in CHANGES {
            let (before, after) = (one(before), one(after));
            assert_eq!(waiting(&before, &after), [*key]);
            assert_eq!(waiting(&before, &before), [""; 0], "{key}");
        }
        let moved = settings(directory.path(), "server: { state_dir: elsewhere }");
        assert!(waiting(&one(""), &moved).contains(&"server.state_dir"));
        let reloaded = "server: { trusted_proxies: [10.0.0.1/32], drain: { timeout: 1s } }";
        assert_eq!(waiting(&one(""), &one(reloaded)), [""; 0]);
    }

    /// The paths of keys that the reference calls *not reloaded*.
    fn documented(schema: &Value, definitions: &Value, place: &str, found: &mut Vec<String>) {
        let named = schema["$ref"]
            .as_str()
            .and_then(|r| r.strip_prefix("#/$defs/"));
        let definition = named.map_or(schema, |name| &definitions[name]);
        for (key, schema) in definition["properties"].as_object().into_iter().flatten() {
            let below = if place.is_empty() {
                key.clone()
            } else {
                format!("{place}.{key}")
            };
            let words = schema["description"].as_str().unwrap_or_default();
            if words.contains("Not reloaded.") {
                found.push(below.clone());
            }
            documented(schema, definitions, &below, found);
            documented(&schema["items"], definitions, &below, found);
        }
    }

    #[test]
    fn the_reference_and_the_warning_speak_of_the_same_keys() {
        let schema = config::schema();
        let mut found = Vec::new();
        documented(&schema, &schema["$defs"], "", &mut found);
        // One listener or several: the same keys.
        let found: Vec<_> = found
            .iter()
            .map(|key| key.replace("server.listeners.", "server."))
            .filter(|key| key != "server.listeners")
            .collect();
        let within = |key: &str, other: &str| key == other || key.starts_with(&format!("{other}."));
        for key in &found {
            let known = KEYS
                .iter()
                .any(|(own, _)| within(key, own) || within(own, key));
            assert!(known, "`{key}` is not reloaded, and nobody is warned");
        }
        for (key, _) in KEYS {
            assert!(
                found.iter().any(|other| within(key, other)),
                "`{key}` is said to be reloaded"
            );
        }
    }
}
