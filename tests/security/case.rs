//! The schema of case files, as its legend describes it.

use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;

/// A case file. Unknown members of the file (`about`, `legend`, …) are for people.
#[derive(Debug, Deserialize)]
pub(crate) struct File {
    /// The version of the schema.
    pub(crate) schema: u32,
    /// The cases, in order.
    pub(crate) cases: Vec<Case>,
}

/// One promise and the requests that would break it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Case {
    /// Its name, such as `HDR-001`.
    pub(crate) id: String,
    /// What it is about.
    pub(crate) group: String,
    /// In a few words.
    pub(crate) title: String,
    /// How bad a failure is.
    pub(crate) severity: String,
    /// What must be so before, in words.
    #[serde(default)]
    pub(crate) preconditions: Vec<String>,
    /// Tokens, by the name that requests use.
    #[serde(default)]
    pub(crate) tokens: BTreeMap<String, Map<String, Value>>,
    /// What is done, in order.
    pub(crate) requests: Vec<Entry>,
    /// What must come of it.
    pub(crate) expected: Expected,
    /// How this runner reads what the case says in words only.
    #[serde(default)]
    pub(crate) reading: Option<Reading>,
    /// Why nothing of it but its name could be read.
    #[serde(skip)]
    pub(crate) unread: Option<String>,
}

/// One thing that is done.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Entry {
    /// Exact bytes on one connection.
    H1(String),
    /// Frames on a connection.
    H2(Frames),
    /// A step for the harness, in words.
    Op(String),
    /// Many of a step.
    Repeat(Repeat),
}

/// A request in HTTP/2.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Frames {
    /// Pseudo-headers and fields, in order, as they are to be sent.
    pub(crate) headers: Vec<(String, String)>,
    /// The content of one DATA frame.
    #[serde(default)]
    pub(crate) body: Option<String>,
}

/// Many of a step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Repeat {
    /// How many.
    pub(crate) n: u64,
    /// The step.
    pub(crate) step: Box<Entry>,
    /// How fast, such as `500/s`.
    #[serde(default)]
    pub(crate) rate: Option<String>,
}

/// What must come of a case. Absent fields say nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Expected {
    /// Every answer's status is in the list.
    pub(crate) status: Option<Vec<u16>>,
    /// No answer's status is.
    pub(crate) not_status: Vec<u16>,
    /// Requests that the upstream counted, for each request.
    pub(crate) upstream_hits: Option<usize>,
    /// Requests that the upstream counted and no client meant to send.
    pub(crate) upstream_smuggled: Option<usize>,
    /// Exactly one instance with this value reached the upstream, when the request was forwarded.
    pub(crate) up_hdr: BTreeMap<String, String>,
    /// No header that folds to this name reached the upstream.
    pub(crate) up_absent: Vec<String>,
    /// This text is in no header that the upstream got.
    pub(crate) up_no_value: Vec<String>,
    /// Regular expressions on response headers.
    pub(crate) resp_hdr: BTreeMap<String, Pattern>,
    /// Regular expressions that each match in the body.
    pub(crate) body: Vec<Pattern>,
    /// Regular expressions that match nowhere in a response.
    pub(crate) resp_no: Vec<Pattern>,
    /// On `Location`.
    pub(crate) location: Option<Pattern>,
    /// On `Location`: must not match.
    pub(crate) location_not: Option<Pattern>,
    /// Each matches some `Set-Cookie`.
    pub(crate) set_cookie: Vec<Pattern>,
    /// None matches any `Set-Cookie`.
    pub(crate) no_set_cookie: Vec<Pattern>,
    /// The proxy closes the connection.
    pub(crate) closed: Option<bool>,
    /// RST_STREAM or GOAWAY.
    pub(crate) h2_reset: Option<bool>,
    /// Time to the answer.
    pub(crate) within_ms: Option<u64>,
    /// Growth of the proxy's memory.
    pub(crate) rss_delta_max_mib: Option<u64>,
    /// Requests seen by an endpoint of a provider: a number or `<= N in any T s`.
    pub(crate) idp_hits: BTreeMap<String, Value>,
    /// Requests seen by the attacker's sink.
    pub(crate) sink_hits: Option<usize>,
    /// On the decision log.
    pub(crate) log: Vec<Pattern>,
    /// On the decision log: must not match.
    pub(crate) log_no: Vec<Pattern>,
    /// The promise in words.
    pub(crate) text: Option<String>,
}

/// A regular expression, still in the words of the case file: names and `${…}` in it are not yet ours.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Pattern(pub(crate) String);

/// How this runner reads what a case says in words: in our own corpus, for every file that says the same words.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Reading {
    /// What is done instead, where `requests` speaks to people; else `requests` as they stand.
    pub(crate) requests: Option<Vec<Entry>>,
    /// For each answer in order, what holds besides (a field given here takes the place of the common one).
    pub(crate) each: Vec<Expected>,
    /// For all answers: takes the place of `expected`, field by field.
    pub(crate) all: Option<Expected>,
    /// Relations between what the upstream saw.
    pub(crate) upstream: Option<Relation>,
    /// Why the case does not apply to this product, and what stands for it.
    pub(crate) replaced: Option<String>,
    /// Why the runner does not perform it yet.
    pub(crate) later: Option<String>,
    /// Preconditions that the case leaves unsaid.
    pub(crate) also: Vec<String>,
    /// Preconditions that the steps of the reading bring about, or that ask for nothing here.
    pub(crate) done: Vec<String>,
    /// Tokens in place of those of the case.
    pub(crate) tokens: BTreeMap<String, Map<String, Value>>,
    /// Whether all answers have one status.
    pub(crate) one_status: bool,
}

