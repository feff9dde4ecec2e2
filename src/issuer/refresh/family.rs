//! A refresh token and what stands behind it: one family from the first token to the last, of which one is good at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity;
use crate::identity::CanonicalSubject;
use crate::identity::Delegation;
use crate::identity::Grounds;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::issuer::refresh::earlier::Earlier;
use crate::providers::Issued;
use crate::revocation::Marks;
use crate::secret::Secret;

/// What our refresh tokens begin with, so that no other token is taken for one.
const PREFIX: &str = "afr1_";

/// The turn of a token that is not ours: the first of its family.
const FIRST: [u8; TURN] = [0; TURN];

/// Until when an access token counts if nobody says when it ends.
const UNSAID: Duration = Duration::from_secs(60);

const SECRET: usize = 32;
const TURN: usize = 16;

/// What a refresh token holds: the secret of its family, and which of its tokens it is.
#[derive(Clone)]
pub(in crate::issuer) struct Ticket {
    pub(super) secret: Secret<[u8; SECRET]>,
    turn: [u8; TURN],
}

impl Ticket {
    /// What comes before the first token of a new family.
    pub(in crate::issuer) fn first(entropy: &dyn Entropy) -> Self {
        let mut secret = [0; SECRET];
        entropy.fill(&mut secret);
        Self {
            secret: Secret::new(secret),
            turn: FIRST,
        }
    }

    /// The secret of the family.
    pub(in crate::issuer) fn secret(&self) -> &[u8] {
        self.secret.expose()
    }

    /// The next token of the family.
    pub(super) fn next(&self, entropy: &dyn Entropy) -> Self {
        let mut turn = FIRST;
        entropy.fill(&mut turn);
        self.with(turn)
    }

    fn with(&self, turn: [u8; TURN]) -> Self {
        Self {
            secret: self.secret.clone(),
            turn,
        }
    }

    /// Whether a text looks like one of ours.
    pub(in crate::issuer) fn is_ours(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Reads one of ours; another spelling of one is none.
    pub(in crate::issuer) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; SECRET + TURN];
        let text = text.strip_prefix(PREFIX).filter(|text| text.len() == 64)?;
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (secret, turn) = bytes.split_first_chunk()?;
        (length == bytes.len()).then_some(Self {
            secret: Secret::new(*secret),
            turn: *turn.first_chunk()?,
        })
    }

    /// The ticket that a provider's own refresh token stands for, with the client that it was given to: the first of its
    /// family, so that it is taken once.
    pub(in crate::issuer) fn of_provider(provider: &ProviderId, client: &str, token: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"authferry/adopted-refresh-token/v1");
        for part in [provider.as_str(), client, token] {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            context.update(&length.to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut secret = [0; SECRET];
        secret.copy_from_slice(context.finish().as_ref());
        Self {
            secret: Secret::new(secret),
            turn: FIRST,
        }
    }

    /// What the client gets.
    pub(in crate::issuer) fn text(&self) -> Secret<String> {
        let bytes = Secret::new([self.secret.expose().as_slice(), &self.turn].concat());
        Secret::new(format!(
            "{PREFIX}{}",
            URL_SAFE_NO_PAD.encode(bytes.expose())
        ))
    }

    /// The key of the family's row: who reads the store cannot make a token from it.
    pub(in crate::issuer) fn row(&self) -> [u8; 32] {
        let mut row = [0; 32];
        let hash = digest::digest(&digest::SHA256, self.secret.expose());
        row.copy_from_slice(hash.as_ref());
        row
    }

    fn turn(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.turn)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[refresh token]")
    }
}

/// What stands behind the tokens of one family. Times are in milliseconds since 1970.
#[derive(Clone, Deserialize, Serialize)]
pub(in crate::issuer) struct Family {
    /// `client_id`.
    pub(in crate::issuer) client: String,
    /// Who issued what stands behind it.
    pub(in crate::issuer) provider: String,
    /// Whether it is over; it is remembered so that it stays so.
    over: bool,
    /// The provider's own refresh token, if it gave one.
    pub(in crate::issuer) upstream: Option<String>,
    /// Whom its tokens are for.
    pub(in crate::issuer) audience: String,
    /// Whose it is, once that is known.
    pub(in crate::issuer) account: Option<Account>,
    /// Who that is across providers.
    #[serde(default)]
    person: Option<String>,
    /// When it began; `None`: that was elsewhere, and no token of it has been given out yet.
    pub(in crate::issuer) began: Option<u64>,
    /// It ends at the latest then.
    pub(in crate::issuer) ends: u64,
    /// The key that its client proves to hold with every use, where that proves nothing else (RFC 9449 §5).
    #[serde(default)]
    pub(in crate::issuer) bound: Option<String>,
    turn: String,
    before: Option<Before>,
    /// The provider's access token of the last renewal.
    pub(in crate::issuer) access: Option<Access>,
    /// Those of the renewals before.
    #[serde(default)]
    earlier: Earlier,
}

