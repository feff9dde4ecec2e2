//! Who was let in lately, in memory only: the people about whom another configuration is asked before it runs.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::rollout::AppId;
use crate::rollout::Facts;
use crate::rollout::Hearsay;
use crate::rollout::Person;

/// People that are kept in mind, each once for every application. Whoever comes later takes the place of those who have not come
/// for longest.
const MAX_PEOPLE: usize = 10_000;
/// So many places are made at once.
const ROOM: usize = MAX_PEOPLE / 10;
/// For so long, unless something else is said.
const KEEP: Duration = Duration::from_hours(24);
/// People that are counted between two looks, a few seconds apart.
const MAX_CAME: usize = 20_000;
/// What one of them uses at one application: so many kinds of credential are kept in mind.
const MAX_USES: usize = 4;
/// The longest path that is kept in mind; of a longer one it is only known that it was asked for.
const MAX_PATH_BYTES: usize = 256;

/// What somebody uses.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    /// What kind of credential.
    pub(crate) class: CredentialClass,
    /// As its owner spoke of them.
    pub(crate) by: Arc<Identity>,
    /// When they came with it last.
    pub(crate) at: UnixTime,
}

/// Somebody at an application.
#[derive(Clone, Debug)]
pub(crate) struct Somebody {
    /// Where.
    pub(crate) app: AppId,
    /// Who.
    pub(crate) canonical: CanonicalSubject,
    /// With what; the last one last.
    pub(crate) uses: Vec<Used>,
    /// At which host.
    pub(crate) host: Box<str>,
    /// Which path.
    pub(crate) path: Box<str>,
    /// By which method.
    pub(crate) method: Box<str>,
    /// From where.
    pub(crate) address: Option<IpAddr>,
    /// When they came last, with whatever.
    pub(crate) at: UnixTime,
}

impl Somebody {
    /// What is known of them when they came so.
    pub(crate) fn facts<'a>(&'a self, identity: &'a Identity) -> Facts<'a> {
        Facts {
            app: &self.app,
            host: &self.host,
            path: &self.path,
            method: &self.method,
            client_ip: self.address,
            peer: None,
            fields: None,
            device: None,
            hearsay: Hearsay::default(),
            person: Some(Person {
                canonical: &self.canonical,
                identity,
            }),
        }
    }

    /// Somebody of whom it is only said who they are and what they use.
    pub(crate) fn said(
        (app, canonical): (AppId, CanonicalSubject),
        (class, by): (CredentialClass, Arc<Identity>),
        (host, path, method): (&str, &str, &str),
        address: Option<IpAddr>,
    ) -> Self {
        Self {
            app,
            canonical,
            uses: vec![Used {
                class,
                by,
                at: UnixTime::NEVER,
            }],
            host: host.into(),
            path: path.into(),
            method: method.into(),
            address,
            at: UnixTime::NEVER,
        }
    }
}

/// Everybody who was let in lately.
pub(crate) struct Seen {
    keep: Duration,
    people: Mutex<People>,
}

impl Default for Seen {
    fn default() -> Self {
        Self::kept_for(KEEP)
    }
}

#[derive(Default)]
struct People {
    /// Whose credentials are counted besides.
    watched: HashSet<ProviderId>,
    /// Who came with them since they were taken last.
    came: HashMap<(AppId, CanonicalSubject, ProviderId), Somebody>,
    /// Whether more came than that.
    lost: bool,
    all: HashMap<(AppId, CanonicalSubject), Somebody>,
    /// When somebody had to be left out.
    full: Option<UnixTime>,
}

impl Seen {
    /// Nobody yet; each is kept for so long.
    pub(crate) fn kept_for(keep: Duration) -> Self {
        Self {
            keep,
            people: Mutex::default(),
        }
    }

    /// Somebody was let in.
    pub(crate) fn saw(
        &self,
        facts: &Facts<'_>,
        (canonical, identity): (&CanonicalSubject, &Arc<Identity>),
        class: CredentialClass,
        now: UnixTime,
    ) {
        let mut people = self.people();
        if people.watched.contains(&identity.provider) {
            people.comes(facts, (canonical, identity), class, now);
        }
        let key = (facts.app.clone(), canonical.clone());
        if MAX_PEOPLE <= people.all.len() && !people.all.contains_key(&key) {
            people.full = Some(now);
            people.make_room();
        }
        let somebody = people.all.entry(key).or_insert_with(|| Somebody {
            app: facts.app.clone(),
            canonical: canonical.clone(),
            uses: Vec::with_capacity(1),
            host: Box::default(),
            path: Box::default(),
            method: Box::default(),
            address: None,
            at: now,
        });
        let same = |used: &Used| used.class == class && used.by.provider == identity.provider;
        somebody.uses.retain(|used| !same(used));
        if somebody.uses.len() == MAX_USES {
            somebody.uses.remove(0);
        }
        somebody.uses.push(Used {
            class,
            by: Arc::clone(identity),
            at: now,
        });
        let path = facts.path;
        let path = if path.len() <= MAX_PATH_BYTES {
            path
        } else {
            "/"
        };
        set(&mut somebody.path, path);
        set(&mut somebody.host, facts.host);
        set(&mut somebody.method, facts.method);
        somebody.address = facts.client_ip;
        somebody.at = now;
    }

