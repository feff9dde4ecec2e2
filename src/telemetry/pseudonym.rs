//! Names for people and addresses that only the holder of the key can recognise.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::hmac;
use serde::Deserialize;
use serde::Serialize;

use crate::identity::CanonicalSubject;
use crate::secret::Secret;

/// `p:` and 16 hex digits: 64 bits of HMAC-SHA-256. The same person has the same pseudonym as long as the key stays.
#[derive(Clone, Copy, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Pseudonym([u8; 18]);

impl Pseudonym {
    /// As text: 18 ASCII characters.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn from_tag(tag: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        let mut text = *b"p:0000000000000000";
        let places = text.iter_mut().skip(2);
        let nibbles = tag.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for (place, nibble) in places.zip(nibbles) {
            *place = digit(nibble);
        }
        Self(text)
    }
}

impl From<Pseudonym> for String {
    fn from(pseudonym: Pseudonym) -> Self {
        pseudonym.as_str().to_owned()
    }
}

impl TryFrom<String> for Pseudonym {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        let bytes = <[u8; 18]>::try_from(text.as_bytes());
        let good = |bytes: &[u8; 18]| {
            let digits = bytes.strip_prefix(b"p:");
            digits.is_some_and(|digits| digits.iter().all(hex))
        };
        match bytes {
            Ok(bytes) if good(&bytes) => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err("that is no pseudonym"),
        }
    }
}

impl fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes pseudonyms. Costs a keyed hash: made once for each verified credential and connection, then copied.
#[derive(Clone)]
pub(crate) struct Pseudonyms(hmac::Key);

impl Pseudonyms {
    /// With this key; another key gives other pseudonyms.
    pub(crate) fn new(key: &Secret<Vec<u8>>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// The pseudonym of a person.
    pub(crate) fn of(&self, subject: &CanonicalSubject) -> Pseudonym {
        self.keyed(b"subject\n", subject.as_str().as_bytes())
    }

    /// The pseudonym of an address; an IPv4 address mapped into IPv6 is the IPv4 address.
    pub(crate) fn of_address(&self, address: IpAddr) -> Pseudonym {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.keyed(b"address\n", &v4.octets()),
            IpAddr::V6(v6) => self.keyed(b"address\n", &v6.octets()),
        }
    }

    /// A value of which only may be seen that it is the same as another: 8 hex digits.
    pub(crate) fn of_value(&self, value: &[u8]) -> String {
        let tag = self.keyed(b"value\n", value);
        tag.as_str().get(2..10).unwrap_or_default().to_owned()
    }

    /// The kind comes first, so that a person whose name looks like an address is not the address.
    fn keyed(&self, kind: &[u8], value: &[u8]) -> Pseudonym {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(kind);
        context.update(value);
        Pseudonym::from_tag(context.sign().as_ref())
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pseudonyms(key: &str) -> Pseudonyms {
        Pseudonyms::new(&Secret::new(key.as_bytes().to_vec()))
    }

    fn subject(name: &str) -> CanonicalSubject {
        CanonicalSubject::named(name).unwrap()
    }

    #[test]
    fn a_pseudonym_depends_on_the_person_and_the_key() {
        let ours = pseudonyms("k1");
        assert_eq!(ours.of(&subject("alice")), ours.of(&subject("alice")));
        assert_ne!(ours.of(&subject("alice")), ours.of(&subject("bob")));
        assert_ne!(
            ours.of(&subject("alice")),
            pseudonyms("k2").of(&subject("alice"))
        );
    }

    #[test]
    fn the_definition_does_not_move() {
        // printf 'subject\nalice' | openssl dgst -sha256 -hmac k1
        assert_eq!(
            pseudonyms("k1").of(&subject("alice")).as_str(),
            "p:77022f850b1aaa9b"
        );
    }

    #[test]
    fn a_pseudonym_is_read_as_it_is_written() {
        let ann = pseudonyms("k1").of(&subject("alice"));
        let text = serde_json::to_string(&ann).unwrap();
        assert_eq!(text, "\"p:77022f850b1aaa9b\"");
        assert_eq!(serde_json::from_str::<Pseudonym>(&text).unwrap(), ann);
        for bad in [
            "\"p:77022f850b1aaa9B\"",
            "\"77022f850b1aaa9b\"",
            "\"p:\"",
            "\"\"",
        ] {
            assert!(serde_json::from_str::<Pseudonym>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_address() {
        let ours = pseudonyms("k1");
        assert_eq!(
            ours.of_address("192.0.2.1".parse().unwrap()),
            ours.of_address("::ffff:192.0.2.1".parse().unwrap())
        );
    }
}
