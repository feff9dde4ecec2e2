//! Whether two settings are the same: a provider whose settings did not change lives through a reload.

mod accounts;
#[cfg(feature = "ldap")]
mod directory;

use std::fs;
use std::time::Duration;

use aws_lc_rs::digest;

use crate::identity::ClaimPath;
use crate::providers::Owns;
use crate::providers::settings;
use crate::providers::settings::ClientAuth;
use crate::providers::settings::Keys;
use crate::providers::settings::KindSettings;
use crate::providers::settings::OAuthClient;
use crate::providers::settings::ProbeAnswer;
use crate::providers::settings::Settings;
use crate::providers::settings::Verify;

/// A digest of everything a provider is built from. Secrets count too, so it stays in memory and is never printed.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(in crate::providers) struct Fingerprint([u8; 32]);

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[fingerprint]")
    }
}

impl Settings {
    /// Equal for settings that build the same provider. The certificate file counts by what is in it.
    pub(in crate::providers) fn fingerprint(&self) -> Fingerprint {
        let mut hash = Digest(digest::Context::new(&digest::SHA256));
        settings(&mut hash, self);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.0.finish().as_ref());
        Fingerprint(fingerprint)
    }
}

/// Every field is written with its length before it, so that no two settings read alike. Structs are taken apart without
/// `..`: a new field does not compile until it is counted.
struct Digest(digest::Context);

impl Digest {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(&number.to_be_bytes());
        self
    }

    fn flag(&mut self, flag: bool) -> &mut Self {
        self.number(u64::from(flag))
    }

    fn span(&mut self, span: Duration) -> &mut Self {
        self.number(span.as_secs())
            .number(u64::from(span.subsec_nanos()))
    }

    fn optional(&mut self, text: Option<&str>) -> &mut Self {
        self.list(text)
    }

    fn list<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) -> &mut Self {
        let texts: Vec<_> = texts.into_iter().collect();
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text);
        }
        self
    }

    fn path(&mut self, path: &std::path::Path) -> &mut Self {
        self.bytes(path.as_os_str().as_encoded_bytes())
    }
}

fn settings(hash: &mut Digest, settings: &Settings) {
    let Settings {
        id,
        owns: owned,
        claims,
        email_domains,
        assurance,
        client: bounds,
        kind: what,
    } = settings;
    hash.text(id.as_str());
    owns(hash, owned);
    hash.list(
        claims
            .iter()
            .flat_map(|(name, path)| [&**name, path.as_str()]),
    );
    hash.list(email_domains.iter().map(|domain| &**domain));
    let settings::Assurance { fixed, claim, map } = assurance;
    hash.optional(fixed.as_deref())
        .optional(claim.as_ref().map(ClaimPath::as_str))
        .list(map.iter().flat_map(|(from, to)| [&**from, &**to]));
    client(hash, bounds);
    kind(hash, what);
}

fn owns(hash: &mut Digest, owns: &Owns) {
    let Owns {
        issuers,
        cookies,
        opaque,
        basic,
        api_key_header,
        client_cert,
    } = owns;
    hash.list(issuers.iter().map(|issuer| issuer.as_str()))
        .list(cookies.iter().map(|cookie| &**cookie))
        .flag(opaque.is_some())
        .list(opaque.iter().flatten().map(|prefix| &**prefix))
        .flag(*basic)
        .optional(api_key_header.as_ref().map(http::HeaderName::as_str))
        .flag(*client_cert);
}

fn client(hash: &mut Digest, client: &settings::Client) {
    let settings::Client {
        timeout,
        max_inflight,
        rps,
        retries,
        ca,
        certificate,
        breaker,
    } = client;
    let settings::Breaker {
        window,
        min_requests,
        failure_permille,
        open_for,
    } = breaker;
    hash.span(*timeout)
        .number(*max_inflight as u64)
        .number(u64::from(rps.unwrap_or(0)))
        .number(u64::from(*retries))
        .flag(ca.is_some());
    if let Some(path) = ca {
        // An unreadable file is a problem of the build, not of the comparison.
        hash.path(path).bytes(&fs::read(path).unwrap_or_default());
    }
    hash.flag(certificate.is_some());
    if let Some((chain, key)) = certificate {
        for path in [chain, key] {
            hash.path(path).bytes(&fs::read(path).unwrap_or_default());
        }
    }
    hash.span(*window)
        .number(u64::from(*min_requests))
        .number(u64::from(*failure_permille))
        .span(*open_for);
}

