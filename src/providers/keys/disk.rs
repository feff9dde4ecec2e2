//! A copy of a fetched key set in `state_dir/jwks`, so that a restart while the provider is away still knows its keys.

use std::fs;
use std::fs::DirBuilder;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::identity::Issuer;
use crate::identity::ProviderId;

/// The largest copy that is read, in bytes: a key set of 512 KiB, escaped.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// How far in the future a copy may have been made before it is not believed.
const MAX_AHEAD: Duration = Duration::from_secs(60);

/// Where the copy of one provider lies, and whose keys it must hold.
#[derive(Clone, Debug)]
pub(super) struct DiskCopy {
    path: PathBuf,
    issuer: Issuer,
    origin: Box<str>,
}

/// What is written. Keys of another issuer or another origin are not this provider's: a configuration may have changed.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content {
    issuer: String,
    origin: String,
    fetched: u64,
    document: String,
}

impl DiskCopy {
    /// The copy of `provider`; `origin` says how its keys are found.
    pub(super) fn new(
        state_dir: &Path,
        provider: &ProviderId,
        issuer: &Issuer,
        origin: &str,
    ) -> Self {
        Self {
            path: state_dir.join("jwks").join(file_name(provider.as_str())),
            issuer: issuer.clone(),
            origin: origin.into(),
        }
    }

    /// The document and when it was fetched, if there is a copy of this issuer's keys.
    pub(super) fn read(&self, now: UnixTime) -> io::Result<Option<(String, UnixTime)>> {
        let size = match fs::metadata(&self.path) {
            Ok(found) => found.len(),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cause),
        };
        if MAX_BYTES < size {
            return Err(io::Error::other("the copy is too large"));
        }
        let content: Content = serde_json::from_slice(&fs::read(&self.path)?)?;
        let ours = content.issuer == self.issuer.as_str() && content.origin == *self.origin;
        let fetched = UnixTime::from_millis(content.fetched);
        Ok((ours && fetched <= now + MAX_AHEAD).then_some((content.document, fetched.min(now))))
    }

    /// Writes the copy: whoever reads it sees the old one or the new one.
    pub(super) fn write(&self, document: &str, fetched: UnixTime) -> io::Result<()> {
        let content = Content {
            issuer: self.issuer.as_str().to_owned(),
            origin: self.origin.to_string(),
            fetched: fetched.as_millis(),
            document: document.to_owned(),
        };
        if let Some(dir) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let draft = self.path.with_extension("json.new");
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(&serde_json::to_vec(&content)?)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)
    }
}

/// A name from the configuration must not become a path, and two of them must not become one file: one with other characters
/// than letters, digits, `-` and `_` has its digest behind a `~`, which is none of those.
fn file_name(provider: &str) -> String {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let plain = |c: char| if letter(c) { c } else { '_' };
    let mut name: String = provider.chars().map(plain).collect();
    if name != provider {
        let hash = digest::digest(&digest::SHA256, provider.as_bytes());
        name.push('~');
        name.push_str(&URL_SAFE_NO_PAD.encode(hash));
    }
    name + ".json"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn copy(dir: &Path, issuer: &str, origin: &str) -> DiskCopy {
        let provider = ProviderId::new("../modern");
        DiskCopy::new(dir, &provider, &Issuer::new(issuer), origin)
    }

    #[test]
    fn a_copy_is_read_back_by_its_own_issuer_only() {
        let dir = tempfile::tempdir().unwrap();
        let own = copy(dir.path(), "https://a", "discovered");
        assert_eq!(own.read(NOW).unwrap(), None);
        own.write("{}", NOW).unwrap();
        assert_eq!(own.read(NOW).unwrap(), Some(("{}".to_owned(), NOW)));
        for other in [
            copy(dir.path(), "https://b", "discovered"),
            copy(dir.path(), "https://a", "https://a/keys"),
        ] {
            assert_eq!(other.read(NOW).unwrap(), None);
        }
    }

    #[test]
    fn a_copy_stays_in_its_directory_and_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let own = copy(dir.path(), "https://a", "discovered");
        own.write("{}", NOW).unwrap();
        let inside: Vec<_> = fs::read_dir(dir.path().join("jwks")).unwrap().collect();
        assert_eq!(inside.len(), 1);
        let mode = fs::metadata(&own.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn no_provider_overwrites_the_copy_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let issuer = Issuer::new("https://a");
        let names = ["a_b", "a.b", "a-b", "a..b", "a__b", "ab"];
        let all = names.map(|name| {
            let copy = DiskCopy::new(dir.path(), &ProviderId::new(name), &issuer, "discovered");
            copy.write(name, NOW).unwrap();
            (name, copy)
        });
        for (name, copy) in all {
            let read = copy.read(NOW).unwrap();
            assert_eq!(read, Some((name.to_owned(), NOW)), "{name}");
        }
        assert!(dir.path().join("jwks").join("a_b.json").exists());
    }

    #[test]
    fn a_copy_from_the_future_or_of_garbage_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let own = copy(dir.path(), "https://a", "discovered");
        own.write("{}", NOW + Duration::from_secs(61)).unwrap();
        assert_eq!(own.read(NOW).unwrap(), None);
        fs::write(&own.path, "{").unwrap();
        assert!(own.read(NOW).is_err());
    }
}
