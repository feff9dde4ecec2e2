//! Clients of our token endpoint by the names that providers have for them: a token says that name, and a revocation may say ours.

use std::collections::HashMap;
use std::sync::Arc;

use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::SubjectKey;

/// One registration of a client.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    /// Where: the issuer of its tokens, whichever provider of ours takes them.
    pub(crate) issuer: Issuer,
    /// `client_id` there.
    pub(crate) id: Box<str>,
    /// The client here; `None`: it is one of ours for logins or exchanges.
    pub(crate) account: Option<SubjectKey>,
}

/// Whose a token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whose<'a> {
    /// No client's.
    Nobodys,
    /// This one's.
    Ones(&'a SubjectKey),
    /// Several have this name there, or it says none: what was noted of it says more.
    Somebodys,
}

/// Registrations of clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients(Arc<Known>);

/// By issuer, then by name. `None`: several.
type Known = HashMap<Box<str>, HashMap<Box<str>, Option<SubjectKey>>>;

impl Clients {
    /// Of the registrations of clients, and of those of ours: whoever is registered as we are is not known by that name.
    pub(crate) fn of(all: impl IntoIterator<Item = Registered>) -> Self {
        let mut known = Known::new();
        let (theirs, ours): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| one.account.is_some());
        for one in theirs.into_iter().chain(ours) {
            let Registered {
                issuer,
                id,
                account,
            } = one;
            if account.is_none() && !known.contains_key(issuer.as_str()) {
                // No client is registered there.
                continue;
            }
            let there = known.entry(issuer.as_str().into()).or_default();
            match there.get_mut(&id) {
                Some(same) if *same == account => {}
                Some(other) => *other = None,
                None if account.is_some() => {
                    there.insert(id, account);
                }
                None => {}
            }
        }
        Self(Arc::new(known))
    }

    /// Whose a token is that says this.
    pub(super) fn whose(&self, identity: &Identity) -> Whose<'_> {
        let Some(there) = self.0.get(identity.key.issuer.as_str()) else {
            return Whose::Nobodys;
        };
        let Some(client) = identity.client_id.as_deref() else {
            return Whose::Somebodys;
        };
        match there.get(client) {
            Some(Some(account)) => Whose::Ones(account),
            Some(None) => Whose::Somebodys,
            None => Whose::Nobodys,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ProviderId;
    use crate::identity::Subject;

    const THERE: &str = "https://a.test";

    fn key(issuer: &str, name: &str) -> SubjectKey {
        SubjectKey {
            issuer: Issuer::new(issuer),
            subject: Subject::try_from(name).unwrap(),
        }
    }

    fn registered(id: &str, client: Option<&str>) -> Registered {
        Registered {
            issuer: Issuer::new(THERE),
            id: id.into(),
            account: client.map(|client| key("https://ferry.test", client)),
        }
    }

    fn said(issuer: &str, client: Option<&str>) -> Identity {
        Identity {
            provider: ProviderId::new("a"),
            key: key(issuer, "alice"),
            attributes: Arc::default(),
            client_id: client.map(Box::from),
            acr: None,
            scopes: Box::default(),
            delegation: crate::identity::Delegation::default(),
        }
    }

    #[test]
    fn a_name_that_one_client_has_is_its_name_and_one_of_several_is_nobodys_alone() {
        let clients = Clients::of([
            registered("login", None),
            registered("svc", Some("batch")),
            registered("svc", Some("batch")),
            registered("shared", Some("one")),
            registered("shared", Some("two")),
            registered("login", Some("three")),
            registered("exchanges", None),
        ]);
        let batch = key("https://ferry.test", "batch");
        for (issuer, client, whose) in [
            (THERE, Some("svc"), Whose::Ones(&batch)),
            (THERE, Some("shared"), Whose::Somebodys),
            (THERE, Some("login"), Whose::Somebodys),
            (THERE, Some("exchanges"), Whose::Nobodys),
            (THERE, Some("else"), Whose::Nobodys),
            (THERE, None, Whose::Somebodys),
            ("https://b.test", Some("svc"), Whose::Nobodys),
            ("https://b.test", None, Whose::Nobodys),
        ] {
            let said = said(issuer, client);
            assert_eq!(clients.whose(&said), whose, "{issuer} {client:?}");
        }
        let alone = Clients::of([registered("login", None)]);
        assert_eq!(alone.whose(&said(THERE, None)), Whose::Nobodys);
    }
}
