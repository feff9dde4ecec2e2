//! Which client it is: exactly one proof, of a client that we know, or nothing. A public client (RFC 6749 §2.1) has no proof: it
//! is whoever says so, and what follows from that is in what it may have.

use std::time::Duration;

use aws_lc_rs::constant_time;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header;
use tracing::warn;

use crate::auth::Of;
use crate::auth::Query;
use crate::auth::Seen;
use crate::auth::decode;
use crate::identity;
use crate::identity::Refusal;
use crate::identity::Thumbprint;
use crate::identity::TokenId;
use crate::issuer::Address;
use crate::issuer::Call;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;
use crate::issuer::build::Client;
use crate::issuer::build::Issuer;
use crate::issuer::learned::GUESSES;
use crate::token;
use crate::token::Algorithm;
use crate::token::Audience;
use crate::token::KeySet;
use crate::token::Kind;
use crate::token::Policy;

/// How clients may sign. A shared secret proves less: whoever can check it can sign.
pub(super) const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Ps256,
    Algorithm::Rs256,
    Algorithm::EdDsa,
    Algorithm::Es512,
];

/// RFC 7523 §2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The longest life of an assertion.
const MAX_LIFE: Duration = Duration::from_secs(300);

/// Tolerated clock difference between a client and us.
const LEEWAY: Duration = Duration::from_secs(30);

/// How a client proves who it is.
enum Proof<'a> {
    Secret(String, String),
    Assertion(&'a str),
    Certificate,
    /// It says who it is, and nothing more.
    Name,
}

/// RFC 6749 §2.3: who it is, or that nobody knows.
const fn nobody(why: &'static str) -> Not {
    Not::Denied(Denied::InvalidClient, why)
}

impl Issuer {
    /// The client of a request.
    pub(super) async fn client(&self, call: &Call<'_>, form: &Query) -> Result<&Client, Not> {
        let throttle = &self.deps.revocations.floods().clients;
        let address = call.facts.client_ip;
        self.limited(call, Of::Address(address)).await?;
        if !throttle.may_try(address, call.now) {
            return Err(Not::Later(60, "rate_limited"));
        }
        let found = self.proven(call, form).await;
        if let Err(Not::Denied(Denied::InvalidClient, _)) = &found {
            throttle.refused(address, call.now);
        }
        let found = found?;
        let guesses = &self.deps.revocations.floods().guesses;
        if found.settings.public && !guesses.may_try(address, call.now) {
            return Err(Not::Later(60, "rate_limited"));
        }
        let id = &*found.settings.id;
        let of = match call.address {
            Address::Introspection => Of::Questions(id),
            // Anybody can name it: whoever does so too often keeps itself out, and nobody else.
            Address::Token | Address::Revocation | Address::Device | Address::Metadata
                if found.settings.public =>
            {
                Of::Public(id, address)
            }
            Address::Token | Address::Revocation | Address::Device | Address::Metadata => {
                Of::Client(id)
            }
        };
        self.limited(call, of).await?;
        let habits = &self.deps.habits;
        if !found.settings.public && habits.comes_from_elsewhere(id, address, call.now).await {
            self.anomaly(id, "new_address_family");
        }
        Ok(found)
    }

    /// Counts a request of somebody.
    pub(super) async fn limited(&self, call: &Call<'_>, of: Of<'_>) -> Result<(), Not> {
        let most = &self.limits;
        let most = match of {
            Of::Address(_) => most.address,
            Of::Client(_) => most.client,
            Of::Questions(_) => most.introspection,
            Of::Subject(_) => most.subject,
            Of::Learning(..) => GUESSES,
            Of::Public(..) => most.client,
            // Of a browser, and of whoever presents tokens to an application: not counted here.
            Of::Logins(..) | Of::UnknownKeys(..) => return Ok(()),
        };
        let standing = self.deps.limits.take(of, most, call.now).await;
        let known = call.standing.get();
        if known.is_none_or(|known| {
            u64::from(standing.left) * u64::from(known.most)
                <= u64::from(known.left) * u64::from(standing.most)
        }) {
            call.standing.set(Some(standing));
        }
        if standing.over {
            let metrics = &self.deps.reports.metrics;
            metrics.rate_limited(call.address.as_str(), of.as_str());
            return Err(Not::Limited(standing));
        }
        Ok(())
    }

    /// What is allowed, and not what this client does otherwise. Of a public one that says nothing: strangers speak in its name.
    pub(super) fn anomaly(&self, client: &str, kind: &'static str) {
        let known = self.clients.get(client);
        if known.is_some_and(|known| known.settings.public) {
            return;
        }
        warn!(client, kind, "A client does what it never did.");
        self.deps.reports.metrics.token_anomaly(kind);
    }

