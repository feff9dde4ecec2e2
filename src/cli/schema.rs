//! `authferry schema`: the JSON Schema of the configuration, for editors.

use std::io::Write;
use std::process::ExitCode;

use crate::config;

/// Print the JSON Schema of the configuration, for editors.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Writes the schema (JSON Schema 2020-12) to `out`.
pub(super) fn run(_args: &Args, out: &mut dyn Write) -> ExitCode {
    match writeln!(out, "{:#}", config::schema()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_json_and_knows_the_first_keys() {
        let mut out = Vec::new();
        run(&Args {}, &mut out);
        let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        assert!(schema["properties"]["providers"].is_object());
        assert_eq!(schema["additionalProperties"], false);
    }
}
