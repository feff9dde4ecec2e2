//! Exchanges, for those who audit them: what upstreams and clients get in place of a credential, and what it says of people.

use std::fmt::Write as _;

use crate::app::catalog::cell;
use crate::app::catalog::code;
use crate::app::catalog::span;
use crate::config::settings::Settings;
use crate::exchange::settings::Binding;
use crate::exchange::settings::Format;
use crate::exchange::settings::Mint;
use crate::exchange::settings::Remote;
use crate::exchange::settings::Settings as Exchange;
use crate::exchange::settings::Way;

/// Nothing, where there are none.
pub(super) fn exchanges(out: &mut String, settings: &Settings) {
    if settings.exchanges.is_empty() {
        return;
    }
    out.push_str(
        "\n## Exchanges\n\nWhat stands in the place of a credential, for the same person, with no more scopes. It is used no longer than the credential is good.\n\n\
         | Exchange | How | For | Lives | A bound token | Says of people |\n|---|---|---|---|---|---|\n",
    );
    let mut all: Vec<&Exchange> = settings.exchanges.iter().collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    for exchange in all {
        let binding = match exchange.binding {
            Binding::Keep => "stays bound",
            Binding::Lose => "becomes one that anybody can use",
            Binding::Refuse => "is refused",
        };
        let (how, audiences, lives, says) = match &exchange.way {
            Way::TokenExchange(remote) => at("token exchange (RFC 8693)", remote, exchange),
            Way::Assertion(remote, _) => at("assertion (RFC 7523)", remote, exchange),
            Way::Mint(mint) => minted(mint, exchange.binding),
        };
        let _written = writeln!(
            out,
            "| {} | {how} | {audiences} | {lives} | {binding} | {says} |",
            cell(&exchange.name),
        );
    }
}

type Row = (String, String, String, String);

fn at(what: &str, remote: &Remote, exchange: &Exchange) -> Row {
    let audiences = remote.audiences.iter().chain(&remote.resources);
    (
        format!("{what} at {}", cell(remote.provider.as_str())),
        code(audiences.map(|one| &**one)),
        format!(
            "as its provider says, at most {} longer than a presented token",
            span(exchange.longer_life)
        ),
        "what its provider says".to_owned(),
    )
}

fn minted(mint: &Mint, binding: Binding) -> Row {
    let (how, says) = match &mint.format {
        Format::Jwt(..) => ("minted, signed by our key", claims(mint, binding)),
        Format::SharedJwt(..) => ("minted, signed with a shared secret", claims(mint, binding)),
        Format::SignedText(template, _) => {
            let names = template.roots().map(str::to_owned);
            ("a text, signed with a shared secret", names.collect())
        }
    };
    (
        format!("{how}, as `{}`", cell(&mint.issuer)),
        code(mint.audiences.iter().map(|one| &**one)),
        span(mint.ttl),
        code(says.iter().map(String::as_str)),
    )
}

/// As `claim ← attribute`.
fn claims(mint: &Mint, binding: Binding) -> Vec<String> {
    let roots = |template: &crate::identity::Template| -> Vec<String> {
        template.roots().map(str::to_owned).collect()
    };
    let row = |claim: &str, of: &[String]| format!("{claim} ← {}", of.join(", "));
    let mut says = vec![row("sub", &roots(&mint.subject))];
    says.extend(mint.claims.iter().map(|(name, of)| row(name, &roots(of))));
    says.extend(
        mint.attributes
            .iter()
            .map(|(name, of)| row(name, &[of.to_string()])),
    );
    // Who acts already stays in `act`, whether or not somebody of ours comes to it.
    let own = mint.actor.is_some() || mint.names_client;
    let act = if own { "act" } else { "act (as it was)" };
    let bound = (binding == Binding::Keep).then_some("cnf");
    let also = ["client_id", "acr", "scope", act].into_iter().chain(bound);
    says.extend(also.map(str::to_owned));
    says
}
