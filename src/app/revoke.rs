//! Revocations as operators ask for them: whom they put out, said before it happens.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::warn;

use crate::admin::CONFIRM_ABOVE;
use crate::admin::LiftAnswer;
use crate::admin::LiftRequest;
use crate::admin::RevocationView;
use crate::admin::RevokeAnswer;
use crate::admin::RevokeFailure;
use crate::admin::RevokeRequest;
use crate::admin::SessionView;
use crate::config::settings::Settings;
use crate::identity::ProviderId;
use crate::issuer::settings::Grant;
use crate::providers::Ability;
use crate::providers::Providers;
use crate::revocation::Affected;
use crate::revocation::Asked;
use crate::revocation::ListError;
use crate::revocation::Login;
use crate::revocation::Record;
use crate::revocation::RevocationId;
use crate::revocation::Revocations;
use crate::revocation::Source;
use crate::revocation::Target;
use crate::store::StoreError;

/// Sessions that an answer shows.
const SHOWN: usize = 20;

/// Revocations that a list shows.
const LISTED: usize = 1_000;

/// A key that must never count again is out of use much longer than any token lives: one year.
pub(super) const KEY_KEPT: Duration = Duration::from_secs(365 * 86_400);

/// Revokes, or only says whom that would put out.
pub(super) async fn revoke(
    list: &Revocations,
    settings: &Settings,
    wanted: RevokeRequest,
    actor: &str,
) -> Result<RevokeAnswer, RevokeFailure> {
    let provider = provider(&wanted.target);
    if let Some(provider) = &provider
        && !settings.providers.iter().any(|p| p.id == *provider)
    {
        let what = format!("there is no provider `{provider}`");
        return Err(RevokeFailure::Request(what));
    }
    wanted.target.mark().map_err(RevokeFailure::Request)?;
    if !wanted.plan && wanted.reason.trim().is_empty() {
        let what = String::from("a reason is needed; it is recorded");
        return Err(RevokeFailure::Request(what));
    }
    let affected = list
        .affected(&wanted.target)
        .await
        .map_err(|error| away(&error))?;
    let sessions = affected.sessions.len();
    let tokens = list.refresh_tokens(&wanted.target).await;
    let (tokens, more) = tokens.map_err(|error| away(&error))?;
    let access = list.access_tokens(&wanted.target).await;
    let (access, more_access) = access.map_err(|error| away(&error))?;
    let more = more || more_access || affected.more;
    // Those that it ends are counted before; of a whole provider all sessions are looked at, and nothing waits for that.
    let wide = matches!(
        wanted.target,
        Target::Client { .. } | Target::Provider { .. } | Target::Key { .. }
    );
    let first = wanted.plan || !wide;
    let unread = if first {
        list.unread_of(&wanted.target).await
    } else {
        Ok(0)
    };
    let (unread, more) = match unread {
        Ok(unread) => (unread, more),
        Err(error) if wanted.plan => return Err(away(&error)),
        Err(error) => {
            warn!(%error, "How many sessions that cannot be read here a revocation ends is not known.");
            (0, true)
        }
    };
    let mut answer = RevokeAnswer {
        revocation: None,
        sessions,
        unread,
        refresh_tokens: tokens,
        access_tokens: access,
        at_least: more,
        shown: affected.sessions.iter().take(SHOWN).map(session).collect(),
        durable: list.is_durable(),
    };
    if wanted.plan {
        return Ok(answer);
    }
    let all = sessions + tokens + access;
    if CONFIRM_ABOVE < all && wanted.confirm.is_none_or(|confirmed| confirmed < all) {
        return Err(RevokeFailure::Confirm {
            sessions,
            tokens,
            access,
            more,
        });
    }
    let keep = wanted.keep_seconds.map(Duration::from_secs);
    let asked = Asked {
        keep: match wanted.target {
            Target::Key { .. } => Some(keep.unwrap_or(KEY_KEPT)),
            Target::Subject { .. }
            | Target::Account { .. }
            | Target::Session { .. }
            | Target::ProviderSession { .. }
            | Target::Client { .. }
            | Target::Provider { .. }
            | Target::Token { .. }
            | Target::TokenDigest { .. } => keep,
        },
        target: wanted.target.clone(),
        source: Source::Operator,
        actor: actor.to_owned(),
        reason: wanted.reason,
        provider,
    };
    let record = list.revoke(asked).await.map_err(failed)?;
    answer.revocation = Some(view(&record));
    if !first {
        match list.unread_of(&wanted.target).await {
            Ok(unread) => answer.unread = unread,
            Err(error) => {
                warn!(%error, "How many sessions that cannot be read here a revocation may mean is not known.");
                answer.at_least = true;
            }
        }
    }
    Ok(answer)
}

