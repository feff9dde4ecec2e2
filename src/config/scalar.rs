//! The kinds of single values: texts, numbers, durations, sizes, percents, moments, addresses, files.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;

use crate::clock::UnixTime;
use crate::config::problem::Report;
use crate::config::shape::Shape;
use crate::config::shape::scalar;
use crate::config::tree::Node;
use crate::rollout::Percent;

/// A whole number from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Whole(pub(crate) u64);

/// A decimal number such as `0.05`; nothing that moves people is decided by one alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Decimal(pub(crate) f64);

/// A duration with its unit: `200ms`, `30s`, `5m`, `12h`, `7d`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span(pub(crate) Duration);

/// A size with its unit: `512B`, `16KiB`, `4MiB`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Size(pub(crate) u64);

/// A network: `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Network(pub(crate) IpNet);

/// An address to listen on: `127.0.0.1:8080`, `[::1]:8080`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Address(pub(crate) SocketAddr);

/// A moment: `2026-05-04T00:00:00Z` (RFC 3339).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Moment(pub(crate) UnixTime);

/// A moment, or the end of a day (UTC): `2026-05-04T00:00:00Z`, `2026-05-04`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ending(pub(crate) UnixTime);

/// A text that some YAML readers take for a number with another value, or for something else than a text: `010`, `1_000`,
/// `0o17`, `1e3`, `12:30:45`, `2026-05-04`, `=`, `<<`.
fn is_numeric_trap(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    let based = [("0x", 16), ("0o", 8), ("0b", 2)]
        .iter()
        .any(|(prefix, base)| {
            let rest = digits.strip_prefix(prefix);
            rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(*base)))
        });
    let grouped_by = |separator: char| {
        let mut parts = digits.split(separator);
        let all = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        1 < digits.split(separator).count() && parts.all(all)
    };
    let exponent = digits
        .split_once(['e', 'E'])
        .is_some_and(|(mantissa, exponent)| {
            let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            let exponent = exponent.trim_start_matches(['+', '-']);
            !mantissa.is_empty() && !exponent.is_empty() && number(mantissa) && number(exponent)
        });
    // Base 60, as YAML 1.1 reads times, and dates.
    let moment = grouped_by(':') || (digits.len() == 10 && grouped_by('-'));
    if based || exponent || moment || matches!(text, "=" | "<<") {
        return true;
    }
    let octal =
        1 < digits.len() && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    let grouped = digits.contains('_') && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    octal || grouped
}

impl Shape for String {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let scalar = scalar(node, "a text", report)?;
        let text = &*scalar.text;
        if scalar.plain && matches!(text, "true" | "false" | "True" | "False" | "TRUE" | "FALSE") {
            report
                .error(
                    node.mark,
                    format!("`{text}` is a boolean, where a text is expected"),
                )
                .value(text)
                .hint("if the text is meant, put it in quotes");
            return None;
        }
        if scalar.plain && is_numeric_trap(text) {
            report
                .error(
                    node.mark,
                    format!("some YAML readers take `{text}` for something else than this text"),
                )
                .value(text)
                .hint("if the text is meant, put it in quotes");
            return None;
        }
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            report.error(
                node.mark,
                format!(
                    "the text contains the control character U+{:04X}",
                    u32::from(control)
                ),
            );
            return None;
        }
        Some(text.to_owned())
    }
}

impl Shape for bool {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let scalar = scalar(node, "`true` or `false`", report)?;
        match (&*scalar.text, scalar.plain) {
            ("true", true) => Some(true),
            ("false", true) => Some(false),
            (text, _) => {
                report
                    .error(node.mark, format!("`{text}` is neither `true` nor `false`"))
                    .value(text)
                    .hint("write `true` or `false`, in small letters and without quotes");
                None
            }
        }
    }
}

impl Shape for Whole {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let scalar = scalar(node, "a whole number", report)?;
        let text = &*scalar.text;
        let canonical =
            text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        match text.parse() {
            Ok(number) if canonical && scalar.plain => Some(Self(number)),
            _ => {
                report
                    .error(node.mark, format!("`{text}` is not a whole number"))
                    .value(text)
                    .hint("digits only: no sign, no leading zero, no unit, no quotes");
                None
            }
        }
    }
}

impl Shape for Decimal {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let scalar = scalar(node, "a number", report)?;
        let text = &*scalar.text;
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let octal = 1 < whole.len() && whole.starts_with('0');
        let number = text.parse().ok();
        match number.filter(|_| digits(whole) && digits(decimals) && !octal && text.len() <= 16) {
            Some(number) if scalar.plain => Some(Self(number)),
            Some(_) | None => {
                report
                    .error(node.mark, format!("`{text}` is not a decimal number"))
                    .value(text)
                    .hint("digits and at most one point, without quotes, such as `0.05`");
                None
            }
        }
    }
}

/// Splits `30s` into its number and its unit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit))
}