    /// Nothing is kept in mind of this person.
    pub(crate) fn forget(&self, person: &CanonicalSubject) {
        let mut people = self.people();
        people.all.retain(|(_, who), _| who != person);
        people.came.retain(|(_, who, _), _| who != person);
    }

    /// Credentials of these providers are counted besides from here on.
    pub(crate) fn watch(&self, providers: HashSet<ProviderId>) {
        self.people().watched = providers;
    }

    /// Who came with them since this was asked last, and whether more of them came.
    pub(crate) fn take_came(&self) -> (Vec<Somebody>, bool) {
        let mut people = self.people();
        let came = std::mem::take(&mut people.came);
        let lost = std::mem::take(&mut people.lost);
        (came.into_values().collect(), lost)
    }

    /// Everybody of late, and whether there were more of them.
    pub(crate) fn all(&self, now: UnixTime) -> (Vec<Somebody>, bool) {
        let people = self.people();
        let recent = people
            .all
            .values()
            .filter(|one| self.is_recent(one.at, now))
            .cloned()
            .map(|mut one| {
                // Swept or not: what was used long ago is not used.
                one.uses.retain(|used| self.is_recent(used.at, now));
                one
            });
        let more = people.full.is_some_and(|full| self.is_recent(full, now));
        (recent.collect(), more)
    }

    /// Forgets whatever was not used for as long as people are kept in mind, and whoever used nothing.
    pub(crate) fn sweep(&self, now: UnixTime) {
        self.people().all.retain(|_, one| {
            one.uses.retain(|used| self.is_recent(used.at, now));
            self.is_recent(one.at, now)
        });
    }

    /// For how long it is kept in mind what somebody uses.
    pub(crate) const fn keep(&self) -> Duration {
        self.keep
    }

    fn is_recent(&self, at: UnixTime, now: UnixTime) -> bool {
        now.since(at) < self.keep
    }

    fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Mostly it is the same as the last time.
fn set(text: &mut Box<str>, to: &str) {
    if **text != *to {
        *text = Box::from(to);
    }
}

impl People {
    /// Forgets those who have not come for longest.
    fn make_room(&mut self) {
        let mut last: Vec<UnixTime> = self.all.values().map(|one| one.at).collect();
        let place = ROOM.saturating_sub(1).min(last.len().saturating_sub(1));
        if last.is_empty() {
            return;
        }
        let (_, oldest, _) = last.select_nth_unstable(place);
        let (oldest, mut left) = (*oldest, ROOM);
        self.all.retain(|_, one| {
            let goes = one.at <= oldest && 0 < left;
            left -= usize::from(goes);
            !goes
        });
    }

