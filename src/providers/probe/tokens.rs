//! Issuers and introspection servers: keys, and whether they take us for whom we say.

use std::time::Duration;

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;

use crate::identity::Issuer;
use crate::providers::client::Answer;
use crate::providers::client::Call;
use crate::providers::client::Endpoint;
use crate::providers::keys::parse_file;
use crate::providers::oauth::ClientAuthenticator;
use crate::providers::oauth::Form;
use crate::providers::probe::Asker;
use crate::providers::probe::Check;
use crate::providers::probe::Finding;
use crate::providers::probe::clock::Reading;
use crate::providers::settings;
use crate::telemetry::metrics::Operation;
use crate::token::KeySet;

/// The difference of clocks that an introspection answer may show.
const LEEWAY: Duration = Duration::from_secs(30);

impl Asker<'_> {
    /// Makes a call, and reads the clock of whoever answers.
    pub(super) async fn ask(&self, call: &Call) -> Result<(Answer, Reading), String> {
        let asked = self.deps.clock.now();
        let answer = self.http.call(call, Ok).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let reading = Reading::new(asked, self.deps.clock.now(), &answer.headers);
        Ok((answer, reading))
    }

    pub(super) async fn jwt(&self, jwt: &settings::Jwt) -> Vec<Finding> {
        let (keys, reading) = self.keys(&jwt.keys, None).await;
        let clock = reading.map(|reading| reading.judge(jwt.verify.leeway));
        [keys].into_iter().chain(clock).collect()
    }

    /// Whether there are keys. `discovered`: what the metadata say.
    pub(super) async fn keys(
        &self,
        keys: &settings::Keys,
        discovered: Option<&Endpoint>,
    ) -> (Finding, Option<Reading>) {
        let found = |result: Result<usize, String>| {
            let words = result.and_then(|number| match number {
                0 => Err("none of its keys can be used".to_owned()),
                1 => Ok("1 key".to_owned()),
                number => Ok(format!("{number} keys")),
            });
            Finding::of(Check::Keys, words)
        };
        let address = match keys {
            settings::Keys::Inline(keys) => return (found(Ok(keys.len())), None),
            settings::Keys::File(path) => {
                let read = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|cause| cause.to_string());
                let read = read.and_then(|text| parse_file(&text).map(|keys| keys.len()));
                return (
                    found(read.map_err(|cause| format!("{}: {cause}", path.display()))),
                    None,
                );
            }
            settings::Keys::Url(url) => Endpoint::parse(url).map_err(|cause| cause.to_string()),
            settings::Keys::Discovered => discovered
                .cloned()
                .ok_or_else(|| "the metadata have no `jwks_uri`".to_owned()),
        };
        let address = match address {
            Ok(address) => address,
            Err(cause) => return (found(Err(cause)), None),
        };
        match self.ask(&Call::get(Operation::Keys, &address)).await {
            Err(cause) => (found(Err(format!("{address}: {cause}"))), None),
            Ok((answer, reading)) => {
                let read = match answer.status {
                    StatusCode::OK => KeySet::from_remote(&answer.body)
                        .map(|(keys, _)| keys.len())
                        .map_err(|cause| cause.to_string()),
                    status => Err(format!("the answer has status {}", status.as_u16())),
                };
                (
                    found(read.map_err(|cause| format!("{address}: {cause}"))),
                    Some(reading),
                )
            }
        }
    }

    pub(super) async fn introspection(&self, settings: &settings::Introspection) -> Vec<Finding> {
        match self.ask_about_a_stranger(settings).await {
            Err(cause) => vec![Finding::of(Check::Client, Err::<&str, _>(cause))],
            Ok((answer, reading)) => vec![
                Finding::of(Check::Client, is_inactive(&answer)),
                reading.judge(LEEWAY),
            ],
        }
    }

    async fn ask_about_a_stranger(
        &self,
        settings: &settings::Introspection,
    ) -> Result<(Answer, Reading), String> {
        let endpoint = Endpoint::parse(&settings.url).map_err(|cause| cause.to_string())?;
        let client = ClientAuthenticator::new(&settings.client, &self.deps.metrics)?;
        let form = Form::default()
            .with("token", &self.deps.entropy.token())
            .with("token_type_hint", "access_token");
        // As when a token is judged: an issuer that is a name of ours names no server.
        let audience = match Endpoint::parse(settings.issuer.as_str()) {
            Ok(_) => settings.issuer.as_str(),
            Err(_) => &settings.url,
        };
        let now = self.deps.clock.now();
        let call = client
            .post(
                Operation::Introspect,
                &endpoint,
                form,
                audience,
                now,
                &*self.deps.entropy,
            )
            .map_err(|error| error.to_string())?;
        self.ask(&call.repeatable()).await
    }

    /// Whether the token endpoint takes us for whom we say: a code that nobody was given must be what is wrong.
    pub(super) async fn client(
        &self,
        client: &ClientAuthenticator,
        issuer: &Issuer,
        endpoint: Option<&Endpoint>,
        redirect_uri: &str,
    ) -> Finding {
        let Some(endpoint) = endpoint else {
            return Finding::of(
                Check::Client,
                Err::<&str, _>("the metadata have no `token_endpoint`"),
            );
        };
        let form = Form::default()
            .with("grant_type", "authorization_code")
            .with("code", &self.deps.entropy.token())
            .with("redirect_uri", redirect_uri)
            .with("code_verifier", &self.deps.entropy.token());
        let (now, entropy) = (self.deps.clock.now(), &*self.deps.entropy);
        let call = client
            .post(
                Operation::Token,
                endpoint,
                form,
                issuer.as_str(),
                now,
                entropy,
            )
            .map_err(|error| error.to_string());
        let result = match call {
            Ok(call) => self
                .ask(&call)
                .await
                .and_then(|(answer, _)| refuses_the_code(&answer)),
            Err(cause) => Err(cause),
        };
        Finding::of(Check::Client, result)
    }

    /// The clock behind an address, by an answer without a credential.
    pub(super) async fn clock_of(&self, url: &str) -> Finding {
        let asked = match Endpoint::parse(url) {
            Ok(address) => self.ask(&Call::get(Operation::Health, &address)).await,
            Err(cause) => Err(cause.to_string()),
        };
        match asked {
            Ok((_, reading)) => reading.judge(LEEWAY),
            Err(cause) => Finding::unknown(Check::Clock, &format!("{url}: {cause}")),
        }
    }

    /// The clock of a provider whose answers have no `Date`, by a token of our own (RFC 6749 §4.4), where it gives us one.
    pub(super) async fn clock_by_token(
        &self,
        client: &ClientAuthenticator,
        issuer: &Issuer,
        endpoint: &Endpoint,
    ) -> Option<Reading> {
        let form = Form::default().with("grant_type", "client_credentials");
        let (asked, entropy) = (self.deps.clock.now(), &*self.deps.entropy);
        let (operation, audience) = (Operation::Token, issuer.as_str());
        let call = client.post(operation, endpoint, form, audience, asked, entropy);
        let (answer, _) = self.ask(&call.ok()?).await.ok()?;
        let document: Map<String, Value> = serde_json::from_slice(&answer.body).ok()?;
        let token = document.get("access_token")?.as_str()?;
        Some(Reading::of_token(asked, self.deps.clock.now(), token))
    }
}

