//! OpenID providers: metadata, and whether a browser comes back.

use http::Uri;
use http::header::LOCATION;

use crate::identity::Issuer;
use crate::providers::LoginStart;
use crate::providers::Prompt;
use crate::providers::client::Answer;
use crate::providers::client::Call;
use crate::providers::client::Endpoint;
use crate::providers::oauth::ClientAuthenticator;
use crate::providers::oauth::Form;
use crate::providers::oauth::Metadata;
use crate::providers::oauth::authorization;
use crate::providers::oauth::metadata_address;
use crate::providers::oauth::pushed;
use crate::providers::oauth::read_metadata;
use crate::providers::probe::Asker;
use crate::providers::probe::Check;
use crate::providers::probe::Finding;
use crate::providers::probe::clock::Reading;
use crate::providers::probe::stranger;
use crate::providers::probe::tokens::word;
use crate::providers::settings::Oidc;
use crate::secret::Secret;
use crate::telemetry::metrics::Operation;

/// What a provider answers to `prompt=none` where nobody is signed in (OpenID Connect Core 1.0 §3.1.2.6).
const NOBODY_THERE: [&str; 4] = [
    "login_required",
    "interaction_required",
    "account_selection_required",
    "consent_required",
];

impl Asker<'_> {
    pub(super) async fn oidc(&self, oidc: &Oidc, origins: &[Box<str>]) -> Vec<Finding> {
        let (metadata, reading) = match self.discover(oidc).await {
            Ok(found) => found,
            Err(cause) => return vec![Finding::of(Check::Discovery, Err::<&str, _>(cause))],
        };
        let client = oidc.client.as_ref();
        let client = client.map(|client| ClientAuthenticator::new(client, &self.deps.metrics));
        let clock = match (&client, &metadata.token_endpoint) {
            (Some(Ok(client)), Some(endpoint)) if reading.is_unknown() => {
                let by_token = self.clock_by_token(client, &oidc.issuer, endpoint).await;
                by_token.unwrap_or(reading)
            }
            _ => reading,
        };
        let mut findings = vec![
            Finding::of(Check::Discovery, Ok::<_, &str>(oidc.issuer.as_str())),
            self.keys(&oidc.keys, metadata.jwks_uri.as_ref()).await.0,
            clock.judge(oidc.verify.leeway),
        ];
        let client = match client {
            None => return findings,
            Some(Ok(client)) => client,
            Some(Err(cause)) => {
                findings.push(Finding::of(Check::Client, Err::<&str, _>(cause)));
                return findings;
            }
        };
        let callbacks = origins
            .iter()
            .map(|origin| format!("{origin}{}", oidc.redirect_path));
        let callbacks: Vec<String> = callbacks.collect();
        if callbacks.is_empty() {
            let words = "its applications have hosts that are patterns only: name one with --origin APP=ORIGIN";
            findings.push(Finding::unknown(Check::Callback, words));
        }
        // Where no application has a public origin, a code that nobody was given has a callback that nobody has.
        let some = callbacks
            .first()
            .map_or("https://localhost/", String::as_str);
        let endpoint = metadata.token_endpoint.as_ref();
        findings.push(self.client(&client, &oidc.issuer, endpoint, some).await);
        for callback in callbacks {
            let result = self.comes_back(oidc, &client, &metadata, &callback).await;
            findings.push(Finding {
                callback: Some(callback.into()),
                ..Finding::of(Check::Callback, result)
            });
        }
        findings
    }

    async fn discover(&self, oidc: &Oidc) -> Result<(Metadata, Reading), String> {
        let address = metadata_address(&oidc.issuer).map_err(|cause| cause.to_string())?;
        let asked = self.ask(&Call::get(Operation::Discovery, &address)).await;
        let result = match asked {
            Ok((answer, reading)) => {
                let own = oidc.client.as_ref();
                let mutual = own.is_some_and(|own| own.certificate().is_some());
                read_metadata(&answer, &oidc.issuer, mutual).map(|metadata| (metadata, reading))
            }
            Err(cause) => Err(cause),
        };
        result.map_err(|cause| format!("{address}: {cause}"))
    }

    /// Begins a login as a browser without cookies would, and forbids the provider to show anything.
    async fn comes_back(
        &self,
        oidc: &Oidc,
        client: &ClientAuthenticator,
        metadata: &Metadata,
        callback: &str,
    ) -> Result<String, String> {
        let endpoint = metadata.authorization_endpoint.as_ref();
        let endpoint = endpoint.ok_or("the metadata have no `authorization_endpoint`")?;
        let (state, nonce) = (self.deps.entropy.token(), self.deps.entropy.token());
        let start = LoginStart {
            redirect_uri: callback,
            state: &state,
            nonce: &nonce,
            verifier: &stranger(self.deps),
            step_up: None,
            login_hint: None,
            prompt: Prompt::Never,
        };
        let scope = oidc.scopes.join(" ");
        // As a login would: whoever requires that requests are pushed refuses any other.
        let pushed = pushed::endpoint(oidc.par, metadata);
        let pushed = pushed.or(Err(
            "the metadata require pushed requests and do not say where",
        ))?;
        let form = match pushed {
            None => authorization(Some(client.id()), &scope, &start),
            Some(to) => {
                let named = (!client.names_itself()).then(|| client.id());
                let form = authorization(named, &scope, &start);
                let name = self.push(client, &oidc.issuer, (to, form)).await?;
                pushed::named(client.id(), &name)
            }
        };
        let address = form.onto(&endpoint.to_string());
        let address = Endpoint::parse(&address).map_err(|cause| cause.to_string())?;
        let (answer, _) = self.ask(&Call::get(Operation::Health, &address)).await?;
        judge(&answer, callback, &state)
    }

    /// Leaves the parameters at the provider, which forgets them if nobody comes with their name (RFC 9126 §2.2).
    async fn push(
        &self,
        client: &ClientAuthenticator,
        issuer: &Issuer,
        (to, form): (&Endpoint, Form),
    ) -> Result<Secret<String>, String> {
        let (now, entropy) = (self.deps.clock.now(), &*self.deps.entropy);
        let call = client.post(Operation::Token, to, form, issuer.as_str(), now, entropy);
        let call = call.map_err(|error| error.to_string())?;
        let (answer, _) = self.ask(&call).await?;
        let Ok(name) = pushed::read(&answer) else {
            let status = answer.status.as_u16();
            return Err(format!(
                "it answers {status} to the request that we push there: is this callback registered there?"
            ));
        };
        Ok(name)
    }
}

