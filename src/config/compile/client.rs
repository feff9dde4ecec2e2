//! Our registration at a provider.

use std::path::PathBuf;

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

/// Our registration at a provider beside that of the provider's own settings.
pub(super) fn client(
    context: &mut Context<'_>,
    raw: &RawClient,
    public_allowed: bool,
) -> Option<OAuthClient> {
    if let Some(at) = raw.auth.get()
        && by_certificate(at.value)
    {
        context
            .report
            .error(
                at.mark,
                "only the `client` of the provider itself shows a certificate",
            )
            .hint("connections are shared, and each shows one certificate");
        return None;
    }
    own(context, raw, public_allowed)
}

const fn by_certificate(method: ClientAuthMethod) -> bool {
    matches!(
        method,
        ClientAuthMethod::Certificate | ClientAuthMethod::SelfSigned
    )
}

/// Our registration at a provider.
pub(super) fn own(
    context: &mut Context<'_>,
    raw: &RawClient,
    public_allowed: bool,
) -> Option<OAuthClient> {
    let id = raw.id.required(raw.mark, "id", &mut context.report);
    let method = raw.auth.or(ClientAuthMethod::SecretBasic);
    let wants_secret = matches!(
        method,
        ClientAuthMethod::SecretBasic | ClientAuthMethod::SecretPost | ClientAuthMethod::SecretJwt
    );
    let wants_key = method == ClientAuthMethod::PrivateKeyJwt;
    for (name, given, wanted) in [
        ("secret", !raw.secret.is_absent(), wants_secret),
        ("key", !raw.key.is_absent(), wants_key),
        (
            "certificate",
            !raw.certificate.is_absent(),
            by_certificate(method),
        ),
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
        ClientAuthMethod::SecretJwt => {
            let secret = context.secret_text(&raw.secret, "the client secret")?;
            if secret.expose().len() < 32 {
                context
                    .report
                    .error(raw.mark, "the client secret has fewer than 32 bytes")
                    .hint("so short a one is found by trying (RFC 7518 §3.2)");
                return None;
            }
            ClientAuth::SecretJwt(secret)
        }
        ClientAuthMethod::Certificate => ClientAuth::Certificate(certificate(context, raw)?),
        ClientAuthMethod::SelfSigned => ClientAuth::SelfSigned(certificate(context, raw)?),
        ClientAuthMethod::None => ClientAuth::None,
    };
    Some(OAuthClient {
        id: id?.value.as_str().into(),
        auth,
        expires: raw.expires.get().map(|at| at.value.0),
    })
}

/// Our certificate and its key.
fn certificate(context: &mut Context<'_>, raw: &RawClient) -> Option<(PathBuf, PathBuf)> {
    let raw = raw.certificate.get()?;
    for (name, field) in [("certificate", &raw.certificate), ("key", &raw.key)] {
        field.required(raw.mark, name, &mut context.report);
    }
    let certificate = context.pem(&raw.certificate, "our certificate", "CERTIFICATE");
    let key = context.pem(&raw.key, "the key of our certificate", "PRIVATE KEY");
    Some((certificate?, key?))
}
