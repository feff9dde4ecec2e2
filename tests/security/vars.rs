//! Values for `${…}`: tokens, sessions, parts of a login, numbers of the run.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::SystemTime;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::case::Case;
use crate::run::Runner;
use crate::run::Stop;
use crate::run::pattern;
use crate::tokens::base64url;
use crate::tokens::unique;
use crate::world::browser::Browser;
use crate::world::browser::Flow;
use crate::world::idp::CLIENT_SECRET;
use crate::world::target::ADMIN_TOKEN;
use crate::world::target::Kind;

/// The values of one case, made when they are first needed.
#[derive(Debug, Default)]
pub(crate) struct Vars {
    made: BTreeMap<String, String>,
    tokens: BTreeMap<String, Map<String, Value>>,
    /// Logins by name, each in its browser.
    pub(crate) flows: BTreeMap<String, (Browser, Flow)>,
}

impl Vars {
    /// The values of a case.
    pub(crate) fn new(case: &Case) -> Self {
        Self {
            tokens: case.all_tokens(),
            ..Self::default()
        }
    }

    /// Gives a value.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.made.insert(name.to_owned(), value.into());
    }

    /// A text with our names and values.
    pub(crate) async fn fill(&mut self, runner: &Runner, text: &str) -> Result<String, Stop> {
        let mut text = text.to_owned();
        for (written, flow, other) in [
            ("__Host-gate-flow-${FLOW_ID}=${FLOW_COOKIE}", "F1", "F1"),
            ("__Host-gate-flow-F1=${F2_COOKIE}", "F1", "F2"),
        ] {
            if text.contains(written) {
                let name = self.flow(runner, flow).await?.cookie.0;
                let value = self.flow(runner, other).await?.cookie.1;
                text = text.replace(written, &format!("{name}={value}"));
            }
        }
        let mut text = runner.names().ours(&text);
        let names = pattern(r"\$\{([^}]*)\}");
        while let Some(found) = names.captures(&text) {
            let whole = found.get(0).map_or("", |m| m.as_str()).to_owned();
            let name = found.get(1).map_or("", |m| m.as_str()).to_owned();
            let value = self.value(runner, &name).await?;
            // One by one where every use is another value.
            text = text.replacen(&whole, &value, 1);
        }
        Ok(text)
    }

    /// The value of a name.
    pub(crate) async fn value(&mut self, runner: &Runner, name: &str) -> Result<String, Stop> {
        if let Some(repeated) = name.strip_prefix("rep:") {
            let parts = repeated
                .rsplit_once(',')
                .and_then(|(what, n)| Some((what, n.parse().ok()?)));
            let (what, times) =
                parts.ok_or_else(|| Stop::Skip(format!("not understood: ${{{name}}}")))?;
            return Ok(what.repeat(times));
        }
        if let Some(made) = self.made.get(name) {
            return Ok(made.clone());
        }
        if let Some(template) = self.tokens.get(name).cloned() {
            if Value::Object(template.clone())
                .to_string()
                .contains("\"now")
            {
                beginning_of_a_second().await;
            }
            let template = Box::pin(self.proof(runner, template)).await?;
            let token = runner.world.mint.mint(&template)?;
            self.set(name, token.clone());
            return Ok(token);
        }
        let value = self.make(runner, name).await?;
        if !name.starts_with("RANDOM") && name != "PROOF_OK" && !name.ends_with("_BAD_SIG") {
            self.set(name, value.clone());
        }
        Ok(value)
    }

    /// A proof is for the token `BOUND`, where its template does not say another hash.
    async fn proof(
        &mut self,
        runner: &Runner,
        mut template: Map<String, Value>,
    ) -> Result<Map<String, Value>, Stop> {
        if template.get("base").and_then(Value::as_str) != Some("new.dpop_proof") {
            return Ok(template);
        }
        let without = template
            .get("del")
            .is_some_and(|names| names.to_string().contains("\"ath\""));
        let mut set = template.remove("set").unwrap_or_else(|| json!({}));
        if !without && set.get("ath").is_none() {
            let bound = self.value(runner, "BOUND").await?;
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bound.as_bytes());
            set["ath"] = json!(base64url(hash));
        }
        if set.get("nonce").and_then(Value::as_str) == Some("of the last answer") {
            set["nonce"] = json!(self.value(runner, "NONCE").await?);
        }
        template.insert("set".to_owned(), set);
        Ok(template)
    }

    async fn make(&mut self, runner: &Runner, name: &str) -> Result<String, Stop> {
        let world = &runner.world;
        let mint = &world.mint;
        let token = |template: Value| -> Result<String, Stop> {
            Ok(mint.mint(template.as_object().unwrap_or(&Map::new()))?)
        };
        let person = |name: &str| {
            let groups = if name == "admin" { "admins" } else { "users" };
            json!({ "sub": name, "preferred_username": name, "name": name, "email": format!("{name}@corp.test"), "groups": [groups] })
        };
        match name {
            "SUB_ALICE" => return Ok("new/alice".to_owned()),
            "SUB_OLD_ALICE" => return Ok("old/old-4711".to_owned()),
            "SINK" => return Ok(world.sink.address.to_string()),
            "ADMIN_TOKEN" => return Ok(ADMIN_TOKEN.to_owned()),
            "CLIENT_SECRET" => return Ok(CLIENT_SECRET.to_owned()),
            "RANDOM_BAD_SIG" | "NEW_JWT_BAD_SIG" | "RSA4096_BAD_SIG" => {
                let (length, kid) = if name == "RSA4096_BAD_SIG" {
                    (512, "n4096")
                } else {
                    (256, "n1")
                };
                let mut signature = vec![0x5a; length];
                if let Some(start) = signature.get_mut(..16) {
                    start.copy_from_slice(&unique());
                }
                return token(
                    json!({ "base": "new.access", "hdr": { "kid": kid }, "sig": base64url(signature) }),
                );
            }
            "NEW_JWT_EXPIRED" => {
                return token(
                    json!({ "base": "new.access", "set": { "exp": "now-3600", "iat": "now-7200" } }),
                );
            }
            "EVIL_JWT" => return token(json!({ "base": "evil.access" })),
            "TOK_N3" => {
                return token(
                    json!({ "base": "new.access", "hdr": { "kid": "n3" }, "sign_with": "new.n3" }),
                );
            }
            "BOUND" => {
                return token(
                    json!({ "base": "new.access", "set": { "cnf": { "jkt": "thumbprint of dk1" } } }),
                );
            }
            "PROOF_OK" => {
                let template = Map::from_iter([("base".to_owned(), json!("new.dpop_proof"))]);
                let template = Box::pin(self.proof(runner, template)).await?;
                return Ok(mint.mint(&template)?);
            }
            "LT_OK" => return token(json!({ "base": "new.logout_token" })),
            "OPAQUE" | "TREAD" | "T" => return Ok(world.old.opaque(world.old.active("alice"))),
            "REFRESH_TOKEN" => return Ok(world.new.last_refresh_token()),
            "FLOW_COOKIE" => return Ok(self.flow(runner, "F1").await?.cookie.1),
            _ => {}
        }
        if let Some(token) = name.strip_prefix("DIGEST_OF_") {
            let token = Box::pin(self.value(runner, token)).await?;
            let payload = token.split('.').nth(1).unwrap_or_default();
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, payload.as_bytes());
            return Ok(digest.as_ref().iter().map(|b| format!("{b:02x}")).collect());
        }
        if let Some(user) = name.strip_prefix("LEGACY_") {
            return Ok(world.legacy.session(&user.to_lowercase()));
        }
        if let Some(user) = name.strip_prefix("SESS_") {
            let user = user.strip_suffix("_DELETED").unwrap_or(user).to_lowercase();
            return sign_in(runner, &user).await;
        }
        if let Some((flow, part)) = name.split_once('_') {
            let state = self.flows.contains_key(flow) || matches!(flow, "F1" | "F2" | "ATT");
            match part {
                "STATE" if state => return Ok(self.flow(runner, flow).await?.state),
                "COOKIE" if state => return Ok(self.flow(runner, flow).await?.cookie.1),
                "CODE" if state => return self.code(runner, flow).await,
                _ => {}
            }
        }
        if ["ALICE", "BOB", "CAROL", "EVE", "ADMIN"].contains(&name) {
            return Ok(mint.good("new.access", &person(&name.to_lowercase())));
        }
        if let Some(seconds) = name
            .strip_prefix("ALICE_")
            .and_then(|rest| rest.strip_suffix('S'))
        {
            return token(
                json!({ "base": "new.access", "set": { "exp": format!("now+{seconds}") } }),
            );
        }
        Err(Stop::Skip(format!("not understood: ${{{name}}}")))
    }

    /// A login that has begun, in a browser of its own.
    pub(crate) async fn flow(&mut self, runner: &Runner, name: &str) -> Result<Flow, Stop> {
        no_logins_there(runner)?;
        if let Some((_, flow)) = self.flows.get(name) {
            return Ok(flow.clone());
        }
        // F2 is begun in the browser of F1.
        let mut browser = match name {
            "F2" => self
                .flows
                .get("F1")
                .map(|(browser, _)| browser.clone())
                .unwrap_or_default(),
            _ => Browser::default(),
        };
        let wire = runner.world.public(runner.target()?);
        let flow = browser.begin(&wire, "/app").await.map_err(Stop::Fail)?;
        self.flows.insert(name.to_owned(), (browser, flow.clone()));
        Ok(flow)
    }

    async fn code(&mut self, runner: &Runner, name: &str) -> Result<String, Stop> {
        self.flow(runner, name).await?;
        let Some((browser, flow)) = self.flows.get(name) else {
            return Err(Stop::Fail("no login began".to_owned()));
        };
        let back = browser
            .back(&runner.world, flow, "alice")
            .map_err(Stop::Fail)?;
        let query = back.split_once('?').map_or("", |(_, query)| query);
        Ok(crate::world::idp::pairs(query)
            .remove("code")
            .unwrap_or_default())
    }
}

/// A session of somebody.
pub(crate) async fn sign_in(runner: &Runner, user: &str) -> Result<String, Stop> {
    no_logins_there(runner)?;
    let mut browser = Browser::default();
    let session = browser.sign_in(&runner.world, runner.target()?, user).await;
    session.map_err(Stop::Fail)
}

fn no_logins_there(runner: &Runner) -> Result<(), Stop> {
    match runner.kind {
        Kind::Authferry => Ok(()),
        Kind::Naive => Err(Stop::Skip("the naive proxy has no logins".to_owned())),
    }
}

/// Tokens at the edge of their time are made early in a second: it is the same one when they are judged.
async fn beginning_of_a_second() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the clock of the proxy is the clock of the machine"
    )]
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    if 300 < now.subsec_millis() {
        let left = 1_005 - u64::from(now.subsec_millis());
        tokio::time::sleep(Duration::from_millis(left)).await;
    }
}
