//! What our token endpoint handed out: to which client, and by what the token that it was made of can be revoked. What ends
//! that ends what was made of it. Each row opens with its token alone.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::identity::SubjectKey;
use crate::identity::TokenId;
use crate::revocation::list::Revocations;
use crate::revocation::mark::Mark;
use crate::revocation::standing::Standing;
use crate::session::Purpose;
use crate::store::Key;
use crate::store::StoreError;

const TABLE: &str = "handed_out";

/// A token that is to be handed out.
#[derive(Clone, Copy)]
pub(crate) struct HandOut<'a> {
    /// The token.
    pub(crate) token: &'a str,
    /// Who gets it.
    pub(crate) client: &'a SubjectKey,
    /// Whether we minted it.
    pub(crate) minted: bool,
    /// What the token that it was made of rests on.
    pub(crate) parent: &'a Standing,
    /// When nobody takes it any more.
    pub(crate) ends: UnixTime,
}

/// What is known of a token that was handed out.
#[derive(Clone, Debug)]
pub(crate) struct Handed {
    /// Who got it, by its name here.
    pub(crate) client: Box<str>,
    /// Whether we minted it.
    pub(crate) minted: bool,
    /// When nobody takes it any more.
    pub(crate) ends: UnixTime,
    /// SHA-256 of it.
    pub(crate) digest: [u8; 32],
    pub(super) marks: Vec<Mark>,
    pub(super) began: Option<UnixTime>,
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
    client: String,
    minted: bool,
    ends: u64,
    began: Option<u64>,
    marks: String,
}

impl Revocations {
    /// Notes a token before its client gets it.
    ///
    /// # Errors
    ///
    /// When the store did not take it: then nobody may get it.
    pub(crate) async fn hands_out(&self, token: HandOut<'_>) -> Result<(), StoreError> {
        let digest = digest_of(token.token);
        let parent = token.parent.marks();
        // Who was revoked by its name here has nothing any more.
        let own = Mark::account(token.client);
        let marks = parent.all().iter().chain([&own]);
        let marks: Vec<u8> = marks.flat_map(|mark| mark.as_bytes()).copied().collect();
        let row = Row {
            client: token.client.subject.as_str().to_owned(),
            minted: token.minted,
            ends: token.ends.as_millis(),
            began: parent.began().map(UnixTime::as_millis),
            marks: URL_SAFE_NO_PAD.encode(marks),
        };
        let plain = serde_json::to_vec(&row).map_err(|e| StoreError::Damaged(e.to_string()))?;
        let sealed = self.sessions.ring().seal(
            Purpose::HandedOut,
            token.token.as_bytes(),
            &[&digest],
            &plain,
            &*self.entropy,
        );
        self.store.put(place(&digest), &sealed, token.ends).await
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
        let opened = self.sessions.ring().open(
            Purpose::HandedOut,
            token.as_bytes(),
            &[&digest],
            &found.value,
        );
        let handed = opened.and_then(|opened| read(&opened.plain, digest));
        Ok(handed.map_or(Found::Lost, Found::Handed))
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

fn read(plain: &[u8], digest: [u8; 32]) -> Option<Handed> {
    let row: Row = serde_json::from_slice(plain).ok()?;
    let marks = URL_SAFE_NO_PAD.decode(row.marks).ok()?;
    let (marks, left) = marks.as_chunks();
    let marks = marks.iter().map(|mark| Mark::from_bytes(*mark)).collect();
    left.is_empty().then_some(Handed {
        client: row.client.into(),
        minted: row.minted,
        ends: UnixTime::from_millis(row.ends),
        digest,
        marks,
        began: row.began.map(UnixTime::from_millis),
    })
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
