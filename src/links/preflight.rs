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
use crate::links::naming::joined;
use crate::links::settings::Canonical;

/// The column with the name of a provider.
const PROVIDER: &str = "provider";
/// The column with what that provider calls the account.
const ACCOUNT: &str = "account";
/// The attribute that is the account's name where no column says otherwise.
const SUBJECT: &str = "subject";
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
                attributes.insert(name, value.into());
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
    for account in accounts {
        let identity = &account.identity;
        let (provider, subject) = (&identity.provider, &identity.key.subject);
        if let Some(line) = seen.insert((provider, subject), account.line) {
            let why = format!("the account stands in line {line} too");
            found.conflicts.push(conflict(account, None, why));
            continue;
        }
        if !folded.insert((provider, subject.as_str().to_lowercase())) {
            found.alike += 1;
        }
        match joined(canonical, identity) {
            Err(_) => {
                let why =
                    "what is said of it could be read as another person, or is said in two ways";
                found
                    .conflicts
                    .push(conflict(account, None, why.to_owned()));
            }
            Ok(None) => {
                found.people += 1;
                *found
                    .without_partner
                    .entry(provider.to_string())
                    .or_default() += 1;
            }
            Ok(Some((name, method))) => {
                let person = people.entry(name.clone()).or_default();
                if let Some(line) = person.accounts.get(provider) {
                    let why = format!("the person has the account in line {line} already");
                    found.conflicts.push(conflict(account, Some(&name), why));
                    continue;
                }
                person.accounts.insert(provider, account.line);
                person.listed |= method == Method::File;
            }
        }
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
    found
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
