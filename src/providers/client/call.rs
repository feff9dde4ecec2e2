//! One call and its answer, before and after the wire.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::StatusCode;
use http::header;
use http_body_util::Full;
use zeroize::Zeroizing;

use crate::providers::client::endpoint::Endpoint;
use crate::providers::client::failure::Failure;
use crate::secret::Secret;
use crate::telemetry::metrics::Operation;

/// The longest answer to a question, in bytes.
pub(super) const fn limit(operation: Operation) -> usize {
    match operation {
        Operation::Keys | Operation::Health | Operation::Directory => 512 * 1024,
        Operation::Discovery | Operation::Token => 256 * 1024,
        Operation::Introspect
        | Operation::Probe
        | Operation::Bind
        | Operation::Revoke
        | Operation::Provision => 64 * 1024,
    }
}

/// The longest that a question may take, whatever the configuration allows: `None` where only that counts. Requests wait
/// for these answers.
pub(super) const fn longest(operation: Operation) -> Option<Duration> {
    match operation {
        Operation::Keys | Operation::Discovery | Operation::Introspect => {
            Some(Duration::from_secs(5))
        }
        Operation::Health
        | Operation::Token
        | Operation::Probe
        | Operation::Bind
        | Operation::Directory
        | Operation::Provision
        | Operation::Revoke => None,
    }
}

/// One call.
#[derive(Clone)]
pub(in crate::providers) struct Call {
    pub(super) operation: Operation,
    method: Method,
    to: Endpoint,
    headers: HeaderMap,
    body: Bytes,
    pub(super) repeatable: bool,
}

impl Call {
    /// A GET.
    pub(in crate::providers) fn get(operation: Operation, to: &Endpoint) -> Self {
        Self {
            operation,
            method: Method::GET,
            to: to.clone(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            repeatable: true,
        }
    }

    /// Not tried again, whatever comes of it.
    pub(in crate::providers) const fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    /// A POST of a form. It is made once, unless [`Self::repeatable`] says that a second one does no harm.
    pub(in crate::providers) fn post_form(
        operation: Operation,
        to: &Endpoint,
        form: String,
    ) -> Self {
        let mut call = Self::get(operation, to);
        call.method = Method::POST;
        // It may hold a password or a secret of ours.
        call.body = Bytes::from_owner(Zeroizing::new(form.into_bytes()));
        call.repeatable = false;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        call.headers.insert(header::CONTENT_TYPE, form);
        call
    }

    /// A document that makes or changes something. It is made once, unless [`Self::repeatable`] says that a second one does no
    /// harm; the document is cleared once it is sent.
    pub(in crate::providers) fn document(
        (operation, method): (Operation, Method),
        to: &Endpoint,
        kind: &'static str,
        document: &Secret<String>,
    ) -> Self {
        let mut call = Self::get(operation, to);
        call.method = method;
        call.body = Bytes::from_owner(Zeroizing::new(document.expose().clone().into_bytes()));
        call.repeatable = false;
        let kind = HeaderValue::from_static(kind);
        call.headers.insert(header::CONTENT_TYPE, kind);
        call
    }

    /// Says that making the call twice does no harm, so it may be tried again.
    pub(in crate::providers) const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Adds a header. One that carries a secret should be marked sensitive.
    pub(in crate::providers) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// The request, anew for every try.
    pub(super) fn request(&self) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.to.uri().clone())
            .body(Full::new(self.body.clone()))
            .map_err(Failure::Request)?;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static("authferry"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        // A coded answer could be small on the wire and huge in memory.
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        Ok(request)
    }
}

/// The address may carry a secret in its query, and a form does: neither is printed.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

/// An answer that is not 429 or 5xx, whole.
#[derive(Clone)]
pub(in crate::providers) struct Answer {
    /// Its status: 1xx to 4xx, redirects included.
    pub(in crate::providers) status: StatusCode,
    /// Its headers.
    pub(in crate::providers) headers: HeaderMap,
    /// Its body, within the operation's limit.
    pub(in crate::providers) body: Bytes,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
