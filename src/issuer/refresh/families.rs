//! Families in the store: each opens with a token of its own alone, is changed by compare-and-swap, and renewed by one at a
//! time, whichever instance asks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::Instant;
use tracing::debug;

use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity::CanonicalSubject;
use crate::issuer::refresh::family::Account;
use crate::issuer::refresh::family::Family;
use crate::issuer::refresh::family::Place;
use crate::issuer::refresh::family::Terms;
use crate::issuer::refresh::family::Ticket;
use crate::providers::Issued;
use crate::session::Purpose;
use crate::session::Sessions;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;

/// The table of families.
const TABLE: &str = "refresh_family";

/// How often a change is tried that others get ahead of: they hold a token of the family too.
const TRIES: usize = 8;

/// What a provider gave out is offered to a store that is away for 10 s: it cannot be asked for twice.
const OFFER: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(200);

/// All families.
pub(in crate::issuer) struct Families {
    store: Arc<dyn Store>,
    sessions: Arc<Sessions>,
    entropy: Arc<dyn Entropy>,
}

/// What is behind a token.
pub(in crate::issuer) enum Look {
    /// Nothing.
    Absent,
    /// A family that was sealed under a key that is gone: it is over with it.
    Lost,
    /// A family, in this version.
    Open(Box<Family>, u64),
}

/// The key that a client has proved to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proven<'a> {
    /// Its thumbprint, if it has.
    pub(super) key: Option<&'a str>,
    /// Whether a family that is bound to none yet is bound to it from now on.
    pub(super) binds: bool,
}

/// What became of a change.
pub(super) enum Changed<T> {
    /// It is written.
    Done(T),
    /// There is nothing to be changed.
    Nothing,
}

