//! Forms that are on their way at the same time with one session of before: what the application makes of one of them may be
//! the work of another, so that neither says anything of what was typed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// The sessions with which forms are on their way, by their digests. Lives as long as the process.
#[derive(Debug, Default)]
pub(crate) struct AtOnce(Mutex<HashMap<[u8; 32], Under>>);

/// Those with one session.
#[derive(Debug, Default)]
struct Under {
    forms: usize,
    /// There has been more than one since there was none.
    several: bool,
}

/// A form on its way.
#[derive(Debug)]
pub(crate) struct OnItsWay {
    all: Arc<AtOnce>,
    sessions: Vec<[u8; 32]>,
}

impl AtOnce {
    /// A form comes with these sessions.
    pub(super) fn comes(self: &Arc<Self>, mut sessions: Vec<[u8; 32]>) -> OnItsWay {
        sessions.sort_unstable();
        sessions.dedup();
        let mut all = self.all();
        for session in &sessions {
            let under = all.entry(*session).or_default();
            under.forms += 1;
            under.several |= 1 < under.forms;
        }
        drop(all);
        OnItsWay {
            all: Arc::clone(self),
            sessions,
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<[u8; 32], Under>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OnItsWay {
    /// Whether no other form has come with one of its sessions while it was on its way, or was on its way when it came.
    pub(crate) fn was_alone(&self) -> bool {
        let all = self.all.all();
        let mut own = self.sessions.iter().map(|session| all.get(session));
        own.all(|under| under.is_some_and(|under| !under.several))
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let mut all = self.all.all();
        for session in &self.sessions {
            if let Some(under) = all.get_mut(session) {
                under.forms = under.forms.saturating_sub(1);
                if under.forms == 0 {
                    all.remove(session);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_that_are_on_their_way_with_one_session_are_not_alone() {
        let (one, other, third) = ([1; 32], [2; 32], [3; 32]);
        let all = Arc::new(AtOnce::default());
        let first = all.comes(vec![one, one]);
        let free = all.comes(Vec::new());
        let apart = all.comes(vec![third]);
        assert!(first.was_alone() && free.was_alone() && apart.was_alone());
        let second = all.comes(vec![one, other]);
        assert!(!first.was_alone() && !second.was_alone());
        drop(second);
        assert!(!first.was_alone(), "the other one may have done it");
        let late = all.comes(vec![one]);
        drop(first);
        assert!(!late.was_alone());
        drop(late);
        assert!(all.comes(vec![one]).was_alone());
        assert!(apart.was_alone());
        drop((free, apart));
        assert!(all.all().is_empty());
    }
}
