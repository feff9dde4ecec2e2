//! What the drill has seen, from outside of the proxy: by the simulated browsers, the machines, and the old application.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde::Serialize;

use crate::clock::Clock;

/// One thing that was seen. One line of `observations.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Observation {
    /// When, by the clock of the drill: milliseconds since 1970.
    pub(super) at: u64,
    /// Who: a person, a machine, or `drill`.
    pub(super) who: String,
    /// What.
    #[serde(flatten)]
    pub(super) seen: Seen,
}

/// What was seen.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Seen {
    /// A person asked for a page without a session, and signed in.
    SignIn {
        /// For which application.
        app: String,
        /// At which provider the browser was sent; the last, if it was sent to several.
        provider: String,
        /// Whether the page came in the end.
        ok: bool,
    },
    /// A person with a session asked for a page, and was sent to sign in.
    UnexpectedSignIn,
    /// Somebody with a session or a token asked for something: the status of the answer, 0 without one.
    Request {
        /// The status.
        status: u16,
        /// Whether it was what they asked for.
        ok: bool,
    },
    /// A machine got its answer with a token of this provider.
    Machine {
        /// The provider.
        provider: String,
    },
    /// The old application was told who somebody is: the header lines, as they came.
    Headers {
        /// The lines.
        lines: String,
    },
    /// The rollout stands here from now on, as its controller says.
    Step {
        /// Where.
        step: String,
        /// What it does there.
        state: String,
        /// Why.
        why: String,
    },
    /// The fault begins or ends.
    Fault {
        /// Which.
        on: bool,
        /// The application that it is about; nothing: all of them.
        app: Option<String>,
    },
    /// The ledger was verified.
    Ledger {
        /// Whether every record is good.
        ok: bool,
        /// How many there are.
        records: u64,
    },
}

/// Takes down what is seen.
#[derive(Debug)]
pub(super) struct Observer {
    clock: Arc<dyn Clock>,
    seen: Mutex<Vec<Observation>>,
}

impl Observer {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            seen: Mutex::default(),
        }
    }

    /// Takes down one thing.
    pub(super) fn saw(&self, who: &str, seen: Seen) {
        let observation = Observation {
            at: self.clock.now().as_millis(),
            who: who.to_owned(),
            seen,
        };
        self.list().push(observation);
    }

    /// Everything up to now.
    pub(super) fn all(&self) -> Vec<Observation> {
        self.list().clone()
    }

    /// Looks at everything up to now, without a copy.
    pub(super) fn with<T>(&self, look: impl FnOnce(&[Observation]) -> T) -> T {
        look(&self.list())
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Observation>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
