//! What a client asks for itself (RFC 6749 §4.4), at the provider that it belongs to. What it proves to hold that provider does
//! not see: then the client gets a token that we mint of it, and that is bound, or none.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tracing::error;
use tracing::warn;

use crate::auth;
use crate::auth::Admitted;
use crate::auth::ForClient;
use crate::clock::UnixTime;
use crate::identity;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::Thumbprint;
use crate::issuer::Call;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;
use crate::issuer::build::Client;
use crate::issuer::build::Issuer;
use crate::issuer::form::success;
use crate::issuer::grants::LATER;
use crate::issuer::grants::Told;
use crate::issuer::grants::UNBOUND;
use crate::providers;
use crate::providers::Authenticated;
use crate::providers::Issued;
use crate::providers::ProviderError;
use crate::providers::Wanted;
use crate::revocation::HandOut;
use crate::secret::Secret;

/// How much later than asked for a provider's token may end: its clock is not ours.
const LEEWAY: Duration = Duration::from_secs(30);

/// Nobody can say whose a token is that cannot be read: nothing is made of it.
const UNREADABLE: Not = Not::Denied(Denied::InvalidTarget, "exchange_refused");

impl Issuer {
    /// RFC 6749 §4.4, at the provider that the client belongs to.
    pub(super) async fn for_itself(
        &self,
        call: &Call<'_>,
        client: &Client,
        side: &ProviderId,
        (audience, scopes, proven): (&str, Option<&[Box<str>]>, Option<Thumbprint>),
        told: &mut Told,
    ) -> Result<Value, Not> {
        let most = &client.settings.scopes;
        let scopes = scopes.unwrap_or(most);
        if !scopes.iter().all(|scope| most.contains(scope)) {
            return Err(Not::Denied(Denied::InvalidScope, "insufficient_scope"));
        }
        if proven.is_some() && !self.binds(audience) {
            return Err(UNBOUND);
        }
        let shown = client.shown(call.channel.certificate);
        let binds = proven.is_some()
            || shown.is_some() && self.binds(audience) && self.always_binds(audience);
        let epoch = call.gate.rests_on(side);
        let issued = self.fetched(call, client, side, (audience, scopes)).await?;
        // What was revoked while its provider was asked is not handed out: by its name here nothing would end it later.
        self.side(call, client)?;
        let said = issued.scopes.iter().chain(
            issued
                .proof
                .as_ref()
                .map(|proof| &proof.identity().scopes)
                .filter(|said| !said.is_empty()),
        );
        // Nothing was asked for, nothing is said, and nobody can look: it may do whatever the provider gives by default.
        if scopes.is_empty() && issued.scopes.is_none() && issued.proof.is_none() {
            warn!(provider = %side, client = &*client.settings.id, "Nobody can say what a token may do; it is not issued.");
            return Err(Not::Denied(Denied::InvalidScope, "exchange_refused"));
        }
        let mut granted = scopes;
        for said in said {
            if !said.iter().all(|scope| most.contains(scope)) {
                warn!(provider = %side, client = &*client.settings.id, "A token can do more than its client may have; it is not issued.");
                return Err(Not::Denied(Denied::InvalidScope, "exchange_refused"));
            }
            granted = said;
        }
        let last = call.now + client.settings.max_life + LEEWAY;
        let own = issued.proof.as_ref().map(Authenticated::life_ends);
        let too_long = own.is_some_and(|own| own != UnixTime::NEVER && last < own);
        let Some(ends) = issued.ends.filter(|ends| *ends <= last && !too_long) else {
            warn!(provider = %side, client = &*client.settings.id, "A token lives longer than its client may have, or nobody says how long; it is not issued.");
            return Err(Not::Denied(Denied::InvalidTarget, "exchange_refused"));
        };
        if binds {
            let wanted = ForClient {
                asker: self.asker(client),
                exchanges: self.audiences.get(audience).map_or(&[][..], Vec::as_slice),
                scopes: Some(granted),
                most,
                proven,
                certificate: shown,
                max_life: client.settings.max_life,
                own: None,
                addressed: false,
                over: None,
            };
            return self
                .bound(call, client, (&issued, epoch, &wanted), told)
                .await;
        }
        let own = own.filter(|own| *own != UnixTime::NEVER);
        self.notes_own(call, client, side, (&issued, own.max(Some(ends))))
            .await?;
        let scope = granted.join(" ");
        let object = success((issued.token.expose(), None), ends, &scope, call.now);
        let object = object.ok_or(Not::Later(LATER, "malformed"))?;
        told.lifetime = Some(ends.since(call.now).as_secs());
        told.scope = Some(scope);
        Ok(Value::Object(object))
    }

