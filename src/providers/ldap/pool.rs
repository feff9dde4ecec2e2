//! Connections to one directory, kept for whoever needs one next.
//!
//! A connection has one user at a time, and comes back only after everything that was asked on it has been answered well.
//! Whatever else becomes of it (a refusal, an error, time that ran out, a caller who went away) closes it: an answer that comes
//! late must never be read as the answer to the next question. It must never write a password.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use ldap3::Ldap;
use ldap3::LdapConnAsync;
use ldap3::LdapConnSettings;
use ldap3::Scope;
use ldap3::SearchResult;
use rustls::ClientConfig;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout;

use crate::providers::ProviderError;
use crate::providers::client::Guard;
use crate::providers::ldap::outage;
use crate::providers::settings;

/// A connection is not kept beyond this, however busy it is: the name of a directory may mean another machine by then, and
/// its certificate may have ended.
const MAX_AGE: Duration = Duration::from_secs(600);

/// How long a kept connection may take to show that it lives; or a quarter of what a call may take, where that is less.
const PROOF: Duration = Duration::from_secs(1);

/// How long a connection that is not needed any more may take to say so.
const FAREWELL: Duration = Duration::from_secs(1);

/// The connections to one directory.
#[derive(Debug)]
pub(in crate::providers) struct Pool {
    url: String,
    starttls: bool,
    tls: Arc<ClientConfig>,
    /// One call.
    limit: Duration,
    bounds: settings::LdapPool,
    idle: Arc<Idle>,
}

impl Pool {
    /// Nothing is connected yet.
    pub(in crate::providers) fn new(
        server: &settings::Ldap,
        limit: Duration,
        tls: Arc<ClientConfig>,
    ) -> Self {
        Self {
            url: server.url.clone(),
            starttls: server.starttls,
            bounds: server.pool.clone(),
            idle: Arc::default(),
            limit,
            tls,
        }
    }

    /// A connection that lives, for the caller alone. A kept one is still bound as whoever used it last: what is not meant for
    /// them begins with a bind.
    ///
    /// # Errors
    ///
    /// What the last try to connect says.
    pub(in crate::providers) async fn take(
        &self,
        guard: &Guard,
        deadline: Instant,
    ) -> Result<Connection, ProviderError> {
        if let Some(mut kept) = self.idle.newest(self.bounds.idle_for) {
            if kept.answers(PROOF.min(self.limit / 4)).await {
                return Ok(kept);
            }
            // What has ended this one has ended the others too, as a rule: a restart, or a firewall that forgets.
            self.idle.clear();
        }
        // Only this is tried again: a bind that was sent may have counted against the account, whatever became of its answer.
        guard.connect(deadline, || self.open()).await
    }

    /// Takes a connection back after use. `well`: everything that was asked on it has been answered, and was no refusal.
    pub(in crate::providers) async fn give_back(&self, connection: Connection, well: bool) {
        let young = connection.born.elapsed() < MAX_AGE;
        let refused = if well && young {
            self.idle.put(connection, &self.bounds)
        } else {
            Some(connection)
        };
        if let Some(connection) = refused {
            connection.close().await;
        }
    }

    async fn open(&self) -> Result<Connection, ProviderError> {
        let connecting = LdapConnSettings::new()
            .set_conn_timeout(self.limit)
            .set_starttls(self.starttls)
            .set_config(Arc::clone(&self.tls));
        let (connection, ldap) = LdapConnAsync::with_settings(connecting, &self.url)
            .await
            .map_err(outage)?;
        let driver = tokio::spawn(async move {
            // The error of a broken connection reaches the caller through its request.
            drop(connection.drive().await);
        });
        Ok(Connection {
            ldap,
            driver: driver.abort_handle(),
            born: Instant::now(),
        })
    }
}

/// A connection with one user. Dropped, it is closed at once, and nothing that still comes on it is read.
#[derive(Debug)]
#[must_use]
pub(in crate::providers) struct Connection {
    ldap: Ldap,
    driver: AbortHandle,
    born: Instant,
}

impl Connection {
    /// To ask something on it.
    pub(in crate::providers) const fn ldap(&mut self) -> &mut Ldap {
        &mut self.ldap
    }

