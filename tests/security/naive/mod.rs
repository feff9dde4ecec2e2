//! The negative control: a proxy as it is written in an afternoon. Everything wrong with it has been shipped by somebody.
//!
//! It reads the path as it comes, finds the key by what the token says, believes the algorithm that the token names,
//! forgets the audience, sets identity headers beside those of the client, and streams whatever is behind the head.
//! The same runner must fail it in most cases; where it does not, a case proves little.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::signature;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::Either;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Body = Either<Full<Bytes>, Incoming>;

/// What needs a token.
const PROTECTED: &[&str] = &["/admin/", "/api/", "/app", "/ws", "/legacy-api/"];

struct Naive {
    upstream: String,
    keys: Vec<Value>,
    client: Client<HttpConnector, Incoming>,
}

/// Serves until it is killed. Says where, in the words of the real program.
pub(crate) async fn run(upstream: &str, pki: &Path, keys: &Path) {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(pki.join("tls.pem"))
        .expect("the certificate is there")
        .filter_map(Result::ok)
        .collect();
    let key = PrivateKeyDer::from_pem_file(pki.join("tls.key")).expect("the key is there");
    let mut tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .expect("the key belongs to the certificate");
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let keys: Value = std::fs::read(keys)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .expect("the keys are there");
    let naive = Arc::new(Naive {
        upstream: upstream.to_owned(),
        keys: keys["keys"].as_array().cloned().unwrap_or_default(),
        client: Client::builder(TokioExecutor::new()).build_http(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let admin = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = |listener: &TcpListener| listener.local_addr().expect("it is bound");
    println!(
        "ready public={} admin={}",
        address(&listener),
        address(&admin)
    );
    let open = Arc::clone(&naive);
    tokio::spawn(async move {
        while let Ok((stream, _)) = admin.accept().await {
            let naive = Arc::clone(&open);
            let service = service_fn(move |_| {
                let revision = naive.keys.len();
                async move {
                    Ok::<_, hyper::Error>(plain(
                        StatusCode::OK,
                        &format!("{{\"keys\":{revision}}}"),
                    ))
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, naive) = (acceptor.clone(), Arc::clone(&naive));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request| {
                let naive = Arc::clone(&naive);
                async move { Ok::<_, hyper::Error>(naive.answer(request).await) }
            });
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(stream);
            if is_h2 {
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                drop(http.serve_connection(io, service).await);
            } else {
                let http = hyper::server::conn::http1::Builder::new();
                drop(http.serve_connection(io, service).with_upgrades().await);
            }
        });
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(text.to_owned()))));
    *response.status_mut() = status;
    response
}

impl Naive {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if let Some(query) = request
            .uri()
            .query()
            .filter(|_| path.ends_with("/login") || path.ends_with("/logout"))
        {
            let to = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("rd="))
                .unwrap_or("/")
                .to_owned();
            let mut response = plain(StatusCode::FOUND, "");
            if let Ok(to) = HeaderValue::try_from(
                to.replace("%5C", "\\")
                    .replace("%20", " ")
                    .replace("%40", "@"),
            ) {
                response.headers_mut().insert("location", to);
            }
            return response;
        }
        // What is not listed is open.
        if PROTECTED.iter().any(|prefix| path.starts_with(prefix)) {
            match self.claims(&request) {
                Ok(claims) if path.starts_with("/admin/") && !is_admin(&claims) => {
                    return plain(StatusCode::FORBIDDEN, "admins only");
                }
                Ok(claims) => identity(&mut request, &claims),
                Err(why) => return plain(StatusCode::UNAUTHORIZED, &why),
            }
        }
        let query = request
            .uri()
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let Ok(uri) = format!("http://{}{path}{query}", self.upstream).parse() else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "no such address");
        };
        let host = request.uri().authority().map(ToString::to_string);
        *request.uri_mut() = uri;
        *request.version_mut() = http::Version::HTTP_11;
        if let Some(host) = host.and_then(|host| HeaderValue::try_from(host).ok()) {
            request.headers_mut().insert("host", host);
        }
        match self.client.request(request).await {
            Ok(response) => response.map(Either::Right),
            Err(error) => plain(StatusCode::BAD_GATEWAY, &format!("{error:?}")),
        }
    }

    fn claims(&self, request: &Request<Incoming>) -> Result<Value, String> {
        let header = request
            .headers()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let token = header
            .and_then(|header| header.strip_prefix("Bearer "))
            .ok_or("no token")?;
        let parts: Vec<&str> = token.trim().split('.').collect();
        let [head, payload, signature, ..] = parts[..] else {
            return Err("no token".to_owned());
        };
        let json = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?).ok()
        };
        let header = json(head).ok_or("no header")?;
        let claims = json(payload).ok_or("no claims")?;
        let input = format!("{head}.{payload}");
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        // The key that the token brings along, or else the one it names.
        let key = header
            .get("jwk")
            .or_else(|| self.keys.iter().find(|key| key["kid"] == header["kid"]));
        let good = match (
            header["alg"]
                .as_str()
                .unwrap_or_default()
                .to_lowercase()
                .as_str(),
            key,
        ) {
            ("none", _) => true,
            ("rs256", Some(key)) => rsa(key, input.as_bytes(), &signature),
            ("hs256", Some(key)) => hmac(key, input.as_bytes(), &signature),
            (other, _) => return Err(format!("alg {other}, kid {}", header["kid"])),
        };
        if !good {
            return Err(format!("the signature of kid {} is wrong", header["kid"]));
        }
        if claims["exp"].as_i64().is_some_and(|exp| exp < crate::now()) {
            return Err("expired".to_owned());
        }
        Ok(claims)
    }
}

fn is_admin(claims: &Value) -> bool {
    claims["groups"]
        .as_array()
        .is_some_and(|groups| groups.iter().any(|group| group == "admins"))
}

/// Beside what the client sent.
fn identity(request: &mut Request<Incoming>, claims: &Value) {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(","),
        other => other.to_string(),
    };
    for (name, claim) in [
        ("x-auth-subject", "sub"),
        ("x-auth-user", "preferred_username"),
        ("x-auth-email", "email"),
        ("x-auth-groups", "groups"),
        ("x-auth-name", "name"),
    ] {
        if let Ok(value) = HeaderValue::try_from(text(&claims[claim])) {
            request.headers_mut().append(name, value);
        }
    }
}

fn rsa(key: &Value, input: &[u8], signature: &[u8]) -> bool {
    let part = |name: &str| {
        URL_SAFE_NO_PAD
            .decode(key[name].as_str().unwrap_or_default())
            .unwrap_or_default()
    };
    let (n, e) = (part("n"), part("e"));
    let components = signature::RsaPublicKeyComponents { n: &n, e: &e };
    components
        .verify(
            &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            input,
            signature,
        )
        .is_ok()
}

/// The public key, taken for a secret.
fn hmac(key: &Value, input: &[u8], signature: &[u8]) -> bool {
    let secret = key["k"]
        .as_str()
        .or_else(|| key["n"].as_str())
        .unwrap_or_default();
    let secret = URL_SAFE_NO_PAD.decode(secret).unwrap_or_default();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
    aws_lc_rs::hmac::verify(&key, input, signature).is_ok()
}
