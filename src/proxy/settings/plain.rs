//! Applications of tests and benches.

use std::time::Duration;

use crate::auth::settings::RateLimits;
use crate::proxy::canonical::EncodedSlash;
use crate::proxy::settings::Access;
use crate::proxy::settings::App;
use crate::proxy::settings::OnUnauthenticated;
use crate::proxy::settings::Require;
use crate::proxy::settings::Route;
use crate::proxy::settings::Upstream;
use crate::rollout::AppId;

impl App {
    /// One with nothing but its routes, each for whoever is known.
    pub(crate) fn plain<'r>(host: &str, routes: impl IntoIterator<Item = &'r str>) -> Self {
        let upstream = Upstream {
            origins: Vec::new(),
            http2: false,
            connect_timeout: Duration::ZERO,
            response_timeout: Duration::ZERO,
            idle: Duration::ZERO,
            ca: None,
            client_certificate: None,
            health_path: None,
            health_interval: Duration::ZERO,
            preserve_host: true,
        };
        let route = |path: &str| Route {
            path: path.into(),
            methods: Vec::new(),
            access: Access::Required,
            credentials: Vec::new(),
            on_unauthenticated: OnUnauthenticated::Auto,
            require: Require::default(),
            websocket: false,
            upgrades: Vec::new(),
            preserve_post: None,
            encoded_slash: EncodedSlash::Refused,
            exchange: None,
            upstream: None,
        };
        Self {
            id: AppId::new(host),
            hosts: vec![host.into()],
            upstream,
            identity_headers: Vec::new(),
            static_headers: Vec::new(),
            assertion: None,
            forward_credentials: false,
            rate_limits: RateLimits::default(),
            forward_auth: false,
            logout_paths: Vec::new(),
            other_arm_exchanges: Vec::new(),
            minted_tokens: Vec::new(),
            routes: routes.into_iter().map(route).collect(),
        }
    }
}
