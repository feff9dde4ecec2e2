//! Cookies written otherwise.

use super::Must;
use super::Written;

impl Written {
    /// What is read as the same one counts, what is not is none.
    pub(super) fn cookies(&self, add: &mut impl FnMut(Must, &str, &Self)) {
        let Some(value) = self.value("cookie").map(str::to_owned) else {
            return;
        };
        // Where another credential comes beside them, what is not read of them may leave that one alone: who was refused for
        // having two is let in by one.
        let several = value.matches("__Host-").count() + value.matches("LEGACYSID").count() > 1;
        if self.all("cookie") != 1 || self.all("authorization") != 0 || several {
            return;
        }
        let put = |value: String| {
            self.with(|it| {
                for (name, old) in &mut it.fields {
                    if name.eq_ignore_ascii_case("cookie") {
                        old.clone_from(&value);
                    }
                }
            })
        };
        let each = |change: &dyn Fn(&str, &str) -> String| {
            let pairs = value.split("; ").map(|pair| match pair.split_once('=') {
                Some((name, value)) => change(name, value),
                None => pair.to_owned(),
            });
            pairs.collect::<Vec<_>>().join("; ")
        };
        for (label, value) in [
            ("cookies without a space", value.replace("; ", ";")),
            ("cookies between empty pairs", format!("; ;{value};; ")),
            ("cookies behind a comma", format!("a=1, {value}")),
            ("each cookie twice", format!("{value}; {value}")),
            (
                "cookies of RFC 2965",
                format!("$Version=1; {value}; $Path=/"),
            ),
            ("cookies in quotes", each(&|n, v| format!("{n}=\"{v}\""))),
            ("spaces around each =", each(&|n, v| format!("{n} = {v}"))),
            (
                "names of cookies in capitals",
                each(&|n, v| format!("{}={v}", n.to_uppercase())),
            ),
            (
                "names of cookies encoded",
                each(&|n, v| format!("{}={v}", n.replace('_', "%5F"))),
            ),
            (
                "names of cookies without prefix",
                each(&|n, v| format!("{}={v}", n.trim_start_matches("__Host-"))),
            ),
            (
                "a byte behind each cookie",
                each(&|n, v| format!("{n}={v}A")),
            ),
        ] {
            add(Must::SameOrNobody, label, &put(value));
        }
        add(
            Must::SameOrNobody,
            "the cookies in two fields",
            &self.with(|it| it.fields.push(("Cookie".to_owned(), value.clone()))),
        );
        add(
            Must::SameOrNobody,
            "the cookies as Cookie2",
            &self.with(|it| {
                for (name, _) in &mut it.fields {
                    if name.eq_ignore_ascii_case("cookie") {
                        *name = "Cookie2".to_owned();
                    }
                }
            }),
        );
    }
}
