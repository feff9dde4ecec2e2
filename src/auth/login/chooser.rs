//! What somebody is asked before a sign-in page, where a rule needs to know it: what they are called, or which page it is to be.
//!
//! Nobody vouches for what they say, so it steers this login and nothing else. Whether there is such a person cannot be told
//! from what follows: the same questions are asked of the store, and every name leads to a sign-in page.

use std::fmt;
use std::fmt::Write as _;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;

use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::callback::Returned;
use crate::auth::login::device::Device;
use crate::auth::login::logout::From;
use crate::auth::login::page::Page;
use crate::auth::login::query::Query;
use crate::auth::login::query::encode;
use crate::auth::login::query::is_form;
use crate::auth::login::return_to::OURS;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::login::start::Begin;
use crate::auth::look::escaped;
use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::rollout;
use crate::rollout::Acceptance;
use crate::rollout::Arm;
use crate::rollout::BeforeKnown;
use crate::rollout::LoginBegun;
use crate::rollout::Pin;
use crate::rollout::Plan;
use crate::rollout::RuleRef;

/// The longest name that is read, in bytes: that of an address (RFC 5321 §4.5.3.1.3).
const MAX_HINT: usize = 254;

/// What somebody calls themselves.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Hint {
    typed: Box<str>,
    folded: Box<str>,
    /// Whom links know by it.
    unit: Option<Box<str>>,
}

impl Hint {
    /// Reads a name; `None`: it is empty, too long, or holds what nobody types.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let typed = text.trim();
        let fine = !typed.is_empty() && typed.len() <= MAX_HINT;
        (fine && !typed.chars().any(char::is_control)).then(|| Self {
            typed: typed.into(),
            folded: typed.to_lowercase().into(),
            unit: None,
        })
    }

    /// As it was typed, without white space around it.
    pub(super) fn typed(&self) -> &str {
        &self.typed
    }

    /// In small letters.
    pub(super) fn folded(&self) -> &str {
        &self.folded
    }

    /// What a bucket is made of.
    pub(super) fn unit(&self) -> &str {
        self.unit.as_deref().unwrap_or(&self.folded)
    }

    /// What a browser remembers of it.
    pub(super) fn tag(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.folded.as_bytes());
        URL_SAFE_NO_PAD.encode(hash.as_ref().get(..12).unwrap_or_default())
    }
}

impl Logins {
    /// A form of ours that came back: what its person says. What another site has sent says nothing.
    pub(super) fn hears(&self, ask: &Ask<'_>, body: &[u8], begin: &mut Begin) {
        match self.from(ask) {
            From::OurPage if is_form(ask.request.headers) => {}
            From::OurPage | From::Elsewhere => return,
        }
        let text = std::str::from_utf8(body).ok();
        let Some(form) = text.and_then(|text| Query::parse(Some(text)).ok()) else {
            return;
        };
        begin.hint = form.given("identifier").and_then(Hint::parse);
        begin.misread = form.given("identifier").is_some() && begin.hint.is_none();
        let plan = ask.policy.plan();
        begin.chosen = form
            .value("at")
            .and_then(|name| plan?.arm(&ProviderId::new(name)));
    }

