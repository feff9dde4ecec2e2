//! The real program, started through its real parser on port 0, and what stands around it: upstreams and providers that
//! say what reached them.

mod client;
mod dpop;
mod idp;
mod old_system;
mod proxy;
mod upstream;

pub(crate) use client::Answer;
pub(crate) use client::get;
pub(crate) use client::raw;
pub(crate) use client::read;
pub(crate) use client::request;
pub(crate) use dpop::Holder;
pub(crate) use idp::Idp;
pub(crate) use idp::now;
pub(crate) use old_system::OldSystem;
pub(crate) use proxy::Proxy;
pub(crate) use upstream::Echo;

use std::time::Duration;

/// How long anything may take before a test fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the command that started this run says beside.
#[expect(
    clippy::disallowed_methods,
    reason = "a run is told by its environment where its table goes"
)]
pub(crate) fn given(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
