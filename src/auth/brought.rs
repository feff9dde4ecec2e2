//! What a request brings by which an application could know who sent it, before anybody has typed anything: read as loosely as
//! any application may read it, because what is overlooked here would vouch for a password that nobody has judged.

use std::sync::Arc;

use http::HeaderMap;
use http::header;

use crate::auth::cookies;
use crate::auth::cookies::Sent;
use crate::auth::owners::Owners;
use crate::providers::Provider;
use crate::session::OldSession;
use crate::session::SessionId;

/// The longest session that somebody is asked about, in bytes: as of any other request.
const MAX_VALUE: usize = 4 * 1024;

/// Sessions that a request brings. Whether they are any is not known yet.
pub(super) struct Brought<'a> {
    /// One of ours.
    pub(super) ours: Option<SessionId<'a>>,
    /// Those of old systems, each with who is asked about it.
    pub(super) theirs: Vec<(OldSession<'a>, &'a Arc<dyn Provider>)>,
}

/// Why it is not known what a request brings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unread {
    /// Something of which two readers could make two things, or a credential of another kind.
    Unclear,
    /// A cookie by which the application signs somebody in again without a password.
    Remembered,
}

/// The sessions that a request brings, each once. `query`: of its address, `remembered`: cookies by which the application knows
/// people again.
pub(super) fn brought<'a>(
    (headers, query): (&'a HeaderMap, Option<&str>),
    owners: &'a Owners,
    remembered: &[Box<str>],
) -> Result<Brought<'a>, Unread> {
    let sent = loosely(headers);
    let times = |name: &str| {
        let name = folded(name.as_bytes());
        sent.iter().filter(|other| **other == name).count()
    };
    if remembered.iter().any(|name| 0 < times(name)) {
        return Err(Unread::Remembered);
    }
    let keys = owners.api_keys.iter().map(|(header, _)| header);
    let mut others = keys.chain([&header::AUTHORIZATION]);
    if others.any(|header| headers.contains_key(header)) {
        return Err(Unread::Unclear);
    }
    let asked_for: Vec<_> = query
        .unwrap_or_default()
        .split(['&', ';'])
        .map(name_of)
        .collect();
    let value_of = |name: &str| {
        if asked_for.contains(&folded(name.as_bytes())) {
            return Err(Unread::Unclear);
        }
        match (cookies::named(headers, name), times(name)) {
            (Sent::None, 0) => Ok(None),
            (Sent::Once(value), 1) => plain(value).map(Some).ok_or(Unread::Unclear),
            // Two of a name, or one that only some would read as it.
            (Sent::None | Sent::Once(_) | Sent::Several, _) => Err(Unread::Unclear),
        }
    };
    let ours = value_of(&owners.session_cookie)?.and_then(SessionId::parse);
    let mut theirs = Vec::new();
    for (cookie, owner) in &owners.cookies {
        if let Some(value) = value_of(cookie)? {
            theirs.push((OldSession { cookie, value }, owner));
        }
    }
    Ok(Brought { ours, theirs })
}

/// A value that every reader reads alike (RFC 6265 §4.1.1), if it is one.
fn plain(value: &[u8]) -> Option<&str> {
    let text = cookies::visible(value)?;
    let good = !text.is_empty() && text.len() <= MAX_VALUE && !text.contains(['"', ',', '\\']);
    good.then_some(text)
}

/// The names of all cookies, as anybody may read them: some take a comma for the end of one (RFC 2109 §4.4), some white space,
/// some names for the same in small and capital letters, encoded, or in quotes.
fn loosely(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let fields = headers.get_all(header::COOKIE).iter();
    let pieces = fields.flat_map(|field| field.as_bytes().split(|byte| b";, \t".contains(byte)));
    let names = pieces.map(|piece| piece.split(|byte| *byte == b'=').next());
    names.map(|name| folded(name.unwrap_or_default())).collect()
}

/// The name of a parameter of a query or a form, as anybody may read it.
pub(super) fn name_of(pair: &str) -> Vec<u8> {
    let name = pair.split('=').next().unwrap_or_default();
    folded(name.as_bytes())
}

/// A name of which there are several spellings.
pub(super) fn folded(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut bytes = name.iter().copied();
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let mut ahead = bytes.clone();
        let pair = digit(ahead.next()).zip(digit(ahead.next()));
        let escaped = pair.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        match escaped.filter(|_| byte == b'%') {
            Some(escaped) => {
                decoded.push(escaped);
                bytes = ahead;
            }
            None => decoded.push(byte),
        }
    }
    let is_nothing = |byte: &u8| !byte.is_ascii_graphic() || b"\"'$+".contains(byte);
    let start = decoded.iter().position(|byte| !is_nothing(byte));
    let end = decoded.iter().rposition(|byte| !is_nothing(byte));
    let (Some(start), Some(end)) = (start, end) else {
        return Vec::new();
    };
    let kept = decoded.get(start..=end).unwrap_or_default();
    // An array of that name (PHP), what ends one there, and what is made of other letters.
    let kept = kept.split(|byte| b"[\0".contains(byte)).next();
    let kept = kept.unwrap_or_default();
    kept.iter()
        .map(|byte| match byte {
            b'.' | b' ' | b'+' => b'_',
            byte => byte.to_ascii_lowercase(),
        })
        .collect()
}

