//! A password that somebody types into the sign-in form of the old application. It is read as it passes, and is worth something
//! only once the application has found it good: by the session that it gives, and gives to nobody else.

use std::fmt;

use http::HeaderMap;
use http::HeaderValue;
use http::StatusCode;
use http::header;

use crate::auth::brought::folded;
use crate::auth::brought::name_of;
use crate::auth::cookies;
use crate::auth::login::decode;
use crate::providers::settings::FormFields;
use crate::secret::Secret;

/// The longest name and password together, in bytes: as of `Authorization: Basic`.
const MAX_TYPED: usize = 1_024;

/// The form of an old application, as far as passwords in it move.
#[derive(Debug)]
pub(crate) struct TypedForm {
    /// The path where it is shown.
    start: Box<str>,
    /// Where it is sent to, and what stands in it.
    fields: FormFields,
    /// The cookie by which the application knows who has signed in.
    cookie: Box<str>,
    /// All cookies by which somebody is known at the application, that one among them.
    sessions: Vec<Box<str>>,
}

/// What somebody typed. Nobody has judged it.
pub(crate) struct Typed {
    pub(super) username: Secret<String>,
    pub(super) password: Secret<String>,
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[typed]")
    }
}

impl TypedForm {
    /// `start`: where it is shown, a path and perhaps a query. `cookie`: what a login sets; `sessions`: all by which people are known,
    /// that one among them.
    pub(super) fn new<'a>(
        start: &str,
        fields: FormFields,
        cookie: &str,
        sessions: impl Iterator<Item = &'a str>,
    ) -> Self {
        let path = start.split('?').next().unwrap_or_default();
        Self {
            start: path.into(),
            fields,
            cookie: cookie.into(),
            sessions: sessions.map(Into::into).collect(),
        }
    }

    /// Cookies by which the application signs people in again without a password.
    pub(super) fn remembered(&self) -> &[Box<str>] {
        &self.fields.remembered
    }

    /// The attribute that holds the name that people type; `None`: it is their subject.
    pub(super) fn claim(&self) -> Option<&str> {
        self.fields.claim.as_deref()
    }

    /// Whether it is sent to this path.
    pub(super) fn is_sent_to(&self, path: &str) -> bool {
        *self.fields.action == *path
    }

    /// Name and password among the fields of a form (`application/x-www-form-urlencoded`, UTF-8); `None`: there is not exactly
    /// one of each, or it is none that could come with a request (RFC 7617 §2); or the form says that it is written in another
    /// way, or has a field in which a session could stand; or an application may read another one than this. `query`: of the
    /// address that it is sent to.
    pub(crate) fn read(&self, query: Option<&str>, body: &[u8]) -> Option<Typed> {
        let body = std::str::from_utf8(body).ok()?;
        let sessions = self.sessions.iter().chain(self.remembered());
        let sessions: Vec<_> = sessions.map(|name| folded(name.as_bytes())).collect();
        let ours = [&self.fields.username, &self.fields.password];
        let ours = ours.map(|name| folded(name.as_bytes()));
        let query = query.unwrap_or_default().split(['&', ';']);
        // Some take what stands in the address for what was typed; some end a field at a semicolon.
        let elsewhere = |name: &Vec<u8>| sessions.contains(name) || ours.contains(name);
        if query.map(name_of).any(|name| elsewhere(&name)) || body.contains(';') {
            return None;
        }
        let (mut username, mut password) = (None, None);
        for pair in body.split('&') {
            let folded = name_of(pair);
            if sessions.contains(&folded) {
                return None;
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A name that cannot be read could be one of them once more.
            let name = decode(name).ok()?;
            // How browsers say it (`_charset_` of HTML), where a page wants to know.
            if name == "_charset_" && !value.eq_ignore_ascii_case("utf-8") {
                return None;
            }
            let place = if name == *self.fields.username {
                &mut username
            } else if name == *self.fields.password {
                &mut password
            } else if ours.contains(&folded) {
                return None;
            } else {
                continue;
            };
            let value = Secret::new(decode(value).ok()?);
            if place.replace(value).is_some() {
                return None;
            }
        }
        let (username, password) = (username?, password?);
        let both = [username.expose(), password.expose()];
        let is_good = both.iter().map(|text| text.len()).sum::<usize>() <= MAX_TYPED
            && both
                .iter()
                .all(|text| !text.is_empty() && !text.chars().any(char::is_control))
            && !both.iter().any(|text| has_reference(text));
        is_good.then_some(Typed { username, password })
    }

    /// The session that an answer gives to who filled the form in, as their browser will send it; `None`: nobody was signed in,
    /// as far as that can be seen. `asked`: the fields of the request.
    ///
    /// A session that was there before says nothing of the password, and neither does one that comes with the form once more.
    pub(crate) fn session(
        &self,
        (status, answer): (StatusCode, &HeaderMap),
        asked: &HeaderMap,
    ) -> Option<HeaderMap> {
        let away = matches!(
            status,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER
        );
        let location = only(answer.get_all(header::LOCATION).iter())?;
        if !away || self.leads_back(location.to_str().ok()?) {
            return None;
        }
        let given = answer.get_all(header::SET_COOKIE).iter();
        let value = only(given.filter_map(|field| self.value_in(field.as_bytes())))?;
        let before = cookies::pairs(asked);
        let mut before = before.filter(|(name, _)| *name == self.cookie.as_bytes());
        if value.is_empty() || before.any(|(_, before)| before == value) {
            return None;
        }
        let pair = [self.cookie.as_bytes(), b"=", value].concat();
        let mut pair = HeaderValue::from_bytes(&pair).ok()?;
        pair.set_sensitive(true);
        let mut session = HeaderMap::new();
        session.insert(header::COOKIE, pair);
        Some(session)
    }

    /// The value of the cookie, where a field sets it (RFC 6265 §5.2).
    fn value_in<'a>(&self, field: &'a [u8]) -> Option<&'a [u8]> {
        let pair = cookies::pieces(field).next()?;
        let equals = memchr::memchr(b'=', pair)?;
        let (name, value) = pair.split_at_checked(equals)?;
        let value = value.get(1..).unwrap_or_default();
        (name.trim_ascii() == self.cookie.as_bytes()).then(|| value.trim_ascii())
    }

    /// Whether a redirect leads to the form once more, as those do that say that a password is wrong.
    fn leads_back(&self, location: &str) -> bool {
        let to = path_of(location, &self.fields.action);
        let same = |form: &str| plain(form) == to;
        same(&self.start) || same(&self.fields.action)
    }
}

