//! The configuration as its authors meet it: files in `tests/configs` and `config`, and the promises about them.

mod hostile;

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::UnixTime;
use crate::config::Compiled;
use crate::config::Environment;
use crate::config::Problems;
use crate::config::Severity;
use crate::config::Source;
use crate::config::load;
use crate::config::settings::Settings;
use crate::config::tree;
use crate::config::tree::Content;
use crate::config::tree::Mark;
use crate::config::tree::Node;
use crate::providers::settings::KindSettings;
use crate::rollout::Guardrails;

/// A machine on which every file that an example names exists, unless its name says `missing`.
#[derive(Debug)]
struct Examples;

impl Environment for Examples {
    fn read(&self, path: &Path, _limit: usize) -> io::Result<Vec<u8>> {
        // A damaged path may end in `..`, which no file is.
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::NotFound)?;
        let text = match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
            _ if name.contains("missing") => return Err(io::ErrorKind::NotFound.into()),
            _ if name.contains("empty") => "",
            "crt" => "-----BEGIN CERTIFICATE-----\n",
            "key" | "pem" => "-----BEGIN PRIVATE KEY-----\n",
            "css" if name.contains("remote") => "body { background: URL(//elsewhere) }",
            "css" => "body { color: navy }",
            "csv" if name.contains("twice") => "employee_id,sub\n42,f81d\n42,f81e\n",
            "csv" if name.contains("uids") => "employee_id,uid,sub\n42,u42,f81d\n",
            "csv" => "employee_id,sub\n42,f81d\n",
            "txt" => "# people\nhr:1\n\nhr:2\n",
            _ if name.contains('2') => {
                "2222222222222222222222222222222222222222222222222222222222222222\n"
            }
            _ => "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n",
        };
        Ok(text.as_bytes().to_vec())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "EXAMPLE_SECRET").then(|| "000102030405060708090a0b0c0d0e0f".to_owned())
    }

    fn cores(&self) -> usize {
        2
    }
}

pub(in crate::config) fn source(name: &str, text: &str) -> Source {
    Source {
        path: PathBuf::from(name),
        text: text.to_owned(),
        environment: Arc::new(Examples),
    }
}

fn compile(text: &str) -> Result<Compiled, Problems> {
    load(&source("test.yaml", text))
}

#[track_caller]
fn settings(text: &str) -> Settings {
    match compile(text) {
        Ok(compiled) => compiled.draft.with_test_keys(),
        Err(problems) => panic!("{problems}"),
    }
}

