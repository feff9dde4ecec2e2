//! Whether what was judged good has been taken back meanwhile.

use crate::auth::error::AuthError;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::revocation::Marks;
use crate::revocation::Standing;
use crate::store::StoreError;

impl Gate {
    /// Whether nothing of it is revoked. Looked up after the judgement: what was revoked while it was made counts.
    pub(super) fn stands(
        &self,
        asked: &Asked<'_>,
        provider: &ProviderId,
        class: CredentialClass,
        marks: Marks,
    ) -> Result<Standing, AuthError> {
        let index = self.deps.revocations.index();
        if !index.is_ready() {
            let unknown = StoreError::Unavailable(String::from("revocations are not known yet"));
            return Err(AuthError::store(&unknown, class));
        }
        let standing = Standing::new(index, marks);
        if standing.holds(asked.now) {
            Ok(standing)
        } else {
            Err(AuthError::refused(Refusal::Revoked, provider, class))
        }
    }
}
