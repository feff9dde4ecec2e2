//! Sends the variants of a case and holds what comes of each against what came of the request itself.

use crate::case::Case;
use crate::case::Entry;
use crate::case::Expected;
use crate::expect;
use crate::later;
use crate::ops;
use crate::run::Course;
use crate::run::Record;
use crate::run::Runner;
use crate::run::Stop;
use crate::run::Verdict;
use crate::variants::Form;
use crate::variants::Must;
use crate::variants::Variant;
use crate::variants::Written;
use crate::wire::h1;
use crate::wire::h2;
use crate::world::Plan;
use crate::world::upstream::Seen;

/// What an application may take for who is asking, or where from: besides the request line, what variants must not change.
const WATCHED: &[&str] = &[
    "authorization",
    "cookie",
    "forwarded",
    "host",
    "remote-user",
    "sm-user",
    "x-auth-",
    "x-forwarded-",
    "x-real-ip",
    "x-remote-user",
    "x-webauth-user",
];

impl Runner {
    /// The variants of one case, and how many there were.
    pub(crate) async fn vary(&mut self, case: &Case) -> (Verdict, usize) {
        if let Some(reason) = later::reason(case) {
            return (Verdict::Skip(reason), 0);
        }
        let plan = match Plan::of(case) {
            Ok(plan) => plan,
            Err(reason) => return (Verdict::Skip(reason), 0),
        };
        if let Some(reason) = case.steps().iter().find_map(ops::cannot) {
            return (Verdict::Skip(reason), 0);
        }
        if case.steps().iter().any(ops::is_an_ordeal) {
            let reason =
                "what it does takes its time, and its requests are in other cases".to_owned();
            return (Verdict::Skip(reason), 0);
        }
        let fresh = plan.fresh;
        let done = Box::pin(self.vary_all(case, plan)).await;
        if fresh
            || self
                .target
                .as_mut()
                .is_some_and(|target| !target.is_alive())
        {
            self.target = None;
        }
        self.world.calm();
        match done {
            Ok((0, _)) => (
                Verdict::Skip("no request in it can be written in another way".to_owned()),
                0,
            ),
            Ok((count, failures)) if failures.is_empty() => (Verdict::Pass, count),
            Ok((count, failures)) => (Verdict::Fail(failures), count),
            Err(Stop::Skip(reason)) => (Verdict::Skip(reason), 0),
            Err(Stop::Fail(reason)) => (Verdict::Fail(vec![reason]), 0),
        }
    }

    async fn vary_all(&mut self, case: &Case, plan: Plan) -> Result<(usize, Vec<String>), Stop> {
        self.world.calm();
        self.ensure(plan).await?;
        let mut course = Course::new(case, self.target()?.logged());
        let (mut count, mut failures) = (0, Vec::new());
        for entry in case.steps() {
            let index = course.records.len();
            let text = match entry {
                Entry::H1(text) => text,
                // What stands before a request is done; where variants have changed what it needs, the case ends.
                Entry::Op(words) => {
                    let done = Box::pin(ops::perform(self, words, case, &mut course)).await;
                    if done.is_err() {
                        break;
                    }
                    continue;
                }
                Entry::H2(_) | Entry::Repeat(_) => {
                    course.records.push(Record::default());
                    continue;
                }
            };
            course.records.push(Record::default());
            let bytes = self.bytes(text, &mut course).await?;
            let Some(written) = Written::read(&bytes) else {
                continue;
            };
            let base = self.send(&Form::H1(bytes.clone())).await?;
            let again = self.send(&Form::H1(bytes)).await?;
            // What works once says nothing about its second spelling.
            if Held::of(&base) != Held::of(&again) || base.outcome.answers.len() != 1 {
                continue;
            }
            let expected = expect::of(case, index);
            let before = failures.len();
            for variant in written.variants() {
                count += 1;
                let record = self.send(&variant.form).await?;
                let mut found = differences(&variant, &base, &record, written.is_public());
                found.extend(never(&expected, &record));
                failures.extend(
                    found
                        .into_iter()
                        .map(|why| format!("[{}] {}: {why}", index + 1, variant.label)),
                );
            }
            // A credential at the edge of its time may be another by now.
            if before < failures.len() {
                let bytes = self.bytes(text, &mut course).await?;
                let last = self.send(&Form::H1(bytes)).await?;
                if Held::of(&last) != Held::of(&base) {
                    failures.truncate(before);
                }
            }
        }
        if !self
            .target
            .as_mut()
            .is_some_and(crate::world::Target::is_alive)
        {
            failures.push("the process has ended".to_owned());
        }
        Ok((count, failures))
    }