    /// Notes what a client gets for itself, before it gets it: whatever ends the client ends it, also where others share its
    /// registration, and a revocation says how many it ends.
    async fn notes_own(
        &self,
        call: &Call<'_>,
        client: &Client,
        side: &ProviderId,
        (issued, ends): (&Issued, Option<UnixTime>),
    ) -> Result<(), Not> {
        let account = self.account(client);
        let account = account.ok_or(Not::Denied(Denied::InvalidClient, "bad_credentials"))?;
        let parent = call
            .gate
            .standing_of_client((&account, &client.at), side, call.now);
        let token = HandOut {
            token: issued.token.expose(),
            client: Some(&account),
            minted: false,
            key: None,
            parent: &parent,
            owner: side,
            origin: None,
            ends: ends.unwrap_or(call.now),
        };
        let ends = token.ends;
        let noted = self.deps.revocations.hands_out(token, call.now).await;
        let noted = noted.or(Err(Not::Later(LATER, "store")))?;
        // What was revoked while that was noted is not handed out either.
        self.side(call, client)?;
        if noted {
            Ok(())
        } else {
            // The client may have a token, and its provider has no other one yet.
            Err(Not::given_back(ends, call.now))
        }
    }

    /// What the provider gives.
    async fn fetched(
        &self,
        call: &Call<'_>,
        client: &Client,
        side: &ProviderId,
        (audience, scopes): (&str, &[Box<str>]),
    ) -> Result<Issued, Not> {
        let at = client
            .at
            .get(side)
            .ok_or(Not::Denied(Denied::UnauthorizedClient, "no_link"))?;
        let (at, now) = (Arc::clone(at), call.now);
        let (audiences, resources) = match self.resources.of(audience, side) {
            Some(resource) => (Vec::new(), vec![resource]),
            None => (vec![Box::from(audience)], Vec::new()),
        };
        let asked = scopes.to_vec();
        let task = self.deps.background.spawn(async move {
            let wanted = Wanted {
                audiences: &audiences,
                resources: &resources,
                scopes: &asked,
            };
            at.ask(providers::Grant::ClientCredentials, wanted, now)
                .await
        });
        let issued = task.await.unwrap_or_else(|error| {
            error!(provider = %side, %error, "A client's question broke off.");
            Err(identity::Outage::Shed.into())
        });
        issued.map_err(|why| match why {
            ProviderError::Rejected(Refusal::Policy) => {
                Not::Denied(Denied::InvalidScope, "insufficient_scope")
            }
            ProviderError::Rejected(refusal) => {
                Not::Denied(Denied::UnauthorizedClient, refusal.as_str())
            }
            ProviderError::Unavailable {
                outage,
                retry_after,
            } => Not::Later(
                retry_after.map_or(LATER, |after| after.as_secs().max(1)),
                outage.as_str(),
            ),
        })
    }

    /// The token that is minted of what a provider gave, and that is worth nothing without what the client has proved to hold.
    async fn bound(
        &self,
        call: &Call<'_>,
        client: &Client,
        fetched: (&Issued, Option<u64>, &ForClient<'_>),
        told: &mut Told,
    ) -> Result<Value, Not> {
        let mut admitted = self.minted_of(call, fetched, None).await?;
        let issued = admitted.issued().ok_or(UNREADABLE)?;
        let asked = (client, fetched.2.exchanges);
        if !self.notes(asked, (&admitted, issued), call.now).await? {
            // It has had this one, of the same token, and given it back: it is made anew.
            let over = issued.token.clone();
            admitted = self.minted_of(call, fetched, Some(&over)).await?;
            let issued = admitted.issued().ok_or(UNREADABLE)?;
            if !self.notes(asked, (&admitted, issued), call.now).await? {
                return Err(Not::Denied(Denied::InvalidTarget, "revoked"));
            }
        }
        told.person = Some(admitted.canonical().clone());
        let issued = admitted.issued().ok_or(UNREADABLE)?;
        // What was to be bound, and is not, is handed to nobody.
        let bound = issued.bound.as_ref().ok_or(UNBOUND)?;
        let scope = issued.scopes.join(" ");
        let ends = issued.ends.min(issued.own_end);
        let token = (issued.token.expose().as_str(), Some(bound));
        let object = success(token, ends, &scope, call.now);
        let object = object.ok_or(Not::Later(LATER, "malformed"))?;
        told.provider = None;
        told.key = issued.key.clone();
        told.lifetime = Some(ends.since(call.now).as_secs());
        told.scope = Some(scope);
        Ok(Value::Object(object))
    }

    /// What we make of a token that was fetched; never the one that is `over`.
    async fn minted_of(
        &self,
        call: &Call<'_>,
        (issued, epoch, wanted): (&Issued, Option<u64>, &ForClient<'_>),
        over: Option<&Secret<String>>,
    ) -> Result<Admitted, Not> {
        let wanted = &ForClient { over, ..*wanted };
        let proof = issued.proof.as_ref().ok_or(UNREADABLE)?;
        let headers = auth::bearer(issued.token.expose()).ok_or(UNREADABLE)?;
        let presented = auth::extract(
            &headers,
            None,
            call.policy.owners(),
            &[CredentialClass::Bearer],
        );
        let presented = presented
            .map_err(|why| Not::admitted(&why, call.policy))?
            .ok_or(UNREADABLE)?;
        let way = (&call.facts, &call.channel);
        let issued = call.gate.issue_own(
            call.policy,
            wanted,
            (&presented, proof, epoch),
            way,
            call.kill,
            call.now,
        );
        let issued = issued.await;
        issued.map_err(|why| Not::admitted(&why, call.policy))
    }
}