/// The token before the one that is good now.
#[derive(Clone, Deserialize, Serialize)]
struct Before {
    turn: String,
    until: u64,
}

/// Whose a family is: as the provider names the account.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::issuer) struct Account {
    issuer: String,
    subject: String,
}

impl Account {
    pub(in crate::issuer) fn of(key: &SubjectKey) -> Self {
        Self {
            issuer: key.issuer.as_str().to_owned(),
            subject: key.subject.as_str().to_owned(),
        }
    }

    /// `None`: it cannot be one.
    pub(in crate::issuer) fn key(&self) -> Option<SubjectKey> {
        Some(SubjectKey {
            issuer: identity::Issuer::new(&self.issuer),
            subject: Subject::try_from(self.subject.as_str()).ok()?,
        })
    }
}

/// An access token of the provider, as long as it is good.
#[derive(Clone, Deserialize, Serialize)]
pub(in crate::issuer) struct Access {
    pub(in crate::issuer) token: String,
    pub(in crate::issuer) ends: u64,
    /// What it was asked for with.
    pub(in crate::issuer) scopes: Vec<String>,
    /// Whether no answer has carried what was made of it: it serves the next one.
    pub(in crate::issuer) fresh: bool,
}

/// Which token of its family a presented one is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// The good one.
    Current,
    /// The one before it, a moment ago: its answer may not have arrived.
    Before,
    /// Used already: somebody else has it too.
    Spent,
    /// The family is over.
    Over,
}

impl Family {
    /// A family whose good token is `ticket`.
    pub(super) fn new(ticket: &Ticket, terms: Terms<'_>, began: Option<UnixTime>) -> Self {
        Self {
            client: terms.client.to_owned(),
            provider: terms.provider.as_str().to_owned(),
            over: false,
            upstream: None,
            audience: terms.audience.to_owned(),
            account: None,
            person: None,
            began: began.map(UnixTime::as_millis),
            ends: terms.ends.as_millis(),
            bound: None,
            turn: ticket.turn(),
            before: None,
            access: None,
            earlier: Earlier::default(),
        }
    }

    /// Whose it is from now on.
    pub(super) fn belongs_to(&mut self, account: &Account, person: &CanonicalSubject) {
        self.account = Some(account.clone());
        self.person = Some(person.as_str().to_owned());
    }

    /// Whether it was never said whose it is.
    pub(super) const fn is_nobodys(&self) -> bool {
        self.person.is_none()
    }

    /// Who it is across providers, as its holder was known last.
    pub(in crate::issuer) fn person(&self) -> Option<CanonicalSubject> {
        let unjoined = CanonicalSubject::unjoined(&self.account.as_ref()?.key()?);
        let Some(person) = &self.person else {
            return Some(unjoined);
        };
        if *person == *unjoined.as_str() {
            return Some(unjoined);
        }
        CanonicalSubject::named(person).ok()
    }

    /// By what it can be revoked. `there`: what the client is called at the provider; `here`: and at us.
    pub(in crate::issuer) fn marks(&self, there: Option<&str>, here: &SubjectKey) -> Marks {
        let account = self.account.as_ref().and_then(Account::key);
        let person = self.person();
        // Whose it is, its first use says; until then it is its client's.
        let key = account.unwrap_or_else(|| here.clone());
        let identity = Arc::new(Identity {
            provider: ProviderId::new(&self.provider),
            attributes: Arc::default(),
            client_id: there.map(Box::from),
            acr: None,
            scopes: Box::default(),
            delegation: Delegation::default(),
            key,
        });
        let person = person.unwrap_or_else(|| CanonicalSubject::unjoined(&identity.key));
        Marks::of(&identity, &person, &Grounds::default())
            .since(self.began.map(UnixTime::from_millis))
            .and_account(here)
    }

