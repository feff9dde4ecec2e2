//! What another system counts, asked of a Prometheus: one number for one query (HTTP API, `/api/v1/query`).
//!
//! Whatever is not one number is no answer: no data, several series, an error, nothing in time.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::Limited;
use hyper_rustls::HttpsConnector;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;

use crate::secret::Secret;

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Which Prometheus is asked.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Such as `http://127.0.0.1:9090`, without the path of the API.
    pub(crate) url: String,
    /// A bearer token.
    pub(crate) token: Option<Secret<String>>,
    /// How long it may take.
    pub(crate) timeout: Duration,
}

/// Asks.
pub(crate) struct Prometheus(Asker);

/// How other systems are asked: over TLS with the roots of the system, or in the clear; nobody is sent on elsewhere.
pub(super) type Asker = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// An answer, as far as it is read.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    data: Data,
    #[serde(default)]
    error: String,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default, rename = "resultType")]
    kind: String,
    #[serde(default)]
    result: Value,
}

impl Prometheus {
    /// Connects when it is asked.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub(crate) fn new() -> io::Result<Self> {
        asker().map(Self)
    }

    /// The one number that answers the query.
    ///
    /// # Errors
    ///
    /// Why there is none, in words.
    pub(crate) async fn ask(&self, source: &Source, query: &str) -> Result<f64, String> {
        let asked = tokio::time::timeout(source.timeout, self.answer(source, query)).await;
        let body = asked.or(Err(String::from("it did not answer in time")))??;
        read(&body)
    }

    async fn answer(&self, source: &Source, query: &str) -> Result<Bytes, String> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", query)
            .finish();
        let mut request = Request::post(format!("{}/api/v1/query", source.url))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(token) = &source.token {
            request = request.header(header::AUTHORIZATION, bearer(token)?);
        }
        let request = request.body(Full::from(form));
        let request = request.map_err(|error| error.to_string())?;
        let answer = self.0.request(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        match head.status {
            StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Ok(body),
            status => Err(format!("it answers {status}")),
        }
    }
}

/// Connects when somebody is asked.
///
/// # Errors
///
/// When TLS cannot be set up.
pub(super) fn asker() -> io::Result<Asker> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// The bearer token of whoever is asked.
pub(super) fn bearer(token: &Secret<String>) -> Result<HeaderValue, String> {
    let bearer = format!("Bearer {}", token.expose());
    let bearer = HeaderValue::from_str(&bearer);
    let mut bearer = bearer.or(Err(String::from("its token cannot be sent")))?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

/// The number of an answer.
fn read(body: &[u8]) -> Result<f64, String> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| format!("it answers what is not of its API: {error}"))?;
    if !answer.error.is_empty() {
        return Err(answer.error);
    }
    let sample = match (answer.data.kind.as_str(), answer.data.result) {
        ("scalar", sample) => sample,
        ("vector", Value::Array(mut series)) => match (series.pop(), series.is_empty()) {
            (Some(one), true) => one.get("value").cloned().unwrap_or_default(),
            (Some(_), false) => {
                return Err(String::from("several series answer it: `sum` them"));
            }
            (None, _) => return Err(String::from("it has no data")),
        },
        (kind, _) => return Err(format!("the query gives no number, but a {kind:?}")),
    };
    let number = sample.get(1).and_then(Value::as_str);
    let number = number.and_then(|text| text.parse().ok());
    number
        .filter(|number: &f64| !number.is_nan())
        .ok_or_else(|| String::from("it answers no number"))
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prometheus")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Prometheus 3 answers.
    #[test]
    fn one_number_is_an_answer_and_nothing_else() {
        let vector = |result: &str| {
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#
            )
        };
        let one = r#"{"metric":{},"value":[1741.2,"3.5"]}"#;
        assert_eq!(read(vector(one).as_bytes()), Ok(3.5));
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1741.2,"7"]}}"#;
        assert_eq!(read(scalar.as_bytes()), Ok(7.0));
        for (body, why) in [
            (vector(""), "no data"),
            (vector(&format!("{one},{one}")), "several series"),
            (vector(&one.replace("3.5", "NaN")), "no number"),
            (vector(one).replace("vector", "matrix"), "matrix"),
            (
                r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.to_owned(),
                "parse error",
            ),
            ("<html>".to_owned(), "not of its API"),
        ] {
            let said = read(body.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{body}: {said}");
        }
    }
}
