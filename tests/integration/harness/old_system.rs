//! An old system with sessions of its own: it says whose a cookie is, and ends what it is told to end. One of a `visitor` is
//! nobody's.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// An old system on a free loopback port. The value of its cookie `SID` is `NAME.NUMBER`.
#[derive(Clone, Debug)]
pub(crate) struct OldSystem {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    asked: usize,
    ended: BTreeSet<String>,
    /// It answers that it cannot say.
    away: bool,
}

impl OldSystem {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let old = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let state = Arc::clone(&old.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
        old
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The lines of a provider that asks it.
    pub(crate) fn provider(&self) -> String {
        format!(
            "{{ session_probe: {{ issuer: \"{url}\", owns: {{ cookies: [SID] }}, introspect: {{ url: \"{url}/whoami\", cache: 1s }}, login: {{ upstream_form: {{ start: /login }} }}, logout: {{ url: \"{url}/signout\" }}, claims: {{ subject: uid, name: name, groups: groups }}, authoritative: {{ claims: [uid] }} }} }}",
            url = self.url()
        )
    }

    /// How often it was asked whose a cookie is.
    pub(crate) fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }

    /// Ends a session, as a sign-out there does.
    pub(crate) fn end(&self, session: &str) {
        self.state.lock().unwrap().ended.insert(session.to_owned());
    }

    /// The same session is somebody's once more, as after a sign-in that keeps its cookie.
    pub(crate) fn begins_again(&self, session: &str) {
        self.state.lock().unwrap().ended.remove(session);
    }

    /// From now on it can say nothing, or again.
    pub(crate) fn is_away(&self, away: bool) {
        self.state.lock().unwrap().away = away;
    }

    /// Whether a session has ended.
    pub(crate) fn has_ended(&self, session: &str) -> bool {
        self.state.lock().unwrap().ended.contains(session)
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut seen = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let mut chunk = [0; 4_096];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(n) => seen.extend_from_slice(&chunk[..n]),
            }
        };
        let head = String::from_utf8_lossy(&seen[..end]).into_owned();
        seen.drain(..end);
        let cookie = head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.trim().strip_prefix("SID=")?;
            name.eq_ignore_ascii_case("cookie")
                .then(|| value.to_owned())
        });
        let (status, body) = {
            let mut state = state.lock().unwrap();
            let counts = |session: &String| {
                !state.ended.contains(session) && !session.starts_with("visitor.")
            };
            let session = cookie.filter(counts);
            match (head.split(' ').nth(1).unwrap(), session) {
                ("/whoami", _) if state.away => {
                    state.asked += 1;
                    ("503 Service Unavailable", String::new())
                }
                ("/signout", Some(session)) => {
                    state.ended.insert(session);
                    ("200 OK", String::from("bye"))
                }
                ("/whoami", Some(session)) => {
                    state.asked += 1;
                    let name = session.split('.').next().unwrap();
                    let body =
                        format!(r#"{{"uid":"uid-{name}","name":"{name}","groups":["users"]}}"#);
                    ("200 OK", body)
                }
                (path, _) => {
                    state.asked += usize::from(path == "/whoami");
                    ("401 Unauthorized", String::new())
                }
            }
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
