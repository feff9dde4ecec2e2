//! Claims as data, and paths into them.

use std::borrow::Cow;
use std::fmt;

use serde_json::Map;
use serde_json::Value;

/// The claims of a token, an introspection answer or a directory entry: one JSON object.
///
/// `Debug` names the members and keeps their values to itself: they are about people.
///
/// The members stand in a row, in the order of their names, each name once: a token has a dozen of them, is read once and
/// asked for some, for which a row is cheaper to make, to search and to drop than a tree.
#[derive(Clone, Default, PartialEq)]
pub struct ClaimMap(Vec<(ClaimName, Value)>);

/// The name of a claim; those that nearly every token has take no memory of their own.
pub type ClaimName = Cow<'static, str>;

/// A name as it is kept.
pub fn claim_name(name: &str) -> ClaimName {
    // RFC 7519 §4.1, RFC 9068 §2.2, OpenID Connect Core 1.0 §2 and §5.1, and what attributes are called here.
    macro_rules! known {
        ($($one:literal)*) => {
            match name {
                $($one => Cow::Borrowed($one),)*
                other => Cow::Owned(other.to_owned()),
            }
        };
    }
    known!(
        "iss" "sub" "aud" "exp" "nbf" "iat" "jti" "azp" "sid" "acr" "amr" "cnf" "act" "scp" "uid"
        "scope" "client_id" "auth_time" "nonce" "at_hash" "email" "email_verified" "name" "preferred_username"
        "given_name" "family_name" "groups" "roles" "username" "subject"
    )
}

impl ClaimMap {
    /// Wraps a parsed object.
    pub fn new(members: Map<String, Value>) -> Self {
        // An object has them in this order already.
        let mut members: Vec<_> = members
            .into_iter()
            .map(|(name, value)| (claim_name(&name), value))
            .collect();
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self(members)
    }

    /// Takes members in any order; `None`: a name occurs twice.
    pub fn distinct(mut members: Vec<(ClaimName, Value)>) -> Option<Self> {
        members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let twice =
            |pair: &[(ClaimName, Value)]| matches!(pair, [(one, _), (other, _)] if one == other);
        (!members.windows(2).any(twice)).then_some(Self(members))
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| (**own).cmp(name))
    }

    /// The member called `name`.
    pub fn member(&self, name: &str) -> Option<&Value> {
        let place = self.place(name).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    /// The member called `name`, if it is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.member(name).and_then(Value::as_str)
    }

    /// Adds or replaces a member.
    pub fn insert(&mut self, name: &str, value: Value) {
        match self.place(name) {
            Ok(place) => {
                if let Some((_, old)) = self.0.get_mut(place) {
                    *old = value;
                }
            }
            Err(place) => self.0.insert(place, (claim_name(name), value)),
        }
    }

    /// Takes a member away.
    pub fn remove(&mut self, name: &str) {
        if let Ok(place) = self.place(name) {
            self.0.remove(place);
        }
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

impl fmt::Debug for ClaimMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_set().entries(names).finish()
    }
}

/// A path into claims: `memberOf[*].cn`, `realm_access.roles`, or a plain name.
///
/// A name that contains a dot, such as a URI, is written in quotes: `"https://corp.example/roles"`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimPath {
    text: Box<str>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Step {
    Member(Box<str>),
    Each,
}

/// Why a text is not a claim path.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a claim path such as `email`, `realm_access.roles` or `memberOf[*].cn`")]
pub struct InvalidClaimPath(String);

impl ClaimPath {
    /// Reads a path.
    ///
    /// # Errors
    ///
    /// When a step is empty or a quote or bracket is not closed.
    pub fn parse(text: &str) -> Result<Self, InvalidClaimPath> {
        let invalid = || InvalidClaimPath(text.to_owned());
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            if let Some(quoted) = rest.strip_prefix('"') {
                let (name, after) = quoted.split_once('"').ok_or_else(invalid)?;
                steps.push(Step::Member(name.into()));
                rest = after;
            } else {
                let end = rest.find(['.', '[', '"']).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                if name.is_empty() {
                    return Err(invalid());
                }
                steps.push(Step::Member(name.into()));
                rest = after;
            }
            while let Some(after) = rest.strip_prefix("[*]") {
                steps.push(Step::Each);
                rest = after;
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => break,
                None => return Err(invalid()),
            }
        }
        Ok(Self {
            text: text.into(),
            steps,
        })
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first member that the path names.
    pub fn first(&self) -> &str {
        match self.steps.first() {
            Some(Step::Member(name)) => name,
            Some(Step::Each) | None => "",
        }
    }

