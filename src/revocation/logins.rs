//! What is known of sessions without their cookies: whose they are, by every name that a logout may use.
//!
//! A session opens with its cookie alone. What it is found and ended by is sealed under the key ring beside it, so that a
//! provider or an operator, who have no cookie, can end what they mean, and a dump of the store tells nothing.

use std::collections::HashSet;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Mark;
use crate::identity::ProviderId;
use crate::identity::SubjectKey;
use crate::revocation::list::Revocations;
use crate::revocation::record::Target;
use crate::revocation::record::from_hex;
use crate::revocation::record::hex;
use crate::session::Before;
use crate::session::Known;
use crate::store::StoreError;

/// How many sessions are looked at for one answer: 200 000.
const LOOKED_AT: usize = 200_000;

/// Sessions here that one session or account at an issuer can have: 1 000.
const BY_NAME: usize = 1_000;

/// A session, as operators see it.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// The digest that names the session.
    pub(crate) session: String,
    /// Who vouched.
    pub(crate) provider: String,
    issuer: String,
    account: Option<Mark>,
    client: Option<String>,
    sid: Option<String>,
    kid: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub(crate) began: u64,
    /// When it ends at the latest, or has ended, in milliseconds since 1970.
    pub(crate) ends: u64,
    /// Whether it has ended.
    pub(crate) over: bool,
    /// Whether it may still be used.
    runs: bool,
    /// Whose place it took: what ends that ends it too.
    before: Option<Before>,
    /// Whose it is.
    person: Mark,
}

/// Whom a revocation would put out.
#[derive(Debug, Default)]
pub(crate) struct Affected {
    /// Running sessions.
    pub(crate) sessions: Vec<Login>,
    /// Whether there may be more.
    pub(crate) more: bool,
}

/// Whose a session at an issuer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Owner {
    /// The person.
    pub(super) person: Mark,
    /// The account.
    pub(super) account: Mark,
}

