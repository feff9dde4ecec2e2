//! A directory on this machine that does as it is told: a little of RFC 4511, for tests.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

/// What somebody asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::providers) enum Asked {
    Bind { dn: String, password: String },
    Search { base: String },
    Unbind,
}

/// One question: on which connection, under whose name, what.
#[derive(Clone, Debug)]
pub(in crate::providers) struct Question {
    pub(in crate::providers) connection: usize,
    /// Empty: nobody's.
    pub(in crate::providers) by: String,
    pub(in crate::providers) asked: Asked,
}

#[derive(Default)]
struct State {
    passwords: HashMap<String, String>,
    held: HashSet<String>,
    questions: Vec<Question>,
    connections: usize,
    open: usize,
    /// Connections before this one are answered no more.
    deaf_before: usize,
}

/// A directory whose people are `uid=NAME,dc=corp`.
pub(in crate::providers) struct FakeDirectory {
    pub(in crate::providers) url: String,
    state: Arc<Mutex<State>>,
    open: Arc<Mutex<JoinSet<()>>>,
    task: JoinHandle<()>,
}

impl FakeDirectory {
    /// One in which these people have these passwords.
    pub(in crate::providers) async fn start(people: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ldap://{}", listener.local_addr().unwrap());
        let known = people
            .iter()
            .map(|(name, password)| (dn(name), (*password).to_owned()));
        let state = Arc::new(Mutex::new(State {
            passwords: known.collect(),
            ..State::default()
        }));
        let open = Arc::new(Mutex::new(JoinSet::new()));
        let (shared, all) = (Arc::clone(&state), Arc::clone(&open));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let guest = Guest::new(&shared);
                all.lock().unwrap().spawn(guest.serve(stream));
            }
        });
        Self {
            url,
            state,
            open,
            task,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Everything that was asked.
    pub(in crate::providers) fn questions(&self) -> Vec<Question> {
        self.state().questions.clone()
    }

    /// Which passwords were sent, in order.
    pub(in crate::providers) fn passwords(&self) -> Vec<String> {
        let asked = self.questions().into_iter().map(|one| one.asked);
        let sent = asked.filter_map(|asked| match asked {
            Asked::Bind { password, .. } => Some(password),
            Asked::Search { .. } | Asked::Unbind => None,
        });
        sent.collect()
    }

    /// How many connections there have been.
    pub(in crate::providers) fn connections(&self) -> usize {
        self.state().connections
    }

    /// How many there are.
    pub(in crate::providers) fn open(&self) -> usize {
        self.state().open
    }

    /// The next bind as this person is answered when something else is asked on its connection, as the answer to that.
    pub(in crate::providers) fn hold(&self, name: &str) {
        self.state().held.insert(dn(name));
    }

    /// What is connected now gets no answer any more, and learns nothing of it.
    pub(in crate::providers) fn forget_everybody(&self) {
        let mut state = self.state();
        state.deaf_before = state.connections;
    }

    /// What is connected now is closed.
    pub(in crate::providers) fn hang_up(&self) {
        self.open.lock().unwrap().abort_all();
    }
}

impl Drop for FakeDirectory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The entry of somebody.
pub(in crate::providers) fn dn(name: &str) -> String {
    format!("uid={name},dc=corp")
}

/// One connection.
struct Guest {
    state: Arc<Mutex<State>>,
    number: usize,
    by: String,
    /// The code of an answer that has not been given yet, and whose bind it is about.
    late: Option<(u8, String)>,
}

impl Guest {
    fn new(state: &Arc<Mutex<State>>) -> Self {
        let mut all = state.lock().unwrap();
        all.connections += 1;
        all.open += 1;
        Self {
            state: Arc::clone(state),
            number: all.connections,
            by: String::new(),
            late: None,
        }
    }

    async fn serve(mut self, mut stream: TcpStream) {
        while let Some((id, tag, body)) = message(&mut stream).await {
            let answers = match tag {
                0x60 => self.bind(&body),
                0x63 => self.search(&body),
                _ => {
                    self.note(Asked::Unbind);
                    return;
                }
            };
            if self.number <= self.state.lock().unwrap().deaf_before {
                continue;
            }
            for answer in answers {
                let answer = [element(0x02, &id), answer].concat();
                if stream.write_all(&element(0x30, &answer)).await.is_err() {
                    return;
                }
            }
        }
    }

    fn note(&self, asked: Asked) {
        let (connection, by) = (self.number, self.by.clone());
        self.state.lock().unwrap().questions.push(Question {
            connection,
            by,
            asked,
        });
    }

    fn bind(&mut self, body: &[u8]) -> Vec<Vec<u8>> {
        let (_version, rest) = split(body);
        let (name, rest) = split(rest);
        let (password, _) = split(rest);
        let (name, password) = (text(name), text(password));
        let (dn, given) = (name.clone(), password.clone());
        self.note(Asked::Bind {
            dn,
            password: given,
        });
        let (good, held) = {
            let mut state = self.state.lock().unwrap();
            let known = state.passwords.get(&name);
            (known == Some(&password), state.held.remove(&name))
        };
        let now = if good { (0, name) } else { (49, String::new()) };
        if held {
            self.late = Some(now);
            return Vec::new();
        }
        // Whoever asks on a connection with an answer outstanding is given that one.
        let (code, by) = self.late.take().unwrap_or(now);
        self.by = by;
        vec![result(0x61, code)]
    }

    fn search(&self, body: &[u8]) -> Vec<Vec<u8>> {
        let (base, _) = split(body);
        let base = text(base);
        self.note(Asked::Search { base: base.clone() });
        let name = base.strip_prefix("uid=").and_then(|b| b.split_once(','));
        let Some((name, _)) = name else {
            return vec![result(0x65, 0)];
        };
        let attribute = |name: &str, value: &str| {
            let values = element(0x31, &element(0x04, value.as_bytes()));
            element(0x30, &[element(0x04, name.as_bytes()), values].concat())
        };
        let attributes = element(0x30, &attribute("uid", name));
        let entry = [element(0x04, base.as_bytes()), attributes];
        vec![element(0x64, &entry.concat()), result(0x65, 0)]
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.state.lock().unwrap().open -= 1;
    }
}

/// An answer that is a code and no more.
fn result(tag: u8, code: u8) -> Vec<u8> {
    element(tag, &[0x0a, 1, code, 0x04, 0, 0x04, 0])
}

/// One element in BER, up to 64 KiB.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut bytes = vec![tag, 0x82];
    bytes.extend(length);
    bytes.extend(content);
    bytes
}

/// The content of the first element, and what stands behind it.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (start, length) = match bytes[1] {
        0x81 => (3, usize::from(bytes[2])),
        0x82 => (4, (usize::from(bytes[2]) << 8) | usize::from(bytes[3])),
        short => (2, usize::from(short)),
    };
    bytes[start..].split_at(length)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The next message: its number, the tag of what is asked, and the content of that.
async fn message(stream: &mut TcpStream) -> Option<(Vec<u8>, u8, Vec<u8>)> {
    let mut head = vec![0; 2];
    stream.read_exact(&mut head).await.ok()?;
    let length = match head[1] {
        long @ (0x81 | 0x82) => {
            let mut more = vec![0; usize::from(long & 0x7f)];
            stream.read_exact(&mut more).await.ok()?;
            let length = more.iter();
            length.fold(0, |all, byte| (all << 8) | usize::from(*byte))
        }
        short => usize::from(short),
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let (id, rest) = split(&body);
    let content = split(rest).0.to_vec();
    Some((id.to_vec(), rest[0], content))
}
