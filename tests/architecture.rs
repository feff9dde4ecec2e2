//! The house holds: which module may name which, how long a file may be, what the pure modules must not do, and what the
//! documents promise about the code.

#![expect(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Who may name whom. Changing a row is a reviewable decision; `ARCHITECTURE.md` says why each is as it is.
const ARROWS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("entropy", &[]),
    ("secret", &[]),
    ("identity", &["clock", "secret"]),
    ("rollout", &["clock", "identity", "secret"]),
    ("token", &["clock", "identity", "secret"]),
    (
        "telemetry",
        &["clock", "entropy", "identity", "rollout", "secret", "token"],
    ),
    ("store", &["clock", "entropy", "secret", "telemetry"]),
    (
        "providers",
        &[
            "clock",
            "entropy",
            "identity",
            "secret",
            "store",
            "telemetry",
            "token",
        ],
    ),
    (
        "links",
        &[
            "clock",
            "identity",
            "providers",
            "secret",
            "store",
            "telemetry",
        ],
    ),
    (
        "session",
        &[
            "clock",
            "entropy",
            "identity",
            "providers",
            "rollout",
            "secret",
            "store",
            "telemetry",
        ],
    ),
    (
        "exchange",
        &[
            "clock",
            "entropy",
            "identity",
            "links",
            "providers",
            "rollout",
            "secret",
            "store",
            "telemetry",
            "token",
        ],
    ),
    (
        "ledger",
        &["clock", "identity", "rollout", "secret", "telemetry"],
    ),
    (
        "revocation",
        &[
            "clock",
            "entropy",
            "identity",
            "links",
            "providers",
            "secret",
            "session",
            "store",
            "telemetry",
            "token",
        ],
    ),
    (
        "shadow",
        &[
            "clock",
            "entropy",
            "identity",
            "providers",
            "rollout",
            "secret",
            "store",
            "telemetry",
        ],
    ),
    (
        "control",
        &[
            "clock",
            "entropy",
            "identity",
            "ledger",
            "links",
            "providers",
            "revocation",
            "rollout",
            "secret",
            "session",
            "store",
            "telemetry",
        ],
    ),
    (
        "auth",
        &[
            "clock",
            "control",
            "entropy",
            "exchange",
            "identity",
            "links",
            "providers",
            "revocation",
            "rollout",
            "secret",
            "session",
            "shadow",
            "store",
            "telemetry",
            "token",
        ],
    ),
    (
        "issuer",
        &[
            "auth",
            "clock",
            "entropy",
            "exchange",
            "identity",
            "providers",
            "revocation",
            "rollout",
            "secret",
            "session",
            "store",
            "telemetry",
            "token",
        ],
    ),
    (
        "proxy",
        &[
            "auth",
            "clock",
            "control",
            "entropy",
            "identity",
            "issuer",
            "revocation",
            "rollout",
            "secret",
            "telemetry",
        ],
    ),
    (
        "admin",
        &[
            "auth",
            "clock",
            "control",
            "entropy",
            "identity",
            "ledger",
            "links",
            "providers",
            "proxy",
            "revocation",
            "rollout",
            "secret",
            "session",
            "shadow",
            "store",
            "telemetry",
        ],
    ),
    (
        "config",
        &[
            "admin",
            "auth",
            "clock",
            "control",
            "entropy",
            "exchange",
            "identity",
            "issuer",
            "ledger",
            "links",
            "providers",
            "proxy",
            "revocation",
            "rollout",
            "secret",
            "session",
            "shadow",
            "store",
            "telemetry",
            "token",
        ],
    ),
    // Only for a bench.
    (
        "bench",
        &[
            "auth",
            "clock",
            "entropy",
            "identity",
            "links",
            "proxy",
            "revocation",
            "rollout",
            "secret",
            "session",
            "store",
            "telemetry",
        ],
    ),
    // Only in tests and under the fuzzer.
    (
        "promises",
        &[
            "auth",
            "config",
            "identity",
            "issuer",
            "providers",
            "proxy",
            "rollout",
            "session",
            "telemetry",
            "token",
        ],
    ),
    (
        "app",
        &[
            "admin",
            "auth",
            "clock",
            "config",
            "control",
            "entropy",
            "exchange",
            "identity",
            "issuer",
            "ledger",
            "links",
            "providers",
            "proxy",
            "revocation",
            "rollout",
            "secret",
            "session",
            "shadow",
            "store",
            "telemetry",
            "token",
        ],
    ),
    (
        "demo",
        &[
            "admin", "app", "clock", "config", "entropy", "identity", "ledger", "secret", "token",
        ],
    ),
    (
        "cli",
        &[
            "admin",
            "app",
            "clock",
            "config",
            "control",
            "demo",
            "entropy",
            "identity",
            "ledger",
            "providers",
            "rollout",
            "secret",
            "telemetry",
            "token",
        ],
    ),
    ("main", &["cli"]),
];

/// The longest file, without its tests.
const MAX_LINES: usize = 400;

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, into: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                into.push((path, text));
            }
        }
    }
    let mut all = Vec::new();
    walk(Path::new("src"), &mut all);
    all.sort();
    assert!(40 < all.len(), "the sources are somewhere else");
    all
}

fn module(path: &Path) -> String {
    let first = path
        .strip_prefix("src")
        .unwrap()
        .components()
        .next()
        .unwrap();
    first
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

/// The code of a file up to its tests.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {")
        .map_or(text, |at| &text[..at])
}

#[test]
fn only_what_stands_in_the_tests_of_a_file_is_left_out() {
    let file = "#[cfg(test)]\nmod tests;\nuse crate::auth::A;\n#[cfg(test)]\nmod tests {\nuse crate::app::B;\n}\n";
    let found: Vec<_> = named(without_tests(file)).into_iter().collect();
    assert_eq!(found, ["auth"]);
}

