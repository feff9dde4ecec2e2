//! The few pages of ours: fixed texts, nothing that a client sent; no script, but where an address is remembered.

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header::CONTENT_SECURITY_POLICY;
use http::header::CONTENT_TYPE;
use http::header::REFERRER_POLICY;
use http::header::REFRESH;
use http::header::RETRY_AFTER;

use crate::auth::login::reply::RETRY;
pub(super) use crate::auth::login::reply::Sent;
pub(super) use crate::auth::login::reply::redirect;
use crate::auth::login::reply::with;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::look::Forms;
use crate::auth::look::Look;
use crate::auth::look::escaped;
use crate::clock::UnixTime;

/// A page of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Page {
    /// A callback that belongs to no login of this browser.
    Stray,
    /// A login that took longer than ten minutes.
    TooLate,
    /// The answer of the provider does not fit the login.
    Mismatch,
    /// The person, or the provider's policy, said no.
    Denied,
    /// The provider did not judge the login good.
    Failed,
    /// The account is switched off, locked or linked to somebody else.
    NotAllowed,
    /// Nobody could judge.
    Unavailable,
    /// The same redirect again and again.
    Circles,
    /// Whether to sign out.
    SignOut,
    /// Signed out.
    SignedOut,
    /// A request to sign out that came from another site.
    NotOurForm,
    /// Signed out in this browser; that it is over everywhere could not be recorded yet.
    NotRecorded,
    /// The sign-in page that comes next is another one than before.
    Changed,
    /// The sign-in page that comes next is the one from before.
    Back,
    /// The side that everybody is sent to does not know them, and theirs cannot be used.
    OnlyThere,
    /// Signed in; the browser goes on by itself.
    Arrived,
    /// On the way to a sign-in; the browser goes on by itself, with a script.
    OnTheWay,
    /// Whether to be among the first at the new sign-in page.
    OptIn,
    /// Whether not to be among them any more.
    OptOut,
    /// Only for who is signed in.
    SignInFirst,
    /// The provider has no page about accounts.
    NoAccount,
    /// Everything that the new provider had vouched for was ended, and the session with it.
    ForSafety,
    /// A form came on a session that is over; it is kept.
    FormKept,
    /// It can be sent again.
    SendAgain,
    /// It was somebody else's.
    FormOfAnother,
    /// Who somebody is, which decides where they sign in.
    Name,
    /// The same, for what was typed is no name.
    NameAgain,
    /// Where somebody wants to sign in.
    Choose,
    /// Whether two accounts are of the person who has signed in with both.
    Join,
    /// They are not.
    NotJoined,
    /// The sign-in that has just ended counts no more: another one follows, at another page.
    OnceMore,
    /// Minutes in which the old side does not count, as planned.
    Planned {
        /// When they are over,
        until: UnixTime,
        /// which is in so many seconds.
        wait: u64,
    },
}

/// Which page somebody got, as a constant word for the access log; goes along with the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PageName(pub(crate) &'static str);

