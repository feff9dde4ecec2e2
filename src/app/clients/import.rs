//! Registrations of an old provider, read from its file, as entries of our configuration: a Keycloak realm, or client
//! metadata (RFC 7591). What cannot be moved is said; what is not said in the file is not guessed.

use std::fmt::Write as _;

use serde_json::Map;
use serde_json::Value;

use crate::app::clients::hash;
use crate::secret::Secret;

/// How the entries are to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The provider that the registrations are of.
    pub(crate) provider: &'a str,
    /// Whom tokens of the clients are for.
    pub(crate) audiences: &'a [String],
    /// Where their secrets are kept for what is asked at the provider in their name.
    pub(crate) secrets: &'a str,
}

/// What a public client may have: a person signs in for it, or has done so.
const FOR_PUBLIC: [&str; 2] = ["device_code", "refresh_token"];

/// Why clients are left out that no secret may stand in for.
const BY_CERTIFICATE: &str =
    "it proves by a certificate who it is, which the file does not have; give it `certificates`";
const ANOTHER_WAY: &str = "it proves in a way that is not known here who it is";

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// Below `token_endpoint.clients`.
    pub(crate) yaml: String,
    /// By client: the secret, in the clear as the file had it.
    pub(crate) secrets: Vec<(String, Secret<String>)>,
    /// What somebody must look at, by client.
    pub(crate) notes: Vec<String>,
    /// How many entries there are.
    pub(crate) clients: usize,
}

/// How a client proves who it is: nothing weaker takes its place here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    /// The file does not say: by its keys, where it has any, else by a secret.
    Unsaid,
    /// By nothing.
    Nothing,
    /// By a secret that it sends.
    Secret,
    /// By a key, whose public half is to be in the file.
    Key,
}

impl Proof {
    /// What proves it, of what the file has of both: what is left over of another way proves nobody.
    fn of<'a>(
        self,
        id: &str,
        secret: Option<&'a str>,
        keys: Option<Value>,
    ) -> Result<(Option<&'a str>, Option<Value>), String> {
        let keys = keys.filter(|keys| {
            let all = keys.get("keys").and_then(Value::as_array);
            all.is_some_and(|all| !all.is_empty())
        });
        match (self, keys) {
            (Self::Unsaid, keys) => Ok((secret, keys)),
            (Self::Nothing, _) => Ok((None, None)),
            (Self::Secret, _) => Ok((secret, None)),
            (Self::Key, Some(keys)) => Ok((None, Some(keys))),
            (Self::Key, None) => Err(format!(
                "{id}: it proves by a key who it is, and the file does not have the public half; give it `keys`; left out"
            )),
        }
    }
}

/// One registration, whatever the file calls its parts.
struct Registration<'a> {
    id: &'a str,
    /// Whether it proves nothing.
    public: bool,
    secret: Option<&'a str>,
    keys: Option<Value>,
    grants: Vec<&'static str>,
    scopes: Vec<String>,
    left: Vec<String>,
}

/// Reads a file.
///
/// # Errors
///
/// When it is neither.
pub(crate) fn import(text: &str, wanted: Wanted<'_>) -> Result<Imported, String> {
    let document: Value =
        serde_json::from_str(text).map_err(|error| format!("the file is no JSON: {error}"))?;
    let list = document.get("clients").unwrap_or(&document);
    let one = std::slice::from_ref(list);
    let all = match list {
        Value::Array(all) => all.as_slice(),
        Value::Object(_) => one,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => &[],
    };
    let mut imported = Imported::default();
    for entry in all {
        let Value::Object(entry) = entry else {
            return Err("an entry of the file is no client".to_owned());
        };
        let read = match (text_of(entry, "clientId"), text_of(entry, "client_id")) {
            (Some(id), None) => keycloak(id, entry),
            (None, Some(id)) => metadata(id, entry),
            _ => return Err("an entry of the file has no `clientId` or `client_id`".to_owned()),
        };
        match read {
            Ok(registration) => imported.add(&registration, wanted),
            Err(why) => imported.notes.push(why),
        }
    }
    if imported.clients == 0 && imported.notes.is_empty() {
        return Err("there is no client in the file".to_owned());
    }
    Ok(imported)
}

fn text_of<'a>(entry: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    entry.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn is(entry: &Map<String, Value>, name: &str) -> bool {
    match entry.get(name) {
        Some(Value::Bool(is)) => *is,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}