/// What is in force, or was lifted.
pub(super) async fn list(list: &Revocations) -> Result<Vec<RevocationView>, RevokeFailure> {
    let records = list.list(LISTED).await.map_err(|error| away(&error))?;
    Ok(records.iter().map(view).collect())
}

/// Takes one back.
pub(super) async fn lift(
    list: &Revocations,
    wanted: &LiftRequest,
    actor: &str,
    owners: &Owners,
) -> Result<LiftAnswer, RevokeFailure> {
    let id = RevocationId::parse(&wanted.id).ok_or(RevokeFailure::Unknown)?;
    if wanted.reason.trim().is_empty() {
        let what = String::from("a reason is needed; it is recorded");
        return Err(RevokeFailure::Request(what));
    }
    let lifted = list.lift(id, actor, &wanted.reason).await.map_err(failed)?;
    Ok(LiftAnswer {
        revocation: view(&lifted.record),
        before: lifted.before,
        destroyed: destroyed(list, &lifted.record, owners).await,
    })
}

/// Where what is over here is ended, too.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    /// Providers that take back the refresh tokens of sessions.
    takes_back: Vec<ProviderId>,
    /// Those that are asked about what is presented, and are told once it is over.
    asked: Vec<ProviderId>,
    /// Whether clients of our token endpoint have refresh tokens.
    refreshes: bool,
}

impl Owners {
    /// Of what runs.
    pub(super) fn of(providers: &Providers, settings: &Settings) -> Self {
        let able = || {
            let all = providers.iter();
            all.filter(|one| one.abilities().contains(&Ability::Revoke))
        };
        let asked = able().filter(|one| {
            let owns = one.owns();
            owns.opaque.is_some() || !owns.cookies.is_empty()
        });
        let clients = settings.issuer.iter().flat_map(|issuer| &issuer.clients);
        Self {
            asked: asked.map(|one| one.id().clone()).collect(),
            takes_back: able().map(|one| one.id().clone()).collect(),
            refreshes: clients
                .flat_map(|client| &client.grants)
                .any(|grant| *grant == Grant::RefreshToken),
        }
    }

    /// What has come while it held: nobody counts it, and its owner may not have been there.
    fn came(&self, of: Option<&ProviderId>) -> impl Iterator<Item = String> {
        let all = self.asked.iter();
        all.filter(move |id| of.is_none_or(|of| of == *id)).map(|id| {
            format!("whichever opaque tokens and sessions of {id} came while it held: they were to be given back there")
        })
    }
}

