//! authferry moves an organisation's users and API clients from an old identity provider to a new one.
//!
//! The modules below stand in reading order; `ARCHITECTURE.md` draws the house. Public are the doors: the pure core,
//! which benches and examples use, and the command line.

pub mod clock;
pub mod entropy;
pub mod secret;

pub mod identity;
pub mod rollout;
pub mod token;

mod admin;
mod app;
mod auth;
#[cfg(feature = "bench")]
pub mod bench;
pub mod cli;
mod config;
mod control;
mod demo;
mod exchange;
mod issuer;
mod ledger;
mod links;
#[cfg(any(test, fuzzing))]
pub mod promises;
mod providers;
mod proxy;
mod revocation;
mod session;
mod shadow;
mod store;
mod telemetry;