impl Families {
    pub(super) fn new(
        store: Arc<dyn Store>,
        sessions: Arc<Sessions>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            store,
            sessions,
            entropy,
        }
    }

    /// Looks up what is behind a token; whether the token is the good one, it does not say.
    pub(in crate::issuer) async fn look(
        &self,
        ticket: &Ticket,
        now: UnixTime,
    ) -> Result<Look, StoreError> {
        let row = ticket.row();
        let Some(found) = self.store.get(place(&row), now).await? else {
            return Ok(Look::Absent);
        };
        let secret = ticket.secret.expose();
        let ring = self.sessions.ring();
        let opened = ring.open(Purpose::RefreshFamily, secret, &[&row], &found.value);
        let family = opened.and_then(|opened| serde_json::from_slice(&opened.plain).ok());
        Ok(family.map_or(Look::Lost, |family| {
            Look::Open(Box::new(family), found.version)
        }))
    }

    /// Writes a family if its row is as expected; `false`: it is not.
    pub(super) async fn write(
        &self,
        ticket: &Ticket,
        family: &Family,
        expect: Expect,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let plain =
            serde_json::to_vec(family).map_err(|error| StoreError::Damaged(error.to_string()))?;
        let row = ticket.row();
        let secret = ticket.secret.expose();
        let sealed = self.sessions.ring().seal(
            Purpose::RefreshFamily,
            secret,
            &[&row],
            &plain,
            &*self.entropy,
        );
        let ends = UnixTime::from_millis(family.ends);
        self.store
            .compare_and_swap(place(&row), expect, &sealed, ends, now)
            .await
    }

    /// As [`Self::write`], for what cannot be had again.
    pub(super) async fn offer(
        &self,
        ticket: &Ticket,
        family: &Family,
        expect: Expect,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let began = Instant::now();
        loop {
            match self.write(ticket, family, expect, now).await {
                Err(error) if began.elapsed() < OFFER => {
                    debug!(%error, "A renewed refresh token is offered to the store again.");
                    tokio::time::sleep(AGAIN).await;
                }
                written => return written,
            }
        }
    }

    /// A new family with what a provider gave out, which cannot be had again. It began when its holder first asked: what was
    /// revoked since counts.
    pub(in crate::issuer) async fn begin(
        &self,
        ticket: &Ticket,
        terms: Terms<'_>,
        issued: &Issued,
        (began, now): (UnixTime, UnixTime),
    ) -> Result<bool, StoreError> {
        let mut family = Family::new(ticket, terms, Some(began));
        family.fill(issued, &[], true, now);
        self.offer(ticket, &family, Expect::Absent, now).await
    }

    /// Changes a family that is not over, whoever else does. `change` may decline.
    pub(super) async fn change<T>(
        &self,
        ticket: &Ticket,
        now: UnixTime,
        mut change: impl FnMut(&mut Family) -> Option<T>,
    ) -> Result<Changed<T>, StoreError> {
        for _ in 0..TRIES {
            let Look::Open(mut family, version) = self.look(ticket, now).await? else {
                return Ok(Changed::Nothing);
            };
            if family.place(ticket, now) == Place::Over {
                return Ok(Changed::Nothing);
            }
            let Some(value) = change(&mut family) else {
                return Ok(Changed::Nothing);
            };
            let expect = Expect::Version(version);
            if self.write(ticket, &family, expect, now).await? {
                return Ok(Changed::Done(value));
            }
        }
        Err(StoreError::Unavailable(
            "a refresh token is changed too often at once".to_owned(),
        ))
    }

    /// A family that is over before it begins; `false`: it has begun.
    pub(super) async fn bury(
        &self,
        ticket: &Ticket,
        terms: Terms<'_>,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let mut family = Family::new(ticket, terms, Some(now));
        family.end();
        self.write(ticket, &family, Expect::Absent, now).await
    }

    /// Ends a family; what was behind it, if it was not over, or what is still to be ended of it.
    pub(in crate::issuer) async fn end(
        &self,
        ticket: &Ticket,
        now: UnixTime,
    ) -> Result<Option<Family>, StoreError> {
        let ended = self
            .change(ticket, now, |family| {
                let before = family.clone();
                family.end();
                Some(before)
            })
            .await?;
        if let Changed::Done(family) = ended {
            return Ok(Some(family));
        }
        Ok(match self.look(ticket, now).await? {
            Look::Open(family, _) if family.is_over() && family.access.is_some() => Some(*family),
            Look::Open(..) | Look::Absent | Look::Lost => None,
        })
    }

    /// The access tokens of a family that is over are over, too. While that cannot be written, it is ended again.
    pub(super) async fn settle(&self, ticket: &Ticket, now: UnixTime) {
        for _ in 0..TRIES {
            let Ok(Look::Open(mut family, version)) = self.look(ticket, now).await else {
                return;
            };
            if !family.is_over() || !family.settle() {
                return;
            }
            let expect = Expect::Version(version);
            match self.write(ticket, &family, expect, now).await {
                Ok(false) => {}
                Ok(true) | Err(_) => return,
            }
        }
    }

    /// The token that its holder gets next; `None`: this one no longer counts. What was made of it is in hand: from now on
    /// it is spent. Who proves a key binds the family with the same write, also where a request without one was faster: what
    /// that got is worth nothing without the key.
    pub(super) async fn turn(
        &self,
        ticket: &Ticket,
        (account, person, proven): (&Account, &CanonicalSubject, Proven<'_>),
        grace: Duration,
        now: UnixTime,
    ) -> Result<Option<Ticket>, StoreError> {
        for _ in 0..TRIES {
            let Look::Open(mut family, version) = self.look(ticket, now).await? else {
                return Ok(None);
            };
            // Bound by another request meanwhile: to a key that this one does not have.
            if family.bound.is_some() && family.bound.as_deref() != proven.key {
                return Ok(None);
            }
            let key = proven
                .key
                .filter(|_| proven.binds && family.bound.is_none());
            let binds = key.is_some();
            family.bound = family.bound.or(key.map(str::to_owned));
            let next = match family.place(ticket, now) {
                Place::Over | Place::Spent => return Ok(None),
                Place::Before if binds => family.current(ticket),
                Place::Before => return Ok(family.current(ticket)),
                Place::Current => {
                    let next = ticket.next(&*self.entropy);
                    family.turn_to(&next, grace, now);
                    family.belongs_to(account, person);
                    Some(next)
                }
            };
            let expect = Expect::Version(version);
            if self.write(ticket, &family, expect, now).await? {
                return Ok(next);
            }
        }
        Ok(None)
    }

    /// Takes the right to renew a family; `None`: somebody else has it.
    pub(super) async fn lease(
        &self,
        ticket: &Ticket,
        span: Duration,
        now: UnixTime,
    ) -> Result<Option<Lease>, StoreError> {
        let name = format!("refresh:{}", URL_SAFE_NO_PAD.encode(ticket.row()));
        let holder = self.entropy.token();
        let taken = self.store.lease(&name, &holder, span, now).await?;
        Ok(taken.then_some(Lease { name, holder }))
    }

    /// Gives it up.
    pub(super) async fn release(&self, lease: &Lease) {
        if let Err(error) = self.store.release(&lease.name, &lease.holder).await {
            debug!(%error, "A lease ends by itself.");
        }
    }
}

/// The right to renew a family.
pub(super) struct Lease {
    name: String,
    holder: String,
}

