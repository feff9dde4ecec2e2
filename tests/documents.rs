//! What SECURITY.md says is held by a test is held by one: the test exists, runs, and no case that it names is skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Words in code letters on lines of tables.
fn in_tables(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|line| line.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

fn is_case(word: &str) -> bool {
    word.split_once('-').is_some_and(|(group, number)| {
        !group.is_empty()
            && group.bytes().all(|b| b.is_ascii_uppercase())
            && number.len() == 3
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

fn is_test(word: &str) -> bool {
    2 < word.matches('_').count()
        && word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Names of functions right behind a `test` attribute or in a `proptest!`.
fn tests(dir: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut after = false;
            for line in text.lines().map(str::trim) {
                if line.starts_with("#[") {
                    after |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                    after &= !line.starts_with("#[ignore");
                } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| after) {
                    into.insert(
                        rest.chars()
                            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                            .collect(),
                    );
                    after = false;
                }
            }
        }
    }
}

#[test]
fn the_first_page_is_short_and_its_commands_are_those_that_exist() {
    let readme = fs::read_to_string("README.md").unwrap();
    assert!(readme.lines().count() <= 150);
    let makefile = fs::read_to_string("Makefile").unwrap();
    for line in readme.lines().filter(|line| line.starts_with("make ")) {
        let target = line.split_whitespace().nth(1).unwrap();
        assert!(makefile.contains(&format!("\n{target}: ")), "{target}");
    }
    assert!(readme.contains("\nmake test "));
    assert!(readme.contains("\ncargo run --release -- demo "));
}

/// Cases that run: id by id, without those whose reading gives a reason not to.
fn cases() -> BTreeSet<String> {
    let text = fs::read_to_string("tests/security/cases.yaml").unwrap();
    let blocks = text.split("\n- id: ").skip(1);
    blocks
        .filter(|block| !block.contains("later: ") && !block.contains("replaced: '"))
        .map(|block| block.lines().next().unwrap().trim().to_owned())
        .collect()
}

#[test]
fn every_answer_to_an_attack_is_held_by_a_test_that_runs() {
    let text = fs::read_to_string("SECURITY.md").unwrap();
    let words = in_tables(&text);
    let mut known = BTreeSet::new();
    tests(Path::new("src"), &mut known);
    tests(Path::new("tests"), &mut known);
    let cases = cases();
    assert!(
        100 < cases.len() && 500 < known.len(),
        "the tests are somewhere else"
    );
    let named: Vec<&String> = words.iter().filter(|w| is_case(w) || is_test(w)).collect();
    assert!(100 < named.len(), "SECURITY.md names {} tests", named.len());
    let missing: Vec<_> = named
        .into_iter()
        .filter(|word| !cases.contains(*word) && !known.contains(*word))
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn every_attack_has_an_answer_and_a_test() {
    let text = fs::read_to_string("SECURITY.md").unwrap();
    let table = text
        .split("## Known attacks of this class")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .unwrap();
    let rows: Vec<&str> = table
        .lines()
        .filter(|l| l.starts_with("| "))
        .skip(1)
        .collect();
    assert!(20 < rows.len());
    for row in rows {
        let tests = in_tables(row);
        assert!(
            tests.iter().any(|word| is_case(word) || is_test(word)),
            "{row}"
        );
    }
}

#[test]
fn every_promise_is_held_by_a_test_that_runs() {
    let text = fs::read_to_string("SECURITY.md").unwrap();
    let table = text.split("## Promises").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    for number in 1..=14 {
        let begin = format!("| I{number} | ");
        let rows: Vec<&str> = table.lines().filter(|l| l.starts_with(&begin)).collect();
        assert_eq!(rows.len(), 1, "I{number}");
        let words = in_tables(rows[0]);
        assert!(
            words.iter().any(|word| is_case(word) || is_test(word)),
            "{}",
            rows[0]
        );
        assert_eq!(unknown(rows[0]), Vec::<String>::new(), "I{number}");
    }
}

#[test]
fn what_stands_for_a_case_that_is_not_run_exists() {
    let text = fs::read_to_string("tests/security/cases.yaml").unwrap();
    let mut seen = 0;
    for block in text.split("\n- id: ").skip(1) {
        let Some((_, said)) = block.split_once("replaced: '") else {
            continue;
        };
        let said = said.split("\n    - ").next().unwrap();
        seen += 1;
        let (id, _) = block.split_once('\n').unwrap();
        assert_eq!(unknown(said), Vec::<String>::new(), "{id}");
        assert!(said.contains("Promise: "), "{id}");
    }
    assert!(5 < seen && seen < 20, "{seen}");
}

/// What a text names that there is not: tests, cases, targets of `make`, suites, files, rows of the table of faults.
fn unknown(text: &str) -> Vec<String> {
    let mut known = BTreeSet::new();
    tests(Path::new("src"), &mut known);
    tests(Path::new("tests"), &mut known);
    let cases = cases();
    let makefile = fs::read_to_string("Makefile").unwrap();
    let suites = fs::read_to_string("tests/suites/run").unwrap();
    let faults = ["tests/faults/run", "tests/faults/soak"];
    let faults = faults
        .map(|file| fs::read_to_string(file).unwrap())
        .concat();
    let words = text.split(|c: char| c.is_whitespace() || "`'(),;|".contains(c));
    let words: Vec<&str> = words
        .map(|word| word.trim_end_matches(['.', ':']))
        .filter(|word| !word.is_empty())
        .collect();
    let mut missing = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| words.get(at)).copied();
        let there = match before {
            Some("make") if text.contains(&format!("`make {word}")) => {
                makefile.contains(&format!("\n{word}:"))
            }
            Some("suite") => suites.contains(&format!("\n    \"{word}\": (")),
            Some("row" | "rows") if word.bytes().all(|b| b.is_ascii_digit()) => {
                faults.contains(&format!("\"{word}\""))
            }
            _ if is_case(word) => cases.contains(*word),
            _ if is_test(word) => known.contains(*word),
            _ if ["src/", "tests/", "examples/"]
                .iter()
                .any(|dir| word.starts_with(dir)) =>
            {
                Path::new(word).exists()
            }
            _ => true,
        };
        if !there {
            missing.push((*word).to_owned());
        }
    }
    missing
}

/// The words `/run/secrets/…` and `/etc/authferry/…` of a text: files that must be there.
fn files(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| c.is_whitespace() || "{}[],\"".contains(c));
    words
        .filter(|word| word.starts_with("/run/secrets/") || word.starts_with("/etc/authferry/"))
        .collect()
}

