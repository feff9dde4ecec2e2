//! HTTP in, HTTP out. Judges nothing itself: who comes in is `auth`'s answer, and what is forwarded is what was judged.

mod admission;
mod again;
pub(crate) mod body;
pub(crate) mod canonical;
pub(crate) mod client_address;
pub(crate) mod client_body;
mod client_certificate;
pub(crate) mod conn;
pub(crate) mod country;
mod forward;
mod forward_auth;
pub(crate) mod forwarded;
pub(crate) mod identity_headers;
mod keep_cookie;
mod keep_form;
mod kept;
mod own_address;
mod patrol;
#[cfg(any(test, fuzzing))]
pub(crate) mod promises;
pub(crate) mod protected;
mod record;
mod reply;
mod requirement;
pub(crate) mod respond;
pub(crate) mod route;
pub(crate) mod serve;
mod service;
pub(crate) mod settings;
mod signing_out;
mod snapshot;
mod switching;
pub(crate) mod tls;
mod turned_away;
mod typed_form;
pub(crate) mod upgrade;
pub(crate) mod upstream;
pub(crate) mod upstream_head;
#[cfg(not(feature = "bench"))]
mod verdicts;
#[cfg(feature = "bench")]
pub(crate) mod verdicts;
mod worker;

pub(crate) use protected::Protected;
pub(crate) use protected::Steering;
pub(crate) use route::Router;
pub(crate) use service::Service;
pub(crate) use snapshot::AppEntry;
pub(crate) use snapshot::Snapshot;
pub(crate) use upstream::Resolver;
pub(crate) use upstream::Target;
pub(crate) use upstream_head::HeadPolicy;
pub(crate) use upstream_head::cookies::CookieNames;
pub(crate) use worker::WorkerParts;