fn texts(entry: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = entry.get(name).and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// `ClientRepresentation` of a realm export.
fn keycloak<'a>(id: &'a str, entry: &'a Map<String, Value>) -> Result<Registration<'a>, String> {
    let no = |why: &str| Err(format!("{id}: {why}; left out"));
    if entry.get("enabled") == Some(&Value::Bool(false)) {
        return no("it is switched off");
    }
    if is(entry, "bearerOnly") {
        return no("it is asked with tokens, and asks for none");
    }
    let none = Map::new();
    let attributes = entry.get("attributes").and_then(Value::as_object);
    let attributes = attributes.unwrap_or(&none);
    let mut grants = Vec::new();
    let mut left = Vec::new();
    if is(entry, "serviceAccountsEnabled") {
        grants.push("client_credentials");
    }
    if is(attributes, "standard.token.exchange.enabled") {
        grants.push("token_exchange");
    }
    if is(attributes, "oauth2.device.authorization.grant.enabled") {
        grants.push("device_code");
    }
    let signs_in = is(entry, "standardFlowEnabled") || grants.contains(&"device_code");
    if signs_in
        && attributes
            .get("use.refresh.tokens")
            .is_none_or(|_| is(attributes, "use.refresh.tokens"))
    {
        grants.push("refresh_token");
    }
    for (name, what) in [
        ("implicitFlowEnabled", "the implicit grant"),
        ("directAccessGrantsEnabled", "the password grant"),
    ] {
        if is(entry, name) {
            left.push(format!("{what} is not moved"));
        }
    }
    for uri in texts(entry, "redirectUris") {
        if uri.contains('*') {
            left.push(format!("`{uri}` is a wildcard redirect"));
        }
    }
    let mut secret = text_of(entry, "secret");
    if secret.is_some_and(|secret| secret.bytes().all(|byte| byte == b'*')) {
        left.push("the file hides its secret".to_owned());
        secret = None;
    }
    let proof = match text_of(entry, "clientAuthenticatorType") {
        _ if is(entry, "publicClient") => Proof::Nothing,
        None => Proof::Unsaid,
        Some("client-secret") => Proof::Secret,
        Some("client-jwt") => Proof::Key,
        Some("client-x509") => return no(BY_CERTIFICATE),
        Some(other) => return no(&format!("{ANOTHER_WAY} (`{other}`)")),
    };
    // Where they are at an address, those in the file may be old.
    let inline = text_of(attributes, "jwks.string").filter(|_| !is(attributes, "use.jwks.url"));
    let keys = inline.and_then(|text| serde_json::from_str(text).ok());
    let (secret, keys) = proof.of(id, secret, keys)?;
    let scopes = texts(entry, "defaultClientScopes")
        .into_iter()
        .chain(texts(entry, "optionalClientScopes"));
    Ok(Registration {
        id,
        public: proof == Proof::Nothing,
        secret,
        keys,
        grants,
        scopes: scopes.collect(),
        left,
    })
}

/// RFC 7591 §2.
fn metadata<'a>(id: &'a str, entry: &'a Map<String, Value>) -> Result<Registration<'a>, String> {
    let no = |why: &str| Err(format!("{id}: {why}; left out"));
    let proof = match text_of(entry, "token_endpoint_auth_method") {
        None => Proof::Unsaid,
        Some("none") => Proof::Nothing,
        Some("client_secret_basic" | "client_secret_post") => Proof::Secret,
        Some("private_key_jwt") => Proof::Key,
        Some("tls_client_auth" | "self_signed_tls_client_auth") => return no(BY_CERTIFICATE),
        Some(other) => return no(&format!("{ANOTHER_WAY} (`{other}`)")),
    };
    let secret = text_of(entry, "client_secret");
    let (secret, keys) = proof.of(id, secret, entry.get("jwks").cloned())?;
    let (mut grants, mut left) = (Vec::new(), Vec::new());
    for grant in texts(entry, "grant_types") {
        match &*grant {
            "client_credentials" => grants.push("client_credentials"),
            "refresh_token" => grants.push("refresh_token"),
            "urn:ietf:params:oauth:grant-type:token-exchange" => grants.push("token_exchange"),
            "urn:ietf:params:oauth:grant-type:device_code" => grants.push("device_code"),
            // It signs people in at the provider; what it refreshes, it refreshes here.
            "authorization_code" => {}
            other => left.push(format!("`{other}` is not moved")),
        }
    }
    let scope = text_of(entry, "scope").unwrap_or_default();
    Ok(Registration {
        id,
        public: proof == Proof::Nothing,
        secret,
        keys,
        grants,
        scopes: scope
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect(),
        left,
    })
}

/// A text as YAML: JSON is YAML.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<String> = texts.into_iter().map(quoted).collect();
    format!("[{}]", all.join(", "))
}

