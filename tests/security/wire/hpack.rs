//! HPACK (RFC 7541), as much as a client without a table needs.

/// Fields as literals without indexing and without Huffman: what stands here is what is sent.
pub(super) fn encode(headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, 0, 7, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

fn integer(out: &mut Vec<u8>, flags: u8, prefix: u8, value: usize) {
    let most = (1 << prefix) - 1;
    if value < most {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | most as u8);
    let mut rest = value - most;
    while 128 <= rest {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// The fields of a block, names as they came. `None`: it is no block, or it uses a table that was forbidden.
pub(super) fn decode(block: &[u8]) -> Option<Vec<(String, String)>> {
    let mut reader = Reader(block);
    let mut fields = Vec::new();
    while let Some(first) = reader.0.first().copied() {
        if first & 0x80 != 0 {
            let index = reader.integer(7)?;
            let (name, value) = STATIC.get(index.checked_sub(1)?)?;
            fields.push(((*name).to_owned(), (*value).to_owned()));
        } else if first & 0xe0 == 0x20 {
            reader.integer(5)?;
        } else {
            let prefix = if first & 0x40 != 0 { 6 } else { 4 };
            let name = match reader.integer(prefix)? {
                0 => reader.text()?,
                index => STATIC.get(index - 1)?.0.to_owned(),
            };
            fields.push((name, reader.text()?));
        }
    }
    Some(fields)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn integer(&mut self, prefix: u8) -> Option<usize> {
        let most = (1_usize << prefix) - 1;
        let first = usize::from(self.byte()?) & most;
        if first < most {
            return Some(first);
        }
        let (mut value, mut shift) = (most, 0);
        loop {
            let byte = self.byte()?;
            value += usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                return Some(value);
            }
            if 28 < shift {
                return None;
            }
        }
    }

    fn text(&mut self) -> Option<String> {
        let huffman = self.0.first()? & 0x80 != 0;
        let length = self.integer(7)?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let bytes = if huffman {
            unpack(bytes)?
        } else {
            bytes.to_vec()
        };
        Some(bytes.iter().map(|b| char::from(*b)).collect())
    }
}

/// The code is canonical: the lengths say everything.
fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
    order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
    let mut codes = Vec::new();
    let (mut code, mut length) = (0_u32, LENGTHS[order[0]]);
    for symbol in order {
        code <<= LENGTHS[symbol] - length;
        length = LENGTHS[symbol];
        codes.push((length, code, symbol));
        code += 1;
    }
    let mut out = Vec::new();
    let (mut code, mut length) = (0_u32, 0_u8);
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
    {
        code = code << 1 | u32::from(bit);
        length += 1;
        if let Ok(at) = codes.binary_search_by(|(l, c, _)| (*l, *c).cmp(&(length, code))) {
            out.push(u8::try_from(codes[at].2).ok()?);
            (code, length) = (0, 0);
        }
        if 30 < length {
            return None;
        }
    }
    Some(out)
}

/// The length of each symbol's code (RFC 7541 appendix B), the end last.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// RFC 7541 appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
