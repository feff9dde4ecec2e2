//! A browser of sorts: cookies by host, redirects followed, login forms filled in. Enough for the sign-in pages of the real
//! providers, without scripts.

use std::collections::BTreeMap;

use crate::harness::Answer;
use crate::harness::request;

/// One person's browser.
#[derive(Clone, Debug, Default)]
pub(crate) struct Browser {
    /// By authority, then name: providers on one address but different ports do not share cookies here.
    cookies: BTreeMap<String, BTreeMap<String, String>>,
    /// Every sign-in form that was filled in, by the authority that showed it.
    pub(crate) forms: Vec<String>,
    visits: BTreeMap<String, usize>,
}

/// Where a journey ended.
#[derive(Debug)]
pub(crate) struct Landed {
    /// The last address.
    pub(crate) url: String,
    /// Its answer.
    pub(crate) answer: Answer,
}

const MAX_HOPS: usize = 15;

impl Browser {
    /// Opens `url` and goes wherever it leads; `sign_in` is typed into the first sign-in form, once.
    pub(crate) async fn open(&mut self, url: &str, sign_in: Option<(&str, &str)>) -> Landed {
        self.go(url.to_owned(), None, sign_in).await
    }

    /// Types `value` into the field `name` of the form that was shown, and goes wherever it leads.
    pub(crate) async fn type_in(&mut self, shown: &Landed, name: &str, value: &str) -> Landed {
        let text = shown.answer.text();
        let form = Form::with_field(&text, |field, _| field == name)
            .unwrap_or_else(|| panic!("no `{name}` at {}: {text}", shown.url));
        let url = join(&shown.url, &form.action);
        self.go(url, Some(form.with(name, value)), None).await
    }

    /// Signs in at the form that was shown, and goes wherever it leads.
    pub(crate) async fn sign_in(&mut self, shown: &Landed, name: &str, password: &str) -> Landed {
        let text = shown.answer.text();
        let form = Form::with_field(&text, |_, kind| kind == "password")
            .unwrap_or_else(|| panic!("nobody signs in at {}: {text}", shown.url));
        self.forms.push(authority(&shown.url).to_owned());
        let url = join(&shown.url, &form.action);
        self.go(url, Some(form.filled(name, password)), None).await
    }

    /// Sends the form that was shown, with what its button adds, and goes wherever it leads.
    pub(crate) async fn press(&mut self, shown: &Landed, button: &str) -> Landed {
        let text = shown.answer.text();
        let form = Form::with_field(&text, |_, kind| kind == "hidden")
            .unwrap_or_else(|| panic!("no form at {}: {text}", shown.url));
        let url = join(&shown.url, &form.action);
        let fields = format!("{}&{button}", form.with("", ""));
        self.go(url, Some(fields), None).await
    }

    /// Sends a form without fields, as a page of ours with one button does, and goes wherever it leads.
    pub(crate) async fn send(&mut self, url: &str) -> Landed {
        self.go(url.to_owned(), Some(String::new()), None).await
    }

    async fn go(
        &mut self,
        mut url: String,
        mut form: Option<String>,
        mut credentials: Option<(&str, &str)>,
    ) -> Landed {
        for _ in 0..MAX_HOPS {
            let answer = self.fetch(&url, form.take()).await;
            if let (301..=303 | 307 | 308, Some(location)) =
                (answer.status, answer.header("location"))
            {
                url = join(&url, location);
                continue;
            }
            let text = answer.text();
            if let (Some((name, password)), Some(page)) = (
                credentials,
                Form::with_field(&text, |_, kind| kind == "password"),
            ) {
                credentials = None;
                self.forms.push(authority(&url).to_owned());
                form = Some(page.filled(name, password));
                url = join(&url, &page.action);
                continue;
            }
            return Landed { url, answer };
        }
        panic!("too many redirects, last at {url}");
    }

    /// Forgets everything a site stored, as a browser does when the person clears it.
    pub(crate) fn forget(&mut self, authority: &str, keep: impl Fn(&str) -> bool) {
        if let Some(jar) = self.cookies.get_mut(authority) {
            jar.retain(|name, _| keep(name));
        }
    }

    /// How often an authority was asked for anything.
    pub(crate) fn visits(&self, authority: &str) -> usize {
        self.visits.get(authority).copied().unwrap_or(0)
    }

    /// The `Cookie` line for an authority.
    pub(crate) fn cookie_line(&self, authority: &str) -> String {
        let jar = self.cookies.get(authority);
        jar.into_iter()
            .flatten()
            .map(|(n, v)| format!("{n}={v}"))
            .collect::<Vec<_>>()
            .join("; ")
    }

