//! Whether a token has anything to do with the client that wants to exchange it: no client turns what it came by into a token
//! of its own (RFC 8693 §2.1, §5).

use crate::auth::gate::exchanged::Holder;
use crate::auth::gate::issued::Asker;
use crate::token;

impl Asker<'_> {
    /// Whether a token that has been judged names this client: in `aud`, or as the one that it was given to (`azp`,
    /// `client_id`); by its name at the provider of the token, as any other there may be somebody else's. If it has none there,
    /// nothing was given to it, and whoever is called there as it is here is not it: then a token is for it that is for its name.
    pub(super) fn is_named_by(&self, holder: &Holder<'_>) -> bool {
        let identity = holder.identity;
        let there = self.at.get(&identity.provider).map(|there| there.id());
        if there.is_some() && identity.client_id.as_deref() == there {
            return true;
        }
        let name = there.unwrap_or(self.id);
        let token = holder.token();
        let read = token.map(|token| token::peek(token.expose()));
        read.is_some_and(|read| read.is_ok_and(|read| read.is_for(name)))
    }
}
