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

/// Both tables side by side, for whoever keeps a record of them.
fn keep(table: &[String], with: &HashMap<String, String>, without: &HashMap<String, String>) {
    let Some(file) = std::env::var_os("DRILL_ROWS") else {
        return;
    };
    let names = table.iter().map(|line| line.split_at(40).0.trim());
    let rows: Vec<[&str; 3]> = names
        .map(|name| [name, &with[name], &without[name]])
        .collect();
    std::fs::write(file, serde_json::to_string(&rows).unwrap()).unwrap();
}

#[test]
fn a_fault_in_the_ramp_harms_few_and_everybody_else_moves_unnoticed() {
    let (code, shown, table) = Drill::start(&[]).end();
    println!("{shown}");
    shows(&shown, &table);
    let rows_with = rows(&table);
    for (what, value) in [
        ("stages gone through", "6 of 6"),
        ("people moved", "200 of 200"),
        ("machine clients moved", "5 of 5"),
        ("unexpected sign-ins", "0"),
        ("identity-header changes", "0"),
        ("failed requests", "0"),
        ("automatic rollbacks", "1"),
    ] {
        assert_eq!(rows_with[what], value, "{what}\n{shown}");
    }
    assert!(rows_with["ledger verified"].starts_with("yes"), "{shown}");
    assert_eq!(code, Some(0), "{shown}");

    let (rows_without, table) = without_rollback(&[], &rows_with);
    keep(&table, &rows_with, &rows_without);
}

/// The same without the rollback: it harms five times as many, says so, and comes to its end all the same.
fn without_rollback(
    more: &[&str],
    rows_with: &HashMap<String, String>,
) -> (HashMap<String, String>, Vec<String>) {
    let more = [&["--without-rollback"], more].concat();
    let (code, shown, table) = Drill::start(&more).end();
    println!("{shown}");
    shows(&shown, &table);
    assert!(!shown.contains("broke off"), "{shown}");
    assert_eq!(
        code,
        Some(1),
        "its promises are broken, and it says so:\n{shown}"
    );
    let rows_without = rows(&table);
    for (what, value) in [
        ("stages gone through", "6 of 6"),
        ("people moved", "200 of 200"),
        ("automatic rollbacks", "0"),
    ] {
        assert_eq!(rows_without[what], value, "{what}\n{shown}");
    }
    let harmed = |rows: &HashMap<String, String>| -> u32 {
        rows["people harmed before the rollback"].parse().unwrap()
    };
    let (with, without) = (harmed(rows_with), harmed(&rows_without));
    println!("harmed: {with} with the rollback, {without} without it");
    assert!(1 <= with && with < 15, "{with}");
    assert!(
        5 * with <= without,
        "{with} with the rollback, {without} without it"
    );
    (rows_without, table)
}

/// A redirect URI that goes wrong in the middle of a step: the provider shows its own error page, and whoever sees it never
/// comes back to be counted. The drill has it in the ramp, after others have come through.
#[test]
fn a_redirect_uri_that_goes_wrong_in_the_middle_of_a_step_harms_fewer_than_fifteen() {
    let (code, shown, table) = Drill::start(&["--fault", "redirect"]).end();
    println!("{shown}");
    shows(&shown, &table);
    let rows = rows(&table);
    let harmed: u32 = rows["people harmed before the rollback"].parse().unwrap();
    assert!((1..15).contains(&harmed), "{harmed}\n{shown}");
    assert_eq!(rows["automatic rollbacks"], "1", "{shown}");
    assert_eq!(rows["people moved"], "200 of 200", "{shown}");
    assert_eq!(code, Some(0), "{shown}");
    without_rollback(&["--fault", "redirect"], &rows);
}