    /// Goes on with a login of which everything is known that its rules ask for; else asks.
    pub(super) async fn ask_first(
        &self,
        ask: &Ask<'_>,
        mut begin: Begin,
    ) -> Result<Begin, Box<Response<Bytes>>> {
        let plan = ask.policy.plan().filter(|_| begin.directed.is_none());
        let Some(plan) = plan else {
            return Ok(begin);
        };
        let (cohorts, key) = (&self.deps.cohorts, &self.deps.bucket_key);
        // Whoever begins anew goes on with what is known of them: a question would lead back to a first login, and round again.
        let anew = 0 < begin.restarts;
        if !anew && rollout::wants_identifier(plan, cohorts, ask.kill, &begin.facts(ask), ask.now) {
            let page = if begin.misread {
                Page::NameAgain
            } else {
                Page::Name
            };
            let form = name_form(&begin);
            return Err(self.asks(ask, begin, page, form));
        }
        self.look_up(plan, &mut begin, ask.now).await;
        let facts = begin.facts(ask);
        let pin = begin.pin_of(plan);
        let assigned = rollout::assign(plan, cohorts, key, ask.kill, pin, &facts, ask.now);
        if assigned.rule != RuleRef::Choice {
            return Ok(begin);
        }
        let doors = [Arm::From, Arm::To].into_iter();
        let doors: Vec<Arm> = doors
            .filter(|arm| self.opens(ask, &begin, plan, *arm))
            .collect();
        match (begin.chosen, doors.as_slice()) {
            (Some(arm), doors) if doors.contains(&arm) => Ok(begin),
            // There is nothing to choose.
            (_, []) => Ok(Begin {
                chosen: None,
                ..begin
            }),
            (_, [only]) => Ok(Begin {
                chosen: Some(*only),
                ..begin
            }),
            _ if anew => Ok(begin),
            (_, doors) => {
                let doors = doors.iter().map(|arm| plan.provider(*arm));
                let form = self.choice_form(&begin, doors);
                Err(self.asks(ask, begin, Page::Choose, form))
            }
        }
    }

    /// Whose the name is, for the bucket.
    async fn look_up(&self, plan: &Plan, begin: &mut Begin, now: UnixTime) {
        let (BeforeKnown::IdentifierFirst, Some(hint)) =
            (plan.bucketing.before_known, &mut begin.hint)
        else {
            return;
        };
        let providers = [&plan.from, &plan.to].map(|id| {
            let provider = self.deps.providers.named(id);
            let issuer = provider.and_then(|provider| provider.owns().issuers.first());
            (id.clone(), issuer.cloned())
        });
        let found = self.deps.joiner.steered(&hint.typed, &providers, now).await;
        hint.unit = found.map(|person| person.as_str().into());
    }

    /// Whether somebody can sign in at a side now, as far as that is known before they do.
    fn opens(&self, ask: &Ask<'_>, begin: &Begin, plan: &Plan, arm: Arm) -> bool {
        let provider = plan.provider(arm);
        let owner = self.deps.providers.named(provider);
        let door = owner.is_some_and(|owner| owner.login().is_some())
            || ask.policy.forms.contains_key(provider);
        let begun = LoginBegun {
            // It has not begun: no grace is for it.
            at: UnixTime::NEVER,
            fallback: false,
        };
        let (cohorts, facts) = (&self.deps.cohorts, begin.facts(ask));
        let accepted =
            rollout::accept_login(plan, cohorts, ask.kill, provider, begun, &facts, ask.now);
        match accepted {
            Acceptance::Accepted | Acceptance::OnlyExcept => door,
            Acceptance::NotAccepted | Acceptance::Quarantined => false,
        }
    }

    fn asks(
        &self,
        ask: &Ask<'_>,
        mut begin: Begin,
        page: Page,
        form: String,
    ) -> Box<Response<Bytes>> {
        begin.cookies.extend(self.forget_used(&begin));
        begin.cookies.extend(self.keep_device(ask, &begin.device));
        Box::new(self.page_with(ask, page, &begin.target, begin.cookies, Some(form)))
    }

    fn choice_form<'a>(
        &self,
        begin: &Begin,
        doors: impl Iterator<Item = &'a ProviderId>,
    ) -> String {
        let mut fields = kept(begin.hint.as_ref(), None);
        for provider in doors {
            let (name, called) = (escaped(provider.as_str()), self.look.called(provider));
            let button = format!("<p><button name=\"at\" value=\"{name}\">{called}</button></p>\n");
            fields.push_str(&button);
        }
        form(&begin.target, &fields)
    }
}

