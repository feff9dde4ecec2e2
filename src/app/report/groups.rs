//! `groups`: which groups of a provider have no role, so that the map can be completed.

use crate::admin::ReportTable;
use crate::admin::ReportView;
use crate::app::process::Process;
use crate::app::report::moment;
use crate::config::settings::Settings;

/// Groups without a role, by provider: what has one meanwhile is not among them.
pub(super) fn groups(process: &Process, settings: &Settings, view: &mut ReportView) {
    let mut table = ReportTable::new(
        "Groups without a role",
        ["provider", "group", "times", "last"],
    );
    for known in process.unmatched.all() {
        let Some(map) = settings.roles.get(&known.provider) else {
            continue;
        };
        let open = known.groups.iter();
        for (group, times) in open.filter(|(group, _)| !map.groups.contains_key(group)) {
            table.row([
                known.provider.as_str().into(),
                (**group).into(),
                times.count.into(),
                moment(times.last).into(),
            ]);
        }
        if 0 < known.more {
            view.notes.push(format!(
                "{}: {} times there was another group; 256 are remembered by name",
                known.provider, known.more
            ));
        }
    }
    for (provider, map) in &settings.roles {
        if map.refuse_unmatched {
            view.notes.push(format!(
                "{provider}: whoever has such a group is refused (`unmatched: refuse`)"
            ));
        }
    }
    view.notes.push(String::from(
        "of this instance, since its start; a person counts as often as they are judged anew",
    ));
    view.notes.sort();
    view.tables = vec![table];
}
