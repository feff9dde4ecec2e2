//! What a browser remembers of itself: a random number that steers its logins, the rollouts it has moved in, and how often it
//! was sent round. It steers; it is no identity, and it widens nothing.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;

use crate::auth::login::chooser::Hint;
use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::rollout::Arm;
use crate::rollout::Pin;
use crate::rollout::Plan;
use crate::session::KeyRing;
use crate::session::Purpose;

/// Rollouts remembered: 8; the oldest goes first.
const MAX_PINS: usize = 8;
/// A browser that is sent back more than 3 times within 60 s goes round in circles.
const MAX_BOUNCES: u8 = 3;
const BOUNCE_WINDOW: Duration = Duration::from_secs(60);

/// One browser, on one host.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Device {
    /// 128 random bits.
    id: String,
    /// Rollouts in which this browser signed in at the new side, and their epochs.
    moved: Vec<(String, u64)>,
    /// When it was first sent back within the window, in milliseconds, and how often since.
    bounces: (u64, u8),
    /// When a provider was last asked about it without a page, in milliseconds.
    #[serde(default)]
    asked: u64,
    /// Its person was told that the sign-in page has changed.
    #[serde(default)]
    told: bool,
    /// Of these rollouts, those whose old side does not know its person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    only_there: Vec<String>,
    /// In which epochs its person was told that the page from before is back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told_back: Vec<(String, u64)>,
    /// Of these rollouts, those in which its person has another password at the new side since they moved, and since when, in
    /// seconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    new_password: Vec<(String, u64)>,
    /// What its person was called who moved last, as [`Hint::tag`] writes it: whoever is called otherwise has not moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moved_as: Option<String>,
    /// The last login of this browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<LastLogin>,
}

/// Who signed in last in a browser, and where.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct LastLogin {
    /// A digest of the person: see [`tag`].
    person: String,
    /// A digest of the session that it made: see [`session_tag`].
    session: String,
    provider: String,
    /// When what it rests on was begun, in milliseconds.
    began: u64,
}

/// Whether a browser may be sent on once more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Bounce {
    /// It may.
    Fine,
    /// It goes round in circles.
    Circles,
}

