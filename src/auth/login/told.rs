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
use crate::auth::login::query;
use crate::auth::login::return_to::OURS;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::login::start::Begin;
use crate::auth::look::escaped;
use crate::auth::report::Told;
use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::rollout::Arm;
use crate::rollout::KillPosition;
use crate::rollout::Plan;

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
        let newer = begin.device.new_password(plan);
        let form = match newer.filter(|_| page == Page::Back) {
            Some(since) => Some(self.which_password(&begin, plan, since, form)),
            None => form,
        };
        let page = self.page_with(ask, page, &begin.target, begin.cookies, form);
        Err(Box::new(page))
    }

    /// Which password somebody needs who has another one at the new side since they moved, and where they get another one.
    fn which_password(
        &self,
        begin: &Begin,
        plan: &Plan,
        since: UnixTime,
        form: Option<String>,
    ) -> String {
        let second = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let day = jiff::Timestamp::from_second(second);
        let day = day.map_or_else(
            |_out_of_range| String::from("you came there"),
            |day| day.strftime("%Y-%m-%d").to_string(),
        );
        let accounts = self.look.accounts.get(&plan.from);
        let reset = accounts.and_then(|pages| pages.password.as_deref());
        let reset = reset.map_or_else(String::new, |address| {
            let address = escaped(address);
            format!(
                " If you do not know it any more, <a href=\"{address}\">choose another one</a>."
            )
        });
        let on = form.unwrap_or_else(|| {
            let target = query::encode(begin.target.as_str());
            format!("<p><a href=\"{OURS}/login?rd={target}\">Continue</a></p>\n")
        });
        format!(
            "<p>The other page has a new password of yours since {day}. Here you need the one from before.{reset}</p>\n{on}"
        )
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
