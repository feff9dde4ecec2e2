//! What a session is found, counted and ended by without its cookie.

use std::fmt;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Issuer;
use crate::identity::Mark;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::session::body::NewSession;
use crate::session::came_by::CameBy;
use crate::session::seal::KeyRing;
use crate::session::sessions::SLACK;
use crate::session::tight::Reader;
use crate::session::tight::Writer;
use crate::store::Entry;
use crate::store::PLACE;

/// The layout of a handle,
const LAYOUT: u8 = 1;
/// of one of a session whose person is still signed in at the other side,
const LEFT_BEHIND: u8 = 2;
/// and of one that says which session it was given for.
const GIVEN_FOR: u8 = 3;

/// Entries by person: each session has one.
pub(super) const BY_PERSON: u8 = 0;
/// Entries by account and by session at an issuer.
pub(super) const BY_ACCOUNT: u8 = 1;
/// The same of those that are over: whoever counts what runs does not meet them.
pub(super) const OVER_BY_PERSON: u8 = 2;
pub(super) const OVER_BY_ACCOUNT: u8 = 3;

/// Sealed under the keys of the process alone.
#[derive(Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct Handle {
    /// Who vouched.
    pub(crate) provider: String,
    /// The account: its issuer,
    pub(crate) issuer: String,
    /// and its subject there.
    pub(crate) subject: String,
    /// Who it is across providers.
    pub(super) canonical: CanonicalSubject,
    /// The client that it was vouched for to.
    pub(crate) client: Option<String>,
    /// Its session at the issuer.
    pub(crate) sid: Option<String>,
    /// The key that signed.
    pub(crate) kid: Option<String>,
    /// When it was made, in milliseconds since 1970.
    pub(super) made: u64,
    /// What was revoked after this ends it: when it was made, or earlier, in milliseconds since 1970.
    pub(crate) began: u64,
    /// Its last use, or its end if it is over, in milliseconds since 1970.
    pub(super) seen: u64,
    /// For how long it may rest after its last use, in seconds, as it was when this was written.
    pub(super) idle: u64,
    /// When it ends at the latest, in milliseconds since 1970.
    pub(crate) ends: u64,
    /// Only the handle is left of it.
    pub(super) over: bool,
    pub(super) refresh_token: Option<String>,
    /// Whose place it took that of.
    pub(crate) before: Option<Before>,
}

/// An account of the other side, and its session there.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct Before {
    /// Who vouched there.
    pub(crate) provider: String,
    /// The account: its issuer,
    pub(crate) issuer: String,
    /// and its subject.
    pub(crate) subject: String,
    /// Its session there.
    pub(crate) sid: Option<String>,
    /// The key that signed.
    pub(crate) kid: Option<String>,
    /// The client that it was vouched for to.
    pub(crate) client: Option<String>,
    /// What became of it.
    pub(crate) became: Became,
}

/// What another session is to the one whose place it took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Became {
    /// It was given for the word of that one alone, which has this row, if that is known: whatever ends that one ends it.
    Given(Option<[u8; 32]>),
    /// It stands by itself. Its person is still signed in where that one was, and whoever signs out there is out.
    Left,
}

impl Handle {
    pub(super) fn new(
        new: &NewSession<'_>,
        (idle, ends): (Duration, UnixTime),
        now: UnixTime,
    ) -> Self {
        let (identity, grounds) = (new.authenticated.identity(), new.authenticated.grounds());
        let sid = new.sid.or(grounds.sid.as_deref());
        Self {
            provider: identity.provider.as_str().to_owned(),
            issuer: identity.key.issuer.as_str().to_owned(),
            subject: identity.key.subject.as_str().to_owned(),
            canonical: new.canonical.clone(),
            client: identity.client_id.as_deref().map(str::to_owned),
            sid: sid.map(str::to_owned),
            kid: grounds.kid.as_deref().map(str::to_owned),
            made: now.as_millis(),
            began: new.began.min(now).as_millis(),
            seen: now.as_millis(),
            idle: idle.as_secs(),
            ends: ends.as_millis(),
            over: false,
            refresh_token: new.refresh_token.map(|token| token.expose().clone()),
            before: match &new.came_by {
                Some(came_by) => Some(Before::of(came_by)),
                None => new.left.and_then(|left| left.before.clone()),
            },
        }
    }

