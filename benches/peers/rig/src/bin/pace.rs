//! Requests that come when they are due, whatever the proxy does: Poisson arrivals at a fixed rate, latency counted from the
//! moment a request was due. A closed loop would wait for a slow proxy and hide what it waited for.
//!
//! ```text
//! pace 127.0.0.1:8080 RATE SECONDS CONNECTIONS SEED < HEAD
//! ```
//!
//! The head of the request comes on standard input. Prints one line of JSON; latencies are in microseconds.

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

/// Every answer ends with it.
const END: &[u8] = b"uuuuuuuu";

struct Line {
    stream: TcpStream,
    due: Duration,
    read: Vec<u8>,
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
        return Err("usage: pace ADDRESS RATE SECONDS CONNECTIONS SEED < HEAD".into());
    };
    let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
    let mut head = Vec::new();
    io::stdin().read_to_end(&mut head)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut lines = Vec::new();
    for n in 0..connections.parse::<usize>()? {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, &stream, EventData::new_u64(n as u64), EventFlags::IN)?;
        lines.push(Line { stream, due: Duration::ZERO, read: Vec::new() });
    }
    let mut lots = Lots(seed.parse::<u64>()? | 1);
    let (mut free, mut waiting, mut latencies) = ((0..lines.len()).collect::<Vec<_>>(), VecDeque::new(), Vec::new());
    let (began, end, mut next) = (Instant::now(), Duration::from_secs_f64(seconds), Duration::ZERO);
    let mut bad = 0_u64;
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
            line.due = *due;
            line.stream.write_all(&head)?;
            waiting.pop_front();
            free.pop();
        }
        if end <= now && waiting.is_empty() && (free.len() == lines.len() || end + Duration::from_secs(3) < now) {
            break;
        }
        let patience = if next < end { next.saturating_sub(began.elapsed()) } else { Duration::from_millis(50) };
        let patience = Timespec { tv_sec: 0, tv_nsec: patience.min(Duration::from_millis(900)).as_nanos() as _ };
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&patience))?;
        for event in &events {
            let n = event.data.u64() as usize;
            let line = lines.get_mut(n).ok_or("a line")?;
            let got = line.stream.read(&mut piece)?;
            if got == 0 {
                return Err("the proxy closed a connection".into());
            }
            line.read.extend_from_slice(piece.get(..got).unwrap_or_default());
            if line.read.ends_with(END) {
                bad += u64::from(!line.read.starts_with(b"HTTP/1.1 200 "));
                latencies.push((began.elapsed() - line.due).as_nanos() as f64 / 1e3);
                line.read.clear();
                free.push(n);
            }
        }
    }
    latencies.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    let lost = lines.len() - free.len();
    println!(
        r#"{{"requests":{},"bad":{},"p50":{:.1},"p99":{:.1},"p999":{:.1}}}"#,
        latencies.len(),
        bad + lost as u64,
        at(0.5),
        at(0.99),
        at(0.999)
    );
    Ok(())
}
