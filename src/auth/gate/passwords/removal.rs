//! One password on its way: an account of the person, the password, and the new provider's own word that it is good. Whatever
//! fails on the way leaves the person where they are.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use crate::auth::canonical::Joiner;
use crate::auth::canonical::NotJoined;
use crate::auth::consents;
use crate::auth::gate::passwords::way;
use crate::auth::report::About;
use crate::auth::report::Reports;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::identity::SubjectKey;
use crate::links::Home;
use crate::links::Homes;
use crate::links::Method;
use crate::providers::Account;
use crate::providers::Newcomer;
use crate::providers::Passwords;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Provisioning;
use crate::rollout::AppId;
use crate::rollout::Plan;
use crate::secret::Secret;
use crate::session::Pins;
use crate::store::StoreError;
use crate::telemetry::metrics::CarryOver;

/// A move that has not ended by then is broken off; the row that keeps others away lasts a little longer.
const LONGEST: Duration = Duration::from_secs(50);
/// What the new provider says of a change of the password until so long after the move is the move itself, by its clock.
const OWN_CHANGE: Duration = Duration::from_mins(1);
/// How long a person is left alone after the new provider could not be asked,
const AFTER_OUTAGE: Duration = Duration::from_mins(1);
/// and after it said no.
const AFTER_REFUSAL: Duration = Duration::from_hours(1);

/// One password on its way to the new provider.
pub(super) struct Removal {
    pub(super) homes: Arc<Homes>,
    pub(super) joiner: Joiner,
    pub(super) pins: Arc<Pins>,
    pub(super) reports: Reports,
    pub(super) to: Arc<dyn Provider>,
    pub(super) app: AppId,
    pub(super) plan: Plan,
    /// The name, as the old provider compares names.
    pub(super) name: String,
    pub(super) password: Secret<String>,
    pub(super) identity: Arc<Identity>,
    pub(super) person: CanonicalSubject,
    /// The account at the new provider, once it has been linked.
    pub(super) account: OnceLock<SubjectKey>,
    pub(super) now: UnixTime,
}

/// Why a password stays where it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stays {
    /// The account is not this person's, or not the only one.
    Conflict,
    /// The new provider says no, or this rollout does.
    Refused(&'static str),
    /// Nobody could say.
    Away(Outage),
    /// The store gave no answer.
    Store,
}

/// The account has a password that somebody chose there.
const OTHER_PASSWORD: Stays = Stays::Refused("other_password");
/// The account has this password now, and the provider does not let anybody in with it.
const NOT_USABLE: Stays = Stays::Refused("not_usable");

impl From<ProviderError> for Stays {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Rejected(Refusal::LinkConflict) => Self::Conflict,
            ProviderError::Rejected(refusal) => Self::Refused(refusal.as_str()),
            ProviderError::Unavailable { outage, .. } => Self::Away(outage),
        }
    }
}

