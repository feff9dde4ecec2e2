//! OAuth 2.0 and OpenID Connect as a client speaks them: metadata, how we prove who we are, the login.
//!
//! It must never judge a token by itself: signed ones go through `token::verify`.

mod client_auth;
mod device;
mod discovery;
mod form;
mod introspect;
mod login;
mod password;
#[cfg(any(test, fuzzing))]
pub(crate) mod promises;
pub(super) mod pushed;
mod renewal;
mod request;
mod token_client;

pub(super) use client_auth::ClientAuthenticator;
pub(crate) use device::Polled;
pub(super) use discovery::Discovered;
pub(super) use discovery::Discovery;
pub(super) use discovery::Metadata;
pub(super) use discovery::address as metadata_address;
pub(super) use discovery::read as read_metadata;
pub(super) use form::Form;
pub(super) use form::encoded;
pub(super) use introspect::Introspector;
pub(super) use login::OidcLogin;
pub(super) use renewal::revoked;
pub(super) use request::authorization;
pub(crate) use token_client::Grant;
pub(crate) use token_client::Issued;
pub(crate) use token_client::TokenClient;
pub(crate) use token_client::Wanted;
