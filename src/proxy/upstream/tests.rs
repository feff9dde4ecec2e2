//! The pool against upstreams that misbehave.

use std::time::Duration;

use http::Method;
use http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::proxy::body::Ended;
use crate::proxy::upstream::AnswerFault;
use crate::proxy::upstream::ConnectError;
use crate::proxy::upstream::SendError;
use crate::proxy::upstream::testing::Client;
use crate::proxy::upstream::testing::OK;
use crate::proxy::upstream::testing::answering;
use crate::proxy::upstream::testing::local;
use crate::proxy::upstream::testing::raw;
use crate::proxy::upstream::testing::refusing;
use crate::proxy::upstream::testing::settings;
use crate::proxy::upstream::testing::text;

/// Lets paused time pass until `done`, or until the test's patience ends.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_request_is_forwarded_and_its_connection_serves_the_next() {
    local(async {
        let (address, seen) = answering(OK).await;
        let client = Client::to(address);
        for _ in 0..3 {
            assert_eq!(client.get().await.unwrap(), "ok");
        }
        assert_eq!(seen.connections(), 1);
        let head = seen.heads().remove(0);
        assert!(
            head.starts_with("GET /a?b=c HTTP/1.1\r\nhost: app.test\r\n"),
            "{head}"
        );
        assert!(head.contains("x-forwarded-for: 203.0.113.9\r\n"), "{head}");
    })
    .await;
}

#[tokio::test]
async fn an_upstream_may_be_told_its_own_name() {
    local(async {
        let (address, seen) = answering(OK).await;
        let client = Client::with(crate::proxy::settings::Upstream {
            preserve_host: false,
            ..settings(&[address])
        });
        client.get().await.unwrap();
        let head = seen.heads().remove(0);
        assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
        assert!(head.contains("x-forwarded-host: app.test\r\n"), "{head}");
    })
    .await;
}