impl Device {
    /// A browser seen for the first time.
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self {
            id: URL_SAFE_NO_PAD.encode(bytes),
            moved: Vec::new(),
            bounces: (0, 0),
            asked: 0,
            told: false,
            only_there: Vec::new(),
            told_back: Vec::new(),
            new_password: Vec::new(),
            moved_as: None,
            last: None,
        }
    }

    pub(super) fn open(ring: &KeyRing, host: &str, cookie: &str) -> Option<Self> {
        let sealed = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let opened = ring.open(Purpose::Device, b"", &[host.as_bytes()], &sealed)?;
        serde_json::from_slice(&opened.plain).ok()
    }

    pub(super) fn seal(&self, ring: &KeyRing, host: &str, entropy: &dyn Entropy) -> Option<String> {
        let plain = serde_json::to_vec(self).ok()?;
        let sealed = ring.seal(Purpose::Device, b"", &[host.as_bytes()], &plain, entropy);
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Remembers who has just signed in, at which provider, and the row of the session that it made.
    pub(super) fn is_used_by(
        &mut self,
        person: &CanonicalSubject,
        row: &[u8],
        (provider, began): (&ProviderId, UnixTime),
    ) {
        self.last = Some(LastLogin {
            person: tag(person),
            session: session_tag(row),
            provider: provider.as_str().to_owned(),
            began: began.as_millis(),
        });
    }

    /// Whose session this is, as [`tag`] writes it; `None`: it is not the one of the last login. Sessions come by other ways
    /// too, and those may be anybody's.
    pub(super) fn person_of(&self, row: &[u8]) -> Option<&str> {
        let last = self.last.as_ref()?;
        (last.session == session_tag(row)).then_some(&*last.person)
    }

    /// When the login of this session was begun; `None`: it is not the one of the last login, or was at another provider.
    pub(super) fn signed_in_at(&self, provider: &ProviderId, row: &[u8]) -> Option<UnixTime> {
        let last = self.last.as_ref()?;
        let its = last.provider == provider.as_str() && last.session == session_tag(row);
        its.then(|| UnixTime::from_millis(last.began))
    }

    /// The unit of the bucket before the person is known.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether this browser has signed in at the new side; of somebody who has said who they are, whether it was they.
    pub(super) fn pin(&self, plan: &Plan, said: Option<&Hint>) -> Option<Pin> {
        let another = match (&self.moved_as, said) {
            (Some(whose), Some(said)) => *whose != said.tag(),
            (Some(_), None) | (None, _) => false,
        };
        if another {
            return None;
        }
        self.moved
            .iter()
            .find(|(rollout, _)| rollout == plan.id.as_str())
            .map(|(_, epoch)| Pin {
                arm: Arm::To,
                epoch: *epoch,
            })
    }

    /// Remembers that it has.
    pub(super) fn has_moved(&mut self, plan: &Plan) {
        self.moved
            .retain(|(rollout, _)| rollout != plan.id.as_str());
        self.moved.push((plan.id.as_str().to_owned(), plan.epoch));
        if MAX_PINS < self.moved.len() {
            self.moved.remove(0);
        }
        let moved = &self.moved;
        let is_kept = |id: &str| id != plan.id.as_str() && moved.iter().any(|(own, _)| own == id);
        self.only_there.retain(|id| is_kept(id));
        self.told_back.retain(|(id, _)| is_kept(id));
        self.new_password.retain(|(id, _)| is_kept(id));
    }

    /// Remembers, of a rollout in which it has just moved, since when its person has another password there.
    pub(super) fn has_new_password(&mut self, plan: &Plan, since: UnixTime) {
        let id = plan.id.as_str().to_owned();
        self.new_password.push((id, since.as_secs()));
    }

    /// Since when its person has another password at the new side than the one with which they moved; `None`: nobody has said so.
    pub(super) fn new_password(&self, plan: &Plan) -> Option<UnixTime> {
        let mut all = self.new_password.iter();
        let own = all.find(|(id, _)| id == plan.id.as_str());
        own.map(|(_, since)| UnixTime::from_secs(*since))
    }

    /// Remembers what its person is called who has just moved, if they have said so.
    pub(super) fn has_moved_as(&mut self, said: Option<&Hint>) {
        self.moved_as = said.map(Hint::tag);
    }

    /// Remembers, of a rollout in which it has just moved, that the old side does not know its person.
    pub(super) fn has_moved_only_there(&mut self, plan: &Plan) {
        self.only_there.push(plan.id.as_str().to_owned());
    }

    /// Whether the old side does not know its person, as far as this browser remembers.
    pub(super) fn is_only_there(&self, plan: &Plan) -> bool {
        self.only_there.iter().any(|id| id == plan.id.as_str())
    }

    /// Whether its person has moved, and is to be told now that the page from before is back: once in each epoch.
    pub(super) fn is_to_be_told_back(&mut self, plan: &Plan) -> bool {
        let now = (plan.id.as_str().to_owned(), plan.epoch);
        if self.pin(plan, None).is_none() || self.told_back.contains(&now) {
            return false;
        }
        self.told_back.retain(|(id, _)| *id != now.0);
        self.told_back.push(now);
        true
    }

    /// Whether its person is to be told now that the sign-in page has changed: once.
    pub(super) const fn is_to_be_told(&mut self) -> bool {
        let first = !self.told;
        self.told = true;
        first
    }

    /// Whether a provider was asked about it without a page, less than `within` ago.
    pub(super) fn was_asked(&self, within: Duration, now: UnixTime) -> bool {
        let asked = UnixTime::from_millis(self.asked);
        asked <= now && now.since(asked) < within
    }

    /// Remembers that one is asked now.
    pub(super) const fn is_asked(&mut self, now: UnixTime) {
        self.asked = now.as_millis();
    }

    /// Counts that it was sent back from where it should have been let in.
    pub(super) fn bounce(&mut self, now: UnixTime) -> Bounce {
        let (since, count) = self.bounces;
        let since = UnixTime::from_millis(since);
        self.bounces = if now.since(since) < BOUNCE_WINDOW && since <= now {
            (since.as_millis(), count.saturating_add(1))
        } else {
            (now.as_millis(), 1)
        };
        if MAX_BOUNCES < self.bounces.1 {
            Bounce::Circles
        } else {
            Bounce::Fine
        }
    }
}

