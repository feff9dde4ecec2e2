//! What was found: counts, and the last differences of each application, without anybody's name.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use aws_lc_rs::hmac;

use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::rollout::AppId;
use crate::shadow::compare::Difference;
use crate::shadow::kind::Class;
use crate::telemetry::Pseudonym;

/// Differences that are kept of one application; the oldest goes first.
const MAX_KEPT: usize = 2_000;
/// For so long.
const KEEP: Duration = Duration::from_hours(30 * 24);
/// People that are counted apart.
const MAX_PEOPLE: usize = 100_000;
/// The same difference of the same person is told once in this time.
const TELL: Duration = Duration::from_hours(24);

/// One difference that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// When.
    pub(crate) at: UnixTime,
    /// Where.
    pub(crate) app: AppId,
    /// Which kind.
    pub(crate) class: Class,
    /// In which field.
    pub(crate) field: Box<str>,
    /// About whom.
    pub(crate) person: Pseudonym,
    /// Names of groups and scopes of which only one side speaks.
    pub(crate) values: Vec<Box<str>>,
    /// What the deciding side says: a keyed hash.
    pub(crate) control: String,
    /// What the other side says: a keyed hash.
    pub(crate) candidate: String,
}

/// Everything that was found since the start.
pub(crate) struct Found {
    /// Of this process: equal values are seen to be equal, and nobody can try values out.
    key: hmac::Key,
    apps: Mutex<HashMap<AppId, OfApp>>,
}

#[derive(Default)]
struct OfApp {
    kept: VecDeque<Kept>,
    /// When somebody was compared last.
    compared: HashMap<Pseudonym, UnixTime>,
    /// When something critical was found.
    critical: VecDeque<UnixTime>,
    told: HashMap<(Class, Box<str>, Pseudonym), UnixTime>,
}

impl Found {
    /// Nothing yet.
    pub(crate) fn new(entropy: &dyn Entropy) -> Self {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            apps: Mutex::default(),
        }
    }

    /// Somebody was compared.
    pub(super) fn compared(&self, app: &AppId, person: Pseudonym, now: UnixTime) {
        let mut apps = self.apps();
        let own = apps.entry(app.clone()).or_default();
        if own.compared.len() < MAX_PEOPLE || own.compared.contains_key(&person) {
            own.compared.insert(person, now);
        }
    }

    /// Keeps a difference; `true`: it is new today, so somebody should hear of it.
    pub(super) fn differs(
        &self,
        app: &AppId,
        person: Pseudonym,
        difference: Difference,
        now: UnixTime,
    ) -> bool {
        let mut apps = self.apps();
        let own = apps.entry(app.clone()).or_default();
        own.told.retain(|_, at| now.since(*at) < TELL);
        let about = (difference.class, difference.field.clone(), person);
        let critical = difference.class.severity() == "critical";
        // Whoever reads the log needs no more of them in a day; what is critical has room of its own.
        let room = if critical { 2 * MAX_KEPT } else { MAX_KEPT };
        let new = own.told.len() < room && !own.told.contains_key(&about);
        if new {
            own.told.insert(about, now);
        }
        if critical {
            if own.critical.len() == MAX_KEPT {
                own.critical.pop_front();
            }
            own.critical.push_back(now);
        }
        if own.kept.len() == MAX_KEPT {
            // A crowd of small differences does not push out the one that matters.
            let small = |kept: &Kept| kept.class.severity() != "critical";
            let oldest = own.kept.iter().position(small).unwrap_or_default();
            own.kept.remove(oldest);
        }
        own.kept.push_back(Kept {
            at: now,
            app: app.clone(),
            class: difference.class,
            field: difference.field,
            person,
            values: difference.values,
            control: self.hashed(&difference.said.0),
            candidate: self.hashed(&difference.said.1),
        });
        new
    }

    /// The differences that are kept, the oldest first.
    pub(crate) fn all(&self, now: UnixTime) -> Vec<Kept> {
        let apps = self.apps();
        let mut all: Vec<Kept> = apps
            .values()
            .flat_map(|own| &own.kept)
            .filter(|kept| now.since(kept.at) < KEEP)
            .cloned()
            .collect();
        all.sort_by_key(|kept| kept.at);
        all
    }

    /// How many people of an application were compared.
    pub(crate) fn people(&self, app: &AppId) -> usize {
        self.apps().get(app).map_or(0, |own| own.compared.len())
    }

    /// Of some applications, since a moment: how many people were compared, and how often something critical was found.
    pub(crate) fn since(&self, wanted: &[AppId], moment: UnixTime) -> (u64, u64) {
        let apps = self.apps();
        let own = || wanted.iter().filter_map(|app| apps.get(app));
        let people: HashSet<&Pseudonym> = own()
            .flat_map(|own| &own.compared)
            .filter(|(_, at)| moment <= **at)
            .map(|(person, _)| person)
            .collect();
        let critical = own().flat_map(|own| &own.critical);
        let critical = critical.filter(|at| moment <= **at).count();
        (people.len() as u64, critical as u64)
    }

    fn hashed(&self, value: &[u8]) -> String {
        let tag = hmac::sign(&self.key, value);
        let digits = tag.as_ref().iter().take(4);
        let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
        format!("h:{digits}")
    }

    fn apps(&self) -> MutexGuard<'_, HashMap<AppId, OfApp>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Found")
    }
}
