//! What a divergence is called, and how much it matters.

use serde::Deserialize;
use serde::Serialize;

/// In what two opinions about one person differ.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Class {
    /// The deciding side lets in whom the other refuses.
    AcceptReject,
    /// The other side would let in whom the deciding side does not.
    RejectAccept,
    /// The other side speaks of another person.
    SubjectMismatch,
    /// The other side does not say who it is.
    NoLink,
    /// The other side says something that could be read as another person.
    LinkConflict,
    /// The other side lists fewer groups, or roles.
    GroupsMissing,
    /// The other side lists more.
    GroupsExtra,
    /// The other side gives fewer scopes.
    ScopeMissing,
    /// The other side gives more.
    ScopeExtra,
    /// The application would get other bytes.
    Headers,
    /// The other side has proved less of who it is, or nobody can say that it has not.
    AssuranceLower,
    /// The other side has proved more.
    AssuranceHigher,
    /// The credential is good for more than a tenth longer or shorter there.
    Lifetime,
    /// Both sides refuse, for other reasons.
    #[serde(rename = "error_class")]
    OtherReason,
    /// A token that only its holder can use became one that anybody can. Nobody is asked a second time for it.
    BindingLost,
}

/// What is compared, in the words of the configuration.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Field {
    /// Whether somebody may come in.
    Decision,
    /// Who it is.
    Subject,
    /// Groups, or roles.
    Groups,
    /// Scopes.
    Scopes,
    /// How long the credential is good for.
    Lifetime,
    /// How much was proved.
    Assurance,
    /// What the application would get.
    Headers,
    /// Why both refuse.
    ErrorClass,
    /// How long either side takes: a metric, and no difference.
    Latency,
}

impl Field {
    /// Every one.
    pub(crate) const ALL: [Self; 9] = [
        Self::Decision,
        Self::Subject,
        Self::Groups,
        Self::Scopes,
        Self::Lifetime,
        Self::Assurance,
        Self::Headers,
        Self::ErrorClass,
        Self::Latency,
    ];

    /// The word in the configuration.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Subject => "subject",
            Self::Groups => "groups",
            Self::Scopes => "scopes",
            Self::Lifetime => "lifetime",
            Self::Assurance => "assurance",
            Self::Headers => "headers",
            Self::ErrorClass => "error_class",
            Self::Latency => "latency",
        }
    }
}

impl Class {
    /// Every class.
    pub(crate) const ALL: [Self; 15] = [
        Self::AcceptReject,
        Self::RejectAccept,
        Self::SubjectMismatch,
        Self::NoLink,
        Self::LinkConflict,
        Self::GroupsMissing,
        Self::GroupsExtra,
        Self::ScopeMissing,
        Self::ScopeExtra,
        Self::Headers,
        Self::AssuranceLower,
        Self::AssuranceHigher,
        Self::Lifetime,
        Self::OtherReason,
        Self::BindingLost,
    ];

    /// The word used in configuration, logs and labels.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AcceptReject => "accept_reject",
            Self::RejectAccept => "reject_accept",
            Self::SubjectMismatch => "subject_mismatch",
            Self::NoLink => "no_link",
            Self::LinkConflict => "link_conflict",
            Self::GroupsMissing => "groups_missing",
            Self::GroupsExtra => "groups_extra",
            Self::ScopeMissing => "scope_missing",
            Self::ScopeExtra => "scope_extra",
            Self::Headers => "headers",
            Self::AssuranceLower => "assurance_lower",
            Self::AssuranceHigher => "assurance_higher",
            Self::Lifetime => "lifetime",
            Self::OtherReason => "error_class",
            Self::BindingLost => "binding_lost",
        }
    }

    /// What was compared; `None`: nothing was, it was met on the way.
    pub(crate) const fn field(self) -> Option<Field> {
        Some(match self {
            Self::AcceptReject | Self::RejectAccept => Field::Decision,
            Self::SubjectMismatch | Self::NoLink | Self::LinkConflict => Field::Subject,
            Self::GroupsMissing | Self::GroupsExtra => Field::Groups,
            Self::ScopeMissing | Self::ScopeExtra => Field::Scopes,
            Self::Headers => Field::Headers,
            Self::AssuranceLower | Self::AssuranceHigher => Field::Assurance,
            Self::Lifetime => Field::Lifetime,
            Self::OtherReason => Field::ErrorClass,
            Self::BindingLost => return None,
        })
    }

    /// Whether one is one: it ends a rollout, however seldom it is.
    pub(crate) fn is_critical(self) -> bool {
        self.severity() == "critical"
    }

    /// `critical`: somebody would be somebody else, might do more than before, or has proved less, or somebody else might do
    /// it; `warn`: look at it; `info`:
    /// good to know.
    pub(crate) const fn severity(self) -> &'static str {
        match self {
            Self::RejectAccept
            | Self::SubjectMismatch
            | Self::GroupsExtra
            | Self::ScopeExtra
            | Self::AssuranceLower
            | Self::BindingLost => "critical",
            Self::AssuranceHigher | Self::Lifetime | Self::OtherReason => "info",
            Self::AcceptReject
            | Self::NoLink
            | Self::LinkConflict
            | Self::GroupsMissing
            | Self::ScopeMissing
            | Self::Headers => "warn",
        }
    }
}
