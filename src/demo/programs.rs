//! Simulated programs: each sends the password of a person, until it does not count any more; then it fetches a token at the
//! new provider.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::demo::crowd::split;
use crate::demo::people::Person;
use crate::demo::people::forty;
use crate::demo::provider::DemoProvider;

/// The application of programs, at the address of the other one: names below `localhost` are this machine (RFC 6761 §6.3).
pub(super) const HOST: &str = "reports.localhost";

/// The password of everybody.
pub(super) const PASSWORD: &str = "demo";

/// Its bcrypt hash: of a password that is no secret, so a low cost and a fixed salt do no harm.
const HASH: &str = "$2y$04$WDdAS7qPo1gnpmPYf6n8leX3wD9aeqdzRdbei/2uR69whxSmAuNzm";

const PAUSE: Duration = Duration::from_millis(250);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The password file: everybody by their old user number.
pub(super) fn password_file() -> String {
    let line = |person: Person| format!("{}:{HASH}:{}\n", person.number, person.groups.join(","));
    forty().into_iter().map(line).collect()
}

/// Lets every program ask, one after the other, for ever.
pub(super) async fn run(app: SocketAddr, new: Arc<DemoProvider>) {
    loop {
        for person in forty() {
            tokio::time::sleep(PAUSE).await;
            if let Err(error) = ask(app, &person.number, &new).await {
                tracing::debug!(error, "a simulated program got no answer");
            }
        }
    }
}

/// With the password; where that is refused, with a token.
async fn ask(app: SocketAddr, number: &str, new: &DemoProvider) -> Result<(), String> {
    let basic = STANDARD.encode(format!("{number}:{PASSWORD}"));
    let first = get(app, &format!("Basic {basic}")).await?;
    if first.status() != StatusCode::UNAUTHORIZED {
        return judge(&first);
    }
    let token = token(number, new).await?;
    judge(&get(app, &format!("Bearer {token}")).await?)
}

fn judge(response: &Response<Incoming>) -> Result<(), String> {
    if response.status().is_success() {
        Ok(())
    } else {
        Err(response.status().to_string())
    }
}

async fn get(app: SocketAddr, authorization: &str) -> Result<Response<Incoming>, String> {
    let request = Request::get("/")
        .header(header::HOST, format!("{HOST}:{}", app.port()))
        .header(header::AUTHORIZATION, authorization)
        .body(Full::default())
        .map_err(|error| error.to_string())?;
    send(app, request).await
}

/// An access token of a program (RFC 6749 §4.4).
pub(super) async fn token(name: &str, provider: &DemoProvider) -> Result<String, String> {
    let (to, _) = split(&format!("{}/token", provider.issuer()))?;
    let basic = STANDARD.encode(format!("{name}:{}", provider.client_secret()));
    let request = Request::post("/token")
        .header(header::HOST, to.to_string())
        .header(header::AUTHORIZATION, format!("Basic {basic}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from_static(
            b"grant_type=client_credentials",
        )))
        .map_err(|error| error.to_string())?;
    let body = send(to, request).await?.into_body().collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let answer: serde_json::Value =
        serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let token = answer.get("access_token").and_then(|token| token.as_str());
    token
        .map(str::to_owned)
        .ok_or_else(|| String::from("no token"))
}

async fn send(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
    if !to.ip().is_loopback() {
        return Err("programs stay on this machine".to_owned());
    }
    tokio::time::timeout(CALL_TIMEOUT, async {
        let stream = TcpStream::connect(to).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(async move { drop(connection.await) });
        sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())
    })
    .await
    .map_err(|error| error.to_string())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_the_password() {
        assert!(bcrypt::verify(PASSWORD, HASH).unwrap());
    }
}
