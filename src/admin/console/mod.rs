//! The console: one page that shows how things stand, with the few forms that change it.
//!
//! It is made here, needs no script, loads nothing from anywhere, and does only what the endpoints beside it do. It must never
//! show a secret, and never act without proof, a reason and a form of its own.

mod course;
mod form;
mod html;
mod opinions;
mod page;
mod tables;

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::StatusCode;
use http::header;

use crate::admin::console::form::Form;
use crate::admin::console::form::Wanted;
use crate::admin::console::page::View;
use crate::admin::guard::Guard;
use crate::admin::report::ReportKind;
use crate::admin::report::ReportRequest;
use crate::admin::respond;
use crate::admin::respond::Answer;
use crate::admin::respond::Failure;
use crate::admin::rollouts::OrderRequest;
use crate::admin::routes;
use crate::admin::routes::Context;
use crate::admin::routes::KillRequest;
use crate::admin::routes::KillView;
use crate::admin::switch;

/// How many records of the ledger are shown.
const RECORDS: usize = 12;

/// Where the page is.
pub(super) const PATH: &str = "/console";

/// What the page looks like.
const STYLE: &str = include_str!("page.css");

/// What keeps it fresh.
const SCRIPT: &str = include_str!("page.js");

/// Only what is written into the page itself counts, named by its hash; forms go nowhere else, and nobody frames it.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        STANDARD.encode(hash)
    };
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// The page, as things stand.
pub(super) async fn show(context: &Context, guard: &Guard, actor: &str) -> Answer {
    told(context, guard, actor, StatusCode::OK, None).await
}

/// Does what a form asks for; then the page is asked for again. What was not done is said on it.
pub(super) async fn act(context: &Context, guard: &Guard, actor: &str, body: &[u8]) -> Answer {
    let form = Form::read(body);
    let done = if guard.form_is_ours(actor, &form.proof) {
        match form.wanted {
            Ok(wanted) => obey(context, wanted, actor).await,
            Err(reason) => Err(Failure::BadRequest(reason)),
        }
    } else {
        Err(Failure::ForeignForm)
    };
    match done {
        Ok(()) => {
            let mut answer = respond::answer(
                StatusCode::SEE_OTHER,
                "text/plain; charset=utf-8",
                Bytes::new(),
            );
            let place = HeaderValue::from_static("/console#done");
            answer.headers_mut().insert(header::LOCATION, place);
            answer
        }
        Err(failure) => {
            let (status, reason) = respond::told(&failure);
            told(context, guard, actor, status, Some(&reason)).await
        }
    }
}

async fn obey(context: &Context, wanted: Wanted, actor: &str) -> Result<(), Failure> {
    match wanted {
        Wanted::Kill {
            position,
            rollout,
            reason,
        } => {
            let wanted = KillRequest {
                position,
                rollout,
                reason,
            };
            switch::move_switch(context, wanted, actor.to_owned()).await?;
            Ok(())
        }
        Wanted::Order {
            rollout,
            command,
            reason,
        } => {
            let order = OrderRequest {
                rollout,
                command: command.to_owned(),
                stage: None,
                reason,
                recall: None,
            };
            let done = routes::order(context, order, actor).await;
            done.map(|_| ())
        }
        Wanted::Reload => {
            let answer = routes::reload(context, actor).await;
            if answer.problems.is_empty() {
                return Ok(());
            }
            Err(Failure::Refused(answer.problems))
        }
    }
}

async fn told(
    context: &Context,
    guard: &Guard,
    actor: &str,
    status: StatusCode,
    trouble: Option<&str>,
) -> Answer {
    let backend = &context.backend;
    let view = View {
        configuration: backend.configuration(),
        readiness: backend.readiness(),
        rollouts: backend.rollouts(),
        kill: KillView::of(&context.kill.current(), None),
        ledger: backend.log_head(),
        records: backend.log_tail(RECORDS).await,
        opinions: backend
            .report(ReportRequest::about(ReportKind::Divergences), actor)
            .await
            .ok(),
        figures: context.metrics.figures(),
        proof: guard.form_proof(actor),
        actor: actor.to_owned(),
        trouble: trouble.map(str::to_owned),
    };
    let mut answer = respond::answer(status, "text/html; charset=utf-8", view.render().into());
    let headers = answer.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer` a browser would send its forms with `Origin: null`.
        (header::REFERRER_POLICY, "same-origin"),
        (
            header::HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            header::HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}