impl Page {
    /// The word for logs; `None`: nothing went wrong.
    const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Stray => "login_stray",
            Self::TooLate => "login_too_late",
            Self::Mismatch => "login_mismatch",
            Self::Denied => "login_denied",
            Self::Failed => "login_failed",
            Self::NotAllowed => "login_not_allowed",
            Self::Unavailable => "login_unavailable",
            Self::Circles => "login_circles",
            Self::OnlyThere => "login_only_there",
            Self::NotRecorded => "logout_not_recorded",
            Self::NotOurForm => "logout_not_ours",
            Self::SignInFirst => "optin_not_signed_in",
            Self::NoAccount => "account_no_page",
            Self::ForSafety => "login_for_safety",
            Self::FormKept => "form_kept",
            Self::FormOfAnother => "form_of_another",
            Self::Planned { .. } => "login_planned",
            Self::NotJoined => "login_not_joined",
            Self::SignOut
            | Self::SignedOut
            | Self::Changed
            | Self::Back
            | Self::Arrived
            | Self::OnTheWay
            | Self::SendAgain
            | Self::OptIn
            | Self::OptOut
            | Self::Name
            | Self::NameAgain
            | Self::Join
            | Self::OnceMore
            | Self::Choose => return None,
        })
    }

    /// The one place that chooses the status of a page.
    const fn status(self) -> StatusCode {
        match self {
            Self::Stray | Self::TooLate | Self::Mismatch | Self::Failed => StatusCode::BAD_REQUEST,
            Self::Denied
            | Self::NotAllowed
            | Self::NotOurForm
            | Self::SignInFirst
            | Self::FormKept
            | Self::FormOfAnother
            | Self::NotJoined
            | Self::ForSafety => StatusCode::FORBIDDEN,
            Self::Unavailable | Self::OnlyThere | Self::NotRecorded | Self::Planned { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Circles => StatusCode::CONFLICT,
            Self::NoAccount => StatusCode::NOT_FOUND,
            Self::SignOut
            | Self::SignedOut
            | Self::Changed
            | Self::Back
            | Self::Arrived
            | Self::OnTheWay
            | Self::SendAgain
            | Self::OptIn
            | Self::OptOut
            | Self::Name
            | Self::NameAgain
            | Self::Join
            | Self::OnceMore
            | Self::Choose => StatusCode::OK,
        }
    }

    const fn offers(self) -> Offer {
        match self {
            Self::Stray | Self::TooLate | Self::Mismatch | Self::Denied | Self::Failed => {
                Offer::SignIn
            }
            Self::Unavailable
            | Self::OnlyThere
            | Self::SignedOut
            | Self::SignInFirst
            | Self::FormKept
            | Self::OnTheWay => Offer::SignIn,
            Self::NotAllowed
            | Self::Circles
            | Self::NotRecorded
            | Self::NoAccount
            | Self::NotJoined => Offer::Nothing,
            // These come with a form of their own.
            Self::Name
            | Self::NameAgain
            | Self::Choose
            | Self::SendAgain
            | Self::Join
            | Self::OnceMore
            | Self::Planned { .. } => Offer::Nothing,
            Self::SignOut | Self::NotOurForm => Offer::SignOut,
            Self::Changed | Self::Back | Self::ForSafety => Offer::GoOn,
            Self::Arrived | Self::FormOfAnother => Offer::Target,
            Self::OptIn => Offer::In,
            Self::OptOut => Offer::Out,
        }
    }
}

/// The one thing a page lets a person do.
enum Offer {
    Nothing,
    SignIn,
    SignOut,
    GoOn,
    Target,
    In,
    Out,
}