impl Imported {
    fn add(&mut self, read: &Registration<'_>, wanted: Wanted<'_>) {
        let mut note = |what: &str| self.notes.push(format!("{}: {what}", read.id));
        for left in &read.left {
            note(left);
        }
        let may = |grant: &&str| !read.public || FOR_PUBLIC.contains(grant);
        for grant in read.grants.iter().filter(|grant| !may(grant)) {
            note(&format!("it is public, and `{grant}` is not for it"));
        }
        let grants: Vec<&str> = read
            .grants
            .iter()
            .copied()
            .filter(|grant| may(grant))
            .collect();
        if grants.is_empty() {
            note("nothing of it is moved; left out");
            return;
        }
        let proofs = match (&read.keys, read.secret) {
            _ if read.public => "auth: none".to_owned(),
            (Some(keys), _) => format!("keys: {keys}"),
            (None, Some(secret)) => format!("secret_hashes: {}", list([&*hash(secret)])),
            (None, None) => {
                note("its secret is learned when it comes with it for the first time");
                format!("learn_secret_at: {}", quoted(wanted.provider))
            }
        };
        // A name of a file, whatever a client is called.
        let file: String = read
            .id
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        if read.secret.is_none() && !read.public {
            note(&format!(
                "`{}/{file}` must hold what proves us to be it at `{}`",
                wanted.secrets, wanted.provider
            ));
        }
        let mut yaml = format!(
            "{}:\n  {proofs}\n  grants: {}\n  audiences: {}\n  scopes: {}\n",
            quoted(read.id),
            list(grants.iter().copied()),
            list(wanted.audiences.iter().map(String::as_str)),
            list(read.scopes.iter().map(String::as_str)),
        );
        if grants.contains(&"refresh_token") {
            let _written = writeln!(yaml, "  refresh: {{ adopt: {} }}", quoted(wanted.provider));
        }
        let there = if read.public {
            "auth: none".to_owned()
        } else {
            let place = quoted(&format!("{}/{file}", wanted.secrets));
            format!("secret: {{ file: {place} }}")
        };
        let _written = writeln!(
            yaml,
            "  at:\n    {}: {{ id: {}, {there} }}",
            quoted(wanted.provider),
            quoted(read.id),
        );
        self.yaml.push_str(&yaml);
        if let Some(secret) = read.secret.filter(|_| !read.public) {
            self.secrets.push((file, Secret::new(secret.to_owned())));
        }
        self.clients += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const WANTED: Wanted<'static> = Wanted {
        provider: "old",
        audiences: &[],
        secrets: "secrets",
    };

    #[test]
    fn a_realm_becomes_entries_and_says_what_it_cannot_move() {
        let realm = json!({ "realm": "corp", "clients": [
            { "clientId": "batch", "secret": "s3cret", "serviceAccountsEnabled": true, "defaultClientScopes": ["read"], "standardFlowEnabled": false },
            { "clientId": "web", "secret": "**********", "standardFlowEnabled": true, "implicitFlowEnabled": true, "redirectUris": ["https://*"] },
            { "clientId": "spa", "publicClient": true },
            { "clientId": "phone", "publicClient": true, "standardFlowEnabled": true, "secret": "left over",
              "attributes": { "standard.token.exchange.enabled": "true" } },
            { "clientId": "gone", "enabled": false },
            { "clientId": "api", "bearerOnly": true },
            { "clientId": "tv/1", "secret": "t", "attributes": { "oauth2.device.authorization.grant.enabled": "true", "use.refresh.tokens": "false" } },
        ] });
        let imported = import(&realm.to_string(), WANTED).unwrap();
        assert_eq!(imported.clients, 4);
        let yaml = &imported.yaml;
        assert!(
            yaml.contains(&format!(
                "\"batch\":\n  secret_hashes: [\"{}\"]\n  grants: [\"client_credentials\"]",
                hash("s3cret")
            )),
            "{yaml}"
        );
        assert!(
            yaml.contains("\"web\":\n  learn_secret_at: \"old\"\n  grants: [\"refresh_token\"]"),
            "{yaml}"
        );
        assert!(
            yaml.contains("\"tv/1\":") && yaml.contains("secrets/tv_1"),
            "{yaml}"
        );
        assert!(!yaml.contains("s3cret") && !yaml.contains("spa") && !yaml.contains("left over"));
        let phone = "\"phone\":\n  auth: none\n  grants: [\"refresh_token\"]\n  audiences: []\n  scopes: []\n  \
                     refresh: { adopt: \"old\" }\n  at:\n    \"old\": { id: \"phone\", auth: none }\n";
        assert!(yaml.contains(phone), "{yaml}");
        let notes = imported.notes.join("\n");
        for word in [
            "web: the implicit grant",
            "wildcard redirect",
            "spa: nothing of it is moved",
            "phone: it is public, and `token_exchange` is not for it",
            "gone: it is switched off",
            "api: it is asked",
            "web: the file hides",
        ] {
            assert!(notes.contains(word), "{word}: {notes}");
        }
        assert_eq!(imported.secrets.len(), 2);
    }

