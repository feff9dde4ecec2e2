//! A login under way: one sealed record in the browser, nothing on our side.

use aws_lc_rs::constant_time;
use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::login::chooser::Hint;
use crate::auth::login::return_to;
use crate::auth::login::return_to::ReturnPath;
use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity::Delegation;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::providers::Login;
use crate::providers::Provider;
use crate::secret::Secret;
use crate::session::KeyRing;
use crate::session::Purpose;

/// How long a login may take: 10 min.
pub(super) const LIFE: Duration = Duration::from_mins(10);
/// Logins under way in one browser: 5. One more takes the place of the oldest.
pub(super) const SLOTS: u8 = 5;
/// Bytes of all flow cookies together, names included: they must leave room in the browser's `Cookie` field.
pub(super) const MAX_COOKIE_BYTES: usize = 3_400;

/// What a login is bound to. State, nonce and PKCE verifier are made from one seed.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Flow {
    /// The provider it began with.
    #[serde(rename = "p")]
    provider: String,
    /// Client, callback and issuers of that provider, as they were.
    #[serde(rename = "b")]
    binding: String,
    /// The rollout and its epoch.
    #[serde(rename = "o")]
    rollout: Option<(String, u64)>,
    /// The place of the stage.
    #[serde(rename = "g")]
    stage: usize,
    /// The revision of the configuration.
    #[serde(rename = "v")]
    revision: String,
    /// The rule that assigned it.
    #[serde(rename = "w")]
    pub(super) rule: String,
    #[serde(rename = "s")]
    seed: String,
    #[serde(rename = "t")]
    target: String,
    /// Milliseconds since 1970.
    #[serde(rename = "n")]
    began: u64,
    /// How often it was begun anew.
    #[serde(rename = "r")]
    pub(super) restarts: u8,
    /// A fallback, and how long its session lives, in milliseconds.
    #[serde(rename = "f")]
    fallback: Option<u64>,
    /// What it is about beside a session.
    #[serde(rename = "e", default, skip_serializing_if = "Errand::is_session")]
    pub(super) errand: Errand,
    /// What the person calls themselves: for the case that it begins anew.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// What a login is about beside a session.
#[derive(Clone, Default, Deserialize, Serialize)]
pub(super) enum Errand {
    /// Nothing.
    #[default]
    #[serde(rename = "s")]
    Session,
    /// The person has just signed in at the other side, with an account that is joined with nobody: whoever signs in here is
    /// its owner.
    #[serde(rename = "p")]
    Prove(Proof),
    /// The person has just signed in at both sides, and is asked whether both accounts are theirs. No provider answers to this.
    #[serde(rename = "j")]
    Join {
        /// The account that is joined with nobody,
        #[serde(rename = "n")]
        new: Proof,
        /// and the one of the old side,
        #[serde(rename = "o")]
        old: Proof,
        /// whose person, by canonical name, it is to be.
        #[serde(rename = "p")]
        person: String,
    },
    /// Somebody with a session of the old side is asked after without a page: this person, by canonical name, with this very
    /// session, or nobody.
    #[serde(rename = "q")]
    Silent {
        #[serde(rename = "p")]
        person: String,
        #[serde(rename = "h")]
        holder: String,
    },
}

/// An account that somebody has just signed in with.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Proof {
    #[serde(rename = "p")]
    provider: String,
    #[serde(rename = "i")]
    issuer: String,
    #[serde(rename = "s")]
    subject: String,
    /// What its owner knows it by.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// When that login began: what has been revoked since proves nothing.
    #[serde(rename = "b")]
    began: u64,
    /// By what the refresh token opens that was issued for it, until it is known whether its owner comes back.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<String>,
}

/// Letters of a name that are shown.
const SHOWN: usize = 64;

impl Errand {
    const fn is_session(&self) -> bool {
        matches!(self, Self::Session)
    }
}

impl Proof {
    pub(super) fn of(identity: &Identity, began: UnixTime) -> Self {
        Self {
            provider: identity.provider.as_str().to_owned(),
            issuer: identity.key.issuer.as_str().to_owned(),
            subject: identity.key.subject.as_str().to_owned(),
            name: name_of(identity).map(|name| name.chars().take(SHOWN).collect()),
            began: began.as_millis(),
            kept: None,
        }
    }

