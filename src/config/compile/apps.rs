//! `apps`: hosts, upstreams, and what an application learns about people.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderName;
use http::HeaderValue;

use crate::config::compile::address::host;
use crate::config::compile::assurance;
use crate::config::compile::claims;
use crate::config::compile::claims::Words;
use crate::config::compile::context::Context;
use crate::config::compile::headers;
use crate::config::compile::instead;
use crate::config::compile::limits;
use crate::config::compile::providers::Provider;
use crate::config::compile::routes;
use crate::config::compile::tokens::span;
use crate::config::compile::upstream;
use crate::config::names::one_of;
use crate::config::raw::RawApp;
use crate::config::raw::RawAssertion;
use crate::config::raw::RawConfig;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::exchange;
use crate::identity::Template;
use crate::proxy::settings::App;
use crate::proxy::settings::Assertion;
use crate::proxy::settings::HeaderRule;
use crate::rollout::AppId;

const SECOND: Duration = Duration::from_secs(1);

/// What is known beside the applications.
pub(super) struct Shared<'a> {
    /// All providers.
    pub(super) providers: &'a [Provider],
    /// By application: the providers whose people it sees.
    pub(super) speakers: &'a HashMap<String, Vec<String>>,
    /// All exchanges.
    pub(super) exchanges: &'a [exchange::settings::Settings],
    /// Whether people are joined across providers.
    pub(super) joined: bool,
}

/// All applications.
pub(super) fn compile(
    context: &mut Context<'_>,
    config: &RawConfig,
    shared: &Shared<'_>,
) -> Vec<App> {
    let Shared {
        providers,
        speakers,
        exchanges,
        joined,
    } = *shared;
    let Some(named) = config
        .apps
        .required(config.mark, "apps", &mut context.report)
    else {
        return Vec::new();
    };
    let mut hosts: HashMap<Box<str>, (String, u32)> = HashMap::new();
    let mut apps = Vec::new();
    for (name, raw) in &named.entries {
        context.name("an application", name);
        let Some(raw) = raw else { continue };
        let heard: Vec<&Words> = speakers
            .get(&name.value)
            .into_iter()
            .flatten()
            .filter_map(|speaker| providers.iter().find(|p| p.name.value == *speaker))
            .map(|provider| &provider.words)
            .collect();
        let own_hosts = self::hosts(context, name, raw, &mut hosts);
        let upstream = raw
            .upstream
            .required(raw.mark, "upstream", &mut context.report);
        let upstream = upstream.and_then(|raw| upstream::upstream(context, raw));
        forward_auth(context, config, raw);
        let mut written = Written::default();
        let identity_headers = identity_headers(context, raw, &heard, joined, &mut written);
        let static_headers = static_headers(context, raw, &mut written);
        let assertion = match raw.assertion.get() {
            Some(raw) => assertion(context, name, raw, &mut written).map(Some),
            None => Some(None),
        };
        let parts = instead::Parts {
            all: exchanges,
            speakers: speakers.get(&name.value).map_or(&[][..], Vec::as_slice),
            joined,
            written: &written.0,
        };
        let instead = instead::of_app(context, raw, &parts);
        let mut routes = routes::compile(context, raw, instead.always.as_deref());
        assurance::floors(context, raw, &mut routes);
        credential_headers(context, raw, providers, &written);
        if let (Some(upstream), Some(assertion)) = (upstream, assertion) {
            apps.push(App {
                id: AppId::new(&name.value),
                hosts: own_hosts,
                upstream,
                identity_headers,
                static_headers,
                assertion,
                forward_credentials: raw.forward_credentials.or(false),
                rate_limits: limits::rate_limits(context, raw.rate_limits.get()),
                forward_auth: raw.forward_auth.or(false),
                logout_paths: routes::logout_paths(context, raw),
                other_arm_exchanges: instead.other_arm,
                minted_tokens: Vec::new(),
                routes,
            });
        }
    }
    apps
}

/// Who asks about requests speaks for clients: somebody must be believed.
fn forward_auth(context: &mut Context<'_>, config: &RawConfig, raw: &RawApp) {
    let server = config.server.get();
    let nobody = server.is_none_or(|server| server.trusted_proxies.get().is_none());
    if let Some(at) = raw.forward_auth.get()
        && at.value
        && nobody
    {
        context
            .report
            .error(
                at.mark,
                "nobody may ask: `server.trusted_proxies` names no proxy",
            )
            .hint("name the address of the proxy that forwards to the application");
    }
}

fn hosts(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &RawApp,
    taken: &mut HashMap<Box<str>, (String, u32)>,
) -> Vec<Box<str>> {
    let mut own = Vec::new();
    let Some(list) = raw.hosts.required(raw.mark, "hosts", &mut context.report) else {
        return own;
    };
    for at in &list.items {
        let Some(host) = host(context, at, true) else {
            continue;
        };
        if let Some((other, line)) = taken.get(&host) {
            context
                .report
                .error(at.mark, format!("`{host}` belongs to `{other}` already"))
                .value(&host)
                .hint(format!("it stands on line {line}"));
            continue;
        }
        taken.insert(host.clone(), (name.value.clone(), at.mark.line));
        own.push(host);
    }
    own
}

/// Names that an application is told, folded, with the line each stands on.
#[derive(Default)]
struct Written(HashMap<String, u32>);

impl Written {
    /// Whether the name is new; reports it if not.
    fn add(&mut self, context: &mut Context<'_>, at: &At<String>) -> bool {
        let folded = headers::folded(&at.value);
        if let Some(line) = self.0.get(&folded) {
            context
                .report
                .error(
                    at.mark,
                    format!(
                        "`{}` is written twice: CGI-like programs see one name",
                        at.value
                    ),
                )
                .value(&at.value)
                .hint(format!("the other one is on line {line}"));
            return false;
        }
        self.0.insert(folded, at.mark.line);
        true
    }
}

