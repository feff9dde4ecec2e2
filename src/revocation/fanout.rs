//! What a revocation ended here is over at its provider, too: the row of each session goes, and its refresh token is revoked.
//!
//! Nobody waits for it: what is revoked is denied already. It is done by the instance that was asked, one revocation after the
//! other; what a restart or a store that stays away cuts off ends by itself.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::warn;

use crate::clock::UnixTime;
use crate::identity::Mark;
use crate::identity::ProviderId;
use crate::providers::Provider;
use crate::revocation::list::Revocations;
use crate::revocation::logins::Login;
use crate::revocation::notice::Notice;
use crate::revocation::notice::Notices;
use crate::revocation::notice::Spent;
use crate::revocation::owed::settle;
use crate::revocation::record::Record;
use crate::revocation::record::Target;
use crate::revocation::record::from_hex;
use crate::revocation::rested::look;
use crate::store::StoreError;

/// Revocations that wait to be followed: 1 024. What one more ended ends by itself at its provider.
const WAITING: usize = 1_024;
/// A store that is away is asked again after a second, for a minute.
const AGAIN: Duration = Duration::from_secs(1);
const TRIES: u32 = 60;

/// Finds a provider as it runs now.
pub(crate) type Named = Box<dyn Fn(&ProviderId) -> Option<Arc<dyn Provider>> + Send + Sync>;

/// What a revocation ended.
pub(super) struct Ended {
    marks: Vec<Mark>,
    not_before: UnixTime,
    wide: bool,
    /// The one session of ours that was meant.
    row: Option<[u8; 32]>,
}

impl Ended {
    /// `None`: no session here is of what it speaks about.
    pub(super) fn by(record: &Record) -> Option<Self> {
        let target = record.details.as_ref()?.target.as_ref()?;
        let wide = match target {
            Target::Subject { .. } | Target::Account { .. } | Target::ProviderSession { .. } => {
                false
            }
            Target::Session { .. }
            | Target::Client { .. }
            | Target::Provider { .. }
            | Target::Key { .. } => true,
            Target::Token { .. } | Target::TokenDigest { .. } => return None,
        };
        Some(Self {
            marks: record.marks.clone(),
            not_before: record.not_before,
            wide,
            row: match target {
                Target::Session { session } => from_hex(session),
                Target::Subject { .. }
                | Target::Account { .. }
                | Target::ProviderSession { .. }
                | Target::Client { .. }
                | Target::Provider { .. }
                | Target::Key { .. }
                | Target::Token { .. }
                | Target::TokenDigest { .. } => None,
            },
        })
    }
}

impl Revocations {
    /// From here on what is revoked is told to providers, for as long as somebody else holds the list.
    pub(crate) fn fan_out(self: &Arc<Self>, named: Named, background: &Handle) {
        let (ended, due) = mpsc::channel(WAITING);
        if self.ended.set(ended).is_ok() {
            let named = Arc::new(named);
            let follow = follow(
                Arc::downgrade(self),
                due,
                Arc::clone(&named),
                background.clone(),
            );
            background.spawn(follow);
            background.spawn(settle(Arc::downgrade(self), named, background.clone()));
            background.spawn(look(Arc::downgrade(self)));
        }
    }

    /// Has what a record ended followed.
    pub(super) fn hand_on(&self, record: &Record) {
        let Some(ended) = Ended::by(record) else {
            return;
        };
        if let Some(Err(error)) = self.ended.get().map(|to| to.try_send(ended)) {
            warn!(%error, "Providers are not told what a revocation ended; it ends there by itself.");
        }
    }

    /// Ends the rows of the sessions that are meant, and has their providers told.
    async fn end_rows(
        &self,
        ended: &Ended,
        named: &Named,
        (notices, background): (&Notices, &Handle),
    ) -> Result<(), StoreError> {
        let meant = |login: &Login| {
            let earlier = login.began <= ended.not_before.as_millis();
            !login.over && earlier && login.marks().iter().any(|mark| ended.marks.contains(mark))
        };
        for place in self.places(ended).await? {
            let logins = match place {
                Place::Person(mark) => {
                    let mut logins = self.found(mark, usize::MAX).await?;
                    logins.retain(meant);
                    logins
                }
                Place::Begins(first) => self.logins_at(&[first], &meant).await?,
            };
            for login in logins {
                let now = self.clock.now();
                let Some(row) = login.row() else {
                    continue;
                };
                let farewell = self.sessions.end_known(&row, now).await?;
                let Some(farewell) = farewell else {
                    continue;
                };
                if let (Some(token), Some(provider)) =
                    (farewell.refresh_token, named(&farewell.provider))
                {
                    let spent = Spent::Token(provider, token);
                    let notice = Notice::new(&farewell.provider, spent, &self.metrics, now);
                    notices.send_in_turn(notice, background).await;
                }
            }
        }
        let marks: &[Mark] = if ended.wide { &[] } else { &ended.marks };
        self.end_unread(marks, ended.row, ended.not_before).await
    }

    /// Where the sessions stand that may be meant.
    async fn places(&self, ended: &Ended) -> Result<Vec<Place>, StoreError> {
        if ended.wide {
            let walks = 0..self.walks();
            return Ok(walks
                .flat_map(|_| (0..=u8::MAX).map(Place::Begins))
                .collect());
        }
        let mut persons = Vec::new();
        for mark in &ended.marks {
            persons.push(*mark);
            persons.extend(self.owners_of_account(*mark).await?);
            let owners = self.owners_of(*mark).await?;
            persons.extend(owners.iter().map(|owner| owner.person));
        }
        persons.sort_unstable();
        persons.dedup();
        Ok(persons.into_iter().map(Place::Person).collect())
    }
}

/// Where sessions stand.
#[derive(Clone, Copy)]
enum Place {
    /// Of a person.
    Person(Mark),
    /// Of everybody whose place begins so.
    Begins(u8),
}

async fn follow(
    list: Weak<Revocations>,
    mut due: mpsc::Receiver<Ended>,
    named: Arc<Named>,
    background: Handle,
) {
    // Its own room: what many revocations leave behind keeps no sign-out from being told.
    let notices = Notices::default();
    while let Some(ended) = due.recv().await {
        for tries in 1..=TRIES {
            let Some(list) = list.upgrade() else {
                return;
            };
            match list.end_rows(&ended, &named, (&notices, &background)).await {
                Ok(()) => break,
                Err(error) if tries == TRIES => {
                    warn!(%error, "What a revocation ended could not be found; it ends at its provider by itself.");
                }
                Err(_) => {
                    drop(list);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}
