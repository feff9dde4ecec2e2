//! What our token endpoint handed out: to which client, and by what the token that it was made of can be revoked. What ends
//! that ends what was made of it. Each row opens with its token alone.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Mark;
use crate::identity::ProviderId;
use crate::identity::SubjectKey;
use crate::identity::TokenId;
use crate::revocation::list::Revocations;
use crate::revocation::origin::Origin;
use crate::revocation::origin::Written;
use crate::revocation::respelled::respelled;
use crate::revocation::signer;
use crate::revocation::signer::Signer;
use crate::revocation::standing::Standing;
use crate::session::Purpose;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

const TABLE: &str = "handed_out";

/// The issuer by whose name a token that was handed out is given back, whoever it says that it is of.
pub(crate) const HANDED_OUT: &str = "authferry:handed_out";

/// For so long after its end somebody whose clock is late may take a token.
pub(crate) const CLOCKS: Duration = Duration::from_secs(600);

/// How often a row is tried that others are faster with.
const TRIES: usize = 8;

/// A token that is to be handed out.
#[derive(Clone, Copy)]
pub(crate) struct HandOut<'a> {
    /// The token.
    pub(crate) token: &'a str,
    /// Who gets it; nobody: an upstream, from a route.
    pub(crate) client: Option<&'a SubjectKey>,
    /// Whether we minted it,
    pub(crate) minted: bool,
    /// and with which key.
    pub(crate) key: Option<&'a str>,
    /// What the token that it was made of rests on,
    pub(crate) parent: &'a Standing,
    /// and who vouched for that.
    pub(crate) owner: &'a ProviderId,
    /// Of whom, where it may be presented to us as a credential.
    pub(crate) origin: Option<&'a Origin>,
    /// When it ends.
    pub(crate) ends: UnixTime,
}

/// What is known of a token that was handed out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Handed {
    /// Who got it, by their names here: a provider may give the same to several, and a text that we sign may be the same.
    pub(crate) clients: Vec<String>,
    /// Whether we minted it.
    pub(crate) minted: bool,
    /// When it ends.
    pub(crate) ends: UnixTime,
    /// SHA-256 of it.
    pub(crate) digest: [u8; 32],
    /// Who vouched for what it was made of; nobody: it was noted by an earlier version.
    pub(crate) owners: Vec<ProviderId>,
    /// Of whom it was made; nobody: it is no credential here.
    pub(crate) origin: Option<Box<Origin>>,
    /// Which keys have signed what it was made of.
    pub(crate) signers: Vec<Signer>,
    pub(super) marks: Vec<Mark>,
    pub(super) began: Option<UnixTime>,
    /// Whether it was given back.
    over: bool,
}

/// What is behind a token.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Nothing: it was not handed out here.
    Nothing,
    /// A row that was sealed under a key that is gone: by what it can be revoked, nobody knows.
    Lost,
    /// This.
    Handed(Handed),
}

#[derive(Deserialize, Serialize)]
struct Row {
    clients: Vec<String>,
    minted: bool,
    ends: u64,
    began: Option<u64>,
    marks: String,
    #[serde(default)]
    over: bool,
    #[serde(default)]
    owners: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Written>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signers: Vec<signer::Written>,
}

impl Revocations {
    /// Notes a token before its client gets it; `false`: it was given back, or is over otherwise, and nobody may get it again.
    ///
    /// # Errors
    ///
    /// When the store did not take it: then nobody may get it.
    pub(crate) async fn hands_out(
        &self,
        token: HandOut<'_>,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let digest = digest_of(token.token);
        for _ in 0..TRIES {
            let found = self.store.get(place(&digest), now).await?;
            let (expect, before) = match &found {
                Some(row) => {
                    let before = self.open_handed(token.token, &digest, &row.value);
                    (Expect::Version(row.version), before)
                }
                None => (Expect::Absent, None),
            };
            let handed = token.handed(digest, before.clone());
            if handed.over || !self.still_counts(&handed, &[], now)? {
                return Ok(false);
            }
            // Many requests of one client at once get the same.
            if before.as_ref() == Some(&handed) {
                return Ok(true);
            }
            if self.note(token.token, &handed, expect, now).await? {
                if !handed.is_of_nobody() {
                    self.access_is_out(&handed).await;
                }
                return Ok(true);
            }
        }
        Err(busy())
    }

