//! What clients ask for: a token for another one (RFC 8693), or any other. Each request is told once, however it ends.

use serde_json::Value;

use crate::auth::Asker;
use crate::auth::ForClient;
use crate::auth::NotProven;
use crate::auth::Of;
use crate::auth::Query;
use crate::auth::TokenReport;
use crate::auth::beginning;
use crate::identity;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::identity::Thumbprint;
use crate::issuer::Call;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;
use crate::issuer::answer::Reply;
use crate::issuer::build::Client;
use crate::issuer::build::Issuer;
use crate::issuer::form::form;
use crate::issuer::form::scopes;
use crate::issuer::form::success;
pub(super) use crate::issuer::judged::judged;
use crate::issuer::settings::Grant;
use crate::telemetry::TokenEvent;

/// The types of tokens (RFC 8693 §3) that we take and give.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A client proves to hold a key, and what it asks for would be good without that key.
pub(super) const UNBOUND: Not = Not::Denied(Denied::InvalidRequest, "pop_failed");

/// `Retry-After` when nobody said how long.
pub(super) const LATER: u64 = 5;

/// What is told of one request, as far as it came.
#[derive(Default)]
pub(super) struct Told {
    pub(super) grant: Option<&'static str>,
    pub(super) client: Option<Box<str>>,
    pub(super) audience: Option<Box<str>>,
    pub(super) scope: Option<String>,
    pub(super) lifetime: Option<u64>,
    pub(super) parent: Option<String>,
    pub(super) provider: Option<ProviderId>,
    pub(super) person: Option<CanonicalSubject>,
    /// What a good answer says, where there is more than one.
    pub(super) outcome: Option<&'static str>,
    /// Why it says so.
    pub(super) reason: Option<&'static str>,
    /// What signed it, or what it was had with, where that is a key of ours.
    pub(super) key: Option<Box<str>>,
}

impl Issuer {
    /// The token endpoint.
    pub(super) async fn token(&self, call: &Call<'_>) -> Reply {
        let mut told = Told::default();
        let done = self.granted(call, &mut told).await;
        self.tell(call, &told, "issued", &done);
        reply(done)
    }

    async fn granted(&self, call: &Call<'_>, told: &mut Told) -> Result<Value, Not> {
        let form = form(call)?;
        let client = self.client(call, &form).await?;
        told.client = Some(client.settings.id.clone());
        let wanted = form
            .value("grant_type")
            .ok_or(Not::Denied(Denied::InvalidRequest, "grant_type"))?;
        let grant = Grant::ALL
            .into_iter()
            .find(|grant| grant.uri() == wanted)
            .ok_or(Not::Denied(Denied::UnsupportedGrantType, "grant_type"))?;
        told.grant = Some(grant.as_str());
        if !client.settings.grants.contains(&grant) {
            self.anomaly(&client.settings.id, "unusual_grant");
            return Err(Not::Denied(Denied::UnauthorizedClient, "grant_type"));
        }
        let (habits, id) = (&self.deps.habits, &client.settings.id);
        if !client.settings.public && habits.uses_another_grant(id, grant, call.now).await {
            self.anomaly(id, "unusual_grant");
        }
        let scopes = scopes(&form)?;
        let side = self.side(call, client)?;
        let proven = self.key_of(call, client).await?;
        match grant {
            Grant::TokenExchange => {
                let audience = Self::audience(client, &form)?;
                told.audience = Some(audience.into());
                let wanted = (audience, scopes.as_deref(), proven);
                self.exchanged(call, client, &form, wanted, told).await
            }
            Grant::RefreshToken => {
                let wanted = (scopes.as_deref(), proven);
                self.refreshed(call, client, &form, wanted, told).await
            }
            Grant::DeviceCode => self.polled(call, client, &form, proven, told).await,
            Grant::ClientCredentials => {
                let audience = Self::audience(client, &form)?;
                told.audience = Some(audience.into());
                told.provider = Some(side.clone());
                let wanted = (audience, scopes.as_deref(), proven);
                self.for_itself(call, client, &side, wanted, told).await
            }
        }
    }

