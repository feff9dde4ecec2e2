//! YAML → a tree whose every node knows where it stands. The only file that names the YAML library.
//!
//! The tree keeps what a typed parser throws away: whether a scalar was quoted, duplicate keys, and the place of each
//! key. So the shape of every part can be judged on its own, and one run reports all that is wrong.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_saphyr::Location;
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::options::MergeKeyPolicy;

/// The longest configuration file, in bytes.
pub(crate) const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
/// The most nodes of a file, aliases expanded.
const MAX_NODES: usize = 250_000;
/// The most parser events that aliases may repeat.
const MAX_ALIASED: usize = 50_000;
/// The deepest nesting.
const MAX_DEPTH: usize = 32;

/// A place in the file: the position of a node, and the node's number in reading order.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mark {
    /// From 1; 0 is outside of the file.
    pub(crate) line: u32,
    /// From 1, in characters.
    pub(crate) column: u32,
    /// Which node, in reading order from 1.
    pub(crate) id: u32,
    /// Where its text begins, in bytes of the file.
    pub(crate) start: u32,
    /// Where its text ends, for scalars.
    pub(crate) end: u32,
}

/// A node with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where it stands.
    pub(crate) mark: Mark,
    /// What it is.
    pub(crate) content: Content,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Nothing: `null`, `~`, or no text at all.
    Null,
    /// A text or a number.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file; a key may stand in it twice.
    Map(Vec<(Key, Node)>),
}

/// A scalar as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    /// Its text, escapes resolved.
    pub(crate) text: Box<str>,
    /// Written without quotes: YAML might read it as a number, a boolean or null.
    pub(crate) plain: bool,
}

/// The key of a mapping entry.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Where it stands.
    pub(crate) mark: Mark,
    /// Its text.
    pub(crate) text: Box<str>,
    /// Written without quotes.
    pub(crate) plain: bool,
}

/// Why a file is not YAML.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    /// What is wrong.
    pub(crate) message: String,
    /// Where.
    pub(crate) mark: Mark,
}

/// Reads one YAML document.
///
/// # Errors
///
/// When it is no YAML, has more than one document, or is out of bounds.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    if let Some(mark) = lone_return(text) {
        return Err(SyntaxError {
            message: String::from(
                "a carriage return (U+000D) stands alone; lines end with LF or CR LF",
            ),
            mark,
        });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_total_scalar_bytes: 2 * MAX_FILE_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIASED,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        leading_zero_numbers_as_strings: true,
        with_snippet: false,
    };
    let raw: Spanned<Unplaced> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| SyntaxError {
            message: first_line(&error.without_snippet().to_string()),
            mark: error.location().map(mark).unwrap_or_default(),
        })?;
    let mut placer = Placer { text, next: 1 };
    Ok(placer.node(raw))
}

/// For YAML it ends a line (1.2.2 §5.4), for those who look for a line by its number it does not.
fn lone_return(text: &str) -> Option<Mark> {
    let narrow = |wide: usize| u32::try_from(wide).unwrap_or(u32::MAX);
    let mut returns = text.match_indices('\r').map(|(at, _)| at);
    let at = returns.find(|at| {
        !text
            .get(at + 1..)
            .is_some_and(|rest| rest.starts_with('\n'))
    })?;
    let before = text.get(..at)?;
    let line = before.rsplit('\n').next().unwrap_or_default();
    Some(Mark {
        line: narrow(before.matches('\n').count() + 1),
        column: narrow(line.chars().count() + 1),
        id: 0,
        start: narrow(at),
        end: narrow(at),
    })
}

/// The library repeats the position at the end of its messages; we say it in front.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    line.trim_end_matches([':', '.', ' ']).to_owned()
}

fn mark(location: Location) -> Mark {
    let narrow = |wide: u64| u32::try_from(wide).unwrap_or(u32::MAX);
    let start = location.span().byte_offset().unwrap_or_default();
    let length = location.span().byte_len().unwrap_or_default();
    Mark {
        line: narrow(location.line()),
        column: narrow(location.column()),
        id: 0,
        start: narrow(start),
        end: narrow(start.saturating_add(length)),
    }
}

