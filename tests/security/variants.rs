//! Variants of the cases, made from them: other spellings of what means the same, spellings that must be refused or mean
//! the same, the same without credentials, and the same in HTTP/2.
//!
//! Half of the published fixes of this class were incomplete the first time. One rule holds all variants: what is forwarded
//! is what was forwarded before, and what was refused stays refused.

mod cookies;
mod second;

use std::fmt::Write as _;

use crate::wire::h1::find;

/// One request line, its fields and what follows, as it can be written again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Written {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What must come of a variant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Must {
    /// The same status, and the same at the upstream.
    Same,
    /// The same, or a refusal.
    SameOrRefused,
    /// The same, but for the port that the client named, or a refusal.
    SameButPort,
    /// The same, a refusal, or nobody: what is not read as a credential is none.
    SameOrNobody,
    /// No identity at the upstream; nothing at all, but on a public path.
    Nobody,
}

/// How a variant is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// These bytes.
    H1(Vec<u8>),
    /// These fields, and a body.
    H2(Vec<(Vec<u8>, Vec<u8>)>, Option<Vec<u8>>),
}

/// A variant of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Variant {
    /// What is other.
    pub(crate) label: String,
    /// What must come of it.
    pub(crate) must: Must,
    /// What is sent.
    pub(crate) form: Form,
}

/// Names of these are hop-by-hop, or frame the message: their spelling is the matter of the framing cases.
const FRAMING: &[&str] = &[
    "connection",
    "te",
    "keep-alive",
    "upgrade",
    "proxy-connection",
    "transfer-encoding",
    "content-length",
    "expect",
    "trailer",
    "host",
];

impl Written {
    /// Reads one plain request; `None`: there is more than one, or it is odd already.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let end = find(bytes, b"\r\n\r\n")?;
        let head: String = bytes.get(..end)?.iter().map(|b| char::from(*b)).collect();
        let body = bytes.get(end + 4..)?.to_vec();
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
        let good = first.next() == Some("HTTP/1.1")
            && first.next().is_none()
            && target.starts_with('/')
            && method.bytes().all(|b| b.is_ascii_uppercase());
        if !good || method == "CONNECT" {
            return None;
        }
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let token = |b: u8| b.is_ascii_alphanumeric() || b"-_.'~!#$%&*+^`|".contains(&b);
            if name.is_empty()
                || !name.bytes().all(token)
                || value.chars().any(|c| c.is_control() && c != '\t')
            {
                return None;
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
        let written = Self {
            method,
            target,
            fields,
            body,
        };
        let framed = match written.value("content-length") {
            Some(length) => length == written.body.len().to_string(),
            None => written.body.is_empty(),
        };
        let one_host = written.all("host") == 1;
        let plain = ["transfer-encoding", "upgrade", "expect"];
        (framed && one_host && plain.iter().all(|name| written.all(name) == 0)).then_some(written)
    }

    /// Whether the path is open to everybody.
    pub(crate) fn is_public(&self) -> bool {
        self.target.starts_with("/public/")
    }

