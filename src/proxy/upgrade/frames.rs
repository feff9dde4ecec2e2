//! Where one WebSocket frame ends and the next begins (RFC 6455 §5.2): just enough to say something between two frames.

/// Follows the frames of one direction. Payloads are skipped, never read.
#[derive(Debug)]
pub(crate) struct Frames {
    masked: bool,
    head: [u8; 14],
    have: usize,
    payload: u64,
}

/// What came is not a frame, or not one of this direction. Bytes of another protocol, such as a request that a client
/// sent before it was told of the upgrade, end up here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotAFrame;

impl Frames {
    /// Frames to a server are `masked`, those to a client are not (RFC 6455 §5.1).
    pub(crate) const fn new(masked: bool) -> Self {
        Self {
            masked,
            head: [0; 14],
            have: 0,
            payload: 0,
        }
    }

    /// Whether the last byte seen ended a frame.
    pub(crate) const fn at_boundary(&self) -> bool {
        self.have == 0 && self.payload == 0
    }

    /// Takes bytes up to the next boundary, or all of them; says how many.
    ///
    /// # Errors
    ///
    /// When the next frame is none; nothing of it may be passed on.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, NotAFrame> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            if 0 < self.payload {
                let skipped = usize::try_from(self.payload)
                    .unwrap_or(usize::MAX)
                    .min(rest.len());
                self.payload -= skipped as u64;
                used += skipped;
                if self.payload == 0 || used == bytes.len() {
                    return Ok(used);
                }
            }
            let Some(byte) = bytes.get(used) else {
                return Ok(used);
            };
            used += 1;
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if self.have == 2 {
                self.judge()?;
            }
            if self.have == self.head_length() {
                self.payload = self.payload_length();
                self.have = 0;
                if self.payload == 0 {
                    return Ok(used);
                }
            }
        }
    }

    /// Takes all bytes that are frames; says how many that are.
    ///
    /// # Errors
    ///
    /// The number of good bytes before what is no frame.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Result<usize, usize> {
        let mut good = 0;
        while good < bytes.len() {
            match self.take(bytes.get(good..).unwrap_or_default()) {
                Ok(used) => good += used,
                Err(NotAFrame) => return Err(good),
            }
        }
        Ok(good)
    }

    /// Judges the first two bytes (RFC 6455 §5.2, §5.5). Reserved bits belong to extensions, which are not ours.
    fn judge(&self) -> Result<(), NotAFrame> {
        let [first, second, ..] = self.head;
        let masked = second & 0x80 != 0;
        let fits = match first & 0x0F {
            0..=2 => true,
            8..=10 => first & 0x80 != 0 && second & 0x7F <= 125,
            _ => false,
        };
        if fits && masked == self.masked {
            Ok(())
        } else {
            Err(NotAFrame)
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

/// A Ping frame to a client (RFC 6455 §5.5.2).
pub(crate) const PING: [u8; 2] = [0x89, 0x00];

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
            frames in prop::collection::vec(0_usize..70_000, 1..4),
            masked in any::<bool>(),
            cut in 1_usize..5_000,
        ) {
            let mut ends = Vec::new();
            let mut all = Vec::new();
            for payload in frames {
                all.extend(frame(payload, masked));
                ends.push(all.len());
            }
            let (mut seen, mut at, mut follow) = (Vec::new(), 0, Frames::new(masked));
            for chunk in all.chunks(cut) {
                let mut rest = chunk;
                while !rest.is_empty() {
                    let used = follow.take(rest).unwrap();
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

        /// Any bytes get an answer, and what is good is never more than there is.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), masked in any::<bool>(), cut in 1_usize..50) {
            let mut follow = Frames::new(masked);
            for chunk in bytes.chunks(cut) {
                match follow.pass(chunk) {
                    Ok(good) => prop_assert_eq!(good, chunk.len()),
                    Err(good) => {
                        prop_assert!(good <= chunk.len());
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_frame_of_this_direction_is_noticed_before_it_is_passed_on() {
        let mut bytes = frame(3, true);
        let good = bytes.len();
        bytes.extend(b"GET /admin HTTP/1.1\r\n\r\n");
        assert_eq!(Frames::new(true).pass(&bytes), Err(good));
        assert_eq!(Frames::new(true).pass(&frame(3, false)), Err(0));
        assert_eq!(Frames::new(false).pass(&frame(3, true)), Err(0));
        assert_eq!(Frames::new(false).pass(&[0x83, 0]), Err(0));
        assert_eq!(Frames::new(false).pass(&[0x09, 0]), Err(0));
        assert_eq!(Frames::new(false).pass(&[0x89, 126, 0, 126]), Err(0));
    }

    #[test]
    fn what_we_say_ourselves_is_a_frame() {
        for masked in [false, true] {
            let mut frames = Frames::new(masked);
            let bytes = close(1_001, masked);
            assert_eq!(frames.take(&bytes), Ok(bytes.len()));
            assert!(frames.at_boundary());
        }
        assert_eq!(Frames::new(false).take(&PING), Ok(2));
    }
}
