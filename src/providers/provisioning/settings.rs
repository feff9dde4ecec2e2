//! What the configuration says about people who come from elsewhere: plain data.

use crate::identity::Normalise;

/// How somebody who comes from elsewhere gets an account.
#[derive(Clone, Debug)]
pub(crate) struct Provisioning {
    /// The attribute of ours whose value is the directory's key.
    pub(crate) by: Box<str>,
    /// How its value is spelled: as in the names of people.
    pub(crate) normalise: Vec<Normalise>,
    /// Whether somebody without an account gets one. Default: yes.
    pub(crate) create: bool,
    /// What else a new account gets, as its own attribute and ours.
    pub(crate) attributes: Vec<(Box<str>, Box<str>)>,
}