/// Whether a browser may have written a character like this (`&#1087;`), which its page's letters do not have.
fn has_reference(text: &str) -> bool {
    text.split("&#").skip(1).any(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        end.is_some_and(|end| 0 < end && rest.get(end..).is_some_and(|rest| rest.starts_with(';')))
    })
}

/// The only one.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    match (all.next(), all.next()) {
        (Some(only), None) => Some(only),
        (Some(_) | None, _) => None,
    }
}

/// The path that a reference leads to from a page at `base` (RFC 3986 §5.2), whatever its host, as it is compared.
fn path_of(reference: &str, base: &str) -> String {
    let reference = reference.split(['?', '#']).next().unwrap_or_default();
    let after_scheme = reference
        .split_once("://")
        .filter(|(scheme, _)| !scheme.contains('/'))
        .map(|(_, rest)| rest)
        .or_else(|| reference.strip_prefix("//"));
    if let Some(rest) = after_scheme {
        return plain(rest.split_once('/').map_or("", |(_, path)| path));
    }
    if reference.is_empty() {
        return plain(base);
    }
    if reference.starts_with('/') {
        return plain(reference);
    }
    let directory = base.rsplit_once('/').map_or("", |(directory, _)| directory);
    plain(&format!("{directory}/{reference}"))
}