    fn comes(
        &mut self,
        facts: &Facts<'_>,
        (canonical, identity): (&CanonicalSubject, &Arc<Identity>),
        class: CredentialClass,
        now: UnixTime,
    ) {
        let provider = identity.provider.clone();
        let key = (facts.app.clone(), canonical.clone(), provider);
        if MAX_CAME <= self.came.len() && !self.came.contains_key(&key) {
            self.lost = true;
            return;
        }
        self.came.entry(key).or_insert_with(|| {
            let who = (facts.app.clone(), canonical.clone());
            let way = (facts.host, facts.path, facts.method);
            let uses = (class, Arc::clone(identity));
            Somebody {
                at: now,
                ..Somebody::said(who, uses, way, facts.client_ip)
            }
        });
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ClaimMap;
    use crate::identity::Issuer;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;

    fn hour(n: u64) -> UnixTime {
        UnixTime::from_secs(1_000_000 + 3_600 * n)
    }

    #[test]
    fn who_is_forgotten_is_not_asked_about_and_nobody_else_is_missing() {
        let seen = Seen::default();
        seen.watch(HashSet::from([ProviderId::new("old")]));
        for n in [1, 2] {
            saw(&seen, n, CredentialClass::Basic, "/", hour(0));
        }
        let (people, _) = seen.all(hour(0));
        let (gone, stays) = (&people[0].canonical, &people[1].canonical);
        seen.forget(gone);
        let names = |people: Vec<Somebody>| -> Vec<_> {
            people.into_iter().map(|one| one.canonical).collect()
        };
        assert_eq!(names(seen.all(hour(0)).0), std::slice::from_ref(stays));
        assert_eq!(names(seen.take_came().0), std::slice::from_ref(stays));
    }

    #[test]
    fn who_comes_with_a_watched_credential_is_told_once() {
        let seen = Seen::default();
        let comes = |n, now| saw(&seen, n, CredentialClass::Session, "/", now);
        comes(1, hour(0));
        assert_eq!(seen.take_came().0.len(), 0);
        seen.watch(HashSet::from([ProviderId::new("old")]));
        comes(1, hour(1));
        comes(1, hour(2));
        comes(2, hour(2));
        let (came, lost) = seen.take_came();
        assert_eq!((came.len(), lost), (2, false));
        assert_eq!(seen.take_came().0.len(), 0);
        (0..=MAX_CAME).for_each(|n| comes(n, hour(3)));
        let (came, lost) = seen.take_came();
        assert_eq!((came.len(), lost), (MAX_CAME, true));
    }

    fn identity() -> Arc<Identity> {
        Arc::new(Identity {
            provider: ProviderId::new("old"),
            key: SubjectKey {
                issuer: Issuer::new("https://issuer.example"),
                subject: Subject::try_from("f81d").unwrap(),
            },
            attributes: Arc::new(ClaimMap::default()),
            client_id: None,
            acr: None,
            scopes: Box::default(),
            delegation: crate::identity::Delegation::default(),
        })
    }

    fn saw(seen: &Seen, n: usize, class: CredentialClass, path: &str, now: UnixTime) {
        let name = CanonicalSubject::named(&format!("uid:{n}")).unwrap();
        let app = AppId::new("crm");
        let facts = Facts {
            app: &app,
            host: "crm.test",
            path,
            method: "GET",
            client_ip: None,
            peer: None,
            fields: None,
            device: None,
            hearsay: Hearsay::default(),
            person: None,
        };
        seen.saw(&facts, (&name, &identity()), class, now);
    }

    #[test]
    fn so_many_are_kept_and_for_a_day() {
        let seen = Seen::default();
        let saw = |n, now| saw(&seen, n, CredentialClass::Session, "/", now);
        (0..MAX_PEOPLE).for_each(|n| saw(n, hour(0)));
        assert!(!seen.all(hour(1)).1);
        saw(0, hour(1));
        saw(MAX_PEOPLE, hour(1));
        saw(0, hour(2));
        let (people, more) = seen.all(hour(3));
        assert_eq!((people.len(), more), (MAX_PEOPLE + 1 - ROOM, true));
        // Whoever came last is there, and nobody of those who came back was left out for them.
        let (people, _) = seen.all(hour(24));
        let mut last: Vec<_> = people.iter().map(|one| one.canonical.as_str()).collect();
        last.sort_unstable();
        assert_eq!(last, ["uid:0".to_owned(), format!("uid:{MAX_PEOPLE}")]);
        seen.sweep(hour(25));
        saw(MAX_PEOPLE, hour(25));
        let (people, more) = seen.all(hour(25));
        assert_eq!((people.len(), more), (2, false), "room was made");
    }

    #[test]
    fn what_somebody_uses_is_kept_each_kind_once() {
        let seen = Seen::default();
        let long = format!("/{}", "x".repeat(MAX_PATH_BYTES));
        for class in CredentialClass::ALL.iter().chain(&CredentialClass::ALL) {
            saw(&seen, 1, *class, "/orders", hour(0));
        }
        let (people, _) = seen.all(hour(0));
        let classes: Vec<_> = people[0].uses.iter().map(|used| used.class).collect();
        assert_eq!((people.len(), &*people[0].path), (1, "/orders"));
        assert_eq!(classes, CredentialClass::ALL[3..]);
        saw(&seen, 1, CredentialClass::Basic, &long, hour(0));
        assert_eq!(&*seen.all(hour(0)).0[0].path, "/");
    }

    /// Whoever comes daily with the new credential does not keep the old one in mind.
    #[test]
    fn what_was_used_once_is_forgotten_although_the_person_comes_again() {
        let seen = Seen::default();
        saw(&seen, 1, CredentialClass::Basic, "/", hour(0));
        saw(&seen, 1, CredentialClass::Session, "/", hour(23));
        let uses = |now| {
            let (mut people, _) = seen.all(now);
            let uses = people.remove(0).uses;
            uses.iter()
                .map(|used| (used.class, used.at))
                .collect::<Vec<_>>()
        };
        let both = [
            (CredentialClass::Basic, hour(0)),
            (CredentialClass::Session, hour(23)),
        ];
        assert_eq!(uses(hour(23)), both, "each with its own time");
        saw(&seen, 1, CredentialClass::Session, "/", hour(25));
        let one = [(CredentialClass::Session, hour(25))];
        assert_eq!(uses(hour(25)), one, "whether it was swept or not");
        seen.sweep(hour(25));
        assert_eq!(seen.all(hour(25)).0[0].uses.len(), 1);
        assert_eq!(seen.people().all.values().next().unwrap().uses.len(), 1);
    }

    #[test]
    fn people_are_kept_in_mind_for_as_long_as_is_said() {
        let seen = Seen::kept_for(Duration::from_hours(2));
        saw(&seen, 1, CredentialClass::Session, "/", hour(0));
        saw(&seen, 2, CredentialClass::Session, "/", hour(1));
        assert_eq!(seen.all(hour(1)).0.len(), 2);
        assert_eq!(seen.all(hour(2)).0.len(), 1, "whether it was swept or not");
        seen.sweep(hour(3));
        assert_eq!(seen.all(hour(1)).0.len(), 0);
    }
}
