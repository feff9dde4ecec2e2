//! Identity → header value. Pure: the writer is `proxy::identity_headers`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::ClaimPath;
use crate::identity::Identity;
use crate::identity::template::Absent;
use crate::identity::template::Encoding;
use crate::identity::template::Field;
use crate::identity::template::Filter;
use crate::identity::template::Scalars;
use crate::identity::template::Segment;
use crate::identity::template::Template;

/// Where a template finds its values: attributes, `link.…`, `canonical`, `provider`, `acr`.
pub trait Scope {
    /// The value called `name`, as the template spells it; `None` when it is absent.
    fn value(&self, name: &str) -> Option<Cow<'_, Value>>;

    /// The same for a name that has been compiled already.
    fn lookup(&self, path: &ClaimPath) -> Option<Cow<'_, Value>> {
        self.value(path.as_str())
    }
}

/// First names that templates read from elsewhere than the attributes: no provider may map them.
pub const RESERVED_NAMES: [&str; 7] = [
    "canonical",
    "provider",
    "acr",
    "client_id",
    "scopes",
    "link",
    "session_mark",
];

/// The values of one admitted person, for header templates.
///
/// Names of ours (`canonical`, `provider`, `acr`, `client_id`, `scopes`, `session_mark`, `link.…`) are never read from the attributes: no
/// claim can stand in for them. Every other name is an attribute, and nothing stands in for one that is absent.
#[derive(Clone, Copy, Debug)]
pub struct HeaderScope<'a> {
    /// What the owner says.
    pub identity: &'a Identity,
    /// Who it is across providers.
    pub canonical: Option<&'a CanonicalSubject>,
    /// What the link table knows of the person: the values of `link.NAME`.
    pub link: Option<&'a ClaimMap>,
    /// What the session is called that a fallback made.
    pub mark: Option<&'a str>,
}

impl HeaderScope<'_> {
    fn own(&self, name: &str) -> Option<Option<Cow<'_, Value>>> {
        let text = |text: &str| Cow::Owned(Value::String(text.to_owned()));
        let identity = self.identity;
        let value = match name {
            "canonical" => self.canonical.map(|subject| text(subject.as_str())),
            "provider" => Some(text(identity.provider.as_str())),
            "acr" => identity.acr.as_deref().map(text),
            "client_id" => identity.client_id.as_deref().map(text),
            "session_mark" => self.mark.map(text),
            "scopes" => {
                let scopes = identity.scopes.iter();
                Some(Cow::Owned(
                    scopes.map(|scope| Value::from(&**scope)).collect(),
                ))
            }
            _ => {
                let name = name.strip_prefix("link.")?;
                self.link
                    .and_then(|link| link.member(name))
                    .map(Cow::Borrowed)
            }
        };
        Some(value)
    }
}

impl Scope for HeaderScope<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, Value>> {
        self.lookup(&ClaimPath::parse(name).ok()?)
    }

    fn lookup(&self, path: &ClaimPath) -> Option<Cow<'_, Value>> {
        if let Some(value) = self.own(path.as_str()) {
            return value;
        }
        if path.is_many() {
            path.find(&self.identity.attributes).map(Cow::Owned)
        } else {
            path.find_one(&self.identity.attributes).map(Cow::Borrowed)
        }
    }
}

/// Why a value cannot be written: the request is denied, the header is never skipped.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// A value that the template needs is absent.
    #[error("a required value is missing")]
    Missing,
    /// A number where a text is expected, an object, a list without `join`.
    #[error("a value has a type that the template does not take")]
    WrongType,
    /// CR, LF, NUL, DEL or another control character.
    #[error("a value contains a control character")]
    ControlCharacter,
    /// A list item contains the separator.
    #[error("a list item contains the separator")]
    SeparatorInItem,
    /// White space at an end, which HTTP would cut off: two different names would become one.
    #[error("a value begins or ends with white space")]
    OuterSpace,
    /// A value contains what the template writes between values.
    #[error("a value contains what stands between values")]
    SeparatorInValue,
    /// Longer than the budget.
    #[error("the value is too long")]
    TooLong,
}