    /// Whose account it is.
    pub(super) fn provider(&self) -> ProviderId {
        ProviderId::new(&self.provider)
    }

    pub(super) const fn began(&self) -> UnixTime {
        UnixTime::from_millis(self.began)
    }

    /// What a page calls the account: nothing that could turn the words around it.
    pub(super) fn shown(&self) -> String {
        let name = self.name.as_deref().unwrap_or(&self.subject);
        let steers = |c: &char| {
            c.is_control()
                || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        };
        name.chars().filter(|c| !steers(c)).take(SHOWN).collect()
    }

    /// Who it is, without what else is known of them; `None`: what was sealed is no account any more.
    pub(super) fn identity(&self) -> Option<Identity> {
        let (provider, key) = self.account()?;
        Some(Identity {
            provider,
            key,
            attributes: Arc::default(),
            client_id: None,
            acr: None,
            scopes: Box::default(),
            delegation: Delegation::default(),
        })
    }

    /// The account; `None`: what was sealed is no account any more.
    pub(super) fn account(&self) -> Option<(ProviderId, SubjectKey)> {
        let key = SubjectKey {
            issuer: Issuer::new(&self.issuer),
            subject: Subject::try_from(self.subject.as_str()).ok()?,
        };
        Some((ProviderId::new(&self.provider), key))
    }
}

/// A flow to be made.
pub(super) struct NewFlow<'a> {
    pub(super) provider: &'a dyn Provider,
    pub(super) login: &'a dyn Login,
    pub(super) redirect_uri: &'a str,
    pub(super) rollout: Option<(String, u64)>,
    pub(super) stage: usize,
    pub(super) revision: &'a str,
    pub(super) rule: &'a str,
    pub(super) target: &'a ReturnPath,
    pub(super) restarts: u8,
    pub(super) fallback: Option<Duration>,
    pub(super) errand: Option<&'a Errand>,
    pub(super) hint: Option<&'a Hint>,
}

/// What travels: derived from the seed, so that the cookie stays small.
#[derive(Debug)]
pub(super) struct Artefacts {
    /// Binds the answer to the browser; begins with the slot of its cookie.
    pub(super) state: String,
    /// Binds the ID token.
    pub(super) nonce: String,
    /// The PKCE verifier.
    pub(super) verifier: Secret<String>,
}

impl Flow {
    pub(super) fn new(new: &NewFlow<'_>, entropy: &dyn Entropy, now: UnixTime) -> Self {
        Self {
            provider: new.provider.id().as_str().to_owned(),
            binding: binding(new.provider, new.login, new.redirect_uri),
            rollout: new.rollout.clone(),
            stage: new.stage,
            revision: new.revision.to_owned(),
            rule: new.rule.to_owned(),
            seed: entropy.token(),
            target: new.target.as_str().to_owned(),
            began: now.as_millis(),
            restarts: new.restarts,
            fallback: new
                .fallback
                .map(|life| u64::try_from(life.as_millis()).unwrap_or(u64::MAX)),
            errand: new.errand.cloned().unwrap_or_default(),
            // Where both do not fit a cookie, somebody is asked once more.
            hint: new
                .hint
                .map(|hint| hint.typed().to_owned())
                .filter(|hint| hint.len() + new.target.as_str().len() <= return_to::MAX_BYTES),
        }
    }

