//! The provider's side of a refresh: its refresh token is used once, by one request of one instance, and what comes of it is
//! written down before anybody gets it. Runs on the background, and to its end, whatever becomes of the client.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::Thumbprint;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;
use crate::issuer::build::Resources;
use crate::issuer::refresh::families::Families;
use crate::issuer::refresh::families::Look;
use crate::issuer::refresh::family::Family;
use crate::issuer::refresh::family::Place;
use crate::issuer::refresh::family::Terms;
use crate::issuer::refresh::family::Ticket;
use crate::issuer::refresh::farewell::Farewells;
use crate::providers::Issued;
use crate::providers::ProviderError;
use crate::providers::TokenClient;
use crate::secret::Secret;
use crate::store::Expect;
use crate::store::StoreError;

/// Longer than a provider is waited for: the instance that held it is gone.
const LEASE: Duration = Duration::from_secs(60);
/// Whoever waits for another request waits for at most 20 s, and looks each 40 ms.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(40);

/// An access token that ends so soon is not handed on.
const SOON: Duration = Duration::from_secs(10);

/// One renewal.
pub(super) struct Renewal {
    pub(super) families: Arc<Families>,
    pub(super) farewells: Farewells,
    /// The client's registrations.
    pub(super) at: std::collections::HashMap<ProviderId, Arc<TokenClient>>,
    pub(super) client: Box<str>,
    pub(super) ticket: Ticket,
    /// The key that its client has proved to hold.
    pub(super) proven: Option<Thumbprint>,
    /// What a refresh token of a provider's own becomes.
    pub(super) adopted: Option<Adopted>,
    /// The old side, if that is closed for good: it is not asked for anything any more, and gets back what it has given.
    pub(super) closed: Option<ProviderId>,
    /// What was asked for; empty: all.
    pub(super) scopes: Vec<Box<str>>,
    /// For whom, if that was said.
    pub(super) audience: Option<Box<str>>,
    /// What providers call that.
    pub(super) resources: Resources,
    pub(super) now: UnixTime,
}

/// A refresh token of a provider's own, and what its family is made for.
pub(super) struct Adopted {
    pub(super) provider: ProviderId,
    pub(super) token: Secret<String>,
    pub(super) audience: Option<Box<str>>,
    pub(super) ends: UnixTime,
}

/// An access token of the provider, ready to be judged.
pub(in crate::issuer) struct Renewed {
    pub(super) family: Family,
    pub(super) audience: Box<str>,
    pub(super) token: Secret<String>,
    /// Whether it is for that audience as it is.
    pub(super) is_for: bool,
}

/// Why there is none.
pub(super) enum NotRenewed {
    /// Of the answer alone.
    Not(Not),
    /// The token was used before: somebody else has it too.
    Stolen,
    /// Its family has been ended.
    Over,
}

impl From<Not> for NotRenewed {
    fn from(not: Not) -> Self {
        Self::Not(not)
    }
}

impl From<StoreError> for NotRenewed {
    fn from(_: StoreError) -> Self {
        Self::Not(Not::Later(5, "store"))
    }
}

fn over(why: &'static str) -> NotRenewed {
    NotRenewed::Not(Not::Denied(Denied::InvalidGrant, why))
}

/// What a look says.
enum Step {
    /// An access token is at hand.
    Ready(Family),
    /// The provider must be asked.
    Ask(Option<(Family, u64)>),
}

impl Renewal {
    pub(super) async fn run(self) -> Result<Renewed, NotRenewed> {
        let family = self.family().await?;
        let at = self.registration(&family.provider)?;
        let audience = match &self.audience {
            Some(audience) => audience.clone(),
            None => family.audience.as_str().into(),
        };
        let provider = ProviderId::new(&family.provider);
        let resource = self.resources.of(&audience, &provider);
        let access = family.access.as_ref();
        let token = access.map(|access| Secret::new(access.token.clone()));
        let token = token.ok_or_else(|| over("inactive"))?;
        let wanted = resource.as_deref().unwrap_or(&audience);
        Ok(Renewed {
            is_for: at.is_for(&token, wanted, self.now).await,
            audience,
            token,
            family,
        })
    }

