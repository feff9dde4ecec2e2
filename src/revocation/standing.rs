//! What a kept allow rests on: whether nothing of it has been revoked since it was looked at last.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Grounds;
use crate::identity::Identity;
use crate::identity::Mark;
use crate::identity::SubjectKey;
use crate::identity::TokenId;
use crate::revocation::handed::Handed;
use crate::revocation::index::Index;
use crate::revocation::signer::Signer;
use crate::session::Before;
use crate::session::CameBy;

/// Everything by which an identity and its credential can be revoked, and when they began.
///
/// The marks themselves are made when they are looked up first: as long as nothing at all is revoked, nobody needs them.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    identity: Arc<Identity>,
    canonical: CanonicalSubject,
    grounds: Grounds,
    /// What else ends it.
    more: Vec<Mark>,
    /// Which keys have signed what it was made of.
    signers: Vec<Signer>,
    /// Whether it is a token that was made here of another one.
    made: bool,
    began: Option<UnixTime>,
    all: OnceLock<Vec<Mark>>,
}

impl Marks {
    /// Of somebody whom a provider vouched for on these grounds.
    pub(crate) fn of(
        identity: &Arc<Identity>,
        canonical: &CanonicalSubject,
        grounds: &Grounds,
    ) -> Self {
        Self {
            identity: Arc::clone(identity),
            canonical: canonical.clone(),
            grounds: grounds.clone(),
            more: Vec::new(),
            signers: Vec::new(),
            made: false,
            began: grounds.began,
            all: OnceLock::new(),
        }
    }

    /// Of an account of ours alone, whenever it began and whoever vouches for it.
    pub(crate) fn of_account(identity: &Arc<Identity>, canonical: &CanonicalSubject) -> Self {
        let person = Mark::person(canonical);
        let at = Mark::person_at(person, &identity.provider);
        Self {
            all: OnceLock::from(vec![person, at, Mark::account(&identity.key)]),
            ..Self::of(identity, canonical, &Grounds::default())
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Mark] {
        self.all.get_or_init(|| self.made())
    }

    /// When it began, as far as anybody knows.
    pub(super) const fn began(&self) -> Option<UnixTime> {
        self.began
    }

    /// Which keys have signed it, or what it was made of.
    pub(super) fn signers(&self) -> impl Iterator<Item = Signer> {
        let own = self.grounds.signer.map(|key| Signer {
            provider: self.identity.provider.clone(),
            key,
        });
        own.into_iter().chain(self.signers.iter().cloned())
    }

    fn made(&self) -> Vec<Mark> {
        let (identity, grounds) = (&*self.identity, &self.grounds);
        let person = Mark::person(&self.canonical);
        let issuer = identity.key.issuer.as_str();
        let provider = &identity.provider;
        let mut all = Vec::with_capacity(8 + self.more.len());
        all.push(person);
        all.push(Mark::person_at(person, provider));
        all.push(Mark::account(&identity.key));
        all.push(Mark::provider(provider));
        all.extend(
            identity
                .client_id
                .as_deref()
                .map(|client| Mark::client(provider, client)),
        );
        if let Some(kid) = grounds.kid.as_deref() {
            // Whoever publishes it: a key of ours may be that of a provider of another instance.
            all.extend([Mark::key(provider, kid), Mark::own_key(kid)]);
        }
        all.extend(
            grounds
                .token
                .as_ref()
                .map(|token| Mark::token(issuer, token)),
        );
        all.extend(grounds.sid.as_deref().map(|sid| Mark::sid(issuer, sid)));
        all.extend_from_slice(&self.more);
        all
    }

    /// Of what began earlier than its credential says; `None`: nobody knows when.
    #[must_use]
    pub(crate) fn since(mut self, began: Option<UnixTime>) -> Self {
        self.began = match (self.began, began) {
            (Some(own), Some(began)) => Some(own.min(began)),
            (None, began) => began,
            (Some(_), None) => None,
        };
        self
    }

    /// Of another account of the person too.
    #[must_use]
    pub(crate) fn and_account(mut self, account: &SubjectKey) -> Self {
        self.more.push(Mark::account(account));
        self
    }

    /// Of what a token was made of, too, and as old as that.
    #[must_use]
    pub(crate) fn and_handed(mut self, handed: &Handed) -> Self {
        self.made = true;
        self.and_given(handed)
    }

    /// Of whoever was given it too, and as old as that.
    #[must_use]
    pub(crate) fn and_given(mut self, handed: &Handed) -> Self {
        self.more.extend_from_slice(&handed.marks);
        self.signers.extend_from_slice(&handed.signers);
        self.since(handed.began)
    }

    /// Of a token of ours by its own name, too: it stands for what it was made of.
    #[must_use]
    pub(crate) fn and_token(mut self, issuer: &str, token: &TokenId) -> Self {
        self.more.push(Mark::token(issuer, token));
        self
    }

    /// Of what a session was given for too.
    #[must_use]
    pub(crate) fn and_came_by(mut self, came_by: &CameBy, person: &CanonicalSubject) -> Self {
        self.more.extend(came_by.stood_for().map(Mark::session));
        self.and_before(&Before::of(came_by), person)
    }

    /// Of the session of the other side whose place one has taken, too.
    #[must_use]
    pub(crate) fn and_before(mut self, before: &Before, person: &CanonicalSubject) -> Self {
        self.more.extend(before.marks(Mark::person(person)));
        self
    }

    /// Of a session of ours too, or of one of an old system: see [`crate::session::OldSession::digest`].
    #[must_use]
    pub(crate) fn and_session(mut self, row: &[u8; 32]) -> Self {
        self.more.push(Mark::session(row));
        self
    }
}

/// Whether an allow still stands. One atomic load, as long as nothing has been revoked; a few look-ups after that, once.
pub(crate) struct Standing {
    index: Arc<Index>,
    marks: Arc<Marks>,
    /// The epoch under which it was looked up last.
    seen: AtomicU64,
}

impl Standing {
    /// Not looked up yet.
    pub(crate) fn new(index: &Arc<Index>, marks: Marks) -> Self {
        Self {
            index: Arc::clone(index),
            marks: Arc::new(marks),
            seen: AtomicU64::new(0),
        }
    }

