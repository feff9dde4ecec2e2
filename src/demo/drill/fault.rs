//! What goes wrong in the ramp.

use crate::demo::drill::observe::Observer;
use crate::demo::drill::observe::Seen;
use crate::demo::drill::world::APPS;
use crate::demo::drill::world::World;
use crate::demo::drill::world::host_of;

/// What goes wrong at the new provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// It refuses the secret of our client: every sign-in comes back and fails
    Secret,
    /// It does not know our redirect URIs any more: it shows a page of its own, and nobody comes back
    Redirect,
    /// It does not know the redirect URI of one of the three applications any more
    OneRedirect,
}

impl Fault {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Secret => "the new provider refuses our client: somebody changed its secret",
            Self::Redirect => {
                "the new provider knows our redirect URIs no more: it shows a page of its own, and nobody comes back"
            }
            Self::OneRedirect => {
                "the new provider knows one redirect URI no more: of one application nobody comes back, of the others everybody"
            }
        }
    }

    /// It begins, or ends.
    pub(super) fn breaks(self, world: &World, observer: &Observer, on: bool) {
        match self {
            Self::Secret => world.new.refuse_client(on),
            Self::Redirect | Self::OneRedirect => {
                let like = self.app().map_or_else(
                    || String::from("http://"),
                    |app| format!("http://{}/", host_of(app, world.proxy)),
                );
                world.new.forget_callbacks(on.then_some(&*like));
            }
        }
        let app = self.app().map(str::to_owned);
        observer.saw("drill", Seen::Fault { on, app });
    }

    /// The application that it is about; `None`: all of them.
    fn app(self) -> Option<&'static str> {
        match self {
            Self::Secret | Self::Redirect => None,
            Self::OneRedirect => APPS.first().copied(),
        }
    }
}
