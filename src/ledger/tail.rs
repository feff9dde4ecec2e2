//! The last records of a ledger, for people who look: read from the end of the file, judged by nobody.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::path::Path;

use serde_json::Value;

/// How much of the file is read, in bytes; longer records are not shown.
const READ: u64 = 256 * 1024;

/// The last records, at most `how_many`, newest last. What is no record is left out: `verify` is who tells of it.
///
/// # Errors
///
/// When the file cannot be read.
pub(crate) fn tail(file: &Path, how_many: usize) -> io::Result<Vec<Value>> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(READ);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(READ).read_to_end(&mut bytes)?;
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // Behind the last end of a line is a record that is being written, or nothing; before the first, half of one.
    lines.pop();
    if 0 < from && !lines.is_empty() {
        lines.remove(0);
    }
    let records = lines
        .iter()
        .filter_map(|line| serde_json::from_slice(line).ok());
    let mut records: Vec<Value> = records.collect();
    Ok(records.split_off(records.len().saturating_sub(how_many)))
}

/// The records from a moment on (as `ts` says it), newest last, and whether there were more than the `most` last ones.
///
/// # Errors
///
/// When the file cannot be read.
pub(crate) fn since(file: &Path, moment: &str, most: usize) -> io::Result<(Vec<Value>, bool)> {
    let (mut kept, mut more) = (VecDeque::new(), false);
    for line in BufReader::new(File::open(file)?).lines() {
        // Half a line at the end is being written.
        let Ok(record) = serde_json::from_str::<Value>(&line?) else {
            continue;
        };
        let at = record.get("ts").and_then(Value::as_str);
        if at.is_some_and(|at| moment <= at) {
            kept.push_back(record);
        }
        if most < kept.len() {
            kept.pop_front();
            more = true;
        }
    }
    Ok((kept.into(), more))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn numbers(records: &[Value]) -> Vec<u64> {
        records
            .iter()
            .filter_map(|one| one.get("seq")?.as_u64())
            .collect()
    }

    #[test]
    fn the_last_whole_records_are_read_however_long_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("decisions.jsonl");
        let mut text = String::new();
        for seq in 1..=9_000 {
            writeln!(text, "{{\"kind\":\"kill_switch\",\"seq\":{seq}}}").unwrap();
        }
        assert!(READ < text.len() as u64);
        text.push_str("{\"kind\":\"cut short\",\"seq\":9001");
        std::fs::write(&file, &text).unwrap();
        assert_eq!(numbers(&tail(&file, 3).unwrap()), [8_998, 8_999, 9_000]);
        let all = numbers(&tail(&file, usize::MAX).unwrap());
        assert!(all.len() < 9_000 && all.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        std::fs::write(&file, "no record\n{\"seq\":1}\n").unwrap();
        assert_eq!(numbers(&tail(&file, 3).unwrap()), [1]);
        std::fs::write(&file, "").unwrap();
        assert!(tail(&file, 3).unwrap().is_empty());
        assert!(tail(&directory.path().join("none"), 3).is_err());
    }

    #[test]
    fn records_from_a_moment_on_are_read_and_no_more_than_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("decisions.jsonl");
        let line = |day: u32, seq: u32| {
            format!("{{\"ts\":\"2026-03-0{day}T11:20:31.004Z\",\"seq\":{seq}}}\n")
        };
        let text: String = (1..=4).map(|n| line(n, n)).collect();
        std::fs::write(&file, text + "{\"ts\":\"2026-03-05T1").unwrap();
        let read = |moment: &str, most| {
            let (records, more) = since(&file, moment, most).unwrap();
            (numbers(&records), more)
        };
        assert_eq!(read("", 9), (vec![1, 2, 3, 4], false));
        assert_eq!(read("2026-03-03T00:00:00Z", 9), (vec![3, 4], false));
        assert_eq!(read("", 2), (vec![3, 4], true));
    }
}
