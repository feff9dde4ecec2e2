//! What an OpenID provider declares, done for somebody at a real server: a login, its renewals, its end, an exchange.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::Serializer;
use form_urlencoded::parse;
use http::Response;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::clock::Clock as _;
use crate::clock::SystemClock;
use crate::clock::UnixTime;
use crate::entropy::Entropy as _;
use crate::entropy::SystemEntropy;
use crate::identity::Refusal;
use crate::providers::Ability;
use crate::providers::Authenticated;
use crate::providers::Grant;
use crate::providers::Known;
use crate::providers::LoggedIn;
use crate::providers::Login;
use crate::providers::LoginAnswer;
use crate::providers::LoginStart;
use crate::providers::Prompt;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Wanted;
use crate::providers::contract::real::ask;
use crate::providers::contract::real::port;
use crate::providers::contract::real::secret;
use crate::providers::contract::real::var;
use crate::providers::settings::OAuthClient;
use crate::secret::Secret;

const NAME: &str = "bob";
const NUMBER: &str = "1002";
/// Of somebody who may not come in.
const LOCKED: &str = "1004";

fn now() -> UnixTime {
    SystemClock.now()
}

fn number(proof: &Authenticated) -> Option<&str> {
    proof.identity().attributes.text("subject")
}

/// A browser of sorts: it keeps cookies, follows redirects, and fills in a form with a password.
struct Device {
    name: &'static str,
    cookies: BTreeMap<String, String>,
    /// How often somebody had to sign in.
    forms: usize,
}

impl Device {
    fn of(name: &'static str) -> Self {
        Self {
            name,
            cookies: BTreeMap::new(),
            forms: 0,
        }
    }

    async fn fetch(&mut self, url: &str, form: Option<&str>) -> Response<Bytes> {
        let rest = url.strip_prefix("http://").unwrap();
        let (authority, _) = rest.split_once('/').unwrap();
        let target = rest.strip_prefix(authority).unwrap();
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        let cookies = cookies.join("; ");
        let method = if form.is_some() { "POST" } else { "GET" };
        let fields = [("cookie", cookies.as_str()), ("accept", "text/html")];
        let answer = ask(
            authority.parse().unwrap(),
            method,
            target,
            &fields,
            form.unwrap_or_default(),
        )
        .await;
        for set in answer.headers().get_all("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Goes where an address leads, until it leads to `back`; how that goes on is the answer.
    async fn go(&mut self, address: &str, back: &str) -> String {
        let (mut url, mut form) = (address.to_owned(), None);
        for _ in 0..12 {
            let answer = self.fetch(&url, form.take().as_deref()).await;
            let location = answer.headers().get("location");
            if let Some(location) = location {
                let location = location.to_str().unwrap();
                url = absolute(&url, location);
                if let Some(rest) = url.strip_prefix(back) {
                    return rest.to_owned();
                }
                continue;
            }
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            let page = text.split("<form").nth(1);
            let page = page.unwrap_or_else(|| panic!("{url}: {} {text}", answer.status()));
            let mut fields = Serializer::new(String::new());
            if page.contains("name=\"xsrf\"") {
                fields.append_pair(
                    "xsrf",
                    attribute(page.split_once("xsrf").unwrap().1, "value"),
                );
                fields.append_pair("logout", "yes");
            } else {
                self.forms += 1;
                assert_ne!(self.forms, 9, "the same form again and again: {text}");
                let name = self.name;
                fields.append_pair("username", name);
                fields.append_pair("password", &secret(&format!("{name}-pw")));
            }
            url = absolute(&url, &attribute(page, "action").replace("&amp;", "&"));
            form = Some(fields.finish());
        }
        panic!("too many redirects, last to {url}");
    }
}

fn absolute(base: &str, location: &str) -> String {
    if location.starts_with("http://") {
        return location.to_owned();
    }
    let authority = base.strip_prefix("http://").unwrap().split('/').next();
    format!("http://{}{location}", authority.unwrap())
}

fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
    let from = tag.split(&format!("{name}=\"")).nth(1);
    from.and_then(|rest| rest.split('"').next())
        .unwrap_or_else(|| panic!("no {name}: {tag}"))
}

/// What comes back from a login.
struct Begun {
    back: String,
    nonce: String,
    verifier: Secret<String>,
    said: BTreeMap<String, String>,
}

async fn begin(login: &dyn Login, device: &mut Device, back: &str) -> Begun {
    let text = || SystemEntropy.token();
    let (state, nonce, verifier) = (text(), text(), Secret::new(text()));
    let start = LoginStart {
        redirect_uri: back,
        state: &state,
        nonce: &nonce,
        verifier: &verifier,
        step_up: None,
        login_hint: None,
        prompt: Prompt::AsNeeded,
    };
    let address = login.start(start).await.unwrap();
    let query = device.go(&address, back).await;
    let query = query.strip_prefix('?').unwrap();
    let said: BTreeMap<_, _> = parse(query.as_bytes()).into_owned().collect();
    assert_eq!(said.get("state"), Some(&state), "{said:?}");
    Begun {
        back: back.to_owned(),
        nonce,
        verifier,
        said,
    }
}

async fn finish(login: &dyn Login, begun: &Begun) -> Result<LoggedIn, ProviderError> {
    let answer = LoginAnswer {
        code: &begun.said["code"],
        iss: begun.said.get("iss").map(String::as_str),
        redirect_uri: &begun.back,
        nonce: &begun.nonce,
        verifier: &begun.verifier,
    };
    login.finish(answer, now()).await
}

async fn sign_in(login: &dyn Login, device: &mut Device, back: &str) -> LoggedIn {
    let begun = begin(login, device, back).await;
    let done = finish(login, &begun).await.unwrap();
    assert_eq!(number(&done.authenticated), Some(NUMBER));
    assert!(done.sid.is_some(), "a session has a name there");
    done
}

async fn is_refused(login: &dyn Login, token: &Secret<String>, why: &str) {
    let said = login.refresh(token, now()).await;
    let over =
        matches!(&said, Err(ProviderError::Rejected(refusal)) if *refusal != Refusal::Unsupported);
    assert!(over, "{why}: {said:?}");
}

/// Waits where the provider says that somebody has signed out.
async fn listen() -> JoinHandle<String> {
    let ours = TcpListener::bind(("127.0.0.1", port("PROXY_PORT"))).await;
    let ours = ours.unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = ours.accept().await.unwrap();
        told(&mut stream).await
    })
}

