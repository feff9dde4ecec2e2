//! Routes of an application: who may see what, and which routes are never reached.

use std::time::Duration;

use http::Method;

use crate::config::compile::address::networks;
use crate::config::compile::address::path_pattern;
use crate::config::compile::context::Context;
use crate::config::compile::roles::is_scope;
use crate::config::compile::roles::required_scopes;
use crate::config::compile::tokens::span;
use crate::config::compile::tokens::texts;
use crate::config::compile::upgrades::upgrades;
use crate::config::compile::upstream::upstream;
use crate::config::raw::AccessWord;
use crate::config::raw::ClassWord;
use crate::config::raw::EncodedSlashWord;
use crate::config::raw::OnUnauthenticatedWord;
use crate::config::raw::ProofWord;
use crate::config::raw::RawApp;
use crate::config::raw::RawRequire;
use crate::config::raw::RawRoute;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::shape::List;
use crate::config::tree::Mark;
use crate::identity::CredentialClass;
use crate::proxy::canonical::EncodedSlash;
use crate::proxy::country::Country;
use crate::proxy::settings::Access;
use crate::proxy::settings::Holds;
use crate::proxy::settings::OnUnauthenticated;
use crate::proxy::settings::Require;
use crate::proxy::settings::Route;

/// A method, as it is compared.
pub(super) fn method(context: &mut Context<'_>, at: &At<String>) -> Option<Method> {
    let text = at.value.as_str();
    let method = Method::from_bytes(text.as_bytes()).ok();
    let good = method.filter(|_| text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-'));
    if good.is_none() {
        let hint = format!(
            "methods are compared with regard to case: `{}`?",
            text.to_ascii_uppercase()
        );
        context
            .report
            .error(at.mark, format!("`{text}` is not a method"))
            .value(text)
            .hint(hint);
    } else if matches!(text, "CONNECT" | "TRACE") {
        context
            .report
            .error(at.mark, format!("`{text}` is never forwarded"))
            .value(text);
        return None;
    }
    good
}

/// The routes of an application: its public paths, then its routes, or everything for the admitted.
pub(super) fn compile(context: &mut Context<'_>, raw: &RawApp, always: Option<&str>) -> Vec<Route> {
    let mut routes: Vec<(Route, Mark, bool)> = Vec::new();
    for at in raw.public_paths.get().map_or(&[][..], |list| &list.items) {
        if let Some(path) = own_path(context, at) {
            routes.push((plain(path, Access::Public), at.mark, true));
        }
    }
    match raw.routes.get() {
        Some(list) => {
            for raw in &list.items {
                let compiled = route(context, raw);
                routes.extend(compiled.map(|route| (route, raw.mark, raw.methods.is_absent())));
            }
        }
        None => routes.push((plain("/*".into(), Access::Required), raw.mark, true)),
    }
    unreachable_routes(context, &routes);
    if let Some(own) = raw.require.get() {
        let everywhere = require_of(context, own, Access::Required);
        let mut needed = routes
            .iter_mut()
            .map(|(route, ..)| route)
            .filter(|route| route.access == Access::Required)
            .peekable();
        if needed.peek().is_none() {
            context.report.error(
                own.mark,
                "`require` has no effect: no route has `access: required`",
            );
        }
        for route in needed {
            route.require.or(&everywhere);
        }
    }
    for (route, ..) in &mut routes {
        // Nobody is admitted where anybody may come in: there is nothing to exchange.
        if route.access != Access::Public && route.exchange.is_none() {
            route.exchange = always.map(Box::from);
        }
    }
    routes.into_iter().map(|(route, ..)| route).collect()
}

/// A pattern outside of our own paths.
fn own_path(context: &mut Context<'_>, at: &At<String>) -> Option<Box<str>> {
    let path = path_pattern(context, at)?;
    if path.starts_with("/.authferry") {
        context
            .report
            .error(at.mark, format!("`{path}` belongs to authferry itself"))
            .value(&path);
        return None;
    }
    Some(path)
}

/// The paths by which people sign out of an application itself.
pub(super) fn logout_paths(context: &mut Context<'_>, raw: &RawApp) -> Vec<Box<str>> {
    let list = raw.logout_paths.get().map_or(&[][..], |list| &list.items);
    let mut paths: Vec<Box<str>> = Vec::new();
    for at in list {
        if at.value.contains('*') {
            context
                .report
                .error(at.mark, format!("`{}` is not one path", at.value))
                .value(&at.value);
            continue;
        }
        paths.extend(own_path(context, at));
    }
    paths
}

fn plain(path: Box<str>, access: Access) -> Route {
    Route {
        path,
        methods: Vec::new(),
        access,
        credentials: Vec::new(),
        on_unauthenticated: OnUnauthenticated::Auto,
        require: Require::default(),
        websocket: false,
        upgrades: Vec::new(),
        preserve_post: None,
        encoded_slash: EncodedSlash::Refused,
        exchange: None,
        upstream: None,
    }
}

fn route(context: &mut Context<'_>, raw: &RawRoute) -> Option<Route> {
    let path = raw.path.required(raw.mark, "path", &mut context.report);
    let path = path.and_then(|at| own_path(context, at));
    let methods = raw.methods.get().map_or(&[][..], |list| &list.items);
    let methods = methods
        .iter()
        .filter_map(|at| method(context, at))
        .collect();
    let access = match raw.access.or(AccessWord::Required) {
        AccessWord::Public => Access::Public,
        AccessWord::Optional => Access::Optional,
        AccessWord::Required => Access::Required,
    };
    let classes = raw.credentials.get().map_or(&[][..], |list| &list.items);
    let credentials = classes.iter().map(|at| class(at.value)).collect();
    if access == Access::Public {
        for (key, mark) in [
            ("credentials", raw.credentials.mark()),
            ("require", raw.require.mark()),
            ("on_unauthenticated", raw.on_unauthenticated.mark()),
            ("exchange", raw.exchange.mark()),
        ] {
            if let Some(mark) = mark {
                context
                    .report
                    .error(
                        mark,
                        format!("`{key}` has no effect where anybody may come in"),
                    )
                    .hint("say `access: required` or `access: optional`");
            }
        }
    }
    let require = raw
        .require
        .get()
        .map(|require| require_of(context, require, access));
    let upstream = match raw.upstream.get() {
        Some(raw) => Some(upstream(context, raw)?),
        None => None,
    };
    Some(Route {
        path: path?,
        methods,
        access,
        credentials,
        on_unauthenticated: match raw.on_unauthenticated.or(OnUnauthenticatedWord::Auto) {
            OnUnauthenticatedWord::Auto => OnUnauthenticated::Auto,
            OnUnauthenticatedWord::Unauthorized => OnUnauthenticated::Unauthorized,
        },
        require: require.unwrap_or_default(),
        websocket: raw.websocket.or(false),
        upgrades: upgrades(context, &raw.upgrades),
        preserve_post: preserve_post(context, raw),
        encoded_slash: match raw.encoded_slash.or(EncodedSlashWord::Refuse) {
            EncodedSlashWord::Refuse => EncodedSlash::Refused,
            EncodedSlashWord::Opaque => EncodedSlash::Opaque,
        },
        exchange: raw.exchange.get().map(|at| at.value.as_str().into()),
        upstream,
    })
}

/// How long a form may be that is kept.
fn preserve_post(context: &mut Context<'_>, raw: &RawRoute) -> Option<usize> {
    let at = raw.preserve_post.get()?;
    let most = 64 * 1024;
    context.range(at.mark, &at.value.0, (1, most), "from `1B` to `64KiB`");
    usize::try_from(at.value.0.min(most)).ok()
}

const fn class(word: ClassWord) -> CredentialClass {
    match word {
        ClassWord::Session => CredentialClass::Session,
        ClassWord::Bearer => CredentialClass::Bearer,
        ClassWord::Opaque => CredentialClass::Opaque,
        ClassWord::Basic => CredentialClass::Basic,
        ClassWord::ApiKey => CredentialClass::ApiKey,
        ClassWord::ClientCert => CredentialClass::ClientCert,
    }
}

fn require_of(context: &mut Context<'_>, raw: &RawRequire, access: Access) -> Require {
    if access == Access::Optional {
        context
            .report
            .error(
                raw.mark,
                "`require` and `access: optional` contradict each other",
            )
            .hint(
                "who comes without a credential would see what a person without the group may not",
            );
    }
    span(
        context,
        &raw.max_age,
        Duration::from_secs(10),
        Duration::from_secs(30 * 24 * 3_600),
        "from `10s` to `30d`",
    );
    required_scopes(context, raw.scopes.get());
    let classes = acr(context, &raw.acr);
    let claims = raw.claims.get().into_iter().flat_map(|named| {
        let pair = |(name, value): (&At<String>, &At<String>)| {
            (name.value.as_str().into(), value.value.as_str().into())
        };
        named.readable().map(pair)
    });
    let proofs = raw.proof.get().map_or(&[][..], |list| &list.items);
    Require {
        groups: texts(raw.groups.get()),
        scopes: texts(raw.scopes.get()),
        acr: classes,
        roles: texts(raw.roles.get()),
        claims: claims.collect(),
        max_age: raw.max_age.get().map(|at| at.value.0),
        network: raw.network.get().map(networks).unwrap_or_default(),
        country: countries(context, raw),
        proof: proofs.iter().map(|at| proof(at.value)).collect(),
    }
}

/// Countries, which need a database.
fn countries(context: &mut Context<'_>, raw: &RawRequire) -> Vec<Country> {
    let mut all = Vec::new();
    for at in raw.country.get().map_or(&[][..], |list| &list.items) {
        match Country::parse(&at.value) {
            Some(country) => all.push(country),
            None => {
                context
                    .report
                    .error(at.mark, format!("`{}` is no country", at.value))
                    .value(&at.value)
                    .hint("two capital letters of ISO 3166-1, such as `DE`");
            }
        }
    }
    if let Some(mark) = raw.country.mark()
        && !context.countries
    {
        context
            .report
            .error(mark, "`country` needs `server.country_database`")
            .hint("without it no address is in any country, and nobody gets in");
    }
    all
}

/// Classes that can stand in a list separated by spaces, in quotes.
fn acr(context: &mut Context<'_>, raw: &Field<List<At<String>>>) -> Vec<Box<str>> {
    for at in raw.get().map_or(&[][..], |list| &list.items) {
        if !is_scope(&at.value) {
            context
                .report
                .error(at.mark, format!("`{}` is no assurance class", at.value))
                .value(&at.value)
                .hint("visible ASCII without spaces, quotes and backslashes");
        }
    }
    texts(raw.get())
}

const fn proof(word: ProofWord) -> Holds {
    match word {
        ProofWord::Dpop => Holds::Key,
        ProofWord::Mtls => Holds::Certificate,
    }
}

/// The first match wins: reports routes whose every request is taken by an earlier one.
fn unreachable_routes(context: &mut Context<'_>, routes: &[(Route, Mark, bool)]) {
    // Only a pattern for every method takes everything; exact paths are compared by a set.
    let mut wild: Vec<(&str, u32)> = Vec::new();
    let mut exact: std::collections::HashMap<&str, u32> = std::collections::HashMap::new();
    for (route, mark, every_method) in routes {
        let path = &*route.path;
        let by = wild
            .iter()
            .find(|(prefix, _)| path.trim_end_matches('*').starts_with(prefix))
            .map(|(_, line)| *line)
            .or_else(|| exact.get(path).copied());
        if let Some(line) = by {
            context
                .report
                .error(
                    *mark,
                    format!(
                        "this route is never reached: `{path}` is taken by the one on line {line}"
                    ),
                )
                .value(path)
                .hint("the first match wins: put the narrower route first");
        }
        if *every_method {
            match path.strip_suffix('*') {
                Some(prefix) => wild.push((prefix, mark.line)),
                None => {
                    exact.entry(path).or_insert(mark.line);
                }
            }
        }
    }
}
