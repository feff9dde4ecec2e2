//! The name that an account shares with accounts elsewhere, by what its provider says of it and by lists.

use crate::identity;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::NotCanonical;
use crate::identity::Refusal;
use crate::links::settings::Canonical;

/// How an account is known to be a person's: a label value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Method {
    /// Its provider says so.
    Claim,
    /// A list says so.
    File,
    /// The person has signed in at both sides.
    ProveBoth,
    /// The account was found, or made, for somebody whose password the old side had just found good.
    Provisioned,
}

impl Method {
    /// The label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::File => "file",
            Self::ProveBoth => "prove_both",
            Self::Provisioned => "provisioned",
        }
    }
}

/// The name that an identity shares with accounts elsewhere; `None`: nobody else is known to be the same person.
///
/// Every source is asked: two that disagree are a conflict, whichever stands first.
///
/// # Errors
///
/// When what is said could be read as another person, or is said in two ways.
pub(crate) fn joined(
    canonical: &Canonical,
    identity: &Identity,
) -> Result<Option<(CanonicalSubject, Method)>, Refusal> {
    let mut found = by_claims(canonical, identity)?.map(|name| (name, Method::Claim));
    for file in &canonical.files {
        let Some(listed) = file.person_of(&identity.provider, &identity.key.subject) else {
            continue;
        };
        match &found {
            Some((name, _)) if name != listed => return Err(Refusal::LinkConflict),
            Some(_) => {}
            None => found = Some((listed.clone(), Method::File)),
        }
    }
    Ok(found)
}

fn by_claims(
    canonical: &Canonical,
    identity: &Identity,
) -> Result<Option<CanonicalSubject>, Refusal> {
    if !canonical.authoritative.contains(&identity.provider) {
        return Ok(None);
    }
    match identity::canonical(&canonical.template, &canonical.normalise, identity) {
        Ok(name) => Ok(Some(name)),
        // Nothing is said about who this is elsewhere: nobody else is the same person.
        Err(NotCanonical::Missing | NotCanonical::Placeholder | NotCanonical::Unfit(_)) => Ok(None),
        // Something is said that could be read as another person.
        Err(NotCanonical::Ambiguous | NotCanonical::Invalid(_)) => Err(Refusal::LinkConflict),
    }
}