fn judge(answer: &Answer, callback: &str, state: &str) -> Result<String, String> {
    let status = answer.status.as_u16();
    if !answer.status.is_redirection() {
        return Err(format!(
            "it answers {status} and sends nobody back: is this callback registered there?"
        ));
    }
    let to = answer
        .headers
        .get(LOCATION)
        .and_then(|to| to.to_str().ok())
        .unwrap_or_default();
    let Some(query) = to
        .strip_prefix(callback)
        .and_then(|rest| rest.strip_prefix('?'))
    else {
        let host = to
            .parse::<Uri>()
            .ok()
            .and_then(|to| Some(to.host()?.to_owned()));
        return Err(match host {
            Some(host) => format!(
                "it sends the browser to {} instead of our callback",
                word(&host)
            ),
            None => "it sends the browser elsewhere than to our callback".to_owned(),
        });
    };
    let pairs = || query.split('&').filter_map(|pair| pair.split_once('='));
    let value = |name: &str| {
        pairs()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    };
    if value("state") != Some(state) {
        return Err("it comes back without our `state`".to_owned());
    }
    match (value("error"), value("code")) {
        (Some(error), None) if NOBODY_THERE.contains(&error) => {
            Ok(format!("it comes back ({error})"))
        }
        (Some(error), _) => Err(format!("it comes back and refuses us ({})", word(error))),
        (None, Some(_)) => Ok("it comes back (with a code)".to_owned()),
        (None, None) => Err("it comes back with neither a code nor an error".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderMap;
    use http::StatusCode;

    const CALLBACK: &str = "https://crm.corp.example/.authferry/cb/new";

    fn judged(status: u16, to: Option<&str>) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        if let Some(to) = to {
            headers.insert(LOCATION, to.parse().unwrap());
        }
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Bytes::new(),
        };
        judge(&answer, CALLBACK, "S")
    }

    #[test]
    fn only_our_callback_with_our_state_is_coming_back() {
        for query in [
            "error=login_required&state=S",
            "state=S&error=consent_required",
            "code=x&state=S&iss=y",
        ] {
            assert!(
                judged(302, Some(&format!("{CALLBACK}?{query}"))).is_ok(),
                "{query}"
            );
        }
        for to in [
            format!("{CALLBACK}?error=login_required&state=T"),
            format!("{CALLBACK}?error=login_required"),
            format!("{CALLBACK}?error=unauthorized_client&state=S"),
            format!("{CALLBACK}?state=S"),
            format!("{CALLBACK}er?error=login_required&state=S"),
            "https://id.corp.example/error?error=login_required&state=S".to_owned(),
            "/login".to_owned(),
        ] {
            assert!(judged(302, Some(&to)).is_err(), "{to}");
        }
        assert!(judged(302, None).is_err());
        assert!(
            judged(
                200,
                Some(&format!("{CALLBACK}?error=login_required&state=S"))
            )
            .is_err()
        );
        assert!(judged(400, None).unwrap_err().contains("registered"));
    }
}