fn kind(hash: &mut Digest, kind: &KindSettings) {
    match kind {
        KindSettings::Oidc(oidc) => {
            let settings::Oidc {
                issuer,
                verify: rules,
                keys: from,
                client,
                redirect_path,
                scopes,
                require_iss,
                directory,
                provisioning,
                par,
                introspect,
                refreshes,
                rotates,
                revokes,
                back_channel,
            } = &**oidc;
            hash.text("oidc").text(issuer.as_str());
            verify(hash, rules);
            keys(hash, from);
            hash.flag(client.is_some());
            if let Some(client) = client {
                oauth_client(hash, client);
            }
            hash.text(redirect_path)
                .list(scopes.iter().map(|scope| &**scope))
                .flag(*require_iss)
                .text(match par {
                    settings::Par::Required => "required",
                    settings::Par::Offered => "offered",
                    settings::Par::Never => "never",
                })
                .flag(introspect.is_some());
            if let Some(settings::Introspect { cache, stale }) = introspect {
                hash.span(*cache).span(stale.unwrap_or_default());
            }
            hash.flag(*refreshes)
                .flag(*rotates)
                .flag(*revokes)
                .optional(back_channel.as_deref())
                .flag(directory.is_some());
            if let Some(directory) = directory {
                accounts::oidc_directory(hash, directory);
            }
            hash.flag(provisioning.is_some());
            if let Some(provisioning) = provisioning {
                accounts::provisioning(hash, provisioning);
            }
        }
        KindSettings::Jwt(settings::Jwt {
            issuer,
            verify: rules,
            keys: from,
        }) => {
            hash.text("jwt").text(issuer.as_str());
            verify(hash, rules);
            keys(hash, from);
        }
        KindSettings::Introspection(settings::Introspection {
            url,
            issuer,
            client,
            audiences,
            cache,
            stale,
            revoke,
        }) => {
            hash.text("introspection").text(url).text(issuer.as_str());
            oauth_client(hash, client);
            hash.list(audiences.iter().map(|audience| &**audience))
                .span(*cache)
                .span(stale.unwrap_or_default())
                .optional(revoke.as_deref());
        }
        KindSettings::SessionProbe(settings::SessionProbe {
            issuer,
            url,
            answer,
            cache,
            stale,
            login_path,
            // What is read of forms changes no verdict.
            fields: _,
            logout,
            bind,
        }) => {
            let logout = logout.as_ref();
            let method = logout.map(|logout| match logout.method {
                settings::LogoutMethod::Post => "post",
                settings::LogoutMethod::Get => "get",
            });
            let answer = match answer {
                ProbeAnswer::Json => "json",
                ProbeAnswer::Headers => "headers",
            };
            hash.text("session_probe")
                .text(issuer.as_str())
                .text(url)
                .text(answer)
                .span(*cache)
                .span(stale.unwrap_or_default())
                .optional(login_path.as_deref())
                .optional(logout.map(|logout| &*logout.url))
                .optional(method);
            hash.flag(bind.is_some());
            #[cfg(feature = "ldap")]
            if let Some(bind) = bind {
                directory::ldap(hash, bind);
            }
        }
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(server) => directory::ldap(hash, server),
        KindSettings::Basic(settings::Basic {
            issuer,
            file,
            realm,
            cache,
            at_once,
        }) => {
            hash.text("basic")
                .text(issuer.as_str())
                .path(file)
                .text(realm)
                .span(*cache)
                .number(at_once.unwrap_or(0) as u64);
        }
        KindSettings::ApiKey(settings::ApiKey { issuer, file }) => {
            hash.text("api_key").text(issuer.as_str()).path(file);
        }
        KindSettings::ClientCert(settings::ClientCert {
            issuer,
            ca,
            subject,
        }) => {
            hash.text("client_cert")
                .text(issuer.as_str())
                .path(ca)
                .text(subject.as_str());
        }
    }
}

