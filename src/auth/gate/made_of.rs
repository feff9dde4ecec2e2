//! What an exchange of ours brought about, or our token endpoint gave a client, when it is presented: it can be revoked by what it
//! was made of, too, and by the name that the client has here.

use crate::auth::clients::Whose;
use crate::auth::error::AuthError;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::auth::gate::signed::Signed;
use crate::identity::Credential;
use crate::identity::Identity;
use crate::identity::Refusal;
use crate::revocation::Found;
use crate::revocation::Marks;

impl Gate {
    /// By what a token that says `identity` can be revoked, and whose keys it rests on besides. Asks the store of those alone that name a registration of ours which
    /// exchanges, or one that several clients of our token endpoint share, name nobody, or that we mint: who else got a token has it
    /// from its provider.
    pub(super) async fn made_of(
        &self,
        asked: &Asked<'_>,
        credential: &Credential,
        identity: &Identity,
        marks: Marks,
    ) -> Result<(Marks, Signed), AuthError> {
        let (Credential::Bearer(token) | Credential::Opaque(token)) = credential else {
            return Ok((marks, Signed::default()));
        };
        let made = self.deps.ours.may_have_asked_for(identity);
        let (marks, shared) = match self.deps.clients.whose(identity) {
            Whose::Nobodys => (marks, false),
            Whose::Ones(client) => (marks.and_account(client), false),
            Whose::Somebodys => (marks, true),
        };
        if !made && !shared {
            return Ok((marks, Signed::default()));
        }
        let class = credential.class();
        let known = &self.deps.revocations;
        match known.handed_out_as(token.expose(), asked.now).await {
            Ok(Found::Nothing) => Ok((marks, Signed::default())),
            Ok(Found::Handed(handed)) => {
                let signed = self.still_signed(&handed, class, asked.now).await?;
                let marks = if made {
                    marks.and_handed(&handed)
                } else {
                    marks.and_given(&handed)
                };
                Ok((marks, signed))
            }
            Ok(Found::Lost) => Err(AuthError::refused(
                Refusal::Revoked,
                &identity.provider,
                class,
            )),
            Err(error) => Err(AuthError::store(&error, class)),
        }
    }
}
