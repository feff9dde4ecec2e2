//! A token that we have minted ourselves, presented to us.

use crate::auth::extract::Kind;
use crate::auth::extract::Owned;
use crate::auth::extract::Presented;
use crate::token;

impl<'a> Presented<'a> {
    /// Who judges it, where it is a signed token of nobody else that names us, and the application takes such. It is read once
    /// more: who has an owner never comes here.
    pub(in crate::auth) fn own(&self) -> Option<Owned<'a>> {
        if !self.owners.take_own() {
            return None;
        }
        let Kind::Bearer(token) = self.kind else {
            return None;
        };
        let read = token::peek(token).ok()?;
        let owner = self.owners.of_own(read.issuer())?;
        Some(Owned {
            owner,
            read: Some(read),
        })
    }
}