/// Reads one logout token, and says that it has come.
async fn told(stream: &mut TcpStream) -> String {
    let mut seen = String::new();
    let body = loop {
        let mut chunk = [0; 8_192];
        let n = stream.read(&mut chunk).await.unwrap();
        assert_ne!(n, 0, "{seen}");
        seen.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
        let Some((head, body)) = seen.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length:").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().trim().parse().unwrap();
        if body.len() == length {
            break body.to_owned();
        }
    };
    let all = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(all.as_bytes()).await.unwrap();
    let mut fields = parse(body.as_bytes());
    let token = fields.find(|(name, _)| name == "logout_token");
    token.unwrap().1.into_owned()
}

/// Login, renewals, revocation and logout, each by what the server itself says of it afterwards.
pub(super) async fn is_served(provider: &dyn Provider, side: &str) {
    for ability in [
        Ability::Login,
        Ability::Refresh,
        Ability::Revoke,
        Ability::Exchange,
        Ability::Logout,
    ] {
        assert!(provider.abilities().contains(&ability), "{ability:?}");
    }
    let login = provider.login().unwrap();
    let origin = var("PROXY_ORIGIN");
    let back = format!("{origin}/.authferry/cb/{side}");

    // A login: what came back for it counts once, and for no other.
    let mut device = Device::of(NAME);
    let begun = begin(login, &mut device, &back).await;
    assert_eq!(device.forms, 1);
    let other = begin(login, &mut device, &back).await;
    let mixed = Begun {
        nonce: other.nonce.clone(),
        ..begin(login, &mut device, &back).await
    };
    let done = finish(login, &begun).await.unwrap();
    assert_eq!(number(&done.authenticated), Some(NUMBER));
    let refused = finish(login, &mixed).await.map(drop);
    assert!(
        matches!(refused, Err(ProviderError::Rejected(_))),
        "{refused:?}"
    );
    assert_eq!(device.forms, 1, "it knows the device");

    // Renewals: each with the token that came with the last one.
    let first = done.refresh_token.unwrap();
    let mut latest = first.clone();
    // Keycloak tells an older token from a newer one by their seconds.
    let issued = now().as_secs();
    while now().as_secs() == issued {
        sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..2 {
        let renewed = login.refresh(&latest, now()).await.unwrap();
        let proof = renewed.authenticated.expect("it says again who it is");
        assert_eq!(number(&proof), Some(NUMBER));
        assert_eq!(proof.identity().key, done.authenticated.identity().key);
        let next = renewed.refresh_token.expect("it rotates");
        assert_ne!(next.expose(), latest.expose());
        latest = next;
    }
    is_refused(login, &first, "used before").await;
    is_refused(login, &latest, "its family is over").await;

    // Given back: once more does no harm.
    let mut device = Device::of(NAME);
    let done = sign_in(login, &mut device, &back).await;
    let token = done.refresh_token.unwrap();
    for _ in 0..2 {
        login.revoke(&token, now()).await.unwrap();
    }
    is_refused(login, &token, "revoked").await;

    // The end: the browser goes there, and we are told behind its back.
    let mut device = Device::of(NAME);
    let done = sign_in(login, &mut device, &back).await;
    let forms = device.forms;
    let told = listen().await;
    let home = format!("{origin}/");
    let hint = done.id_token.expect("sessions end there");
    let address = login.logout_url(&hint, &home).unwrap();
    device.go(&address, &home).await;
    let told = timeout(Duration::from_secs(20), told).await;
    let told = told.expect("we are told").unwrap();
    let judged = login.logout_token(&told, now()).await.unwrap();
    assert_eq!(judged.sid(), done.sid.as_deref());
    let (signed, _) = told.rsplit_once('.').unwrap();
    let altered = format!("{signed}.{}", "A".repeat(342));
    let refused = login.logout_token(&altered, now()).await.map(drop);
    assert!(
        matches!(refused, Err(ProviderError::Rejected(_))),
        "{refused:?}"
    );
    is_refused(login, &done.refresh_token.unwrap(), "signed out").await;
    sign_in(login, &mut device, &back).await;
    assert_eq!(device.forms, forms + 1, "it asks again");
}

/// The form by which the code of a new login is redeemed: an access token of somebody is had with it.
pub(super) async fn code_of(provider: &dyn Provider, side: &str, name: &'static str) -> String {
    let back = format!("{}/.authferry/cb/{side}", var("PROXY_ORIGIN"));
    let login = provider.login().unwrap();
    let begun = begin(login, &mut Device::of(name), &back).await;
    Serializer::new(String::new())
        .append_pair("grant_type", "authorization_code")
        .append_pair("code", &begun.said["code"])
        .append_pair("redirect_uri", &back)
        .append_pair("code_verifier", begun.verifier.expose())
        .finish()
}

/// One token becomes another, for one application; whose may not is told so.
pub(super) async fn exchanges(
    provider: &dyn Provider,
    client: &OAuthClient,
    (may, may_not): (&str, &str),
    (audiences, resources): (&[Box<str>], &[Box<str>]),
) {
    let client = provider.token_client(Some(client)).unwrap().unwrap();
    let wanted = Wanted {
        audiences,
        resources,
        scopes: &[],
    };
    let subject = [may, may_not].map(|token| Secret::new(token.to_owned()));
    let grants = subject.each_ref().map(Grant::TokenExchange);
    let issued = client.ask(grants[0], wanted, now()).await.unwrap();
    assert_ne!(issued.token.expose(), may);
    let proof = issued.proof.expect("a token that is for the application");
    assert_eq!(number(&proof), Some(NUMBER));
    let refused = client.ask(grants[1], wanted, now()).await.map(drop);
    assert!(
        matches!(refused, Err(ProviderError::Rejected(_))),
        "{refused:?}"
    );
}

/// Who is found in a directory, and who is not: somebody who may come in, somebody who may not, nobody, everybody.
pub(super) async fn finds(provider: &dyn Provider) {
    let directory = provider.directory().unwrap();
    for (number, may) in [(NUMBER, true), (LOCKED, false)] {
        let Known::Person { identity, enabled } = directory.find(number, now()).await.unwrap()
        else {
            panic!("{number} is not found");
        };
        assert_eq!(identity.attributes.text("subject"), Some(number));
        assert_eq!(enabled, may, "{number}");
    }
    for number in ["424242", "*", ""] {
        let known = directory.find(number, now()).await.unwrap();
        assert!(matches!(known, Known::Nobody), "{number}: {known:?}");
    }
    let everybody = directory.everybody(10_000, now()).await.unwrap();
    for number in [NUMBER, LOCKED] {
        let times = everybody.iter().filter(|known| &***known == number);
        assert_eq!(times.count(), 1, "{number}");
    }
    let fewer = directory.everybody(everybody.len() - 1, now()).await;
    assert!(
        matches!(fewer, Err(ProviderError::Rejected(_))),
        "a list that is cut off: {fewer:?}"
    );
}