    /// Whether any value that the path leads to passes `test`; an array at its end is judged item by item.
    pub fn any(&self, claims: &ClaimMap, test: &dyn Fn(&Value) -> bool) -> bool {
        let Some((Step::Member(first), rest)) = self.steps.split_first() else {
            return false;
        };
        claims
            .member(first)
            .is_some_and(|value| any(value, rest, test))
    }

    /// What the path leads to without a copy; `None` where it is absent, and for a path with `[*]`.
    pub fn find_one<'a>(&self, claims: &'a ClaimMap) -> Option<&'a Value> {
        let (Step::Member(first), rest) = self.steps.split_first()? else {
            return None;
        };
        rest.iter()
            .try_fold(claims.member(first)?, |value, step| match step {
                Step::Member(name) => value.get(&**name),
                Step::Each => None,
            })
    }

    /// Whether the path can lead to several values.
    pub fn is_many(&self) -> bool {
        self.steps.contains(&Step::Each)
    }

    /// What the path leads to: one value, or for a path with `[*]` an array of all values found. A single value where
    /// `[*]` expects an array counts as an array of one, as directories write it.
    pub fn find(&self, claims: &ClaimMap) -> Option<Value> {
        let (Step::Member(first), rest) = self.steps.split_first()? else {
            return None;
        };
        walk(claims.member(first)?, rest)
    }
}

fn walk(value: &Value, steps: &[Step]) -> Option<Value> {
    match steps.split_first() {
        None => Some(value.clone()),
        Some((Step::Member(name), rest)) => walk(value.get(&**name)?, rest),
        Some((Step::Each, rest)) => {
            let found = items(value)
                .iter()
                .filter_map(|item| walk(item, rest))
                .flat_map(|found| match found {
                    // A second `[*]` further on: one list, not lists in a list.
                    Value::Array(inner) if rest.contains(&Step::Each) => inner,
                    other => vec![other],
                });
            Some(Value::Array(found.collect()))
        }
    }
}

fn any(value: &Value, steps: &[Step], test: &dyn Fn(&Value) -> bool) -> bool {
    match steps.split_first() {
        None => items(value).iter().any(test),
        Some((Step::Member(name), rest)) => value
            .get(&**name)
            .is_some_and(|value| any(value, rest, test)),
        Some((Step::Each, rest)) => items(value).iter().any(|item| any(item, rest, test)),
    }
}