    async fn fetch(&mut self, url: &str, form: Option<String>) -> Answer {
        let host = authority(url).to_owned();
        let target = &url[url.find(&host).unwrap() + host.len()..];
        let target = if target.is_empty() {
            "/"
        } else {
            target.split('#').next().unwrap()
        };
        let cookie = self.cookie_line(&host);
        let origin = format!("http://{host}");
        let mut fields = vec![
            ("Host", host.as_str()),
            ("Accept", "text/html,application/xhtml+xml"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ];
        if !cookie.is_empty() {
            fields.push(("Cookie", &cookie));
        }
        if form.is_some() {
            fields.extend([
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Origin", origin.as_str()),
                ("Referer", url),
            ]);
        }
        let method = if form.is_some() { "POST" } else { "GET" };
        let answer = request(
            host.parse().unwrap(),
            method,
            target,
            &fields,
            form.unwrap_or_default().as_bytes(),
        )
        .await;
        *self.visits.entry(host.clone()).or_default() += 1;
        let jar = self.cookies.entry(host).or_default();
        for set in answer.all("set-cookie") {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            let gone = set.to_ascii_lowercase().contains("max-age=0")
                || set.contains("01 Jan 1970")
                || value.is_empty();
            if gone {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }
}

fn authority(url: &str) -> &str {
    url.strip_prefix("http://")
        .unwrap_or_else(|| panic!("{url} is not on this machine"))
        .split(['/', '?', '#'])
        .next()
        .unwrap()
}

fn join(base: &str, location: &str) -> String {
    let location = location.replace("&amp;", "&");
    if location.starts_with("http://") {
        location
    } else if location.starts_with('/') {
        format!("http://{}{location}", authority(base))
    } else if location.is_empty() || location.starts_with('?') {
        format!("{}{location}", base.split('?').next().unwrap())
    } else {
        let dir = base.split('?').next().unwrap().rsplit_once('/').unwrap().0;
        format!("{dir}/{location}")
    }
}

#[derive(Debug)]
struct Form {
    action: String,
    fields: Vec<(String, String, String)>,
}

impl Form {
    /// The first form of a page that has a field of this name and type.
    fn with_field(html: &str, is_wanted: impl Fn(&str, &str) -> bool) -> Option<Self> {
        let mut rest = html;
        while let Some(at) = rest.find("<form") {
            rest = &rest[at..];
            let end = rest.find("</form>").unwrap_or(rest.len());
            let form = &rest[..end];
            let opening = &form[..form.find('>')?];
            let fields: Vec<_> = form
                .split("<input")
                .skip(1)
                .filter_map(|tag| {
                    let tag = &tag[..tag.find('>')?];
                    Some((
                        attribute(tag, "name")?,
                        attribute(tag, "type").unwrap_or_else(|| "text".to_owned()),
                        attribute(tag, "value").unwrap_or_default(),
                    ))
                })
                .collect();
            if fields.iter().any(|(name, kind, _)| is_wanted(name, kind)) {
                return Some(Self {
                    action: attribute(opening, "action").unwrap_or_default(),
                    fields,
                });
            }
            rest = &rest[end..];
        }
        None
    }

    fn with(&self, name: &str, value: &str) -> String {
        let fields = self.fields.iter().filter(|(_, kind, _)| kind != "submit");
        let pairs = fields.map(|(field, _, own)| {
            let value = if field == name { value } else { own };
            format!("{field}={}", encode(value))
        });
        pairs.collect::<Vec<_>>().join("&")
    }

    fn filled(&self, name: &str, password: &str) -> String {
        let mut out = Vec::new();
        let mut named = false;
        for (field, kind, value) in &self.fields {
            let value = match kind.as_str() {
                "password" => password.to_owned(),
                "text" | "email" if !named => {
                    named = true;
                    name.to_owned()
                }
                "checkbox" | "submit" => continue,
                _ => value.clone(),
            };
            out.push(format!("{field}={}", encode(&value)));
        }
        out.join("&")
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    for quote in ['"', '\''] {
        if let Some(at) = tag.find(&format!(" {name}={quote}")) {
            let from = &tag[at + name.len() + 3..];
            return Some(from[..from.find(quote)?].replace("&amp;", "&"));
        }
    }
    let at = tag.find(&format!(" {name}="))?;
    Some(
        tag[at + name.len() + 2..]
            .split([' ', '>', '/'])
            .next()?
            .to_owned(),
    )
}

/// Percent-encodes a form value.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}
