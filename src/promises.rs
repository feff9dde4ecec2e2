//! What holds whatever a stranger sends: one function for each parser of a stranger's bytes.
//!
//! `fuzz/` runs them on bytes that somebody looks for; the test here runs them on the corpora that were found, and on
//! pieces of them. Nothing of it is in the program.

use std::borrow::Cow;

use serde_json::Value;

use crate::identity::ClaimPath;
use crate::identity::Scope;
use crate::identity::Template;
use crate::rollout::KillState;
use crate::rollout::Percent;
use crate::token::KeySet;
use crate::token::peek;
use crate::token::verify_signature_only;

/// A promise.
pub type Promise = fn(&[u8]);

/// The name of each corpus, and what holds for its bytes. Which file each is for: `READERS` below.
pub const ALL: &[(&str, Promise)] = &[
    ("answer", crate::proxy::promises::answer),
    ("authorization", crate::auth::promises::authorization),
    (
        "canonical_request",
        crate::proxy::promises::canonical_request,
    ),
    (
        "certificate_names",
        crate::providers::promises::certificate_names,
    ),
    ("claim_path", claim_path),
    ("client_address", crate::proxy::promises::client_address),
    (
        "client_certificate",
        crate::proxy::promises::client_certificate,
    ),
    ("configuration", crate::config::promises::configuration),
    ("cookies", crate::auth::promises::cookies),
    (
        "directory_answer",
        crate::providers::promises::directory_answer,
    ),
    ("first_bytes", crate::proxy::promises::first_bytes),
    ("header_fold", crate::proxy::promises::header_fold),
    ("key_set", key_set),
    ("kill_file", kill_file),
    ("login_flow", crate::auth::promises::login_flow),
    ("percent", percent),
    ("proof", crate::token::proof_promise),
    (
        "provider_answer",
        crate::providers::promises::provider_answer,
    ),
    ("proxy_header", crate::proxy::promises::proxy_header),
    ("query", crate::auth::promises::query),
    ("restated", crate::proxy::promises::restated),
    ("return_path", crate::auth::promises::return_path),
    ("sealed", crate::session::promises::sealed),
    ("signed_token", signed_token),
    ("template", template),
    ("token_form", crate::issuer::promises::token_form),
    ("traceparent", crate::telemetry::traceparent),
    ("upstream_head", crate::proxy::promises::upstream_head),
    ("websocket_frames", crate::proxy::promises::websocket_frames),
];

/// The promise of this name.
#[must_use]
pub fn named(name: &str) -> Option<Promise> {
    let found = ALL.iter().find(|(other, _)| *other == name);
    found.map(|(_, promise)| *promise)
}

/// The key of RFC 7515 A.1, and what it signed.
const KEY: &str = r#"{"keys":[{"kty":"oct","alg":"HS256","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;
const SIGNED: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// A token is read in one way or not at all, and the key has signed one text only.
fn signed_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(seen) = peek(text) {
        assert!(!seen.issuer().is_empty());
        assert_eq!(text.matches('.').count(), 2);
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        );
    }
    if let Ok(keys) = KeySet::from_inline(KEY.as_bytes()) {
        assert_eq!(verify_signature_only(SIGNED, &keys), Ok(()));
        if verify_signature_only(text, &keys).is_ok() {
            assert_eq!(text, SIGNED);
        }
    }
}

/// A key set holds no more than it may, and what was skipped is no key of it.
fn key_set(bytes: &[u8]) {
    if let Ok((keys, _)) = KeySet::from_remote(bytes) {
        assert!(keys.len() <= 100);
        assert!(keys.kids().all(|kid| kid.len() <= 512));
        // A key that everybody can read is no secret that proves anything.
        assert!(verify_signature_only(SIGNED, &keys).is_err());
    }
    drop(KeySet::from_inline(bytes));
    drop(KeySet::from_pem(bytes));
}

/// Attributes of somebody who chooses them.
struct Attributes<'a>(&'a str);

