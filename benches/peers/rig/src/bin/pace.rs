//! Requests that come when they are due, whatever the proxy does: Poisson arrivals at a fixed rate, latency counted from the
//! moment a request was due. A closed loop would wait for a slow proxy and hide what it waited for.
//!
//! ```text
//! pace 127.0.0.1:8080 RATE SECONDS CONNECTIONS SEED < HEADS
//! ```
//!
//! The heads of the requests come on standard input, one after the other, and are sent in turn. Prints one line of JSON;
//! latencies are in microseconds. `good` are the answers with 200 that came within the time; `refused` those with 503, whose
//! latency counts from the moment they were sent. What has not been sent three seconds after the end is left. A connection that
//! the proxy closed is opened again.

use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::event::epoll::EventData;
use rustix::event::epoll::EventFlags;

struct Line {
    stream: TcpStream,
    due: Duration,
    sent: Duration,
    busy: bool,
    read: Vec<u8>,
}

/// Whether an answer is there wholly. Each has a length.
fn whole(read: &[u8]) -> bool {
    let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(read.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|n| n.trim().parse::<usize>().ok()).unwrap_or(0);
    end + 4 + length <= read.len()
}

/// xorshift64*, which is random enough for arrivals.
struct Lots(u64);

impl Lots {
    /// Above 0, at most 1.
    fn draw(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        (bits as f64 + 1.0) / (1_u64 << 53) as f64
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [address, rate, seconds, connections, seed] = args.as_slice() else {
        return Err("usage: pace ADDRESS RATE SECONDS CONNECTIONS SEED < HEADS".into());
    };
    let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
    let mut heads = String::new();
    io::stdin().read_to_string(&mut heads)?;
    let heads: Vec<&str> = heads.split_inclusive("\r\n\r\n").collect();
    let mut heads = heads.iter().cycle();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let open = |n: usize| -> Result<TcpStream, Box<dyn Error>> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, &stream, EventData::new_u64(n as u64), EventFlags::IN)?;
        Ok(stream)
    };
    let mut lines = Vec::new();
    for n in 0..connections.parse::<usize>()? {
        lines.push(Line { stream: open(n)?, due: Duration::ZERO, sent: Duration::ZERO, busy: false, read: Vec::new() });
    }
    let mut lots = Lots(seed.parse::<u64>()? | 1);
    let (mut free, mut waiting, mut latencies) = ((0..lines.len()).collect::<Vec<_>>(), VecDeque::new(), Vec::new());
    let mut refusals = Vec::new();
    let (began, end, mut next) = (Instant::now(), Duration::from_secs_f64(seconds), Duration::ZERO);
    let (mut bad, mut good, mut closed) = (0_u64, 0_u64, 0_u64);
    let mut events = Vec::with_capacity(256);
    let mut piece = [0; 4096];
    loop {
        let now = began.elapsed();
        while next <= now && next < end {
            waiting.push_back(next);
            next += Duration::from_secs_f64(-lots.draw().ln() / rate);
        }
        while let (Some(due), Some(n)) = (waiting.front(), free.last()) {
            let line = lines.get_mut(*n).ok_or("a line")?;
            (line.due, line.sent, line.busy) = (*due, began.elapsed(), true);
            // A connection that has just been closed is found out when it is read.
            drop(line.stream.write_all(heads.next().ok_or("a head")?.as_bytes()));
            waiting.pop_front();
            free.pop();
        }
        if end + Duration::from_secs(3) < now {
            waiting.clear();
        }
        if end <= now && (waiting.is_empty() && free.len() == lines.len() || end + Duration::from_secs(6) < now) {
            break;
        }
        let patience = if next < end { next.saturating_sub(began.elapsed()) } else { Duration::from_millis(50) };
        let patience = Timespec { tv_sec: 0, tv_nsec: patience.min(Duration::from_millis(900)).as_nanos() as _ };
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&patience))?;
        for event in &events {
            let n = event.data.u64() as usize;
            let line = lines.get_mut(n).ok_or("a line")?;
            let got = line.stream.read(&mut piece).unwrap_or(0);
            line.read.extend_from_slice(piece.get(..got).unwrap_or_default());
            let answered = line.busy && whole(&line.read);
            if answered {
                let now = began.elapsed();
                if line.read.starts_with(b"HTTP/1.1 503 ") {
                    refusals.push((now - line.sent).as_nanos() as f64 / 1e3);
                }
                let well = line.read.starts_with(b"HTTP/1.1 200 ");
                good += u64::from(well && now < end);
                bad += u64::from(!well);
                latencies.push((now - line.due).as_nanos() as f64 / 1e3);
            }
            if got == 0 {
                closed += 1;
                // What it was asked last got no answer.
                bad += u64::from(line.busy && !answered);
                line.stream = open(n)?;
            }
            if line.busy && (answered || got == 0) {
                line.busy = false;
                // What was closed is the last to be tried again, or whoever is turned away would take every turn.
                let at = if got == 0 { 0 } else { free.len() };
                free.insert(at, n);
            }
            if !line.busy {
                line.read.clear();
            }
        }
    }
    refusals.sort_unstable_by(f64::total_cmp);
    latencies.sort_unstable_by(f64::total_cmp);
    let at = |of: &[f64], share: f64| of.get((of.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let lost = lines.len() - free.len();
    println!(
        r#"{{"requests":{},"bad":{},"good":{good},"closed":{closed},"refused":{},"refused_p99":{:.1},"p50":{:.1},"p99":{:.1},"p999":{:.1}}}"#,
        latencies.len(),
        bad + lost as u64,
        refusals.len(),
        at(&refusals, 0.99),
        at(&latencies, 0.5),
        at(&latencies, 0.99),
        at(&latencies, 0.999)
    );
    Ok(())
}
