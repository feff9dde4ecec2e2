//! Status codes as label values: exact where somebody could act on it, and bounded.

use std::borrow::Cow;

/// The status codes that have their own label value: those of the IANA registry. Others are counted as `2xx`, `4xx`, …
const CODES: [u16; 63] = [
    100, 101, 102, 103, 104, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303,
    304, 305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414,
    415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503,
    504, 505, 506, 507, 508, 511,
];

const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// How many values the label `code` can have.
pub(crate) const CODE_COUNT: usize = CODES.len() + CLASSES.len();

/// From a status code (100 to 599) to its place among the values of the label `code`.
static CODE_INDEX: [u8; 500] = {
    let mut table = [0_u8; 500];
    let mut offset = 0;
    while offset < 500 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            table[offset] = (CODES.len() + offset / 100) as u8;
        }
        offset += 1;
    }
    let mut place = 0;
    while place < CODES.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            table[CODES[place] as usize - 100] = place as u8;
        }
        place += 1;
    }
    table
};

/// The place of a status code among the values of the label `code`, below [`CODE_COUNT`].
pub(crate) fn code_index(status: u16) -> usize {
    usize::from(status)
        .checked_sub(100)
        .and_then(|offset| CODE_INDEX.get(offset))
        .map_or(CODE_COUNT - 1, |place| usize::from(*place))
}

/// The label value at a place.
pub(crate) fn code(index: usize) -> Cow<'static, str> {
    match (CODES.get(index), index.checked_sub(CODES.len())) {
        (Some(code), _) => code.to_string().into(),
        (None, Some(class)) => CLASSES.get(class).copied().unwrap_or("other").into(),
        (None, None) => "other".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_code_is_exact_when_registered_and_a_class_otherwise() {
        for (status, label) in [
            (200, "200"),
            (404, "404"),
            (511, "511"),
            (299, "2xx"),
            (477, "4xx"),
            (599, "5xx"),
            (99, "other"),
            (600, "other"),
            (0, "other"),
            (999, "other"),
        ] {
            assert_eq!(code(code_index(status)), label, "{status}");
        }
    }

    #[test]
    fn every_status_code_has_a_place_in_the_table() {
        for status in 0..=u16::MAX {
            assert!(code_index(status) < CODE_COUNT);
        }
    }
}
