//! A token that a client sends, judged as if it had come with a request to the application.

use crate::auth;
use crate::auth::Admitted;
use crate::auth::ForClient;
use crate::identity::CredentialClass;
use crate::identity::Refusal;
use crate::issuer::Call;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;

/// What the gate says of a token, and makes of it.
pub(super) async fn judged(
    call: &Call<'_>,
    token: &str,
    client: Option<&ForClient<'_>>,
) -> Result<Admitted, Not> {
    let bad = |refusal: Refusal| Not::Denied(Denied::InvalidRequest, refusal.as_str());
    let headers = auth::bearer(token).ok_or(bad(Refusal::BadCredentials))?;
    let classes = [CredentialClass::Bearer, CredentialClass::Opaque];
    let presented = auth::extract(&headers, None, call.policy.owners(), &classes)
        .map_err(|why| Not::admitted(&why, call.policy))?
        .ok_or(bad(Refusal::BadCredentials))?;
    let way = (&call.facts, &call.channel);
    call.gate
        .issue(call.policy, client, &presented, way, call.kill, call.now)
        .await
        .map_err(|why| Not::admitted(&why, call.policy))
}
