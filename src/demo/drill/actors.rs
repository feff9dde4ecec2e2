//! Who takes part: people with browsers, and machines with tokens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header;

use crate::demo::crowd::fetch;
use crate::demo::crowd::split;
use crate::demo::drill::observe::Observer;
use crate::demo::drill::observe::Seen;
use crate::demo::drill::world::host_of;
use crate::demo::programs::token;
use crate::demo::provider::DemoProvider;

const MAX_HOPS: usize = 8;

/// The browser of one person.
#[derive(Debug)]
pub(super) struct Browser {
    pub(super) name: String,
    /// The application that they work with.
    app: &'static str,
    /// What outlives a session: the device cookie.
    device: BTreeMap<String, String>,
    /// The cookies of a live session, and where it was made.
    pub(super) session: Option<(BTreeMap<String, String>, String)>,
}

/// Where the providers are, to tell them apart, and the proxy, which has all applications behind it.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub(super) proxy: SocketAddr,
    pub(super) old: String,
}

impl Map {
    /// Where an address leads, as which host, and for what. Every name is the proxy's.
    fn way(&self, url: &str) -> Result<(SocketAddr, String, String), String> {
        if let Ok((authority, target)) = split(url) {
            return Ok((authority, authority.to_string(), target));
        }
        let uri: http::Uri = url.parse().map_err(|error| format!("{error}"))?;
        let host = uri.authority().ok_or("no authority")?.to_string();
        let target = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        Ok((self.proxy, host, target))
    }
}

impl Browser {
    pub(super) const fn new(name: String, app: &'static str) -> Self {
        Self {
            name,
            app,
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
        let host = host_of(self.app, map.proxy);
        match fetch((map.proxy, &host), &path, Some(cookies), None).await {
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
        let app = self.app.to_owned();
        observer.saw(&self.name, Seen::SignIn { app, provider, ok });
    }

    async fn follow(
        &mut self,
        map: &Map,
        provider: &mut String,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut cookies = self.device.clone();
        let mut url = format!("http://{}/at/{}", host_of(self.app, map.proxy), self.name);
        for _ in 0..MAX_HOPS {
            let (authority, host, mut target) = map.way(&url)?;
            if target.starts_with("/authorize?") {
                target.push_str(&format!("&who={}", self.name));
                let old = url.starts_with(&map.old);
                *provider = String::from(if old { "old" } else { "new" });
            }
            let ours = authority == map.proxy;
            let cookie = ours.then_some(&cookies);
            let response = fetch((authority, &host), &target, cookie, None).await?;
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
                format!("http://{host}{location}")
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
    /// The application that it asks.
    app: &'static str,
    provider: Arc<DemoProvider>,
    provider_name: String,
    moves_to: Option<Arc<DemoProvider>>,
}

impl Machine {
    pub(super) fn new(
        name: String,
        app: &'static str,
        (old, new): (Arc<DemoProvider>, Arc<DemoProvider>),
    ) -> Self {
        Self {
            name,
            app,
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
        let host = host_of(self.app, map.proxy);
        match fetch((map.proxy, &host), &path, None, Some(&token)).await {
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