    /// Notes that a token was given back, where it was handed out here: nobody gets it again.
    ///
    /// # Errors
    ///
    /// When the store did not take it.
    pub(crate) async fn takes_back(&self, token: &str, now: UnixTime) -> Result<(), StoreError> {
        let digest = digest_of(token);
        for _ in 0..TRIES {
            let Some(row) = self.store.get(place(&digest), now).await? else {
                return Ok(());
            };
            let Some(mut handed) = self.open_handed(token, &digest, &row.value) else {
                return Ok(());
            };
            if std::mem::replace(&mut handed.over, true) {
                return Ok(());
            }
            let expect = Expect::Version(row.version);
            if self.note(token, &handed, expect, now).await? {
                self.access_is_back(&digest).await;
                return Ok(());
            }
        }
        Err(busy())
    }

    async fn note(
        &self,
        token: &str,
        handed: &Handed,
        expect: Expect,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let digest = &handed.digest;
        let sealed = self.sessions.ring().seal(
            Purpose::HandedOut,
            token.as_bytes(),
            &[digest],
            &handed.written()?,
            &*self.entropy,
        );
        let until = handed.ends + CLOCKS;
        self.store
            .compare_and_swap(place(digest), expect, &sealed, until, now)
            .await
    }

    fn open_handed(&self, token: &str, digest: &[u8; 32], sealed: &[u8]) -> Option<Handed> {
        let ring = self.sessions.ring();
        let opened = ring.open(Purpose::HandedOut, token.as_bytes(), &[digest], sealed)?;
        read(&opened.plain, *digest)
    }

    /// What is known of a token.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn handed_out(&self, token: &str, now: UnixTime) -> Result<Found, StoreError> {
        let digest = digest_of(token);
        let Some(found) = self.store.get(place(&digest), now).await? else {
            return Ok(Found::Nothing);
        };
        let handed = self.open_handed(token, &digest, &found.value);
        Ok(handed.map_or(Found::Lost, Found::Handed))
    }

    /// As [`Self::handed_out`], of a token whose signature is good: it is the same one with another that is good too.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn handed_out_as(
        &self,
        token: &str,
        now: UnixTime,
    ) -> Result<Found, StoreError> {
        match (self.handed_out(token, now).await?, respelled(token)) {
            (Found::Nothing, Some(other)) => self.handed_out(&other, now).await,
            (found, _) => Ok(found),
        }
    }

    /// Whether neither a token that we minted, by any of its `names` at an issuer, nor what it was made of is revoked.
    ///
    /// # Errors
    ///
    /// When nothing is known yet.
    pub(crate) fn still_counts(
        &self,
        handed: &Handed,
        names: &[(&str, TokenId)],
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        if !self.index.is_ready() {
            let unknown = String::from("revocations are not known yet");
            return Err(StoreError::Unavailable(unknown));
        }
        let own = names.iter().map(|(issuer, id)| Mark::token(issuer, id));
        let all: Vec<Mark> = handed.marks.iter().copied().chain(own).collect();
        Ok(!self.index.denies(&all, handed.began, now))
    }
}

impl HandOut<'_> {
    /// Until when it is noted.
    pub(super) fn until(&self) -> UnixTime {
        self.ends + CLOCKS
    }

    /// What is noted of it, with what was noted before: whatever ends one that it was made of ends it.
    fn handed(&self, digest: [u8; 32], before: Option<Handed>) -> Handed {
        let parent = self.parent.marks();
        // Who was revoked by its name here has nothing any more.
        let client = self.client.map(Mark::account);
        let own = Mark::token(HANDED_OUT, &TokenId::Digest(digest));
        let mut handed = before.unwrap_or_else(|| Handed {
            clients: Vec::new(),
            minted: self.minted,
            ends: self.ends,
            digest,
            owners: Vec::new(),
            origin: self.origin.cloned().map(Box::new),
            signers: Vec::new(),
            marks: Vec::new(),
            began: parent.began(),
            over: false,
        });
        // A key that is withdrawn takes along what it signed.
        let key = self.key.map(Mark::own_key);
        for mark in parent.all().iter().chain(&client).chain([&own]).chain(&key) {
            if !handed.marks.contains(mark) {
                handed.marks.push(*mark);
            }
        }
        for signer in parent.signers() {
            if !handed.signers.contains(&signer) {
                handed.signers.push(signer);
            }
        }
        let name = self.client.map(|client| client.subject.as_str());
        if let Some(name) = name.filter(|name| !handed.is_of(name)) {
            handed.clients.push(name.to_owned());
        }
        // Two people never have one token: nobody gets it then.
        let own = handed.origin.as_deref();
        handed.over |= self.origin.is_some() && own != self.origin;
        if !handed.owners.contains(self.owner) {
            handed.owners.push(self.owner.clone());
        }
        handed.minted |= self.minted;
        handed.ends = handed.ends.max(self.ends);
        // As old as the older one; nobody knows when: as old as anything.
        handed.began = handed.began.zip(parent.began()).map(|(a, b)| a.min(b));
        handed
    }
}

