//! What a case needs to be so before it begins, read from its preconditions.

use regex::Regex;

use crate::case::Case;
use crate::case::Entry;

/// The configuration of one case: T0 and what differs from it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Plan {
    /// What the old side is.
    pub(crate) from: Side,
    /// Routes before those of T0, as YAML.
    pub(crate) routes: Vec<String>,
    /// Applications beside that of T0, as YAML lines.
    pub(crate) apps: Vec<String>,
    /// A claim that every token of the new provider must have.
    pub(crate) claim: Option<(String, String)>,
    /// Whether T0 has its route `/api/*`.
    pub(crate) api: bool,
    /// Whether people are joined by the claim `uid`.
    pub(crate) uid: bool,
    /// Whether the old provider only gives second opinions about the new one's people.
    pub(crate) second: bool,
    /// Another proxy may ask what is decided.
    pub(crate) decides: bool,
    /// Whether T0 ends with a route for everything else.
    pub(crate) catch_all: bool,
    /// Peers whose forwarding headers are believed.
    pub(crate) trusted: Vec<String>,
    /// Where the program keeps what must survive it.
    pub(crate) state: String,
    /// Whether some hosts ask for client certificates.
    pub(crate) certificates: bool,
    /// Whether the listener takes IPv4 as mapped IPv6.
    pub(crate) dual_stack: bool,
    /// How often key sets are fetched.
    pub(crate) jwks_refresh: String,
    /// How long a key set may grow old.
    pub(crate) jwks_max_stale: String,
    /// How long a good answer about an old credential is kept.
    pub(crate) cache: String,
    /// Descriptors that the process may have.
    pub(crate) descriptors: Option<u32>,
    /// More of `server:`, as YAML.
    pub(crate) server: Vec<String>,
    /// More of the new provider, as YAML.
    pub(crate) new: Vec<String>,
    /// Providers beside the two of T0, as YAML.
    pub(crate) providers: Vec<String>,
    /// More identity headers, as YAML.
    pub(crate) headers: Vec<String>,
    /// The environment.
    pub(crate) env: Vec<(String, String)>,
    /// Key sets are as they should be when the proxy starts; else this fault.
    pub(crate) jwks: Option<String>,
    /// More of the file, as YAML.
    pub(crate) more: Vec<String>,
    /// Whether the proxy must not be shared with other cases.
    pub(crate) fresh: bool,
}

/// What the old side is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// An OpenID provider.
    Oidc,
    /// An issuer known by a shared secret.
    SharedSecret,
    /// A server of opaque tokens.
    Introspection,
    /// An application with a session cookie.
    Cookie,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            from: Side::Oidc,
            routes: Vec::new(),
            apps: Vec::new(),
            claim: None,
            api: true,
            uid: false,
            second: false,
            decides: false,
            catch_all: true,
            trusted: Vec::new(),
            state: "@DIR@/state".to_owned(),
            certificates: false,
            dual_stack: false,
            jwks_refresh: "60s".to_owned(),
            jwks_max_stale: "1h".to_owned(),
            cache: "10s".to_owned(),
            descriptors: None,
            server: Vec::new(),
            new: Vec::new(),
            providers: Vec::new(),
            headers: Vec::new(),
            env: Vec::new(),
            jwks: None,
            more: Vec::new(),
            fresh: false,
        }
    }
}

/// Words that ask for nothing, or for what T0 has anyway.
const NOTHING: &[&str] = &[
    "",
    "T0",
    "T0 embedded",
    "trusted_proxies empty",
    r#"groups joined with ",""#,
    "header budget 16 KiB",
    "default encoded-slash policy",
    "health checks enabled",
    "leeway 30 s",
    r#"the OIDC client id equals the API audience "app""#,
    "follow the whole login to the final Location",
    "2 cores",
    // Every case that asks for `/exch/` has the route.
    "routes /exch (aud up1) and /other (no exchange)",
    "test IdP can alter the id_token",
    "authorization_response_iss_parameter_supported: true",
    "admin on 127.0.0.1:9901",
    "clock fixed",
    // The proxy has no service for error pages; its own pages hold nothing of the request.
    "route strips credentials",
    "custom error pages served by a second upstream",
    // Each says what a step of the same case does.
    r#"JWKS answers {"keys":[]} / 500 / HTML"#,
    "JWKS has kid n1 twice, different keys",
    r#"code_challenge_methods_supported: ["plain"]"#,
];

