//! Files that break off, are damaged, or mean harm; and the secrets in them.

#![expect(clippy::string_slice, reason = "a test fails by panicking")]

use crate::config::load;
use crate::config::tests::compile;
use crate::config::tests::files;
use crate::config::tests::source;

#[test]
fn no_message_quotes_a_secret() {
    let mut carriers = 0;
    for (name, text) in files("tests/configs/bad") {
        let Err(problems) = load(&source(&name, &text)) else {
            continue;
        };
        carriers += usize::from(text.contains("hunter2"));
        let (words, json) = (problems.to_string(), problems.json().to_string());
        assert!(
            !words.contains("hunter2") && !json.contains("hunter2"),
            "{words}"
        );
    }
    assert!(4 <= carriers, "only {carriers} files carry the secret");
}

#[test]
fn a_secret_stays_hidden_wherever_a_file_breaks_off() {
    let text = "version: 1\nproviders:\n  old: { oidc: { client: { id: a, secret: hunter2, scret: hunter2 } } }\n  \
                new:\n    basic:\n      passwords:\n        - hunter2\n        - { a: hunter2 }\nsecrets: { bucket_key: |\n  hunter2\n  }\n";
    for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
        for cut in [
            text[..end].to_owned(),
            format!("{}: ]", &text[..end]),
            format!("{}\n\t: x", &text[..end]),
        ] {
            if let Err(problems) = compile(&cut) {
                let words = problems.to_string() + &problems.json().to_string();
                assert!(!words.contains("hunter2"), "{cut}\n---\n{words}");
            }
        }
    }
}

#[test]
fn a_file_that_breaks_off_anywhere_is_refused_or_read_but_never_a_panic() {
    let text = include_str!("../../../config/migration.yaml");
    for end in (0..text.len())
        .filter(|end| text.is_char_boundary(*end))
        .step_by(17)
    {
        if let Err(problems) = compile(&text[..end]) {
            assert!(problems.refuse(), "{end}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    /// Whatever an editor leaves behind: problems stand within the file, and nothing panics.
    #[test]
    fn a_damaged_file_gives_problems_within_itself(
        edits in proptest::collection::vec((0..5_000_usize, 0..12_usize, "[ -~\n\t\u{e9}\u{2028}]{0,6}"), 1..6),
    ) {
        let mut text: Vec<char> = include_str!("../../../config/migration.yaml").chars().collect();
        for (at, length, insert) in edits {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = compile(&text) {
            let lines = text.matches(['\n', '\u{2028}']).count() + 2;
            for problem in &problems.list {
                proptest::prop_assert!((problem.line as usize) <= lines, "{problem:?}");
                proptest::prop_assert!(!problem.message.is_empty());
            }
            let _words = problems.to_string();
        }
    }

    /// Any text at all.
    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        let _answer = compile(&text).map_err(|problems| problems.to_string());
    }
}

#[test]
fn a_file_of_a_million_aliases_is_refused_quickly() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let names = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{names}]\n"));
    }
    assert!(compile(&text).unwrap_err().to_string().contains("not YAML"));
}
