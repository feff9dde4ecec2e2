//! Our sessions: made by a login, restored from a cookie, ended once and for all.

use std::fmt;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::debug;
use tracing::warn;

use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::secret::Secret;
use crate::session::body::Backing;
use crate::session::body::Body;
use crate::session::body::Content;
use crate::session::body::NewSession;
use crate::session::body::Origin;
use crate::session::id;
use crate::session::id::SessionId;
use crate::session::live::Live;
use crate::session::live::Registry;
use crate::session::seal::KeyRing;
use crate::session::seal::NoKeys;
use crate::session::seal::Opened;
use crate::session::seal::Purpose;
use crate::session::seal::SealedUnder;
use crate::session::settings::Settings;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Row;
use crate::store::Store;
use crate::store::StoreError;

const TABLE: &str = "session";
/// Sessions kept in memory beside the store: 65 536. One more is read again when it comes back.
const KEPT: usize = 65_536;
/// Rows waiting to be written again: 1 024. When more are due, they wait for their next use.
const TOUCHES: usize = 1_024;

/// Our sessions. Lives as long as the process; a reload changes its settings.
pub(crate) struct Sessions {
    store: Arc<dyn Store>,
    entropy: Arc<dyn Entropy>,
    active: ArcSwap<Active>,
    registry: Arc<Registry>,
    kept: Cache<[u8; 32], Arc<Live>>,
    touches: mpsc::Sender<Arc<Live>>,
}

struct Active {
    ring: Arc<KeyRing>,
    idle: Duration,
    absolute: Duration,
}

/// Proof that a session was restored from its cookie. Only this module makes one.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    live: Arc<Live>,
    content: Arc<Content>,
}

/// A session that was made.
#[derive(Debug)]
pub(crate) struct Created {
    /// The value of the cookie.
    pub(crate) cookie: Secret<String>,
    /// When it ends at the latest.
    pub(crate) ends: UnixTime,
}

/// What is left of a session that was ended.
#[derive(Debug)]
pub(crate) struct Farewell {
    /// Where it came from.
    pub(crate) provider: ProviderId,
    /// For RP-initiated logout, if the login brought one.
    pub(crate) id_token: Option<Secret<String>>,
}

impl Sessions {
    /// Opens the sessions of a store. Rows in use are written again by a task on `background`.
    ///
    /// # Errors
    ///
    /// [`NoKeys`], when the settings name none.
    pub(crate) fn new(
        settings: &Settings,
        store: Arc<dyn Store>,
        entropy: Arc<dyn Entropy>,
        background: &Handle,
    ) -> Result<Arc<Self>, NoKeys> {
        let (touches, due) = mpsc::channel(TOUCHES);
        let sessions = Arc::new(Self {
            store,
            entropy,
            active: ArcSwap::from_pointee(Active::new(settings)?),
            registry: Registry::new(),
            kept: Cache::new(KEPT),
            touches,
        });
        background.spawn(write_again(Arc::downgrade(&sessions), due));
        Ok(sessions)
    }

    /// Takes over changed keys and lifetimes. Running sessions keep their end.
    ///
    /// # Errors
    ///
    /// [`NoKeys`], when the settings name none; nothing changes then.
    pub(crate) fn reload(&self, settings: &Settings) -> Result<(), NoKeys> {
        self.active.store(Arc::new(Active::new(settings)?));
        // A session sealed under a key that is gone must not live on in memory.
        self.kept.clear();
        Ok(())
    }

