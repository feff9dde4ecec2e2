//! By what a session can be ended whose person has one of the other side, or had.

use crate::identity::Issuer;
use crate::identity::Mark;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::session::Before;

impl Before {
    /// The account there; `None`: the row cannot be of this program.
    pub(super) fn account(&self) -> Option<Mark> {
        let subject = Subject::try_from(self.subject.as_str()).ok()?;
        Some(Mark::account(&SubjectKey {
            issuer: Issuer::new(&self.issuer),
            subject,
        }))
    }

    /// By what it, and whatever was given for it, can be revoked. Where a session stands by itself, only by the end of the one
    /// at the issuer.
    pub(super) fn marks(&self, person: Mark) -> impl Iterator<Item = Mark> {
        let provider = self.provider();
        let sid = self.sid.as_deref().map(|sid| Mark::sid(&self.issuer, sid));
        let key = self.kid.as_deref().map(|kid| Mark::key(&provider, kid));
        let client = self.client.as_deref();
        let client = client.map(|client| Mark::client(&provider, client));
        let given = [
            Some(Mark::person_at(person, &provider)),
            Some(Mark::came_from(&provider)),
            self.account(),
            key,
            client,
            self.follows().map(Mark::session),
        ];
        let given = given.into_iter().flatten();
        sid.into_iter().chain(given.filter(|_| self.is_given()))
    }
}
