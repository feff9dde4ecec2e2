//! `divergences` and `surface`: in what second opinions differ, and what applications answer themselves.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::admin::ReportRequest;
use crate::admin::ReportTable;
use crate::admin::ReportView;
use crate::app::process::Process;
use crate::app::report::moment;
use crate::app::report::plans;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::control::Ours;
use crate::control::SurfaceKind;
use crate::proxy::settings::Access;
use crate::proxy::settings::App;
use crate::rollout::AppId;
use crate::shadow::Kept;

/// Examples that are shown of each kind of difference.
const EXAMPLES: usize = 3;

/// Differences of one kind.
#[derive(Default)]
struct Group<'a> {
    people: BTreeSet<&'a str>,
    count: u64,
    first: Option<UnixTime>,
    last: UnixTime,
    values: BTreeSet<&'a str>,
    examples: Vec<String>,
}

/// By application, class and field; the values are hashes, equal where the values are.
pub(super) fn divergences(
    process: &Process,
    settings: &Settings,
    wanted: &ReportRequest,
    now: UnixTime,
    view: &mut ReportView,
) {
    let kept = process.shadow.found().all(now);
    let asked = |(of, one): &&(AppId, Kept)| {
        let app = wanted.app.as_deref();
        let age = now.since(one.at).as_secs();
        app.is_none_or(|app| of.as_str() == app)
            && wanted.since_seconds.is_none_or(|span| age <= span)
            && (wanted.rollout.is_none() || plans(settings, wanted).any(|plan| plan.covers(of)))
    };
    let mut groups: BTreeMap<(&str, &str, &str, &str), Group<'_>> = BTreeMap::new();
    for (of, one) in kept.iter().filter(asked) {
        let (class, severity) = (one.class.as_str(), one.class.severity());
        let key = (of.as_str(), severity, class, &*one.field);
        let group = groups.entry(key).or_default();
        group.people.insert(one.person.as_str());
        group.count += 1;
        group.first.get_or_insert(one.at);
        group.last = one.at;
        group.values.extend(one.values.iter().map(|value| &**value));
        let example = format!("{} {}/{}", one.person, one.control, one.candidate);
        if group.examples.len() < EXAMPLES && !group.examples.contains(&example) {
            group.examples.push(example);
        }
    }
    let mut table = ReportTable::new(
        "Differences",
        [
            "application",
            "severity",
            "class",
            "field",
            "people",
            "times",
            "first",
            "last",
            "values",
            "examples",
        ],
    );
    for ((app, severity, class, field), group) in groups {
        let values: Vec<&str> = group.values.into_iter().collect();
        table.row([
            app.into(),
            severity.into(),
            class.into(),
            field.into(),
            group.people.len().into(),
            group.count.into(),
            group.first.map(moment).into(),
            moment(group.last).into(),
            values.join(", ").into(),
            group.examples.join("; ").into(),
        ]);
    }
    let mut compared = ReportTable::new(
        "Second opinions",
        ["application", "people compared", "ignored until"],
    );
    for block in &settings.shadow {
        let rules = block.ignore.iter();
        let rules: Vec<String> = rules
            .map(|rule| {
                let word = if rule.until <= now { " (over)" } else { "" };
                format!("{} {}{word}", rule.class.as_str(), moment(rule.until))
            })
            .collect();
        compared.row([
            block.app.as_str().into(),
            process.shadow.found().people(&block.app).into(),
            rules.join("; ").into(),
        ]);
    }
    view.tables = vec![table, compared];
    view.notes.push(String::from(
        "of `retention.findings` (30 days unless it is set), by all instances; examples are person, hash of what decides, hash of the second opinion",
    ));
}