/// A path without dots and parameters, such as `;jsessionid=…`, and without its ends.
fn plain(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    segments.join("/").to_ascii_lowercase()
}

/// What is read of a form is what its sender wrote, once. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(super) fn promise(bytes: &[u8]) {
    let fields = FormFields {
        action: "/login".into(),
        username: "u".into(),
        password: "p".into(),
        claim: None,
        remembered: Vec::new(),
    };
    let form = TypedForm::new("/login", fields, "SID", ["SID"].into_iter());
    if let Some(typed) = form.read(None, bytes) {
        let both = [typed.username.expose(), typed.password.expose()];
        let length: usize = both.iter().map(|text| text.len()).sum();
        assert!(length <= MAX_TYPED && length <= bytes.len());
        assert!(both.iter().all(|text| !text.is_empty()));
        // Another one of either is one too many.
        for more in [&b"&u=x"[..], b"&%70=x"] {
            assert!(form.read(None, &[bytes, more].concat()).is_none());
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let path = path_of(text, "/a/login");
        assert!(!path.starts_with('/') && !path.contains(['?', '#', ';']));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::headers;

    fn form() -> TypedForm {
        let fields = FormFields {
            action: "/auth/login.do".into(),
            username: "user".into(),
            password: "pass word".into(),
            claim: None,
            remembered: vec!["keep-me".into()],
        };
        TypedForm::new(
            "/auth/?lang=en",
            fields,
            "SID",
            ["SID", "OTHER"].into_iter(),
        )
    }

    fn read(body: &str) -> Option<(String, String)> {
        let typed = form().read(None, body.as_bytes())?;
        assert_eq!(format!("{typed:?}"), "[typed]");
        let (name, password) = (typed.username.expose(), typed.password.expose());
        Some((name.clone(), password.clone()))
    }

    #[test]
    fn a_name_and_a_password_are_read_as_they_were_typed() {
        let both = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(read("user=alice&pass+word=s3"), both("alice", "s3"));
        let encoded = "token=a%ff&pass%20word=+%2B%26%3D%c3%a4+&%75ser=a%40b&next=%2F";
        // What is no text in another field is nobody's business.
        assert_eq!(read(encoded), both("a@b", " +&=ä "));
        let told = "user=alice&pass+word=a&_charset_=UTF-8";
        assert_eq!(read(told), both("alice", "a"));
        let long = "x".repeat(1_019);
        assert!(read(&format!("user=alice&pass+word={long}")).is_some());
        for body in [
            "",
            "user=alice",
            "user=alice&pass+word=",
            "user=&pass+word=a",
            "user=alice&pass+word=a&pass+word=a",
            "user=alice&pass+word=a&pass%20word=b",
            "user=alice&user=bob&pass+word=a",
            "user=alice&pass+word=%ff",
            "user=alice&pass+word=%e4",
            "user=alice&pass+word=a%00",
            "user=alice&pass+word=a%0d%0a",
            "user=alice&pass+word=%zz",
            "user=alice&pass+word=a&pass%2word=b",
            "user=alice;pass+word=a",
            "user=alice&pass+word=a&_charset_=ISO-8859-1",
            "user=alice&pass+word=a&SID=b",
            "user=alice&pass+word=a&s%69d=b",
            "user=alice&pass+word=a&Keep-Me=1",
            "user=alice&pass+word=a&other=b",
            // Which of them an application takes is not known.
            "user=alice&pass+word=a&PASS_WORD=b",
            "user=alice&pass+word=a&pass+word[]=b",
            "user=alice&pass+word=a&User=bob",
            "user=alice&pass+word=a&b;pass+word=c",
            // A letter that the page does not have.
            "user=alice&pass+word=%26%231087%3B",
            "{\"user\":\"alice\",\"pass word\":\"a\"}",
        ] {
            assert_eq!(read(body), None, "{body}");
        }
        assert!(read("user=alice&pass+word=a%26%23%3B%26%23x%3B").is_some());
        for query in [
            "pass+word=b",
            "a=b&USER=bob",
            "SID=c",
            "%4fTHER=c",
            "a;keep-me=1",
        ] {
            let typed = form().read(Some(query), b"user=alice&pass+word=a");
            assert!(typed.is_none(), "{query}");
        }
        let typed = form().read(Some("lang=en"), b"user=alice&pass+word=a");
        assert!(typed.is_some());
        assert_eq!(read(&format!("user=alice&pass+word={long}x")), None);
        assert_eq!(
            form().read(None, b"user=alice&pass+word=\xff").map(|_| ()),
            None
        );
    }

    fn given(status: u16, answer: &[(&'static str, &str)], before: &str) -> Option<String> {
        let status = StatusCode::from_u16(status).unwrap();
        let asked = headers(&[("cookie", before)]);
        let session = form().session((status, &headers(answer)), &asked)?;
        assert_eq!(session.len(), 1);
        Some(session[header::COOKIE].to_str().unwrap().to_owned())
    }

    #[test]
    fn a_session_that_was_not_there_before_says_that_the_password_is_good() {
        let sets = ("set-cookie", "SID=new; Path=/; HttpOnly");
        let lang = ("set-cookie", "lang=en; Path=/");
        let away = ("location", "/home");
        for status in [301, 302, 303] {
            for before in ["a=b", "SID=old", "XSID=new"] {
                let session = given(status, &[lang, sets, away], before);
                assert_eq!(session.as_deref(), Some("SID=new"), "{status} {before}");
            }
        }
        let spaced = [("set-cookie", "\tSID = \"a=b\" ;Path=/"), away];
        assert_eq!(given(302, &spaced, "a=b").as_deref(), Some("SID=\"a=b\""));
        for (status, answer, before) in [
            // The form once more, or something else.
            (200, vec![sets], "a=b"),
            (200, vec![sets, away], "a=b"),
            (307, vec![sets, away], "a=b"),
            (401, vec![sets, away], "a=b"),
            (302, vec![sets], "a=b"),
            (302, vec![sets, away, ("location", "/other")], "a=b"),
            // No session, or two, or the one of before.
            (302, vec![away], "SID=new"),
            (302, vec![sets, away], "SID=new"),
            (302, vec![sets, away], "x=y; SID=old; SID=new"),
            (302, vec![sets, away, ("set-cookie", "SID=other")], "a=b"),
            (302, vec![("set-cookie", "SID=; Max-Age=0"), away], "a=b"),
            (302, vec![("set-cookie", "sid=new"), away], "a=b"),
            (302, vec![("set-cookie", "SID"), away], "a=b"),
        ] {
            assert_eq!(given(status, &answer, before), None, "{status} {answer:?}");
        }
    }

    #[test]
    fn a_redirect_to_the_form_says_that_it_is_not() {
        for back in [
            "/auth/login.do",
            "/auth/login.do?error=1",
            "/auth/login.do;jsessionid=1?error",
            "/auth/Login.do#top",
            "https://app.test/auth/login.do?error",
            "HTTPS://app.test/auth/login.do",
            "//app.test/auth/login.do",
            "/auth",
            "/auth/?lang=en&error",
            "login.do?error",
            "./login.do",
            "../auth/login.do",
            "?error",
            "",
            ".",
        ] {
            assert!(form().leads_back(back), "{back}");
        }
        for away in [
            "/",
            "/home",
            "https://app.test",
            "https://app.test/?next=/auth/login.do",
            "/home?from=https://app.test/auth/login.do",
            "home",
            "../login.do",
            "/login.do",
        ] {
            assert!(!form().leads_back(away), "{away}");
        }
    }
}
