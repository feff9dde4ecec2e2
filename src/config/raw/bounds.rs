//! What providers have in common beside who they are: bounds on our calls, and what is asked of them besides.

use crate::config::scalar::Decimal;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::mappings;
use crate::rollout::Percent;

mappings! {
    /// Bounds on our calls to a provider.
    RawClientLimits {
        /// For one call, from first try to last byte. Metadata, key sets and introspection get `5s` at most, because requests wait for them. From `50ms` to `60s`. Default `10s`.
        timeout: At<Span>,
        /// Calls under way at once. From 1 to 65536. Default `64`.
        max_inflight: At<Whole>,
        /// How often an idempotent call is tried again, and at a directory connecting; a bind never is. From 0 to 5. Default `2`.
        retries: At<Whole>,
        /// Calls a second from this process, evenly spread; one more waits for its turn for up to `1s`, and is then an outage (`shed`). What looks into a directory for second opinions is counted by itself. From 1 to 100000. Default: as many as come.
        rps: At<Whole>,
    }

    /// When a provider is not asked any more.
    RawBreaker {
        /// The window that is counted. From `1s` to `1h`. Default `30s`.
        window: At<Span>,
        /// Fewer calls than this prove nothing. From 1 to 1000000. Default `20`.
        min_requests: At<Whole>,
        /// The percent of failed calls that opens it; one decimal. Default `50`.
        failure_percent: At<Percent>,
        /// How long it stays open before one call may try. From `1s` to `1h`. Default `15s`.
        open_for: At<Span>,
        /// The same as `failure_percent`, as a share: `0.5` is 50 percent. Only one of the two may stand.
        failure_rate: At<Decimal>,
    }

    /// Whether something is done.
    RawSwitch {
        /// Whether. Required.
        enabled: At<bool>,
    }

    /// Whether an OpenID provider is asked about each access token. Some, such as Keycloak, tell of a token to those alone whom it is for: our registration is in its audience, or every token is refused.
    RawOidcIntrospect {
        /// Whether. Required.
        enabled: At<bool>,
        /// How long a good answer is kept, never beyond the token's `exp`. From `1s` to `10m`. Default `30s`.
        cache: At<Span>,
        /// For how long after that a good answer counts while the provider cannot be reached, as for `introspection`. From `1s` to `1h`. Default: not at all.
        stale_if_unavailable: At<Span>,
    }

    /// Whether sessions are renewed.
    RawRenewals {
        /// Whether. Without it a new session is not confirmed any more after its login, and holds no refresh token; one that holds a token uses it to its end. Default `true`.
        enabled: At<bool>,
        /// Whether each use must bring a new refresh token (RFC 9700 §4.14.2): an answer without one, or with the same, ends the session. Default `false`: the old one stays where none comes.
        rotate: At<bool>,
    }

    /// How an OpenID provider says that somebody has signed out there (OpenID Connect Back-Channel Logout 1.0).
    RawBackchannelLogout {
        /// Whether it may. Default `true`.
        enabled: At<bool>,
        /// Where it says so, on every host of an application: below `/.authferry/bcl/` or `/.authferry/backchannel/`. Default `/.authferry/backchannel/NAME`.
        path: At<String>,
    }

    /// A revocation endpoint (RFC 7009).
    RawRevocation {
        /// Its address; asked as the same client. Required.
        url: At<String>,
    }
}