/// By route, path, credential and client: what we did, and what the application answered. First, what looks wrong.
pub(super) fn surface(
    process: &Process,
    settings: &Settings,
    wanted: &ReportRequest,
    view: &mut ReportView,
) {
    let all = process.surface.all();
    let mut odd = ReportTable::new(
        "To look at",
        ["application", "path", "route", "finding", "requests"],
    );
    let mut table = ReportTable::new(
        "What was answered",
        [
            "application",
            "path",
            "route",
            "credential",
            "client",
            "ours",
            "application's",
            "requests",
            "last",
        ],
    );
    for (kind, times) in &all {
        let asked = wanted.app.as_deref();
        let app = settings.apps.iter().find(|app| app.id == kind.app);
        let Some(app) = app.filter(|app| asked.is_none_or(|asked| app.id.as_str() == asked)) else {
            continue;
        };
        let (route, access) = route(app, kind);
        let text = |text: &str| Value::from(text.to_owned());
        let ids = [text(app.id.as_str()), text(&kind.path), text(route)];
        let [id, path, route] = ids.clone();
        table.row([
            id,
            path,
            route,
            kind.class.map_or("none", |class| class.as_str()).into(),
            kind.client.as_deref().unwrap_or("-").into(),
            kind.ours.as_str().into(),
            kind.theirs.map_or_else(|| "not asked".into(), Value::from),
            times.count.into(),
            moment(times.last).into(),
        ]);
        if let Some(finding) = finding(kind, access) {
            let [id, path, route] = ids;
            odd.row([id, path, route, finding.into(), times.count.into()]);
        }
    }
    view.tables = vec![odd, table];
    view.notes.push(String::from(
        "since this instance started, of applications with `shadow.APP.oracles: [{ method: upstream_status }]`; names in paths are left out",
    ));
}

/// What of it looks wrong, by the rules that run.
fn finding(kind: &SurfaceKind, access: Option<Access>) -> Option<&'static str> {
    match (kind.ours, kind.theirs, access) {
        (Ours::Admitted, Some(401), _) => {
            Some("we let somebody in, the application asks who it is")
        }
        (Ours::Admitted, Some(403), _) => Some(
            "we let somebody in, the application refuses them this: its own rule, or it takes them for somebody else",
        ),
        (Ours::Anonymous, Some(200..=299), Some(Access::Optional)) => {
            Some("the application answers to nobody: a public path?")
        }
        (Ours::Refused, None, Some(Access::Required)) if kind.class.is_none() => {
            Some("turned away without a credential: a forgotten public path, or a login that began")
        }
        (Ours::Admitted | Ours::Anonymous | Ours::Refused, _, _) => None,
    }
}

/// The route that such requests took, and whom it lets in now; one that is gone lets nobody in.
fn route<'a>(app: &App, kind: &'a SurfaceKind) -> (&'a str, Option<Access>) {
    let Some(name) = kind.route.as_deref() else {
        return ("-", None);
    };
    let mut routes = app.routes.iter();
    let route = routes.find(|route| route.name() == name);
    (name, route.map(|route| route.access))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CredentialClass;

    #[test]
    fn what_the_application_answers_itself_is_held_against_what_we_did() {
        let kind = |ours, theirs, class| SurfaceKind {
            app: AppId::new("crm"),
            path: "/orders".into(),
            route: Some("/*".into()),
            class,
            client: None,
            ours,
            theirs,
        };
        let session = Some(CredentialClass::Session);
        for (ours, theirs, class, access, found) in [
            (
                Ours::Admitted,
                Some(401),
                session,
                Access::Required,
                "asks who",
            ),
            (
                Ours::Admitted,
                Some(403),
                session,
                Access::Required,
                "refuses them",
            ),
            (Ours::Admitted, Some(200), session, Access::Required, ""),
            (Ours::Admitted, Some(404), session, Access::Required, ""),
            (
                Ours::Anonymous,
                Some(204),
                None,
                Access::Optional,
                "a public path?",
            ),
            (Ours::Anonymous, Some(403), None, Access::Optional, ""),
            (
                Ours::Refused,
                None,
                None,
                Access::Required,
                "forgotten public path",
            ),
            (Ours::Refused, None, session, Access::Required, ""),
        ] {
            let told = finding(&kind(ours, theirs, class), Some(access)).unwrap_or("");
            let good = told.contains(found) && told.is_empty() == found.is_empty();
            assert!(good, "{ours:?} {theirs:?}: {told}");
        }
    }
}
