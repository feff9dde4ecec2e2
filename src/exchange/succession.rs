//! When the signing keys of a directory give way to others, for those who ask.

use std::fs;
use std::io;
use std::path::Path;

use crate::clock::UnixTime;
use crate::exchange::disk;
use crate::exchange::keys::RingError;
use crate::exchange::settings::Ring;

/// The name of each key, and when it leaves the published set, or the next one takes its place. Keys of the operator have no
/// end; where no key was made yet there is none.
///
/// # Errors
///
/// When the keys cannot be read.
pub(crate) fn succession(
    directory: &Path,
    settings: &Ring,
) -> Result<Vec<(String, UnixTime)>, RingError> {
    if !settings.files.is_empty() || settings.module.is_some() {
        return Ok(Vec::new());
    }
    let path = directory.join(disk::FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(disk::io_error(&path, cause)),
    };
    let keys = disk::names(&path, &bytes)?;
    let ends = keys.into_iter().map(|(kid, from, until)| {
        let ends = until.unwrap_or(from + settings.rotate_every);
        (kid, ends)
    });
    Ok(ends.collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exchange::KeyRing;

    #[test]
    fn a_key_gives_way_when_the_next_one_signs() {
        const DAY: Duration = Duration::from_secs(86_400);
        let dir = tempfile::tempdir().unwrap();
        let settings = Ring::default();
        let ends = || succession(dir.path(), &settings).unwrap();
        assert!(ends().is_empty(), "there is no key yet");
        let made = UnixTime::from_secs(1_000_000);
        let ring = KeyRing::open(dir.path(), settings.clone(), None, made).unwrap();
        let first = ring.list(made)[0].kid.clone();
        assert_eq!(ends(), [(first.clone(), made + 30 * DAY)]);
        let later = made + 29 * DAY;
        ring.rotate(None, later).unwrap();
        let hour = Duration::from_secs(3_600);
        let (leaves, signs) = (later + hour * 26, later + hour + 30 * DAY);
        let both = ends();
        assert_eq!(both[0], (first, leaves));
        assert_eq!(both[1].1, signs);
    }
}
