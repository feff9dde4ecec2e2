//! The file as it is written: every key, its kind of value, and what is said about it in `config/README.md`.
//!
//! The sentences here are the reference: "Required.", "Default `…`." and "Not reloaded." end up in its columns.

mod apps;
mod bounds;
mod directory;
mod exchange;
mod forms;
mod guardrails;
mod issuer;
mod links;
mod people;
mod providers;
mod rollouts;
mod server;
mod shadow;
mod tokens;

pub(crate) use apps::*;
pub(crate) use bounds::*;
pub(crate) use directory::*;
pub(crate) use exchange::*;
pub(crate) use forms::*;
pub(crate) use guardrails::*;
pub(crate) use issuer::*;
pub(crate) use links::*;
pub(crate) use people::*;
pub(crate) use providers::*;
pub(crate) use rollouts::*;
pub(crate) use server::*;
pub(crate) use shadow::*;
pub(crate) use tokens::*;

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;

use crate::config::problem::Report;
use crate::config::scalar::Decimal;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::Named;
use crate::config::shape::Shape;
use crate::config::shape::mappings;
use crate::config::shape::words;
use crate::config::tree::Content;
use crate::config::tree::Node;

mappings! {
    /// A configuration of authferry.
    RawConfig {
        /// The version of the format. Required. Must be `1`.
        version: At<Whole>,
        /// Who made this revision of the file, and why.
        change: RawChange,
        /// Listeners, limits and the admin interface.
        server: RawServer,
        /// Keys; those that are not given are generated once in `state_dir/keys`.
        secrets: RawSecrets,
        /// Identity providers by name. Required.
        providers: Named<RawProvider>,
        /// Who is one person across providers. Without it nobody is joined.
        identity: RawIdentity,
        /// Our own sessions.
        sessions: RawSessions,
        /// Named groups of people and requests, for rules.
        cohorts: Named<RawCohort>,
        /// Applications by name. Required.
        apps: Named<RawApp>,
        /// Ways to turn a credential into the token that an upstream expects, by name. Where one asks a provider, or mints for one, tokens of that provider which name our registration, or nobody, are looked up in the store when they are first seen (503 while it does not answer), so that what was made ends with what it was made of.
        exchange: Named<RawExchange>,
        /// A token endpoint of our own. Without it there is none.
        token_endpoint: RawTokenEndpoint,
        /// By application: when a new login may start at the other provider. Without it, never.
        fallback: Named<RawFallback>,
        /// The short form: one rollout with one canary stage.
        rollout: RawShortRollout,
        /// Rollouts by name.
        rollouts: Named<RawRollout>,
        /// Rules of `authferry check --strict` that do not hold here, and why.
        waivers: List<RawWaiver>,
        /// What the groups of a provider mean, by provider: roles, and what roles may do.
        roles: Named<RawRoles>,
        /// How proofs of possession (DPoP, RFC 9449) are judged. A token that is bound to a key is taken with a proof only, whether this is here or not.
        dpop: RawDpop,
        /// The switch that works without this file.
        kill_switch: RawKillSwitch,
        /// Classes of assurance, as the `assurance` of providers yields them, the weakest first: what `assurance_floor` and `assurance_at_least` compare. Default `[pwd, mfa, hwk]`.
        assurance: List<At<String>>,
        /// Logs and traces.
        telemetry: RawTelemetry,
        /// How our own pages look.
        pages: RawPages,
        /// The record of what was decided.
        audit: RawAudit,
        /// What watches the stages of rollouts, by name.
        guardrails: Named<RawGuardrails>,
        /// By application: who gives a second opinion about people who were let in.
        shadow: Named<RawShadow>,
        /// How long what is known of people is kept.
        retention: RawRetention,
        /// Whom exercises may touch.
        drills: RawDrills,
        @later "revocation", "links", "shared_signals";
    }

    /// Whom exercises may touch.
    RawDrills {
        /// The cohort of the test accounts, which says of each who they are (`subjects`, `group`, `claim`, `email_domain`, `client_id`): of nobody else `authferry drill credential-leak` revokes anything, and nobody else's credentials are presented by `provider-load`. Without it neither can begin.
        test_accounts: At<String>,
    }

    /// Who made this revision of the file, and why: for people; only `acknowledge` and `recall` change anything.
    RawChange {
        /// Who made the change.
        actor: At<String>,
        /// Where it was asked for.
        ticket: At<String>,
        /// Why.
        reason: At<String>,
        /// A finding of the checks that is meant: `skip` for a stage or mode that is jumped over, `reshuffle` for a changed salt, unit or bucket key, in a reload or at a start.
        acknowledge: At<Acknowledge>,
        /// So many people may go back to the old provider or be newly refused by this revision, of those let in within `retention.facts`; `authferry plan` counts them. Counts once: with a `change` that is word for word as in the running file, it says nothing of this revision. Default: `audit.max_recall`.
        recall: At<Whole>,
    }

    /// How our own pages look: those of sign-in, sign-out and errors. They have no script unless `keep_fragment` is said, and nothing comes from elsewhere.
    RawPages {
        /// A style sheet (CSS) in the place of ours. It stands in the page itself, allowed by its hash: at most 64 KiB, with no `@import`, `url(` or `<`. Read when the configuration is.
        style: At<PathBuf>,
        /// The address of a page of yours that every page links as "Help", such as `https://intranet.corp.example/signin`.
        help: At<String>,
        /// Whether a person whose login goes to the new provider (`to`) is told so once in each browser, on a page with one link; and once where their logins go back to the old provider again. Whose last sign-in at the new one in this browser said that their password was changed since they moved (`password_changed` among the `claims` of `to`) is told since when, that the one from before counts now, and where to choose another (`accounts.FROM.password`). Default `false`.
        changed: At<bool>,
        /// What people are told that a provider is called, where they choose one (`assign: [{ choose: true }]`), as `provider: text`: at most 80 characters. Default: its name.
        providers: Named<At<String>>,
        /// Whether what stands behind `#` in an address survives a sign-in, as single-page applications need it. Whoever is sent to a sign-in then gets a page with one script first (allowed by its hash), which remembers it for ten minutes in a cookie, at most 1 KiB; without scripts the page has a link, and the part is lost. Default `false`.
        keep_fragment: At<bool>,
        /// Where people look after their account, by provider: whoever opens `/.well-known/change-password` or `/.authferry/account` is sent to the one that judges their password now, if a session says who they are, or else where they would sign in. Where none of an application's providers has such a page, these addresses are the application's own, or nobody's.
        accounts: Named<RawAccountPages>,
    }

    /// The pages of one provider about an account there.
    RawAccountPages {
        /// The address of the page on which a password is changed: `/.well-known/change-password` leads there (the path that browsers and password managers look for).
        password: At<String>,
        /// The address of the page about the account: `/.authferry/account` leads there. Without it, that one leads to the page of `password`.
        profile: At<String>,
    }

    /// A rule of the strict check that does not hold, and why that is meant.
    RawWaiver {
        /// Its id, such as `AFS010`. Required.
        rule: At<String>,
        /// The path below which it is waived, such as `apps.crm`. Default: everywhere.
        at: At<String>,
        /// Why. Required.
        reason: At<String>,
    }

    /// Where a secret stands: never in the configuration itself.
    one of RawSecret {
        /// A file with the secret; one line break at its end is not part of it.
        file: At<PathBuf>,
        /// An environment variable with the secret.
        env: At<String>,
    }

    /// A file.
    RawFile {
        /// Its path. Required.
        file: At<PathBuf>,
    }

    /// A certificate and its private key, in PEM.
    RawCertificate {
        /// The certificate chain, the own certificate first. Required.
        certificate: RawFile,
        /// The private key. Required.
        key: RawFile,
    }

    /// Keys. A key is 32 bytes: as they are, as 64 hexadecimal digits, or in base64.
    RawSecrets {
        /// The key of the bucket hash: whoever has it knows who is in a canary. Default: generated. Changing it moves people.
        bucket_key: RawSecretText,
        /// The keys that seal cookies and sessions: the first seals, all open. Default: generated.
        session_keys: List<RawSecretText>,
        /// The key of the pseudonyms in logs. Default: generated. Not reloaded.
        pseudonym_key: RawSecretText,
        /// The keys that sign what we mint: assertions for applications and providers, exchanged tokens.
        signing: RawSigning,
    }

    /// The kill switch.
    RawKillSwitch {
        /// The file: lines of `freeze`, `legacy`, `modern` or `deny`, each with an optional ` rollout=NAME`. Default `state_dir/kill`. Not reloaded.
        file: At<PathBuf>,
        /// How often the file is looked at where the file system does not tell that something has happened to it (some network mounts); else that is at once. What it loosens counts when the file has said so for 50 ms, or if it is empty or gone for one `poll`: it may be half written. From `10ms` to `500ms`. Default `200ms`. Not reloaded.
        poll: At<crate::config::scalar::Span>,
        /// What the position `legacy` does with sessions of the new provider: they live on (`keep`), or they and every token that it issued before end for good (`revoke`, for when the wrong people got in), also at a start in this position. Default `keep`.
        modern_sessions: At<ModernSessions>,
    }

    /// The record of what was decided: applied configurations, steps of rollouts, the kill switch. Each record carries the hash of the one before.
    RawAudit {
        /// The file, JSON lines. Default `state_dir/decisions.jsonl`. Not reloaded.
        file: At<PathBuf>,
        /// Whether `change` must name who and why. Default `false`.
        require_change: At<bool>,
        /// How many people a reload may send back to the old provider or newly refuse, of those let in within `retention.facts` (of them the last 10000, by each instance and until it ends: after a restart it knows nobody, so run `authferry plan` before one). More of them need `change.recall`. No more than this may start at the old provider again by a step forward of a rollout either (`ctl promote --recall` for once). Default `0`.
        max_recall: At<Whole>,
        /// Where every record goes as well. Default: nowhere. Not reloaded.
        mirror: List<At<MirrorWord>>,
    }

    /// Logs and traces.
    RawTelemetry {
        /// Access lines, in JSON. Not reloaded.
        access_log: RawAccessLog,
        /// Traces. Not reloaded.
        traces: RawTraces,
        /// What lines say, and which are written. Not reloaded.
        log: RawLog,
        /// Bounds on metrics. Not reloaded.
        metrics: RawMetricBounds,
    }

    /// What access and decision lines say, and which are written.
    RawLog {
        /// How they look: one JSON object a line, which is all there is. Default `json`. Not reloaded.
        format: At<LogFormat>,
        /// How they name people: by pseudonyms, or not at all (`omit`). Default `pseudonym`. Not reloaded.
        subjects: At<LogSubjects>,
        /// The share of good requests (a status below 400, nobody refused, nothing broken off) whose access line is written, from `0` to `1` with at most six decimals; every other line is. Default `1`. Not reloaded.
        sample_success: At<Decimal>,
    }

    /// Bounds on metrics.
    RawMetricBounds {
        /// Series that one family may have; what is beyond shares one series whose labels are `other`. From 100 to 100000. Default `2000`. Not reloaded.
        max_series_per_family: At<Whole>,
    }

    /// Where access lines go.
    one of RawAccessLog {
        /// Standard output, or nowhere. Default `stdout`. Not reloaded.
        to: At<AccessLogTo>,
        /// A file; opened again on SIGUSR1. Not reloaded.
        file: At<PathBuf>,
    }

    /// Traces.
    RawTraces {
        /// Where traces go (OTLP over HTTP with protobuf), such as `http://otel:4318/v1/traces`. Without it, nowhere. Not reloaded.
        otlp: At<String>,
        /// The percent of requests that are traced where the client does not decide; one decimal. Default `1`. Not reloaded.
        sample_percent: At<crate::rollout::Percent>,
    }
}