    /// By what it can be revoked.
    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Whether it is of a token that was made here of another one.
    pub(crate) fn was_made(&self) -> bool {
        self.marks.made
    }

    /// Whether nothing of it is revoked.
    pub(crate) fn holds(&self, now: UnixTime) -> bool {
        // Read before the look-up: what is added meanwhile is looked up by the next use.
        let epoch = self.index.epoch();
        if self.seen.load(Ordering::Relaxed) == epoch {
            return true;
        }
        // What is added while it is counted raises the epoch afterwards, too.
        let denied =
            !self.index.is_empty() && self.index.denies(self.marks.all(), self.marks.began, now);
        if denied {
            return false;
        }
        self.seen.store(epoch, Ordering::Relaxed);
        true
    }
}

impl Standing {
    /// Whether what does not hold would, if it had begun in a second: seconds are whole in a token, clocks differ, and `now` may be
    /// the moment in which it was revoked.
    pub(crate) fn is_early(&self, now: UnixTime) -> bool {
        let soon = now + Duration::from_secs(1);
        self.marks.began.is_some() && !self.index.denies(self.marks.all(), Some(soon), now)
    }

    /// Whether what does not hold is barred by a provider: to sign in once more would not help.
    pub(crate) fn is_barred(&self, now: UnixTime) -> bool {
        self.index.bars(self.marks.all(), now)
    }
}

impl Clone for Standing {
    fn clone(&self) -> Self {
        Self {
            index: Arc::clone(&self.index),
            marks: Arc::clone(&self.marks),
            seen: AtomicU64::new(self.seen.load(Ordering::Relaxed)),
        }
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[standing]")
    }
}
