//! The thread on which second opinions are asked for: it steps back whenever somebody who serves requests wants the processor.

use std::io;
use std::thread;

use tokio::runtime::Builder;
use tracing::warn;

/// How far it steps back (nice(2)). Whoever serves requests goes first as soon as they are ready; while all processors are busy
/// with them all the time, about a tenth of one is left for this, so that what it holds for a moment is never held for long.
const NICE: i32 = 10;

/// Does the work on a thread of its own, for as long as it takes.
///
/// # Errors
///
/// When there is no thread to be had.
pub(super) fn start(work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("shadow".to_owned())
        .spawn(move || {
            // On Linux this is the thread's own, and not that of the process (setpriority(2)).
            if let Err(error) = rustix::process::nice(NICE) {
                warn!(%error, "Second opinions are asked for as if they were requests.");
            }
            runtime.block_on(work);
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn whoever_asks_steps_back_and_nobody_else_does() {
        let before = getpriority_process(None).unwrap();
        let (tell, told) = oneshot::channel();
        start(async move {
            // What it begins there steps back as well.
            let begun = tokio::spawn(async { getpriority_process(None).unwrap() });
            let own = getpriority_process(None).unwrap();
            let name = thread::current().name().map(str::to_owned);
            tell.send((name, own, begun.await.unwrap())).unwrap();
        })
        .unwrap();
        let (name, own, begun) = told.await.unwrap();
        assert_eq!(name.as_deref(), Some("shadow"));
        assert_eq!((own, begun), ((before + NICE).min(19), own));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
