//! Requests with content over HTTP/1.1: what the upstream gets when answers come early and bodies come late.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::Method;
use http_body::Body;
use http_body::Frame;
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use crate::proxy::forwarded::Hop;
use crate::proxy::upstream::Pool;
use crate::proxy::upstream::Resolver;
use crate::proxy::upstream::SendError;
use crate::proxy::upstream::answer::Answer;
use crate::proxy::upstream::testing::Client;
use crate::proxy::upstream::testing::Note;
use crate::proxy::upstream::testing::OK;
use crate::proxy::upstream::testing::head;
use crate::proxy::upstream::testing::local;
use crate::proxy::upstream::testing::raw;
use crate::proxy::upstream::testing::text;
use crate::proxy::upstream::tests_h2::encrypted;
use crate::proxy::upstream::tests_h2::pki;

type Parts = mpsc::UnboundedSender<io::Result<Frame<Bytes>>>;

/// A body that is as long as its sender lives.
fn body() -> (
    Parts,
    impl Body<Data = Bytes, Error = io::Error> + Unpin + 'static,
) {
    let (say, heard) = mpsc::unbounded_channel();
    let next = |mut heard: mpsc::UnboundedReceiver<_>| async move {
        let part = heard.recv().await?;
        Some((part, heard))
    };
    (say, StreamBody::new(Box::pin(stream::unfold(heard, next))))
}

