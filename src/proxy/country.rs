//! From which country an address is, by a file in the MaxMind format. What it does not say is no country.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use maxminddb::Reader;
use maxminddb::path;

/// The largest file, in bytes.
const MAX_BYTES: u64 = 512 << 20;

/// Which country, as ISO 3166-1 has it: two capital letters.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(crate) struct Country([u8; 2]);

impl Country {
    /// Reads two capital letters.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let letters: [u8; 2] = text.as_bytes().try_into().ok()?;
        letters
            .iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(letters))
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or("??"))
    }
}

/// The countries of addresses.
pub(crate) struct Countries(Reader<Vec<u8>>);

impl Countries {
    /// Reads the file, and makes sure that all of it can be read.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
        let size = fs::metadata(path).map_err(|error| wrong(&error))?.len();
        if MAX_BYTES < size {
            return Err(wrong(&"it has more than 512 MiB"));
        }
        let content = fs::read(path).map_err(|error| wrong(&error))?;
        Self::read(content).map_err(|error| wrong(&error))
    }

    /// Reads the content of the file.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub(crate) fn read(content: Vec<u8>) -> Result<Self, String> {
        let reader = Reader::from_source(content).map_err(|error| error.to_string())?;
        reader.verify().map_err(|error| error.to_string())?;
        Ok(Self(reader))
    }

    /// Where an address is; `None`: nobody knows.
    pub(crate) fn of(&self, address: IpAddr) -> Option<Country> {
        let found = self.0.lookup(address.to_canonical()).ok()?;
        let code: Option<&str> = found.decode_path(&path!["country", "iso_code"]).ok()?;
        Country::parse(code?)
    }
}

impl fmt::Debug for Countries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Countries")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn text(text: &str) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        let mut out = if length < 29 {
            vec![0x40 | length]
        } else {
            vec![0x5d, length - 29]
        };
        out.extend(text.as_bytes());
        out
    }

    fn map(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut out = vec![0xe0 | u8::try_from(members.len()).unwrap()];
        for (name, value) in members {
            out.extend(text(name));
            out.extend(value);
        }
        out
    }

    fn short(number: u16) -> Vec<u8> {
        [&[0xa2][..], &number.to_be_bytes()].concat()
    }

    /// A file that says of IPv4 networks which country they are in.
    pub(crate) fn database(networks: &[(Ipv4Addr, usize, &str)]) -> Vec<u8> {
        // Each node: for 0 and for 1, the next node or the data of a leaf.
        let mut nodes: Vec<[Option<Result<usize, usize>>; 2]> = vec![[None; 2]];
        let mut data = Vec::new();
        for (address, length, code) in networks {
            let offset = data.len();
            data.extend(map(&[("country", map(&[("iso_code", text(code))]))]));
            let bits = u32::from(*address);
            let mut at = 0;
            for depth in 0..*length {
                let bit = usize::from((bits >> (31 - depth)) & 1 == 1);
                if depth + 1 == *length {
                    nodes[at][bit] = Some(Err(offset));
                } else if let Some(Ok(next)) = nodes[at][bit] {
                    at = next;
                } else {
                    nodes.push([None; 2]);
                    let next = nodes.len() - 1;
                    nodes[at][bit] = Some(Ok(next));
                    at = next;
                }
            }
        }
        let count = nodes.len();
        let mut file = Vec::new();
        for side in nodes.iter().flatten() {
            let value = match side {
                None => count,
                Some(Ok(node)) => *node,
                Some(Err(offset)) => count + 16 + offset,
            };
            file.extend(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
        }
        file.extend([0; 16]);
        file.extend(data);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        let number = u32::try_from(count).unwrap().to_be_bytes();
        file.extend(map(&[
            ("node_count", [&[0xc4][..], &number].concat()),
            ("record_size", short(24)),
            ("ip_version", short(4)),
            ("database_type", text("Test-Country")),
            ("languages", vec![0x00, 0x04]),
            ("binary_format_major_version", short(2)),
            ("binary_format_minor_version", short(0)),
            ("build_epoch", vec![0x01, 0x02, 0x01]),
            ("description", map(&[("en", text("for tests"))])),
        ]));
        file
    }

    #[test]
    fn an_address_has_the_country_of_its_network_and_else_none() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("c.mmdb");
        let networks = [
            (Ipv4Addr::new(192, 0, 2, 0), 24, "DE"),
            (Ipv4Addr::new(198, 51, 100, 0), 24, "FR"),
            (Ipv4Addr::new(203, 0, 113, 0), 24, "xx"),
        ];
        fs::write(&path, database(&networks)).unwrap();
        let countries = Countries::open(&path).unwrap();
        for (address, country) in [
            ("192.0.2.7", Some("DE")),
            ("::ffff:192.0.2.7", Some("DE")),
            ("198.51.100.255", Some("FR")),
            ("203.0.113.1", None),
            ("192.0.3.1", None),
            ("127.0.0.1", None),
            ("2001:db8::1", None),
        ] {
            let found = countries.of(address.parse().unwrap());
            assert_eq!(found, country.and_then(Country::parse), "{address}");
        }
        for bad in ["de", "D", "DEU", "", "D1"] {
            assert_eq!(Country::parse(bad), None);
        }
    }

    #[test]
    fn a_file_that_is_none_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("c.mmdb");
        assert!(Countries::open(&path).is_err());
        let whole = database(&[(Ipv4Addr::new(192, 0, 2, 0), 24, "DE")]);
        for part in [&whole[..0], &whole[..whole.len() / 2], b"nonsense"] {
            fs::write(&path, part).unwrap();
            assert!(Countries::open(&path).is_err());
        }
    }
}
