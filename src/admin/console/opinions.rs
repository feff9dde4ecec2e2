//! Second opinions on the page: in what they differ, by class.

use std::fmt;

use serde_json::Value;

use crate::admin::console::html::Text;
use crate::admin::console::tables::head;
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
    use crate::admin::report::ReportTable;

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
            ["application", "severity", "class", "values"],
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
            "<b>boss</b>".into(),
        ]);
        let shown = page(differences, compared);
        assert!(shown.contains("<td class=\"bad\">critical</td>"), "{shown}");
        assert!(shown.contains("&lt;b&gt;boss&lt;/b&gt;"), "{shown}");
    }
}
