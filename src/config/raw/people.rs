//! `identity`, `sessions`, `cohorts`: who is who, and what is remembered.

use std::path::PathBuf;

use crate::config::raw::Given;
use crate::config::raw::RawFile;
use crate::config::raw::RawLinkClaim;
use crate::config::raw::RawSecretText;
use crate::config::scalar::Network;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::Named;
use crate::config::shape::mappings;
use crate::config::shape::words;

mappings! {
    /// What the groups of a provider mean. The result does not hang on the order of anything.
    RawRoles {
        /// Roles by group, as `group: [role]`; groups are compared byte for byte. They become the attribute `roles`. Required.
        groups: Named<List<At<String>>>,
        /// Scopes by role, as `role: [scope]`: for credentials that have no scopes, such as sessions and passwords; for a token without any see `scopes_for_tokens`. A token keeps those that its client was given.
        scopes: Named<List<At<String>>>,
        /// Whether a token that says nothing of scopes gets those of its person's roles as well, whichever client it is of: that is more than was presented, where the client was given none (`AFS028`). Default `false`.
        scopes_for_tokens: At<bool>,
        /// What becomes of somebody with a group that stands nowhere: it is counted (`authferry_unmatched_groups_total`; `authferry report groups` names the groups), or they are refused (403). Default `count`.
        unmatched: At<Unmatched>,
    }

    /// Who is one person across providers.
    RawIdentity {
        /// The name of a person that is the same at both providers. Required.
        canonical: RawCanonical,
        /// Further sources of links, beside what providers say of the canonical name. Names and lists are asked together, and two that disagree are a conflict; pairwise subjects are not computed (people who have them are linked by a list), and no directory is asked since when an address is its owner's (there is no `link_grace`); `claim`s are asked in order, about accounts without a name.
        links: List<RawLink>,
        /// What becomes of an account of the new provider (`to`) that is joined with nobody: it is a person of its own (`alone`), its owner signs in at the old provider while the stage takes logins there (`from`; any other credential is refused), or it is refused. Nobody is given an account for it: there is no `provision` here (of a password that moves see `provisioning`). Default `alone`.
        on_missing: At<OnMissingWord>,
        /// What becomes of an account of the new provider that may be somebody else's, because it is not the only one of which the same is said. It gets no session and its tokens are refused (403); while the stage takes logins at the old provider, its owner signs in there once more, as before. `authferry link set` resolves it. Default `deny`.
        on_conflict: At<OnConflictWord>,
        /// Whom the other provider shuts out as well: an account that one of them has disabled, or locked until somebody unlocks it, lets its person in at neither (403), whoever vouches, while both run (`canary`, `modern-primary`). Each provider that has a `directory` is asked who that is; whose account it is must be known by a link, by `canonical` or by an identifier of a `claim`, never by an address. A wrong password or a lock that passes by itself says nothing. A directory that does not answer bars nobody and lets nobody back in: only its word that the account may be used again does, or `authferry revoke lift`. `check` warns where both providers of a rollout that moves people can be asked and nobody asks them. Default: each provider speaks for its own accounts.
        denials: At<DenialsWord>,
        /// How often they are asked, by one instance for all: so soon it holds, everywhere two seconds later. From `5s` to `1h`. Default `1m`.
        denials_every: At<Span>,
    }

    /// A source of links: exactly one key.
    one of RawLink {
        /// A list of people whom somebody has linked.
        file: RawLinkFile,
        /// A person whose new account is joined with nobody signs in at the old provider as well, within ten minutes and in the same browser, and says on a page of ours within two minutes that both are theirs; the two accounts are linked from then on. Both sign-ins are new ones: a session that somebody has left open at a provider proves nothing, nor does a provider whose clock is more than 5 s behind. Both providers need a login.
        prove_both: At<Given>,
        /// Accounts of two providers of which the same is said.
        claim: RawLinkClaim,
    }

    /// A list of people: a CSV file with a header. Each row names a person by the attributes of `identity.canonical`, one column each, and their accounts.
    RawLinkFile {
        /// The file; read when the configuration is. Required.
        path: At<PathBuf>,
        /// The column with the subjects (`sub`) of each provider, as `provider: column`. Required.
        columns: Named<At<String>>,
        /// SHA-256 of the file, hex: another file is refused. Required.
        sha256: At<String>,
    }

    /// The name of a person that is the same at both providers: what buckets, pins and records speak about.
    RawCanonical {
        /// A template over attributes, such as `hr:{employee_id}`. Required. Changing it makes everybody a new person.
        template: At<String>,
        /// What is done to each value first. Default: nothing.
        normalise: List<At<NormaliseWord>>,
    }

    /// Our own sessions.
    RawSessions {
        /// Their cookie.
        cookie: RawCookie,
        /// Where they are kept, with pins and links. A million sessions take a file of 0.9 GiB, and of 2.8 GiB where the provider has an `end_session_endpoint`: then each keeps its ID token, which a sign-out there has to show. Default `embedded`. Not reloaded.
        store: At<StoreWord>,
        /// The server of `store: redis`. Not reloaded.
        redis: RawRedis,
        /// A session ends after this long without a request. From `1m` to `30d`. Default `30m`.
        idle: At<Span>,
        /// A session ends this long after its login. From `1m` to `90d`. Default `12h`.
        absolute: At<Span>,
        /// How often a session is confirmed at its owner, with the refresh token of its login: asked for at about 80 % of this time, or of the access token's life if that is shorter. While the owner is away, a session counts one such time more. A login that brought no refresh token cannot be confirmed: its session lasts to its own end, and only a logout, a revocation or `identity.denials` ends it sooner; many providers issue one for the scope `offline_access` only. From `1s` to `24h`. Default `5m`.
        revalidate: At<Span>,
        /// Sessions of one person at a time, at both sides together; one more ends the oldest. From 1 to 10000. Default `50`.
        max_per_subject: At<Whole>,
        /// Ways to take a session of the old side (`from`) over to the new one. Default: none; a session ends, and the next login is where its person is assigned.
        carry_over: List<At<CarryOverWord>>,
        /// How often `carry_over: [silent]` tries.
        silent: RawSilent,
        /// How `carry_over: [exchange]` asks.
        exchange: RawSessionExchange,
        /// Whether a session lives as these keys say (`configured`), or, while both sides of a rollout run, no longer than the shorter of the two providers lets one (`min`): by the life of their refresh tokens (`refresh_expires_in`), as each has said it at its last login, at whatever instance. That bounds the whole session; `idle` stays as it is. Default `configured`.
        lifetime_policy: At<LifetimePolicyWord>,
    }

    /// A person with a session of the old side who is assigned to the new one, and opens a page, is asked after there without a page being shown (`prompt=none`). Only if the new provider says at once that it is the same person does the session move; in any other case it stays as it is.
    RawSilent {
        /// How long a browser is left alone after a try. From `1h` to `30d`. Default `24h`.
        retry_after: At<Span>,
        /// Tries for one person within a day, in all browsers together. From 1 to 24. Default `2`.
        max_per_subject_per_day: At<Whole>,
        /// During which requests: somebody opens a page in a tab (`top_level_get`), and never a script, a form or a frame. Default `top_level_get`.
        during: At<DuringWord>,
    }

    /// How long what is known of people is kept. Sessions end by `sessions.idle` and `sessions.absolute`; whose they were is known until the latter, sealed, so that what is said of them later is understood; the ledger (`audit.file`) is a chain and is never cut; `authferry forget` erases what is kept of one person.
    RawRetention {
        /// Which accounts a person has: for so long after the person was seen last, at any provider. Who comes later is linked anew, as at the first sighting; so is whoever proved both, and an operator's decision goes too. From `30d`. Default: for good. Not reloaded.
        links: At<Span>,
        /// Whose password is judged by the new provider: for so long after it was used last, under each name that it is used with. After that the old provider judges again what comes with that name, so this is longer than anybody stays away while the old side runs. From `90d`. Default: for good. Not reloaded.
        passwords: At<Span>,
        /// Who has been on the new side: for so long after the last login there. From `1d` to `400d`. Default `400d`. Not reloaded.
        pins: At<Span>,
        /// What second opinions found (`report divergences`, and what gates of a stage count). From `1d` to `400d`. Default `30d`. Not reloaded.
        findings: At<Span>,
        /// Who still comes with credentials of an old provider: at least as long as `legacy_credentials_seen.within` asks. From `1d` to `400d`. Default `91d`. Not reloaded.
        legacy_usage: At<Span>,
        /// Which accounts it is in doubt of whose they are: for so long after they were refused last, no longer than `links`. They stay refused; it is what `report unlinked` and gates of a stage count. From `1d` to `400d`. Default `30d`. Not reloaded.
        conflicts: At<Span>,
        /// What a browser remembers of itself in a cookie of its own (`NAME_dev`: who signed in last, as digests, and that they have moved; with it who wants to be among the first): for so long after the last sign-in. Who comes later is a new browser, and is assigned like one. From `1d` to `400d`, the longest that browsers allow. Default `400d`.
        browsers: At<Span>,
        /// What somebody typed in when their session was over (`preserve_post`), until they are signed in and send it. From `1m` to `1h`. Default `10m`.
        forms: At<Span>,
        /// Who was let in lately, in memory alone: the people whom a `plan` is made for. From `1h` to `24h`. Default `24h`. Not reloaded.
        facts: At<Span>,
        /// What was revoked, and by whom: at least this long. Whatever it says, a revocation is kept as long as what it speaks about may live. To `400d`. Default: that long.
        revocations: At<Span>,
    }

    /// By what a session of the old side becomes one of the new provider.
    RawSessionExchange {
        /// The name of an `exchange` of the kind `assertion` at the new provider. Default: the only one.
        by: At<String>,
    }

    /// A Redis (6.2 or newer) or Valkey server. Nothing in it opens a session. It must not evict: `maxmemory-policy noeviction`.
    RawRedis {
        /// Where it is: `redis://HOST:PORT` or, over TLS, `rediss://HOST:PORT`; `/N` at its end is the database. Cleartext is for loopback only. Required. Not reloaded.
        url: At<String>,
        /// The ACL user. Default: the server's default user. Not reloaded.
        username: At<String>,
        /// The password. Not reloaded.
        password: RawSecretText,
        /// CA certificates in PEM, instead of the system's, for `rediss`. Not reloaded.
        ca: RawFile,
        /// What our keys and channels begin with. Default `authferry:`. Not reloaded.
        prefix: At<String>,
    }

    /// The cookie of our sessions.
    RawCookie {
        /// Its name. Default `__Host-authferry`; `authferry` where every public listener is cleartext on loopback.
        name: At<String>,
        /// Which requests of other sites bring it along: links (`lax`), none (`strict`; a login then ends on a page that goes on by itself), or all (`none`, over TLS alone; an application that is shown within other sites must then know by itself which requests are its own). Other cookies of ours are `lax`. Default `lax`.
        same_site: At<SameSiteWord>,
    }

    /// A group of people or requests: exactly one matcher.
    one of RawCohort {
        /// These people, by canonical name.
        subjects: List<At<String>>,
        /// The people in a file, one canonical name a line; read when the configuration is.
        subjects_file: At<PathBuf>,
        /// People whose verified e-mail address lies in one of these domains.
        email_domain: List<At<String>>,
        /// People whom a provider lists in a group.
        group: RawGroup,
        /// People of whom a provider says something.
        claim: RawClaim,
        /// OAuth clients.
        client_id: List<At<String>>,
        /// Client addresses. Steers a login; never widens acceptance.
        cidr: List<At<Network>>,
        /// Hosts.
        host: List<At<String>>,
        /// Paths; a trailing `*` matches any rest.
        path: List<At<String>>,
        /// Methods.
        method: List<At<String>>,
        /// Applications.
        app: List<At<String>>,
        /// A header that trusted peers set. Steers a login; never widens acceptance.
        header: RawHeaderMatch,
        /// All of these.
        all: List<RawCohort>,
        /// Any of these.
        any: List<RawCohort>,
        /// Everybody else.
        not: Box<RawCohort>,
        /// Browsers that brought this cookie, sealed by us for the host: `/.authferry/optin` shows somebody who is signed in a button that sets it (for 400 days), and one that takes it away. Its name begins with that of `sessions.cookie`, such as `__Host-authferry_optin`. Steers a login; never widens acceptance.
        signed_cookie: At<String>,
        /// People who call themselves so, whoever they are: whole, or by their end after a leading `*`, such as `*@partner.example`; large and small letters are the same. They have said it on our page (`before_known: identifier_first`), or a link has: `/.authferry/login?rd=/orders&login_hint=alice@partner.example`. Steers a login; never widens acceptance.
        login_hint: List<At<String>>,
    }

    /// People whom a provider lists in a group.
    RawGroup {
        /// Who must say so. Required.
        provider: At<String>,
        /// Any of these groups. Required.
        any_of: List<At<String>>,
    }

    /// People of whom a provider says something.
    RawClaim {
        /// Who must say so. Required.
        provider: At<String>,
        /// The attribute. Required.
        name: At<String>,
        /// Its value. Required.
        equals: At<String>,
    }

    /// A header that trusted peers set.
    RawHeaderMatch {
        /// Its name. Required.
        name: At<String>,
        /// Its value. Required.
        equals: At<String>,
        /// The peers who may set it. From anybody else it neither counts nor reaches an application. Required.
        trusted_from: List<At<Network>>,
    }
}

