//! What is known of running sessions without their cookies: whose they are, by every name that a logout may use.
//!
//! A session's own row opens with its cookie alone. These rows are found by digests and sealed under the key ring, so that a
//! provider or an operator, who have no cookie, can end what they mean, and a dump of the store tells nothing.

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Grounds;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::identity::SubjectKey;
use crate::revocation::before::Before;
use crate::revocation::list::Revocations;
use crate::revocation::mark::Mark;
use crate::revocation::record::Target;
use crate::revocation::record::from_hex;
use crate::revocation::record::hex;
use crate::session::CameBy;
use crate::session::Purpose;
use crate::store::Key;
use crate::store::Row;
use crate::store::StoreError;

/// Rows by person and session.
pub(super) const LOGINS: &str = "login";
/// Whose the sessions at an issuer are: person and account, by the mark of the `sid` and the session.
pub(super) const SIDS: &str = "login_sid";
/// Which person an account is: by its mark.
pub(super) const ACCOUNTS: &str = "login_account";

/// How many rows are looked at to count sessions that have no index of their own: 200 000.
const LOOKED_AT: usize = 200_000;

/// Sessions here that one session at an issuer can have: 1 000.
const BY_SID: usize = 1_000;

/// Whom a session is of.
#[derive(Debug)]
pub(crate) struct NewLogin<'a> {
    /// As the provider says.
    pub(crate) identity: &'a Identity,
    /// Across providers.
    pub(crate) canonical: &'a CanonicalSubject,
    /// By what it can be revoked.
    pub(crate) grounds: &'a Grounds,
    /// The key of the session's row.
    pub(crate) row: &'a [u8; 32],
    /// When it ends at the latest.
    pub(crate) ends: UnixTime,
    /// What it was given for without a sign-in.
    pub(crate) before: Option<&'a CameBy>,
}

