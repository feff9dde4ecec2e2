//! What links would be made of an inventory of accounts, before anybody moves: who has a partner, who has none, who has two.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Delegation;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::links::Method;
use crate::links::Place;
use crate::links::naming::joined;
use crate::links::settings::Canonical;

/// The column with the name of a provider.
const PROVIDER: &str = "provider";
/// The column with what that provider calls the account.
const ACCOUNT: &str = "account";
/// The attribute that is the account's name where no column says otherwise.
const SUBJECT: &str = "subject";
/// The attribute that is no text: `true`, or anything else for no.
const VERIFIED: &str = "email_verified";
/// The longest value that is read, in bytes.
const MAX_VALUE: usize = 8 * 1_024;

/// One account of the inventory.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Its line in the file.
    pub(crate) line: u64,
    /// Whose it is, in the words of its provider.
    pub(crate) identity: Identity,
}

/// Two accounts that would be one person's at one provider, or one that could be two people's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Conflict {
    /// Its line.
    pub(crate) line: u64,
    /// The provider.
    pub(crate) provider: String,
    /// What it calls the account.
    pub(crate) account: String,
    /// Whom it would be; empty: nobody in particular.
    pub(crate) person: String,
    /// What stands against it.
    pub(crate) why: String,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Preflight {
    /// Accounts that were looked at.
    pub(crate) accounts: usize,
    /// People, as far as they are told apart.
    pub(crate) people: usize,
    /// People with accounts at several providers, by what said so.
    pub(crate) linked: BTreeMap<&'static str, usize>,
    /// People with one account, by its provider.
    pub(crate) without_partner: BTreeMap<String, usize>,
    /// What would be refused.
    pub(crate) conflicts: Vec<Conflict>,
    /// Accounts of one provider whose names differ by the size of letters alone: two people here, one to some directories.
    pub(crate) alike: usize,
}

/// Reads an inventory: a CSV file with the columns `provider` and `account`, and one for each attribute.
///
/// # Errors
///
/// What is wrong with it first, with its line.
pub(crate) fn inventory(
    file: impl Read,
    providers: &HashMap<&str, (ProviderId, Issuer)>,
) -> Result<Vec<Account>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(file);
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let column = |name: &str| header.iter().position(|column| column == name);
    let (Some(provider), Some(account)) = (column(PROVIDER), column(ACCOUNT)) else {
        return Err(format!(
            "the inventory needs the columns `{PROVIDER}` and `{ACCOUNT}`"
        ));
    };
    let mut accounts = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let at = |error: String| format!("line {line}: {error}");
        if record.iter().any(|value| MAX_VALUE < value.len()) {
            return Err(at(format!("a value is longer than {MAX_VALUE} bytes")));
        }
        let name = record.get(provider).unwrap_or_default();
        let (provider, issuer) = providers
            .get(name)
            .ok_or_else(|| at(format!("there is no provider `{name}`")))?;
        let value = record.get(account).unwrap_or_default();
        let subject = Subject::try_from(value).map_err(|error| at(error.to_string()))?;
        let mut attributes = ClaimMap::default();
        attributes.insert(SUBJECT, value.into());
        for (name, value) in header.iter().zip(&record) {
            if !value.is_empty() && ![PROVIDER, ACCOUNT].contains(&name) {
                let value = match name {
                    VERIFIED => value.eq_ignore_ascii_case("true").into(),
                    _ => value.into(),
                };
                attributes.insert(name, value);
            }
        }
        accounts.push(Account {
            line,
            identity: Identity {
                provider: provider.clone(),
                key: SubjectKey {
                    issuer: issuer.clone(),
                    subject,
                },
                attributes: Arc::new(attributes),
                client_id: None,
                acr: None,
                scopes: Box::default(),
                delegation: Delegation::default(),
            },
        });
    }
    Ok(accounts)
}

