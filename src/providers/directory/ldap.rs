//! An LDAP directory, searched by an account of ours (RFC 4511 §4.5).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ldap3::Ldap;
use ldap3::Scope;
use ldap3::SearchEntry;
use ldap3::adapters::Adapter;
use ldap3::adapters::EntriesOnly;
use ldap3::adapters::PagedResults;
use ldap3::ldap_escape;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::providers::client::Guard;
use crate::providers::client::Pace;
use crate::providers::client::ROOM_WAIT;
use crate::providers::directory::Directory;
use crate::providers::directory::Known;
use crate::providers::directory::Shut;
use crate::providers::directory::described;
use crate::providers::directory::settings;
use crate::providers::ldap;
use crate::providers::ldap::Pool;
use crate::providers::settings::Ldap as LdapSettings;
use crate::providers::settings::Settings;
use crate::providers::vouch::Voucher;
use crate::telemetry::metrics::Operation;

/// Entries of one page.
const PAGE: i32 = 500;
/// The list of everybody.
const LIST_TIMEOUT: Duration = Duration::from_secs(300);
/// What says that an account may not be used: Active Directory, 389 Directory Server, eDirectory, and
/// draft-behera-ldap-password-policy-10 §5.3.3.
const LOCKS: [&str; 4] = [
    "userAccountControl",
    "nsAccountLock",
    "loginDisabled",
    "pwdAccountLockedTime",
];

/// Entries of which one of them may say so; what a server does not know of is no match (RFC 4511 §4.5.1.7). ACCOUNTDISABLE is
/// looked for by its bit.
const SHUT: &str = "(|(userAccountControl:1.2.840.113556.1.4.803:=2)(nsAccountLock=TRUE)(loginDisabled=TRUE)(pwdAccountLockedTime=000001010000Z))";

/// The people of one directory.
#[derive(Debug)]
pub(in crate::providers) struct LdapDirectory {
    settings: Settings,
    server: LdapSettings,
    own: settings::Ldap,
    voucher: Voucher,
    guard: Guard,
    /// Of its own: nobody was ever bound on its connections but we.
    pool: Pool,
    room: Semaphore,
    pace: Option<Pace>,
}

impl LdapDirectory {
    /// Nothing is connected yet.
    pub(in crate::providers) fn new(
        settings: Settings,
        server: LdapSettings,
        own: settings::Ldap,
        tls: Arc<ClientConfig>,
        guard: Guard,
    ) -> Self {
        Self {
            voucher: Voucher::new(&settings, &server.issuer),
            room: Semaphore::new(settings.client.max_inflight),
            pace: Pace::new(settings.client.rps, ROOM_WAIT),
            pool: Pool::new(&server, settings.client.timeout, tls),
            settings,
            server,
            own,
            guard,
        }
    }

    /// Binds as ourselves, on whichever connection, and does `work`.
    async fn with<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut Ldap) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let connected = async {
            let deadline = Instant::now() + self.settings.client.timeout;
            let mut connection = self.pool.take(&self.guard, deadline).await?;
            let ldap = connection.ldap();
            let answer = match &self.own.bind {
                None => work(ldap).await,
                Some((dn, password)) => {
                    self.guard.sends("ldap_bind");
                    match ldap.simple_bind(dn, password.expose()).await {
                        Err(error) => Err(ldap::outage(error)),
                        // What is said of us is no judgement of anybody.
                        Ok(bound) if bound.rc != 0 => Err(Outage::Malformed.into()),
                        Ok(_) => work(ldap).await,
                    }
                }
            };
            self.pool.give_back(connection, answer.is_ok()).await;
            answer
        };
        if let Some(pace) = &self.pace {
            pace.turn(Instant::now() + limit).await?;
        }
        timeout(limit, connected).await.or(Err(Outage::Timeout))?
    }

    async fn look(&self, ldap: &mut Ldap, value: &str) -> Result<Known, ProviderError> {
        let filter = format!(
            "(&{}({}={}))",
            self.own.filter,
            self.own.key,
            ldap_escape(value)
        );
        let login = self.login_attribute();
        let wanted = self.server.attributes.iter().map(|name| &**name);
        let wanted: Vec<&str> = wanted.chain(LOCKS).chain(login).collect();
        let found = ldap.search(&self.own.base, Scope::Subtree, &filter, wanted);
        let (entries, _) = found
            .await
            .and_then(ldap3::SearchResult::success)
            .map_err(ldap::outage)?;
        let mut entries = entries.into_iter().map(SearchEntry::construct);
        let (entry, other) = (entries.next(), entries.next());
        let Some(entry) = entry else {
            return Ok(Known::Nobody);
        };
        if other.is_some() {
            return Ok(Known::Several);
        }
        let enabled = !is_locked(&entry.attrs);
        let dn = entry.dn.clone();
        let username = login.and_then(|name| values(&entry.attrs, name).next());
        let username = username.unwrap_or(value).to_owned();
        let groups = match &self.server.groups {
            None => None,
            Some(groups) => Some(ldap::groups(ldap, groups, &username, &dn).await?),
        };
        let claims = ldap::claims(entry, groups, &self.settings.claims);
        let subject = ldap::subject(&self.settings, &claims)?;
        Ok(Known::Person {
            identity: Arc::new(self.voucher.describe(&subject, &claims)?),
            enabled,
        })
    }

    /// The attribute that holds the name somebody signs in with, as far as `user_dn` says it.
    fn login_attribute(&self) -> Option<&str> {
        let (name, _) = self.server.user_dn.split_once("={username}")?;
        name.rsplit(',').next().map(str::trim)
    }

    async fn list(&self, ldap: &mut Ldap, most: usize) -> Result<Vec<Box<str>>, ProviderError> {
        let filter = format!("(&{}({}=*))", self.own.filter, self.own.key);
        let pages: Vec<Box<dyn Adapter<'_, _, _>>> = vec![
            Box::new(EntriesOnly::new()),
            Box::new(PagedResults::new(PAGE)),
        ];
        let wanted = vec![self.own.key.as_str()];
        let searching =
            ldap.streaming_search_with(pages, &self.own.base, Scope::Subtree, &filter, wanted);
        let mut search = searching.await.map_err(ldap::outage)?;
        let mut all: Vec<Box<str>> = Vec::new();
        while let Some(entry) = search.next().await.map_err(ldap::outage)? {
            let entry = SearchEntry::construct(entry);
            all.extend(values(&entry.attrs, &self.own.key).map(Box::from));
            if most < all.len() {
                return Err(Refusal::Policy.into());
            }
        }
        search.finish().await.success().map_err(ldap::outage)?;
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    async fn list_shut(&self, ldap: &mut Ldap, most: usize) -> Result<Vec<Shut>, ProviderError> {
        let filter = format!("(&{}{SHUT})", self.own.filter);
        let pages: Vec<Box<dyn Adapter<'_, _, _>>> = vec![
            Box::new(EntriesOnly::new()),
            Box::new(PagedResults::new(PAGE)),
        ];
        let wanted = self.server.attributes.iter().map(|name| &**name);
        let key = self.own.key.as_str();
        let wanted: Vec<&str> = wanted.chain(LOCKS).chain([key]).collect();
        let searching =
            ldap.streaming_search_with(pages, &self.own.base, Scope::Subtree, &filter, wanted);
        let mut search = searching.await.map_err(ldap::outage)?;
        let mut all = Vec::new();
        while let Some(entry) = search.next().await.map_err(ldap::outage)? {
            let entry = SearchEntry::construct(entry);
            if !is_locked(&entry.attrs) {
                continue;
            }
            let key = the_one(values(&entry.attrs, key));
            let claims = ldap::claims(entry, None, &self.settings.claims);
            let identity = ldap::subject(&self.settings, &claims)
                .and_then(|subject| Ok(self.voucher.describe(&subject, &claims)?));
            if let Some(identity) = described(identity)? {
                all.push(Shut { key, identity });
            }
            if most < all.len() {
                return Err(Refusal::Policy.into());
            }
        }
        search.finish().await.success().map_err(ldap::outage)?;
        Ok(all)
    }
}