/// RFC 6749 §5.2.
fn refuses_the_code(answer: &Answer) -> Result<&'static str, String> {
    let status = answer.status.as_u16();
    let Ok(document) = serde_json::from_slice::<Map<String, Value>>(&answer.body) else {
        return Err(format!(
            "the token endpoint answers {status} without a reason"
        ));
    };
    match document.get("error").and_then(Value::as_str) {
        Some("invalid_grant") => Ok("it knows us"),
        Some("invalid_client") => {
            Err("it does not know us, or our secret is wrong (invalid_client)".to_owned())
        }
        Some(error) => Err(format!(
            "the token endpoint answers {status} ({})",
            word(error)
        )),
        None => Err(format!(
            "the token endpoint answers {status} to a code that nobody was given"
        )),
    }
}

/// RFC 7662 §2.2: nobody was given the token.
fn is_inactive(answer: &Answer) -> Result<&'static str, String> {
    if answer.status == StatusCode::UNAUTHORIZED || answer.status == StatusCode::FORBIDDEN {
        return Err("it does not know us, or our secret is wrong".to_owned());
    }
    if answer.status != StatusCode::OK {
        return Err(format!(
            "the introspection endpoint answers {}",
            answer.status.as_u16()
        ));
    }
    let document: Map<String, Value> = serde_json::from_slice(&answer.body)
        .map_err(|cause| format!("the answer is no object: {cause}"))?;
    match document.get("active") {
        Some(Value::Bool(false)) => Ok("it knows us"),
        Some(Value::Bool(true)) => Err("it calls a token active that nobody was given".to_owned()),
        _ => Err("the answer has no `active`".to_owned()),
    }
}

/// A stranger's word, fit to be shown: printable ASCII, and not too long.
pub(super) fn word(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_graphic)
        .take(64)
        .collect()
}
