//! People of a provider by an address of its own that answers as a UserInfo endpoint does (OpenID Connect Core 1.0 §5.3.2), about
//! whoever is named in it.

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use http::StatusCode;
use http::header;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::client::Call;
use crate::providers::client::Client;
use crate::providers::client::Endpoint;
use crate::providers::directory::Directory;
use crate::providers::directory::Known;
use crate::providers::directory::Shut;
use crate::providers::directory::settings;
use crate::providers::oauth::encoded;
use crate::providers::vouch::Voucher;
use crate::telemetry::metrics::Operation;

/// What stands in the address for whoever is looked up.
pub(crate) const PLACE: &str = "{value}";

/// One address for everybody.
#[derive(Debug)]
pub(in crate::providers) struct UserInfoDirectory {
    settings: settings::UserInfo,
    http: Arc<Client>,
    voucher: Voucher,
}

impl UserInfoDirectory {
    /// Nothing is asked yet.
    pub(in crate::providers) const fn new(
        settings: settings::UserInfo,
        http: Arc<Client>,
        voucher: Voucher,
    ) -> Self {
        Self {
            settings,
            http,
            voucher,
        }
    }

    fn call(&self, value: &str) -> Result<Call, ProviderError> {
        let address = self.settings.url.replace(PLACE, &encoded(value));
        let endpoint = Endpoint::parse(&address).or(Err(Outage::Malformed))?;
        let bearer = format!("Bearer {}", self.settings.token.expose());
        let mut bearer = HeaderValue::from_str(&bearer).or(Err(Outage::Malformed))?;
        bearer.set_sensitive(true);
        self.http.sends("directory_token");
        Ok(Call::get(Operation::Directory, &endpoint)
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, HeaderValue::from_static("application/json")))
    }

    fn read(&self, answer: &Answer, value: &str) -> Result<Known, ProviderError> {
        let Some((subject, claims, enabled)) = said(&self.settings, answer, value)? else {
            return Ok(Known::Nobody);
        };
        let identity = self.voucher.describe(&subject, &ClaimMap::new(claims))?;
        Ok(Known::Person {
            identity: Arc::new(identity),
            enabled,
        })
    }
}

/// Who is described, by what, and whether the account may be used.
type Described = (String, Map<String, Value>, bool);

fn said(
    settings: &settings::UserInfo,
    answer: &Answer,
    value: &str,
) -> Result<Option<Described>, ProviderError> {
    match answer.status {
        StatusCode::NOT_FOUND => return Ok(None),
        StatusCode::OK => {}
        // What is said of us is no judgement of anybody.
        _ => return Err(Outage::Malformed.into()),
    }
    let claims: Map<String, Value> =
        serde_json::from_slice(&answer.body).or(Err(Outage::Malformed))?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    // An address that passes over what is asked must not name somebody else.
    if text(&settings.key) != Some(value) {
        return Err(Outage::Malformed.into());
    }
    let subject = text("sub").ok_or(Outage::Malformed)?.to_owned();
    let enabled = match &settings.enabled {
        None => true,
        Some(name) => match claims.get(&**name) {
            Some(Value::Bool(enabled)) => *enabled,
            // What is not said is not known.
            Some(_) | None => return Err(Outage::Malformed.into()),
        },
    };
    Ok(Some((subject, claims, enabled)))
}

/// Who is described is who was asked for, and is in only where that was said. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(in crate::providers) fn promise(answer: &Answer) {
    let settings = settings::UserInfo {
        url: "https://people.example/{value}".into(),
        token: crate::secret::Secret::new("t0ken".to_owned()),
        key: "uid".into(),
        enabled: Some("active".into()),
    };
    let Ok(Some((subject, claims, enabled))) = said(&settings, answer, "alice") else {
        return;
    };
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(claims.get("uid"), Some(&Value::from("alice")));
    assert_eq!(claims.get("sub"), Some(&Value::from(subject)));
    assert_eq!(claims.get("active"), Some(&Value::from(enabled)));
}

#[async_trait]
impl Directory for UserInfoDirectory {
    async fn find(&self, value: &str, _now: UnixTime) -> Result<Known, ProviderError> {
        // It would be another address.
        if value.is_empty() || value == "." || value == ".." {
            return Ok(Known::Nobody);
        }
        let call = self.call(value)?;
        self.http
            .call(&call, |answer| self.read(&answer, value))
            .await
    }

    async fn everybody(
        &self,
        _most: usize,
        _now: UnixTime,
    ) -> Result<Vec<Box<str>>, ProviderError> {
        Err(Refusal::Unsupported.into())
    }

    async fn shut(&self, _most: usize, _now: UnixTime) -> Result<Vec<Shut>, ProviderError> {
        Err(Refusal::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::providers::Deps;
    use crate::providers::fake::Reply;
    use crate::providers::fixture::Idp;
    use crate::providers::fixture::NOW;
    use crate::providers::fixture::ready;
    use crate::providers::settings::KindSettings;
    use crate::providers::settings::OidcDirectory;
    use crate::secret::Secret;

    #[tokio::test]
    async fn somebody_is_described_by_an_address_of_their_own() {
        let idp = Idp::start().await;
        let mut settings = idp.oidc();
        let KindSettings::Oidc(oidc) = &mut settings.kind else {
            panic!("an OpenID provider")
        };
        oidc.directory = Some(OidcDirectory::UserInfo(settings::UserInfo {
            url: idp.fake.url("/people/{value}?all=1"),
            token: Secret::new("t0ken".to_owned()),
            key: "uid".into(),
            enabled: Some("active".into()),
        }));
        let deps = Deps::for_test();
        let provider = ready(&settings, &deps).await;
        let find = async |value: &str| provider.directory().unwrap().find(value, NOW).await;
        let says = |answer: Value| idp.fake.always("/people/a%2Fb", Reply::json(&answer));
        let good =
            json!({ "sub": "f81d", "uid": "a/b", "email": "a@corp.example", "active": true });
        says(good.clone());
        let Ok(Known::Person { identity, enabled }) = find("a/b").await else {
            panic!("nobody")
        };
        assert_eq!((identity.key.subject.as_str(), enabled), ("f81d", true));
        let seen = idp.fake.seen("/people/a%2Fb").pop().unwrap();
        assert_eq!(seen.headers["authorization"], "Bearer t0ken");
        let told = deps.metrics.render().unwrap();
        let used = r#"authferry_key_uses_total{key="provider:modern",use="send",purpose="directory_token"} 1"#;
        assert!(told.contains(used), "{told}");
        assert!(!told.contains("t0ken"));
        let with = |name: &str, value: Value| {
            let mut answer = good.clone();
            answer[name] = value;
            answer
        };
        says(with("active", json!(false)));
        assert!(matches!(
            find("a/b").await,
            Ok(Known::Person { enabled: false, .. })
        ));
        // Somebody else, somebody without a name, and somebody of whom it is not said whether the account may be used.
        for wrong in [
            with("uid", json!("b")),
            with("sub", json!(7)),
            with("active", json!("yes")),
            json!([]),
        ] {
            says(wrong);
            assert_eq!(find("a/b").await.unwrap_err(), Outage::Malformed.into());
        }
        for value in ["", ".", "..", "unknown"] {
            assert!(matches!(find(value).await, Ok(Known::Nobody)), "{value}");
        }
        assert!(
            provider
                .directory()
                .unwrap()
                .everybody(9, NOW)
                .await
                .is_err()
        );
    }
}