#[tokio::test]
async fn bytes_after_an_answer_never_become_the_next_answer() {
    local(async {
        let (address, seen) = raw(|number, mut peer| async move {
            while peer.head().await.is_some() {
                let surplus = if number == 0 {
                    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nEVIL!"
                } else {
                    ""
                };
                peer.say(format!("{OK}{surplus}")).await;
            }
        })
        .await;
        let client = Client::to(address);
        for _ in 0..3 {
            assert_eq!(client.get().await.unwrap(), "ok");
        }
        assert_eq!(seen.connections(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_with_something_to_read_is_not_used_though_nobody_has_looked() {
    local(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::to(listener.local_addr().unwrap());
        // An upstream in a thread of its own: it can write while the worker is busy.
        let (say, said) = std::sync::mpsc::channel::<()>();
        let (done, saying) = std::sync::mpsc::channel::<()>();
        let upstream = std::thread::spawn(move || {
            use std::io::Read as _;
            use std::io::Write as _;
            let (mut first, _) = listener.accept().unwrap();
            let mut chunk = [0; 4096];
            assert_ne!(first.read(&mut chunk).unwrap(), 0);
            first.write_all(OK.as_bytes()).unwrap();
            said.recv().unwrap();
            first
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nEVIL!")
                .unwrap();
            done.send(()).unwrap();
            let (mut second, _) = listener.accept().unwrap();
            assert_ne!(second.read(&mut chunk).unwrap(), 0);
            second.write_all(OK.as_bytes()).unwrap();
        });
        assert_eq!(client.get().await.unwrap(), "ok");
        // The connection has rested.
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(5)).await;
        tokio::time::resume();
        say.send(()).unwrap();
        // Blocks the worker: its reactor learns nothing until the request below has chosen a connection.
        saying.recv().unwrap();
        assert_eq!(client.get().await.unwrap(), "ok");
        upstream.join().unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_answer_with_two_framings_is_refused_and_its_connection_closed() {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    ] {
        local(async {
            let (address, seen) = answering(answer).await;
            let client = Client::to(address);
            for _ in 0..2 {
                let refused = client.get().await;
                assert!(
                    matches!(refused, Err(SendError::BadAnswer(AnswerFault::Framing))),
                    "{refused:?}"
                );
            }
            assert_eq!(seen.connections(), 2);
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_not_an_answer_is_a_bad_gateway() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad name: x\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 99999 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        local(async {
            let (address, _) = answering(answer).await;
            let refused = Client::to(address).get().await;
            assert!(
                matches!(refused, Err(SendError::BadAnswer(_))),
                "{answer:?}: {refused:?}"
            );
        })
        .await;
    }
}

#[tokio::test]
async fn an_unasked_upgrade_is_a_bad_gateway() {
    local(async {
        let (address, _) = answering(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        )
        .await;
        let refused = Client::to(address).get().await;
        assert!(
            matches!(refused, Err(SendError::BadAnswer(AnswerFault::Unasked))),
            "{refused:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_half_sent_answer_never_looks_complete() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n5\r\nof",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        local(async {
            let (address, _) = raw(move |_, mut peer| async move {
                peer.head().await;
                peer.say(answer).await;
            })
            .await;
            let (response, end) = Client::to(address)
                .send(Method::GET, &[], None)
                .await
                .unwrap();
            assert!(text(response).await.is_err(), "{answer:?}");
            let (bytes, ended) = end.borrow()[0];
            assert!(
                (4..=6).contains(&bytes) && ended == Ended::Aborted,
                "{answer:?}: {bytes} {ended:?}"
            );
            assert_eq!(end.borrow().len(), 1);
        })
        .await;
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    local(async {
        let (address, seen) = raw(|_, mut peer| async move {
            peer.head().await;
            peer.say("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
        })
        .await;
        let client = Client::to(address);
        for _ in 0..2 {
            assert_eq!(client.get().await.unwrap(), "until the end");
        }
        assert_eq!(seen.connections(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_says_nothing_is_given_up_in_time() {
    local(async {
        let (address, _) = raw(|_, mut peer| async move { peer.end().await }).await;
        let client = Client::with(crate::proxy::settings::Upstream {
            response_timeout: Duration::from_millis(50),
            ..settings(&[address])
        });
        let began = Instant::now();
        assert!(matches!(client.get().await, Err(SendError::Timeout)));
        assert!((50..60).contains(&began.elapsed().as_millis()));
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_refuses_is_noticed_within_a_second() {
    local(async {
        let (_taken, address) = refusing();
        let mut took = Vec::new();
        // A busy machine is late now and then.
        for _ in 0..5 {
            let began = Instant::now();
            let refused = Client::to(address).get().await;
            assert!(
                matches!(refused, Err(SendError::Connect(ConnectError::Io(_)))),
                "{refused:?}"
            );
            took.push(began.elapsed());
        }
        assert!(
            took.iter().any(|took| *took < Duration::from_secs(1)),
            "{took:?}"
        );
    })
    .await;
}

/// Answers the first request of each connection, reads the second and goes away without a word.
async fn leaves_at_the_second() -> (
    std::net::SocketAddr,
    std::rc::Rc<crate::proxy::upstream::testing::Seen>,
) {
    raw(|_, mut peer| async move {
        peer.head().await;
        peer.say(OK).await;
        peer.head().await;
    })
    .await
}

#[tokio::test]
async fn a_get_that_met_a_closing_connection_is_sent_once_more() {
    local(async {
        let (address, seen) = leaves_at_the_second().await;
        let client = Client::to(address);
        assert_eq!(client.get().await.unwrap(), "ok");
        assert_eq!(client.get().await.unwrap(), "ok");
        assert_eq!((seen.connections(), seen.count("GET")), (2, 3));
    })
    .await;
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    for body in [None, Some("x=1")] {
        local(async {
            let (address, seen) = leaves_at_the_second().await;
            let client = Client::to(address);
            assert_eq!(client.get().await.unwrap(), "ok");
            let lost = client.send(Method::POST, &[], body).await.map(|_| ());
            assert!(matches!(lost, Err(SendError::Broken(_))), "{lost:?}");
            assert_eq!(seen.count("POST"), 1);
        })
        .await;
    }
}

#[tokio::test]
async fn a_put_with_a_body_is_never_sent_twice() {
    local(async {
        let (address, seen) = leaves_at_the_second().await;
        let client = Client::to(address);
        assert_eq!(client.get().await.unwrap(), "ok");
        let lost = client.send(Method::PUT, &[], Some("x")).await.map(|_| ());
        assert!(matches!(lost, Err(SendError::Broken(_))), "{lost:?}");
        assert_eq!(seen.count("PUT"), 1);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_sent_again_once_a_byte_of_an_answer_came() {
    local(async {
        let (address, seen) = raw(|_, mut peer| async move {
            peer.head().await;
            peer.say(OK).await;
            peer.head().await;
            peer.say("HTTP/1.1 2").await;
        })
        .await;
        let client = Client::to(address);
        assert_eq!(client.get().await.unwrap(), "ok");
        assert!(client.get().await.is_err());
        assert_eq!(seen.count("GET"), 2);
    })
    .await;
}

#[tokio::test]
async fn a_fresh_connection_that_breaks_is_not_tried_again() {
    local(async {
        let (address, seen) = raw(|_, mut peer| async move {
            peer.head().await;
        })
        .await;
        assert!(matches!(
            Client::to(address).get().await,
            Err(SendError::Broken(_))
        ));
        assert_eq!(seen.count("GET"), 1);
    })
    .await;
}

#[tokio::test]
async fn at_most_one_request_in_ten_is_sent_again() {
    local(async {
        let (address, seen) = leaves_at_the_second().await;
        let client = Client::to(address);
        let mut failed = 0;
        for _ in 0..200 {
            failed += usize::from(client.get().await.is_err());
        }
        // The first one is free.
        assert!(seen.count("GET") <= 200 + 20 + 1, "{}", seen.count("GET"));
        assert!(0 < failed);
    })
    .await;
}

#[tokio::test]
async fn connections_that_were_closed_while_idle_lose_no_request() {
    local(async {
        let (address, seen) = raw(|_, mut peer| async move {
            if peer.head().await.is_some() {
                peer.body(0).await;
                peer.say(OK).await;
            }
        })
        .await;
        let client = Client::to(address);
        for round in 0..50 {
            let method = if round % 2 == 0 {
                Method::GET
            } else {
                Method::POST
            };
            let (response, _) = client.send(method, &[], None).await.unwrap();
            assert_eq!(text(response).await.unwrap(), "ok");
        }
        assert_eq!(seen.heads().len(), 50);
    })
    .await;
}

#[tokio::test]
async fn interim_answers_are_skipped_and_endless_ones_end() {
    local(async {
        let (address, _) = answering("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let client = Client::to(address);
        assert_eq!(client.get().await.unwrap(), "ok");
        let (address, _) = raw(|_, mut peer| async move {
            peer.head().await;
            use tokio::io::AsyncWriteExt as _;
            while peer.stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n").await.is_ok() {}
        })
        .await;
        let refused = Client::to(address).get().await;
        assert!(matches!(refused, Err(SendError::Broken(_) | SendError::BadAnswer(_))), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn a_head_without_end_is_a_bad_gateway() {
    for piece in [
        "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        local(async {
            let (address, _) = raw(move |_, mut peer| async move {
                peer.head().await;
                peer.say("HTTP/1.1 200 OK\r\nX: ").await;
                use tokio::io::AsyncWriteExt as _;
                while peer.stream.write_all(piece.as_bytes()).await.is_ok() {}
            })
            .await;
            let refused = Client::to(address).get().await;
            assert!(
                matches!(refused, Err(SendError::BadAnswer(_))),
                "{refused:?}"
            );
        })
        .await;
    }
}

#[tokio::test]
async fn what_belongs_to_the_connection_or_to_us_does_not_reach_the_client() {
    local(async {
        let (address, seen) = answering(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
             X-Authferry-Subject: root\r\nSet-Cookie: __Host-authferry=evil; Path=/\r\nSet-Cookie: __Host-authferry-flow=evil\r\n\
             Set-Cookie: =__Host-authferry=evil; Path=/\r\nSet-Cookie: = __Host-authferry-flow =evil\r\nSet-Cookie: =nameless\r\n\
             Set-Cookie: theirs=1; Path=/\r\nX-Kept: yes\r\n\r\nok",
        )
        .await;
        let client = Client::to(address);
        let (response, end) = client.send(Method::GET, &[], None).await.unwrap();
        let mut names: Vec<_> = response.headers().iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        names.sort();
        assert_eq!(names, ["content-length: 2", "set-cookie: =nameless", "set-cookie: theirs=1; Path=/", "x-kept: yes"]);
        assert_eq!(text(response).await.unwrap(), "ok");
        assert_eq!(*end.borrow(), [(2, Ended::Complete)]);
        client.get().await.unwrap();
        assert_eq!(seen.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_carries_an_identity_is_never_shared() {
    local(async {
        let (address, seen) =
            answering("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: NTLM TlRMTVNTUAAC\r\nContent-Length: 0\r\n\r\n").await;
        let client = Client::to(address);
        for _ in 0..2 {
            client.send(Method::GET, &[], None).await.unwrap();
        }
        assert_eq!(seen.connections(), 2);
        let (address, seen) = answering(OK).await;
        let mut client = Client::to(address);
        client.policy.forward_credentials = true;
        for _ in 0..2 {
            let (response, _) = client.send(Method::GET, &[("authorization", "Negotiate YII")], None).await.unwrap();
            text(response).await.unwrap();
        }
        assert_eq!(seen.connections(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_connection_of_its_answer() {
    local(async {
        let (ended, over) = tokio::sync::oneshot::channel();
        let ended = std::cell::RefCell::new(Some(ended));
        let (address, _) = raw(move |_, mut peer| {
            let ended = ended.borrow_mut().take();
            async move {
                peer.head().await;
                peer.say("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome")
                    .await;
                peer.end().await;
                ended.unwrap().send(()).unwrap();
            }
        })
        .await;
        let (response, end) = Client::to(address)
            .send(Method::GET, &[], None)
            .await
            .unwrap();
        drop(response);
        over.await.unwrap();
        assert_eq!(*end.borrow(), [(0, Ended::Aborted)]);
    })
    .await;
}

#[tokio::test]
async fn head_and_empty_answers_are_complete_though_nobody_reads_them() {
    local(async {
        let (address, seen) = raw(|_, mut peer| async move {
            while let Some(head) = peer.head().await {
                peer.say(if head.starts_with("HEAD") {
                    "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
                } else {
                    "HTTP/1.1 204 No Content\r\n\r\n"
                })
                .await;
            }
        })
        .await;
        let client = Client::to(address);
        for method in [Method::HEAD, Method::DELETE, Method::HEAD] {
            let (response, end) = client.send(method.clone(), &[], None).await.unwrap();
            let length = response
                .headers()
                .get("content-length")
                .map(|v| v.to_str().unwrap().to_owned());
            assert_eq!(length.as_deref(), (method == Method::HEAD).then_some("10"));
            drop(response);
            assert_eq!(*end.borrow(), [(0, Ended::Complete)]);
            yield_now().await;
        }
        assert_eq!(seen.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn bodies_are_framed_anew() {
    local(async {
        let (address, seen) = raw(|_, mut peer| async move {
            while let Some(head) = peer.head().await {
                let length = head
                    .lines()
                    .find_map(|l| l.strip_prefix("content-length: "))
                    .map_or(0, |l| l.parse().unwrap());
                peer.body(length).await;
                peer.say(OK).await;
            }
        })
        .await;
        let client = Client::to(address);
        let fields = [
            ("content-length", "999"),
            ("transfer_encoding", "chunked"),
            ("expect", "100-continue"),
        ];
        for (method, body) in [
            (Method::POST, Some("hello")),
            (Method::POST, None),
            (Method::GET, None),
        ] {
            let (response, _) = client.send(method, &fields, body).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            text(response).await.unwrap();
        }
        let framing = |head: &String| {
            head.lines()
                .filter(|l| l.contains("length") || l.contains("encoding") || l.contains("expect"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let heads: Vec<_> = seen.heads().iter().map(framing).collect();
        assert_eq!(
            heads,
            [vec!["content-length: 5"], vec!["content-length: 0"], vec![]]
        );
    })
    .await;
}

#[tokio::test]
async fn an_early_answer_leaves_no_half_sent_request_for_the_next() {
    use crate::proxy::forwarded::Hop;
    use crate::proxy::upstream::Pool;
    use crate::proxy::upstream::Resolver;
    use crate::proxy::upstream::testing::Note;
    use crate::proxy::upstream::testing::head;
    use bytes::Bytes;
    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::StreamBody;

    local(async {
        let (address, seen) = raw(|_, mut peer| async move {
            while peer.head().await.is_some() {
                peer.say("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
                    .await;
            }
        })
        .await;
        let client = Client::to(address);
        // A body that never ends.
        let body = StreamBody::new(futures_util::stream::pending::<
            Result<Frame<Bytes>, std::io::Error>,
        >());
        let pool = Pool::new(Resolver::system(tokio::runtime::Handle::current()));
        let (headers, hop) = (
            HeaderMap::new(),
            Hop::new("203.0.113.9".parse().unwrap(), false),
        );
        let sent = pool
            .send(
                &client.target,
                &client.policy,
                Some(body),
                head(&Method::POST, &headers, &hop, &client.policy),
            )
            .await;
        let response = sent.unwrap().into_response(Note(Default::default()));
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            "no"
        );
        let body = StreamBody::new(futures_util::stream::pending());
        let sent = pool
            .send(
                &client.target,
                &client.policy,
                Some(body),
                head(&Method::POST, &headers, &hop, &client.policy),
            )
            .await;
        assert_eq!(sent.unwrap().status(), 413);
        assert_eq!(seen.connections(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_time_to_answer_does_not_run_while_the_client_owes_bytes() {
    use crate::proxy::forwarded::Hop;
    use crate::proxy::upstream::Pool;
    use crate::proxy::upstream::Resolver;
    use crate::proxy::upstream::testing::head;
    use bytes::Bytes;
    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::StreamBody;

    local(async {
        let (address, _) = raw(|_, mut peer| async move {
            peer.head().await;
            // chunked: 3\r\nabc\r\n0\r\n\r\n
            peer.body(13).await;
            peer.say(OK).await;
        })
        .await;
        let limit = Duration::from_millis(200);
        let client = Client::with(crate::proxy::settings::Upstream {
            response_timeout: limit,
            ..settings(&[address])
        });
        let slow = futures_util::stream::once(async move {
            tokio::time::sleep(3 * limit).await;
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"abc")))
        });
        let pool = Pool::new(Resolver::system(tokio::runtime::Handle::current()));
        let (headers, hop) = (
            HeaderMap::new(),
            Hop::new("203.0.113.9".parse().unwrap(), false),
        );
        let body = StreamBody::new(Box::pin(slow));
        let sent = pool
            .send(
                &client.target,
                &client.policy,
                Some(body),
                head(&Method::POST, &headers, &hop, &client.policy),
            )
            .await;
        assert_eq!(sent.unwrap().status(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_body_of_the_client_that_breaks_is_the_clients_fault() {
    use crate::proxy::forwarded::Hop;
    use crate::proxy::upstream::Pool;
    use crate::proxy::upstream::Resolver;
    use crate::proxy::upstream::testing::head;
    use bytes::Bytes;
    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::StreamBody;

    local(async {
        let (address, seen) =
            raw(|_, mut peer| async move { while peer.head().await.is_some() {} }).await;
        let client = Client::to(address);
        let broken = futures_util::stream::iter([
            Ok(Frame::data(Bytes::from_static(b"abc"))),
            Err(std::io::Error::other("gone")),
        ]);
        let pool = Pool::new(Resolver::system(tokio::runtime::Handle::current()));
        let (headers, hop) = (
            HeaderMap::new(),
            Hop::new("203.0.113.9".parse().unwrap(), false),
        );
        let body = StreamBody::new(broken);
        let sent = pool
            .send(
                &client.target,
                &client.policy,
                Some(body),
                head(&Method::PUT, &headers, &hop, &client.policy),
            )
            .await;
        assert!(
            matches!(sent, Err(SendError::ClientBody(_))),
            "{:?}",
            sent.err()
        );
        assert!(seen.count("PUT") <= 1);
    })
    .await;
}

#[tokio::test]
async fn an_origin_that_refuses_is_passed_over_and_left_alone() {
    local(async {
        let (_taken, gone) = refusing();
        let (address, seen) = answering(OK).await;
        let client = Client::with(settings(&[gone, address]));
        for _ in 0..20 {
            // Also for a method that is not idempotent: nothing was sent to the one that refused.
            let (response, _) = client.send(Method::POST, &[], None).await.unwrap();
            assert_eq!(text(response).await.unwrap(), "ok");
        }
        assert_eq!(seen.count("POST"), 20);
    })
    .await;
}

#[tokio::test]
async fn origins_take_turns() {
    local(async {
        let ((a, at_a), (b, at_b)) = (answering(OK).await, answering(OK).await);
        let client = Client::with(settings(&[a, b]));
        for _ in 0..10 {
            client.get().await.unwrap();
        }
        assert_eq!((at_a.count("GET"), at_b.count("GET")), (5, 5));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rested_too_long_is_closed() {
    local(async {
        let (ended, over) = tokio::sync::oneshot::channel();
        let ended = std::cell::RefCell::new(Some(ended));
        let (address, _) = raw(move |_, mut peer| {
            let ended = ended.borrow_mut().take();
            async move {
                peer.head().await;
                peer.say(OK).await;
                peer.end().await;
                ended.unwrap().send(()).unwrap();
            }
        })
        .await;
        let client = Client::with(crate::proxy::settings::Upstream {
            idle: Duration::from_millis(20),
            ..settings(&[address])
        });
        client.get().await.unwrap();
        over.await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_the_configuration_forgot_is_forgotten() {
    local(async {
        let (address, seen) = answering(OK).await;
        let client = Client::to(address);
        client.get().await.unwrap();
        let Client { pool, target, .. } = client;
        assert!(format!("{pool:?}").contains("upstreams: 1"));
        drop(target);
        until(|| format!("{pool:?}").contains("upstreams: 0")).await;
        assert_eq!(seen.connections(), 1);
    })
    .await;
}
