//! Whether anybody is signed in already when a form comes: an application may answer them as if what they typed were good, and
//! never look at it.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::timeout;
use tracing::warn;

use crate::auth::at_once::OnItsWay;
use crate::auth::brought::Unread;
use crate::auth::brought::brought;
use crate::auth::cookies;
use crate::auth::extract::Owned;
use crate::auth::gate::Gate;
use crate::auth::policy::AppPolicy;
use crate::auth::report::About;
use crate::auth::report::Source;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::secret::Secret;
use crate::session::OldSession;
use crate::telemetry::metrics::CarryOver;

/// How long a form waits until it is known. Then it goes on, and what was typed stays where it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why what was typed into a form stays where it is, whatever the application makes of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stays(CarryOver, &'static str);

impl Stays {
    /// Somebody is signed in, or may be.
    pub(super) const SOMEBODY: Self = Self(CarryOver::Refused, "signed_in_before");
    /// What came with the form can be read in two ways, or its owner says neither yes nor no.
    pub(super) const UNCLEAR: Self = Self(CarryOver::Refused, "unclear_before");
    /// The application knows them again without a password.
    pub(super) const REMEMBERED: Self = Self(CarryOver::Refused, "remembered");
    /// The store gave no answer.
    pub(super) const STORE: Self = Self(CarryOver::Unavailable, "store");
    /// Another form came at the same time with the same session.
    pub(crate) const AT_ONCE: Self = Self(CarryOver::Refused, "at_once");
    /// Nobody has said in time whose the new session is.
    pub(crate) const LATE: Self = Self::away(Outage::Timeout);
    /// There is not one name and one password in it.
    pub(crate) const UNREAD: Self = Self(CarryOver::Refused, "unread");

    pub(super) const fn away(outage: Outage) -> Self {
        Self(CarryOver::Unavailable, outage.as_str())
    }
}

impl From<Unread> for Stays {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Unclear => Self::UNCLEAR,
            Unread::Remembered => Self::REMEMBERED,
        }
    }
}

impl Gate {
    /// A form of the old application comes, whatever stands in it.
    pub(crate) fn form_comes(&self, policy: &AppPolicy, headers: &HeaderMap) -> OnItsWay {
        let owned = &policy.owners().cookies;
        let sessions = cookies::pairs(headers).filter_map(|(name, value)| {
            let (cookie, _) = owned.iter().find(|(own, _)| own.as_bytes() == name)?;
            let value = cookies::visible(value)?;
            Some(OldSession { cookie, value }.digest())
        });
        self.deps.forms.comes(sessions.collect())
    }

    /// Nobody is signed in who sends a form: their request brings no session, or the owner of each has just said that it is none.
    /// Nothing that was known before counts: somebody may have signed in by it since.
    ///
    /// # Errors
    ///
    /// Where somebody is, or it is not known: then an answer of the application says nothing of what was typed.
    pub(crate) async fn nobody_is_signed_in(
        &self,
        policy: &AppPolicy,
        what: (&HeaderMap, Option<&str>),
        host: &str,
        now: UnixTime,
    ) -> Result<(), Stays> {
        let asked = self.nobody(policy, what, host, now);
        let told = timeout(PATIENCE, asked).await;
        told.unwrap_or(Err(Stays::away(Outage::Timeout)))
    }

    async fn nobody(
        &self,
        policy: &AppPolicy,
        what: (&HeaderMap, Option<&str>),
        host: &str,
        now: UnixTime,
    ) -> Result<(), Stays> {
        let remembered = policy.typed().map_or(&[][..], |form| form.remembered());
        let brought = brought(what, policy.owners(), remembered)?;
        if let Some(id) = brought.ours {
            let found = self.deps.sessions.restore(id, now).await;
            let found = found.map_err(|error| {
                warn!(%error, "Whether somebody is signed in who sends a form is not known.");
                Stays::STORE
            })?;
            // One that stands for a session of the old system is none without that, which is asked about below.
            let own = found.filter(|own| own.host() == host && own.stands_for().is_none());
            if own.is_some() {
                return Err(Stays::SOMEBODY);
            }
        }
        for (old, owner) in brought.theirs {
            let credential = Credential::Session {
                cookie: old.cookie.into(),
                value: Secret::new(old.value.to_owned()),
            };
            let owned = Owned { owner, read: None };
            match self.judge(owned, &credential, now).await {
                // Also a yes of before, which counts while the owner is away.
                Ok(_) => return Err(Stays::SOMEBODY),
                Err(ProviderError::Rejected(Refusal::Inactive)) => {}
                // Whoever is barred is somebody, and so is whose time is over by another clock.
                Err(ProviderError::Rejected(_)) => return Err(Stays::UNCLEAR),
                Err(ProviderError::Unavailable { outage, .. }) => return Err(Stays::away(outage)),
            }
        }
        Ok(())
    }

    /// Tells operators why what was typed into a form stays where it is, although the application has signed somebody in.
    pub(crate) fn form_stays(
        &self,
        policy: &AppPolicy,
        Stays(outcome, reason): Stays,
        source: Option<Source<'_>>,
        now: UnixTime,
    ) {
        let Some(plan) = policy.plan() else {
            return;
        };
        let about = About {
            app: policy.app(),
            plan: Some(plan),
            person: None,
            now,
            source,
        };
        let reports = &self.deps.reports;
        reports.password_moved(about, &plan.id, outcome, Some(reason));
    }
}
