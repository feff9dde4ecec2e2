//! Steps that concern TLS: names, client certificates, tickets, greetings in pieces.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::run::Course;
use crate::run::Record;
use crate::run::Runner;
use crate::run::Stop;
use crate::tokens::base64url;
use crate::wire::Manner;
use crate::wire::Outcome;
use crate::wire::Tickets;
use crate::wire::Trust;
use crate::wire::Wire;
use crate::wire::h1;
use crate::world::pki::Odd;
use crate::world::pki::Own;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Name,
    NoName,
    Resume,
    ResumeOther,
    Pieces,
    Bound,
    Names,
}

pub(super) async fn perform(
    op: Op,
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    match op {
        Op::Name => {
            let own = match arguments[1] {
                "" => None,
                _ => Some(runner.world.pki.own(1, "billing.corp.test")),
            };
            course.trust = Some(trust(runner, arguments[0], own.as_ref()));
        }
        Op::NoName => no_name(runner, course).await?,
        Op::Resume => {
            let pair = ("open.test", "mtls.test");
            resume(runner, pair, None, course).await?;
        }
        Op::ResumeOther => {
            let own = runner.world.pki.own(1, "billing.corp.test");
            let pair = ("mtls.test", "mtls2.test");
            resume(runner, pair, Some(&own), course).await?;
        }
        Op::Pieces => pieces(runner, course).await?,
        Op::Bound => bound(runner, course).await?,
        Op::Names => names(runner, course).await?,
    }
    Ok(())
}

/// A client that asks for `name`, and may show a certificate.
fn trust(runner: &Runner, name: &str, own: Option<&Own>) -> Arc<Trust> {
    Arc::new(runner.world.pki.trust.as_client(name, own))
}

/// The wire of such a client.
fn wire(runner: &Runner, trust: &Arc<Trust>) -> Result<Wire, Stop> {
    Ok(Wire {
        to: runner.target()?.public,
        tls: Some(Arc::clone(trust)),
    })
}

/// The status of a request with a good token; `None`: there was no answer.
async fn status(
    runner: &Runner,
    trust: &Arc<Trust>,
    host: &str,
    fields: &str,
) -> Result<Option<u16>, Stop> {
    let request = format!("GET /secret HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    let outcome = h1::send(
        &wire(runner, trust)?,
        request.as_bytes(),
        h1::Wish::default(),
    )
    .await;
    Ok(outcome.answers.first().map(|answer| answer.status))
}

async fn bearer(runner: &Runner, course: &mut Course) -> Result<String, Stop> {
    let token = course.vars.value(runner, "ALICE").await?;
    Ok(format!("Authorization: Bearer {token}\r\n"))
}

/// Whoever names nobody, or somebody unknown, gets nothing of a host that asks for certificates.
async fn no_name(runner: &Runner, course: &mut Course) -> Result<(), Stop> {
    let bearer = bearer(runner, course).await?;
    let mut nameless = runner.world.pki.trust.as_client("mtls.test", None);
    nameless.says_no_name();
    let before = runner.world.upstream.count();
    for (how, trust) in [
        ("without SNI", Arc::new(nameless)),
        ("with an unknown SNI", trust(runner, "app.test", None)),
        ("with an SNI of capitals", trust(runner, "MTLS.TEST", None)),
        (
            "with the SNI of a wildcard",
            trust(runner, "x.mtls.test", None),
        ),
    ] {
        for host in ["mtls.test", "x.mtls.test", "MTLS.test"] {
            let status = status(runner, &trust, host, &bearer).await?;
            if !matches!(status, None | Some(421)) {
                let what = format!("{how}, Host: {host} was answered with {status:?}");
                course.findings.push(what);
            }
        }
    }
    reached(runner, before, 0, course);
    Ok(())
}

fn reached(runner: &Runner, before: usize, wanted: usize, course: &mut Course) {
    let hits = runner.world.upstream.count() - before;
    if hits != wanted {
        let what = format!("{hits} requests reached the upstream, not {wanted}");
        course.findings.push(what);
    }
}

/// A ticket of one name is shown to another, in both versions of TLS.
async fn resume(
    runner: &Runner,
    (first, second): (&str, &str),
    own: Option<&Own>,
    course: &mut Course,
) -> Result<(), Stop> {
    let bearer = bearer(runner, course).await?;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tickets = Arc::new(Tickets::default());
        let mut trust = runner.world.pki.trust.as_client(first, own);
        trust.keeps(&tickets, version);
        let trust = Arc::new(trust);
        let before = runner.world.upstream.count();
        let good = status(runner, &trust, first, &bearer).await?;
        if good != Some(200) {
            let what = format!("a full handshake to {first}: {good:?}");
            course.findings.push(what);
        }
        // The same client with the same tickets, whatever name they were for.
        let trust = Arc::new(trust.named(second));
        for host in [second, first] {
            let status = status(runner, &trust, host, &bearer).await?;
            if status == Some(200) {
                course.findings.push(format!(
                    "a ticket of {first} was taken at {second} ({version:?}) for {host}"
                ));
            }
        }
        reached(runner, before, 1, course);
    }
    Ok(())
}

