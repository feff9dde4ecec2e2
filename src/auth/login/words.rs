//! What our pages say.

use crate::auth::login::page::Page;

impl Page {
    /// Title and text.
    pub(super) const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Stray => (
                "This sign-in is not yours to finish",
                "It was begun in another browser, or it is finished already.",
            ),
            Self::TooLate => (
                "The sign-in took too long",
                "Nothing is lost. Please begin again.",
            ),
            Self::Mismatch => (
                "The sign-in could not be finished",
                "The answer does not belong to the sign-in that was begun here.",
            ),
            Self::Denied => ("The sign-in was refused", "The sign-in service said no."),
            Self::Failed => (
                "The sign-in failed",
                "The sign-in service did not confirm it.",
            ),
            Self::NotAllowed => (
                "This account may not come in",
                "Please ask your help desk, and name the reference.",
            ),
            Self::Unavailable => (
                "The sign-in service is not reachable",
                "Nothing is lost. Please try again in a moment.",
            ),
            Self::Circles => (
                "The sign-in goes round in circles",
                "It was stopped. Please wait a minute, or ask your help desk and name the reference.",
            ),
            Self::NotRecorded => (
                "Signed out in this browser only",
                "The end of your session could not be recorded yet. It will be as soon as that is possible.",
            ),
            Self::SignOut => ("Sign out?", ""),
            Self::SignedOut => ("Signed out", "You can close this page."),
            Self::OnTheWay => ("Please sign in", "You will be taken to the sign-in page."),
            Self::Arrived => ("You are signed in", "You will be taken to your page."),
            Self::OptIn => (
                "Try the new sign-in page?",
                "From your next sign-in on you will use it, in this browser.",
            ),
            Self::OptOut => (
                "You use the new sign-in page",
                "In this browser, from your next sign-in on.",
            ),
            Self::Name => (
                "Sign in",
                "Please say who you are. The next page asks for your password.",
            ),
            Self::NameAgain => (
                "Sign in",
                "Please type your e-mail address or user name. The next page asks for your password.",
            ),
            Self::Choose => ("Where do you want to sign in?", ""),
            Self::SignInFirst => ("Please sign in first", "Then come back to this address."),
            Self::NotOurForm => ("Not signed out", "The request came from another page."),
            Self::NoAccount => (
                "There is no such page here",
                "Your account is looked after elsewhere. Please ask your help desk.",
            ),
            Self::Back => (
                "Your usual sign-in page is back",
                "You will sign in as you did before.",
            ),
            Self::OnlyThere => (
                "Your account is at the new sign-in service only",
                "It cannot be used at the moment, and the other one does not know you. Nothing is lost. Please try again later.",
            ),
            Self::FormKept => (
                "Please sign in again",
                "Nothing is sent yet. What you typed in is kept for a while: you can send it when you are back.",
            ),
            Self::SendAgain => ("Send what you typed in?", "It has not been sent yet."),
            Self::FormOfAnother => (
                "Nothing was sent",
                "What was typed in here belongs to somebody else who was signed in before. It is gone.",
            ),
            Self::ForSafety => (
                "You were signed out for security",
                "Nothing is lost. Please sign in again; it may be at another page than the last time.",
            ),
            Self::Join => ("Are both accounts yours?", ""),
            Self::NotJoined => (
                "The accounts stay apart",
                "Somebody else may have signed in here before you. Please sign out at the new sign-in service, or ask your help desk and name the reference.",
            ),
            Self::OnceMore => (
                "One more time, please",
                "Your sign-in page has changed while you signed in. Nothing is lost: sign in at the one that comes next, and you get to the page that you wanted.",
            ),
            // The rest is said where the time is known.
            Self::Planned { .. } => ("This is switched off for a while", ""),
            Self::Changed => (
                "Your sign-in page has changed",
                "You will sign in at another page than before, with the account that you were told about.",
            ),
        }
    }
}
