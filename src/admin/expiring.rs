//! What ends, as an instance tells of it.

use serde::Deserialize;
use serde::Serialize;

/// Something that ends, or of which nobody knows when.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct ExpiringView {
    /// What kind of thing, such as `signing_key`.
    pub(crate) kind: String,
    /// Its file or its name; never itself.
    pub(crate) name: String,
    /// Where it is used.
    pub(crate) used: String,
    /// When it ends, in seconds since 1970; `None`: nobody knows.
    pub(crate) ends: Option<u64>,
    /// Why nobody knows.
    pub(crate) problem: Option<String>,
    /// Whether it is renewed without anybody: then only an end that has passed is news.
    pub(crate) renews_itself: bool,
}
