//! A directory that judges passwords by bind (RFC 4511 §4.2, RFC 4513 §5.1.3).

#[cfg(test)]
mod fake;
mod names;
mod pool;

pub(in crate::providers) use pool::Pool;

#[cfg(any(test, fuzzing))]
pub(super) use names::promise as names_promise;

use std::sync::Arc;

use async_trait::async_trait;
use ldap3::Ldap;
use ldap3::LdapError;
use ldap3::Scope;
use ldap3::SearchEntry;
use ldap3::controls::Control;
use ldap3::controls::RawControl;
use ldap3::dn_escape;
use ldap3::ldap_escape;
use rustls::ClientConfig;
use serde_json::Map;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::ClaimPath;
use crate::identity::Credential;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Ability;
use crate::providers::Authenticated;
use crate::providers::Directory;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::client::Guard;
use crate::providers::client::Pace;
use crate::providers::client::ROOM_WAIT;
use crate::providers::directory::LdapDirectory;
use crate::providers::settings;
use crate::providers::settings::Settings;
use crate::providers::vouch::Voucher;
use crate::telemetry::metrics::Circuit;
use crate::telemetry::metrics::Operation;

/// Entries of one group search; a longer answer is refused, because cut-off groups must never look like all groups.
const MAX_GROUPS: usize = 1_000;

/// Asks a directory to say what it has against an account (draft-behera-ldap-password-policy-10 §6). One that does not know
/// the control passes over it.
const PASSWORD_POLICY: &str = "1.3.6.1.4.1.42.2.27.8.5.1";

/// A provider that binds as the person.
#[derive(Debug)]
pub(super) struct LdapProvider {
    settings: Settings,
    ldap: settings::Ldap,
    epoch: Epoch,
    voucher: Voucher,
    guard: Guard,
    /// Nothing but binds as people, and what follows each of them.
    pool: Pool,
    room: Semaphore,
    pace: Option<Pace>,
    directory: Option<LdapDirectory>,
}

impl LdapProvider {
    /// A provider for one directory; nothing is connected yet.
    pub(super) fn new(
        settings: Settings,
        ldap: settings::Ldap,
        tls: Arc<ClientConfig>,
        guard: Guard,
        directory: Option<LdapDirectory>,
    ) -> Self {
        Self {
            directory,
            voucher: Voucher::new(&settings, &ldap.issuer),
            room: Semaphore::new(settings.client.max_inflight),
            pace: Pace::new(settings.client.rps, ROOM_WAIT),
            epoch: Epoch::default(),
            pool: Pool::new(&ldap, settings.client.timeout, tls),
            guard,
            settings,
            ldap,
        }
    }

    async fn bind(
        &self,
        username: &str,
        password: &str,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let dn = self
            .ldap
            .user_dn
            .replace("{username}", &dn_escape(username));
        let deadline = Instant::now() + self.settings.client.timeout;
        let mut connection = self.pool.take(&self.guard, deadline).await?;
        let asking = self.ask(connection.ldap(), username, &dn, password, now);
        let answer = asking.await;
        // After a refusal, too, the next bind has a connection that knows nothing of this one.
        self.pool.give_back(connection, answer.is_ok()).await;
        answer
    }

    /// Binds, first of all: whoever used the connection before is forgotten with that, and if it fails nothing else is asked.
    async fn ask(
        &self,
        ldap: &mut Ldap,
        username: &str,
        dn: &str,
        password: &str,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let policy = RawControl {
            ctype: PASSWORD_POLICY.to_owned(),
            crit: false,
            val: None,
        };
        let binding = ldap.with_controls(policy).simple_bind(dn, password);
        let bound = binding.await.map_err(outage)?;
        match (judge(bound.rc, &bound.text), objection(&bound.ctrls)) {
            // A good password is not enough where the directory wants something else of the person first.
            (Ok(()) | Err(ProviderError::Rejected(_)), Some(refusal)) => {
                return Err(refusal.into());
            }
            (judged, _) => judged?,
        }
        let entry = self.entry(ldap, dn).await?;
        let groups = match &self.ldap.groups {
            None => None,
            Some(wanted) => Some(groups(ldap, wanted, username, dn).await?),
        };
        let claims = claims(entry, groups, &self.settings.claims);
        let subject = subject(&self.settings, &claims)?;
        Ok(self
            .voucher
            .vouch(&subject, &claims, now + self.ldap.cache)?)
    }