/// Files of a directory that end in `.yaml`, by name.
pub(in crate::config) fn files(directory: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut found: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// What a file says of itself: `# expect: LINE:COLUMN PART OF THE MESSAGE`, or `# warn:` for warnings.
fn expected(text: &str) -> Vec<(Severity, u32, u32, String)> {
    let mut expected = Vec::new();
    for line in text.lines() {
        let (severity, rest) = match (
            line.strip_prefix("# expect: "),
            line.strip_prefix("# warn: "),
        ) {
            (Some(rest), _) => (Severity::Error, rest),
            (None, Some(rest)) => (Severity::Warning, rest),
            (None, None) => continue,
        };
        let (place, message) = rest.split_once(' ').unwrap();
        let (row, column) = place.split_once(':').unwrap();
        expected.push((
            severity,
            row.parse().unwrap(),
            column.parse().unwrap(),
            message.to_owned(),
        ));
    }
    expected.sort_by_key(|(_, line, column, _)| (*line, *column));
    expected
}

/// Checks that a file has exactly the problems it says.
fn disagreement(name: &str, text: &str) -> Option<String> {
    let problems = match load(&source(name, text)) {
        Ok(compiled) => compiled.warnings,
        Err(problems) => problems,
    };
    let mut open = expected(text);
    let mut wrong = String::new();
    for problem in &problems.list {
        let found = open.iter().position(|(severity, line, column, message)| {
            (*severity, *line, *column) == (problem.severity, problem.line, problem.column)
                && problem.message.contains(message)
        });
        match found {
            Some(index) => drop(open.remove(index)),
            None => wrong.push_str(&format!(
                "unexpected: {} {}:{} {}\n",
                problem.severity.as_str(),
                problem.line,
                problem.column,
                problem.message
            )),
        }
    }
    for (severity, line, column, message) in open {
        wrong.push_str(&format!(
            "not reported: {} {line}:{column} {message}\n",
            severity.as_str()
        ));
    }
    (!wrong.is_empty()).then(|| format!("{name}:\n{wrong}\n"))
}

#[test]
fn every_broken_file_has_exactly_the_problems_it_says() {
    let files = files("tests/configs/bad");
    assert!(50 <= files.len(), "only {} broken files", files.len());
    for (name, text) in &files {
        let errors = expected(text)
            .iter()
            .filter(|(severity, ..)| *severity == Severity::Error)
            .count();
        assert!(0 < errors, "{name} expects no error");
    }
    let wrong: String = files
        .iter()
        .filter_map(|(name, text)| disagreement(name, text))
        .collect();
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_problem_of_every_broken_file_has_a_hint_and_the_value_that_stands_there() {
    let (mut of_scalars, mut secret) = (0, 0);
    for (name, text) in files("tests/configs/bad") {
        let Err(problems) = load(&source(&name, &text)) else {
            continue;
        };
        let Ok(root) = tree::parse(&text) else {
            assert!(problems.list.iter().all(|problem| problem.hint.is_some()));
            continue;
        };
        for problem in &problems.list {
            let told = format!("{name}:{}: {}", problem.line, problem.message);
            let hint = problem.hint.as_deref().unwrap_or_default();
            assert!(!hint.trim().is_empty(), "no hint: {told}");
            if scalar_stands_at(&root, (problem.line, problem.column)) {
                assert!(problem.value.is_some(), "no value: {told}");
                of_scalars += 1;
            }
            secret += usize::from(problem.value.as_deref() == Some("***"));
        }
    }
    assert!(250 < of_scalars, "{of_scalars}");
    assert!(0 < secret, "no broken file has a secret in the wrong place");
}

/// Whether a scalar begins at this line and column: a key, or a value.
fn scalar_stands_at(node: &Node, place: (u32, u32)) -> bool {
    let here = |mark: Mark| (mark.line, mark.column) == place;
    match &node.content {
        Content::Scalar(_) => here(node.mark),
        Content::Null => false,
        Content::List(items) => items.iter().any(|item| scalar_stands_at(item, place)),
        // A mapping begins where its first key does: what is wrong with it as a whole has no one value.
        Content::Map(entries) => entries.iter().any(|(key, value)| {
            (here(key.mark) && !here(node.mark)) || scalar_stands_at(value, place)
        }),
    }
}

#[test]
fn a_value_that_may_be_a_secret_is_not_told() {
    let text = "version: 1\nsecrets: { pseudonym_key: hunter2hunter2, bucket_key: &a { env: EXAMPLE_SECRET } }\nserver: { state_dir: *a }\n";
    let problems = load(&source("a.yaml", text)).unwrap_err();
    let told = format!("{problems}{}", problems.json());
    assert!(!told.contains("hunter2"), "{told}");
    let inline = problems
        .list
        .iter()
        .find(|one| one.path == "secrets.pseudonym_key");
    assert_eq!(inline.unwrap().value.as_deref(), Some("***"), "{told}");
}

#[test]
fn every_sound_file_compiles_with_exactly_the_warnings_it_says() {
    let files = files("tests/configs/ok");
    assert!(!files.is_empty());
    let wrong: String = files
        .iter()
        .filter_map(|(name, text)| disagreement(name, text))
        .collect();
    assert!(wrong.is_empty(), "{wrong}");
    for (name, text) in files {
        assert!(load(&source(&name, &text)).is_ok(), "{name}");
    }
}

#[test]
fn every_example_compiles_without_a_word() {
    for (name, text) in files("config") {
        match load(&source(&name, &text)) {
            Ok(compiled) => assert!(compiled.warnings.list.is_empty(), "{}", compiled.warnings),
            Err(problems) => panic!("{problems}"),
        }
    }
}

const MINIMAL: &str = include_str!("../../../config/minimal.yaml");

#[test]
fn the_short_form_means_the_staged_form_with_one_canary_stage() {
    for short in [
        MINIMAL,
        include_str!("../../../tests/configs/ok/shortest.yaml"),
    ] {
        means_one_canary_stage(short);
    }
}

#[track_caller]
fn means_one_canary_stage(short: &str) {
    let (head, _) = short.split_once("\nrollout:").unwrap();
    let staged = format!(
        "{head}\nrollouts:\n  default:\n    apps: [crm]\n    from: legacy\n    to: modern\n    bucketing: {{ salt: crm-2026-a }}\n    \
         control: pinned\n    pinned_stage: canary\n    stages:\n      - id: canary\n        mode: canary\n        assign:\n          \
         - {{ cohort: staff, to: modern }}\n          - {{ percent: 10, to: modern }}\n"
    );
    // The text of the file is part of its revision, and the order of a hash map is nobody's.
    let plain = |text: &str| {
        let mut settings = settings(text);
        settings.revision = "".into();
        settings.sha256 = "".into();
        settings.text = "".into();
        let text = format!("{settings:#?}");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (short, staged) = (plain(short), plain(&staged));
    assert!(
        short == staged,
        "{:?}",
        short.iter().zip(&staged).find(|(a, b)| a != b)
    );
}

#[test]
fn the_staged_form_is_complete() {
    let settings = settings(include_str!("../../../tests/configs/ok/staged.yaml"));
    let stages: Vec<&str> = settings.courses[0]
        .legs
        .iter()
        .map(|leg| &*leg.stage.id)
        .collect();
    assert_eq!(
        stages,
        [
            "1-shadow",
            "2-internal",
            "3-testers",
            "4-ramp",
            "5-modern-primary",
            "6-modern-only"
        ]
    );
    let modern = crate::identity::ProviderId::new("modern");
    let denials = settings.denials.unwrap();
    assert_eq!(denials.every, std::time::Duration::from_secs(60));
    assert_eq!(denials.providers, std::slice::from_ref(&modern));
    // The old side is asked as well, where its people can be looked up.
    let people = "uid={username},ou=people,dc=corp,dc=example\"";
    let looked = format!("{people}, directory: {{ base: \"dc=corp,dc=example\", key: uid }}");
    let text = include_str!("../../../tests/configs/ok/staged.yaml").replace(people, &looked);
    let legacy = crate::identity::ProviderId::new("legacy");
    let asked = self::settings(&text).denials.unwrap().providers;
    assert_eq!(asked, [legacy, modern.clone()]);
    let basic = crate::identity::CredentialClass::Basic;
    assert_eq!(settings.shadow[0].dual_verify, [(basic, modern)]);
}

#[test]
fn the_short_form_is_complete_browsers_sign_in_at_both_sides() {
    let settings = settings(MINIMAL);
    let kinds = settings.providers.iter().map(|provider| &provider.kind);
    let logins = kinds.filter(|kind| match kind {
        KindSettings::Oidc(oidc) => oidc.client.is_some(),
        _ => false,
    });
    assert_eq!(logins.count(), 2);
    assert_eq!(
        settings.rollouts[0].target(UnixTime::from_secs(0)).ratio(),
        0.1
    );
}

#[test]
fn a_percent_alone_is_enough() {
    let (head, _) = MINIMAL.split_once("  assign:").unwrap();
    let shorthand = settings(&format!("{head}  percent: 10\n"));
    let rule = settings(&format!("{head}  assign: [{{ percent: 10 }}]\n"));
    let full = settings(&format!(
        "{head}  assign: [{{ percent: 10, to: modern }}]\n"
    ));
    let plan = |settings: &Settings| format!("{:?}", settings.rollouts);
    assert_eq!(plan(&shorthand), plan(&full));
    assert_eq!(plan(&rule), plan(&full));
}

#[test]
fn three_unrelated_mistakes_are_three_problems_of_one_run() {
    let text = MINIMAL
        .replace("claims: { subject: uid }", "clams: { subject: uid }")
        .replace(
            "hosts: [crm.corp.example]",
            "hosts: [crm.corp.example]\n    assertion: { issuer: x, ttl: 5 }",
        )
        .replace("cohort: staff", "cohort: stuff");
    let problems = compile(&text).unwrap_err();
    let messages: Vec<_> = problems.list.iter().map(|p| p.message.as_str()).collect();
    for part in [
        "unknown key `clams`",
        "`5` is not a duration",
        "no cohort is called `stuff`",
    ] {
        assert!(
            messages.iter().any(|message| message.contains(part)),
            "{part}: {problems}"
        );
    }
}

#[test]
fn a_byte_order_mark_and_the_line_ends_of_another_system_change_nothing() {
    let plain = |text: &str| format!("{:?}", settings(text).rollouts);
    let expected = plain(MINIMAL);
    assert_eq!(plain(&MINIMAL.replace('\n', "\r\n")), expected);
    assert_eq!(plain(&format!("\u{feff}{MINIMAL}")), expected);
    let broken = MINIMAL.replace("percent: 10", "percent: 101");
    let places = |text: &str| {
        compile(text)
            .unwrap_err()
            .list
            .iter()
            .map(|p| (p.line, p.column))
            .collect::<Vec<_>>()
    };
    assert_eq!(places(&broken), places(&broken.replace('\n', "\r\n")));
}

/// The environment of [`Examples`], with variables of our own.
#[derive(Debug)]
struct Variables(&'static [(&'static str, &'static str)]);

impl Environment for Variables {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        Examples.read(path, limit)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    }

    fn cores(&self) -> usize {
        2
    }
}

fn with_variables(
    variables: &'static [(&'static str, &'static str)],
) -> Result<Compiled, Problems> {
    load(&Source {
        path: "test.yaml".into(),
        text: MINIMAL.to_owned(),
        environment: Arc::new(Variables(variables)),
    })
}

#[test]
fn the_environment_overrides_addresses_and_the_state_directory() {
    let compiled = with_variables(&[
        ("AUTHFERRY_LISTEN", "127.0.0.1:81"),
        ("AUTHFERRY_ADMIN_LISTEN", "127.0.0.1:82"),
        ("AUTHFERRY_STATE_DIR", "/state"),
    ]);
    let settings = compiled.unwrap().draft.with_test_keys();
    assert_eq!(settings.server.listeners[0].address.port(), 81);
    assert_eq!(settings.admin.listen.unwrap().port(), 82);
    assert_eq!(settings.state_dir, Path::new("/state"));
    assert_eq!(settings.kill_switch.file, Path::new("/state/kill"));
}

#[test]
fn a_bad_variable_is_a_problem_that_names_it() {
    let problems = with_variables(&[("AUTHFERRY_LISTEN", "8080")]).unwrap_err();
    assert_eq!(
        (problems.list[0].line, problems.list[0].path.as_str()),
        (0, "AUTHFERRY_LISTEN")
    );
    assert!(
        problems
            .to_string()
            .starts_with("test.yaml: error: AUTHFERRY_LISTEN"),
        "{problems}"
    );
}

#[test]
fn a_thousand_routes_compile() {
    let routes: String = (0..1_000)
        .map(|n| format!("      - {{ path: /api/v{n}/*, require: {{ groups: [team-{n}] }} }}\n"))
        .collect();
    let upstream = "    upstream: { url: \"http://127.0.0.1:8081\" }\n";
    let text = MINIMAL.replace(upstream, &format!("{upstream}    routes:\n{routes}"));
    assert_eq!(settings(&text).apps[0].routes.len(), 1_000);
}

#[test]
fn what_an_application_asks_is_asked_on_every_route_that_needs_somebody() {
    let upstream = "    upstream: { url: \"http://127.0.0.1:8081\" }\n";
    let more = "    require: { groups: [staff], scopes: [crm] }\n    public_paths: [/health]\n    routes:\n      - { path: /open, access: optional }\n      \
                - { path: /boss, require: { groups: [boss], claims: { floor: \"9\" } } }\n      - { path: /* }\n";
    let settings = settings(&MINIMAL.replace(upstream, &format!("{upstream}{more}")));
    let asked = |path: &str| {
        let mut routes = settings.apps[0].routes.iter();
        let require = &routes.find(|route| *route.path == *path).unwrap().require;
        let texts = |all: &[Box<str>]| all.join(",");
        (
            texts(&require.groups),
            texts(&require.scopes),
            require.claims.len(),
        )
    };
    let is = |groups: &str, scopes: &str, claims| (groups.to_owned(), scopes.to_owned(), claims);
    assert_eq!(asked("/health"), is("", "", 0));
    assert_eq!(asked("/open"), is("", "", 0));
    assert_eq!(asked("/boss"), is("boss", "crm", 1));
    assert_eq!(asked("/*"), is("staff", "crm", 0));
}

#[test]
fn the_files_that_a_configuration_names_are_known() {
    let text = include_str!("../../../config/migration.yaml");
    let compiled = load(&source("/etc/authferry/a.yaml", text)).unwrap();
    for file in [
        "/etc/authferry/tls.crt",
        "/etc/authferry/tls.key",
        "/run/secrets/bucket_key",
        "/run/secrets/crm_proxy",
    ] {
        assert!(compiled.files.contains(&PathBuf::from(file)), "{file}");
    }
}

#[test]
fn the_pinned_percent_is_what_counts() {
    let settings = settings(include_str!("../../../config/migration.yaml"));
    let stage = &settings.rollouts[0].stage;
    assert_eq!((&*stage.id, stage.index), ("3-ramp", 2));
    assert_eq!(
        format!("{:?}", stage.assign.last().unwrap().share),
        "Percent(Percent(250000))"
    );
}

/// Whoever is moved is watched where the file says nothing of it, in every form, and `none` is nobody.
#[test]
fn a_stage_that_moves_people_has_the_default_guardrails() {
    let with = |rollout: &str| {
        let text = format!(
            "version: 1\nproviders:\n  old: {{ oidc: {{ issuer: \"https://old.corp.example\", verify: {{ audiences: [crm] }} }} }}\n  \
             new: {{ oidc: {{ issuer: \"https://new.corp.example\", verify: {{ audiences: [crm] }} }} }}\napps:\n  \
             crm: {{ hosts: [crm.corp.example], upstream: {{ url: \"http://127.0.0.1:8081\" }} }}\n{rollout}\n"
        );
        let legs = settings(&text).courses.remove(0).legs;
        let rails = legs.into_iter().map(|leg| leg.guardrails);
        rails.collect::<Vec<_>>()
    };
    let is_default = |rails: &Option<Arc<Guardrails>>| {
        let rails = rails.as_deref();
        rails.is_some_and(|rails| *rails == Guardrails::default())
    };
    let short = |keys: &str| {
        with(&format!(
            "rollout: {{ from: old, to: new, bucketing: {{ salt: a }}, percent: 10{keys} }}"
        ))
    };
    assert!(is_default(&short("")[0]));
    assert!(short(", guardrails: none")[0].is_none());
    let staged = |keys: &str, stages: &str| {
        with(&format!(
            "rollouts:\n  crm: {{ apps: [crm], from: old, to: new, bucketing: {{ salt: a }}, {keys}, stages: [{stages}] }}"
        ))
    };
    let ramp = "{ id: ramp, mode: canary, assign: [{ percent: 5, to: new }] }";
    let all = format!(
        "{ramp}, {{ id: primary, mode: modern-primary }}, {{ id: only, mode: modern-only }}"
    );
    let driven = staged("control: controller", &all);
    let watched: Vec<bool> = driven.iter().map(is_default).collect();
    assert_eq!(watched, [true, true, true]);
    let nobody_moves = staged("control: controller", "{ id: before, mode: legacy-only }");
    assert!(nobody_moves[0].is_none());
    let unwatched = staged("control: controller, guardrails: none", &all);
    assert!(unwatched.iter().all(Option::is_none));
    assert!(is_default(&staged("control: pinned", ramp)[0]));
    assert!(staged("control: pinned, guardrails: none", ramp)[0].is_none());
}
