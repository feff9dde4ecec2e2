//! Steps that concern browsers: logins, sessions, cookies, WebSockets.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::number;
use crate::case::Case;
use crate::run::Course;
use crate::run::Record;
use crate::run::Runner;
use crate::run::Stop;
use crate::vars::sign_in;
use crate::wire::Answer;
use crate::wire::Outcome;
use crate::wire::h1;
use crate::world::browser::Browser;
use crate::world::browser::SESSION;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Login,
    Logout,
    Each,
    Fixation,
    Tabs,
    Spoil,
    Purpose,
    Begin,
    Finish,
    Absolute,
    WebSocket,
}

pub(super) async fn perform(
    op: Op,
    runner: &mut Runner,
    arguments: &[&str],
    case: &Case,
    course: &mut Course,
) -> Result<(), Stop> {
    match op {
        Op::Login => login(runner, arguments, course).await?,
        Op::Logout => logout(runner, arguments[0], course).await?,
        Op::Each => {
            for (name, template) in case.all_tokens() {
                runner.world.new.id_token(template);
                let label = format!("login with {name}");
                complete(runner, "mallory", &label, Some("/app"), course).await?;
            }
        }
        Op::Fixation => {
            let planted = sign_in(runner, "eve").await?;
            let mut browser = Browser::default();
            browser.cookies.insert(SESSION.to_owned(), planted.clone());
            let wire = runner.world.public(runner.target()?);
            // Somebody who is signed in begins a login by hand.
            let flow = browser
                .begin(&wire, "/.authferry/login?rd=/app")
                .await
                .map_err(Stop::Fail)?;
            browser
                .finish(&runner.world, &wire, &flow, "alice")
                .await
                .map_err(Stop::Fail)?;
            match browser.cookies.get(SESSION) {
                None => course.findings.push("the login made no session".to_owned()),
                Some(session) if *session == planted => course
                    .findings
                    .push("the login kept the planted session".to_owned()),
                Some(_) => {}
            }
            course.vars.set("S1", planted);
        }
        Op::Tabs => tabs(runner, number(arguments[0]), course).await?,
        Op::Spoil => spoil(runner, course).await?,
        Op::Purpose => purpose(runner, course).await?,
        Op::Begin => {
            let wire = runner.world.public(runner.target()?);
            let mut browser = Browser::default();
            let flow = browser.begin(&wire, "/app").await.map_err(Stop::Fail)?;
            course
                .vars
                .flows
                .insert("pending".to_owned(), (browser, flow));
        }
        Op::Finish => {
            let pending = course.vars.flows.remove("pending");
            let (mut browser, flow) =
                pending.ok_or_else(|| Stop::Skip("no login has begun".to_owned()))?;
            let wire = runner.world.public(runner.target()?);
            let done = browser
                .finish(&runner.world, &wire, &flow, arguments[0])
                .await
                .map_err(Stop::Fail)?;
            course.records.push(record("the callback", done));
        }
        Op::Absolute => absolute(runner, arguments, course).await?,
        Op::WebSocket => websocket(runner, arguments, course).await?,
    }
    Ok(())
}

fn record(label: &str, answer: Answer) -> Record {
    Record {
        label: label.to_owned(),
        outcome: Outcome {
            answers: vec![answer],
            ..Outcome::default()
        },
        ..Record::default()
    }
}

async fn login(runner: &mut Runner, arguments: &[&str], course: &mut Course) -> Result<(), Stop> {
    if !arguments[1].is_empty() {
        let template: Value = serde_json::from_str(arguments[1])
            .map_err(|e| Stop::Skip(format!("not understood: {}: {e}", arguments[1])))?;
        let template = template.as_object().cloned().unwrap_or_default();
        runner.world.new.id_token(template);
    }
    let open = Some(arguments[3]).filter(|target| !target.is_empty());
    let label = format!("login as {} {}", arguments[0], arguments[1]);
    let session = complete(runner, arguments[0], &label, open, course).await?;
    if !arguments[2].is_empty() {
        let session = session.ok_or_else(|| Stop::Fail("the login made no session".to_owned()))?;
        course.vars.set(arguments[2], session);
    }
    Ok(())
}

