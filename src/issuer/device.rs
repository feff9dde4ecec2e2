//! Devices without a browser (RFC 8628): their person signs in elsewhere, at the provider that the client belongs to.
//!
//! The device has a code of ours; the provider's own stays here. What comes of the sign-in is judged like any token, so that
//! its holder gets one of the side that they are on.

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use tracing::error;

use crate::auth::Query;
use crate::auth::beginning;
use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::Thumbprint;
use crate::issuer::Call;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;
use crate::issuer::answer::Reply;
use crate::issuer::build::Client;
use crate::issuer::build::Issuer;
use crate::issuer::form::form;
use crate::issuer::form::scopes;
use crate::issuer::grants::Told;
use crate::issuer::grants::UNBOUND;
use crate::issuer::grants::reply;
use crate::issuer::refresh::Terms;
use crate::issuer::refresh::Ticket;
use crate::issuer::settings::Grant;
use crate::providers::Issued;
use crate::providers::Polled;
use crate::providers::ProviderError;
use crate::secret::Secret;
use crate::session::Purpose;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

/// The table of devices that wait.
const TABLE: &str = "device_code";

/// How much longer a device waits that asked too often (RFC 8628 §3.5).
const SLOWER: u64 = 5_000;

/// A device that waits for its person. Times are in milliseconds.
#[derive(Deserialize, Serialize)]
struct Waiting {
    client: String,
    provider: String,
    code: String,
    audience: String,
    /// When it asked first: what is revoked after that counts for what comes of it.
    began: u64,
    interval: u64,
    next: u64,
    ends: u64,
}

const fn bad(why: &'static str) -> Not {
    Not::Denied(Denied::InvalidGrant, why)
}

fn store(_: StoreError) -> Not {
    Not::Later(5, "store")
}

fn away(why: &ProviderError) -> Not {
    match why {
        ProviderError::Rejected(Refusal::ExchangeRefused) => {
            Not::Denied(Denied::InvalidScope, "insufficient_scope")
        }
        ProviderError::Rejected(refusal) => {
            Not::Denied(Denied::UnauthorizedClient, refusal.as_str())
        }
        ProviderError::Unavailable {
            outage,
            retry_after,
        } => Not::Later(
            retry_after.map_or(5, |after| after.as_secs().max(1)),
            outage.as_str(),
        ),
    }
}

impl Issuer {
    /// The device authorization endpoint.
    pub(super) async fn device(&self, call: &Call<'_>) -> Reply {
        let mut told = Told {
            grant: Some("device_authorization"),
            ..Told::default()
        };
        let done = self.device_started(call, &mut told).await;
        self.tell(call, &told, "answered", &done);
        reply(done)
    }

    /// RFC 8628 §3.1.
    async fn device_started(&self, call: &Call<'_>, told: &mut Told) -> Result<Value, Not> {
        let form = form(call)?;
        let client = self.client(call, &form).await?;
        told.client = Some(client.settings.id.clone());
        if !client.settings.grants.contains(&Grant::DeviceCode) {
            self.anomaly(&client.settings.id, "unusual_grant");
            return Err(Not::Denied(Denied::UnauthorizedClient, "grant_type"));
        }
        let audience = match (form.value("audience"), &*client.settings.audiences) {
            (None, [only]) => only,
            (None | Some(_), _) => Self::audience(client, &form)?,
        };
        told.audience = Some(audience.into());
        let most = &client.settings.scopes;
        let scopes = scopes(&form)?.unwrap_or_else(|| most.clone());
        if !scopes.iter().all(|scope| most.contains(scope)) {
            return Err(Not::Denied(Denied::InvalidScope, "insufficient_scope"));
        }
        let side = self.side(call, client)?;
        told.provider = Some(side.clone());
        let at = client.at.get(&side).cloned();
        let at = at.ok_or(Not::Denied(Denied::UnauthorizedClient, "no_link"))?;
        let (asked, now) = (scopes.clone(), call.now);
        let resource = self.resources.of(audience, &side);
        let task = self
            .deps
            .background
            .spawn(async move { at.start_device(&asked, resource.as_deref(), now).await });
        let started = task.await.unwrap_or_else(|error| {
            error!(provider = %side, %error, "A device's question broke off.");
            Err(crate::identity::Outage::Shed.into())
        });
        let started = started.map_err(|why| away(&why))?;
        let ticket = Ticket::first(&*self.deps.entropy);
        let waiting = Waiting {
            client: client.settings.id.to_string(),
            provider: side.as_str().to_owned(),
            code: started.device_code.expose().clone(),
            audience: audience.to_owned(),
            began: now.as_millis(),
            interval: u64::try_from(started.interval.as_millis()).unwrap_or(u64::MAX),
            next: 0,
            ends: (now + started.life).as_millis(),
        };
        let written = self.put(&ticket, &waiting, Expect::Absent, now).await;
        if !written.map_err(store)? {
            return Err(Not::Later(1, "store"));
        }
        told.lifetime = Some(started.life.as_secs());
        told.scope = Some(scopes.join(" "));
        let mut object = json!({
            "device_code": ticket.text().expose().as_str(),
            "user_code": started.user_code,
            "verification_uri": started.verification_uri,
            "expires_in": started.life.as_secs(),
            "interval": started.interval.as_secs().max(1),
        });
        if let (Value::Object(members), Some(complete)) = (&mut object, started.complete) {
            members.insert("verification_uri_complete".to_owned(), complete.into());
        }
        Ok(object)
    }

