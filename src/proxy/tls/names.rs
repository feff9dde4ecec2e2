//! What a listener is called, by the certificates that it shows.

use std::sync::Arc;

use crate::proxy::tls::Certificates;

impl Certificates {
    /// The names in them now, in lower case; `*.` stands for one label.
    pub(crate) fn names(&self) -> Arc<[Box<str>]> {
        let set = self.current.0.load();
        let wildcards = set.wildcard.keys();
        let wildcards = wildcards.map(|suffix| format!("*.{suffix}").into());
        set.exact.keys().cloned().chain(wildcards).collect()
    }
}
