//! Steps that concern the providers: their keys, their answers, their faults.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;
use tokio::time::sleep;

use super::number;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::wire::h1;
use crate::world::idp::Fault;
use crate::world::pki::Flaw;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Fault,
    Heal,
    Publish,
    Metadata,
    Refreshes,
    Refetch,
    Rotation,
    OtherServer,
    Opaque,
    LegacyRedirect,
    LegacyAsked,
    LegacyLogout,
}

pub(super) async fn perform(
    op: Op,
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    let world = &runner.world;
    let idp = |name: &str| {
        if name == "OLD" {
            &world.old
        } else {
            &world.new
        }
    };
    match op {
        Op::Fault => idp(arguments[0]).fail(arguments[1], fault(arguments[2])?),
        Op::Heal => idp(arguments[0]).heal(arguments[1]),
        Op::Publish => world.new.publish(keys(runner, arguments[0])?),
        Op::Metadata => world.new.metadata(object(arguments[0])?),
        Op::Refreshes => world.new.gives_refresh_tokens(),
        Op::Refetch => refetch(runner).await?,
        Op::Rotation => rotation(runner, number(arguments[0]), course).await?,
        Op::OtherServer => other_server(runner, arguments[0]).await?,
        Op::Opaque => {
            let mut answer = world.old.active("alice");
            if let Some(members) = answer.as_object_mut() {
                for (name, value) in object(arguments[0])? {
                    if value.is_null() {
                        members.remove(&name);
                    } else {
                        members.insert(name, value);
                    }
                }
            }
            let token = world.old.opaque(answer);
            course.vars.set("OPAQUE", token);
        }
        Op::LegacyRedirect => world.legacy.redirect(),
        Op::LegacyAsked => {
            let asked = world.legacy.asked();
            if asked.is_empty() {
                course
                    .findings
                    .push("the legacy application was never asked".to_owned());
            }
            let cookies = asked.iter().flatten().filter(|(name, _)| name == "cookie");
            for (_, value) in cookies {
                if value.contains(';') || !value.starts_with("LEGACYSID=") {
                    course.findings.push(format!(
                        "the legacy application was asked with Cookie: {value}"
                    ));
                }
            }
            if asked
                .iter()
                .flatten()
                .any(|(name, _)| name == "authorization")
            {
                course
                    .findings
                    .push("the legacy application was asked with Authorization".to_owned());
            }
        }
        Op::LegacyLogout => world.legacy.log_out("bob"),
    }
    Ok(())
}

/// A fault in words.
pub(crate) fn fault(words: &str) -> Result<Fault, Stop> {
    if let Ok(status) = words.parse() {
        return Ok(Fault::Status(status));
    }
    if words.starts_with('{') {
        return Ok(Fault::Json(Value::Object(object(words)?)));
    }
    if let Some(mib) = words
        .strip_suffix(" MiB")
        .and_then(|n| n.parse::<usize>().ok())
    {
        return Ok(Fault::Huge(mib << 20));
    }
    if let Some(seconds) = words
        .strip_prefix("429 Retry-After: ")
        .and_then(|n| n.parse().ok())
    {
        return Ok(Fault::Later(seconds));
    }
    Ok(match words {
        "HTML" => Fault::Html,
        "a byte a second" => Fault::Drip,
        "nothing" => Fault::Silence,
        "half of an answer" => Fault::Half,
        "1 MiB that unpacks to 1 GiB" => Fault::Bomb,
        _ => return Err(Stop::Skip(format!("not understood: answers {words}"))),
    })
}