impl Template {
    /// The longest value of one header, in bytes.
    pub const MAX_VALUE_BYTES: usize = 8 * 1024;

    /// The value as header bytes; `None` means: leave the header out (`|omit`).
    ///
    /// # Errors
    ///
    /// A value that cannot be represented is an error, never a skipped header.
    pub fn render(&self, scope: &dyn Scope) -> Result<Option<Vec<u8>>, RenderError> {
        let mut out = Vec::with_capacity(64);
        Ok(self.render_into(scope, &mut out)?.then_some(out))
    }

    /// Appends the value to `out`; `false`, and an unchanged `out`, means: leave the header out.
    ///
    /// # Errors
    ///
    /// As [`Template::render`]; `out` is unchanged then.
    pub fn render_into(&self, scope: &dyn Scope, out: &mut Vec<u8>) -> Result<bool, RenderError> {
        let start = out.len();
        let written = self
            .write(scope, Encoding::Percent, &[], out)
            .and_then(|present| {
                if Self::MAX_VALUE_BYTES < out.len() - start {
                    return Err(RenderError::TooLong);
                }
                Ok(present)
            });
        if written != Ok(true) {
            out.truncate(start);
        }
        written
    }

    /// The value as a text, for a claim: letters outside of ASCII stay as they are. `None` means: leave it out.
    ///
    /// # Errors
    ///
    /// As [`Template::render`].
    pub fn render_text(&self, scope: &dyn Scope) -> Result<Option<String>, RenderError> {
        self.text(scope, &[])
    }

    /// `apart`: what no value may have.
    pub(super) fn text(
        &self,
        scope: &dyn Scope,
        apart: &[u8],
    ) -> Result<Option<String>, RenderError> {
        let mut out = Vec::with_capacity(64);
        if !self.write(scope, Encoding::Utf8, apart, &mut out)? {
            return Ok(None);
        }
        if Self::MAX_VALUE_BYTES < out.len() {
            return Err(RenderError::TooLong);
        }
        String::from_utf8(out)
            .map(Some)
            .or(Err(RenderError::WrongType))
    }

    fn write(
        &self,
        scope: &dyn Scope,
        usual: Encoding,
        apart: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, RenderError> {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Segment::Field(field) => {
                    let found = field.text(scope, field.scalars, &|text| Ok(text))?;
                    let text = match (&found, &field.absent) {
                        (Some(text), _) => text,
                        (None, Absent::Default(text)) => &**text,
                        (None, Absent::Omit) => return Ok(false),
                        (None, Absent::Required) => return Err(RenderError::Missing),
                    };
                    let start = out.len();
                    encode(text, field.encoding.unwrap_or(usual), out)?;
                    // Beyond ASCII every byte of UTF-8 is beyond ASCII, and templates are ASCII.
                    let mut written = out.iter().skip(start);
                    if !apart.is_empty() && written.any(|byte| apart.contains(byte)) {
                        return Err(RenderError::SeparatorInValue);
                    }
                }
            }
        }
        Ok(true)
    }
}

/// One text, or the items of a list.
enum Texts<'a> {
    One(Cow<'a, str>),
    Many(Vec<Cow<'a, str>>),
}

impl Field {
    /// The field's text before it is encoded; `None` when it is absent. Each text goes through `prepare` first.
    pub(super) fn text<'a>(
        &self,
        scope: &'a dyn Scope,
        scalars: Scalars,
        prepare: &dyn Fn(Cow<'a, str>) -> Result<Cow<'a, str>, RenderError>,
    ) -> Result<Option<Cow<'a, str>>, RenderError> {
        let value = match scope.lookup(&self.path) {
            None => return Ok(None),
            Some(value) if value.is_null() => return Ok(None),
            Some(value) => value,
        };
        let prepare = |text: Cow<'a, str>| {
            if text.chars().any(char::is_control) {
                return Err(RenderError::ControlCharacter);
            }
            prepare(text)
        };
        let mut texts = match value {
            Cow::Borrowed(Value::Array(items)) => {
                let items = items
                    .iter()
                    .map(|item| scalar(Cow::Borrowed(item), scalars));
                Texts::Many(items.map(|item| prepare(item?)).collect::<Result<_, _>>()?)
            }
            Cow::Owned(Value::Array(items)) => {
                let items = items
                    .into_iter()
                    .map(|item| scalar(Cow::Owned(item), scalars));
                Texts::Many(items.map(|item| prepare(item?)).collect::<Result<_, _>>()?)
            }
            one => Texts::One(prepare(scalar(one, scalars)?)?),
        };
        for filter in &self.filters {
            texts = filter.apply(texts)?;
        }
        match texts {
            Texts::One(text) => Ok((!text.is_empty()).then_some(text)),
            Texts::Many(items) if items.iter().all(|item| item.is_empty()) => Ok(None),
            Texts::Many(_) => Err(RenderError::WrongType),
        }
    }
}