impl Scope for Attributes<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, Value>> {
        let text = Value::String(self.0.to_owned());
        match name {
            "absent" => None,
            "groups" => Some(Cow::Owned(Value::Array(vec![text.clone(), text]))),
            "number" => Some(Cow::Owned(Value::from(7))),
            _ => Some(Cow::Owned(text)),
        }
    }
}

/// A template renders to something that can stand in a header, or to nothing. Template and value are parted by a line end.
fn template(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (template, value) = text.split_once('\n').unwrap_or((&text, "alice"));
    let Ok(template) = Template::parse(template) else {
        return;
    };
    if let Ok(Some(rendered)) = template.render(&Attributes(value)) {
        assert!(
            rendered.iter().all(|byte| (0x20..0x7f).contains(byte)),
            "{rendered:?}"
        );
    }
}

/// A path that can be read is read again as the same.
fn claim_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(path) = ClaimPath::parse(text) {
        assert!(ClaimPath::parse(path.as_str()).is_ok_and(|again| again.as_str() == path.as_str()));
    }
}

/// A percent is between nobody and everybody, and survives being written.
fn percent(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(percent) = Percent::parse(text) {
        assert!((0.0..=1.0).contains(&percent.ratio()));
        assert_eq!(Percent::parse(&percent.to_string()), Ok(percent));
    }
}

