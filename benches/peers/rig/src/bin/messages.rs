//! WebSocket messages there and back, one under way on each connection.
//!
//! ```text
//! messages 127.0.0.1:8080 SECONDS CONNECTIONS < HEAD
//! ```
//!
//! The head of the handshake comes on standard input. Prints one line of JSON; latencies are in microseconds.

use std::cell::RefCell;
use std::env;
use std::error::Error;
use std::io;
use std::io::Read as _;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::runtime::LocalOptions;
use tokio::task::spawn_local;

/// A masked text message of 64 bytes, and what comes back: two bytes of head and the text.
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
const TEXT: [u8; 64] = [b'm'; 64];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [address, seconds, connections] = args.as_slice() else {
        return Err("usage: messages ADDRESS SECONDS CONNECTIONS < HEAD".into());
    };
    let (end, connections) = (Duration::from_secs_f64(seconds.parse()?), connections.parse::<usize>()?);
    let mut head = Vec::new();
    io::stdin().read_to_end(&mut head)?;
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let failed = runtime.block_on(async {
        let began = Instant::now();
        let tasks: Vec<_> = (0..connections)
            .map(|_| spawn_local(talk(address.clone(), head.clone(), began + end, latencies.clone())))
            .collect();
        let mut failed = 0;
        for task in tasks {
            failed += usize::from(!matches!(task.await, Ok(Ok(()))));
        }
        failed
    });
    let mut latencies = latencies.take();
    latencies.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    println!(
        r#"{{"requests":{},"bad":{failed},"p50":{:.1},"p99":{:.1},"p999":{:.1}}}"#,
        latencies.len(),
        at(0.5),
        at(0.99),
        at(0.999)
    );
    Ok(())
}

async fn talk(address: String, head: Vec<u8>, end: Instant, latencies: Rc<RefCell<Vec<f64>>>) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&head).await?;
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if !read.starts_with(b"HTTP/1.1 101 ") {
        return Err(io::Error::other(String::from_utf8_lossy(&read).into_owned()));
    }
    let mut message = vec![0x81, 0x80 | TEXT.len() as u8];
    message.extend(MASK);
    message.extend(TEXT.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    let mut answer = [0; 2 + TEXT.len()];
    while Instant::now() < end {
        let sent = Instant::now();
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        if !answer.ends_with(&TEXT) {
            return Err(io::Error::other("another message came back"));
        }
        latencies.borrow_mut().push(sent.elapsed().as_nanos() as f64 / 1e3);
    }
    Ok(())
}
