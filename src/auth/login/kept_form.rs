//! A form that came when the session was over: kept while its sender signs in, and sent again by a button of ours. Only what
//! the application's own page sent is kept; only the browser that sent it gets it back, once, and not as somebody else.

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Response;
use serde::Deserialize;
use serde::Serialize;
use tracing::warn;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::Request;
use crate::auth::login::device::tag;
use crate::auth::login::logout::From;
use crate::auth::login::navigation;
use crate::auth::login::page;
use crate::auth::login::page::Page;
use crate::auth::login::page::Sent;
use crate::auth::login::query;
use crate::auth::login::query::Query;
use crate::auth::login::return_to::OURS;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::look::escaped;
use crate::auth::policy::AppPolicy;
use crate::clock::UnixTime;
use crate::rollout::KillPosition;
use crate::secret::Secret;
use crate::session::SessionId;

/// The most fields of a form that is kept.
const MAX_FIELDS: usize = 1_000;

/// A form, before it is sealed.
#[derive(Deserialize, Serialize)]
struct Kept {
    host: String,
    target: String,
    /// A digest of whose session it came on.
    person: String,
    fields: Vec<(String, String)>,
}

impl Logins {
    /// Whether a request that is turned away is a form that the application's own page sent for somebody who had a session.
    pub(crate) fn may_keep_form(&self, policy: &AppPolicy, request: &Request<'_>) -> bool {
        let ask = Ask {
            policy,
            request,
            kill: KillPosition::Off,
            now: UnixTime::default(),
        };
        *request.method == Method::POST
            && navigation::is_top_level(request.headers)
            && query::is_form(request.headers)
            && matches!(self.from(&ask), From::OurPage)
            && self.session_id(&ask).is_some()
    }

    /// Keeps it, and says so; `None`: it cannot be kept.
    pub(crate) async fn keep_form(
        &self,
        policy: &AppPolicy,
        request: &Request<'_>,
        body: &[u8],
        now: UnixTime,
    ) -> Option<Response<Bytes>> {
        let ask = &Ask {
            policy,
            request,
            kill: KillPosition::Off,
            now,
        };
        let target = ask.target();
        // An address that is not returned to is not sent to either, nor one without its query.
        if !is_whole(&target, request.facts.path, request.query) {
            return None;
        }
        let device = self.device(ask);
        let kept = Kept {
            host: request.facts.host.to_owned(),
            target: target.as_str().to_owned(),
            // Whoever may be anybody could be given what somebody else wants them to send: it is theirs whose session it came
            // on, if that is the one of this browser's last login.
            person: device.person_of(&self.session_id(ask)?.row())?.to_owned(),
            fields: fields(body)?,
        };
        let plain = Secret::new(serde_json::to_vec(&kept).ok()?);
        let given = self
            .deps
            .sessions
            .keep_form(plain.expose(), self.kept.forms, now)
            .await;
        let given = given.unwrap_or_else(|error| {
            warn!(%error, "A form could not be kept.");
            None
        })?;
        // Nobody could ask for an earlier one any more.
        let earlier = cookies::named(request.headers, &self.names.form());
        if let Some(earlier) = earlier.text().and_then(SessionId::parse)
            && let Err(error) = self.deps.sessions.take_form(earlier, now).await
        {
            warn!(%error, "A form that was kept before ends by itself.");
        }
        let cookie = self.names.set(
            &self.names.form(),
            given.expose(),
            Keep::For(self.kept.forms),
        )?;
        let cookies = self.forget_session(ask).into_iter().chain([cookie]);
        let sign_in = format!(
            "<p>It is kept for {}.</p>\n<p><a href=\"{OURS}/login?rd={}\">Sign in</a></p>\n",
            minutes(self.kept.forms),
            query::encode(target.as_str())
        );
        let cookies = cookies.collect();
        Some(self.page_with(ask, Page::FormKept, &target, cookies, Some(sign_in)))
    }

    /// Where a login leads whose browser has a form to send.
    pub(super) fn has_form(&self, ask: &Ask<'_>, target: &ReturnPath) -> Option<String> {
        let sent = cookies::named(ask.request.headers, &self.names.form());
        sent.text().and_then(SessionId::parse)?;
        Some(format!("{OURS}/form?rd={}", query::encode(target.as_str())))
    }

