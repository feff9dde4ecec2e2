//! How tokens are judged: algorithms, audiences, keys, and our registration at an issuer.

use std::time::Duration;

use crate::config::compile::address::Peer;
use crate::config::compile::address::url;
use crate::config::compile::claims::json;
use crate::config::compile::context::Context;
use crate::config::raw::Alg;
use crate::config::raw::RawKeys;
use crate::config::raw::RawOwnsTokens;
use crate::config::raw::RawVerify;
use crate::config::raw::TokenType;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::shape::List;
use crate::config::tree::Mark;
use crate::identity::Issuer;
use crate::providers::settings::Keys;
use crate::providers::settings::Verify;
use crate::token::Algorithm;
use crate::token::KeySet;
use crate::token::Marker;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

impl Alg {
    pub(super) const fn algorithm(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::Rs256,
            Self::Rs384 => Algorithm::Rs384,
            Self::Rs512 => Algorithm::Rs512,
            Self::Ps256 => Algorithm::Ps256,
            Self::Ps384 => Algorithm::Ps384,
            Self::Ps512 => Algorithm::Ps512,
            Self::Es256 => Algorithm::Es256,
            Self::Es384 => Algorithm::Es384,
            Self::Es512 => Algorithm::Es512,
            Self::EdDsa => Algorithm::EdDsa,
            Self::Hs256 => Algorithm::Hs256,
            Self::Hs384 => Algorithm::Hs384,
            Self::Hs512 => Algorithm::Hs512,
        }
    }

    pub(super) const fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// The issuer that stands for a provider without one of its own.
pub(super) fn own_issuer(name: &str, raw: &Field<At<String>>) -> Issuer {
    raw.get().map_or_else(
        || Issuer::new(&format!("urn:authferry:{name}")),
        |at| Issuer::new(&at.value),
    )
}

/// An issuer of OpenID Connect: a URL without query or fragment (OpenID Connect Discovery 1.0 §3).
pub(super) fn issuer_url(context: &mut Context<'_>, at: &At<String>) -> Option<Issuer> {
    let uri = url(context, at, Peer::Provider)?;
    if uri.query().is_some() {
        context
            .report
            .error(
                at.mark,
                format!("`{}` has a query: no issuer has one", at.value),
            )
            .value(&at.value);
        return None;
    }
    Some(Issuer::new(&at.value))
}

/// The issuers that a provider of signed tokens owns: its own.
pub(super) fn owned_issuers(
    context: &mut Context<'_>,
    owns: &Field<RawOwnsTokens>,
    issuer: &At<String>,
) -> Vec<Issuer> {
    let listed = owns.get().and_then(|owns| owns.issuers.get());
    for other in listed.map_or(&[][..], |list| &list.items) {
        if other.value != issuer.value {
            context
                .report
                .error(
                    other.mark,
                    format!("`{}` is not this provider's issuer", other.value),
                )
                .value(&other.value)
                .hint(format!(
                    "`iss` is compared byte for byte with `{}`; another issuer is another provider",
                    issuer.value
                ));
        }
    }
    vec![Issuer::new(&issuer.value)]
}

/// How tokens are judged. `any_typ_allowed` is for kinds whose issuer may sign nothing but access tokens.
pub(super) fn verify(
    context: &mut Context<'_>,
    parent: Mark,
    raw: &Field<RawVerify>,
    owns: &Field<RawOwnsTokens>,
    any_typ_allowed: bool,
) -> Option<Verify> {
    let raw = raw.required(parent, "verify", &mut context.report)?;
    let algorithms = algorithms(context, &raw.algs);
    let audiences = raw.audiences.get();
    if raw.audiences.is_absent() {
        context
            .report
            .error(raw.mark, "`audiences` is missing")
            .hint("a token for somebody else must not open this door: name what its `aud` must contain");
    }
    let any_typ = raw.any_typ.or(false);
    let markers = markers(context, owns);
    if let Some(at) = raw.any_typ.get()
        && any_typ
        && !any_typ_allowed
    {
        context
            .report
            .error(
                at.mark,
                "an OpenID provider also signs ID tokens: its access tokens must be told apart",
            )
            .hint("name `owns.access_token_markers` instead");
    }
    if let Some(at) = raw.any_typ.get()
        && any_typ
        && !markers.is_empty()
    {
        context.report.error(
            at.mark,
            "`any_typ` makes `access_token_markers` void: say one of them",
        );
    }
    span(
        context,
        &raw.leeway,
        Duration::ZERO,
        5 * MINUTE,
        "at most `5m`",
    );
    span(
        context,
        &raw.max_life,
        MINUTE,
        366 * 24 * HOUR,
        "from `1m` to `366d`",
    );
    span(
        context,
        &raw.jwks_refresh,
        MINUTE,
        24 * HOUR,
        "from `1m` to `24h`",
    );
    span(
        context,
        &raw.jwks_max_stale,
        Duration::ZERO,
        30 * 24 * HOUR,
        "at most `30d`",
    );
    let claims = raw.require_claims.get().into_iter().flat_map(|named| {
        let pair = |(claim, value): (&At<String>, &At<String>)| Marker {
            claim: claim.value.as_str().into(),
            equals: value.value.as_str().into(),
        };
        named.readable().map(pair)
    });
    Some(Verify {
        algorithms,
        audiences: texts(audiences),
        markers,
        claims: claims.collect(),
        any_typ,
        leeway: raw.leeway.or(Span(Duration::from_secs(30))).0,
        max_life: raw.max_life.or(Span(24 * HOUR)).0,
        jwks_max_stale: raw.jwks_max_stale.or(Span(24 * HOUR)).0,
        jwks_refresh: raw.jwks_refresh.or(Span(10 * MINUTE)).0,
    })
}

