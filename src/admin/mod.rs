//! The listener of operators: health, metrics, reload, the kill switch, explanations, the console.
//!
//! It never carries user traffic. Reading health and metrics is free; everything else needs a token or the unix socket.

mod backend;
mod body;
mod client;
mod closing;
mod console;
mod drill;
#[cfg(test)]
pub(crate) mod fake;
mod guard;
mod listen;
mod plan;
mod question;
mod ready;
mod report;
mod respond;
mod rollouts;
mod routes;
pub(crate) mod settings;
mod switch;
mod tls;

pub(crate) use backend::AdminBackend;
pub(crate) use backend::CONFIRM_ABOVE;
pub(crate) use backend::ConfigView;
pub(crate) use backend::KeyView;
pub(crate) use backend::LiftAnswer;
pub(crate) use backend::LiftRequest;
pub(crate) use backend::LogHead;
pub(crate) use backend::ProviderView;
pub(crate) use backend::Readiness;
pub(crate) use backend::ReloadAnswer;
pub(crate) use backend::ReloadOutcome;
pub(crate) use backend::RevocationView;
pub(crate) use backend::RevokeAnswer;
pub(crate) use backend::RevokeFailure;
pub(crate) use backend::RevokeRequest;
pub(crate) use backend::SessionView;
pub(crate) use backend::beside;
pub(crate) use client::ClientError;
pub(crate) use client::ask;
pub(crate) use closing::LegacyRequest;
pub(crate) use closing::LegacyView;
pub(crate) use drill::DrillAccount;
pub(crate) use drill::DrillRequest;
pub(crate) use drill::DrillView;
pub(crate) use drill::LoadView;
pub(crate) use listen::Admin;
pub(crate) use listen::BindError;
pub(crate) use plan::PlanRequest;
pub(crate) use plan::PlanRow;
pub(crate) use plan::PlanView;
pub(crate) use question::AcceptView;
pub(crate) use question::ExplainRequest;
pub(crate) use question::Explanation;
pub(crate) use question::ForgetAnswer;
pub(crate) use question::ForgetRequest;
pub(crate) use question::HeaderView;
pub(crate) use question::LinkAnswer;
pub(crate) use question::LinkRequest;
pub(crate) use question::ReferenceRequest;
pub(crate) use question::Token;
pub(crate) use report::ReportKind;
pub(crate) use report::ReportRequest;
pub(crate) use report::ReportTable;
pub(crate) use report::ReportView;
pub(crate) use rollouts::GuardView;
pub(crate) use rollouts::LimitView;
pub(crate) use rollouts::OrderRequest;
pub(crate) use rollouts::PeopleView;
pub(crate) use rollouts::RolloutView;
pub(crate) use routes::KillRequest;
pub(crate) use routes::KillView;

pub(crate) use crate::revocation::Target;