    async fn send(&self, form: &Form) -> Result<Record, Stop> {
        let wire = self.world.public(self.target()?);
        let before = self.world.upstream.count();
        let outcome = match form {
            Form::H1(bytes) => h1::send(&wire, bytes, h1::Wish::default()).await,
            Form::H2(fields, body) => h2::send(&wire, fields, body.as_deref()).await,
        };
        Ok(Record {
            outcome,
            upstream: self.world.upstream.since(before),
            ..Record::default()
        })
    }
}

/// What must not differ.
#[derive(Debug, Eq, PartialEq)]
struct Held {
    status: Option<u16>,
    upstream: Vec<(String, Vec<(String, String)>, Vec<u8>)>,
}

impl Held {
    fn of(record: &Record) -> Self {
        Self {
            status: record.outcome.answers.first().map(|answer| answer.status),
            upstream: record.upstream.iter().map(watched).collect(),
        }
    }

    /// As if the client had sent none.
    fn without_cookies(&self) -> Self {
        let mut upstream = self.upstream.clone();
        for (_, fields, _) in &mut upstream {
            fields.retain(|(name, _)| name != "cookie");
        }
        Self {
            status: self.status,
            upstream,
        }
    }

    /// As if the client had named no port.
    fn without_ports(&self) -> Self {
        let mut upstream = self.upstream.clone();
        for (name, value) in upstream.iter_mut().flat_map(|(_, fields, _)| fields) {
            if name == "host" || name == "x-forwarded-host" {
                let host = value.trim_end_matches(|c: char| c.is_ascii_digit());
                *value = host.strip_suffix(':').unwrap_or(value).to_owned();
            } else if name == "forwarded" {
                *value = value.replace(":443\"", "\"").replace(":80\"", "\"");
            }
        }
        Self {
            status: self.status,
            upstream,
        }
    }
}

fn watched(seen: &Seen) -> (String, Vec<(String, String)>, Vec<u8>) {
    let mut fields: Vec<(String, String)> = seen
        .fields()
        .into_iter()
        .map(|(name, value)| (expect::fold(&name), value))
        .filter(|(name, _)| WATCHED.iter().any(|watched| name.starts_with(watched)))
        .collect();
    fields.sort();
    (seen.line(), fields, seen.body.clone())
}

fn differences(variant: &Variant, base: &Record, record: &Record, public: bool) -> Vec<String> {
    let (before, after) = (Held::of(base), Held::of(record));
    let refused = after.upstream.is_empty()
        && match after.status {
            Some(status) => 400 <= status && status < 500,
            None => record.outcome.closed || record.outcome.reset,
        };
    let good = match variant.must {
        Must::Same => before == after || (before.status == Some(400) && refused),
        Must::SameOrRefused => before == after || refused,
        Must::SameButPort => before == after.without_ports() || refused,
        Must::SameOrNobody => {
            before.without_cookies() == after.without_cookies()
                || refused
                || is_nobody(&after, public)
        }
        Must::Nobody => is_nobody(&after, public),
    };
    if good {
        return Vec::new();
    }
    let told = |held: &Held| {
        let requests: Vec<String> = held
            .upstream
            .iter()
            .map(|(line, fields, _)| format!("{line} {fields:?}"))
            .collect();
        format!("{:?} {requests:?}", held.status)
    };
    vec![format!("{} where it was {}", told(&after), told(&before))]
}

/// Nobody came in by that.
fn is_nobody(held: &Held, public: bool) -> bool {
    let nobody = |(_, fields, _): &(String, Vec<(String, String)>, Vec<u8>)| {
        fields
            .iter()
            .all(|(name, _)| !name.starts_with("x-auth-") && !name.ends_with("-user"))
    };
    held.upstream.iter().all(nobody) && (public || held.upstream.is_empty())
}

/// What the case says must never be, and holds for every spelling.
fn never(expected: &Expected, record: &Record) -> Vec<String> {
    let mut failures = Vec::new();
    for seen in &record.upstream {
        let fields = seen.fields();
        for value in expected
            .up_no_value
            .iter()
            .filter(|v| !v.is_empty() && !v.contains("${"))
        {
            if let Some((name, value)) = fields
                .iter()
                .find(|(n, v)| n.contains(value) || v.contains(value))
            {
                failures.push(format!("the upstream got {name}: {value}"));
            }
        }
        for name in &expected.up_absent {
            if let Some((name, _)) = fields
                .iter()
                .find(|(n, _)| expect::fold(n) == expect::fold(name))
            {
                failures.push(format!("the upstream got {name}"));
            }
        }
        if seen.garbage {
            failures.push("the upstream got bytes that are no request".to_owned());
        }
    }
    failures
}
