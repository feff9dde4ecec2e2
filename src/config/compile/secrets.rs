//! `secrets`: keys that are given, and which are to be made.

use crate::config::compile::context::Context;
use crate::config::keys::Given;
use crate::config::keys::KEY_BYTES;
use crate::config::keys::decode;
use crate::config::raw::RawConfig;
use crate::config::raw::RawSecretText;
use crate::config::shape::Field;
use crate::secret::Secret;

/// The keys that the configuration names.
pub(super) fn compile(context: &mut Context<'_>, raw: &RawConfig) -> Given {
    let Some(raw) = raw.secrets.get() else {
        return Given::default();
    };
    let session = raw.session_keys.get().map(|list| {
        let keys = list
            .items
            .iter()
            .filter_map(|item| key(context, item, "the session key"));
        keys.collect::<Vec<_>>()
    });
    if let (Some(list), Some(keys)) = (raw.session_keys.get(), &session) {
        for (index, key) in keys.iter().enumerate() {
            if keys
                .iter()
                .take(index)
                .any(|other| other.matches(key.expose()))
            {
                context
                    .report
                    .error(list.mark, "two session keys are the same");
            }
        }
    }
    Given {
        bucket: field(context, &raw.bucket_key, "the bucket key"),
        session,
        pseudonym: field(context, &raw.pseudonym_key, "the pseudonym key"),
    }
}

fn field(
    context: &mut Context<'_>,
    raw: &Field<RawSecretText>,
    what: &str,
) -> Option<Secret<Vec<u8>>> {
    key(context, raw.get()?, what)
}

fn key(context: &mut Context<'_>, raw: &RawSecretText, what: &str) -> Option<Secret<Vec<u8>>> {
    let bytes = context.secret_from(&raw.0.file, &raw.0.env, what)?;
    let key = decode(bytes.expose());
    if key.is_none() {
        context
            .report
            .error(raw.0.mark, format!("{what} is not a key of {KEY_BYTES} bytes"))
            .hint("32 bytes as they are, as 64 hexadecimal digits, or in base64: `openssl rand -hex 32`");
    }
    key
}
