//! `assurance`: which class of a login is more than another, and `assurance_floor`: the least that a path takes.

use crate::config::compile::address::path_pattern;
use crate::config::compile::context::Context;
use crate::config::compile::roles::is_scope;
use crate::config::raw::RawApp;
use crate::config::raw::RawConfig;
use crate::config::shape::At;
use crate::proxy::settings::Access;
use crate::proxy::settings::Route;

/// The order where the file names none: a password, several factors, a key in hardware.
const KNOWN: [&str; 3] = ["pwd", "mfa", "hwk"];

/// The classes in order, the weakest first.
pub(super) fn order(context: &mut Context<'_>, raw: &RawConfig) -> Vec<Box<str>> {
    let Some(list) = raw.assurance.get() else {
        return KNOWN.map(Box::from).to_vec();
    };
    let mut order: Vec<Box<str>> = Vec::new();
    for at in &list.items {
        if !is_scope(&at.value) {
            context
                .report
                .error(at.mark, format!("`{}` is no assurance class", at.value))
                .value(&at.value)
                .hint("visible ASCII without spaces, quotes and backslashes");
        }
        if order.iter().any(|class| **class == *at.value) {
            context.report.error(at.mark, "stands here twice");
        } else {
            order.push(at.value.as_str().into());
        }
    }
    order
}

/// The classes that are at least this one.
pub(super) fn at_least(context: &mut Context<'_>, at: &At<String>) -> Option<Vec<Box<str>>> {
    let order = &context.assurance;
    let place = order.iter().position(|class| **class == *at.value);
    let enough = place.and_then(|place| order.get(place..).map(<[Box<str>]>::to_vec));
    if enough.is_none() {
        let known = order.join("`, `");
        context
            .report
            .error(
                at.mark,
                format!("`{}` has no place in the order of classes", at.value),
            )
            .value(&at.value)
            .hint(format!(
                "the order is `{known}`; `assurance: […]` names another, the weakest first"
            ));
    }
    enough
}

/// Raises the routes of an application to the floors of their paths. A route that reaches beyond a floor is cut in two, so that
/// the first match stays the first match.
pub(super) fn floors(context: &mut Context<'_>, raw: &RawApp, routes: &mut Vec<Route>) {
    let named = raw.assurance_floor.get();
    for (path, class) in named.into_iter().flat_map(|named| named.readable()) {
        let (Some(pattern), Some(enough)) = (path_pattern(context, path), at_least(context, class))
        else {
            continue;
        };
        // `/admin/*` is meant to close `/admin`, too.
        let bare = pattern.strip_suffix("/*").filter(|bare| !bare.is_empty());
        let bare = bare.map(Box::from);
        for pattern in [Some(pattern), bare].into_iter().flatten() {
            raise(context, path, &pattern, &enough, routes);
        }
    }
}

fn raise(
    context: &mut Context<'_>,
    path: &At<String>,
    floor: &str,
    enough: &[Box<str>],
    routes: &mut Vec<Route>,
) {
    let before = std::mem::take(routes);
    let mut closed = false;
    for mut route in before {
        let within = covers(floor, &route.path);
        let beyond = covers(&route.path, floor);
        if !within && !beyond {
            routes.push(route);
            continue;
        }
        if route.access != Access::Required {
            // What is narrower than the floor is an exception from it; what is wider takes its place.
            if beyond && !closed {
                context
                    .report
                    .error(
                        path.mark,
                        format!(
                            "`{floor}` lies in `{}`, where nobody has to sign in",
                            route.path
                        ),
                    )
                    .value(&path.value);
            }
            routes.push(route);
            continue;
        }
        let classes = narrowed(&route.require.acr, enough);
        if classes.is_empty() {
            context.report.error(
                path.mark,
                format!(
                    "no class is enough for this and for `require.acr` of `{}`",
                    route.path
                ),
            );
        }
        if within {
            route.require.acr = classes;
            closed |= beyond && route.methods.is_empty();
            routes.push(route);
            continue;
        }
        let mut cut = route.clone();
        cut.path = floor.into();
        cut.require.acr = classes;
        closed |= cut.methods.is_empty();
        routes.push(cut);
        routes.push(route);
    }
}

/// The classes that both take; an empty list takes every class.
fn narrowed(wanted: &[Box<str>], enough: &[Box<str>]) -> Vec<Box<str>> {
    if wanted.is_empty() {
        return enough.to_vec();
    }
    let both = wanted.iter().filter(|class| enough.contains(class));
    both.cloned().collect()
}

/// Whether whatever the second pattern matches is matched by the first.
fn covers(wide: &str, narrow: &str) -> bool {
    match wide.strip_suffix('*') {
        Some(prefix) => narrow.trim_end_matches('*').starts_with(prefix),
        None => wide == narrow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_begins_as_it_does() {
        for (wide, narrow, covered) in [
            ("/*", "/admin/*", true),
            ("/admin/*", "/admin/x", true),
            ("/admin/*", "/admin/*", true),
            ("/admin/*", "/admin", false),
            ("/admin", "/admin", true),
            ("/admin", "/admin/*", false),
            ("/a*", "/admin", true),
            ("/admin/*", "/a*", false),
        ] {
            assert_eq!(covers(wide, narrow), covered, "{wide} {narrow}");
        }
    }

    #[test]
    fn a_floor_narrows_what_a_route_takes() {
        let classes = |all: &[&str]| all.iter().map(|one| Box::from(*one)).collect::<Vec<_>>();
        let enough = classes(&["mfa", "hwk"]);
        assert_eq!(narrowed(&[], &enough), enough);
        assert_eq!(
            narrowed(&classes(&["pwd", "hwk"]), &enough),
            classes(&["hwk"])
        );
        assert!(narrowed(&classes(&["pwd"]), &enough).is_empty());
    }
}