/// A login in a clean browser, and then a page, if the login made a session.
async fn complete(
    runner: &mut Runner,
    user: &str,
    label: &str,
    open: Option<&str>,
    course: &mut Course,
) -> Result<Option<String>, Stop> {
    let wire = runner.world.public(runner.target()?);
    let mut browser = Browser::default();
    let before = runner.world.upstream.count();
    let flow = browser.begin(&wire, "/app").await.map_err(Stop::Fail)?;
    let done = browser
        .finish(&runner.world, &wire, &flow, user)
        .await
        .map_err(Stop::Fail)?;
    course.records.push(record(label, done));
    let session = browser.cookies.get(SESSION).cloned();
    if let (Some(target), Some(_)) = (open, &session) {
        let page = browser.open(&wire, target).await.map_err(Stop::Fail)?;
        let mut page = record(&format!("{label}, then GET {target}"), page);
        page.upstream = runner.world.upstream.since(before);
        course.records.push(page);
    }
    Ok(session)
}

async fn logout(runner: &mut Runner, name: &str, course: &mut Course) -> Result<(), Stop> {
    let session = course.vars.value(runner, name).await?;
    let mut browser = Browser::default();
    browser.cookies.insert(SESSION.to_owned(), session);
    let wire = runner.world.public(runner.target()?);
    let fields = "Origin: https://app.test\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let page = browser
        .open(&wire, "/.authferry/logout")
        .await
        .map_err(Stop::Fail)?;
    // The form of the page may carry a secret of its own.
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let hidden = crate::run::pattern(r#"name="([^"]+)"[^>]*value="([^"]*)""#);
    let body: Vec<String> = hidden
        .captures_iter(&text)
        .map(|f| format!("{}={}", &f[1], &f[2]))
        .collect();
    let done = browser
        .send(&wire, "POST", "/.authferry/logout", fields, &body.join("&"))
        .await
        .map_err(Stop::Fail)?;
    if 400 <= done.status {
        return Err(Stop::Fail(format!(
            "the logout was answered with {}",
            done.status
        )));
    }
    course.records.push(record("logout", done));
    Ok(())
}

async fn tabs(runner: &mut Runner, count: u64, course: &mut Course) -> Result<(), Stop> {
    let wire = runner.world.public(runner.target()?);
    let mut browser = Browser::default();
    let mut flows = Vec::new();
    for _ in 0..count {
        flows.push(browser.begin(&wire, "/app").await.map_err(Stop::Fail)?);
    }
    let kept: Vec<(&String, &String)> = browser
        .cookies
        .iter()
        .filter(|(name, _)| name.contains("_flow"))
        .collect();
    let size: usize = browser
        .cookies
        .iter()
        .map(|(name, value)| name.len() + value.len() + 3)
        .sum();
    if 5 < kept.len() {
        course.findings.push(format!("{} flow cookies", kept.len()));
    }
    if 4_096 < size {
        course
            .findings
            .push(format!("a Cookie field of {size} bytes"));
    }
    for flow in flows.iter().rev().take(5) {
        let done = browser
            .finish(&runner.world, &wire, flow, "alice")
            .await
            .map_err(Stop::Fail)?;
        if browser.cookies.remove(SESSION).is_none() {
            course.findings.push(format!(
                "one of the newest 5 logins ended with {}",
                done.status
            ));
        }
    }
    Ok(())
}

/// What a request with this cookie is answered, without what differs between any two answers.
async fn answered(runner: &Runner, cookie: &str) -> Result<String, Stop> {
    let wire = runner.world.public(runner.target()?);
    let cookie = if cookie.is_empty() {
        String::new()
    } else {
        format!("Cookie: {cookie}\r\n")
    };
    let request = format!("GET /app HTTP/1.1\r\nHost: app.test\r\n{cookie}\r\n");
    let outcome = h1::send(&wire, request.as_bytes(), h1::Wish::default()).await;
    let answer = outcome.answers.into_iter().next();
    let answer = answer.ok_or_else(|| Stop::Fail(format!("no answer to {cookie}")))?;
    // Each answer has a reference of its own.
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let body = crate::run::pattern("[0-9a-f]{12,}")
        .replace_all(&body, "REFERENCE")
        .into_owned();
    Ok(format!("{} {body}", answer.status))
}

async fn spoil(runner: &mut Runner, course: &mut Course) -> Result<(), Stop> {
    let alice = sign_in(runner, "alice").await?;
    let bob = sign_in(runner, "carol").await?;
    let none = answered(runner, "").await?;
    if answered(runner, &format!("{SESSION}={alice}")).await? == none {
        return Err(Stop::Fail("the session of alice is none".to_owned()));
    }
    let mut spoilt: Vec<(String, Vec<u8>)> = Vec::new();
    let bytes = alice.as_bytes();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut other = bytes.to_vec();
            other[at] ^= 1 << bit;
            // What is no cookie value any more is another case.
            if other[at].is_ascii_graphic() && !b"\",;\\".contains(&other[at]) {
                spoilt.push((format!("bit {bit} of byte {at}"), other));
            }
        }
        spoilt.push((format!("cut to {at}"), bytes[..at].to_vec()));
    }
    for more in ["A", "=", "AAAA", "."] {
        spoilt.push((format!("with {more}"), [bytes, more.as_bytes()].concat()));
    }
    let (half, other_half) = (alice.len() / 2, bob.len() / 2);
    spoilt.push((
        "half alice, half carol".to_owned(),
        [&bytes[..half], &bob.as_bytes()[other_half..]].concat(),
    ));
    spoilt.push((
        "half carol, half alice".to_owned(),
        [&bob.as_bytes()[..other_half], &bytes[half..]].concat(),
    ));
    for (how, value) in spoilt {
        let cookie = format!("{SESSION}={}", String::from_utf8_lossy(&value));
        let found = answered(runner, &cookie).await?;
        if found != none {
            course
                .findings
                .push(format!("{how}: {found} instead of {none}"));
        }
    }
    Ok(())
}