/// Tells one person from another, and nothing of who they are.
pub(super) fn tag(person: &CanonicalSubject) -> String {
    let text = ["authferry/device/person", person.as_str()].concat();
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let short = hash.as_ref().get(..16).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(short)
}

/// Tells one session from another; the row itself stays in the store.
fn session_tag(row: &[u8]) -> String {
    let hash = digest::digest(
        &digest::SHA256,
        &[b"authferry/device/session", row].concat(),
    );
    URL_SAFE_NO_PAD.encode(hash.as_ref().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::plan;
    use crate::entropy::SystemEntropy;
    use crate::rollout::Mode;
    use crate::rollout::RolloutId;
    use crate::secret::Secret;

    #[test]
    fn a_device_is_opened_on_its_host_only() {
        let ring = KeyRing::new(&[Secret::new(vec![1; 32])]).unwrap();
        let device = Device::new(&SystemEntropy);
        let sealed = device.seal(&ring, "app.test", &SystemEntropy).unwrap();
        assert_eq!(
            Device::open(&ring, "app.test", &sealed).unwrap().id(),
            device.id()
        );
        assert!(Device::open(&ring, "app2.test", &sealed).is_none());
        assert!(Device::open(&ring, "app.test", "AAAA").is_none());
    }

    #[test]
    fn it_remembers_a_few_rollouts_and_their_epochs() {
        let mut device = Device::new(&SystemEntropy);
        let mut staged = plan(Mode::Canary, Vec::new());
        assert_eq!(device.pin(&staged, None), None);
        for n in 0..20 {
            staged.id = RolloutId::new(&format!("r{n}"));
            device.has_moved(&staged);
        }
        assert_eq!(device.pin(&staged, None).unwrap().epoch, 3);
        staged.epoch = 4;
        device.has_moved(&staged);
        assert_eq!(device.pin(&staged, None).unwrap().epoch, 4);
        assert_eq!(device.moved.len(), MAX_PINS);
    }

    #[test]
    fn who_shares_a_browser_with_somebody_who_has_moved_has_not() {
        let mut device = Device::new(&SystemEntropy);
        let staged = plan(Mode::Canary, Vec::new());
        let hint = |text| Hint::parse(text).unwrap();
        let (alice, bob) = (hint("Alice@corp.example"), hint("bob"));
        device.has_moved(&staged);
        // Nobody knows who it was: it may be anybody.
        assert!(device.pin(&staged, Some(&bob)).is_some());
        device.has_moved_as(Some(&alice));
        assert!(
            device
                .pin(&staged, Some(&hint("alice@CORP.example ")))
                .is_some()
        );
        assert!(device.pin(&staged, Some(&bob)).is_none());
        assert!(device.pin(&staged, None).is_some());
    }

    #[test]
    fn it_knows_the_person_and_the_time_of_its_last_session_and_of_no_other() {
        let ring = KeyRing::new(&[Secret::new(vec![1; 32])]).unwrap();
        let mut device = Device::new(&SystemEntropy);
        let alice = CanonicalSubject::named("hr:1").unwrap();
        let new = ProviderId::new("new");
        assert_eq!(device.person_of(&[1; 32]), None);
        device.is_used_by(&alice, &[1; 32], (&new, UnixTime::from_secs(7)));
        let sealed = device.seal(&ring, "app.test", &SystemEntropy).unwrap();
        let device = Device::open(&ring, "app.test", &sealed).unwrap();
        assert_eq!(device.person_of(&[1; 32]), Some(&*tag(&alice)));
        assert_eq!(device.person_of(&[2; 32]), None);
        let at = |name, row| device.signed_in_at(&ProviderId::new(name), &[row; 32]);
        assert_eq!(at("new", 1), Some(UnixTime::from_secs(7)));
        assert_eq!((at("old", 1), at("new", 2)), (None, None));
    }

    #[test]
    fn four_times_in_a_minute_is_a_circle() {
        let mut device = Device::new(&SystemEntropy);
        let at = |seconds: u64| UnixTime::from_secs(1_000 + seconds);
        for second in [0, 1, 2] {
            assert_eq!(device.bounce(at(second)), Bounce::Fine);
        }
        assert_eq!(device.bounce(at(59)), Bounce::Circles);
        assert_eq!(device.bounce(at(60)), Bounce::Fine);
    }
}
