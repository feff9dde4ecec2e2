//! What a login asks a provider for.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::providers::LoginStart;
use crate::providers::Prompt;
use crate::providers::oauth::form::Form;
use crate::secret::Secret;

/// The authentication request of a login (OpenID Connect Core 1.0 §3.1.2.1, RFC 7636 §4.3).
pub(in crate::providers) fn authorization(
    client: Option<&str>,
    scope: &str,
    start: &LoginStart<'_>,
) -> Form {
    let form = Form::default().with("response_type", "code");
    let form = match client {
        Some(client) => form.with("client_id", client),
        None => form,
    };
    let form = form
        .with("redirect_uri", start.redirect_uri)
        .with("scope", scope)
        .with("state", start.state)
        .with("nonce", start.nonce)
        .with("code_challenge", &challenge(start.verifier))
        .with("code_challenge_method", "S256");
    let form = match start.prompt {
        Prompt::AsNeeded => form,
        Prompt::Never => form.with("prompt", "none"),
    };
    let form = match start.login_hint {
        Some(hint) => form.with("login_hint", hint),
        None => form,
    };
    let Some(step_up) = start.step_up else {
        return form;
    };
    let form = match step_up.acr_values.as_slice() {
        [] => form,
        values => form.with("acr_values", &values.join(" ")),
    };
    match step_up.max_age {
        Some(age) => form.with("max_age", &age.as_secs().to_string()),
        None => form,
    }
}

/// RFC 7636 §4.2, S256.
fn challenge(verifier: &Secret<String>) -> String {
    let hash = digest::digest(&digest::SHA256, verifier.expose().as_bytes());
    URL_SAFE_NO_PAD.encode(hash)
}
