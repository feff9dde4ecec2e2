//! Carry-over by exchange: a session of the old side becomes one of the new provider, which is shown an assertion of ours about
//! the person and answers for the account that it knows. Nobody sees anything; whatever else comes of it, the session that is
//! there stays as it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tracing::debug;
use tracing::error;
use tracing::warn;

use crate::auth::canonical::NotJoined;
use crate::auth::cookies::Keep;
use crate::auth::gate::Admitted;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::device::Device;
use crate::auth::login::page;
use crate::auth::login::page::Sent;
use crate::exchange::Exchange;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::rollout;
use crate::rollout::Acceptance;
use crate::rollout::Arm;
use crate::rollout::Facts;
use crate::rollout::LoginBegun;
use crate::rollout::Plan;
use crate::session::Backing;
use crate::session::CameBy;
use crate::session::NewSession;
use crate::session::Origin;
use crate::session::Restored;
use crate::store::StoreError;
use crate::telemetry::metrics::CarryOver;

/// The rule that such a session names, and the method that it is counted by.
const EXCHANGE: &str = "exchange";

/// After a refusal a session is left alone for 1 h, after an outage for 1 min, and after a success that its browser may not
/// have heard of as well.
const AFTER_REFUSAL: Duration = Duration::from_hours(1);
const AFTER_OUTAGE: Duration = Duration::from_mins(1);
const AFTER_SUCCESS: Duration = Duration::from_mins(1);

/// Why a session stays where it is.
enum Stays {
    /// For this long at least.
    Why(CarryOver, Duration),
    Store(StoreError),
}

impl From<StoreError> for Stays {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Logins {
    /// Takes somebody who belongs to the new side there, and has the browser ask again with the session of that side; `None`:
    /// the request goes on with the session that it has.
    pub(super) async fn exchange_over(
        &self,
        ask: &Ask<'_>,
        (plan, exchange): (&Plan, &Arc<Exchange>),
        admitted: &Admitted,
        facts: &Facts<'_>,
        device: &Device,
    ) -> Option<Response<Bytes>> {
        let (cohorts, now) = (&self.deps.cohorts, ask.now);
        let begun = LoginBegun {
            at: now,
            fallback: false,
        };
        let accepted = rollout::accept_login(plan, cohorts, ask.kill, &plan.to, begun, facts, now);
        if accepted != Acceptance::Accepted {
            return None;
        }
        let before = self.session(ask).await?;
        // The application lives by the cookie of the old system: what stands for it must go on being held to it.
        if before.stands_for().is_some() && ask.policy.forwards_credentials() {
            return None;
        }
        // Only what was admitted with this request, and only of ours.
        if before.canonical() != admitted.canonical()
            || plan.arm(&before.identity().provider) != Some(Arm::From)
        {
            return None;
        }
        let turn = match self.deps.sessions.take_turn(before.row(), now).await {
            Ok(turn) => turn?,
            Err(error) => {
                debug!(%error, "Nobody is exchanged while the store is away.");
                return None;
            }
        };
        let moved = self.exchanged(ask, (plan, exchange), &before, device).await;
        let (outcome, wait) = match &moved {
            Ok(_) => (CarryOver::Moved, AFTER_SUCCESS),
            Err(Stays::Why(why, wait)) => (*why, *wait),
            Err(Stays::Store(error)) => {
                debug!(%error, "An exchanged session could not be written.");
                (CarryOver::Unavailable, AFTER_OUTAGE)
            }
        };
        let metrics = &self.deps.reports.metrics;
        metrics.carried_over(ask.policy.app(), EXCHANGE, outcome);
        let ended = self.deps.sessions.end_turn(turn, before.row(), now + wait);
        if let Err(error) = ended.await {
            debug!(%error, "A turn to exchange a session ends by itself.");
        }
        moved.ok().flatten()
    }

