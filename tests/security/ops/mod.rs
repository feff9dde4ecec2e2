//! Steps for the harness, by their words. `README.md` lists them.

mod disk;
mod flood;
mod keys;
mod load;
mod login;
mod process;
mod second;
mod store;
mod swap;
mod tls;
mod upstream;
mod words;

use std::time::Duration;

use tokio::time::sleep;

use crate::case::Case;
use crate::case::Entry;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::run::pattern;
use crate::wire::Wire;
use crate::wire::h1;

/// What a step does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Op {
    /// What it says happens when its result is first needed.
    Nothing,
    Wait,
    Upstream(upstream::Op),
    Keys(keys::Op),
    Login(login::Op),
    Process(process::Op),
    Flood(flood::Op),
    Load(load::Op),
    Second(second::Op),
    Swap(swap::Op),
    Store(store::Op),
    Tls(tls::Op),
    Disk(disk::Op),
}

fn find(step: &str) -> Option<(Op, Vec<String>)> {
    words::OPS.iter().find_map(|(words_of, op)| {
        let found = pattern(words_of).captures(step)?;
        let groups = found
            .iter()
            .skip(1)
            .map(|group| group.map_or("", |m| m.as_str()).to_owned());
        Some((*op, groups.collect()))
    })
}

/// Why a step cannot be performed.
pub(crate) fn cannot(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Op(words) if find(words).is_none() => Some(format!("step not understood: {words}")),
        Entry::Repeat(repeat) => cannot(&repeat.step),
        Entry::Op(_) | Entry::H1(_) | Entry::H2(_) => None,
    }
}

/// Whether a step judges what it does by itself.
pub(crate) fn judges(entry: &Entry) -> bool {
    let Entry::Op(words) = entry else {
        return false;
    };
    matches!(
        find(words),
        Some((
            Op::Process(
                process::Op::Refused
                    | process::Op::ReloadRefused
                    | process::Op::Term
                    | process::Op::Reloads
                    | process::Op::Flip
                    | process::Op::Certificate
                    | process::Op::Descriptors
            ) | Op::Login(
                login::Op::Fixation
                    | login::Op::Tabs
                    | login::Op::Spoil
                    | login::Op::Purpose
                    | login::Op::Absolute
                    | login::Op::WebSocket
            ) | Op::Keys(keys::Op::Rotation | keys::Op::LegacyAsked)
                | Op::Swap(_)
                | Op::Load(_)
                | Op::Second(_)
                | Op::Disk(disk::Op::UntilFull | disk::Op::Crashes)
                | Op::Tls(
                    tls::Op::NoName
                        | tls::Op::Resume
                        | tls::Op::ResumeOther
                        | tls::Op::Pieces
                        | tls::Op::Bound
                        | tls::Op::Names
                )
                | Op::Store(
                    store::Op::AtOnce | store::Op::Ready | store::Op::Until | store::Op::Traffic
                )
                | Op::Flood(
                    flood::Op::OldTls
                        | flood::Op::Borders
                        | flood::Op::SlowHead
                        | flood::Op::HalfPreface
                        | flood::Op::Silent
                        | flood::Op::SlowBody
                )
                | Op::Upstream(upstream::Op::IdleRace | upstream::Op::Stream),
            _
        ))
    )
}

/// Whether a step is long, or leaves nothing behind that a request could be sent to in another spelling.
pub(crate) fn is_an_ordeal(entry: &Entry) -> bool {
    let words = match entry {
        Entry::Op(words) => words,
        Entry::Repeat(repeat) => return is_an_ordeal(&repeat.step),
        Entry::H1(_) | Entry::H2(_) => return false,
    };
    match find(words) {
        Some((Op::Process(op), _)) => !matches!(
            op,
            process::Op::Again
                | process::Op::Fresh
                | process::Op::Reload
                | process::Op::Replaced
                | process::Op::ReloadRefused
                | process::Op::Revoke
        ),
        Some((Op::Keys(op), _)) => matches!(op, keys::Op::Refetch | keys::Op::Rotation),
        Some((Op::Upstream(op), _)) => {
            matches!(op, upstream::Op::IdleRace | upstream::Op::Stream)
        }
        Some((Op::Store(op), _)) => matches!(op, store::Op::Traffic | store::Op::AtOnce),
        Some((Op::Login(op), _)) => matches!(
            op,
            login::Op::Spoil | login::Op::Absolute | login::Op::WebSocket
        ),
        Some((Op::Nothing | Op::Wait, _)) => false,
        Some((
            Op::Flood(_) | Op::Load(_) | Op::Second(_) | Op::Swap(_) | Op::Tls(_) | Op::Disk(_),
            _,
        ))
        | None => true,
    }
}