impl Revocations {
    /// Whose the sessions are that belong to one session at an issuer; empty: nobody is signed in here by it.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(super) async fn owners_of_sid(
        &self,
        issuer: &str,
        sid: &str,
    ) -> Result<Vec<Owner>, StoreError> {
        self.owners_of(Mark::sid(issuer, sid)).await
    }

    /// As [`Self::owners_of_sid`], by its mark.
    pub(super) async fn owners_of(&self, mark: Mark) -> Result<Vec<Owner>, StoreError> {
        let found = self.found(mark, BY_NAME).await?;
        let mut owners: Vec<Owner> = found
            .iter()
            .flat_map(|login| login.owners_by_sid(mark))
            .collect();
        owners.dedup();
        Ok(owners)
    }

    /// The sessions for whose word alone those of a target were given: they run until the new ones are used, and whoever is to be
    /// out is out of both.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(super) async fn given_for(&self, target: &Target) -> Result<Vec<Mark>, StoreError> {
        let rows = match target {
            Target::Session { session } => match from_hex(session) {
                Some(row) => {
                    let follows = self.sessions.follows(&row, self.clock.now()).await?;
                    follows.into_iter().collect()
                }
                None => Vec::new(),
            },
            Target::ProviderSession { issuer, sid } => {
                let mark = Mark::sid(issuer, sid);
                let found = self.found(mark, BY_NAME).await?;
                let own = found.iter().filter(|login| login.own_sid() == Some(mark));
                let before = own.filter_map(|login| login.before.as_ref());
                before.filter_map(Before::follows).copied().collect()
            }
            Target::Subject { .. }
            | Target::Account { .. }
            | Target::Client { .. }
            | Target::Provider { .. }
            | Target::Key { .. }
            | Target::Token { .. }
            | Target::TokenDigest { .. } => Vec::<[u8; 32]>::new(),
        };
        Ok(rows.iter().map(Mark::session).collect())
    }

    /// Every person that an account may be here: by a login, by a link, and by itself.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(super) async fn persons_of(
        &self,
        provider: &ProviderId,
        account: &SubjectKey,
    ) -> Result<Vec<Mark>, StoreError> {
        let linked = self
            .links
            .person_of(provider, account, self.clock.now())
            .await?;
        let signed_in = self.owners_of_account(Mark::account(account)).await?;
        let alone = Mark::person(&CanonicalSubject::unjoined(account));
        let linked = linked.as_ref().map(Mark::person);
        let known = [Some(alone), linked].into_iter().flatten();
        Ok(known.chain(signed_in).collect())
    }

    /// Whose an account is, by the sessions here that it has or had.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(super) async fn owners_of_account(&self, account: Mark) -> Result<Vec<Mark>, StoreError> {
        let found = self.found(account, BY_NAME).await?;
        let mut persons: Vec<Mark> = found
            .iter()
            .filter(|login| login.accounts().any(|own| own == account))
            .map(|login| login.person)
            .collect();
        persons.sort_unstable();
        persons.dedup();
        Ok(persons)
    }

    /// The running sessions that a revocation of `target` would end. Tokens that nobody keeps here cannot be counted.
    ///
    /// # Errors
    ///
    /// When the store gives no answer, or the target cannot exist.
    pub(crate) async fn affected(&self, target: &Target) -> Result<Affected, StoreError> {
        self.sessions_of(target, Denied::LeftOut).await
    }

    /// All that is kept of the sessions of `target`, whether they count or not: what was revoked is kept until it ends by itself.
    ///
    /// # Errors
    ///
    /// As [`Self::affected`].
    pub(crate) async fn kept_of(&self, target: &Target) -> Result<Affected, StoreError> {
        self.sessions_of(target, Denied::Included).await
    }

    async fn sessions_of(&self, target: &Target, denied: Denied) -> Result<Affected, StoreError> {
        let now = self.clock.now();
        let wanted = target.mark().map_err(StoreError::Damaged)?;
        let mut ends = target.ends().map_err(StoreError::Damaged)?;
        let before = self.given_for(target).await?;
        ends.extend_from_slice(&before);
        let counts = |login: &Login| {
            let marks = login.marks();
            let began = Some(UnixTime::from_millis(login.began));
            ends.iter().any(|mark| marks.contains(mark))
                && match denied {
                    Denied::Included => true,
                    Denied::LeftOut => login.runs && !self.index.denies(&marks, began, now),
                }
        };
        match target {
            Target::Subject { .. } | Target::Account { .. } | Target::ProviderSession { .. } => {
                let mut sessions = self.found(wanted, LOOKED_AT).await?;
                let more = LOOKED_AT <= sessions.len();
                if !before.is_empty() {
                    // They have another name at another issuer.
                    let persons: HashSet<Mark> = sessions.iter().map(|one| one.person).collect();
                    for person in persons {
                        sessions.extend(self.found(person, BY_NAME).await?);
                    }
                }
                let mut seen = HashSet::new();
                sessions.retain(|one| counts(one) && seen.insert(one.session.clone()));
                Ok(Affected { sessions, more })
            }
            Target::Session { .. }
            | Target::Client { .. }
            | Target::Provider { .. }
            | Target::Key { .. } => self.all(denied, now, &counts).await,
            // No session is made from a token that is presented.
            Target::Token { .. } | Target::TokenDigest { .. } => Ok(Affected::default()),
        }
    }

    /// Sessions of anybody that count; whether there may be more.
    async fn all(
        &self,
        denied: Denied,
        now: UnixTime,
        counts: &(dyn Fn(&Login) -> bool + Sync),
    ) -> Result<Affected, StoreError> {
        let mut all = Affected::default();
        let mut seen = HashSet::new();
        let mut each = |known: Known| {
            let login = Login::of(&known);
            // Those that do not count are forgotten at once: there may be very many.
            if counts(&login) && seen.insert(known.row) {
                all.sessions.push(login);
            }
        };
        let mut more = false;
        for _ in 0..self.sessions.walks() {
            let some = self.sessions.of_people(b"", LOOKED_AT, now, &mut each);
            more |= some.await?;
            if matches!(denied, Denied::Included) {
                let some = self.sessions.over_of_people(b"", LOOKED_AT, now, &mut each);
                more |= some.await?;
            }
        }
        all.more = more;
        Ok(all)
    }

    /// The sessions of a person, an account or a session at an issuer, and what is known of those that are over.
    pub(super) async fn found(&self, mark: Mark, limit: usize) -> Result<Vec<Login>, StoreError> {
        let now = self.clock.now();
        let known = self.sessions.found_by(mark, limit, now).await?;
        Ok(known.iter().map(Login::of).collect())
    }

    /// The sessions that a provider vouched for, of the people whose places begin so: 256 questions see all of them, asked as
    /// often as [`crate::session::Sessions::walks`] says.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn vouched_by(
        &self,
        provider: &ProviderId,
        first: u8,
    ) -> Result<Vec<Login>, StoreError> {
        let by = |login: &Login| login.provider == provider.as_str();
        self.logins_at(&[first], &by).await
    }

    /// The sessions that are not over of the people whose places begin so, those that are `meant`.
    pub(super) async fn logins_at(
        &self,
        prefix: &[u8],
        meant: &(dyn Fn(&Login) -> bool + Sync),
    ) -> Result<Vec<Login>, StoreError> {
        let now = self.clock.now();
        let mut logins = Vec::new();
        let mut each = |known: Known| {
            let login = Login::of(&known);
            if meant(&login) {
                logins.push(login);
            }
        };
        let some = self.sessions.of_people(prefix, LOOKED_AT, now, &mut each);
        some.await?;
        Ok(logins)
    }

    /// How often whoever wants to see all sessions goes through them.
    pub(crate) fn walks(&self) -> usize {
        self.sessions.walks()
    }
}

