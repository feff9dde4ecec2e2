//! What a controller is doing with a rollout: its state, what comes next, and how far each guard is from tripping.

use std::fmt;

use crate::admin::console::html::Share;
use crate::admin::console::html::Span;
use crate::admin::console::html::Text;
use crate::admin::console::tables::fact;
use crate::admin::console::tables::head;
use crate::admin::rollouts::GuardView;
use crate::admin::rollouts::RolloutView;

/// What one rollout is at; nothing where no controller drives it.
pub(super) fn course(of: &RolloutView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if of.state.is_empty() {
        return Ok(());
    }
    f.write_str("<dl class=\"facts\">")?;
    let class = match of.state.as_str() {
        "baking" | "completed" => "good",
        "held" | "rolled_back" | "frozen" => "bad",
        _ => "warn",
    };
    fact(f, "State", class, &of.state)?;
    fact(f, "Step", "", &of.step)?;
    if of.persisted == Some(false) {
        let told = "no: a restart would forget it; it is tried again";
        fact(f, "Written down", "bad", told)?;
    }
    let baked = u32::try_from(of.baked_seconds).unwrap_or(u32::MAX);
    fact(
        f,
        "In this step for",
        "",
        &Span(f64::from(baked)).to_string(),
    )?;
    if let Some(people) = &of.people {
        let told = format!(
            "{}, of whom {} have no account at {}; {} were sent back",
            people.modern, people.modern_born, of.from, people.recalled
        );
        fact(f, "People who have moved", "", &told)?;
        let out = people.locked_out.to_string();
        fact(f, "A switch back would lock out", "", &out)?;
        let doubted = people.conflict.to_string();
        fact(f, "Accounts in conflict", "", &doubted)?;
    }
    if !of.why.is_empty() {
        fact(f, "Why", "", &of.why)?;
    }
    if let Some(next) = &of.next {
        let needs = if of.missing.is_empty() {
            "it may".to_owned()
        } else {
            of.missing.join("; ")
        };
        fact(f, "Next", "", &format!("{next}: {needs}"))?;
    }
    for blocked in &of.blocked {
        let told = format!("{}: {}", blocked.reason, blocked.why);
        fact(f, "Held up by", "bad", &told)?;
    }
    f.write_str("</dl>")?;
    if of.guards.is_empty() {
        return limits(of, f);
    }
    head(
        f,
        "Guards in this step",
        &[
            "Guard",
            "People, new and old",
            "Bad, new and old",
            "Evidence, and where it trips",
            "Verdict",
        ],
    )?;
    for guard in &of.guards {
        row(guard, f)?;
    }
    f.write_str("</tbody></table></div>")?;
    limits(of, f)
}

/// What may not be more than so much.
fn limits(of: &RolloutView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if of.limits.is_empty() {
        return Ok(());
    }
    head(
        f,
        "Limits in this step",
        &["Guard", "Seen, and where it trips", "Verdict"],
    )?;
    for limit in &of.limits {
        let class = match limit.verdict.as_str() {
            "ok" => "good",
            "tripped" => "bad",
            _ => "warn",
        };
        write!(f, "<tr><th scope=\"row\">{}</th><td>", Text(&limit.id))?;
        match limit.value {
            Some(value) => bar(value, limit.max, f)?,
            None => f.write_str("not known")?,
        }
        write!(
            f,
            "</td><td class=\"{class}\">{}</td></tr>",
            Text(&limit.verdict)
        )?;
    }
    f.write_str("</tbody></table></div>")
}

/// A bar from nothing to what there is; where nothing may be, whatever there is stands behind the line.
fn bar(value: f64, max: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let line = 80.0;
    let width = match (value <= 0.0, max <= 0.0) {
        (true, _) => 0.0,
        (false, true) => 100.0,
        (false, false) => (value / max * line).min(100.0),
    };
    let class = if max < value { "bad" } else { "new" };
    write!(
        f,
        "<svg viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{value}, trips above {max}\">\
         <rect class=\"track\" width=\"100\" height=\"6\"/><rect class=\"{class}\" width=\"{width:.1}\" height=\"6\"/>\
         <rect class=\"trip\" x=\"{line}\" width=\"0.8\" height=\"6\"/></svg>{value} of {max}"
    )
}

