//! What clients of the old side are told of its end.

use http::HeaderName;
use http::HeaderValue;
use http::header;

use crate::auth::policy::AppPolicy;
use crate::clock::UnixTime;

impl AppPolicy {
    /// What answers to credentials of `from` say beside: that they are deprecated and where that is explained (RFC 9745), and
    /// when they stop working (RFC 8594).
    pub(crate) fn farewell(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let warning = self.plan.as_ref();
        let warning = warning.and_then(|plan| plan.stage.warning.as_ref());
        let notice = warning.and_then(|warning| {
            let url = warning.notice.as_deref()?;
            HeaderValue::try_from(format!("<{url}>; rel=\"deprecation\"")).ok()
        });
        let deprecated = warning.and_then(|warning| {
            let since = warning.deprecated?.as_secs();
            HeaderValue::try_from(format!("@{since}")).ok()
        });
        let sunset = warning.and_then(|warning| {
            let at = i64::try_from(warning.sunset?.as_secs()).ok()?;
            let at = jiff::Timestamp::from_second(at).ok()?;
            let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
            HeaderValue::try_from(printer.timestamp_to_rfc9110_string(&at).ok()?).ok()
        });
        let named = |name, value: Option<HeaderValue>| value.map(|value| (name, value));
        let deprecated = named(HeaderName::from_static("deprecation"), deprecated);
        let sunset = named(HeaderName::from_static("sunset"), sunset);
        let notice = named(header::LINK, notice);
        deprecated.into_iter().chain(sunset).chain(notice)
    }

    /// The same where such a credential is refused; and how long that lasts, where it is a brownout.
    pub(crate) fn refused_farewell(&self, now: UnixTime) -> Vec<(HeaderName, HeaderValue)> {
        let plan = self.plan.as_ref();
        let until = plan.and_then(|plan| plan.stage.brown_until(now));
        let wait = until.map(|until| until.since(now).as_millis().div_ceil(1_000));
        let wait = wait.and_then(|seconds| HeaderValue::try_from(seconds.to_string()).ok());
        let wait = wait.map(|seconds| (header::RETRY_AFTER, seconds));
        self.farewell().chain(wait).collect()
    }
}
