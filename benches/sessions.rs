//! A million sessions in the embedded store: how soon it is open, after a stop and after a crash, how long it takes to find out
//! whose a cookie is, how large the file is, and whether what has expired goes by itself.
//!
//! ```text
//! make bench-sessions SESSIONS=100000
//! ```

#![expect(
    clippy::print_stdout,
    reason = "this program exists to print its table"
)]

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use authferry::bench::Crowd;
use authferry::bench::Size;

type Failed = Box<dyn Error>;

/// Cookies that are looked up.
const LOOKED_UP: usize = 50_000;
/// Starts of each kind.
const STARTS: usize = 5;

const BEGIN: &str = "<!-- sessions: begin -->\n";
const END: &str = "<!-- sessions: end -->\n";

struct Arguments {
    sessions: usize,
    table: Option<PathBuf>,
}

fn main() -> Result<(), Failed> {
    let arguments = arguments()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut table = String::from(
        "| figure | bound | small sessions | with the tokens of Keycloak |\n|---|---|---|---|\n",
    );
    let small = runtime.block_on(measure(arguments.sessions, Size::Small))?;
    let keycloak = runtime.block_on(measure(arguments.sessions, Size::Keycloak))?;
    for ((figure, bound, one), (_, _, other)) in small.iter().zip(&keycloak) {
        writeln!(table, "| {figure} | {bound} | {one} | {other} |")?;
    }
    println!("{} sessions\n\n{table}", arguments.sessions);
    if let Some(path) = &arguments.table {
        write_table(path, &table)?;
    }
    Ok(())
}

fn arguments() -> Result<Arguments, Failed> {
    let mut arguments = Arguments {
        sessions: 1_000_000,
        table: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        match name.as_str() {
            "--sessions" => {
                let count = given.next().ok_or("--sessions COUNT")?;
                arguments.sessions = count.parse()?;
            }
            "--table" => arguments.table = given.next().map(PathBuf::from),
            // What cargo says to every bench.
            "--bench" => {}
            other => return Err(format!("{other} is unknown").into()),
        }
    }
    Ok(arguments)
}

async fn measure(
    count: usize,
    size: Size,
) -> Result<Vec<(&'static str, &'static str, String)>, Failed> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("store.redb");
    // A tenth ends within the hour.
    let short = count / 10;
    let (crowd, _) = Crowd::open(&file).await?;
    let step = ((count - short) / LOOKED_UP).max(1);
    let began = tokio::time::Instant::now();
    let cookies = crowd.fill((count, short), size, step).await?;
    let filled = began.elapsed();
    // As a crash leaves it: the file of a running process, copied without its memory.
    let crashed = directory.path().join("crashed.redb");
    fs::copy(&file, &crashed)?;
    // A running file is longer than what it holds: the rest is not on the disk.
    let running = fs::metadata(&file)?.blocks() * 512;
    drop(crowd);
    let closed = fs::metadata(&file)?.len();
    let people = people(directory.path(), short).await?;
    let mut after_a_stop = Vec::new();
    for _ in 0..STARTS {
        let (crowd, took) = Crowd::open(&file).await?;
        after_a_stop.push(took);
        drop(crowd);
    }
    let mut after_a_crash = Vec::new();
    for n in 0..STARTS {
        let copy = directory.path().join(format!("crashed-{n}.redb"));
        fs::copy(&crashed, &copy)?;
        let (crowd, took) = Crowd::open(&copy).await?;
        after_a_crash.push(took);
        drop(crowd);
        fs::remove_file(&copy)?;
    }
    let (crowd, _) = Crowd::open(&file).await?;
    let mut looked = crowd.look_up(&shuffled(cookies)).await?;
    looked.sort_unstable();
    let (gone, took, waited) = crowd.expire().await?;
    let rows_each = gone.checked_div(short).unwrap_or_default();
    Ok(vec![
        (
            "start after a stop, median",
            "5 s",
            millis(median(after_a_stop)),
        ),
        (
            "start after a crash, median",
            "5 s",
            millis(median(after_a_crash)),
        ),
        ("look-up, median", "", micros(share(&looked, 50))),
        ("look-up, p99", "1 ms", micros(share(&looked, 99))),
        ("the file on the disk while it runs", "1 GiB", mib(running)),
        ("the file after a stop", "1 GiB", mib(closed)),
        (
            "bytes of a session in it",
            "1,073",
            (closed / count.max(1) as u64).to_string(),
        ),
        (
            "bytes of a person who is linked and has moved, beside it",
            "",
            people.to_string(),
        ),
        ("rows of a session", "", rows_each.to_string()),
        (
            "a tenth of them expires: all rows gone after",
            "",
            millis(took),
        ),
        (
            "the longest wait of a write meanwhile",
            "2 s",
            millis(waited),
        ),
        (
            "sessions made in a second, durably",
            "",
            format!("{:.0}", count as f64 / filled.as_secs_f64()),
        ),
    ])
}

/// The bytes of one of so many people: links and pins.
async fn people(directory: &Path, count: usize) -> Result<u64, Failed> {
    let file = directory.join("people.redb");
    let (crowd, _) = Crowd::open(&file).await?;
    crowd.acquaint(count).await?;
    drop(crowd);
    let bytes = fs::metadata(&file)?.len() / count.max(1) as u64;
    fs::remove_file(&file)?;
    Ok(bytes)
}

/// In another order, the same each time.
fn shuffled(mut cookies: Vec<String>) -> Vec<String> {
    cookies.sort_unstable();
    cookies
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    share(&all, 50)
}

fn share(sorted: &[Duration], percent: usize) -> Duration {
    let place = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(place).copied().unwrap_or_default()
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}

fn millis(span: Duration) -> String {
    format!("{:.0} ms", span.as_secs_f64() * 1e3)
}

fn micros(span: Duration) -> String {
    format!("{:.0} µs", span.as_secs_f64() * 1e6)
}

fn write_table(path: &Path, table: &str) -> Result<(), Failed> {
    let text = fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("the table has no place")?;
    let (_, after) = rest.split_once(END).ok_or("the table has no end")?;
    fs::write(path, format!("{before}{BEGIN}{table}{END}{after}"))?;
    Ok(())
}