    async fn family(&self) -> Result<Family, NotRenewed> {
        let began = Instant::now();
        loop {
            if let Step::Ready(family) = self.step().await? {
                return Ok(family);
            }
            let at = self.now + began.elapsed();
            if let Some(lease) = self.families.lease(&self.ticket, LEASE, at).await? {
                let asked = self.with_lease().await;
                self.families.release(&lease).await;
                if let Some(family) = asked? {
                    return Ok(family);
                }
            }
            if PATIENCE < began.elapsed() {
                return Err(Not::Later(5, "timeout").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What is known without asking.
    async fn step(&self) -> Result<Step, NotRenewed> {
        let (family, version) = match self.families.look(&self.ticket, self.now).await? {
            Look::Absent => {
                let adopted = self.adopted.as_ref().ok_or_else(|| over("inactive"))?;
                if self.closed.as_ref() != Some(&adopted.provider) {
                    return Ok(Step::Ask(None));
                }
                // It was never brought: there is no family to end.
                let at = self.registration(adopted.provider.as_str())?;
                let token = adopted.token.clone();
                self.farewells
                    .tell_once(&adopted.provider, at, token, self.now);
                return Err(over("revoked"));
            }
            Look::Lost => return Err(over("inactive")),
            Look::Open(family, version) => (family, version),
        };
        if *family.client != *self.client {
            return Err(over("wrong_client"));
        }
        // Before anything follows of it: whoever has the token without its key neither uses it nor ends what it stands for.
        let proven = self.proven.map(|key| key.to_string());
        if family.bound.is_some() && family.bound != proven {
            return Err(over("pop_failed"));
        }
        let place = family.place(&self.ticket, self.now);
        match place {
            Place::Over => return Err(NotRenewed::Over),
            Place::Spent => return Err(NotRenewed::Stolen),
            Place::Current | Place::Before => {}
        }
        if self.closed.as_ref().map(ProviderId::as_str) == Some(&*family.provider) {
            return Err(NotRenewed::Over);
        }
        if !family.is_for(self.audience.as_deref()) {
            return Err(Not::Denied(Denied::InvalidTarget, "audience").into());
        }
        let good = family.access.as_ref().is_some_and(|access| {
            (access.fresh || place == Place::Before)
                && (self.now + SOON).as_millis() < access.ends
                && access
                    .scopes
                    .iter()
                    .map(String::as_str)
                    .eq(self.scopes.iter().map(|s| &**s))
        });
        Ok(if good {
            Step::Ready(*family)
        } else {
            Step::Ask(Some((*family, version)))
        })
    }

    /// Asks the provider; `None`: look again.
    async fn with_lease(&self) -> Result<Option<Family>, NotRenewed> {
        // Whoever held the lease before may have been done between the look and the lease.
        let found = match self.step().await? {
            Step::Ready(family) => return Ok(Some(family)),
            Step::Ask(found) => found,
        };
        let (provider, upstream) = match (&found, &self.adopted) {
            (Some((family, _)), _) => {
                let upstream = family.upstream.clone().ok_or_else(|| over("inactive"))?;
                (ProviderId::new(&family.provider), Secret::new(upstream))
            }
            (None, Some(adopted)) => (adopted.provider.clone(), adopted.token.clone()),
            (None, None) => return Err(over("inactive")),
        };
        let at = self.registration(provider.as_str())?;
        let audience = self.audience.as_deref().or(match (&found, &self.adopted) {
            (Some((family, _)), _) => Some(family.audience.as_str()),
            (None, adopted) => adopted.as_ref().and_then(|own| own.audience.as_deref()),
        });
        let resource = audience.and_then(|audience| self.resources.of(audience, &provider));
        let asked = (&*self.scopes, resource.as_deref());
        match at.refresh(&upstream, asked, self.now).await {
            Ok(issued) => self
                .keep(found, &provider, &upstream, issued)
                .await
                .map(Some),
            Err(ProviderError::Rejected(Refusal::ExchangeRefused)) => {
                Err(Not::Denied(Denied::InvalidScope, "insufficient_scope").into())
            }
            Err(ProviderError::Rejected(refusal)) => {
                self.refused(found.map(|(_, version)| version), refusal)
                    .await
            }
            Err(ProviderError::Unavailable {
                outage,
                retry_after,
            }) => {
                let after = retry_after.map_or(5, |after| after.as_secs().max(1));
                Err(Not::Later(after, outage.as_str()).into())
            }
        }
    }

    /// The provider does not take its token. If somebody has renewed it meanwhile without the lease, that counts.
    async fn refused(
        &self,
        version: Option<u64>,
        refusal: Refusal,
    ) -> Result<Option<Family>, NotRenewed> {
        if let Look::Open(_, now) = self.families.look(&self.ticket, self.now).await?
            && version != Some(now)
        {
            return Ok(None);
        }
        if version.is_some() && self.families.end(&self.ticket, self.now).await?.is_some() {
            info!(client = &*self.client, reason = %refusal, "The owner of a refresh token refused to renew it; its family is over.");
            // It knows of its own access token.
            self.families.settle(&self.ticket, self.now).await;
        }
        Err(over(refusal.as_str()))
    }

    /// Writes what the provider gave out; it cannot be had again.
    async fn keep(
        &self,
        found: Option<(Family, u64)>,
        provider: &ProviderId,
        spent: &Secret<String>,
        issued: Issued,
    ) -> Result<Family, NotRenewed> {
        let fill = |family: &mut Family| {
            let fresh = family.place(&self.ticket, self.now) == Place::Current;
            family.fill(&issued, &self.scopes, fresh, self.now);
        };
        let (mut family, expect) = match (found, &self.adopted) {
            (Some((family, version)), _) => (family, Expect::Version(version)),
            (None, Some(adopted)) => {
                let audience = adopted.audience.as_deref().unwrap_or_default();
                let terms = Terms {
                    client: &self.client,
                    provider,
                    audience,
                    ends: adopted.ends,
                };
                (Family::new(&self.ticket, terms, None), Expect::Absent)
            }
            (None, None) => return Err(over("inactive")),
        };
        // A provider that gives no new one means the old one.
        family.upstream = Some(spent.expose().clone());
        fill(&mut family);
        let families = &self.families;
        if families
            .offer(&self.ticket, &family, expect, self.now)
            .await?
        {
            return Ok(family);
        }
        // Somebody got ahead with a token that was forgiven, or ended the family.
        let mut renewed = None;
        families
            .change(&self.ticket, self.now, |family| {
                fill(family);
                renewed = Some(family.clone());
                Some(())
            })
            .await?;
        match renewed {
            Some(family) => Ok(family),
            None => {
                let at = self.registration(provider.as_str())?;
                let token = issued.refresh_token.as_ref().unwrap_or(spent);
                self.farewells.tell(provider, at, token.clone(), self.now);
                Err(over("revoked"))
            }
        }
    }

    fn registration(&self, provider: &str) -> Result<&Arc<TokenClient>, NotRenewed> {
        let at = self.at.get(&ProviderId::new(provider));
        at.ok_or_else(|| over("no_link"))
    }
}