impl Returned<'_> {
    /// The login once more, with what its person has said before it.
    pub(super) fn once_more(&self, pin: Option<Pin>, device: Device) -> Begin {
        let plan = self.ask.policy.plan();
        let plan = plan.filter(|_| *self.flow.rule == *RuleRef::Choice.label());
        Begin {
            pin,
            restarts: self.flow.restarts + 1,
            used: Some(self.slot),
            hint: self.flow.hint(),
            chosen: plan.and_then(|plan| plan.arm(&self.flow.provider())),
            ..Begin::new(self.flow.target(), device)
        }
    }
}

/// The form that goes on with what has been said already; `None`: nothing has, and a link is enough.
pub(super) fn goes_on(begin: &Begin, plan: &Plan) -> Option<String> {
    if begin.hint.is_none() && begin.chosen.is_none() {
        return None;
    }
    let chosen = begin.chosen.map(|arm| plan.provider(arm));
    let mut fields = kept(begin.hint.as_ref(), chosen);
    fields.push_str("<p><button>Continue</button></p>\n");
    Some(form(&begin.target, &fields))
}

fn name_form(begin: &Begin) -> String {
    let wrong = if begin.misread {
        " aria-invalid=\"true\""
    } else {
        ""
    };
    let fields = format!(
        "<p><label for=\"identifier\">E-mail address or user name</label></p>\n\
         <p><input id=\"identifier\" name=\"identifier\" type=\"text\" autocomplete=\"username\" autocapitalize=\"none\" \
         spellcheck=\"false\" maxlength=\"{MAX_HINT}\" required autofocus{wrong}></p>\n\
         <p><button>Continue</button></p>\n"
    );
    form(&begin.target, &fields)
}

fn kept(hint: Option<&Hint>, chosen: Option<&ProviderId>) -> String {
    let mut fields = String::new();
    let values = [
        ("identifier", hint.map(Hint::typed)),
        ("at", chosen.map(ProviderId::as_str)),
    ];
    for (name, value) in values {
        let Some(value) = value.map(escaped) else {
            continue;
        };
        // Writing to a text does not fail.
        let _written = writeln!(
            fields,
            "<input type=\"hidden\" name=\"{name}\" value=\"{value}\">"
        );
    }
    fields
}

fn form(target: &ReturnPath, fields: &str) -> String {
    let target = encode(target.as_str());
    format!("<form method=\"post\" action=\"{OURS}/login?rd={target}\">\n{fields}</form>\n")
}

impl fmt::Debug for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[name]")
    }
}

/// A name that is taken is taken again as it is, and is a text where it stands in a page. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(super) fn promise(text: &str) {
    let Some(hint) = Hint::parse(text) else {
        return;
    };
    assert_eq!(Hint::parse(hint.typed()), Some(hint.clone()));
    assert!(hint.typed().len() <= MAX_HINT && !hint.typed().contains(char::is_control));
    assert_eq!(hint.tag().len(), 16);
    let field = kept(Some(&hint), None);
    assert_eq!(field.matches(['<', '>']).count(), 2, "{field}");
    assert_eq!(field.matches('"').count(), 6, "{field}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_once_whatever_its_letters() {
        let hint = Hint::parse(" Alice@Corp.Example\t").unwrap();
        assert_eq!(hint.typed(), "Alice@Corp.Example");
        assert_eq!(
            (hint.folded(), hint.unit()),
            ("alice@corp.example", "alice@corp.example")
        );
        assert_eq!(hint.tag(), Hint::parse("alice@corp.example").unwrap().tag());
        assert_eq!(hint.tag().len(), 16);
        assert_eq!(format!("{hint:?}"), "[name]");
        let long = "a".repeat(255);
        for none in ["", "  ", "a\nb", "a\u{0}", long.as_str()] {
            assert_eq!(Hint::parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_is_kept_in_a_page_is_text() {
        let hint = Hint::parse("\"><script>alert(1)</script>&").unwrap();
        let fields = kept(Some(&hint), Some(&ProviderId::new("new")));
        assert_eq!(
            fields,
            "<input type=\"hidden\" name=\"identifier\" value=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;\">\n\
             <input type=\"hidden\" name=\"at\" value=\"new\">\n"
        );
    }
}