    /// `/.authferry/form`: the form, for who is signed in now, with one button. It is given back once.
    pub(super) async fn kept_form(&self, ask: &Ask<'_>) -> Response<Bytes> {
        let query = Query::parse(ask.request.query).unwrap_or_default();
        let target = query.value("rd").and_then(ReturnPath::parse);
        let target = target.unwrap_or_else(ReturnPath::root);
        let name = self.names.form();
        let given = cookies::named(ask.request.headers, &name)
            .text()
            .and_then(SessionId::parse)
            .filter(|_| *ask.request.method == Method::GET);
        let Some(restored) = self.session(ask).await else {
            return self.page(ask, Page::SignInFirst, &target, Vec::new());
        };
        let found = match given {
            Some(given) => self.deps.sessions.take_form(given, ask.now).await,
            None => Ok(None),
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "A form that was kept cannot be read.");
                return self.page(ask, Page::Unavailable, &target, Vec::new());
            }
        };
        let cookies: Vec<HeaderValue> = self
            .names
            .set(&name, "", Keep::Forget)
            .into_iter()
            .collect();
        let kept: Option<Kept> =
            found.and_then(|plain| serde_json::from_slice(plain.expose()).ok());
        let kept = kept.filter(|kept| kept.host == ask.request.facts.host);
        let Some(kept) = kept else {
            let on = page::redirect(Sent::SeeOther, target.as_str(), cookies);
            return on.unwrap_or_else(|| self.page(ask, Page::Failed, &target, Vec::new()));
        };
        let address =
            ReturnPath::parse(&kept.target).filter(|_| kept.person == tag(restored.canonical()));
        let Some(address) = address else {
            return self.page(ask, Page::FormOfAnother, &target, cookies);
        };
        let form = form(&address, &kept.fields);
        self.page_with(ask, Page::SendAgain, &target, cookies, Some(form))
    }
}

/// Whether a target is all of what was asked for.
fn is_whole(target: &ReturnPath, path: &str, query: Option<&str>) -> bool {
    match query {
        Some(query) => target.as_str().split_once('?') == Some((path, query)),
        None => target.as_str() == path,
    }
}

fn form(address: &ReturnPath, fields: &[(String, String)]) -> String {
    let hidden = |(name, value): &(String, String)| {
        let (name, value) = (attribute(name), attribute(value));
        format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">\n")
    };
    let fields: String = fields.iter().map(hidden).collect();
    let address = escaped(address.as_str());
    format!(
        "<form method=\"post\" action=\"{address}\" accept-charset=\"utf-8\">\n{fields}<button>Send</button></form>\n"
    )
}

/// Lines stay lines: a parser of HTML would change their ends.
fn attribute(text: &str) -> String {
    let text = escaped(text).replace('\r', "&#13;");
    text.replace('\n', "&#10;")
}

/// The fields of a form (`application/x-www-form-urlencoded`); `None`: what could not be sent again as it was.
fn fields(body: &[u8]) -> Option<Vec<(String, String)>> {
    let body = std::str::from_utf8(body).ok()?;
    let pairs = body.split('&').filter(|pair| !pair.is_empty());
    let read = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (query::decode(name).ok()?, query::decode(value).ok()?);
        // A field of this name would be filled in by the browser.
        let plain = !name.eq_ignore_ascii_case("_charset_")
            && !name.contains('\0')
            && !value.contains('\0');
        plain.then_some((name, value))
    });
    let fields: Vec<_> = read.collect::<Option<_>>()?;
    (fields.len() <= MAX_FIELDS).then_some(fields)
}

/// What is read of a form is read again when it is sent again, and none of it is markup. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(super) fn promise(bytes: &[u8]) {
    let Some(read) = fields(bytes) else {
        return;
    };
    let pair = |(name, value): &(String, String)| {
        let (name, value) = (query::encode(name), query::encode(value));
        format!("{name}={value}")
    };
    let written: Vec<String> = read.iter().map(pair).collect();
    assert_eq!(fields(written.join("&").as_bytes()).as_ref(), Some(&read));
    let page = form(&ReturnPath::root(), &read);
    let count = |part: char| page.matches(part).count();
    assert_eq!(
        (count('<'), count('"')),
        (4 + read.len(), 6 + 6 * read.len())
    );
}

/// A span in the words of a page.
fn minutes(span: std::time::Duration) -> String {
    match span.as_secs() / 60 {
        0 | 1 => String::from("a minute"),
        minutes => format!("{minutes} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_returned_to_is_all_of_what_was_asked_for() {
        let is = |target, path, query| is_whole(&ReturnPath::parse(target).unwrap(), path, query);
        assert!(is("/a?b=c?d", "/a", Some("b=c?d")) && is("/", "/", None));
        assert!(is("/a?", "/a", Some("")));
        assert!(!is("/", "/", Some("action=pay")) && !is("/", "/a", None));
        assert!(!is("/a", "/a", Some("")));
    }

    #[test]
    fn a_form_is_written_as_it_was_read() {
        let read = fields(b"note=a+%26+b%0D%0Ac&x=%22%3E%3Cscript%3E&empty=&alone").unwrap();
        let expected = [
            ("note", "a & b\r\nc"),
            ("x", "\"><script>"),
            ("empty", ""),
            ("alone", ""),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read, expected);
        let address = ReturnPath::parse("/save?a=b&c=\"").unwrap();
        let written = form(&address, &read);
        assert!(
            written.contains("action=\"/save?a=b&amp;c=&quot;\""),
            "{written}"
        );
        let value = "value=\"a &amp; b&#13;&#10;c\"";
        assert!(written.contains(value), "{written}");
        assert!(!written.contains("<script>"), "{written}");
        for bad in [
            &b"a=%ff"[..],
            b"a=%zz",
            b"\xff=a",
            b"_charset_=",
            b"_Charset_=",
            b"a=%00",
        ] {
            assert!(fields(bad).is_none(), "{bad:?}");
        }
        assert!(fields("a&".repeat(MAX_FIELDS + 1).as_bytes()).is_none());
    }
}
