//! Judges signatures of test vectors: one JSON object a line in, one verdict a line out.
//!
//! In: `{"jwks": {"keys": […]}, "jws": "<compact>"}`. Out: `valid`, or `invalid <reason>`. Key rules and signature as in
//! the proxy; claims are not looked at. Sets with a shared secret are read as written in a configuration, others as
//! fetched from a provider.
//!
//! ```text
//! cargo run --example jws-verify < vectors.jsonl
//! ```

use std::io;
use std::io::BufRead as _;
use std::io::Write as _;

use authferry::token::KeySet;
use authferry::token::verify_signature_only;
use serde_json::Value;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        match judge(&line?) {
            Ok(()) => writeln!(out, "valid")?,
            Err(reason) => writeln!(out, "invalid {reason}")?,
        }
        out.flush()?;
    }
    Ok(())
}

fn judge(line: &str) -> Result<(), String> {
    let case: Value = serde_json::from_str(line).map_err(|cause| cause.to_string())?;
    let jwks = case.get("jwks").ok_or("no jwks")?;
    let jws = case.get("jws").and_then(Value::as_str);
    // The JSON serialisation is not spoken here (RFC 7515 §7.2).
    let jws = jws.ok_or("not compact")?;
    let secret = jwks
        .get("keys")
        .and_then(Value::as_array)
        .is_some_and(|keys| {
            keys.iter()
                .any(|key| key.get("kty").is_some_and(|kty| kty == "oct"))
        });
    let text = jwks.to_string();
    let keys = if secret {
        KeySet::from_inline(text.as_bytes())
    } else {
        KeySet::from_remote(text.as_bytes()).map(|(keys, _skipped)| keys)
    };
    let keys = keys.map_err(|cause| cause.to_string())?;
    verify_signature_only(jws, &keys).map_err(|cause| cause.to_string())
}