fn verify(hash: &mut Digest, verify: &Verify) {
    let Verify {
        algorithms,
        audiences,
        markers,
        claims,
        any_typ,
        leeway,
        max_life,
        jwks_max_stale,
        jwks_refresh,
    } = verify;
    hash.list(algorithms.iter().map(|algorithm| algorithm.as_str()))
        .list(audiences.iter().map(|audience| &**audience))
        .list(markers.iter().flat_map(|m| [&*m.claim, &*m.equals]))
        .list(claims.iter().flat_map(|m| [&*m.claim, &*m.equals]))
        .flag(*any_typ)
        .span(*leeway)
        .span(*max_life)
        .span(*jwks_max_stale)
        .span(*jwks_refresh);
}

fn keys(hash: &mut Digest, keys: &Keys) {
    match keys {
        Keys::Discovered => hash.text("discovered"),
        Keys::Url(url) => hash.text("url").text(url),
        Keys::File(path) => hash.text("file").path(path),
        Keys::Inline(keys) => hash.text("inline").bytes(&keys.fingerprint()),
    };
}

fn oauth_client(hash: &mut Digest, client: &OAuthClient) {
    // When it ends is told to operators, and changes no verdict.
    let OAuthClient {
        id,
        auth,
        expires: _,
    } = client;
    hash.text(id);
    match auth {
        ClientAuth::SecretBasic(secret) => hash.text("basic").text(secret.expose()),
        ClientAuth::SecretPost(secret) => hash.text("post").text(secret.expose()),
        ClientAuth::PrivateKeyJwt(key) => hash.text("key").text(key.expose()),
        ClientAuth::SecretJwt(secret) => hash.text("secret_jwt").text(secret.expose()),
        ClientAuth::Certificate(_) => hash.text("certificate"),
        ClientAuth::SelfSigned(_) => hash.text("self_signed"),
        ClientAuth::None => hash.text("none"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Issuer;
    use crate::providers::fixture::Idp;
    use crate::secret::Secret;

    #[tokio::test]
    async fn whatever_changes_changes_the_fingerprint() {
        let idp = Idp::start().await;
        let settings = idp.oidc();
        let change = |change: &dyn Fn(&mut Settings, &mut settings::Oidc)| {
            let mut changed = settings.clone();
            let KindSettings::Oidc(mut oidc) = changed.kind.clone() else {
                panic!("an OpenID provider")
            };
            change(&mut changed, &mut oidc);
            changed.kind = KindSettings::Oidc(oidc);
            changed.fingerprint()
        };
        let own = settings.fingerprint();
        assert_eq!(change(&|_, _| {}), own);
        #[expect(clippy::type_complexity, reason = "said once")]
        let all: [(&str, &dyn Fn(&mut Settings, &mut settings::Oidc)); 8] = [
            ("owns", &|s, _| {
                s.owns.issuers.push(Issuer::new("https://b"))
            }),
            ("claims", &|s, _| s.claims.reverse()),
            ("assurance", &|s, _| s.assurance.fixed = Some("pwd".into())),
            ("timeout", &|s, _| {
                s.client.timeout += Duration::from_nanos(1)
            }),
            ("secret", &|_, oidc| {
                let auth = ClientAuth::SecretBasic(Secret::new("another".to_owned()));
                oidc.client.as_mut().unwrap().auth = auth;
            }),
            ("method", &|_, oidc| {
                let auth = ClientAuth::SecretPost(Secret::new("the secret".to_owned()));
                oidc.client.as_mut().unwrap().auth = auth;
            }),
            ("audiences", &|_, oidc| {
                oidc.verify.audiences.push("b".into())
            }),
            ("keys", &|_, oidc| {
                oidc.keys = Keys::Url("https://b/keys".to_owned())
            }),
        ];
        for (name, one) in all {
            assert_ne!(change(one), own, "{name}");
        }
    }

    #[tokio::test]
    async fn the_certificate_file_counts_by_its_content() {
        let idp = Idp::start().await;
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut settings = idp.oidc();
        settings.client.ca = Some(file.path().to_owned());
        let before = settings.fingerprint();
        fs::write(file.path(), "other").unwrap();
        assert_ne!(settings.fingerprint(), before);
    }
}
