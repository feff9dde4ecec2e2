//! People from a file: CSV with a head, or a JSON object a line.

use std::fs;
use std::path::Path;

use serde_json::Map;
use serde_json::Value;

use crate::admin::ExplainRequest;

/// The people of a file. What begins with `{` is JSON, a line each; anything else is CSV.
///
/// # Errors
///
/// What cannot be read, and where.
pub(crate) fn read(file: &Path) -> Result<Vec<ExplainRequest>, String> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let people = if text.trim_start().starts_with('{') {
        lines(&text)
    } else {
        table(&text)
    };
    people.map_err(|error| format!("{name}, {error}"))
}

fn lines(text: &str) -> Result<Vec<ExplainRequest>, String> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(place, line)| {
            let said = |error: serde_json::Error| format!("line {}: {error}", place + 1);
            let mut one: Value = serde_json::from_str(line).map_err(said)?;
            if let Some(members) = one.as_object_mut() {
                members.entry("app").or_insert("".into());
            }
            serde_json::from_value(one).map_err(said)
        })
        .collect()
}

/// Columns that are no claims: `subject`, `app`, `provider`, `email`, and `groups`, which are separated by `;`.
fn table(text: &str) -> Result<Vec<ExplainRequest>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let head = reader.headers().map_err(|error| error.to_string())?.clone();
    if !head.iter().any(|name| name == "subject") {
        return Err(String::from("line 1: no column is called `subject`"));
    }
    let mut people = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let (mut one, mut claims) = (ExplainRequest::default(), Map::new());
        for (name, value) in head.iter().zip(&record) {
            let text = (!value.is_empty()).then(|| value.to_owned());
            match name {
                "subject" => one.subject = text,
                "app" => one.app = value.to_owned(),
                "provider" => one.provider = text,
                "email" => one.email = text,
                "groups" => {
                    let groups = value.split(';').map(str::trim);
                    let groups = groups.filter(|group| !group.is_empty());
                    one.groups = groups.map(str::to_owned).collect();
                }
                _ => {
                    if let Some(text) = text {
                        claims.insert(name.to_owned(), text.into());
                    }
                }
            }
        }
        if one.subject.is_none() {
            return Err(format!("line {line}: nobody is named"));
        }
        one.claims = claims;
        people.push(one);
    }
    Ok(people)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<ExplainRequest>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let name = format!("{}, ", file.path().display());
        read(file.path()).map_err(|error| error.replace(&name, ""))
    }

    #[test]
    fn a_table_and_lines_say_the_same() {
        let table = "\u{feff}subject,groups,region,email\nuid:1, it; staff ,emea,a@b.example\n\"uid:2\",,,\n";
        let lines = r#"{"subject":"uid:1","groups":["it","staff"],"claims":{"region":"emea"},"email":"a@b.example"}

{"subject":"uid:2"}"#;
        let told = |text: &str| {
            let people = read_text(text).unwrap();
            serde_json::to_value(people).unwrap()
        };
        assert_eq!(told(table), told(lines));
        assert_eq!(told(table).as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        let wrong = |text: &str| read_text(text).unwrap_err();
        assert_eq!(wrong("name\nx\n"), "line 1: no column is called `subject`");
        assert_eq!(wrong("subject,app\n,crm\n"), "line 2: nobody is named");
        assert!(
            wrong("subject\nx\ny,z\n").contains("line: 3"),
            "{}",
            wrong("subject\nx\ny,z\n")
        );
        assert!(wrong("{\"subject\":\"x\"}\n{\"sbject\":\"x\"}").starts_with("line 2: "));
    }
}