    fn all(&self, name: &str) -> usize {
        let same = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).count()
    }

    fn value(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn bytes(&self, colon: &str, end: &str) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            let _ = write!(text, "{name}{colon}{value}{end}\r\n");
        }
        text.push_str("\r\n");
        let mut bytes = crate::run::latin1(&text);
        bytes.extend(&self.body);
        bytes
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut other = self.clone();
        change(&mut other);
        other
    }

    fn renamed(&self, rename: impl Fn(&str) -> String) -> Self {
        self.with(|it| {
            for (name, _) in &mut it.fields {
                *name = rename(name);
            }
        })
    }

    /// All variants.
    pub(crate) fn variants(&self) -> Vec<Variant> {
        let mut all = Vec::new();
        let mut add = |must, label: &str, it: &Self| {
            let form = Form::H1(it.bytes(": ", ""));
            all.push(Variant {
                label: label.to_owned(),
                must,
                form,
            });
        };
        use Must::Nobody;
        use Must::Same;
        add(
            Same,
            "names in capitals",
            &self.renamed(str::to_ascii_uppercase),
        );
        add(
            Same,
            "names in small letters",
            &self.renamed(str::to_ascii_lowercase),
        );
        let mut names: Vec<String> = self
            .fields
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        names.sort();
        if names.windows(2).all(|pair| pair[0] != pair[1]) {
            add(
                Same,
                "fields turned round",
                &self.with(|it| it.fields.reverse()),
            );
        }
        add(
            Same,
            "a field in front",
            &self.with(|it| it.fields.insert(0, ("X-Other".to_owned(), "1".to_owned()))),
        );
        self.hosts(&mut add);
        self.paths(&mut add);
        self.credentials(&mut add);
        self.cookies(&mut add);
        self.names(&mut add);
        add(
            Nobody,
            "without credentials",
            &self.with(|it| {
                it.fields.retain(|(name, _)| {
                    !["authorization", "cookie"].contains(&name.to_ascii_lowercase().as_str())
                });
            }),
        );
        for (label, colon, end) in [
            ("a tab before each value", ":\t", ""),
            ("nothing before each value", ":", ""),
            ("space around each value", ":  \t", " \t "),
        ] {
            all.push(Variant {
                label: label.to_owned(),
                must: Same,
                form: Form::H1(self.bytes(colon, end)),
            });
        }
        all.extend(self.h2());
        all
    }

    fn hosts(&self, add: &mut impl FnMut(Must, &str, &Self)) {
        let host = self.value("host").unwrap_or_default().to_owned();
        let put = |value: String| {
            self.with(|it| {
                for (name, old) in &mut it.fields {
                    if name.eq_ignore_ascii_case("host") {
                        old.clone_from(&value);
                    }
                }
            })
        };
        add(
            Must::Same,
            "Host in capitals",
            &put(host.to_ascii_uppercase()),
        );
        for (label, value) in [
            ("Host with the dot of the root", format!("{host}.")),
            ("Host with a user", format!("user@{host}")),
            ("Host with a dot encoded", host.replacen('.', "%2e", 1)),
            ("Host twice in a value", format!("{host}, {host}")),
            ("Host with a path", format!("{host}/public/")),
        ] {
            add(Must::SameOrRefused, label, &put(value));
        }
        for port in [":443", ":80", ":"] {
            add(
                Must::SameButPort,
                &format!("Host with {port}"),
                &put(format!("{host}{port}")),
            );
        }
        add(
            Must::SameOrRefused,
            "Host twice",
            &self.with(|it| it.fields.push(("Host".to_owned(), host.clone()))),
        );
        add(
            Must::SameOrRefused,
            "the target in absolute form",
            &self.with(|it| it.target = format!("https://{host}{}", it.target)),
        );
        add(
            Must::SameOrRefused,
            "another host in the target",
            &self.with(|it| it.target = format!("https://other.test{}", it.target)),
        );
    }

    fn paths(&self, add: &mut impl FnMut(Must, &str, &Self)) {
        let (path, rest) = match self.target.find(['?', '#']) {
            Some(at) => self.target.split_at(at),
            None => (self.target.as_str(), ""),
        };
        let put = |path: String| self.with(|it| it.target = format!("{path}{rest}"));
        // One letter of the first segment, as the code that means the same (RFC 3986 §6.2.2.2).
        if let Some(letter) = path.chars().nth(1).filter(char::is_ascii_alphanumeric) {
            let rest = path.get(2..).unwrap_or_default();
            let code = u32::from(letter);
            add(
                Must::SameOrRefused,
                "a letter encoded",
                &put(format!("/%{code:02X}{rest}")),
            );
        }
        for (label, path) in [
            ("a double slash", format!("/{path}")),
            ("a dot segment", format!("/.{path}")),
            ("an encoded dot segment", format!("/%2e{path}")),
            ("a way in and out", format!("/public/..{path}")),
            ("an encoded way in and out", format!("/public/%2e%2E{path}")),
            (
                "a way in and out with a parameter",
                format!("/public/..;{path}"),
            ),
            (
                "a backslash",
                format!("/public/..\\{}", path.trim_start_matches('/')),
            ),
            (
                "an encoded backslash",
                format!("/public/..%5c{}", path.trim_start_matches('/')),
            ),
            (
                "an encoded slash",
                format!("/public/..%2f{}", path.trim_start_matches('/')),
            ),
            (
                "an overlong slash",
                format!("/public/..%c0%af{}", path.trim_start_matches('/')),
            ),
        ] {
            add(Must::SameOrRefused, label, &put(path));
        }
        add(
            Must::SameOrRefused,
            "a fragment",
            &self.with(|it| it.target.push_str("#/../public/x")),
        );
    }

    fn credentials(&self, add: &mut impl FnMut(Must, &str, &Self)) {
        let Some(value) = self.value("authorization").map(str::to_owned) else {
            return;
        };
        let put = |value: String| {
            self.with(|it| {
                for (name, old) in &mut it.fields {
                    if name.eq_ignore_ascii_case("authorization") {
                        old.clone_from(&value);
                    }
                }
            })
        };
        let Some((scheme, token)) = value.split_once(' ') else {
            return;
        };
        if self.all("authorization") == 1 {
            add(
                Must::Same,
                "the scheme in capitals",
                &put(format!("{} {token}", scheme.to_uppercase())),
            );
        }
        for (label, value) in [
            ("two spaces behind the scheme", format!("{scheme}  {token}")),
            ("a tab behind the scheme", format!("{scheme}\t{token}")),
            ("the token quoted", format!("{scheme} \"{token}\"")),
            ("the token padded", format!("{scheme} {token}=")),
            ("a dot behind the token", format!("{scheme} {token}.")),
            ("something behind the token", format!("{scheme} {token}, x")),
            (
                "the credential twice in a value",
                format!("{value}, {value}"),
            ),
            ("the token without scheme", token.to_owned()),
            ("another scheme first", format!("Basic dTpw, {value}")),
        ] {
            add(Must::SameOrRefused, label, &put(value));
        }
        add(
            Must::SameOrRefused,
            "the credential twice",
            &self.with(|it| it.fields.push(("Authorization".to_owned(), value.clone()))),
        );
        for name in [
            "Proxy-Authorization",
            "X-Authorization",
            "Authorization_",
            "X-Auth-Request-Access-Token",
        ] {
            add(
                Must::Nobody,
                &format!("the credential as {name}"),
                &self.with(|it| {
                    it.fields
                        .retain(|(name, _)| !name.eq_ignore_ascii_case("cookie"));
                    for (old, _) in &mut it.fields {
                        if old.eq_ignore_ascii_case("authorization") {
                            name.clone_into(old);
                        }
                    }
                }),
            );
        }
    }

    /// Other spellings of names that an application may take for the name.
    fn names(&self, add: &mut impl FnMut(Must, &str, &Self)) {
        let skip = |name: &str| {
            let name = name.to_ascii_lowercase();
            // Browsers alone write `Sec-` fields, each in its one spelling, and pages cannot leave them out.
            FRAMING.contains(&name.as_str())
                || name == "authorization"
                || name == "cookie"
                || name.starts_with("sec-")
        };
        let own = self.fields.iter().filter(|(name, _)| !skip(name)).count();
        if own == 0 {
            return;
        }
        for (label, letter) in [("_", '_'), (".", '.'), ("~", '~'), ("'", '\''), ("!", '!')] {
            let renamed = self.renamed(|name| {
                if skip(name) {
                    name.to_owned()
                } else {
                    name.replace(['-', '_', '.'], &letter.to_string())
                }
            });
            add(Must::SameOrRefused, &format!("{label} in names"), &renamed);
        }
        let ended = self.renamed(|name| {
            if skip(name) {
                name.to_owned()
            } else {
                format!("{name}-")
            }
        });
        add(Must::SameOrRefused, "- behind names", &ended);
        // What a listed peer says of the way here is a list: twice is longer.
        let list = |name: &str| name.to_ascii_lowercase().contains("forwarded");
        add(
            Must::SameOrRefused,
            "each field twice",
            &self.with(|it| {
                let again: Vec<_> = it
                    .fields
                    .iter()
                    .filter(|(name, _)| !skip(name) && !list(name))
                    .cloned()
                    .collect();
                it.fields.extend(again);
            }),
        );
        let nominated: Vec<&str> = self
            .fields
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !skip(name))
            .collect();
        let nominated = format!(
            "{}, X-Auth-User, x-auth-groups, Remote-User",
            nominated.join(", ")
        );
        add(
            Must::SameOrRefused,
            "Connection names the fields",
            &self.with(|it| it.fields.push(("Connection".to_owned(), nominated))),
        );
    }
}
