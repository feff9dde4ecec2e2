//! What the program says about itself, on standard error: a constant message and fields from a fixed list.

use std::io;
use std::io::IsTerminal;

use tracing::Level;
use tracing::Metadata;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Why diagnostics cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiagnosticsError {
    /// The filter is none.
    #[error("AUTHFERRY_LOG: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// It was done before.
    #[error("{0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets diagnostics up for the whole process: text on a terminal, JSON anywhere else. `filter` is the value of
/// `AUTHFERRY_LOG`, such as `info` or `info,authferry::providers=trace`.
///
/// # Errors
///
/// When the filter makes no sense, or this was called before.
pub(crate) fn start(filter: &str) -> Result<(), DiagnosticsError> {
    let format = if io::stderr().is_terminal() {
        Format::Text
    } else {
        Format::Json
    };
    subscriber(format, filter, io::stderr)?.try_init()?;
    Ok(())
}

fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, DiagnosticsError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let wanted = EnvFilter::builder().parse(filter)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false);
    let lines = match format {
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Text => lines.boxed(),
    };
    Ok(tracing_subscriber::registry()
        .with(lines.with_filter(filter_fn(is_ours_or_calm)))
        .with(wanted))
}

/// Whatever the filter says, libraries stay at `info`: below that they print what they send and receive, credentials
/// included.
fn is_ours_or_calm(event: &Metadata<'_>) -> bool {
    let target = event.target();
    *event.level() <= Level::INFO || target == "authferry" || target.starts_with("authferry::")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(format: Format, filter: &str, act: impl FnOnce()) -> String {
        let page = Page::default();
        let theirs = page.clone();
        let subscriber = subscriber(format, filter, move || theirs.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn libraries_keep_what_they_send_to_themselves_at_every_level() {
        let text = said(Format::Json, "trace", || {
            tracing::trace!(target: "hyper::proto", "authorization: Bearer secret");
            tracing::debug!(target: "authferryx", "authorization: Bearer secret");
            tracing::info!(target: "hyper::proto", "calm");
            tracing::trace!(target: "authferry::auth", "ours");
        });
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains("calm") && text.contains("ours"), "{text}");
    }

    #[test]
    fn json_lines_are_json() {
        let text = said(Format::Json, "info", || {
            tracing::warn!(provider = "old\n", "The provider is away.");
            tracing::debug!("not shown");
        });
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "The provider is away.");
        assert_eq!(line["provider"], "old\n");
        assert_eq!(line["level"], "WARN");
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        let refused = subscriber(Format::Text, "authferry=loud", io::sink);
        assert!(
            refused
                .map(|_| ())
                .unwrap_err()
                .to_string()
                .contains("AUTHFERRY_LOG")
        );
    }
}
