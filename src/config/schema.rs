//! The JSON Schema of the file, and the table of its keys for `config/README.md`: both made from `raw`.

use schemars::SchemaGenerator;
use serde_json::Value;

use crate::config::raw::RawConfig;

/// The JSON Schema (2020-12) of a configuration.
pub(crate) fn schema() -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<RawConfig>();
    schema.insert("title".into(), "authferry configuration".into());
    schema.to_value()
}
