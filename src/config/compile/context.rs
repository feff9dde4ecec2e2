//! What every part of the compilation shares: the report, the source, and the names that others may refer to.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::config::compile::outline::Outline;
use crate::config::names::did_you_mean;
use crate::config::names::one_of;
use crate::config::problem::Report;
use crate::config::raw::RawConfig;
use crate::config::raw::RawFile;
use crate::config::raw::RawSecret;
use crate::config::raw::RawSecretText;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::source::MAX_NAMED_BYTES;
use crate::config::source::Source;
use crate::config::tree::Mark;
use crate::secret::Secret;

/// The longest secret, in bytes: a chain of private keys fits in.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// What every part of the compilation shares.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// What has been found wrong.
    pub(super) report: Report,
    /// Where the configuration comes from.
    pub(super) source: &'a Source,
    /// The files it names, so that a change of one can be seen.
    pub(super) files: Vec<PathBuf>,
    /// Names of providers, readable or not.
    pub(super) providers: Vec<&'a str>,
    /// Names of cohorts.
    pub(super) cohorts: Vec<&'a str>,
    /// Those that somebody has named.
    pub(super) used_cohorts: HashSet<String>,
    /// The rollouts, rule by rule.
    pub(super) outlines: Vec<Outline>,
    /// Names of applications.
    pub(super) apps: Vec<&'a str>,
    /// Names of exchanges.
    exchanges: Vec<&'a str>,
    /// Whether there is a database of countries.
    pub(super) countries: bool,
    /// Cookies of ours that cohorts name.
    pub(super) signed_cookies: Vec<At<String>>,
    /// Classes of assurance, the weakest first.
    pub(super) assurance: Vec<Box<str>>,
    /// Scopes that somebody is given, or asks for.
    pub(super) scopes: HashSet<String>,
    /// Those that routes ask of whoever comes.
    pub(super) required_scopes: Vec<At<String>>,
}

impl<'a> Context<'a> {
    /// Begins with the names of `raw`.
    pub(super) fn new(raw: &'a RawConfig, source: &'a Source, report: Report) -> Self {
        let names = |names: Option<Vec<&'a str>>| names.unwrap_or_default();
        Self {
            report,
            source,
            files: Vec::new(),
            used_cohorts: HashSet::new(),
            outlines: Vec::new(),
            providers: names(raw.providers.get().map(|named| named.names().collect())),
            cohorts: names(raw.cohorts.get().map(|named| named.names().collect())),
            apps: names(raw.apps.get().map(|named| named.names().collect())),
            exchanges: names(raw.exchange.get().map(|named| named.names().collect())),
            assurance: Vec::new(),
            scopes: HashSet::new(),
            required_scopes: Vec::new(),
            signed_cookies: Vec::new(),
            countries: raw
                .server
                .get()
                .is_some_and(|server| !server.country_database.is_absent()),
        }
    }

    /// Whether an exchange of this name stands in the file, readable or not.
    pub(super) fn knows_exchange(&self, name: &str) -> bool {
        self.exchanges.contains(&name)
    }

    /// Whether a provider of this name exists; reports it if not.
    pub(super) fn knows_provider(&mut self, name: &At<String>) -> bool {
        let known = std::mem::take(&mut self.providers);
        let knows = self.knows("provider", name, &known);
        self.providers = known;
        knows
    }

    /// Whether a cohort of this name exists; reports it if not.
    pub(super) fn knows_cohort(&mut self, name: &At<String>) -> bool {
        let known = std::mem::take(&mut self.cohorts);
        let knows = self.knows("cohort", name, &known);
        self.cohorts = known;
        self.used_cohorts.insert(name.value.clone());
        knows
    }

    /// Whether an application of this name exists; reports it if not.
    pub(super) fn knows_app(&mut self, name: &At<String>) -> bool {
        let known = std::mem::take(&mut self.apps);
        let knows = self.knows("application", name, &known);
        self.apps = known;
        knows
    }

    fn knows(&mut self, what: &str, name: &At<String>, known: &[&str]) -> bool {
        if known.contains(&name.value.as_str()) {
            return true;
        }
        let said = self
            .report
            .error(name.mark, format!("no {what} is called `{}`", name.value))
            .value(&name.value);
        if let Some(close) = did_you_mean(&name.value, known.iter().copied()) {
            said.hint(format!("did you mean `{close}`?"));
        } else if known.is_empty() {
            said.hint(format!("there is no {what} at all"));
        } else if known.len() <= 8 {
            said.hint(format!("there is {}", one_of(known.iter().copied())));
        }
        false
    }

    /// A name that the operator chose: it becomes a label, a log field and part of paths.
    pub(super) fn name(&mut self, what: &str, name: &At<String>) -> bool {
        let text = name.value.as_str();
        let fits = text.len() <= 63
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !fits {
            self.report
                .error(name.mark, format!("`{text}` cannot be the name of {what}"))
                .value(text)
                .hint(
                    "1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
                );
        }
        fits
    }

