//! What goes wrong in the ramp.

/// What goes wrong at the new provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// It refuses the secret of our client: every sign-in comes back and fails
    Secret,
    /// It does not know our redirect URI any more: it shows a page of its own, and nobody comes back
    Redirect,
}

impl Fault {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Secret => "the new provider refuses our client: somebody changed its secret",
            Self::Redirect => {
                "the new provider knows our redirect URI no more: it shows a page of its own, and nobody comes back"
            }
        }
    }
}
