//! A rollout as `ctl` shows it: where it stands, what the guards say, what comes next.

use std::io;
use std::io::Write;

use crate::admin::GuardView;
use crate::admin::RolloutView;
use crate::cli::ctl::printable;

/// Writes one rollout.
pub(super) fn write(rollout: &RolloutView, out: &mut dyn Write) -> io::Result<()> {
    let percent = rollout
        .percent
        .map_or_else(String::new, |percent| format!(", {percent} %"));
    writeln!(
        out,
        "rollout        {}: {} -> {}, {} at {} ({}{percent}), apps {}",
        printable(&rollout.id),
        printable(&rollout.from),
        printable(&rollout.to),
        printable(&rollout.state),
        printable(&rollout.step),
        printable(&rollout.mode),
        printable(&rollout.apps.join(" ")),
    )?;
    if !rollout.why.is_empty() {
        writeln!(out, "  why          {}", printable(&rollout.why))?;
    }
    if rollout.persisted == Some(false) {
        writeln!(
            out,
            "note: it could not be written down, so a restart would forget it; it is tried again"
        )?;
    }
    if !rollout.guards.is_empty() {
        writeln!(
            out,
            "  guard        people new/old     bad new/old   ratio   ln E (trips at)   verdict"
        )?;
    }
    for guard in &rollout.guards {
        writeln!(out, "{}", line(guard))?;
    }
    for limit in &rollout.limits {
        let value = limit
            .value
            .map_or_else(|| String::from("not known"), |value| format!("{value}"));
        let verdict = printable(&limit.verdict);
        writeln!(
            out,
            "  {:<12} {:<50} {verdict}",
            printable(&limit.id),
            format!("{value} (trips above {})", limit.max),
        )?;
    }
    if let Some(next) = &rollout.next {
        let needs = if rollout.missing.is_empty() {
            String::from("it may")
        } else {
            rollout.missing.join("; ")
        };
        writeln!(
            out,
            "  next         {}: {}",
            printable(next),
            printable(&needs)
        )?;
    }
    for blocked in &rollout.blocked {
        let (reason, why) = (printable(&blocked.reason), printable(&blocked.why));
        writeln!(out, "  held up by   {reason}: {why}")?;
    }
    Ok(())
}

fn line(guard: &GuardView) -> String {
    let pair = |(new, old): (u64, u64)| format!("{new}/{old}");
    let ratio = guard
        .ratio
        .map_or_else(|| String::from("-"), |ratio| format!("{ratio:.2}"));
    format!(
        "  {:<12} {:<18} {:<13} {ratio:<7} {:<17} {}",
        printable(&guard.id),
        pair(guard.people),
        pair(guard.bad),
        format!("{:.2} ({:.2})", guard.log_e, guard.trip_at),
        printable(&guard.verdict),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::BlockedView;
    use crate::admin::LimitView;

    #[test]
    fn a_rollout_says_what_keeps_it() {
        let view = RolloutView {
            id: "crm-2026".into(),
            state: "baking".into(),
            step: "4-ramp/5".into(),
            next: Some("4-ramp/25".into()),
            missing: vec!["baked 15h40m of 24h".into()],
            blocked: vec![BlockedView {
                reason: "provider".into(),
                why: "modern is not ready".into(),
            }],
            guards: vec![GuardView {
                id: "login".into(),
                people: (402, 7_140),
                bad: (4, 71),
                ratio: Some(1.0),
                log_e: -2.86,
                trip_at: 5.7,
                verdict: "ok".into(),
            }],
            limits: vec![LimitView {
                id: "critical".into(),
                value: Some(2.0),
                max: 0.0,
                verdict: "tripped".into(),
            }],
            ..RolloutView::default()
        };
        let mut out = Vec::new();
        write(&view, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("baking at 4-ramp/5"), "{text}");
        assert!(text.contains("402/7140"), "{text}");
        assert!(text.contains("-2.86 (5.70)"), "{text}");
        assert!(text.contains("2 (trips above 0)"), "{text}");
        assert!(text.contains("4-ramp/25: baked 15h40m of 24h"), "{text}");
        let blocked = "held up by   provider: modern is not ready";
        assert!(text.contains(blocked), "{text}");
    }
}