    /// The ring that seals sessions: the login's cookies are sealed under it too.
    pub(crate) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.active.load().ring)
    }

    /// Makes a session, under a new id. It exists once this returns.
    ///
    /// # Errors
    ///
    /// When the store did not take it.
    pub(crate) async fn create(
        &self,
        new: NewSession<'_>,
        now: UnixTime,
    ) -> Result<Created, StoreError> {
        let active = self.active.load_full();
        let mut bytes = [0; 32];
        self.entropy.fill(&mut bytes);
        let ends = new.until.min(now + active.absolute);
        let body = Body::new(&new, ends, now);
        let row = id::row(&bytes);
        let sealed = self.seal(&active, &bytes, &row, &body)?;
        let expires = ends.min(now + active.idle + SLACK);
        let key = Key {
            table: TABLE,
            key: &row,
        };
        self.store.put(key, &sealed, expires).await?;
        Ok(Created {
            cookie: Secret::new(URL_SAFE_NO_PAD.encode(bytes)),
            ends,
        })
    }

    /// The session of a cookie; `None`: there is none, or it has ended. Counts as a use.
    ///
    /// # Errors
    ///
    /// An outage of the store: not a logout.
    pub(crate) async fn restore(
        &self,
        id: SessionId<'_>,
        now: UnixTime,
    ) -> Result<Option<Restored>, StoreError> {
        let active = self.active.load_full();
        let row = id.row();
        let live = self.registry.entry(&row, &self.touches);
        if live.content().is_none() {
            let key = Key {
                table: TABLE,
                key: &row,
            };
            let Some(found) = self.store.get(key, now).await? else {
                return Ok(None);
            };
            let Some((opened, body)) = self.open(&active, id.bytes(), &row, &found) else {
                return Ok(None);
            };
            let Some(content) = body.content(id.bytes()) else {
                return Err(StoreError::Damaged(String::from("a session row")));
            };
            live.fill(content, UnixTime::from_millis(body.seen), active.idle);
            self.kept.insert(row, Arc::clone(&live));
            match opened.under {
                SealedUnder::CurrentKey => {}
                SealedUnder::OlderKey => live.ask_for_touch(),
            }
        } else {
            live.set_idle(active.idle);
            // Only to be remembered as used.
            drop(self.kept.get(&row));
        }
        let content = live.content().map(Arc::clone);
        Ok(match content {
            Some(content) if live.use_at(now) => Some(Restored { live, content }),
            Some(_) | None => None,
        })
    }

    /// Ends a session for everybody who holds it, and removes its row; `None`: there was none.
    ///
    /// # Errors
    ///
    /// When the store did not confirm: the session is over in this process, but the end must not be acknowledged.
    pub(crate) async fn end(
        &self,
        id: SessionId<'_>,
        now: UnixTime,
    ) -> Result<Option<Farewell>, StoreError> {
        let active = self.active.load_full();
        let row = id.row();
        let live = self.registry.entry(&row, &self.touches);
        let key = Key {
            table: TABLE,
            key: &row,
        };
        let found = self.store.get(key, now).await?;
        let body = found.and_then(|found| self.open(&active, id.bytes(), &row, &found));
        live.end();
        self.kept.remove(&row);
        self.store.delete(key).await?;
        Ok(body.map(|(_, body)| Farewell {
            provider: body.provider(),
            id_token: body.id_token.clone().map(Secret::new),
        }))
    }

    fn seal(
        &self,
        active: &Active,
        bytes: &[u8; 32],
        row: &[u8; 32],
        body: &Body,
    ) -> Result<Vec<u8>, StoreError> {
        let plain = serde_json::to_vec(body).map_err(|error| {
            StoreError::Damaged(format!("a session cannot be written: {error}"))
        })?;
        let plain = Secret::new(plain);
        let sealed = active.ring.seal(
            Purpose::SessionRow,
            bytes,
            &[row],
            plain.expose(),
            &*self.entropy,
        );
        Ok(sealed)
    }

    /// A row that does not open was sealed under a removed key, or is not ours: no session.
    fn open(
        &self,
        active: &Active,
        bytes: &[u8; 32],
        row: &[u8; 32],
        found: &Row,
    ) -> Option<(Opened, Body)> {
        let opened = active
            .ring
            .open(Purpose::SessionRow, bytes, &[row], &found.value)?;
        let body = serde_json::from_slice(&opened.plain).ok()?;
        Some((opened, body))
    }

    /// Writes the last use of a session into its row, under the key that seals now. Never brings back a row that is gone.
    async fn touch(&self, live: &Live) -> Result<(), StoreError> {
        let active = self.active.load_full();
        let Some(content) = live.content() else {
            return Ok(());
        };
        let seen = live.seen();
        let (bytes, row) = (content.id.expose(), &live.row);
        let key = Key {
            table: TABLE,
            key: row,
        };
        let Some(found) = self.store.get(key, seen).await? else {
            live.end();
            return Ok(());
        };
        let Some((_, mut body)) = self.open(&active, bytes, row, &found) else {
            live.end();
            return Ok(());
        };
        body.seen = body.seen.max(seen.as_millis());
        let sealed = self.seal(&active, bytes, row, &body)?;
        let expires = content.ends.min(seen + active.idle + SLACK);
        let swapped = self
            .store
            .compare_and_swap(key, Expect::Version(found.version), &sealed, expires, seen)
            .await?;
        if !swapped {
            debug!("A session row changed while its use was written; the next use writes it.");
        }
        Ok(())
    }
}

/// A row outlives the idle time by this much, because its last use may not be written yet.
const SLACK: Duration = Duration::from_secs(120);

impl Active {
    fn new(settings: &Settings) -> Result<Self, NoKeys> {
        Ok(Self {
            ring: Arc::new(KeyRing::new(&settings.keys)?),
            idle: settings.idle,
            absolute: settings.absolute,
        })
    }
}

async fn write_again(sessions: Weak<Sessions>, mut due: mpsc::Receiver<Arc<Live>>) {
    while let Some(live) = due.recv().await {
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        if let Err(error) = sessions.touch(&live).await {
            warn!(error = %error, "The use of a session was not written; it may end early after a restart.");
        }
    }
}

impl Restored {
    /// Who it is.
    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.content.identity
    }

    /// Who it is across providers, as found at the login.
    pub(crate) fn canonical(&self) -> &CanonicalSubject {
        &self.content.canonical
    }

    /// The host it holds on.
    pub(crate) fn host(&self) -> &str {
        &self.content.host
    }

    /// The side of the rollout behind it.
    pub(crate) fn backing(&self) -> Option<&Backing> {
        self.content.backing.as_ref()
    }

    /// The rule that assigned its login.
    pub(crate) fn rule(&self) -> &Arc<str> {
        &self.content.rule
    }

    /// How it came to be.
    pub(crate) fn origin(&self) -> Origin {
        self.content.origin
    }

    /// When it ends at the latest.
    pub(crate) fn ends(&self) -> UnixTime {
        self.content.ends
    }

    /// The handle that dies with it.
    pub(crate) const fn live(&self) -> &Arc<Live> {
        &self.live
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
