//! The accounts of a provider that people come to with their passwords.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;

use crate::auth::fake::at;
use crate::auth::fake::identity;
use crate::clock::UnixTime;
use crate::identity::Refusal;
use crate::providers::Account;
use crate::providers::Authenticated;
use crate::providers::Newcomer;
use crate::providers::Passwords;
use crate::providers::ProviderError;
use crate::providers::Provisioning;
use crate::secret::Secret;

/// One account, by the name that its holder signs in with. Its subject is that name too, unless it says another.
#[derive(Clone, Debug)]
pub(in crate::auth) struct FakeAccount {
    pub(in crate::auth) subject: String,
    pub(in crate::auth) password: Option<String>,
    pub(in crate::auth) enabled: bool,
}

/// All accounts, and what was asked.
#[derive(Debug, Default)]
pub(in crate::auth) struct FakeAccounts {
    pub(in crate::auth) all: Mutex<BTreeMap<String, FakeAccount>>,
    /// Whether the provider does not say who has a password.
    pub(in crate::auth) silent: bool,
    /// What comes of setting a password, if not that it is set.
    pub(in crate::auth) policy: Mutex<Option<ProviderError>>,
    /// Where a judgement waits twice, if it waits: when it begins, and until somebody lets it go on.
    pub(in crate::auth) halt: Option<Arc<tokio::sync::Barrier>>,
    /// Each call, in order.
    pub(in crate::auth) calls: Mutex<Vec<String>>,
}

impl FakeAccounts {
    pub(in crate::auth) fn with(self, name: &str, password: Option<&str>) -> Self {
        let account = FakeAccount {
            subject: name.to_owned(),
            password: password.map(str::to_owned),
            enabled: true,
        };
        self.all.lock().unwrap().insert(name.to_owned(), account);
        self
    }

    pub(in crate::auth) fn change(&self, name: &str, change: impl FnOnce(&mut FakeAccount)) {
        change(self.all.lock().unwrap().get_mut(name).unwrap());
    }

    pub(in crate::auth) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn note(&self, what: &str, name: &str) {
        let call = format!("{what} {name}");
        self.calls.lock().unwrap().push(call);
    }

    fn account(&self, name: &str, made: bool) -> Option<Account> {
        let all = self.all.lock().unwrap();
        let found = all.get(name)?;
        let has = (!self.silent || made).then_some(found.password.is_some());
        let identity = Arc::new(identity("new", &found.subject));
        Some(Account::for_test(
            identity,
            name,
            (found.enabled, has, made),
        ))
    }
}

/// The name by which people are known on both sides.
fn known(newcomer: Newcomer<'_>) -> String {
    newcomer.identity.key.subject.as_str().to_owned()
}

#[async_trait]
impl Provisioning for FakeAccounts {
    async fn find(
        &self,
        newcomer: Newcomer<'_>,
        _now: UnixTime,
    ) -> Result<Option<Account>, ProviderError> {
        let name = known(newcomer);
        self.note("find", &name);
        Ok(self.account(&name, false))
    }

    async fn create(
        &self,
        newcomer: Newcomer<'_>,
        _now: UnixTime,
    ) -> Result<Account, ProviderError> {
        let name = known(newcomer);
        self.note("create", &name);
        let mut all = self.all.lock().unwrap();
        all.entry(name.clone()).or_insert(FakeAccount {
            subject: name.clone(),
            password: None,
            enabled: true,
        });
        drop(all);
        Ok(self.account(&name, true).unwrap())
    }

    async fn set_password(
        &self,
        account: &Account,
        password: &Secret<String>,
        _now: UnixTime,
    ) -> Result<(), ProviderError> {
        self.note("set", &account.username);
        if let Some(error) = self.policy.lock().unwrap().clone() {
            return Err(error);
        }
        let password = password.expose().clone();
        self.change(&account.username, |account| {
            account.password = Some(password);
        });
        Ok(())
    }
}

#[async_trait]
impl Passwords for FakeAccounts {
    async fn check(
        &self,
        username: &str,
        password: &Secret<String>,
        _now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        self.note("check", username);
        if let Some(halt) = &self.halt {
            halt.wait().await;
            halt.wait().await;
        }
        let all = self.all.lock().unwrap();
        let found = all.get(username).filter(|account| account.enabled);
        let right = |account: &&FakeAccount| {
            let own = account.password.as_deref();
            own == Some(password.expose().as_str())
        };
        let account = found.filter(right).ok_or(Refusal::BadCredentials)?;
        let identity = identity("new", &account.subject);
        Ok(Authenticated::for_test(identity, at(100_000)))
    }
}