    /// RFC 8628 §3.4.
    pub(super) async fn polled(
        &self,
        call: &Call<'_>,
        client: &Client,
        form: &Query,
        proven: Option<Thumbprint>,
        told: &mut Told,
    ) -> Result<Value, Not> {
        let text = form
            .value("device_code")
            .ok_or(Not::Denied(Denied::InvalidRequest, "device_code"))?;
        told.parent = Some(beginning(text));
        let ticket = Ticket::parse(text).ok_or(bad("bad_credentials"))?;
        let Some((mut waiting, version)) = self.get(&ticket, call.now).await.map_err(store)? else {
            return Err(Not::Denied(Denied::ExpiredToken, "expired"));
        };
        if *waiting.client != *client.settings.id {
            return Err(bad("wrong_client"));
        }
        let provider = ProviderId::new(&waiting.provider);
        told.provider = Some(provider.clone());
        told.audience = Some(waiting.audience.as_str().into());
        if proven.is_some() && !self.binds(&waiting.audience) {
            return Err(UNBOUND);
        }
        // What came of the sign-in is written down before anybody gets it: the provider says it once.
        if let Some(renewed) = self.signed_in(call, client, &ticket, proven).await? {
            return self
                .handed_out(call, client, &ticket, &renewed, (None, proven), told)
                .await;
        }
        let early = call.now.as_millis() < waiting.next;
        if early {
            waiting.interval += SLOWER;
        }
        waiting.next = call.now.as_millis() + waiting.interval;
        // Whoever writes this asks; another one that comes at once has come too early.
        let mine = self.put(&ticket, &waiting, Expect::Version(version), call.now);
        if !mine.await.map_err(store)? || early {
            return Err(Not::Denied(Denied::SlowDown, "too_early"));
        }
        let at = client.at.get(&provider).cloned().ok_or(bad("no_link"))?;
        let families = self.families.clone();
        let (now, code) = (call.now, Secret::new(waiting.code));
        let began = UnixTime::from_millis(waiting.began);
        let (own, ends) = (
            client.settings.id.clone(),
            began + client.settings.refresh.max,
        );
        let resource = self.resources.of(&waiting.audience, &provider);
        let (held, audience) = (ticket.clone(), waiting.audience);
        let task = self.deps.background.spawn(async move {
            let polled = at.poll_device(&code, resource.as_deref(), now).await;
            if let Ok(Polled::Issued(issued)) = &polled {
                let issued: &Issued = issued;
                let terms = Terms {
                    client: &own,
                    provider: &provider,
                    audience: &audience,
                    ends,
                };
                let begun = families.begin(&held, terms, issued, (began, now)).await;
                if begun.is_err() {
                    return Err(Not::Later(5, "store"));
                }
            }
            polled.map_err(|why| away(&why))
        });
        let polled = task.await.unwrap_or_else(|error| {
            error!(%error, "A device's question broke off.");
            Err(Not::Later(5, "shed"))
        });
        match polled? {
            Polled::Issued(_) => {}
            Polled::Pending => {
                return Err(Not::Denied(Denied::AuthorizationPending, "pending"));
            }
            Polled::SlowDown => return Err(Not::Denied(Denied::SlowDown, "too_early")),
            Polled::Denied => return Err(Not::Denied(Denied::NotAllowed, "policy")),
            Polled::Over => return Err(Not::Denied(Denied::ExpiredToken, "expired")),
        }
        let renewed = self.signed_in(call, client, &ticket, proven).await?;
        let renewed = renewed.ok_or(bad("revoked"))?;
        self.handed_out(call, client, &ticket, &renewed, (None, proven), told)
            .await
    }

    async fn get(
        &self,
        ticket: &Ticket,
        now: UnixTime,
    ) -> Result<Option<(Waiting, u64)>, StoreError> {
        let row = ticket.row();
        let place = Key {
            table: TABLE,
            key: &row,
        };
        let Some(found) = self.deps.store.get(place, now).await? else {
            return Ok(None);
        };
        let ring = self.deps.sessions.ring();
        let opened = ring.open(Purpose::DeviceCode, ticket.secret(), &[&row], &found.value);
        let waiting = opened.and_then(|opened| serde_json::from_slice(&opened.plain).ok());
        Ok(waiting.map(|waiting| (waiting, found.version)))
    }

    async fn put(
        &self,
        ticket: &Ticket,
        waiting: &Waiting,
        expect: Expect,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let plain =
            serde_json::to_vec(waiting).map_err(|error| StoreError::Damaged(error.to_string()))?;
        let row = ticket.row();
        let sealed = self.deps.sessions.ring().seal(
            Purpose::DeviceCode,
            ticket.secret(),
            &[&row],
            &plain,
            &*self.deps.entropy,
        );
        let place = Key {
            table: TABLE,
            key: &row,
        };
        let ends = UnixTime::from_millis(waiting.ends);
        self.deps
            .store
            .compare_and_swap(place, expect, &sealed, ends, now)
            .await
    }
}
