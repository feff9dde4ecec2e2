//! Who somebody is of whom an operator asks: what was said of them, read as a provider's word would be.

use std::sync::Arc;

use serde_json::Value;

use crate::admin::ExplainRequest;
use crate::config::settings::Canonical;
use crate::config::settings::Settings;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::identity::canonical;
use crate::identity::drop_unproven_email;
use crate::links;
use crate::providers;
use crate::providers::settings::KindSettings;

/// Somebody, and what is to be said about how much of it is known.
pub(super) struct Stated {
    pub(super) identity: Arc<Identity>,
    pub(super) name: CanonicalSubject,
    pub(super) notes: Vec<String>,
}

/// Somebody whom a provider has vouched for.
pub(super) fn about(settings: &Settings, identity: Arc<Identity>) -> Result<Stated, String> {
    let (name, notes) = name_of(settings, &identity)?;
    Ok(Stated {
        identity,
        name,
        notes,
    })
}

/// Somebody of whom only the question speaks.
pub(super) fn stated(
    settings: &Settings,
    question: &ExplainRequest,
    provider: ProviderId,
) -> Result<Stated, String> {
    let asked = question.subject.as_deref();
    let asked = asked.ok_or("nobody is named: say `subject` or `token`")?;
    let subject = Subject::try_from(asked).map_err(|error| error.to_string())?;
    let voucher = settings.providers.iter().find(|one| one.id == provider);
    let voucher = voucher.ok_or_else(|| format!("there is no provider `{provider}`"))?;
    let mut attributes = ClaimMap::new(question.claims.clone());
    if !question.groups.is_empty() {
        attributes.insert("groups", question.groups.clone().into());
    }
    if let Some(email) = &question.email {
        attributes.insert("email", Value::from(email.as_str()));
        attributes.insert("email_verified", Value::from(true));
    }
    // As of every claim of a provider: an address that nobody proved is not passed on.
    let said = attributes.text("email").is_some();
    drop_unproven_email(&mut attributes, &voucher.email_domains);
    let mut notes = Vec::new();
    if said && attributes.text("email").is_none() {
        let note = "the e-mail address is left out: it is not verified, and the provider is not authoritative for its domain";
        notes.push(note.to_owned());
    }
    let mut identity = Identity {
        provider,
        key: SubjectKey {
            issuer: issuer(voucher).clone(),
            subject,
        },
        attributes: Arc::default(),
        client_id: None,
        acr: None,
        scopes: Box::default(),
        delegation: crate::identity::Delegation::default(),
    };
    let name = match &settings.canonical {
        // The name is given; what it is made of is read back where that can be done in one way only.
        Some(joint) if !question.subject_is_raw() => {
            let name = CanonicalSubject::named(asked).map_err(|error| error.to_string())?;
            match made_of(joint, &identity, &attributes, &name) {
                Some((attribute, value)) => attributes.insert(&attribute, Value::from(value)),
                None => notes.push(
                    "what this name is made of is not known: say it with `claim` for the headers"
                        .to_owned(),
                ),
            }
            identity.attributes = Arc::new(attributes);
            name
        }
        Some(_) | None => {
            if attributes.member("subject").is_none() {
                attributes.insert("subject", Value::from(asked));
            }
            identity.attributes = Arc::new(attributes);
            let (name, more) = name_of(settings, &identity)?;
            notes.extend(more);
            name
        }
    };
    Ok(Stated {
        identity: Arc::new(identity),
        name,
        notes,
    })
}

/// The canonical name, as at a login or with a token; links are not looked at.
pub(super) fn name_of(
    settings: &Settings,
    identity: &Identity,
) -> Result<(CanonicalSubject, Vec<String>), String> {
    let alone = || CanonicalSubject::unjoined(&identity.key);
    let Some(joint) = &settings.canonical else {
        return Ok((alone(), Vec::new()));
    };
    match links::joined(joint, identity) {
        Ok(Some((name, _))) => Ok((name, Vec::new())),
        Ok(None) => {
            let provider = &identity.provider;
            let why = if joint.authoritative.contains(provider) {
                "does not say what `identity.canonical` needs"
            } else {
                "is not authoritative for what `identity.canonical` needs"
            };
            let note = format!("joined with nobody: `{provider}` {why}");
            Ok((alone(), vec![note]))
        }
        Err(refusal) => Err(format!("nobody can be called that: {refusal}")),
    }
}

/// The one attribute whose value, in the template, gives this name.
fn made_of(
    joint: &Canonical,
    identity: &Identity,
    known: &ClaimMap,
    name: &CanonicalSubject,
) -> Option<(String, String)> {
    const PROBE: &str = "0a0";
    let mut missing = joint.template.names().filter(|n| known.member(n).is_none());
    let (attribute, None) = (missing.next()?.to_owned(), missing.next()) else {
        return None;
    };
    let render = |value: &str| {
        let mut attributes = known.clone();
        attributes.insert(&attribute, Value::from(value));
        let identity = Identity {
            attributes: Arc::new(attributes),
            ..identity.clone()
        };
        canonical(&joint.template, &joint.normalise, &identity).ok()
    };
    let probe = render(PROBE)?;
    let (before, after) = probe.as_str().split_once(PROBE)?;
    let value = name.as_str().strip_prefix(before)?.strip_suffix(after)?;
    (render(value)? == *name).then(|| (attribute.clone(), value.to_owned()))
}

/// The issuer that stands for a provider in subject keys.
pub(super) const fn issuer(provider: &providers::settings::Settings) -> &Issuer {
    match &provider.kind {
        KindSettings::Oidc(oidc) => &oidc.issuer,
        KindSettings::Jwt(jwt) => &jwt.issuer,
        KindSettings::Introspection(introspection) => &introspection.issuer,
        KindSettings::SessionProbe(probe) => &probe.issuer,
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(ldap) => &ldap.issuer,
        KindSettings::Basic(basic) => &basic.issuer,
        KindSettings::ApiKey(keys) => &keys.issuer,
        KindSettings::ClientCert(certificates) => &certificates.issuer,
    }
}
