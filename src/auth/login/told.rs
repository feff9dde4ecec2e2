//! What somebody is told before a sign-in page that they do not expect: that it is another one than last time, or that theirs
//! cannot be used now and the other one does not know them.

use bytes::Bytes;
use http::Response;
use http::header::LOCATION;
use http::header::SET_COOKIE;

use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::chooser;
use crate::auth::login::device::Device;
use crate::auth::login::page::Page;
use crate::auth::login::place::Place;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::login::start::Begin;
use crate::auth::look::escaped;
use crate::auth::report::Told;
use crate::identity::ProviderId;
use crate::rollout::Arm;
use crate::rollout::KillPosition;

impl Logins {
    /// The page that tells somebody, once, that they will sign in elsewhere from now on, or where they did before.
    pub(super) fn tell_of_change(
        &self,
        ask: &Ask<'_>,
        mut begin: Begin,
        place: &Place,
    ) -> Result<Begin, Box<Response<Bytes>>> {
        if !self.look.changed || begin.directed.is_some() || 0 < begin.restarts {
            return Ok(begin);
        }
        let Some(plan) = ask.policy.plan() else {
            return Ok(begin);
        };
        let page = match plan.arm(&place.provider) {
            Some(Arm::To) if begin.device.is_to_be_told() => Page::Changed,
            Some(Arm::From) if begin.device.is_to_be_told_back(plan) => Page::Back,
            Some(Arm::To | Arm::From) | None => return Ok(begin),
        };
        begin.cookies.extend(self.keep_device(ask, &begin.device));
        let form = chooser::goes_on(&begin, plan);
        let page = self.page_with(ask, page, &begin.target, begin.cookies, form);
        Err(Box::new(page))
    }

    /// The same where somebody has just signed in at a page that counts no more. The login that follows is begun: a second time
    /// is another page.
    pub(super) fn says_once_more(
        &self,
        ask: &Ask<'_>,
        (left, target): (&ProviderId, &ReturnPath),
        response: Response<Bytes>,
    ) -> Response<Bytes> {
        let told = response.extensions().get::<Told>().cloned();
        let next = told.as_ref().and_then(|told| told.provider.as_ref());
        let location = response.headers().get(LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        let (Some(location), true) = (location, self.look.changed && next != Some(left)) else {
            return response;
        };
        let link = escaped(location);
        let link = format!("<p><a href=\"{link}\">Continue</a></p>\n");
        let cookies = response.headers().get_all(SET_COOKIE);
        let cookies = cookies.iter().cloned().collect();
        let mut page = self.page_with(ask, Page::OnceMore, target, cookies, Some(link));
        page.extensions_mut().extend(response.extensions().clone());
        page
    }

    /// Whether the switch sends everybody to the old side, and the person of this browser has no account there.
    pub(super) fn is_only_there(&self, ask: &Ask<'_>, device: &Device) -> bool {
        match (ask.kill, ask.policy.plan()) {
            (KillPosition::Legacy, Some(plan)) => !plan.closed && device.is_only_there(plan),
            (
                KillPosition::Off
                | KillPosition::Freeze
                | KillPosition::Legacy
                | KillPosition::Modern
                | KillPosition::Deny,
                _,
            ) => false,
        }
    }

    /// Nobody can let them in for now, and they are told why.
    pub(super) fn only_there(&self, ask: &Ask<'_>, mut begin: Begin) -> Response<Bytes> {
        begin.cookies.extend(self.forget_used(&begin));
        self.page(ask, Page::OnlyThere, &begin.target, begin.cookies)
    }
}
