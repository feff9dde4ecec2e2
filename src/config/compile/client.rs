//! Our registration at a provider.

use crate::config::compile::context::Context;
use crate::config::raw::ClientAuthMethod;
use crate::config::raw::ParWord;
use crate::config::raw::RawClient;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::providers::settings::ClientAuth;
use crate::providers::settings::OAuthClient;
use crate::providers::settings::Par;

/// When what a login asks for is pushed there.
pub(super) fn par(field: &Field<At<ParWord>>) -> Par {
    match field.or(ParWord::Required) {
        ParWord::Required => Par::Required,
        ParWord::Offered => Par::Offered,
        ParWord::Never => Par::Never,
    }
}

/// Our registration at a provider.
pub(super) fn client(
    context: &mut Context<'_>,
    raw: &RawClient,
    public_allowed: bool,
) -> Option<OAuthClient> {
    let id = raw.id.required(raw.mark, "id", &mut context.report);
    let method = raw.auth.or(ClientAuthMethod::SecretBasic);
    let wants_secret = matches!(
        method,
        ClientAuthMethod::SecretBasic | ClientAuthMethod::SecretPost
    );
    let wants_key = method == ClientAuthMethod::PrivateKeyJwt;
    for (name, given, wanted) in [
        ("secret", !raw.secret.is_absent(), wants_secret),
        ("key", !raw.key.is_absent(), wants_key),
    ] {
        if matches!(raw.auth, Field::Broken) {
            continue;
        }
        if wanted && !given {
            context
                .report
                .error(raw.mark, format!("`{name}` is missing"))
                .hint("a public client says `auth: none`");
        } else if given && !wanted {
            context
                .report
                .error(raw.mark, format!("`{name}` is not used by this `auth`"));
        }
    }
    if method == ClientAuthMethod::None
        && let Some(at) = raw.expires.get()
    {
        context
            .report
            .error(at.mark, "a public client has nothing that ends");
    }
    if method == ClientAuthMethod::None && !public_allowed {
        context.report.error(
            raw.mark,
            "whoever asks about tokens must prove who they are (RFC 7662 §2.1)",
        );
        return None;
    }
    let auth = match method {
        ClientAuthMethod::SecretBasic => {
            ClientAuth::SecretBasic(context.secret_text(&raw.secret, "the client secret")?)
        }
        ClientAuthMethod::SecretPost => {
            ClientAuth::SecretPost(context.secret_text(&raw.secret, "the client secret")?)
        }
        ClientAuthMethod::PrivateKeyJwt => {
            let key = context.secret_text(&raw.key, "the client key")?;
            if !key.expose().contains("-----BEGIN PRIVATE KEY-----") {
                context
                    .report
                    .error(raw.mark, "the client key is no private key in PKCS#8 PEM")
                    .hint("convert it: `openssl pkcs8 -topk8 -nocrypt -in old.pem`");
                return None;
            }
            ClientAuth::PrivateKeyJwt(key)
        }
        ClientAuthMethod::None => ClientAuth::None,
    };
    Some(OAuthClient {
        id: id?.value.as_str().into(),
        auth,
        expires: raw.expires.get().map(|at| at.value.0),
    })
}
