//! Rows of the layout before: who has signed in stays so. They are read, and written again in the layout of now with their next
//! use; until then nobody finds them by whose they are, but what is revoked is denied all the same.

use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;

use crate::identity::CanonicalSubject;
use crate::identity::Issuer;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::rollout::Arm;
use crate::rollout::RolloutId;
use crate::secret::Secret;
use crate::session::body::Backing;
use crate::session::body::Body;
use crate::session::body::Origin;
use crate::session::came_by::CameBy;
use crate::session::handle::Before;
use crate::session::handle::Handle;
use crate::session::seal::KeyRing;
use crate::session::seal::Purpose;

/// This byte, the length of the handle (4 bytes, big-endian), the handle, the body.
const LAYOUT: u8 = 2;

#[derive(Deserialize)]
struct FormerBody {
    provider: String,
    issuer: String,
    subject: String,
    canonical: String,
    attributes: Map<String, Value>,
    client_id: Option<String>,
    acr: Option<String>,
    scopes: Vec<String>,
    #[serde(default)]
    app: String,
    host: String,
    rollout: Option<FormerBacking>,
    rule: String,
    origin: Origin,
    began: u64,
    seen: u64,
    ends: u64,
    id_token: Option<String>,
    sid: Option<String>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    revision: u64,
    #[serde(default)]
    renewed: u64,
    #[serde(default)]
    lasts: Option<u64>,
    #[serde(default)]
    retry: u64,
    #[serde(default)]
    stands_for: Option<[u8; 32]>,
    #[serde(default)]
    came_by: Option<CameBy>,
}

