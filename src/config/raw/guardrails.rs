//! `guardrails`: what watches a stage, and what follows.

use crate::config::raw::RawSecretText;
use crate::config::scalar::Decimal;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::mappings;
use crate::config::shape::words;

mappings! {
    /// What watches a stage. Every key has a default: `standard: { unit: bucket }` is enough.
    RawGuardrails {
        /// What is counted: people, never requests. Default `bucket`.
        unit: At<GuardUnitWord>,
        /// How long a login may take before it counts as abandoned; a person counts once in this time. From `10s` to `1d`. Default `10m`.
        window: At<Span>,
        /// How long after a failed attempt a success still makes it good. Default `1m`.
        retry: At<Span>,
        /// How often the two sides are compared. From `1s` to `1d`. Default `30s`.
        evaluate_every: At<Span>,
        /// The chance of a false rollback, of the whole rollout: divided over guards, steps and repetitions. Default `0.05`.
        alpha_budget: At<Decimal>,
        /// The comparisons. Where `shadow` compares people of the rollout and none of these has `divergences`, stages that move people also have `critical_differences`: one critical difference (`binding_lost` is none of these), and everybody goes back (`rollback_revoke`); not in `modern-primary` where a `directory` of `from` is asked, which grows old there. Default: `login` (`failed`, `abandoned`; 1.25, 0.005, 5, rollback) and `session` (`error`; 1.5, 0.002, 5, rollback).
        guards: List<RawGuard>,
        /// Whom guards with `promql` ask.
        prometheus: RawPrometheus,
        /// The plain breaker: something is on fire, and not at `from` as well. Every new login goes to `from` at once.
        breaker: RawGuardBreaker,
        /// Whether people arrive in the configured split.
        srm: RawSplit,
        /// What it means that a step by percent has baked while one of its guards has seen nobody at one of the sides, which is `no_data`: every guard has to say `ok` before the step is left. `hold`: the rollout is held, once the guards have counted for as long as the step bakes; whoever comes meanwhile counts, and `ctl resume` goes on without baking again. `wait`: it bakes on until somebody comes, however long that takes. `proceed`: the step is left without. A guard may say it for itself. A `promql` without an answer keeps the step in any case. Default `hold`.
        no_data: At<NoDataWord>,
        /// What follows a rollback that happened by itself.
        after_rollback: RawAfterRollback,
        /// The bound of harm in a step, for each application: what is beyond it starts at `from` meanwhile; whoever is in and is sent round silently (`sessions.carry_over`) has a bound of the same size apart from it, in `modern-primary` as well. Stages with `guardrails: none`, and sign-ins in the modes `modern-primary` and `modern-only` have none: in these there is no other side to begin at, and what breaks then is seen when ten people in a row have not come back. Nor is there one where nobody can sign in in a browser at `from`. Where the first have failed, one more may try two minutes after the `window` of the last of them is over, and so on until `until_succeeded` are in. Instances that share a store have it together; each has its own while that does not answer, and with `control: pinned`. Without a shared store, and with `control: pinned`, it begins anew when the instance starts.
        first_logins: RawFirstLogins,
    }

    /// A Prometheus, or what has its HTTP API.
    RawPrometheus {
        /// Without the path of the API. Default `http://127.0.0.1:9090`.
        url: At<String>,
        /// A bearer token.
        token: RawSecretText,
        /// How long an answer may take. From `100ms` to `30s`. Default `5s`.
        timeout: At<Span>,
    }

    /// One comparison of the two sides.
    RawGuard {
        /// Its name: a label of metrics. Required.
        id: At<String>,
        /// What is bad: `failed`, `abandoned`, `slower_than_800ms` (logins), or `rejected`, `error` (sessions). `error`: a session of ours had to be confirmed, its provider was away, and its person was not let in; `rejected` counts nothing in this build: `check` warns of it, and refuses a guard that has nothing else, because it would never trip: a provider that refuses a renewal may have signed its person out, or lets sessions rest for less long than the other one, and what our own rules refuse is no evidence. Of sessions that an old system judges nobody is known while it is away. Required, unless `divergences` or `promql` is there.
        bad: List<At<String>>,
        /// How much worse than `from` the new provider may be. Default `1.25`.
        max_ratio: At<Decimal>,
        /// A difference of the bad rates below this is no harm. Default `0.005`.
        min_effect: At<Decimal>,
        /// Fewer bad people at the new provider prove nothing. Default `5`.
        min_bad_units: At<Whole>,
        /// What follows. Default `rollback`.
        on_trip: At<OnTripWord>,
        /// With `bad`: what it means that it has seen nobody at one of the sides, as `no_data` beside the guards. `proceed` is for what does not happen at these applications: logins, where clients come with tokens alone; the guard is not asked for people of `min_units` then. Where all of them say it, the one that saw most is: leave `min_units` at `0` where none can count anybody. Default: that of the guardrails.
        no_data: At<NoDataWord>,
        /// Instead of `bad`: classes of differences that `shadow` finds, as in the label `class` of `authferry_shadow_divergences_total`. People are counted, since the step began, by all instances; what one side says differently each time it is asked counts only where it is critical.
        divergences: List<At<String>>,
        /// With `divergences`: so many people may differ. Default `0`. With `promql`: more than this trips it; required.
        max: At<Decimal>,
        /// Instead of `bad`: what another system counts, as a query to `prometheus` that gives one number; it is asked every 15 s. Without an answer the guard has no data, and nothing goes forward.
        promql: At<String>,
    }

    /// The plain breaker: it trips where `min_units`, `bad_rate` and a comparison with `from` are met, and in any case where none of the first logins of an application at the new provider succeeded (`until_succeeded` of them were bad), or ten in a row did not. Ordinary is twice the bad rate of `from` in this step, or in the window where `from` burns as well, but 2 % at least and 40 % at most (10 % while nobody has been there); so many bad people as there are would come of it by chance once in nine million windows at most. 8 of 20 are a fire where 1 % is ordinary at `from`, and 20 of 20 always.
    RawGuardBreaker {
        /// How far back it looks. From `1s` to `1d`. Default `60s`.
        window: At<Span>,
        /// Fewer people than this prove nothing. Default `20`.
        min_units: At<Whole>,
        /// A smaller share of bad people is no fire. Default `0.2`.
        bad_rate: At<Decimal>,
        /// What follows. Default `rollback`.
        on_trip: At<OnTripWord>,
    }

    /// Whether people arrive in the configured split.
    RawSplit {
        /// The chance of a false alarm in a step. Default `0.0001`.
        alpha: At<Decimal>,
        /// What follows. Default `hold`.
        on_trip: At<OnTripWord>,
    }

    /// What follows a rollback that happened by itself.
    RawAfterRollback {
        /// How long nobody may resume. Default `24h`.
        cooldown: At<Span>,
        /// Who resumes. Default `manual`.
        resume: At<ResumeWord>,
        /// After more rollbacks than this the rollout is frozen until a person has looked at it twice: the breaker and what is `rollback_revoke` still take it back. Default `2`.
        max_auto: At<Whole>,
    }

    /// The bound of harm in a step.
    RawFirstLogins {
        /// So many logins may be unfinished at the new provider; once `until_succeeded` have succeeded, so many may have begun there since the last one that did. Default `10`.
        unfinished: At<Whole>,
        /// So many must succeed there before a success makes room for all again. Default `5`.
        until_succeeded: At<Whole>,
    }
}

words! {
    /// What is counted.
    GuardUnitWord {
        /// People, as they are put into buckets.
        "bucket" => Bucket,
    }

    /// What follows when a guard trips.
    OnTripWord {
        /// It is recorded what would have happened.
        "note" => Note,
        /// Nobody moves any further.
        "hold" => Hold,
        /// New logins go back.
        "rollback" => Rollback,
        /// Every new login starts at `from` at once, and whatever the new provider has vouched for until then ends.
        "rollback_revoke" => RollbackRevoke,
    }

    /// What a guard without people means.
    NoDataWord {
        /// The rollout is held.
        "hold" => Hold,
        /// The step waits for people.
        "wait" => Wait,
        /// The step is left without what it would have said.
        "proceed" => Proceed,
    }

    /// Who resumes after a rollback.
    ResumeWord {
        /// A person, with a reason.
        "manual" => Manual,
    }
}
