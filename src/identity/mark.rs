//! What a session or a token can be found and revoked by, as a key that says nothing about whom.

use std::fmt;

use aws_lc_rs::digest;

use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::identity::SubjectKey;
use crate::identity::TokenId;

/// Whose the keys are that sign what we mint, where a key is revoked by its provider's name: no provider is called so.
pub(crate) const OWN_KEYS: &str = "authferry:signing";

/// A digest of one thing that can be revoked. Every part goes in with its length, and the kind of thing before them: no two
/// things share a mark.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Mark([u8; 32]);

impl Mark {
    /// One person across providers.
    pub(crate) fn person(canonical: &CanonicalSubject) -> Self {
        Self::of("person", &[canonical.as_str().as_bytes()])
    }

    /// What one provider says of a person.
    pub(crate) fn person_at(person: Self, provider: &ProviderId) -> Self {
        Self::of("person-at", &[&person.0, provider.as_str().as_bytes()])
    }

    /// One account: issuer and subject.
    pub(crate) fn account(account: &SubjectKey) -> Self {
        let (issuer, subject) = (account.issuer.as_str(), account.subject.as_str());
        Self::of("account", &[issuer.as_bytes(), subject.as_bytes()])
    }

    /// One session of ours, by the key of its row.
    pub(crate) fn session(row: &[u8; 32]) -> Self {
        Self::of("session", &[row])
    }

    /// One session at an issuer (`sid`).
    pub(crate) fn sid(issuer: &str, sid: &str) -> Self {
        Self::of("sid", &[issuer.as_bytes(), sid.as_bytes()])
    }

    /// One client of a provider.
    pub(crate) fn client(provider: &ProviderId, client: &str) -> Self {
        Self::of("client", &[provider.as_str().as_bytes(), client.as_bytes()])
    }

    /// All that a provider vouched for.
    pub(crate) fn provider(provider: &ProviderId) -> Self {
        Self::of("provider", &[provider.as_str().as_bytes()])
    }

    /// All that was given for what a provider vouched for, without a sign-in anywhere else.
    pub(crate) fn came_from(provider: &ProviderId) -> Self {
        Self::of("came-from", &[provider.as_str().as_bytes()])
    }

    /// All that one key of a provider signed.
    pub(crate) fn key(provider: &ProviderId, kid: &str) -> Self {
        Self::of("key", &[provider.as_str().as_bytes(), kid.as_bytes()])
    }

    /// All that one key of ours signed, whoever took it for theirs.
    pub(crate) fn own_key(kid: &str) -> Self {
        Self::of("key", &[OWN_KEYS.as_bytes(), kid.as_bytes()])
    }

    /// One token of an issuer: by its own name where it has one, whatever its bytes.
    pub(crate) fn token(issuer: &str, token: &TokenId) -> Self {
        match token {
            TokenId::Named(jti) => Self::of("jti", &[issuer.as_bytes(), jti.as_bytes()]),
            TokenId::Digest(hash) => Self::of("token", &[issuer.as_bytes(), hash]),
        }
    }

    /// What a provider says of one account of a person, for a name that is always the same.
    pub(crate) fn denial(provider: &ProviderId, account: &SubjectKey, person: &str) -> Self {
        let (issuer, subject) = (account.issuer.as_str(), account.subject.as_str());
        let provider = provider.as_str();
        let parts = [provider, issuer, subject, person].map(str::as_bytes);
        Self::of("denial", &parts)
    }

    fn of(kind: &str, parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"authferry/revocation/v1");
        for part in std::iter::once(&kind.as_bytes()).chain(parts) {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            context.update(&length.to_be_bytes());
            context.update(part);
        }
        let mut mark = [0; 32];
        mark.copy_from_slice(context.finish().as_ref());
        Self(mark)
    }

    /// As a key of the store.
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From a row of ours.
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Spreads marks over shards: a digest is as good as any hash of it.
    pub(crate) const fn first_bytes(&self) -> [u8; 2] {
        let [first, second, ..] = self.0;
        [first, second]
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[mark]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Issuer;
    use crate::identity::Subject;

    #[test]
    fn no_two_things_share_a_mark() {
        let provider = ProviderId::new("a");
        let account = |issuer: &str, subject: &str| SubjectKey {
            issuer: Issuer::new(issuer),
            subject: Subject::try_from(subject).unwrap(),
        };
        let named = |jti: &str| TokenId::Named(jti.into());
        let marks = [
            Mark::person(&CanonicalSubject::named("a").unwrap()),
            Mark::provider(&provider),
            Mark::came_from(&provider),
            Mark::account(&account("a", "bc")),
            Mark::account(&account("ab", "c")),
            Mark::sid("a", "bc"),
            Mark::sid("ab", "c"),
            Mark::client(&provider, "bc"),
            Mark::key(&provider, "bc"),
            Mark::token("a", &named("bc")),
            Mark::token("ab", &named("c")),
            Mark::token("a", &TokenId::Digest([1; 32])),
            Mark::session(&[1; 32]),
        ];
        let distinct: std::collections::HashSet<_> = marks.iter().collect();
        assert_eq!(distinct.len(), marks.len());
    }
}
