//! A million sessions in the embedded store: how soon it is open, after a stop and after a crash, how long it takes to find out
//! whose a cookie is, how much of the disk the file takes, and whether what has expired goes by itself. Each figure is printed as soon
//! as it is known; one above its bound fails the run.
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
const STARTS: usize = 3;
/// Sessions with the tokens of Keycloak are fewer by so much: each takes its share of a page, whatever their number.
const FEWER: usize = 10;
/// Until all people have signed in: a machine that needs longer has other work, and its figures are worth nothing.
const PATIENCE: Duration = Duration::from_mins(5);

const MILLION: u64 = 1_000_000;
const MIB: u64 = 1024 * 1024;
/// A start takes no longer.
const START: Duration = Duration::from_secs(5);
/// Of a hundred look-ups, 99 take no longer.
const LOOK_UP: Duration = Duration::from_millis(1);
/// A million sessions take no more of the disk, and their file is no longer after a stop.
const LARGEST: u64 = 1024 * MIB;
/// A stop takes no longer, whatever it makes of the file.
const STOP: Duration = Duration::from_secs(8);
/// No write waits longer.
const WRITE: Duration = Duration::from_secs(2);

const BEGIN: &str = "<!-- sessions: begin -->\n";
const END: &str = "<!-- sessions: end -->\n";

struct Arguments {
    sessions: usize,
    table: Option<PathBuf>,
}

/// What was found out of one kind of session.
#[derive(Default)]
struct Figures {
    rows: Vec<(&'static str, String, String)>,
    above: Vec<&'static str>,
}

impl Figures {
    fn plain(&mut self, name: &'static str, value: String) {
        self.row(name, String::new(), value);
    }

    fn span(&mut self, name: &'static str, bound: Duration, value: Duration) {
        self.held(name, bound < value);
        self.row(name, written(bound), written(value));
    }

    /// What a million takes, or would take. Tokens are as long as their provider makes them: no bound is ours to give.
    fn disk(&mut self, name: &'static str, size: Size, value: u64) {
        match size {
            Size::Small => {
                self.held(name, LARGEST < value);
                self.row(name, mib(LARGEST), mib(value));
            }
            Size::Keycloak => self.plain(name, mib(value)),
        }
    }

    fn held(&mut self, name: &'static str, above: bool) {
        self.above.extend(above.then_some(name));
    }

