//! What a divergence is called, and how much it matters.

/// In what two opinions about one person differ.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
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
}

impl Class {
    /// Every class.
    pub(crate) const ALL: [Self; 10] = [
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
        }
    }

    /// `critical`: somebody would be somebody else, or might do more than before; `warn`: look at it.
    pub(crate) const fn severity(self) -> &'static str {
        match self {
            Self::RejectAccept | Self::SubjectMismatch | Self::GroupsExtra | Self::ScopeExtra => {
                "critical"
            }
            Self::AcceptReject
            | Self::NoLink
            | Self::LinkConflict
            | Self::GroupsMissing
            | Self::ScopeMissing
            | Self::Headers => "warn",
        }
    }
}
