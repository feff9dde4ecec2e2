//! The same for a client whose secret was learned, which nobody can write: the new one is stated beside `learn_secret_at`, and
//! that key goes when the client has it.

use crate::app::clients::hash;
use crate::app::clients::rotate::NotRotated;
use crate::app::clients::rotate::Step;
use crate::app::clients::rotate::replace;
use crate::app::clients::written;
use crate::config;
use crate::config::Source;
use crate::config::settings::Settings;
use crate::entropy::Entropy;
use crate::secret::Secret;

const KEY: &str = "learn_secret_at:";

/// What proves a client by a secret: its hashes, and whether one is learned.
type Proofs = Vec<(String, Vec<String>, bool)>;

pub(super) fn rotate(
    source: &Source,
    settings: &Settings,
    client: &str,
    step: Step,
    entropy: &dyn Entropy,
) -> Result<Option<Secret<String>>, NotRotated> {
    let before = proofs(settings);
    let stated = before
        .iter()
        .any(|(id, known, _)| id == client && !known.is_empty());
    let (texts, secret) = match (step, stated) {
        (Step::Begin, false) => {
            let secret = Secret::new(entropy.token());
            (with(&source.text, &hash(secret.expose())), Some(secret))
        }
        (Step::Begin, true) => {
            return Err(NotRotated::Step(
                "two secrets are good already: `--finish` ends that",
            ));
        }
        (Step::Finish, true) => (without(&source.text), None),
        (Step::Finish, false) => {
            return Err(NotRotated::Step("one secret alone is good; nothing ends"));
        }
    };
    let mut wanted = before;
    for (id, known, learned) in &mut wanted {
        if id == client {
            match &secret {
                Some(secret) => known.push(hash(secret.expose())),
                None => *learned = false,
            }
        }
    }
    // The same key may stand with several clients: the place is the one that changes this client, and nobody else.
    let fits = |text: String| {
        let changed = Source {
            text,
            ..source.clone()
        };
        let compiled = config::load(&changed).ok()?;
        let settings = compiled.draft.for_a_look(entropy).ok()?;
        (proofs(&settings) == wanted).then_some(changed)
    };
    let changed = texts.into_iter().find_map(fits);
    let changed = changed.ok_or_else(|| NotRotated::Place(format!("`{KEY}` of `{client}`")))?;
    replace(&changed)?;
    Ok(secret)
}

fn proofs(settings: &Settings) -> Proofs {
    let clients = settings.issuer.iter().flat_map(|own| &own.clients);
    let one = |own: &crate::issuer::settings::Client| {
        let known = own.secrets.iter().map(|hash| written(hash)).collect();
        (own.id.to_string(), known, own.learn_at.is_some())
    };
    clients.map(one).collect()
}

/// The text with a hash beside each place of the key in turn.
fn with(text: &str, new: &str) -> Vec<String> {
    let one = |(at, _): (usize, &str)| {
        let (before, after) = text.split_at_checked(at)?;
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        let indent = before.get(line..)?;
        Some(if indent.trim().is_empty() {
            format!("{before}secret_hashes: [\"{new}\"]\n{indent}{after}")
        } else {
            format!("{before}secret_hashes: [\"{new}\"], {after}")
        })
    };
    text.match_indices(KEY).filter_map(one).collect()
}

/// The text without each place of the key in turn.
fn without(text: &str) -> Vec<String> {
    let one = |(at, _): (usize, &str)| {
        let (before, after) = text.split_at_checked(at)?;
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        if before.get(line..)?.trim().is_empty() {
            let end = after.find('\n')? + 1;
            return Some(format!("{}{}", before.get(..line)?, after.get(end..)?));
        }
        let end = after.find([',', '}'])?;
        let rest = after.get(end..)?;
        Some(match rest.strip_prefix(',') {
            Some(rest) => format!("{before}{}", rest.trim_start()),
            None => format!("{} {rest}", before.trim_end().strip_suffix(',')?),
        })
    };
    text.match_indices(KEY).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_comes_beside_the_key_and_the_key_goes() {
        for (before, both, after) in [
            (
                "a: { learn_secret_at: old, grants: [x] } # c\n",
                "a: { secret_hashes: [\"h\"], learn_secret_at: old, grants: [x] } # c\n",
                "a: { secret_hashes: [\"h\"], grants: [x] } # c\n",
            ),
            (
                "a: { grants: [x], learn_secret_at: old }\n",
                "a: { grants: [x], secret_hashes: [\"h\"], learn_secret_at: old }\n",
                "a: { grants: [x], secret_hashes: [\"h\"] }\n",
            ),
            (
                "a:\n  learn_secret_at: old # c\n  grants: [x]\n",
                "a:\n  secret_hashes: [\"h\"]\n  learn_secret_at: old # c\n  grants: [x]\n",
                "a:\n  secret_hashes: [\"h\"]\n  grants: [x]\n",
            ),
        ] {
            assert_eq!(with(before, "h"), [both]);
            assert_eq!(without(both), [after]);
        }
    }
}
