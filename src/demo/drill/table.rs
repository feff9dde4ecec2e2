//! The closing table: computed from what was seen, and nothing else.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::demo::drill::observe::Observation;
use crate::demo::drill::observe::Seen;

/// How many people and machines there are.
pub(super) const PEOPLE: usize = 200;
/// How many machines.
pub(super) const MACHINES: usize = 5;
/// More people of one application than this must not be harmed before the rollback: each application has a bound of its own.
const MAX_HARMED: usize = 14;

/// What the drill comes to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Table {
    pub(super) people_moved: usize,
    pub(super) machines_moved: usize,
    pub(super) unexpected_sign_ins: usize,
    pub(super) header_changes: usize,
    pub(super) failed_requests: usize,
    pub(super) harmed: usize,
    /// By application.
    pub(super) harmed_at: BTreeMap<String, usize>,
    /// The application that the fault is about.
    pub(super) fault_at: Option<String>,
    pub(super) rollbacks: usize,
    pub(super) steps: Vec<String>,
    pub(super) ledger: Option<(bool, u64)>,
}

impl Table {
    /// Counts.
    pub(super) fn of(all: &[Observation]) -> Self {
        let mut table = Self::default();
        let mut home: BTreeMap<&str, &str> = BTreeMap::new();
        let mut machines: BTreeMap<&str, &str> = BTreeMap::new();
        let mut headers: BTreeMap<&str, &str> = BTreeMap::new();
        let mut harmed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for Observation { who, seen, .. } in all {
            match seen {
                Seen::SignIn { app, provider, ok } => {
                    let harmed = harmed.entry(app).or_default();
                    if *ok {
                        home.insert(who, provider);
                    } else {
                        harmed.insert(who);
                    }
                }
                Seen::UnexpectedSignIn => table.unexpected_sign_ins += 1,
                Seen::Request { ok, .. } => table.failed_requests += usize::from(!ok),
                Seen::Machine { provider } => {
                    machines.insert(who, provider);
                }
                Seen::Headers { lines } => {
                    let first = headers.entry(who).or_insert(lines);
                    table.header_changes += usize::from(*first != lines);
                }
                Seen::Step { step, state, .. } => {
                    table.rollbacks += usize::from(state == "rolled_back");
                    let stage = step.split('/').next().unwrap_or_default();
                    if !table.steps.iter().any(|seen| seen == stage) {
                        table.steps.push(stage.to_owned());
                    }
                }
                Seen::Fault { app, .. } => table.fault_at.clone_from(app),
                Seen::Ledger { ok, records } => table.ledger = Some((*ok, *records)),
            }
        }
        table.people_moved = home.values().filter(|home| **home == "new").count();
        table.machines_moved = machines.values().filter(|home| **home == "new").count();
        let all: BTreeSet<&str> = harmed.values().flatten().copied().collect();
        table.harmed = all.len();
        let at = |(app, people): (&str, BTreeSet<&str>)| (app.to_owned(), people.len());
        table.harmed_at = harmed.into_iter().map(at).collect();
        table
    }

    fn by_application(&self) -> String {
        let all = self.harmed_at.iter();
        let all = all.map(|(app, people)| format!("{app} {people}"));
        all.collect::<Vec<_>>().join(", ")
    }

    /// How many were harmed where nothing was wrong.
    fn harmed_elsewhere(&self) -> usize {
        let Some(at) = &self.fault_at else {
            return 0;
        };
        let elsewhere = self.harmed_at.iter().filter(|(app, _)| *app != at);
        elsewhere.map(|(_, people)| people).sum()
    }

