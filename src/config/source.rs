//! Where a configuration comes from: the file, the files it names, and the environment.
//!
//! Compiling asks nothing else, so a test hands in an environment of its own and `check` and `run` see the same.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::tree::MAX_FILE_BYTES;

/// The longest file that a configuration may name, in bytes: a list of people fits in, a disk image does not.
pub(crate) const MAX_NAMED_BYTES: usize = 16 * 1024 * 1024;

/// Which variable names the configuration file; the command line comes first.
pub(crate) const CONFIG_VARIABLE: &str = "AUTHFERRY_CONFIG";
/// Overrides `server.listen`.
pub(crate) const LISTEN_VARIABLE: &str = "AUTHFERRY_LISTEN";
/// Overrides `server.admin.listen`.
pub(crate) const ADMIN_LISTEN_VARIABLE: &str = "AUTHFERRY_ADMIN_LISTEN";
/// Overrides `server.state_dir`.
pub(crate) const STATE_DIR_VARIABLE: &str = "AUTHFERRY_STATE_DIR";
/// The filter of the diagnostics log, such as `info` or `authferry=debug`; read by `main`.
pub(crate) const LOG_VARIABLE: &str = "AUTHFERRY_LOG";

/// What a configuration may ask for while it is compiled.
pub(crate) trait Environment: fmt::Debug + Send + Sync {
    /// The content of a file, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is longer.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;

    /// An environment variable; `None` when it is not set or not Unicode.
    fn variable(&self, name: &str) -> Option<String>;

    /// How many cores there are, for the default of `server.workers`.
    fn cores(&self) -> usize;
}

/// The machine we run on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct System;

impl Environment for System {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        File::open(path)?.take(most).read_to_end(&mut content)?;
        if limit < content.len() {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("longer than {limit} bytes"),
            ));
        }
        Ok(content)
    }

    fn variable(&self, name: &str) -> Option<String> {
        #[expect(clippy::disallowed_methods, reason = "this is the one caller")]
        std::env::var(name).ok()
    }

    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

/// The same without its variables: for what nobody configures from outside.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WithoutVariables;

impl Environment for WithoutVariables {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        System.read(path, limit)
    }

    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn cores(&self) -> usize {
        System.cores()
    }
}

/// A configuration file that has been read, and the environment it is compiled in.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The file, as it was named: relative paths in it start at its directory.
    pub(crate) path: PathBuf,
    /// Its text.
    pub(crate) text: String,
    /// What it may ask for.
    pub(crate) environment: Arc<dyn Environment>,
}

/// Why there is nothing to compile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        cause: io::Error,
    },
    /// The file is no text.
    #[error("{path} is not UTF-8: the first bad byte is byte {at}")]
    NotText {
        /// Which file.
        path: String,
        /// Where, from 0.
        at: usize,
    },
}

impl Source {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is longer than 4 MiB, or is not UTF-8.
    pub(crate) fn read(
        path: &Path,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, SourceError> {
        let name = || path.display().to_string();
        let bytes =
            environment
                .read(path, MAX_FILE_BYTES)
                .map_err(|cause| SourceError::Unreadable {
                    path: name(),
                    cause,
                })?;
        let text = String::from_utf8(bytes).map_err(|error| SourceError::NotText {
            path: name(),
            at: error.utf8_error().valid_up_to(),
        })?;
        Ok(Self {
            path: path.to_owned(),
            text,
            environment,
        })
    }

    /// A path of the configuration: relative ones start at the file's directory.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        match self.path.parent() {
            Some(directory) => directory.join(path),
            None => path.to_owned(),
        }
    }
}

/// An environment for tests: files and variables in memory.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Imagined {
    /// Files by path; a missing one does not exist.
    pub(crate) files: std::collections::HashMap<PathBuf, Vec<u8>>,
    /// Variables by name.
    pub(crate) variables: std::collections::HashMap<String, String>,
}

#[cfg(test)]
impl Environment for Imagined {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let content = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        if limit < content.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(content.clone())
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn cores(&self) -> usize {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_not_read_into_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        std::fs::write(&path, "x".repeat(100)).unwrap();
        assert_eq!(System.read(&path, 100).unwrap().len(), 100);
        let error = System.read(&path, 99).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_file_that_is_no_text_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, b"ab\xff").unwrap();
        let error = Source::read(&path, Arc::new(System)).unwrap_err();
        assert!(error.to_string().contains("byte 2"), "{error}");
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let source = Source {
            path: "/etc/authferry/a.yaml".into(),
            text: String::new(),
            environment: Arc::new(Imagined::default()),
        };
        let resolve = |path: &str| source.resolve(Path::new(path));
        assert_eq!(resolve("keys/a"), Path::new("/etc/authferry/keys/a"));
        assert_eq!(resolve("/run/a"), Path::new("/run/a"));
    }
}
