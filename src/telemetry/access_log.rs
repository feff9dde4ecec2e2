//! One JSON line for every request.
//!
//! Written when the body ends, by the worker that served it, into the worker's own buffer (`sink`). People and addresses
//! appear as pseudonyms; a query never appears, because codes and tokens travel in it.

use std::cell::OnceCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::telemetry::decision_log::DecisionLog;
use crate::telemetry::line::Line;
use crate::telemetry::line::field;
use crate::telemetry::metrics::Attempt;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::Shed;
use crate::telemetry::pseudonym::Pseudonym;
use crate::telemetry::recent::Place;
use crate::telemetry::recent::Recent;
use crate::telemetry::settings;
use crate::telemetry::sink::Inlet;
use crate::telemetry::sink::LogFile;
use crate::telemetry::sink::Sink;
use crate::telemetry::sink::Stdout;
use crate::telemetry::trace::TraceContext;

/// What is said about one request. Absent values leave their field out.
#[derive(Clone, Debug)]
pub(crate) struct AccessLine<'a> {
    /// When the request ended.
    pub(crate) at: UnixTime,
    /// Our name for the request; also in `X-Request-Id`.
    pub(crate) request_id: &'a str,
    /// The trace it belongs to.
    pub(crate) trace: Option<&'a TraceContext>,
    /// The client's address, after `trusted_proxies`.
    pub(crate) client: Option<Pseudonym>,
    /// The application, if the host is one's.
    pub(crate) app: Option<&'a AppId>,
    /// The method.
    pub(crate) method: &'a str,
    /// The canonical path, without query.
    pub(crate) path: &'a str,
    /// The version of HTTP that the client speaks.
    pub(crate) version: http::Version,
    /// The status of the answer.
    pub(crate) status: u16,
    /// Bytes of the request's body.
    pub(crate) bytes_in: u64,
    /// Bytes of the answer's body.
    pub(crate) bytes_out: u64,
    /// From the request's head to the end of the answer.
    pub(crate) took: Duration,
    /// The provider that judged.
    pub(crate) provider: Option<&'a ProviderId>,
    /// The arm of the person, where one was chosen.
    pub(crate) arm: Option<Arm>,
    /// Why that arm.
    pub(crate) rule: Option<&'a str>,
    /// What the session is called that a fallback made.
    pub(crate) mark: Option<&'a str>,
    /// The class of credential that was looked at.
    pub(crate) credential: Option<CredentialClass>,
    /// What became of it.
    pub(crate) attempt: Option<Attempt>,
    /// Why the answer is ours and not the upstream's, as a constant word.
    pub(crate) error: Option<&'static str>,
    /// Who.
    pub(crate) subject: Option<Pseudonym>,
    /// Where the fields from `provider` to `subject` are kept as they are written, of whom nothing else is ever said.
    pub(crate) kept: Option<&'a Somebody>,
    /// The origin that answered, `host:port`.
    pub(crate) upstream: Option<&'a str>,
    /// The configuration that the request saw.
    pub(crate) revision: &'a str,
}

/// What lines say of one verdict: the same with every request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Somebody(OnceCell<Box<[u8]>>);

/// Where lines of both logs go.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    /// `None`: nowhere.
    sink: Option<Sink>,
    recent: Recent,
    workers: usize,
    log: settings::Log,
}

/// One worker's access log.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    inlet: Option<Inlet>,
    recent: Place,
    log: settings::Log,
}

impl Logs {
    /// Opens what the settings name, for this many workers.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub(crate) fn open(
        (to, log): (&settings::AccessLog, settings::Log),
        workers: usize,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        // One more inlet than workers: the last is for everything else.
        let start = |output| Sink::start(output, workers + 1, metrics);
        let sink = match to {
            settings::AccessLog::Off => None,
            settings::AccessLog::Stdout => Some(start(Box::new(Stdout))?),
            settings::AccessLog::File(path) => Some(start(Box::new(LogFile::open(path.clone())?))?),
        };
        Ok(Self {
            sink,
            recent: Recent::new(workers + 1),
            workers,
            log,
        })
    }

    /// The access log of worker `index`.
    pub(crate) fn access(&self, index: usize) -> AccessLog {
        AccessLog {
            inlet: self.sink.as_ref().map(|sink| sink.inlet(index)),
            recent: self.recent.place(index),
            log: self.log,
        }
    }

    /// The decision log of worker `index`.
    pub(crate) fn decisions(&self, index: usize) -> DecisionLog {
        let inlet = self.sink.as_ref().map(|sink| sink.inlet(index));
        DecisionLog::new(inlet, self.recent.place(index), self.log.subjects)
    }

    /// The decision log of what does not run on a worker.
    pub(crate) fn background(&self) -> DecisionLog {
        self.decisions(self.workers)
    }

    /// What is remembered of a request that ended in an answer of ours: lines as the logs have them, oldest first.
    pub(crate) fn about(&self, request_id: &str) -> Vec<String> {
        self.recent.about(request_id)
    }

    /// Opens the file again, as after SIGUSR1.
    pub(crate) fn reopen(&self) {
        if let Some(sink) = &self.sink {
            sink.reopen();
        }
    }

    /// Waits until everything written before has left, at most `patience`. Blocks. `false`: something may be missing.
    pub(crate) fn flush(&self, patience: Duration) -> bool {
        self.sink.as_ref().is_none_or(|sink| sink.flush(patience))
    }
}

