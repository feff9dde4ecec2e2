//! The template language of identity headers: text → segments.
//!
//! `{name|filter|filter:argument}` between literal text; `{{` and `}}` are literal braces, and a backslash is a literal
//! backslash. In an argument `||` is a bar. What a filter does stands at [`Filter`], [`Absent`] and [`Encoding`].

use crate::identity::ClaimPath;

/// A compiled header template such as `CORP\{subject}` or `{groups|sort|join:,}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    pub(super) segments: Vec<Segment>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Segment {
    /// Printable ASCII.
    Literal(Box<str>),
    Field(Field),
}

/// One `{…}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Field {
    /// Where its value stands.
    pub(super) path: ClaimPath,
    /// Where it stands in the template, in bytes.
    pub(super) at: usize,
    /// What may be written beside texts, as JSON writes it.
    pub(super) scalars: Scalars,
    /// What happens to the value, in order.
    pub(super) filters: Vec<Filter>,
    /// What an absent value means.
    pub(super) absent: Absent,
    /// How the value becomes bytes, if the template says it.
    pub(super) encoding: Option<Encoding>,
}

/// Which JSON values count as texts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scalars {
    /// Texts.
    Texts,
    /// And whole numbers.
    Numbers,
    /// `text`: and booleans.
    All,
}

/// Filters on texts; before `join` they work on each item of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Filter {
    /// In order of bytes, each item once.
    Sort,
    /// A list becomes one text.
    Join(Box<str>),
    /// ASCII letters become small.
    Lower,
    /// ASCII letters become capital.
    Upper,
    /// ASCII white space at both ends goes.
    Trim,
    /// A text before what is not empty.
    Prefix(Box<str>),
    /// A text after what is not empty.
    Suffix(Box<str>),
}

/// What an absent value means; `null`, an empty text and an empty list are absent, too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Absent {
    /// `required`, the default: the request is denied.
    Required,
    /// `omit`: the header is left out.
    Omit,
    /// `default:TEXT`: this text, to which no other filter but the encoding is applied.
    Default(Box<str>),
}

/// How a value becomes header bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Encoding {
    /// The default: `%`, every byte that is not printable ASCII, and a space at either end, as `%XX` (upper case).
    Percent,
    /// RFC 4648 §4, with padding.
    Base64,
    /// The bytes themselves, for applications that read UTF-8.
    Utf8,
}

/// Why a text is not a template.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidTemplate {
    /// What is wrong, for the operator.
    pub reason: String,
    /// Where, as a byte offset into the template.
    pub at: usize,
}

impl InvalidTemplate {
    pub(super) fn new(at: usize, reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            at,
        }
    }
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    ///
    /// Names what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        if text.is_empty() {
            return Err(InvalidTemplate::new(0, "a template is not empty"));
        }
        if let Some((at, found)) = text.char_indices().find(|(_, c)| !is_printable(*c)) {
            let found = found.escape_unicode();
            let reason = format!("a template is printable ASCII; found `{found}`");
            return Err(InvalidTemplate::new(at, reason));
        }
        if text.starts_with(' ') || text.ends_with(' ') {
            let at = if text.starts_with(' ') {
                0
            } else {
                text.len() - 1
            };
            let reason = "white space at an end of a header value is lost on the way";
            return Err(InvalidTemplate::new(at, reason));
        }
        let mut reader = Reader { rest: text, at: 0 };
        let mut segments = Vec::new();
        let mut literal = String::new();
        while let Some(next) = reader.next() {
            match next {
                '{' if reader.eat('{') => literal.push('{'),
                '}' if reader.eat('}') => literal.push('}'),
                '}' => {
                    let reason = "a `}` without `{`; a literal brace is written `}}`";
                    return Err(InvalidTemplate::new(reader.at - 1, reason));
                }
                '{' => {
                    if !literal.is_empty() {
                        segments.push(Segment::Literal(std::mem::take(&mut literal).into()));
                    }
                    segments.push(Segment::Field(field(&mut reader)?));
                }
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            segments.push(Segment::Literal(literal.into()));
        }
        Ok(Self { segments })
    }

    /// The names that the template reads, as they are written, for the configuration's checks.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields().map(|field| field.path.as_str())
    }

    /// The attributes that the names begin with, each once: `memberOf` for `memberOf[*].cn`.
    pub fn roots(&self) -> impl Iterator<Item = &str> {
        let roots = || self.fields().map(|field| field.path.first());
        let fields = roots().enumerate();
        fields.filter_map(move |(at, root)| {
            let mut before = roots().take(at);
            (!before.any(|other| other == root)).then_some(root)
        })
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Field(field) => Some(field),
            Segment::Literal(_) => None,
        })
    }
}

const fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// What is still to be read, and where it stands. The text is ASCII, so a character is a byte.
struct Reader<'a> {
    rest: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        self.at += next.len_utf8();
        Some(next)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.rest.starts_with(wanted);
        if found {
            self.next();
        }
        found
    }
}

/// What ended a part of a field.
#[derive(Clone, Copy, Eq, PartialEq)]
enum End {
    /// `|`: a filter follows.
    Bar,
    /// `}`.
    Brace,
    /// `:`: an argument follows.
    Colon,
}

/// Reads a field, whose `{` has been read.
fn field(reader: &mut Reader<'_>) -> Result<Field, InvalidTemplate> {
    let at = reader.at - 1;
    let (name, mut end) = name(reader, at)?;
    let path = ClaimPath::parse(&name)
        .map_err(|invalid| InvalidTemplate::new(at + 1, invalid.to_string()))?;
    let mut field = Field {
        path,
        at,
        scalars: Scalars::Texts,
        filters: Vec::new(),
        absent: Absent::Required,
        encoding: None,
    };
    let mut says_absent = false;
    while end == End::Bar {
        let filter_at = reader.at;
        let (word, word_end) = word(reader, at)?;
        let argument = if word_end == End::Colon {
            let (argument, argument_end) = argument(reader, at)?;
            end = argument_end;
            Some(argument)
        } else {
            end = word_end;
            None
        };
        apply(&mut field, &mut says_absent, &word, argument)
            .map_err(|reason| InvalidTemplate::new(filter_at, reason))?;
    }
    Ok(field)
}

/// Adds one filter to a field.
fn apply(
    field: &mut Field,
    says_absent: &mut bool,
    word: &str,
    argument: Option<String>,
) -> Result<(), String> {
    let joined = field
        .filters
        .iter()
        .any(|filter| matches!(filter, Filter::Join(_)));
    let filter = match (word, argument) {
        ("sort", None) if joined => return Err("`sort` stands before `join`".into()),
        ("sort", None) => Filter::Sort,
        ("join", Some(_)) if joined => return Err("one `join` is enough".into()),
        ("join", Some(separator)) if separator.is_empty() => {
            return Err("`join` needs a separator, such as `join:,`".into());
        }
        ("join", Some(separator)) => Filter::Join(separator.into()),
        ("lower", None) => Filter::Lower,
        ("upper", None) => Filter::Upper,
        ("trim", None) => Filter::Trim,
        ("prefix", Some(text)) => Filter::Prefix(text.into()),
        ("suffix", Some(text)) => Filter::Suffix(text.into()),
        ("text", None) => {
            field.scalars = Scalars::All;
            return Ok(());
        }
        ("required", None) => return absent(field, says_absent, Absent::Required),
        ("omit", None) => return absent(field, says_absent, Absent::Omit),
        ("default", Some(text)) => return absent(field, says_absent, Absent::Default(text.into())),
        ("percent", None) => return encoding(field, Encoding::Percent),
        ("base64", None) => return encoding(field, Encoding::Base64),
        ("utf8", None) => return encoding(field, Encoding::Utf8),
        ("join" | "prefix" | "suffix" | "default", None) => {
            return Err(format!("`{word}` needs an argument: `{word}:TEXT`"));
        }
        (
            "sort" | "lower" | "upper" | "trim" | "text" | "required" | "omit" | "percent"
            | "base64" | "utf8",
            Some(_),
        ) => return Err(format!("`{word}` takes no argument")),
        (other, _) => {
            return Err(format!(
                "`{other}` is not a filter: sort, join, lower, upper, trim, prefix, suffix, text, default, omit, \
                 required, percent, base64 or utf8"
            ));
        }
    };
    if field.encoding.is_some() {
        return Err(format!(
            "`{word}` stands after an encoding, which comes last"
        ));
    }
    field.filters.push(filter);
    Ok(())
}

fn absent(field: &mut Field, says_absent: &mut bool, absent: Absent) -> Result<(), String> {
    if std::mem::replace(says_absent, true) {
        return Err("only one of `required`, `omit` and `default` can hold".into());
    }
    field.absent = absent;
    Ok(())
}

fn encoding(field: &mut Field, encoding: Encoding) -> Result<(), String> {
    if field.encoding.replace(encoding).is_some() {
        return Err("only one of `percent`, `base64` and `utf8` can hold".into());
    }
    Ok(())
}

