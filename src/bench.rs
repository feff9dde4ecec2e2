//! What a bench needs of the inside: a store full of sessions, the steps of a request. Only with the feature `bench`; nothing of it is in the program.

pub mod micro;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::clock::ManualClock;
use crate::clock::UnixTime;
use crate::entropy::SystemEntropy;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Delegation;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::links::Links;
use crate::revocation::Parts;
use crate::revocation::Revocations;
use crate::rollout::RolloutId;
use crate::secret::Secret;
use crate::session::Member;
use crate::session::Pins;
use crate::session::SessionId;
use crate::session::Sessions;
use crate::session::settings::SameSite;
use crate::session::settings::Settings;
use crate::session::settings::StoreKind;
use crate::store::EMBEDDED_ROWS;
use crate::store::EmbeddedStore;
use crate::store::Key;
use crate::store::Store;
use crate::telemetry::DecisionLog;
use crate::telemetry::Metrics;
use crate::telemetry::Pseudonyms;

type Failed = Box<dyn Error>;

/// When it is.
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
/// Writes that wait at once; the store takes 1 024.
const AT_ONCE: usize = 400;

/// What each session holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Size {
    /// A refresh token that is opaque, and no ID token: what a login leaves where the provider has no logout.
    Small,
    /// What a login at Keycloak leaves: an ID token of 1.2 KB, which ends the session there, a refresh token of 0.6 KB.
    Keycloak,
}

/// An open store.
#[derive(Debug)]
pub struct Crowd {
    store: Arc<EmbeddedStore>,
    sessions: Arc<Sessions>,
}

