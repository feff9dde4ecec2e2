//! The first who sign in at the new provider in a step, and how they fared: the bound of harm of one application.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::rollout::guard::settings::FirstLogins;

/// How long after its time a journey counts as under way that nobody has ended.
const UNTOLD: Duration = Duration::from_mins(2);

/// So many in a row that did not succeed are no chance, at whatever share.
const ROW: u32 = 10;

/// What an application has seen at the new provider in this step.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct First {
    /// Under way.
    pub unfinished: u32,
    /// Signed in.
    pub succeeded: u32,
    /// Ended otherwise.
    pub bad: u32,
    /// Of these, since the last that succeeded.
    pub row: u32,
    /// Begun since the last that succeeded.
    pub since: u32,
    /// When the last of those under way should have come back.
    pub due: UnixTime,
}

impl First {
    /// Whether one more may begin at `now`. Whoever did not come back keeps the place: nobody else is sent the same way, until all
    /// of them have been away for a while. Then one more may find out, or the first who fail would keep everybody out for a
    /// whole step.
    pub fn may_start(self, limits: FirstLogins, now: UnixTime) -> bool {
        if self.succeeded < limits.until_succeeded {
            return self.unfinished + self.bad < limits.unfinished || self.due + UNTOLD <= now;
        }
        // What has worked may break in the middle of a step. Where nobody is under way any more, somebody has to find out
        // whether it works again: ten in a row have gone back before that.
        self.since < limits.unfinished || self.unfinished == 0
    }

    /// The same at `now`. Whoever was to tell that somebody did not come back may be gone: a while after the time of the last
    /// nobody is under way, and somebody may find out again.
    pub fn at(mut self, now: UnixTime) -> Self {
        if self.due + UNTOLD <= now {
            self.unfinished = 0;
        }
        self
    }

    /// One more is under way.
    pub fn sets_out(&mut self, due: UnixTime) {
        self.unfinished += 1;
        self.since += 1;
        self.due = self.due.max(due);
    }

    /// One was sent to the other side meanwhile.
    pub const fn turns_back(&mut self) {
        self.unfinished = self.unfinished.saturating_sub(1);
        self.since = self.since.saturating_sub(1);
    }

    /// One is signed in.
    pub const fn comes_back(&mut self) {
        self.unfinished = self.unfinished.saturating_sub(1);
        self.succeeded += 1;
        (self.row, self.since) = (0, 0);
    }

    /// One did not come back.
    pub const fn is_lost(&mut self) {
        self.unfinished = self.unfinished.saturating_sub(1);
        self.bad += 1;
        self.row += 1;
    }

    /// Whether the application is plainly on fire: of the first none came back, or ten in a row did not.
    pub fn fires(self, limits: FirstLogins) -> bool {
        let least = limits.until_succeeded.max(1);
        ROW <= self.row || (self.succeeded == 0 && least <= self.bad)
    }
}