    /// Whether somebody is on the other side: the root DSE is looked for (RFC 4512 §5.1), without any attribute of it
    /// (RFC 4511 §4.5.1.8). No password is written before this is known, as it could not be written again.
    async fn answers(&mut self, limit: Duration) -> bool {
        if self.ldap.is_closed() {
            return false;
        }
        let asking = self
            .ldap
            .search("", Scope::Base, "(objectClass=*)", vec!["1.1"]);
        match timeout(limit, asking).await {
            // Found, or not to be seen by whoever used the connection last.
            Ok(Ok(SearchResult(_, said))) => matches!(said.rc, 0 | 32 | 50),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Ends it in an orderly way (RFC 4511 §4.3).
    async fn close(mut self) {
        drop(timeout(FAREWELL, self.ldap.unbind()).await);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The connections that nobody uses.
#[derive(Debug, Default)]
struct Idle(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// The one that was used last is the last, and the next to be used.
    kept: Vec<(Connection, Instant)>,
    /// Somebody closes those that wait for too long.
    watched: bool,
}

impl Idle {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A list of connections is right by itself: a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self, idle_for: Duration) -> Option<Connection> {
        let mut waiting = self.waiting();
        let (connection, since) = waiting.kept.pop()?;
        if since.elapsed() < idle_for {
            return Some(connection);
        }
        // The others wait for longer.
        waiting.kept.clear();
        None
    }

    fn clear(&self) {
        self.waiting().kept.clear();
    }

    /// Gives the connection back where there is no room for it.
    fn put(
        self: &Arc<Self>,
        connection: Connection,
        bounds: &settings::LdapPool,
    ) -> Option<Connection> {
        let mut waiting = self.waiting();
        if bounds.idle <= waiting.kept.len() {
            return Some(connection);
        }
        waiting.kept.push((connection, Instant::now()));
        if !waiting.watched {
            waiting.watched = true;
            let first = Instant::now() + bounds.idle_for;
            tokio::spawn(watch(Arc::downgrade(self), bounds.idle_for, first));
        }
        None
    }

    /// Takes out what has waited for too long, and says when the next will have; `None` when nothing waits any more, and then
    /// nobody watches.
    fn over(&self, idle_for: Duration) -> (Vec<Connection>, Option<Instant>) {
        let mut waiting = self.waiting();
        let kept = waiting.kept.iter();
        let count = kept
            .take_while(|(_, since)| idle_for <= since.elapsed())
            .count();
        let over = waiting.kept.drain(..count).map(|(one, _)| one).collect();
        let next = waiting.kept.first().map(|(_, since)| *since + idle_for);
        waiting.watched = next.is_some();
        (over, next)
    }
}

/// Closes connections that wait for too long, until none waits or the pool is gone.
async fn watch(idle: Weak<Idle>, idle_for: Duration, mut next: Instant) {
    loop {
        sleep_until(next).await;
        let Some(idle) = idle.upgrade() else { return };
        let (over, later) = idle.over(idle_for);
        // Not held meanwhile: with the pool its connections end.
        drop(idle);
        for connection in over {
            connection.close().await;
        }
        let Some(later) = later else { return };
        next = later;
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::clock::UnixTime;
    use crate::identity::ClaimPath;
    use crate::identity::Credential;
    use crate::identity::Issuer;
    use crate::identity::Outage;
    use crate::identity::Refusal;
    use crate::providers::Deps;
    use crate::providers::Owns;
    use crate::providers::Provider;
    use crate::providers::directory::Known;
    use crate::providers::fixture::NOW;
    use crate::providers::fixture::built;
    use crate::providers::fixture::pass;
    use crate::providers::fixture::until;
    use crate::providers::ldap::fake::Asked;
    use crate::providers::ldap::fake::FakeDirectory;
    use crate::providers::ldap::fake::Question;
    use crate::providers::ldap::fake::dn;
    use crate::providers::settings::KindSettings;
    use crate::providers::settings::LdapDirectory;
    use crate::providers::settings::LdapPool;
    use crate::secret::Secret;

    const PEOPLE: [(&str, &str); 3] = [("alice", "alice-pw"), ("bob", "bob-pw"), ("svc", "svc-pw")];

    fn provider(fake: &FakeDirectory, pool: LdapPool) -> Arc<dyn Provider> {
        patient(fake, pool, Duration::from_secs(10))
    }

    fn patient(fake: &FakeDirectory, pool: LdapPool, patience: Duration) -> Arc<dyn Provider> {
        let kind = KindSettings::Ldap(settings::Ldap {
            issuer: Issuer::new("urn:corp"),
            url: fake.url.clone(),
            starttls: false,
            user_dn: dn("{username}"),
            attributes: Vec::new(),
            groups: None,
            directory: Some(LdapDirectory {
                bind: Some((dn("svc"), Secret::new("svc-pw".to_owned()))),
                base: dn("bob"),
                filter: "(objectClass=person)".to_owned(),
                key: "uid".to_owned(),
            }),
            cache: Duration::from_secs(30),
            pool,
        });
        let owns = Owns {
            basic: true,
            ..Owns::default()
        };
        let mut settings = crate::providers::fixture::settings("corp", owns, kind);
        settings.client.timeout = patience;
        settings.claims = vec![("subject".into(), ClaimPath::parse("uid").unwrap())];
        built(&settings, &Deps::for_test())
    }

    fn idle(idle: usize) -> LdapPool {
        LdapPool {
            idle,
            ..LdapPool::default()
        }
    }

    /// Who comes in with this name and password.
    async fn signed_in(
        provider: &dyn Provider,
        name: &str,
        password: &str,
    ) -> Result<String, ProviderError> {
        let credential = Credential::Basic {
            username: name.into(),
            password: Secret::new(password.to_owned()),
        };
        let proof = provider.authenticate(&credential, NOW).await?;
        Ok(proof.identity().key.subject.as_str().to_owned())
    }

    async fn comes_in(provider: &dyn Provider, name: &str) {
        let password = format!("{name}-pw");
        let who = signed_in(provider, name, &password).await;
        assert_eq!(who.as_deref(), Ok(name));
    }

    #[tokio::test]
    async fn many_binds_in_a_row_use_one_connection_and_each_is_the_person_s_own() {
        let fake = FakeDirectory::start(&PEOPLE).await;
        let provider = provider(&fake, LdapPool::default());
        for name in ["alice", "bob", "bob", "alice", "bob"] {
            comes_in(&*provider, name).await;
        }
        assert_eq!(fake.connections(), 1);
        assert_eq!(fake.passwords().len(), 5, "one for each");
        for question in fake.questions() {
            // What is read of a person is read under that person's name.
            if let Asked::Search { base } = question.asked
                && !base.is_empty()
            {
                assert_eq!(question.by, base);
            }
        }
    }

    #[tokio::test]
    async fn a_connection_on_which_somebody_was_refused_is_not_used_again() {
        let fake = FakeDirectory::start(&PEOPLE).await;
        let provider = provider(&fake, LdapPool::default());
        comes_in(&*provider, "alice").await;
        let refused = signed_in(&*provider, "bob", "wrong").await;
        assert_eq!(refused, Err(Refusal::BadCredentials.into()));
        assert_eq!(fake.connections(), 1, "the kept one");
        until(|| fake.open() == 0).await;
        comes_in(&*provider, "bob").await;
        assert_eq!(fake.connections(), 2);
    }

    #[tokio::test]
    async fn an_answer_that_comes_late_is_never_read_as_that_to_somebody_else() {
        let fake = FakeDirectory::start(&PEOPLE).await;
        let provider = patient(&fake, LdapPool::default(), Duration::from_secs(2));
        comes_in(&*provider, "bob").await;
        // Her password is right, and that it is will be said to whoever asks next on her connection.
        fake.hold("alice");
        let late = signed_in(&*provider, "alice", "alice-pw").await;
        assert_eq!(late, Err(Outage::Timeout.into()));
        let wrong = signed_in(&*provider, "bob", "wrong").await;
        assert_eq!(wrong, Err(Refusal::BadCredentials.into()));
        comes_in(&*provider, "bob").await;
        // The same where the caller does not wait for the end.
        fake.hold("alice");
        let sent = fake.passwords().len();
        let calling = Arc::clone(&provider);
        let call =
            tokio::spawn(async move { signed_in(&*calling, "alice", "alice-pw").await.is_ok() });
        until(|| sent < fake.passwords().len()).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        let wrong = signed_in(&*provider, "bob", "wrong").await;
        assert_eq!(wrong, Err(Refusal::BadCredentials.into()));
        let hers = |one: &Question| matches!(&one.asked, Asked::Bind { dn: who, .. } if *who == dn("alice"));
        let asked = fake.questions();
        let mine: Vec<_> = asked.iter().filter(|one| hers(one)).collect();
        assert_eq!(mine.len(), 2);
        for bind in mine {
            let same = |one: &&Question| one.connection == bind.connection;
            let last = asked.iter().rfind(same).unwrap();
            assert!(hers(last), "{last:?} came after her bind");
        }
    }

    #[tokio::test]
    async fn a_password_is_sent_once_and_only_to_a_directory_that_answers() {
        let fake = FakeDirectory::start(&PEOPLE).await;
        let provider = provider(&fake, LdapPool::default());
        comes_in(&*provider, "alice").await;
        // Closed meanwhile, as by a restart.
        fake.hang_up();
        comes_in(&*provider, "bob").await;
        assert_eq!(fake.passwords(), ["alice-pw", "bob-pw"]);
        assert_eq!(fake.connections(), 2);
        // Open, and nobody is there any more, as behind a firewall that has forgotten the connection.
        fake.forget_everybody();
        comes_in(&*provider, "alice").await;
        assert_eq!(fake.passwords(), ["alice-pw", "bob-pw", "alice-pw"]);
        assert_eq!(fake.connections(), 3);
    }

    #[tokio::test]
    async fn no_more_are_kept_than_allowed_and_none_where_none_may_be() {
        let fake = FakeDirectory::start(&PEOPLE).await;
        let some = provider(&fake, idle(2));
        let mut calls = JoinSet::new();
        for _ in 0..6 {
            let some = Arc::clone(&some);
            calls.spawn(async move { comes_in(&*some, "bob").await });
        }
        calls.join_all().await;
        until(|| fake.open() <= 2).await;
        let before = fake.connections();
        let none = provider(&fake, idle(0));
        for _ in 0..3 {
            comes_in(&*none, "bob").await;
        }
        assert_eq!(fake.connections(), before + 3);
        drop(some);
        until(|| fake.open() == 0).await;
    }

    #[tokio::test]
    async fn a_connection_is_closed_when_nobody_needs_it_and_when_it_is_old() {
        let fake = FakeDirectory::start(&PEOPLE).await;
        let provider = provider(&fake, LdapPool::default());
        let minute = Duration::from_secs(60);
        comes_in(&*provider, "bob").await;
        assert_eq!(fake.open(), 1);
        pass(minute).await;
        until(|| fake.open() == 0).await;
        // Used every half minute, it lives for ten.
        for _ in 0..22 {
            comes_in(&*provider, "bob").await;
            pass(minute / 2).await;
        }
        assert_eq!(fake.connections(), 3);
    }

    #[tokio::test]
    async fn searches_of_ours_are_made_under_our_name_on_connections_of_their_own() {
        let fake = FakeDirectory::start(&PEOPLE).await;
        let provider = provider(&fake, LdapPool::default());
        let directory = provider.directory().unwrap();
        for name in ["alice", "bob", "alice"] {
            comes_in(&*provider, name).await;
            let before = fake.questions().len();
            let found = directory.find("bob", UnixTime::from_secs(0)).await;
            assert!(matches!(found, Ok(Known::Person { .. })), "{found:?}");
            let asked = fake.questions().split_off(before);
            assert!(asked.iter().all(|one| one.connection == 2), "{asked:?}");
            let ours = |one: &&Question| matches!(&one.asked, Asked::Bind { dn: who, .. } if *who == dn("svc"));
            assert_eq!(asked.iter().filter(ours).count(), 1, "anew each time");
        }
        assert_eq!(fake.connections(), 2);
    }
}