    fn row(&mut self, name: &'static str, bound: String, value: String) {
        println!("  {name:<64} {value:>12}   {bound}");
        self.rows.push((name, bound, value));
    }
}

fn main() -> Result<(), Failed> {
    let arguments = arguments()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (many, fewer) = (arguments.sessions, arguments.sessions.div_ceil(FEWER));
    let small = runtime.block_on(measure(many, Size::Small))?;
    let keycloak = runtime.block_on(measure(fewer, Size::Keycloak))?;
    let mut table = format!(
        "| figure | bound | {many} without an ID token | {fewer} with the tokens of Keycloak |\n|---|---|---|---|\n",
    );
    // Where only one of them has a bound, it is that of the first.
    for ((figure, bound, one), (_, _, other)) in small.rows.iter().zip(&keycloak.rows) {
        writeln!(table, "| {figure} | {bound} | {one} | {other} |")?;
    }
    if let Some(path) = &arguments.table {
        write_table(path, &table)?;
    }
    let above = [small.above, keycloak.above].concat();
    if above.is_empty() {
        return Ok(());
    }
    Err(format!("above the bound: {}", above.join(", ")).into())
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

async fn measure(count: usize, size: Size) -> Result<Figures, Failed> {
    let kind = match size {
        Size::Small => "without an ID token",
        Size::Keycloak => "with the tokens of Keycloak",
    };
    println!("{count} sessions {kind}");
    let mut figures = Figures::default();
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("store.redb");
    // A tenth ends within the hour.
    let short = count / 10;
    let (crowd, _) = Crowd::open(&file).await?;
    let step = ((count - short) / LOOKED_UP).max(1);
    let began = tokio::time::Instant::now();
    let filling = tokio::time::timeout(PATIENCE, crowd.fill((count, short), size, step));
    let Ok(cookies) = filling.await else {
        return Err("the sessions are not there in time: the machine has other work".into());
    };
    let cookies = cookies?;
    let filled = began.elapsed();
    figures.plain(
        "sessions made in a second, durably",
        format!("{:.0}", count as f64 / filled.as_secs_f64()),
    );
    // What is not on the disk are holes.
    let (running, long) = disk(&file)?;
    let each = |bytes: u64| bytes / count.max(1) as u64;
    figures.disk(
        "a million on the disk while it runs",
        size,
        each(running) * MILLION,
    );
    // No bound: it grows by a fixed length, which is much for a trial with few sessions.
    figures.plain(
        "how long the file of a million is while it runs, with its holes",
        mib(each(long) * MILLION),
    );
    figures.plain("bytes of a session on it", each(running).to_string());
    // As a crash leaves it: the file of a running process, copied without its memory.
    let crashed = directory.path().join("crashed.redb");
    fs::copy(&file, &crashed)?;
    let stops = tokio::time::Instant::now();
    drop(crowd);
    let stopped = stops.elapsed();
    let (closed, length) = disk(&file)?;
    figures.disk(
        "a million on the disk after a stop",
        size,
        each(closed) * MILLION,
    );
    figures.disk(
        "how long the file of a million is after a stop, with its holes",
        size,
        each(length) * MILLION,
    );
    figures.span("a stop", STOP, stopped);
    let people = people(directory.path(), short).await?;
    figures.plain(
        "bytes of a person who is linked and has moved, beside it",
        people.to_string(),
    );
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let (crowd, took) = Crowd::open(&file).await?;
        starts.push(took);
        drop(crowd);
    }
    figures.span("start after a stop, median", START, median(starts));
    let mut starts = Vec::new();
    for n in 0..STARTS {
        let copy = directory.path().join(format!("crashed-{n}.redb"));
        fs::copy(&crashed, &copy)?;
        let (crowd, took) = Crowd::open(&copy).await?;
        starts.push(took);
        drop(crowd);
        fs::remove_file(&copy)?;
    }
    figures.span("start after a crash, median", START, median(starts));
    let (crowd, _) = Crowd::open(&file).await?;
    let mut looked = crowd.look_up(&shuffled(cookies)).await?;
    looked.sort_unstable();
    figures.plain("look-up, median", written(share(&looked, 50)));
    figures.span("look-up, p99", LOOK_UP, share(&looked, 99));
    let (gone, took, waited) = crowd.expire().await?;
    let rows_each = gone.checked_div(short).unwrap_or_default();
    figures.plain("rows of a session", rows_each.to_string());
    figures.held("a tenth of them expires", gone < short);
    figures.plain(
        "a tenth of them expires: all rows gone after",
        written(took),
    );
    figures.span("the longest wait of a write meanwhile", WRITE, waited);
    Ok(figures)
}

/// What a file takes of the disk, and how long it is.
fn disk(file: &Path) -> Result<(u64, u64), Failed> {
    let metadata = fs::metadata(file)?;
    Ok((metadata.blocks() * 512, metadata.len()))
}

/// The bytes of one of so many people: links and pins.
async fn people(directory: &Path, count: usize) -> Result<u64, Failed> {
    let file = directory.join("people.redb");
    let (crowd, _) = Crowd::open(&file).await?;
    crowd.acquaint(count).await?;
    drop(crowd);
    let (bytes, _) = disk(&file)?;
    fs::remove_file(&file)?;
    Ok(bytes / count.max(1) as u64)
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
    format!("{} MiB", bytes.div_ceil(MIB))
}

fn written(span: Duration) -> String {
    match span.as_micros() {
        micros @ ..10_000 => format!("{micros} µs"),
        micros => format!("{} ms", micros / 1_000),
    }
}

fn write_table(path: &Path, table: &str) -> Result<(), Failed> {
    let text = fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("the table has no place")?;
    let (_, after) = rest.split_once(END).ok_or("the table has no end")?;
    fs::write(path, format!("{before}{BEGIN}{table}{END}{after}"))?;
    Ok(())
}