    /// What is left of it when it is over.
    pub(super) fn after(&self, now: UnixTime) -> Self {
        Self {
            over: true,
            seen: now.as_millis(),
            refresh_token: None,
            ..self.clone()
        }
    }

    /// Who it is across providers.
    pub(crate) const fn canonical(&self) -> &CanonicalSubject {
        &self.canonical
    }

    /// The account; `None`: the row cannot be of this program.
    pub(crate) fn account(&self) -> Option<SubjectKey> {
        Some(SubjectKey {
            issuer: Issuer::new(&self.issuer),
            subject: Subject::try_from(self.subject.as_str()).ok()?,
        })
    }

    /// When only the handle was left of it; `None`: there is more.
    pub(crate) fn over(&self) -> Option<UnixTime> {
        self.over.then(|| UnixTime::from_millis(self.seen))
    }

    /// Whether it may be used: it is not over, and has not rested for too long.
    pub(super) fn runs(&self, now: UnixTime) -> bool {
        let rests = Duration::from_secs(self.idle) + SLACK;
        !self.over && now < UnixTime::from_millis(self.seen) + rests
    }

    /// By what it is found, under the key that seals now.
    pub(super) fn entries(&self, ring: &KeyRing) -> Vec<Entry> {
        let (by_person, by_account) = match self.over {
            false => (BY_PERSON, BY_ACCOUNT),
            true => (OVER_BY_PERSON, OVER_BY_ACCOUNT),
        };
        let accounts = self.accounts().map(|mark| (by_account, mark));
        let mut entries: Vec<Entry> = std::iter::once((by_person, self.person()))
            .chain(accounts)
            .filter_map(|(kind, mark)| entries_of(ring, kind, mark).next_back())
            .collect();
        entries.sort_unstable();
        entries.dedup();
        entries
    }

    /// Whether it is found by this: an entry is short, and another's may look the same.
    pub(super) fn is_of(&self, mark: Mark) -> bool {
        mark == self.person() || self.accounts().any(|own| own == mark)
    }

    /// The person.
    pub(crate) fn person(&self) -> Mark {
        Mark::person(&self.canonical)
    }

    /// The row of the session that it was given for.
    pub(crate) fn follows(&self) -> Option<&[u8; 32]> {
        self.before.as_ref()?.follows()
    }

    /// The account and its session, and those of the other side.
    fn accounts(&self) -> impl Iterator<Item = Mark> {
        let account = self.account().as_ref().map(Mark::account);
        let sid = self.sid.as_deref();
        let sid = sid.map(|sid| Mark::sid(&self.issuer, sid));
        let before = self.before.iter().flat_map(Before::places);
        [account, sid].into_iter().flatten().chain(before)
    }