impl Filter {
    fn apply<'a>(&self, texts: Texts<'a>) -> Result<Texts<'a>, RenderError> {
        match (self, texts) {
            (Self::Sort, Texts::Many(mut items)) => {
                items.sort_unstable();
                items.dedup();
                Ok(Texts::Many(items))
            }
            (Self::Sort, one @ Texts::One(_)) => Ok(one),
            (Self::Join(separator), Texts::Many(items)) => join(&items, separator),
            // As a list of one: it must not read as two.
            (Self::Join(separator), Texts::One(item)) => join(&[item], separator),
            (
                Self::Lower | Self::Upper | Self::Trim | Self::Prefix(_) | Self::Suffix(_),
                Texts::One(text),
            ) => Ok(Texts::One(self.change(text))),
            (
                Self::Lower | Self::Upper | Self::Trim | Self::Prefix(_) | Self::Suffix(_),
                Texts::Many(items),
            ) => {
                let items = items.into_iter().map(|item| self.change(item));
                Ok(Texts::Many(items.collect()))
            }
        }
    }

    /// What becomes of one text.
    fn change<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        match self {
            Self::Lower if text.bytes().any(|b| b.is_ascii_uppercase()) => {
                text.to_ascii_lowercase().into()
            }
            Self::Upper if text.bytes().any(|b| b.is_ascii_lowercase()) => {
                text.to_ascii_uppercase().into()
            }
            Self::Trim => trim(text),
            Self::Prefix(prefix) if !text.is_empty() => format!("{prefix}{text}").into(),
            Self::Suffix(suffix) if !text.is_empty() => format!("{text}{suffix}").into(),
            Self::Lower
            | Self::Upper
            | Self::Prefix(_)
            | Self::Suffix(_)
            | Self::Sort
            | Self::Join(_) => text,
        }
    }
}

/// Without ASCII white space at both ends.
pub(super) fn trim(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_ascii()),
        Cow::Owned(text) => match text.trim_ascii() {
            trimmed if trimmed.len() == text.len() => Cow::Owned(text),
            trimmed => Cow::Owned(trimmed.to_owned()),
        },
    }
}

/// A text, or what `scalars` admits beside it. Fractions are refused: their spelling is not kept by JSON
/// readers, so two different ones could become the same text.
fn scalar(value: Cow<'_, Value>, scalars: Scalars) -> Result<Cow<'_, str>, RenderError> {
    match value {
        Cow::Borrowed(Value::String(text)) => Ok(Cow::Borrowed(text)),
        Cow::Owned(Value::String(text)) => Ok(Cow::Owned(text)),
        other => match &*other {
            Value::Bool(value) if scalars == Scalars::All => Ok(Cow::Owned(value.to_string())),
            Value::Number(number)
                if scalars != Scalars::Texts && (number.is_i64() || number.is_u64()) =>
            {
                Ok(Cow::Owned(number.to_string()))
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => Err(RenderError::WrongType),
        },
    }
}

/// One text that falls apart into exactly these items again; empty items are left out.
fn join<'a>(items: &[Cow<'a, str>], separator: &str) -> Result<Texts<'a>, RenderError> {
    let present: Vec<&str> = items
        .iter()
        .map(|item| &**item)
        .filter(|item| !item.is_empty())
        .collect();
    if present.is_empty() {
        return Ok(Texts::One(Cow::Borrowed("")));
    }
    let joined = present.join(separator);
    // More than `contains`: with `;;` the items `a;` and `b` would come back as `a` and `;b`.
    if !joined.split(separator).eq(present) {
        return Err(RenderError::SeparatorInItem);
    }
    Ok(Texts::One(joined.into()))
}