    /// Whom the token is for: one whom the client may name.
    pub(super) fn audience<'f>(client: &Client, form: &'f Query) -> Result<&'f str, Not> {
        if form.given("resource").is_some() {
            return Err(Not::Denied(Denied::InvalidTarget, "resource"));
        }
        let audience = form
            .value("audience")
            .ok_or(Not::Denied(Denied::InvalidRequest, "audience"))?;
        let may = client
            .settings
            .audiences
            .iter()
            .any(|own| **own == *audience);
        if may {
            Ok(audience)
        } else {
            Err(Not::Denied(Denied::InvalidTarget, "audience"))
        }
    }

    /// Who asks, for the gate.
    pub(super) fn asker<'a>(&'a self, client: &'a Client) -> Asker<'a> {
        Asker {
            id: &client.settings.id,
            issuer: &self.issuer,
            at: &client.at,
        }
    }

    /// The key that a client has proved to hold with its request (RFC 9449 §5): what it gets is bound to it, or nothing is given.
    async fn key_of(&self, call: &Call<'_>, client: &Client) -> Result<Option<Thumbprint>, Not> {
        let possession = call.gate.possession();
        let way = (&call.facts, &call.channel);
        let account = self.account(client);
        let account = account.ok_or(Not::Denied(Denied::InvalidClient, "bad_credentials"))?;
        let proven = possession.of_request(&account, call.headers, way, call.now);
        let proven = proven.await;
        proven.map_err(|why| match why {
            NotProven::Proof => Not::Denied(Denied::InvalidDpopProof, "pop_failed"),
            NotProven::Nonce => Not::Denied(Denied::UseDpopNonce, "pop_failed"),
            NotProven::Store => Not::Later(LATER, "store"),
        })
    }

    /// A client, as if it were somebody of ours.
    pub(super) fn account(&self, client: &Client) -> Option<SubjectKey> {
        Some(SubjectKey {
            issuer: identity::Issuer::new(&self.issuer),
            subject: Subject::try_from(&*client.settings.id).ok()?,
        })
    }

    /// The provider that the client belongs to now. A client that was revoked gets nothing.
    pub(super) fn side(&self, call: &Call<'_>, client: &Client) -> Result<ProviderId, Not> {
        let account = self.account(client);
        let account = account.ok_or(Not::Denied(Denied::InvalidClient, "bad_credentials"))?;
        let way = (&call.facts, &call.channel);
        call.gate
            .side_of_client(
                call.policy,
                (&account, &client.at),
                way,
                call.kill,
                call.now,
            )
            .map_err(|why| match Not::admitted(&why, call.policy) {
                Not::Denied(_, reason) => Not::Denied(Denied::InvalidClient, reason),
                other @ (Not::Later(..) | Not::Limited(_)) => other,
            })
    }

    /// RFC 8693 §2.
    async fn exchanged(
        &self,
        call: &Call<'_>,
        client: &Client,
        form: &Query,
        (audience, scopes, proven): (&str, Option<&[Box<str>]>, Option<Thumbprint>),
        told: &mut Told,
    ) -> Result<Value, Not> {
        let bad = |why| Err(Not::Denied(Denied::InvalidRequest, why));
        if form.given("actor_token").is_some() || form.given("actor_token_type").is_some() {
            return bad("actor_token");
        }
        let types = [ACCESS_TOKEN, JWT];
        if !form
            .value("subject_token_type")
            .is_some_and(|kind| types.contains(&kind))
        {
            return bad("subject_token_type");
        }
        if form
            .given("requested_token_type")
            .is_some_and(|kind| !types.contains(&kind))
        {
            return bad("requested_token_type");
        }
        let Some(token) = form.value("subject_token") else {
            return bad("subject_token");
        };
        told.parent = Some(beginning(token));
        let wanted = ForClient {
            asker: self.asker(client),
            exchanges: self.audiences.get(audience).map_or(&[][..], Vec::as_slice),
            scopes,
            most: &client.settings.scopes,
            proven,
            certificate: client.shown(call.channel.certificate),
            max_life: client.settings.max_life,
            own: None,
            addressed: client.settings.addressed,
            over: None,
        };
        let admitted = judged(call, token, Some(&wanted)).await?;
        told.person = Some(admitted.canonical().clone());
        self.limited(call, Of::Subject(admitted.canonical().as_str()))
            .await?;
        let wanted = (client, &wanted);
        let admitted = self.hands_out(call, wanted, token, admitted).await?;
        let issued = admitted
            .issued()
            .ok_or(Not::Denied(Denied::InvalidTarget, "exchange_refused"))?;
        let scopes = issued.scopes.join(" ");
        let ends = issued.ends.min(issued.own_end);
        let token = (issued.token.expose().as_str(), issued.bound.as_ref());
        let object = success(token, ends, &scopes, call.now);
        let mut object = object.ok_or(Not::Denied(Denied::InvalidRequest, "expired"))?;
        object.insert("issued_token_type".to_owned(), ACCESS_TOKEN.into());
        told.lifetime = Some(ends.since(call.now).as_secs());
        told.scope = Some(scopes);
        told.key = issued.key.clone();
        Ok(Value::Object(object))
    }

    /// Tells of one request, however it ended.
    pub(super) fn tell(
        &self,
        call: &Call<'_>,
        told: &Told,
        good: &'static str,
        done: &Result<Value, Not>,
    ) {
        let (outcome, reason) = match done {
            Ok(_) => (told.outcome.unwrap_or(good), told.reason),
            Err(Not::Denied(_, reason)) => ("refused", Some(*reason)),
            Err(Not::Later(_, reason)) => ("unavailable", Some(*reason)),
            Err(Not::Limited(_)) => ("limited", Some("rate_limited")),
        };
        if let Some(client) = told.client.as_deref() {
            let (habits, now) = (&self.deps.habits, call.now);
            self.guessed(call, client, done);
            if outcome == "refused" && habits.is_refused(client, now) {
                self.anomaly(client, "many_refused");
            }
            if outcome == "revoked" && habits.gives_back(client, now) {
                self.anomaly(client, "many_given_back");
            }
        }
        self.deps.reports.token(&TokenReport {
            app: &self.app,
            person: told.person.as_ref(),
            now: call.now,
            source: call.channel.source,
            event: TokenEvent {
                grant: told.grant.unwrap_or("none"),
                client: told.client.as_deref(),
                audience: told.audience.as_deref(),
                scope: told.scope.as_deref(),
                lifetime: told.lifetime,
                parent: told.parent.as_deref(),
                provider: told.provider.as_ref(),
                key: told.key.as_deref(),
                outcome,
                reason,
            },
        });
    }
}

pub(super) fn reply(done: Result<Value, Not>) -> Reply {
    match done {
        Ok(object) => Reply::Said(object),
        Err(Not::Denied(denied, _)) => Reply::Denied(denied),
        Err(Not::Later(seconds, _)) => Reply::Later(seconds),
        Err(Not::Limited(standing)) => Reply::Limited(standing),
    }
}
