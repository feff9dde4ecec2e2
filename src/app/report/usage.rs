//! `legacy-usage`: who and what still presents credentials of the provider that people leave.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::admin::ReportRequest;
use crate::admin::ReportTable;
use crate::admin::ReportView;
use crate::app::process::Process;
use crate::app::report::moment;
use crate::app::report::plans;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::control::Somebody;

/// So many pseudonyms of those who came last.
const MAX_SHOWN: usize = 50;

/// People with one kind of credential, and when the last of them came.
type Use = (u64, UnixTime);

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
        let age = now.since(one.at).as_secs();
        app.is_none_or(|app| one.app.as_str() == app)
            && wanted.since_seconds.is_none_or(|span| age <= span)
    };
    let mut uses: BTreeMap<[String; 4], Use> = BTreeMap::new();
    let mut last = Vec::new();
    for one in people.iter().filter(asked) {
        let Some(plan) = plans(settings, wanted).find(|plan| plan.covers(&one.app)) else {
            continue;
        };
        let theirs = || one.uses.iter().filter(|(_, by)| by.provider == plan.from);
        for (class, by) in theirs() {
            let client = by.client_id.as_deref().unwrap_or("-").to_owned();
            let from = one.address.map_or_else(|| "-".to_owned(), network);
            let key = [one.app.to_string(), class.as_str().to_owned(), client, from];
            let (count, latest) = uses.entry(key).or_default();
            *count += 1;
            *latest = (*latest).max(one.at);
        }
        if theirs().next().is_some() {
            let who = process.pseudonyms.of(&one.canonical).to_string();
            last.push((one.at, one.app.to_string(), who));
        }
    }
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
    last.sort_by(|a, b| b.cmp(a));
    let mut who = ReportTable::new("Who came last", ["last seen", "application", "person"]);
    for (at, app, person) in last.into_iter().take(MAX_SHOWN) {
        who.row([moment(at).into(), app.into(), person.into()]);
    }
    view.tables = vec![table, who];
    view.notes = about(more);
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
    use super::*;

    #[test]
    fn an_address_is_told_as_its_network() {
        let told = |text: &str| network(text.parse().unwrap());
        assert_eq!(told("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(told("::ffff:192.0.2.77"), "192.0.2.0/24");
        assert_eq!(told("2001:db8:7:9::1"), "2001:db8:7::/48");
    }
}