/// What the library delivers: positions still outside.
enum Unplaced {
    Null,
    Scalar(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<Self>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Unplaced {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Unplaced;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Unplaced::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Unplaced::Scalar(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Self::Value, E> {
        Ok(Unplaced::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Unplaced::Scalar(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Self::Value, E> {
        Ok(Unplaced::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Unplaced::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Unplaced::Scalar(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(Unplaced::Scalar(value))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Unplaced::Null)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Unplaced::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Unplaced::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Unplaced::Map(map))
    }
}

/// Numbers the nodes, and takes the text of plain scalars from the file: `010` stays `010`.
struct Placer<'a> {
    text: &'a str,
    next: u32,
}

impl Placer<'_> {
    fn place(&mut self, location: Location) -> Mark {
        let id = self.next;
        self.next = self.next.saturating_add(1);
        Mark {
            id,
            ..mark(location)
        }
    }

    fn written(&self, mark: Mark) -> &str {
        let range = mark.start as usize..mark.end as usize;
        self.text.get(range).unwrap_or_default().trim()
    }

    fn node(&mut self, raw: Spanned<Unplaced>) -> Node {
        let mut mark = self.place(raw.referenced);
        let defined = self::mark(raw.defined);
        let content = match raw.value {
            Unplaced::Null => Content::Null,
            Unplaced::Scalar(text) => {
                mark.end = mark.end.max(mark.start);
                Content::Scalar(self.scalar(text, defined))
            }
            Unplaced::List(items) => {
                Content::List(items.into_iter().map(|item| self.node(item)).collect())
            }
            Unplaced::Map(entries) => Content::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (self.key(key), self.node(value)))
                    .collect(),
            ),
        };
        Node { mark, content }
    }

    fn key(&mut self, raw: Spanned<Unplaced>) -> Key {
        let mark = self.place(raw.referenced);
        let defined = self::mark(raw.defined);
        let scalar = match raw.value {
            Unplaced::Scalar(text) => self.scalar(text, defined),
            Unplaced::Null => Scalar {
                text: "null".into(),
                plain: true,
            },
            Unplaced::List(_) | Unplaced::Map(_) => Scalar {
                text: "?".into(),
                plain: true,
            },
        };
        Key {
            mark,
            text: scalar.text,
            plain: scalar.plain,
        }
    }

    fn scalar(&self, text: String, defined: Mark) -> Scalar {
        let written = self.written(defined);
        // A block scalar's position is that of its text; nothing that spans lines can be misread as a number.
        let plain =
            !written.starts_with(['"', '\'']) && !written.contains('\n') && !text.contains('\n');
        let text = if plain && !written.is_empty() {
            written.into()
        } else {
            text.into()
        };
        Scalar { text, plain }
    }
}

impl Node {
    /// The keys that lead to the node with this number, as `apps.crm.hosts[0]`.
    pub(crate) fn path_to(&self, id: u32) -> Option<String> {
        let mut path = String::new();
        self.find(id, &mut path).then_some(path)
    }

    fn find(&self, id: u32, path: &mut String) -> bool {
        if self.mark.id == id {
            return true;
        }
        let before = path.len();
        match &self.content {
            Content::Null | Content::Scalar(_) => {}
            Content::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{index}]"));
                    if item.find(id, path) {
                        return true;
                    }
                    path.truncate(before);
                }
            }
            Content::Map(entries) => {
                for (key, value) in entries {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key.text);
                    if key.mark.id == id || value.find(id, path) {
                        return true;
                    }
                    path.truncate(before);
                }
            }
        }
        false
    }

    /// The text of the scalar or key with this number.
    pub(crate) fn scalar_at(&self, id: u32) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) => (self.mark.id == id).then_some(&*scalar.text),
            Content::Null => None,
            Content::List(items) => items.iter().find_map(|item| item.scalar_at(id)),
            Content::Map(entries) => entries.iter().find_map(|(key, value)| {
                let own = (key.mark.id == id).then_some(&*key.text);
                own.or_else(|| value.scalar_at(id))
            }),
        }
    }

    /// A word for what the node is, for messages.
    pub(crate) const fn describe(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Scalar(_) => "a single value",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalars(node: &Node, found: &mut Vec<(String, bool, u32, u32)>) {
        match &node.content {
            Content::Null => {}
            Content::Scalar(s) => {
                found.push((
                    s.text.to_string(),
                    s.plain,
                    node.mark.line,
                    node.mark.column,
                ));
            }
            Content::List(items) => items.iter().for_each(|item| scalars(item, found)),
            Content::Map(entries) => entries.iter().for_each(|(key, value)| {
                found.push((
                    key.text.to_string(),
                    key.plain,
                    key.mark.line,
                    key.mark.column,
                ));
                scalars(value, found);
            }),
        }
    }

    #[test]
    fn every_scalar_knows_its_place_and_its_quotes() {
        let node = parse(
            "a: 010\nb: \"yes\"\nc: [ 1.50, 'x' ]\nd: *x\n"
                .replace("*x", "no")
                .as_str(),
        );
        let mut found = Vec::new();
        scalars(&node.unwrap(), &mut found);
        let expected = [
            ("a", true, 1, 1),
            ("010", true, 1, 4),
            ("b", true, 2, 1),
            ("yes", false, 2, 4),
            ("c", true, 3, 1),
            ("1.50", true, 3, 6),
            ("x", false, 3, 12),
            ("d", true, 4, 1),
            ("no", true, 4, 4),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(t, p, l, c)| ((*t).to_owned(), *p, *l, *c))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn duplicate_keys_survive_so_that_all_of_them_can_be_reported() {
        let node = parse("a: 1\na: 2\nb:\n  c: 1\n  c: 1\n").unwrap();
        let Content::Map(entries) = &node.content else {
            panic!("a mapping")
        };
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn an_alias_stands_where_it_is_used_and_reads_as_what_it_names() {
        let node = parse("a: &x 010\nb: *x\nc: &y \"yes\"\nd: *y\ne: !t z\n").unwrap();
        let mut found = Vec::new();
        scalars(&node, &mut found);
        assert_eq!(found[3], ("010".to_owned(), true, 2, 4));
        assert_eq!(found[7], ("yes".to_owned(), false, 4, 4));
        assert_eq!(found[9].0, "z");
    }

    #[test]
    fn block_scalars_and_multi_line_scalars_keep_their_text() {
        let node = parse("a: |\n  x\n  y\nb: one\n  two\nc:\nd: ~\n").unwrap();
        let mut found = Vec::new();
        scalars(&node, &mut found);
        assert_eq!(found[1].0, "x\ny\n");
        assert!(!found[1].1);
        assert_eq!(found[3].0, "one two");
        let Content::Map(entries) = &node.content else {
            panic!("a mapping")
        };
        assert!(matches!(entries[2].1.content, Content::Null));
        assert!(matches!(entries[3].1.content, Content::Null));
    }

    #[test]
    fn a_line_is_what_an_editor_calls_a_line() {
        let at = |text: &str| {
            parse(text)
                .map(|_| ())
                .map_err(|error| (error.mark.line, error.mark.column))
        };
        assert_eq!(at("a: 1\r\nb: 2\r\n"), Ok(()));
        assert_eq!(at("a: 1\r\nb: \"\r\""), Err((2, 5)));
        assert_eq!(at("a: 1\r"), Err((1, 5)));
    }

    #[test]
    fn broken_yaml_says_where() {
        for (text, line) in [
            ("a: [1\nb: 2\n", 2),
            ("a: 1\n\tb: 2\n", 1),
            ("a: 1\n---\nb: 2\n", 2),
            ("a: \"x\n", 1),
            ("a: *nobody\n", 1),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.mark.line, line, "{text:?}: {error:?}");
            assert!(
                !error.message.is_empty() && !error.message.contains('\n'),
                "{error:?}"
            );
        }
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let names = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{names}]\n"));
        }
        assert!(parse(&text).is_err());
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
        let text = format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(parse(&text).is_err());
    }

    #[test]
    fn a_path_names_keys_and_indexes() {
        let node = parse("apps:\n  crm:\n    hosts: [a, b]\n").unwrap();
        let Content::Map(entries) = &node.content else {
            panic!("a mapping")
        };
        let Content::Map(apps) = &entries[0].1.content else {
            panic!("a mapping")
        };
        let Content::Map(crm) = &apps[0].1.content else {
            panic!("a mapping")
        };
        let Content::List(hosts) = &crm[0].1.content else {
            panic!("a list")
        };
        assert_eq!(node.path_to(hosts[1].mark.id).unwrap(), "apps.crm.hosts[1]");
        assert_eq!(node.path_to(crm[0].0.mark.id).unwrap(), "apps.crm.hosts");
    }
}