/// Says which links the accounts would get, by the code that makes them.
pub(crate) fn preflight(canonical: &Canonical, accounts: &[Account]) -> Preflight {
    let mut found = Preflight {
        accounts: accounts.len(),
        ..Preflight::default()
    };
    let mut people: HashMap<CanonicalSubject, Person<'_>> = HashMap::new();
    let mut seen: HashMap<(&ProviderId, &Subject), u64> = HashMap::new();
    let mut folded: HashSet<(&ProviderId, String)> = HashSet::new();
    let mut once = Vec::with_capacity(accounts.len());
    for account in accounts {
        let (provider, subject) = (&account.identity.provider, &account.identity.key.subject);
        if let Some(line) = seen.insert((provider, subject), account.line) {
            let why = format!("the account stands in line {line} too");
            found.conflicts.push(conflict(account, None, why));
            continue;
        }
        if !folded.insert((provider, subject.as_str().to_lowercase())) {
            found.alike += 1;
        }
        match joined(canonical, &account.identity) {
            Ok(name) => once.push((account, name)),
            Err(_) => {
                let why =
                    "what is said of it could be read as another person, or is said in two ways";
                let why = why.to_owned();
                found.conflicts.push(conflict(account, None, why));
            }
        }
    }
    let said = Said::by(canonical, &once);
    // Names first: whoever has one keeps it, whatever else is said.
    let (named, nameless): (Vec<_>, Vec<_>) = once.iter().partition(|(_, name)| name.is_some());
    for (account, name) in named.into_iter().chain(nameless) {
        let claims = said.of(account);
        let by_list = name
            .as_ref()
            .is_some_and(|(_, method)| *method == Method::File);
        let contested = claims.contested.filter(|_| !by_list);
        let address = claims
            .address
            .filter(|_| name.is_none() && claims.partner.is_none());
        if let Some(why) = contested.or(address) {
            let person = name.as_ref().map(|(name, _)| name);
            found.conflicts.push(conflict(account, person, why));
            // At the old side everybody goes on as who they are.
            if !claims.is_old || name.is_none() {
                continue;
            }
        }
        let partner = claims.partner.map(|name| (name, Method::Claim));
        let Some((name, method)) = name.clone().or(partner) else {
            found.people += 1;
            let provider = account.identity.provider.to_string();
            *found.without_partner.entry(provider).or_default() += 1;
            continue;
        };
        let person = people.entry(name.clone()).or_default();
        if let Some(line) = person.accounts.get(&account.identity.provider) {
            let why = format!("the person has the account in line {line} already");
            found.conflicts.push(conflict(account, Some(&name), why));
            continue;
        }
        let provider = &account.identity.provider;
        person.accounts.insert(provider, account.line);
        person.listed |= method == Method::File;
    }
    found.people += people.len();
    for person in people.values() {
        let mut providers = person.accounts.keys();
        match (providers.next(), providers.next()) {
            (Some(_), Some(_)) => {
                let method = if person.listed {
                    Method::File
                } else {
                    Method::Claim
                };
                *found.linked.entry(method.as_str()).or_default() += 1;
            }
            (Some(only), None) => {
                *found.without_partner.entry(only.to_string()).or_default() += 1;
            }
            (None, _) => {}
        }
    }
    found.conflicts.sort_by_key(|conflict| conflict.line);
    found
}

/// The name of a person, and what says so.
type Name = Option<(CanonicalSubject, Method)>;

/// The accounts of either side that have one value.
type Holders<'a> = [Vec<&'a (&'a Account, Name)>; 2];

/// Which accounts have which value of which rule: those of the old side, those of the other.
struct Said<'a> {
    canonical: &'a Canonical,
    values: HashMap<(usize, Box<str>), Holders<'a>>,
}

/// What the rules say of one account.
#[derive(Default)]
struct ByClaims {
    partner: Option<CanonicalSubject>,
    /// Why an identifier says nothing certain.
    contested: Option<String>,
    /// Why an address does not.
    address: Option<String>,
    /// Whether it is an account of the old side.
    is_old: bool,
}

