//! The stand-in names of case files, and ours for them.

/// Our names for the stand-ins of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// `HOST:PORT` of the new provider.
    pub(crate) new: String,
    /// `HOST:PORT` of the old provider.
    pub(crate) old: String,
    /// `HOST:PORT` of the admin listener, once the program runs.
    pub(crate) admin: String,
}

impl Names {
    /// An issuer identifier.
    pub(crate) fn issuer(&self, whose: &str) -> String {
        match whose {
            "new" => format!("https://{}", self.new),
            "old" => format!("https://{}", self.old),
            other => format!("https://{other}.test"),
        }
    }

    /// A text of a case file in our names.
    ///
    /// Issuers keep their near misses: what is a prefix, a look-alike or another spelling of the stand-in is the same
    /// of our name.
    pub(crate) fn ours(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (stand_in, look_alike, name) in [
            ("new.idp", "n\u{435}w.idp", &self.new),
            ("old.idp", "\u{43e}ld.idp", &self.old),
        ] {
            let host = name.split(':').next().unwrap_or_default();
            // A full-width digit for a letter of another alphabet.
            let strange = name.replacen('1', "\u{ff11}", 1);
            text = text
                .replace(&format!("{stand_in}.test"), name)
                .replace(&format!("{}\\.test", stand_in.replace('.', "\\.")), name)
                .replace(&format!("{stand_in}.test").to_uppercase(), name)
                .replace(&format!("{look_alike}.test"), &strange)
                .replace(stand_in, host);
        }
        if !self.admin.is_empty() {
            let port = self.admin.rsplit(':').next().unwrap_or_default();
            text = text.replace(":9901", &format!(":{port}"));
        }
        if text.contains(" /config HTTP/1.1") {
            // What the cases call the configuration: reading it, and changing it.
            text = text
                .replace("POST /config HTTP/1.1", "POST /-/reload HTTP/1.1")
                .replace("GET /config HTTP/1.1", "GET /-/config HTTP/1.1");
        }
        text.replace("/_gate", "/.authferry")
            .replace("/_GATE", "/.AUTHFERRY")
            .replace("__Host-gate", "__Host-authferry")
            .replace("__host-gate", "__host-authferry")
            .replace("X-Gate-", "X-Authferry-")
            .replace("x-gate-", "x-authferry-")
    }

    /// A regular expression of a case file in our names.
    pub(crate) fn ours_in_pattern(&self, text: &str) -> String {
        self.ours(text)
    }
}