impl Crowd {
    /// Opens the store in a file, and how long it took until its revocations are known.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub async fn open(file: &Path) -> Result<(Self, Duration), Failed> {
        let began = Instant::now();
        let store = Arc::new(EmbeddedStore::open(file, EMBEDDED_ROWS)?);
        let rows: Arc<dyn Store> = Arc::clone(&store) as _;
        let settings = Settings {
            cookie: "__Host-authferry".into(),
            secure: true,
            same_site: SameSite::Lax,
            shortest: false,
            idle: Duration::from_hours(24),
            absolute: Duration::from_hours(24),
            keys: vec![Secret::new(vec![7; 32])],
            revalidate: Duration::from_hours(24),
            max_per_subject: 50,
            store: StoreKind::Embedded,
        };
        let background = Handle::current();
        let entropy = Arc::new(SystemEntropy);
        let sessions = Sessions::new(&settings, Arc::clone(&rows), entropy, &background)?;
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
        let metrics = Metrics::new(Arc::clone(&clock), 100);
        let revocations = Revocations::new(Parts {
            links: Arc::new(Links::new(Arc::clone(&rows))),
            store: rows,
            sessions: Arc::clone(&sessions),
            clock,
            entropy: Arc::new(SystemEntropy),
            decisions: DecisionLog::off(),
            metrics,
            pseudonyms: Pseudonyms::new(&Secret::new(vec![1; 32])),
            keep: Duration::from_hours(24),
        });
        revocations.load().await?;
        let crowd = Self { store, sessions };
        Ok((crowd, began.elapsed()))
    }

    /// Signs `count` people in, each once; `short` of them for an hour, the others for a day. The cookies of every `step`th.
    ///
    /// # Errors
    ///
    /// When the store does not take it.
    pub async fn fill(
        &self,
        (count, short): (usize, usize),
        size: Size,
        step: usize,
    ) -> Result<Vec<String>, Failed> {
        let joining = stream::iter(0..count).map(|n| self.join(n, n < short, size));
        let mut joining = joining.buffer_unordered(AT_ONCE);
        let mut cookies = Vec::with_capacity(count / step);
        let mut done = 0;
        while let Some(cookie) = joining.next().await {
            let (n, cookie) = cookie?;
            if short <= n && n % step == 0 {
                cookies.push(cookie);
            }
            done += 1;
        }
        assert_eq!(done, count, "nobody was left out");
        Ok(cookies)
    }

    async fn join(&self, n: usize, short: bool, size: Size) -> Result<(usize, String), Failed> {
        let identity = person(n)?;
        let canonical = CanonicalSubject::named(&format!("hr:{n}"))?;
        let sid = uuid(n ^ 0x5a5a_5a5a);
        let (id_token, refresh_token) = match size {
            Size::Small => (None, uuid(n ^ 0x3333)),
            Size::Keycloak => (Some(jwt(n, [77, 600, 256])), jwt(n ^ 0x77, [70, 340, 64])),
        };
        let life = Duration::from_hours(if short { 1 } else { 24 });
        let member = Member {
            identity: &identity,
            canonical: &canonical,
            sid: &sid,
            id_token: id_token.as_deref(),
            refresh_token: &refresh_token,
            ends: NOW + life,
        };
        let cookie = self.sessions.joins_crowd(&member, NOW).await?;
        Ok((n, cookie))
    }

    /// What is kept of `count` people beside their sessions: whose account it is, and that they have moved. Its own rows alone.
    ///
    /// # Errors
    ///
    /// When the store does not take it.
    pub async fn acquaint(&self, count: usize) -> Result<(), Failed> {
        let (links, pins) = (Links::new(self.rows()), Pins::new(self.rows()));
        let rollout = RolloutId::new("crm-2026");
        let meet = async |n| {
            let (identity, person) = (person(n)?, CanonicalSubject::named(&format!("hr:{n}"))?);
            let (provider, key) = (&identity.provider, &identity.key);
            links.claim(&person, provider, key, NOW).await?;
            let account = links.account_row(&person, &ProviderId::new("legacy"));
            pins.moved(&rollout, (&person, &account), 1, NOW).await?;
            Ok::<_, Failed>(())
        };
        let met = stream::iter(0..count).map(meet);
        let mut met = met.buffer_unordered(AT_ONCE);
        while let Some(one) = met.next().await {
            one?;
        }
        Ok(())
    }

    fn rows(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as _
    }

    /// How long each of these takes until it is known whose it is.
    ///
    /// # Errors
    ///
    /// When one is nobody's.
    pub async fn look_up(&self, cookies: &[String]) -> Result<Vec<Duration>, Failed> {
        let mut took = Vec::with_capacity(cookies.len());
        for cookie in cookies {
            let began = Instant::now();
            let id = SessionId::parse(cookie).ok_or("no cookie")?;
            let restored = self.sessions.restore(id, NOW).await?;
            took.push(began.elapsed());
            restored.ok_or("a session is gone")?;
        }
        Ok(took)
    }

    /// Whether a row that nobody wrote is not there.
    pub async fn look_in_vain(&self) -> bool {
        let key = Key {
            table: "bench",
            key: &[7; 32],
        };
        matches!(self.store.get(key, NOW).await, Ok(None))
    }

    /// Two hours later: how many rows have gone by themselves, how long it took, and how long a write waited meanwhile at
    /// the most.
    ///
    /// # Errors
    ///
    /// When the store does not take part.
    pub async fn expire(&self) -> Result<(usize, Duration, Duration), Failed> {
        let began = Instant::now();
        let longest = Arc::new(AtomicU64::new(0));
        let (store, most) = (Arc::clone(&self.store), Arc::clone(&longest));
        let swept = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&swept);
        let beside = tokio::spawn(async move {
            for n in 0_u64.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let key = Key {
                    table: "bench",
                    key: &n.to_be_bytes(),
                };
                let began = Instant::now();
                let written = store.put(key, b"", NOW + Duration::from_hours(24)).await;
                let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                most.fetch_max(took, Ordering::Relaxed);
                if written.is_err() {
                    most.store(u64::MAX, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let later = NOW + Duration::from_hours(2);
        let gone = self.store.sweep(later).await;
        let took = began.elapsed();
        // The write that is under way waits for the last of the sweep.
        swept.store(true, Ordering::Relaxed);
        beside.await?;
        let most = Duration::from_micros(longest.load(Ordering::Relaxed));
        Ok((gone?, took, most))
    }
}

fn person(n: usize) -> Result<Identity, Failed> {
    let said = json!({
        "email": format!("person.{n}@corp.example"),
        "employee_id": format!("{n:07}"),
        "name": format!("Person Number {n}"),
        "groups": ["staff", "crm-users", "emea-sales"],
        "auth_time": 1_800_000_000,
    });
    let Value::Object(said) = said else {
        return Err("an object".into());
    };
    Ok(Identity {
        provider: ProviderId::new("modern"),
        key: SubjectKey {
            issuer: Issuer::new("https://id.corp.example/realms/corp"),
            subject: Subject::try_from(uuid(n).as_str())?,
        },
        attributes: Arc::new(ClaimMap::new(said)),
        client_id: Some("authferry-crm".into()),
        acr: Some("mfa".into()),
        scopes: ["openid", "profile", "email"].map(Box::from).into(),
        delegation: Delegation::default(),
    })
}

/// What looks like one, the same for the same number.
fn uuid(n: usize) -> String {
    let text = token(n, 32);
    let hex: String = text
        .bytes()
        .map(|byte| format!("{:x}", byte & 15))
        .collect();
    let mut parts = Vec::new();
    let mut rest = hex.as_str();
    for length in [8, 4, 4, 4, 12] {
        let (part, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        parts.push(part);
        rest = after;
    }
    parts.join("-")
}

/// What is as long as a token with a header, claims and a signature of so many bytes.
fn jwt(n: usize, parts: [usize; 3]) -> String {
    let part = |length| URL_SAFE_NO_PAD.encode(token(n ^ length, length));
    parts.map(part).join(".")
}

/// Letters that nothing compresses, the same for the same number (SplitMix64).
fn token(n: usize, length: usize) -> String {
    let mut state = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut text = String::with_capacity(length);
    while text.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for byte in (mixed ^ (mixed >> 31)).to_be_bytes() {
            text.extend(
                letters
                    .get(usize::from(byte & 63))
                    .map(|byte| char::from(*byte)),
            );
        }
    }
    text.truncate(length);
    text
}
