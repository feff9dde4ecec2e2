//! A browser, as far as logins need one: it keeps cookies, follows redirects of the proxy, and signs in at providers.

use std::collections::BTreeMap;

use super::Target;
use super::World;
use crate::wire::Answer;
use crate::wire::Wire;
use crate::wire::h1;

/// Cookies for `app.test`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Browser {
    /// By name.
    pub(crate) cookies: BTreeMap<String, String>,
}

/// A login that has been begun and not finished.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// Where the browser was sent.
    pub(crate) location: String,
    /// `state`.
    pub(crate) state: String,
    /// The cookie of the flow.
    pub(crate) cookie: (String, String),
}

/// The name of the session cookie.
pub(crate) const SESSION: &str = "__Host-authferry";

impl Browser {
    /// A top-level navigation.
    pub(crate) async fn open(&mut self, wire: &Wire, target: &str) -> Result<Answer, String> {
        self.send(
            wire,
            "GET",
            target,
            "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
            "",
        )
        .await
    }

    /// Any request with the cookies.
    pub(crate) async fn send(
        &mut self,
        wire: &Wire,
        method: &str,
        target: &str,
        fields: &str,
        body: &str,
    ) -> Result<Answer, String> {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: app.test\r\n{fields}");
        if !cookies.is_empty() {
            text.push_str(&format!("Cookie: {}\r\n", cookies.join("; ")));
        }
        if method == "POST" {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let bytes = format!("{text}\r\n{body}");
        let outcome = h1::send(wire, bytes.as_bytes(), h1::Wish::default()).await;
        if let Some(why) = outcome.failed {
            return Err(why);
        }
        let answer = outcome.answers.into_iter().next().ok_or("no answer")?;
        for pair in answer.all("set-cookie") {
            let Some((name, value)) = pair.split(';').next().and_then(|p| p.split_once('=')) else {
                continue;
            };
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(answer)
    }

    /// Goes to `target` without being signed in, as far as the provider.
    pub(crate) async fn begin(&mut self, wire: &Wire, target: &str) -> Result<Flow, String> {
        let before = self.cookies.clone();
        let mut target = target.to_owned();
        for _ in 0..4 {
            let answer = self.open(wire, &target).await?;
            let location = answer.header("location").unwrap_or_default().to_owned();
            if !(300..400).contains(&answer.status) {
                return Err(format!("no login began: {} at {target}", answer.status));
            }
            if let Some(query) = location.split_once("/authorize?").map(|(_, query)| query) {
                let state = super::idp::pairs(query).remove("state").unwrap_or_default();
                let cookie = self
                    .cookies
                    .iter()
                    .find(|(n, v)| n.contains("_flow") && before.get(*n) != Some(v));
                let cookie = cookie.map(|(n, v)| (n.clone(), v.clone()));
                let cookie = cookie.ok_or("the login has no cookie of its own")?;
                return Ok(Flow {
                    location,
                    state,
                    cookie,
                });
            }
            target = location
                .strip_prefix("https://app.test")
                .unwrap_or(&location)
                .to_owned();
            if !target.starts_with('/') {
                return Err(format!("the login went to `{location}`"));
            }
        }
        Err("the login goes round in circles".to_owned())
    }

    /// Signs in as `user` and returns the answer of the callback.
    pub(crate) async fn finish(
        &mut self,
        world: &World,
        wire: &Wire,
        flow: &Flow,
        user: &str,
    ) -> Result<Answer, String> {
        let back = self.back(world, flow, user)?;
        self.open(wire, &back).await
    }

    /// Where the provider sends the browser back to, as a target of ours.
    pub(crate) fn back(&self, world: &World, flow: &Flow, user: &str) -> Result<String, String> {
        let whose = [&world.new, &world.old]
            .into_iter()
            .find(|idp| flow.location.starts_with(&idp.issuer()));
        let back = whose
            .ok_or_else(|| format!("nobody answers at {}", flow.location))?
            .authorize(&flow.location, user)?;
        let target = back.strip_prefix("https://app.test").map(str::to_owned);
        target.ok_or_else(|| format!("the provider was told to send us to `{back}`"))
    }

    /// A whole login; the value of the session cookie.
    pub(crate) async fn sign_in(
        &mut self,
        world: &World,
        target: &Target,
        user: &str,
    ) -> Result<String, String> {
        let wire = world.public(target);
        let flow = self.begin(&wire, "/app").await?;
        let done = self.finish(world, &wire, &flow, user).await?;
        let cookie = self.cookies.get(SESSION).cloned();
        cookie.ok_or_else(|| format!("the callback answered {} and made no session", done.status))
    }
}