impl Shape for Span {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let text = &*scalar(node, "a duration", report)?.text;
        let span = match number_and_unit(text) {
            Some((number, "ms")) => Some(Duration::from_millis(number)),
            Some((number, "s")) => Some(Duration::from_secs(number)),
            Some((number, "m")) => number.checked_mul(60).map(Duration::from_secs),
            Some((number, "h")) => number.checked_mul(3_600).map(Duration::from_secs),
            Some((number, "d")) => number.checked_mul(86_400).map(Duration::from_secs),
            Some(_) | None => None,
        };
        // Longer than a century is a typing error, and would overflow sums of moments.
        match span {
            Some(span) if span <= Duration::from_secs(36_525 * 86_400) => Some(Self(span)),
            _ => {
                let digits = text.bytes().all(|b| b.is_ascii_digit());
                let hint = if digits {
                    format!("a duration needs its unit: `{text}s`, or one of ms, s, m, h, d")
                } else {
                    "a whole number and one unit: ms, s, m, h or d, such as `500ms`, `30s` or `12h`"
                        .into()
                };
                report
                    .error(node.mark, format!("`{text}` is not a duration"))
                    .value(text)
                    .hint(hint);
                None
            }
        }
    }
}

impl Shape for Size {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let text = &*scalar(node, "a size", report)?.text;
        let size = match number_and_unit(text) {
            Some((number, "B")) => Some(number),
            Some((number, "KiB")) => number.checked_mul(1 << 10),
            Some((number, "MiB")) => number.checked_mul(1 << 20),
            Some((number, "GiB")) => number.checked_mul(1 << 30),
            Some(_) | None => None,
        };
        if size.is_none() {
            report
                .error(node.mark, format!("`{text}` is not a size"))
                .value(text)
                .hint("a whole number and one unit: B, KiB, MiB or GiB, such as `16KiB`");
        }
        size.map(Self)
    }
}

impl Shape for Percent {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let scalar = scalar(node, "a percent", report)?;
        let text = &*scalar.text;
        match Self::parse(text) {
            Ok(percent) if scalar.plain => Some(percent),
            Ok(_) => {
                report
                    .error(node.mark, "a percent is a number and stands without quotes")
                    .value(text);
                None
            }
            Err(invalid) => {
                report
                    .error(node.mark, format!("`{text}` is no percent: {invalid}"))
                    .value(text)
                    .hint("a number from 0 to 100 with at most four decimals, such as `12.5`, without `%`");
                None
            }
        }
    }
}

impl Shape for Network {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let text = &*scalar(node, "a network", report)?.text;
        let network = text.parse::<IpNet>().or_else(|invalid| {
            text.parse::<std::net::IpAddr>()
                .map(IpNet::from)
                .map_err(|_unused| invalid)
        });
        match network {
            Ok(network) if network.trunc() == network => Some(Self(network)),
            Ok(network) => {
                report
                    .error(
                        node.mark,
                        format!("`{text}` names an address inside of a network"),
                    )
                    .value(text)
                    .hint(format!(
                        "write `{}` for the network, or the address alone",
                        network.trunc()
                    ));
                None
            }
            Err(_) => {
                report
                    .error(node.mark, format!("`{text}` is not a network"))
                    .value(text)
                    .hint("an address and a prefix length, such as `10.0.0.0/8` or `fd00::/16`, or one address");
                None
            }
        }
    }
}

impl Shape for Address {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let text = &*scalar(node, "an address", report)?.text;
        text.parse().map(Self).map_or_else(
            |_| {
                report
                    .error(node.mark, format!("`{text}` is not an address to listen on"))
                    .value(text)
                    .hint("an IP address and a port, such as `127.0.0.1:8080`, `0.0.0.0:8443` or `[::1]:8080`");
                None
            },
            Some,
        )
    }
}

impl Shape for Moment {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let text = &*scalar(node, "a moment", report)?.text;
        let moment = text.parse::<jiff::Timestamp>().ok();
        let millis = moment.and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
        if millis.is_none() {
            report
                .error(node.mark, format!("`{text}` is not a moment"))
                .value(text)
                .hint("date, time and zone as in RFC 3339, such as `2026-05-04T00:00:00Z`");
        }
        millis.map(UnixTime::from_millis).map(Self)
    }
}

impl Shape for Ending {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let text = &*scalar(node, "a moment or a day", report)?.text;
        let day = text.parse::<jiff::civil::Date>().ok();
        let over = day.and_then(|day| day.tomorrow().ok());
        let over = over.and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok());
        let moment = match over.filter(|_| text.len() == 10) {
            Some(over) => Some(over.timestamp()),
            None => text.parse::<jiff::Timestamp>().ok(),
        };
        let millis = moment.and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
        if millis.is_none() {
            report
                .error(node.mark, format!("`{text}` is neither a moment nor a day"))
                .value(text)
                .hint(
                    "such as `2026-05-04`, or with time and zone `2026-05-04T00:00:00Z` (RFC 3339)",
                );
        }
        millis.map(UnixTime::from_millis).map(Self)
    }
}

impl Shape for PathBuf {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        String::read(node, report).map(Self::from)
    }
}

macro_rules! schemas {
    ($($type:ident: $name:literal, $schema:tt;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schemas! {
    Whole: "number", { "type": "integer", "minimum": 0 };
    Decimal: "decimal", { "type": "number", "minimum": 0 };
    Span: "duration", { "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "description": "A whole number and a unit: ms, s, m, h, d." };
    Size: "size", { "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$", "description": "A whole number and a unit: B, KiB, MiB, GiB." };
    Network: "network", { "type": "string", "description": "A network such as 10.0.0.0/8, or one address." };
    Address: "address", { "type": "string", "description": "An IP address and a port." };
    Moment: "moment", { "type": "string", "format": "date-time" };
    Ending: "moment-or-day", { "type": "string", "description": "A moment as in RFC 3339, or a day such as 2026-05-04." };
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 100, "description": "At most four decimals." })
    }
}