/// A kill file says what it says, however often it is written.
fn kill_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match KillState::parse(text) {
        Ok(state) => assert_eq!(KillState::parse(&state.to_string()), Ok(state)),
        Err((line, _)) => assert!((1..=text.lines().count()).contains(&line)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Who reads what a stranger sends (a client, an application, a provider): the file, and its promise. Whatever reads
    /// something else says `-` and whose it is.
    const READERS: &[(&str, &str)] = &[
        (
            "admin/body.rs",
            "- of operators, and of declared kind and length",
        ),
        ("admin/client.rs", "- what our own listener answers"),
        ("admin/guard.rs", "- compared as digests, whole"),
        ("admin/tls.rs", "certificate_names"),
        ("auth/brought.rs", "cookies"),
        ("auth/cookies.rs", "cookies"),
        ("auth/extract/authorization.rs", "authorization"),
        ("auth/login/backchannel.rs", "query"),
        ("auth/login/chooser.rs", "query"),
        ("auth/login/device.rs", "login_flow"),
        ("auth/login/farewell.rs", "- rows of ours, sealed"),
        ("auth/login/flow.rs", "login_flow"),
        ("auth/login/kept_form.rs", "query"),
        ("auth/login/logout.rs", "- rows of ours, sealed"),
        ("auth/login/optin.rs", "sealed"),
        ("auth/login/query.rs", "query"),
        ("auth/typed_form.rs", "query"),
        ("control/closing/row.rs", "- rows of ours"),
        ("control/journeys/ways.rs", "- rows of ours"),
        ("control/keeper.rs", "- what we wrote"),
        ("control/kill_files.rs", "- what we wrote"),
        ("control/partners.rs", "- rows of ours"),
        ("control/shared.rs", "- rows of ours"),
        ("control/stragglers.rs", "- rows of ours"),
        ("exchange/disk.rs", "- what we sealed"),
        ("identity/claims.rs", "claim_path"),
        (
            "identity/confirmation.rs",
            "- of a token that is signed; else none",
        ),
        ("identity/render.rs", "template"),
        ("issuer/client.rs", "token_form"),
        ("issuer/device.rs", "- what we sealed"),
        ("issuer/form.rs", "token_form"),
        (
            "issuer/handed.rs",
            "- a token that we minted, known by its digest",
        ),
        ("issuer/refresh/families.rs", "- rows of ours, sealed"),
        ("issuer/refresh/family.rs", "token_form"),
        ("ledger/chain.rs", "- what we wrote, whose chain is checked"),
        ("ledger/tail.rs", "- what we wrote"),
        ("links/accounts.rs", "- rows of ours"),
        ("links/claim.rs", "- rows of ours"),
        ("links/homes.rs", "- rows of ours"),
        ("links/sights.rs", "- rows of ours"),
        ("links/table.rs", "- rows of ours"),
        ("providers/api_key.rs", "- the operator's file"),
        ("providers/client/trust.rs", "- the operator's file"),
        ("providers/client_cert.rs", "certificate_names"),
        ("providers/directory/keycloak.rs", "directory_answer"),
        ("providers/directory/scim.rs", "directory_answer"),
        ("providers/directory/userinfo.rs", "directory_answer"),
        (
            "providers/introspection.rs",
            "- by the contract of providers",
        ),
        (
            "providers/keys/copied.rs",
            "- a key set that was read already",
        ),
        ("providers/keys/disk.rs", "- what we wrote"),
        ("providers/keys/remote.rs", "key_set"),
        ("providers/ldap/names.rs", "directory_answer"),
        ("providers/oauth/device.rs", "provider_answer"),
        ("providers/oauth/discovery.rs", "provider_answer"),
        ("providers/oauth/introspect.rs", "provider_answer"),
        ("providers/oauth/login.rs", "provider_answer"),
        ("providers/oauth/pushed.rs", "provider_answer"),
        ("providers/oauth/renewal.rs", "provider_answer"),
        ("providers/oauth/token_client.rs", "provider_answer"),
        ("providers/probe/tokens.rs", "- for the operator alone"),
        ("providers/provisioning/scim.rs", "directory_answer"),
        ("providers/session_probe.rs", "directory_answer"),
        ("proxy/canonical.rs", "canonical_request"),
        ("proxy/canonical/authority.rs", "canonical_request"),
        ("proxy/canonical/path.rs", "canonical_request"),
        ("proxy/canonical/restated.rs", "restated"),
        ("proxy/client_address.rs", "client_address"),
        ("proxy/client_certificate.rs", "client_certificate"),
        ("proxy/country.rs", "- the operator's file"),
        ("proxy/protected.rs", "header_fold"),
        ("proxy/record.rs", "- our own letters"),
        ("proxy/serve/fragment.rs", "first_bytes"),
        ("proxy/serve/proxy_header.rs", "proxy_header"),
        ("proxy/serve/sniff.rs", "first_bytes"),
        ("proxy/tls.rs", "- the operator's file"),
        ("proxy/tls/clients.rs", "- the operator's file"),
        ("proxy/tls/leaf.rs", "- the operator's file"),
        ("proxy/upgrade.rs", "websocket_frames"),
        ("proxy/upgrade/handshake.rs", "- sixteen bytes or none"),
        ("proxy/upstream/h1.rs", "answer"),
        ("proxy/upstream/h1/content.rs", "answer"),
        ("proxy/upstream/h1/head.rs", "answer"),
        ("proxy/upstream/tls.rs", "- the operator's file"),
        ("proxy/upstream_head.rs", "upstream_head"),
        ("revocation/handed.rs", "- rows of ours, sealed"),
        (
            "revocation/hex.rs",
            "- what operators name, and rows of ours",
        ),
        (
            "revocation/record.rs",
            "- rows of ours; their details are sealed",
        ),
        (
            "revocation/respelled.rs",
            "- a token that was judged already",
        ),
        ("revocation/signer.rs", "- rows of ours, sealed"),
        ("session/body.rs", "- rows of ours, sealed"),
        ("session/crowd.rs", "- for a bench"),
        ("session/id.rs", "sealed"),
        ("session/rows.rs", "- rows of ours, sealed"),
        ("session/stays.rs", "- rows of ours"),
        ("session/tight.rs", "- rows of ours, sealed"),
        ("shadow/found.rs", "- rows of ours"),
        ("store/watch.rs", "- what the store says of our rows"),
        ("telemetry/trace.rs", "traceparent"),
        ("token/json.rs", "signed_token"),
        ("token/jwk.rs", "key_set"),
        ("token/mint.rs", "- a key of ours"),
        ("token/peek.rs", "signed_token"),
        ("token/pem.rs", "key_set"),
        ("token/pop.rs", "proof"),
    ];

    /// What a parser is made of here.
    const READS: [&str; 7] = [
        "serde_json::from_",
        "httparse::",
        ".decode(",
        ".decode_slice(",
        "from_der(",
        "pem_slice",
        "from_utf8(",
    ];

    fn sources(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn who_reads_what_a_stranger_sends_has_a_promise() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for (file, promise) in READERS {
            assert!(root.join(file).is_file(), "{file}");
            assert!(
                promise.starts_with("- ") || named(promise).is_some(),
                "{file}"
            );
        }
        let mut all = Vec::new();
        for module in [
            "admin",
            "auth",
            "control",
            "exchange",
            "identity",
            "issuer",
            "ledger",
            "links",
            "providers",
            "proxy",
            "revocation",
            "rollout",
            "session",
            "shadow",
            "store",
            "telemetry/trace.rs",
            "token",
        ] {
            let place = root.join(module);
            if place.is_dir() {
                sources(&place, &mut all);
            } else {
                all.push(place.to_str().unwrap().to_owned());
            }
        }
        let mut unknown = Vec::new();
        for path in all {
            let text = fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let name = path.split("/src/").last().unwrap().to_owned();
            // What is compiled into tests alone.
            let apart = [
                "tests", "promise", "fake", "fixture", "forge", "testing", "contract", "example",
            ];
            let only_tests = name
                .split(['/', '.', '_'])
                .any(|part| apart.iter().any(|word| part.starts_with(word)));
            let reads = READS.iter().any(|word| product.contains(word));
            if reads && !only_tests && !READERS.iter().any(|(file, _)| *file == name) {
                unknown.push(name);
            }
        }
        assert!(unknown.is_empty(), "{unknown:?} are in no row of READERS");
        // Each promise is somebody's.
        for (name, _) in ALL {
            let elsewhere = ["configuration", "kill_file", "percent", "return_path"].contains(name);
            assert!(
                elsewhere || READERS.iter().any(|(_, of)| of == name),
                "{name}"
            );
        }
    }

    /// The files of a corpus, in order.
    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(name);
        let mut files: Vec<_> = fs::read_dir(&directory)
            .unwrap_or_else(|cause| panic!("{}: {cause}", directory.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    #[test]
    fn every_promise_holds_for_what_was_found() {
        for (name, promise) in ALL {
            for bytes in corpus(name) {
                promise(&bytes);
            }
        }
    }

    #[test]
    fn every_promise_holds_for_pieces_and_neighbours_of_what_was_found() {
        // A generator with a fixed start: what fails once fails always.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below.max(1)
        };
        for (name, promise) in ALL {
            let all = corpus(name);
            let rounds = if *name == "configuration" { 40 } else { 400 };
            for _ in 0..rounds {
                let mut bytes = all[next(all.len())].clone();
                bytes.truncate(4_096);
                for _ in 0..=next(4) {
                    let (at, to) = (next(bytes.len() + 1), next(bytes.len() + 1));
                    match next(5) {
                        0 => bytes.insert(at, u8::try_from(next(256)).unwrap()),
                        1 if at < bytes.len() => drop(bytes.remove(at)),
                        2 if at < bytes.len() => bytes[at] ^= 1 << next(8),
                        3 => drop(bytes.drain(at.min(to)..at.max(to))),
                        _ => {
                            let again = bytes[at.min(to)..at.max(to)].to_vec();
                            bytes.extend(again);
                        }
                    }
                }
                promise(&bytes);
            }
        }
    }

    #[test]
    fn every_promise_has_a_target_and_each_target_a_promise() {
        let manifest = fs::read_to_string("fuzz/Cargo.toml").unwrap();
        for (name, _) in ALL {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            let target = fs::read_to_string(format!("fuzz/fuzz_targets/{name}.rs")).unwrap();
            assert!(target.contains(&format!("named(\"{name}\")")), "{name}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), ALL.len());
        assert!(named("nothing").is_none());
    }
}
