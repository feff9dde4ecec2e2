//! Which application and which of its routes a request is for. The cost does not grow with the number of either.

use std::cmp::Ordering;
use std::collections::HashMap;

use http::Method;

use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::canonical::EncodedSlash;
use crate::proxy::canonical::canonical_path;
use crate::proxy::canonical::with_slashes;
use crate::proxy::canonical::without_parameters;
use crate::proxy::settings::App;

/// All applications and their routes.
///
/// A path pattern is a text that the canonical path equals, or, with a trailing `*`, begins with: `/api/*` is `/api/` and
/// everything below it, but not `/api`; `/ap*` is `/api`, too. A route that names `GET` answers for `HEAD` as well, as
/// resources do.
#[derive(Debug)]
pub(crate) struct Router {
    exact: HashMap<Box<str>, usize>,
    /// By what follows `*.`; matches exactly one label before it.
    wildcard: HashMap<Box<str>, usize>,
    apps: Vec<Paths>,
}

/// Where a request belongs. Numbers are places in the settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Routed {
    /// No application has this host: 404.
    NoApp,
    /// No route of the application fits: 403.
    NoRoute {
        /// The application.
        app: usize,
    },
    /// Programs that drop `;parameters` or decode `%2F` would see a path of another route, or the route takes no `%2F`:
    /// 400.
    TwoReadings {
        /// The application.
        app: usize,
    },
    /// The first route that fits.
    To {
        /// The application.
        app: usize,
        /// Its route.
        route: usize,
    },
}

impl Router {
    /// Sorts everything once. Where two applications claim one host, the first keeps it.
    pub(crate) fn new(apps: &[App]) -> Self {
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for (n, app) in apps.iter().enumerate() {
            for host in &app.hosts {
                match host.strip_prefix("*.") {
                    Some(suffix) => wildcard.entry(suffix.into()).or_insert(n),
                    None => exact.entry(host.clone()).or_insert(n),
                };
            }
        }
        let apps = apps.iter().map(Paths::of).collect();
        Self {
            exact,
            wildcard,
            apps,
        }
    }

    /// Where `request` belongs.
    pub(crate) fn route(&self, request: &CanonicalRequest) -> Routed {
        let Some(app) = self.app(request.host()) else {
            return Routed::NoApp;
        };
        let Some(paths) = self.apps.get(app) else {
            return Routed::NoRoute { app };
        };
        let (method, path) = (request.method(), request.path());
        if !request.is_ambiguous() {
            let route = paths.first(method, path);
            return route.map_or(Routed::NoRoute { app }, |route| Routed::To { app, route });
        }
        match paths.of_all_readings(method, path) {
            RouteOf::One(route) => Routed::To { app, route },
            RouteOf::None => Routed::NoRoute { app },
            RouteOf::TwoReadings => Routed::TwoReadings { app },
        }
    }

    /// The application of a canonical host.
    pub(crate) fn app(&self, host: &str) -> Option<usize> {
        if let Some(&app) = self.exact.get(host) {
            return Some(app);
        }
        let (_, suffix) = host.split_once('.')?;
        self.wildcard.get(suffix).copied()
    }
}

/// The place of the route of `app` that answers `method` at a canonical path: what [`Router::route`] says, for `explain`.
pub(crate) fn route_of(app: &App, method: &Method, path: &str) -> RouteOf {
    Paths::of(app).of_all_readings(method, path)
}

/// What [`route_of`] finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RouteOf {
    /// This route.
    One(usize),
    /// No route: 403.
    None,
    /// Programs that drop `;parameters` or decode `%2F` would see a path of another route, or the route takes no `%2F`.
    TwoReadings,
}

/// The paths of one application.
#[derive(Debug, Default)]
struct Paths {
    /// Routes without `*`, by path, in their order.
    exact: HashMap<Box<str>, Vec<Entry>>,
    /// Routes with `*`, sorted by their prefix.
    prefixes: Vec<Prefix>,
    /// What becomes of `%2F`, by route.
    slashes: Box<[EncodedSlash]>,
}

