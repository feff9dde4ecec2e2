//! Which one credential a request presents, without judging it.
//!
//! The rule, whatever the order of header fields:
//!
//! - Only the classes a route looks at exist.
//! - Our own session cookie wins over cookies of providers: browsers keep old ones for years. They are neither judged
//!   nor forwarded. Two cookies of our name are none of ours.
//! - Anything else beside one credential is refused (`ambiguous`): two credentials may be two people.

mod authorization;
mod candidate;
mod own;
mod proofs;
mod session;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use std::sync::Arc;

use crate::auth::certificate::ClientCertificate;
use crate::auth::cookies;
use crate::auth::error::AuthError;
use crate::auth::extract::authorization::authorization;
#[cfg(any(test, fuzzing))]
pub(super) use crate::auth::extract::authorization::promise as authorization_promise;
use crate::auth::extract::authorization::with_basic;
pub(crate) use crate::auth::extract::proofs::Proofs;
pub(super) use crate::auth::extract::proofs::proofs_of;
use crate::auth::extract::session::Theirs;
use crate::auth::extract::session::session;
use crate::auth::owners::Owners;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Refusal;
use crate::providers::Provider;
use crate::secret::Secret;
use crate::session::OldSession;
use crate::session::SessionId;
use crate::token;
use crate::token::Unverified;

/// Who judges a credential.
pub(super) struct Owned<'a> {
    pub(super) owner: &'a Arc<dyn Provider>,
    /// A signed token, read but not believed, so that its judge need not read it again.
    pub(super) read: Option<Unverified<'a>>,
}

/// The longest session cookie of a provider and the longest API key, in bytes.
const MAX_VALUE: usize = 4 * 1024;

/// Two of a kind: there is nothing to challenge for, the request itself is bad.
const AMBIGUOUS: AuthError = AuthError::Refused {
    refusal: Refusal::Ambiguous,
    provider: None,
    class: None,
};

/// The one credential of a request. Nothing about it is true yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presented<'a> {
    kind: Kind<'a>,
    scheme: Scheme,
    headers: &'a HeaderMap,
    owners: &'a Owners,
    /// Whether it may have been refused lately: a hint, which says where to look first and decides nothing.
    refused: bool,
}

/// How a credential was presented.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scheme {
    /// Not as a token.
    Other,
    /// `Authorization: Bearer` (RFC 6750 §2.1).
    Bearer,
    /// `Authorization: DPoP` (RFC 9449 §7.1).
    Dpop,
}

#[derive(Clone, Copy)]
enum Kind<'a> {
    /// Our own session, and what of an old system came with it: judged only where ours stands for that one.
    Ours {
        id: SessionId<'a>,
        beside: Option<Theirs<'a>>,
    },
    Cookie {
        name: &'a str,
        value: &'a str,
        owner: &'a Arc<dyn Provider>,
    },
    /// A signed token; its issuer names the owner, once it is read.
    Bearer(&'a str),
    Opaque {
        token: &'a str,
        owner: &'a Arc<dyn Provider>,
    },
    Basic {
        encoded: &'a str,
        owner: &'a Arc<dyn Provider>,
    },
    ApiKey {
        header: &'a HeaderName,
        value: &'a str,
        owner: &'a Arc<dyn Provider>,
    },
    Certificate {
        certificate: &'a ClientCertificate,
        owner: &'a Arc<dyn Provider>,
    },
}

impl std::fmt::Debug for Kind<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[credential]")
    }
}

/// Everything about a credential that its verdict depends on: input of the verdict cache's key, field by field.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct VerdictKey<'a> {
    /// Its class.
    pub(crate) class: CredentialClass,
    /// Where it stood: the name of a cookie or header, empty for `Authorization`.
    pub(crate) slot: &'a str,
    /// Its bytes.
    pub(crate) material: &'a [u8],
    /// The session of an old system beside ours: the name of its cookie, and the value.
    pub(crate) beside: Option<(&'a str, &'a [u8])>,
}

