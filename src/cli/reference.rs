//! `authferry explain --reference`: what happened to the request whose id a page showed.

use std::fs::File;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;

use http::Method;
use serde_json::Value;

use crate::admin::ReferenceRequest;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::printable;

/// The fields that come first, in this order; the rest follows as it is.
const FIRST: &[&str] = &["ts", "event"];

/// What the running instance remembers.
pub(super) async fn at_instance(socket: &Socket, id: &str) -> Result<Vec<Value>, CommandError> {
    let body = serde_json::to_value(ReferenceRequest {
        reference: id.to_owned(),
    })?;
    let found = ask(socket, Method::POST, "/admin/v1/reference", Some(&body)).await?;
    found_some(id, serde_json::from_value(found)?)
}

/// What a log file says: one line at a time, however long the file is.
pub(super) fn in_file(file: &Path, id: &str) -> Result<Vec<Value>, CommandError> {
    let mut found = Vec::new();
    for line in BufReader::new(File::open(file)?).split(b'\n') {
        // What is no line of ours, such as a torn one, says nothing.
        let Ok(value) = serde_json::from_slice::<Value>(&line?) else {
            continue;
        };
        if value.get("request_id").and_then(Value::as_str) == Some(id) {
            found.push(value);
        }
    }
    found_some(id, found)
}

fn found_some(id: &str, found: Vec<Value>) -> Result<Vec<Value>, CommandError> {
    if found.is_empty() {
        let reason = format!(
            "nothing is remembered of `{id}`: another instance may have answered, or it is too long ago; look in the log (--log-file FILE)"
        );
        return Err(CommandError::Refused(
            serde_json::json!({ "reason": reason }),
        ));
    }
    Ok(found)
}

/// For people: a line of the log is a paragraph.
pub(super) fn write(id: &str, lines: &[Value], out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "request {}", printable(id))?;
    for line in lines {
        let Some(fields) = line.as_object() else {
            continue;
        };
        let text = |value: &Value| match value.as_str() {
            Some(text) => printable(text),
            None => printable(&value.to_string()),
        };
        let head: Vec<_> = FIRST
            .iter()
            .filter_map(|name| fields.get(*name).map(text))
            .collect();
        writeln!(out, "{}", head.join("  "))?;
        for (name, value) in fields {
            if !FIRST.contains(&name.as_str()) && name != "request_id" {
                writeln!(out, "    {:<12} {}", printable(name), text(value))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_found_in_a_log_and_nothing_else_is_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines = concat!(
            "{\"ts\":\"T1\",\"event\":\"decision.refused\",\"request_id\":\"aa\",\"reason\":\"link_conflict\"}\n",
            "{\"ts\":\"T2\",\"event\":\"access\",\"request_id\":\"bb\",\"path\":\"/aa\"}\n",
            "{\"ts\":\"T3\",\"event\":\"access\",\"request_id\":\"aa\",\"status\":403}\n{\"torn"
        );
        std::fs::write(file.path(), lines).unwrap();
        let found = in_file(file.path(), "aa").unwrap();
        let mut out = Vec::new();
        write("aa", &found, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("T1  decision.refused") && text.contains("link_conflict"));
        assert!(
            text.contains("status       403") && !text.contains("T2"),
            "{text}"
        );
        let nothing = in_file(file.path(), "cc").unwrap_err();
        assert!(nothing.to_string().contains("too long ago"), "{nothing}");
    }
}
