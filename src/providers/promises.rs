//! What holds for what providers answer and certificates say, whatever that is. See `crate::promises`.

use http::HeaderMap;
use http::StatusCode;

use crate::providers::client::Answer;
use crate::providers::directory;
use crate::providers::session_probe;

pub(crate) use crate::providers::client_cert::promise as certificate_names;
pub(crate) use crate::providers::oauth::promises::provider_answer;

/// What a directory or an old application says is about whom was asked for. The first line is the status, those up to an
/// empty one are fields, and the rest is the body.
pub(crate) fn directory_answer(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    #[cfg(feature = "ldap")]
    crate::providers::ldap::names_promise(&text);
    let (line, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let status = line
        .parse()
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok());
    // 5xx never comes so far.
    let Some(status) = status.filter(|status| !status.is_server_error()) else {
        return;
    };
    let (head, body) = rest.split_once("\n\n").unwrap_or(("", rest));
    let mut headers = HeaderMap::new();
    for (name, value) in head.lines().filter_map(|line| line.split_once(':')) {
        let name = http::HeaderName::try_from(name);
        let value = http::HeaderValue::try_from(value.trim());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let answer = Answer {
        status,
        headers,
        body: body.to_owned().into(),
    };
    session_probe::promise(&answer);
    directory::promise(&answer);
}
