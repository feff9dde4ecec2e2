//! Whether a token has anything to do with the client that wants to exchange it: no client turns what it came by into a token
//! of its own (RFC 8693 §2.1, §5).

use crate::auth::gate::exchanged::Holder;
use crate::auth::gate::issued::Asker;
use crate::token;

impl Asker<'_> {
    /// Whether a token that has been judged names this client: in `aud`, or as the one that it was given to (`azp`,
    /// `client_id`); by its name at the provider of the token, as any other there may be somebody else's; by its name here, if it
    /// has none there.
    pub(super) fn is_named_by(&self, holder: &Holder<'_>) -> bool {
        let identity = holder.identity;
        let there = self.at.get(&identity.provider);
        let name = there.map_or(self.id, |there| there.id());
        if identity.client_id.as_deref() == Some(name) {
            return true;
        }
        let token = holder.token();
        let read = token.map(|token| token::peek(token.expose()));
        read.is_some_and(|read| read.is_ok_and(|read| read.is_for(name)))
    }
}