/// What becomes of sessions that are revoked already.
#[derive(Clone, Copy)]
enum Denied {
    LeftOut,
    Included,
}

impl Login {
    fn of(known: &Known) -> Self {
        let handle = &known.handle;
        let over = handle.over();
        Self {
            session: hex(&known.row),
            provider: handle.provider.clone(),
            issuer: handle.issuer.clone(),
            account: handle.account().as_ref().map(Mark::account),
            client: handle.client.clone(),
            sid: handle.sid.clone(),
            kid: handle.kid.clone(),
            began: handle.began,
            ends: over.map_or(handle.ends, UnixTime::as_millis),
            over: over.is_some(),
            runs: known.runs,
            before: handle.before.clone(),
            person: handle.person(),
        }
    }

    /// Whether it was idle for too long, and nobody has ended it.
    pub(super) const fn rests(&self) -> bool {
        !self.over && !self.runs
    }

    /// The key of the session's row.
    pub(crate) fn row(&self) -> Option<[u8; 32]> {
        from_hex(&self.session)
    }

    /// Its own session at its issuer.
    fn own_sid(&self) -> Option<Mark> {
        let sid = self.sid.as_deref()?;
        Some(Mark::sid(&self.issuer, sid))
    }

    /// The account, and that of the other side for which it was given.
    fn accounts(&self) -> impl Iterator<Item = Mark> {
        let before = self.before.as_ref().filter(|before| before.is_given());
        let before = before.and_then(Before::account);
        self.account.into_iter().chain(before)
    }

    /// Whose the session at an issuer is that has this mark.
    fn owners_by_sid(&self, mark: Mark) -> impl Iterator<Item = Owner> {
        let own = (&self.issuer, self.sid.as_deref(), self.account);
        let before = self.before.as_ref();
        let before = before.map(|before| (&before.issuer, before.sid.as_deref(), before.account()));
        let person = self.person;
        std::iter::once(own)
            .chain(before)
            .filter_map(move |(issuer, sid, account)| {
                let account = account?;
                (Mark::sid(issuer, sid?) == mark).then_some(Owner { person, account })
            })
    }

    pub(super) fn marks(&self) -> Vec<Mark> {
        let provider = ProviderId::new(&self.provider);
        let session = self.row().map(|row| Mark::session(&row));
        let client = self.client.as_deref();
        let client = client.map(|client| Mark::client(&provider, client));
        let sid = self.own_sid();
        let key = self.kid.as_deref().map(|kid| Mark::key(&provider, kid));
        let person = self.person;
        [
            person,
            Mark::person_at(person, &provider),
            Mark::provider(&provider),
        ]
        .into_iter()
        .chain(
            [self.account, session, client, sid, key]
                .into_iter()
                .flatten(),
        )
        .chain(self.before.iter().flat_map(|before| before.marks(person)))
        .collect()
    }
}
