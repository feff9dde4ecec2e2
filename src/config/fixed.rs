//! Limits that nobody sets, for `config/README.md`: each is read from the line of the source that it is said in, so that the
//! page cannot say another.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What a limit is of, in the words of operators; the file, and the constants that say it, in the order of the `{}`.
const FIXED: &[(&str, &str, &[&str], &str)] = &[
    (
        "All `Cookie` fields of a request",
        "proxy/canonical/fields.rs",
        &["MAX_COOKIE_BYTES", "MAX_COOKIE_PAIRS"],
        "{}, {} pairs; more is 431",
    ),
    ("Method", "proxy/canonical.rs", &["MAX_METHOD"], "{} bytes"),
    (
        "Host",
        "proxy/canonical/authority.rs",
        &["MAX_HOST"],
        "{} bytes",
    ),
    (
        "Windows of HTTP/2: a stream, a connection",
        "proxy/serve/connection.rs",
        &["H2_STREAM_WINDOW", "H2_CONNECTION_WINDOW"],
        "{}, {}",
    ),
    (
        "What waits to be sent on an HTTP/2 stream",
        "proxy/serve/connection.rs",
        &["H2_SEND_BUFFER"],
        "{}",
    ),
    (
        "HTTP/2 resets: by the client before we looked, by us",
        "proxy/serve/connection.rs",
        &["H2_PENDING_RESETS", "H2_LOCAL_RESETS"],
        "{}, {}; more ends the connection",
    ),
    (
        "HTTP/2 PING: after silence, for its answer",
        "proxy/serve/connection.rs",
        &["H2_PING", "H2_PING_ANSWER"],
        "{}, {}",
    ),
    (
        "What a client takes, at least, while something waits to be sent to it",
        "proxy/serve/ward.rs",
        &["WRITE_LEAST", "WRITE_STALL"],
        "{} in {}; else the connection is reset",
    ),
    (
        "What waits in the kernel to be sent to a client, and how long",
        "proxy/serve/listen.rs",
        &["UNSENT", "UNTAKEN"],
        "{}, {}",
    ),
    (
        "Unread body after an early answer",
        "proxy/serve/socket.rs",
        &["MAX_DISCARDED"],
        "{} are read, for what comes behind it; more closes the connection",
    ),
    (
        "Body that is sent to an address of our own",
        "proxy/own_address.rs",
        &["MAX_BODY", "PATIENCE"],
        "{}, within {}",
    ),
    (
        "Certificates of a client's chain that a listed peer says",
        "proxy/client_certificate.rs",
        &["MAX_CHAIN"],
        "{}",
    ),
    (
        "Token, `kid`",
        "token/peek.rs",
        &["MAX_BYTES", "MAX_KID_BYTES"],
        "{}, {} bytes",
    ),
    (
        "Members of a token's JSON, header and claims together",
        "token/peek.rs",
        &["MAX_MEMBERS"],
        "{}",
    ),
    (
        "Depth of a token's JSON",
        "token/json.rs",
        &["MAX_DEPTH"],
        "{}",
    ),
    (
        "`jti` and `sid`",
        "token/verify.rs",
        &["MAX_ID_BYTES"],
        "{} bytes; a longer `jti` is refused, a longer `sid` is none",
    ),
    ("`sub`", "identity/subject.rs", &["MAX_BYTES"], "{} bytes"),
    (
        "Actors in a token (`act`)",
        "identity/delegation.rs",
        &["MAX_CHAIN"],
        "{}",
    ),
    (
        "`user:password` in `Authorization`",
        "auth/extract/authorization.rs",
        &["MAX_BASIC"],
        "{} bytes",
    ),
    (
        "Session cookie of a provider, API key",
        "auth/extract.rs",
        &["MAX_VALUE"],
        "{}",
    ),
    (
        "Identity header",
        "identity/render.rs",
        &["MAX_VALUE_BYTES"],
        "{}",
    ),
    ("Keys of a key set", "token/keys.rs", &["MAX_KEYS"], "{}"),
    (
        "A key set that is fetched for a key nobody knows",
        "providers/keys/gate.rs",
        &["COOL_DOWN"],
        "once in {}",
    ),
    (
        "Tokens that wait for a key set",
        "providers/keys/remote.rs",
        &["MAX_WAITING"],
        "{} for each provider",
    ),
    (
        "Opaque tokens of which a refusal is remembered",
        "providers/flight.rs",
        &["MAX_REMEMBERED", "REMEMBER"],
        "{}, for {}",
    ),
    (
        "Tokens with a wrong signature that are remembered",
        "providers/forged.rs",
        &["ROOM"],
        "{} for each issuer",
    ),
    (
        "Results of an exchange that are kept",
        "exchange/kept.rs",
        &["MAX_KEPT"],
        "{} for each `exchange`",
    ),
    (
        "Connecting to a provider",
        "providers/client/mod.rs",
        &["CONNECT_TIMEOUT"],
        "{}",
    ),
    (
        "Failures after which a provider is left alone",
        "providers/client/breaker.rs",
        &["STREAK", "STREAK_SPAN"],
        "{} in a row within {}",
    ),
    (
        "A login that has begun",
        "auth/login/flow.rs",
        &["LIFE", "SLOTS"],
        "{}; {} at once in a browser",
    ),
    (
        "Cookie of a login",
        "auth/login/flow.rs",
        &["MAX_COOKIE_BYTES"],
        "{} bytes",
    ),
    (
        "Address to return to after a login",
        "auth/login/return_to.rs",
        &["MAX_BYTES"],
        "{}",
    ),
    (
        "Parameters of a query or form of a login or token request",
        "auth/login/query.rs",
        &["MAX_PARAMETERS"],
        "{}",
    ),
    (
        "Bounces between two logins",
        "auth/login/device.rs",
        &["MAX_BOUNCES", "BOUNCE_WINDOW"],
        "{} within {}",
    ),
    (
        "Addresses, clients and people that are counted for a rate",
        "auth/limits.rs",
        &["COUNTED"],
        "{}",
    ),
    (
        "Sessions kept in memory",
        "session/sessions.rs",
        &["KEPT"],
        "{}",
    ),
    (
        "Log lines of requests that we answered ourselves, kept for `explain --reference`",
        "telemetry/recent.rs",
        &["KEPT"],
        "{} for each worker",
    ),
    (
        "A session in memory while its store is away",
        "session/registry.rs",
        &["AWAY"],
        "{}, then 503",
    ),
    (
        "How often the last use of a session is written",
        "session/live.rs",
        &["TOUCH_EVERY"],
        "every {}",
    ),
    (
        "Assertion of a client of ours",
        "issuer/client.rs",
        &["MAX_LIFE", "LEEWAY"],
        "{}, clocks may differ by {}",
    ),
    (
        "Wrong proofs of clients, bad logouts of providers, unknown ones of browsers: of each, from one address",
        "revocation/throttle.rs",
        &["BAD", "MINUTE"],
        "{} in {}",
    ),
    (
        "Logouts of providers that are judged at once after so many bad ones, and that wait",
        "revocation/throttle.rs",
        &["AT_ONCE", "WAITING"],
        "{}, {}",
    ),
    (
        "Revocations in force",
        "revocation/index.rs",
        &["MAX_ENTRIES"],
        "{}",
    ),
    (
        "Notices of an ended session to a provider",
        "revocation/notice.rs",
        &["TRIES", "LONGEST"],
        "{} tries, at most {} apart",
    ),
    (
        "Rows in the embedded store, and in the one in memory",
        "store/mod.rs",
        &["EMBEDDED_ROWS", "MEMORY_ROWS"],
        "{}, {}; a person with one session has 5 of them. Redis has no such bound",
    ),
    (
        "Store failures after which it is not asked",
        "store/circuit.rs",
        &["FAILURES", "WITHIN"],
        "{} within {}, until a probe is answered",
    ),
    ("A call to Redis", "store/redis/link.rs", &["CALL"], "{}"),
    (
        "The file of the embedded store: how long it may be with free space in it, up to which length a stop makes it shorter, and how long that may take",
        "store/embedded/closing.rs",
        &["SPARED", "MOST", "CLOSING"],
        "{}, {}, {}",
    ),
    (
        "And by how much one grows that this version made",
        "store/embedded/fresh.rs",
        &["GROWTH"],
        "{}",
    ),
    (
        "Writes that wait for the embedded store, and how long",
        "store/embedded/mod.rs",
        &["QUEUE", "WRITE_WAIT"],
        "{}, {}",
    ),
    (
        "Head of an application's answer",
        "proxy/upstream/link.rs",
        &["MAX_HEAD"],
        "{}",
    ),
    (
        "Fields of an application's answer",
        "proxy/upstream/h1/head.rs",
        &["MAX_FIELDS"],
        "{}; more is 502",
    ),
    (
        "Trailers of an application's answer",
        "proxy/upstream/h1/content.rs",
        &["MAX_TRAILERS", "MAX_TRAILER_FIELDS"],
        "{}, {} fields",
    ),
    (
        "Line with the size of a chunk",
        "proxy/upstream/h1/content.rs",
        &["MAX_SIZE_LINE"],
        "{}",
    ),
    (
        "Requests under way to an application, by worker",
        "proxy/upstream/group.rs",
        &["MAX_IN_FLIGHT"],
        "{}; more is 503",
    ),
    (
        "Idle connections to an origin, by worker",
        "proxy/upstream/group.rs",
        &["MAX_IDLE"],
        "{}",
    ),
    (
        "Retry budget: of a thousand, earned by a request, a retry, at most",
        "proxy/upstream/group.rs",
        &["EARNED", "COST", "SAVED"],
        "{}, {}, {}",
    ),
    (
        "An origin that failed is left alone",
        "proxy/upstream/group.rs",
        &["EJECTION", "MAX_EJECTION"],
        "{}, doubled up to {}",
    ),
    (
        "Looking up a name",
        "proxy/upstream/resolve.rs",
        &["FRESH", "STALE", "LAST_GOOD"],
        "again after {}; the old answer serves for {} meanwhile, and for {} when none comes",
    ),
    (
        "WebSocket: PING after silence, closed without any answer",
        "proxy/upgrade/tunnel.rs",
        &["PING_AFTER", "GONE_AFTER"],
        "{}, {}",
    ),
    (
        "Tunnel of `upgrades`: closed after silence on both sides",
        "proxy/upgrade/tunnel.rs",
        &["QUIET"],
        "{}",
    ),
    (
        "Tunnel: how often it is asked whether it may go on",
        "proxy/upgrade/tunnel.rs",
        &["LOOK"],
        "every {}",
    ),
    (
        "Connections that are kept back for the rest of the program",
        "proxy/serve/slots.rs",
        &["KEPT_BACK"],
        "{} descriptors",
    ),
    (
        "Admin: connections, one of them, its head",
        "admin/listen.rs",
        &["CONNECTIONS", "CONNECTION_LIFE", "HEAD_PATIENCE"],
        "{}, {}, {}",
    ),
    (
        "Admin: body",
        "admin/body.rs",
        &["MAX_BODY_BYTES", "MAX_LARGE_BODY_BYTES"],
        "{}; of an import {}",
    ),
    (
        "Configuration: a file, nodes, depth",
        "config/tree.rs",
        &["MAX_FILE_BYTES", "MAX_NODES", "MAX_DEPTH"],
        "{}, {}, {}",
    ),
];