    /// Whether a token of it is the good one.
    pub(in crate::issuer) fn is_good(&self, ticket: &Ticket, now: UnixTime) -> bool {
        self.place(ticket, now) == Place::Current
    }

    pub(super) fn place(&self, ticket: &Ticket, now: UnixTime) -> Place {
        let same = |turn: &str| Secret::new(turn.to_owned()).matches(ticket.turn().as_bytes());
        if self.over || self.ends <= now.as_millis() {
            return Place::Over;
        }
        if same(&self.turn) {
            return Place::Current;
        }
        match &self.before {
            Some(before) if same(&before.turn) && now.as_millis() < before.until => Place::Before,
            Some(_) | None => Place::Spent,
        }
    }

    /// `next` is the good token from now on; the one before is forgiven for `grace`.
    pub(super) fn turn_to(&mut self, next: &Ticket, grace: Duration, now: UnixTime) {
        let spent = std::mem::replace(&mut self.turn, next.turn());
        self.before = Some(Before {
            turn: spent,
            until: (now + grace).as_millis(),
        });
        self.began.get_or_insert(now.as_millis());
        if let Some(access) = &mut self.access {
            access.fresh = false;
        }
    }

    /// The good token, for somebody who has one of the family.
    pub(super) fn current(&self, ticket: &Ticket) -> Option<Ticket> {
        let mut turn = FIRST;
        let length = URL_SAFE_NO_PAD.decode_slice(&self.turn, &mut turn).ok()?;
        (length == TURN).then(|| ticket.with(turn))
    }

    /// What a provider gave out. `fresh`: no answer has carried it yet.
    pub(super) fn fill(
        &mut self,
        issued: &Issued,
        scopes: &[Box<str>],
        fresh: bool,
        now: UnixTime,
    ) {
        if let Some(upstream) = &issued.refresh_token {
            self.upstream = Some(upstream.expose().clone());
        }
        let before = self.access.replace(Access {
            token: issued.token.expose().clone(),
            ends: issued.ends.unwrap_or(now + UNSAID).as_millis(),
            scopes: scopes.iter().map(|scope| scope.to_string()).collect(),
            fresh,
        });
        self.earlier.push(before, now);
    }

    /// The access tokens that it was given and that may still count.
    pub(super) fn living(&self, now: UnixTime) -> impl Iterator<Item = &str> {
        let last = self.access.iter();
        let last = last.filter(move |own| now.as_millis() < own.ends);
        let last = last.map(|own| own.token.as_str());
        last.chain(self.earlier.living(now))
    }

    /// Nor do they; `false`: they were over.
    pub(super) fn settle(&mut self) -> bool {
        self.earlier.clear();
        self.access.take().is_some()
    }

    /// Nothing of it counts any more. Its access tokens are remembered until they are over, too.
    pub(super) fn end(&mut self) {
        self.over = true;
        self.upstream = None;
        self.before = None;
    }

    /// Whether it has been ended.
    pub(in crate::issuer) const fn is_over(&self) -> bool {
        self.over
    }

    /// Whether its tokens may be for that audience; `None`: whichever they are for.
    pub(in crate::issuer) fn is_for(&self, audience: Option<&str>) -> bool {
        audience.is_none_or(|asked| self.audience.is_empty() || self.audience == asked)
    }
}