    /// The path of a PEM file that is read elsewhere; it must be there and hold what it should.
    pub(super) fn pem(&mut self, file: &Field<RawFile>, what: &str, kind: &str) -> Option<PathBuf> {
        let file = file.get()?;
        let path = file.file.required(file.mark, "file", &mut self.report)?;
        let kind = kind.to_owned();
        self.readable(path, what, move |content| {
            let text = String::from_utf8_lossy(content);
            let found = text
                .lines()
                .any(|line| line.starts_with("-----BEGIN") && line.contains(&kind));
            if found {
                Ok(())
            } else {
                Err(format!("holds no `{kind}` in PEM"))
            }
        })
    }

    /// The path of a file that is read elsewhere, if it can be read and `check` is content.
    pub(super) fn readable(
        &mut self,
        path: &At<PathBuf>,
        what: &str,
        check: impl FnOnce(&[u8]) -> Result<(), String>,
    ) -> Option<PathBuf> {
        let content = self.content(path, what)?;
        if let Err(reason) = check(&content) {
            let shown = path.value.display();
            self.report
                .error(path.mark, format!("{what} `{shown}` {reason}"))
                .value(shown);
            return None;
        }
        Some(self.source.resolve(&path.value))
    }

    /// The content of a file that the configuration names.
    pub(super) fn content(&mut self, path: &At<PathBuf>, what: &str) -> Option<Vec<u8>> {
        let resolved = self.source.resolve(&path.value);
        self.files.push(resolved.clone());
        match self.source.environment.read(&resolved, MAX_NAMED_BYTES) {
            Ok(content) => Some(content),
            Err(error) => {
                let shown = path.value.display();
                self.report
                    .error(
                        path.mark,
                        format!("{what} `{shown}` cannot be read: {}", reason(&error)),
                    )
                    .value(shown)
                    .hint(unreadable_hint(&resolved));
                None
            }
        }
    }

    /// A path that need not exist yet.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.source.resolve(path)
    }

    /// The bytes of a secret, without the line break at the end of a file.
    pub(super) fn secret(
        &mut self,
        secret: &Field<RawSecretText>,
        what: &str,
    ) -> Option<Secret<Vec<u8>>> {
        let RawSecret { file, env, .. } = &secret.get()?.0;
        self.secret_from(file, env, what)
    }

    /// See [`Context::secret`].
    pub(super) fn secret_from(
        &mut self,
        file: &Field<At<PathBuf>>,
        env: &Field<At<String>>,
        what: &str,
    ) -> Option<Secret<Vec<u8>>> {
        let (mut bytes, mark) = match (file.get(), env.get()) {
            (Some(path), _) => (self.content(path, what)?, path.mark),
            (None, Some(variable)) => (self.variable(variable, what)?, variable.mark),
            (None, None) => return None,
        };
        if file.get().is_some() && bytes.ends_with(b"\n") {
            bytes.pop();
            if bytes.ends_with(b"\r") {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            self.report.error(mark, format!("{what} is empty"));
            return None;
        }
        if MAX_SECRET_BYTES < bytes.len() {
            self.report
                .error(mark, format!("{what} is longer than 64 KiB"));
            return None;
        }
        Some(Secret::new(bytes))
    }

    fn variable(&mut self, variable: &At<String>, what: &str) -> Option<Vec<u8>> {
        let value = self.source.environment.variable(&variable.value);
        if value.is_none() {
            self.report
                .error(
                    variable.mark,
                    format!(
                        "{what}: the environment variable `{}` is not set",
                        variable.value
                    ),
                )
                .value(&variable.value)
                .hint("set it where authferry starts, or name a file: `{ file: PATH }`");
        }
        value.map(String::into_bytes)
    }

    /// A secret that is a text.
    pub(super) fn secret_text(
        &mut self,
        secret: &Field<RawSecretText>,
        what: &str,
    ) -> Option<Secret<String>> {
        let mark = secret.get()?.0.mark;
        let bytes = self.secret(secret, what)?;
        if let Ok(text) = std::str::from_utf8(bytes.expose()) {
            return Some(Secret::new(text.to_owned()));
        }
        self.report.error(mark, format!("{what} is not UTF-8"));
        None
    }

    /// Reports a value outside of its range.
    pub(super) fn range<T: PartialOrd>(
        &mut self,
        mark: Mark,
        value: &T,
        (least, most): (T, T),
        words: &str,
    ) {
        if *value < least || most < *value {
            self.report.error(mark, format!("out of range: {words}"));
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::FileTooLarge => "it is longer than 16 MiB".to_owned(),
        _ => error.to_string(),
    }
}

fn unreadable_hint(resolved: &Path) -> String {
    format!(
        "looked for {}; relative paths start at the configuration file",
        resolved.display()
    )
}
