//! How our pages look: one document, one style that is allowed by its hash alone, no script, nothing from elsewhere.

use std::collections::HashMap;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::auth::settings::AccountPages;
use crate::auth::settings::Pages;
use crate::identity::ProviderId;

/// The style of pages where the configuration names none: as a reader's own settings have it, narrow, dark where they like.
const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem}code{font-size:1.1em}input,button{font:inherit;padding:.4rem .8rem;max-width:100%;box-sizing:border-box}";

/// What all pages share.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    css: Box<str>,
    /// `style-src` of the style.
    style_src: String,
    help: Option<Box<str>>,
    /// What people are told that a provider is called.
    called: HashMap<ProviderId, Box<str>>,
    /// Whether people are told once that their sign-in page has changed.
    pub(crate) changed: bool,
    /// Whether what stands behind `#` in an address is remembered over a sign-in.
    pub(crate) keep_fragment: bool,
    /// Where people look after their account.
    pub(crate) accounts: HashMap<ProviderId, AccountPages>,
}

impl Look {
    /// From what the configuration says.
    pub(crate) fn new(pages: &Pages) -> Self {
        let css: Box<str> = pages.style.clone().unwrap_or_else(|| STYLE.into());
        let hash = digest::digest(&digest::SHA256, css.as_bytes());
        Self {
            style_src: format!("style-src 'sha256-{}'", STANDARD.encode(hash.as_ref())),
            css,
            help: pages.help.as_deref().map(escaped),
            called: pages
                .providers
                .iter()
                .map(|(provider, name)| (provider.clone(), escaped(name)))
                .collect(),
            changed: pages.changed,
            keep_fragment: pages.keep_fragment,
            accounts: pages.accounts.clone(),
        }
    }

    /// What a provider is called on our pages, as markup: by its name in the configuration, unless that says otherwise.
    pub(super) fn called(&self, provider: &ProviderId) -> Box<str> {
        let called = self.called.get(provider).cloned();
        called.unwrap_or_else(|| escaped(provider.as_str()))
    }

    /// A whole page. `title` is text of ours; `body` is markup of ours.
    pub(crate) fn document(&self, title: &str, body: &str) -> String {
        let help = self.help.as_deref().map_or_else(String::new, |help| {
            format!("<p><a href=\"{help}\">Help</a></p>\n")
        });
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{}</style>\n</head>\n\
             <body>\n<main>\n<h1>{title}</h1>\n{body}{help}</main>\n</body>\n</html>\n",
            self.css
        )
    }

    /// What browsers are told about a page (Content Security Policy Level 3): nothing but its own style, in no frame.
    pub(crate) fn policy(&self, forms: Forms) -> HeaderValue {
        let forms = match forms {
            Forms::None => " form-action 'none';",
            // What is sent to us is answered with a redirect to the provider, and browsers would block that, too.
            Forms::OurOwn => "",
        };
        let text = format!(
            "default-src 'none'; base-uri 'none';{forms} frame-ancestors 'none'; {}",
            self.style_src
        );
        HeaderValue::try_from(text).unwrap_or_else(|_not_visible| {
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")
        })
    }
}

/// Whether a page has a form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Forms {
    /// It has none.
    None,
    /// It has one, which is sent to us.
    OurOwn,
}

impl Default for Look {
    fn default() -> Self {
        Self::new(&Pages::default())
    }
}

/// Text for an attribute.
pub(super) fn escaped(text: &str) -> Box<str> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_style_that_is_there_is_allowed() {
        let look = Look::new(&Pages {
            style: Some("body{color:red}".into()),
            help: Some("https://help.corp.example/?a=1&b=\"".into()),
            providers: vec![(ProviderId::new("new"), "R&D".into())],
            ..Pages::default()
        });
        let page = look.document("Signed out", "<p>x</p>\n");
        assert!(page.contains("<style>body{color:red}</style>"));
        assert!(page.contains("href=\"https://help.corp.example/?a=1&amp;b=&quot;\""));
        let policy = look.policy(Forms::None);
        let policy = policy.to_str().unwrap();
        // `printf 'body{color:red}' | openssl dgst -sha256 -binary | base64`
        assert!(
            policy.ends_with("style-src 'sha256-FcQqt3aNlV7AZnGV4zkQRVeCeJOxbMPnQSx258L803E='"),
            "{policy}"
        );
        assert!(policy.starts_with("default-src 'none';") && policy.contains("form-action 'none'"));
        assert_ne!(look.policy(Forms::OurOwn), look.policy(Forms::None));
        assert!(!page.contains("<script") && !page.contains("  "));
        assert_eq!(&*look.called(&ProviderId::new("new")), "R&amp;D");
        assert_eq!(&*look.called(&ProviderId::new("old")), "old");
    }
}
