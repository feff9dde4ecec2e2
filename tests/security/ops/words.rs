//! What the words of a step mean.

use super::Op;
use super::disk;
use super::flood;
use super::keys;
use super::load;
use super::login;
use super::process;
use super::second;
use super::store;
use super::swap;
use super::tls;
use super::upstream;

/// Words → what they mean.
pub(super) const OPS: &[(&str, Op)] = &[
    (
        r"^attacker starts a login, authenticates at NEW, captures code and state",
        Op::Nothing,
    ),
    (r"^same browser opens two logins F1, F2$", Op::Nothing),
    (r"^start flow with NEW$", Op::Nothing),
    (r"^wait (\d+) (ms|s)$", Op::Wait),
    (
        r"^upstream returns (\d{3})$",
        Op::Upstream(upstream::Op::Status),
    ),
    (
        r"^upstream answers exactly: (?s)(.*)$",
        Op::Upstream(upstream::Op::Exactly),
    ),
    (
        r"^upstream falls silent$",
        Op::Upstream(upstream::Op::Silent),
    ),
    (
        r"^upstream ends in the middle of a body$",
        Op::Upstream(upstream::Op::HalfBody),
    ),
    (r"^upstream is as usual$", Op::Upstream(upstream::Op::Calm)),
    (
        r"^upstream begins with (?s)(.*) and repeats (.*) without end$",
        Op::Upstream(upstream::Op::Endless),
    ),
    (
        r"^upstream closes idle connections after (\d+) ms; requests for (\d+) s at random gaps$",
        Op::Upstream(upstream::Op::IdleRace),
    ),
    (
        r"^stream (\d+) MiB up and down, (\d+) at once$",
        Op::Upstream(upstream::Op::Stream),
    ),
    (
        r"^(NEW|OLD) (jwks|token|introspect|discovery) answers (.*)$",
        Op::Keys(keys::Op::Fault),
    ),
    (
        r"^(NEW|OLD) (jwks|token|introspect|discovery) is well again$",
        Op::Keys(keys::Op::Heal),
    ),
    (r"^NEW publishes (.*)$", Op::Keys(keys::Op::Publish)),
    (
        r"^NEW metadata have (\{.*\})$",
        Op::Keys(keys::Op::Metadata),
    ),
    (r"^NEW gives refresh tokens$", Op::Keys(keys::Op::Refreshes)),
    (
        r"^the key set of NEW is fetched again$",
        Op::Keys(keys::Op::Refetch),
    ),
    (
        r"^within (\d+) s a token of n3 is accepted, while unknown kids come$",
        Op::Keys(keys::Op::Rotation),
    ),
    (
        r"^the keys of NEW come from a server with (.*)$",
        Op::Keys(keys::Op::OtherServer),
    ),
    (
        r"^OPAQUE is answered with (\{.*\})$",
        Op::Keys(keys::Op::Opaque),
    ),
    (
        r"^legacy check answers 302 to /login with Set-Cookie",
        Op::Keys(keys::Op::LegacyRedirect),
    ),
    (
        r"^the legacy application was asked with LEGACYSID alone$",
        Op::Keys(keys::Op::LegacyAsked),
    ),
    (
        r"^bob logs out in the legacy app$",
        Op::Keys(keys::Op::LegacyLogout),
    ),
    (
        r"^login as (\w+)(?: with id_token (\{.*\}))?(?: as (\w+))?(?: then open (\S+))?$",
        Op::Login(login::Op::Login),
    ),
    (r"^log out (\w+)$", Op::Login(login::Op::Logout)),
    (
        r"^for each id_token: complete a NEW login in a clean browser, then GET /app$",
        Op::Login(login::Op::Each),
    ),
    (
        r"^a browser that has the session of eve signs in as alice$",
        Op::Login(login::Op::Fixation),
    ),
    (
        r"^open /app in (\d+) tabs unauthenticated$",
        Op::Login(login::Op::Tabs),
    ),
    (
        r"^every spoilt form of the session of alice is no session$",
        Op::Login(login::Op::Spoil),
    ),
    (
        r"^cookies for one purpose are none for another$",
        Op::Login(login::Op::Purpose),
    ),
    (r"^begin a login as (\w+)$", Op::Login(login::Op::Begin)),
    (r"^finish the login as (\w+)$", Op::Login(login::Op::Finish)),
    (
        r"^alice keeps her session (\d+) s by use every (\d+) ms, and loses it after (\d+) s$",
        Op::Login(login::Op::Absolute),
    ),
    (
        r"^open /ws as (.*), keep it (\d+) s; closed within (\d+) s$",
        Op::Login(login::Op::WebSocket),
    ),
    (
        r"^the operator revokes (\{.*\})$",
        Op::Process(process::Op::Revoke),
    ),
    (
        r"^kill -9 and start again$",
        Op::Process(process::Op::Again),
    ),
    (r"^start again$", Op::Process(process::Op::Fresh)),
    (
        r"^start is refused: (.*) becomes (.*), naming (.*)$",
        Op::Process(process::Op::Refused),
    ),
    (
        r"^reload is refused: (.*) becomes (.*)$",
        Op::Process(process::Op::ReloadRefused),
    ),
    (
        r"^reload: (.*) becomes (.*)$",
        Op::Process(process::Op::Reload),
    ),
    (
        r"^reload: NEW is gone, and another provider has its place$",
        Op::Process(process::Op::Replaced),
    ),
    (
        r"^SIGTERM under load; it ends within (\d+) s and fails nothing$",
        Op::Process(process::Op::Term),
    ),
    (
        r"^(\d+) reloads under load; nothing fails$",
        Op::Process(process::Op::Reloads),
    ),
    (
        r"^/x flips between admins and anybody for (\d+) s; each answer is wholly one of both$",
        Op::Process(process::Op::Flip),
    ),
    (
        r"^the certificate is replaced: (.*)$",
        Op::Process(process::Op::Certificate),
    ),
    (
        r"^(\d+) connections are held for (\d+) s and released$",
        Op::Process(process::Op::Descriptors),
    ),
    (
        r"^(\d+) users, (\d+) s of requests over (\d+) connections, with reloads and upstream errors; everybody sees themselves$",
        Op::Swap(swap::Op::Bleed),
    ),
    (
        r"^TLS SNI (\S+?)( with a certificate)?$",
        Op::Tls(tls::Op::Name),
    ),
    (
        r"^other names and none select no weaker policy$",
        Op::Tls(tls::Op::NoName),
    ),
    (
        r"^full handshake to open\.test; resume its ticket with SNI mtls\.test$",
        Op::Tls(tls::Op::Resume),
    ),
    (
        r"^handshake to mtls\.test with a cert of CA-1; resume with SNI mtls2\.test that trusts CA-2 only$",
        Op::Tls(tls::Op::ResumeOther),
    ),
    (
        r"^send the ClientHello for mtls\.test in 1-byte TCP segments and in several TLS records$",
        Op::Tls(tls::Op::Pieces),
    ),
    (
        r"^token with cnf\.x5t#S256 of cert C1 over: no client cert; cert C2; C1; C1 presented only in a header$",
        Op::Tls(tls::Op::Bound),
    ),
    (
        r"^certs with: rfc822Name equal to an allowed dNSName; NUL inside a SAN; admin in CN only; two SANs; SAN with newline; empty SAN; expired; not clientAuth EKU$",
        Op::Tls(tls::Op::Names),
    ),
    (
        r"^the state stands on a disk of (\d+) MiB$",
        Op::Disk(disk::Op::Small),
    ),
    (r"^the disk is filled$", Op::Disk(disk::Op::Fill)),
    (r"^the disk has room again$", Op::Disk(disk::Op::Free)),
    (
        r"^up to (\d+) people sign in until one cannot; who is in stays in$",
        Op::Disk(disk::Op::UntilFull),
    ),
    (
        r"^for (\d+) s people sign in and out, and kill -9 comes in the middle; what was acknowledged holds$",
        Op::Disk(disk::Op::Crashes),
    ),
    (r"^the store is a Redis$", Op::Store(store::Op::Shared)),
    (
        r"^a second instance shares it$",
        Op::Store(store::Op::Second),
    ),
    (
        r"^at the (first|second) instance$",
        Op::Store(store::Op::At),
    ),
    (r"^Redis (.*)$", Op::Store(store::Op::Redis)),
    (r"^the replica (.*)$", Op::Store(store::Op::Replica)),
    (
        r"^(the links|the link of the (?:first|second) instance) to Redis (?:is|are) (cut|as usual|slow by \d+ ms)$",
        Op::Store(store::Op::Links),
    ),
    (
        r"^(\w+) and (\w+) sign in at once, one at each instance, with id_token (\{.*\}); (both are let in|one is refused)$",
        Op::Store(store::Op::AtOnce),
    ),
    (
        r"^it is (not )?ready within (\d+) s$",
        Op::Store(store::Op::Ready),
    ),
    (
        r"^within (\d+) s (\d{3}(?: or \d{3})*) comes for (?s)(.*)$",
        Op::Store(store::Op::Until),
    ),
    (
        r"^(\d+) s of traffic: (all is served, p99 at most \d+ ms|tokens are served as before, sessions too or told to come again(?:, p99 at most \d+ ms)?)$",
        Op::Store(store::Op::Traffic),
    ),
    (
        r"^shadow validator: denies, errors, times out, returns another subject, panics; measure answers and outbound calls$",
        Op::Second(second::Op::Watched),
    ),
    (
        r"^for (\d+) s (\d+) bad tokens (\w+) a second come; good requests keep their p99$",
        Op::Load(load::Op::BadTokens),
    ),
    (
        r"^within (\d+) s the metrics say (.*)$",
        Op::Load(load::Op::Metrics),
    ),
    (
        r#"^stream "1;" followed by 1 MiB of extension bytes"#,
        Op::Flood(flood::Op::Extensions),
    ),
    (
        r"^POST chunked with 10,000 trailer fields; and one 1 MiB trailer$",
        Op::Flood(flood::Op::Trailers),
    ),
    (
        r"^h1: 101 headers; 1 header of 64 KiB; 64 KiB request line\. h2: 300 headers; 16 KiB header; :path of 32 KiB$",
        Op::Flood(flood::Op::BigHeads),
    ),
    (
        r"^each limit of a head, just below and just above, in both protocols$",
        Op::Flood(flood::Op::Borders),
    ),
    (
        r"^millions of empty DATA frames on a stream the upstream does not read; 1-byte DATA frames$",
        Op::Flood(flood::Op::EmptyData),
    ),
    (
        r"^(\d+) connections send one header byte per (\d+) s; closed within (\d+) s$",
        Op::Flood(flood::Op::SlowHead),
    ),
    (
        r"^(\d+) connections send half a preface; closed within (\d+) s$",
        Op::Flood(flood::Op::HalfPreface),
    ),
    (
        r"^(\d+) connections greet in HTTP/2 and say nothing more; closed within (\d+) s$",
        Op::Flood(flood::Op::Silent),
    ),
    (
        r"^(\d+) POSTs send one byte per 10 s; closed within (\d+) s$",
        Op::Flood(flood::Op::SlowBody),
    ),
    (
        r"^offer TLS 1\.0, 1\.1, SSLv3, RC4, 3DES, export$",
        Op::Flood(flood::Op::OldTls),
    ),
];
