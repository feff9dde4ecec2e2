//! The pool over HTTP/2 and over TLS.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use crate::proxy::body::Ended;
use crate::proxy::settings::Upstream;
use crate::proxy::upstream::ConnectError;
use crate::proxy::upstream::SendError;
use crate::proxy::upstream::Target;
use crate::proxy::upstream::link::Local;
use crate::proxy::upstream::testing::Client;
use crate::proxy::upstream::testing::local;
use crate::proxy::upstream::testing::settings;

type Heads = Rc<std::cell::RefCell<Vec<(String, HeaderMap)>>>;

/// Answers over HTTP/2 with trailers, and over HTTP/1.1 as well where ALPN says so.
struct Server {
    address: SocketAddr,
    connections: Rc<Cell<usize>>,
    heads: Heads,
    hang_up: Rc<Notify>,
}

async fn start(tls: Option<TlsAcceptor>, h2: bool) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        address: listener.local_addr().unwrap(),
        connections: Rc::default(),
        heads: Heads::default(),
        hang_up: Rc::default(),
    };
    let (connections, heads, hang_up) = (
        server.connections.clone(),
        server.heads.clone(),
        server.hang_up.clone(),
    );
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.set(connections.get() + 1);
            let (tls, heads, hang_up) = (tls.clone(), heads.clone(), hang_up.clone());
            let life = async move {
                match tls {
                    None => serve(stream, h2, heads).await,
                    Some(acceptor) => {
                        let Ok(stream) = acceptor.accept(stream).await else {
                            return;
                        };
                        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        serve(stream, h2, heads).await;
                    }
                }
            };
            spawn_local(async move {
                tokio::select! {
                    () = life => {}
                    () = hang_up.notified() => {}
                }
            });
        }
    });
    server
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S, h2: bool, heads: Heads) {
    let service = service_fn(move |request: Request<Incoming>| {
        heads
            .borrow_mut()
            .push((request.uri().to_string(), request.headers().clone()));
        async {
            let mut trailers = HeaderMap::new();
            for (name, value) in [
                ("grpc-status", "0"),
                ("x-crm-login", "root"),
                ("set-cookie", "__Host-authferry=evil"),
                ("content-length", "9"),
                ("x-authferry-subject", "root"),
            ] {
                trailers.insert(name, HeaderValue::from_static(value));
            }
            let frames = [
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"ok"))),
                Ok(Frame::trailers(trailers)),
            ];
            drop(request.into_body().collect().await);
            Ok::<_, Infallible>(Response::new(StreamBody::new(futures_util::stream::iter(
                frames,
            ))))
        }
    });
    if h2 {
        drop(
            http2::Builder::new(Local)
                .serve_connection(TokioIo::new(stream), service)
                .await,
        );
    } else {
        drop(
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await,
        );
    }
}

/// A certificate authority, a certificate for `localhost` and 127.0.0.1, and files of them.
pub(super) struct Pki {
    _dir: tempfile::TempDir,
    ca: PathBuf,
    pair: (PathBuf, PathBuf),
    pub(super) config: Arc<ServerConfig>,
}