words! {
    /// Which requests of other sites bring a cookie along.
    SameSiteWord {
        /// Links.
        "lax" => Lax,
        /// None.
        "strict" => Strict,
        /// All.
        "none" => None,
    }

    /// How long sessions live.
    LifetimePolicyWord {
        /// As configured.
        "configured" => Configured,
        /// No longer than the shorter of both providers lets one.
        "min" => Min,
    }

    /// What becomes of somebody with a group that stands nowhere.
    Unmatched {
        /// The group is counted.
        "count" => Count,
        /// They are refused.
        "refuse" => Refuse,
    }

    /// A way to take a session of the old side over to the new one.
    CarryOverWord {
        /// A session of the old system itself (a cookie that one of its providers owns) gets one of ours beside it, which stands for it: confirmed at the old system every `revalidate`, for as long as the browser sends that very cookie with it. Nobody sees anything. Needs `session_probe.revoke`, so that a sign-out ends both. Where another proxy forwards (`forward_auth`), it has to pass our cookie on to the browser, as the files of `deploy/fronts` do.
        "wrap" => Wrap,
        /// A session of ours of the old side (signed in for, or wrapped) becomes one of the new provider when its person, who is assigned there, opens a page: the new provider is shown an assertion of ours (an `exchange` of the kind `assertion`) and must answer for the same person. The session gets a new id, ends no later than before and is confirmed in the same way; that of the old side is ended five seconds after the first use of the new one, at its owner too: its refresh token (RFC 7009), and the session of the old system that its cookie stands for (`session_probe.revoke`), unless an application gets that cookie (`forward_credentials`), or another one stays at that side (`provider`), which live by it. Taken out of the list, such sessions end when they are to be confirmed. The assertion is a grant of RFC 7523: sessions are not moved by a token exchange (RFC 8693). Nobody sees anything.
        "exchange" => Exchange,
        /// The new provider is asked without a page. Whoever signs out meanwhile stays signed out: of a session of the old system itself that system is asked again before it moves.
        "silent" => Silent,
        /// A password that comes with requests (Basic) moves: as with `basic: migrate`, in every stage that sends people to the new side. So does one that is typed into the form of an old application, where `upstream_form.fields` says how it is read.
        "credential" => Credential,
    }

    /// When somebody may be asked after.
    DuringWord {
        /// A page is opened in a tab.
        "top_level_get" => TopLevelGet,
    }

    /// What becomes of an account of the new provider that is joined with nobody.
    OnMissingWord {
        /// It is a person of its own.
        "alone" => Alone,
        /// Its owner signs in at the old provider.
        "from" => From,
        /// It is refused.
        "deny" => Deny,
    }

    /// What becomes of an account of the new provider that may be somebody else's.
    OnConflictWord {
        /// It is refused.
        "deny" => Deny,
    }

    /// Whom the other provider shuts out as well.
    DenialsWord {
        /// Whomever either of them does.
        "union" => Union,
    }

    /// A way to make spellings equal.
    NormaliseWord {
        /// White space at both ends goes.
        "trim" => Trim,
        /// Letters become small.
        "lowercase" => Lowercase,
        /// `00042` becomes `42`.
        "strip_leading_zeros" => StripLeadingZeros,
    }

    /// Where sessions are kept.
    StoreWord {
        /// In this process; gone with it.
        "memory" => Memory,
        /// In the file `store.redb` in `state_dir`: sessions outlive a restart.
        "embedded" => Embedded,
        /// In a server that several instances share.
        "redis" => Redis,
    }
}
