//! `legacy-usage`: who and what still presents credentials of the provider that people leave.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use crate::admin::ReportRequest;
use crate::admin::ReportTable;
use crate::admin::ReportView;
use crate::app::process::Process;
use crate::app::report::moment;
use crate::app::report::plans;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::control::Somebody;
use crate::control::Used;
use crate::identity::ProviderId;
use crate::rollout::AppId;

/// So many pseudonyms of those who came last.
const MAX_SHOWN: usize = 50;

/// People with one kind of credential, and when the last of them came.
type Use = (u64, UnixTime);
/// By application, class, client and network.
type Uses = BTreeMap<[String; 4], Use>;

/// Credentials of `from`, by application, class, client and network; and who came last.
pub(super) fn legacy(
    process: &Process,
    settings: &Settings,
    wanted: &ReportRequest,
    now: UnixTime,
    view: &mut ReportView,
) {
    let (people, more) = process.seen.all(now);
    let asked = |one: &&Somebody| {
        let app = wanted.app.as_deref();
        app.is_none_or(|app| one.app.as_str() == app)
    };
    let left = |app: &AppId| {
        let plan = plans(settings, wanted).find(|plan| plan.covers(app));
        plan.map(|plan| plan.from.clone())
    };
    let people = people.iter().filter(asked);
    let (uses, mut last) = counted(people, left, wanted.since_seconds, now);
    let mut table = ReportTable::new(
        "Credentials of the old provider",
        [
            "application",
            "credential",
            "client",
            "network",
            "people",
            "last seen",
        ],
    );
    for ([app, class, client, from], (count, latest)) in uses {
        table.row([
            app.into(),
            class.into(),
            client.into(),
            from.into(),
            count.into(),
            moment(latest).into(),
        ]);
    }
    last.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let mut who = ReportTable::new("Who came last", ["last seen", "application", "person"]);
    for (at, one) in last.into_iter().take(MAX_SHOWN) {
        let person = process.pseudonyms.of(&one.canonical).to_string();
        who.row([moment(at).into(), one.app.as_str().into(), person.into()]);
    }
    view.tables = vec![over_all(process, settings, wanted, now), table, who];
    view.notes = about(more);
    let (facts, kept) = (process.seen.keep(), process.stragglers.keep());
    view.notes.push(format!(
        "the first table is of all instances and over restarts, as far back as it is counted, {} days at most",
        kept.as_secs() / 86_400
    ));
    let asked = wanted.since_seconds.map(Duration::from_secs);
    if asked.is_some_and(|asked| facts < asked) {
        view.notes.push(format!(
            "the other tables know the last {} hours, which is less than was asked for",
            facts.as_secs() / 3_600
        ));
    }
}

/// Everybody who came with a credential of the old provider, by all instances and over restarts.
fn over_all(
    process: &Process,
    settings: &Settings,
    wanted: &ReportRequest,
    now: UnixTime,
) -> ReportTable {
    let title = "People who still come with credentials of the old provider";
    let columns = [
        "application",
        "provider",
        "people",
        "last seen",
        "counted since",
    ];
    let mut table = ReportTable::new(title, columns);
    let span = wanted
        .since_seconds
        .map_or(Duration::MAX, Duration::from_secs);
    for plan in plans(settings, wanted) {
        for app in &plan.apps {
            if wanted
                .app
                .as_deref()
                .is_some_and(|asked| asked != app.as_str())
            {
                continue;
            }
            let told = process.stragglers.told(app, &plan.from, span, now);
            let people = told.map_or(Value::Null, |told| match told.more {
                true => Value::from(format!("more than {}", told.people)),
                false => Value::from(told.people),
            });
            let last = told.and_then(|told| told.last);
            let when =
                |at: Option<UnixTime>| Value::from(at.map_or_else(|| "-".to_owned(), moment));
            table.row([
                app.as_str().into(),
                plan.from.as_str().into(),
                people,
                when(last),
                when(told.map(|told| told.since)),
            ]);
        }
    }
    table
}

