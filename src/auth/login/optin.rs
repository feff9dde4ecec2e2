//! Who wants to be among the first: a cookie that we seal for who is signed in, asks for it, and asks from our own page.
//!
//! It steers the next login and nothing else: whoever copies it gets another sign-in page, and no access.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use http::Response;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::Request;
use crate::auth::login::logout::From;
use crate::auth::login::page;
use crate::auth::login::page::Page;
use crate::auth::login::page::Sent;
use crate::auth::login::query::Query;
use crate::auth::login::return_to::OURS;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::policy::AppPolicy;
use crate::clock::UnixTime;
use crate::rollout::KillPosition;
use crate::session::Purpose;

impl Logins {
    /// Whether the browser brought a cookie of this name that we sealed for this host.
    pub(crate) fn is_sealed(&self, headers: &HeaderMap, authority: &str, name: &str) -> bool {
        let Some(cookie) = cookies::named(headers, name).text() else {
            return false;
        };
        let Ok(sealed) = URL_SAFE_NO_PAD.decode(cookie) else {
            return false;
        };
        let bound = [authority.as_bytes(), name.as_bytes()];
        self.ring()
            .open(Purpose::OptIn, b"", &bound, &sealed)
            .is_some()
    }

    /// `/.authferry/optin`: GET shows the one button, POST from a page of the same origin does what it says. `theirs`: the
    /// browser brought a session of a provider that is good.
    pub(crate) async fn opt_in(
        &self,
        policy: &AppPolicy,
        request: &Request<'_>,
        theirs: bool,
        now: UnixTime,
    ) -> Response<Bytes> {
        let ask = &Ask {
            policy,
            request,
            kill: KillPosition::Off,
            now,
        };
        let root = ReturnPath::root();
        if !theirs && self.session(ask).await.is_none() {
            return self.page(ask, Page::SignInFirst, &root, Vec::new());
        }
        let mut names = self.opt_in.iter();
        let is_in = names.any(|name| self.is_sealed(request.headers, request.authority, name));
        match *request.method {
            Method::GET | Method::HEAD => {
                let page = if is_in { Page::OptOut } else { Page::OptIn };
                return self.page(ask, page, &root, Vec::new());
            }
            Method::POST => {}
            _ => return self.page(ask, Page::NotOurForm, &root, Vec::new()),
        }
        match self.from(ask) {
            From::OurPage => {}
            From::Elsewhere => return self.page(ask, Page::NotOurForm, &root, Vec::new()),
        }
        let query = Query::parse(request.query).unwrap_or_default();
        let leaves = query.value("out").is_some();
        let cookies = self.opt_in.iter().filter_map(|name| {
            if leaves {
                return self.names.set(name, "", Keep::Forget);
            }
            let bound = [request.authority.as_bytes(), name.as_bytes()];
            let entropy = &*self.deps.entropy;
            let sealed = self
                .ring()
                .seal(Purpose::OptIn, b"", &bound, b"in", entropy);
            let sealed = URL_SAFE_NO_PAD.encode(sealed);
            self.names.set(name, &sealed, Keep::For(self.kept.browsers))
        });
        let cookies = cookies.collect();
        page::redirect(Sent::SeeOther, &format!("{OURS}/optin"), cookies)
            .unwrap_or_else(|| self.page(ask, Page::Failed, &root, Vec::new()))
    }
}