/// Reports a duration outside of its range.
pub(super) fn span(
    context: &mut Context<'_>,
    field: &Field<At<Span>>,
    least: Duration,
    most: Duration,
    words: &str,
) {
    if let Some(at) = field.get() {
        context.range(at.mark, &at.value.0, (least, most), words);
    }
}

/// The texts of a list.
pub(super) fn texts(list: Option<&List<At<String>>>) -> Vec<Box<str>> {
    let items = list.map_or(&[][..], |list| &list.items);
    items.iter().map(|at| at.value.as_str().into()).collect()
}

fn algorithms(context: &mut Context<'_>, raw: &Field<List<At<Alg>>>) -> Vec<Algorithm> {
    let Some(list) = raw.get() else {
        return vec![
            Algorithm::Rs256,
            Algorithm::Ps256,
            Algorithm::Es256,
            Algorithm::EdDsa,
        ];
    };
    let symmetric = list.items.iter().find(|at| at.value.is_symmetric());
    let asymmetric = list.items.iter().any(|at| !at.value.is_symmetric());
    if let Some(at) = symmetric
        && asymmetric
    {
        context
            .report
            .error(at.mark, "HS algorithms do not stand beside others")
            .hint("a public key must never be taken for a shared secret: two kinds of keys are two providers");
    }
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for at in &list.items {
        let algorithm = at.value.algorithm();
        if algorithms.contains(&algorithm) {
            context.report.error(at.mark, "stands here twice");
        } else {
            algorithms.push(algorithm);
        }
    }
    algorithms
}

fn markers(context: &mut Context<'_>, owns: &Field<RawOwnsTokens>) -> Vec<Marker> {
    let Some(owns) = owns.get() else {
        return Vec::new();
    };
    let list = owns.access_token_markers.get();
    let raw = list.map_or(&[][..], |list| &list.items);
    let markers: Vec<Marker> = raw
        .iter()
        .filter_map(|marker| {
            let claim = marker
                .claim
                .required(marker.mark, "claim", &mut context.report);
            let equals = marker
                .equals
                .required(marker.mark, "equals", &mut context.report);
            Some(Marker {
                claim: claim?.value.as_str().into(),
                equals: equals?.value.as_str().into(),
            })
        })
        .collect();
    if let Some(types) = owns.token_types.get() {
        let jwt = types.items.iter().find(|at| at.value == TokenType::Jwt);
        if let Some(at) = jwt
            && owns.access_token_markers.is_absent()
        {
            context
                .report
                .error(
                    at.mark,
                    "a plain `JWT` may be an ID token: `access_token_markers` must tell them apart",
                )
                .hint("such as `access_token_markers: [{ claim: typ, equals: Bearer }]`");
        }
        if let (None, Some(list)) = (jwt, list) {
            context.report.error(
                list.mark,
                "markers are for a plain `JWT`, which `token_types` does not list",
            );
        }
        if !types.items.iter().any(|at| at.value == TokenType::AtJwt) {
            context.report.error(
                types.mark,
                "`at+jwt` is always accepted (RFC 9068): list it too",
            );
        }
    }
    markers
}

/// Where keys come from, given the algorithms that may use them. `None` in the configuration is discovery, where the
/// kind has it.
pub(super) fn keys(
    context: &mut Context<'_>,
    raw: Option<&RawKeys>,
    algs: Option<&Field<List<At<Alg>>>>,
) -> Option<Keys> {
    let list = algs.and_then(Field::get);
    let symmetric = list.and_then(|list| list.items.iter().find(|at| at.value.is_symmetric()));
    let shared = raw.is_some_and(|raw| !raw.shared_secret.is_absent());
    if let Some(at) = symmetric
        && !shared
    {
        context
            .report
            .error(
                at.mark,
                "an HS algorithm needs `jwks: { shared_secret: … }`",
            )
            .hint("keys from a URL or a file are public: whoever reads them could sign");
        return None;
    }
    let Some(raw) = raw else {
        return Some(Keys::Discovered);
    };
    if let Some(at) = raw.url.get() {
        return url(context, at, Peer::Provider).map(|_| Keys::Url(at.value.clone()));
    }
    if let Some(at) = raw.file.get() {
        return context
            .readable(at, "the key file", |_| Ok(()))
            .map(Keys::File);
    }
    if let Some(inline) = raw.inline.get() {
        let text = json(&inline.0).to_string();
        return match KeySet::from_inline(text.as_bytes()) {
            Ok(set) => Some(Keys::Inline(set)),
            Err(error) => {
                context
                    .report
                    .error(inline.0.mark, format!("the key set cannot be used: {error}"))
                    .hint("public keys only: `{ keys: [{ kty: EC, crv: P-256, kid: …, x: …, y: … }] }`");
                None
            }
        };
    }
    let secret = context.secret(&raw.shared_secret, "the shared secret")?;
    let Some(alg) = symmetric else {
        context
            .report
            .error(
                raw.mark,
                "a shared secret needs an HS algorithm in `verify.algs`",
            )
            .hint("whoever can check such a token can make one: prefer a public key");
        return None;
    };
    match KeySet::from_shared_secret(secret.expose(), alg.value.algorithm()) {
        Ok(set) => Some(Keys::Inline(set)),
        Err(error) => {
            context.report.error(
                raw.mark,
                format!("the shared secret cannot be used: {error}"),
            );
            None
        }
    }
}