impl<'a> Said<'a> {
    fn by(canonical: &'a Canonical, accounts: &'a [(&'a Account, Name)]) -> Self {
        let mut values: HashMap<_, [Vec<_>; 2]> = HashMap::new();
        for one in accounts {
            for (at, rule) in canonical.claims.iter().enumerate() {
                if let Some((place, value)) = rule.said_of(&one.0.identity) {
                    let [old, new] = values.entry((at, value)).or_default();
                    match place {
                        Place::Old => old.push(one),
                        Place::New => new.push(one),
                    }
                }
            }
        }
        Self { canonical, values }
    }

    fn of(&self, account: &Account) -> ByClaims {
        let mut found = ByClaims::default();
        for (at, rule) in self.canonical.claims.iter().enumerate() {
            let Some((place, value)) = rule.said_of(&account.identity) else {
                continue;
            };
            let Some([old, new]) = self.values.get(&(at, value)) else {
                continue;
            };
            found.is_old |= place == Place::Old;
            match (certain(old, new), place) {
                (Ok(Some(name)), _) => {
                    let partner = found.partner.get_or_insert_with(|| name.clone());
                    if *partner != name && !rule.is_address() && place == Place::New {
                        let why = "two of its claims name two people".to_owned();
                        found.contested.get_or_insert(why);
                    }
                }
                (Ok(None), _) => {}
                // The others are named, at the new side.
                (Err(_), Place::Old) if old.len() < 2 => {}
                (Err(why), _) if rule.is_address() => {
                    found.address.get_or_insert(why);
                }
                (Err(why), _) => {
                    found.contested.get_or_insert(why);
                }
            }
        }
        found
    }
}

/// The one person of the accounts that have a value; `None`: none of them has a name.
fn certain(
    old: &[&(&Account, Name)],
    new: &[&(&Account, Name)],
) -> Result<Option<CanonicalSubject>, String> {
    for side in [old, new] {
        if let [one, two, ..] = side {
            return Err(format!(
                "what links accounts is said of {} accounts of {}, such as those in lines {} and {}",
                side.len(),
                one.0.identity.provider,
                one.0.line,
                two.0.line
            ));
        }
    }
    let name = |side: &[&(&Account, Name)]| {
        let first = side.first();
        first.and_then(|one| one.1.as_ref().map(|(name, _)| name.clone()))
    };
    match (name(old), name(new)) {
        (Some(one), Some(two)) if one != two => Err(String::from(
            "the accounts of which the same is said are two people's",
        )),
        (Some(one), _) | (None, Some(one)) if !old.is_empty() && !new.is_empty() => Ok(Some(one)),
        (Some(_), _) | (None, _) => Ok(None),
    }
}

/// A person, and their accounts by line.
#[derive(Default)]
struct Person<'a> {
    accounts: BTreeMap<&'a ProviderId, u64>,
    listed: bool,
}

fn conflict(account: &Account, person: Option<&CanonicalSubject>, why: String) -> Conflict {
    Conflict {
        line: account.line,
        provider: account.identity.provider.to_string(),
        account: account.identity.key.subject.as_str().to_owned(),
        person: person.map_or_else(String::new, |person| person.as_str().to_owned()),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Template;
    use crate::links::Columns;
    use crate::links::LinkFile;

    fn read(text: &str) -> Result<Vec<Account>, String> {
        let issuer = |name: &str| {
            let issuer = Issuer::new(&format!("https://{name}"));
            (ProviderId::new(name), issuer)
        };
        let providers = HashMap::from([("old", issuer("old")), ("new", issuer("new"))]);
        inventory(text.as_bytes(), &providers)
    }

    #[test]
    fn people_are_counted_by_what_links_them_and_conflicts_are_named() {
        let mut canonical = Canonical::by_claims("hr:{employee}", Vec::new(), &["old", "new"]);
        let template = Template::parse("hr:{employee}").unwrap();
        let file = LinkFile::parse(
            b"employee,sub\n3,n3\n9,n1\n",
            &Columns {
                accounts: &[(ProviderId::new("new"), "sub".into())],
                template: &template,
                normalise: &[],
            },
        );
        canonical.files.push(Arc::new(file.unwrap()));
        let accounts = read(concat!(
            "provider,account,employee\n",
            "old,o1,1\nnew,n1,1\n", // The list says that n1 is somebody else.
            "old,o2,2\nnew,n2,2\n",
            "old,o3,3\nnew,n3,\n", // By the list alone.
            "old,o4,4\n",
            "new,n5,\n",
            "new,n6,6\nnew,N6,6\n", // Two accounts of one person.
            "old,o2,2\n",           // Twice.
        ));
        let found = preflight(&canonical, &accounts.unwrap());
        assert_eq!((found.accounts, found.alike), (11, 1));
        assert_eq!(found.linked, BTreeMap::from([("claim", 1), ("file", 1)]));
        let alone = [("new", 2), ("old", 2)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(found.without_partner, BTreeMap::from(alone));
        assert_eq!(found.people, 6);
        let lines: Vec<_> = found.conflicts.iter().map(|c| c.line).collect();
        assert_eq!(lines, [3, 11, 12], "{:?}", found.conflicts);
        assert_eq!(found.conflicts[1].person, "hr:6");
    }

    #[test]
    fn what_claims_would_link_is_known_before_anybody_moves() {
        let canonical = Canonical::by_claims("hr:{employee}", Vec::new(), &["old"]);
        let canonical = canonical
            .and_by("guid", None)
            .and_by("email", Some(vec!["corp.example".into()]));
        let accounts = read(concat!(
            "provider,account,employee,guid,email,email_verified\n",
            "old,o1,1,g1,a@corp.example,true\n",
            "new,n1,,G1,,\n", // By its identifier.
            "old,o2,2,,b@corp.example,true\n",
            "new,n2,,,B@corp.example,true\n", // By its address.
            "new,n3,,,b@mail.example,true\n", // An address that is not ours to give.
            "old,o4,4,g4,,\n",
            "new,n4,,g4,,\nnew,n5,,G4,,\n", // Two that differ by the size of letters.
            "old,o6,6,,c@corp.example,true\nold,o7,7,,C@corp.example,true\n",
            "new,n6,,,c@corp.example,true\n", // Of two people.
            "old,o8,8,g8,d@corp.example,true\n",
            "new,n8,,g8,,\n",
            "new,n9,,,d@corp.example,true\n", // Somebody who has one already.
        ));
        let found = preflight(&canonical, &accounts.unwrap());
        assert_eq!(found.linked, BTreeMap::from([("claim", 3)]));
        let lines: Vec<_> = found.conflicts.iter().map(|c| c.line).collect();
        assert_eq!(lines, [8, 9, 12, 15], "{:?}", found.conflicts);
        assert!(
            found.conflicts[0]
                .why
                .contains("2 accounts of new, such as those in lines 8 and 9"),
            "{:?}",
            found.conflicts
        );
        let alone = [("new", 1), ("old", 3)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(found.without_partner, BTreeMap::from(alone));
    }

    #[test]
    fn an_inventory_that_cannot_be_read_says_where() {
        for (text, why) in [
            ("provider,subject\nold,a\n", "`account`"),
            (
                "provider,account\nold,a\nodl,b\n",
                "line 3: there is no provider `odl`",
            ),
            ("provider,account\nold,\n", "line 2: the subject is empty"),
            ("provider,account\nold\n", "fields"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
