//! What the admin listener answers: an exact table of paths, and one function for each.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::Request;
use http::StatusCode;
use serde::Deserialize;
use serde::Serialize;
use tracing::info;

use crate::admin::backend::AdminBackend;
use crate::admin::backend::ReloadAnswer;
use crate::admin::backend::ReloadOutcome;
use crate::admin::body;
use crate::admin::console;
use crate::admin::guard::Guard;
use crate::admin::guard::Peer;
use crate::admin::keys::WithdrawRequest;
use crate::admin::question::ReferenceRequest;
use crate::admin::ready::ready;
use crate::admin::respond;
use crate::admin::respond::Answer;
use crate::admin::respond::Failure;
use crate::admin::rollouts::OrderRequest;
use crate::admin::rollouts::RolloutView;
use crate::admin::switch;
use crate::clock::Clock;
use crate::control::KillSwitch;
use crate::rollout::KillState;
use crate::telemetry::Metrics;

/// What the listener works with.
#[derive(Clone, Debug)]
pub(super) struct Context {
    /// The program.
    pub(super) backend: Arc<dyn AdminBackend>,
    /// The kill switch.
    pub(super) kill: Arc<KillSwitch>,
    /// What `/metrics` shows.
    pub(super) metrics: Arc<Metrics>,
    /// The time.
    pub(super) clock: Arc<dyn Clock>,
}

/// What a listener serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// Everything.
    Admin,
    /// `GET /metrics` alone.
    Metrics,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Route {
    Metrics,
    Healthy,
    Ready,
    Reload,
    Config,
    KillShow,
    KillMove,
    Rollouts,
    Order,
    Explain,
    Reference,
    Plan,
    Report,
    Keys,
    KeysRotate,
    KeysWithdraw,
    Catalog,
    Expiring,
    LogHead,
    Revocations,
    Revoke,
    Lift,
    Forget,
    Link,
    Legacy,
    LegacyOrder,
    Drills,
    Drill,
    Console,
    ConsoleForm,
}

/// Finds the route. Paths are compared byte for byte: no decoding, no case, no trailing slash (CVE-2026-45692).
fn route(scope: Scope, method: &Method, path: &str) -> Result<Route, Failure> {
    let (get, post) = match path {
        "/metrics" => (Some(Route::Metrics), None),
        _ if scope == Scope::Metrics => return Err(Failure::NoPath),
        "/-/healthy" => (Some(Route::Healthy), None),
        "/-/ready" => (Some(Route::Ready), None),
        "/-/reload" => (None, Some(Route::Reload)),
        "/-/config" => (Some(Route::Config), None),
        "/admin/v1/kill" => (Some(Route::KillShow), Some(Route::KillMove)),
        "/admin/v1/rollouts" => (Some(Route::Rollouts), Some(Route::Order)),
        "/admin/v1/log/head" => (Some(Route::LogHead), None),
        console::PATH => (Some(Route::Console), Some(Route::ConsoleForm)),
        "/admin/v1/revocations" => (Some(Route::Revocations), Some(Route::Revoke)),
        "/admin/v1/revocations/lift" => (None, Some(Route::Lift)),
        "/admin/v1/forget" => (None, Some(Route::Forget)),
        "/admin/v1/links" => (None, Some(Route::Link)),
        "/admin/v1/legacy" => (Some(Route::Legacy), Some(Route::LegacyOrder)),
        "/admin/v1/drills" => (Some(Route::Drills), Some(Route::Drill)),
        "/admin/v1/explain" => (None, Some(Route::Explain)),
        "/admin/v1/reference" => (None, Some(Route::Reference)),
        "/admin/v1/plan" => (None, Some(Route::Plan)),
        "/admin/v1/report" => (None, Some(Route::Report)),
        "/admin/v1/catalog" => (Some(Route::Catalog), None),
        "/admin/v1/expiring" => (Some(Route::Expiring), None),
        "/admin/v1/keys/withdraw" => (None, Some(Route::KeysWithdraw)),
        "/admin/v1/keys" => (Some(Route::Keys), Some(Route::KeysRotate)),
        _ => return Err(Failure::NoPath),
    };
    let found = match *method {
        Method::GET => get,
        // What a load balancer may use; HTTP leaves out the body.
        Method::HEAD if get.is_some_and(Route::is_free) => get,
        Method::POST => post,
        _ => None,
    };
    found.ok_or(Failure::Method(match (get, post) {
        (Some(_), Some(_)) => "GET, POST",
        (Some(_), None) => "GET",
        (None, _) => "POST",
    }))
}

