//! The old application: it believes `X-Remote-User`, and shows what it was told.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::Full;
use hyper::body::Incoming;

use crate::demo::form;
use crate::demo::provider::DemoProvider;

/// The application, and the two providers whose counters it shows.
#[derive(Debug)]
pub(super) struct OldApp {
    pub(super) old: Arc<DemoProvider>,
    pub(super) new: Arc<DemoProvider>,
}

impl OldApp {
    /// Answers one request.
    #[expect(
        clippy::unused_async,
        reason = "one shape for all servers of the demonstration"
    )]
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let mut rows = String::new();
        for (name, value) in request.headers() {
            if name.as_str().starts_with("x-remote-") {
                let value = form::escape(&String::from_utf8_lossy(value.as_bytes()));
                rows.push_str(&format!("<tr><th>{name}<td><code>{value}</code>"));
            }
        }
        let ((old_people, old_times), (new_people, new_times)) = (self.old.seen(), self.new.seen());
        let (programs, tokens) = self.new.programs();
        let body = format!(
            "<p>I am old. I never heard of OpenID: I believe these headers, and they do not change when you move.</p><table>{rows}</table>\
             <h2>Sign-ins, counted at the providers</h2><table>\
             <tr><th>old provider<td>{old_people} people<td>{old_times} sign-ins<tr><th>new provider<td>{new_people} people<td>{new_times} sign-ins\
             <tr><th><td>{programs} programs<td>{tokens} tokens</table>\
             <form method=post action=\"/.authferry/logout\"><p><button>Sign out</button> and in again, to see where you are sent now.</form>"
        );
        form::page(StatusCode::OK, "The old application", "#5b5b57", &body)
    }
}
