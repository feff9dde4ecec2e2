//! `waivers`: rules of the strict check that do not hold, and why.

use crate::config::RULES;
use crate::config::Waiver;
use crate::config::compile::context::Context;
use crate::config::names::did_you_mean;
use crate::config::raw::RawConfig;

/// All waivers.
pub(super) fn compile(context: &mut Context<'_>, raw: &RawConfig) -> Vec<Waiver> {
    let mut all = Vec::new();
    for raw in raw.waivers.get().map_or(&[][..], |list| &list.items) {
        let rule = raw.rule.required(raw.mark, "rule", &mut context.report);
        let reason = raw.reason.required(raw.mark, "reason", &mut context.report);
        let (Some(rule), Some(reason)) = (rule, reason) else {
            continue;
        };
        let ids = || RULES.iter().map(|rule| rule.id);
        if !ids().any(|id| id == rule.value) {
            let said = context
                .report
                .error(rule.mark, format!("no rule is called `{}`", rule.value))
                .value(&rule.value);
            if let Some(close) = did_you_mean(&rule.value, ids()) {
                said.hint(format!("did you mean `{close}`?"));
            }
        }
        all.push(Waiver {
            rule: rule.value.as_str().into(),
            at: raw.at.get().map_or("", |at| at.value.as_str()).into(),
            reason: reason.value.as_str().into(),
        });
    }
    all
}
