//! What a session was given for without a sign-in, and by what that can be ended.

use serde::Deserialize;
use serde::Serialize;

use crate::identity::ProviderId;
use crate::revocation::mark::Mark;
use crate::revocation::record::Target;
use crate::session::CameBy;

/// An account of the other side, and its session there.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Before {
    provider: String,
    pub(super) issuer: String,
    subject: String,
    pub(super) sid: Option<String>,
    kid: Option<String>,
    client: Option<String>,
}

impl Before {
    pub(super) fn of(came_by: &CameBy) -> Self {
        let (issuer, subject) = came_by.account();
        Self {
            provider: came_by.provider().to_owned(),
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            sid: came_by.sid().map(str::to_owned),
            kid: came_by.kid().map(str::to_owned),
            client: came_by.client().map(str::to_owned),
        }
    }

    pub(super) fn account(&self) -> Target {
        Target::Account {
            issuer: self.issuer.clone(),
            subject: self.subject.clone(),
        }
    }

    /// By what it, and whatever was given for it, can be revoked.
    pub(super) fn marks(&self, person: Mark) -> impl Iterator<Item = Mark> {
        let provider = ProviderId::new(&self.provider);
        let sid = self.sid.as_deref().map(|sid| Mark::sid(&self.issuer, sid));
        let key = self.kid.as_deref().map(|kid| Mark::key(&provider, kid));
        let client = self.client.as_deref();
        let client = client.map(|client| Mark::client(&provider, client));
        let own = [
            Mark::person_at(person, &provider),
            Mark::came_from(&provider),
        ];
        let account = self.account().mark().ok();
        own.into_iter()
            .chain([account, sid, key, client].into_iter().flatten())
    }
}