fn encode(text: &str, encoding: Encoding, out: &mut Vec<u8>) -> Result<(), RenderError> {
    match encoding {
        Encoding::Percent => percent(text, out),
        Encoding::Base64 => out.extend_from_slice(STANDARD.encode(text).as_bytes()),
        Encoding::Utf8 if text.starts_with(' ') || text.ends_with(' ') => {
            return Err(RenderError::OuterSpace);
        }
        Encoding::Utf8 => out.extend_from_slice(text.as_bytes()),
    }
    Ok(())
}

/// See [`Encoding::Percent`]. HTTP cuts off spaces at the ends of a value; written as `%20` they stay.
fn percent(text: &str, out: &mut Vec<u8>) {
    const HEX: [u8; 16] = *b"0123456789ABCDEF";
    let hex = |digit: u8| HEX.get(usize::from(digit)).copied().unwrap_or(b'0');
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let outer_space = byte == b' ' && (at == 0 || at == last);
        if matches!(byte, b' '..=b'~') && byte != b'%' && !outer_space {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Issuer;
    use crate::identity::ProviderId;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use RenderError::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::Arc;

    fn identity(attributes: Value) -> Identity {
        let Value::Object(attributes) = attributes else {
            panic!("attributes are an object")
        };
        Identity {
            provider: ProviderId::new("modern"),
            key: SubjectKey {
                issuer: Issuer::new("https://id.corp.example"),
                subject: Subject::try_from("f81d").unwrap(),
            },
            attributes: Arc::new(ClaimMap::new(attributes)),
            client_id: Some("crm-web".into()),
            acr: Some("mfa".into()),
            scopes: ["openid".into(), "email".into()].into(),
            delegation: crate::identity::Delegation::default(),
        }
    }

    fn render(template: &str, attributes: Value) -> Result<Option<String>, RenderError> {
        let identity = identity(attributes);
        let canonical = CanonicalSubject::named("hr:10442").unwrap();
        let mut link = ClaimMap::default();
        link.insert("legacy_subject", json!("alice"));
        let scope = HeaderScope {
            identity: &identity,
            canonical: Some(&canonical),
            link: Some(&link),
            mark: None,
        };
        let rendered = Template::parse(template).unwrap().render(&scope)?;
        Ok(rendered.map(|bytes| String::from_utf8(bytes).unwrap()))
    }

    #[track_caller]
    fn gives(template: &str, attributes: Value, expected: &str) {
        assert_eq!(
            render(template, attributes),
            Ok(Some(expected.to_owned())),
            "{template}"
        );
    }

    #[track_caller]
    fn fails(template: &str, attributes: Value, expected: RenderError) {
        assert_eq!(render(template, attributes), Err(expected), "{template}");
    }

    #[test]
    fn no_value_has_what_stands_between_values_that_are_read_back() {
        let apart = |template: &str, name: &str| {
            let identity = identity(json!({ "name": name, "uid": "10442", "roles": ["a", "b"] }));
            let scope = HeaderScope {
                identity: &identity,
                canonical: None,
                link: None,
                mark: None,
            };
            let template = Template::parse(template).unwrap();
            assert!(template.is_apart());
            template.render_apart(&scope)
        };
        let good = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(apart("{name}:{uid}", "Zoë 1"), good("Zoë 1:10442"));
        assert_eq!(apart("v1:{name}", "v1"), good("v1:v1"));
        assert_eq!(
            apart("n={name|base64}:{roles|join:,}", "ab"),
            Err(SeparatorInValue)
        );
        assert_eq!(
            apart("n-{name|base64}:{roles|join:,}", "ab"),
            good("n-YWI=:a,b")
        );
        for name in ["x:1", ":", "x:", ":x"] {
            assert_eq!(apart("{name}:{uid}", name), Err(SeparatorInValue), "{name}");
            assert_eq!(apart("{uid}:{name}", name), Err(SeparatorInValue), "{name}");
        }
        // What nobody gave is written by an operator, and read like the rest.
        assert_eq!(apart("{x|default:a:b}:{uid}", ""), Err(SeparatorInValue));
        for together in ["{name}{uid}", "{name}x{uid}", "a:{name}0{uid}:b"] {
            assert!(!Template::parse(together).unwrap().is_apart(), "{together}");
        }
    }

    #[test]
    fn writes_what_old_applications_expect() {
        let alice = || json!({ "subject": "Alice", "email": "a@corp.example", "groups": ["it", "hr", "it"], "dept": "" });
        gives("{subject}", alice(), "Alice");
        gives(r"CORP\{subject|upper}", alice(), r"CORP\ALICE");
        gives(
            "{subject|lower}@CORP.EXAMPLE",
            alice(),
            "alice@CORP.EXAMPLE",
        );
        gives("{groups|sort|join:,}", alice(), "hr,it");
        gives("{groups|join:^}", alice(), "it^hr^it");
        gives("{groups|sort|join:||}", alice(), "hr|it");
        gives(
            "{groups|sort|prefix:cn=|suffix:;|join: }",
            alice(),
            "cn=hr; cn=it;",
        );
        gives("{groups|sort|join:,|prefix:[|suffix:]}", alice(), "[hr,it]");
        gives("{{{subject}}}", alice(), "{Alice}");
        gives("{subject|prefix:{{|suffix:}}}", alice(), "{Alice}");
        gives(
            "uid={subject},dept={dept|prefix:d-|default:none}",
            alice(),
            "uid=Alice,dept=none",
        );
        gives("{subject|base64}", alice(), "QWxpY2U=");
    }

    #[test]
    fn names_of_ours_are_never_read_from_attributes() {
        let forged = || {
            json!({
                "canonical": "root", "provider": "root", "acr": "root", "client_id": "root", "scopes": ["root"],
                "session_mark": "root",
                "link": { "legacy_subject": "root", "other": "root" }, "link.legacy_subject": "root",
            })
        };
        gives("{canonical}", forged(), "hr:10442");
        gives(
            "{provider}/{acr}/{client_id}",
            forged(),
            "modern/mfa/crm-web",
        );
        gives("{scopes|join: }", forged(), "openid email");
        gives("{link.legacy_subject}", forged(), "alice");
        fails("{link.other}", forged(), Missing);
        fails("{session_mark}", forged(), Missing);
        let always = |name: &&&str| !matches!(**name, "link" | "session_mark");
        for name in RESERVED_NAMES.iter().filter(always) {
            let rendered = render(&format!("{{{name}|join:,}}"), forged())
                .unwrap()
                .unwrap();
            assert!(!rendered.contains("root"), "{name}");
        }

        let mut identity = identity(forged());
        identity.acr = None;
        let scope = HeaderScope {
            identity: &identity,
            canonical: None,
            link: None,
            mark: None,
        };
        for name in ["acr", "canonical", "link.legacy_subject"] {
            let template = Template::parse(&format!("{{{name}}}")).unwrap();
            assert_eq!(template.render(&scope), Err(Missing), "{name}");
        }
    }

    /// The subject at the issuer must not take the place of a mapped name that is absent.
    #[test]
    fn nothing_stands_in_for_an_absent_attribute() {
        fails("{subject}", json!({}), Missing);
        fails("{sub}", json!({}), Missing);
    }

    #[test]
    fn finds_nested_and_quoted_names() {
        let claims = || {
            json!({
                "realm": { "roles": ["b", "a"], "name": "corp" }, "orgs": [{ "id": "x" }, { "id": "y" }],
                "https://corp.example/level": "gold",
            })
        };
        gives("{realm.name}", claims(), "corp");
        gives("{realm.roles|sort|join:,}", claims(), "a,b");
        gives("{orgs[*].id|join:,}", claims(), "x,y");
        gives(r#"{"https://corp.example/level"}"#, claims(), "gold");
        fails("{realm.absent}", claims(), Missing);
    }

    #[test]
    fn an_absent_value_is_denied_omitted_or_replaced() {
        for absent in [
            json!({}),
            json!({ "a": null }),
            json!({ "a": "" }),
            json!({ "a": [] }),
            json!({ "a": [""] }),
        ] {
            fails("x{a}", absent.clone(), Missing);
            fails("x{a|required}", absent.clone(), Missing);
            fails("x{a|join:,|prefix:y}", absent.clone(), Missing);
            gives("x{a|default:none}", absent.clone(), "xnone");
            gives("x{a|upper|default:none}", absent.clone(), "xnone");
            gives("x{a|default:}", absent.clone(), "x");
            assert_eq!(render("x{a|omit}", absent.clone()), Ok(None));
        }
        fails("{a|trim}", json!({ "a": "  " }), Missing);
        assert_eq!(render("{a|trim|omit}", json!({ "a": "  " })), Ok(None));
    }

    #[test]
    fn a_value_of_another_type_is_an_error() {
        for value in [
            json!(7),
            json!(true),
            json!({ "b": "c" }),
            json!(["a"]),
            json!(["a", "b"]),
        ] {
            fails("{a}", json!({ "a": value }), WrongType);
            fails("{a|omit}", json!({ "a": value }), WrongType);
            fails("{a|default:x}", json!({ "a": value }), WrongType);
        }
        for value in [
            json!(["a", 7]),
            json!(["a", null]),
            json!([["a"]]),
            json!([{ "b": "c" }]),
        ] {
            fails("{a|join:,}", json!({ "a": value }), WrongType);
        }
        fails("{a|text}", json!({ "a": { "b": "c" } }), WrongType);
        fails("{a|text}", json!({ "a": 1.5 }), WrongType);
        gives("{a|text}", json!({ "a": 42 }), "42");
        gives("{a|text}", json!({ "a": -1 }), "-1");
        gives(
            "{a|text}",
            json!({ "a": 18_446_744_073_709_551_615_u64 }),
            "18446744073709551615",
        );
        gives("{a|text}", json!({ "a": false }), "false");
        gives(
            "{a|text|join:,}",
            json!({ "a": [1, "b", true] }),
            "1,b,true",
        );
        // Two numbers beyond 64 bits are read as one and the same fraction.
        let large = serde_json::from_str("{\"a\": 18446744073709551617}").unwrap();
        fails("{a|text}", large, WrongType);
    }

    #[test]
    fn a_list_never_reads_as_another_list() {
        for (template, value) in [
            ("{a|join:,}", json!(["users,admins"])),
            ("{a|join:,}", json!("users,admins")),
            ("{a|join:,}", json!(["x", ","])),
            ("{a|join:;;}", json!(["a;", "b"])),
            ("{a|join: -}", json!(["a -b"])),
            ("{a|suffix:,|join:,}", json!(["a", "b"])),
        ] {
            fails(template, json!({ "a": value }), SeparatorInItem);
        }
        gives("{a|join:,}", json!({ "a": "one" }), "one");
        gives("{a|join:,}", json!({ "a": ["one"] }), "one");
        gives("{a|join:,}", json!({ "a": ["", "one", ""] }), "one");
        gives("{a|join:;;}", json!({ "a": ["a", "b;c"] }), "a;;b;c");
    }

    #[test]
    fn every_control_character_is_an_error() {
        for bad in [
            "\r", "\n", "\r\n", "\0", "\u{7f}", "\t", "\u{1b}", "\u{85}", "\u{9f}",
        ] {
            for template in [
                "{a}",
                "{a|trim}",
                "{a|base64}",
                "{a|utf8}",
                "{a|omit}",
                "{a|join:,}",
            ] {
                for value in [
                    format!("ali{bad}ce"),
                    format!("{bad}alice"),
                    format!("alice{bad}"),
                ] {
                    fails(template, json!({ "a": value }), ControlCharacter);
                }
            }
            fails("{a|join:,}", json!({ "a": ["ok", bad] }), ControlCharacter);
        }
    }

    #[test]
    fn other_letters_have_one_reversible_spelling() {
        gives("{a}", json!({ "a": "José" }), "Jos%C3%A9");
        gives("{a}", json!({ "a": "Jose\u{301}" }), "Jose%CC%81");
        gives(
            "{a}",
            json!({ "a": "\u{202e}gnp.王" }),
            "%E2%80%AEgnp.%E7%8E%8B",
        );
        gives("{a}", json!({ "a": "50%41" }), "50%2541");
        gives("{a|percent}", json!({ "a": "é" }), "%C3%A9");
        gives("{a|utf8}", json!({ "a": "José %" }), "José %");
        gives("{a|base64}", json!({ "a": "José" }), "Sm9zw6k=");
        gives(
            "{a|lower}",
            json!({ "a": "ÀK\u{212a}" }),
            "%C3%80k%E2%84%AA",
        );
    }

    #[test]
    fn spaces_at_the_ends_are_not_lost_on_the_way() {
        gives("{a}", json!({ "a": " alice b " }), "%20alice b%20");
        gives("{a}", json!({ "a": " " }), "%20");
        gives("{a|trim}", json!({ "a": " alice " }), "alice");
        fails("{a|utf8}", json!({ "a": "alice " }), OuterSpace);
    }

    #[test]
    fn a_value_longer_than_the_budget_is_an_error_and_never_cut() {
        let long = |bytes| json!({ "a": "x".repeat(bytes) });
        assert_eq!(
            render("{a}", long(8 * 1024)).unwrap().unwrap().len(),
            8 * 1024
        );
        fails("{a}", long(8 * 1024 + 1), TooLong);
        fails("{a}", json!({ "a": "é".repeat(1_500) }), TooLong);
    }

    #[test]
    fn what_was_there_before_stays_when_rendering_fails() {
        let identity = identity(json!({ "a": "x" }));
        let scope = HeaderScope {
            identity: &identity,
            canonical: None,
            link: None,
            mark: None,
        };
        for (template, expected) in [("{a}{b}", Err(Missing)), ("{a}{b|omit}", Ok(false))] {
            let mut out = b"before".to_vec();
            let template = Template::parse(template).unwrap();
            assert_eq!(template.render_into(&scope, &mut out), expected);
            assert_eq!(out, b"before");
        }
    }

    fn decode(text: &[u8]) -> Vec<u8> {
        let mut bytes = text.iter();
        let mut out = Vec::new();
        while let Some(byte) = bytes.next() {
            if *byte == b'%' {
                let digits = [*bytes.next().unwrap(), *bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            } else {
                out.push(*byte);
            }
        }
        out
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Value::from),
            "[ -~]{0,12}".prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(2, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                inner.prop_map(|inner| json!({ "b": inner })),
            ]
        })
    }

    proptest! {
        #[test]
        fn percent_encoding_decodes_back(text in "\\PC{1,40}") {
            let rendered = render("{a}", json!({ "a": text })).unwrap().unwrap();
            prop_assert!(rendered.bytes().all(|b| matches!(b, b' '..=b'~')));
            prop_assert_eq!(rendered.trim(), &*rendered);
            prop_assert_eq!(decode(rendered.as_bytes()), text.into_bytes());
        }

        #[test]
        fn output_never_holds_a_control_byte(
            value in value(),
            filters in proptest::sample::subsequence(
                vec!["text", "sort", "lower", "trim", "prefix:p", "join:,", "suffix:s"], 0..7),
            end in proptest::sample::select(vec!["", "|utf8", "|base64", "|percent", "|omit", "|default:d"]),
        ) {
            let filters: String = filters.iter().map(|filter| format!("|{filter}")).collect();
            let template = format!("x{{a{filters}{end}}}y");
            if let Ok(Some(rendered)) = render(&template, json!({ "a": value })) {
                prop_assert!(!rendered.bytes().any(|b| b < b' ' || b == 0x7f), "{template}: {rendered:?}");
            }
        }

        #[test]
        fn a_joined_list_falls_apart_into_its_items(
            items in proptest::collection::vec("[ab;,]{1,3}", 1..4),
            separator in "[;,]{1,2}",
        ) {
            let template = format!("{{a|join:{separator}}}");
            if let Ok(Some(rendered)) = render(&template, json!({ "a": items.clone() })) {
                prop_assert!(rendered.split(&*separator).eq(items.iter().map(String::as_str)));
            }
        }
    }
}