/// A page; `reference` leads an operator to the log line, `target` is where the next sign-in returns to. With an `own_form`
/// it lets a person do that, and nothing else.
pub(super) fn page(
    page: Page,
    reference: Option<&str>,
    (target, own_form): (&ReturnPath, Option<String>),
    cookies: Vec<HeaderValue>,
    look: &Look,
) -> Response<Bytes> {
    let (title, text) = page.words();
    let link = |words: &str| {
        format!(
            "<p><a href=\"{}/login?rd={}\">{words}</a></p>\n",
            super::return_to::OURS,
            super::query::encode(target.as_str())
        )
    };
    let form = |to: &str, words: &str| {
        format!(
            "<form method=\"post\" action=\"{}/{to}\"><button>{words}</button></form>\n",
            super::return_to::OURS
        )
    };
    let (again, forms) = match page.offers() {
        _ if own_form.is_some() => {
            let none = matches!(page, Page::Planned { .. } | Page::OnceMore | Page::FormKept);
            let forms = if none { Forms::None } else { Forms::OurOwn };
            (own_form.unwrap_or_default(), forms)
        }
        Offer::Nothing => (String::new(), Forms::None),
        Offer::SignIn => (link("Sign in"), Forms::None),
        Offer::GoOn => (link("Continue"), Forms::None),
        Offer::Target => {
            let target = escaped(target.as_str());
            let link = format!("<p><a href=\"{target}\">Continue</a></p>\n");
            (link, Forms::None)
        }
        Offer::SignOut => (form("logout", "Sign out"), Forms::OurOwn),
        Offer::In => (form("optin", "Use the new page"), Forms::OurOwn),
        Offer::Out => (
            form("optin?out=1", "Use the usual page again"),
            Forms::OurOwn,
        ),
    };
    // Where nothing went wrong there is nothing to refer to.
    let reference = page.name().and(reference);
    let reference = reference.map_or_else(String::new, |reference| {
        format!("<p>Reference: <code>{reference}</code></p>\n")
    });
    let text = match text {
        "" => String::new(),
        text => format!("<p>{text}</p>\n"),
    };
    let body = look.document(title, &format!("{text}{again}{reference}"));
    let mut response = with(page.status(), Bytes::from(body), cookies);
    let policy = look.policy(forms);
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, policy);
    if forms == Forms::OurOwn {
        // With `no-referrer` browsers send `Origin: null`, and our own form would look like another site's (Fetch, "append a
        // request `Origin` header").
        let value = HeaderValue::from_static("same-origin");
        response.headers_mut().insert(REFERRER_POLICY, value);
    }
    if let Some(name) = page.name() {
        response.extensions_mut().insert(PageName(name));
    }
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    match page {
        Page::Unavailable | Page::OnlyThere | Page::NotRecorded => {
            headers.insert(RETRY_AFTER, RETRY);
        }
        Page::Planned { wait, .. } => {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.max(1)));
        }
        Page::Arrived => {
            if let Ok(value) = HeaderValue::try_from(format!("0;url={}", target.as_str())) {
                headers.insert(REFRESH, value);
            }
        }
        Page::Stray
        | Page::TooLate
        | Page::Mismatch
        | Page::Denied
        | Page::Failed
        | Page::NotAllowed
        | Page::Circles
        | Page::SignOut
        | Page::SignedOut
        | Page::NotOurForm
        | Page::Changed
        | Page::Back
        | Page::ForSafety
        | Page::FormKept
        | Page::SendAgain
        | Page::FormOfAnother
        | Page::OnTheWay
        | Page::OptIn
        | Page::OptOut
        | Page::NoAccount
        | Page::Name
        | Page::NameAgain
        | Page::Choose
        | Page::Join
        | Page::NotJoined
        | Page::OnceMore
        | Page::SignInFirst => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CACHE_CONTROL;

    #[test]
    fn a_page_carries_nothing_but_fixed_words() {
        let target = ReturnPath::parse("/a?b='\"><script>").unwrap();
        let response = page(
            Page::Failed,
            Some("0a1b"),
            (&target, None),
            Vec::new(),
            &Look::default(),
        );
        let body = std::str::from_utf8(response.body()).unwrap();
        assert!(!body.contains("<script>") && body.contains("Reference: <code>0a1b</code>"));
        assert!(body.contains("href=\"/.authferry/login?rd=%2Fa%3Fb%3D%27%22%3E%3Cscript%3E\""));
        let policy = response.headers().get(CONTENT_SECURITY_POLICY).unwrap();
        assert!(policy.to_str().unwrap().starts_with("default-src 'none'"));
        assert_eq!(response.headers().get(CACHE_CONTROL).unwrap(), "no-store");
    }

    #[test]
    fn our_own_form_comes_from_our_own_page() {
        let sent = |shown| {
            let target = ReturnPath::root();
            let response = page(shown, None, (&target, None), Vec::new(), &Look::default());
            response.headers().get(REFERRER_POLICY).unwrap().clone()
        };
        // With `no-referrer` the form of this page would be sent with `Origin: null`.
        assert_eq!(sent(Page::SignOut), "same-origin");
        assert_eq!(sent(Page::SignedOut), "no-referrer");
    }

    #[test]
    fn an_address_with_a_line_feed_goes_nowhere() {
        assert!(redirect(Sent::Found, "https://a/\r\nX: y", Vec::new()).is_none());
    }
}