impl std::fmt::Debug for VerdictKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[credential]")
    }
}

/// Finds the one credential among `allowed` classes (empty: all); `None`: nothing was presented.
///
/// # Errors
///
/// [`AuthError::Refused`], when there is more than one, or one that nobody here can own.
pub(crate) fn extract<'a>(
    headers: &'a HeaderMap,
    certificate: Option<&'a ClientCertificate>,
    owners: &'a Owners,
    allowed: &[CredentialClass],
) -> Result<Option<Presented<'a>>, AuthError> {
    let looks = |class| allowed.is_empty() || allowed.contains(&class);
    let mut found: Option<Kind<'a>> = None;
    let mut scheme = Scheme::Other;
    let mut add = |kind: Kind<'a>| match found.replace(kind) {
        None => Ok(()),
        // A challenge is due where a credential stood in a header; two cookies alone are a bad request.
        Some(other) => Err(AuthError::Refused {
            refusal: Refusal::Ambiguous,
            provider: None,
            class: [kind.class(), other.class()]
                .into_iter()
                .find(|class| *class != CredentialClass::Session),
        }),
    };
    if let Some((kind, how)) = authorization(headers, owners, &looks)? {
        add(kind)?;
        scheme = how;
    }
    if looks(CredentialClass::ApiKey) {
        for (header, owner) in &owners.api_keys {
            if let Some(value) = only(headers, header)? {
                let value = Some(value)
                    .filter(|value| !value.is_empty() && value.len() <= MAX_VALUE)
                    .and_then(cookies::visible)
                    .ok_or(AuthError::unowned(
                        Refusal::BadCredentials,
                        CredentialClass::ApiKey,
                    ))?;
                add(Kind::ApiKey {
                    header,
                    value,
                    owner,
                })?;
            }
        }
    }
    if looks(CredentialClass::Session)
        && let Some(kind) = session(headers, owners)?
    {
        add(kind)?;
    }
    // A certificate comes with everything that its holder sends, also with a token that is bound to it.
    if found.is_none()
        && looks(CredentialClass::ClientCert)
        && let Some(certificate) = certificate.filter(|own| !own.chain().is_empty())
        && let Some(owner) = owners.of_client_cert()
    {
        let class = CredentialClass::ClientCert;
        let owner = owner.map_err(|refusal| AuthError::unowned(refusal, class))?;
        found = Some(Kind::Certificate { certificate, owner });
    }
    Ok(found.map(|kind| Presented {
        kind,
        scheme,
        headers,
        owners,
        refused: false,
    }))
}

/// Header fields that present a token which came in another way; `None`: it cannot stand in one.
pub(crate) fn bearer(token: &str) -> Option<HeaderMap> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, value);
    Some(headers)
}

/// The only value of a header.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, AuthError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(value.as_bytes())),
        (Some(_), Some(_)) => Err(AMBIGUOUS),
    }
}

impl Kind<'_> {
    const fn class(&self) -> CredentialClass {
        match self {
            Self::Ours { .. } | Self::Cookie { .. } => CredentialClass::Session,
            Self::Bearer(_) => CredentialClass::Bearer,
            Self::Opaque { .. } => CredentialClass::Opaque,
            Self::Basic { .. } => CredentialClass::Basic,
            Self::ApiKey { .. } => CredentialClass::ApiKey,
            Self::Certificate { .. } => CredentialClass::ClientCert,
        }
    }
}

impl<'a> Presented<'a> {
    /// Its class.
    pub(crate) const fn class(&self) -> CredentialClass {
        self.kind.class()
    }

