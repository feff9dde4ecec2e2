//! A provider says that somebody has signed out there: back channel and front channel.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::header::RETRY_AFTER;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::Request;
use crate::auth::login::query::Query;
use crate::auth::login::query::is_form;
use crate::auth::login::reply;
use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::revocation::NotLoggedOut;
use crate::revocation::Source;
use crate::telemetry::metrics::RevocationOutcome;
use crate::token::LogoutToken;

/// What a provider is told of its logout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// It holds.
    Done,
    /// It was no good: nothing has ended.
    Refused,
    /// The store did not take it, or nobody has looked at it: the same token may come again.
    Again,
}

impl Logins {
    /// The back-channel logout of a provider (OpenID Connect Back-Channel Logout 1.0 §2.5). Whatever is wrong is a 400, and
    /// ends nothing (§2.8); a 503 says that we are the reason.
    ///
    /// From where too many bad ones have come, others may come too: what the keys at hand can judge still is, a few at a time.
    pub(crate) async fn back_channel(
        &self,
        provider: &ProviderId,
        request: &Request<'_>,
        body: &[u8],
        now: UnixTime,
    ) -> Response<Bytes> {
        let address = request.facts.client_ip;
        let throttle = &self.deps.revocations.floods().logouts;
        let judged = if throttle.may_try(address, now) {
            self.logout_token(provider, (request, body), false, now)
                .await
        } else {
            match self.deps.revocations.floods().turns.take().await {
                Some(_turn) => {
                    self.logout_token(provider, (request, body), true, now)
                        .await
                }
                None => Err(Unusable::Unseen),
            }
        };
        let told = match judged {
            Ok(token) => match self.deps.revocations.logged_out(provider, &token).await {
                Ok(()) => Told::Done,
                Err(NotLoggedOut::Store(error)) => {
                    warn!(%provider, %error, "A logout is not written down; the provider may try again.");
                    Told::Again
                }
                Err(why @ (NotLoggedOut::Replayed | NotLoggedOut::Mismatch)) => {
                    info!(%provider, %why, "A logout was refused.");
                    Told::Refused
                }
            },
            Err(why @ Unusable::Unseen) => {
                warn!(%provider, %why, "A logout was not looked at; the provider may try again.");
                Told::Again
            }
            Err(why @ (Unusable::Form | Unusable::Provider | Unusable::Token(_))) => {
                info!(%provider, %why, "A logout was refused.");
                Told::Refused
            }
        };
        if told == Told::Refused {
            throttle.refused(address, now);
            let known = self.deps.providers.named(provider).map(|known| known.id());
            let metrics = &self.deps.reports.metrics;
            metrics.revoked(Source::BackChannel, known, RevocationOutcome::Refused);
        }
        answer(told)
    }

    /// The logout token of a request, judged by the keys of the provider whose address was called, or by those of them that are
    /// `at_hand`.
    async fn logout_token(
        &self,
        provider: &ProviderId,
        (request, body): (&Request<'_>, &[u8]),
        at_hand: bool,
        now: UnixTime,
    ) -> Result<LogoutToken, Unusable> {
        if *request.method != Method::POST || !is_form(request.headers) {
            return Err(Unusable::Form);
        }
        let form = std::str::from_utf8(body)
            .ok()
            .and_then(|text| Query::parse(Some(text)).ok());
        let token = form.as_ref().and_then(|form| form.value("logout_token"));
        let token = token.ok_or(Unusable::Form)?.to_owned();
        let owner = self
            .deps
            .providers
            .named(provider)
            .ok_or(Unusable::Provider)?;
        let owner: Arc<dyn Provider> = Arc::clone(owner);
        let judging = self.deps.background.spawn(async move {
            let login = owner.login().ok_or(Unusable::Provider)?;
            let judged = if at_hand {
                let judged = login.logout_token_at_hand(&token, now);
                judged.ok_or(Unusable::Unseen)?
            } else {
                login.logout_token(&token, now).await
            };
            judged.map_err(Unusable::Token)
        });
        judging.await.unwrap_or_else(|error| {
            error!(%provider, %error, "The judgement of a logout broke off.");
            Err(Unusable::Token(Outage::Shed.into()))
        })
    }

    /// The front-channel logout of a provider (OpenID Connect Front-Channel Logout 1.0 §3): a frame in the browser, whose
    /// cookies do not reach us, so `iss` and `sid` are required.
    pub(super) async fn front_channel(
        &self,
        ask: &Ask<'_>,
        provider: &ProviderId,
    ) -> Response<Bytes> {
        let query = Query::parse(ask.request.query).unwrap_or_default();
        let owner = self.deps.providers.named(provider);
        let issuer = owner.and_then(|owner| owner.login()?.issuer());
        let address = ask.request.facts.client_ip;
        let throttle = &self.deps.revocations.floods().frames;
        let (Some(iss), Some(sid)) = (query.value("iss"), query.value("sid")) else {
            return answer(Told::Refused);
        };
        if *ask.request.method != Method::GET
            || issuer != Some(iss)
            || !throttle.may_try(address, ask.now)
        {
            throttle.refused(address, ask.now);
            return answer(Told::Refused);
        }
        match self
            .deps
            .revocations
            .front_channel(provider, iss, sid)
            .await
        {
            Ok(true) => answer(Told::Done),
            Ok(false) => {
                // Whoever guesses is slowed down, and learns nothing.
                throttle.refused(address, ask.now);
                answer(Told::Done)
            }
            Err(error) => {
                warn!(%provider, %error, "A logout is not written down.");
                answer(Told::Again)
            }
        }
    }
}

/// Why there is no logout token to act on.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it is no form with one logout_token")]
    Form,
    #[error("nobody signs in at this provider")]
    Provider,
    #[error("too many bad ones came from its address")]
    Unseen,
    #[error(transparent)]
    Token(ProviderError),
}

/// What a provider gets for a logout.
fn answer(told: Told) -> Response<Bytes> {
    let (status, text) = match told {
        Told::Done => (StatusCode::OK, ""),
        Told::Refused => (StatusCode::BAD_REQUEST, "{\"error\":\"invalid_request\"}"),
        Told::Again => (
            StatusCode::SERVICE_UNAVAILABLE,
            "{\"error\":\"temporarily_unavailable\"}",
        ),
    };
    let mut response = reply::with(status, Bytes::from_static(text.as_bytes()), Vec::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if told == Told::Again {
        headers.insert(RETRY_AFTER, reply::RETRY);
    }
    response
}