    /// What was refused in the name of a client that proves nothing counts against whoever asked, from there, and never against
    /// the client: each guess may have cost a call of its provider.
    pub(super) fn guessed<T>(&self, call: &Call<'_>, client: &str, done: &Result<T, Not>) {
        let known = self.clients.get(client);
        if known.is_some_and(|known| known.settings.public)
            && matches!(done, Err(Not::Denied(denied, _)) if denied.is_a_guess())
        {
            let guesses = &self.deps.revocations.floods().guesses;
            guesses.refused(call.facts.client_ip, call.now);
        }
    }

    async fn proven(&self, call: &Call<'_>, form: &Query) -> Result<&Client, Not> {
        let said = form.value("client_id");
        let (id, proof) = match presented(call.headers, call.channel.certificate, form)? {
            Proof::Secret(id, secret) => (id, Proof::Secret(String::new(), secret)),
            Proof::Assertion(assertion) => {
                let unverified = token::peek(assertion).or(Err(nobody("bad_credentials")))?;
                (unverified.issuer().to_owned(), Proof::Assertion(assertion))
            }
            of @ (Proof::Certificate | Proof::Name) => (said.unwrap_or_default().to_owned(), of),
        };
        if said.is_some_and(|said| said != id) {
            return Err(nobody("ambiguous"));
        }
        let client = self.clients.get(id.as_str());
        let public = client.is_some_and(|client| client.settings.public);
        match proof {
            // Whoever has no secret may send an empty one (RFC 6749 §2.3.1), and the connection may show a certificate for
            // another reason. Any other proof is one that it cannot have.
            Proof::Name | Proof::Certificate if public => {}
            Proof::Secret(_, secret) if public && secret.is_empty() => {}
            Proof::Name => return Err(nobody("none")),
            Proof::Secret(_, secret) => {
                // A client that we do not know takes as long as one that we do.
                let known = client.map_or(&[][..], |client| &client.settings.secrets);
                match client {
                    _ if is_one_of(&secret, known) => {}
                    // Beside one that is stated the learned one is good as long as the file says where it is learned: two during
                    // a rotation, and never three.
                    Some(client) if known.len() < 2 => {
                        self.is_learned(call, client, &secret).await?;
                    }
                    Some(_) | None => return Err(nobody("bad_credentials")),
                }
            }
            Proof::Certificate => {
                let known = client.map_or(&[][..], |client| &client.settings.certificates);
                let own = call.channel.certificate;
                if !own.is_some_and(|own| known.contains(&own)) {
                    return Err(nobody("bad_credentials"));
                }
            }
            Proof::Assertion(assertion) => {
                let keys = client.and_then(|client| client.settings.keys.as_ref());
                let keys = keys.ok_or(nobody("bad_credentials"))?;
                self.assertion(call, &id, assertion, keys).await?;
            }
        }
        client.ok_or(nobody("bad_credentials"))
    }

    /// RFC 7523 §3: of the client, about the client, for us, short, and for the first time.
    async fn assertion(
        &self,
        call: &Call<'_>,
        id: &str,
        assertion: &str,
        keys: &KeySet,
    ) -> Result<(), Not> {
        let policy = Policy {
            issuer: identity::Issuer::new(id),
            algorithms: ALGORITHMS.to_vec(),
            audience: Audience(vec![self.issuer.clone(), self.token_endpoint.clone()]),
            kind: Kind::Plain,
            leeway: LEEWAY,
            max_life: MAX_LIFE,
        };
        let unverified = token::peek(assertion).or(Err(nobody("bad_credentials")))?;
        let verified = token::verify(unverified, keys, &policy, call.now).map_err(|why| {
            nobody(match why {
                token::TokenError::Refused(refusal) => refusal.as_str(),
                token::TokenError::UnknownKey => Refusal::BadSignature.as_str(),
            })
        })?;
        if verified.subject().map(identity::Subject::as_str) != Some(id) {
            return Err(nobody("bad_credentials"));
        }
        let Some(TokenId::Named(jti)) = &verified.grounds().token else {
            return Err(nobody("bad_credentials"));
        };
        let until = verified.expires() + LEEWAY;
        // One that does not say when it was made (RFC 7523 §3 leaves it open) was taken, if it was, at most so long before its end.
        let at_least = verified.expires() - MAX_LIFE;
        let made = verified.grounds().began.unwrap_or(at_least);
        let replays = &self.deps.replays;
        match replays.assertion(id, jti, (made, until), call.now).await {
            Ok(Seen::First) => Ok(()),
            Ok(Seen::Before) => Err(nobody(Refusal::Replay.as_str())),
            Ok(Seen::Unknown(wait)) => Err(Not::Later(wait.as_secs().max(1), "store")),
            // Without memory nothing is accepted.
            Err(_unknown) => Err(Not::Later(5, "store")),
        }
    }
}