/// The greeting comes byte by byte, or in several records: the certificate is still asked for.
async fn pieces(runner: &Runner, course: &mut Course) -> Result<(), Stop> {
    let bearer = bearer(runner, course).await?;
    let own = runner.world.pki.own(1, "billing.corp.test");
    let before = runner.world.upstream.count();
    for manner in [Manner::Bytes, Manner::Records] {
        for (own, wanted) in [(None, None), (Some(&own), Some(200))] {
            let mut trust = runner.world.pki.trust.as_client("mtls.test", own);
            trust.greets(manner);
            let status = status(runner, &Arc::new(trust), "mtls.test", &bearer).await?;
            if status != wanted {
                course.findings.push(format!(
                    "in {manner:?}, with a certificate: {}: {status:?}",
                    own.is_some()
                ));
            }
        }
    }
    reached(runner, before, 2, course);
    no_name(runner, course).await
}

/// A token that is bound to a certificate counts on a connection of that certificate only.
async fn bound(runner: &Runner, course: &mut Course) -> Result<(), Stop> {
    let pki = &runner.world.pki;
    let (c1, c2) = (pki.own(1, "one.corp.test"), pki.own(1, "two.corp.test"));
    let hash = base64url(digest::digest(&digest::SHA256, &c1.0));
    let set = json!({ "sub": "alice", "preferred_username": "alice", "cnf": { "x5t#S256": hash } });
    let token = runner.world.mint.good("new.access", &set);
    let plain = format!("Authorization: Bearer {token}\r\n");
    let shown = STANDARD.encode(&c1.0);
    let header = format!("{plain}Client-Cert: :{shown}:\r\n");
    let xfcc = format!("{plain}X-Forwarded-Client-Cert: Hash={hash};Cert=\"{shown}\"\r\n");
    let before = runner.world.upstream.count();
    for (how, name, own, fields, wanted) in [
        ("no certificate", "open.test", None, &plain, 401),
        ("C1 in a header alone", "open.test", None, &header, 401),
        ("C2", "mtls.test", Some(&c2), &plain, 401),
        (
            "C2, and C1 in a header",
            "mtls.test",
            Some(&c2),
            &header,
            401,
        ),
        ("C2, and C1 in XFCC", "mtls.test", Some(&c2), &xfcc, 401),
        ("C1", "mtls.test", Some(&c1), &plain, 200),
        ("C2 after C1", "mtls.test", Some(&c2), &plain, 401),
    ] {
        let status = status(runner, &trust(runner, name, own), name, fields).await?;
        if status != Some(wanted) {
            course
                .findings
                .push(format!("{how}: {status:?}, not {wanted}"));
        }
    }
    reached(runner, before, 1, course);
    Ok(())
}

/// Certificates with strange names: each is nobody. One that is no client's does not even make a connection.
async fn names(runner: &Runner, course: &mut Course) -> Result<(), Stop> {
    let pki = &runner.world.pki;
    let good = pki.own(1, "billing.corp.test");
    let host = "machines.test";
    let control = status(runner, &trust(runner, host, Some(&good)), host, "").await?;
    if control != Some(200) {
        course
            .findings
            .push(format!("a good certificate: {control:?}"));
    }
    for odd in Odd::ALL {
        let own = pki.odd(odd);
        let request = format!("GET /secret HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let before = runner.world.upstream.count();
        let wire = wire(runner, &trust(runner, host, Some(&own)))?;
        let outcome = h1::send(&wire, request.as_bytes(), h1::Wish::default()).await;
        let upstream = runner.world.upstream.since(before);
        let unmade = matches!(odd, Odd::Expired | Odd::NoClient) && outcome.answers.is_empty();
        if unmade {
            // Refused with the handshake.
            if !upstream.is_empty() {
                course
                    .findings
                    .push(format!("{odd:?} reached the upstream"));
            }
            continue;
        }
        course.records.push(Record {
            label: format!("{odd:?}"),
            outcome: Outcome {
                failed: outcome.failed,
                answers: outcome.answers,
                ..Outcome::default()
            },
            upstream,
            ..Record::default()
        });
    }
    Ok(())
}