words! {
    /// Findings that are meant.
    Acknowledge {
        /// A stage or mode is jumped over.
        "skip" => Skip,
        /// Salt, unit or bucket key has changed.
        "reshuffle" => Reshuffle,
    }

    /// Where records go as well.
    MirrorWord {
        /// Standard output.
        "stdout" => Stdout,
    }

    /// What happens to sessions of the new provider.
    ModernSessions {
        /// They live on.
        "keep" => Keep,
        /// They end.
        "revoke" => Revoke,
    }

    /// How lines look.
    LogFormat {
        /// One JSON object a line.
        "json" => Json,
    }

    /// How lines name people.
    LogSubjects {
        /// By pseudonyms.
        "pseudonym" => Pseudonym,
        /// Not at all.
        "omit" => Omit,
    }

    /// Where access lines go.
    AccessLogTo {
        /// Standard output.
        "stdout" => Stdout,
        /// Nowhere.
        "nowhere" => Nowhere,
    }
}

/// A secret by reference. A text in its place is a secret in clear text: refused, and never quoted.
#[derive(Debug)]
pub(crate) struct RawSecretText(pub(crate) RawSecret);

impl Shape for RawSecretText {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        if matches!(node.content, Content::Scalar(_)) {
            report.blot(node.mark);
            report
                .error(node.mark, "a secret in clear text")
                .hint("put it in a file or an environment variable: `{ file: /run/secrets/… }` or `{ env: … }`");
            return None;
        }
        RawSecret::read(node, report).map(Self)
    }
}

impl JsonSchema for RawSecretText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        RawSecret::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<RawSecret>()
    }
}