impl AccessLog {
    /// Whether lines go anywhere: if not, there is no need to gather what they would say.
    pub(crate) const fn is_on(&self) -> bool {
        self.inlet.is_some()
    }

    /// Writes one line as [`Self::write`] does, and remembers it for whoever asks about the reference on a page of ours, whether
    /// or not it is written.
    pub(crate) fn write_and_remember(&self, line: &AccessLine<'_>) {
        let subjects = self.log.subjects;
        self.recent.keep(
            (line.request_id, line.at, "access"),
            |out| compose(line, subjects, out),
            |whole| {
                if let Some(inlet) = self.inlet.as_ref().filter(|_| takes(self.log, line)) {
                    inlet.copy(whole, Shed::AccessLog);
                }
            },
        );
    }

    /// Writes one line, unless it is one of the good ones that are left out. Never waits for the disk.
    pub(crate) fn write(&self, line: &AccessLine<'_>) {
        if let Some(inlet) = &self.inlet
            && takes(self.log, line)
        {
            let subjects = self.log.subjects;
            inlet.write(line.at, "access", Shed::AccessLog, |out| {
                compose(line, subjects, out);
            });
        }
    }
}

/// Whether a line is written: of good requests a share, chosen by their names, so that every log has the same ones.
fn takes(log: settings::Log, line: &AccessLine<'_>) -> bool {
    let good = line.status < 400
        && line.error.is_none()
        && matches!(line.attempt, None | Some(Attempt::Success));
    !good || 1_000_000 <= log.sample_success || place(line.request_id) < log.sample_success
}

/// FNV-1a, folded onto a million: names of requests are random, and nothing else hangs on it.
fn place(request_id: &str) -> u32 {
    let hash = request_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    u32::try_from((hash >> 20) % 1_000_000).unwrap_or(u32::MAX)
}

fn compose(line: &AccessLine<'_>, subjects: bool, mut out: Line<'_>) {
    out.digits(field!("request_id"), line.request_id);
    if let Some(trace) = line.trace {
        out.hex(field!("trace_id"), &trace.trace_id());
    }
    if let Some(client) = &line.client {
        out.digits(field!("client"), client.as_str());
    }
    out.maybe(field!("app"), line.app.map(AppId::as_str))
        .text(field!("method"), line.method)
        .text(field!("path"), line.path)
        .word(field!("h"), version(line.version))
        .number(field!("status"), line.status.into())
        .number(field!("bytes_in"), line.bytes_in)
        .number(field!("bytes_out"), line.bytes_out)
        .millis(field!("duration_ms"), line.took);
    match line.kept.filter(|_| line.error.is_none()) {
        Some(Somebody(kept)) => out.keep(kept, |out| somebody(line, subjects, out)),
        None => somebody(line, subjects, &mut out),
    }
    out.maybe(field!("upstream"), line.upstream)
        .text(field!("revision"), line.revision);
    out.end();
}

/// Who it was, and what became of what they presented.
fn somebody(line: &AccessLine<'_>, subjects: bool, out: &mut Line<'_>) {
    out.maybe(field!("provider"), line.provider.map(ProviderId::as_str));
    if let Some(arm) = line.arm {
        out.word(field!("arm"), arm.as_str());
    }
    out.maybe(field!("rule"), line.rule);
    out.maybe(field!("mark"), line.mark);
    if let Some(credential) = line.credential {
        out.word(field!("credential"), credential.as_str());
    }
    if let Some(attempt) = line.attempt {
        out.word(field!("outcome"), attempt.outcome());
        if !matches!(attempt, Attempt::Success) {
            out.word(field!("reason"), attempt.reason());
        }
    }
    if let Some(error) = line.error {
        out.word(field!("error"), error);
    }
    if let Some(subject) = line.subject.as_ref().filter(|_| subjects) {
        out.digits(field!("subject"), subject.as_str());
    }
}

const fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_11 => "1.1",
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_3 => "3",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::identity::Refusal;

    fn line<'a>(path: &'a str) -> AccessLine<'a> {
        AccessLine {
            at: UnixTime::from_millis(1_763_813_280_123),
            request_id: "r1",
            trace: None,
            client: None,
            app: None,
            method: "GET",
            path,
            version: http::Version::HTTP_2,
            status: 404,
            bytes_in: 0,
            bytes_out: 17,
            took: Duration::from_micros(1_500),
            provider: None,
            arm: None,
            rule: None,
            mark: None,
            credential: None,
            attempt: None,
            error: None,
            subject: None,
            kept: None,
            upstream: None,
            revision: "abc",
        }
    }

    fn written(line: &AccessLine<'_>) -> String {
        written_by(settings::Log::default(), line)
    }

    fn written_by(log: settings::Log, line: &AccessLine<'_>) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let metrics = Metrics::new(Arc::new(SystemClock), 100);
        let to = settings::AccessLog::File(path.clone());
        let logs = Logs::open((&to, log), 1, metrics).unwrap();
        logs.access(0).write(line);
        assert!(logs.flush(Duration::from_secs(20)));
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_line_says_only_what_is_known() {
        assert_eq!(
            written(&line("/a")),
            "{\"ts\":\"2025-11-22T12:08:00.123Z\",\"event\":\"access\",\"request_id\":\"r1\",\
             \"method\":\"GET\",\"path\":\"/a\",\"h\":\"2\",\"status\":404,\"bytes_in\":0,\
             \"bytes_out\":17,\"duration_ms\":1.500,\"revision\":\"abc\"}\n"
        );
    }

    #[test]
    fn a_line_names_provider_arm_rule_and_reason() {
        let (app, provider) = (AppId::new("crm"), ProviderId::new("old"));
        let text = written(&AccessLine {
            app: Some(&app),
            provider: Some(&provider),
            arm: Some(Arm::From),
            rule: Some("cohort:staff"),
            credential: Some(CredentialClass::Basic),
            attempt: Some(Attempt::Rejected(Refusal::Locked)),
            ..line("/")
        });
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (field, value) in [
            ("app", "crm"),
            ("provider", "old"),
            ("arm", "legacy"),
            ("rule", "cohort:staff"),
            ("credential", "basic"),
            ("outcome", "rejected"),
            ("reason", "locked"),
        ] {
            assert_eq!(parsed[field], value, "{field}");
        }
    }

    #[test]
    fn people_are_named_by_pseudonyms_or_not_at_all() {
        let key = crate::secret::Secret::new(vec![1; 32]);
        let who = crate::identity::CanonicalSubject::named("alice").unwrap();
        let who = crate::telemetry::Pseudonyms::new(&key).of(&who);
        let known = AccessLine {
            subject: Some(who),
            ..line("/")
        };
        assert!(written(&known).contains(who.as_str()));
        // What is kept of somebody is written as it would be anew, and only where nothing else is said.
        let kept = Somebody::default();
        let with = |error| AccessLine {
            rule: Some("percent"),
            credential: Some(CredentialClass::Bearer),
            attempt: Some(Attempt::Success),
            kept: Some(&kept),
            error,
            ..known.clone()
        };
        let anew = |error| AccessLine {
            kept: None,
            ..with(error)
        };
        for error in [Some("aborted"), None, None, Some("aborted")] {
            assert_eq!(written(&with(error)), written(&anew(error)));
        }
        let other = AccessLine {
            subject: None,
            ..with(None)
        };
        assert!(written(&other).contains(who.as_str()), "it is kept");
        let silent = settings::Log {
            subjects: false,
            ..settings::Log::default()
        };
        assert!(!written_by(silent, &known).contains("subject"));
    }

    #[test]
    fn a_share_of_good_requests_is_written_and_every_other_one() {
        let log = settings::Log {
            sample_success: 10_000,
            ..settings::Log::default()
        };
        let names: Vec<String> = (0..100_000_u64)
            .map(|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        let taken = |status, error| {
            names
                .iter()
                .filter(|name| {
                    let line = AccessLine {
                        request_id: name,
                        status,
                        error,
                        ..line("/")
                    };
                    takes(log, &line)
                })
                .count()
        };
        let share = taken(200, None);
        assert!((800..1_200).contains(&share), "{share} of 100 000");
        assert_eq!(taken(404, None), names.len());
        assert_eq!(taken(200, Some("aborted")), names.len());
        let refused = AccessLine {
            status: 302,
            attempt: Some(Attempt::Rejected(Refusal::Locked)),
            ..line("/")
        };
        let none = settings::Log {
            sample_success: 0,
            ..log
        };
        assert!(takes(none, &refused));
        let good = AccessLine {
            status: 302,
            ..line("/")
        };
        assert!(!takes(none, &good));
        assert!(takes(settings::Log::default(), &good));
    }

    #[test]
    fn a_path_cannot_add_a_line() {
        let text = written(&line("/x\",\"status\":200}\n{\"event\":\"access\"}"));
        assert_eq!(text.lines().count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["status"], 404);
    }
}
