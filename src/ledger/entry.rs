//! One record before it is chained: its kind, and what it says.

use serde_json::Map;
use serde_json::Value;

/// What a record tells of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A configuration runs from here on.
    ConfigApplied,
    /// A configuration was refused.
    ConfigRefused,
    /// A rollout moved, or stopped moving.
    Decision,
    /// A step may be left, by a person.
    Ready,
    /// A person let a rollout go on.
    Resume,
    /// The kill switch moved.
    KillSwitch,
    /// A person decided whose an account is.
    LinkConflictResolved,
    /// The closing of an old side began, stopped, or came to its end.
    LegacyClose,
    /// An exercise began, or ended.
    Drill,
    /// Somebody was told who hides behind a pseudonym.
    Reveal,
    /// The next signing key was made.
    KeyRotated,
    /// A signing key was taken out before its time.
    KeyWithdrawn,
    /// The program started.
    NodeStart,
}

impl Kind {
    /// The word in the record, and the label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigApplied => "config_applied",
            Self::ConfigRefused => "config_refused",
            Self::Decision => "decision",
            Self::Ready => "ready",
            Self::Resume => "resume",
            Self::KillSwitch => "kill_switch",
            Self::LinkConflictResolved => "link_conflict_resolved",
            Self::LegacyClose => "legacy_close",
            Self::Drill => "drill",
            Self::Reveal => "reveal",
            Self::KeyRotated => "key_rotated",
            Self::KeyWithdrawn => "key_withdrawn",
            Self::NodeStart => "node_start",
        }
    }
}

/// A record to be written.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(super) kind: Kind,
    pub(super) fields: Map<String, Value>,
}

impl Entry {
    /// A record that says nothing but its kind and who caused it.
    pub(crate) fn new(kind: Kind, actor: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("kind".into(), kind.as_str().into());
        fields.insert("actor".into(), actor.into());
        Self { kind, fields }
    }

    /// Says more.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.into(), value.into());
        self
    }

    /// Says more, if there is more to say.
    pub(crate) fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) if !value.is_empty() => self.with(name, value),
            Some(_) | None => self,
        }
    }
}