async fn purpose(runner: &mut Runner, course: &mut Course) -> Result<(), Stop> {
    let wire = runner.world.public(runner.target()?);
    let mut browser = Browser::default();
    let flow = browser.begin(&wire, "/app").await.map_err(Stop::Fail)?;
    let none = answered(runner, "").await?;
    for (name, value) in &browser.cookies {
        if answered(runner, &format!("{SESSION}={value}")).await? != none {
            course
                .findings
                .push(format!("the cookie {name} is a session"));
        }
    }
    let session = sign_in(runner, "alice").await?;
    let mut other = browser.clone();
    other.cookies.insert(flow.cookie.0.clone(), session.clone());
    let done = other
        .finish(&runner.world, &wire, &flow, "alice")
        .await
        .map_err(Stop::Fail)?;
    if other.cookies.contains_key(SESSION) {
        course
            .findings
            .push(format!("a session stood in for a flow ({})", done.status));
    }
    // The session of one host is none of another.
    let request =
        format!("GET /app HTTP/1.1\r\nHost: other.test\r\nCookie: {SESSION}={session}\r\n\r\n");
    let outcome = h1::send(&wire, request.as_bytes(), h1::Wish::default()).await;
    let status = outcome.answers.first().map_or(0, |answer| answer.status);
    if status != 401 && status != 302 {
        course
            .findings
            .push(format!("the session of app.test at other.test: {status}"));
    }
    Ok(())
}

