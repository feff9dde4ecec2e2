//! A step that is performed many times.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Course;
use super::Record;
use super::Runner;
use super::Stop;
use super::label;
use crate::case::Case;
use crate::case::Entry;
use crate::case::Repeat;
use crate::wire::h1;

/// The longest time for a step that is repeated.
const REPEAT: Duration = Duration::from_secs(10);

impl Runner {
    /// Many of a step, as fast as it says, on a few connections that stay open; what does not fit into the time is left.
    pub(super) async fn repeat(
        &mut self,
        repeat: &Repeat,
        case: &Case,
        course: &mut Course,
    ) -> Result<(), Stop> {
        let rate: f64 = repeat
            .rate
            .as_deref()
            .and_then(|rate| rate.strip_suffix("/s")?.parse().ok())
            .unwrap_or(1_000.0);
        let Entry::H1(text) = &*repeat.step else {
            return self.repeat_slowly(repeat, rate, case, course).await;
        };
        let start = Instant::now();
        let end = start + REPEAT;
        let wire = self.wire(text)?;
        let mut lines: Vec<h1::Line> = (0..8).map(|_| h1::Line::new(wire.clone())).collect();
        let mut counts: BTreeMap<u16, (u64, Record)> = BTreeMap::new();
        let mut done = 0;
        while done < repeat.n && Instant::now() < end {
            // Some values are new for each request.
            let batch = (repeat.n - done).min(lines.len() as u64);
            let mut all = Vec::new();
            for _ in 0..batch {
                all.push(self.bytes(text, course).await?);
            }
            let asks = lines
                .iter_mut()
                .zip(&all)
                .map(|(line, bytes)| line.ask(bytes));
            for outcome in futures_util::future::join_all(asks).await {
                let status = outcome.answers.first().map_or(0, |answer| answer.status);
                let first = outcome.first;
                let record = Record {
                    label: label(text),
                    outcome,
                    ..Record::default()
                };
                let (count, kept) = counts.entry(status).or_insert((0, record));
                *count += 1;
                // The slowest counts for all.
                kept.outcome.first = kept.outcome.first.max(first);
            }
            done += batch;
            let due = start + Duration::from_secs_f64(done as f64 / rate);
            tokio::time::sleep_until(due.min(end)).await;
            let now = self.target()?.rss().unwrap_or(0);
            course.memory.1 = course.memory.1.max(now);
        }
        for (count, mut record) in counts.into_values() {
            record.label = format!("{} ({count} of {} times)", record.label, repeat.n);
            course.records.push(record);
        }
        Ok(())
    }
    /// Many of a step that is not one request of HTTP/1.1: one after another; the last answer of each status is kept.
    async fn repeat_slowly(
        &mut self,
        repeat: &Repeat,
        rate: f64,
        case: &Case,
        course: &mut Course,
    ) -> Result<(), Stop> {
        let (start, first) = (Instant::now(), course.records.len());
        let mut done = 0;
        while done < repeat.n && start.elapsed() < REPEAT {
            self.step(&repeat.step, case, course).await?;
            done += 1;
            let due = start + Duration::from_secs_f64(done as f64 / rate);
            tokio::time::sleep_until(due.min(start + REPEAT)).await;
            let new = course.records.split_off(first);
            let status = |record: &Record| record.outcome.answers.first().map(|a| a.status);
            let mut kept: Vec<Record> = Vec::new();
            for record in new {
                match kept.iter_mut().find(|one| status(one) == status(&record)) {
                    Some(one) => *one = record,
                    None => kept.push(record),
                }
            }
            course.records.append(&mut kept);
        }
        Ok(())
    }
}