impl Route {
    /// Whether no token is needed.
    const fn is_free(self) -> bool {
        matches!(self, Self::Metrics | Self::Healthy | Self::Ready)
    }
}

/// Answers one request.
pub(super) async fn answer<B>(
    context: &Context,
    guard: &Guard,
    scope: Scope,
    peer: Peer,
    request: Request<B>,
) -> Answer
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match try_answer(context, guard, scope, peer, request).await {
        Ok(answer) => answer,
        Err(failure) => respond::failure(&failure),
    }
}

async fn try_answer<B>(
    context: &Context,
    guard: &Guard,
    scope: Scope,
    peer: Peer,
    request: Request<B>,
) -> Result<Answer, Failure>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let uri = request.uri();
    if uri.authority().is_some() || uri.scheme().is_some() {
        return Err(Failure::BadRequest("the target is not a path".into()));
    }
    let route = route(scope, request.method(), uri.path())?;
    if route.is_free() {
        Guard::admit_reader(request.headers()).map_err(Failure::Denied)?;
        return free(context, route);
    }
    let (now, headers) = (context.clock.now(), request.headers());
    let admitted = match route {
        Route::Console => guard.admit_page(peer, headers, false, now),
        Route::ConsoleForm => guard.admit_page(peer, headers, true, now),
        _ => guard.admit(peer, headers, now),
    };
    let actor = admitted.map_err(Failure::Denied)?;
    if uri.query().is_some() {
        return Err(Failure::BadRequest("the target has a query".into()));
    }
    match route {
        Route::Reload => {
            let answer = reload(context, &actor).await;
            let status = match answer.outcome {
                ReloadOutcome::Applied | ReloadOutcome::Unchanged => StatusCode::OK,
                ReloadOutcome::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            };
            Ok(respond::json(status, &answer))
        }
        Route::Config => Ok(ok(&context.backend.configuration())),
        Route::LogHead => Ok(ok(&context.backend.log_head())),
        Route::Rollouts => Ok(ok(&context.backend.rollouts())),
        Route::Order => {
            let wanted = body::json(request).await?;
            Ok(ok(&order(context, wanted, &actor).await?))
        }
        Route::KillShow => Ok(ok(&KillView::of(&context.kill.current(), None))),
        Route::KillMove => {
            let wanted: KillRequest = body::json(request).await?;
            Ok(ok(&switch::move_switch(context, wanted, actor).await?))
        }
        Route::Console => Ok(console::show(context, guard, &actor).await),
        Route::ConsoleForm => {
            let form = body::bytes(request, "application/x-www-form-urlencoded").await?;
            Ok(console::act(context, guard, &actor, &form).await)
        }
        Route::Catalog => Ok(ok(&context.backend.catalog())),
        Route::Expiring => Ok(ok(&context.backend.expiring())),
        Route::Keys => Ok(ok(&context.backend.keys())),
        Route::KeysRotate => {
            info!(actor, "A new signing key was asked for.");
            let keys = context.backend.rotate_keys(&actor).await;
            Ok(ok(&keys.map_err(Failure::BadRequest)?))
        }
        Route::KeysWithdraw => {
            let wanted: WithdrawRequest = body::json(request).await?;
            let keys = context.backend.withdraw_key(wanted, &actor).await;
            Ok(ok(&keys.map_err(Failure::Revoke)?))
        }
        Route::Explain => {
            let question = body::json(request).await?;
            let explanation = context.backend.explain(question).await;
            Ok(ok(&explanation.map_err(Failure::BadRequest)?))
        }
        Route::Reference => {
            let asked: ReferenceRequest = body::json(request).await?;
            Ok(ok(&context.backend.about(&asked.reference)))
        }
        Route::Plan => {
            let wanted = body::large_json(request).await?;
            let plan = context.backend.plan(wanted).await;
            Ok(ok(&plan.map_err(Failure::BadRequest)?))
        }
        Route::Report => {
            let wanted = body::large_json(request).await?;
            let report = context.backend.report(wanted, &actor).await;
            Ok(ok(&report.map_err(Failure::BadRequest)?))
        }
        Route::Revocations => {
            let all = context.backend.revocations().await;
            Ok(ok(&all.map_err(Failure::Revoke)?))
        }
        Route::Revoke => {
            let wanted = body::json(request).await?;
            let answer = context.backend.revoke(wanted, &actor).await;
            Ok(ok(&answer.map_err(Failure::Revoke)?))
        }
        Route::Forget => {
            let wanted = body::json(request).await?;
            let answer = context.backend.forget(wanted, &actor).await;
            Ok(ok(&answer.map_err(Failure::Revoke)?))
        }
        Route::Link => {
            let wanted = body::json(request).await?;
            let answer = context.backend.link(wanted, &actor).await;
            Ok(ok(&answer.map_err(Failure::Revoke)?))
        }
        Route::Legacy => {
            let all = context.backend.closings().await;
            Ok(ok(&all.map_err(Failure::Revoke)?))
        }
        Route::LegacyOrder => {
            let wanted = body::json(request).await?;
            let answer = context.backend.close(wanted, &actor).await;
            Ok(ok(&answer.map_err(Failure::Revoke)?))
        }
        Route::Drills => Ok(ok(&context.backend.drills())),
        Route::Drill => {
            let wanted = body::large_json(request).await?;
            let answer = context.backend.drill(wanted, &actor).await;
            Ok(ok(&answer.map_err(Failure::BadRequest)?))
        }
        Route::Lift => {
            let wanted = body::json(request).await?;
            let answer = context.backend.lift(wanted, &actor).await;
            Ok(ok(&answer.map_err(Failure::Revoke)?))
        }
        Route::Metrics | Route::Healthy | Route::Ready => free(context, route),
    }
}