async fn absolute(
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    let (life, gap, idle) = (
        number(arguments[0]),
        number(arguments[1]),
        number(arguments[2]),
    );
    let session = sign_in(runner, "alice").await?;
    let cookie = format!("{SESSION}={session}");
    let start = Instant::now();
    let is_in = |answer: &str| answer.starts_with("200");
    while start.elapsed() + Duration::from_millis(gap) < Duration::from_secs(life) {
        if !is_in(&answered(runner, &cookie).await?) {
            course.findings.push(format!(
                "used every {gap} ms, the session ended after {} ms",
                start.elapsed().as_millis()
            ));
            return Ok(());
        }
        sleep(Duration::from_millis(gap)).await;
    }
    sleep(
        (Duration::from_secs(life) + Duration::from_millis(1_100)).saturating_sub(start.elapsed()),
    )
    .await;
    if is_in(&answered(runner, &cookie).await?) {
        course
            .findings
            .push(format!("the session lives beyond {life} s"));
    }
    let cookie = format!("{SESSION}={}", sign_in(runner, "alice").await?);
    sleep(Duration::from_secs(idle) + Duration::from_millis(1_100)).await;
    if is_in(&answered(runner, &cookie).await?) {
        course.findings.push(format!(
            "the session lives although nobody used it for {idle} s"
        ));
    }
    Ok(())
}

/// Opens a WebSocket by a session or a token, and waits for its end.
async fn websocket(
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    let (who, keep, most) = (arguments[0], number(arguments[1]), number(arguments[2]));
    let (name, ends) = who.split_once(", then ").unwrap_or((who, ""));
    let value = course.vars.value(runner, name).await?;
    let credential = if name.starts_with("SESS_") {
        format!("Cookie: {SESSION}={value}\r\nOrigin: https://app.test\r\n")
    } else {
        format!("Authorization: Bearer {value}\r\n")
    };
    let wire = runner.world.public(runner.target()?);
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: app.test\r\n{credential}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut stream = wire.connect(b"http/1.1").await.map_err(Stop::Fail)?;
    let failed = |e: std::io::Error| Stop::Fail(format!("the WebSocket: {e}"));
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    while h1::find(&seen, b"\r\n\r\n").is_none() {
        let n = timeout(Duration::from_secs(5), stream.read(&mut chunk)).await;
        match n {
            Ok(Ok(n @ 1..)) => seen.extend_from_slice(&chunk[..n]),
            Ok(Ok(0) | Err(_)) | Err(_) => {
                return Err(Stop::Fail("no WebSocket was opened".to_owned()));
            }
        }
    }
    if !seen.starts_with(b"HTTP/1.1 101") {
        let line = String::from_utf8_lossy(&seen)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        return Err(Stop::Fail(format!("no WebSocket was opened: {line}")));
    }
    // It stays open as long as its credential.
    let early = timeout(Duration::from_secs(keep), stream.read(&mut chunk)).await;
    if let Ok(end) = early {
        course
            .findings
            .push(format!("the WebSocket of {who} ended too early: {end:?}"));
        return Ok(());
    }
    if ends == "log out" {
        logout(runner, name, course).await?;
        course.records.clear();
    }
    if let Some(target) = ends.strip_prefix("the operator revokes ") {
        super::process::revoke(runner, target).await?;
    }
    if ends.starts_with("NEW logs alice out") {
        let token = course.vars.value(runner, "LT_OK").await?;
        let other = course.shared.as_ref().and_then(|shared| shared.other());
        let wire = match other {
            Some(other) if ends.ends_with("at the other instance") => runner.world.public(other),
            Some(_) | None => wire.clone(),
        };
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        let body = format!("logout_token={token}");
        let told = Browser::default()
            .send(&wire, "POST", "/.authferry/backchannel/new", kind, &body)
            .await
            .map_err(Stop::Fail)?;
        if told.status != 200 {
            let what = format!("the logout was answered with {}", told.status);
            return Err(Stop::Fail(what));
        }
    }
    let start = Instant::now();
    loop {
        match timeout(Duration::from_secs(most), stream.read(&mut chunk)).await {
            // A ping is no end; a close frame is one.
            Ok(Ok(n @ 1..)) if chunk[..n].first() != Some(&0x88) => {}
            Ok(_) => {
                let took = start.elapsed().as_millis();
                course.measured.push(format!("closed after {took} ms"));
                return Ok(());
            }
            Err(_) => break,
        }
        if Duration::from_secs(most) < start.elapsed() {
            break;
        }
    }
    course.findings.push(format!(
        "the WebSocket of {who} is still open after {most} s"
    ));
    Ok(())
}