#[test]
fn the_compose_example_grants_each_file_of_its_configuration_and_nothing_to_its_user() {
    let compose = fs::read_to_string("deploy/compose.yaml").unwrap();
    let service = compose.split("\n  prometheus:").next().unwrap();
    let configuration = fs::read_to_string("config/migration.yaml").unwrap();
    let named = files(&configuration);
    assert!(5 < named.len(), "{named:?}");
    for file in named {
        let name = file.rsplit('/').next().unwrap();
        let given = match file.strip_prefix("/run/secrets/") {
            Some(name) => format!("      - {name}\n"),
            None => format!("source: {name}, target: {file} "),
        };
        assert!(service.contains(&given), "{file} is not given");
        assert!(compose.contains(&format!("\n  {name}: {{ file:")), "{name}");
    }
    for line in [
        "read_only: true",
        "cap_drop: [ALL]",
        "no-new-privileges:true",
    ] {
        assert!(service.contains(line), "{line}");
    }
}

/// What measures time may wait for `make cases`; what would be critical if it broke may not. How many that are stands where people read it.
#[test]
fn every_critical_case_runs_with_every_landing() {
    let makefile = fs::read_to_string("Makefile").unwrap();
    let only = makefile
        .split("\ncorpus: ")
        .nth(1)
        .and_then(|rest| rest.split("--only '").nth(1))
        .and_then(|rest| rest.split('\'').next())
        .unwrap();
    let only = regex::Regex::new(&only.replace("$$", "$")).unwrap();
    let text = fs::read_to_string("tests/security/cases.yaml").unwrap();
    let (mut all, mut runs, mut critical) = (0, 0, 0);
    for block in text.split("\n- id: ").skip(1) {
        let id = block.lines().next().unwrap().trim();
        all += 1;
        runs += usize::from(only.is_match(id));
        if block.contains("\n  severity: critical\n") {
            critical += 1;
            assert!(only.is_match(id), "{id} runs by hand alone");
        }
    }
    assert!(30 < critical, "{critical}");
    let readme = fs::read_to_string("tests/security/README.md").unwrap();
    assert!(readme.contains(&format!("`make corpus`: {runs} of {all};")));
}

/// Cargo wants every target of the manifest to be there: the recipe of the image has to copy them all.
#[test]
fn what_the_recipe_of_the_image_copies_is_a_package() {
    let recipe = fs::read_to_string("deploy/Dockerfile").unwrap();
    let first = recipe.split("\nFROM ").nth(1).unwrap();
    let copied = first.lines().filter_map(|line| line.strip_prefix("COPY "));
    let there = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(".").unwrap();
    for line in copied {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let to = words.pop().unwrap();
        for from in words {
            let place = if to.ends_with('/') { from } else { to };
            let place = there.path().join(place);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(root.join(from), place).unwrap();
        }
    }
    // A manifest behind a link is read where it really is.
    let manifest = there.path().join("Cargo.toml");
    fs::remove_file(&manifest).unwrap();
    fs::copy("Cargo.toml", &manifest).unwrap();
    assert_eq!(targets(there.path()), targets(&root));
    for needed in ["Cargo.lock", "deploy/release"] {
        assert!(there.path().join(needed).exists(), "{needed}");
    }
}

/// What cargo finds to build there, but examples, which nobody has to have.
fn targets(root: &Path) -> BTreeSet<String> {
    let cargo = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version=1"])
        .current_dir(root)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&cargo.stderr);
    assert!(cargo.status.success(), "{said}");
    let all: serde_json::Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let all = all
        .pointer("/packages/0/targets")
        .and_then(|all| all.as_array())
        .unwrap();
    let all = all.iter().filter(|target| {
        target
            .pointer("/kind/0")
            .is_none_or(|kind| kind != "example")
    });
    all.map(|target| format!("{:?} {:?}", target.pointer("/kind/0"), target.get("name")))
        .collect()
}
