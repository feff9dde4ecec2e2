//! What holds for what a login reads from a browser. See `crate::promises`.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::login::chooser;
use crate::auth::login::device::Device;
use crate::auth::login::flow::Flow;
use crate::auth::login::flow::slot_of;
use crate::auth::login::kept_form;
use crate::auth::login::query::Query;
use crate::auth::login::query::encode;
use crate::auth::login::return_to::OURS;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::typed_form;
use crate::entropy::SystemEntropy;
use crate::secret::Secret;
use crate::session::KeyRing;

static RING: LazyLock<Option<KeyRing>> =
    LazyLock::new(|| KeyRing::new(&[Secret::new(vec![7; 32])]).ok());

/// An address that is taken leads a browser to the same host, to none of our own addresses, and is taken again.
pub(crate) fn return_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some(path) = ReturnPath::parse(text) else {
        return;
    };
    assert_eq!(path.as_str(), text);
    // As browsers read it: white space and control characters cut, a backslash is a slash.
    let seen: String = text
        .chars()
        .filter(|c| !c.is_control() && !c.is_whitespace())
        .map(|c| if c == '\\' { '/' } else { c })
        .collect();
    assert_eq!(seen, text);
    assert!(text.starts_with('/') && !text.starts_with("//"), "{text}");
    let ours = path.path().strip_prefix(OURS);
    assert!(
        ours.is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/')),
        "{text}"
    );
    for segment in path.path().split('/') {
        let decoded = segment.to_ascii_lowercase().replace("%2e", ".");
        assert!(decoded != "." && decoded != "..", "{text}");
    }
}

/// A name has one value, and what is written is read again; so is what somebody calls themselves.
pub(crate) fn query(bytes: &[u8]) {
    kept_form::promise(bytes);
    typed_form::promise(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let written = format!("value={}", encode(text));
    assert!(written.bytes().all(|b| b.is_ascii_graphic()));
    let read = Query::parse(Some(&written));
    assert_eq!(
        read.as_ref().map(|query| query.given("value")),
        Ok(Some(text))
    );
    if let Ok(query) = Query::parse(Some(text)) {
        for name in ["state", "code", "iss", "error"] {
            if query.given(name).is_some() {
                let twice = Query::parse(Some(&format!("{text}&{name}=x")));
                assert!(twice.is_err(), "{name} counts twice in {text}");
            }
        }
    }
    slot_of(text);
    chooser::promise(text);
}

/// A record that we did not seal, or sealed for another host or slot, opens nothing.
pub(crate) fn login_flow(bytes: &[u8]) {
    let Some(ring) = &*RING else { return };
    let text = String::from_utf8_lossy(bytes);
    assert!(Flow::open(ring, "app.test", 1, &text).is_none());
    assert!(Device::open(ring, "app.test", &text).is_none());
    // The same bytes, sealed: what is no record is none although the seal is good.
    let seal = |purpose, context: &[&[u8]]| {
        let sealed = ring.seal(purpose, b"", context, bytes, &SystemEntropy);
        URL_SAFE_NO_PAD.encode(sealed)
    };
    let flow = seal(crate::session::Purpose::Flow, &[b"app.test", &[1]]);
    if let Some(flow) = Flow::open(ring, "app.test", 1, &flow) {
        flow.artefacts(1);
        assert!(ReturnPath::parse(flow.target().as_str()).is_some());
        flow.fallback();
    }
    assert!(Flow::open(ring, "other.test", 1, &flow).is_none());
    assert!(Flow::open(ring, "app.test", 2, &flow).is_none());
    assert!(Device::open(ring, "app.test", &flow).is_none());
}
