//! Holds what came of a case against what it expects.

use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::case::Case;
use crate::case::Expected;
use crate::case::Holds;
use crate::case::Pattern;
use crate::case::Relation;
use crate::run::Course;
use crate::run::Record;
use crate::run::Runner;
use crate::run::Stop;
use crate::run::pattern;
use crate::wire::Answer;
use crate::world::upstream::Seen;

/// Begins failures that a busy machine may cause.
pub(crate) const SLOW: &str = "too slow: ";

/// What the answer at `index` must be.
pub(crate) fn of(case: &Case, index: usize) -> Expected {
    let Some(reading) = &case.reading else {
        return case.expected.clone();
    };
    let all = reading
        .all
        .as_ref()
        .map_or_else(|| case.expected.clone(), |all| case.expected.with(all));
    reading
        .each
        .get(index)
        .map_or(all.clone(), |each| all.with(each))
}

/// Whether a machine can check anything.
pub(crate) fn can_judge(case: &Case) -> bool {
    let read = case.reading.as_ref();
    let read = read.is_some_and(|r| {
        r.upstream.is_some() || r.one_status || r.all.is_some() || !r.each.is_empty()
    });
    read || !case.expected.is_only_text()
}

/// Everything that does not hold.
pub(crate) async fn judge(
    runner: &mut Runner,
    case: &Case,
    course: &mut Course,
) -> Result<Vec<String>, Stop> {
    let mut failures = Vec::new();
    let records = std::mem::take(&mut course.records);
    for (index, record) in records.iter().enumerate() {
        let expected = filled(runner, &of(case, index), course).await?;
        let found = one(runner, &expected, record)?;
        failures.extend(
            found
                .into_iter()
                .map(|why| format!("[{}] {}: {why}", index + 1, record.label)),
        );
    }
    if let Some(reading) = &case.reading {
        let expected = reading.each.len();
        if 0 < expected && expected != records.len() {
            failures.push(format!(
                "{} answers where the reading has {expected}",
                records.len()
            ));
        }
        let statuses: Vec<u16> = records
            .iter()
            .flat_map(|record| &record.outcome.answers)
            .map(|answer| answer.status)
            .collect();
        if reading.one_status && statuses.windows(2).any(|pair| pair[0] != pair[1]) {
            failures.push(format!("the answers differ: {statuses:?}"));
        }
        if let Some(relation) = &reading.upstream {
            failures.extend(related(relation, &records));
        }
    }
    let expected = filled(runner, &of(case, usize::MAX), course).await?;
    failures.extend(providers(runner, &expected, course));
    if let Some(most) = expected.sink_hits {
        let hits = runner.world.sink.hits();
        if hits != most {
            failures.push(format!("{hits} requests reached the sink"));
        }
    }
    if let Some(most) = expected.rss_delta_max_mib {
        let grown = course.memory.1.saturating_sub(course.memory.0) / 1024;
        if most < grown {
            failures.push(format!("memory grew by {grown} MiB, more than {most}"));
        }
    }
    failures.extend(logged(runner, &expected, course).await?);
    course.records = records;
    Ok(failures)
}

/// Values and our names in what is compared.
async fn filled(
    runner: &Runner,
    expected: &Expected,
    course: &mut Course,
) -> Result<Expected, Stop> {
    let mut expected = expected.clone();
    for value in expected
        .up_hdr
        .values_mut()
        .chain(&mut expected.up_no_value)
    {
        *value = course.vars.fill(runner, value).await?;
    }
    for Pattern(text) in expected.log.iter_mut().chain(&mut expected.log_no) {
        if text.contains("${") {
            *text = regex::escape(&course.vars.fill(runner, text).await?);
        }
    }
    Ok(expected)
}

/// One request.
fn one(runner: &Runner, expected: &Expected, record: &Record) -> Result<Vec<String>, Stop> {
    let mut failures = Vec::new();
    let outcome = &record.outcome;
    if let Some(why) = &outcome.failed {
        return Ok(vec![why.clone()]);
    }
    let wants_answer =
        expected.status.is_some() || !expected.resp_hdr.is_empty() || expected.location.is_some();
    if outcome.answers.is_empty() && wants_answer {
        let how = if outcome.closed {
            "closed without an answer"
        } else {
            "no answer"
        };
        failures.push(how.to_owned());
    }
    for answer in &outcome.answers {
        let status = answer.status;
        if let Some(good) = &expected.status
            && !good.contains(&status)
        {
            failures.push(format!("answered {status}, not {good:?}"));
        }
        if expected.not_status.contains(&status) {
            failures.push(format!("answered {status}"));
        }
    }
    for answer in outcome.answers.iter().chain(&record.followed) {
        failures.extend(response(runner, expected, answer)?);
    }
    if let Some(pattern) = &expected.location {
        let pattern = compiled(runner, pattern)?;
        if !outcome
            .answers
            .iter()
            .any(|a| a.all("location").any(|l| pattern.is_match(l)))
        {
            failures.push(format!("no Location matches {pattern}"));
        }
    }
    if expected.closed == Some(true) && !outcome.closed {
        failures.push("the connection stayed open".to_owned());
    }
    if expected.h2_reset == Some(true) && !outcome.reset {
        let status = outcome.answers.first().map(|a| a.status);
        failures.push(format!("no RST_STREAM and no GOAWAY (status {status:?})"));
    }
    if let Some(most) = expected.within_ms {
        let took = outcome.first.unwrap_or(Duration::MAX);
        if Duration::from_millis(most) < took {
            failures.push(format!(
                "{SLOW}answered after {} ms, not {most}",
                took.as_millis()
            ));
        }
    }
    failures.extend(upstream(expected, record));
    Ok(failures)
}

