//! What an exchange of ours brought about, when it is presented: it can be revoked by what it was made of, too.

use crate::auth::error::AuthError;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::identity::Credential;
use crate::identity::Identity;
use crate::identity::Refusal;
use crate::revocation::Found;
use crate::revocation::Marks;

impl Gate {
    /// By what a token that says `identity` can be revoked. Asks the store of those alone that name a registration of ours which
    /// exchanges, name nobody, or that we mint: who else got a token has it from its provider.
    pub(super) async fn made_of(
        &self,
        asked: &Asked<'_>,
        credential: &Credential,
        identity: &Identity,
        marks: Marks,
    ) -> Result<Marks, AuthError> {
        let (Credential::Bearer(token) | Credential::Opaque(token)) = credential else {
            return Ok(marks);
        };
        if !self.deps.ours.may_have_asked_for(identity) {
            return Ok(marks);
        }
        let class = credential.class();
        let known = &self.deps.revocations;
        match known.handed_out_as(token.expose(), asked.now).await {
            Ok(Found::Nothing) => Ok(marks),
            Ok(Found::Handed(handed)) => Ok(marks.and_handed(&handed)),
            Ok(Found::Lost) => Err(AuthError::refused(
                Refusal::Revoked,
                &identity.provider,
                class,
            )),
            Err(error) => Err(AuthError::store(&error, class)),
        }
    }
}
