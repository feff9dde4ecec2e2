//! Where one person's password is judged that has moved: a row.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::identity::CanonicalSubject;
use crate::identity::Issuer;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::store::StoreError;

/// Where a password is judged that has moved.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Home {
    /// Whose it is.
    pub(super) person: String,
    /// The name that the person signs in with at the new provider.
    pub(crate) username: String,
    /// The subject of their account there.
    pub(crate) subject: String,
    /// Issuer and subject of the account whose password it was. An earlier version did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<(String, String)>,
}

/// It names a person.
impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Home")
    }
}

impl Home {
    /// At an account of the new provider. `left`: the account whose password it was.
    pub(crate) fn new(
        person: &CanonicalSubject,
        (username, subject): (&str, &str),
        left: &SubjectKey,
    ) -> Self {
        let (issuer, before) = (left.issuer.as_str(), left.subject.as_str());
        Self {
            person: person.as_str().to_owned(),
            username: username.to_owned(),
            subject: subject.to_owned(),
            left: Some((issuer.to_owned(), before.to_owned())),
        }
    }

    /// Whose it is.
    ///
    /// # Errors
    ///
    /// When the row names nobody.
    pub(crate) fn person(&self) -> Result<CanonicalSubject, StoreError> {
        let person = CanonicalSubject::named(&self.person);
        person.ok().ok_or_else(damaged)
    }

    /// The account whose password it was; `None`: the row does not say.
    ///
    /// # Errors
    ///
    /// When it names none.
    pub(crate) fn left(&self) -> Result<Option<SubjectKey>, StoreError> {
        let Some((issuer, subject)) = &self.left else {
            return Ok(None);
        };
        let subject = Subject::try_from(subject.as_str()).ok();
        Ok(Some(SubjectKey {
            issuer: Issuer::new(issuer),
            subject: subject.ok_or_else(damaged)?,
        }))
    }

    /// Whether it is this person's.
    pub(crate) fn is_of(&self, person: &CanonicalSubject) -> bool {
        self.person == person.as_str()
    }
}

fn damaged() -> StoreError {
    StoreError::Damaged(String::from("the home of a password"))
}