pub(super) fn pki(protocols: &[&[u8]], clients: bool) -> Pki {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut ca = rcgen::CertificateParams::new([]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(ca, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let pair = (
        file("cert.pem", &certificate.pem()),
        file("key.pem", &key.serialize_pem()),
    );
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if clients {
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let mut config = builder
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    Pki {
        ca: file("ca.pem", &ca.pem()),
        pair,
        config: Arc::new(config),
        _dir: dir,
    }
}

pub(super) fn encrypted(address: SocketAddr, pki: &Pki) -> Upstream {
    let mut settings = settings(&[address]);
    settings.origins[0].tls = true;
    settings.ca = Some(pki.ca.clone());
    settings
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    local(async {
        let server = start(None, true).await;
        let client = Client::with(Upstream {
            http2: true,
            ..settings(&[server.address])
        });
        let all = futures_util::future::join_all((0..50).map(|_| client.get())).await;
        assert!(all.iter().all(|answer| answer.as_ref().unwrap() == "ok"));
        assert_eq!(server.connections.get(), 1);
        let (uri, fields) = server.heads.borrow()[0].clone();
        assert_eq!(uri, "http://app.test/a?b=c");
        assert!(!fields.contains_key("host"));
    })
    .await;
}

#[tokio::test]
async fn more_streams_than_a_connection_takes_open_another() {
    local(async {
        let server = start(None, true).await;
        let client = Client::with(Upstream {
            http2: true,
            ..settings(&[server.address])
        });
        let mut held = Vec::new();
        for _ in 0..150 {
            held.push(client.send(Method::GET, &[], None).await.unwrap());
        }
        assert_eq!(server.connections.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn trailers_pass_except_ours_and_those_that_steer() {
    local(async {
        let server = start(None, true).await;
        let client = Client::with(Upstream {
            http2: true,
            ..settings(&[server.address])
        });
        let (response, end) = client
            .send(
                Method::POST,
                &[("te", "trailers"), ("content-type", "application/grpc")],
                Some("x"),
            )
            .await
            .unwrap();
        let whole = response.into_body().collect().await.unwrap();
        let trailers = whole.trailers().unwrap();
        assert_eq!(trailers.len(), 1, "{trailers:?}");
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(*end.borrow(), [(2, Ended::Complete)]);
        assert_eq!(server.heads.borrow()[0].1["te"], "trailers");
        client
            .send(Method::POST, &[("te", "trailers, deflate")], Some("x"))
            .await
            .unwrap();
        assert!(!server.heads.borrow()[1].1.contains_key("te"));
    })
    .await;
}

#[tokio::test]
async fn an_http2_connection_that_went_away_is_replaced() {
    local(async {
        let server = start(None, true).await;
        let client = Client::with(Upstream {
            http2: true,
            ..settings(&[server.address])
        });
        assert_eq!(client.get().await.unwrap(), "ok");
        server.hang_up.notify_waiters();
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.get().await.unwrap(), "ok");
        assert_eq!(server.connections.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn tls_is_checked_against_the_configured_authority() {
    local(async {
        let (ours, other) = (pki(&[b"http/1.1"], false), pki(&[b"http/1.1"], false));
        let server = start(Some(ours.config.clone().into()), false).await;
        let client = Client::with(encrypted(server.address, &ours));
        for _ in 0..2 {
            assert_eq!(client.get().await.unwrap(), "ok");
        }
        assert_eq!(server.connections.get(), 1);
        let refused = Client::with(encrypted(server.address, &other)).get().await;
        assert!(
            matches!(refused, Err(SendError::Connect(ConnectError::Tls(_)))),
            "{refused:?}"
        );
        let mut elsewhere = encrypted(server.address, &ours);
        elsewhere.origins[0].host = "127.0.0.2".into();
        let refused = Client::with(elsewhere).get().await;
        assert!(matches!(refused, Err(SendError::Connect(_))), "{refused:?}");
        assert_eq!(server.heads.borrow().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn alpn_decides_between_the_versions() {
    for (offered, h2) in [
        (vec![b"h2".as_slice(), b"http/1.1"], true),
        (vec![b"http/1.1".as_slice()], false),
    ] {
        local(async {
            let pki = pki(&offered, false);
            let server = start(Some(pki.config.clone().into()), false).await;
            let mut settings = encrypted(server.address, &pki);
            settings.http2 = true;
            settings.origins[0].host = "localhost".into();
            let client = Client::with(settings);
            for _ in 0..2 {
                assert_eq!(client.get().await.unwrap(), "ok");
            }
            assert_eq!(server.connections.get(), 1);
            let (uri, _) = server.heads.borrow()[0].clone();
            assert_eq!(
                uri,
                if h2 {
                    "https://app.test/a?b=c"
                } else {
                    "/a?b=c"
                }
            );
        })
        .await;
    }
}

#[tokio::test]
async fn our_certificate_is_shown_to_an_upstream_that_asks() {
    local(async {
        let pki = pki(&[], true);
        let server = start(Some(pki.config.clone().into()), false).await;
        let known = Upstream {
            client_certificate: Some(pki.pair.clone()),
            ..encrypted(server.address, &pki)
        };
        assert_eq!(Client::with(known).get().await.unwrap(), "ok");
        assert!(
            Client::with(encrypted(server.address, &pki))
                .get()
                .await
                .is_err()
        );
        assert_eq!(server.heads.borrow().len(), 1);
    })
    .await;
}

#[test]
fn an_upstream_is_current_until_its_settings_or_its_files_change() {
    let (one, other) = (pki(&[], false), pki(&[], false));
    let settings = encrypted(([127, 0, 0, 1], 1).into(), &one);
    let target = Target::new(settings.clone()).unwrap();
    assert!(target.is_current(&settings));
    assert!(!target.is_current(&Upstream {
        preserve_host: false,
        ..settings.clone()
    }));
    std::fs::copy(&other.ca, &one.ca).unwrap();
    assert!(!target.is_current(&settings));
}

#[test]
fn what_cannot_be_read_is_named() {
    let pki = pki(&[], false);
    let settings = encrypted(([127, 0, 0, 1], 1).into(), &pki);
    let missing = Target::new(Upstream {
        ca: Some("/nowhere/ca.pem".into()),
        ..settings.clone()
    })
    .unwrap_err();
    assert!(
        missing.to_string().starts_with("/nowhere/ca.pem: "),
        "{missing}"
    );
    let swapped = Upstream {
        client_certificate: Some((pki.pair.1.clone(), pki.pair.0.clone())),
        ..settings
    };
    let wrong = Target::new(swapped).unwrap_err();
    assert!(wrong.to_string().contains("key.pem"), "{wrong}");
}