impl From<NotJoined> for Stays {
    fn from(error: NotJoined) -> Self {
        match error {
            NotJoined::Refused(_) | NotJoined::Contested => Self::Conflict,
            NotJoined::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Stays {
    fn from(error: StoreError) -> Self {
        warn!(error = %error, "The store did not take part in the move of a password.");
        Self::Store
    }
}

impl Removal {
    /// Takes it there, or leaves it where it is and says why.
    pub(super) async fn run(self) {
        let way = way(&self.plan);
        // Somebody else may be at it, here or elsewhere; or it was tried too lately.
        match self.homes.begin(way, &self.person, self.now).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                warn!(error = %error, "A password stays where it is: the store gave no answer.");
                self.told(CarryOver::Unavailable, Some("store"));
                return;
            }
        }
        let moved = timeout(LONGEST, self.moved()).await;
        match self.forgotten().await {
            Ok(false) => {}
            // It is nobody's any more.
            Ok(true) => {
                self.told(CarryOver::Refused, Some("forgotten"));
                return;
            }
            Err(error) => {
                warn!(error = %error, "Whether somebody whose password moves was forgotten meanwhile is not known.");
            }
        }
        let stays = match moved.unwrap_or(Err(Stays::Away(Outage::Timeout))) {
            Ok(()) => {
                self.told(CarryOver::Moved, None);
                if let Some(account) = self.account.get() {
                    let moved = (&self.plan.id, self.plan.epoch);
                    let whom = (&self.person, &account.subject);
                    consents::note(&*self.to, &self.pins, moved, whom, self.now).await;
                }
                return;
            }
            Err(stays) => stays,
        };
        let (outcome, reason, rest) = match stays {
            Stays::Conflict => (
                CarryOver::SubjectMismatch,
                Refusal::LinkConflict.as_str(),
                AFTER_REFUSAL,
            ),
            Stays::Refused(reason) => (CarryOver::Refused, reason, AFTER_REFUSAL),
            Stays::Away(outage) => (CarryOver::Unavailable, outage.as_str(), AFTER_OUTAGE),
            Stays::Store => (CarryOver::Unavailable, "store", AFTER_OUTAGE),
        };
        self.told(outcome, Some(reason));
        let until = self.now + rest;
        if let Err(error) = self.homes.not_before(way, &self.person, until).await {
            warn!(error = %error, "A password that stays where it is may be tried again in a minute.");
        }
    }

    /// Whether the person was forgotten meanwhile: then nothing of what was written of them stays. Whoever forgets somebody
    /// says so first and erases afterwards; whoever moves a password writes first and looks afterwards: one sees the other.
    async fn forgotten(&self) -> Result<bool, StoreError> {
        let way = way(&self.plan);
        let person = &self.person;
        if !self.homes.is_forgotten(way, person, self.now).await? {
            return Ok(false);
        }
        let whose = (person, self.name.as_str());
        self.homes.take_back(way, whose, self.now).await?;
        if let Some(account) = self.account.get() {
            let at = (self.to.id(), account);
            self.joiner.unlink(person, at, self.now).await?;
        }
        self.pins.forget(&self.plan.id, person, self.now).await?;
        Ok(true)
    }

    async fn moved(&self) -> Result<(), Stays> {
        let way = way(&self.plan);
        // Another instance may just have done it.
        if let Some(home) = self.homes.of_person(way, &self.person, self.now).await? {
            // Of another account, which was theirs before: this one has another password.
            let same = home.left()?.is_none_or(|left| left == self.identity.key);
            if same {
                let known = self.homes.knows_as(way, &self.name, (&home, self.now));
                return Ok(known.await?);
            }
        }
        let unsupported = || Stays::Refused(Refusal::Unsupported.as_str());
        let accounts = self.to.provisioning().ok_or_else(unsupported)?;
        let judge = self.to.passwords().ok_or_else(unsupported)?;
        let account = self.account(accounts).await?;
        let there_as = self.takes(accounts, judge, &account).await?;
        let subject = account.identity.key.subject.as_str();
        let there = (&*account.username, subject);
        let home = Home::new(&self.person, there, &self.identity.key);
        let whose = (&self.person, self.name.as_str());
        self.homes.moved(way, whose, (&home, self.now)).await?;
        // Whoever decides whose an account is writes that first, and forgets homes afterwards: one sees the other.
        for (provider, key) in [
            (&self.plan.from, &self.identity.key),
            (self.to.id(), &account.identity.key),
        ] {
            let still = self
                .joiner
                .is_still(&self.person, (provider, key), self.now);
            if !still.await? {
                self.homes.take_back(way, whose, self.now).await?;
                return Err(Stays::Conflict);
            }
        }
        // The same as a sign-in there: the person is on the new side.
        let row = self.joiner.account_row(&self.person, &self.plan.from);
        let (id, epoch) = (&self.plan.id, self.plan.epoch);
        let pinned = self.pins.moved(id, (&self.person, &row), epoch, self.now);
        if let Err(error) = pinned.await {
            warn!(error = %error, "Somebody whose password has moved is not known to be on the new side yet.");
        }
        let whom = (&self.person, &*there_as);
        let since = self.now + OWN_CHANGE;
        let stays = self.pins.stays_since((id, epoch), whom, (since, self.now));
        if let Err(error) = stays.await {
            warn!(%error, "What a switch back would take from somebody is not noted.");
        }
        Ok(())
    }

    /// The person's account at the new provider, which nobody knows as anybody else's.
    async fn account(&self, accounts: &dyn Provisioning) -> Result<Account, Stays> {
        let newcomer = Newcomer {
            username: &self.name,
            identity: &self.identity,
        };
        let account = match accounts.find(newcomer, self.now).await? {
            Some(account) => account,
            // They have one, and it is not found: a second one would be somebody else's.
            None if self.is_known_there().await? => return Err(Stays::Conflict),
            None => accounts.create(newcomer, self.now).await?,
        };
        if !account.enabled {
            return Err(Stays::Refused(Refusal::Disabled.as_str()));
        }
        // Before anything is written: an account that was there must be known as theirs, and one that was made as nobody else's.
        let whose = self.joiner.described(&account.identity, self.now).await?;
        let theirs = whose.map_or(account.made, |whose| whose == self.person);
        if account.identity.provider != *self.to.id() || !theirs {
            return Err(Stays::Conflict);
        }
        let key = (self.to.id(), &account.identity.key);
        if !self.joiner.may_be(&self.person, key, self.now).await? {
            return Err(Stays::Conflict);
        }
        Ok(account)
    }

    async fn is_known_there(&self) -> Result<bool, StoreError> {
        let (joiner, to) = (&self.joiner, self.to.id());
        joiner.has_account(&self.person, to, self.now).await
    }

    /// Makes sure that the account has the password, and that the new provider lets this person in with it: as whom.
    async fn takes(
        &self,
        accounts: &dyn Provisioning,
        judge: &dyn Passwords,
        account: &Account,
    ) -> Result<Arc<Identity>, Stays> {
        // What somebody has chosen there is not overwritten, and where the provider cannot say they may have.
        let free = account.has_password == Some(false);
        if free {
            accounts
                .set_password(account, &self.password, self.now)
                .await?;
        }
        let checked = judge.check(&account.username, &self.password, self.now);
        let proof = match checked.await {
            Ok(proof) => proof,
            Err(ProviderError::Rejected(_)) if free => return Err(NOT_USABLE),
            Err(ProviderError::Rejected(_)) => return Err(OTHER_PASSWORD),
            Err(error @ ProviderError::Unavailable { .. }) => return Err(error.into()),
        };
        let identity = proof.identity();
        // Its own word counts more than what the directory says of it; nothing is linked that says that it is somebody else.
        let whose = self.joiner.described(identity, self.now).await?;
        let other = whose.is_some_and(|whose| whose != self.person);
        if identity.key != account.identity.key || other {
            return Err(Stays::Conflict);
        }
        self.account.get_or_init(|| account.identity.key.clone());
        let key = (self.to.id(), &account.identity.key);
        let method = Method::Provisioned;
        self.joiner
            .link(&self.person, key, method, self.now)
            .await?;
        let whose = self.joiner.join_anew(identity, self.now).await?;
        if whose != self.person {
            return Err(Stays::Conflict);
        }
        Ok(Arc::clone(identity))
    }

    /// Tells operators.
    pub(super) fn told(&self, outcome: CarryOver, reason: Option<&'static str>) {
        let about = About {
            app: &self.app,
            plan: Some(&self.plan),
            person: Some(&self.person),
            now: self.now,
            source: None,
        };
        self.reports
            .password_moved(about, &self.plan.id, outcome, reason);
    }
}