    /// The person's own entry.
    async fn entry(&self, ldap: &mut Ldap, dn: &str) -> Result<SearchEntry, ProviderError> {
        let wanted: Vec<&str> = self.ldap.attributes.iter().map(|a| &**a).collect();
        let found = ldap
            .search(dn, Scope::Base, "(objectClass=*)", wanted)
            .await
            .map_err(outage)?;
        let (entries, _) = found.success().map_err(outage)?;
        let mut entries = entries.into_iter().map(SearchEntry::construct);
        Ok(entries.next().ok_or(Outage::Malformed)?)
    }
}

/// What an entry says: every attribute with one value as a string, with several as a list; `dn`, and `groups`.
pub(super) fn claims(
    entry: SearchEntry,
    groups: Option<Vec<String>>,
    mapping: &[(Box<str>, ClaimPath)],
) -> ClaimMap {
    let list = |values: Vec<String>| Value::Array(values.into_iter().map(Value::from).collect());
    let mut claims = Map::new();
    for (name, mut values) in entry.attrs {
        let value = match values.len() {
            1 => Value::from(values.remove(0)),
            _ => list(values),
        };
        claims.insert(name, value);
    }
    names::parts(&mut claims, mapping);
    claims.insert("dn".to_owned(), Value::from(entry.dn));
    if let Some(groups) = groups {
        claims.insert("groups".to_owned(), list(groups));
    }
    ClaimMap::new(claims)
}

/// The directory's own spelling: `Bob` and `bob` bind as one person and must be one subject.
pub(super) fn subject(settings: &Settings, claims: &ClaimMap) -> Result<String, ProviderError> {
    let mapped = settings
        .claims
        .iter()
        .find(|(name, _)| &**name == "subject");
    let Some((_, path)) = mapped else {
        return Ok(claims.text("dn").ok_or(Outage::Malformed)?.to_owned());
    };
    // Never another attribute in its place: that would be another person.
    let mapped = path.find(claims);
    let subject = mapped.as_ref().and_then(Value::as_str);
    Ok(subject.ok_or(Outage::Malformed)?.to_owned())
}

/// One spelling for all that a directory compares as equal (RFC 4518 §2.3, §2.6.1): letters by their small form, and white
/// space at the ends or doubled is none.
fn folded(username: &str) -> String {
    let words = username.split_whitespace();
    words.collect::<Vec<_>>().join(" ").to_lowercase()
}

/// The groups of somebody.
pub(super) async fn groups(
    ldap: &mut Ldap,
    groups: &settings::LdapGroups,
    username: &str,
    dn: &str,
) -> Result<Vec<String>, ProviderError> {
    let filter = groups
        .filter
        .replace("{dn}", &ldap_escape(dn))
        .replace("{username}", &ldap_escape(username));
    let wanted = vec![groups.attribute.as_str()];
    let found = ldap
        .search(&groups.base, Scope::Subtree, &filter, wanted)
        .await
        .map_err(outage)?;
    let (entries, _) = found.success().map_err(outage)?;
    if MAX_GROUPS < entries.len() {
        return Err(Refusal::Policy.into());
    }
    let mut names = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut attributes = SearchEntry::construct(entry).attrs;
        names.append(&mut attributes.remove(&groups.attribute).unwrap_or_default());
    }
    Ok(names)
}

/// What the directory has against an account whose password may be right. Its code says only whether the bind succeeded:
/// whoever must choose a new password first is bound, and may do nothing else.
fn objection(controls: &[Control]) -> Option<Refusal> {
    let Control(_, answer) = controls
        .iter()
        .find(|Control(_, control)| control.ctype == PASSWORD_POLICY)?;
    // SEQUENCE { warning [0] OPTIONAL, error [1] ENUMERATED OPTIONAL }; its parts are short.
    let [0x30, length, content @ ..] = answer.val.as_deref()? else {
        return None;
    };
    let mut rest = content.get(..usize::from(*length))?;
    while let [tag, length, parts @ ..] = rest {
        let (part, others) = parts.split_at_checked(usize::from(*length))?;
        rest = others;
        if *tag == 0x81 {
            return match part {
                [0] => Some(Refusal::Expired),
                [1] => Some(Refusal::Locked),
                _ => Some(Refusal::Policy),
            };
        }
    }
    None
}

