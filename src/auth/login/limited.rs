//! How many sign-ins one address may begin.

use crate::auth::limits::Of;
use crate::auth::limits::Standing;
use crate::auth::login::Logins;
use crate::auth::login::Request;
use crate::auth::policy::AppPolicy;
use crate::clock::UnixTime;

impl Logins {
    /// Whether one more sign-in may begin from where a request comes from; it is counted.
    ///
    /// # Errors
    ///
    /// Where that address stands, when it was one too many.
    pub(crate) async fn may_begin(
        &self,
        policy: &AppPolicy,
        request: &Request<'_>,
        now: UnixTime,
    ) -> Result<(), Standing> {
        let of = Of::Logins(policy.app(), request.facts.client_ip);
        let most = policy.rate_limits.logins;
        let standing = self.deps.limits.take(of, most, now).await;
        if standing.over {
            self.deps.reports.metrics.rate_limited("login", of.as_str());
            return Err(standing);
        }
        Ok(())
    }
}
