//! The one place that says a signed token is good. Pure, given keys and now: no I/O, no clock, not async.
//!
//! `jsonwebtoken` alone is not enough: it takes an unknown `crit`, any `typ` and a missing `aud`. Nothing else in the
//! program may decode a token.

#![deny(clippy::wildcard_enum_match_arm)]

mod algorithm;
#[cfg(test)]
mod forge;
mod json;
mod jwk;
mod key;
mod keys;
mod logout;
mod mac;
mod mint;
mod peek;
mod pem;
mod policy;
mod pop;
mod verify;

pub use algorithm::Algorithm;
pub use keys::KeySet;
pub use keys::KeySetError;
pub use keys::SkippedKey;
pub use logout::LogoutToken;
pub use logout::verify_logout;
pub use mac::MacKey;
pub use mint::MintError;
pub use mint::SigningKey;
pub use mint::public_jwks;
pub use peek::Unverified;
pub use peek::peek;
pub use policy::Audience;
pub use policy::Kind;
pub use policy::Marker;
pub use policy::Policy;
pub use pop::Demand;
pub use pop::Proof;
pub use pop::key_of_proof;
#[cfg(any(test, fuzzing))]
pub(crate) use pop::promise::proof as proof_promise;
pub use pop::prove;
pub use verify::TokenError;
pub use verify::Verified;
pub use verify::verify;
pub use verify::verify_signature_only;