/// What a revocation ended for good when it was made, and while it held, in words: nothing that names a person.
async fn destroyed(list: &Revocations, record: &Record, owners: &Owners) -> Vec<String> {
    let target = record.details.as_ref().and_then(|d| d.target.as_ref());
    let target = match target {
        Some(Target::Token { .. } | Target::TokenDigest { .. })
            if record.source == Source::Client =>
        {
            return vec![
                "the token at its provider, where that takes tokens back: its client gave it back (RFC 7009), and whoever asks there is told so"
                    .to_owned(),
            ];
        }
        Some(Target::Token { .. } | Target::TokenDigest { .. }) => {
            return owners.came(None).collect();
        }
        Some(
            target @ (Target::Subject { .. }
            | Target::Account { .. }
            | Target::Session { .. }
            | Target::ProviderSession { .. }
            | Target::Client { .. }
            | Target::Provider { .. }
            | Target::Key { .. }),
        ) => Some(target),
        None => None,
    };
    let of = target.and_then(provider);
    let unknown = "sessions that ran when it was made, and their refresh tokens at the provider";
    let kept = match target {
        Some(target) => list.kept_of(target).await.ok(),
        None => None,
    };
    let mut gone = match kept {
        Some(kept) => sessions(&kept, record, owners),
        None => vec![unknown.to_owned()],
    };
    gone.extend(owners.came(of.as_ref()));
    match target {
        Some(Target::Session { .. } | Target::ProviderSession { .. }) | None => {}
        Some(_) if owners.refreshes => gone.push(
            "whichever refresh tokens of `token_endpoint` clients used while it held; the others count again"
                .to_owned(),
        ),
        Some(_) => {}
    }
    gone
}

/// The sessions that ran when it was made.
fn sessions(kept: &Affected, record: &Record, owners: &Owners) -> Vec<String> {
    let made = record.at.as_millis();
    let ran = |login: &&Login| login.began <= made && made <= login.ends;
    let sessions: Vec<&Login> = kept.sessions.iter().filter(ran).collect();
    let mut by_provider: BTreeMap<&str, usize> = BTreeMap::new();
    for login in &sessions {
        *by_provider.entry(&login.provider).or_default() += 1;
    }
    let at_least = if kept.more { "at least " } else { "" };
    let one = |(provider, count): (&str, usize)| {
        let plural = if count == 1 { "" } else { "s" };
        // Whether it took them `authferry_logout_fanout_total` says.
        let mut able = owners.takes_back.iter();
        let told = if able.any(|id| id.as_str() == provider) {
            "; their refresh tokens were to be given back there"
        } else {
            ""
        };
        format!("{at_least}{count} session{plural} at {provider} that ran when it was made{told}")
    };
    let mut gone: Vec<String> = by_provider.into_iter().map(one).collect();
    gone.extend(sessions.iter().take(SHOWN).map(|login| {
        let (session, provider, began) = (&login.session, &login.provider, login.began / 1_000);
        format!("session {session} at {provider}, since {began}")
    }));
    if SHOWN < sessions.len() {
        gone.push(format!("and {} more", sessions.len() - SHOWN));
    }
    gone
}

fn provider(target: &Target) -> Option<ProviderId> {
    match target {
        Target::Client { provider, .. }
        | Target::Provider { provider }
        | Target::Key { provider, .. } => Some(ProviderId::new(provider)),
        Target::Subject { .. }
        | Target::Account { .. }
        | Target::Session { .. }
        | Target::ProviderSession { .. }
        | Target::Token { .. }
        | Target::TokenDigest { .. } => None,
    }
}

fn session(login: &Login) -> SessionView {
    SessionView {
        session: login.session.clone(),
        provider: login.provider.clone(),
        began: login.began / 1_000,
    }
}

fn view(record: &Record) -> RevocationView {
    let details = record.details.clone();
    let (target, actor, reason) = details.map_or_else(Default::default, |details| {
        (details.target, details.actor, details.reason)
    });
    RevocationView {
        id: record.id.to_string(),
        target,
        source: record.source.as_str().to_owned(),
        actor,
        reason,
        at: record.at.as_secs(),
        expires: record.expires.as_secs(),
        lifted: record.lifted.map(crate::clock::UnixTime::as_secs),
    }
}

pub(super) fn failed(error: ListError) -> RevokeFailure {
    match error {
        ListError::Target(what) => RevokeFailure::Request(what),
        ListError::Unknown => RevokeFailure::Unknown,
        ListError::Final => RevokeFailure::Request(error.to_string()),
        ListError::Store(error) => away(&error),
    }
}

fn away(error: &StoreError) -> RevokeFailure {
    RevokeFailure::Store(error.to_string())
}