fn response(runner: &Runner, expected: &Expected, answer: &Answer) -> Result<Vec<String>, Stop> {
    let mut failures = Vec::new();
    for (name, pattern) in &expected.resp_hdr {
        let pattern = compiled(runner, pattern)?;
        if !answer
            .all(&name.to_lowercase())
            .any(|value| pattern.is_match(value))
        {
            failures.push(format!("no {name} matches {pattern}"));
        }
    }
    let body = String::from_utf8_lossy(&answer.body);
    for pattern in &expected.body {
        let pattern = compiled(runner, pattern)?;
        if !pattern.is_match(&body) {
            failures.push(format!("the body has no {pattern}"));
        }
    }
    for pattern in &expected.resp_no {
        let pattern = compiled(runner, pattern)?;
        if let Some(found) = pattern.find(&answer.whole()) {
            failures.push(format!("the answer has `{}`", found.as_str()));
        }
    }
    if let Some(pattern) = &expected.location_not {
        let pattern = compiled(runner, pattern)?;
        for location in answer
            .all("location")
            .filter(|location| pattern.is_match(location))
        {
            failures.push(format!("Location is `{location}`"));
        }
    }
    for pattern in &expected.set_cookie {
        let pattern = compiled(runner, pattern)?;
        if !answer
            .all("set-cookie")
            .any(|cookie| pattern.is_match(cookie))
        {
            failures.push(format!("no Set-Cookie matches {pattern}"));
        }
    }
    for pattern in &expected.no_set_cookie {
        let pattern = compiled(runner, pattern)?;
        for cookie in answer
            .all("set-cookie")
            .filter(|cookie| pattern.is_match(cookie))
        {
            failures.push(format!("Set-Cookie is `{cookie}`"));
        }
    }
    Ok(failures)
}

/// What reached the upstream.
fn upstream(expected: &Expected, record: &Record) -> Vec<String> {
    let mut failures = Vec::new();
    let seen = &record.upstream;
    if let Some(hits) = expected.upstream_hits
        && seen.len() != hits
    {
        let lines: Vec<String> = seen.iter().map(Seen::line).collect();
        failures.push(format!(
            "the upstream got {} requests, not {hits}: {lines:?}",
            seen.len()
        ));
    }
    if let Some(most) = expected.upstream_smuggled {
        let meant = record.label.contains("/admin/secrets");
        let smuggled = seen
            .iter()
            .enumerate()
            .filter(|(n, one)| 0 < *n || one.garbage || (!meant && is_smuggled(one)))
            .count();
        if most < smuggled {
            let lines: Vec<String> = seen.iter().map(Seen::line).collect();
            failures.push(format!(
                "{smuggled} requests reached the upstream that nobody meant: {lines:?}"
            ));
        }
    }
    for one in seen {
        let fields = one.fields();
        for (name, value) in &expected.up_hdr {
            let found: Vec<&str> = fields
                .iter()
                .filter(|(n, _)| fold(n) == fold(name))
                .map(|(_, v)| v.as_str())
                .collect();
            if found != [value.as_str()] {
                failures.push(format!(
                    "the upstream got {name} = {found:?}, not `{value}` once"
                ));
            }
        }
        for name in &expected.up_absent {
            if let Some((found, _)) = fields.iter().find(|(n, _)| fold(n) == fold(name)) {
                failures.push(format!("the upstream got {found}"));
            }
        }
        for value in &expected.up_no_value {
            let found = fields
                .iter()
                .find(|(n, v)| !value.is_empty() && (n.contains(value) || v.contains(value)));
            if let Some((name, value)) = found {
                failures.push(format!("the upstream got {name}: {value}"));
            }
        }
    }
    failures
}