fn keys(runner: &Runner, words: &str) -> Result<Vec<Value>, Stop> {
    let ring = &runner.world.mint.ring;
    let all = ring.new_jwks();
    let n1 = |key: &Value| key["kid"] == "n1";
    let another = ring.attacker.jwk("n1");
    Ok(match words {
        "without n1" => all.into_iter().filter(|key| !n1(key)).collect(),
        "n3 instead of n1" => {
            let mut keys: Vec<Value> = all.into_iter().filter(|key| !n1(key)).collect();
            keys.push(ring.n3.jwk("n3"));
            keys
        }
        "n1 twice, the wrong one first" => [vec![another], all].concat(),
        "n1 twice, the wrong one last" => [all, vec![another]].concat(),
        "weak keys only" => all
            .into_iter()
            .filter(|key| key["kid"] == "rsa1024" || key["kid"] == "oct")
            .collect(),
        "as usual" => all,
        "a key of 4096 bits, too" => [all, vec![ring.big().jwk("n4096")]].concat(),
        _ => match words
            .strip_suffix(" keys")
            .and_then(|n| n.replace(',', "").parse::<u32>().ok())
        {
            Some(count) => {
                let mut keys = all;
                keys.extend((0..count).map(|n| ring.n3.jwk(&format!("k{n}"))));
                keys
            }
            None => return Err(Stop::Skip(format!("not understood: publishes {words}"))),
        },
    })
}

fn object(text: &str) -> Result<Map<String, Value>, Stop> {
    serde_json::from_str(text).map_err(|e| Stop::Skip(format!("not understood: {text}: {e}")))
}

/// A token of an unknown key.
async fn unknown_kid(runner: &Runner) -> Result<(), Stop> {
    let template = json!({ "base": "new.access", "hdr": { "kid": format!("unknown-{}", crate::tokens::base64url(crate::tokens::unique())) } });
    let token = runner
        .world
        .mint
        .mint(template.as_object().unwrap_or(&Map::new()))?;
    let wire = runner.world.public(runner.target()?);
    let request =
        format!("GET /api/x HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\n\r\n");
    // The answer may wait for a slow provider; nobody here waits for it.
    let wish = h1::Wish {
        closed: false,
        patience: Some(Duration::from_millis(300)),
    };
    h1::send(&wire, request.as_bytes(), wish).await;
    Ok(())
}

/// An unknown key makes the program fetch the key set, once its cool-down is over.
async fn refetch(runner: &Runner) -> Result<(), Stop> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(13) {
        unknown_kid(runner).await?;
        sleep(Duration::from_millis(100)).await;
        if !runner.world.new.hits("jwks", start).is_empty() {
            sleep(Duration::from_millis(150)).await;
            return Ok(());
        }
        sleep(Duration::from_millis(400)).await;
    }
    Err(Stop::Fail(
        "unknown keys did not make it fetch the key set within 13 s".to_owned(),
    ))
}

async fn rotation(runner: &mut Runner, seconds: u64, course: &mut Course) -> Result<(), Stop> {
    for _ in 0..200 {
        unknown_kid(runner).await?;
    }
    runner.world.new.publish(keys(runner, "n3 instead of n1")?);
    let rotated = Instant::now();
    let token = course.vars.value(runner, "TOK_N3").await?;
    let request =
        format!("GET /api/x HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\n\r\n");
    let wire = runner.world.public(runner.target()?);
    loop {
        let outcome = h1::send(&wire, request.as_bytes(), h1::Wish::default()).await;
        if outcome
            .answers
            .first()
            .is_some_and(|answer| answer.status == 200)
        {
            let took = rotated.elapsed().as_millis();
            course
                .measured
                .push(format!("a new key counts after {took} ms"));
            return Ok(());
        }
        if Duration::from_secs(seconds) < rotated.elapsed() {
            let status = outcome.answers.first().map(|answer| answer.status);
            course.findings.push(format!(
                "a token of n3 is still refused after {seconds} s ({status:?})"
            ));
            return Ok(());
        }
        for _ in 0..5 {
            unknown_kid(runner).await?;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// A proxy of its own whose key set comes from a server that must not be believed.
async fn other_server(runner: &mut Runner, words: &str) -> Result<(), Stop> {
    let flaw = match words {
        "a self-signed certificate" => Flaw::SelfSigned,
        "a certificate for another name" => Flaw::OtherName,
        "an expired certificate" => Flaw::Expired,
        "a good certificate" => Flaw::None,
        _ => return Err(Stop::Skip(format!("not understood: a server with {words}"))),
    };
    let address = runner.world.new.also(runner.world.pki.flawed(flaw)).await;
    let mut plan = runner.target()?.plan.clone();
    plan.fresh = true;
    plan.new = vec![format!("jwks: {{ url: \"https://{address}/jwks\" }}")];
    plan.jwks = Some("as it is".to_owned());
    runner.ensure(plan).await
}
