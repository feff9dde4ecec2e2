//! The same in HTTP/2.

use super::Form;
use super::Must;
use super::Variant;
use super::Written;

impl Written {
    /// Where it can be said there. A fragment is cut off by the parser there before anybody sees it.
    pub(super) fn h2(&self) -> Vec<Variant> {
        let hop_by_hop = ["connection", "te", "keep-alive", "proxy-connection"];
        if self.target.contains('#') || hop_by_hop.iter().any(|name| self.all(name) != 0) {
            return Vec::new();
        }
        let mut fields: Vec<(String, String)> = [
            (":method", self.method.as_str()),
            (":scheme", "https"),
            (":authority", self.value("host").unwrap_or_default()),
            (":path", self.target.as_str()),
        ]
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
        fields.extend(
            self.fields
                .iter()
                .filter(|(name, _)| !name.eq_ignore_ascii_case("host"))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone())),
        );
        let body = (!self.body.is_empty()).then(|| self.body.clone());
        let form = |fields: &[(String, String)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (crate::run::latin1(name), crate::run::latin1(value)));
            Form::H2(fields.collect(), body.clone())
        };
        // Equal lengths are one in HTTP/1.1 (RFC 9110 §8.6); HTTP/2 may refuse them.
        let must = if self.all("content-length") < 2 {
            Must::Same
        } else {
            Must::SameOrRefused
        };
        let mut all = vec![Variant {
            label: "HTTP/2".to_owned(),
            must,
            form: form(&fields),
        }];
        if let Some(cookie) = self
            .value("cookie")
            .filter(|c| c.contains("; ") && self.all("cookie") == 1)
        {
            let mut crumbs: Vec<_> = fields.clone();
            crumbs.retain(|(name, _)| name != "cookie");
            crumbs.extend(
                cookie
                    .split("; ")
                    .map(|pair| ("cookie".to_owned(), pair.to_owned())),
            );
            all.push(Variant {
                label: "HTTP/2 with cookies in crumbs".to_owned(),
                must: Must::Same,
                form: form(&crumbs),
            });
        }
        let mut doubled = fields.clone();
        doubled.push(("host".to_owned(), "other.test".to_owned()));
        all.push(Variant {
            label: "HTTP/2 with another host beside".to_owned(),
            must: Must::SameOrRefused,
            form: form(&doubled),
        });
        all
    }
}
