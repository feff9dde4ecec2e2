//! A form on a session that is over, where the route keeps it for the time after the sign-in.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::Limited;
use tokio::time::timeout;

use crate::proxy::admission::Asked;
use crate::proxy::admission::authority;
use crate::proxy::client_body::ClientBody;
use crate::proxy::respond::Fault;
use crate::proxy::settings::OnUnauthenticated;

/// How long its content may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The page that says that a form is kept, in the place of a 401; `None`: it is not.
pub(super) async fn keep_form(
    asked: &Asked<'_>,
    route: usize,
    why: &Fault,
    body: ClientBody,
) -> Option<Response<Bytes>> {
    let route = asked.entry.settings.routes.get(route)?;
    let most = route.preserve_post?;
    let signs_in = asked.pages && route.on_unauthenticated == OnUnauthenticated::Auto;
    if !signs_in || !matches!(why, Fault::Unauthorized(_)) {
        return None;
    }
    let (logins, policy) = (&asked.view.snapshot.logins, &asked.entry.policy);
    let authority = authority(asked.request);
    let request = asked.login(&authority);
    if !logins.may_keep_form(policy, &request) {
        return None;
    }
    // It counts as the sign-in that it leads to: the places for forms are everybody's.
    logins.may_begin(policy, &request, asked.now).await.ok()?;
    let body = Limited::new(body, most).collect();
    let body = timeout(PATIENCE, body).await.ok()?.ok()?.to_bytes();
    logins.keep_form(policy, &request, &body, asked.now).await
}
