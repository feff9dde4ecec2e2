//! Performs one case and judges it.

mod repeat;
mod sends;

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::case::Case;
use crate::case::Entry;
use crate::expect;
use crate::later;
use crate::names::Names;
use crate::ops;
use crate::tokens::Unknown;
use crate::vars::Vars;
use crate::wire::Outcome;
use crate::wire::Trust;
use crate::wire::Wire;
use crate::wire::h1;
use crate::world::Plan;
use crate::world::Target;
use crate::world::World;
use crate::world::target::Kind;
use crate::world::upstream::Seen;

/// What became of a case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Everything that a machine can check holds.
    Pass,
    /// Something does not hold.
    Fail(Vec<String>),
    /// Nobody can say.
    Skip(String),
}

/// Why a case stops before its end.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// The runner cannot do what it says.
    Skip(String),
    /// The program does not do what everything else needs.
    Fail(String),
}

impl From<Unknown> for Stop {
    fn from(unknown: Unknown) -> Self {
        Self::Skip(format!("not understood: {}", unknown.0))
    }
}

/// One request and everything that came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// Its first line, shortened.
    pub(crate) label: String,
    /// What came back.
    pub(crate) outcome: Outcome,
    /// The end of a login that was followed.
    pub(crate) followed: Vec<crate::wire::Answer>,
    /// What the upstream got.
    pub(crate) upstream: Vec<Seen>,
}

/// The state of a run.
#[derive(Debug)]
pub(crate) struct Runner {
    /// The doubles.
    pub(crate) world: World,
    /// What is tested.
    pub(crate) kind: Kind,
    /// The running proxy.
    pub(crate) target: Option<Target>,
    /// Whether failures are told at length.
    pub(crate) verbose: bool,
    /// What the last case has measured.
    pub(crate) measured: Vec<String>,
}

/// What a case has done so far.
#[derive(Debug)]
pub(crate) struct Course {
    /// Values of `${…}`.
    pub(crate) vars: Vars,
    /// Requests and answers.
    pub(crate) records: Vec<Record>,
    /// When it began.
    pub(crate) start: Instant,
    /// How long the logs were then.
    pub(crate) log: [usize; 2],
    /// Memory then, and the most since, in KiB.
    pub(crate) memory: (u64, u64),
    /// Failures that a step found by itself.
    pub(crate) findings: Vec<String>,
    /// What steps measured, whatever came of it.
    pub(crate) measured: Vec<String>,
    /// The client of TLS that requests come from, if not the usual one.
    pub(crate) trust: Option<Arc<Trust>>,
    /// The small disk that the state stands on.
    pub(crate) disk: Option<ops::Disk>,
    /// The store that instances share, and the other instance.
    pub(crate) shared: Option<ops::Shared>,
    /// Whether logins are followed to their end.
    follow: bool,
}

impl Course {
    /// A case begins; the logs are so long.
    pub(crate) fn new(case: &Case, log: [usize; 2]) -> Self {
        Self {
            vars: Vars::new(case),
            records: Vec::new(),
            start: Instant::now(),
            log,
            memory: (0, 0),
            findings: Vec::new(),
            measured: Vec::new(),
            trust: None,
            disk: None,
            shared: None,
            follow: case
                .preconditions
                .iter()
                .any(|p| p.starts_with("follow the whole login")),
        }
    }
}

impl Course {
    /// The wire of the client that requests come from.
    fn over(&self, wire: Wire) -> Wire {
        match (&wire.tls, &self.trust) {
            (Some(_), Some(trust)) => Wire {
                tls: Some(Arc::clone(trust)),
                ..wire
            },
            _ => wire,
        }
    }
}

impl Runner {
    /// Performs a case; a failure that is only about time is tried again.
    pub(crate) async fn perform(&mut self, case: &Case) -> Verdict {
        let mut verdict = self.once(case).await;
        for _ in 0..2 {
            match &verdict {
                Verdict::Fail(why) if why.iter().all(|why| why.contains(expect::SLOW)) => {
                    verdict = self.once(case).await;
                }
                Verdict::Pass | Verdict::Fail(_) | Verdict::Skip(_) => break,
            }
        }
        verdict
    }

    async fn once(&mut self, case: &Case) -> Verdict {
        if let Some(reason) = later::reason(case) {
            return Verdict::Skip(reason);
        }
        let plan = match Plan::of(case) {
            Ok(plan) => plan,
            Err(reason) => return Verdict::Skip(reason),
        };
        if let Some(reason) = case.steps().iter().find_map(ops::cannot) {
            return Verdict::Skip(reason);
        }
        if !expect::can_judge(case) && !case.steps().iter().any(ops::judges) {
            return Verdict::Skip("the promise is in words only".to_owned());
        }
        let fresh = plan.fresh;
        let limit = ops::limit(case);
        let verdict = match timeout(limit, self.whole(case, plan)).await {
            Ok(Ok(failures)) if failures.is_empty() => Verdict::Pass,
            Ok(Ok(failures)) => Verdict::Fail(failures),
            Ok(Err(Stop::Skip(reason))) => Verdict::Skip(reason),
            Ok(Err(Stop::Fail(reason))) => Verdict::Fail(vec![reason]),
            Err(_) => Verdict::Fail(vec![format!("not done after {} s", limit.as_secs())]),
        };
        let alive = self.target.as_mut().is_none_or(Target::is_alive);
        if fresh || !alive {
            self.target = None;
        }
        self.world.calm();
        verdict
    }

