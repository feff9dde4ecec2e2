//! `shadow`: who gives a second opinion about people who were let in.

use std::path::PathBuf;

use crate::config::scalar::Decimal;
use crate::config::scalar::Ending;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::mappings;
use crate::config::shape::words;
use crate::rollout::Percent;

mappings! {
    /// A second opinion about the people of one application, on the side: it never delays or changes an answer. It is asked for in the modes `shadow`, `canary` and `modern-primary`, about credentials of `from` that were accepted, and in `modern-primary` about those of `to`, where a `directory` of `from` is to be asked: whoever is refused is compared by `sweep` alone, which finds whom only one side lets in (`reject_accept`, `error_class`) and who has other groups, from the side of `from`.
    RawShadow {
        /// Who is asked. Required.
        oracles: List<RawOracle>,
        /// The percent of the people who are looked at twice. Default `100`.
        sample_percent: At<Percent>,
        /// The same as a share between 0 and 1, instead of `sample_percent`. Whether a person is in it hangs on their name alone.
        sample: At<Decimal>,
        /// The share of people about whom the deciding side is asked again, with what they have presented, to learn how it differs from itself: what differs as often there does not count in `divergence_upper_bound` and guards, unless it is critical. Default `0`.
        noise_sample: At<Decimal>,
        /// What is compared: `decision`, `subject`, `groups`, `scopes`, `lifetime`, `assurance`, `headers`, `error_class`, and `latency`, which is a metric. Default: everything.
        compare: List<At<String>>,
        /// How long nobody is asked again about a person and a kind of credential, by each instance and since it began. From `1s` to `30d`. Default `6h`.
        per_subject: At<Span>,
        /// What it may cost the other side, by each instance. What waits longer than 5 s is dropped.
        budget: RawShadowBudget,
        /// When the other side is left alone.
        breaker: RawShadowBreaker,
        /// Differences that are known, and do not count for a while.
        ignore: List<RawShadowIgnore>,
    }

    /// Who gives a second opinion.
    RawOracle {
        /// Which one. Required.
        method: At<OracleWord>,
        /// About what. Default `any`: for `directory`, whatever `dual_verify` and `exchange` are not asked about; required for both.
        credential: At<OracleCredential>,
        /// The provider that is asked. Default: the rollout's `to`. For `dual_verify` and `exchange` it judges nobody elsewhere, so that its trouble is nobody's. For `dual_verify` it may instead be the `oidc` provider that passwords move to (`basic: migrate` in some stage, or `carry_over: [credential]`): then the person's account there is looked up as it will be when the password moves, and asked about the password, over the connections of the `directory`; a password that is not the one there counts there as a wrong one, at most once in `per_subject`. For `directory` and `sweep` it has a `directory`. For `directory` it may be the rollout's `from`: then it is asked, in `modern-primary`, about people who came with credentials of `to`, and what is found is called as if `to` had been asked: `groups_missing` is a group that somebody lost on the way, `reject_accept` somebody who is barred at `from` and let in.
        provider: At<String>,
        /// For `directory`: the attribute of whoever was let in, and with `inventory` of whoever is listed, whose value is the directory's `key`. Default `subject`.
        by: At<String>,
        /// For `sweep`: the provider whose people are gone through, if they are no more than 500 000; its key has the same values. Default: the rollout's `from`.
        of: At<String>,
        /// For `sweep`: how often. From `1h` to `30d`. Default `1d`.
        every: At<Span>,
        /// For `sweep`: a file that lists the people, instead of the directory of `of`, as `plan` takes one: CSV with the columns `subject` and as one likes `groups` (separated by `;`), `email`, `enabled` and claims, or a JSON object a line. Where `of` has a directory it is asked about each of them; else the file says what the old side says. It is read at each sweep.
        inventory: At<PathBuf>,
        /// For `exchange`: `true` says that it is known that the provider issues a token for each person who is looked at. It is given back at once (RFC 7009).
        issues_tokens: At<bool>,
        /// For `dual_verify`: what was refused is never sent on, so there is one word.
        only_after: At<OnlyAfterWord>,
    }

    /// What it may cost the other side.
    RawShadowBudget {
        /// Calls a second. From 1 to 10000. Default `20`.
        rps: At<Whole>,
        /// Calls under way at once. From 1 to 1000. Default `16`.
        inflight: At<Whole>,
        /// How long a call may take. From `10ms` to `30s`. Default `2s`.
        timeout: At<Span>,
        /// So many people may wait for a call; more are not looked at. Half of the places are for people who are in `sample` alone. From 1 to 4096. Default `512`.
        queue: At<Whole>,
    }

    /// When the other side is left alone.
    RawShadowBreaker {
        /// After so many calls in a row without an answer. From 1 to 10000. Default `20`.
        failures: At<Whole>,
        /// For so long. From `1s` to `1d`. Default `60s`.
        open_for: At<Span>,
        /// Instead of `failures`: when this share of the last `min` calls had no answer, such as `0.5`.
        error_rate: At<Decimal>,
        /// How many calls `error_rate` looks at. From 1 to 10000. Default `20`.
        min: At<Whole>,
    }

    /// A difference that is known.
    RawShadowIgnore {
        /// Its class, as in the label `class` of `authferry_shadow_divergences_total`. Required.
        class: At<String>,
        /// Only with these groups or scopes. Default: whatever they are.
        values: List<At<String>>,
        /// Until then, or until the end of this day (UTC); afterwards it counts again. A week before, it is said in the log. Required.
        until: At<Ending>,
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
        /// Another provider, by the token that it would issue for the one that was presented (RFC 8693): `bearer` or `opaque` ones, once they were accepted. The result is given back at once and used for nothing.
        "exchange" => Exchange,
        /// Another provider, about the token that a client shows besides, in `X-Authferry-Candidate: Bearer …`. It lets nobody in, and applications never see it.
        "dual_token" => DualToken,
    }

    /// After what.
    OnlyAfterWord {
        /// Its owner has accepted it.
        "accept" => Accept,
    }

    /// About what.
    OracleCredential {
        /// Everything.
        "any" => Any,
        /// User name and password.
        "basic" => Basic,
        /// The same.
        "password" => Password,
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
        /// Nothing: for `sweep`, which is about people.
        "none" => None,
    }
}