/// Bytes of answers of providers, by what was asked: they are said in one function.
const ANSWERS: &str = "providers/client/call.rs";

/// The table.
pub(super) fn table() -> String {
    let mut text = String::from(
        "\n## Fixed limits\n\nNo key changes these; they are read from the source.\n\n| Of | Limit |\n|---|---|\n",
    );
    for (of, file, constants, words) in FIXED {
        let source = source(file);
        let mut said = (*words).to_owned();
        for constant in *constants {
            said = said.replacen("{}", &value(&source, file, constant), 1);
        }
        assert!(!said.contains("{}"), "{of}");
        writeln!(text, "| {of} | {said} |").unwrap();
    }
    let (most, least) = answers();
    writeln!(
        text,
        "| Answer of a provider, by what was asked | {least} to {most} |"
    )
    .unwrap();
    text
}

fn source(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{file}: {cause}"))
}

/// The greatest and the least.
fn answers() -> (String, String) {
    let source = source(ANSWERS);
    let function = source.split("fn limit(operation").nth(1).unwrap();
    let function = function.split("\n}").next().unwrap();
    let mut sizes: Vec<u64> = function
        .split("=> ")
        .skip(1)
        .filter_map(|arm| number(arm.split([',', '\n']).next()?))
        .collect();
    sizes.sort_unstable();
    (bytes(*sizes.last().unwrap()), bytes(sizes[0]))
}

