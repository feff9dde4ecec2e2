//! A fresh token for one that the client has had (RFC 6749 §6): refresh tokens of our own, which stand for those of providers.
//!
//! Each is good once; the one before it is forgiven for a moment. One that comes later was used by two: its family is over,
//! and nothing else. It must never be refreshed for another client or another person, and never outlive a revocation.

mod earlier;
mod families;
mod family;
mod farewell;
mod renewal;

pub(super) use families::Families;
pub(super) use families::Look;
pub(super) use family::Terms;
pub(super) use family::Ticket;
pub(super) use farewell::Farewells;

use serde_json::Value;
use tracing::debug;
use tracing::error;
use tracing::warn;

use crate::auth::ForClient;
use crate::auth::Of;
use crate::auth::Own;
use crate::auth::Query;
use crate::auth::beginning;
use crate::clock::UnixTime;
use crate::exchange::Token;
use crate::identity::ProviderId;
use crate::identity::Thumbprint;
use crate::issuer::Call;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;
use crate::issuer::build::Client;
use crate::issuer::build::Issuer;
use crate::issuer::form::success;
use crate::issuer::grants::Told;
use crate::issuer::grants::UNBOUND;
use crate::issuer::grants::judged;
use crate::issuer::refresh::earlier::each_of;
use crate::issuer::refresh::families::Proven;
use crate::issuer::refresh::family::Account;
use crate::issuer::refresh::family::Family;
use crate::issuer::refresh::renewal::Adopted;
use crate::issuer::refresh::renewal::NotRenewed;
use crate::issuer::refresh::renewal::Renewal;
use crate::issuer::refresh::renewal::Renewed;
use crate::issuer::settings::Grant;
use crate::issuer::tokens::By;
use crate::secret::Secret;

const fn bad(why: &'static str) -> Not {
    Not::Denied(Denied::InvalidGrant, why)
}

/// The old side that is closed for good, if it is.
fn closed(call: &Call<'_>) -> Option<ProviderId> {
    let plan = call.policy.plan().filter(|plan| plan.closed)?;
    Some(plan.from.clone())
}

impl Issuer {
    /// RFC 6749 §6.
    pub(super) async fn refreshed(
        &self,
        call: &Call<'_>,
        client: &Client,
        form: &Query,
        (scopes, proven): (Option<&[Box<str>]>, Option<Thumbprint>),
        told: &mut Told,
    ) -> Result<Value, Not> {
        let text = form
            .value("refresh_token")
            .ok_or(Not::Denied(Denied::InvalidRequest, "refresh_token"))?;
        told.parent = Some(beginning(text));
        let most = &client.settings.scopes;
        if !scopes.is_none_or(|asked| asked.iter().all(|scope| most.contains(scope))) {
            return Err(Not::Denied(Denied::InvalidScope, "insufficient_scope"));
        }
        let audience = match form.value("audience") {
            Some(_) => Some(Self::audience(client, form)?),
            None => None,
        };
        let ticket = self.ticket(client, text).ok_or(bad("bad_credentials"))?;
        let renewal = Renewal {
            families: self.families.clone(),
            farewells: self.farewells.clone(),
            at: client.at.clone(),
            client: client.settings.id.clone(),
            adopted: self.adopted(client, text, call.now),
            scopes: scopes.unwrap_or_default().to_vec(),
            audience: audience.map(Box::from),
            resources: self.resources.clone(),
            ticket: ticket.clone(),
            proven,
            closed: closed(call),
            now: call.now,
        };
        let renewed = self.renewed(call, client, renewal).await?;
        let wanted = (scopes, proven);
        self.handed_out(call, client, &ticket, &renewed, wanted, told)
            .await
    }

    /// What came of a device's sign-in; `None`: nothing yet.
    pub(super) async fn signed_in(
        &self,
        call: &Call<'_>,
        client: &Client,
        ticket: &Ticket,
        proven: Option<Thumbprint>,
    ) -> Result<Option<Renewed>, Not> {
        let look = self.families.look(ticket, call.now).await;
        match look.or(Err(Not::Later(5, "store")))? {
            Look::Absent => return Ok(None),
            Look::Lost | Look::Open(..) => {}
        }
        let renewal = Renewal {
            families: self.families.clone(),
            farewells: self.farewells.clone(),
            at: client.at.clone(),
            client: client.settings.id.clone(),
            adopted: None,
            scopes: Vec::new(),
            audience: None,
            resources: self.resources.clone(),
            ticket: ticket.clone(),
            proven,
            closed: closed(call),
            now: call.now,
        };
        self.renewed(call, client, renewal).await.map(Some)
    }

