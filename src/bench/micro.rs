//! Single steps of a request, as the program makes them.

use std::fmt;
use std::rc::Rc;

use http::HeaderName;
use http::Request;
use http::request::Parts;

use crate::auth::VerdictKey;
use crate::bench::Failed;
use crate::identity::CredentialClass;
use crate::proxy::Protected;
use crate::proxy::Router;
use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::canonical::canonicalise;
use crate::proxy::conn::Conn;
use crate::proxy::route::Routed;
use crate::proxy::settings::App;
use crate::proxy::settings::Limits;
use crate::proxy::verdicts::Verdicts;

/// One request with a token, and what looks at it.
pub struct Steps {
    parts: Parts,
    conn: Rc<Conn>,
    limits: Limits,
    protected: Protected,
    token: String,
    verdicts: Verdicts,
}

impl Steps {
    /// As a browser sends it, with this token.
    ///
    /// # Errors
    ///
    /// When the token cannot stand in a field.
    pub fn new(token: &str) -> Result<Self, Failed> {
        let request = Request::get("/orders/2026/7?sort=date&page=3")
            .header("host", "crm.corp.example")
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)")
            .header("accept", "application/json")
            .header("accept-language", "en-GB,en;q=0.5")
            .header("authorization", format!("Bearer {token}"))
            .header("x-requested-with", "XMLHttpRequest")
            .header("x-csrf-token", "4f2a9c")
            .header("referer", "https://crm.corp.example/orders")
            .body(())?;
        let emitted = HeaderName::from_static("x-crm-login");
        Ok(Self {
            parts: request.into_parts().0,
            conn: Conn::for_test(true),
            limits: Limits::usual(),
            protected: Protected::new([&emitted]),
            token: token.to_owned(),
            verdicts: Verdicts::new(16, [7; 32]),
        })
    }

    /// The request gets its one spelling.
    pub fn canonicalise(&self) -> bool {
        canonicalise(&self.parts, &self.conn, &self.limits).is_ok()
    }

    /// Which of the names of its fields are protected: none that it has beside the ones that never travel.
    pub fn fold(&self) -> bool {
        let names = self.parts.headers.keys();
        names.filter(|name| self.protected.contains(name)).count() == 2
    }

    /// What its verdict is kept under.
    pub fn digest(&self) -> bool {
        let key = VerdictKey {
            class: CredentialClass::Bearer,
            slot: "",
            material: self.token.as_bytes(),
            beside: None,
        };
        self.verdicts.digest(0, 0, "app.test", key) != [0; 16]
    }
}

/// Applications on so many hosts with so many routes, and the request of a [`Steps`].
pub struct Hosts {
    router: Router,
    request: CanonicalRequest,
}

impl Hosts {
    /// One route each, and all others at the host that is asked, whose last one is the one that fits.
    ///
    /// # Errors
    ///
    /// When the request has no one spelling.
    pub fn new(steps: &Steps, hosts: usize, routes: usize) -> Result<Self, Failed> {
        let few = (1..hosts).map(|n| App::plain(&format!("app-{n}.corp.example"), ["/*"]));
        let many: Vec<_> = (hosts..routes)
            .map(|n| format!("/orders/20{n}/*"))
            .chain(["/*".to_owned()])
            .collect();
        let asked = App::plain("crm.corp.example", many.iter().map(String::as_str));
        let apps: Vec<_> = few.chain([asked]).collect();
        let request = canonicalise(&steps.parts, &steps.conn, &steps.limits);
        Ok(Self {
            router: Router::new(&apps),
            request: request.map_err(|bad| format!("{bad:?}"))?,
        })
    }

    /// Which route it is for.
    pub fn route(&self) -> bool {
        matches!(self.router.route(&self.request), Routed::To { .. })
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hosts")
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steps")
    }
}