fn value(source: &str, file: &str, constant: &str) -> String {
    let line = source
        .lines()
        .find(|line| line.contains(&format!("const {constant}: ")))
        .unwrap_or_else(|| panic!("{file} has no {constant}"));
    let (kind, value) = line.split_once(" = ").unwrap();
    let value = value.trim_end_matches(';');
    let unknown = || panic!("{constant} of {file} is `{value}`");
    if kind.ends_with("Duration") {
        let read = || {
            let (unit, of) = value.strip_prefix("Duration::from_")?.split_once('(')?;
            let of = number(of.trim_end_matches(')'))?;
            Some(match unit {
                "millis" => of,
                "secs" => of * 1_000,
                "mins" => of * 60_000,
                "hours" => of * 3_600_000,
                _ => return None,
            })
        };
        return time(read().unwrap_or_else(unknown));
    }
    let many = number(value).unwrap_or_else(unknown);
    // Written as a product of 1024 it is a size.
    if value.contains("* 1024") || value.contains("* 1_024") {
        bytes(many)
    } else {
        grouped(many)
    }
}

/// A product of numbers.
fn number(text: &str) -> Option<u64> {
    text.split('*').try_fold(1, |product, factor| {
        let factor = factor.trim().replace('_', "");
        Some(product * factor.parse::<u64>().ok()?)
    })
}