    /// Seals it for one host and one slot.
    pub(super) fn seal(
        &self,
        ring: &KeyRing,
        host: &str,
        slot: u8,
        entropy: &dyn Entropy,
    ) -> Option<String> {
        let plain = Secret::new(serde_json::to_vec(self).ok()?);
        let context: [&[u8]; 2] = [host.as_bytes(), &[slot]];
        let sealed = ring.seal(Purpose::Flow, b"", &context, plain.expose(), entropy);
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens what [`Self::seal`] made for the same host and slot.
    pub(super) fn open(ring: &KeyRing, host: &str, slot: u8, cookie: &str) -> Option<Self> {
        let sealed = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let context: [&[u8]; 2] = [host.as_bytes(), &[slot]];
        let opened = ring.open(Purpose::Flow, b"", &context, &sealed)?;
        serde_json::from_slice(&opened.plain).ok()
    }

    pub(super) fn artefacts(&self, slot: u8) -> Artefacts {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.seed.as_bytes());
        let derive = |label: &str| {
            let tag = hmac::sign(&key, label.as_bytes());
            URL_SAFE_NO_PAD.encode(tag.as_ref())
        };
        Artefacts {
            state: format!("{slot}{}", derive("state")),
            nonce: derive("nonce"),
            verifier: Secret::new(derive("verifier")),
        }
    }

    /// Whether `state` is that of this flow in this slot; in time that does not tell how much of it fits.
    pub(super) fn answers_to(&self, slot: u8, state: &str) -> bool {
        let ours = self.artefacts(slot).state;
        constant_time::verify_slices_are_equal(ours.as_bytes(), state.as_bytes()).is_ok()
    }

    /// Whether client, callback and issuers of the provider are still those it began with.
    pub(super) fn is_bound_to(
        &self,
        provider: &dyn Provider,
        login: &dyn Login,
        redirect_uri: &str,
    ) -> bool {
        self.binding == binding(provider, login, redirect_uri)
    }

    pub(super) fn provider(&self) -> ProviderId {
        ProviderId::new(&self.provider)
    }

    pub(super) const fn rollout(&self) -> Option<&(String, u64)> {
        self.rollout.as_ref()
    }

    pub(super) const fn began(&self) -> UnixTime {
        UnixTime::from_millis(self.began)
    }

    pub(super) fn is_over(&self, now: UnixTime) -> bool {
        self.began() + LIFE <= now
    }

    pub(super) fn fallback(&self) -> Option<Duration> {
        self.fallback.map(Duration::from_millis)
    }

    pub(super) fn hint(&self) -> Option<Hint> {
        Hint::parse(self.hint.as_deref()?)
    }

    /// The return path, checked again: the front page if it does not pass.
    pub(super) fn target(&self) -> ReturnPath {
        ReturnPath::parse(&self.target).unwrap_or_else(ReturnPath::root)
    }
}

/// The name by which people know an account, where its provider vouches for it.
fn name_of(identity: &Identity) -> Option<&str> {
    let attributes = &identity.attributes;
    let verified = || {
        attributes
            .member("email_verified")
            .and_then(serde_json::Value::as_bool)
    };
    let email = || {
        attributes
            .text("email")
            .filter(|_| verified() == Some(true))
    };
    attributes.text("preferred_username").or_else(email)
}

/// The slot that a state names.
pub(super) fn slot_of(state: &str) -> Option<u8> {
    let slot = state.bytes().next()?.checked_sub(b'0')?;
    (slot < SLOTS).then_some(slot)
}