impl Handed {
    /// Whether a client got it.
    pub(crate) fn is_of(&self, client: &str) -> bool {
        self.clients.iter().any(|known| known == client)
    }

    /// Whether only upstreams got it.
    pub(crate) const fn is_of_nobody(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether it was made of somebody's credential who was this person.
    pub(crate) fn is_about(&self, person: &CanonicalSubject) -> bool {
        self.marks.contains(&Mark::person(person))
    }

    /// Whether it was given back.
    pub(crate) const fn is_over(&self) -> bool {
        self.over
    }

    fn written(&self) -> Result<Vec<u8>, StoreError> {
        let marks = self.marks.iter().flat_map(Mark::as_bytes);
        let marks: Vec<u8> = marks.copied().collect();
        let owners = self.owners.iter().map(ProviderId::as_str);
        let row = Row {
            clients: self.clients.clone(),
            minted: self.minted,
            ends: self.ends.as_millis(),
            began: self.began.map(UnixTime::as_millis),
            marks: URL_SAFE_NO_PAD.encode(marks),
            over: self.over,
            owners: owners.map(str::to_owned).collect(),
            origin: self.origin.as_ref().map(|origin| origin.written()),
            signers: self.signers.iter().map(Signer::written).collect(),
        };
        serde_json::to_vec(&row).map_err(|error| StoreError::Damaged(error.to_string()))
    }
}

fn read(plain: &[u8], digest: [u8; 32]) -> Option<Handed> {
    let row: Row = serde_json::from_slice(plain).ok()?;
    let marks = URL_SAFE_NO_PAD.decode(row.marks).ok()?;
    let (marks, left) = marks.as_chunks();
    let marks = marks.iter().map(|mark| Mark::from_bytes(*mark)).collect();
    let origin = match row.origin {
        Some(written) => Some(Box::new(written.read()?)),
        None => None,
    };
    let signers: Option<Vec<_>> = row.signers.iter().map(signer::Written::read).collect();
    let signers = signers?;
    left.is_empty().then_some(Handed {
        signers,
        origin,
        clients: row.clients,
        minted: row.minted,
        ends: UnixTime::from_millis(row.ends),
        digest,
        owners: row
            .owners
            .iter()
            .map(|owner| ProviderId::new(owner))
            .collect(),
        marks,
        began: row.began.map(UnixTime::from_millis),
        over: row.over,
    })
}

fn busy() -> StoreError {
    let busy = String::from("others note the same token again and again");
    StoreError::Unavailable(busy)
}

fn digest_of(token: &str) -> [u8; 32] {
    let mut own = [0; 32];
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    own.copy_from_slice(digest.as_ref());
    own
}

const fn place(digest: &[u8; 32]) -> Key<'_> {
    Key {
        table: TABLE,
        key: digest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::KeyPrint;

    const DIGEST: [u8; 32] = [7; 32];

    fn row(more: &str) -> Option<Handed> {
        let text =
            format!(r#"{{"clients":["shop"],"minted":true,"ends":5000,"began":1000{more}}}"#);
        read(text.as_bytes(), DIGEST)
    }

    /// As it was written before anybody noted who has signed, and for whom.
    #[test]
    fn a_row_of_an_earlier_program_counts_as_it_did() {
        let old = row(r#","marks":"""#).unwrap();
        assert!(old.is_of("shop") && !old.is_over() && old.minted);
        assert_eq!(old.ends, UnixTime::from_millis(5_000));
        assert!(old.signers.is_empty() && old.owners.is_empty() && old.origin.is_none());
        // And nothing is made of one that nobody can have written.
        assert!(row("").is_none());
        assert!(row(r#","marks":"AA""#).is_none(), "half a mark");
        let short = r#","marks":"","signers":[{"provider":"new","key":"AAAA"}]"#;
        assert!(row(short).is_none(), "no key is so short");
    }

    /// What is lost of them ends nothing when its key goes.
    #[test]
    fn who_has_signed_is_noted_and_read_again() {
        let mut handed = row(r#","marks":"""#).unwrap();
        // Two providers may publish the same key: each is one of its own.
        handed.signers = ["old", "new"]
            .map(|provider| Signer {
                provider: ProviderId::new(provider),
                key: KeyPrint::from_bytes([3; 16]),
            })
            .into();
        let again = read(&handed.written().unwrap(), DIGEST).unwrap();
        assert_eq!(again.signers, handed.signers);
    }
}
