//! The clients of our token endpoint, for those who audit it: what each may have, for how long, and how it proves itself.

use std::fmt::Write as _;

use crate::app::catalog::cell;
use crate::app::catalog::code;
use crate::app::catalog::span;
use crate::app::catalog::yes;
use crate::config::settings::Settings;
use crate::issuer::settings::Client;
use crate::issuer::settings::Grant;

/// Nothing, where there is no token endpoint.
pub(super) fn clients(out: &mut String, settings: &Settings) {
    let Some(own) = &settings.issuer else { return };
    let _written = writeln!(
        out,
        "\n## Clients\n\nIssuer `{}`, by the rollout of `{}`. Revocation: at once, by the client (RFC 7009), an operator, or when a refresh token comes twice.\n\n\
         | Client | Proof | Grant types | Audiences | Scopes | Tokens live | Refresh tokens live | Asks about tokens | Registered at |\n|---|---|---|---|---|---|---|---|---|",
        own.issuer,
        cell(own.app.as_str())
    );
    let mut all: Vec<&Client> = own.clients.iter().collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    for client in all {
        let refresh = if client.grants.contains(&Grant::RefreshToken) {
            span(client.refresh.max)
        } else {
            "none".to_owned()
        };
        let _written = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {refresh} | {} | {} |",
            cell(&client.id),
            proof(client),
            code(client.grants.iter().map(|grant| grant.as_str())),
            code(client.audiences.iter().map(|one| &**one)),
            code(client.scopes.iter().map(|one| &**one)),
            span(client.max_life),
            yes(client.introspect),
            code(client.at.iter().map(|(provider, _)| provider.as_str())),
        );
    }
}

fn proof(client: &Client) -> String {
    let mut all = Vec::new();
    if client.public {
        all.push("none: it is public");
    }
    match client.secrets.len() {
        0 => {}
        1 => all.push("secret"),
        _ => all.push("two secrets: a rotation is under way"),
    }
    if client.learn_at.is_some() {
        all.push("secret that its old provider takes");
    }
    if client.keys.is_some() {
        all.push("private_key_jwt");
    }
    if !client.certificates.is_empty() {
        all.push("certificate");
    }
    all.join(", ")
}
