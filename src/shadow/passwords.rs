//! Whether a password that the deciding side has just found good is the one of the same person's account at the side that
//! passwords move to.

use crate::clock::UnixTime;
use crate::identity::Identity;
use crate::identity::Refusal;
use crate::providers::Newcomer;
use crate::providers::Passwords;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::secret::Secret;
use crate::shadow::compare::Side;
use crate::shadow::weigh::Opinion;

/// Asks. The password of somebody goes to their own account alone: found as it is when passwords move, and described as theirs.
pub(super) async fn ask(
    (provider, judge): (&dyn Provider, &dyn Passwords),
    (username, password): (&str, &Secret<String>),
    (identity, control): (&Identity, &Side),
    read: impl Fn(&std::sync::Arc<Identity>) -> Side,
    now: UnixTime,
) -> Result<Opinion, ProviderError> {
    let accounts = provider.provisioning();
    let accounts = accounts.ok_or(ProviderError::from(Refusal::Unsupported))?;
    let newcomer = Newcomer { username, identity };
    let Some(account) = accounts.find(newcomer, now).await? else {
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
    let proof = judge.check(&account.username, password, now).await?;
    Ok(Opinion::Person(read(proof.identity())))
}