/// A route under one path.
#[derive(Debug)]
struct Entry {
    route: usize,
    methods: Box<[Method]>,
}

/// The routes under one prefix.
#[derive(Debug)]
struct Prefix {
    text: Box<str>,
    entries: Vec<Entry>,
    /// The longest other prefix that this one begins with.
    parent: Option<usize>,
}

impl Entry {
    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self
                .methods
                .iter()
                .any(|m| m == method || (*m == Method::GET && *method == Method::HEAD))
    }
}

/// The text of a pattern as canonical paths spell it: a rule that is spelt otherwise would never match, and what it guards
/// would fall to the next one.
fn spelling(text: &str) -> Box<str> {
    canonical_path(text).map_or_else(|_| text.into(), Into::into)
}

/// The first of `entries`, which stand in their order, that takes `method` and comes before `best`.
fn better(entries: &[Entry], method: &Method, best: Option<usize>) -> Option<usize> {
    entries
        .iter()
        .take_while(|entry| best.is_none_or(|best| entry.route < best))
        .find(|entry| entry.takes(method))
        .map(|entry| entry.route)
        .or(best)
}

impl Paths {
    fn of(app: &App) -> Self {
        let routes = app.routes.iter();
        let slashes = app.routes.iter().map(|route| route.encoded_slash).collect();
        Self {
            slashes,
            ..Self::new(routes.map(|route| (&*route.path, &*route.methods)))
        }
    }

