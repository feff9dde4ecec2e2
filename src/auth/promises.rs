//! What holds for what browsers send, whatever that is. See `crate::promises`.

use std::sync::Arc;
use std::sync::LazyLock;

use async_trait::async_trait;
use http::HeaderMap;
use http::HeaderValue;
use http::header::COOKIE;

use crate::auth::brought;
use crate::auth::cookies::Sent;
use crate::auth::cookies::named;
use crate::auth::cookies::pairs;
use crate::auth::extract::authorization_promise;
use crate::auth::owners::Owners;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::ProviderError;

pub(crate) use crate::auth::login::promises::login_flow;
pub(crate) use crate::auth::login::promises::query;
pub(crate) use crate::auth::login::promises::return_path;

/// A cookie counts when one pair has its name, in whatever field; one field a line.
pub(crate) fn cookies(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(COOKIE, value);
        }
    }
    brought::promise(&headers);
    let name = "__Host-authferry";
    let found: Vec<&[u8]> = pairs(&headers)
        .filter(|(other, _)| *other == name.as_bytes())
        .map(|(_, value)| value)
        .collect();
    let sent = named(&headers, name);
    match (sent, &found[..]) {
        (Sent::None, []) | (Sent::Several, [_, _, ..]) => assert_eq!(sent.text(), None),
        (Sent::Once(value), [only]) => {
            assert_eq!(value, *only);
            assert!(
                sent.text()
                    .is_none_or(|text| text.bytes().all(|b| b.is_ascii_graphic()))
            );
        }
        (sent, found) => unreachable!("{sent:?} of {found:?}"),
    }
    for (name, value) in pairs(&headers) {
        assert!(!name.is_empty() && !name.contains(&b';') && !value.contains(&b';'));
        assert!(!name.contains(&b'='));
    }
}

/// Whose passwords and opaque tokens there are. It vouches for nobody.
#[derive(Debug)]
struct Nobody {
    id: ProviderId,
    owns: Owns,
    epoch: Epoch,
}

#[async_trait]
impl Provider for Nobody {
    fn id(&self) -> &ProviderId {
        &self.id
    }

    fn owns(&self) -> &Owns {
        &self.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    async fn authenticate(
        &self,
        _credential: &Credential,
        _now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        Err(Refusal::Unsupported.into())
    }

    fn health(&self) -> Health {
        Health {
            usable: false,
            down_since: None,
            problem: None,
        }
    }
}

static OWNERS: LazyLock<Owners> = LazyLock::new(|| {
    let owner = |name: &str, prefixes: &[&str], basic| -> Arc<dyn Provider> {
        Arc::new(Nobody {
            id: ProviderId::new(name),
            owns: Owns {
                opaque: Some(prefixes.iter().map(|prefix| Box::from(*prefix)).collect()),
                basic,
                ..Owns::default()
            },
            epoch: Epoch::default(),
        })
    };
    Owners::new(
        "__Host-authferry",
        &[
            owner("old", &["old_", "old_at_"], false),
            owner("new", &[], true),
        ],
        Vec::new(),
    )
});

/// What stands in `Authorization` is one credential, in one spelling, or none.
pub(crate) fn authorization(bytes: &[u8]) {
    authorization_promise(bytes, &OWNERS);
}
