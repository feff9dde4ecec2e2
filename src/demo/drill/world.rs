//! What the drill takes place in: two providers, the old application, and the configuration of the proxy before it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::Full;
use hyper::body::Incoming;

use crate::app::Options;
use crate::app::Running;
use crate::clock::Clock;
use crate::clock::ScaledClock;
use crate::config::WithoutVariables;
use crate::demo::DemoError;
use crate::demo::Directory;
use crate::demo::bind;
use crate::demo::drill::TICK;
use crate::demo::drill::observe::Observer;
use crate::demo::drill::observe::Seen;
use crate::demo::people::two_hundred;
use crate::demo::provider::CLIENT_ID;
use crate::demo::provider::DemoProvider;
use crate::demo::provider::Look;
use crate::demo::serve;

/// The applications that move together. The bound of the first sign-ins in a step is one for each.
pub(super) static APPS: [&str; 3] = ["crm", "intranet", "wiki"];

/// By what name an application is asked for: such names stay on this machine (RFC 6761 §6.3).
pub(super) fn host_of(app: &str, proxy: SocketAddr) -> String {
    format!("{app}.localhost:{}", proxy.port())
}

/// The world of the drill.
pub(super) struct World {
    pub(super) old: Arc<DemoProvider>,
    pub(super) new: Arc<DemoProvider>,
    pub(super) proxy: SocketAddr,
    directory: Directory,
    pub(super) running: Running,
}

impl World {
    /// Starts everything. With `harmless` the guards only take notes, and nothing bounds the harm.
    pub(super) async fn start(
        clock: &ScaledClock,
        observer: &Arc<Observer>,
        harmless: bool,
    ) -> Result<Self, DemoError> {
        let listeners = (bind().await?, bind().await?, bind().await?);
        let look = |title, colour, legacy_subjects| Look {
            title,
            colour,
            legacy_subjects,
        };
        let time: Arc<dyn Clock> = Arc::new(clock.clone());
        let people = two_hundred;
        let old = look("Old sign-in", "#7a5c1e", true);
        let new = look("New sign-in", "#1e5c7a", false);
        let old = DemoProvider::new(old, listeners.0.local_addr()?, people(), Arc::clone(&time))?;
        let new = DemoProvider::new(new, listeners.1.local_addr()?, people(), Arc::clone(&time))?;
        let upstream = listeners.2.local_addr()?;
        let (o, n, app) = (Arc::clone(&old), Arc::clone(&new), Arc::clone(observer));
        tokio::spawn(serve(listeners.0, move |r| Arc::clone(&o).answer(r)));
        tokio::spawn(serve(listeners.1, move |r| Arc::clone(&n).answer(r)));
        tokio::spawn(serve(listeners.2, move |r| old_app(Arc::clone(&app), r)));
        // The proxy is told its port, because it asks itself whether a sign-in would come back to it.
        let proxy = bind().await?.local_addr()?;
        for (name, provider) in [("old", &old), ("new", &new)] {
            for app in APPS {
                let host = host_of(app, proxy);
                provider.allow_redirect(format!("http://{host}/.authferry/cb/{name}"));
            }
        }
        let directory = Directory::new()?;
        let config = write(&directory.0, &old, &new, (proxy, upstream), harmless)?;
        let running = Running::start(Options {
            config,
            clock: time,
            tick: TICK,
            environment: Arc::new(WithoutVariables),
        })
        .await?;
        Ok(Self {
            old,
            new,
            proxy,
            directory,
            running,
        })
    }

    /// Where operators ask.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.0.join("admin.sock")
    }

    /// The ledger.
    pub(super) fn ledger(&self) -> PathBuf {
        self.directory.0.join("decisions.jsonl")
    }
}

/// The old application: whoever asks is in the path, whoever the proxy says it is in the headers.
async fn old_app(observer: Arc<Observer>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let who = request.uri().path().trim_start_matches("/at/").to_owned();
    let mut lines: Vec<String> = request
        .headers()
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-remote-"))
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    let lines = lines.join("\n");
    observer.saw(
        &who,
        Seen::Headers {
            lines: lines.clone(),
        },
    );
    let mut response = Response::new(Full::new(Bytes::from(lines)));
    response
        .headers_mut()
        .insert("x-old-app", http::HeaderValue::from_static("yes"));
    *response.status_mut() = StatusCode::OK;
    response
}

