//! What a client sends and gets, as forms and objects (RFC 6749 §3.2, §5.1).

use serde_json::Map;
use serde_json::Value;

use crate::auth;
use crate::auth::Query;
use crate::clock::UnixTime;
use crate::identity::Confirmation;
use crate::issuer::Call;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;

/// The parameters of a request: in its body alone, and each once (RFC 6749 §3.2).
pub(super) fn form(call: &Call<'_>) -> Result<Query, Not> {
    let bad = |why| Not::Denied(Denied::InvalidRequest, why);
    // What stands in an address stands in logs.
    if call.query.is_some() {
        return Err(bad("query"));
    }
    if !auth::is_form(call.headers) {
        return Err(bad("content_type"));
    }
    let body = call.body.as_deref().ok_or(bad("body"))?;
    let text = std::str::from_utf8(body).or(Err(bad("body")))?;
    Query::parse(Some(text)).or(Err(bad("body")))
}

/// `scope` (RFC 6749 §3.3); `None`: not said.
pub(super) fn scopes(form: &Query) -> Result<Option<Vec<Box<str>>>, Not> {
    let Some(text) = form.value("scope") else {
        return Ok(None);
    };
    let scopes: Vec<Box<str>> = text.split(' ').map(Box::from).collect();
    if scopes.iter().any(|scope| scope.is_empty()) {
        return Err(Not::Denied(Denied::InvalidScope, "scope"));
    }
    Ok(Some(scopes))
}

/// RFC 6749 §5.1; `None`: it is over already.
pub(super) fn success(
    (token, bound): (&str, Option<&Confirmation>),
    ends: UnixTime,
    scope: &str,
    now: UnixTime,
) -> Option<Map<String, Value>> {
    let seconds = ends.since(now).as_secs();
    let mut object = Map::new();
    object.insert("access_token".to_owned(), token.into());
    let kind = Confirmation::token_type(bound);
    object.insert("token_type".to_owned(), kind.into());
    object.insert("expires_in".to_owned(), seconds.into());
    if !scope.is_empty() {
        object.insert("scope".to_owned(), scope.into());
    }
    (0 < seconds).then_some(object)
}