/// A running session, as operators see it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Login {
    /// The digest that names the session.
    pub(crate) session: String,
    /// Who vouched.
    pub(crate) provider: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    client: Option<String>,
    pub(super) sid: Option<String>,
    kid: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub(crate) began: u64,
    /// When it ends at the latest.
    pub(crate) ends: u64,
    /// What it was given for: what ends that ends it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Before>,
    /// Whose it is, as the key of the row says.
    #[serde(skip)]
    pub(super) person: Option<Mark>,
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
    /// Notes whose a new session is. Before this has succeeded, nobody may hold its cookie.
    ///
    /// # Errors
    ///
    /// When the store did not take it.
    pub(crate) async fn remember(&self, login: NewLogin<'_>) -> Result<(), StoreError> {
        let person = Mark::person(login.canonical);
        let account = Mark::account(&login.identity.key);
        let issuer = login.identity.key.issuer.as_str();
        let key = login_key(person, login.row);
        let row = Login {
            session: hex(login.row),
            provider: login.identity.provider.as_str().to_owned(),
            issuer: issuer.to_owned(),
            subject: login.identity.key.subject.as_str().to_owned(),
            client: login.identity.client_id.as_deref().map(str::to_owned),
            sid: login.grounds.sid.as_deref().map(str::to_owned),
            kid: login.grounds.kid.as_deref().map(str::to_owned),
            began: login.grounds.began.unwrap_or_default().as_millis(),
            ends: login.ends.as_millis(),
            before: login.before.map(Before::of),
            person: None,
        };
        let plain =
            serde_json::to_vec(&row).map_err(|error| StoreError::Damaged(error.to_string()))?;
        let ring = self.sessions.ring();
        let sealed = ring.seal(Purpose::Login, b"", &[&key], &plain, &*self.entropy);
        let by_sid = login
            .grounds
            .sid
            .as_deref()
            .map(|sid| login_key(Mark::sid(issuer, sid), login.row));
        let both = [*person.as_bytes(), *account.as_bytes()].concat();
        // Found by the account of the other side, and its session there, too.
        let before = row.before.as_ref();
        let before = before.and_then(|before| Some((before, before.account().mark().ok()?)));
        let by_before = before.map(|(before, account)| {
            let both = [*person.as_bytes(), *account.as_bytes()].concat();
            let sid = before.sid.as_deref();
            let sid = sid.map(|sid| login_key(Mark::sid(&before.issuer, sid), login.row));
            (account, sid, both)
        });
        let put = |table, key, value| self.store.put(Key { table, key }, value, login.ends);
        let (one, two, three) = tokio::join!(
            put(LOGINS, &key, &sealed),
            put(ACCOUNTS, account.as_bytes(), person.as_bytes()),
            async {
                if let Some(sid) = &by_sid {
                    put(SIDS, sid, &both).await?;
                }
                let Some((account, sid, both)) = &by_before else {
                    return Ok(());
                };
                put(ACCOUNTS, account.as_bytes(), person.as_bytes()).await?;
                match sid {
                    Some(sid) => put(SIDS, sid, both).await,
                    None => Ok(()),
                }
            },
        );
        one.and(two).and(three)
    }

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
        let now = self.clock.now();
        let rows = self.store.scan(SIDS, mark.as_bytes(), BY_SID, now).await?;
        let owner = |value: &[u8]| {
            let (person, account) = value.split_first_chunk()?;
            Some(Owner {
                person: Mark::from_bytes(*person),
                account: Mark::from_bytes(*account.first_chunk()?),
            })
        };
        Ok(rows
            .iter()
            .filter_map(|(_, row)| owner(&row.value))
            .collect())
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
        let signed_in = self.owner_of_account(Mark::account(account)).await?;
        let alone = Mark::person(&CanonicalSubject::unjoined(account));
        let linked = linked.as_ref().map(Mark::person);
        Ok([Some(alone), linked, signed_in]
            .into_iter()
            .flatten()
            .collect())
    }

    /// Whose an account is; `None`: of nobody who is signed in here.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(super) async fn owner_of_account(&self, account: Mark) -> Result<Option<Mark>, StoreError> {
        let place = Key {
            table: ACCOUNTS,
            key: account.as_bytes(),
        };
        let found = self.store.get(place, self.clock.now()).await?;
        Ok(found.and_then(|row| Some(Mark::from_bytes(*row.value.first_chunk()?))))
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
        let ends = target.ends().map_err(StoreError::Damaged)?;
        let person = match target {
            Target::Subject { .. } => Some(wanted),
            Target::Account { .. } => self.owner_of_account(wanted).await?,
            Target::ProviderSession { .. } => None,
            Target::Session { .. }
            | Target::Client { .. }
            | Target::Provider { .. }
            | Target::Key { .. } => None,
            // No session is made from a token that is presented.
            Target::Token { .. } | Target::TokenDigest { .. } => return Ok(Affected::default()),
        };
        let prefix: &[u8] = person.as_ref().map_or(b"", |person| person.as_bytes());
        let rows = self.store.scan(LOGINS, prefix, LOOKED_AT, now).await?;
        let mut affected = Affected {
            more: rows.len() == LOOKED_AT,
            sessions: Vec::new(),
        };
        for (person, login) in self.opened(rows) {
            let marks = login.marks(person);
            let began = Some(UnixTime::from_millis(login.began));
            let counts = || match denied {
                Denied::Included => true,
                Denied::LeftOut => !self.index.denies(&marks, began, now),
            };
            if ends.iter().any(|mark| marks.contains(mark)) && counts() {
                affected.sessions.push(login);
            }
        }
        Ok(affected)
    }

    /// The sessions that a provider vouched for, of the people whose mark begins so: 256 questions see all of them.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn vouched_by(
        &self,
        provider: &ProviderId,
        first: u8,
    ) -> Result<Vec<Login>, StoreError> {
        let all = self.logins_at(&[first]).await?.into_iter();
        let logins = all.map(|(_, login)| login);
        Ok(logins
            .filter(|login| login.provider == provider.as_str())
            .collect())
    }

    /// The sessions whose keys begin so, and whose they are.
    pub(super) async fn logins_at(&self, prefix: &[u8]) -> Result<Vec<(Mark, Login)>, StoreError> {
        let now = self.clock.now();
        let rows = self.store.scan(LOGINS, prefix, LOOKED_AT, now).await?;
        Ok(self.opened(rows).collect())
    }

    /// What can be read of rows. What is sealed under a key that is gone is left out: its session was not used while that key
    /// was there, and is over with it.
    fn opened(&self, rows: Vec<(Vec<u8>, Row)>) -> impl Iterator<Item = (Mark, Login)> {
        let ring = self.sessions.ring();
        rows.into_iter().filter_map(move |(key, row)| {
            let opened = ring.open(Purpose::Login, b"", &[&key], &row.value)?;
            let mut login: Login = serde_json::from_slice(&opened.plain).ok()?;
            let person = Mark::from_bytes(*key.first_chunk()?);
            login.person = Some(person);
            Some((person, login))
        })
    }
}

/// What becomes of sessions that are revoked already.
#[derive(Clone, Copy)]
enum Denied {
    LeftOut,
    Included,
}

impl Login {
    /// The key of the session's row.
    pub(crate) fn row(&self) -> Option<[u8; 32]> {
        from_hex(&self.session)
    }

    pub(super) fn marks(&self, person: Mark) -> Vec<Mark> {
        let provider = ProviderId::new(&self.provider);
        let own = [
            Target::Account {
                issuer: self.issuer.clone(),
                subject: self.subject.clone(),
            },
            Target::Session {
                session: self.session.clone(),
            },
        ];
        let client = self
            .client
            .as_deref()
            .map(|client| Mark::client(&provider, client));
        let sid = self.sid.as_deref().map(|sid| Mark::sid(&self.issuer, sid));
        let key = self.kid.as_deref().map(|kid| Mark::key(&provider, kid));
        own.iter()
            .filter_map(|target| target.mark().ok())
            .chain([
                person,
                Mark::person_at(person, &provider),
                Mark::provider(&provider),
            ])
            .chain([client, sid, key].into_iter().flatten())
            .chain(self.before.iter().flat_map(|before| before.marks(person)))
            .collect()
    }
}

pub(super) fn login_key(person: Mark, row: &[u8; 32]) -> Vec<u8> {
    [*person.as_bytes(), *row].concat()
}