/// The one proof of a request (RFC 6749 §2.3: not more than one).
fn presented<'f>(
    headers: &HeaderMap,
    certificate: Option<Thumbprint>,
    form: &'f Query,
) -> Result<Proof<'f>, Not> {
    let mut found: Vec<Proof<'f>> = Vec::new();
    let fields: Vec<_> = headers.get_all(header::AUTHORIZATION).iter().collect();
    match fields.as_slice() {
        [] => {}
        [one] => {
            let (id, secret) = one
                .to_str()
                .ok()
                .and_then(basic)
                .ok_or(nobody("bad_credentials"))?;
            found.push(Proof::Secret(id, secret));
        }
        _ => return Err(nobody("ambiguous")),
    }
    if let Some(secret) = form.given("client_secret") {
        let id = form.value("client_id").unwrap_or_default();
        found.push(Proof::Secret(id.to_owned(), secret.to_owned()));
    }
    match (
        form.given("client_assertion_type"),
        form.given("client_assertion"),
    ) {
        (None, None) => {}
        (Some(JWT_BEARER), Some(assertion)) => found.push(Proof::Assertion(assertion)),
        (Some(_) | None, Some(_) | None) => return Err(nobody("unsupported")),
    }
    match (found.pop(), found.pop()) {
        (None, _) if certificate.is_some() => Ok(Proof::Certificate),
        (None, _) if form.value("client_id").is_some() => Ok(Proof::Name),
        (None, _) => Err(nobody("none")),
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(nobody("ambiguous")),
    }
}

/// RFC 6749 §2.3.1: both parts are encoded as in a form before they are joined.
fn basic(field: &str) -> Option<(String, String)> {
    let (scheme, rest) = field.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim_matches(' ')).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((decode(id).ok()?, decode(secret).ok()?))
}

/// A secret is long and random, unlike a password: there is nothing to slow down.
pub(super) fn is_one_of(secret: &str, known: &[[u8; 32]]) -> bool {
    let hash = digest::digest(&digest::SHA256, secret.as_bytes());
    known.iter().fold(false, |found, known| {
        found | constant_time::verify_slices_are_equal(hash.as_ref(), known).is_ok()
    })
}

/// Whoever a request says to be, it says so once. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(super) fn promise(headers: &HeaderMap, form: &Query) {
    for certificate in [None, Some(Thumbprint([7; 32]))] {
        let Ok(proof) = presented(headers, certificate, form) else {
            continue;
        };
        let field = headers.get_all(header::AUTHORIZATION).iter().count();
        let secret = form.given("client_secret").is_some();
        let assertion = form.given("client_assertion").is_some();
        let named = form.given("client_assertion_type").is_some();
        match proof {
            Proof::Secret(id, secret_said) => {
                assert!(!assertion && !named && field + usize::from(secret) == 1);
                if field == 1 {
                    let encoded = |text: &str| -> String {
                        form_urlencoded::byte_serialize(text.as_bytes()).collect()
                    };
                    let pair = [encoded(&id), encoded(&secret_said)].join(":");
                    let again = basic(&format!("Basic {}", STANDARD.encode(pair)));
                    assert_eq!(again, Some((id, secret_said)));
                }
            }
            Proof::Assertion(_) => assert!(assertion && named && field == 0 && !secret),
            Proof::Certificate => {
                assert!(certificate.is_some() && field == 0 && !secret && !assertion && !named);
            }
            Proof::Name => {
                assert!(certificate.is_none() && field == 0 && !secret && !assertion && !named);
                assert!(form.value("client_id").is_some());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_decoded_after_they_are_parted() {
        let field = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        let read = |pair: &str| basic(&field(pair));
        assert_eq!(
            read("a%3Ab:p%2B%20+"),
            Some(("a:b".to_owned(), "p+  ".to_owned()))
        );
        assert_eq!(read("a"), None);
        assert_eq!(read("a:%zz"), None);
        assert_eq!(basic("Bearer YTpi"), None);
        assert_eq!(basic("basic YTpi"), Some(("a".to_owned(), "b".to_owned())));
    }

    #[test]
    fn either_of_two_secrets_is_good_and_no_other() {
        let hash = |text: &str| -> [u8; 32] {
            let digest = digest::digest(&digest::SHA256, text.as_bytes());
            digest.as_ref().try_into().unwrap()
        };
        let known = [hash("old"), hash("new")];
        assert!(is_one_of("old", &known) && is_one_of("new", &known));
        assert!(!is_one_of("", &known) && !is_one_of("older", &known) && !is_one_of("old", &[]));
    }
}
