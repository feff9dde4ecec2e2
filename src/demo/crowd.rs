//! Simulated people: each has a browser with cookies of its own and signs in again and again, so that an edited percent shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::Request;
use http::Response;
use http::header;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::demo::people::forty;

const PAUSE: Duration = Duration::from_millis(250);
const MAX_HOPS: usize = 8;
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Lets everybody sign in, one after the other, for ever. A failed sign-in is tried again at the next round.
pub(super) async fn run(app: SocketAddr) {
    let mut browsers: Vec<_> = forty()
        .into_iter()
        .map(|person| Browser {
            name: person.name,
            device: BTreeMap::new(),
        })
        .collect();
    loop {
        for browser in &mut browsers {
            tokio::time::sleep(PAUSE).await;
            if let Err(error) = browser.sign_in(app).await {
                tracing::debug!(error, "a simulated sign-in did not finish");
            }
        }
    }
}

#[derive(Debug)]
struct Browser {
    name: String,
    /// What outlives a session: the device cookie.
    device: BTreeMap<String, String>,
}

impl Browser {
    /// Opens the application in a fresh session and follows every redirect.
    async fn sign_in(&mut self, app: SocketAddr) -> Result<(), String> {
        let mut cookies = self.device.clone();
        let mut url = format!("http://{app}/");
        for _ in 0..MAX_HOPS {
            let (authority, target) = split(&url)?;
            let target = if target.starts_with("/authorize?") {
                format!("{target}&who={}", self.name)
            } else {
                target
            };
            let at_app = authority == app;
            let host = authority.to_string();
            let at = (authority, &*host);
            let response = fetch(at, &target, at_app.then_some(&cookies), None).await?;
            if at_app {
                for set in response.headers().get_all(header::SET_COOKIE) {
                    if let Some((name, value)) = set
                        .to_str()
                        .ok()
                        .and_then(|c| c.split(';').next())
                        .and_then(|c| c.split_once('='))
                    {
                        cookies.insert(name.to_owned(), value.to_owned());
                    }
                }
            }
            if !response.status().is_redirection() {
                self.device = cookies
                    .into_iter()
                    .filter(|(name, _)| name.ends_with("_dev"))
                    .collect();
                return if response.status().is_success() {
                    Ok(())
                } else {
                    Err(response.status().to_string())
                };
            }
            let location = response
                .headers()
                .get(header::LOCATION)
                .and_then(|l| l.to_str().ok())
                .ok_or("no location")?;
            url = if location.starts_with('/') {
                format!("http://{authority}{location}")
            } else {
                location.to_owned()
            };
        }
        Err("too many redirects".to_owned())
    }
}

pub(super) fn split(url: &str) -> Result<(SocketAddr, String), String> {
    let uri: http::Uri = url.parse().map_err(|e| format!("{e}"))?;
    let authority = uri
        .authority()
        .and_then(|a| a.as_str().parse().ok())
        .ok_or("not a loopback address")?;
    Ok((
        authority,
        uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
    ))
}

/// Asks for a page: from where, as which host.
pub(super) async fn fetch(
    (to, host): (SocketAddr, &str),
    target: &str,
    cookies: Option<&BTreeMap<String, String>>,
    bearer: Option<&str>,
) -> Result<Response<Incoming>, String> {
    if !to.ip().is_loopback() {
        return Err("the crowd stays on this machine".to_owned());
    }
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(target)
        .header(header::HOST, host)
        .header(header::ACCEPT, "text/html")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document");
    if let Some(cookies) = cookies.filter(|c| !c.is_empty()) {
        let line = cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("; ");
        request = request.header(header::COOKIE, line);
    }
    if let Some(bearer) = bearer {
        request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    tokio::time::timeout(CALL_TIMEOUT, async {
        let stream = TcpStream::connect(to).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(async move { drop(connection.await) });
        sender
            .send_request(request)
            .await
            .map_err(|e| e.to_string())
    })
    .await
    .map_err(|e| e.to_string())?
}