fn free(context: &Context, route: Route) -> Result<Answer, Failure> {
    match route {
        Route::Metrics => {
            let providers = context.backend.readiness().providers;
            let files = providers.iter();
            let files = files.filter_map(|one| Some((one.id.as_str(), one.file_is_good?)));
            context.metrics.provider_files(files);
            let text = context.metrics.render();
            let text = text.map_err(|error| Failure::Internal(error.to_string()))?;
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            Ok(respond::answer(StatusCode::OK, kind, text.into()))
        }
        Route::Ready => Ok(ready(context)),
        Route::Healthy => Ok(respond::answer(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            Bytes::from_static(b"ok\n"),
        )),
        Route::Reload
        | Route::Config
        | Route::KillShow
        | Route::KillMove
        | Route::Rollouts
        | Route::Catalog
        | Route::Expiring
        | Route::Keys
        | Route::KeysRotate
        | Route::KeysWithdraw
        | Route::Order
        | Route::LogHead
        | Route::Explain
        | Route::Reference
        | Route::Plan
        | Route::Report
        | Route::Revocations
        | Route::Revoke
        | Route::Lift
        | Route::Forget
        | Route::Link
        | Route::Legacy
        | Route::LegacyOrder
        | Route::Drills
        | Route::Drill
        | Route::Console
        | Route::ConsoleForm => Err(Failure::NoPath),
    }
}

/// A wish to move the kill switch.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KillRequest {
    /// `off`, `freeze`, `legacy`, `modern`, `deny`.
    pub(crate) position: String,
    /// One rollout; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rollout: Option<String>,
    /// Why; needed to loosen.
    #[serde(default)]
    pub(crate) reason: String,
}