impl Plan {
    /// The plan of a case, or the words that nobody here understands.
    pub(crate) fn of(case: &Case) -> Result<Self, String> {
        let mut plan = Self::default();
        let also = case.reading.iter().flat_map(|reading| &reading.also);
        let done: Vec<&String> = case
            .reading
            .iter()
            .flat_map(|reading| &reading.done)
            .collect();
        let said = case
            .preconditions
            .iter()
            .filter(|words| !done.contains(words));
        for words in said.chain(also) {
            let clauses = if NOTHING.contains(&words.as_str())
                || RULES.iter().any(|(p, _)| matches(p, words))
            {
                vec![words.as_str()]
            } else {
                words
                    .split("; ")
                    .map(|clause| clause.strip_prefix("T0 ").unwrap_or(clause))
                    .collect()
            };
            for clause in clauses {
                plan.add(clause)?;
            }
        }
        // Some cases name a credential of the old side in their requests only.
        let text: Vec<String> = case
            .steps()
            .iter()
            .map(|entry| format!("{entry:?}"))
            .collect();
        let text = text.join("\n");
        if text.contains("/exch/") {
            plan.routes
                .push("{ path: /exch/*, exchange: up1 }".to_owned());
            // Who exchanges must be able to say that the result is about the same person.
            plan.add("people are joined by uid")?;
            plan.more.push("exchange: { up1: { token_exchange: { provider: new, audiences: [up1], own_tokens: exchange, unreadable: accept } } }".to_owned());
        }
        if text.contains("LEGACYSID") {
            plan.from = Side::Cookie;
        } else if text.contains("${OPAQUE}") {
            plan.from = Side::Introspection;
        }
        // A case with steps of the harness leaves a proxy behind that others should not meet.
        plan.fresh |= case
            .steps()
            .iter()
            .any(|entry| matches!(entry, Entry::Op(_)));
        Ok(plan)
    }

    /// Hosts with client certificates and one without, at one listener.
    fn asks_for_certificates(&mut self) {
        self.certificates = true;
        let hosts = ["open.test", "mtls.test", "*.mtls.test", "mtls2.test"];
        self.apps
            .push(app("certified", &hosts, "", "[{ path: /* }]"));
    }

    fn add(&mut self, words: &str) -> Result<(), String> {
        let words = words.trim();
        if NOTHING.contains(&words) {
            return Ok(());
        }
        for (pattern, rule) in RULES {
            let pattern = Regex::new(pattern).expect("the patterns of this file are good");
            if let Some(found) = pattern.captures(words) {
                let arguments: Vec<&str> = found
                    .iter()
                    .skip(1)
                    .map(|group| group.map_or("", |m| m.as_str()))
                    .collect();
                rule(self, &arguments);
                return Ok(());
            }
        }
        Err(format!("precondition not understood: {words}"))
    }
}

fn matches(pattern: &str, words: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(words))
}

type Rule = fn(&mut Plan, &[&str]);