/// Modules that `text` names after `crate::`, comments aside.
fn named(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|l| !l.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("crate::") {
            if at != 0 && line.as_bytes()[at - 1] == b'$' {
                continue;
            }
            let rest = &line[at + "crate::".len()..];
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn modules_name_only_what_stands_above_them() {
    let arrows: BTreeMap<_, _> = ARROWS
        .iter()
        .map(|(m, may)| (*m, may.iter().copied().collect::<BTreeSet<_>>()))
        .collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let own = module(&path);
        if own == "lib" {
            continue;
        }
        let may = arrows
            .get(own.as_str())
            .unwrap_or_else(|| panic!("{own} has no row in ARROWS"));
        // Doubles in test code may reach further than the product does.
        for other in named(without_tests(&text)) {
            if other != own && !may.contains(other.as_str()) {
                wrong.push(format!("{}: {own} -> {other}", path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn arrows_have_no_cycle() {
    let place: BTreeMap<_, _> = ARROWS
        .iter()
        .enumerate()
        .map(|(i, (m, _))| (*m, i))
        .collect();
    for (module, may) in ARROWS {
        for other in *may {
            assert!(
                place[other] < place[module],
                "{module} names {other}, which stands below it"
            );
        }
    }
}

/// Files that a `#[cfg(test)] mod …;` line of their parent brings in.
fn only_for_tests(sources: &[(PathBuf, String)]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for (path, text) in sources {
        let dir = match path.file_name().unwrap().to_str().unwrap() {
            "mod.rs" | "lib.rs" => path.parent().unwrap().to_owned(),
            _ => path.with_extension(""),
        };
        for (at, mark) in text.match_indices("#[cfg(test)]") {
            let line = text[at + mark.len()..]
                .trim_start()
                .lines()
                .next()
                .unwrap_or_default();
            if let Some(name) = line
                .strip_suffix(';')
                .and_then(|l| l.rsplit_once("mod "))
                .map(|(_, name)| name)
            {
                found.insert(dir.join(name).with_extension("rs"));
                found.insert(dir.join(name).join("mod.rs"));
            }
        }
    }
    found
}

#[test]
fn files_stay_short_enough_to_read() {
    let sources = sources();
    let tests = only_for_tests(&sources);
    let long: Vec<_> = sources
        .into_iter()
        .filter(|(path, _)| !tests.contains(path))
        .map(|(path, text)| (path, without_tests(&text).lines().count()))
        .filter(|(_, lines)| MAX_LINES < *lines)
        .collect();
    assert_eq!(long, Vec::new());
}

#[test]
fn no_module_is_a_drawer() {
    for (path, _) in sources() {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            !["util", "utils", "common", "types", "helpers", "misc"].contains(&stem),
            "{}",
            path.display()
        );
    }
}

#[test]
fn the_pure_modules_have_no_io_no_clock_no_async() {
    let sources = sources();
    let tests = only_for_tests(&sources);
    for (path, text) in sources {
        if !["identity", "rollout", "token"].contains(&module(&path).as_str())
            || tests.contains(&path)
        {
            continue;
        }
        for word in [
            "async fn",
            "tokio::",
            "std::fs",
            "std::net::Tcp",
            "SystemTime",
            "Instant::now",
            "std::env",
        ] {
            assert!(
                !without_tests(&text).contains(word),
                "{}: {word}",
                path.display()
            );
        }
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(
            text.starts_with("//! ") || path.ends_with("main.rs"),
            "{} begins without a sentence",
            path.display()
        );
    }
}

#[test]
fn only_providers_can_make_a_proof() {
    for (path, text) in sources() {
        if module(&path) != "providers" {
            assert!(
                !without_tests(&text).contains("Authenticated::new("),
                "{}",
                path.display()
            );
        }
    }
}

/// Every text below `dir`, what a package manager or a build has put there aside.
fn texts(dir: &Path, into: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "node_modules" || name == "target" || name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            texts(&path, into);
        } else if let Ok(text) = fs::read_to_string(&path) {
            into.push((path, text));
        }
    }
}

/// Whether `text` has `word` as a word of its own: `demo`, `demo::`, `"demo"`, not `demonstration`.
fn says(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|part| part.eq_ignore_ascii_case(word))
}

#[test]
fn no_test_against_real_servers_uses_the_providers_of_the_demo() {
    let mut all = Vec::new();
    texts(Path::new("tests/real"), &mut all);
    all.extend(
        [
            "src/providers/contract/real.rs",
            "src/providers/contract/relay.rs",
            "src/providers/contract/somebody.rs",
        ]
        .map(|path| (path.into(), fs::read_to_string(path).unwrap())),
    );
    assert!(10 < all.len(), "the tests are somewhere else");
    for (path, text) in all {
        for word in ["demo", "DemoProvider"] {
            assert!(!says(&text, word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn no_configuration_starts_the_demo() {
    // Nobody but the command line may name it, and what a file can say has no word for it.
    for (module, may) in ARROWS {
        assert!(*module == "cli" || !may.contains(&"demo"), "{module}");
    }
    let mut seen = 0;
    for (path, text) in sources() {
        if module(&path) == "config" {
            seen += 1;
            assert!(!says(&text, "demo"), "{}", path.display());
        }
    }
    assert!(20 < seen, "the configuration is somewhere else");
    let mut shipped = Vec::new();
    texts(Path::new("config"), &mut shipped);
    for (path, text) in shipped {
        let key = |line: &str| {
            line.trim_start()
                .trim_start_matches("- ")
                .starts_with("demo:")
        };
        assert!(!text.lines().any(key), "{}", path.display());
    }
}
