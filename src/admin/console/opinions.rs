//! Second opinions on the page: in what they differ, by class.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::admin::console::html::Text;
use crate::admin::console::tables::head;
use crate::admin::report::ReportTable;
use crate::admin::report::ReportView;

/// The columns that are shown, by the names that the report gives them.
const SHOWN: [(&str, &str); 7] = [
    ("application", "Application"),
    ("severity", "Severity"),
    ("class", "Class"),
    ("field", "Field"),
    ("people", "People"),
    ("last", "Last"),
    ("values", "Only one side says"),
];

/// What second opinions say; nothing where nobody gives any.
pub(super) fn opinions(report: Option<&ReportView>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let tables = report.map_or(&[][..], |report| &report.tables);
    let [differences, compared, ..] = tables else {
        return Ok(());
    };
    if compared.rows.is_empty() {
        return Ok(());
    }
    f.write_str(
        "<section aria-labelledby=\"opinions\"><h2 id=\"opinions\">Second opinions</h2><p class=\"soft\">",
    )?;
    for row in &compared.rows {
        if let [app, people, ..] = row.as_slice() {
            write!(f, "{}: {} people compared. ", told(app), told(people))?;
        }
    }
    f.write_str("</p>")?;
    if differences.rows.is_empty() {
        return f.write_str("<p class=\"soft\">Nobody differs.</p></section>");
    }
    classes(differences, f)?;
    head(f, "Differences", &SHOWN.map(|(_, title)| title))?;
    let place = |name: &str| differences.columns.iter().position(|own| own == name);
    let places = SHOWN.map(|(name, _)| place(name));
    for row in &differences.rows {
        f.write_str("<tr>")?;
        for place in places {
            let cell = place.and_then(|place| row.get(place));
            let cell = cell.map_or_else(String::new, told);
            let class = if cell == "critical" { "bad" } else { "" };
            write!(f, "<td class=\"{class}\">{cell}</td>")?;
        }
        f.write_str("</tr>")?;
    }
    f.write_str("</tbody></table></div></section>")
}

/// People by class, the gravest first: a bar for each, on the scale of the largest.
fn classes(differences: &ReportTable, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let place = |name: &str| differences.columns.iter().position(|own| own == name);
    let (severity, class, people) = (place("severity"), place("class"), place("people"));
    let mut all: BTreeMap<(u8, String), (String, f64)> = BTreeMap::new();
    for row in &differences.rows {
        let cell = |place: Option<usize>| place.and_then(|place| row.get(place));
        let word = |place| cell(place).map(told).unwrap_or_default();
        let severity = word(severity);
        let rank = match severity.as_str() {
            "critical" => 0,
            "warn" => 1,
            _ => 2,
        };
        // Fields of one class are about the same people: the most of them counts.
        let people = cell(people).and_then(Value::as_f64).unwrap_or(0.0);
        let kept = all.entry((rank, word(class))).or_insert((severity, 0.0));
        kept.1 = kept.1.max(people);
    }
    let most = all.values().map(|(_, people)| *people).fold(1.0, f64::max);
    head(f, "People by class", &["Class", "Severity", "People"])?;
    for ((_, class), (severity, people)) in &all {
        let colour = match severity.as_str() {
            "critical" => "bad",
            "warn" => "old",
            _ => "new",
        };
        let width = people / most * 100.0;
        write!(
            f,
            "<tr><th scope=\"row\">{class}</th><td class=\"{}\">{severity}</td><td>\
             <svg viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{people} people\">\
             <rect class=\"track\" width=\"100\" height=\"6\"/><rect class=\"{colour}\" width=\"{width:.1}\" height=\"6\"/></svg>{people}</td></tr>",
            if severity == "critical" { "bad" } else { "" },
        )?;
    }
    f.write_str("</tbody></table></div>")
}

fn told(cell: &Value) -> String {
    match cell.as_str() {
        Some(text) => Text(text).to_string(),
        None => Text(&cell.to_string()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::report::ReportKind;

    struct Page(ReportView);

    impl fmt::Display for Page {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            opinions(Some(&self.0), f)
        }
    }

    fn page(differences: ReportTable, compared: ReportTable) -> String {
        let report = ReportView {
            kind: ReportKind::Divergences,
            at: String::new(),
            revision: String::new(),
            tables: vec![differences, compared],
            notes: Vec::new(),
        };
        Page(report).to_string()
    }

    #[test]
    fn differences_are_shown_as_text_and_critical_ones_stand_out() {
        let mut differences = ReportTable::new(
            "Differences",
            ["application", "severity", "class", "people", "values"],
        );
        let mut compared = ReportTable::new("Second opinions", ["application", "people compared"]);
        let nothing = page(differences.clone(), compared.clone());
        assert_eq!(nothing, "");
        compared.row(["crm".into(), 3.into()]);
        let none = page(differences.clone(), compared.clone());
        assert!(none.contains("crm: 3 people compared. ") && none.contains("Nobody differs."));
        differences.row([
            "crm".into(),
            "critical".into(),
            "groups_extra".into(),
            2.into(),
            "<b>boss</b>".into(),
        ]);
        let shown = page(differences.clone(), compared.clone());
        differences.row([
            "crm".into(),
            "warn".into(),
            "no_link".into(),
            8.into(),
            "".into(),
        ]);
        let drawn = page(differences.clone(), compared.clone());
        for told in [
            "class=\"bad\" width=\"25.0\"",
            "class=\"old\" width=\"100.0\"",
        ] {
            assert!(drawn.contains(told), "{drawn}");
        }
        assert!(shown.contains("<td class=\"bad\">critical</td>"), "{shown}");
        assert!(shown.contains("&lt;b&gt;boss&lt;/b&gt;"), "{shown}");
    }
}
