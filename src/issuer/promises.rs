//! What holds for what clients of the token endpoint send, whatever that is. See `crate::promises`.

use http::HeaderMap;
use http::HeaderValue;
use http::header;

use crate::auth::Query;
use crate::issuer::client;
use crate::issuer::form::scopes;
use crate::issuer::refresh::Ticket;

/// A client says who it is once, a scope is a word, and a refresh token of ours has one spelling. The first lines that begin
/// with `!` are fields, the rest is the body.
pub(crate) fn token_form(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (mut headers, mut body) = (HeaderMap::new(), text);
    while let Some((line, rest)) = body
        .strip_prefix('!')
        .and_then(|rest| rest.split_once('\n'))
    {
        if let Ok(value) = HeaderValue::from_str(line) {
            headers.append(header::AUTHORIZATION, value);
        }
        body = rest;
    }
    let Ok(form) = Query::parse(Some(body)) else {
        return;
    };
    client::promise(&headers, &form);
    if let Ok(Some(scopes)) = scopes(&form) {
        assert!(
            scopes
                .iter()
                .all(|scope| !scope.is_empty() && !scope.contains(' '))
        );
        assert_eq!(Some(&*scopes.join(" ")), form.value("scope"));
    }
    for token in [Some(body), form.value("refresh_token")]
        .into_iter()
        .flatten()
    {
        if let Some(ticket) = Ticket::parse(token) {
            assert!(Ticket::is_ours(token));
            assert_eq!(ticket.text().expose(), token);
        }
    }
}
