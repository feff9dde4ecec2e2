//! `pages`: how our own pages look.

use std::collections::HashMap;

use crate::auth::settings::AccountPages;
use crate::auth::settings::Pages;
use crate::config::compile::address::Peer;
use crate::config::compile::address::url;
use crate::config::compile::context::Context;
use crate::config::raw::RawConfig;
use crate::config::raw::RawPages;
use crate::config::shape::At;
use crate::identity::ProviderId;

/// The longest style sheet: 64 KiB, for it stands in every page.
const MAX_STYLE: usize = 64 * 1024;

/// The longest name of a provider, in characters.
const MAX_NAME: usize = 80;

/// What would fetch something from elsewhere, or end the style.
const FORBIDDEN: [&str; 4] = ["@import", "url(", "<", "\\"];

/// Compiles them.
pub(super) fn compile(context: &mut Context<'_>, raw: &RawConfig) -> Pages {
    let Some(raw) = raw.pages.get() else {
        return Pages::default();
    };
    let help = raw.help.get().and_then(|at| {
        let good = url(context, at, Peer::Other);
        good.map(|_| at.value.as_str().into())
    });
    Pages {
        style: style(context, raw),
        help,
        providers: providers(context, raw),
        changed: raw.changed.or(false),
        keep_fragment: raw.keep_fragment.or(false),
        accounts: accounts(context, raw),
    }
}

fn accounts(context: &mut Context<'_>, raw: &RawPages) -> HashMap<ProviderId, AccountPages> {
    let mut accounts = HashMap::new();
    let Some(named) = raw.accounts.get() else {
        return accounts;
    };
    for (name, raw) in named.readable() {
        if !context.knows_provider(name) {
            continue;
        }
        let mut page = |at: Option<&At<String>>| {
            let at = at?;
            let good = url(context, at, Peer::Provider);
            good.map(|_| at.value.as_str().into())
        };
        let pages = AccountPages {
            password: page(raw.password.get()),
            profile: page(raw.profile.get()),
        };
        accounts.insert(ProviderId::new(&name.value), pages);
    }
    accounts
}

/// What they are called.
fn providers(context: &mut Context<'_>, raw: &RawPages) -> Vec<(ProviderId, Box<str>)> {
    let mut called = Vec::new();
    let named = raw.providers.get().into_iter();
    for (name, text) in named.flat_map(|named| named.readable()) {
        context.knows_provider(name);
        let text_is_fine = !text.value.trim().is_empty()
            && text.value.chars().count() <= MAX_NAME
            && !text.value.chars().any(char::is_control);
        if !text_is_fine {
            context
                .report
                .error(
                    text.mark,
                    "what people read on a button has 1 to 80 characters, in one line",
                )
                .value(&text.value);
        }
        called.push((ProviderId::new(&name.value), text.value.as_str().into()));
    }
    called
}

fn style(context: &mut Context<'_>, raw: &RawPages) -> Option<Box<str>> {
    let at = raw.style.get()?;
    let content = context.content(at, "the style sheet")?;
    let shown = at.value.display();
    let text = match String::from_utf8(content) {
        Ok(text) if text.len() <= MAX_STYLE => text,
        Ok(_) | Err(_) => {
            context
                .report
                .error(
                    at.mark,
                    "the style sheet is longer than 64 KiB, or not UTF-8",
                )
                .value(shown);
            return None;
        }
    };
    let lower = text.to_ascii_lowercase();
    if let Some(found) = FORBIDDEN.iter().find(|word| lower.contains(**word)) {
        context
            .report
            .error(at.mark, format!("the style sheet contains `{found}`"))
            .value(shown)
            .hint("nothing on our pages comes from elsewhere");
        return None;
    }
    Some(text.into())
}
