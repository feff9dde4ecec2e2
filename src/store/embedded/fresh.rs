//! A new file: by how much it becomes longer when it is full.
//!
//! redb makes a file twice as long each time, up to 4 GiB, and writes into all of it: what is free then lies between what is not, and
//! a stop has no free end to cut off. The regions by which a file grows are part of the file itself, fixed once it is made, and redb
//! lets nobody ask for others. So a file with nothing in it is told here, before it is opened to be written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use redb::Builder;
use redb::Database;
use redb::DatabaseError;
use redb::backends::FileBackend;

/// A file grows by 32 MiB.
pub(super) const GROWTH: u32 = 32 * 1024 * 1024;
/// Bytes of a page, as redb writes them.
const PAGE: u32 = 4096;
/// Pages of a region in a file that nobody has told anything.
const UNTOLD: u32 = 1 << 20;
/// Where the head of a file says how it is laid out: bytes of a page, pages before a region, pages of a region, whole regions, pages
/// of the last one; four bytes each.
const LAID_OUT: usize = 12;
/// And the pages of a region among them.
const PAGES: usize = LAID_OUT + 8;
/// The head up to there.
const HEAD: usize = LAID_OUT + 20;

/// Makes an empty file one that grows by so many bytes. Whatever happens in the middle of it, the file has no rows, and is what
/// it would be without this; then it grows as redb has it, and works all the same.
pub(super) fn make(
    builder: &Builder,
    file: impl Fn() -> io::Result<File>,
    growth: u32,
) -> Result<(), redb::Error> {
    let open = || -> Result<Database, DatabaseError> {
        let backend = FileBackend::new(file()?)?;
        builder.create_with_backend(backend)
    };
    open()?.close()?;
    let made = file()?;
    let mut head = [0; HEAD];
    made.read_exact_at(&mut head, 0)?;
    if let Some((place, pages)) = told(&head, growth / PAGE) {
        made.write_all_at(&pages, place)?;
        made.sync_all()?;
        // What it notes of free pages is still of the regions that it had.
        open()?.check_integrity()?;
    }
    Ok(())
}

/// Where to write which bytes, so that a region has so many pages; `None`: this is no file of which that is known, or there is more in
/// it than that.
fn told(head: &[u8; HEAD], pages: u32) -> Option<(u64, [u8; 4])> {
    let mut fields = head.get(LAID_OUT..)?.chunks_exact(4);
    let mut field = || {
        let bytes = fields.next()?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let [page, before, region, whole, last] = [field()?, field()?, field()?, field()?, field()?];
    let known = [page, before, region, whole] == [PAGE, 0, UNTOLD, 0] && last < pages;
    known.then_some((PAGES as u64, pages.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::store::EmbeddedStore;
    use crate::store::Key;
    use crate::store::Store as _;
    use std::path::Path;

    /// Pages of the regions in these tests.
    const FEW: u32 = 64;
    const LATER: UnixTime = UnixTime::from_secs(10);
    const NOW: UnixTime = UnixTime::from_secs(1);

    fn at(path: &Path) -> impl Fn() -> io::Result<File> {
        let path = path.to_owned();
        move || {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
        }
    }

    fn key(key: &[u8; 2]) -> Key<'_> {
        Key { table: "t", key }
    }

    fn open(path: &Path) -> EmbeddedStore {
        EmbeddedStore::open(path, 10_000).unwrap()
    }

    fn length(path: &Path) -> u64 {
        std::fs::metadata(path).unwrap().len()
    }

    #[test]
    fn the_file_of_a_store_grows_by_32_mib() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        // One that somebody has put there, with its owner and its mode, is a new one too.
        for there in [false, true] {
            if there {
                File::create(&path).unwrap();
            }
            drop(open(&path));
            let head = std::fs::read(&path).unwrap();
            let pages = u32::from_le_bytes(head[PAGES..PAGES + 4].try_into().unwrap());
            assert_eq!(pages * PAGE, GROWTH);
            let mut database = Database::open(&path).unwrap();
            assert!(database.check_integrity().unwrap());
            drop(database);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_is_never_longer_than_its_rows_by_more_than_it_grows_by() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        make(&Database::builder(), at(&path), FEW * PAGE).unwrap();
        let store = open(&path);
        let (mut before, mut grew) = (length(&path), 0);
        for n in 0..500_u16 {
            let row = n.to_be_bytes();
            store.put(key(&row), &[7; 3_000], LATER).await.unwrap();
            // As a crash leaves it.
            if n % 25 == 0 {
                let crashed = directory.path().join("crashed.redb");
                std::fs::copy(&path, &crashed).unwrap();
                let found = open(&crashed).scan("t", b"", 9_999, NOW).await.unwrap();
                assert_eq!(found.len(), usize::from(n) + 1);
            }
            let now = length(&path);
            grew += u32::from(before < now);
            let most = 2 * u64::from(FEW * PAGE);
            assert!(now <= before + most, "at {n}: {before} {now}");
            before = now;
        }
        assert!(5 < grew, "{grew}");
        drop(store);
        // Nothing was moved: it is a short file.
        let after = length(&path);
        assert!(after <= before, "{before} {after}");
        let found = open(&path).scan("t", b"", 9_999, NOW).await.unwrap();
        assert_eq!(found.len(), 500);
        let mut database = Database::open(&path).unwrap();
        assert!(database.check_integrity().unwrap());
    }

    #[test]
    fn a_file_of_which_that_is_not_known_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        drop(Database::create(&path).unwrap());
        let whole = std::fs::read(&path).unwrap();
        let head: [u8; HEAD] = whole[..HEAD].try_into().unwrap();
        assert!(told(&head, FEW).is_some());
        assert_eq!(told(&head, 2), None, "there is more in it");
        for place in LAID_OUT..HEAD - 4 {
            let mut other = head;
            other[place] ^= 1;
            assert_eq!(told(&other, FEW), None, "{place}");
        }
    }
}
