//! Logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.6): a type of their own, so that nothing else can end a session
//! in the name of a provider, and a logout token can be taken for nothing else.

use std::fmt;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::Issuer;
use crate::identity::Refusal;
use crate::identity::Subject;
use crate::token::keys::KeySet;
use crate::token::peek::Unverified;
use crate::token::policy::Kind;
use crate::token::policy::Policy;
use crate::token::verify::TokenError;
use crate::token::verify::verify;

/// A logout token counts for so long after it was issued, whatever its `exp` says: 10 min. Its `jti` is remembered until then.
const FRESH: Duration = Duration::from_secs(600);

/// A logout token that is good. Only this module makes one.
#[derive(Clone)]
pub struct LogoutToken {
    issuer: Issuer,
    subject: Option<Subject>,
    sid: Option<Box<str>>,
    jti: Box<str>,
    issued: UnixTime,
    counts_until: UnixTime,
}

impl LogoutToken {
    /// Who says so.
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Whose sessions end; `None`: `sid` says which.
    pub const fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }

    /// Which session at the issuer ends; `None`: all of the subject.
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// Its name: one token counts once.
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// When it was issued.
    pub const fn issued(&self) -> UnixTime {
        self.issued
    }

    /// Until when it would be accepted: its name must be remembered as long.
    pub const fn counts_until(&self) -> UnixTime {
        self.counts_until
    }
}

#[cfg(test)]
impl LogoutToken {
    /// One that names a session alone, in tests.
    pub(crate) fn of_session(issuer: &Issuer, sid: &str, issued: UnixTime) -> Self {
        Self {
            issuer: issuer.clone(),
            subject: None,
            sid: Some(sid.into()),
            jti: "j1".into(),
            issued,
            counts_until: issued + FRESH,
        }
    }
}

impl fmt::Debug for LogoutToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[logout token]")
    }
}

/// Judges a logout token, as of `now`. The kind of `policy` is not looked at.
///
/// # Errors
///
/// See [`TokenError`].
pub fn verify_logout(
    token: Unverified<'_>,
    keys: &KeySet,
    policy: &Policy,
    now: UnixTime,
) -> Result<LogoutToken, TokenError> {
    let policy = Policy {
        kind: Kind::Logout,
        ..policy.clone()
    };
    let verified = verify(token, keys, &policy, now)?;
    let bad = || TokenError::Refused(Refusal::BadCredentials);
    let grounds = verified.grounds();
    let issued = grounds.began.ok_or_else(bad)?;
    if issued + FRESH + policy.leeway <= now {
        return Err(Refusal::Expired.into());
    }
    let claims = verified.claims();
    // What is there must be what it should be: a `sid` that is no text is no token without one.
    if claims.member("sid").is_some() && grounds.sid.is_none() {
        return Err(bad());
    }
    Ok(LogoutToken {
        issuer: policy.issuer.clone(),
        subject: verified.subject().cloned(),
        sid: grounds.sid.clone(),
        jti: claims.text("jti").ok_or_else(bad)?.into(),
        issued,
        counts_until: (issued + FRESH).min(verified.expires()) + policy.leeway,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Algorithm;
    use crate::token::Audience;
    use crate::token::forge::Smith;
    use crate::token::peek;
    use serde_json::Value;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn judge(change: &Value) -> Result<LogoutToken, TokenError> {
        let smith = Smith::new(Algorithm::Es256);
        let mut claims = json!({
            "iss": "https://idp", "aud": "authferry", "sub": "alice", "sid": "s1", "jti": "j1",
            "iat": NOW, "exp": NOW + 120,
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        for (name, value) in change.as_object().unwrap() {
            if value == "-" {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        let token = smith.sign("logout+jwt", &claims);
        let policy = Policy {
            issuer: Issuer::new("https://idp"),
            algorithms: vec![Algorithm::Es256],
            audience: Audience(vec!["authferry".into()]),
            kind: Kind::Plain,
            leeway: Duration::from_secs(30),
            max_life: Duration::from_secs(86_400),
        };
        verify_logout(
            peek(&token)?,
            &smith.keys(),
            &policy,
            UnixTime::from_secs(NOW + 1),
        )
    }

    #[test]
    fn a_good_one_says_who_and_which_session() {
        let token = judge(&json!({})).unwrap();
        assert_eq!(token.subject().unwrap().as_str(), "alice");
        assert_eq!((token.sid(), token.jti()), (Some("s1"), "j1"));
        assert_eq!(token.counts_until(), UnixTime::from_secs(NOW + 150));
        assert!(judge(&json!({ "sub": "-" })).unwrap().subject().is_none());
        assert!(judge(&json!({ "sid": "-" })).unwrap().sid().is_none());
    }

    #[test]
    fn what_is_missing_old_or_of_another_kind_ends_nothing() {
        for change in [
            json!({ "sub": "-", "sid": "-" }),
            json!({ "sid": 7 }),
            json!({ "sid": "" }),
            json!({ "jti": "-" }),
            json!({ "jti": "" }),
            json!({ "iat": "-" }),
            json!({ "iat": NOW - 3_600 }),
            json!({ "iat": NOW + 3_600 }),
            json!({ "exp": NOW - 60 }),
            json!({ "events": "-" }),
            json!({ "events": null }),
            json!({ "events": ["http://schemas.openid.net/event/backchannel-logout"] }),
            json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": null } }),
            json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": [] } }),
            json!({ "nonce": "n" }),
            json!({ "aud": "other" }),
            json!({ "iss": "https://other" }),
        ] {
            assert!(judge(&change).is_err(), "{change}");
        }
    }
}