/// What a bind result means (RFC 4511 §4.1.9 and appendix A.1). Active Directory tells more in `data NNN` of its text.
fn judge(code: u32, text: &str) -> Result<(), ProviderError> {
    match code {
        0 => Ok(()),
        49 => Err(if text.contains("data 533") {
            Refusal::Disabled
        } else if text.contains("data 775") {
            Refusal::Locked
        } else if text.contains("data 532") || text.contains("data 773") {
            Refusal::Policy
        } else {
            Refusal::BadCredentials
        }
        .into()),
        32 | 34 => Err(Refusal::BadCredentials.into()),
        8 | 13 | 50 | 53 => Err(Refusal::Policy.into()),
        51 => Err(Outage::RateLimited.into()),
        3 | 11 => Err(Outage::Timeout.into()),
        1 | 2 | 52 | 80 => Err(Outage::Http5xx.into()),
        _ => Err(Outage::Malformed.into()),
    }
}

/// What an error of the library means: never a judgement, except a result code that is one.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's list is long and open; what is not named is a garbled answer"
)]
pub(super) fn outage(error: LdapError) -> ProviderError {
    match error {
        LdapError::LdapResult { result } => match judge(result.rc, &result.text) {
            Err(meaning @ ProviderError::Unavailable { .. }) => meaning,
            // A search that is refused after a good bind says nothing about the password.
            Ok(()) | Err(ProviderError::Rejected(_)) => Outage::Malformed.into(),
        },
        LdapError::Io { .. }
        | LdapError::EndOfStream
        | LdapError::ResultRecv { .. }
        | LdapError::OpSend { .. } => Outage::Connect.into(),
        LdapError::Timeout { .. } => Outage::Timeout.into(),
        LdapError::Rustls { .. } | LdapError::DNSName { .. } => Outage::Tls.into(),
        _ => Outage::Malformed.into(),
    }
}

#[async_trait]
impl Provider for LdapProvider {
    fn id(&self) -> &ProviderId {
        &self.settings.id
    }

    fn owns(&self) -> &Owns {
        &self.settings.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    async fn authenticate(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let Credential::Basic { username, password } = credential else {
            return Err(Refusal::Unsupported.into());
        };
        // A bind without a password succeeds without proving anything (RFC 4513 §5.1.2): it is never sent.
        if username.is_empty() || password.expose().is_empty() {
            return Err(Refusal::BadCredentials.into());
        }
        let _room = self.room.try_acquire().or(Err(Outage::Shed))?;
        let limit = self.settings.client.timeout;
        let bind = async {
            if let Some(pace) = &self.pace {
                pace.turn(Instant::now() + limit).await?;
            }
            timeout(limit, self.bind(username, password.expose(), now))
                .await
                .or(Err(Outage::Timeout))?
        };
        self.guard.call(Operation::Bind, bind).await
    }

    fn person_name(&self, username: &str) -> String {
        folded(username)
    }

    fn abilities(&self) -> &'static [Ability] {
        match self.directory {
            Some(_) => &[Ability::Directory],
            None => &[],
        }
    }

    fn directory(&self) -> Option<&dyn Directory> {
        self.directory.as_ref().map(|own| own as &dyn Directory)
    }

