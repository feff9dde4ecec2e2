//! `authferry check` and `authferry schema` as a pipeline sees them: exit codes, text, JSON.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

fn authferry(arguments: &[&str]) -> Output {
    let root = env!("CARGO_MANIFEST_DIR");
    Command::new(env!("CARGO_BIN_EXE_authferry"))
        .current_dir(root)
        .args(arguments)
        .output()
        .unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_good_file_exits_with_zero() {
    let output = authferry(&["check", "config/minimal.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert!(words(&output).starts_with("ok: config/minimal.yaml"));
}

#[test]
fn a_bad_file_exits_with_one_and_names_every_problem() {
    let file = "tests/configs/bad/several-mistakes.yaml";
    let output = authferry(&["check", file]);
    assert_eq!(output.status.code(), Some(1));
    let expected: Vec<String> =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
            .filter_map(|line| line.split_once(' '))
            .map(|(place, message)| format!("{file}:{place}: error: {message}"))
            .collect();
    assert!(3 <= expected.len());
    for line in expected {
        assert!(words(&output).contains(&line), "{line}\n{}", words(&output));
    }
}

#[test]
fn json_counts_what_the_text_lists() {
    let output = authferry(&[
        "check",
        "--format",
        "json",
        "tests/configs/bad/several-mistakes.yaml",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let whole: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = whole
        .get("problems")
        .and_then(|list| list.as_array())
        .unwrap();
    assert_eq!(
        whole.get("errors").and_then(serde_json::Value::as_u64),
        Some(problems.len() as u64)
    );
}

#[test]
fn a_missing_file_exits_with_two() {
    assert_eq!(authferry(&["check", "nowhere.yaml"]).status.code(), Some(2));
}

#[test]
fn the_schema_is_json() {
    let output = authferry(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema.pointer("/properties/providers").is_some());
}