/// Words with an effect.
const RULES: &[(&str, Rule)] = &[
    (
        r"^another route maps identity to (\S+) and (\S+)$",
        |plan, names| {
            let headers: Vec<String> = names
                .iter()
                .map(|name| format!("{name}: \"{{preferred_username}}\""))
                .collect();
            plan.apps.push(app(
                "other",
                &["other.test"],
                &headers.join(", "),
                "[{ path: /* }]",
            ));
        },
    ),
    (r"^forward-auth/decision endpoint enabled$", |plan, _| {
        plan.decides = true;
        plan.trusted.push("127.0.0.0/8".to_owned());
    }),
    (r"^trusted_proxies: (\S+)$", |plan, networks| {
        plan.trusted.push(networks[0].to_owned())
    }),
    (r"^rule allows (\S+) only$", |plan, networks| {
        plan.routes.push(format!(
            "{{ path: /intranet, require: {{ network: [{}] }} }}",
            networks[0]
        ));
    }),
    (r"^rule on (\S+) needs admin$", |plan, paths| {
        plan.routes.push(format!(
            "{{ path: \"{}\", require: {{ groups: [admins] }} }}",
            percent(paths[0])
        ));
    }),
    // Routes are prefixes here, never regular expressions.
    (
        r"^also a regex rule +\^(/\w+/)\S* +anonymous$",
        |plan, prefixes| {
            plan.routes
                .push(format!("{{ path: \"{}*\", access: public }}", prefixes[0]));
        },
    ),
    (
        r"^rules: (\S+) needs admin; (\S+) authenticated; (\d+) other hosts loaded$",
        |plan, words| {
            let admins = "[{ path: /*, require: { groups: [admins] } }]";
            plan.apps.push(app("inner", &[words[0]], "", admins));
            plan.apps
                .push(app("outer", &[words[1]], "", "[{ path: /* }]"));
            let hosts: Vec<String> = (0..words[2].parse().unwrap_or(0))
                .map(|n| format!("h{n}.other.test"))
                .collect();
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            plan.apps.push(app("many", &hosts, "", "[{ path: /* }]"));
        },
    ),
    (r"^rule set without a catch-all$", |plan, _| {
        plan.catch_all = false
    }),
    // There are only rules that allow: everything but 127.0.0.0/8, and all of IPv6, which a mapped address must not hide in.
    (
        r"^deny rule 127\.0\.0\.0/8; client connects from ::ffff:127\.0\.0\.1$",
        |plan, _| {
            plan.dual_stack = true;
            let networks = "[0.0.0.0/2, 64.0.0.0/3, 96.0.0.0/4, 112.0.0.0/5, 120.0.0.0/6, 124.0.0.0/7, 126.0.0.0/8, 128.0.0.0/1, \"::/0\"]";
            plan.routes.push(format!(
                "{{ path: /app, require: {{ network: {networks} }} }}"
            ));
        },
    ),
    (r"^with the OLD issuer in HS256 mode$", |plan, _| {
        plan.from = Side::SharedSecret
    }),
    (
        r"^a key shorter than 32 bytes must already be refused at config load$",
        |_, _| {},
    ),
    (
        r"^legacy cookie LEGACYSID validated by calling the legacy app$",
        |plan, _| plan.from = Side::Cookie,
    ),
    (r"^LEGACYSID verdict cache (\d+) s$", |plan, seconds| {
        plan.from = Side::Cookie;
        plan.cache = format!("{}s", seconds[0]);
    }),
    (r"^route accepts NEW JWT, OLD JWT, LEGACYSID$", |plan, _| {
        plan.from = Side::Cookie
    }),
    (r"^route accepts NEW JWT and OLD opaque$", |plan, _| {
        plan.from = Side::Introspection;
        // T0's /api/ takes signed tokens only; here it takes both kinds.
        plan.api = false;
        plan.routes.push(
            "{ path: /api/*, credentials: [bearer, opaque], on_unauthenticated: unauthorized }"
                .to_owned(),
        );
    }),
    (
        r"^(\S+) needs scope (\S+), (\S+) needs scope (\S+); same introspection server$",
        |plan, words| {
            plan.from = Side::Introspection;
            for pair in words.chunks(2) {
                plan.routes.push(format!(
                    "{{ path: {}, require: {{ scopes: [{}] }} }}",
                    pair[0], pair[1]
                ));
            }
        },
    ),
    (r"^max_stale (\d+) s$", |plan, seconds| {
        plan.jwks_max_stale = format!("{}s", seconds[0]);
        plan.fresh = true;
    }),
    (r"^key sets are fetched every (\d+) s$", |plan, seconds| {
        plan.jwks_refresh = format!("{}s", seconds[0]);
    }),
    (r"^token lifetime 60 s, no refresh$", |_, _| {}),
    (
        r"^rules with regexes such as \S+ and 1,000 rules$",
        |plan, _| {
            for n in 0..1_000 {
                plan.routes.push(format!(
                    "{{ path: \"/rule-{n}/*\", require: {{ groups: [g{n}] }} }}"
                ));
            }
        },
    ),
    (r"^ulimit -n (\d+)$", |plan, numbers| {
        plan.descriptors = numbers[0].parse().ok()
    }),
    (r"^a proxy of its own$", |plan, _| plan.fresh = true),
    // A case that looks at a session signs in for it; every sign-in of the stand-in has the `sid` s1. One process is both
    // instances: what several share is held by the tests of the shared store.
    (
        r"^alice has sessions with sid s1 \(instance A\) and s2 \(instance B\)$",
        |plan, _| plan.fresh = true,
    ),
    // An application is an address here: what the case separates by path, the runner separates by host.
    (
        r"^routes /a and /b use different introspection servers; token T active at A only$",
        |plan, _| {
            for (name, idp, prefix) in [("a", "@OLD@", "opq_"), ("b", "@NEW@", "other_")] {
                plan.providers.push(format!("judge-{name}: {{ introspection: {{ url: \"{idp}/introspect\", issuer: \"{idp}\", owns: {{ opaque_prefixes: [{prefix}] }}, client: {{ id: app, secret: {{ env: CASES_CLIENT_SECRET }} }}, ca: {{ file: @PKI@/ca.pem }} }} }}"));
                plan.apps.push(format!("{name}: {{ hosts: [{name}.example.test], upstream: {{ url: \"@UPSTREAM@\" }}, provider: judge-{name}, routes: [{{ path: /* }}] }}"));
            }
        },
    ),
    (
        r"^(?:as TLS-001|open\.test without client cert, mtls\.test with; same listener)$",
        |plan, _| plan.asks_for_certificates(),
    ),
    (r"^identity from SAN$", |plan, _| {
        plan.asks_for_certificates();
        plan.providers.push(
            "machines: { client_cert: { ca: { file: @PKI@/clients-1.pem }, subject: san_dns } }"
                .to_owned(),
        );
        plan.apps.push("machines: { hosts: [machines.test], provider: machines, upstream: { url: \"@UPSTREAM@\" }, identity_headers: { X-Auth-User: \"{subject}\" }, routes: [{ path: /* }] }".to_owned());
    }),
    // A second application, in a rollout of its own, has no second opinion: what one costs is seen beside it.
    (r"^NEW is authoritative, OLD runs in shadow$", |plan, _| {
        plan.second = true;
        plan.apps.push("alone: { hosts: [alone.test], upstream: { url: \"@UPSTREAM@\" }, identity_headers: { X-Auth-User: \"{preferred_username}\" }, routes: [{ path: /* }] }".to_owned());
    }),
    (r"^people are joined by uid$", |plan, _| {
        plan.uid = true;
        plan.more
            .push("identity: { canonical: { template: \"uid:{uid}\" } }".to_owned());
    }),
    (r"^new: (.*)$", |plan, lines| {
        plan.new.push(lines[0].to_owned())
    }),
    (r"^provider: (.*)$", |plan, lines| {
        plan.providers.push(lines[0].to_owned())
    }),
    (r"^app: (.*)$", |plan, lines| {
        plan.apps.push(lines[0].to_owned())
    }),
    (r"^header: (.*)$", |plan, lines| {
        plan.headers.push(lines[0].to_owned())
    }),
    (r"^env: (\w+)=(.*)$", |plan, words| {
        plan.env.push((words[0].to_owned(), words[1].to_owned()))
    }),
    (r"^file: (.*)$", |plan, lines| {
        plan.more.push(lines[0].to_owned())
    }),
    (
        r"^the old side is an? (application with a cookie|server of opaque tokens)$",
        |plan, words| {
            plan.from = if words[0].starts_with("app") {
                Side::Cookie
            } else {
                Side::Introspection
            };
        },
    ),
    (r"^the case itself tries the keys of NEW$", |plan, _| {
        plan.jwks = Some("as it is".to_owned());
    }),
    (
        r"^the key set of NEW cannot be had at start: (.*)$",
        |plan, words| {
            plan.jwks = Some(words[0].to_owned());
            plan.fresh = true;
        },
    ),
    (r"^server: (.*)$", |plan, lines| {
        plan.server.push(lines[0].to_owned())
    }),
    (r"^trusted_proxies includes the peer$", |plan, _| {
        plan.trusted.push("127.0.0.1/32".to_owned());
    }),
    (r"^XFCC accepted$", |plan, _| {
        plan.server
            .push("certificate_headers: { from: [127.0.0.1/32], format: xfcc }".to_owned());
    }),
    (r"^issuer requires claim (\w+) == (\w+)$", |plan, words| {
        plan.claim = Some((words[0].to_owned(), words[1].to_owned()));
    }),
    (
        r"^route needs acr (\w+) and auth_time within (\d+) s$",
        |plan, words| {
            plan.routes.push(format!(
                "{{ path: /vault, require: {{ acr: [{}], max_age: {}s }} }}",
                words[0], words[1]
            ));
            plan.new.push(
                "assurance: { acr_claim: acr, map: { gold: gold, silver: silver } }".to_owned(),
            );
        },
    ),
    (r"^route requires DPoP$", |plan, _| {
        plan.api = false;
        plan.routes.push("{ path: /api/*, credentials: [bearer], on_unauthenticated: unauthorized, require: { proof: [dpop] } }".to_owned());
    }),
    (r"^route: (.*)$", |plan, lines| {
        plan.routes.push(lines[0].to_owned())
    }),
];

/// An application beside that of T0, with the upstream of T0.
fn app(name: &str, hosts: &[&str], headers: &str, routes: &str) -> String {
    let hosts: Vec<String> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    let hosts = hosts.join(", ");
    let headers = if headers.is_empty() {
        ""
    } else {
        &format!("identity_headers: {{ {headers} }}, ")
    };
    format!(
        "{name}: {{ hosts: [{hosts}], upstream: {{ url: \"@UPSTREAM@\" }}, {headers}routes: {routes} }}"
    )
}

/// A path as it is compared.
fn percent(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_graphic() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
