//! `authferry demo --drill` keeps its promises, and what it shows can be recomputed from what was seen.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and shows what it saw"
)]

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

/// A drill takes about a minute where nothing else runs.
const BOUND: Duration = Duration::from_mins(8);

struct Drill {
    directory: tempfile::TempDir,
    child: Child,
}

impl Drop for Drill {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drill {
    fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shown = File::create(directory.path().join("shown")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_authferry"))
            .args(["demo", "--drill", "--seed", "1", "--out"])
            .arg(directory.path())
            .args(more)
            .stdin(Stdio::null())
            .stdout(shown)
            .spawn()
            .unwrap();
        Self { directory, child }
    }

    /// The exit code, what was shown, and the table as the script computes it.
    fn end(mut self) -> (Option<i32>, String, Vec<String>) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let shown = || std::fs::read_to_string(self.directory.path().join("shown")).unwrap();
            assert!(begun.elapsed() < BOUND, "it does not end:\n{}", shown());
            std::thread::sleep(Duration::from_millis(100));
        };
        let shown = std::fs::read_to_string(self.directory.path().join("shown")).unwrap();
        (status.code(), shown, recomputed(self.directory.path()))
    }
}

fn recomputed(directory: &Path) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drill/table.py");
    let run = Command::new("python3").arg(script).arg(directory).output();
    let output = run.expect("python3 recomputes the table");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn rows(table: &[String]) -> HashMap<String, String> {
    let row = |line: &String| {
        let (what, value) = line.split_at(40);
        (what.trim().to_owned(), value.trim().to_owned())
    };
    table.iter().map(row).collect()
}

fn shows(shown: &str, table: &[String]) {
    for row in table {
        let as_shown =
            |line: &str| line.split("     <-").next().map(str::trim_end) == Some(row.as_str());
        assert!(shown.lines().any(as_shown), "not shown: {row}\n{shown}");
    }
}

/// What all drills of this run have come to.
static KEPT: Mutex<Vec<[String; 3]>> = Mutex::new(Vec::new());

/// The tables side by side, for whoever keeps a record of them: of the first fault by the names of its rows, of any other with its
/// name before them.
fn keep(fault: &str, with: &Drilled, without: Option<&Drilled>) {
    let Some(file) = std::env::var_os("DRILL_ROWS") else {
        return;
    };
    let mut kept = KEPT.lock().unwrap();
    let names = with.table.iter().map(|line| line.split_at(40).0.trim());
    for name in names.chain(["took"]) {
        let without = without.map_or_else(|| String::from("-"), |drilled| drilled.of(name));
        let named = match fault {
            "" => name.to_owned(),
            fault => format!("{fault}: {name}"),
        };
        kept.push([named, with.of(name), without]);
    }
    std::fs::write(file, serde_json::to_string(&*kept).unwrap()).unwrap();
}

/// A drill that has come to its end.
struct Drilled {
    code: Option<i32>,
    shown: String,
    table: Vec<String>,
    rows: HashMap<String, String>,
}

impl Drilled {
    /// Runs one; what it shows is what its observations say.
    fn with(more: &[&str]) -> Self {
        let (code, shown, table) = Drill::start(more).end();
        println!("{shown}");
        shows(&shown, &table);
        let mut rows = rows(&table);
        let took = shown.lines().find_map(|line| line.strip_prefix("took "));
        let took = took.expect("it says how long it took").trim();
        rows.insert(String::from("took"), took.to_owned());
        Self {
            code,
            shown,
            table,
            rows,
        }
    }

    fn of(&self, name: &str) -> String {
        self.rows[name].clone()
    }

    fn harmed(&self) -> u32 {
        self.of("people harmed before the rollback")
            .parse()
            .unwrap()
    }
}

#[test]
fn a_fault_in_the_ramp_harms_few_and_everybody_else_moves_unnoticed() {
    let with = Drilled::with(&[]);
    let shown = &with.shown;
    for (what, value) in [
        ("stages gone through", "6 of 6"),
        ("people moved", "200 of 200"),
        ("machine clients moved", "5 of 5"),
        ("unexpected sign-ins", "0"),
        ("identity-header changes", "0"),
        ("failed requests", "0"),
        ("automatic rollbacks", "1"),
    ] {
        assert_eq!(with.of(what), value, "{what}\n{shown}");
    }
    assert!(with.of("ledger verified").starts_with("yes"), "{shown}");
    assert_eq!(with.code, Some(0), "{shown}");
    let took: f64 = with.of("took").trim_end_matches(" s").parse().unwrap();
    // As it is shipped, and with the machine for itself.
    let is_made_to_show = cfg!(not(debug_assertions));
    assert!(
        !is_made_to_show || took < 120.0,
        "about a minute, and it took {took} s"
    );
    assert!((1..15).contains(&with.harmed()), "of all three\n{shown}");
    let without = without_rollback(&with);
    keep("", &with, Some(&without));
}

/// The same without the rollback: it harms five times as many, says so, and comes to its end all the same.
fn without_rollback(with: &Drilled) -> Drilled {
    let without = Drilled::with(&["--without-rollback"]);
    let shown = &without.shown;
    assert!(!shown.contains("broke off"), "{shown}");
    assert_eq!(
        without.code,
        Some(1),
        "its promises are broken, and it says so:\n{shown}"
    );
    for (what, value) in [
        ("stages gone through", "6 of 6"),
        ("people moved", "200 of 200"),
        ("automatic rollbacks", "0"),
    ] {
        assert_eq!(without.of(what), value, "{what}\n{shown}");
    }
    let (few, many) = (with.harmed(), without.harmed());
    println!("harmed: {few} with the rollback, {many} without it");
    assert!(
        5 * few <= many,
        "{few} with the rollback, {many} without it"
    );
    without
}

/// A redirect URI that goes wrong in the middle of a step: the provider shows its own error page, and whoever sees it never
/// comes back to be counted. The drill has it in the ramp, after others have come through, and for three applications at once,
/// each of which has its own bound.
#[test]
fn a_redirect_uri_that_goes_wrong_in_the_middle_of_a_step_harms_fewer_than_fifteen_of_an_application()
 {
    keep("nobody comes back", &stops(&["--fault", "redirect"]), None);
}

/// It harms few of each application, goes back, and everybody has moved in the end.
fn stops(more: &[&str]) -> Drilled {
    let with = Drilled::with(more);
    let shown = &with.shown;
    let by_application = with.of("of these, by application");
    let harmed = by_application.split(", ").map(|row| {
        let (_, count) = row.rsplit_once(' ').unwrap();
        count.parse::<u32>().unwrap()
    });
    let most = harmed.max().unwrap();
    assert!((1..15).contains(&most), "{by_application}\n{shown}");
    assert_eq!(with.of("automatic rollbacks"), "1", "{shown}");
    assert_eq!(with.of("people moved"), "200 of 200", "{shown}");
    assert_eq!(with.code, Some(0), "{shown}");
    with
}

/// Typed wrong for one of three applications: its people alone meet it, and they are few.
#[test]
fn a_redirect_uri_of_one_application_harms_few_there_and_nobody_elsewhere() {
    let with = stops(&["--fault", "one-redirect"]);
    let by_application = format!("crm {}, intranet 0, wiki 0", with.harmed());
    let shown = &with.shown;
    assert_eq!(
        with.of("of these, by application"),
        by_application,
        "{shown}"
    );
    keep("of one application nobody comes back", &with, None);
}