    #[test]
    fn whoever_proves_by_more_than_a_secret_gets_none() {
        let key = json!({ "keys": [{ "kty": "EC" }] });
        let grants = json!(["client_credentials"]);
        let realm = |kind: &str, attributes: &Value| {
            json!({ "clients": [{ "clientId": "a", "secret": "left over", "serviceAccountsEnabled": true,
                "clientAuthenticatorType": kind, "attributes": attributes }] })
        };
        let registered = |method: &str, more: &Value| {
            let mut entry = json!({ "client_id": "a", "client_secret": "left over", "grant_types": grants,
                "token_endpoint_auth_method": method });
            let members = entry.as_object_mut().unwrap();
            members.extend(more.as_object().unwrap().clone());
            json!([entry])
        };
        let none = json!({});
        let inline = json!({ "jwks.string": key.to_string(), "use.jwks.string": "true" });
        let stale = json!({ "jwks.string": key.to_string(), "use.jwks.url": "true", "jwks.url": "https://a.test/keys" });
        let elsewhere = json!({ "jwks_uri": "https://a.test/keys" });
        for document in [
            realm("client-jwt", &none),
            realm("client-jwt", &stale),
            realm("client-jwt", &json!({ "jwks.string": r#"{"keys":[]}"# })),
            realm("client-x509", &inline),
            realm("client-secret-jwt", &inline),
            realm("of-ours", &none),
            registered("private_key_jwt", &elsewhere),
            registered("private_key_jwt", &none),
            registered("tls_client_auth", &none),
            registered("self_signed_tls_client_auth", &json!({ "jwks": key })),
            registered("client_secret_jwt", &none),
        ] {
            let imported = import(&document.to_string(), WANTED).unwrap();
            assert_eq!(imported.clients, 0, "{document}\n{}", imported.yaml);
            let notes = imported.notes.join("\n");
            assert!(
                notes.starts_with("a: it proves") && notes.ends_with("; left out"),
                "{notes}"
            );
            assert!(imported.secrets.is_empty(), "{document}");
        }
        // With the public half in the file it is known by that alone.
        for document in [
            realm("client-jwt", &inline),
            registered("private_key_jwt", &json!({ "jwks": key })),
        ] {
            let imported = import(&document.to_string(), WANTED).unwrap();
            let yaml = &imported.yaml;
            assert!(yaml.contains("\n  keys: {\"keys\":[{"), "{yaml}");
            assert!(!yaml.contains("secret_hashes") && !yaml.contains("learn_secret_at"));
            assert!(imported.secrets.is_empty(), "{document}");
        }
        // Keys that are there for something else are not what a client of a secret is known by.
        for document in [
            realm("client-secret", &inline),
            registered("client_secret_post", &json!({ "jwks": key })),
        ] {
            let imported = import(&document.to_string(), WANTED).unwrap();
            assert!(imported.yaml.contains("secret_hashes"), "{}", imported.yaml);
        }
    }

    #[test]
    fn client_metadata_become_entries() {
        let all = json!([
            { "client_id": "a", "client_secret": "x", "grant_types": ["authorization_code", "refresh_token", "password"], "scope": "read write" },
            { "client_id": "b", "token_endpoint_auth_method": "none" },
            { "client_id": "tv", "token_endpoint_auth_method": "none", "grant_types": ["urn:ietf:params:oauth:grant-type:device_code"] },
        ]);
        let imported = import(&all.to_string(), WANTED).unwrap();
        assert_eq!((imported.clients, imported.notes.len()), (2, 2));
        let tv = "\"tv\":\n  auth: none\n  grants: [\"device_code\"]";
        assert!(imported.yaml.contains(tv), "{}", imported.yaml);
        assert!(imported.yaml.contains("scopes: [\"read\", \"write\"]"));
        for bad in ["", "[]", "3", "{}", "[3]", r#"{"clients":[{"name":"x"}]}"#] {
            assert!(import(bad, WANTED).is_err(), "{bad}");
        }
    }
}
