//! Asking origins how they are, on the background runtime: one question at a time to each, for all workers.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Uri;
use http::header;
use http::uri::Authority;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::proxy::upstream::connect;
use crate::proxy::upstream::connect::Speak;
use crate::proxy::upstream::resolve::Resolver;
use crate::proxy::upstream::target::Target;

/// The longest wait for one answer, connecting included.
const PATIENCE: Duration = Duration::from_secs(5);

/// An origin is unwell after this many bad answers in a row, and well after one good one.
const BAD_ANSWERS: u32 = 2;

/// Begins to watch the origins of `target`, once in its life; ends when the configuration forgets it.
pub(super) fn watch(target: &Arc<Target>, resolver: &Arc<Resolver>) {
    if target.settings().health_path.is_none() || !target.begin_watch() {
        return;
    }
    for index in 0..target.sites().len() {
        resolver
            .background()
            .spawn(follow(Arc::downgrade(target), index, resolver.clone()));
    }
}

async fn follow(target: Weak<Target>, index: usize, resolver: Arc<Resolver>) {
    let mut bad = 0_u32;
    loop {
        let interval = {
            let Some(target) = target.upgrade() else {
                return;
            };
            let Some(site) = target.sites().get(index) else {
                return;
            };
            let good = timeout(PATIENCE, ask(&target, index, &resolver))
                .await
                .unwrap_or(false);
            bad = if good { 0 } else { bad.saturating_add(1) };
            if good != site.is_well() && (good || BAD_ANSWERS <= bad) {
                site.set_well(good);
                tracing::info!(origin = %site.origin.host, port = site.origin.port, well = good, "An upstream changed its health.");
            }
            target.settings().health_interval
        };
        sleep(interval).await;
    }
}

/// Whether the origin answers 2xx.
async fn ask(target: &Target, index: usize, resolver: &Arc<Resolver>) -> bool {
    let (Some(site), Some(path)) = (target.sites().get(index), &target.settings().health_path)
    else {
        return false;
    };
    let Ok(stream) = connect::open(target, site, resolver, Speak::AsConfigured).await else {
        return false;
    };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::GET;
    request.headers_mut().insert(
        header::USER_AGENT,
        HeaderValue::from_static("authferry-health"),
    );
    let h2 = target.settings().http2 && (!site.origin.tls || stream.agreed_on_h2());
    let answer = if h2 {
        let Ok(authority) = Authority::try_from(site.authority.as_bytes()) else {
            return false;
        };
        let uri = Uri::builder()
            .scheme(site.scheme())
            .authority(authority)
            .path_and_query(path.as_str())
            .build();
        let Ok(uri) = uri else {
            return false;
        };
        *request.uri_mut() = uri;
        let Ok((mut sender, connection)) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await
        else {
            return false;
        };
        tokio::select! {
            biased;
            answer = sender.send_request(request) => answer,
            _ = connection => return false,
        }
    } else {
        let Ok(uri) = path.parse() else {
            return false;
        };
        *request.uri_mut() = uri;
        request
            .headers_mut()
            .insert(header::HOST, site.authority.clone());
        let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else {
            return false;
        };
        tokio::select! {
            biased;
            answer = sender.send_request(request) => answer,
            _ = connection => return false,
        }
    };
    answer.is_ok_and(|answer| answer.status().is_success())
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;
    use crate::proxy::settings::Upstream;
    use crate::proxy::upstream::testing::Client;
    use crate::proxy::upstream::testing::OK;
    use crate::proxy::upstream::testing::local;
    use crate::proxy::upstream::testing::raw;
    use crate::proxy::upstream::testing::settings;

    fn watched(addresses: &[std::net::SocketAddr]) -> Upstream {
        Upstream {
            health_path: Some("/healthz".to_owned()),
            ..settings(addresses)
        }
    }

    async fn until(done: impl Fn() -> bool) {
        while !done() {
            sleep(Duration::from_millis(500)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unwell_origin_gets_no_requests_until_it_is_well_again() {
        local(async {
            let ill = std::rc::Rc::new(std::cell::Cell::new(true));
            let state = ill.clone();
            let (a, at_a) = raw(move |_, mut peer| {
                let ill = state.clone();
                async move {
                    while let Some(head) = peer.head().await {
                        let asked = head.starts_with("GET /healthz ");
                        peer.say(if asked && ill.get() {
                            "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
                        } else {
                            OK
                        })
                        .await;
                    }
                }
            })
            .await;
            let (b, _) = crate::proxy::upstream::testing::answering(OK).await;
            let client = Client::with(watched(&[a, b]));
            client.get().await.unwrap();
            until(|| client.target.well() == 1).await;
            let before = at_a.count("GET /a");
            for _ in 0..6 {
                client.get().await.unwrap();
            }
            assert_eq!(at_a.count("GET /a"), before);
            ill.set(false);
            until(|| client.target.well() == 2).await;
            for _ in 0..6 {
                client.get().await.unwrap();
            }
            assert!(before < at_a.count("GET /a"));
            let head = at_a
                .heads()
                .into_iter()
                .find(|head| head.starts_with("GET /healthz"))
                .unwrap();
            assert!(head.contains(&format!("host: {a}\r\n")), "{head}");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn with_all_origins_unwell_requests_are_still_tried() {
        local(async {
            let (address, _) = raw(|_, mut peer| async move {
                while let Some(head) = peer.head().await {
                    let asked = head.starts_with("GET /healthz ");
                    peer.say(if asked {
                        "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
                    } else {
                        OK
                    })
                    .await;
                }
            })
            .await;
            let client = Client::with(watched(&[address, address]));
            client.get().await.unwrap();
            until(|| client.target.well() == 0).await;
            assert_eq!(client.get().await.unwrap(), "ok");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_watch_begins_once_and_ends_with_its_upstream() {
        local(async {
            let (address, seen) = crate::proxy::upstream::testing::answering(OK).await;
            let interval = Duration::from_millis(100);
            let target = Target::new(Upstream {
                health_interval: interval,
                ..watched(&[address])
            })
            .unwrap();
            let resolver = Resolver::system(Handle::current());
            for _ in 0..3 {
                watch(&target, &resolver);
            }
            sleep(10 * interval).await;
            // One watch asks ten times in this time, three would ask thirty times.
            assert!(
                (8..=12).contains(&seen.connections()),
                "{}",
                seen.connections()
            );
            drop(target);
            sleep(2 * interval).await;
            let last = seen.connections();
            sleep(50 * interval).await;
            assert_eq!(seen.connections(), last);
        })
        .await;
    }
}
