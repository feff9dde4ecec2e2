//! `rollout`, `rollouts`: who moves when.

use crate::config::raw::RawSecretText;
use crate::config::scalar::Decimal;
use crate::config::scalar::Moment;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::Named;
use crate::config::shape::mappings;
use crate::config::shape::words;
use crate::rollout::Percent;

mappings! {
    /// The short form of a rollout: the same as an entry of `rollouts` called `default` with one stage `canary`.
    RawShortRollout {
        /// The applications that move. Default: all that name no `provider`.
        apps: List<At<String>>,
        /// The provider that people leave. Required.
        from: At<String>,
        /// The provider that people move to. Required.
        to: At<String>,
        /// How people are put into buckets. Required.
        bucketing: RawBucketing,
        /// Short for `assign: [{ percent: … }]`.
        percent: At<Percent>,
        /// Where new logins start; the first match wins, no match is `from`.
        assign: List<RawAssign>,
        /// By provider: exceptions from what the mode accepts.
        accept: Named<RawAccept>,
        /// API credentials of the other provider than the person's. Default `accept`.
        other_arm: At<OtherArmWord>,
        /// What watches it, and bounds how many begin at a provider that nobody comes back from; it takes nobody back by itself: that is for `control: controller` and `schedule`. The name of an entry of `guardrails`, or `none`: nothing does. Default: an entry without keys.
        guardrails: At<String>,
        @later "shadow", "ramp", "promote", "windows", "rollback", "control", "stages";
    }

    /// A rollout: people move from one provider to another, in stages.
    RawRollout {
        /// The applications that move. Required.
        apps: List<At<String>>,
        /// The provider that people leave. Required.
        from: At<String>,
        /// The provider that people move to. Required.
        to: At<String>,
        /// How people are put into buckets. Required.
        bucketing: RawBucketing,
        /// Who drives the stages. Where instances share a store, one of them leads with `controller` and with `schedule`, and none moves forward while the store is away: a moment of the schedule that passes meanwhile holds once it is back. Default `pinned`.
        control: At<ControlWord>,
        /// With `control: pinned`, the present stage: `ID`, or `ID/PERCENT` to set the percent of its one percent rule. Default: the only stage.
        pinned_stage: At<String>,
        /// The stages, in order. Required.
        stages: List<RawStage>,
        /// What watches the stages that name no guardrails of their own, as there.
        guardrails: At<String>,
        /// In which of its applications people are looked at a second time, in the stages that do not say so: the name of an entry of `shadow`. Default: in all, if no stage says so; else in none.
        shadow: At<String>,
    }

    /// How people are put into buckets.
    RawBucketing {
        /// Equal salts choose the same people first. Required. Changing it moves people.
        salt: At<String>,
        /// What is hashed once the person is known. Default `subject`.
        unit: At<UnitWord>,
        /// What is hashed before. Default `device`.
        before_known: At<BeforeKnownWord>,
        /// Whether a lower percent lets people stay who have moved. Default `hold`.
        on_decrease: At<OnDecreaseWord>,
        /// What happens when a moved person signs in at `from` on another device. Default `redirect`.
        pinned_at_from: At<PinnedAtFromWord>,
    }

    /// A stage of a rollout.
    RawStage {
        /// Its name. Required.
        id: At<String>,
        /// What it does with credentials and logins. Required.
        mode: At<ModeWord>,
        /// Where new logins start; the first match wins, no match is `from`.
        assign: List<RawAssign>,
        /// By provider: exceptions from what the mode accepts.
        accept: Named<RawAccept>,
        /// API credentials of the other provider than the person's. Default `accept`.
        other_arm: At<OtherArmWord>,
        /// What watches it, and takes people back by itself with `control: controller` and with `schedule`, whose later moments pass until a person resumes it: the name of an entry of `guardrails`, or `none`: nothing does, and nothing bounds how many begin at a provider that nobody comes back from. Default: as the rollout says; where that says nothing, an entry without keys watches stages that move people.
        guardrails: At<String>,
        /// When the next step may begin.
        promote: RawPromote,
        /// The steps of the rule `{ ramp: true }`.
        ramp: List<RawStep>,
        /// When the controller may go forward by itself. Default: always.
        windows: RawWindows,
        /// Where a rollback leads.
        rollback: RawRollback,
        /// What answers to credentials of `from` say.
        warn: RawWarn,
        /// Minutes in which credentials of `from` do not count, to find who still needs them. Browsers get a page (503, `Retry-After`) that says until when, and keep their sessions; nobody is sent to a sign-in at `from`.
        brownouts: List<RawBrownout>,
        /// With `control: schedule`: when it begins.
        at: At<Moment>,
        /// In which of its applications people are looked at a second time: the name of an entry of `shadow`. Default: as the rollout says.
        shadow: At<String>,
        @later "carry_over";
    }

    /// When the next step may begin.
    RawPromote {
        /// Whether a person says so. Default `manual`.
        when: At<PromoteWord>,
        /// How long the stage bakes; with a ramp each step says so. Default `0s`.
        min_bake: At<Span>,
        /// What must hold before the stage is left.
        require: RawStageRequire,
    }

    /// What must hold before a stage is left.
    RawStageRequire {
        /// So many people at the new provider, counted as `min_units` of a step. Default `0`.
        units: At<Whole>,
        /// The bad rate is surely (95 %) not above this: 30 people without a bad one prove 0.102, 100 prove 0.035, 1000 prove 0.0045.
        bad_rate_upper_bound: At<Decimal>,
        /// A switch back would lock out no more people than this, of those who have moved: no account at `from` is known, `from` has barred them (`denials`), their password at `to` was changed since they first signed in there by a page (`password_changed` among the `claims` of `to`), or they have signed in there with a class of `assurance` above those of `from`, which counts where some route of the applications takes none of those. Needs `identity.canonical`.
        rollback_exposure_max: At<Whole>,
        /// So many people of its applications were looked at a second time by `shadow` since the step began. Default `0`.
        compared_subjects: At<Whole>,
        /// `shadow` has found something critical about no more people than this since the step began; who differs in two critical classes counts twice. Default: not asked.
        critical: At<Whole>,
        /// The share of people who differ is surely (95 %, however often it is looked at) not above this, of those whom `shadow` looked at since the step began; who has differed once counts until the step is left. 300 people without a difference prove 0.013, 1000 prove 0.0045.
        divergence_upper_bound: At<Decimal>,
        /// Who may still come with credentials of `from`.
        legacy_credentials_seen: RawStillSeen,
        /// These exercises have passed in this stage (`authferry drill`): `modern-outage`, `legacy-outage`, `slow`, `rate-limited`, `introspection-garbage`, `keys-gone`, `rollback`, `jwks-rotation`, `bad-token-format`, `clock-skew`, `credential-leak`, `provider-load`. With a size, one as large or larger: `slow:2s`, `clock-skew:90s`, `provider-load:50` (calls a second).
        drills_passed: List<At<String>>,
        /// No larger share of people has no account at the other provider, of those who were let in within the last 24 hours, at whichever instance and over restarts. An account is known once it was seen here, or stands in a list of `identity.links`. Needs `identity.canonical`.
        unlinked_max: At<Decimal>,
        /// A hook of yours that has the last word.
        webhook: RawWebhook,
    }

    /// A hook that says whether the stage may be left, once its last step has baked: asked every 15 s, by the instance that leads, with a POST of `{"rollout": …, "step": …, "next": …}` as JSON (`next` is `null` where the rollout would be completed). 2xx is yes. Whatever else it answers, a redirect among it, and no answer hold the rollout: `ctl resume` has it asked again, and nothing bakes twice. With `no_data: wait` of the guardrails it is asked until it says yes.
    RawWebhook {
        /// Where. Cleartext on loopback only; certificates are checked against the roots of the system. Required.
        url: At<String>,
        /// A bearer token.
        token: RawSecretText,
        /// How long an answer may take. From `100ms` to `30s`. Default `5s`.
        timeout: At<Span>,
    }

    /// Who may still come with credentials of `from`: people who were let in with one, by all instances, by pseudonym.
    RawStillSeen {
        /// How far back it is looked; it must have been counted for so long, too. From `1h` to `90d`. Required.
        within: At<Span>,
        /// So many people. Default `0`.
        max: At<Whole>,
        /// Cohorts whose people do not count.
        except: List<At<String>>,
    }

    /// A step of a ramp.
    RawStep {
        /// The percent. Required.
        percent: At<Percent>,
        /// How long it bakes. Default `0s`.
        bake: At<Span>,
        /// So many people must have been seen at the new provider, by every guard that is waited for (not by one with `no_data: proceed`). Default `0`.
        min_units: At<Whole>,
        /// With `control: schedule`: when it begins.
        at: At<Moment>,
    }

    /// When the controller may go forward by itself. Going back needs no window.
    RawWindows {
        /// Days, hours and time zone, such as `Mon-Thu 07:00-15:00 Europe/Berlin`. Required.
        allow: At<String>,
        /// Days on which nothing goes forward.
        deny_dates: List<At<String>>,
    }

    /// Where a rollback leads.
    RawRollback {
        /// Where to. Default `previous_step`.
        to: At<RollbackWord>,
        /// What happens to sessions of the new provider. Where it leads to a stage of mode `legacy-only` none is honoured, whatever this says: who has moved signs in at the old one. Default `keep`.
        modern_sessions: At<RollbackSessions>,
    }

    /// What answers to credentials of `from` say.
    RawWarn {
        /// Whether they say anything (`Deprecation`, RFC 9745; `Sunset`, RFC 8594). Default `true`.
        headers: At<bool>,
        /// Since when they are deprecated. Default: since the stage began.
        deprecated: At<Moment>,
        /// When they stop working.
        sunset: At<Moment>,
        /// The URL of a page that says what to do instead: `Link` with `rel="deprecation"` (RFC 9745 §3).
        notice: At<String>,
    }

    /// Minutes in which credentials of `from` do not count.
    RawBrownout {
        /// When they begin. Required.
        at: At<Moment>,
        /// How long they last. From `1s` to `1d`. Required.
        r#for: At<Span>,
    }

    /// A rule: whom it concerns, how many of them, and where they go.
    RawAssign {
        /// Whom it concerns. Default: everybody.
        cohort: At<String>,
        /// How many of them, in percent. Default: all.
        percent: At<Percent>,
        /// The provider they go to. Default with `percent`: the rollout's `to`; otherwise required, but for `choose`.
        to: At<String>,
        /// When the rule ends.
        until: At<Moment>,
        /// `true`: its percent is that of the present step of the stage's `ramp`.
        ramp: At<bool>,
        /// `true`: they are asked, on a page of ours that names both providers (`pages.providers`), each time until they have signed in at `to`. Only in `canary`, and without `to`, `percent` and `until`. Who cannot be asked goes to `from`.
        choose: At<bool>,
    }

    /// Exceptions from what a mode accepts, for one provider.
    RawAccept {
        /// New logins. Default `allow`.
        new_logins: At<LoginWord>,
        /// Cohorts to whom the refusals do not apply.
        except: List<At<String>>,
        /// How long a login that began before the stage may still finish. Default `15m`.
        started_logins_grace: At<Span>,
        /// Sessions and tokens. Default `until_expiry`.
        sessions: At<SessionWord>,
        /// Passwords. Default `accept`.
        basic: At<BasicWord>,
        /// When every credential of the provider stops counting.
        deadline: At<Moment>,
    }
}