    fn health(&self) -> Health {
        let usable = match self.guard.circuit() {
            Circuit::Closed | Circuit::HalfOpen => true,
            Circuit::Open => false,
        };
        Health {
            usable,
            down_since: self.guard.down_since(),
            problem: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::identity::Issuer;
    use crate::providers::Deps;
    use crate::providers::fixture::NOW;
    use crate::providers::fixture::built;
    use crate::providers::settings::KindSettings;
    use crate::secret::Secret;

    /// Asks a directory that takes a connection, reads what comes first, and hangs up: the outcome, and what each connection
    /// brought.
    async fn hung_up() -> (ProviderError, Vec<Vec<u8>>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ldap://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; 512];
                let length = stream.read(&mut bytes).await.unwrap();
                bytes.truncate(length);
                log.lock().unwrap().push(bytes);
            }
        });
        let kind = KindSettings::Ldap(settings::Ldap {
            issuer: Issuer::new("urn:corp"),
            url,
            starttls: false,
            user_dn: "uid={username},dc=corp".to_owned(),
            attributes: Vec::new(),
            groups: None,
            directory: None,
            cache: Duration::from_secs(30),
            pool: settings::LdapPool::default(),
        });
        let owns = Owns {
            basic: true,
            ..Owns::default()
        };
        let deps = Deps::for_test();
        let mut settings = crate::providers::fixture::settings("corp", owns, kind);
        settings.client.retries = 2;
        let credential = Credential::Basic {
            username: "bob".into(),
            password: Secret::new("right".to_owned()),
        };
        let provider = built(&settings, &deps);
        let said = provider.authenticate(&credential, NOW).await;
        server.abort();
        let seen = seen.lock().unwrap().clone();
        (said.unwrap_err(), seen, deps.metrics.render().unwrap())
    }

    #[test]
    fn a_subject_is_the_attribute_that_was_named_and_never_another_one_in_its_place() {
        let owns = Owns::default();
        let kind = KindSettings::Ldap(settings::Ldap {
            issuer: Issuer::new("urn:corp"),
            url: "ldaps://directory.corp.example".to_owned(),
            starttls: false,
            user_dn: "uid={username},dc=corp".to_owned(),
            attributes: Vec::new(),
            groups: None,
            directory: None,
            cache: Duration::from_secs(30),
            pool: settings::LdapPool::default(),
        });
        let mut settings = crate::providers::fixture::settings("corp", owns, kind);
        let entry = |uid: Value| {
            let members = [("dn", Value::from("uid=bob,dc=corp")), ("uid", uid)];
            let members = members.into_iter().map(|(k, v)| (k.to_owned(), v));
            ClaimMap::new(members.collect())
        };
        let mapped = |path: &str| vec![("subject".into(), ClaimPath::parse(path).unwrap())];
        settings.claims = mapped("uid");
        let bob = subject(&settings, &entry(Value::from("bob")));
        assert_eq!(bob.unwrap(), "bob");
        for several in [Value::from(vec!["bob", "eve"]), Value::Null] {
            let nobody = subject(&settings, &entry(several)).unwrap_err();
            assert_eq!(nobody, Outage::Malformed.into());
        }
        settings.claims = mapped("dn");
        let by_name = subject(&settings, &entry(Value::Null));
        assert_eq!(by_name.unwrap(), "uid=bob,dc=corp");
    }

    #[tokio::test]
    async fn a_password_that_was_sent_is_never_sent_again() {
        let (said, seen, page) = hung_up().await;
        assert_eq!(said, Outage::Connect.into());
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(seen[0].windows(5).any(|part| part == b"right"));
        for line in [
            "authferry_provider_circuit_state{provider=\"corp\"} 0\n",
            "{provider=\"corp\",operation=\"bind\",outcome=\"unavailable\"} 1\n",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }

    #[test]
    fn a_refusal_and_an_outage_of_the_directory_stay_apart() {
        for (code, text, expected) in [
            (49, "", Refusal::BadCredentials.into()),
            (49, "80090308: data 533, v4563", Refusal::Disabled.into()),
            (49, "80090308: data 775, v4563", Refusal::Locked.into()),
            (53, "", Refusal::Policy.into()),
            (51, "", Outage::RateLimited.into()),
            (52, "", Outage::Http5xx.into()),
            (9_999, "", ProviderError::from(Outage::Malformed)),
        ] {
            assert_eq!(judge(code, text), Err(expected), "{code} {text}");
        }
        assert_eq!(judge(0, ""), Ok(()));
    }

    #[test]
    fn what_a_directory_has_against_an_account_is_read_and_nothing_else() {
        let answer = |val: Option<&[u8]>| {
            let control = RawControl {
                ctype: PASSWORD_POLICY.to_owned(),
                crit: false,
                val: val.map(<[u8]>::to_vec),
            };
            objection(&[Control(None, control)])
        };
        assert_eq!(answer(Some(&[0x30, 3, 0x81, 1, 0])), Some(Refusal::Expired));
        assert_eq!(answer(Some(&[0x30, 3, 0x81, 1, 1])), Some(Refusal::Locked));
        assert_eq!(answer(Some(&[0x30, 3, 0x81, 1, 2])), Some(Refusal::Policy));
        // A warning before it: so many seconds are left.
        let warned = [0x30, 8, 0xa0, 3, 0x80, 1, 9, 0x81, 1, 2];
        assert_eq!(answer(Some(&warned)), Some(Refusal::Policy));
        assert_eq!(answer(Some(&[0x30, 5, 0xa0, 3, 0x80, 1, 9])), None);
        for nothing in [
            &[][..],
            &[0x30],
            &[0x30, 0],
            &[0x30, 9, 0x81],
            &[0x31, 3, 0x81, 1, 2],
        ] {
            assert_eq!(answer(Some(nothing)), None, "{nothing:?}");
        }
        assert_eq!(answer(None), None);
        assert_eq!(objection(&[]), None);
    }
}
