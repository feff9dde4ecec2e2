//! `shadow`: who gives a second opinion about people who were let in.

use crate::config::scalar::Moment;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::mappings;
use crate::config::shape::words;
use crate::rollout::Percent;

mappings! {
    /// A second opinion about the people of one application, on the side: it never delays or changes an answer. It is asked for in the modes `shadow`, `canary` and `modern-primary`, about credentials of `from`.
    RawShadow {
        /// Who is asked. Required.
        oracles: List<RawOracle>,
        /// The percent of the people who are looked at twice. Default `100`.
        sample_percent: At<Percent>,
        /// How long nobody is asked again about a person and a kind of credential. Default `6h`.
        per_subject: At<Span>,
        /// What it may cost the other side. At most 512 credentials wait; what waits longer than 5 s is dropped.
        budget: RawShadowBudget,
        /// When the other side is left alone.
        breaker: RawShadowBreaker,
        /// Differences that are known, and do not count for a while.
        ignore: List<RawShadowIgnore>,
        @later "sample", "noise_sample", "compare";
    }

    /// Who gives a second opinion.
    RawOracle {
        /// Which one. Required.
        method: At<OracleWord>,
        /// About what. Default `any`; required for `dual_verify`.
        credential: At<OracleCredential>,
        /// For `dual_verify`: the provider that is asked. Required there. It judges nobody elsewhere, so that its trouble is nobody's.
        provider: At<String>,
        @later "only_after", "every", "inventory";
    }

    /// What it may cost the other side.
    RawShadowBudget {
        /// Calls a second. Default `20`.
        rps: At<Whole>,
        /// Calls under way at once. Default `16`.
        inflight: At<Whole>,
        /// How long a call may take. Default `2s`.
        timeout: At<Span>,
        @later "queue";
    }

    /// When the other side is left alone.
    RawShadowBreaker {
        /// After so many calls in a row without an answer. Default `20`.
        failures: At<Whole>,
        /// For so long. Default `60s`.
        open_for: At<Span>,
        @later "error_rate", "min";
    }

    /// A difference that is known.
    RawShadowIgnore {
        /// Its class, as in the label `class` of `authferry_shadow_divergences_total`. Required.
        class: At<String>,
        /// Only with these groups or scopes. Default: whatever they are.
        values: List<At<String>>,
        /// Until then; afterwards it counts again. Required.
        until: At<Moment>,
        /// Where it is looked after.
        ticket: At<String>,
    }
}

words! {
    /// Who gives a second opinion.
    OracleWord {
        /// Another provider, about the same credential, once its owner has accepted it. What was refused is never sent on.
        "dual_verify" => DualVerify,
        /// The application itself: whether it answers 401 to somebody whom we let in, and which paths it opens to nobody.
        "upstream_status" => UpstreamStatus,
        @later "directory", "exchange", "sweep", "dual_token";
    }

    /// About what.
    OracleCredential {
        /// Everything.
        "any" => Any,
        /// User name and password.
        "basic" => Basic,
        /// A client certificate.
        "client_cert" => ClientCert,
        @later "session", "bearer", "opaque", "api_key", "none";
    }
}
