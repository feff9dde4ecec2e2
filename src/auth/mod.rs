//! From a credential to an admitted identity, and the browser login that makes one.
//!
//! Knows request parts (`http` types), not hyper. Only [`gate`] can make [`Admitted`]. This module must never ask a second
//! provider about a credential, and never turn an outage into an admission.

#![deny(clippy::wildcard_enum_match_arm)]

mod assertion;
mod at_once;
mod brought;
mod canonical;
mod certificate;
mod challenges;
mod clients;
mod consents;
mod cookies;
mod error;
mod extract;
#[cfg(test)]
mod fake;
mod gate;
mod limits;
mod login;
mod look;
mod owners;
mod policy;
mod possession;
#[cfg(any(test, fuzzing))]
pub(crate) mod promises;
mod replays;
mod report;
mod roles;
pub(crate) mod settings;
mod taken;
mod typed_form;
mod unmatched;

pub(crate) use assertion::Assertions;
pub(crate) use assertion::Terms;
pub(crate) use assertion::assertion_claims;
pub(crate) use at_once::AtOnce;
pub(crate) use at_once::OnItsWay;
pub(crate) use canonical::Joiner;
pub(crate) use certificate::ClientCertificate;
pub(crate) use challenges::insufficient_scope;
pub(crate) use clients::Clients;
pub(crate) use clients::Registered;
pub(crate) use cookies::pieces as cookie_pieces;
pub(crate) use error::Answer;
pub(crate) use error::AuthError;
pub(crate) use extract::Presented;
pub(crate) use extract::Scheme;
pub(crate) use extract::VerdictKey;
pub(crate) use extract::bearer;
pub(crate) use extract::extract;
pub(crate) use gate::Admitted;
pub(crate) use gate::Asker;
pub(crate) use gate::Deps;
pub(crate) use gate::ForClient;
pub(crate) use gate::Gate;
pub(crate) use gate::Over;
pub(crate) use gate::Own;
pub(crate) use gate::Reach;
pub(crate) use gate::Stays;
pub(crate) use limits::Limits;
pub(crate) use limits::Of;
pub(crate) use limits::Standing;
pub(crate) use login::Endpoint;
pub(crate) use login::LoginSettings;
pub(crate) use login::Logins;
pub(crate) use login::PageName;
pub(crate) use login::Query;
pub(crate) use login::Request;
pub(crate) use login::SigningOut;
pub(crate) use login::TurnedAway;
pub(crate) use login::decode;
pub(crate) use login::is_form;
pub(crate) use look::Forms;
pub(crate) use look::Look;
pub(crate) use policy::AppExchanges;
pub(crate) use policy::AppPolicy;
pub(crate) use policy::PolicyParts;
pub(crate) use possession::Channel;
pub(crate) use possession::NotProven;
pub(crate) use possession::Possession;
pub(crate) use replays::Replays;
pub(crate) use replays::Seen;
pub(crate) use report::Reports;
pub(crate) use report::Source;
pub(crate) use report::TokenReport;
pub(crate) use report::Told;
pub(crate) use report::beginning;
pub(crate) use roles::with_roles;
pub(crate) use taken::FallbacksTaken;
pub(crate) use typed_form::Typed;
pub(crate) use unmatched::Unmatched;
