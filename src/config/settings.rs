//! The compiled configuration: the plain data of every module, in one value.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::admin;
use crate::auth::settings::KeptByLogins;
use crate::auth::settings::Pages;
use crate::auth::settings::Possession;
use crate::auth::settings::RoleMap;
use crate::auth::settings::Silent;
use crate::exchange;
use crate::identity::ProviderId;
use crate::issuer;
pub(crate) use crate::links::settings::Canonical;
use crate::providers;
use crate::proxy;
use crate::rollout;
use crate::session;
use crate::shadow;
use crate::telemetry;
use crate::telemetry::promql;
use crate::telemetry::webhook;

/// Everything a configuration file says, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// First 12 hex digits of the SHA-256 of the file.
    pub(crate) revision: Box<str>,
    /// SHA-256 of the file, hex.
    pub(crate) sha256: Box<str>,
    /// The file as it was read. Secrets stand in it by reference only.
    pub(crate) text: Box<str>,
    /// Where state lives. Not reloaded.
    pub(crate) state_dir: PathBuf,
    /// Listeners and limits.
    pub(crate) server: proxy::settings::Server,
    /// The admin listener. Not reloaded.
    pub(crate) admin: admin::settings::Settings,
    /// Logs, traces, metrics.
    pub(crate) telemetry: telemetry::settings::Settings,
    /// Providers.
    pub(crate) providers: Vec<providers::settings::Settings>,
    /// `identity.canonical`: who is one person across providers. `None`: nobody is joined.
    pub(crate) canonical: Option<Canonical>,
    /// `identity.denials: union`: whose word about barred accounts counts at every provider. `None`: each speaks for its own.
    pub(crate) denials: Option<Denials>,
    /// `roles`: what the groups of a provider mean.
    pub(crate) roles: std::collections::HashMap<ProviderId, RoleMap>,
    /// `dpop`: how proofs of possession are judged.
    pub(crate) possession: Possession,
    /// Our sessions.
    pub(crate) sessions: session::settings::Settings,
    /// `sessions.silent`: when people are asked after at the new provider. `None`: never.
    pub(crate) silent: Option<Silent>,
    /// `sessions.carry_over: [wrap]`: whether sessions of old systems get one of ours beside them.
    pub(crate) wrap: bool,
    /// `sessions.carry_over: [exchange]`: by which exchange sessions become those of a new provider.
    pub(crate) session_exchanges: Vec<(ProviderId, Box<str>)>,
    /// `drills.test_accounts`: the people whom exercises may touch.
    pub(crate) test_accounts: Option<rollout::CohortId>,
    /// `retention`: how long what is known of people is kept.
    pub(crate) retention: Retention,
    /// How our own pages look.
    pub(crate) pages: Pages,
    /// Whom guards ask what other systems count, by guardrails.
    pub(crate) prometheus: BTreeMap<Box<str>, promql::Source>,
    /// The hooks that stages ask before they are left, by rollout and stage.
    pub(crate) hooks: BTreeMap<(rollout::RolloutId, Box<str>), webhook::Source>,
    /// Classes of assurance, the weakest first.
    pub(crate) assurance: Vec<Box<str>>,
    /// Named cohorts.
    pub(crate) cohorts: rollout::Cohorts,
    /// Applications, with their hosts and routes.
    pub(crate) apps: Vec<proxy::settings::App>,
    /// Ways to turn a credential into the token that an upstream expects.
    pub(crate) exchanges: Vec<exchange::settings::Settings>,
    /// Our token endpoint.
    pub(crate) issuer: Option<issuer::settings::Settings>,
    /// The keys that sign what we mint.
    pub(crate) signing: exchange::settings::Ring,
    /// Rollouts in their present stage: as the file says, or as far as the controller has come.
    pub(crate) rollouts: Vec<rollout::Plan>,
    /// Rollouts with all their stages.
    pub(crate) courses: Vec<rollout::Course>,
    /// Fallbacks.
    pub(crate) fallbacks: Vec<rollout::Fallback>,
    /// Second opinions, by application.
    pub(crate) shadow: Vec<shadow::settings::Settings>,
    /// The provider of an app without a rollout, by app.
    pub(crate) single: Vec<(rollout::AppId, ProviderId)>,
    /// Rules of the strict check that are waived.
    pub(crate) waivers: Vec<crate::config::strict::Waiver>,
    /// The key of the bucket hash.
    pub(crate) bucket_key: rollout::BucketKey,
    /// The kill switch.
    pub(crate) kill_switch: KillSwitch,
    /// Who made this revision, and why.
    pub(crate) change: Change,
    /// The ledger.
    pub(crate) audit: Audit,
}

