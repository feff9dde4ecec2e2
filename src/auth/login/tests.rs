//! Whole logins, as a browser goes through them.

#![expect(clippy::string_slice, reason = "what is cut is ASCII")]

mod account;
mod answered;
mod app_logout;
mod back;
mod both;
mod broken_off;
mod carry;
mod chooser;
mod first;
mod joined;
mod kept;
mod lifetimes;
mod linked;
mod meanwhile;
mod planned;
mod recalled;
mod signs_out;
mod wrap;

use super::*;
use crate::auth::extract::extract;
use crate::auth::fake::COOKIE;
use crate::auth::fake::FakeDirectory;
use crate::auth::fake::FakeProvider;
use crate::auth::fake::World;
use crate::auth::fake::at;
use crate::auth::fake::identity;
use crate::auth::fake::plan;
use crate::auth::gate::Admitted;
use crate::auth::gate::Gate;
use crate::control::Departure;
use crate::identity::CanonicalSubject;
use crate::identity::Outage;
use crate::rollout::AcceptOverride;
use crate::rollout::Arm;
use crate::rollout::AssignRule;
use crate::rollout::BasicPolicy;
use crate::rollout::Fallback;
use crate::rollout::LoginPolicy;
use crate::rollout::Mode;
use crate::rollout::Percent;
use crate::rollout::PinnedAtFrom;
use crate::rollout::SessionPolicy;
use crate::rollout::Share;
use crate::store::FakeStore;
use http::HeaderName;
use http::StatusCode;
use http::header::ACCEPT;
use http::header::COOKIE as COOKIE_HEADER;
use http::header::LOCATION;
use http::header::SET_COOKIE;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A browser: it keeps cookies, and says when it opens a page.
#[derive(Clone, Default)]
struct Browser {
    jar: BTreeMap<String, String>,
}

/// What it saw.
#[derive(Debug)]
struct Seen {
    status: StatusCode,
    location: String,
    refresh: String,
    retry_after: String,
    link: String,
    body: String,
    set: Vec<String>,
    admitted: Option<Admitted>,
}