/// What a family is made for.
#[derive(Clone, Copy, Debug)]
pub(in crate::issuer) struct Terms<'a> {
    pub(in crate::issuer) client: &'a str,
    pub(in crate::issuer) provider: &'a ProviderId,
    pub(in crate::issuer) audience: &'a str,
    pub(in crate::issuer) ends: UnixTime,
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[refresh family]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::issuer::refresh::earlier::MOST;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds)
    }

    fn family(ticket: &Ticket) -> Family {
        let terms = Terms {
            client: "app",
            provider: &ProviderId::new("old"),
            audience: "api",
            ends: at(1_000),
        };
        Family::new(ticket, terms, Some(at(0)))
    }

    #[test]
    fn one_token_is_good_and_the_one_before_for_a_moment() {
        let first = Ticket::first(&SystemEntropy);
        let mut family = family(&first);
        assert_eq!(family.place(&first, at(1)), Place::Current);
        let second = first.next(&SystemEntropy);
        family.turn_to(&second, GRACE, at(1));
        assert_eq!(family.place(&first, at(10)), Place::Before);
        assert_eq!(family.place(&first, at(11)), Place::Spent);
        assert_eq!(family.place(&second, at(11)), Place::Current);
        assert_eq!(
            family.current(&first).unwrap().text().expose(),
            second.text().expose()
        );
        let third = second.next(&SystemEntropy);
        family.turn_to(&third, GRACE, at(2));
        assert_eq!(family.place(&first, at(3)), Place::Spent);
        assert_eq!(family.place(&second, at(3)), Place::Before);
        // One that was made up by somebody who knows the secret.
        assert_eq!(
            family.place(&first.next(&SystemEntropy), at(3)),
            Place::Spent
        );
        assert_eq!(family.place(&third, at(1_000)), Place::Over);
        family.end();
        assert_eq!(family.place(&third, at(3)), Place::Over);
    }

    #[test]
    fn an_ended_family_keeps_what_is_still_to_be_ended() {
        let ticket = Ticket::first(&SystemEntropy);
        let mut family = family(&ticket);
        family.upstream = Some("refresh".to_owned());
        family.access = Some(Access {
            token: "access".to_owned(),
            ends: 500_000,
            scopes: Vec::new(),
            fresh: true,
        });
        family.end();
        assert!(family.is_over() && family.upstream.is_none());
        assert!(family.access.is_some());
        assert_eq!(family.place(&ticket, at(1)), Place::Over);
    }

    #[test]
    fn what_a_family_was_given_is_remembered_as_long_as_it_may_count() {
        let ticket = Ticket::first(&SystemEntropy);
        let mut family = family(&ticket);
        let given = |name: &str, ends: u64| Issued {
            token: Secret::new(name.to_owned()),
            ends: Some(at(ends)),
            scopes: None,
            proof: None,
            refresh_token: None,
        };
        for (name, ends, now) in [("a", 10, 1), ("b", 30, 2), ("c", 20, 3), ("d", 40, 12)] {
            family.fill(&given(name, ends), &[], true, at(now));
        }
        let living = |family: &Family, now| family.living(at(now)).collect::<Vec<_>>().join(" ");
        assert_eq!(living(&family, 12), "d b c");
        assert_eq!(living(&family, 25), "d b");
        for number in 0..40 {
            let name = format!("n{number}");
            family.fill(&given(&name, 90), &[], true, at(13));
        }
        assert_eq!(family.living(at(13)).count(), 1 + MOST);
        assert!(living(&family, 13).starts_with("n39 n23 n24"));
        family.end();
        assert_eq!(family.living(at(13)).count(), 1 + MOST);
        assert!(family.settle() && !family.settle());
        assert_eq!(family.living(at(13)).count(), 0);
    }

    #[test]
    fn a_family_is_for_one_audience() {
        let ticket = Ticket::first(&SystemEntropy);
        let mut family = family(&ticket);
        assert!(family.is_for(None) && family.is_for(Some("api")));
        assert!(!family.is_for(Some("other")));
        family.audience.clear();
        assert!(family.is_for(Some("other")));
    }

    #[test]
    fn a_token_survives_its_text_and_no_other_spelling_is_one() {
        let ticket = Ticket::first(&SystemEntropy);
        let text = ticket.text();
        let again = Ticket::parse(text.expose()).unwrap();
        assert_eq!(again.text().expose(), text.expose());
        assert_eq!(again.row(), ticket.row());
        for bad in [
            text.expose().trim_start_matches(PREFIX).to_owned(),
            format!("{}=", text.expose()),
            text.expose().to_uppercase(),
            String::new(),
        ] {
            assert!(Ticket::parse(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn adopted_tokens_of_two_clients_or_providers_never_share_a_family() {
        let of = |provider: &str, client: &str, token: &str| {
            Ticket::of_provider(&ProviderId::new(provider), client, token).row()
        };
        let rows = [
            of("a", "b", "cd"),
            of("ab", "", "cd"),
            of("a", "bc", "d"),
            of("b", "b", "cd"),
        ];
        let distinct: std::collections::HashSet<_> = rows.iter().collect();
        assert_eq!(distinct.len(), rows.len());
        assert_eq!(of("a", "b", "cd"), rows[0]);
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(text in "(afr1_)?[A-Za-z0-9_=-]{0,70}") {
            if let Some(ticket) = Ticket::parse(&text) {
                let again = ticket.text();
                prop_assert_eq!(again.expose(), &text);
            }
        }
    }
}
