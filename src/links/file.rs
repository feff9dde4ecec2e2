//! A list of people whom somebody has linked: a CSV file, as an export of a directory gives one.
//!
//! A row names a person by the attributes of `identity.canonical`, and the accounts that are theirs. What could be read as two
//! people, or as one account of two people, makes the whole file unfit: nobody is linked by half of a list.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use csv::StringRecord;

use crate::identity;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Delegation;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::Normalise;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::identity::Template;

/// Problems that are named, of any one file: 20.
const NAMED: usize = 20;

/// Which account of which provider is which person's.
#[derive(Default)]
pub(crate) struct LinkFile {
    people: HashMap<ProviderId, HashMap<Box<str>, CanonicalSubject>>,
    /// Those of them with capital letters, by their small ones.
    capitals: HashMap<ProviderId, HashMap<Box<str>, CanonicalSubject>>,
    /// Whose accounts of which provider it names.
    listed: HashMap<ProviderId, HashSet<CanonicalSubject>>,
}

/// What the configuration says about a file.
#[derive(Debug)]
pub(crate) struct Columns<'a> {
    /// The column with the subjects of each provider.
    pub(crate) accounts: &'a [(ProviderId, Box<str>)],
    /// Rendered over the columns of a row.
    pub(crate) template: &'a Template,
    /// Applied to each value first.
    pub(crate) normalise: &'a [Normalise],
}

impl LinkFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, line by line, at most twenty.
    pub(crate) fn parse(bytes: &[u8], columns: &Columns<'_>) -> Result<Self, Vec<String>> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(bytes);
        let header = reader
            .headers()
            .map_err(|error| vec![format!("its first line is no list of columns: {error}")])?
            .clone();
        let wanted = columns.template.roots();
        let accounts = columns.accounts.iter().map(|(_, column)| &**column);
        let missing: Vec<_> = wanted
            .chain(accounts)
            .filter(|name| header.iter().filter(|column| column == name).count() != 1)
            .map(|name| format!("it has no single column `{name}`"))
            .collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let mut rows = Rows::default();
        for record in reader.records() {
            match record {
                Ok(record) => rows.take(&header, &record, columns),
                Err(error) => rows.problem(error.to_string()),
            }
            if NAMED <= rows.problems.len() {
                break;
            }
        }
        if rows.problems.is_empty() {
            Ok(rows.file)
        } else {
            Err(rows.problems)
        }
    }

    /// Whose an account is; `None`: the file does not say.
    pub(crate) fn person_of(
        &self,
        provider: &ProviderId,
        subject: &Subject,
    ) -> Option<&CanonicalSubject> {
        self.people.get(provider)?.get(subject.as_str())
    }

    /// Whose account somebody means who writes it in small letters, as `small` is, or would if they did: a file with two that
    /// differ by the size of letters alone is unfit. It is for nothing that lets anybody in.
    pub(super) fn person_meant(
        &self,
        provider: &ProviderId,
        small: &str,
    ) -> Option<&CanonicalSubject> {
        let as_it_is = self.people.get(provider).and_then(|all| all.get(small));
        let capitals = self.capitals.get(provider).and_then(|all| all.get(small));
        as_it_is.or(capitals)
    }

    /// Whether it names an account of a provider that is a person's.
    pub(crate) fn lists(&self, provider: &ProviderId, person: &CanonicalSubject) -> bool {
        let listed = self.listed.get(provider);
        listed.is_some_and(|listed| listed.contains(person))
    }

    /// How many accounts both lists name and give to two people, or give one person beside another account of a provider.
    pub(crate) fn disagreements(&self, other: &Self) -> usize {
        let between = |provider, ours: &HashMap<Box<str>, CanonicalSubject>| {
            let Some(theirs) = other.people.get(provider) else {
                return 0;
            };
            let by_person: HashMap<_, _> = theirs
                .iter()
                .map(|(subject, person)| (person, subject))
                .collect();
            let mut differing = 0;
            for (subject, person) in ours {
                let same_account = theirs.get(subject).is_none_or(|there| there == person);
                let same_person = by_person.get(person).is_none_or(|there| *there == subject);
                differing += usize::from(!(same_account && same_person));
            }
            differing
        };
        self.people
            .iter()
            .map(|(provider, ours)| between(provider, ours))
            .sum()
    }

    /// How many accounts it names.
    pub(crate) fn len(&self) -> usize {
        self.people.values().map(HashMap::len).sum()
    }
}

/// A file that is being read.
#[derive(Default)]
struct Rows {
    file: LinkFile,
    people: HashSet<CanonicalSubject>,
    /// Accounts without their letters' size: two that differ by it alone are one to some directories.
    folded: HashSet<(ProviderId, String)>,
    problems: Vec<String>,
}