/// A name, which ends at `|` or `}` outside of quotes.
fn name(reader: &mut Reader<'_>, opened: usize) -> Result<(String, End), InvalidTemplate> {
    let mut name = String::new();
    let mut quoted = false;
    while let Some(next) = reader.next() {
        match next {
            '"' => quoted = !quoted,
            '|' if !quoted => return Ok((name, End::Bar)),
            '}' if !quoted => return Ok((name, End::Brace)),
            ' ' | '{' if !quoted => {
                let reason = format!("`{next}` is not part of a name; other names stand in quotes");
                return Err(InvalidTemplate::new(reader.at - 1, reason));
            }
            _ => {}
        }
        name.push(next);
    }
    Err(unclosed(opened))
}

/// The word of a filter.
fn word(reader: &mut Reader<'_>, opened: usize) -> Result<(String, End), InvalidTemplate> {
    let mut word = String::new();
    while let Some(next) = reader.next() {
        match next {
            '|' => return Ok((word, End::Bar)),
            '}' => return Ok((word, End::Brace)),
            ':' => return Ok((word, End::Colon)),
            other => word.push(other),
        }
    }
    Err(unclosed(opened))
}

/// The argument of a filter: everything up to `|` or `}`; `||`, `{{` and `}}` stand for one of them.
fn argument(reader: &mut Reader<'_>, opened: usize) -> Result<(String, End), InvalidTemplate> {
    let mut argument = String::new();
    while let Some(next) = reader.next() {
        match next {
            '|' | '{' | '}' if reader.eat(next) => argument.push(next),
            '|' => return Ok((argument, End::Bar)),
            '}' => return Ok((argument, End::Brace)),
            '{' => {
                let reason = "a `{` within `{…}`; a literal brace is written `{{`";
                return Err(InvalidTemplate::new(reader.at - 1, reason));
            }
            other => argument.push(other),
        }
    }
    Err(unclosed(opened))
}

fn unclosed(opened: usize) -> InvalidTemplate {
    InvalidTemplate::new(opened, "this `{` is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(text: &str) -> Vec<String> {
        let template = Template::parse(text).unwrap();
        template.names().map(str::to_owned).collect()
    }

    #[track_caller]
    fn rejects(text: &str, at: usize, reason: &str) {
        let found = Template::parse(text).unwrap_err();
        assert!(found.reason.contains(reason), "{text}: {found}");
        assert_eq!(found.at, at, "{text}: {found}");
    }

    #[test]
    fn lists_the_names_it_reads() {
        assert_eq!(names(r"CORP\{subject}"), ["subject"]);
        assert_eq!(
            names("{a}-{link.legacy_subject|lower}"),
            ["a", "link.legacy_subject"]
        );
        assert_eq!(
            names(r#"{"https://corp.example/ro|les}"|join:,}"#),
            [r#""https://corp.example/ro|les}""#]
        );
        assert_eq!(names("static {{subject}}"), Vec::<String>::new());
        let template = Template::parse(r#"{memberOf[*].cn|join:,}-{"a.b".c}-{email}"#).unwrap();
        assert_eq!(
            template.roots().collect::<Vec<_>>(),
            ["memberOf", "a.b", "email"]
        );
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        rejects("", 0, "not empty");
        rejects("a{subject", 1, "not closed");
        rejects("a{subject|lower", 1, "not closed");
        rejects("a{subject|prefix:x", 1, "not closed");
        rejects("a}b", 1, "without `{`");
        rejects("{subject}}", 9, "without `{`");
        rejects("{}", 1, "not a claim path");
        rejects("x{a..b}", 2, "not a claim path");
        rejects("{ subject}", 1, "not part of a name");
        rejects("{a{b}", 2, "not part of a name");
        rejects("{a|lowr}", 3, "`lowr` is not a filter");
        rejects("{a||lower}", 3, "`` is not a filter");
        rejects("{a|regex_replace:x}", 3, "not a filter");
        rejects("{a|join}", 3, "needs an argument");
        rejects("{a|join:}", 3, "needs a separator");
        rejects("{a|lower:x}", 3, "takes no argument");
        rejects("{a|join:,|sort}", 10, "`sort` stands before `join`");
        rejects("{a|join:,|join:;}", 10, "one `join`");
        rejects("{a|base64|lower}", 10, "comes last");
        rejects("{a|base64|utf8}", 10, "only one");
        rejects("{a|omit|default:x}", 8, "only one");
        rejects("{a|required|required}", 12, "only one");
        rejects("{a|prefix:x{b}", 11, "within");
        rejects("a\r\nb", 1, "printable ASCII");
        rejects("a\tb", 1, "printable ASCII");
        rejects("café {a}", 3, "printable ASCII");
        rejects(" {a}", 0, "white space");
        rejects("{a} ", 3, "white space");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "(\\PC|[{}|:\\\\\" ,a-z]|\\n){0,60}") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert!(template.names().all(|name| ClaimPath::parse(name).is_ok()));
            }
        }
    }
}