    pub(super) fn written(&self) -> Vec<u8> {
        let mut to = Writer::default();
        let became = self.before.as_ref().map(|before| before.became);
        to.byte(match became {
            None | Some(Became::Given(None)) => LAYOUT,
            Some(Became::Left) => LEFT_BEHIND,
            Some(Became::Given(Some(_))) => GIVEN_FOR,
        });
        to.text(&self.provider);
        to.text(&self.issuer);
        to.text(&self.subject);
        // Whom nothing joins is called by issuer and subject.
        let alone = self.account().as_ref().map(CanonicalSubject::unjoined);
        let named = alone.as_ref() != Some(&self.canonical);
        to.maybe(named.then_some(self.canonical.as_str()));
        to.maybe(self.client.as_deref());
        to.maybe(self.sid.as_deref());
        to.maybe(self.kid.as_deref());
        to.number(self.made);
        to.number(self.made.saturating_sub(self.began));
        to.number(self.seen.saturating_sub(self.made));
        to.number(self.idle);
        to.number(self.ends.saturating_sub(self.made));
        to.byte(u8::from(self.over));
        to.maybe(self.refresh_token.as_deref());
        to.maybe(self.before.as_ref().map(|before| &*before.provider));
        if let Some(before) = &self.before {
            to.text(&before.issuer);
            to.text(&before.subject);
            to.maybe(before.sid.as_deref());
            to.maybe(before.kid.as_deref());
            to.maybe(before.client.as_deref());
        }
        if let Some(Became::Given(Some(row))) = became {
            to.maybe_digest(Some(&row));
        }
        to.done()
    }

    /// `None`: it is none of this layout.
    pub(super) fn read(plain: &[u8]) -> Option<Self> {
        let mut from = Reader::new(plain);
        let layout = from.byte()?;
        if !matches!(layout, LAYOUT | LEFT_BEHIND | GIVEN_FOR) {
            return None;
        }
        let (provider, issuer, subject) = (from.text()?, from.text()?, from.text()?);
        let canonical = match from.maybe()? {
            Some(named) => CanonicalSubject::named(&named).ok()?,
            None => CanonicalSubject::unjoined(&SubjectKey {
                issuer: Issuer::new(&issuer),
                subject: Subject::try_from(subject.as_str()).ok()?,
            }),
        };
        let (client, sid, kid) = (from.maybe()?, from.maybe()?, from.maybe()?);
        let made = from.number()?;
        let mut handle = Self {
            provider,
            issuer,
            subject,
            canonical,
            client,
            sid,
            kid,
            made,
            began: made.saturating_sub(from.number()?),
            seen: made.saturating_add(from.number()?),
            idle: from.number()?,
            ends: made.saturating_add(from.number()?),
            over: from.byte()? != 0,
            refresh_token: from.maybe()?,
            before: match from.maybe()? {
                None => None,
                Some(provider) => Some(Before {
                    provider,
                    issuer: from.text()?,
                    subject: from.text()?,
                    sid: from.maybe()?,
                    kid: from.maybe()?,
                    client: from.maybe()?,
                    became: Became::Given(None),
                }),
            },
        };
        if layout != LAYOUT {
            handle.before.as_mut()?.became = match layout {
                GIVEN_FOR => Became::Given(Some(from.maybe_digest()??)),
                _ => Became::Left,
            };
        }
        from.is_done().then_some(handle)
    }
}

impl Before {
    /// Of what a session came by.
    pub(crate) fn of(came_by: &CameBy) -> Self {
        let (issuer, subject) = came_by.account();
        Self {
            provider: came_by.provider().to_owned(),
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            sid: came_by.sid().map(str::to_owned),
            kid: came_by.kid().map(str::to_owned),
            client: came_by.client().map(str::to_owned),
            became: Became::Given(Some(*came_by.follows())),
        }
    }

    /// Of a session whose place another one takes that its person has signed in for, or was vouched for anew; `None`: nobody
    /// could say there that it alone is over.
    pub(super) fn left_by(handle: &Handle) -> Option<Self> {
        Some(Self {
            provider: handle.provider.clone(),
            issuer: handle.issuer.clone(),
            subject: handle.subject.clone(),
            sid: Some(handle.sid.clone()?),
            kid: None,
            client: None,
            became: Became::Left,
        })
    }

    /// The same, of what is known of it by a session that has taken its place already.
    pub(super) fn left_again(&self) -> Option<Self> {
        let sid = self.sid.clone()?;
        Some(Self {
            sid: Some(sid),
            kid: None,
            client: None,
            became: Became::Left,
            ..self.clone()
        })
    }