/// What the strict reader finds, the loose one does not overlook. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(super) fn promise(headers: &HeaderMap) {
    let sent = loosely(headers);
    for (name, _) in cookies::pairs(headers) {
        // Of one in which another reader sees an end there are two.
        let ends = name.iter().any(|byte| b", \t".contains(byte));
        assert!(ends || sent.contains(&folded(name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::COOKIE;
    use crate::auth::fake::World;
    use crate::auth::fake::headers;
    use proptest::prelude::*;

    const ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn found(fields: &[(&'static str, &str)], query: Option<&str>) -> String {
        let world = World::canary();
        let policy = world.policy();
        let headers = headers(fields);
        let remembered = ["remember_me".into()];
        match brought((&headers, query), policy.owners(), &remembered) {
            Err(why) => format!("{why:?}"),
            Ok(found) => {
                let theirs = found
                    .theirs
                    .iter()
                    .map(|(old, owner)| format!("{} {}={}", owner.id(), old.cookie, old.value));
                let ours = found.ours.map(|_| "ours".to_owned());
                ours.into_iter().chain(theirs).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[tokio::test]
    async fn every_session_that_comes_with_a_form_is_found() {
        for (cookie, expected) in [
            ("theme=dark", ""),
            ("OLDSID=alice", "old OLDSID=alice"),
            ("a=b;  OLDSID=alice ; c=d", "old OLDSID=alice"),
            ("OLDSID=a; OLDSID2=b", "old OLDSID=a old OLDSID2=b"),
            (&format!("{COOKIE}={ID}"), "ours"),
            (&format!("{COOKIE}={ID}; OLDSID=a"), "ours old OLDSID=a"),
            // No id of ours.
            (&format!("{COOKIE}=short; OLDSID=a"), "old OLDSID=a"),
            ("XOLDSID=a; OLDSID3=b; OLD=SID", ""),
        ] {
            assert_eq!(found(&[("cookie", cookie)], Some("next=/")), expected);
        }
        let two = [("cookie", "OLDSID=a"), ("cookie", "OLDSID2=b")];
        assert_eq!(found(&two, None), "old OLDSID=a old OLDSID2=b");
        assert_eq!(found(&[], None), "");
    }

    #[tokio::test]
    async fn what_two_readers_could_read_differently_is_unclear() {
        for cookie in [
            "OLDSID=a; OLDSID=b",
            "OLDSID=a; OLDSID=a",
            "oldsid=a",
            "OLDSID=a; OldSid=b",
            "theme=dark, OLDSID=a",
            "OLDSID=a, OLDSID=b",
            "\"OLDSID\"=a",
            "$OLDSID=a",
            "%4fLDSID=a",
            "OLDSID[0]=a",
            "theme=dark OLDSID=a",
            "theme=dark\tOLDSID=a",
            "+OLDSID=a",
            "OLDSID%00x=a",
            "OLDSID\u{a0}=a",
            "OLDSID",
            "a=\"b; oldsid=c\"",
            "OLDSID=",
            "OLDSID=\"a\"",
            "OLDSID=a\\b",
            "OLDSID=\u{e4}",
            &format!("{COOKIE}={ID}; {COOKIE}={ID}"),
            &format!("OLDSID={}", "x".repeat(MAX_VALUE + 1)),
        ] {
            assert_eq!(found(&[("cookie", cookie)], None), "Unclear", "{cookie}");
        }
        let twice = [("cookie", "OLDSID=a"), ("cookie", "OLDSID=b")];
        assert_eq!(found(&twice, None), "Unclear");
        // Another credential, which the application may know somebody by.
        for field in [("authorization", "Basic YTpi"), ("x-api-key", "k")] {
            assert_eq!(found(&[field], None), "Unclear", "{field:?}");
        }
        for query in [
            "OLDSID=a",
            "next=/&oldsid=a",
            "a;%4fLDSID=a",
            "OLDSID",
            "+OLDSID=a",
            "OLDSID%00=a",
        ] {
            assert_eq!(found(&[], Some(query)), "Unclear", "{query}");
        }
        for cookie in ["remember_me=a", "Remember.Me=a", "OLDSID=a; remember_me="] {
            assert_eq!(found(&[("cookie", cookie)], None), "Remembered", "{cookie}");
        }
    }

    proptest! {
        /// What the strict reader finds, the loose one does not overlook.
        #[test]
        fn nobody_reads_a_session_that_is_overlooked(cookie in "[oO]?[lL]?[ -~]{0,12}(OLDSID|oldsid|OldSid)[ -~]{0,20}") {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _guard = runtime.enter();
            let headers = headers(&[("cookie", &cookie)]);
            let strict = cookies::pairs(&headers).any(|(name, _)| name == b"OLDSID");
            let said = found(&[("cookie", &cookie)], None);
            let seen = said == "Unclear" || said.contains("old OLDSID=");
            prop_assert!(!strict || seen, "{}", said);
            // Nor one that is hidden in the value of another.
            for hidden in ["a=b OLDSID=c", "a=b;+OLDSID=c", "a=b;OLDSID%00d=c", "a=b,oldsid=c"] {
                let said = found(&[("cookie", &format!("{hidden}; {cookie}"))], None);
                prop_assert_eq!(said, "Unclear");
            }
        }
    }
}
