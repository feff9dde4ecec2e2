//! A hook of the operator that says whether a stage may be left: 2xx is yes, whatever else is no, and so is silence.
//!
//! Nothing but the status is read, and a redirect is an answer that is no yes: nobody is sent on to another judge.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header;
use http_body_util::Full;
use serde_json::Value;

use crate::secret::Secret;
use crate::telemetry::promql::Asker;
use crate::telemetry::promql::asker;
use crate::telemetry::promql::bearer;

/// Who is asked.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Where.
    pub(crate) url: String,
    /// A bearer token.
    pub(crate) token: Option<Secret<String>>,
    /// How long it may take.
    pub(crate) timeout: Duration,
}

/// Asks.
pub(crate) struct Webhook(Asker);

impl Webhook {
    /// Connects when it is asked.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub(crate) fn new() -> io::Result<Self> {
        asker().map(Self)
    }

    /// Whether it says yes.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    pub(crate) async fn ask(&self, source: &Source, about: &Value) -> Result<(), String> {
        let asked = tokio::time::timeout(source.timeout, self.answer(source, about)).await;
        asked.or(Err(String::from("it does not answer in time")))?
    }

    async fn answer(&self, source: &Source, about: &Value) -> Result<(), String> {
        let mut request =
            Request::post(&source.url).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &source.token {
            request = request.header(header::AUTHORIZATION, bearer(token)?);
        }
        let request = request.body(Full::from(about.to_string()));
        let request: Request<Full<Bytes>> = request.map_err(|error| error.to_string())?;
        // Which host does not resolve, or refuses, is in the diagnostics of whoever runs it.
        let answer = self.0.request(request).await;
        let status = answer.or(Err(String::from("it does not answer")))?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("it answers {}", status.as_u16()))
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with this, or keeps silent; what it was asked.
    async fn asked(answer: Option<&str>) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = Source {
            url: format!("http://{}/gate?of=crm", listener.local_addr().unwrap()),
            token: Some(Secret::new(String::from("hush"))),
            timeout: Duration::from_secs(if answer.is_some() { 20 } else { 0 }),
        };
        let hook = Webhook::new().unwrap();
        let about = json!({ "rollout": "crm-2026", "step": "ramp/98", "next": "primary" });
        let Some(answer) = answer else {
            return (hook.ask(&source, &about).await, String::new());
        };
        let serves = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = String::new();
            while !seen.contains("\"rollout\"") {
                let mut bytes = [0; 4_096];
                let read = stream.read(&mut bytes).await.unwrap();
                seen.push_str(&String::from_utf8_lossy(bytes.get(..read).unwrap()));
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Nobody comes a second time, wherever they are sent.
            (seen, stream)
        };
        let (said, (seen, _stream)) = tokio::join!(hook.ask(&source, &about), serves);
        (said, seen)
    }

    #[tokio::test]
    async fn only_a_status_of_success_is_a_yes() {
        let (said, seen) = asked(Some("HTTP/1.1 204 No Content\r\n\r\n")).await;
        assert_eq!(said, Ok(()));
        assert!(seen.starts_with("POST /gate?of=crm HTTP/1.1\r\n"), "{seen}");
        assert!(
            seen.contains("\r\nauthorization: Bearer hush\r\n"),
            "{seen}"
        );
        assert!(
            seen.ends_with(r#"{"next":"primary","rollout":"crm-2026","step":"ramp/98"}"#),
            "{seen}"
        );
        for (answer, why) in [
            (
                "HTTP/1.1 302 Found\r\nlocation: /yes\r\ncontent-length: 0\r\n\r\n",
                "it answers 302",
            ),
            (
                "HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\nno",
                "it answers 409",
            ),
            (
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
                "it answers 503",
            ),
            ("what?\r\n\r\n", "it does not answer"),
        ] {
            assert_eq!(asked(Some(answer)).await.0, Err(why.to_owned()));
        }
        assert_eq!(
            asked(None).await.0,
            Err(String::from("it does not answer in time"))
        );
    }
}