impl Browser {
    fn cookies(&self) -> String {
        let pairs: Vec<_> = self
            .jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    fn flows(&self) -> usize {
        self.jar
            .keys()
            .filter(|name| name.contains("_flow_"))
            .count()
    }

    fn take(&mut self, set: &[String]) {
        for cookie in set {
            assert!(
                cookie.contains("; Path=/; ")
                    && (cookie.contains("; HttpOnly; SameSite=Lax; Secure")
                        || cookie.starts_with(&format!("{COOKIE}="))
                            && cookie.contains("; HttpOnly; SameSite=Strict; Secure"))
            );
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

/// One request, with everything a test may want to change.
struct Visit<'a> {
    method: Method,
    target: &'a str,
    fields: Vec<(&'static str, &'a str)>,
    host: &'static str,
    kill: KillPosition,
    now: UnixTime,
    /// Of a form.
    body: &'a str,
    same_site: SameSite,
    /// What is open asks, and no request.
    still: bool,
    /// Nobody waits for the answer.
    gone: bool,
}

impl<'a> Visit<'a> {
    fn to(target: &'a str) -> Self {
        Self {
            method: Method::GET,
            target,
            fields: vec![("accept", "text/html")],
            host: "app.test",
            kill: KillPosition::Off,
            now: at(0),
            body: "",
            same_site: SameSite::Lax,
            still: false,
            gone: false,
        }
    }

    fn strictly(mut self) -> Self {
        self.same_site = SameSite::Strict;
        self
    }

    /// As a browser opens a page that says so.
    fn in_a_tab(mut self) -> Self {
        self.fields.push(("sec-fetch-mode", "navigate"));
        self.fields.push(("sec-fetch-dest", "document"));
        self
    }

    fn at(mut self, seconds: u64) -> Self {
        self.now = at(seconds);
        self
    }

    /// Of a browser that does not wait for the answer.
    fn gone(mut self) -> Self {
        self.gone = true;
        self
    }

    fn killed(mut self, kill: KillPosition) -> Self {
        self.kill = kill;
        self
    }

    async fn with(self, world: &World, browser: &mut Browser) -> Seen {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        if !browser.jar.is_empty() {
            headers.insert(
                COOKIE_HEADER,
                HeaderValue::from_str(&browser.cookies()).unwrap(),
            );
        }
        let settings = LoginSettings {
            cookie: COOKIE.into(),
            same_site: self.same_site,
            secure: true,
            revision: "0123456789ab".into(),
            silent: world.silent,
            look: Arc::clone(&world.look),
            kept: KeptByLogins::default(),
        };
        let (policy, logins) = (world.policy(), Logins::new(world.deps(), &settings));
        let facts = Facts {
            host: self.host,
            path,
            method: self.method.as_str(),
            ..world.facts()
        };
        let trace = crate::telemetry::Tracer::new(crate::entropy::SystemEntropy, 0).context(None);
        let request = Request {
            facts,
            authority: self.host,
            query,
            method: &self.method,
            headers: &headers,
            source: Some(Source {
                request_id: "00c0ffee00c0ffee",
                trace: &trace,
                client: None,
                began: tokio::time::Instant::now(),
            }),
        };
        let mut admitted = None;
        let response = match logins.endpoint(path) {
            Some(endpoint) => {
                let body = self.body.as_bytes();
                let served =
                    logins.serve(&policy, &endpoint, (&request, body), self.kill, self.now);
                Box::pin(served).await
            }
            None => {
                let gate = Gate::new(world.deps());
                let judged = match extract(&headers, None, policy.owners(), &[]) {
                    Ok(Some(presented)) => {
                        let way = (&facts, &world.channel());
                        let judged = if self.still {
                            let judged =
                                gate.admit_again(&policy, 0, &presented, way, self.kill, self.now);
                            Box::pin(judged).await
                        } else {
                            let judged =
                                gate.admit(&policy, 0, &presented, way, self.kill, self.now);
                            Box::pin(judged).await
                        };
                        judged.map(Some)
                    }
                    Ok(None) => Ok(None),
                    Err(error) => Err(error),
                };
                let why = match judged {
                    Ok(Some(good)) => {
                        admitted = Some(good);
                        None
                    }
                    Ok(None) => None,
                    Err(error) => Some(error),
                };
                if let Some(good) = &admitted
                    && let Some(cookie) = logins.keeps(good)
                {
                    let mut response = Response::new(Bytes::new());
                    response.headers_mut().insert(SET_COOKIE, cookie);
                    response
                } else if let Some(good) = &admitted {
                    let may =
                        logins.may_carry_over(&policy, (request.method, request.headers), good);
                    let carried = if may {
                        let (kill, now) = (self.kill, self.now);
                        let asked = logins.carry_over(&policy, &request, good, kill, now);
                        Box::pin(asked).await
                    } else {
                        None
                    };
                    carried.unwrap_or_default()
                } else {
                    let away =
                        logins.turn_away(&policy, &request, why.as_ref(), self.kill, self.now);
                    match Box::pin(away).await {
                        TurnedAway::Page(response) => response,
                        TurnedAway::Answer(answer) => {
                            let kept = if logins.may_keep_form(&policy, &request) {
                                let body = self.body.as_bytes();
                                Box::pin(logins.keep_form(&policy, &request, body, self.now)).await
                            } else {
                                None
                            };
                            kept.unwrap_or_else(|| plain(&answer))
                        }
                    }
                }
            }
        };
        let departure = response.extensions().get::<Departure>();
        if let Some(departure) = departure.filter(|_| !self.gone) {
            departure.is_told();
        }
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let set: Vec<_> = response
            .headers()
            .get_all(SET_COOKIE)
            .iter()
            .map(text)
            .collect();
        browser.take(&set);
        let field = |name| response.headers().get(name).map(text).unwrap_or_default();
        Seen {
            status: response.status(),
            location: field(LOCATION),
            refresh: field(http::header::REFRESH),
            retry_after: field(http::header::RETRY_AFTER),
            link: field(http::header::LINK),
            body: String::from_utf8(response.body().to_vec()).unwrap(),
            set,
            admitted,
        }
    }
}

fn plain(answer: &Answer) -> Response<Bytes> {
    let status = match answer {
        Answer::Several(_) => StatusCode::BAD_REQUEST,
        Answer::Unauthorized(_) => StatusCode::UNAUTHORIZED,
        Answer::Forbidden | Answer::InsufficientScope(_) => StatusCode::FORBIDDEN,
        Answer::Limited(_) => StatusCode::TOO_MANY_REQUESTS,
        Answer::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

async fn open(world: &World, browser: &mut Browser, target: &str) -> Seen {
    Visit::to(target).with(world, browser).await
}

/// What the provider answers once `person` has signed in there: the address of our callback.
fn signed_in(location: &str, person: &str) -> String {
    let query = location.split_once('?').unwrap().1;
    let part = |name: &str| {
        let prefix = format!("{name}=");
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(&prefix))
            .unwrap()
            .to_owned()
    };
    let path = part("redirect_uri");
    let path = path.strip_prefix("https://app.test").unwrap().to_owned();
    let (state, nonce, verifier) = (part("state"), part("nonce"), part("verifier"));
    format!("{path}?code={person},{nonce},{verifier}&state={state}")
}

fn all_to(arm: Arm) -> AssignRule {
    AssignRule {
        cohort: None,
        share: Share::All,
        to: arm,
        until: None,
    }
}

/// Both providers have a login, and everybody goes to `new`.
fn both() -> World {
    let mut world = World::of(FakeProvider::old().with_login(), FakeProvider::new());
    world.plan = Some(plan(Mode::Canary, vec![all_to(Arm::To)]));
    world
}

fn everybody_to(world: &mut World, arm: Arm) {
    world.plan.as_mut().unwrap().stage.assign = vec![all_to(arm)].into();
}

fn plan_of(world: &mut World, arm: Arm) {
    world.plan = Some(plan(Mode::Canary, vec![all_to(arm)]));
}

fn redeemed(world: &World) -> (usize, usize) {
    let count = |provider: &FakeProvider| {
        provider
            .login
            .as_ref()
            .map_or(0, |login| login.redeemed.load(Ordering::SeqCst))
    };
    (count(&world.old), count(&world.new))
}

async fn log_in(world: &World, browser: &mut Browser, person: &str) -> Seen {
    let start = open(world, browser, "/orders?x=1").await;
    assert_eq!(start.status, StatusCode::FOUND, "{start:?}");
    open(world, browser, &signed_in(&start.location, person)).await
}

#[tokio::test]
async fn a_person_signs_in_and_lands_where_they_wanted_to_go() {
    let (world, mut browser) = (both(), Browser::default());
    let start = open(&world, &mut browser, "/orders?x=1").await;
    assert_eq!(start.status, StatusCode::FOUND);
    assert!(start.location.starts_with(
        "https://new.idp.test/authorize?redirect_uri=https://app.test/.authferry/cb/new&"
    ));
    assert_eq!(
        (browser.flows(), browser.jar.len()),
        (1, 2),
        "a flow and a device"
    );
    let end = open(&world, &mut browser, &signed_in(&start.location, "alice")).await;
    assert_eq!(
        (end.status, end.location.as_str()),
        (StatusCode::SEE_OTHER, "/orders?x=1")
    );
    assert_eq!(
        (browser.flows(), browser.jar.len()),
        (0, 2),
        "a session and a device"
    );
    let page = open(&world, &mut browser, "/orders?x=1").await;
    let admitted = page.admitted.unwrap();
    assert_eq!(admitted.identity().key, identity("new", "alice").key);
    assert_eq!(
        (admitted.arm(), admitted.rule()),
        (Some(Arm::To), "percent")
    );
    let text = world.metrics.render().unwrap();
    for line in [
        "authferry_assignments_total{rollout=\"crm-2026\",arm=\"modern\",rule=\"percent\"} 1",
        "authferry_login_journeys_total{rollout=\"crm-2026\",arm=\"modern\",event=\"started\"} 1",
        "authferry_login_journeys_total{rollout=\"crm-2026\",arm=\"modern\",event=\"succeeded\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn the_share_of_devices_that_go_to_the_new_side_is_the_percent() {
    let mut world = both();
    world.plan.as_mut().unwrap().stage.assign = vec![AssignRule {
        share: Share::Percent(Percent::parse("25").unwrap()),
        ..all_to(Arm::To)
    }]
    .into();
    let mut moved = 0;
    for _ in 0..1_000 {
        let start = open(&world, &mut Browser::default(), "/").await;
        moved += usize::from(start.location.starts_with("https://new."));
    }
    assert!(
        (209..=291).contains(&moved),
        "{moved} of 1 000; 250 ± 3 standard deviations"
    );
    let mut browser = Browser::default();
    let first = open(&world, &mut browser, "/").await.location[..16].to_owned();
    for _ in 0..20 {
        assert_eq!(open(&world, &mut browser, "/").await.location[..16], first);
    }
}

#[tokio::test]
async fn only_navigations_are_redirected() {
    let world = both();
    for (method, fields) in [
        (Method::POST, vec![("accept", "text/html")]),
        (
            Method::GET,
            vec![
                ("accept", "application/json"),
                ("x-requested-with", "XMLHttpRequest"),
            ],
        ),
        (Method::GET, vec![("sec-fetch-mode", "cors")]),
        (Method::GET, vec![("sec-fetch-dest", "image")]),
    ] {
        let mut browser = Browser::default();
        let visit = Visit {
            method,
            fields,
            ..Visit::to("/app")
        };
        let seen = visit.with(&world, &mut browser).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert!(seen.set.is_empty());
    }
}

#[tokio::test]
async fn a_bad_token_is_401_and_never_a_login() {
    let world = both();
    let token = crate::auth::fake::token("https://new.idp.test", "bad");
    let bearer = format!("Bearer {token}");
    let visit = Visit {
        fields: vec![("accept", "text/html"), ("authorization", &bearer)],
        ..Visit::to("/app")
    };
    assert_eq!(
        visit.with(&world, &mut Browser::default()).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_callback_with_nothing_or_half_of_it_is_a_page_and_asks_nobody() {
    let world = both();
    for target in [
        "/.authferry/cb/new",
        "/.authferry/cb/new?",
        "/.authferry/cb/new?code=x",
        "/.authferry/cb/new?state=x",
        "/.authferry/cb/new?code=&state=",
        "/.authferry/cb/new?code=x&state=0abc",
        "/.authferry/cb/new?state=0abc&state=0abc",
        "/.authferry/cb/new?state=%ff",
        "/.authferry/cb/gone?code=x&state=y",
    ] {
        for method in [Method::GET, Method::POST, Method::HEAD] {
            let mut browser = Browser::default();
            let visit = Visit {
                method,
                ..Visit::to(target)
            };
            let seen = visit.with(&world, &mut browser).await;
            assert_eq!(seen.status, StatusCode::BAD_REQUEST, "{target}");
            assert!(seen.set.is_empty() && seen.body.contains("href=\"/.authferry/login?rd=%2F\""));
        }
    }
    assert_eq!(redeemed(&world), (0, 0));
}

#[tokio::test]
async fn a_login_finishes_only_in_the_browser_that_began_it() {
    let world = both();
    let (mut attacker, mut victim) = (Browser::default(), Browser::default());
    let start = open(&world, &mut attacker, "/").await;
    let callback = signed_in(&start.location, "mallory");
    let seen = open(&world, &mut victim, &callback).await;
    assert_eq!((seen.status, seen.set.len()), (StatusCode::BAD_REQUEST, 0));
    assert_eq!(redeemed(&world), (0, 0));
    let seen = open(&world, &mut attacker, &callback).await;
    assert_eq!(
        seen.status,
        StatusCode::SEE_OTHER,
        "the pending login was not consumed"
    );
    // A victim who is signed in stays who they are.
    log_in(&world, &mut victim, "alice").await;
    let start = open(&world, &mut Browser::default(), "/").await;
    let seen = open(&world, &mut victim, &signed_in(&start.location, "mallory")).await;
    assert_eq!(
        (seen.status, seen.location.as_str(), seen.set.len()),
        (StatusCode::SEE_OTHER, "/", 0)
    );
    let page = open(&world, &mut victim, "/").await;
    assert_eq!(
        page.admitted.unwrap().identity().key,
        identity("new", "alice").key
    );
}

#[tokio::test]
async fn the_record_of_one_login_does_not_answer_for_another() {
    let (world, mut browser) = (both(), Browser::default());
    let first = open(&world, &mut browser, "/a").await;
    let second = open(&world, &mut browser, "/b").await;
    let names: Vec<_> = browser
        .jar
        .keys()
        .filter(|name| name.contains("_flow_"))
        .cloned()
        .collect();
    let state = |seen: &Seen| {
        signed_in(&seen.location, "x")
            .split_once("state=")
            .unwrap()
            .1
            .to_owned()
    };
    let of = |seen: &Seen| format!("{COOKIE}_flow_{}", state(seen).chars().next().unwrap());
    let (first_name, second_name) = (of(&first), of(&second));
    assert_eq!(names.len(), 2);
    let mut mixed = browser.clone();
    let cookie = browser.jar[&second_name].clone();
    mixed.jar.insert(first_name.clone(), cookie);
    mixed.jar.remove(&second_name);
    let seen = open(&world, &mut mixed, &signed_in(&first.location, "alice")).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    let forged = signed_in(&first.location, "alice").replace(&state(&first), &state(&second));
    let mut only_first = browser.clone();
    only_first.jar.remove(&second_name);
    assert_eq!(
        open(&world, &mut only_first, &forged).await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(redeemed(&world), (0, 0));
    let seen = open(&world, &mut browser, &signed_in(&second.location, "alice")).await;
    assert_eq!(seen.location, "/b");
    let seen = open(&world, &mut browser, &signed_in(&first.location, "alice")).await;
    assert_eq!(seen.location, "/a");
}

#[tokio::test]
async fn a_state_that_only_names_the_right_slot_is_refused() {
    let (world, mut browser) = (both(), Browser::default());
    let start = open(&world, &mut browser, "/a").await;
    let callback = signed_in(&start.location, "alice");
    let (rest, state) = callback.split_once("state=").unwrap();
    for forged in [
        state[..1].to_owned(),
        state[..43].to_owned(),
        format!("{state}A"),
        format!("{}{}", &state[..1], "A".repeat(43)),
    ] {
        let seen = open(&world, &mut browser, &format!("{rest}state={forged}")).await;
        assert_eq!(
            (seen.status, browser.flows()),
            (StatusCode::BAD_REQUEST, 1),
            "{forged}"
        );
    }
    assert_eq!(redeemed(&world), (0, 0));
    assert_eq!(open(&world, &mut browser, &callback).await.location, "/a");
}

#[tokio::test]
async fn a_session_of_another_host_is_none_to_our_own_addresses_either() {
    let (world, mut browser) = (both(), Browser::default());
    log_in(&world, &mut browser, "alice").await;
    let stray = Visit {
        host: "app2.test",
        ..Visit::to("/.authferry/cb/new?code=x&state=0x")
    };
    assert_eq!(
        stray.with(&world, &mut browser.clone()).await.status,
        StatusCode::BAD_REQUEST
    );
    let seen = open(&world, &mut browser, "/.authferry/cb/new?code=x&state=0x").await;
    assert_eq!(seen.location, "/");
}

#[tokio::test]
async fn five_logins_may_be_under_way_and_the_newest_can_finish() {
    let (world, mut browser) = (both(), Browser::default());
    let mut starts = Vec::new();
    for n in 0..50 {
        let target = format!("/tab/{n}");
        let seen = Visit::to(&target).at(n).with(&world, &mut browser).await;
        assert_eq!(seen.status, StatusCode::FOUND, "{n}");
        assert!(browser.flows() <= 5 && browser.cookies().len() < 4_096);
        starts.push(seen.location);
    }
    for (n, start) in starts.iter().enumerate().rev().take(5) {
        let callback = signed_in(start, "alice");
        let seen = Visit::to(&callback).at(50).with(&world, &mut browser).await;
        assert_eq!(seen.location, format!("/tab/{n}"));
    }
    let callback = signed_in(&starts[44], "alice");
    let seen = Visit::to(&callback).at(50).with(&world, &mut browser).await;
    assert_eq!(
        seen.location, "/",
        "an older one is over; who is signed in goes on"
    );
}

#[tokio::test]
async fn long_addresses_leave_room_for_fewer_logins() {
    let (world, mut browser) = (both(), Browser::default());
    let long = format!("/{}", "a".repeat(2_000));
    for n in 0..4 {
        let target = format!("{long}{n}");
        Visit::to(&target).at(n).with(&world, &mut browser).await;
        assert!(
            browser.cookies().len() < 4_096,
            "{}",
            browser.cookies().len()
        );
    }
    assert_eq!(browser.flows(), 1);
    let too_long = format!("/{}", "a".repeat(9_000));
    let seen = Visit::to(&too_long).at(9).with(&world, &mut browser).await;
    let seen = Visit::to(&signed_in(&seen.location, "alice"))
        .at(9)
        .with(&world, &mut browser)
        .await;
    assert_eq!(seen.location, "/");
}

#[tokio::test]
async fn a_callback_belongs_to_one_provider() {
    let (world, mut browser) = (both(), Browser::default());
    let start = open(&world, &mut browser, "/").await;
    let crossed = signed_in(&start.location, "alice").replace("/cb/new", "/cb/old");
    let seen = open(&world, &mut browser, &crossed).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    assert!(!browser.jar.contains_key(COOKIE));
    assert_eq!(redeemed(&world), (0, 0));
}

#[tokio::test]
async fn what_the_provider_refuses_is_no_session_and_shows_no_reason() {
    for (person, extra, status) in [
        (
            "alice",
            "&iss=https://old.idp.test",
            StatusCode::BAD_REQUEST,
        ),
        ("alice", "&iss=", StatusCode::BAD_REQUEST),
        ("bad", "", StatusCode::BAD_REQUEST),
        ("disabled", "", StatusCode::FORBIDDEN),
        ("down", "", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let (world, mut browser) = (both(), Browser::default());
        let start = open(&world, &mut browser, "/").await;
        let callback = signed_in(&start.location, person) + extra;
        let seen = open(&world, &mut browser, &callback).await;
        assert_eq!(seen.status, status, "{person}{extra}");
        assert!(!browser.jar.contains_key(COOKIE) && browser.flows() == 0);
        for word in ["bad_credentials", "wrong_issuer", "idp.test", "disabled"] {
            assert!(!seen.body.contains(word), "{word}");
        }
    }
}

#[tokio::test]
async fn the_code_is_bound_to_nonce_and_verifier() {
    let (world, mut browser) = (both(), Browser::default());
    let mine = open(&world, &mut browser, "/").await;
    let other = open(&world, &mut Browser::default(), "/").await;
    let code = |seen: &Seen| {
        let callback = signed_in(&seen.location, "alice");
        callback
            .split_once("code=")
            .unwrap()
            .1
            .split_once('&')
            .unwrap()
            .0
            .to_owned()
    };
    let injected = signed_in(&mine.location, "alice").replace(&code(&mine), &code(&other));
    let seen = open(&world, &mut browser, &injected).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_error_of_the_provider_is_a_fixed_page() {
    let markup = "%3Cscript%3Ealert(1)%3C/script%3E";
    for (code, status) in [
        ("access_denied", StatusCode::FORBIDDEN),
        ("server_error", StatusCode::SERVICE_UNAVAILABLE),
        ("login_required", StatusCode::BAD_REQUEST),
        (markup, StatusCode::BAD_REQUEST),
        ("", StatusCode::BAD_REQUEST),
    ] {
        let (world, mut browser) = (both(), Browser::default());
        let start = open(&world, &mut browser, "/a").await;
        let state = signed_in(&start.location, "x")
            .split_once("state=")
            .unwrap()
            .1
            .to_owned();
        let callback =
            format!("/.authferry/cb/new?error={code}&error_description={markup}&state={state}");
        let seen = open(&world, &mut browser, &callback).await;
        assert_eq!(seen.status, status, "{code}");
        assert!(!seen.body.contains("alert"), "{}", seen.body);
        assert_eq!((browser.flows(), redeemed(&world)), (0, (0, 0)));
        let seen = open(&world, &mut Browser::default(), &callback).await;
        assert_eq!(
            seen.status,
            StatusCode::BAD_REQUEST,
            "without the login it is nobody's"
        );
    }
}

#[tokio::test]
async fn an_error_of_another_issuer_is_not_counted_for_the_provider() {
    let down = |text: &str| {
        let attempts = |line: &&str| line.starts_with("authferry_auth_attempts_total{");
        let mut attempts = text.lines().filter(attempts);
        attempts.any(|line| line.contains("outcome=\"unavailable\"") && !line.ends_with(" 0"))
    };
    for (iss, status) in [
        ("&iss=https%3A%2F%2Fevil.test", StatusCode::BAD_REQUEST),
        ("&iss=", StatusCode::BAD_REQUEST),
        (
            "&iss=https%3A%2F%2Fnew.idp.test",
            StatusCode::SERVICE_UNAVAILABLE,
        ),
        ("", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let (world, mut browser) = (both(), Browser::default());
        let start = open(&world, &mut browser, "/a").await;
        let answer = signed_in(&start.location, "x");
        let state = answer.split_once("state=").unwrap().1;
        let callback = format!("/.authferry/cb/new?error=server_error{iss}&state={state}");
        let seen = open(&world, &mut browser, &callback).await;
        assert_eq!(seen.status, status, "{iss}");
        let counted = down(&world.metrics.render().unwrap());
        assert_eq!(counted, status == StatusCode::SERVICE_UNAVAILABLE, "{iss}");
    }
}

#[tokio::test]
async fn a_login_ends_after_ten_minutes_and_an_answer_counts_once() {
    let (world, mut browser) = (both(), Browser::default());
    let start = open(&world, &mut browser, "/a").await;
    let callback = signed_in(&start.location, "alice");
    let mut late = browser.clone();
    let seen = Visit::to(&callback).at(600).with(&world, &mut late).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    assert!(seen.body.contains("rd=%2Fa"));
    assert_eq!(redeemed(&world), (0, 0));
    let seen = Visit::to(&callback)
        .at(599)
        .with(&world, &mut browser)
        .await;
    assert_eq!(seen.location, "/a");
    let again = Visit::to(&callback)
        .at(599)
        .with(&world, &mut browser)
        .await;
    assert_eq!((again.location.as_str(), redeemed(&world)), ("/", (0, 1)));
}

#[tokio::test]
async fn a_session_gets_a_new_id_and_an_earlier_one_ends() {
    let (world, mut browser) = (both(), Browser::default());
    log_in(&world, &mut browser, "eve").await;
    let planted = browser.jar[COOKIE].clone();
    let start = open(&world, &mut Browser::default(), "/").await;
    drop(start);
    let start = Visit::to("/.authferry/login?rd=/x")
        .with(&world, &mut browser)
        .await;
    let seen = open(&world, &mut browser, &signed_in(&start.location, "alice")).await;
    assert_eq!(seen.location, "/x");
    assert_ne!(browser.jar[COOKIE], planted);
    let mut eve = Browser::default();
    eve.jar.insert(COOKIE.to_owned(), planted);
    assert!(open(&world, &mut eve, "/").await.admitted.is_none());
    let page = open(&world, &mut browser, "/").await;
    assert_eq!(
        page.admitted.unwrap().identity().key,
        identity("new", "alice").key
    );
}

#[tokio::test]
async fn a_cookie_of_one_purpose_or_host_is_nothing_elsewhere() {
    let (world, mut browser) = (both(), Browser::default());
    let start = open(&world, &mut browser, "/").await;
    let (dev, flow) = (format!("{COOKIE}_dev"), signed_in(&start.location, "alice"));
    let name = browser
        .jar
        .keys()
        .find(|name| name.contains("_flow_"))
        .unwrap()
        .clone();
    let mut swapped = Browser::default();
    swapped.jar.insert(name.clone(), browser.jar[&dev].clone());
    swapped.jar.insert(dev.clone(), browser.jar[&name].clone());
    swapped
        .jar
        .insert(COOKIE.to_owned(), browser.jar[&name].clone());
    assert_eq!(
        open(&world, &mut swapped, &flow).await.status,
        StatusCode::BAD_REQUEST
    );
    assert!(open(&world, &mut swapped, "/").await.admitted.is_none());
    let elsewhere = Visit {
        host: "app2.test",
        ..Visit::to(&flow)
    };
    assert_eq!(
        elsewhere.with(&world, &mut browser.clone()).await.status,
        StatusCode::BAD_REQUEST
    );
    log_in(&world, &mut browser, "alice").await;
    let elsewhere = Visit {
        host: "app2.test",
        ..Visit::to("/")
    };
    assert!(
        elsewhere
            .with(&world, &mut browser)
            .await
            .admitted
            .is_none()
    );
}

#[tokio::test]
async fn return_addresses_stay_on_the_host() {
    let world = both();
    for (rd, expected) in [
        ("/orders%3Fx=1", "/orders?x=1"),
        ("//evil.test", "/"),
        ("https://evil.test", "/"),
        ("http:%5C%5Cevil.test", "/"),
        ("/%2e%2e//evil.test", "/"),
        ("/.//evil.test", "/"),
        ("javascript:alert(1)", "/"),
        ("java%0ascript:alert(1)", "/"),
        ("%20https://evil.test", "/"),
        ("/.authferry/logout", "/"),
        ("", "/"),
    ] {
        let mut browser = Browser::default();
        let target = format!("/.authferry/login?provider=old&rd={rd}");
        let start = open(&world, &mut browser, &target).await;
        assert!(
            start.location.starts_with("https://new.idp.test/"),
            "the client does not choose"
        );
        let seen = open(&world, &mut browser, &signed_in(&start.location, "alice")).await;
        assert_eq!(seen.location, expected, "{rd}");
    }
    let post = Visit {
        method: Method::POST,
        ..Visit::to("/.authferry/login?rd=/a")
    };
    assert_eq!(
        post.with(&world, &mut Browser::default()).await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn a_reload_in_the_middle_of_a_login_is_seen_only_where_it_must_be() {
    let (mut world, mut browser) = (both(), Browser::default());
    let start = open(&world, &mut browser, "/a").await;
    let callback = signed_in(&start.location, "alice");
    // A percent change, or a promotion, is not seen.
    everybody_to(&mut world, Arm::From);
    world.plan.as_mut().unwrap().stage.index = 1;
    let seen = open(&world, &mut browser.clone(), &callback).await;
    assert_eq!(seen.location, "/a");
    // A rollback begins anew, once.
    world.plan.as_mut().unwrap().epoch = 4;
    let mut rolled_back = browser.clone();
    let seen = open(&world, &mut rolled_back, &callback).await;
    assert!(
        seen.location.starts_with("https://old.idp.test/"),
        "{seen:?}"
    );
    assert_eq!(rolled_back.flows(), 1);
    let seen = open(
        &world,
        &mut rolled_back,
        &signed_in(&seen.location, "alice"),
    )
    .await;
    assert_eq!(seen.location, "/a");
    world.plan.as_mut().unwrap().epoch = 3;
    // Another client is another login.
    let mut changed = FakeProvider::new();
    changed.login.as_mut().unwrap().client_id = String::from("another");
    world.new = Arc::new(changed);
    let seen = open(&world, &mut browser.clone(), &callback).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    // A provider that is gone begins anew.
    world.new = Arc::new(FakeProvider::named("newer").with_login());
    world.plan.as_mut().unwrap().to = ProviderId::new("newer");
    everybody_to(&mut world, Arm::To);
    let seen = open(&world, &mut browser.clone(), &callback).await;
    assert!(
        seen.location.starts_with("https://newer.idp.test/"),
        "{seen:?}"
    );
}

fn old_logins(grace: Duration) -> AcceptOverride {
    AcceptOverride {
        provider: ProviderId::new("old"),
        new_logins: LoginPolicy::Refuse,
        except: Vec::new(),
        started_logins_grace: grace,
        sessions: SessionPolicy::UntilExpiry,
        basic: BasicPolicy::Accept,
        deadline: None,
    }
}

#[tokio::test]
async fn a_login_begun_before_the_stage_has_its_grace_and_then_begins_anew() {
    let (mut world, mut browser) = (both(), Browser::default());
    everybody_to(&mut world, Arm::From);
    let start = open(&world, &mut browser, "/a").await;
    assert!(start.location.starts_with("https://old.idp.test/"));
    let callback = signed_in(&start.location, "alice");
    let mut staged = plan(Mode::ModernPrimary, Vec::new());
    staged.stage.accept = vec![old_logins(Duration::from_secs(60))];
    world.plan = Some(staged);
    let in_time = Visit::to(&callback)
        .at(60)
        .with(&world, &mut browser.clone())
        .await;
    assert_eq!(in_time.location, "/a");
    let late = Visit::to(&callback).at(61).with(&world, &mut browser).await;
    assert!(
        late.location.starts_with("https://new.idp.test/"),
        "{late:?}"
    );
    let seen = Visit::to(&signed_in(&late.location, "alice"))
        .at(62)
        .with(&world, &mut browser)
        .await;
    assert_eq!(seen.location, "/a", "the return path is kept");
}

#[tokio::test]
async fn who_signed_in_at_a_page_that_counts_no_more_is_asked_to_do_so_one_more_time() {
    for changed in [false, true] {
        let (mut world, mut browser) = (both(), Browser::default());
        world.look = Arc::new(Look::new(&crate::auth::settings::Pages {
            changed,
            ..crate::auth::settings::Pages::default()
        }));
        everybody_to(&mut world, Arm::From);
        let start = open(&world, &mut browser, "/a").await;
        let callback = signed_in(&start.location, "alice");
        world.plan = Some(plan(Mode::ModernPrimary, Vec::new()));
        let seen = open(&world, &mut browser, &callback).await;
        let next = if changed {
            assert_eq!(seen.status, StatusCode::OK, "{seen:?}");
            assert!(seen.body.contains("One more time, please"), "{}", seen.body);
            let link = seen.body.split_once("href=\"").unwrap().1;
            link.split('"').next().unwrap().replace("&amp;", "&")
        } else {
            seen.location.clone()
        };
        assert!(next.starts_with("https://new.idp.test/"), "{seen:?}");
        // And no more often than that.
        let mut other = browser.clone();
        let end = open(&world, &mut other, &signed_in(&next, "alice")).await;
        assert_eq!(end.location, "/a");
        world.plan = Some(plan(Mode::LegacyOnly, Vec::new()));
        let end = open(&world, &mut browser, &signed_in(&next, "alice")).await;
        assert_eq!(end.status, StatusCode::FORBIDDEN, "{end:?}");
    }
}

#[tokio::test]
async fn the_kill_switch_steers_new_logins_and_lets_those_at_the_new_side_finish() {
    let (world, mut browser) = (both(), Browser::default());
    let start = open(&world, &mut browser, "/a").await;
    let seen = Visit::to("/b")
        .killed(KillPosition::Legacy)
        .with(&world, &mut browser.clone())
        .await;
    assert!(seen.location.starts_with("https://old.idp.test/"));
    let callback = signed_in(&start.location, "alice");
    let seen = Visit::to(&callback)
        .killed(KillPosition::Legacy)
        .with(&world, &mut browser.clone())
        .await;
    assert_eq!(seen.location, "/a");
    let seen = Visit::to("/b")
        .killed(KillPosition::Deny)
        .with(&world, &mut browser.clone())
        .await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
    let seen = Visit::to(&callback)
        .killed(KillPosition::Deny)
        .with(&world, &mut browser.clone())
        .await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(redeemed(&world), (0, 1));
}

#[tokio::test]
async fn who_has_moved_stays_moved_on_this_device_and_on_a_fresh_one() {
    let (mut world, mut browser) = (both(), Browser::default());
    log_in(&world, &mut browser, "alice").await;
    browser.jar.remove(COOKIE);
    // The percent is lowered to nothing: the device remembers.
    everybody_to(&mut world, Arm::From);
    let seen = open(&world, &mut browser, "/").await;
    assert!(seen.location.starts_with("https://new.idp.test/"));
    // A fresh device does not, until it is known who sits before it. (Both providers know her by one name.)
    let alice = CanonicalSubject::unjoined(&identity("old", "alice").key);
    let staged = world.plan.clone().unwrap();
    world
        .pins()
        .moved(&staged.id, (&alice, &[0; 32]), staged.epoch, at(0))
        .await
        .unwrap();
    let mut fresh = Browser::default();
    let start = open(&world, &mut fresh, "/a").await;
    assert!(start.location.starts_with("https://old.idp.test/"));
    let seen = open(&world, &mut fresh, &signed_in(&start.location, "alice")).await;
    assert!(
        seen.location.starts_with("https://new.idp.test/"),
        "{seen:?}"
    );
    assert!(
        !fresh.jar.contains_key(COOKIE),
        "the old login is no session"
    );
    let at_old = world.old.login.as_ref().unwrap();
    while at_old.revoked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*at_old.revoked.lock().unwrap(), ["refresh-token-of-alice"]);
    let seen = open(&world, &mut fresh, &signed_in(&seen.location, "alice")).await;
    assert_eq!(seen.location, "/a");
    fresh.jar.remove(COOKIE);
    let seen = open(&world, &mut fresh, "/").await;
    assert!(
        seen.location.starts_with("https://new.idp.test/"),
        "now it remembers"
    );
    // Where the stage allows it, the old login counts.
    world.plan.as_mut().unwrap().bucketing.pinned_at_from = PinnedAtFrom::Allow;
    let seen = log_in(&world, &mut Browser::default(), "alice").await;
    assert_eq!(seen.location, "/orders?x=1");
    // A rollback voids the memory.
    world.plan.as_mut().unwrap().epoch = 4;
    let seen = open(&world, &mut browser, "/").await;
    assert!(seen.location.starts_with("https://old.idp.test/"));
}

#[tokio::test]
async fn a_browser_that_goes_round_in_circles_is_stopped() {
    let (mut world, mut browser) = (both(), Browser::default());
    log_in(&world, &mut browser, "alice").await;
    world.plan = Some(plan(Mode::LegacyOnly, Vec::new()));
    let session = browser.jar[COOKIE].clone();
    for second in 1..=3 {
        browser.jar.insert(COOKIE.to_owned(), session.clone());
        let seen = Visit::to("/a").at(second).with(&world, &mut browser).await;
        assert!(
            seen.location.starts_with("https://old.idp.test/"),
            "{second}"
        );
        assert!(
            !browser.jar.contains_key(COOKIE),
            "a session that is not honoured is forgotten"
        );
    }
    browser.jar.insert(COOKIE.to_owned(), session.clone());
    let seen = Visit::to("/a").at(4).with(&world, &mut browser).await;
    assert_eq!(seen.status, StatusCode::CONFLICT);
    let text = world.metrics.render().unwrap();
    assert!(text.contains("authferry_redirect_bounces_refused_total{app=\"crm\"} 1"));
    browser.jar.insert(COOKIE.to_owned(), session);
    let seen = Visit::to("/a").at(64).with(&world, &mut browser).await;
    assert_eq!(
        seen.status,
        StatusCode::FOUND,
        "a minute later it may try again"
    );
}

#[tokio::test]
async fn a_link_conflict_is_a_page_and_no_session() {
    let world = both();
    let seen = log_in(&world, &mut Browser::default(), "alice").await;
    assert_eq!(seen.status, StatusCode::SEE_OTHER);
    // One row that says: this account is somebody else.
    let mut joined = both();
    joined.canonical = Some(crate::links::settings::Canonical::by_claims(
        "uid:{subject}",
        Vec::new(),
        &["old", "new"],
    ));
    let deps = joined.deps();
    let mallory = identity("new", "mallory");
    let links = crate::links::Links::new(Arc::clone(&joined.store));
    let alice = CanonicalSubject::named("uid:alice").unwrap();
    links
        .claim(&alice, &mallory.provider, &mallory.key, at(0))
        .await
        .unwrap();
    drop(deps);
    joined.plan.as_mut().unwrap().stage.mode = Mode::ModernPrimary;
    let mut browser = Browser::default();
    let seen = log_in(&joined, &mut browser, "alice").await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
    assert!(!browser.jar.contains_key(COOKIE) && seen.body.contains("Reference: <code>"));
    // What was issued for it is given back: nobody has it.
    let login = joined.new.login.as_ref().unwrap();
    while login.revoked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*login.revoked.lock().unwrap(), ["refresh-token-of-alice"]);
}

fn away(provider: &FakeProvider, since: u64) {
    *provider.login.as_ref().unwrap().down.lock().unwrap() = Some(Outage::Connect);
    let mut health = provider.health.lock().unwrap();
    health.usable = false;
    health.down_since = Some(at(since));
}

#[tokio::test]
async fn a_fallback_opens_only_for_an_outage_of_the_whole_provider_and_within_its_budget() {
    let mut world = both();
    away(&world.new, 0);
    let seen = Visit::to("/a")
        .at(40)
        .with(&world, &mut Browser::default())
        .await;
    assert_eq!(
        seen.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "none is configured"
    );
    world.fallbacks = vec![Fallback {
        app: world.app.clone(),
        from: Arm::To,
        when: vec![Outage::Connect],
        provider_down_for: Duration::from_secs(30),
        not_paths: vec!["/admin/*".into()],
        max_age: Duration::from_secs(3_600),
        recheck: false,
        per_hour: 2,
        assurance: Vec::new(),
        account_by: None,
        mark: None,
    }];
    let status = async |target: &str, seconds| {
        Visit::to(target)
            .at(seconds)
            .with(&world, &mut Browser::default())
            .await
            .status
    };
    assert_eq!(
        status("/a", 29).await,
        StatusCode::SERVICE_UNAVAILABLE,
        "not long enough"
    );
    assert_eq!(
        status("/admin/x", 40).await,
        StatusCode::SERVICE_UNAVAILABLE,
        "not here"
    );
    assert_eq!(
        status("/.authferry/login?rd=/admin/x", 40).await,
        StatusCode::SERVICE_UNAVAILABLE,
        "nor by way of our own address"
    );
    let mut browser = Browser::default();
    let start = Visit::to("/a").at(40).with(&world, &mut browser).await;
    assert!(
        start.location.starts_with("https://old.idp.test/"),
        "{start:?}"
    );
    let callback = signed_in(&start.location, "alice");
    let seen = Visit::to(&callback).at(41).with(&world, &mut browser).await;
    assert_eq!(seen.location, "/a");
    let admitted = Visit::to("/a")
        .at(42)
        .with(&world, &mut browser)
        .await
        .admitted
        .unwrap();
    assert_eq!(
        (admitted.arm(), admitted.rule()),
        (Some(Arm::From), "fallback")
    );
    assert_eq!(admitted.expires(), at(41 + 3_600));
    assert_eq!(status("/a", 43).await, StatusCode::FOUND);
    assert_eq!(
        status("/a", 44).await,
        StatusCode::SERVICE_UNAVAILABLE,
        "the budget is spent"
    );
    let text = world.metrics.render().unwrap();
    assert!(text.contains("authferry_fallbacks_total{app=\"crm\",from=\"modern\",to=\"legacy\",reason=\"connect\"} 2"), "{text}");
    for (reason, count) in [
        ("not_configured", 1),
        ("not_down_long_enough", 1),
        ("path", 2),
        ("budget", 1),
    ] {
        let line = format!(
            "authferry_fallbacks_refused_total{{app=\"crm\",reason=\"{reason}\"}} {count}\n"
        );
        assert!(text.contains(&line), "{line}{text}");
    }
}

/// A cookie that we seal steers the next login; nobody else can make one, and no other site can have it set.
#[tokio::test]
async fn who_is_signed_in_and_asks_on_our_page_is_among_the_first() {
    let mut world = both();
    let name = format!("{COOKIE}_optin");
    let id = crate::rollout::CohortId::new("opt-in");
    let cohort = crate::rollout::Cohort::SignedCookie(name.as_str().into());
    world.cohorts.insert(id, cohort);
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
    assert_eq!(logins.endpoint("/.authferry/optin"), Some(Endpoint::OptIn));
    let none = both();
    let nothing = Logins::new(none.deps(), &settings);
    assert_eq!(nothing.endpoint("/.authferry/optin"), None);

    let mut browser = Browser::default();
    let asked = async |browser: &mut Browser,
                       method: Method,
                       target: &'static str,
                       fields: &[(&'static str, &'static str)]| {
        let visit = Visit {
            method,
            fields: fields.to_vec(),
            ..Visit::to(target)
        };
        let seen = visit.at(50).with(&world, browser).await;
        (seen.status, browser.jar.contains_key(&name))
    };
    let page = "/.authferry/optin";
    let ours = [
        ("origin", "https://app.test"),
        ("sec-fetch-site", "same-origin"),
    ];
    let theirs = [
        ("origin", "https://evil.test"),
        ("sec-fetch-site", "cross-site"),
    ];
    let stranger = asked(&mut Browser::default(), Method::POST, page, &ours).await;
    assert_eq!(
        stranger,
        (StatusCode::FORBIDDEN, false),
        "nobody is signed in"
    );
    log_in(&world, &mut browser, "alice").await;
    assert_eq!(
        asked(&mut browser, Method::GET, page, &[]).await,
        (StatusCode::OK, false)
    );
    for fields in [&theirs[..], &[]] {
        let said = asked(&mut browser, Method::POST, page, fields).await;
        assert_eq!(said, (StatusCode::FORBIDDEN, false), "{fields:?}");
    }
    let said = asked(&mut browser, Method::POST, page, &ours).await;
    assert_eq!(said, (StatusCode::SEE_OTHER, true));
    let brought = |browser: &Browser, authority| {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE_HEADER, browser.cookies().parse().unwrap());
        logins.is_sealed(&headers, authority, &name)
    };
    assert!(brought(&browser, "app.test"));
    assert!(!brought(&browser, "other.test"), "it is of one host");
    let mut forged = Browser::default();
    forged.jar.insert(name.clone(), "aW4".into());
    assert!(!brought(&forged, "app.test"));
    let said = asked(&mut browser, Method::POST, "/.authferry/optin?out=1", &ours).await;
    assert_eq!(said, (StatusCode::SEE_OTHER, false));
}

/// What the configuration asks of the login of a fallback holds once it is known whose it is; what cannot be asked is no.
#[tokio::test]
async fn a_fallback_wants_a_login_that_is_enough_of_an_account_that_may_be_used() {
    let mut world = both();
    Arc::get_mut(&mut world.old).unwrap().directory = Some(FakeDirectory::default());
    away(&world.new, 0);
    let usual = Fallback {
        app: world.app.clone(),
        from: Arm::To,
        when: vec![Outage::Connect],
        provider_down_for: Duration::from_secs(30),
        not_paths: Vec::new(),
        max_age: Duration::from_secs(3_600),
        recheck: false,
        per_hour: 100,
        assurance: Vec::new(),
        account_by: None,
        mark: None,
    };
    let known = |people| *world.old.directory.as_ref().unwrap().0.lock().unwrap() = people;
    let all = vec![("alice", true), ("bob", false)];
    let by = Some("subject".into());
    let strong = vec!["mfa".into()];
    let mut cases = vec![
        ("alice", None, None, Vec::new(), StatusCode::SEE_OTHER),
        // The fake says nothing of how people signed in.
        ("alice", None, None, strong, StatusCode::FORBIDDEN),
    ];
    for (person, status) in [
        ("alice", StatusCode::SEE_OTHER),
        ("bob", StatusCode::FORBIDDEN),
        ("carol", StatusCode::FORBIDDEN),
    ] {
        cases.push((person, by.clone(), Some(all.clone()), Vec::new(), status));
    }
    cases.push((
        "alice",
        by,
        None,
        Vec::new(),
        StatusCode::SERVICE_UNAVAILABLE,
    ));
    for (person, account_by, people, assurance, status) in cases {
        known(people);
        world.fallbacks = vec![Fallback {
            assurance,
            account_by,
            ..usual.clone()
        }];
        let mut browser = Browser::default();
        let start = Visit::to("/a").at(40).with(&world, &mut browser).await;
        assert!(
            start.location.starts_with("https://old.idp.test/"),
            "{start:?}"
        );
        let callback = signed_in(&start.location, person);
        let seen = Visit::to(&callback).at(41).with(&world, &mut browser).await;
        assert_eq!(seen.status, status, "{person}");
        let session = browser.jar.contains_key(COOKIE);
        assert_eq!(session, status == StatusCode::SEE_OTHER, "{person}");
    }
}

/// The session of a fallback has its mark, and no other session has.
#[tokio::test]
async fn the_session_of_a_fallback_is_marked() {
    let mut world = both();
    world.fallbacks = vec![Fallback {
        app: world.app.clone(),
        from: Arm::To,
        when: vec![Outage::Connect],
        provider_down_for: Duration::from_secs(30),
        not_paths: Vec::new(),
        max_age: Duration::from_secs(3_600),
        recheck: false,
        per_hour: 2,
        assurance: Vec::new(),
        account_by: None,
        mark: Some("fallback".into()),
    }];
    let mark = async |browser: &mut Browser, seconds| {
        let seen = Visit::to("/a").at(seconds).with(&world, browser).await;
        let admitted = seen.admitted.expect("a session");
        world.policy().mark(&admitted).map(str::to_owned)
    };
    let mut usual = Browser::default();
    log_in(&world, &mut usual, "alice").await;
    assert_eq!(mark(&mut usual, 3).await, None);
    away(&world.new, 0);
    let mut fallen = Browser::default();
    let start = Visit::to("/a").at(40).with(&world, &mut fallen).await;
    let callback = signed_in(&start.location, "alice");
    Visit::to(&callback).at(41).with(&world, &mut fallen).await;
    assert_eq!(mark(&mut fallen, 42).await.as_deref(), Some("fallback"));
}

#[tokio::test]
async fn a_refusal_opens_no_other_door() {
    let mut world = both();
    world.fallbacks = vec![Fallback {
        app: world.app.clone(),
        from: Arm::To,
        when: vec![Outage::Connect, Outage::Timeout],
        provider_down_for: Duration::ZERO,
        not_paths: Vec::new(),
        max_age: Duration::from_secs(3_600),
        recheck: false,
        per_hour: 2,
        assurance: Vec::new(),
        account_by: None,
        mark: None,
    }];
    for (person, status) in [
        ("disabled", StatusCode::FORBIDDEN),
        ("bad", StatusCode::BAD_REQUEST),
        ("down", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let mut browser = Browser::default();
        let start = open(&world, &mut browser, "/orders").await;
        // It goes away while they are at its page.
        world.new.health.lock().unwrap().down_since = Some(at(0));
        let seen = open(&world, &mut browser, &signed_in(&start.location, person)).await;
        assert_eq!(seen.status, status, "{person}");
        world.new.health.lock().unwrap().down_since = None;
    }
    assert_eq!(redeemed(&world).0, 0);
}

#[tokio::test]
async fn the_old_form_is_behind_us_and_gets_the_address() {
    let mut world = World::canary();
    world.plan = Some(plan(Mode::Canary, Vec::new()));
    world
        .forms
        .insert(ProviderId::new("old"), String::from("/login.do?lang=en"));
    let mut browser = Browser::default();
    let seen = open(&world, &mut browser, "/orders?x=1&y=2").await;
    assert_eq!(
        seen.location,
        "/login.do?lang=en&next=%2Forders%3Fx%3D1%26y%3D2"
    );
    assert_eq!(browser.flows(), 0);
    let seen = open(&world, &mut browser, "/login.do").await;
    assert_eq!(
        seen.status,
        StatusCode::UNAUTHORIZED,
        "a form that is not public leads nowhere"
    );
    world.forms.clear();
    let seen = open(&world, &mut browser, "/orders").await;
    assert_eq!(
        seen.status,
        StatusCode::UNAUTHORIZED,
        "no login at all: the challenge"
    );
}

#[tokio::test]
async fn a_dead_session_of_ours_does_not_hide_a_live_old_one_for_long() {
    let mut world = World::canary();
    world.plan = Some(plan(Mode::Canary, Vec::new()));
    world
        .forms
        .insert(ProviderId::new("old"), String::from("/login.do"));
    let mut browser = Browser::default();
    browser.jar.insert(COOKIE.to_owned(), "A".repeat(43));
    browser
        .jar
        .insert(String::from("OLDSID"), String::from("alice"));
    let seen = open(&world, &mut browser, "/").await;
    assert!(seen.location.starts_with("/login.do"));
    let seen = open(&world, &mut browser, "/").await;
    assert_eq!(seen.admitted.unwrap().provider().as_str(), "old");
}

#[tokio::test]
async fn signing_out_ends_the_session_here_and_goes_on_to_the_provider() {
    let (world, mut browser) = (both(), Browser::default());
    log_in(&world, &mut browser, "alice").await;
    let kept = open(&world, &mut browser, "/").await.admitted.unwrap();
    let asked = open(
        &world,
        &mut browser,
        "/.authferry/logout?rd=https://evil.test",
    )
    .await;
    assert_eq!(
        (asked.status, asked.location.as_str()),
        (StatusCode::OK, "")
    );
    assert!(
        asked
            .body
            .contains("<form method=\"post\" action=\"/.authferry/logout\">")
    );
    let stolen = browser.clone();
    let login = world.new.login.as_ref().unwrap();
    let out = Visit {
        method: Method::POST,
        fields: vec![
            ("origin", "https://app.test"),
            ("sec-fetch-site", "same-origin"),
        ],
        ..Visit::to("/.authferry/logout")
    };
    let seen = out.with(&world, &mut browser).await;
    assert_eq!(seen.status, StatusCode::SEE_OTHER);
    assert_eq!(
        seen.location,
        "https://new.idp.test/logout?id_token_hint=id-token-of-alice&post_logout_redirect_uri=https://app.test/.authferry/logout/done"
    );
    assert!(!browser.jar.contains_key(COOKIE));
    while login.revoked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*login.revoked.lock().unwrap(), ["refresh-token-of-alice"]);
    assert!(!kept.still_good(KillPosition::Off, at(1)));
    assert!(
        open(&world, &mut stolen.clone(), "/")
            .await
            .admitted
            .is_none()
    );
    assert_eq!(
        open(&world, &mut browser, "/.authferry/logout/done")
            .await
            .status,
        StatusCode::OK
    );
    let again = Visit {
        method: Method::POST,
        fields: vec![("origin", "https://app.test")],
        ..Visit::to("/.authferry/logout")
    };
    assert_eq!(
        again.with(&world, &mut browser).await.location,
        "/.authferry/logout/done"
    );
}

#[tokio::test]
async fn a_sign_out_that_cannot_be_written_down_leaves_no_way_in_by_this_browser() {
    let store = Arc::new(FakeStore::default());
    let (old, new) = (FakeProvider::old().with_login(), FakeProvider::new());
    let mut world = World::on(Arc::clone(&store) as _, old, new);
    world.plan = Some(plan(Mode::Canary, vec![all_to(Arm::To)]));
    let mut browser = Browser::default();
    log_in(&world, &mut browser, "alice").await;
    assert!(open(&world, &mut browser, "/").await.admitted.is_some());
    let session = browser.jar[COOKIE].clone();
    browser
        .jar
        .insert(String::from("OLDSID"), String::from("s1"));
    store.away.store(true, Ordering::SeqCst);
    let out = Visit {
        method: Method::POST,
        fields: vec![("origin", "https://app.test")],
        ..Visit::to("/.authferry/logout")
    };
    let seen = out.with(&world, &mut browser).await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
    for name in [COOKIE, "OLDSID"] {
        assert!(!browser.jar.contains_key(name), "{name}");
    }
    // Over here, whoever has the cookie still, and whatever the store says later.
    store.away.store(false, Ordering::SeqCst);
    browser.jar.insert(COOKIE.to_owned(), session);
    assert!(open(&world, &mut browser, "/").await.admitted.is_none());
}

/// Browsers send `Origin: null` from a page that sends no referrer, such as many an application's.
#[tokio::test]
async fn a_page_of_the_same_site_that_sends_no_referrer_signs_out_where_the_browser_vouches_for_it()
{
    let (world, mut browser) = (both(), Browser::default());
    log_in(&world, &mut browser, "alice").await;
    let out = |site: &'static str| Visit {
        method: Method::POST,
        fields: vec![("origin", "null"), ("sec-fetch-site", site)],
        ..Visit::to("/.authferry/logout")
    };
    let seen = out("cross-site").with(&world, &mut browser).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
    assert!(browser.jar.contains_key(COOKIE));
    let seen = out("same-origin").with(&world, &mut browser).await;
    assert_eq!(seen.status, StatusCode::SEE_OTHER);
    assert!(!browser.jar.contains_key(COOKIE));
}

#[tokio::test]
async fn another_site_signs_nobody_out() {
    let (world, mut browser) = (both(), Browser::default());
    log_in(&world, &mut browser, "alice").await;
    for fields in [
        vec![("origin", "https://evil.test")],
        vec![("origin", "null")],
        vec![("origin", "http://app.test")],
        vec![("origin", "https://app.test:8443")],
        vec![
            ("origin", "https://app.test"),
            ("origin", "https://app.test"),
        ],
        vec![("referer", "https://evil.test/?https://app.test")],
        vec![("referer", "https://app.test/")],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
        vec![("sec-fetch-site", "none")],
        vec![
            ("origin", "https://app.test"),
            ("sec-fetch-site", "cross-site"),
        ],
        vec![],
    ] {
        let out = Visit {
            method: Method::POST,
            fields: fields.clone(),
            ..Visit::to("/.authferry/logout")
        };
        let seen = out.with(&world, &mut browser).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN, "{fields:?}");
        assert!(browser.jar.contains_key(COOKIE));
    }
    assert!(open(&world, &mut browser, "/").await.admitted.is_some());
}

#[tokio::test]
async fn an_application_cannot_shadow_our_addresses() {
    let world = both();
    let settings = LoginSettings {
        cookie: COOKIE.into(),
        same_site: SameSite::Lax,
        secure: true,
        revision: "r".into(),
        silent: None,
        look: Arc::default(),
        kept: KeptByLogins::default(),
    };
    let logins = Logins::new(world.deps(), &settings);
    let callback = |name| Some(Endpoint::Callback(Some(ProviderId::new(name))));
    assert_eq!(logins.endpoint("/.authferry/cb/new"), callback("new"));
    assert_eq!(logins.endpoint("/.authferry/cb/old"), callback("old"));
    assert_eq!(
        logins.endpoint("/.authferry/cb/gone"),
        Some(Endpoint::Callback(None))
    );
    assert_eq!(
        logins.endpoint("/.authferry/logout"),
        Some(Endpoint::Logout)
    );
    for path in [
        "/",
        "/.authferry",
        "/.authferry/",
        "/.authferryx/login",
        "/.authferry/login/",
        "/a/.authferry/login",
    ] {
        assert_eq!(logins.endpoint(path), None, "{path}");
    }
}

#[tokio::test]
async fn a_provider_that_is_known_to_be_away_sends_nobody_there() {
    let mut world = both();
    // Its metadata and keys are known: it has an address, and can judge.
    world.new.health.lock().unwrap().down_since = Some(at(0));
    let goes_to = async |world: &World, seconds| {
        let seen = Visit::to("/a")
            .at(seconds)
            .with(world, &mut Browser::default())
            .await;
        let to = seen
            .location
            .split_once(".idp")
            .map(|(to, _)| to.to_owned());
        (seen.status, to)
    };
    let page = (StatusCode::SERVICE_UNAVAILABLE, None);
    let to = |side: &str| (StatusCode::FOUND, Some(format!("https://{side}")));
    assert_eq!(goes_to(&world, 40).await, page, "nobody is there");
    world.fallbacks = vec![Fallback {
        app: world.app.clone(),
        from: Arm::To,
        when: vec![Outage::CircuitOpen],
        provider_down_for: Duration::from_secs(30),
        not_paths: Vec::new(),
        max_age: Duration::from_secs(3_600),
        recheck: false,
        per_hour: 1,
        assurance: Vec::new(),
        account_by: None,
        mark: None,
    }];
    assert_eq!(goes_to(&world, 29).await, page, "not for long enough");
    assert_eq!(goes_to(&world, 30).await, to("old"));
    assert_eq!(goes_to(&world, 31).await, page, "the budget is spent");
    // Nor does the other side, when it is away as well.
    world.fallbacks[0].per_hour = 9;
    world.old.health.lock().unwrap().down_since = Some(at(0));
    assert_eq!(goes_to(&world, 32).await, page, "both are away");
    world.new.health.lock().unwrap().down_since = None;
    assert_eq!(goes_to(&world, 33).await, to("new"), "it is back");
}

#[tokio::test]
async fn a_route_that_takes_no_sessions_sends_nobody_round_in_circles() {
    let (world, mut browser) = (both(), Browser::default());
    log_in(&world, &mut browser, "alice").await;
    // The route looks at bearer tokens only: to it, nothing was presented.
    let turn_away = async |cookies: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/html"));
        headers.insert(COOKIE_HEADER, HeaderValue::from_str(cookies).unwrap());
        let settings = LoginSettings {
            cookie: COOKIE.into(),
            same_site: SameSite::Lax,
            secure: true,
            revision: "r".into(),
            silent: None,
            look: Arc::default(),
            kept: KeptByLogins::default(),
        };
        let request = Request {
            facts: world.facts(),
            authority: "app.test",
            query: None,
            method: &Method::GET,
            headers: &headers,
            source: None,
        };
        let logins = Logins::new(world.deps(), &settings);
        logins
            .turn_away(&world.policy(), &request, None, KillPosition::Off, at(0))
            .await
    };
    for cookies in [browser.cookies(), String::from("OLDSID=alice")] {
        assert!(matches!(
            turn_away(&cookies).await,
            TurnedAway::Answer(Answer::Unauthorized(_))
        ));
    }
    let session = format!("{COOKIE}={}", browser.jar[COOKIE]);
    let twice = format!("{session}; {session}");
    let TurnedAway::Page(response) = turn_away(&twice).await else {
        panic!("two are none, and lead to a login")
    };
    assert_eq!(response.status(), StatusCode::FOUND);
}

#[tokio::test]
async fn what_stands_behind_the_address_survives_a_sign_in_where_that_is_wanted() {
    let mut world = both();
    world.look = Arc::new(Look::new(&crate::auth::settings::Pages {
        keep_fragment: true,
        ..Default::default()
    }));
    let place = format!("{COOKIE}_place");
    for (kept, expected) in [
        ("%2Fa%3Fb%3D1%23%2Fc%2Fd%3Fe", "/a?b=1#/c/d?e"),
        // Of another page, or what is no fragment.
        ("%2Fa%23%2Fc", "/a?b=1"),
        ("%2Fa%3Fb%3D1%23x%0D%0ASet-Cookie%3A%20a%3Db", "/a?b=1"),
        ("nonsense", "/a?b=1"),
    ] {
        let mut browser = Browser::default();
        let asked = Visit::to("/a?b=1").in_a_tab();
        let asked = asked.with(&world, &mut browser).await;
        assert_eq!(asked.status, StatusCode::OK, "{asked:?}");
        assert!(asked.location.is_empty());
        // Without scripts there is a link.
        let link = "/.authferry/login?rd=%2Fa%3Fb%3D1";
        assert!(asked.body.contains(&format!("href=\"{link}\"")));
        let script = asked.body.split_once("<script>").unwrap().1;
        let script = script.split_once("</script>").unwrap().0;
        assert!(script.contains(&format!("\"{place}=\"")), "{script}");
        assert!(!script.contains("/a?b"), "nothing of the request");
        // Without one it expires what somebody left who did not come back.
        assert!(script.contains("max-age=\"+(k?600:0)"), "{script}");
        // What the script does.
        browser.jar.insert(place.clone(), kept.to_owned());
        let start = open(&world, &mut browser, link).await;
        let callback = signed_in(&start.location, "alice");
        let mut strict = browser.clone();
        let seen = open(&world, &mut browser, &callback).await;
        assert_eq!(seen.location, expected, "{kept}");
        assert!(!browser.jar.contains_key(&place), "it counts once");
        // Where a page has to go on by itself, it goes there too.
        let seen = Visit::to(&callback).strictly();
        let seen = seen.with(&world, &mut strict).await;
        assert_eq!(seen.refresh, format!("0;url={expected}"));
        assert!(seen.body.contains(&format!("href=\"{expected}\"")));
    }
    // Whoever does not say that it is a page in a tab is led on as ever.
    let seen = open(&world, &mut Browser::default(), "/a").await;
    assert_eq!(seen.status, StatusCode::FOUND);
    // Whoever fetches data gets no page.
    let api = Visit {
        fields: vec![("accept", "application/json")],
        ..Visit::to("/a")
    };
    let seen = api.with(&world, &mut Browser::default()).await;
    assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
    // Where people have a password and no sign-in page, they are asked for it.
    let mut plain = World::of(FakeProvider::old(), FakeProvider::new());
    plan_of(&mut plain, Arm::From);
    plain.look = Arc::clone(&world.look);
    plain.forms.clear();
    let seen = Visit::to("/a").in_a_tab();
    let seen = seen.with(&plain, &mut Browser::default()).await;
    assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_sign_in_that_somebody_opens_itself_forgets_what_an_earlier_visit_left_behind() {
    let mut world = both();
    world.look = Arc::new(Look::new(&crate::auth::settings::Pages {
        keep_fragment: true,
        ..Default::default()
    }));
    let place = format!("{COOKIE}_place");
    let (bare, said) = ("/.authferry/login", "/.authferry/login?rd=%2F");
    for (target, site, expected) in [
        (bare, "same-origin", "/"),
        (bare, "", "/"),
        (said, "none", "/"),
        (said, "cross-site", "/"),
        (said, "same-site", "/"),
        // By way of a page of ours, which has just remembered it.
        (said, "same-origin", "/#old"),
        (said, "", "/#old"),
    ] {
        let mut browser = Browser::default();
        browser.jar.insert(place.clone(), "%2F%23old".to_owned());
        let mut visit = Visit::to(target);
        if !site.is_empty() {
            visit.fields.push(("sec-fetch-site", site));
        }
        let start = visit.with(&world, &mut browser).await;
        assert_eq!(start.status, StatusCode::FOUND, "{start:?}");
        let end = open(&world, &mut browser, &signed_in(&start.location, "alice")).await;
        assert_eq!(end.location, expected, "{target} {site}");
    }
}

#[tokio::test]
async fn somebody_is_told_once_that_the_sign_in_page_has_changed() {
    let mut world = both();
    world.look = Arc::new(Look::new(&crate::auth::settings::Pages {
        changed: true,
        ..Default::default()
    }));
    let mut browser = Browser::default();
    let told = open(&world, &mut browser, "/orders?x=1").await;
    assert_eq!(told.status, StatusCode::OK);
    assert!(
        told.body.contains("Your sign-in page has changed") && !told.body.contains("Reference")
    );
    let on = "/.authferry/login?rd=%2Forders%3Fx%3D1";
    assert!(
        told.body.contains(&format!("href=\"{on}\"")),
        "{}",
        told.body
    );
    assert_eq!(browser.flows(), 0, "nothing has begun yet");
    let start = open(&world, &mut browser, on).await;
    assert!(
        start.location.starts_with("https://new.idp.test/"),
        "{start:?}"
    );
    let end = open(&world, &mut browser, &signed_in(&start.location, "alice")).await;
    assert_eq!(end.location, "/orders?x=1");
    // Whose page is the old one is told nothing.
    everybody_to(&mut world, Arm::From);
    let start = open(&world, &mut Browser::default(), "/").await;
    assert!(
        start.location.starts_with("https://old.idp.test/"),
        "{start:?}"
    );
}

#[tokio::test]
async fn what_was_issued_for_a_session_that_makes_room_is_revoked() {
    let world = both();
    // One more than a person may have.
    for _ in 0..=crate::auth::fake::session_settings().max_per_subject {
        let seen = log_in(&world, &mut Browser::default(), "alice").await;
        assert_eq!(seen.status, StatusCode::SEE_OTHER);
    }
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let revoked = world.new.login.as_ref().unwrap().revoked.lock().unwrap();
    assert_eq!(*revoked, ["refresh-token-of-alice"]);
}