fn write(
    dir: &Path,
    old: &DemoProvider,
    new: &DemoProvider,
    (proxy, upstream): (SocketAddr, SocketAddr),
    harmless: bool,
) -> io::Result<PathBuf> {
    for (name, provider) in [("old", old), ("new", new)] {
        fs::write(dir.join(format!("{name}.secret")), provider.client_secret())?;
    }
    let provider = |name: &str, provider: &DemoProvider| {
        PROVIDER
            .replace("NAME", name)
            .replace("ISSUER", provider.issuer())
            .replace("CLIENT", CLIENT_ID)
            .replace(
                "SECRET",
                &dir.join(format!("{name}.secret")).display().to_string(),
            )
    };
    let guards = if harmless { NOTES } else { DEFAULTS };
    let text = CONFIG
        .replace("PROXY", &proxy.to_string())
        .replace("APPS", &APPS.map(|app| APP.replace("NAME", app)).concat())
        .replace("NAMES", &APPS.join(", "))
        .replace("UPSTREAM", &upstream.to_string())
        .replace("STATE", &dir.display().to_string())
        .replace("PROVIDERS", &(provider("old", old) + &provider("new", new)))
        .replace("GUARDS", guards);
    let path = dir.join("drill.yaml");
    fs::write(&path, text)?;
    Ok(path)
}

/// Keys are fetched by the real clock, and the night that passes in two seconds of it is not to make them stale.
const PROVIDER: &str = "  NAME:
    oidc:
      issuer: \"ISSUER\"
      client: { id: CLIENT, secret: { file: SECRET } }
      verify: { audiences: [CLIENT], jwks_max_stale: 3d }
      claims: { subject: legacy_uid, name: name, groups: groups }
      authoritative: { claims: [legacy_uid] }
";

/// One of the applications: they are one program that is asked by three names.
const APP: &str = "  NAME:
    hosts: [NAME.localhost]
    upstream: { url: \"http://UPSTREAM\" }
    identity_headers: { X-Remote-User: \"{subject}\", X-Remote-Name: \"{name}\", X-Remote-Groups: \"{groups|sort|join:,}\" }
";

/// What the product ships: nothing is set.
const DEFAULTS: &str = "{ unit: bucket }";

/// The same evidence, and nobody acts on it.
const NOTES: &str = "
    guards:
      - { id: login, bad: [failed, abandoned], on_trip: note }
    breaker: { on_trip: note }
    srm: { on_trip: note }
    no_data: wait
    first_logins: { unfinished: 1000000, until_succeeded: 0 }";

const CONFIG: &str = "# Written by `authferry demo --drill`.
version: 1
change: { actor: drill, reason: \"six stages in a minute\" }
server:
  listen: PROXY
  admin: { listen: 127.0.0.1:0 }
  state_dir: STATE
telemetry: { access_log: { file: STATE/access.log } }
audit: { require_change: true }
sessions: { idle: 12h, absolute: 12h }
providers:
PROVIDERS
identity: { canonical: { template: \"uid:{subject}\" } }
cohorts:
  it: { group: { provider: old, any_of: [it] } }
  testers: { group: { provider: old, any_of: [testers] } }
  machines: { client_id: [batch-1, batch-2, batch-3, batch-4, batch-5] }
apps:
APPSguardrails:
  standard: GUARDS
rollouts:
  drill:
    apps: [NAMES]
    from: old
    to: new
    bucketing: { salt: drill }
    control: controller
    guardrails: standard
    stages:
      - { id: 1-install, mode: legacy-only, promote: { when: manual, min_bake: 6m } }
      - id: 2-internal
        mode: canary
        assign: [{ cohort: it, to: new }]
        promote: { when: manual, min_bake: 10m }
      - id: 3-testers
        mode: canary
        assign: [{ cohort: it, to: new }, { cohort: testers, to: new }]
        promote: { when: manual, min_bake: 10m }
      - id: 4-ramp
        mode: canary
        assign:
          - { cohort: machines, to: old }
          - { cohort: it, to: new }
          - { cohort: testers, to: new }
          - { ramp: true, to: new }
        ramp:
          - { percent: 5, bake: 36m }
          - { percent: 25, bake: 50m, min_units: 10 }
          - { percent: 50, bake: 12m, min_units: 20 }
          - { percent: 98, bake: 45m, min_units: 40 }
        promote: { when: auto }
      - id: 5-modern-primary
        mode: modern-primary
        accept: { old: { new_logins: refuse, started_logins_grace: 15m, sessions: until_expiry } }
        warn: { headers: true, sunset: \"2036-01-01T00:00:00Z\" }
        promote: { when: manual, min_bake: 6m }
      - { id: 6-modern-only, mode: modern-only, promote: { when: manual, min_bake: 6m } }
";