/// Who is asked which accounts may not be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Denials {
    /// How often. Default: every minute.
    pub(crate) every: Duration,
    /// The providers with a directory that a rollout leads from or to.
    pub(crate) providers: Vec<ProviderId>,
}

impl Settings {
    /// Whether a client of our token endpoint may ask about tokens.
    pub(crate) fn introspects(&self) -> bool {
        let mut clients = self.issuer.iter().flat_map(|issuer| &issuer.clients);
        clients.any(|client| client.introspect)
    }

    /// The providers whose accounts identity headers write (`link.PROVIDER_subject`).
    pub(crate) fn linked_in_headers(&self) -> Vec<ProviderId> {
        let rules = self.apps.iter().flat_map(|app| &app.identity_headers);
        let names = rules.flat_map(|rule| rule.template.names());
        let mut named: Vec<ProviderId> = names
            .filter_map(|name| name.strip_prefix("link.")?.strip_suffix("_subject"))
            .map(ProviderId::new)
            .collect();
        named.sort_unstable();
        named.dedup();
        named
    }
}

/// How long what is known of people is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Retention {
    /// Links, after their person was seen last. Default: for good. Not reloaded.
    pub(crate) links: Option<Duration>,
    /// Homes of passwords, after they were used last. Default: for good. Not reloaded.
    pub(crate) passwords: Option<Duration>,
    /// Pins. Default 400 days. Not reloaded.
    pub(crate) pins: Duration,
    /// What second opinions found. Default 30 days. Not reloaded.
    pub(crate) findings: Duration,
    /// Who still comes with old credentials. Default 91 days. Not reloaded.
    pub(crate) legacy_usage: Duration,
    /// Accounts in conflict. Default 30 days. Not reloaded.
    pub(crate) conflicts: Duration,
    /// What browsers remember of themselves, and forms.
    pub(crate) logins: KeptByLogins,
    /// Who was let in lately. Default 24 h. Not reloaded.
    pub(crate) facts: Duration,
    /// Revocations, at least. Default 0: as long as they are needed.
    pub(crate) revocations: Duration,
}

/// Who made a revision of the file, and why.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Change {
    /// Who.
    pub(crate) actor: Option<Box<str>>,
    /// Where it was asked for.
    pub(crate) ticket: Option<Box<str>>,
    /// Why.
    pub(crate) reason: Option<Box<str>>,
    /// A finding of the checks that is meant.
    pub(crate) acknowledged: Option<Meant>,
    /// So many people may go back or be newly refused.
    pub(crate) recall: Option<u64>,
}

/// What a file may do on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Meant {
    /// Jump over a stage or a mode.
    Skip,
    /// Put everybody into buckets anew.
    Reshuffle,
}

/// The ledger.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    /// The file. Default `state_dir/decisions.jsonl`. Not reloaded.
    pub(crate) file: PathBuf,
    /// Whether records also go to standard output. Not reloaded.
    pub(crate) mirror: bool,
    /// How many people a reload may send back or newly refuse. Default 0.
    pub(crate) max_recall: u64,
}

/// The kill switch.
#[derive(Clone, Debug)]
pub(crate) struct KillSwitch {
    /// The file. Default `state_dir/kill`.
    pub(crate) file: PathBuf,
    /// How often it is looked at. Default 200 ms.
    pub(crate) poll: Duration,
    /// Whether the position `legacy` ends what the new provider has vouched for.
    pub(crate) revokes: bool,
}
