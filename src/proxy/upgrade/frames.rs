//! Where one WebSocket frame ends and the next begins (RFC 6455 §5.2): just enough to say something between two frames.

/// Follows the frames of one direction. Payloads are skipped, never read.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; 14],
    have: usize,
    payload: u64,
}

impl Frames {
    /// Whether the last byte seen ended a frame.
    pub(crate) const fn at_boundary(&self) -> bool {
        self.have == 0 && self.payload == 0
    }

    /// Takes bytes up to the next boundary, or all of them; says how many.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            if 0 < self.payload {
                let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(rest.len());
                self.payload -= skipped as u64;
                used += skipped;
                if self.payload == 0 {
                    return used;
                }
                if used == bytes.len() {
                    return used;
                }
            }
            let Some(byte) = bytes.get(used) else {
                return used;
            };
            used += 1;
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if self.have == self.head_length() {
                self.payload = self.payload_length();
                self.have = 0;
                if self.payload == 0 {
                    return used;
                }
            }
        }
    }

    /// Takes all bytes.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = self.take(rest);
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// As far as it is known: two bytes say how many more there are.
    fn head_length(&self) -> usize {
        let [_, second, ..] = self.head;
        if self.have < 2 {
            return 2;
        }
        let extended = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if second & 0x80 == 0 { 0 } else { 4 }
    }

    fn payload_length(&self) -> u64 {
        let [_, second, a, b, c, d, e, f, g, h, ..] = self.head;
        match second & 0x7F {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        }
    }
}

/// A Close frame with a status code (RFC 6455 §5.5.1). Those to a server are masked, with a mask of zeros: it hides
/// nothing, and the rule only wants one to be there.
pub(crate) fn close(code: u16, masked: bool) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    if masked {
        vec![0x88, 0x82, 0, 0, 0, 0, high, low]
    } else {
        vec![0x88, 0x02, high, low]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mut bytes = vec![0x82];
        let mask = if masked { 0x80 } else { 0 };
        match payload {
            0..=125 => bytes.push(mask | u8::try_from(payload).unwrap()),
            126..=0xFFFF => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + if masked { 4 } else { 0 } + payload, 0xFF);
        bytes
    }

    proptest! {
        /// However the bytes arrive, the boundaries are where the frames end.
        #[test]
        fn boundaries_do_not_depend_on_how_bytes_arrive(
            frames in prop::collection::vec((0_usize..70_000, any::<bool>()), 1..4),
            cut in 1_usize..5_000,
        ) {
            let mut ends = Vec::new();
            let mut all = Vec::new();
            for (payload, masked) in frames {
                all.extend(frame(payload, masked));
                ends.push(all.len());
            }
            let (mut seen, mut at, mut follow) = (Vec::new(), 0, Frames::default());
            for chunk in all.chunks(cut) {
                let mut rest = chunk;
                while !rest.is_empty() {
                    let used = follow.take(rest);
                    prop_assert!(0 < used);
                    at += used;
                    rest = &rest[used..];
                    if follow.at_boundary() {
                        seen.push(at);
                    }
                }
            }
            prop_assert_eq!(seen, ends);
        }
    }

    #[test]
    fn a_close_frame_is_a_frame() {
        for masked in [false, true] {
            let mut frames = Frames::default();
            let bytes = close(1_001, masked);
            assert_eq!(frames.take(&bytes), bytes.len());
            assert!(frames.at_boundary());
        }
    }
}