/// A value as a rule names it: a text word for word, a number or a truth value as JSON writes it (old systems number what newer
/// ones name); nothing else has a name.
pub fn named(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether a value is `wanted`, or an item of it.
pub fn says(value: &Value, wanted: &str) -> bool {
    let is = |item| named(item).is_some_and(|name| name == wanted);
    items(value).iter().any(is)
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Null => &[],
        Value::Array(items) => items,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            std::slice::from_ref(value)
        }
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_says_what_it_is_and_nothing_near_it() {
        for (value, wanted, is) in [
            (json!("gold"), "gold", true),
            (json!("Gold"), "gold", false),
            (json!("gold "), "gold", false),
            (json!(["silver", "gold"]), "gold", true),
            (json!([6, 7]), "7", true),
            (json!([["gold"]]), "gold", false),
            (json!(true), "true", true),
            (json!(7), "7", true),
            (json!(70), "7", false),
            (json!({ "gold": true }), "gold", false),
            (json!(null), "null", false),
        ] {
            assert_eq!(says(&value, wanted), is, "{value} {wanted}");
        }
    }

    fn claims(value: Value) -> ClaimMap {
        let Value::Object(members) = value else {
            panic!("an object")
        };
        ClaimMap::new(members)
    }

    #[test]
    fn members_are_found_in_whatever_order_they_came_and_no_name_stands_twice() {
        let names = ["zeta", "sub", "exp", "aud", "iss", "", "suba", "Sub"];
        let came = |names: &[&str]| {
            let members = names.iter().enumerate();
            members
                .map(|(place, name)| (claim_name(name), Value::from(place)))
                .collect::<Vec<_>>()
        };
        let all = ClaimMap::distinct(came(&names)).unwrap();
        for (place, name) in names.into_iter().enumerate() {
            assert_eq!(all.member(name), Some(&Value::from(place)), "{name}");
        }
        assert_eq!(all.member("su"), None);
        assert!(all.iter().map(|(name, _)| name).is_sorted());
        // The same as of an object, also when it is changed afterwards.
        let object = all
            .iter()
            .map(|(name, value)| (name.to_owned(), value.clone()));
        let mut same = ClaimMap::new(object.collect());
        assert_eq!(all, same);
        same.insert("sub", Value::from("again"));
        same.insert("middle", Value::from(1));
        same.remove("zeta");
        assert_eq!(same.text("sub"), Some("again"));
        assert_eq!(same.member("zeta"), None);
        assert_eq!(same.iter().count(), names.len());
        assert!(same.iter().map(|(name, _)| name).is_sorted());
        for twice in [["sub", "a", "sub"], ["x", "x", "a"], ["a", "x", "x"]] {
            assert_eq!(ClaimMap::distinct(came(&twice)), None, "{twice:?}");
        }
    }

    #[test]
    fn finds_plain_nested_and_listed_claims() {
        let claims = claims(json!({
            "email": "a@b", "realm_access": { "roles": ["x", "y"] },
            "memberOf": [{ "cn": "it" }, { "ou": "none" }, { "cn": "hr" }],
            "https://corp.example/roles": ["z"],
        }));
        let find = |path: &str| ClaimPath::parse(path).unwrap().find(&claims);
        assert_eq!(find("email"), Some(json!("a@b")));
        assert_eq!(find("realm_access.roles"), Some(json!(["x", "y"])));
        assert_eq!(find("memberOf[*].cn"), Some(json!(["it", "hr"])));
        assert_eq!(find("\"https://corp.example/roles\""), Some(json!(["z"])));
        assert_eq!(find("email.domain"), None);
        assert_eq!(find("email[*]"), Some(json!(["a@b"])));
        assert_eq!(find("memberOf.cn"), None);
    }

    #[test]
    fn two_lists_in_one_path_give_one_list() {
        let claims = claims(
            json!({ "orgs": [{ "roles": ["a", "b"] }, { "roles": ["c"] }, { "roles": "d" }] }),
        );
        let path = ClaimPath::parse("orgs[*].roles[*]").unwrap();
        assert_eq!(path.find(&claims), Some(json!(["a", "b", "c", "d"])));
    }

    #[test]
    fn any_value_at_the_end_of_a_path_is_judged_alone() {
        let claims = claims(
            json!({ "region": "emea", "roles": ["a", "b"], "orgs": [{ "id": "x" }, { "id": "y" }] }),
        );
        let any = |path: &str, text: &str| {
            ClaimPath::parse(path)
                .unwrap()
                .any(&claims, &|value| value == text)
        };
        assert!(any("region", "emea"));
        assert!(any("roles", "b"));
        assert!(any("orgs[*].id", "y"));
        assert!(!any("roles", "c"));
        assert!(!any("roles.b", "b"));
        assert!(!any("absent", "b"));
    }

    #[test]
    fn debug_names_the_members_only() {
        let claims = claims(json!({ "email": "alice@corp.example" }));
        assert_eq!(format!("{claims:?}"), r#"{"email"}"#);
    }

    #[test]
    fn refuses_what_is_not_a_path() {
        for text in ["", ".", "a.", "a..b", "a[0]", "\"open", "[*]"] {
            assert!(ClaimPath::parse(text).is_err(), "{text}");
        }
    }
}