#[derive(Deserialize)]
struct FormerHandle {
    provider: String,
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct FormerBacking {
    id: String,
    epoch: u64,
    arm: FormerArm,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum FormerArm {
    From,
    To,
}

/// The sealed parts.
fn parts(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (layout, rest) = value.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    (*layout == LAYOUT).then(|| rest.split_at_checked(length))?
}

/// A row, opened with the cookie; `None`: it is none of this layout.
pub(super) fn read(
    ring: &KeyRing,
    bytes: &[u8; 32],
    row: &[u8; 32],
    value: &[u8],
) -> Option<(Body, Handle)> {
    let (handle, body) = parts(value)?;
    let handle = open_handle(ring, row, handle)?;
    let body = ring.open(Purpose::SessionRow, bytes, &[row], body)?;
    let body: FormerBody = serde_json::from_slice(&Secret::new(body.plain).expose()[..]).ok()?;
    body.now(handle.refresh_token)
}

/// What can be told of a row without its cookie: who vouched, and what is to be revoked there.
pub(super) fn left(
    ring: &KeyRing,
    row: &[u8; 32],
    value: &[u8],
) -> Option<(String, Option<String>)> {
    let (handle, _) = parts(value)?;
    let handle = open_handle(ring, row, handle)?;
    Some((handle.provider, handle.refresh_token))
}

fn open_handle(ring: &KeyRing, row: &[u8; 32], sealed: &[u8]) -> Option<FormerHandle> {
    let opened = ring.open(Purpose::SessionHandle, b"", &[row], sealed)?;
    serde_json::from_slice(&Secret::new(opened.plain).expose()[..]).ok()
}

impl FormerBody {
    /// The same in the layout of now.
    fn now(self, refresh_token: Option<String>) -> Option<(Body, Handle)> {
        let alone = CanonicalSubject::unjoined(&SubjectKey {
            issuer: Issuer::new(&self.issuer),
            subject: Subject::try_from(self.subject.as_str()).ok()?,
        });
        let canonical = if alone.as_str() == self.canonical {
            alone
        } else {
            CanonicalSubject::named(&self.canonical).ok()?
        };
        let handle = Handle {
            provider: self.provider,
            issuer: self.issuer,
            subject: self.subject,
            canonical,
            client: self.client_id,
            sid: self.sid,
            kid: self.kid,
            made: self.began,
            began: self.began,
            seen: self.seen,
            // Its row is there for as long as it may rest.
            idle: self.ends.saturating_sub(self.seen) / 1_000,
            ends: self.ends,
            over: false,
            refresh_token,
            before: self.came_by.as_ref().map(Before::of),
        };
        let body = Body {
            attributes: self.attributes,
            acr: self.acr,
            scopes: self.scopes,
            app: self.app,
            host: self.host,
            backing: self.rollout.map(|backing| Backing {
                rollout: RolloutId::new(&backing.id),
                epoch: backing.epoch,
                arm: match backing.arm {
                    FormerArm::From => Arm::From,
                    FormerArm::To => Arm::To,
                },
            }),
            rule: self.rule,
            origin: self.origin,
            id_token: self.id_token,
            revision: self.revision,
            renewed: self.renewed.max(self.began),
            lasts: self.lasts,
            retry: self.retry,
            stands_for: self.stands_for,
            came_by: self.came_by,
        };
        Some((body, handle))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;
    use tokio::runtime::Handle as Runtime;

    use super::*;
    use crate::clock::UnixTime;
    use crate::entropy::SystemEntropy;
    use crate::identity::Mark;
    use crate::session::SessionId;
    use crate::session::Sessions;
    use crate::session::id;
    use crate::session::rows;
    use crate::session::size::NOW;
    use crate::session::size::settings;
    use crate::store::MemoryStore;
    use crate::store::Store;

    /// Writes a session as the version before did; its cookie, and the key of its row.
    async fn write(sessions: &Sessions, bytes: [u8; 32]) -> (String, [u8; 32]) {
        let (row, ring, at) = (id::row(&bytes), sessions.ring(), NOW.as_millis());
        let handle = json!({
            "provider": "modern", "issuer": "https://id.test", "subject": "alice", "sid": "S1",
            "began": at, "refresh_token": "RT",
        });
        let body = json!({
            "provider": "modern", "issuer": "https://id.test", "subject": "alice",
            "canonical": "hr:1", "attributes": { "email": "alice@corp.test", "groups": ["a"] },
            "client_id": "web", "acr": null, "scopes": ["openid"], "app": "crm",
            "host": "app.test", "rollout": { "id": "crm", "epoch": 3, "arm": "to" },
            "rule": "percent", "origin": "fallback", "began": at, "seen": at,
            "ends": at + 3_600_000, "id_token": "ID", "sid": "S1", "kid": "k1", "revision": 4,
            "renewed": at, "lasts": 300, "retry": 0,
        });
        let seal = |purpose, secret: &[u8], plain: &Value| {
            let plain = serde_json::to_vec(plain).unwrap();
            ring.seal(purpose, secret, &[&row], &plain, &SystemEntropy)
        };
        let handle = seal(Purpose::SessionHandle, b"", &handle);
        let body = seal(Purpose::SessionRow, &bytes, &body);
        let length = u32::try_from(handle.len()).unwrap().to_be_bytes();
        let value = [&[LAYOUT][..], &length, &handle, &body].concat();
        let ends = UnixTime::from_millis(at + 3_600_000);
        let written = sessions.store.put(rows::key(&row), &value, ends);
        written.await.unwrap();
        (URL_SAFE_NO_PAD.encode(bytes), row)
    }

    fn sessions() -> Arc<Sessions> {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let entropy = Arc::new(SystemEntropy);
        Sessions::new(&settings(), store, entropy, &Runtime::current()).unwrap()
    }

    #[tokio::test]
    async fn who_has_signed_in_before_stays_so_and_is_found_from_the_next_use_on() {
        let sessions = sessions();
        let (cookie, row) = write(&sessions, [7; 32]).await;
        let account = Mark::sid("https://id.test", "S1");
        let found = async || sessions.found_by(account, 9, NOW).await.unwrap();
        assert!(found().await.is_empty());
        let id = SessionId::parse(&cookie).unwrap();
        let restored = sessions.restore(id, NOW).await.unwrap().unwrap();
        assert_eq!(restored.canonical().as_str(), "hr:1");
        assert_eq!(restored.identity().key.subject.as_str(), "alice");
        let email = restored.identity().attributes.iter().next().unwrap();
        assert_eq!(email, ("email", &json!("alice@corp.test")));
        assert_eq!(restored.grounds().kid.as_deref(), Some("k1"));
        // It is written again behind its use.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let known = found().await;
        let [known] = known.as_slice() else {
            panic!("{known:?}");
        };
        assert!(known.runs && known.row == row);
        let farewell = sessions.end(id, NOW).await.unwrap().unwrap();
        assert_eq!(farewell.refresh_token.unwrap().expose(), "RT");
        assert_eq!(farewell.id_token.unwrap().expose(), "ID");
        assert!(sessions.restore(id, NOW).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn one_that_was_not_used_since_ends_and_its_token_is_known() {
        let sessions = sessions();
        let (cookie, row) = write(&sessions, [8; 32]).await;
        let known = sessions.known(&row, NOW).await.unwrap().unwrap();
        assert_eq!(known.provider.as_str(), "modern");
        let farewell = sessions.end_known(&row, NOW).await.unwrap().unwrap();
        assert_eq!(farewell.refresh_token.unwrap().expose(), "RT");
        let id = SessionId::parse(&cookie).unwrap();
        assert!(sessions.restore(id, NOW).await.unwrap().is_none());
        assert!(sessions.known(&row, NOW).await.unwrap().is_none());
    }
}