fn identity_headers(
    context: &mut Context<'_>,
    raw: &RawApp,
    speakers: &[&Words],
    joined: bool,
    written: &mut Written,
) -> Vec<HeaderRule> {
    let mut rules = Vec::new();
    let Some(named) = raw.identity_headers.get() else {
        return rules;
    };
    for (name, template) in named.readable() {
        let header = headers::written(context, name);
        let new = written.add(context, name);
        linked(context, template, joined);
        let template = claims::template_besides(context, template, speakers, &["link"]);
        if let (Some(name), Some(template), true) = (header, template, new) {
            rules.push(HeaderRule { name, template });
        }
    }
    rules
}

/// What a template reads of links: `link.PROVIDER_subject`, where people are linked.
fn linked(context: &mut Context<'_>, at: &At<String>, joined: bool) {
    let Ok(template) = Template::parse(&at.value) else {
        return;
    };
    let names: Vec<&str> = template.names().collect();
    for name in names
        .iter()
        .filter(|name| name.split('.').next() == Some("link"))
    {
        let provider = name.strip_prefix("link.");
        let provider = provider.and_then(|rest| rest.strip_suffix("_subject"));
        let known = provider.is_some_and(|name| context.providers.contains(&name));
        if !known {
            let all = context.providers.iter();
            let all: Vec<String> = all.map(|one| format!("link.{one}_subject")).collect();
            context
                .report
                .error(
                    at.mark,
                    format!("`{name}` is nothing that is known of a link"),
                )
                .value(&at.value)
                .hint(format!("write {}", one_of(all.iter().map(String::as_str))));
        } else if !joined {
            context
                .report
                .error(at.mark, "nobody is linked: `identity.canonical` is missing")
                .value(&at.value);
        }
    }
}

fn static_headers(
    context: &mut Context<'_>,
    raw: &RawApp,
    written: &mut Written,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut fixed = Vec::new();
    let Some(named) = raw.static_headers.get() else {
        return fixed;
    };
    for (name, value) in named.readable() {
        let header = headers::written(context, name);
        let new = written.add(context, name);
        let bytes = match value.value.get() {
            Some(text) => {
                clear_text(context, name, text);
                Some(text.value.clone().into_bytes())
            }
            None => context
                .secret_from(&value.file, &value.env, "the header value")
                .map(|secret| secret.expose().clone()),
        };
        let Some(bytes) = bytes else { continue };
        let Ok(mut parsed) = HeaderValue::from_bytes(&bytes) else {
            context.report.error(
                value.mark,
                "the value cannot stand in a header: it has a control character",
            );
            continue;
        };
        parsed.set_sensitive(value.value.get().is_none());
        if let (Some(header), true) = (header, new) {
            fixed.push((header, parsed));
        }
    }
    fixed
}

/// Reports a fixed value whose header says that it is a secret.
fn clear_text(context: &mut Context<'_>, name: &At<String>, text: &At<String>) {
    let folded = headers::folded(&name.value);
    let telling = [
        "authorization",
        "secret",
        "token",
        "password",
        "passwd",
        "api-key",
        "apikey",
        "credential",
        "signature",
    ];
    if telling.iter().any(|word| folded.contains(word)) {
        context.report.blot(text.mark);
        context
            .report
            .error(text.mark, format!("a secret in clear text: `{}` sounds like one", name.value))
            .hint("put it in a file or an environment variable: `{ file: /run/secrets/… }` or `{ env: … }`");
    }
}

fn assertion(
    context: &mut Context<'_>,
    app: &At<String>,
    raw: &RawAssertion,
    written: &mut Written,
) -> Option<Assertion> {
    let issuer = raw.issuer.required(raw.mark, "issuer", &mut context.report);
    let default = At {
        value: "X-Authferry-Assertion".to_owned(),
        mark: raw.mark,
    };
    let at = raw.header.get().unwrap_or(&default);
    let header = headers::written(context, at);
    let new = written.add(context, at);
    span(context, &raw.ttl, SECOND, 300 * SECOND, "from `1s` to `5m`");
    if !new {
        return None;
    }
    Some(Assertion {
        header: header?,
        issuer: issuer?.value.as_str().into(),
        audience: raw.audience.or(app.value.clone()).into(),
        ttl: raw.ttl.or(Span(60 * SECOND)).0,
    })
}

/// Reports a header that carries a credential to us and a statement to the application.
fn credential_headers(
    context: &mut Context<'_>,
    raw: &RawApp,
    providers: &[Provider],
    written: &Written,
) {
    let forwards = raw.forward_credentials.or(false);
    if let Some(line) = written.0.get("authorization")
        && forwards
    {
        let mark = raw.forward_credentials.get().map_or(raw.mark, |at| at.mark);
        context.report.error(
            mark,
            format!(
                "`Authorization` is written on line {line}: the client's cannot be forwarded too"
            ),
        );
    }
    for settings in providers
        .iter()
        .filter_map(|provider| provider.settings.as_ref())
    {
        let Some(header) = &settings.owns.api_key_header else {
            continue;
        };
        if let Some(line) = written.0.get(&headers::folded(header.as_str())) {
            context
                .report
                .error(
                    raw.mark,
                    format!(
                        "`{header}` on line {line} carries API keys of provider `{}`",
                        settings.id
                    ),
                )
                .hint("a header is either a credential or a statement of ours");
        }
    }
}