    /// The account, its session, and the row that stood for it here.
    fn places(&self) -> impl Iterator<Item = Mark> {
        let subject = Subject::try_from(self.subject.as_str()).ok();
        let subject = subject.filter(|_| self.is_given());
        let account = subject.map(|subject| {
            Mark::account(&SubjectKey {
                issuer: Issuer::new(&self.issuer),
                subject,
            })
        });
        let sid = self.sid.as_deref();
        let sid = sid.map(|sid| Mark::sid(&self.issuer, sid));
        let row = self.follows().map(Mark::session);
        [account, sid, row].into_iter().flatten()
    }

    /// Whether another session was given for the word of this one alone.
    pub(crate) const fn is_given(&self) -> bool {
        matches!(self.became, Became::Given(_))
    }

    /// The row that stood for it here, as long as another session was given for it alone.
    pub(crate) const fn follows(&self) -> Option<&[u8; 32]> {
        match &self.became {
            Became::Given(row) => row.as_ref(),
            Became::Left => None,
        }
    }

    /// The provider that vouched there.
    pub(crate) fn provider(&self) -> ProviderId {
        ProviderId::new(&self.provider)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[handle of a session]")
    }
}

/// Under each key of the ring, the one that seals now last: what a mark may have been entered by. Rows move to that key: whoever
/// looks in this order meets them before or after.
pub(super) fn entries_of(
    ring: &KeyRing,
    kind: u8,
    mark: Mark,
) -> impl DoubleEndedIterator<Item = Entry> {
    let indexes = ring.indexes("session", &[mark.as_bytes()]);
    indexes.into_iter().rev().map(move |index| {
        let mut place = [0; PLACE];
        for (to, from) in place.iter_mut().zip(index) {
            *to = from;
        }
        Entry { kind, place }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option::of;
    use proptest::prelude::*;

    fn before() -> impl Strategy<Value = Before> {
        let texts = any::<(String, String, String)>();
        let more = any::<(Option<String>, Option<String>, Option<String>)>();
        let became = prop_oneof![
            Just(Became::Left),
            of(any::<[u8; 32]>()).prop_map(Became::Given),
        ];
        (texts, more, became).prop_map(
            |((provider, issuer, subject), (sid, kid, client), became)| Before {
                provider,
                issuer,
                subject,
                sid,
                kid,
                client,
                became,
            },
        )
    }

    fn handles() -> impl Strategy<Value = Handle> {
        let uuid = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}";
        let texts = (any::<String>(), any::<String>(), "[a-z]{1,40}");
        let maybe = (of(any::<String>()), of(uuid), of(any::<String>()), of(uuid));
        let times = (
            0..1_u64 << 44,
            0..1_u64 << 32,
            0..1_u64 << 36,
            any::<bool>(),
        );
        let rest = (of("hr:[0-9]{1,9}"), of(before()));
        (texts, maybe, times, rest).prop_map(
            |(
                (provider, issuer, subject),
                (client, sid, kid, refresh_token),
                (made, before_that, later, over),
                (canonical, before),
            )| {
                let canonical = match canonical {
                    Some(named) => CanonicalSubject::named(&named).unwrap(),
                    None => CanonicalSubject::unjoined(&SubjectKey {
                        issuer: Issuer::new(&issuer),
                        subject: Subject::try_from(subject.as_str()).unwrap(),
                    }),
                };
                Handle {
                    provider,
                    issuer,
                    subject,
                    canonical,
                    client,
                    sid,
                    kid,
                    made,
                    began: made.saturating_sub(before_that),
                    seen: made + later / 2,
                    idle: later / 7,
                    ends: made + later,
                    over,
                    refresh_token,
                    before,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_handle_is_read_as_it_was_written(handle in handles()) {
            let written = handle.written();
            prop_assert!(Handle::read(&written) == Some(handle));
            for length in 0..written.len() {
                prop_assert!(Handle::read(&written[..length]).is_none(), "{length}");
            }
        }
    }
}