words! {
    /// What a rollback does with sessions of the new provider.
    RollbackSessions {
        /// They live on.
        "keep" => Keep,
        /// They end, and with them whatever the provider has vouched for.
        "revoke" => Revoke,
    }

    /// What a stage does.
    ModeWord {
        /// Everything at `from`.
        "legacy-only" => LegacyOnly,
        /// Everything at `from`, while another provider gives a second opinion: each application has an entry under `shadow`.
        "shadow" => Shadow,
        /// New logins by rule and percent.
        "canary" => Canary,
        /// New logins at `to`; credentials of `from` are drained.
        "modern-primary" => ModernPrimary,
        /// Credentials of `from` are refused.
        "modern-only" => ModernOnly,
    }

    /// Who drives the stages.
    ControlWord {
        /// The file.
        "pinned" => Pinned,
        /// Evidence, and people.
        "controller" => Controller,
        /// The clock, as far as the guards let it.
        "schedule" => Schedule,
    }

    /// Whether a person says that the next step begins.
    PromoteWord {
        /// A person says so.
        "manual" => Manual,
        /// As soon as it may, by evidence of people chosen by chance.
        "auto" => Auto,
    }

    /// Where a rollback leads.
    RollbackWord {
        /// The step before.
        "previous_step" => PreviousStep,
        /// The first step of the stage.
        "stage_start" => StageStart,
        /// Every new login starts at `from`.
        "from" => From,
    }

    /// What is hashed.
    UnitWord {
        /// The person.
        "subject" => Subject,
        /// The browser.
        "device" => Device,
        /// The OAuth client.
        "client_id" => ClientId,
    }

    /// What is hashed before the person is known.
    BeforeKnownWord {
        /// The browser.
        "device" => Device,
        /// The person, as far as they say who they are: a page of ours asks for an e-mail address or a user name where a rule of `canary` is reached that looks at the bucket or at a `login_hint`, and the provider that follows gets it as `login_hint`. The bucket is that of the person whom `identity.links` or `identity.canonical` find by it, or else that of what was typed; everybody gets the same page. Needs `unit: subject`. Nobody has to prove it: what they say steers where they sign in, and nothing else.
        "identifier_first" => IdentifierFirst,
    }

    /// What a lower percent does.
    OnDecreaseWord {
        /// Who has moved stays.
        "hold" => Hold,
        /// Who has moved goes back.
        "recall" => Recall,
    }

    /// What happens when a moved person signs in at `from`.
    PinnedAtFromWord {
        /// One sign-in at `to` follows.
        "redirect" => Redirect,
        /// It is accepted once.
        "allow" => Allow,
    }

    /// API credentials of the other provider.
    OtherArmWord {
        /// Their owner vouched for them.
        "accept" => Accept,
        /// They are exchanged for a token of the person's provider, by `exchange.other_arm` of the application.
        "exchange" => Exchange,
        /// They are refused.
        "reject" => Reject,
    }

    /// New logins.
    LoginWord {
        /// They may start.
        "allow" => Allow,
        /// They may not.
        "refuse" => Refuse,
    }

    /// Sessions and tokens.
    SessionWord {
        /// Until they expire by themselves.
        "until_expiry" => UntilExpiry,
        /// They are refused.
        "refuse" => Refuse,
    }

    /// Passwords.
    BasicWord {
        /// As the mode says.
        "accept" => Accept,
        /// As the mode says; and the password of somebody who is assigned to `to` moves there, once `from` has found it good: see `provisioning` of an `oidc` provider, and `upstream_form.fields` of a `session_probe` for those of a form. For `canary` and `modern-primary`. Who has moved stays so in the other stages, while any stage of the rollout says `migrate`; in `legacy-only` and `shadow`, and while the kill switch stands at `legacy`, `from` judges everybody.
        "migrate" => Migrate,
        /// They are refused.
        "refuse" => Refuse,
    }
}