fn bytes(many: u64) -> String {
    match (many % (1 << 20), many % (1 << 10)) {
        (0, _) => format!("{} MiB", many >> 20),
        (_, 0) => format!("{} KiB", many >> 10),
        _ => format!("{} bytes", grouped(many)),
    }
}

fn time(millis: u64) -> String {
    match millis {
        _ if millis.is_multiple_of(3_600_000) => format!("{} h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) && 120_000 <= millis => {
            format!("{} min", millis / 60_000)
        }
        _ if millis.is_multiple_of(1_000) => format!("{} s", millis / 1_000),
        _ => format!("{millis} ms"),
    }
}

fn grouped(many: u64) -> String {
    let digits = many.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if 0 < at && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn numbers_are_read_as_they_are_written() {
    let source = "pub(super) const A: usize = 16 * 1_024;\nconst B: Duration = Duration::from_mins(10);\nconst C: u32 = 50_000;\n\
        const D: Duration = Duration::from_secs(24 * 60 * 60);\nconst E: Duration = Duration::from_millis(250);\nconst F: u8 = 5;\n";
    let of = |constant| value(source, "a.rs", constant);
    assert_eq!(
        ["A", "B", "C", "D", "E", "F"].map(of),
        ["16 KiB", "10 min", "50,000", "24 h", "250 ms", "5"]
    );
    assert_eq!(bytes(3 << 20), "3 MiB");
    assert_eq!(bytes(3_400), "3,400 bytes");
}
