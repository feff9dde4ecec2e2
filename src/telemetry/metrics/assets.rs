//! What `deploy/` says of metrics is held to the catalogue: alerts, their tests, the dashboard, the runbooks.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::telemetry::metrics::catalog::FAMILIES;
use crate::telemetry::metrics::catalog::Family;
use crate::telemetry::metrics::catalog::Kind;

fn read(name: &str) -> String {
    let path = format!("{}/deploy/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap()
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    let found = of.get(name).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no `{name}` in {of}"))
}

fn rows<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of.get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The name of every page in `deploy/runbooks`, with what it says.
fn runbooks() -> BTreeMap<String, String> {
    let path = format!("{}/deploy/runbooks", env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(path).unwrap().map(|page| {
        let name = page.unwrap().file_name().into_string().unwrap();
        let said = read(&format!("runbooks/{name}"));
        (name, said)
    });
    pages.collect()
}

fn rules() -> Vec<Value> {
    let file = yaml("alerts.yaml");
    let groups = rows(&file, "groups").iter();
    groups
        .flat_map(|group| rows(group, "rules").to_vec())
        .collect()
}

/// Every query of a document, however deep: what stands under `expr`, `query` or `definition`.
fn queries(of: &Value, into: &mut Vec<String>) {
    match of {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(query)
                        if ["expr", "query", "definition"].contains(&name.as_str()) =>
                    {
                        into.push(query.clone());
                    }
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
                    Value::Array(_) | Value::Object(_) => queries(value, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A name with the matchers behind it, as it stands in a query or a series.
#[derive(Debug)]
struct Selector {
    name: String,
    /// Label, and the values that it is compared with.
    matchers: Vec<(String, Vec<String>)>,
}

/// Every name that is ours in a text, recorded ones too.
fn selectors(text: &str) -> Vec<Selector> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("authferry_") {
        let (before, from) = rest.split_at(at);
        let head = before.rfind(|c| !word(c)).map_or(0, |at| at + 1);
        let tail = from.find(|c| !word(c)).unwrap_or(from.len());
        let (name, behind) = from.split_at(tail);
        let name = format!("{}{name}", before.split_at(head).1);
        let matchers = behind
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'))
            .map_or_else(Vec::new, |(inside, _)| matchers(inside));
        found.push(Selector { name, matchers });
        rest = behind;
    }
    found
}

fn matchers(inside: &str) -> Vec<(String, Vec<String>)> {
    let mut pieces = inside.split('"');
    let mut found = Vec::new();
    while let (Some(label), Some(value)) = (pieces.next(), pieces.next()) {
        let label = label.trim_matches([',', ' ', '=', '~', '!']).to_owned();
        found.push((label, value.split('|').map(str::to_owned).collect()));
    }
    found
}

/// The words that each closed label can have, as the README lists them. Labels with names of the configuration are not in it.
fn words() -> BTreeMap<String, BTreeSet<String>> {
    const OPEN: [&str; 11] = [
        "guard",
        "mode",
        "stage",
        "rollout",
        "app",
        "provider",
        "rule",
        "certificate",
        "code",
        "exchange",
        "scope",
    ];
    let readme = read("README.md");
    let table = readme.split("| Label | Words |").nth(1).unwrap();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let quoted = |cell: &str| -> Vec<String> {
            let words = cell.split('`').skip(1).step_by(2);
            words.map(str::to_owned).collect()
        };
        for label in quoted(cells[0]) {
            if !OPEN.contains(&label.as_str()) {
                let words = found.entry(label).or_default();
                words.extend(quoted(cells[1]));
            }
        }
    }
    // The words of `flow` are `login` and those of `credential`.
    let credentials = found["credential"].clone();
    found.get_mut("flow").unwrap().extend(credentials);
    found
}

fn family(name: &str) -> Option<&'static Family> {
    let named = |name: &str| FAMILIES.iter().copied().find(|f| f.name == name);
    named(name).or_else(|| {
        let parts = ["_bucket", "_sum", "_count"].into_iter();
        let base = parts
            .filter_map(|part| name.strip_suffix(part))
            .find_map(named)?;
        (base.kind == Kind::Histogram).then_some(base)
    })
}

/// What is wrong with the names in a text.
fn wrong(place: &str, text: &str, recorded: &BTreeSet<String>) -> Vec<String> {
    let words = words();
    let mut problems = Vec::new();
    for selector in selectors(text) {
        let name = &selector.name;
        if name.contains(':') {
            if !recorded.contains(name) {
                problems.push(format!("{place}: nobody records {name}"));
            }
            continue;
        }
        let Some(family) = family(name) else {
            problems.push(format!("{place}: there is no metric {name}"));
            continue;
        };
        for (label, values) in &selector.matchers {
            let known = family.labels.contains(&label.as_str())
                || ["job", "instance"].contains(&label.as_str())
                || (label == "le" && name.ends_with("_bucket"));
            if !known {
                problems.push(format!("{place}: {name} has no label {label}"));
            }
            let Some(words) = words.get(label) else {
                continue;
            };
            for value in values {
                if !value.contains(['$', '.']) && !words.contains(value) {
                    problems.push(format!("{place}: {name}: {label} is never {value}"));
                }
            }
        }
    }
    problems
}

fn recorded() -> BTreeSet<String> {
    let rules = rules().into_iter();
    rules
        .filter_map(|rule| Some(rule.get("record")?.as_str()?.to_owned()))
        .collect()
}

#[test]
fn alerts_dashboard_and_runbooks_name_only_metrics_that_exist() {
    let recorded = recorded();
    let mut problems = Vec::new();
    let mut files: Vec<(String, String)> = runbooks().into_iter().collect();
    for name in ["alerts.yaml", "alerts.test.yaml"] {
        files.push((name.into(), read(name)));
    }
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let mut asked = Vec::new();
    queries(&dashboard, &mut asked);
    assert!(40 < asked.len(), "the dashboard asks {} times", asked.len());
    files.extend(asked.into_iter().map(|q| ("dashboard.json".into(), q)));
    for (place, text) in &files {
        problems.extend(wrong(place, text, &recorded));
    }
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn a_name_a_label_or_a_word_that_does_not_exist_is_noticed() {
    let recorded = BTreeSet::from(["app:authferry_x:rate5m".to_owned()]);
    for (query, flaw) in [
        ("rate(authferry_http_requests[5m])", "no metric"),
        ("authferry_http_requests_total_sum", "no metric"),
        (
            "authferry_http_requests_total{provider=\"x\"}",
            "no label provider",
        ),
        (
            "authferry_auth_attempts_total{outcome=~\"success|lost\"}",
            "outcome is never lost",
        ),
        ("app:authferry_y:rate5m > 1", "nobody records"),
    ] {
        let problems = wrong("here", query, &recorded);
        assert!(
            problems.len() == 1 && problems[0].contains(flaw),
            "{query}: {problems:?}"
        );
    }
    let good = "sum(rate(authferry_auth_duration_seconds_bucket{job=\"a\", le=\"1\", app=~\"$app\"}[5m])) > app:authferry_x:rate5m";
    assert_eq!(wrong("here", good, &recorded), Vec::<String>::new());
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let mut asked = Vec::new();
    queries(&dashboard, &mut asked);
    for rule in rules() {
        let shown = rule.get("record").and_then(Value::as_str);
        if shown.is_some_and(|name| asked.iter().any(|q| q.contains(name))) {
            asked.push(text(&rule, "expr").to_owned());
        }
    }
    let seen: BTreeSet<&str> = asked
        .iter()
        .flat_map(|query| selectors(query))
        .filter_map(|selector| Some(family(&selector.name)?.name))
        .collect();
    let missing: Vec<_> = FAMILIES
        .iter()
        .map(|family| family.name)
        .filter(|name| !seen.contains(name))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// A rule that nobody asks could say anything.
#[test]
fn every_recorded_series_is_asked_by_an_alert_or_by_a_test() {
    let mut asked = String::new();
    for rule in rules().iter().filter(|rule| rule.get("alert").is_some()) {
        asked.push_str(text(rule, "expr"));
    }
    for test in rows(&yaml("alerts.test.yaml"), "tests") {
        for check in rows(test, "promql_expr_test") {
            asked.push_str(text(check, "expr"));
            assert!(!rows(check, "exp_samples").is_empty(), "{check}");
        }
    }
    let recorded = recorded();
    assert!(10 < recorded.len(), "{recorded:?}");
    let idle: Vec<_> = recorded
        .iter()
        .filter(|name| !asked.contains(*name))
        .collect();
    assert_eq!(idle, Vec::<&String>::new());
}

#[test]
fn every_alert_has_a_runbook_a_severity_and_both_kinds_of_test() {
    let pages = runbooks();
    let tests = yaml("alerts.test.yaml");
    let checks: Vec<&Value> = rows(&tests, "tests")
        .iter()
        .flat_map(|test| rows(test, "alert_rule_test"))
        .collect();
    let mut linked = BTreeSet::new();
    let mut names = BTreeSet::new();
    for rule in rules().iter().filter(|rule| rule.get("alert").is_some()) {
        let name = text(rule, "alert");
        assert!(names.insert(name.to_owned()), "{name} twice");
        let severity = text(&rule["labels"], "severity");
        assert!(["page", "ticket"].contains(&severity), "{name}: {severity}");
        let url = text(&rule["annotations"], "runbook_url");
        let page = url.strip_prefix("deploy/runbooks/").unwrap_or_default();
        let said = pages.get(page);
        let said = said.unwrap_or_else(|| panic!("{name}: there is no {url}"));
        assert!(
            said.contains(&format!("`{name}`")),
            "{page} does not name {name}"
        );
        linked.insert(page.to_owned());
        let fires = |yes: bool| {
            let mut of_it = checks.iter().filter(|c| text(c, "alertname") == name);
            of_it.any(|check| rows(check, "exp_alerts").is_empty() != yes)
        };
        assert!(fires(true), "{name} is never seen to fire");
        assert!(fires(false), "{name} is never seen to be silent");
    }
    for check in checks {
        let name = text(check, "alertname");
        assert!(names.contains(name), "there is no alert {name}");
    }
    let index = &pages["README.md"];
    for (page, said) in &pages {
        assert!(
            page == "README.md" || linked.contains(page) || index.contains(page.as_str()),
            "nothing leads to {page}"
        );
        for target in said.split("](").skip(1) {
            let target = target.split(')').next().unwrap_or_default();
            let path = format!("{}/deploy/runbooks/{target}", env!("CARGO_MANIFEST_DIR"));
            assert!(fs::exists(&path).unwrap(), "{page} leads to {target}");
        }
    }
}