    async fn exchanged(
        &self,
        ask: &Ask<'_>,
        (plan, exchange): (&Plan, &Arc<Exchange>),
        before: &Restored,
        device: &Device,
    ) -> Result<Option<Response<Bytes>>, Stays> {
        let came_by = CameBy::new(exchange.name(), before);
        let refused = |why| Stays::Why(why, AFTER_REFUSAL);
        // On the background runtime, where its connections live, and to the end even if the browser goes away.
        let (asked, identity) = (Arc::clone(exchange), Arc::clone(before.identity()));
        let (canonical, ends, now) = (before.canonical().clone(), before.ends(), ask.now);
        let task = self
            .deps
            .background
            .spawn(async move { asked.vouched((identity, canonical), ends, now).await });
        let vouched = task.await.unwrap_or_else(|broken| {
            error!(error = %broken, "An exchange of a session broke off.");
            Err(Outage::Shed.into())
        });
        let (proof, lasts) = vouched.map_err(|error| match error {
            ProviderError::Rejected(_) => refused(CarryOver::Refused),
            ProviderError::Unavailable { .. } => Stays::Why(CarryOver::Unavailable, AFTER_OUTAGE),
        })?;
        let identity = proof.identity();
        if identity.provider != plan.to || proof.confirmation().is_some() || proof.is_over(now) {
            return Err(refused(CarryOver::Refused));
        }
        let found = self.deps.joiner.join_anew(identity, now).await;
        let found = found.map_err(|error| match error {
            NotJoined::Refused(_) | NotJoined::Contested => refused(CarryOver::Refused),
            NotJoined::Store(error) => Stays::Store(error),
        })?;
        if found != *before.canonical() {
            error!(
                exchange = exchange.name(),
                "The new provider answers for somebody else; the session stays where it is."
            );
            let reports = &self.deps.reports;
            reports.refused(ask.about(), Some(&plan.to), Refusal::LinkConflict);
            return Err(refused(CarryOver::SubjectMismatch));
        }
        let account = self.deps.joiner.account_row(&found, &plan.from);
        let pins = &self.deps.pins;
        pins.moved(&plan.id, (&found, &account), plan.epoch, now)
            .await?;
        let whom = (&found, &**identity);
        if let Err(error) = pins.stays((&plan.id, plan.epoch), whom, now).await {
            warn!(%error, "What a switch back would take from somebody is not noted.");
        }
        self.asks_for_consents(plan, whom, now);
        let left = self.leaves_behind(ask, (&found, &plan.to)).await;
        let new = NewSession {
            authenticated: &proof,
            canonical: &found,
            app: ask.policy.app().as_str(),
            host: ask.request.facts.host,
            backing: Some(Backing {
                rollout: plan.id.clone(),
                epoch: plan.epoch,
                arm: Arm::To,
            }),
            rule: EXCHANGE,
            origin: Origin::Exchange,
            until: before.ends(),
            // Nobody signed in for it: what was revoked while the provider was asked ends it too.
            began: now,
            id_token: None,
            sid: proof.grounds().sid.as_deref(),
            refresh_token: None,
            lasts,
            stands_for: None,
            came_by: Some(came_by),
            left: left.as_ref(),
        };
        let created = self.deps.sessions.create(new, now).await?;
        // Whoever has signed out while the provider was asked stays signed out, and whoever has signed in here meanwhile is in.
        let still = self.deps.sessions.known(before.row(), now).await?;
        if still.is_none_or(|still| still.rested) {
            self.deps.sessions.end_known(&created.row, now).await?;
            return Err(refused(CarryOver::Refused));
        }
        if let Some(earlier) = self.session_id(ask) {
            let led = self.deps.sessions.leads_on(earlier, &created, now).await;
            if let Err(error) = led {
                debug!(%error, "What is open with a session ends with it.");
            }
        }
        self.makes_room(ask, &created).await;
        let mut device = device.clone();
        device.has_moved(plan);
        let session = &self.names.session;
        let cookie = self
            .names
            .set(session, created.cookie.expose(), Keep::Browser);
        let cookies = cookie.into_iter().chain(self.keep_device(ask, &device));
        // The same page, asked for again with the new session: which is when the old one ends.
        Ok(page::redirect(
            Sent::Found,
            ask.target().as_str(),
            cookies.collect(),
        ))
    }
}