/// Whether a case ends the process on purpose.
pub(crate) fn ends_the_process(case: &Case) -> bool {
    case.steps().iter().any(|entry| match entry {
        Entry::Op(words) => matches!(
            find(words),
            Some((Op::Process(process::Op::Term | process::Op::Refused), _))
        ),
        Entry::H1(_) | Entry::H2(_) | Entry::Repeat(_) => false,
    })
}

/// Performs a step.
pub(crate) async fn perform(
    runner: &mut Runner,
    words: &str,
    case: &Case,
    course: &mut Course,
) -> Result<(), Stop> {
    let (op, arguments) =
        find(words).ok_or_else(|| Stop::Skip(format!("step not understood: {words}")))?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match op {
        Op::Nothing => {}
        Op::Wait => {
            let unit = if arguments[1] == "s" { 1_000 } else { 1 };
            sleep(Duration::from_millis(number(arguments[0]) * unit)).await;
        }
        Op::Upstream(op) => upstream::perform(op, runner, &arguments, course).await?,
        Op::Keys(op) => keys::perform(op, runner, &arguments, course).await?,
        Op::Login(op) => login::perform(op, runner, &arguments, case, course).await?,
        Op::Process(op) => process::perform(op, runner, &arguments, course).await?,
        Op::Flood(op) => flood::perform(op, runner, &arguments, course).await?,
        Op::Swap(op) => swap::perform(op, runner, &arguments, course).await?,
        Op::Load(op) => load::perform(op, runner, &arguments, course).await?,
        Op::Second(op) => second::perform(op, runner, course).await?,
        Op::Tls(op) => tls::perform(op, runner, &arguments, course).await?,
        Op::Disk(op) => disk::perform(op, runner, &arguments, course).await?,
        Op::Store(op) => store::perform(op, runner, &arguments, course).await?,
    }
    Ok(())
}

pub(crate) use disk::Disk;
pub(crate) use keys::fault;
pub(crate) use store::Shared;

/// How long a case may take by what it does: what people rely on while a store is away ends after half a minute.
pub(crate) fn limit(case: &Case) -> Duration {
    let longest = |entry: &Entry| match entry {
        Entry::Op(words) => match find(words) {
            Some((Op::Store(_) | Op::Disk(_), _)) => 90,
            Some((
                Op::Load(_)
                | Op::Swap(swap::Op::Bleed)
                | Op::Second(_)
                | Op::Keys(keys::Op::Refetch | keys::Op::Rotation)
                | Op::Flood(flood::Op::Silent),
                _,
            )) => 45,
            Some(_) | None => 20,
        },
        Entry::H1(_) | Entry::H2(_) | Entry::Repeat(_) => 20,
    };
    let longest = case.steps().iter().map(longest).max();
    Duration::from_secs(longest.unwrap_or(20))
}

/// Everything that is counted, as operators read it.
async fn metrics(runner: &Runner) -> Result<String, Stop> {
    let to = runner.target()?.admin;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let wire = Wire { to, tls: None };
    let outcome = h1::send(&wire, request.as_bytes(), h1::Wish::default()).await;
    let answer = outcome.answers.first();
    let answer = answer.filter(|answer| answer.status == 200);
    let answer = answer.ok_or_else(|| Stop::Fail("no metrics".to_owned()))?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// The sum of all series whose line begins so.
fn counted(metrics: &str, series: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(series));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// A number of a step.
fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}