/// What people used of the provider that their application leaves, and when each of them did so last: not when they were
/// here last, which whoever has moved is every day.
fn counted<'a>(
    people: impl Iterator<Item = &'a Somebody>,
    left: impl Fn(&AppId) -> Option<ProviderId>,
    since_seconds: Option<u64>,
    now: UnixTime,
) -> (Uses, Vec<(UnixTime, &'a Somebody)>) {
    let mut uses = Uses::new();
    let mut last = Vec::new();
    for one in people {
        let Some(from) = left(&one.app) else {
            continue;
        };
        let in_time = |used: &&Used| {
            let age = now.since(used.at).as_secs();
            used.by.provider == from && since_seconds.is_none_or(|span| age <= span)
        };
        let mut latest = None;
        for used in one.uses.iter().filter(in_time) {
            let client = used.by.client_id.as_deref().unwrap_or("-").to_owned();
            let network = one.address.map_or_else(|| "-".to_owned(), network);
            let class = used.class.as_str().to_owned();
            let (count, at) = uses
                .entry([one.app.to_string(), class, client, network])
                .or_default();
            *count += 1;
            *at = (*at).max(used.at);
            latest = latest.max(Some(used.at));
        }
        last.extend(latest.map(|at| (at, one)));
    }
    (uses, last)
}

/// How far back anything is known.
pub(super) fn about(more: bool) -> Vec<String> {
    let mut notes = vec![String::from(
        "of people whom this instance has let in within `retention.facts` (24 hours unless it is set), and since it started; counted once at each application",
    )];
    if more {
        notes.push(String::from("more people came than are kept in mind"));
    }
    notes
}

/// The network of an address: enough to find the team, not the person.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::CanonicalSubject;
    use crate::identity::ClaimMap;
    use crate::identity::CredentialClass;
    use crate::identity::Identity;
    use crate::identity::Issuer;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;

    /// Somebody who has moved comes with the new credential every hour; the old one is as old as it is.
    #[test]
    fn an_old_credential_was_seen_when_it_was_used_and_not_when_its_owner_came() {
        let hour = |n: u64| UnixTime::from_secs(1_000_000 + 3_600 * n);
        let used = |provider: &str, class, at| Used {
            class,
            by: Arc::new(Identity {
                provider: ProviderId::new(provider),
                key: SubjectKey {
                    issuer: Issuer::new("https://issuer.example"),
                    subject: Subject::try_from("f81d").unwrap(),
                },
                attributes: Arc::new(ClaimMap::default()),
                client_id: None,
                acr: None,
                scopes: Box::default(),
                delegation: crate::identity::Delegation::default(),
            }),
            at,
        };
        let person = CanonicalSubject::named("uid:anna").unwrap();
        let said = used("old", CredentialClass::Basic, hour(0));
        let way = ("crm.test", "/", "GET");
        let mut anna = Somebody::said(
            (AppId::new("crm"), person),
            (said.class, Arc::clone(&said.by)),
            way,
            None,
        );
        anna.uses = vec![said, used("new", CredentialClass::Session, hour(9))];
        anna.at = hour(9);
        let people = [anna];
        let since = |span| {
            let left = |_: &AppId| Some(ProviderId::new("old"));
            counted(people.iter(), left, span, hour(9))
        };
        let (uses, last) = since(None);
        assert_eq!(uses.values().collect::<Vec<_>>(), [&(1, hour(0))]);
        assert_eq!(last[0].0, hour(0));
        let (uses, last) = since(Some(3_600));
        assert!(
            uses.is_empty() && last.is_empty(),
            "she came, and not with that"
        );
    }

    #[test]
    fn an_address_is_told_as_its_network() {
        let told = |text: &str| network(text.parse().unwrap());
        assert_eq!(told("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(told("::ffff:192.0.2.77"), "192.0.2.0/24");
        assert_eq!(told("2001:db8:7:9::1"), "2001:db8:7::/48");
    }
}
