//! What applications answer themselves: which paths they open to nobody, and where they refuse whom we let in.
//!
//! Each worker writes its own counts; nobody waits for them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::rollout::AppId;

/// Kinds of requests that one worker keeps apart; further paths share one row.
const MAX_KINDS: usize = 4_000;
/// Segments of a path that are told.
const SEGMENTS: usize = 2;
/// A longer segment is the name of a thing, and not of a place.
const MAX_SEGMENT: usize = 24;
/// Where the paths are that could not be kept apart.
const OTHER: &str = "(others)";

/// What we did with a request.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Ours {
    /// Somebody was let in.
    Admitted,
    /// It was forwarded, as nobody's.
    Anonymous,
    /// It was turned away.
    Refused,
}

impl Ours {
    /// The word in reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Anonymous => "anonymous",
            Self::Refused => "refused",
        }
    }
}

/// A kind of request: they are counted, never kept.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Kind {
    /// The application.
    pub(crate) app: AppId,
    /// The first segments of the path, without what looks like a name of somebody or something.
    pub(crate) path: Box<str>,
    /// The route that it took, as it was called then; `None`: there was none.
    pub(crate) route: Option<Box<str>>,
    /// What was presented.
    pub(crate) class: Option<CredentialClass>,
    /// The client, where its token names it.
    pub(crate) client: Option<Box<str>>,
    /// What we did.
    pub(crate) ours: Ours,
    /// What the application answered; `None`: it was not asked.
    pub(crate) theirs: Option<u16>,
}

/// How often, and when last.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Times {
    /// How often.
    pub(crate) count: u64,
    /// When last.
    pub(crate) last: UnixTime,
}

/// One request, as it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered<'a> {
    /// The application.
    pub(crate) app: &'a AppId,
    /// The canonical path.
    pub(crate) path: &'a str,
    /// The route that it took.
    pub(crate) route: Option<&'a str>,
    /// What was presented.
    pub(crate) class: Option<CredentialClass>,
    /// The client, where its token names it.
    pub(crate) client: Option<&'a str>,
    /// What we did.
    pub(crate) ours: Ours,
    /// What the application answered; `None`: it was not asked.
    pub(crate) theirs: Option<u16>,
    /// Now.
    pub(crate) now: UnixTime,
}

/// The counts of one worker.
#[derive(Default)]
pub(crate) struct Shard(Mutex<HashMap<Kind, Times>>);

/// The counts of all workers.
#[derive(Default)]
pub(crate) struct Surface(Mutex<Vec<Arc<Shard>>>);

impl Surface {
    /// The counts of one more worker.
    pub(crate) fn shard(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::default());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&shard));
        shard
    }

    /// Everything that was counted since the start.
    pub(crate) fn all(&self) -> BTreeMap<Kind, Times> {
        let shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<Kind, Times> = BTreeMap::new();
        for shard in shards.iter() {
            for (kind, times) in shard.counts().iter() {
                let sum = all.entry(kind.clone()).or_default();
                sum.count += times.count;
                sum.last = sum.last.max(times.last);
            }
        }
        all
    }
}

/// Of requests that were let in: how many the application took as we did, and to how many it answered 401. What it forbids to
/// somebody whom it knows (403) is its own business; the report names it.
pub(crate) fn agreed(all: &BTreeMap<Kind, Times>) -> BTreeMap<AppId, [u64; 2]> {
    let mut apps: BTreeMap<AppId, [u64; 2]> = BTreeMap::new();
    for (kind, times) in all {
        if let (Ours::Admitted, Some(status)) = (kind.ours, kind.theirs) {
            let [same, different] = apps.entry(kind.app.clone()).or_default();
            let counter = if status == 401 { different } else { same };
            *counter += times.count;
        }
    }
    apps
}

impl Shard {
    /// A request has ended.
    pub(crate) fn saw(&self, answered: &Answered<'_>) {
        let mut counts = self.counts();
        let mut kind = Kind {
            app: answered.app.clone(),
            path: shape(answered.path),
            route: answered.route.map(Into::into),
            class: answered.class,
            client: answered.client.map(Into::into),
            ours: answered.ours,
            theirs: answered.theirs,
        };
        if MAX_KINDS <= counts.len() && !counts.contains_key(&kind) {
            kind.path = OTHER.into();
            kind.client = None;
        }
        let times = counts.entry(kind).or_default();
        times.count += 1;
        times.last = times.last.max(answered.now);
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Kind, Times>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first segments, each of which is `*` where it looks like the name of a thing or a person: with a digit, an `@` or
/// an escape in it, or long. Versions such as `v2` are places.
fn shape(path: &str) -> Box<str> {
    let mut out = String::with_capacity(32);
    let mut segments = path.split('/').skip(1);
    for segment in segments.by_ref().take(SEGMENTS) {
        let is_name = MAX_SEGMENT < segment.len()
            || segment
                .bytes()
                .any(|b| b.is_ascii_digit() || b"@%=;".contains(&b));
        let is_name = is_name && !is_version(segment);
        out.push('/');
        out.push_str(if is_name { "*" } else { segment });
    }
    if segments.next().is_some() {
        out.push_str("/*");
    }
    out.into()
}

fn is_version(segment: &str) -> bool {
    let number = segment.strip_prefix('v').unwrap_or_default();
    (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Debug for Surface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Surface")
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shard")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_without_the_names_in_it() {
        for (path, told) in [
            ("/", "/"),
            ("/static/css/app.css", "/static/css/*"),
            ("/orders/4711", "/orders/*"),
            ("/users/ann@corp.example/edit", "/users/*/*"),
            ("/a/b", "/a/b"),
            ("/api/v2/health", "/api/v2/*"),
            ("/api/v200/x", "/api/*/*"),
            ("/v/vx1", "/v/*"),
            ("/export;jsessionid=x/", "/*/"),
            ("/f/d41d8cd98f00b204e9800998ecf8427e", "/f/*"),
        ] {
            assert_eq!(&*shape(path), told, "{path}");
        }
    }

    #[test]
    fn workers_count_for_themselves_and_nothing_grows_without_end() {
        let surface = Surface::default();
        let (one, other) = (surface.shard(), surface.shard());
        let app = AppId::new("crm");
        let saw = |shard: &Shard, path: &str, at: u64| {
            shard.saw(&Answered {
                app: &app,
                path,
                route: Some("/*"),
                class: None,
                client: None,
                ours: Ours::Anonymous,
                theirs: Some(200),
                now: UnixTime::from_secs(at),
            });
        };
        saw(&one, "/static/a", 1);
        saw(&other, "/static/a", 3);
        saw(&other, "/static/a", 2);
        let all = surface.all();
        let (kind, times) = all.first_key_value().unwrap();
        assert_eq!((all.len(), &*kind.path), (1, "/static/a"));
        assert_eq!((times.count, times.last), (3, UnixTime::from_secs(3)));
        let letters = |n: usize| -> String {
            let digits = [n % 26, n / 26 % 26, n / 676];
            digits.map(|d| char::from(b'a' + d as u8)).iter().collect()
        };
        (0..MAX_KINDS + 50).for_each(|n| saw(&one, &format!("/p/{}", letters(n)), 4));
        let all = surface.all();
        assert_eq!(all.len(), MAX_KINDS + 1);
        assert!(all.keys().any(|kind| &*kind.path == OTHER));
    }
}
