//! The part of an address behind `#`: no server sees it, and a sign-in page loses it. Where the configuration says so, a page
//! with one script remembers it in a cookie before the sign-in, and the way back ends with it. Without scripts it is lost, and
//! nothing else.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::header::CONTENT_SECURITY_POLICY;
use http::header::REFRESH;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::navigation;
use crate::auth::login::page::Page;
use crate::auth::login::query;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::login::start::Begin;
use crate::auth::look::escaped;

/// The longest that is kept, in bytes.
const MAX_BYTES: usize = 1_024;

impl Logins {
    /// The page that remembers it, in the place of the redirect to a login; `None`: nothing is remembered here.
    pub(super) async fn remembers_fragment(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
    ) -> Option<Response<Bytes>> {
        // Only somebody who opens a page has one, and where there is no sign-in page the answer is a challenge.
        let wanted = self.look.keep_fragment
            && begin.directed.is_none()
            && navigation::is_top_level(ask.request.headers)
            && self.has_door(ask, begin).await;
        if !wanted {
            return None;
        }
        let mut cookies = begin.cookies.clone();
        cookies.extend(self.keep_device(ask, &begin.device));
        let page = self.page(ask, Page::OnTheWay, &begin.target, cookies);
        Some(with_script(page, &self.names.remember_place()))
    }

    /// Whoever opens the sign-in itself, and not by way of a page of ours, has no place in mind but where that leads: what an
    /// earlier visit left behind is forgotten. `None`: there is nothing.
    pub(super) fn forgets_place(&self, ask: &Ask<'_>) -> Option<HeaderValue> {
        let name = self.names.place();
        let kept = cookies::named(ask.request.headers, &name);
        kept.text()?;
        self.names.set(&name, "", Keep::Forget)
    }

    /// The same for a page that somebody reads first, and goes on from by its link.
    pub(super) fn keeps_fragment(&self, ask: &Ask<'_>, page: Response<Bytes>) -> Response<Bytes> {
        if self.look.keep_fragment && navigation::is_top_level(ask.request.headers) {
            with_script(page, &self.names.keep_place())
        } else {
            page
        }
    }

    /// Where a login leads: to a form that waits, or to its target with what was remembered of that, which the browser then
    /// forgets.
    pub(super) fn lands_at(
        &self,
        ask: &Ask<'_>,
        target: &ReturnPath,
        cookies: &mut Vec<HeaderValue>,
    ) -> String {
        if let Some(form) = self.has_form(ask, target) {
            return form;
        }
        let (address, forget) = self.with_fragment(ask, target);
        cookies.extend(forget);
        address
    }

    /// The page that goes on by itself to where a login leads.
    pub(super) fn goes_on_to(
        &self,
        ask: &Ask<'_>,
        target: &ReturnPath,
        address: &str,
        cookies: Vec<HeaderValue>,
    ) -> Response<Bytes> {
        let mut response = self.page(ask, Page::Arrived, target, cookies);
        let link = |to: &str| format!("href=\"{}\"", escaped(to));
        if let Ok(value) = HeaderValue::try_from(format!("0;url={address}")) {
            let page = String::from_utf8_lossy(response.body());
            let page = page.replace(&link(target.as_str()), &link(address));
            *response.body_mut() = Bytes::from(page);
            response.headers_mut().insert(REFRESH, value);
        }
        response
    }

    fn with_fragment(&self, ask: &Ask<'_>, target: &ReturnPath) -> (String, Option<HeaderValue>) {
        let whole = target.as_str().to_owned();
        let name = self.names.place();
        let sent = cookies::named(ask.request.headers, &name);
        let kept = sent.text().filter(|_| self.look.keep_fragment);
        let Some(kept) = kept else {
            return (whole, None);
        };
        let forget = self.names.set(&name, "", Keep::Forget);
        // Another tab may have gone elsewhere since: it counts for its own page alone.
        let found = query::decode(kept).ok();
        let fragment = found
            .as_deref()
            .and_then(|place| place.split_once('#'))
            .filter(|(place, fragment)| *place == whole && is_fragment(fragment))
            .map(|(_, fragment)| fragment);
        match fragment {
            Some(fragment) => (format!("{whole}#{fragment}"), forget),
            None => (whole, forget),
        }
    }
}

/// A page of ours with a script, which its policy allows by its hash.
fn with_script(mut page: Response<Bytes>, script: &str) -> Response<Bytes> {
    let hash = digest::digest(&digest::SHA256, script.as_bytes());
    let allowed = format!("; script-src 'sha256-{}'", STANDARD.encode(hash.as_ref()));
    let policy = page.headers().get(CONTENT_SECURITY_POLICY);
    let policy = policy.map(|policy| [policy.as_bytes(), allowed.as_bytes()].concat());
    let policy = policy.and_then(|policy| HeaderValue::from_bytes(&policy).ok());
    // Without a policy of its own it has no script either.
    let Some(policy) = policy else {
        return page;
    };
    let text = String::from_utf8_lossy(page.body());
    let text = text.replace("</main>", &format!("</main>\n<script>{script}</script>"));
    *page.body_mut() = Bytes::from(text);
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    page
}

/// Whether it can only be a fragment (RFC 3986 §3.5).
fn is_fragment(text: &str) -> bool {
    let may = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
    text.len() <= MAX_BYTES && text.bytes().all(may)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_fragment_is_one() {
        for good in ["", "b/c?d", "/orders/7;v=1&x=%20(a)!"] {
            assert!(is_fragment(good), "{good}");
        }
        for bad in [
            "a#b",
            "a b",
            "\r\nSet-Cookie: a=b",
            "a\"b",
            "<a>",
            "caf\u{e9}",
            "\\",
        ] {
            assert!(!is_fragment(bad), "{bad}");
        }
        assert!(!is_fragment(&"a".repeat(MAX_BYTES + 1)));
    }
}
