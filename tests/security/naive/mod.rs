//! The negative control.

pub(crate) async fn run(_upstream: &str, _pki: &std::path::Path, _keys: &std::path::Path) {}