/// Carries the mark of the cases, or asks for what they must not get.
fn is_smuggled(one: &Seen) -> bool {
    let line = one.line();
    line.contains("/admin/secrets")
        || one
            .fields()
            .iter()
            .any(|(name, _)| fold(name) == "x-smuggled")
}

/// Lower case; each run of other characters is one `-`; none at the ends. CGI-like upstreams see one name.
pub(crate) fn fold(name: &str) -> String {
    let words: Vec<String> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("-")
}

fn related(relation: &Relation, records: &[Record]) -> Vec<String> {
    let mut failures = Vec::new();
    let mut values: Vec<String> = Vec::new();
    for seen in records.iter().flat_map(|record| &record.upstream) {
        let fields = seen.fields();
        let found = fields
            .into_iter()
            .find(|(name, _)| fold(name) == fold(&relation.header));
        let Some((_, value)) = found else {
            failures.push(format!("the upstream got no {}", relation.header));
            continue;
        };
        if matches!(relation.is, Holds::DistinctAscii)
            && !value.bytes().all(|b| (b' '..=b'~').contains(&b))
        {
            failures.push(format!("{} is not ASCII: {value:?}", relation.header));
        }
        if values.contains(&value) {
            failures.push(format!("two requests have {}: {value}", relation.header));
        }
        values.push(value);
    }
    if values.len() < 2 {
        failures.push("too few requests reached the upstream to compare".to_owned());
    }
    failures
}

/// What the endpoints of the providers counted: a number is for all of them together, a bound for each by itself.
fn providers(runner: &Runner, expected: &Expected, course: &Course) -> Vec<String> {
    let mut failures = Vec::new();
    for (name, limit) in &expected.idp_hits {
        let (whose, endpoint) = name.split_once('.').unwrap_or(("", name));
        let asked: Vec<(&str, Vec<Instant>)> = ["new", "old"]
            .into_iter()
            .filter(|idp| whose.is_empty() || *idp == whose)
            .filter_map(|idp| {
                let hits = runner.world.idp(idp)?.hits(endpoint, course.start);
                Some((idp, hits))
            })
            .collect();
        let all: usize = asked.iter().map(|(_, hits)| hits.len()).sum();
        let bound = limit.as_str().and_then(|text| {
            let found = pattern(r"^<= ?(\d+)(?: in any (\d+) s)?$").captures(text)?;
            let number = |at: usize| found.get(at).and_then(|m| m.as_str().parse::<u64>().ok());
            Some((number(1)?, Duration::from_secs(number(2).unwrap_or(3_600))))
        });
        match (limit.as_u64(), bound) {
            (Some(exact), _) if exact != all as u64 => {
                failures.push(format!("{name} was asked {all} times, not {exact}"));
            }
            (Some(_), _) => {}
            (None, Some((most, window))) => {
                for (idp, hits) in &asked {
                    let worst = worst(hits, window);
                    if most < worst as u64 {
                        failures.push(format!(
                            "{endpoint} of {idp} was asked {worst} times in {} s",
                            window.as_secs()
                        ));
                    }
                }
            }
            (None, None) => failures.push(format!(
                "idp_hits.{name}: `{}` is not understood",
                Value::clone(limit)
            )),
        }
    }
    failures
}

/// The most within any time of this length.
fn worst(hits: &[Instant], window: Duration) -> usize {
    let from = |start: &Instant| {
        let within = |at: &&Instant| start <= *at && **at <= *start + window;
        hits.iter().filter(within).count()
    };
    hits.iter().map(from).max().unwrap_or(0)
}

async fn logged(
    runner: &Runner,
    expected: &Expected,
    course: &Course,
) -> Result<Vec<String>, Stop> {
    let mut failures = Vec::new();
    if expected.log.is_empty() && expected.log_no.is_empty() {
        return Ok(failures);
    }
    let new =
        |runner: &Runner| -> Result<String, Stop> { Ok(runner.target()?.log_since(course.log)) };
    for pattern in &expected.log {
        let pattern = compiled(runner, pattern)?;
        let mut found = false;
        // Lines are written behind the answers.
        for _ in 0..400 {
            found = pattern.is_match(&new(runner)?);
            if found {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        if !found {
            failures.push(format!("no line of the log matches {pattern}"));
        }
    }
    if !expected.log_no.is_empty() {
        sleep(Duration::from_millis(1_200)).await;
    }
    for pattern in &expected.log_no {
        let pattern = compiled(runner, pattern)?;
        if pattern.is_match(&new(runner)?) {
            failures.push(format!("the log has {pattern}"));
        }
    }
    Ok(failures)
}

fn compiled(runner: &Runner, pattern: &Pattern) -> Result<Regex, Stop> {
    let names = runner.names();
    pattern
        .compile(|text| names.ours_in_pattern(text))
        .map_err(Stop::Skip)
}