/// The values of an attribute, whose name has no case (RFC 4512 §2.5).
fn values<'a>(
    attributes: &'a HashMap<String, Vec<String>>,
    name: &str,
) -> impl Iterator<Item = &'a str> {
    let found = attributes
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    found
        .into_iter()
        .flat_map(|(_, values)| values)
        .map(String::as_str)
}

/// The value, if there is exactly one.
fn the_one<'a>(mut values: impl Iterator<Item = &'a str>) -> Option<Box<str>> {
    let first = values.next()?;
    values.next().is_none().then(|| first.into())
}

fn is_locked(attributes: &HashMap<String, Vec<String>>) -> bool {
    let says = |name, test: fn(&str) -> bool| values(attributes, name).any(test);
    let yes = |text: &str| text.eq_ignore_ascii_case("true");
    // ACCOUNTDISABLE is the second bit.
    says("userAccountControl", |text| {
        text.parse::<i64>().is_ok_and(|bits| bits & 2 != 0)
    }) || says("nsAccountLock", yes)
        || says("loginDisabled", yes)
        || says("pwdAccountLockedTime", |text| {
            // The same moment may be written with seconds.
            text.starts_with("00000")
        })
}

#[async_trait]
impl Directory for LdapDirectory {
    async fn find(&self, value: &str, _now: UnixTime) -> Result<Known, ProviderError> {
        let _room = self.room.try_acquire().or(Err(Outage::Shed))?;
        let limit = self.settings.client.timeout;
        let looking = self.with(limit, async |ldap: &mut Ldap| self.look(ldap, value).await);
        self.guard.call(Operation::Directory, looking).await
    }

    async fn everybody(&self, most: usize, _now: UnixTime) -> Result<Vec<Box<str>>, ProviderError> {
        let _room = self.room.try_acquire().or(Err(Outage::Shed))?;
        let listing = self.with(LIST_TIMEOUT, async |ldap: &mut Ldap| {
            self.list(ldap, most).await
        });
        self.guard.call(Operation::Directory, listing).await
    }

    async fn shut(&self, most: usize, _now: UnixTime) -> Result<Vec<Shut>, ProviderError> {
        let _room = self.room.try_acquire().or(Err(Outage::Shed))?;
        let listing = self.with(LIST_TIMEOUT, async |ldap: &mut Ldap| {
            self.list_shut(ldap, most).await
        });
        self.guard.call(Operation::Directory, listing).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_that_may_not_be_used_are_known_by_what_their_servers_say() {
        let locked = |name: &str, value: &str| {
            is_locked(&HashMap::from([(name.to_owned(), vec![value.to_owned()])]))
        };
        for (name, value) in [
            ("userAccountControl", "514"),
            ("useraccountcontrol", "66050"),
            ("nsAccountLock", "TRUE"),
            ("loginDisabled", "true"),
            ("pwdAccountLockedTime", "000001010000Z"),
        ] {
            assert!(locked(name, value), "{name}: {value}");
        }
        for (name, value) in [
            ("userAccountControl", "512"),
            ("nsAccountLock", "false"),
            // Locked for a while by wrong passwords: nobody disabled it.
            ("pwdAccountLockedTime", "20260101000000Z"),
            ("uid", "TRUE"),
        ] {
            assert!(!locked(name, value), "{name}: {value}");
        }
    }
}
