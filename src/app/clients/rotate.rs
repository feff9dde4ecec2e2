//! A new secret for a client: its hash is written beside the old one, which goes when the client has the new one.

mod learned;

use std::fs;
use std::io::Write as _;

use crate::app::clients::hash;
use crate::app::clients::written;
use crate::config;
use crate::config::Source;
use crate::config::settings::Settings;
use crate::entropy::Entropy;
use crate::secret::Secret;

/// Which end of a rotation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// A second secret is good.
    Begin,
    /// The first is no longer.
    Finish,
}

/// Why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRotated {
    /// There is no such client, or it has no secret in the file.
    #[error("`{0}` has neither `secret_hashes` nor `learn_secret_at` in this file")]
    NoSecret(String),
    /// A rotation is under way, or none is.
    #[error("{0}")]
    Step(&'static str),
    /// The hash stands somewhere where it cannot be changed without a guess.
    #[error(
        "{0} cannot be found in one place of the file; change `secret_hashes`, or take `learn_secret_at` away, by hand"
    )]
    Place(String),
    /// The file would be refused.
    #[error("the changed file would be refused; nothing was written:\n{0}")]
    Refused(String),
    /// It cannot be written.
    #[error("{0}")]
    File(#[from] std::io::Error),
}

/// Changes the file, and says the new secret where there is one. It is shown once, and kept nowhere.
///
/// # Errors
///
/// Why nothing was changed.
pub(crate) fn rotate(
    source: &Source,
    settings: &Settings,
    client: &str,
    step: Step,
    entropy: &dyn Entropy,
) -> Result<Option<Secret<String>>, NotRotated> {
    let mut clients = settings.issuer.iter().flat_map(|own| &own.clients);
    let own = clients.find(|own| *own.id == *client);
    let missing = || NotRotated::NoSecret(client.to_owned());
    let own = own.ok_or_else(missing)?;
    let known: Vec<_> = own.secrets.iter().map(|hash| written(hash)).collect();
    if own.learn_at.is_some() && known.len() < 2 {
        return learned::rotate(source, settings, client, step, entropy);
    }
    let first = known.first().ok_or_else(missing)?;
    let (text, secret) = match (step, known.as_slice()) {
        (Step::Begin, [only]) => {
            let secret = Secret::new(entropy.token());
            let text = beside(&source.text, only, &hash(secret.expose()));
            (text, Some(secret))
        }
        (Step::Begin, _) => {
            return Err(NotRotated::Step(
                "two secrets are good already: `--finish` ends that",
            ));
        }
        (Step::Finish, [_, _]) => (without(&source.text, first), None),
        (Step::Finish, _) => {
            return Err(NotRotated::Step("one secret alone is good; nothing ends"));
        }
    };
    let text = text.ok_or_else(|| NotRotated::Place(first.clone()))?;
    let changed = Source {
        text,
        ..source.clone()
    };
    config::load(&changed).map_err(|problems| NotRotated::Refused(problems.to_string()))?;
    replace(&changed)?;
    Ok(secret)
}

/// Written beside it and renamed over it: whoever reads meanwhile reads one or the other.
fn replace(changed: &Source) -> std::io::Result<()> {
    let mut name = changed.path.as_os_str().to_owned();
    name.push(".new");
    let mut file = fs::File::create(&name)?;
    file.set_permissions(fs::metadata(&changed.path)?.permissions())?;
    file.write_all(changed.text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&name, &changed.path)
}

/// Where a text stands, in whatever letters, if it stands in one place.
fn only(text: &str, wanted: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let mut found = lower.match_indices(wanted);
    match (found.next(), found.next()) {
        (Some((at, _)), None) => Some(at),
        _ => None,
    }
}

/// An item of a list in YAML: from its quote to its quote.
struct Item {
    start: usize,
    end: usize,
    /// A line of its own begins here; `None`: it stands between brackets.
    line: Option<usize>,
}

fn item(text: &str, hash: &str) -> Option<Item> {
    let at = only(text, hash)?;
    let (before, after) = (text.get(..at)?, text.get(at + hash.len()..)?);
    let quoted = before.ends_with(['"', '\'']);
    if quoted != after.starts_with(['"', '\'']) {
        return None;
    }
    let quote = usize::from(quoted);
    let (start, end) = (at - quote, at + hash.len() + quote);
    let line = before.rfind('\n').map_or(0, |newline| newline + 1);
    let own_line = text.get(line..start)?.trim() == "-";
    let between = text.get(..start)?.trim_end().ends_with(['[', ',']);
    (own_line || between).then_some(Item {
        start,
        end,
        line: own_line.then_some(line),
    })
}

/// The text with another hash behind one.
fn beside(text: &str, hash: &str, new: &str) -> Option<String> {
    let item = item(text, hash)?;
    let (before, after) = (text.get(..item.end)?, text.get(item.end..)?);
    Some(match item.line {
        None => format!("{before}, \"{new}\"{after}"),
        Some(line) => {
            let dash = text.get(line..item.start)?;
            let rest = after.find('\n').map_or(after.len(), |newline| newline);
            let (comment, after) = after.split_at(rest);
            format!("{before}{comment}\n{dash}\"{new}\"{after}")
        }
    })
}

/// The text without a hash.
fn without(text: &str, hash: &str) -> Option<String> {
    let item = item(text, hash)?;
    match item.line {
        None => {
            let rest = text.get(item.end..)?.trim_start().strip_prefix(',')?;
            Some(format!("{}{}", text.get(..item.start)?, rest.trim_start()))
        }
        Some(line) => {
            let rest = text.get(item.end..)?;
            let end = rest.find('\n')? + 1;
            Some(format!("{}{}", text.get(..line)?, rest.get(end..)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "sha256:00";
    const NEW: &str = "sha256:11";

    #[test]
    fn a_hash_goes_beside_another_and_the_other_goes() {
        for (before, both, after) in [
            (
                "a: { secret_hashes: [\"sha256:00\"], grants: [x] } # c\n",
                "a: { secret_hashes: [\"sha256:00\", \"sha256:11\"], grants: [x] } # c\n",
                "a: { secret_hashes: [\"sha256:11\"], grants: [x] } # c\n",
            ),
            (
                "a:\n  secret_hashes:\n    - 'SHA256:00' # of 2024\n  grants: [x]\n",
                "a:\n  secret_hashes:\n    - 'SHA256:00' # of 2024\n    - \"sha256:11\"\n  grants: [x]\n",
                "a:\n  secret_hashes:\n    - \"sha256:11\"\n  grants: [x]\n",
            ),
        ] {
            assert_eq!(beside(before, OLD, NEW).as_deref(), Some(both));
            assert_eq!(without(both, OLD).as_deref(), Some(after));
        }
    }

    #[test]
    fn what_needs_a_guess_is_left_to_somebody_who_knows() {
        for text in [
            "a: [\"sha256:00\"]\nb: [\"sha256:00\"]\n",
            "a: &x sha256:00\nb: [*x]\n",
            "a: [\"sha256:00]\n",
            "",
        ] {
            assert_eq!(beside(text, OLD, NEW), None, "{text}");
        }
    }
}