const fn place(row: &[u8; 32]) -> Key<'_> {
    Key {
        table: TABLE,
        key: row,
    }
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Families")
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::identity::ProviderId;
    use crate::secret::Secret;
    use crate::session::settings::Settings;
    use crate::store::MemoryStore;

    const fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(1_000_000 + seconds)
    }

    fn families() -> Families {
        let settings = Settings::for_test(&[9]);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let entropy = Arc::new(SystemEntropy);
        let handle = Handle::current();
        let sessions = Sessions::new(&settings, Arc::clone(&store), entropy.clone(), &handle);
        Families::new(store, sessions.unwrap(), entropy)
    }

    fn issued() -> Issued {
        Issued {
            token: Secret::new("access".to_owned()),
            ends: Some(at(300)),
            scopes: None,
            proof: None,
            refresh_token: Some(Secret::new("refresh".to_owned())),
        }
    }

    fn terms(provider: &ProviderId) -> Terms<'_> {
        Terms {
            client: "tv",
            provider,
            audience: "api",
            ends: at(1_000),
        }
    }

    async fn begun(families: &Families, ticket: &Ticket, times: (UnixTime, UnixTime)) -> bool {
        let (provider, issued) = (ProviderId::new("old"), issued());
        let begun = families.begin(ticket, terms(&provider), &issued, times);
        begun.await.unwrap()
    }

    async fn open(families: &Families, ticket: &Ticket) -> Family {
        match families.look(ticket, at(10)).await.unwrap() {
            Look::Open(family, _) => *family,
            Look::Absent | Look::Lost => panic!("there is no family"),
        }
    }

    #[tokio::test]
    async fn a_family_began_when_its_holder_first_asked() {
        let families = families();
        let ticket = Ticket::first(&SystemEntropy);
        let times = (at(1), at(9));
        assert!(begun(&families, &ticket, times).await);
        let began = open(&families, &ticket).await.began;
        assert_eq!(began, Some(at(1).as_millis()));
    }

    /// Two requests with one token, of which one proves a key: whichever is first, the family is bound to it from then on.
    #[tokio::test]
    async fn a_request_without_a_key_that_is_faster_leaves_no_family_without_one() {
        let (families, ticket) = (families(), Ticket::first(&SystemEntropy));
        assert!(begun(&families, &ticket, (at(1), at(1))).await);
        let account = Account::of(&crate::identity::SubjectKey {
            issuer: crate::identity::Issuer::new("https://old.test"),
            subject: crate::identity::Subject::try_from("alice").unwrap(),
        });
        let person = CanonicalSubject::unjoined(&account.key().unwrap());
        let turn = async |ticket: &Ticket, key| {
            let proven = Proven { key, binds: true };
            let (whose, grace) = ((&account, &person, proven), Duration::from_secs(10));
            let next = families.turn(ticket, whose, grace, at(2)).await.unwrap();
            next.map(|next| next.text().expose().clone())
        };
        let plain = turn(&ticket, None).await.unwrap();
        assert!(open(&families, &ticket).await.bound.is_none());
        let bound = turn(&ticket, Some("key")).await;
        assert_eq!(bound.as_ref(), Some(&plain));
        let known = open(&families, &ticket).await.bound;
        assert_eq!(known.as_deref(), Some("key"));
        let got = Ticket::parse(&plain).unwrap();
        for key in [None, Some("another")] {
            assert_eq!(turn(&ticket, key).await, None);
            assert_eq!(turn(&got, key).await, None);
        }
        assert!(
            turn(&got, Some("key"))
                .await
                .is_some_and(|next| next != plain)
        );
    }

    #[tokio::test]
    async fn what_is_left_of_an_ended_family_is_found_until_it_is_done() {
        let families = families();
        let ticket = Ticket::first(&SystemEntropy);
        let times = (at(1), at(1));
        assert!(begun(&families, &ticket, times).await);
        let first = families.end(&ticket, at(2)).await.unwrap().unwrap();
        assert!(first.upstream.is_some() && first.access.is_some());
        // Its provider is told once; the access token is found as often as it takes.
        for _ in 0..2 {
            let again = families.end(&ticket, at(3)).await.unwrap().unwrap();
            assert!(again.upstream.is_none() && again.access.is_some());
        }
        families.settle(&ticket, at(4)).await;
        assert!(families.end(&ticket, at(5)).await.unwrap().is_none());
        assert!(open(&families, &ticket).await.is_over());
    }

    #[tokio::test]
    async fn what_was_given_back_before_it_was_brought_never_begins() {
        let (families, provider) = (families(), ProviderId::new("old"));
        let ticket = Ticket::of_provider(&provider, "tv", "elsewhere");
        let buried = families.bury(&ticket, terms(&provider), at(1)).await;
        assert!(buried.unwrap());
        assert!(open(&families, &ticket).await.is_over());
        let times = (at(2), at(2));
        assert!(!begun(&families, &ticket, times).await);
        // One that has begun is not buried, and stays what it is.
        let other = Ticket::of_provider(&provider, "tv", "another");
        assert!(begun(&families, &other, times).await);
        let buried = families.bury(&other, terms(&provider), at(3)).await;
        assert!(!buried.unwrap());
        assert!(!open(&families, &other).await.is_over());
    }
}