/// A relation between the values of one header in all requests that reached the upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Relation {
    /// The header.
    pub(crate) header: String,
    /// What holds.
    pub(crate) is: Holds,
}

/// See [`Relation`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Holds {
    /// No two are equal.
    Distinct,
    /// All are printable ASCII and no two are equal.
    DistinctAscii,
}

impl File {
    /// Reads a file. A case that says something this runner does not know is kept by its name: it must not hide the others.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = Self::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        if file.schema != 1 {
            return Err(format!(
                "{}: schema {} is not known here",
                path.display(),
                file.schema
            ));
        }
        Ok(file)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let strict = match serde_saphyr::from_str::<Self>(text) {
            Ok(file) => return Ok(file),
            Err(strict) => strict.to_string(),
        };
        // What is wrong is wrong as a whole, or in a case.
        let whole = serde_saphyr::from_str::<Value>(text).map_err(|_| strict)?;
        let (schema, cases) = match whole {
            Value::Array(cases) => (1, cases),
            other => (
                other.get("schema").and_then(Value::as_u64).unwrap_or(1),
                other
                    .get("cases")
                    .and_then(Value::as_array)
                    .cloned()
                    .ok_or("it has no `cases`")?,
            ),
        };
        Ok(Self {
            schema: u32::try_from(schema).unwrap_or(u32::MAX),
            cases: cases.into_iter().map(Case::read).collect(),
        })
    }
}

impl Case {
    /// A case of a file that is not ours.
    fn read(value: Value) -> Self {
        let text = |name: &str| match value.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "?".to_owned(),
        };
        let named = Self {
            id: text("id"),
            group: text("group"),
            title: text("title"),
            severity: text("severity"),
            preconditions: Vec::new(),
            tokens: BTreeMap::new(),
            requests: Vec::new(),
            expected: Expected::default(),
            reading: None,
            unread: None,
        };
        serde_json::from_value(value).unwrap_or_else(|cause| Self {
            unread: Some(cause.to_string()),
            ..named
        })
    }

    /// Takes the reading of the same case in our own corpus, if the words are the same.
    pub(crate) fn adopt(&mut self, own: &[Self]) {
        if self.reading.is_some() {
            return;
        }
        let same = own.iter().find(|c| {
            c.id == self.id
                && c.expected.text == self.expected.text
                && c.requests.len() == self.requests.len()
        });
        self.reading = same.and_then(|c| c.reading.clone());
    }

    /// The tokens, those of the reading first.
    pub(crate) fn all_tokens(&self) -> BTreeMap<String, Map<String, Value>> {
        let mut tokens = self.tokens.clone();
        tokens.extend(
            self.reading
                .iter()
                .flat_map(|reading| reading.tokens.clone()),
        );
        tokens
    }

    /// The steps to take.
    pub(crate) fn steps(&self) -> &[Entry] {
        let read = self.reading.as_ref().and_then(|r| r.requests.as_deref());
        read.unwrap_or(&self.requests)
    }
}

impl Expected {
    /// Whether a machine can check anything of it.
    pub(crate) fn is_only_text(&self) -> bool {
        let mut rest = self.clone();
        rest.text = None;
        format!("{rest:?}") == format!("{:?}", Self::default())
    }

    /// Field by field, `over` takes the place of what stands here.
    pub(crate) fn with(&self, over: &Self) -> Self {
        fn option<T: Clone>(over: &Option<T>, base: &Option<T>) -> Option<T> {
            over.clone().or_else(|| base.clone())
        }
        fn list<T: Clone>(over: &[T], base: &[T]) -> Vec<T> {
            if over.is_empty() { base } else { over }.to_vec()
        }
        fn map<T: Clone>(
            over: &BTreeMap<String, T>,
            base: &BTreeMap<String, T>,
        ) -> BTreeMap<String, T> {
            if over.is_empty() { base } else { over }.clone()
        }
        Self {
            status: option(&over.status, &self.status),
            not_status: list(&over.not_status, &self.not_status),
            upstream_hits: option(&over.upstream_hits, &self.upstream_hits),
            upstream_smuggled: option(&over.upstream_smuggled, &self.upstream_smuggled),
            up_hdr: map(&over.up_hdr, &self.up_hdr),
            up_absent: list(&over.up_absent, &self.up_absent),
            up_no_value: list(&over.up_no_value, &self.up_no_value),
            resp_hdr: map(&over.resp_hdr, &self.resp_hdr),
            body: list(&over.body, &self.body),
            resp_no: list(&over.resp_no, &self.resp_no),
            location: option(&over.location, &self.location),
            location_not: option(&over.location_not, &self.location_not),
            set_cookie: list(&over.set_cookie, &self.set_cookie),
            no_set_cookie: list(&over.no_set_cookie, &self.no_set_cookie),
            closed: option(&over.closed, &self.closed),
            h2_reset: option(&over.h2_reset, &self.h2_reset),
            within_ms: option(&over.within_ms, &self.within_ms),
            rss_delta_max_mib: option(&over.rss_delta_max_mib, &self.rss_delta_max_mib),
            idp_hits: map(&over.idp_hits, &self.idp_hits),
            sink_hits: option(&over.sink_hits, &self.sink_hits),
            log: list(&over.log, &self.log),
            log_no: list(&over.log_no, &self.log_no),
            text: option(&over.text, &self.text),
        }
    }
}

impl Pattern {
    /// The expression over our names.
    pub(crate) fn compile(&self, ours: impl FnOnce(&str) -> String) -> Result<Regex, String> {
        let text = ours(&self.0);
        Regex::new(&text).map_err(|e| format!("`{text}` is not a regular expression here: {e}"))
    }
}