impl Rows {
    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    fn take(&mut self, header: &StringRecord, record: &StringRecord, columns: &Columns<'_>) {
        let line = record.position().map_or(0, csv::Position::line);
        let value = |name: &str| {
            let place = header.iter().position(|column| column == name)?;
            record.get(place).filter(|value| !value.is_empty())
        };
        let person = match named(&value, columns) {
            Ok(person) => person,
            Err(why) => return self.problem(format!("line {line}: {why}")),
        };
        if !self.people.insert(person.clone()) {
            return self.problem(format!(
                "line {line}: an earlier line is about this person too"
            ));
        }
        for (provider, column) in columns.accounts {
            let Some(account) = value(column) else {
                continue;
            };
            if let Err(error) = Subject::try_from(account) {
                self.problem(format!("line {line}: `{column}`: {error}"));
                continue;
            }
            let small = account.to_lowercase();
            if !self.folded.insert((provider.clone(), small.clone())) {
                self.problem(format!(
                    "line {line}: `{column}`: an earlier line has this account too, or one that differs by the size of letters alone"
                ));
                continue;
            }
            if small != account {
                let capitals = self.file.capitals.entry(provider.clone()).or_default();
                capitals.insert(small.into(), person.clone());
            }
            let accounts = self.file.people.entry(provider.clone()).or_default();
            accounts.insert(account.into(), person.clone());
            let listed = self.file.listed.entry(provider.clone()).or_default();
            listed.insert(person.clone());
        }
    }
}

/// The name of the person of a row.
pub(super) fn named<'a>(
    value: &impl Fn(&str) -> Option<&'a str>,
    columns: &Columns<'_>,
) -> Result<CanonicalSubject, String> {
    let mut attributes = ClaimMap::default();
    for root in columns.template.roots() {
        if let Some(value) = value(root) {
            attributes.insert(root, value.into());
        }
    }
    let nobody = "-";
    let identity = Identity {
        provider: ProviderId::new(nobody),
        key: SubjectKey {
            issuer: Issuer::new(nobody),
            subject: Subject::try_from(nobody).map_err(|error| error.to_string())?,
        },
        attributes: Arc::new(attributes),
        client_id: None,
        acr: None,
        scopes: Box::default(),
        delegation: Delegation::default(),
    };
    identity::canonical(columns.template, columns.normalise, &identity)
        .map_err(|error| error.to_string())
}

impl fmt::Debug for LinkFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkFile({} accounts)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LinkFile, Vec<String>> {
        let template = Template::parse("hr:{employee}").unwrap();
        let accounts = [
            (ProviderId::new("old"), Box::from("uid")),
            (ProviderId::new("new"), Box::from("sub")),
        ];
        LinkFile::parse(
            text.as_bytes(),
            &Columns {
                accounts: &accounts,
                template: &template,
                normalise: &[Normalise::Trim, Normalise::StripLeadingZeros],
            },
        )
    }

    fn person(file: &LinkFile, provider: &str, subject: &str) -> Option<String> {
        let subject = Subject::try_from(subject).unwrap();
        let found = file.person_of(&ProviderId::new(provider), &subject);
        found.map(|person| person.as_str().to_owned())
    }

    #[test]
    fn a_row_is_a_person_with_an_account_at_each_side_or_at_one() {
        let text = "sub,employee,uid,note\n\"f81d-1\",00042,alice,\"a, b\"\n,43,bob,\n";
        let file = read(text).unwrap();
        assert_eq!(person(&file, "new", "f81d-1").as_deref(), Some("hr:42"));
        assert_eq!(person(&file, "old", "alice").as_deref(), Some("hr:42"));
        assert_eq!(person(&file, "old", "bob").as_deref(), Some("hr:43"));
        assert_eq!(
            person(&file, "old", "f81d-1"),
            None,
            "an account of the other side"
        );
        assert_eq!(person(&file, "old", "Alice"), None, "byte for byte");
        assert_eq!(file.len(), 3);
    }

    #[test]
    fn what_could_be_two_people_makes_the_file_unfit() {
        for (text, why) in [
            ("employee,uid\n1,a\n", "column `sub`"),
            ("employee,uid,sub,sub\n1,a,b,c\n", "column `sub`"),
            ("employee,uid,sub\n1,a,b\n2,a,c\n", "line 3: `uid`"),
            ("employee,uid,sub\n1,a,b\n2,A,c\n", "size of letters"),
            (
                "employee,uid,sub\n1,a,b\n01,c,d\n",
                "line 3: an earlier line is about",
            ),
            ("employee,uid,sub\n0000,a,b\n", "placeholder"),
            ("employee,uid,sub\n,a,b\n", "missing"),
            ("employee,uid,sub\n1,a\n", "fields"),
        ] {
            let problems = read(text).unwrap_err().join("; ");
            assert!(problems.contains(why), "{text:?}: {problems}");
        }
        let many = (0..100).map(|_| "1,,\n").collect::<String>();
        let problems = read(&format!("employee,uid,sub\n{many}")).unwrap_err();
        assert_eq!(problems.len(), NAMED);
    }

    #[test]
    fn two_lists_disagree_about_accounts_and_about_people() {
        let list = |rows: &str| read(&format!("employee,uid,sub\n{rows}")).unwrap();
        let one = list("1,alice,a1\n2,bob,b1\n");
        for (rows, differing) in [
            ("1,alice,a1\n", 0),
            ("3,carol,c1\n", 0),
            ("3,alice,c1\n", 1),
            ("1,alice,a2\n", 1),
            ("2,alice,b1\n", 2),
        ] {
            let other = list(rows);
            assert_eq!(one.disagreements(&other), differing, "{rows}");
        }
    }
}
