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
        /// About what. Default `any`: for `directory`, whatever `dual_verify` is not asked about; required for `dual_verify`.
        credential: At<OracleCredential>,
        /// The provider that is asked. Required, except for `upstream_status`. For `dual_verify` it judges nobody elsewhere, so that its trouble is nobody's; for `directory` and `sweep` it has a `directory`.
        provider: At<String>,
        /// For `directory`: the attribute of whoever was let in whose value is the directory's `key`. Default `subject`.
        by: At<String>,
        /// For `sweep`: the provider whose people are gone through, if they are no more than 500 000; its key has the same values. Default: the rollout's `from`.
        of: At<String>,
        /// For `sweep`: how often. From `1h` to `30d`. Default `1d`.
        every: At<Span>,
        @later "only_after", "inventory";
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
        /// The directory of another provider, about whoever was let in: whether it knows the person, whether the account may be used, its groups, and the headers that would come of it. Nothing that was presented is sent.
        "directory" => Directory,
        /// Both directories, about everybody, at half the budget: whoever is disabled on one side only is found without coming.
        "sweep" => Sweep,
        /// The application itself: whether it answers 401 to somebody whom we let in, and which paths it opens to nobody.
        "upstream_status" => UpstreamStatus,
        @later "exchange", "dual_token";
    }

    /// About what.
    OracleCredential {
        /// Everything.
        "any" => Any,
        /// User name and password.
        "basic" => Basic,
        /// A client certificate.
        "client_cert" => ClientCert,
        /// A session cookie of the old system.
        "session" => Session,
        /// A signed token.
        "bearer" => Bearer,
        /// A token that only its issuer can read.
        "opaque" => Opaque,
        /// A key of a client.
        "api_key" => ApiKey,
        @later "none";
    }
}