/// Where the kill switch stands, all inputs combined.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct KillView {
    /// For every rollout.
    pub(crate) global: String,
    /// For single rollouts.
    pub(crate) rollouts: std::collections::BTreeMap<String, String>,
    /// After a move: whether it survives a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) persisted: Option<bool>,
}

impl KillView {
    pub(super) fn of(state: &KillState, persisted: Option<bool>) -> Self {
        let rollouts = state.rollouts.iter();
        Self {
            global: state.global.as_str().into(),
            rollouts: rollouts
                .map(|(id, position)| (id.as_str().into(), position.as_str().into()))
                .collect(),
            persisted,
        }
    }
}

/// Orders a rollout to do something, and says where it stands then.
pub(super) async fn order(
    context: &Context,
    wanted: OrderRequest,
    actor: &str,
) -> Result<RolloutView, Failure> {
    info!(actor, command = wanted.command, "A rollout was ordered.");
    let done = context.backend.order(wanted, actor).await;
    done.map_err(Failure::BadRequest)
}

/// Reads the configuration again.
pub(super) async fn reload(context: &Context, actor: &str) -> ReloadAnswer {
    info!(actor, "A reload was asked for.");
    context.backend.reload().await
}

fn ok(value: &impl Serialize) -> Answer {
    respond::json(StatusCode::OK, value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header;
    use http_body_util::BodyExt as _;
    use http_body_util::Full;
    use serde_json::Value;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::admin::backend::ProviderView;
    use crate::admin::backend::Readiness;
    use crate::admin::fake::FakeBackend;
    use crate::clock::SystemClock;
    use crate::control::KillSettings;
    use crate::rollout::KillPosition;
    use crate::telemetry::DecisionLog;

    struct Bench {
        context: Context,
        guard: Guard,
        _directory: TempDir,
    }

    impl Bench {
        fn new(backend: FakeBackend) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let clock = Arc::new(SystemClock);
            let metrics = Metrics::new(clock.clone(), 100);
            let settings = KillSettings {
                file: directory.path().join("kill"),
                poll: Duration::from_millis(200),
                state: directory.path().join("kill.json"),
                environment: None,
            };
            let (m, log) = (Arc::clone(&metrics), DecisionLog::off());
            let kill = KillSwitch::start(settings, clock.clone(), m, log).unwrap();
            Self {
                context: Context {
                    backend: Arc::new(backend),
                    kill: Arc::new(kill),
                    metrics,
                    clock,
                },
                guard: Guard::new(None),
                _directory: directory,
            }
        }

        async fn asked(
            &self,
            scope: Scope,
            peer: Peer,
            request: Request<Full<Bytes>>,
        ) -> (u16, Value) {
            let answer = answer(&self.context, &self.guard, scope, peer, request).await;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body)
                .unwrap_or_else(|_| Value::String(String::from_utf8(body.to_vec()).unwrap()));
            (status, body)
        }

        async fn socket(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
            self.asked(
                Scope::Admin,
                Peer::Unix { uid: Some(0) },
                ask(method, target, &body),
            )
            .await
        }
    }

    fn ask(method: &str, target: &str, body: &Value) -> Request<Full<Bytes>> {
        let request = Request::builder().method(method).uri(target);
        let request = request.header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        request.body(Full::from(body)).unwrap()
    }

    fn stranger() -> Peer {
        Peer::Tcp {
            from: "127.0.0.1:50000".parse().unwrap(),
            to: "127.0.0.1:9901".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn only_health_and_metrics_need_no_proof() {
        let bench = Bench::new(FakeBackend::default());
        for (method, target, free) in [
            ("GET", "/metrics", true),
            ("GET", "/metrics?x=y", true),
            ("GET", "/-/healthy", true),
            ("HEAD", "/-/ready", true),
            ("GET", "/-/config", false),
            ("POST", "/-/reload", false),
            ("GET", "/admin/v1/catalog", false),
            ("GET", "/admin/v1/expiring", false),
            ("GET", "/admin/v1/kill", false),
            ("POST", "/admin/v1/kill", false),
            ("GET", "/admin/v1/rollouts", false),
            ("POST", "/admin/v1/explain", false),
            ("POST", "/admin/v1/reference", false),
            ("POST", "/admin/v1/forget", false),
            ("POST", "/admin/v1/links", false),
        ] {
            let request = ask(method, target, &Value::Null);
            let (status, body) = bench.asked(Scope::Admin, stranger(), request).await;
            assert_eq!(status != 403, free, "{method} {target}: {status} {body}");
        }
    }

    #[tokio::test]
    async fn paths_are_exact() {
        let bench = Bench::new(FakeBackend::default());
        for target in [
            "/",
            "/-/config/",
            "/-/Config",
            "/-/configX",
            "/-/../-/config",
            "//-/config",
            "/-%2fconfig",
            "/metrics/../-/config",
            "/metrics/",
            "/METRICS",
            "/admin/v1/kill/x",
        ] {
            let (status, _) = bench.socket("GET", target, Value::Null).await;
            assert_eq!(status, 404, "{target}");
        }
        let (status, _) = bench.socket("GET", "/-/config?x=y", Value::Null).await;
        assert_eq!(status, 400);
        let (status, _) = bench.socket("GET", "http://x/-/config", Value::Null).await;
        assert_eq!(status, 400);
    }

    #[tokio::test]
    async fn a_method_that_the_path_does_not_take_is_named() {
        let bench = Bench::new(FakeBackend::default());
        for (method, target) in [
            ("POST", "/-/config"),
            ("GET", "/-/reload"),
            ("HEAD", "/-/config"),
            ("DELETE", "/admin/v1/kill"),
            ("POST", "/metrics"),
            ("TRACE", "/metrics"),
        ] {
            let (status, _) = bench.socket(method, target, Value::Null).await;
            assert_eq!(status, 405, "{method} {target}");
        }
    }

    #[tokio::test]
    async fn the_metrics_listener_knows_nothing_else() {
        let bench = Bench::new(FakeBackend::default());
        for target in ["/-/healthy", "/-/ready", "/-/config", "/admin/v1/kill"] {
            let request = ask("GET", target, &Value::Null);
            let (status, _) = bench.asked(Scope::Metrics, stranger(), request).await;
            assert_eq!(status, 404, "{target}");
        }
        let request = ask("GET", "/metrics", &Value::Null);
        let (status, body) = bench.asked(Scope::Metrics, stranger(), request).await;
        assert_eq!(status, 200);
        assert!(body.as_str().unwrap().contains("authferry_build_info"));
    }

    #[tokio::test]
    async fn the_kill_switch_moves_and_says_what_holds() {
        let bench = Bench::new(FakeBackend::default());
        let body = json!({ "position": "legacy", "reason": "drill" });
        let (status, view) = bench.socket("POST", "/admin/v1/kill", body).await;
        assert_eq!((status, &view["global"]), (200, &json!("legacy")), "{view}");
        assert_eq!(view["persisted"], true);
        assert_eq!(bench.context.kill.current().global, KillPosition::Legacy);

        let (status, view) = bench
            .socket("POST", "/admin/v1/kill", json!({ "position": "off" }))
            .await;
        assert_eq!(
            (status, &view["error"]),
            (400, &json!("reason_missing")),
            "{view}"
        );
        for bad in [
            json!({ "position": "of", "reason": "x" }),
            json!({ "position": "off", "reason": "x", "force": true }),
            json!({}),
            json!([]),
        ] {
            let (status, view) = bench.socket("POST", "/admin/v1/kill", bad).await;
            assert_eq!(status, 400, "{view}");
        }
        let (_, view) = bench.socket("GET", "/admin/v1/kill", Value::Null).await;
        assert_eq!(view["global"], "legacy");
    }

    #[tokio::test]
    async fn a_body_must_be_declared_as_json_and_be_small() {
        let bench = Bench::new(FakeBackend::default());
        let mut request = ask("POST", "/admin/v1/kill", &json!({ "position": "deny" }));
        let plain = http::HeaderValue::from_static("text/plain");
        request.headers_mut().insert(header::CONTENT_TYPE, plain);
        let peer = Peer::Unix { uid: Some(0) };
        let (status, _) = bench.asked(Scope::Admin, peer, request).await;
        assert_eq!(status, 415);
        let body = json!({ "position": "deny", "reason": "x".repeat(body::MAX_BODY_BYTES) });
        let (status, _) = bench.socket("POST", "/admin/v1/kill", body).await;
        assert_eq!(status, 413);
        assert_eq!(bench.context.kill.current().global, KillPosition::Off);
    }

    #[tokio::test]
    async fn a_refused_configuration_is_not_a_success() {
        let bench = Bench::new(FakeBackend {
            problems: vec!["rollout.percent: 150".into()],
            ..FakeBackend::default()
        });
        let (status, body) = bench.socket("POST", "/-/reload", Value::Null).await;
        assert_eq!((status, &body["outcome"]), (422, &json!("refused")));
        assert_eq!(body["problems"][0], "rollout.percent: 150");
        let good = Bench::new(FakeBackend::default());
        assert_eq!(good.socket("POST", "/-/reload", Value::Null).await.0, 200);
    }

    #[tokio::test]
    async fn a_question_about_nothing_gets_a_reason() {
        let bench = Bench::new(FakeBackend::default());
        let body = json!({ "subject": "uid:1", "app": "crn" });
        let (status, view) = bench.socket("POST", "/admin/v1/explain", body).await;
        assert_eq!(status, 400);
        assert!(view["reason"].as_str().unwrap().contains("crn"), "{view}");
        let body = json!({ "subject": "uid:1", "app": "crm" });
        let (status, view) = bench.socket("POST", "/admin/v1/explain", body).await;
        assert_eq!((status, &view["provider"]), (200, &json!("modern")));
    }

    #[tokio::test]
    async fn one_provider_that_can_judge_is_enough_to_be_ready() {
        let provider = |usable| ProviderView {
            id: format!("p{usable}"),
            usable,
            reason: (!usable).then(|| "keys_unavailable".into()),
            file_is_good: None,
        };
        let ready = Readiness {
            started: true,
            ..Readiness::default()
        };
        for (readiness, status, word) in [
            (Readiness::default(), 503, "starting"),
            (ready.clone(), 200, "ready"),
            (
                Readiness {
                    draining: true,
                    ..ready.clone()
                },
                503,
                "draining",
            ),
            (
                Readiness {
                    providers: vec![provider(true)],
                    ..ready.clone()
                },
                200,
                "ready",
            ),
            (
                Readiness {
                    providers: vec![provider(true), provider(false)],
                    ..ready.clone()
                },
                200,
                "degraded",
            ),
            (
                Readiness {
                    providers: vec![ProviderView {
                        reason: Some("keys_unavailable".into()),
                        ..provider(true)
                    }],
                    ..ready.clone()
                },
                200,
                "degraded",
            ),
            (
                Readiness {
                    providers: vec![provider(false)],
                    ..ready.clone()
                },
                503,
                "unavailable",
            ),
            (
                Readiness {
                    store: Some(false),
                    ..ready.clone()
                },
                503,
                "unavailable",
            ),
        ] {
            let bench = Bench::new(FakeBackend {
                readiness,
                ..FakeBackend::default()
            });
            let request = ask("GET", "/-/ready", &Value::Null);
            let (code, body) = bench.asked(Scope::Admin, stranger(), request).await;
            assert_eq!((code, &body["status"]), (status, &json!(word)), "{body}");
            if word == "degraded" && body["degraded"][0].is_object() {
                assert_eq!(body["degraded"][0]["reason"], "keys_unavailable");
            }
        }
    }
}