    fn new<'a>(routes: impl Iterator<Item = (&'a str, &'a [Method])>) -> Self {
        let mut exact: HashMap<Box<str>, Vec<Entry>> = HashMap::new();
        let mut by_prefix: HashMap<Box<str>, Vec<Entry>> = HashMap::new();
        for (route, (path, methods)) in routes.enumerate() {
            let entry = Entry {
                route,
                methods: methods.into(),
            };
            match path.strip_suffix('*') {
                Some(prefix) => by_prefix.entry(spelling(prefix)).or_default().push(entry),
                None => exact.entry(spelling(path)).or_default().push(entry),
            }
        }
        let mut prefixes: Vec<_> = by_prefix
            .into_iter()
            .map(|(text, entries)| Prefix {
                text,
                entries,
                parent: None,
            })
            .collect();
        prefixes.sort_unstable_by(|a, b| a.text.cmp(&b.text));
        // In sorted order what a text begins with lies on the path from its predecessor to the root.
        let mut parents: Vec<Option<usize>> = Vec::with_capacity(prefixes.len());
        for n in 0..prefixes.len() {
            let mut candidate = n.checked_sub(1);
            while let Some(c) = candidate
                && let (Some(longer), Some(shorter)) = (prefixes.get(n), prefixes.get(c))
                && !longer.text.starts_with(&*shorter.text)
            {
                candidate = parents.get(c).copied().flatten();
            }
            parents.push(candidate);
        }
        for (prefix, parent) in prefixes.iter_mut().zip(parents) {
            prefix.parent = parent;
        }
        Self {
            exact,
            prefixes,
            slashes: Box::default(),
        }
    }

    /// The first route for `path` that takes `method`, if every program sees a path of that route in it.
    fn of_all_readings(&self, method: &Method, path: &str) -> RouteOf {
        let route = self.first(method, path);
        let same = |path: &str| {
            self.first(method, path) == route
                && self.first(method, &without_parameters(path)) == route
        };
        let one = if path.contains("%2F") {
            let slashes = route.and_then(|route| self.slashes.get(route));
            slashes == Some(&EncodedSlash::Opaque) && same(path) && same(&with_slashes(path))
        } else {
            same(path)
        };
        match route {
            _ if !one => RouteOf::TwoReadings,
            Some(route) => RouteOf::One(route),
            None => RouteOf::None,
        }
    }

    /// The first route for `path` that takes `method`.
    fn first(&self, method: &Method, path: &str) -> Option<usize> {
        let mut best = self
            .exact
            .get(path)
            .and_then(|entries| better(entries, method, None));
        // The greatest prefix that is not greater than the path: all prefixes of the path are among it and its parents.
        let after = self.prefixes.partition_point(|prefix| {
            prefix.text.as_bytes().cmp(path.as_bytes()) != Ordering::Greater
        });
        let mut next = after.checked_sub(1);
        while let Some(prefix) = next.and_then(|n| self.prefixes.get(n)) {
            if path.starts_with(&*prefix.text) {
                best = better(&prefix.entries, method, best);
            }
            next = prefix.parent;
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::canonical::canonicalise;
    use crate::proxy::conn::Conn;
    use crate::proxy::serve::testing::limits;

    fn paths(routes: &[(&str, &[Method])]) -> Paths {
        Paths::new(routes.iter().copied())
    }

    #[test]
    fn the_first_route_that_fits_wins() {
        let paths = paths(&[
            ("/api/admin/*", &[]),
            ("/api/*", &[Method::GET]),
            ("/api/x", &[Method::POST]),
            ("/*", &[]),
            ("/api/late", &[]),
        ]);
        let first = |method: Method, path| paths.first(&method, path);
        assert_eq!(first(Method::GET, "/api/admin/x"), Some(0));
        assert_eq!(first(Method::GET, "/api/x"), Some(1));
        assert_eq!(first(Method::HEAD, "/api/x"), Some(1));
        assert_eq!(first(Method::POST, "/api/x"), Some(2));
        assert_eq!(first(Method::PUT, "/api/x"), Some(3));
        assert_eq!(first(Method::POST, "/api/late"), Some(3));
        assert_eq!(first(Method::GET, "/"), Some(3));
    }

    #[test]
    fn a_star_is_any_rest_of_the_text_before_it() {
        let paths = paths(&[("/api/*", &[]), ("/ap*", &[]), ("/exact", &[])]);
        let first = |path| paths.first(&Method::GET, path);
        assert_eq!(first("/api/"), Some(0));
        assert_eq!(first("/api/a/b"), Some(0));
        assert_eq!(first("/api"), Some(1));
        assert_eq!(first("/apx"), Some(1));
        assert_eq!(first("/exact"), Some(2));
        assert_eq!(first("/exact/"), None);
        assert_eq!(first("/a"), None);
        assert_eq!(first("/"), None);
    }

    #[test]
    fn a_rule_guards_its_resource_in_whatever_spelling_it_was_written() {
        let paths = paths(&[
            ("/café/*", &[]),
            ("/a[b]", &[]),
            ("/%61dmin%2c/*", &[]),
            ("/.*", &[]),
        ]);
        let first = |path| paths.first(&Method::GET, path);
        assert_eq!(first("/caf%C3%A9/x"), Some(0));
        assert_eq!(first("/a%5Bb%5D"), Some(1));
        assert_eq!(first("/admin%2C/x"), Some(2));
        assert_eq!(first("/.well-known/x"), Some(3));
    }

    #[test]
    fn a_wildcard_host_is_one_label() {
        let router = Router {
            exact: HashMap::from([("a.corp.example".into(), 0)]),
            wildcard: HashMap::from([("corp.example".into(), 1), ("b.corp.example".into(), 2)]),
            apps: Vec::new(),
        };
        assert_eq!(router.app("a.corp.example"), Some(0));
        assert_eq!(router.app("x.corp.example"), Some(1));
        assert_eq!(router.app("x.b.corp.example"), Some(2));
        assert_eq!(router.app("x.y.corp.example"), None);
        assert_eq!(router.app("corp.example"), None);
        assert_eq!(router.app("evil.example"), None);
    }

    fn app(host: &str, routes: &[&str]) -> App {
        App::plain(host, routes.iter().copied())
    }

    #[test]
    fn explain_is_told_the_route_that_requests_get() {
        let mut app = app("a.test", &["/Admin%2Dx/*", "/read", "/*"]);
        app.routes[1].methods = vec![Method::GET];
        assert_eq!(
            route_of(&app, &Method::GET, "/Admin-x/y"),
            RouteOf::One(0),
            "one spelling"
        );
        assert_eq!(
            route_of(&app, &Method::HEAD, "/read"),
            RouteOf::One(1),
            "HEAD as GET"
        );
        assert_eq!(route_of(&app, &Method::POST, "/read"), RouteOf::One(2));
        assert_eq!(
            route_of(&app, &Method::GET, "/read;x"),
            RouteOf::TwoReadings
        );
    }

    #[test]
    fn an_encoded_slash_needs_a_route_that_takes_it_in_every_reading() {
        let mut app = app("a.test", &["/files/secret/*", "/files/*", "/*"]);
        app.routes[1].encoded_slash = EncodedSlash::Opaque;
        let get = |path| route_of(&app, &Method::GET, path);
        assert_eq!(get("/files/a%2Fb"), RouteOf::One(1));
        assert_eq!(get("/files/a%2Fb;x"), RouteOf::One(1));
        assert_eq!(get("/files/secret%2Fb"), RouteOf::TwoReadings);
        assert_eq!(get("/files/secret;x%2Fb"), RouteOf::TwoReadings);
        assert_eq!(get("/files%2Fa"), RouteOf::TwoReadings, "taken by `/*`");
        assert_eq!(get("/other/a%2Fb"), RouteOf::TwoReadings);
    }

    #[test]
    fn host_and_path_lead_to_a_route() {
        let router = Router::new(&[
            app("a.test", &["/admin/*", "/x;y", "/*"]),
            app("b.test", &["/only"]),
            app("a.test", &[]),
        ]);
        let routed = |host: &str, target: &str| {
            let request = Request::builder()
                .uri(target)
                .header("host", host)
                .body(())
                .unwrap();
            router.route(
                &canonicalise(&request.into_parts().0, &Conn::for_test(false), &limits()).unwrap(),
            )
        };
        assert_eq!(
            routed("A.test:80", "//admin/x"),
            Routed::To { app: 0, route: 0 }
        );
        assert_eq!(
            routed("a.test", "/admin?/x"),
            Routed::To { app: 0, route: 2 }
        );
        assert_eq!(routed("b.test", "/only"), Routed::To { app: 1, route: 0 });
        assert_eq!(routed("b.test", "/else"), Routed::NoRoute { app: 1 });
        assert_eq!(routed("c.test", "/only"), Routed::NoApp);
        // Some programs drop what follows `;`, and some do not.
        assert_eq!(
            routed("a.test", "/a;jsessionid=1/b"),
            Routed::To { app: 0, route: 2 }
        );
        assert_eq!(
            routed("a.test", "/admin/a;b"),
            Routed::To { app: 0, route: 0 }
        );
        assert_eq!(
            routed("a.test", "/admin;a/secret"),
            Routed::TwoReadings { app: 0 }
        );
        assert_eq!(
            routed("a.test", "/admin%3ba/secret"),
            Routed::TwoReadings { app: 0 }
        );
        assert_eq!(routed("a.test", "/x;y"), Routed::TwoReadings { app: 0 });
    }

    fn pattern() -> impl Strategy<Value = String> {
        "/[ab/]{0,5}\\*?"
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// The sorted tables answer as a walk through the list would.
        #[test]
        fn lookup_is_the_first_match(
            routes in prop::collection::vec((pattern(), 0..3_u8), 0..12),
            path in "/[ab/]{0,6}",
            post in any::<bool>(),
        ) {
            let methods = |n: u8| -> Vec<Method> {
                match n { 0 => vec![], 1 => vec![Method::GET], _ => vec![Method::POST, Method::PUT] }
            };
            let routes: Vec<(String, Vec<Method>)> = routes.into_iter().map(|(p, n)| (p, methods(n))).collect();
            let paths = Paths::new(routes.iter().map(|(p, m)| (p.as_str(), m.as_slice())));
            let method = if post { Method::POST } else { Method::GET };
            let walked = routes.iter().position(|(pattern, methods)| {
                let fits = match pattern.strip_suffix('*') {
                    Some(prefix) => path.starts_with(&*spelling(prefix)),
                    None => *path == *spelling(pattern),
                };
                fits && (methods.is_empty() || methods.contains(&method))
            });
            prop_assert_eq!(paths.first(&method, &path), walked);
        }
    }
}