    /// How it was presented.
    pub(crate) const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The token, where it is one.
    pub(super) const fn token(&self) -> Option<&'a str> {
        match self.kind {
            Kind::Bearer(token) | Kind::Opaque { token, .. } => Some(token),
            Kind::Ours { .. }
            | Kind::Cookie { .. }
            | Kind::Basic { .. }
            | Kind::ApiKey { .. }
            | Kind::Certificate { .. } => None,
        }
    }

    /// The proofs that came with it.
    pub(super) fn proofs(&self) -> Proofs<'a> {
        proofs_of(self.headers)
    }

    /// What its verdict depends on, beside the snapshot.
    pub(crate) fn key(&self) -> VerdictKey<'a> {
        let (slot, material) = match self.kind {
            Kind::Ours { id, .. } => (&*self.owners.session_cookie, id.as_str()),
            Kind::Cookie { name, value, .. } => (name, value),
            Kind::Bearer(token) | Kind::Opaque { token, .. } => ("", token),
            Kind::Basic { encoded, .. } => ("", encoded),
            Kind::ApiKey { header, value, .. } => (header.as_str(), value),
            Kind::Certificate { certificate, .. } => {
                return VerdictKey {
                    class: self.class(),
                    slot: "",
                    material: certificate.digest(),
                    beside: None,
                };
            }
        };
        VerdictKey {
            class: self.class(),
            slot,
            material: material.as_bytes(),
            beside: match self.kind {
                Kind::Ours { beside, .. } => beside.map(|old| (old.name, old.value.as_bytes())),
                Kind::Cookie { .. }
                | Kind::Bearer(_)
                | Kind::Opaque { .. }
                | Kind::Basic { .. }
                | Kind::ApiKey { .. }
                | Kind::Certificate { .. } => None,
            },
        }
    }

    /// The session of an old system: alone, or beside ours.
    pub(super) fn old(&self) -> Option<OldSession<'a>> {
        let (cookie, value) = match self.kind {
            Kind::Cookie { name, value, .. } => (name, value),
            Kind::Ours { beside, .. } => beside.map(|old| (old.name, old.value))?,
            Kind::Bearer(_)
            | Kind::Opaque { .. }
            | Kind::Basic { .. }
            | Kind::ApiKey { .. }
            | Kind::Certificate { .. } => return None,
        };
        Some(OldSession { cookie, value })
    }

    /// Our own session, if it is one.
    pub(crate) const fn session(&self) -> Option<SessionId<'a>> {
        match self.kind {
            Kind::Ours { id, .. } => Some(id),
            Kind::Cookie { .. }
            | Kind::Bearer(_)
            | Kind::Opaque { .. }
            | Kind::Basic { .. }
            | Kind::ApiKey { .. }
            | Kind::Certificate { .. } => None,
        }
    }

    /// With the hint whether it may have been refused lately.
    pub(crate) const fn hinted(self, refused: bool) -> Self {
        Self { refused, ..self }
    }

    /// Who has refused the signature of this signed token before, by the keys of now. Asked only where a hint says so, before
    /// anybody reads the token, which costs more.
    pub(super) fn who_refused(&self, now: UnixTime) -> Option<&'a Arc<dyn Provider>> {
        let signed = self.refused && self.class() == CredentialClass::Bearer;
        self.owners
            .who_refused(self.token().filter(|_| signed)?, now)
    }

    /// The only provider that may judge it, and what had to be read to find that one. Our own session is judged by none.
    pub(super) fn owner(&self) -> Result<Owned<'a>, Refusal> {
        let (owner, read) = match self.kind {
            Kind::Ours { .. } => return Err(Refusal::Unsupported),
            Kind::Bearer(token) => {
                let unverified = token::peek(token)?;
                (
                    self.owners.of_issuer(unverified.issuer())?,
                    Some(unverified),
                )
            }
            Kind::Cookie { owner, .. }
            | Kind::Opaque { owner, .. }
            | Kind::Basic { owner, .. }
            | Kind::ApiKey { owner, .. }
            | Kind::Certificate { owner, .. } => (owner, None),
        };
        Ok(Owned { owner, read })
    }

    /// The credential, owned, for its judge; `None` for our own session.
    pub(super) fn credential(&self) -> Option<Credential> {
        let secret = |text: &str| Secret::new(text.to_owned());
        match self.kind {
            Kind::Ours { .. } => None,
            Kind::Cookie { name, value, .. } => Some(Credential::Session {
                cookie: name.into(),
                value: secret(value),
            }),
            Kind::Bearer(token) => Some(Credential::Bearer(secret(token))),
            Kind::Opaque { token, .. } => Some(Credential::Opaque(secret(token))),
            Kind::Basic { encoded, .. } => {
                with_basic(encoded, |name, password| Credential::Basic {
                    username: name.into(),
                    password: secret(password),
                })
            }
            Kind::ApiKey { value, .. } => Some(Credential::ApiKey(secret(value))),
            Kind::Certificate { certificate, .. } => {
                Some(Credential::ClientCert(Arc::clone(certificate.chain())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::extract::authorization::MAX_TOKEN;
    use crate::auth::fake::FakeProvider;
    use crate::auth::fake::World;
    use crate::auth::fake::headers;
    use crate::auth::fake::token;
    use proptest::prelude::*;

    const OURS: &str = "__Host-authferry=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    /// `class slot material`, or the refusal.
    fn found(
        world: &World,
        allowed: &[CredentialClass],
        fields: &[(&'static str, &str)],
    ) -> String {
        let policy = world.policy();
        let describe = |fields: &[_]| {
            let headers = headers(fields);
            match extract(&headers, None, policy.owners(), allowed) {
                Ok(None) => String::from("none"),
                Ok(Some(presented)) => {
                    let key = presented.key();
                    let material = std::str::from_utf8(key.material).unwrap();
                    format!("{} {} {material}", key.class.as_str(), key.slot)
                }
                Err(AuthError::Refused { refusal, class, .. }) => {
                    format!("{refusal} {}", class.map_or("-", CredentialClass::as_str))
                }
                Err(error) => format!("{error}"),
            }
        };
        let result = describe(fields);
        let mut turned = fields.to_vec();
        turned.reverse();
        assert_eq!(
            describe(&turned),
            result,
            "the order of fields does not matter"
        );
        result
    }

    macro_rules! table {
        ($world:expr, $allowed:expr, $([$($field:expr),*] => $expected:expr, $why:literal;)*) => {
            $(assert_eq!(found($world, $allowed, &[$($field),*]), $expected, $why);)*
        };
    }

    #[tokio::test]
    async fn one_credential_is_found_wherever_it_stands() {
        let world = World::canary();
        let jwt = token("https://new.idp.test", "alice");
        let bearer = format!("Bearer {jwt}");
        table! { &world, &[],
            [] => "none", "nothing was presented";
            [("cookie", "theme=dark")] => "none", "a cookie of nobody here";
            [("cookie", OURS)] => format!("session __Host-authferry {}", "A".repeat(43)), "our session";
            [("cookie", "OLDSID=alice")] => "session OLDSID alice", "a session of the old system";
            [("cookie", "a=1; OLDSID=alice; b=2")] => "session OLDSID alice", "among others";
            [("authorization", &bearer)] => format!("bearer  {jwt}"), "a signed token";
            [("authorization", &bearer.replacen("Bearer", "bEARER", 1))] => format!("bearer  {jwt}"), "RFC 9110 §11.1";
            [("authorization", "Bearer 2YotnFZFEjr1zCsicMWpAA")] => "opaque  2YotnFZFEjr1zCsicMWpAA", "an opaque token";
            [("authorization", "Basic YWxpY2U6c2VjcmV0")] => "basic  YWxpY2U6c2VjcmV0", "alice:secret";
            [("x-api-key", "k1")] => "api_key x-api-key k1", "a key";
        }
    }

    #[tokio::test]
    async fn two_credentials_may_be_two_people() {
        let world = World::canary();
        let bearer = format!("Bearer {}", token("https://new.idp.test", "alice"));
        table! { &world, &[],
            [("authorization", &bearer), ("cookie", OURS)] => "ambiguous bearer", "token and our session";
            [("authorization", &bearer), ("cookie", "OLDSID=bob")] => "ambiguous bearer", "token and an old session";
            [("authorization", "Basic YWxpY2U6c2VjcmV0"), ("x-api-key", "k")] => "ambiguous api_key", "password and key";
            [("authorization", "Basic YWxpY2U6c2VjcmV0"), ("cookie", OURS)] => "ambiguous basic", "password and our session";
            [("authorization", &bearer), ("authorization", &bearer)] => "ambiguous -", "the same twice is twice";
            [("authorization", &bearer), ("authorization", "Basic YWxpY2U6c2VjcmV0")] => "ambiguous -", "two schemes";
            [("x-api-key", "k"), ("x-api-key", "l")] => "ambiguous -", "two keys";
            [("cookie", "OLDSID=alice; OLDSID=bob")] => "ambiguous -", "a planted twin";
        }
    }

    #[tokio::test]
    async fn our_session_wins_over_old_cookies_and_only_those() {
        let world = World::canary();
        let ours = format!("session __Host-authferry {}", "A".repeat(43));
        let with = |other: &str| format!("{OURS}; {other}");
        table! { &world, &[],
            [("cookie", &with("OLDSID=bob"))] => ours.clone(), "browsers keep old cookies";
            [("cookie", &with("OLDSID=bob; OLDSID=eve"))] => ours.clone(), "they are not even looked at";
            [("cookie", OURS), ("cookie", "OLDSID=bob")] => ours, "in another field";
            [("cookie", &with(OURS))] => "none", "two of our name are none";
            [("cookie", &with(&format!("{OURS}; OLDSID=bob")))] => "session OLDSID bob", "and hide nothing";
            [("cookie", "__Host-authferry=short; OLDSID=bob")] => "session OLDSID bob", "what is no id is no session";
            [("cookie", "OLDSID2=b; OLDSID=a")] => "session OLDSID a", "one provider, two cookies: the first it names";
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_credential_is_refused_and_shown_to_nobody() {
        let world = World::canary();
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN + 1));
        table! { &world, &[],
            [("authorization", "Bearer")] => "bad_credentials bearer", "no token";
            [("authorization", "Bearer ")] => "bad_credentials bearer", "an empty token";
            [("authorization", "Bearer  a.b.c")] => "bad_credentials bearer", "two spaces";
            [("authorization", "Bearer a b")] => "bad_credentials bearer", "two tokens";
            [("authorization", &long)] => "bad_credentials bearer", "too long";
            [("authorization", "Basic ")] => "bad_credentials basic", "empty";
            [("authorization", "Basic !!!")] => "bad_credentials basic", "not base64";
            [("authorization", "Basic YWxpY2U=")] => "bad_credentials basic", "no colon";
            [("authorization", "Basic YWxpY2U6")] => "bad_credentials basic", "no password: an anonymous bind";
            [("authorization", "Basic OnNlY3JldA==")] => "bad_credentials basic", "no name";
            [("authorization", "Basic YWxpY2UKOnNlY3JldA==")] => "bad_credentials basic", "a line feed in the name";
            [("authorization", "Basic YWxpY2U6c2VjcmV0YQ")] => "bad_credentials basic", "no padding";
            [("authorization", "Negotiate abc")] => "unsupported -", "a scheme of nobody";
            [("authorization", "")] => "unsupported -", "nothing";
            [("x-api-key", "")] => "bad_credentials api_key", "an empty key";
            [("cookie", "OLDSID=")] => "bad_credentials session", "an empty session";
            [("cookie", "OLDSID=a\u{e9}")] => "bad_credentials session", "bytes of no cookie";
        }
    }

    #[tokio::test]
    async fn what_looks_signed_is_never_opaque_unless_a_prefix_says_so() {
        let mut old = FakeProvider::old();
        let world = World::canary();
        table! { &world, &[],
            [("authorization", "Bearer eyJhbGciOiJub25lIn0.e30")] => "bearer  eyJhbGciOiJub25lIn0.e30", "cut short";
            [("authorization", "Bearer eyJh.a.b.c.d")] => "bearer  eyJh.a.b.c.d", "five parts";
            [("authorization", "Bearer a.b.c")] => "bearer  a.b.c", "three parts";
            [("authorization", "Bearer a.b")] => "opaque  a.b", "two parts of something else";
        }
        old.owns.opaque = Some(vec!["old_".into(), "old_at_".into()]);
        let world = World::of(old, FakeProvider::new());
        table! { &world, &[],
            [("authorization", "Bearer old_a.b.c")] => "opaque  old_a.b.c", "the prefix decides";
            [("authorization", "Bearer other")] => "bad_credentials bearer", "nobody's";
        }
    }

    #[tokio::test]
    async fn only_the_classes_of_the_route_exist() {
        let world = World::canary();
        let jwt = token("https://new.idp.test", "alice");
        let bearer = format!("Bearer {jwt}");
        table! { &world, &[CredentialClass::Bearer],
            [("authorization", &bearer), ("cookie", OURS)] => format!("bearer  {jwt}"), "cookies are not looked at";
            [("cookie", OURS)] => "none", "nor is our session";
            [("authorization", "Basic YWxpY2U6c2VjcmV0")] => "none", "nor are passwords";
            [("authorization", "Bearer opaque")] => "bad_credentials bearer", "not a signed token";
        }
        table! { &world, &[CredentialClass::Session],
            [("authorization", &bearer), ("cookie", OURS)] => format!("session __Host-authferry {}", "A".repeat(43)), "";
            [("authorization", &bearer), ("authorization", &bearer)] => "none", "whatever stands there";
        }
    }

    #[tokio::test]
    async fn passwords_with_two_owners_have_none() {
        let mut new = FakeProvider::new();
        new.owns.basic = true;
        let world = World::of(FakeProvider::old(), new);
        table! { &world, &[],
            [("authorization", "Basic YWxpY2U6c2VjcmV0")] => "ambiguous basic", "never try both";
        }
    }

    #[tokio::test]
    async fn the_owner_of_a_token_is_the_issuer_it_names() {
        let world = World::canary();
        let policy = world.policy();
        let owner = |issuer: &str| {
            let headers = headers(&[("authorization", &format!("Bearer {}", token(issuer, "a")))]);
            let presented = extract(&headers, None, policy.owners(), &[])
                .unwrap()
                .unwrap();
            presented.owner().map(|owned| owned.owner.id().to_string())
        };
        assert_eq!(owner("https://new.idp.test"), Ok(String::from("new")));
        assert_eq!(owner("https://new.idp.test/"), Err(Refusal::WrongIssuer));
        assert_eq!(owner("https://evil.idp.test"), Err(Refusal::WrongIssuer));
    }

    proptest! {
        /// Whatever stands in the fields: no panic, and never another's material.
        #[test]
        fn any_fields_can_be_read(
            authorization in "(Bearer |Basic |)[ -~]{0,60}",
            cookie in "(OLDSID=|__Host-authferry=|)[ -~]{0,60}",
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _guard = runtime.enter();
            let world = World::canary();
            let policy = world.policy();
            let headers = headers(&[("authorization", &authorization), ("cookie", &cookie)]);
            if let Ok(Some(presented)) = extract(&headers, None, policy.owners(), &[]) {
                let material = std::str::from_utf8(presented.key().material).unwrap();
                prop_assert!(authorization.contains(material) || cookie.contains(material));
                prop_assert_eq!(presented.credential().is_none(), presented.session().is_some());
            }
        }
    }
}
