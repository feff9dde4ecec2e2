//! Whether a request fills in the sign-in form of the old application, so that a password in it may move.

use http::HeaderMap;
use http::Method;
use http::header;

use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::Request;
use crate::auth::login::logout::From;
use crate::auth::login::query;
use crate::auth::policy::AppPolicy;
use crate::auth::typed_form::TypedForm;
use crate::clock::UnixTime;
use crate::rollout;
use crate::rollout::Arm;
use crate::rollout::KillPosition;

impl Logins {
    /// Whether a request sends the form of the old application, whatever stands in it and wherever it comes from.
    pub(crate) fn is_form(&self, policy: &AppPolicy, request: &Request<'_>) -> bool {
        let sent = |form: &TypedForm| form.is_sent_to(request.facts.path);
        *request.method == Method::POST && policy.typed().is_some_and(sent)
    }

    /// Whether it does, passwords in it move now, and the application's own page has sent it: others could have somebody send
    /// what they never typed, and an application may let people in by more than what stands in its form.
    pub(crate) fn fills_in(
        &self,
        policy: &AppPolicy,
        request: &Request<'_>,
        kill: KillPosition,
    ) -> bool {
        let moves = |plan| rollout::password_moves(plan, kill, Arm::To);
        if !self.is_form(policy, request) || !policy.plan().is_some_and(moves) {
            return false;
        }
        let ask = Ask {
            policy,
            request,
            kill,
            now: UnixTime::default(),
        };
        let plain = is_utf8(request.headers)
            && query::is_form(request.headers)
            && !request.headers.contains_key(header::CONTENT_ENCODING);
        plain && matches!(self.from(&ask), From::OurPage)
    }
}

/// Whether a form is written in UTF-8, as far as it says (browsers do not).
fn is_utf8(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').skip(1).all(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim_ascii().trim_matches('"');
        !name.trim_ascii().eq_ignore_ascii_case("charset") || value.eq_ignore_ascii_case("utf-8")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::fake::COOKIE;
    use crate::auth::fake::World;
    use crate::auth::fake::headers;
    use crate::auth::login::LoginSettings;
    use crate::auth::settings::KeptByLogins;
    use crate::identity::ProviderId;
    use crate::providers::settings::FormFields;
    use crate::rollout::Facts;
    use crate::rollout::Passwords;
    use crate::session::settings::SameSite;

    const FORM: &str = "application/x-www-form-urlencoded";
    const LATIN: &str = "application/x-www-form-urlencoded; Charset=\"iso-8859-1\"";

    /// An old application with a form, whose passwords move.
    fn world() -> World {
        let mut world = World::canary();
        let old = ProviderId::new("old");
        world.forms.insert(old.clone(), "/login?lang=en".to_owned());
        let fields = FormFields {
            action: "/login.do".into(),
            username: "username".into(),
            password: "password".into(),
            claim: None,
            remembered: Vec::new(),
        };
        world.fields.insert(old, fields);
        world.plan.as_mut().unwrap().stage.passwords = Passwords::Moving;
        world
    }

    fn is_read(
        world: &World,
        (method, path): (&Method, &str),
        fields: &[(&'static str, &str)],
        kill: KillPosition,
    ) -> bool {
        let settings = LoginSettings {
            cookie: COOKIE.into(),
            same_site: SameSite::Lax,
            secure: true,
            revision: "0123456789ab".into(),
            silent: None,
            look: Arc::clone(&world.look),
            kept: KeptByLogins::default(),
        };
        let logins = Logins::new(world.deps(), &settings);
        let headers = headers(fields);
        let request = Request {
            facts: Facts {
                path,
                method: method.as_str(),
                ..world.facts()
            },
            authority: "app.test",
            query: Some("next=/"),
            method,
            headers: &headers,
            source: None,
        };
        logins.fills_in(&world.policy(), &request, kill)
    }

    #[tokio::test]
    async fn only_the_form_of_the_applications_own_page_is_read_while_passwords_move() {
        let (kind, origin) = (("content-type", FORM), ("origin", "https://app.test"));
        let site = |site| ("sec-fetch-site", site);
        let sent = (&Method::POST, "/login.do");
        let off = KillPosition::Off;
        let mut world = world();
        for fields in [
            vec![kind, origin],
            vec![kind, origin, site("same-origin")],
            vec![kind, ("origin", "null"), site("same-origin")],
            vec![
                (
                    "content-type",
                    "Application/X-WWW-form-urlencoded; charset=UTF-8",
                ),
                origin,
            ],
        ] {
            assert!(is_read(&world, sent, &fields, off), "{fields:?}");
        }
        for fields in [
            vec![kind],
            vec![origin],
            vec![kind, ("origin", "https://evil.test")],
            vec![kind, ("origin", "null")],
            vec![kind, origin, site("cross-site")],
            vec![kind, origin, site("same-site")],
            vec![kind, origin, ("origin", "https://evil.test")],
            vec![kind, kind, origin],
            vec![kind, origin, ("content-encoding", "gzip")],
            vec![("content-type", LATIN), origin],
            vec![("content-type", "multipart/form-data; boundary=a"), origin],
            vec![("content-type", "application/json"), origin],
            vec![("content-type", "text/plain"), origin],
        ] {
            assert!(!is_read(&world, sent, &fields, off), "{fields:?}");
        }
        let fields = [kind, origin];
        for other in [
            (&Method::GET, "/login.do"),
            (&Method::PUT, "/login.do"),
            (&Method::POST, "/login"),
            (&Method::POST, "/login.do/"),
        ] {
            assert!(!is_read(&world, other, &fields, off), "{other:?}");
        }
        for kill in [
            KillPosition::Freeze,
            KillPosition::Legacy,
            KillPosition::Modern,
            KillPosition::Deny,
        ] {
            assert!(!is_read(&world, sent, &fields, kill), "{kill:?}");
        }
        for passwords in [Passwords::Kept, Passwords::AtFrom] {
            world.plan.as_mut().unwrap().stage.passwords = passwords;
            assert!(!is_read(&world, sent, &fields, off), "{passwords:?}");
        }
        world.plan.as_mut().unwrap().stage.passwords = Passwords::Moving;
        world.fields.clear();
        assert!(!is_read(&world, sent, &fields, off), "nobody said how");
    }
}