    async fn renewed(
        &self,
        call: &Call<'_>,
        client: &Client,
        renewal: Renewal,
    ) -> Result<Renewed, Not> {
        let ticket = renewal.ticket.clone();
        let task = self.deps.background.spawn(renewal.run());
        let renewed = task.await.unwrap_or_else(|error| {
            error!(client = &*client.settings.id, %error, "A refresh broke off.");
            Err(Not::Later(5, "shed").into())
        });
        match renewed {
            Ok(renewed) => Ok(renewed),
            Err(NotRenewed::Not(not)) => Err(not),
            // What ended it may not have come to its end.
            Err(NotRenewed::Over) => {
                self.end(call, client, &ticket).await?;
                Err(bad("revoked"))
            }
            Err(NotRenewed::Stolen) => {
                warn!(
                    client = &*client.settings.id,
                    "A refresh token came a second time; its family is over."
                );
                self.deps.reports.metrics.token_anomaly("refresh_reuse");
                self.end(call, client, &ticket).await?;
                Err(bad("replay"))
            }
        }
    }

    /// The provider's token is judged like one that was presented; what the client gets, it gets with the next refresh token.
    pub(super) async fn handed_out(
        &self,
        call: &Call<'_>,
        client: &Client,
        ticket: &Ticket,
        renewed: &Renewed,
        (scopes, proven): (Option<&[Box<str>]>, Option<Thumbprint>),
        told: &mut Told,
    ) -> Result<Value, Not> {
        let (family, audience) = (&renewed.family, &*renewed.audience);
        let may = client
            .settings
            .audiences
            .iter()
            .any(|own| **own == *audience);
        if !may {
            return Err(Not::Denied(Denied::InvalidRequest, "audience"));
        }
        told.audience = Some(audience.into());
        told.provider = Some(ProviderId::new(&family.provider));
        if proven.is_some() && !self.binds(audience) {
            return Err(UNBOUND);
        }
        let wanted = ForClient {
            asker: self.asker(client),
            exchanges: self.audiences.get(audience).map_or(&[][..], Vec::as_slice),
            scopes,
            most: &client.settings.scopes,
            proven,
            certificate: client.shown(call.channel.certificate),
            max_life: client.settings.max_life,
            own: Some(Own {
                began: family.began.map(UnixTime::from_millis),
                is_for: renewed.is_for,
            }),
            addressed: false,
            over: None,
        };
        let admitted = match judged(call, renewed.token.expose(), Some(&wanted)).await {
            Ok(admitted) => admitted,
            // Its family is as good as before: without a proof there is a token.
            Err(Not::Denied(Denied::InvalidRequest, "pop_failed")) if proven.is_some() => {
                return Err(UNBOUND);
            }
            Err(Not::Denied(Denied::InvalidRequest, why)) => {
                // What was revoked stays so: a later token of the family would be as old.
                if why == "revoked" {
                    self.end(call, client, ticket).await?;
                }
                return Err(bad(why));
            }
            Err(other) => return Err(other),
        };
        told.person = Some(admitted.canonical().clone());
        self.limited(call, Of::Subject(admitted.canonical().as_str()))
            .await?;
        let account = Account::of(&admitted.identity().key);
        if family
            .account
            .as_ref()
            .is_some_and(|known| *known != account)
        {
            error!(
                client = &*client.settings.id,
                provider = &*family.provider,
                "A provider refreshed a token of one person and gave one of another; nobody gets it."
            );
            self.end(call, client, ticket).await?;
            return Err(bad("policy"));
        }
        let none = Not::Denied(Denied::InvalidTarget, "exchange_refused");
        let text = renewed.token.expose().as_str();
        // One that is as its provider gave it is its client's, and ends with the family.
        let passed = |issued: &Token| issued.token.matches(text.as_bytes());
        let admitted = if admitted.issued().is_some_and(passed) {
            admitted
        } else {
            let wanted = (client, &wanted);
            self.hands_out(call, wanted, text, admitted).await?
        };
        let issued = admitted.issued().ok_or(none)?;
        let scope = issued.scopes.join(" ");
        let ends = issued.ends.min(issued.own_end);
        let token = (issued.token.expose().as_str(), issued.bound.as_ref());
        let object = success(token, ends, &scope, call.now);
        let mut object = object.ok_or(bad("expired"))?;
        let grace = client.settings.refresh.grace;
        // One that proves nothing else proves its key with every refresh (RFC 9449 §5).
        let key = proven.map(|key| key.to_string());
        let proven = Proven {
            key: key.as_deref(),
            binds: client.settings.public && self.always_binds(audience),
        };
        let whose = (&account, admitted.canonical(), proven);
        let next = self.families.turn(ticket, whose, grace, call.now).await;
        let next = next
            .or(Err(Not::Later(5, "store")))?
            .ok_or(bad("revoked"))?;
        if family.is_nobodys() {
            let mut known = (*family).clone();
            known.belongs_to(whose.0, whose.1);
            self.is_out(client, ticket, &known, call.now).await;
        }
        let again = client.settings.grants.contains(&Grant::RefreshToken);
        if again && family.upstream.is_some() {
            let text = next.text();
            object.insert("refresh_token".to_owned(), text.expose().as_str().into());
        }
        told.lifetime = Some(ends.since(call.now).as_secs());
        told.key = issued.key.clone();
        told.scope = Some(scope);
        Ok(Value::Object(object))
    }