fn data(text: &'static str) -> io::Result<Frame<Bytes>> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

async fn post<B>(pool: &Pool<B>, client: &Client, body: B) -> Result<Answer<B>, SendError>
where
    B: Body<Data = Bytes, Error = io::Error> + Unpin + 'static,
{
    let (headers, hop) = (
        HeaderMap::new(),
        Hop::new("203.0.113.9".parse().unwrap(), false),
    );
    let head = head(&Method::POST, &headers, &hop, &client.policy);
    pool.send(&client.target, &client.policy, Some(body), head)
        .await
}

fn pool<B>() -> Pool<B>
where
    B: Body<Data = Bytes, Error = io::Error> + Unpin + 'static,
{
    Pool::new(Resolver::system(tokio::runtime::Handle::current()))
}

#[tokio::test]
async fn a_body_of_unknown_length_arrives_in_chunks_and_its_connection_serves_the_next() {
    local(async {
        let (address, seen) = raw(|_, mut peer| async move {
            while peer.head().await.is_some() {
                assert_eq!(
                    peer.body(25).await,
                    b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
                );
                peer.say(OK).await;
            }
        })
        .await;
        let (client, pool) = (Client::to(address), pool());
        for _ in 0..2 {
            let (say, body) = body();
            for part in ["hello", "", "world"] {
                say.send(data(part)).unwrap();
            }
            drop(say);
            let answer = post(&pool, &client, body).await.unwrap();
            let response = answer.into_response(Note(Default::default()));
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(text, "ok");
        }
        assert_eq!(seen.connections(), 1);
        assert!(seen.heads()[0].contains("transfer-encoding: chunked\r\n"));
    })
    .await;
}

/// The clock goes on, and nothing else happens.
async fn rest(ms: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(ms)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn what_is_sent_once_keeps_away_from_connections_that_are_about_to_end() {
    local(async {
        let (ended, over) = oneshot::channel();
        let ended = std::cell::Cell::new(Some(ended));
        let (address, seen) = raw(move |number, mut peer| {
            let ended = (number == 0).then(|| ended.take()).flatten();
            async move {
                while let Some(head) = peer.head().await {
                    if head.starts_with("POST") {
                        peer.body(1).await;
                    }
                    peer.say(OK).await;
                    if let Some(ended) = ended {
                        drop(peer);
                        ended.send(()).unwrap();
                        return;
                    }
                }
            }
        })
        .await;
        let client = Client::to(address);
        let post = async || {
            let sent = client.send(Method::POST, &[], Some("x")).await;
            text(sent.unwrap().0).await.unwrap()
        };
        client.get().await.unwrap();
        over.await.unwrap();
        rest(100).await;
        client.get().await.unwrap();
        assert_eq!(seen.connections(), 2, "the first one had ended");
        rest(70).await;
        assert_eq!(post().await, "ok");
        assert_eq!(seen.connections(), 3, "the second one is about to");
        rest(30).await;
        assert_eq!(post().await, "ok");
        assert_eq!(seen.connections(), 3, "the third one is not");
        rest(70).await;
        client.get().await.unwrap();
        assert_eq!(seen.connections(), 3, "what may be sent again takes it");
    })
    .await;
}

#[tokio::test]
async fn what_a_client_says_after_the_answer_began_arrives_though_nobody_reads_the_answer() {
    local(async {
        let (arrived, told) = oneshot::channel();
        let arrived = std::cell::Cell::new(Some(arrived));
        let (address, _) = raw(move |_, mut peer| {
            let arrived = arrived.take().unwrap();
            async move {
                peer.head().await;
                peer.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
                    .await;
                arrived.send(peer.body(20).await).unwrap();
                peer.say("done").await;
            }
        })
        .await;
        let (client, pool) = (Client::to(address), pool());
        let (say, body) = body();
        let answer = post(&pool, &client, body).await.unwrap();
        say.send(data("hello")).unwrap();
        say.send(data("world")).unwrap();
        // The answer has not been looked at yet.
        assert_eq!(told.await.unwrap(), b"5\r\nhello\r\n5\r\nworld\r\n");
        drop(say);
        let response = answer.into_response(Note(Default::default()));
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "done");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_breaks_after_the_answer_began_never_looks_complete() {
    local(async {
        let (ended, told) = oneshot::channel();
        let ended = std::cell::Cell::new(Some(ended));
        let (address, _) = raw(move |_, mut peer| {
            let ended = ended.take().unwrap();
            async move {
                peer.head().await;
                peer.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
                    .await;
                let got = peer.body(10).await;
                peer.end().await;
                ended.send(got).unwrap();
            }
        })
        .await;
        let (client, pool) = (Client::to(address), pool());
        let (say, body) = body();
        let answer = post(&pool, &client, body).await.unwrap();
        say.send(data("hello")).unwrap();
        say.send(Err(io::Error::other("gone"))).unwrap();
        // The end of the connection, not of the body: there was no last chunk.
        assert_eq!(told.await.unwrap(), b"5\r\nhello\r\n");
        let response = answer.into_response(Note(Default::default()));
        assert!(response.into_body().collect().await.is_err());
    })
    .await;
}

#[tokio::test]
async fn an_answer_to_half_a_request_is_forwarded_though_the_upstream_takes_no_more() {
    local(async {
        let (address, seen) = raw(|_, mut peer| async move {
            peer.head().await;
            peer.say("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
                .await;
        })
        .await;
        let (client, pool) = (Client::to(address), pool());
        let (say, body) = body();
        let large = Bytes::from(vec![b'x'; 8 << 20]);
        say.send(Ok(Frame::data(large))).unwrap();
        let answer = post(&pool, &client, body).await;
        // The connection may be gone before the answer is read: that is the kernel's choice, and 502.
        match answer {
            Ok(answer) => assert_eq!(answer.status(), 413),
            Err(error) => assert!(matches!(error, SendError::Broken(_)), "{error}"),
        }
        drop(say);
        assert_eq!(seen.count("POST"), 1);
    })
    .await;
}

#[tokio::test]
async fn trailers_of_an_answer_pass_where_they_may() {
    local(async {
        let (address, seen) = raw(|_, mut peer| async move {
            while peer.head().await.is_some() {
                peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, x-crm-login\r\n\r\n")
                    .await;
                peer.say("2\r\nok\r\n0\r\nX-Sum: 7\r\nX-Crm-Login: root\r\n\r\n").await;
            }
        })
        .await;
        let client = Client::to(address);
        for _ in 0..2 {
            let (response, _) = client.send(Method::GET, &[], None).await.unwrap();
            let whole = response.into_body().collect().await.unwrap();
            let trailers = whole.trailers().unwrap();
            assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"7".parse().unwrap()));
            assert_eq!(whole.to_bytes(), "ok");
        }
        assert_eq!(seen.connections(), 1);
    })
    .await;
}

/// One TLS record holds an answer that fills the reader's room to the last byte, and something behind it.
#[tokio::test]
async fn what_tls_has_decrypted_beyond_an_answer_never_becomes_the_next_answer() {
    local(async {
        let pki = pki(&[b"http/1.1"], false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(pki.config.clone());
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                spawn_local(async move {
                    let mut chunk = [0; 4096];
                    while stream.read(&mut chunk).await.is_ok_and(|n| n != 0) {
                        let head = "HTTP/1.1 200 OK\r\nContent-Length: 8151\r\n\r\n";
                        let mut text = format!("{head}{}", "a".repeat(8151));
                        assert_eq!(text.len(), 8192, "the room that is read into");
                        text.push_str("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nEVIL!");
                        stream.write_all(text.as_bytes()).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                });
            }
        });
        let client = Client::with(encrypted(address, &pki));
        for _ in 0..3 {
            assert_eq!(client.get().await.unwrap(), "a".repeat(8151));
        }
    })
    .await;
}
