//! Answers under our own addresses: no application sees them.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::header;
use http_body_util::BodyExt as _;
use http_body_util::Limited;
use serde_json::Value;
use tokio::time::timeout;

use crate::auth;
use crate::auth::Endpoint;
use crate::auth::Logins;
use crate::identity::CredentialClass;
use crate::issuer::Address;
use crate::issuer::Call;
use crate::proxy::admission::Asked;
use crate::proxy::admission::authority;
use crate::proxy::client_body::ClientBody;
use crate::proxy::respond;
use crate::proxy::respond::Fault;
use crate::proxy::worker::Worker;

/// The address of our public keys, under every host.
const JWKS_PATH: &str = "/.authferry/jwks.json";

/// The longest body that is read: a token has at most 16 KiB.
const MAX_BODY: usize = 32 * 1024;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers an address of ours.
pub(super) async fn own_address(
    worker: &Worker,
    asked: &Asked<'_>,
    body: ClientBody,
) -> Result<Response<Bytes>, Fault> {
    if asked.request.path() == JWKS_PATH {
        let keys = worker.assertions.jwks();
        // None is known yet: an empty set would be kept by others like a good one.
        if keys
            .get("keys")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
        {
            return Err(Fault::Unavailable(5));
        }
        let mut response = Response::new(Bytes::from(keys.to_string()));
        respond::secure(response.headers_mut());
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/jwk-set+json"),
        );
        response.headers_mut().insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("max-age=300"),
        );
        return Ok(response);
    }
    if let Some(issuer) = asked.view.snapshot.issuer_at(asked.entry)
        && let Some(address) = Address::at(asked.request.path())
    {
        let authority = authority(asked.request);
        let body = match address {
            Address::Metadata => None,
            Address::Token | Address::Introspection | Address::Revocation | Address::Device => {
                read(body).await
            }
        };
        let call = Call {
            address,
            standing: Cell::new(None),
            gate: &asked.view.snapshot.gate,
            policy: &asked.entry.policy,
            facts: asked.facts(),
            channel: asked.channel(&authority),
            method: asked.request.method(),
            headers: asked.headers,
            query: asked.request.query(),
            body,
            kill: asked.kill,
            now: asked.now,
        };
        return Ok(respond::issuer(&issuer.serve(&call).await));
    }
    let logins = &asked.view.snapshot.logins;
    let authority = authority(asked.request);
    let request = asked.login(&authority);
    if let Some(which) = Logins::account_page_at(asked.request.path()) {
        if !matches!(*asked.request.method(), Method::GET | Method::HEAD) {
            return Err(Fault::Forbidden);
        }
        let policy = &asked.entry.policy;
        // Sessions alone: passwords and tokens are not tried at an address that no route and no limit stands before.
        let classes = [CredentialClass::Session];
        let who = match auth::extract(asked.headers, None, policy.owners(), &classes) {
            Ok(Some(presented)) => {
                let way = (&asked.facts(), &asked.channel(&authority));
                let gate = &asked.view.snapshot.gate;
                let who = gate.who(policy, &presented, way, asked.kill, asked.now);
                Box::pin(who).await.ok()
            }
            // Whoever is not known is led where they would sign in.
            Ok(None) | Err(_) => None,
        };
        let wanted = (which, who.as_ref());
        let page = logins.account_page(policy, &request, wanted, asked.kill, asked.now);
        return Ok(page.await);
    }
    let endpoint = logins.endpoint(asked.request.path());
    let endpoint = endpoint.ok_or(Fault::Forbidden)?;
    if let Endpoint::BackChannel(provider) = &endpoint {
        // What does not come, or is too much, is no logout token.
        let body = read(body).await.unwrap_or_default();
        let told = logins.back_channel(provider, &request, &body, asked.now);
        return Ok(told.await);
    }
    if endpoint == Endpoint::OptIn {
        let policy = &asked.entry.policy;
        let classes = [CredentialClass::Session];
        let presented = auth::extract(asked.headers, None, policy.owners(), &classes);
        // A session of ours is looked at there; one of a provider is for its owner to judge.
        let theirs = match presented {
            Ok(Some(presented)) if presented.session().is_none() => {
                let gate = &asked.view.snapshot.gate;
                gate.known(&presented, asked.now).await.is_ok()
            }
            Ok(_) | Err(_) => false,
        };
        return Ok(logins.opt_in(policy, &request, theirs, asked.now).await);
    }
    if endpoint == Endpoint::Login {
        logins
            .may_begin(&asked.entry.policy, &request, asked.now)
            .await
            .map_err(Fault::TooMany)?;
    }
    // The answers to what a page of ours has asked.
    let answers = if endpoint == Endpoint::Login && *asked.request.method() == Method::POST {
        read(body).await.unwrap_or_default()
    } else {
        Bytes::new()
    };
    Ok(logins
        .serve(
            &asked.entry.policy,
            &endpoint,
            (&request, answers.as_ref()),
            asked.kill,
            asked.now,
        )
        .await)
}

/// A small body; `None`: it does not come, or is too long.
async fn read(body: ClientBody) -> Option<Bytes> {
    let body = Limited::new(body, MAX_BODY).collect();
    let body = timeout(PATIENCE, body).await.ok()?.ok()?;
    Some(body.to_bytes())
}