    /// The lines, each with its promise.
    pub(super) fn lines(&self) -> Vec<(String, bool)> {
        let stages = self.steps.iter().filter(|step| *step != "draft").count();
        let row = |what: &str, value: String, kept: bool| (format!("{what:<40}{value}"), kept);
        let ledger = match self.ledger {
            Some((true, records)) => format!("yes, {records} records"),
            Some((false, _)) | None => String::from("no"),
        };
        let zero = |what, count: usize| row(what, count.to_string(), count == 0);
        vec![
            row("stages gone through", format!("{stages} of 6"), stages == 6),
            row(
                "people moved",
                format!("{} of {PEOPLE}", self.people_moved),
                self.people_moved == PEOPLE,
            ),
            row(
                "machine clients moved",
                format!("{} of {MACHINES}", self.machines_moved),
                self.machines_moved == MACHINES,
            ),
            zero("unexpected sign-ins", self.unexpected_sign_ins),
            zero("identity-header changes", self.header_changes),
            zero("failed requests", self.failed_requests),
            row(
                "people harmed before the rollback",
                self.harmed.to_string(),
                0 < self.harmed && self.harmed_at.values().all(|harmed| *harmed <= MAX_HARMED),
            ),
            row(
                "of these, by application",
                self.by_application(),
                self.harmed_elsewhere() == 0,
            ),
            row(
                "automatic rollbacks",
                self.rollbacks.to_string(),
                self.rollbacks == 1,
            ),
            row(
                "ledger verified",
                ledger,
                self.ledger.is_some_and(|(ok, _)| ok),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saw(who: &str, seen: Seen) -> Observation {
        Observation {
            at: 0,
            who: who.to_owned(),
            seen,
        }
    }

    fn sign_in(who: &str, provider: &str, ok: bool) -> Observation {
        sign_in_at("crm", who, provider, ok)
    }

    fn sign_in_at(app: &str, who: &str, provider: &str, ok: bool) -> Observation {
        let (app, provider) = (app.to_owned(), provider.to_owned());
        saw(who, Seen::SignIn { app, provider, ok })
    }

    #[test]
    fn a_fault_in_one_application_is_to_harm_nobody_elsewhere() {
        let fault = |on| Seen::Fault {
            on,
            app: Some("crm".into()),
        };
        let mut all = vec![
            sign_in_at("wiki", "b", "new", true),
            saw("drill", fault(true)),
            sign_in("a", "new", false),
            saw("drill", fault(false)),
        ];
        let row = |all: &[Observation]| {
            let mut lines = Table::of(all).lines().into_iter();
            lines
                .find(|(line, _)| line.starts_with("of these"))
                .unwrap()
        };
        let (line, kept) = row(&all);
        assert!(line.ends_with("  crm 1, wiki 0") && kept, "{line}");
        all.push(sign_in_at("wiki", "b", "new", false));
        let (line, kept) = row(&all);
        assert!(line.ends_with("  crm 1, wiki 1") && !kept, "{line}");
    }

    #[test]
    fn fourteen_of_each_application_may_be_harmed() {
        let harmed = |app, count| {
            (0..count).map(move |n| sign_in_at(app, &format!("{app}{n}"), "new", false))
        };
        for (crm, wiki, kept) in [(0, 0, false), (14, 0, true), (14, 14, true), (15, 0, false)] {
            let all: Vec<_> = harmed("crm", crm).chain(harmed("wiki", wiki)).collect();
            let lines = Table::of(&all).lines();
            let mut lines = lines.iter();
            let row = lines.find(|(line, _)| line.starts_with("people harmed"));
            assert_eq!(row.unwrap().1, kept, "{crm} and {wiki}");
        }
    }

    #[test]
    fn the_last_sign_in_counts_and_every_harm() {
        let lines = |lines: &str| Seen::Headers {
            lines: lines.into(),
        };
        let table = Table::of(&[
            sign_in("a", "old", true),
            sign_in("a", "new", false),
            sign_in("a", "new", false),
            sign_in("a", "new", true),
            sign_in("b", "old", true),
            saw("a", lines("x-remote-user: 1")),
            saw("a", lines("x-remote-user: 1")),
            saw("a", lines("x-remote-user: 2")),
            saw("b", lines("x-remote-user: 2")),
            saw("b", Seen::UnexpectedSignIn),
            saw(
                "b",
                Seen::Request {
                    status: 503,
                    ok: false,
                },
            ),
            saw(
                "m",
                Seen::Machine {
                    provider: "new".into(),
                },
            ),
        ]);
        assert_eq!(
            (table.people_moved, table.machines_moved, table.harmed),
            (1, 1, 1)
        );
        assert_eq!((table.header_changes, table.unexpected_sign_ins), (1, 1));
        assert_eq!(table.failed_requests, 1);
        assert!(table.lines().iter().any(|(_, kept)| !kept));
    }
}