fn row(guard: &GuardView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let class = match guard.verdict.as_str() {
        "ok" => "good",
        "tripped" => "bad",
        _ => "warn",
    };
    let (new, old) = (guard.people.0 as f64, guard.people.1 as f64);
    let (bad_new, bad_old) = (guard.bad.0 as f64, guard.bad.1 as f64);
    write!(
        f,
        "<tr><th scope=\"row\">{}</th><td class=\"n\">{new}, {old}</td><td class=\"n\">{bad_new} ({}), {bad_old} ({})</td><td>",
        Text(&guard.id),
        Share(bad_new, new),
        Share(bad_old, old)
    )?;
    chart(guard, f)?;
    write!(
        f,
        "</td><td class=\"{class}\">{}</td></tr>",
        Text(&guard.verdict)
    )
}

/// A bar from no evidence to what there is, on a scale that ends a little behind the line where the guard trips.
fn chart(guard: &GuardView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (log_e, trip_at) = (guard.log_e, guard.trip_at);
    if !log_e.is_finite() || !trip_at.is_finite() || trip_at <= 0.0 {
        return f.write_str("\u{2013}");
    }
    let line = 80.0;
    let width = (log_e.max(0.0) / trip_at * line).min(100.0);
    let class = if trip_at <= log_e { "bad" } else { "new" };
    write!(
        f,
        "<svg viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"evidence {log_e:.2}, trips at {trip_at:.2}\">\
         <rect class=\"track\" width=\"100\" height=\"6\"/><rect class=\"{class}\" width=\"{width:.1}\" height=\"6\"/>\
         <rect class=\"trip\" x=\"{line}\" width=\"0.8\" height=\"6\"/></svg>{log_e:.2} of {trip_at:.2}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::rollouts::BlockedView;
    use crate::admin::rollouts::LimitView;
    use crate::admin::rollouts::PeopleView;

    struct Shown(RolloutView);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            course(&self.0, f)
        }
    }

    #[test]
    fn a_limit_is_drawn_against_its_line() {
        let limit = |id: &str, value, max, verdict: &str| LimitView {
            id: id.into(),
            value,
            max,
            verdict: verdict.into(),
        };
        let view = RolloutView {
            state: "baking".into(),
            limits: vec![
                limit("critical", Some(1.0), 0.0, "tripped"),
                limit("tickets", Some(7.5), 15.0, "ok"),
                limit("<away>", None, 3.0, "no_data"),
            ],
            ..RolloutView::default()
        };
        let shown = Shown(view).to_string();
        for told in [
            "class=\"bad\" width=\"100.0\"",
            "aria-label=\"1, trips above 0\"",
            "class=\"new\" width=\"40.0\"",
            "7.5 of 15",
            "&lt;away&gt;</th><td>not known</td><td class=\"warn\">no_data",
        ] {
            assert!(shown.contains(told), "no `{told}` in {shown}");
        }
    }

    #[test]
    fn a_guard_is_drawn_against_its_line() {
        let guard = |log_e, verdict: &str| GuardView {
            id: "login".into(),
            people: (238, 4_520),
            bad: (13, 43),
            ratio: Some(5.7),
            log_e,
            trip_at: 5.7,
            verdict: verdict.into(),
        };
        let mut view = RolloutView {
            state: "rolled_back".into(),
            step: "4-ramp/1".into(),
            next: Some("4-ramp/5".into()),
            missing: vec!["baked 1h of 24h".into()],
            blocked: vec![BlockedView {
                reason: "recall".into(),
                why: "<7> people".into(),
            }],
            from: "o&d".into(),
            people: Some(PeopleView {
                modern: 12,
                modern_born: 3,
                recalled: 4,
                locked_out: 5,
                conflict: 6,
            }),
            guards: vec![
                guard(6.71, "tripped"),
                guard(-2.86, "ok"),
                guard(f64::NAN, "no_data"),
            ],
            ..RolloutView::default()
        };
        let shown = Shown(view.clone()).to_string();
        for told in [
            "class=\"bad\">rolled_back<",
            "4-ramp/5: baked 1h of 24h",
            "Held up by</dt><dd class=\"bad\">recall: &lt;7&gt; people<",
            "238, 4520",
            "12, of whom 3 have no account at o&amp;d; 4 were sent back",
            "lock out</dt><dd class=\"\">5<",
            "in conflict</dt><dd class=\"\">6<",
            "13 (5.5 %), 43 (1.0 %)",
            "class=\"bad\" width=\"94.2\"",
            "class=\"new\" width=\"0.0\"",
            "aria-label=\"evidence -2.86, trips at 5.70\"",
        ] {
            assert!(shown.contains(told), "no `{told}` in {shown}");
        }
        assert_eq!(shown.matches("<svg").count(), 2);
        view.state.clear();
        assert_eq!(Shown(view).to_string(), "");
    }
}
