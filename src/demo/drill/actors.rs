//! Who takes part: people with browsers, and machines with tokens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header;

use crate::demo::crowd::fetch;
use crate::demo::crowd::split;
use crate::demo::drill::observe::Observer;
use crate::demo::drill::observe::Seen;
use crate::demo::programs::token;
use crate::demo::provider::DemoProvider;

const MAX_HOPS: usize = 8;

/// The browser of one person.
#[derive(Debug)]
pub(super) struct Browser {
    pub(super) name: String,
    /// What outlives a session: the device cookie.
    device: BTreeMap<String, String>,
    /// The cookies of a live session, and where it was made.
    pub(super) session: Option<(BTreeMap<String, String>, String)>,
}

/// Where the providers are, to tell them apart.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub(super) proxy: SocketAddr,
    pub(super) old: String,
}

impl Browser {
    pub(super) const fn new(name: String) -> Self {
        Self {
            name,
            device: BTreeMap::new(),
            session: None,
        }
    }

    /// A person comes to their desk: looks at what they left open, closes it, and signs in anew.
    pub(super) async fn visit(&mut self, map: &Map, observer: &Observer) {
        if self.session.is_some() {
            self.look(map, observer).await;
            self.leave();
        }
        self.sign_in(map, observer).await;
    }

    /// Closes the browser; the device cookie stays.
    pub(super) fn leave(&mut self) {
        self.session = None;
    }

    /// Asks for a page with the session.
    pub(super) async fn look(&mut self, map: &Map, observer: &Observer) {
        let Some((cookies, _)) = &self.session else {
            return;
        };
        let path = format!("/at/{}", self.name);
        match fetch(map.proxy, &path, Some(cookies), None).await {
            Ok(response) if response.status().is_redirection() => {
                observer.saw(&self.name, Seen::UnexpectedSignIn);
                self.leave();
            }
            Ok(response) => {
                let status = response.status().as_u16();
                let ok = response.headers().contains_key("x-old-app");
                observer.saw(&self.name, Seen::Request { status, ok });
            }
            Err(error) => {
                tracing::debug!(error, "a simulated page did not come");
                observer.saw(
                    &self.name,
                    Seen::Request {
                        status: 0,
                        ok: false,
                    },
                );
            }
        }
    }

    /// Opens the application in a fresh session and follows every redirect.
    async fn sign_in(&mut self, map: &Map, observer: &Observer) {
        let mut provider = String::from("none");
        let ok = match self.follow(map, &mut provider).await {
            Ok(cookies) => {
                self.session = Some((cookies, provider.clone()));
                true
            }
            Err(error) => {
                tracing::debug!(error, "a simulated sign-in did not finish");
                false
            }
        };
        observer.saw(&self.name, Seen::SignIn { provider, ok });
    }

    async fn follow(
        &mut self,
        map: &Map,
        provider: &mut String,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut cookies = self.device.clone();
        let mut url = format!("http://{}/at/{}", map.proxy, self.name);
        for _ in 0..MAX_HOPS {
            let (authority, mut target) = split(&url)?;
            if target.starts_with("/authorize?") {
                target.push_str(&format!("&who={}", self.name));
                let old = url.starts_with(&map.old);
                *provider = String::from(if old { "old" } else { "new" });
            }
            let ours = authority == map.proxy;
            let response = fetch(authority, &target, ours.then_some(&cookies), None).await?;
            if ours {
                for set in response.headers().get_all(header::SET_COOKIE) {
                    let text = set.to_str().map_err(|error| error.to_string())?;
                    let pair = text.split(';').next().and_then(|pair| pair.split_once('='));
                    if let Some((name, value)) = pair {
                        if value.is_empty() {
                            cookies.remove(name);
                        } else {
                            cookies.insert(name.to_owned(), value.to_owned());
                        }
                    }
                }
                let kept = cookies.iter().filter(|(name, _)| name.ends_with("_dev"));
                self.device = kept.map(|(n, v)| (n.clone(), v.clone())).collect();
            }
            if !response.status().is_redirection() {
                return if response.headers().contains_key("x-old-app") {
                    Ok(cookies)
                } else {
                    Err(response.status().to_string())
                };
            }
            let location = response.headers().get(header::LOCATION);
            let location = location
                .and_then(|location| location.to_str().ok())
                .ok_or("no location")?;
            url = if location.starts_with('/') {
                format!("http://{authority}{location}")
            } else {
                location.to_owned()
            };
        }
        Err(String::from("too many redirects"))
    }
}

/// A machine: it fetches a token and asks with it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: String,
    provider: Arc<DemoProvider>,
    provider_name: String,
    moves_to: Option<Arc<DemoProvider>>,
}

impl Machine {
    pub(super) fn new(name: String, old: Arc<DemoProvider>, new: Arc<DemoProvider>) -> Self {
        Self {
            name,
            provider: old,
            provider_name: String::from("old"),
            moves_to: Some(new),
        }
    }

    /// Its owner has changed where it fetches tokens.
    pub(super) fn moves(&mut self) {
        if let Some(new) = self.moves_to.take() {
            self.provider = new;
            self.provider_name = String::from("new");
        }
    }

    /// Asks for something. A machine whose answers say that its token is deprecated is moved by its owner.
    pub(super) async fn ask(&mut self, map: &Map, observer: &Observer) {
        let failed = Seen::Request {
            status: 0,
            ok: false,
        };
        let token = match token(&self.name, &self.provider).await {
            Ok(token) => token,
            Err(error) => {
                tracing::debug!(error, "a machine got no token");
                observer.saw(&self.name, failed);
                return;
            }
        };
        let path = format!("/at/{}", self.name);
        match fetch(map.proxy, &path, None, Some(&token)).await {
            Ok(response) => {
                let status = response.status().as_u16();
                let ok = response.headers().contains_key("x-old-app");
                observer.saw(&self.name, Seen::Request { status, ok });
                if ok {
                    let provider = self.provider_name.clone();
                    observer.saw(&self.name, Seen::Machine { provider });
                }
                if response.headers().contains_key("sunset") {
                    self.moves();
                }
            }
            Err(error) => {
                tracing::debug!(error, "a machine got no answer");
                observer.saw(&self.name, failed);
            }
        }
    }
}
