//! The certificate of the program is replaced, well or badly, while somebody keeps a connection.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::ops::counted;
use crate::ops::metrics;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::wire::Stream;
use crate::world::pki::Flaw;

pub(super) async fn certificate(
    runner: &mut Runner,
    words: &str,
    course: &mut Course,
) -> Result<(), Stop> {
    let pki = &runner.world.pki;
    let directory = runner.target()?.directory().to_path_buf();
    let (certificate, key) = (directory.join("tls.pem"), directory.join("tls.key"));
    let wire = runner.world.public(runner.target()?);
    let before = wire.certificate().await.map_err(Stop::Fail)?;
    // Somebody has a connection already, and keeps it.
    let mut kept = wire.connect(b"http/1.1").await.map_err(Stop::Fail)?;
    let served = async |stream: &mut dyn Stream| -> bool {
        let request = b"GET /public/x HTTP/1.1\r\nHost: app.test\r\n\r\n";
        let mut answer = [0; 12];
        let asked = stream.write_all(request).await.is_ok() && stream.flush().await.is_ok();
        let answered = timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await;
        // The rest of it is what the upstream says.
        let mut rest = [0; 8_192];
        drop(timeout(Duration::from_millis(200), stream.read(&mut rest)).await);
        asked && matches!(answered, Ok(Ok(_))) && answer == *b"HTTP/1.1 200"
    };
    if !served(&mut *kept).await {
        return Err(Stop::Fail("the first connection is not served".to_owned()));
    }
    let put = |path: &std::path::Path, text: &str| -> Result<(), Stop> {
        let beside = path.with_extension("new");
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, path))
            .map_err(|e| Stop::Fail(e.to_string()))
    };
    let (new, new_key) = pki.pair(Flaw::None);
    let (other, _) = pki.pair(Flaw::None);
    let (old, old_key) = pki.pair(Flaw::Expired);
    let expected = match words {
        "atomically" => {
            put(&key, &new_key)?;
            put(&certificate, &new)?;
            true
        }
        "in place, the key first" => {
            let write = |path: &std::path::Path, text: &str| {
                std::fs::write(path, text).map_err(|e| Stop::Fail(e.to_string()))
            };
            write(&key, &new_key)?;
            sleep(Duration::from_millis(300)).await;
            write(&certificate, &new)?;
            true
        }
        "with a mismatched pair" => {
            put(&key, &new_key)?;
            put(&certificate, &other)?;
            false
        }
        "with an expired certificate" => {
            put(&key, &old_key)?;
            put(&certificate, &old)?;
            false
        }
        _ => return Err(Stop::Skip(format!("not understood: {words}"))),
    };
    let start = Instant::now();
    let mut changed = false;
    while start.elapsed() < Duration::from_secs(5) && !changed {
        sleep(Duration::from_millis(100)).await;
        changed = match wire.certificate().await {
            Ok(now) => now != before,
            Err(why) => {
                course.findings.push(format!("{words}: {why}"));
                return Ok(());
            }
        };
    }
    if !served(&mut *kept).await {
        course
            .findings
            .push(format!("{words}: a connection that was open is not served"));
    }
    // When it ends is known long before.
    let expiry = "authferry_certificate_expiry_timestamp_seconds{";
    let ends = counted(&metrics(runner).await?, expiry);
    if ends < crate::now() as f64 {
        course
            .findings
            .push(format!("{words}: it is said to end at {ends}"));
    }
    let took = start.elapsed().as_millis();
    course.measured.push(if changed {
        format!("{words}: served after {took} ms")
    } else {
        format!("{words}: not served within {took} ms")
    });
    if changed != expected {
        let how = if changed {
            "another certificate is served"
        } else {
            "the old certificate is still served after 5 s"
        };
        course.findings.push(format!("{words}: {how}"));
    }
    Ok(())
}
