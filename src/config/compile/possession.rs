//! `dpop`: how proofs of possession are judged.

use std::time::Duration;

use crate::auth::settings::Possession;
use crate::config::compile::context::Context;
use crate::config::compile::providers::whole;
use crate::config::compile::tokens::span;
use crate::config::raw::RawConfig;
use crate::config::raw::RawDpop;
use crate::config::scalar::Span;
use crate::token::Algorithm;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What counts where the file says nothing.
fn defaults() -> Possession {
    Possession {
        algorithms: vec![
            Algorithm::Es256,
            Algorithm::Es384,
            Algorithm::Es512,
            Algorithm::Ps256,
            Algorithm::Rs256,
            Algorithm::EdDsa,
        ],
        max_age: MINUTE,
        nonce_life: None,
        replay_entries: 500_000,
    }
}

/// How proofs are judged.
pub(super) fn compile(context: &mut Context<'_>, raw: &RawConfig) -> Possession {
    match raw.dpop.get() {
        Some(raw) => given(context, raw),
        None => defaults(),
    }
}

fn given(context: &mut Context<'_>, raw: &RawDpop) -> Possession {
    let defaults = defaults();
    span(
        context,
        &raw.max_age,
        SECOND,
        5 * MINUTE,
        "from `1s` to `5m`",
    );
    span(
        context,
        &raw.nonce_life,
        10 * SECOND,
        60 * MINUTE,
        "from `10s` to `1h`",
    );
    let replay_entries = whole(
        context,
        &raw.replay_entries,
        (1_000, 1_000_000),
        defaults.replay_entries,
    );
    let required = raw.require_nonce.or(false);
    if let Some(at) = raw.nonce_life.get()
        && !required
    {
        context
            .report
            .error(at.mark, "`nonce_life` has no effect: no nonce is asked for")
            .hint("say `require_nonce: true`");
    }
    let mut algorithms = Vec::new();
    for at in raw.algs.get().map_or(&[][..], |list| &list.items) {
        if at.value.is_symmetric() {
            context
                .report
                .error(
                    at.mark,
                    "a shared secret proves nothing: who can check it can also make it",
                )
                .hint("RFC 9449 §4.2 asks for an asymmetric algorithm, such as ES256");
        }
        algorithms.push(at.value.algorithm());
    }
    let life = raw.nonce_life.or(Span(5 * MINUTE)).0;
    Possession {
        algorithms: if algorithms.is_empty() {
            defaults.algorithms
        } else {
            algorithms
        },
        max_age: raw.max_age.or(Span(defaults.max_age)).0,
        nonce_life: required.then_some(life),
        replay_entries,
    }
}