    /// Notes by what a family can be revoked, so that it is counted where that is asked.
    async fn is_out(&self, client: &Client, ticket: &Ticket, family: &Family, now: UnixTime) {
        let Some(account) = self.account(client) else {
            return;
        };
        let at = client.at.get(&ProviderId::new(&family.provider));
        let marks = family.marks(at.map(|at| at.id()), &account);
        let began = family.began.map_or(now, UnixTime::from_millis);
        let span = (began, UnixTime::from_millis(family.ends));
        let row = ticket.row();
        let noted = self.deps.revocations.is_out(&row, &marks, span);
        if let Err(error) = noted.await {
            debug!(%error, "A refresh token is not counted where that is asked.");
        }
    }

    /// What a text stands for, if it may be a refresh token of this client.
    pub(super) fn ticket(&self, client: &Client, text: &str) -> Option<Ticket> {
        if Ticket::is_ours(text) {
            return Ticket::parse(text);
        }
        let provider = client.settings.refresh.adopt.as_ref()?;
        Some(Ticket::of_provider(provider, &client.settings.id, text))
    }

    fn adopted(&self, client: &Client, text: &str, now: UnixTime) -> Option<Adopted> {
        let policy = &client.settings.refresh;
        let provider = policy.adopt.as_ref().filter(|_| !Ticket::is_ours(text))?;
        Some(Adopted {
            provider: provider.clone(),
            token: Secret::new(text.to_owned()),
            audience: match &*client.settings.audiences {
                [only] => Some(only.clone()),
                _ => None,
            },
            ends: now + policy.max,
        })
    }

    /// A family is over: here at once, at its provider as soon as that can be told. With it go the provider's access
    /// tokens, as far as anybody looks at them through us: of one that is over already, too, if that could not be done then.
    pub(super) async fn end(
        &self,
        call: &Call<'_>,
        client: &Client,
        ticket: &Ticket,
    ) -> Result<(), Not> {
        let ended = self.families.end(ticket, call.now).await;
        let Some(mut family) = ended.or(Err(Not::Later(5, "store")))? else {
            return Ok(());
        };
        if let Err(error) = self.deps.revocations.is_back(&ticket.row()).await {
            debug!(%error, "A refresh token that is over is counted until it would have ended.");
        }
        let provider = ProviderId::new(&family.provider);
        if let (Some(at), Some(upstream)) = (client.at.get(&provider), family.upstream.take()) {
            let token = Secret::new(upstream);
            self.farewells.tell(&provider, at, token, call.now);
        }
        if family.access.is_none() {
            return Ok(());
        }
        let all = family.living(call.now);
        each_of(all, |token| async move {
            let ended = self.revoke_access(call, client, token, By::Family).await;
            ended.map(drop)
        })
        .await?;
        // Not before: whoever comes again must find what is left to be done.
        self.families.settle(ticket, call.now).await;
        Ok(())
    }

    /// A refresh token of a provider's own that was never brought is over before it could be.
    pub(super) async fn bury(
        &self,
        call: &Call<'_>,
        client: &Client,
        ticket: &Ticket,
    ) -> Result<(), Not> {
        let policy = &client.settings.refresh;
        let Some(provider) = &policy.adopt else {
            return Ok(());
        };
        let terms = Terms {
            client: &client.settings.id,
            provider,
            audience: "",
            ends: call.now + policy.max,
        };
        let buried = self.families.bury(ticket, terms, call.now).await;
        if buried.or(Err(Not::Later(5, "store")))? {
            return Ok(());
        }
        // Somebody brought it meanwhile.
        self.end(call, client, ticket).await
    }

    pub(super) fn new_families(
        deps: &crate::issuer::Deps,
    ) -> (std::sync::Arc<Families>, Farewells) {
        let families = Families::new(
            deps.store.clone(),
            deps.sessions.clone(),
            deps.entropy.clone(),
        );
        let metrics = deps.reports.metrics.clone();
        (
            families.into(),
            Farewells::new(deps.background.clone(), metrics),
        )
    }
}
