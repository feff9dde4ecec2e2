//! Tokens as the templates of a case describe them, good and broken.
//!
//! Nothing here uses the program's own code: a token that the program's parser would help to build could not surprise it.

mod big;
mod jose;
mod keys;
mod template;
mod words;

pub(crate) use jose::base64url;
pub(crate) use keys::Ring;
pub(crate) use template::Mint;
pub(crate) use template::OLD_SECRET;
pub(crate) use template::SUB_OLD_ALICE;
pub(crate) use template::Unknown;
pub(crate) use template::unique;