fn binding(provider: &dyn Provider, login: &dyn Login, redirect_uri: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    let issuers = provider.owns().issuers.iter().map(|issuer| issuer.as_str());
    for part in [login.client_id(), redirect_uri].into_iter().chain(issuers) {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        context.update(&length.to_be_bytes());
        context.update(part.as_bytes());
    }
    let hash = context.finish();
    URL_SAFE_NO_PAD.encode(hash.as_ref().get(..16).unwrap_or_default())
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[login under way]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::FakeProvider;
    use crate::entropy::SystemEntropy;

    fn ring() -> KeyRing {
        KeyRing::new(&[Secret::new(vec![1; 32])]).unwrap()
    }

    fn flow(provider: &FakeProvider, target: &str) -> Flow {
        named(provider, target, 0)
    }

    /// Of somebody whose name has so many letters.
    fn named(provider: &FakeProvider, target: &str, hint: usize) -> Flow {
        let hint = Hint::parse(&"a".repeat(hint));
        let new = NewFlow {
            provider,
            login: provider.login().unwrap(),
            redirect_uri: "https://app.test/.authferry/cb/new",
            rollout: Some((String::from("crm-2026"), 3)),
            stage: 0,
            revision: "0123456789ab",
            rule: "percent",
            target: &ReturnPath::parse(target).unwrap(),
            restarts: 0,
            fallback: None,
            errand: None,
            hint: hint.as_ref(),
        };
        Flow::new(&new, &SystemEntropy, UnixTime::from_secs(100))
    }

    #[test]
    fn a_flow_is_opened_on_its_host_and_in_its_slot_only() {
        let flow = flow(&FakeProvider::new(), "/orders?x=1");
        let sealed = flow.seal(&ring(), "app.test", 2, &SystemEntropy).unwrap();
        let opened = Flow::open(&ring(), "app.test", 2, &sealed).unwrap();
        assert_eq!(opened.target().as_str(), "/orders?x=1");
        let state = flow.artefacts(2).state;
        assert!(opened.answers_to(2, &state));
        assert_eq!(slot_of(&state), Some(2));
        assert!(Flow::open(&ring(), "app2.test", 2, &sealed).is_none());
        assert!(Flow::open(&ring(), "app.test", 1, &sealed).is_none());
        assert!(!opened.answers_to(1, &state));
    }

    #[test]
    fn every_character_of_the_cookie_counts() {
        let sealed = flow(&FakeProvider::new(), "/")
            .seal(&ring(), "h", 0, &SystemEntropy)
            .unwrap();
        for place in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            for bit in 0..7 {
                changed[place] ^= 1 << bit;
                let text = String::from_utf8(changed.clone()).unwrap();
                assert!(
                    Flow::open(&ring(), "h", 0, &text).is_none(),
                    "{place}.{bit}"
                );
                changed[place] ^= 1 << bit;
            }
            assert!(Flow::open(&ring(), "h", 0, sealed.get(..place).unwrap()).is_none());
        }
    }

    #[test]
    fn state_nonce_and_verifier_are_fresh_and_tell_nothing_of_each_other() {
        let (a, b) = (
            flow(&FakeProvider::new(), "/"),
            flow(&FakeProvider::new(), "/"),
        );
        let (a, b) = (a.artefacts(0), b.artefacts(0));
        let all = [
            &a.state,
            &a.nonce,
            a.verifier.expose(),
            &b.state,
            &b.nonce,
            b.verifier.expose(),
        ];
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(a.verifier.expose().len(), 43);
    }

    #[test]
    fn another_client_address_or_issuer_is_another_login() {
        let provider = FakeProvider::new();
        let flow = flow(&provider, "/");
        let uri = "https://app.test/.authferry/cb/new";
        assert!(flow.is_bound_to(&provider, provider.login().unwrap(), uri));
        assert!(!flow.is_bound_to(&provider, provider.login().unwrap(), "https://app2.test/x"));
        let mut other = FakeProvider::new();
        other.login.as_mut().unwrap().client_id = String::from("another");
        assert!(!flow.is_bound_to(&other, other.login().unwrap(), uri));
        let mut other = FakeProvider::new();
        other.owns.issuers.clear();
        assert!(!flow.is_bound_to(&other, other.login().unwrap(), uri));
    }

    #[test]
    fn the_longest_flow_fits_a_cookie_and_five_usual_ones_fit_together() {
        let provider = FakeProvider::new();
        let size = |target: &str, hint| {
            named(&provider, target, hint)
                .seal(&ring(), "app.test", 0, &SystemEntropy)
                .unwrap()
                .len()
                + 30
        };
        let longest = format!("/{}", "a".repeat(return_to::MAX_BYTES - 1));
        for (target, hint) in [(longest.as_str(), 0), (&longest, 254)] {
            let size = size(target, hint);
            assert!(size <= MAX_COOKIE_BYTES, "{size}");
        }
        let both = format!("/{}", "a".repeat(return_to::MAX_BYTES - 255));
        assert!(size(&both, 254) <= MAX_COOKIE_BYTES);
        let usual = format!("/{}", "a".repeat(60));
        let usual = size(&usual, 0);
        assert!(5 * usual <= MAX_COOKIE_BYTES, "{usual}");
    }
}
