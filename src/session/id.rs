//! The random id that a session cookie carries.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// 256 random bits as base64url: what the cookie holds. Says nothing, is stored nowhere.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct SessionId<'a> {
    text: &'a str,
    bytes: [u8; 32],
}

impl<'a> SessionId<'a> {
    /// Reads a cookie value; what is not exactly 32 bytes in canonical base64url is no id.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if text.len() != 43 {
            return None;
        }
        let mut bytes = [0; 32];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (length == bytes.len()).then_some(Self { text, bytes })
    }

    /// The cookie value.
    pub(crate) const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The random bits.
    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The key of the row: who reads the store cannot make a cookie from it.
    pub(crate) fn row(&self) -> [u8; 32] {
        row(&self.bytes)
    }
}

/// SHA-256 of the random bits.
pub(super) fn row(bytes: &[u8; 32]) -> [u8; 32] {
    let mut row = [0; 32];
    let hash = digest::digest(&digest::SHA256, bytes);
    row.copy_from_slice(hash.as_ref());
    row
}

impl fmt::Debug for SessionId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[session id]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy as _;
    use crate::entropy::SystemEntropy;
    use proptest::prelude::*;

    #[test]
    fn another_spelling_of_an_id_is_no_id() {
        let token = SystemEntropy.token();
        assert!(SessionId::parse(&token).is_some());
        assert_eq!(SessionId::parse(""), None);
        assert_eq!(SessionId::parse(&format!("{token}=")), None);
        assert_eq!(SessionId::parse(token.get(..42).unwrap()), None);
        // The last of 43 characters carries four bits; the two others must be zero (RFC 4648 §3.5).
        let loose = format!("{}B", "A".repeat(42));
        assert_eq!(SessionId::parse(&loose), None);
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(text in "\\PC{0,60}") {
            if let Some(id) = SessionId::parse(&text) {
                prop_assert_eq!(URL_SAFE_NO_PAD.encode(id.bytes()), text);
            }
        }
    }
}
