//! What holds for configuration files, whatever is in them. See `crate::promises`.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Environment;
use crate::config::Source;
use crate::config::load;

/// A machine on which every file and every variable but ours holds the same secret.
#[derive(Debug)]
struct Anywhere;

const SECRET: &str = "6f1c2a9e4b7d8053c1e2f3a4b5968778";

impl Environment for Anywhere {
    fn read(&self, _path: &Path, _limit: usize) -> io::Result<Vec<u8>> {
        Ok(SECRET.as_bytes().to_vec())
    }

    fn variable(&self, name: &str) -> Option<String> {
        // Variables of our own are settings and may be shown.
        (!name.starts_with("AUTHFERRY_")).then(|| SECRET.to_owned())
    }

    fn cores(&self) -> usize {
        2
    }
}

/// A file is taken or refused with a place for each reason, the same way each time, and no reason tells a secret.
pub(crate) fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let source = Source {
        path: PathBuf::from("fuzz.yaml"),
        text: text.to_owned(),
        environment: Arc::new(Anywhere),
    };
    let said = || {
        load(&source)
            .map(|compiled| compiled.warnings.to_string())
            .map_err(|p| (p.to_string(), p.list))
    };
    let first = said();
    if let Err((told, problems)) = &first {
        assert!(!problems.is_empty());
        let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
        for problem in problems {
            assert!(problem.line <= lines.saturating_add(1), "{told}");
        }
        assert!(text.contains(SECRET) || !told.contains(SECRET), "{told}");
    }
    let again = said();
    assert_eq!(
        first.map_err(|(told, _)| told),
        again.map_err(|(told, _)| told)
    );
}
