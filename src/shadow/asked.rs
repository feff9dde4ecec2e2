//! What the other side says of somebody: by what was presented, by its directory, or by a token that it would issue.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::providers::Ability;
use crate::providers::Authenticated;
use crate::providers::Grant;
use crate::providers::Known;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Wanted;
use crate::secret::Secret;
use crate::shadow::compare::Side;
use crate::shadow::job::Job;
use crate::shadow::job::Question;
use crate::shadow::passwords;
use crate::shadow::weigh::Opinion;

/// How long a credential says itself that it is good for: of a password we only know how long it is believed.
pub(super) fn lifetime(class: CredentialClass, ends: UnixTime, now: UnixTime) -> Option<Duration> {
    match class {
        CredentialClass::ClientCert
        | CredentialClass::Bearer
        | CredentialClass::Opaque
        | CredentialClass::Refresh => (ends != UnixTime::NEVER).then(|| ends.since(now)),
        CredentialClass::Basic | CredentialClass::ApiKey | CredentialClass::Session => None,
    }
}

/// What the other side says.
pub(super) async fn ask(
    (job, background): (&Job, &Handle),
    control: &Side,
    now: UnixTime,
) -> Result<Opinion, ProviderError> {
    let read = |identity: &Arc<Identity>| job.block.reader.read(job.app(), identity, None);
    let provider = &job.source.provider;
    match &job.question {
        Question::Credential(credential)
        | Question::Again(credential)
        | Question::Beside(credential) => {
            if let (Credential::Basic { username, password }, Some(_)) =
                (credential, provider.second_passwords())
            {
                let (them, own) = ((provider, background), (&job.identity, control));
                return passwords::ask(them, (&**username, password), own, read, now).await;
            }
            let judged = match provider.judge_locally(credential, now) {
                Some(judged) => judged,
                None => {
                    let (provider, credential) = (Arc::clone(provider), credential.clone());
                    let judge = async move { provider.authenticate(&credential, now).await };
                    on(background, judge).await
                }
            };
            let proof = judged?;
            Ok(Opinion::Person(Side {
                lifetime: lifetime(job.class, proof.ends(), now),
                ..read(proof.identity())
            }))
        }
        Question::Exchange(token, audiences) => {
            let proof = exchanged((provider, background), token.clone(), audiences, now).await?;
            Ok(Opinion::Person(match proof {
                // How long it would count is for the provider to say anew.
                Some(proof) => Side {
                    lifetime: None,
                    ..read(proof.identity())
                },
                // It would issue one, and nobody here can read it.
                None => control.clone(),
            }))
        }
        Question::Person => {
            let (provider, value) = (Arc::clone(provider), job.known_by().map(str::to_owned));
            let found = on(background, async move {
                let directory = provider.directory().ok_or(Outage::Malformed)?;
                directory.find(&value.ok_or(Outage::Malformed)?, now).await
            });
            Ok(match found.await? {
                Known::Nobody => Opinion::Nobody,
                Known::Several => Opinion::Several,
                Known::Person { enabled: false, .. } => Opinion::Refused("disabled"),
                Known::Person { identity, .. } => Opinion::Person(Side {
                    // Scopes are of a token, and not of a person; nor does an entry prove anything.
                    scopes: control.scopes.clone(),
                    assurance: None,
                    ..read(&identity)
                }),
            })
        }
    }
}

/// What a provider says. Requests ask over the same connections, and may wait for the same answer: so it is asked where they have
/// it asked, and not on a thread where everybody else goes first, which may end.
pub(super) async fn on<T: Send + 'static>(
    background: &Handle,
    ask: impl Future<Output = Result<T, ProviderError>> + Send + 'static,
) -> Result<T, ProviderError> {
    // Whoever waits no longer has it called off.
    let mut asking = JoinSet::new();
    asking.spawn_on(ask, background);
    match asking.join_next().await {
        Some(Ok(said)) => said,
        // A bug of ours is no trouble of its provider.
        Some(Err(broken)) if broken.is_panic() => resume_unwind(broken.into_panic()),
        Some(Err(_)) | None => Err(Outage::Shed.into()),
    }
}

/// The token that a provider issues for another one: given back at once, whoever waits for this.
async fn exchanged(
    (provider, background): (&Arc<dyn Provider>, &Handle),
    token: Secret<String>,
    audiences: &Arc<[Box<str>]>,
    now: UnixTime,
) -> Result<Option<Authenticated>, ProviderError> {
    // What could not be given back is not asked for.
    if !provider.abilities().contains(&Ability::Revoke) {
        return Err(Outage::Malformed.into());
    }
    let (provider, audiences) = (Arc::clone(provider), Arc::clone(audiences));
    let task = background.spawn(async move {
        let Some(Ok(client)) = provider.token_client(None) else {
            return Err(Outage::Malformed.into());
        };
        let wanted = Wanted {
            audiences: &audiences,
            resources: &[],
            scopes: &[],
        };
        let issued = client
            .issued(Grant::TokenExchange(&token), wanted, now)
            .await?;
        let (access, refresh) = (issued.token.clone(), issued.refresh_token.clone());
        // Whatever it is worth: it is given back.
        let judged = client.judge(issued, wanted, now).await;
        let access = client.revoke(&access, "access_token", now).await;
        let refresh = match &refresh {
            Some(refresh) => client.revoke(refresh, "refresh_token", now).await,
            None => Ok(()),
        };
        // A side that does not take back what it has issued is in trouble: it is left alone.
        access.and(refresh).or(Err(Outage::Malformed))?;
        Ok::<_, ProviderError>(judged?.proof)
    });
    task.await.or(Err(Outage::Shed))?
}
