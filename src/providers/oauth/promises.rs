//! What holds for what providers answer, whatever that is. See `crate::promises`.

use std::sync::Arc;
use std::sync::LazyLock;

use http::HeaderMap;
use http::StatusCode;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::Delegation;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::oauth::device;
use crate::providers::oauth::discovery;
use crate::providers::oauth::introspect;
use crate::providers::oauth::login;
use crate::providers::oauth::pushed;
use crate::providers::oauth::renewal;
use crate::providers::oauth::token_client;

const ISSUER: &str = "https://idp.example";
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// Whom a token was about that is asked about.
static ALICE: LazyLock<Option<Identity>> = LazyLock::new(|| {
    let key = SubjectKey {
        issuer: Issuer::new(ISSUER),
        subject: Subject::try_from("alice").ok()?,
    };
    Some(Identity {
        provider: ProviderId::new("idp"),
        key,
        attributes: Arc::new(ClaimMap::new(Map::new())),
        client_id: None,
        acr: None,
        scopes: Box::default(),
        delegation: Delegation::default(),
    })
});

/// What is no judgement judges nobody. The first line is the status, the rest is the body.
pub(crate) fn provider_answer(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (line, body) = bytes.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let status = std::str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse::<u16>().ok());
    // 5xx never comes so far.
    let Some(status) = status.filter(|status| (200..500).contains(status)) else {
        return;
    };
    let Ok(status) = StatusCode::from_u16(status) else {
        return;
    };
    let answer = Answer {
        status,
        headers: HeaderMap::new(),
        body: body.to_vec().into(),
    };
    let object = serde_json::from_slice::<Map<String, Value>>(body).ok();
    let text = |name: &str| {
        object
            .as_ref()
            .and_then(|object| object.get(name)?.as_str())
    };
    // A refusal says something of somebody: with an error, or where the answer is one to that question.
    let judged = |refused: bool| {
        if refused {
            assert!(
                status.is_client_error() && text("error").is_some(),
                "{status}"
            );
        }
    };
    let refused = |error: Option<&ProviderError>| {
        judged(matches!(error, Some(ProviderError::Rejected(_))));
    };

    for mutual in [false, true] {
        let Ok(metadata) = discovery::read(&answer, &Issuer::new(ISSUER), mutual) else {
            continue;
        };
        assert!(status == StatusCode::OK && text("issuer") == Some(ISSUER));
        let endpoints = [
            &metadata.authorization_endpoint,
            &metadata.token_endpoint,
            &metadata.jwks_uri,
            &metadata.end_session_endpoint,
            &metadata.revocation_endpoint,
            &metadata.introspection_endpoint,
            &metadata.device_authorization_endpoint,
            &metadata.pushed_authorization_request_endpoint,
        ];
        // Nobody elsewhere sends us to ourselves.
        assert!(
            endpoints
                .iter()
                .copied()
                .flatten()
                .all(|endpoint| !endpoint.is_loopback())
        );
    }

    for exchange in [false, true] {
        let issued = token_client::read(&answer, exchange, NOW);
        refused(issued.as_ref().err());
        let Ok(issued) = issued else { continue };
        let token = issued.token.expose();
        assert_eq!(status, StatusCode::OK);
        assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")));
        assert!(
            issued
                .ends
                .is_none_or(|ends| ends <= NOW + token_client::MAX_LIFE)
        );
        assert!(issued.proof.is_none());
    }

    let granted = login::granted(&answer);
    refused(granted.as_ref().err());
    if let Ok(granted) = granted {
        assert!(status == StatusCode::OK);
        assert_eq!(
            granted
                .id_token
                .as_ref()
                .map(|token| token.expose().as_str()),
            text("id_token")
        );
    }

    let pushed = pushed::read(&answer);
    refused(pushed.as_ref().err());
    assert!(pushed.is_err() || status == StatusCode::CREATED);

    let started = device::started(&answer);
    refused(started.as_ref().err());
    if let Ok(started) = started {
        assert!(!started.user_code.contains(char::is_control));
        for address in [Some(&started.verification_uri), started.complete.as_ref()] {
            assert!(address.is_none_or(|uri| uri.starts_with("http") && !uri.contains(char::is_whitespace)));
        }
    }

    let revoked = renewal::revoked(&answer);
    refused(revoked.as_ref().err());
    assert!(revoked.is_err() || status.is_success());

    let Some(alice) = &*ALICE else { return };
    let active = object.as_ref().and_then(|object| object.get("active"));
    match introspect::read(&answer, alice) {
        Ok(()) => {
            assert!(status == StatusCode::OK && active == Some(&Value::Bool(true)));
            assert!(text("sub").is_none_or(|sub| sub == "alice"));
            assert!(text("iss").is_none_or(|iss| iss == ISSUER));
        }
        Err(ProviderError::Rejected(refusal)) => {
            assert_eq!(refusal, Refusal::Inactive);
            assert!(status == StatusCode::OK && active == Some(&Value::Bool(false)));
        }
        Err(ProviderError::Unavailable { .. }) => {}
    }
}
