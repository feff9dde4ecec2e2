//! Whether a password that the deciding side has just found good is the one of the same person's account at the side that
//! passwords move to.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::clock::UnixTime;
use crate::identity::Identity;
use crate::identity::Refusal;
use crate::providers::Newcomer;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::secret::Secret;
use crate::shadow::asked::on;
use crate::shadow::compare::Side;
use crate::shadow::weigh::Opinion;

/// Asks. The password of somebody goes to their own account alone: found as it is when passwords move, and described as theirs.
pub(super) async fn ask(
    (provider, background): (&Arc<dyn Provider>, &Handle),
    (username, password): (&str, &Secret<String>),
    (identity, control): (&Arc<Identity>, &Side),
    read: impl Fn(&Arc<Identity>) -> Side,
    now: UnixTime,
) -> Result<Opinion, ProviderError> {
    let (accounts, name, who) = (
        Arc::clone(provider),
        username.to_owned(),
        Arc::clone(identity),
    );
    let found = on(background, async move {
        let accounts = accounts.provisioning().ok_or(Refusal::Unsupported)?;
        let newcomer = Newcomer {
            username: &name,
            identity: &who,
        };
        accounts.find(newcomer, now).await
    });
    let Some(account) = found.await? else {
        return Ok(Opinion::Nobody);
    };
    let theirs = read(&account.identity);
    if theirs.name != control.name {
        return Ok(Opinion::Person(theirs));
    }
    if !account.enabled {
        return Ok(Opinion::Refused(Refusal::Disabled.as_str()));
    }
    // An account without a password is not asked about one: it would count as a wrong one.
    if account.has_password == Some(false) {
        return Ok(Opinion::Refused(Refusal::BadCredentials.as_str()));
    }
    let (judge, password) = (Arc::clone(provider), password.clone());
    let proof = on(background, async move {
        let judge = judge.second_passwords().ok_or(Refusal::Unsupported)?;
        judge.check(&account.username, &password, now).await
    });
    Ok(Opinion::Person(read(proof.await?.identity())))
}