    async fn whole(&mut self, case: &Case, plan: Plan) -> Result<Vec<String>, Stop> {
        self.world.calm();
        self.measured.clear();
        self.ensure(plan).await?;
        let mut course = Course::new(case, self.target()?.logged());
        if case.expected.rss_delta_max_mib.is_some() {
            // A first request touches what every request needs.
            self.h1(
                "GET /public/x HTTP/1.1\r\nHost: app.test\r\n\r\n",
                case,
                &mut course,
            )
            .await?;
            course.records.clear();
            let now = self.target()?.rss().unwrap_or(0);
            course.memory = (now, now);
        }
        for entry in case.steps() {
            self.step(entry, case, &mut course).await?;
        }
        let mut failures = expect::judge(self, case, &mut course).await?;
        failures.append(&mut course.findings);
        self.measured.append(&mut course.measured);
        if self.verbose && !failures.is_empty() {
            self.tell(&course);
        }
        if !self.target.as_mut().is_some_and(Target::is_alive) && !ops::ends_the_process(case) {
            failures.push("the process has ended".to_owned());
        }
        Ok(failures)
    }

    /// A proxy for a plan: the running one, if it fits.
    pub(crate) async fn ensure(&mut self, plan: Plan) -> Result<(), Stop> {
        let fits = self
            .target
            .as_mut()
            .is_some_and(|t| !plan.fresh && t.plan == plan && t.is_alive());
        if !fits {
            self.target = None;
            if let Some(words) = plan.jwks.as_deref().filter(|words| *words != "as it is") {
                self.world.new.fail("jwks", ops::fault(words)?);
            }
            let target = Target::start(self.kind, &plan, &self.world).map_err(Stop::Fail)?;
            self.target = Some(target);
            if plan.jwks.is_none() {
                self.warm().await?;
            }
        }
        Ok(())
    }

    /// Waits until the program knows the keys of its providers: it says that it serves before.
    async fn warm(&mut self) -> Result<(), Stop> {
        let claim = self.target()?.plan.claim.clone();
        let set: serde_json::Map<_, _> = claim
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        let token = self.world.mint.good("new.access", &set.into());
        // A route that asks for more than a token says nothing about tokens.
        let asks = |route: &String| route.contains("/api/*") && route.contains("proof:");
        let path = if self.target()?.plan.routes.iter().any(asks) {
            "/app"
        } else {
            "/api/x"
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let wire = self.world.public(self.target()?);
        let start = Instant::now();
        loop {
            let outcome = h1::send(&wire, request.as_bytes(), h1::Wish::default()).await;
            let status = outcome.answers.first().map(|answer| answer.status);
            if status == Some(200) {
                break;
            }
            // Where nothing good gets in, no refusal proves anything.
            if status != Some(503) || Duration::from_secs(5) < start.elapsed() {
                return Err(Stop::Fail(format!(
                    "a good token is answered with {status:?}"
                )));
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.world.upstream.calm();
        Ok(())
    }

    /// What was asked, what came, and what was logged.
    fn tell(&self, course: &Course) {
        let shown =
            |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..800).unwrap_or(bytes)).into_owned();
        for record in &course.records {
            println!("--- {}", record.label);
            for answer in record.outcome.answers.iter().chain(&record.followed) {
                println!("<-- {}", shown(answer.whole().as_bytes()));
            }
            for seen in &record.upstream {
                println!("==> connection {}\n{}", seen.connection, shown(&seen.head));
            }
        }
        let log = self
            .target
            .as_ref()
            .map(|target| target.log_since(course.log));
        println!("log: {}", log.unwrap_or_default());
    }

    /// The running proxy.
    pub(crate) fn target(&self) -> Result<&Target, Stop> {
        self.target
            .as_ref()
            .ok_or_else(|| Stop::Fail("no proxy runs".to_owned()))
    }

    /// Our names, with the admin port of the running proxy.
    pub(crate) fn names(&self) -> Names {
        let mut names = self.world.mint.names.clone();
        names.admin = self
            .target
            .as_ref()
            .map(|t| t.admin.to_string())
            .unwrap_or_default();
        names
    }

    /// One step.
    pub(crate) async fn step(
        &mut self,
        entry: &Entry,
        case: &Case,
        course: &mut Course,
    ) -> Result<(), Stop> {
        match entry {
            Entry::H1(text) => self.h1(text, case, course).await?,
            Entry::H2(frames) => {
                self.h2(&frames.headers, frames.body.as_deref(), case, course)
                    .await?
            }
            Entry::Op(words) => Box::pin(ops::perform(self, words, case, course)).await?,
            Entry::Repeat(repeat) => Box::pin(self.repeat(repeat, case, course)).await?,
        }
        let now = self.target.as_ref().and_then(Target::rss).unwrap_or(0);
        course.memory.1 = course.memory.1.max(now);
        Ok(())
    }
}

/// The first line of a request, in few letters.
fn label(text: &str) -> String {
    let line = text.split("\r\n").next().unwrap_or_default();
    let line: String = line
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if line.chars().count() <= 60 {
        return line;
    }
    let start: String = line.chars().take(57).collect();
    format!("{start}...")
}

/// One byte for each letter; letters beyond latin-1 in UTF-8.
pub(crate) fn latin1(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match u8::try_from(u32::from(letter)) {
            Ok(byte) => out.push(byte),
            Err(_) => out.extend(letter.to_string().into_bytes()),
        }
    }
    out
}

/// A regular expression of this program.
pub(crate) fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns of this program are good")
}
