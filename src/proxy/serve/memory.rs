//! How much memory is in use, looked at a few times a second: while it is short, new connections and requests are turned
//! away, before the system ends the process.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Weak;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::proxy::serve::slots::Slots;
use crate::proxy::settings::Limits;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The limit of the system is read again every so many looks.
const READ_AGAIN: u32 = 50;

/// Where the system tells its limits.
const GROUPS: &str = "/sys/fs/cgroup";

/// A limit from here on is none.
const UNLIMITED: u64 = 1 << 60;

/// Watches until the slots are gone.
///
/// # Errors
///
/// When there is no thread to be had.
pub(crate) fn watch(slots: &Arc<Slots>, limits: &Arc<ArcSwap<Limits>>) -> io::Result<()> {
    let (slots, limits) = (Arc::downgrade(slots), limits.clone());
    thread::Builder::new()
        .name("memory".to_owned())
        .spawn(move || look(&slots, &limits))?;
    Ok(())
}

fn look(slots: &Weak<Slots>, limits: &ArcSwap<Limits>) {
    let mut short = false;
    let mut system = None;
    let mut looks = 0_u32;
    while let Some(slots) = slots.upgrade() {
        if looks.is_multiple_of(READ_AGAIN) {
            system = of_system();
        }
        looks = looks.wrapping_add(1);
        // Four fifths: the rest is for what is under way.
        let bound = limits
            .load()
            .memory
            .or_else(|| system.map(|most| most / 5 * 4));
        let used = bound.and_then(|_| resident());
        let now = match (used, bound) {
            (Some(used), Some(bound)) => is_short(short, used, bound),
            _ => false,
        };
        if now != short {
            short = now;
            slots.set_short(short);
            let (used, bound) = (used.unwrap_or(0) >> 20, bound.unwrap_or(0) >> 20);
            if short {
                tracing::warn!(
                    used_mib = used,
                    bound_mib = bound,
                    "Memory is short: new connections and requests are turned away."
                );
            } else {
                tracing::info!(used_mib = used, "There is memory again.");
            }
        }
        drop(slots);
        thread::sleep(LOOK);
    }
}

/// It is short from the bound on, until a twentieth is free below it.
const fn is_short(before: bool, used: u64, bound: u64) -> bool {
    if before {
        bound - bound / 20 <= used
    } else {
        bound <= used
    }
}

/// Resident memory of this process in bytes (proc(5)).
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    resident_in(&status)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// The memory limit of the control group, its ancestors included (cgroups(7)).
fn of_system() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    files(&own)
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
        .filter(|limit| *limit < UNLIMITED)
        .min()
}

/// The files that may limit a process with this `/proc/self/cgroup`, in both versions of the interface.
fn files(own: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, name) = if controllers.is_empty() {
            (Path::new(GROUPS).to_owned(), "memory.max")
        } else if controllers.split(',').any(|one| one == "memory") {
            (Path::new(GROUPS).join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        // In a container the path may be that of the host: then only the root is there.
        let group = Path::new(group.trim_start_matches('/'));
        let ancestors = group
            .ancestors()
            .filter(|one| !one.as_os_str().is_empty())
            .map(|one| root.join(one).join(name));
        found.extend(ancestors);
        found.push(root.join(name));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_until_some_of_it_is_free() {
        assert!(!is_short(false, 99, 100));
        assert!(is_short(false, 100, 100));
        assert!(is_short(true, 95, 100));
        assert!(!is_short(true, 94, 100));
    }

    #[test]
    fn limits_are_looked_for_where_either_version_keeps_them() {
        let paths = |own: &str| -> Vec<String> {
            let found = files(own);
            found.iter().map(|p| p.display().to_string()).collect()
        };
        assert_eq!(
            paths("0::/system.slice/authferry.service\n"),
            [
                "/sys/fs/cgroup/system.slice/authferry.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            paths("9:cpu,cpuacct:/a\n4:memory:/a\nnonsense\n"),
            [
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
        assert_eq!(paths("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn the_system_tells_what_is_in_use() {
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12 << 10));
        assert_eq!(resident_in("Name:\tx\n"), None);
        assert!(resident().is_some_and(|bytes| (1 << 20) < bytes));
    }
}
