//! `server`: listeners, limits, the admin interface.

use std::path::PathBuf;

use crate::config::raw::RawCertificate;
use crate::config::raw::RawFile;
use crate::config::raw::RawSecretText;
use crate::config::scalar::Address;
use crate::config::scalar::Network;
use crate::config::scalar::Size;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::mappings;
use crate::config::shape::words;

mappings! {
    /// Listeners, limits and the admin interface.
    RawServer {
        /// The public address. Default `127.0.0.1:8080`. `AUTHFERRY_LISTEN` overrides it. Not reloaded.
        listen: At<Address>,
        /// TLS of the public address; without it, cleartext. Not reloaded.
        tls: RawTls,
        /// Several public addresses, instead of `listen`. Not reloaded.
        listeners: List<RawListener>,
        /// The admin interface. Not reloaded.
        admin: RawAdmin,
        /// A listener for `GET /metrics` alone. Not reloaded.
        metrics: RawMetrics,
        /// Peers whose `Forwarded` and `X-Forwarded-*` are believed. Default: nobody.
        trusted_proxies: List<At<Network>>,
        /// Peers that say which certificate a client proved to them. Default: nobody.
        certificate_headers: RawCertificateHeaders,
        /// A database of countries by address, in the MaxMind format (`.mmdb`), for `require.country`; read again when the file or the configuration changes.
        country_database: RawFile,
        /// Peers that speak the PROXY protocol (v1 or v2) at `listen`. Not reloaded.
        proxy_protocol: RawProxyProtocol,
        /// Where state lives: keys, key-set copies, the kill file, the admin socket. Like every path here relative to the file; `ctl`, `plan`, `explain` and `log` look for it in their working directory, unless they have `--state-dir` or `AUTHFERRY_STATE_DIR`. Default `./authferry-state`. `AUTHFERRY_STATE_DIR` overrides it. Not reloaded.
        state_dir: At<PathBuf>,
        /// Worker threads. From 1 to 1024. Default: one per core. Not reloaded.
        workers: At<Whole>,
        /// Bounds on what a client may use.
        limits: RawLimits,
        /// How a stop proceeds.
        drain: RawDrain,
    }

    /// One public address.
    RawListener {
        /// The address. Required. Not reloaded.
        listen: At<Address>,
        /// TLS; without it, cleartext. Not reloaded.
        tls: RawTls,
        /// Peers that speak the PROXY protocol (v1 or v2). Not reloaded.
        proxy_protocol: RawProxyProtocol,
    }

    /// Certificates of a listener. The files themselves are read again when they change.
    RawTls {
        /// The certificate chain, the own certificate first, in PEM. Not reloaded.
        certificate: RawFile,
        /// The private key, in PEM. Not reloaded.
        key: RawFile,
        /// Several certificates, chosen by server name (SNI), instead of `certificate` and `key`; the first is the default. Not reloaded.
        certificates: List<RawCertificate>,
        /// Who is asked for a client certificate, by server name (SNI). A request for a host with another policy than its connection's is answered 421; nothing is resumed between them. Its files are read again when they change. For requests alone: operators have `server.admin.client_ca`. Not reloaded.
        client_certificates: List<RawClientCertificates>,
        /// Short for `client_certificates: [{ ca: … }]`: whoever has no certificate of these authorities is sent away. Not reloaded.
        client_ca: RawFile,
        /// The oldest version that is spoken. Default `1.2`. Not reloaded.
        min_version: At<TlsVersionWord>,
    }

    /// Client certificates for some server names.
    RawClientCertificates {
        /// The server names; `*.corp.example` matches one label. Default: every other name, and clients that name none. Not reloaded.
        hosts: List<At<String>>,
        /// The authorities, and their revocation lists where there are any, in one PEM file; read again when it changes. With a list, a certificate of which no list in force speaks is refused. Required. Not reloaded.
        ca: RawFile,
        /// Whether a client without a certificate is sent away (`required`) or not (`optional`). Default `required`. Not reloaded.
        mode: At<ClientCertificateMode>,
    }

    /// Peers that say which certificate a client proved to them.
    RawCertificateHeaders {
        /// The peers. What they do not say is not: their own certificate is nobody's. Everybody else's header is dropped. Required.
        from: List<At<Network>>,
        /// The header: `client_cert` (RFC 9440) or `xfcc` (`X-Forwarded-Client-Cert`, one element with `Hash` or `Cert`). Default `client_cert`.
        format: At<CertificateHeaderWord>,
    }

    /// The PROXY protocol.
    RawProxyProtocol {
        /// Peers that must begin with a PROXY header; everybody else must not. Required. Not reloaded.
        from: List<At<Network>>,
    }

    /// The admin interface. Metrics and health (`/metrics`, `/-/healthy`, `/-/ready`) need nothing beyond access to the address; everything else, reading too, needs the token, the socket or a certificate of `client_ca`.
    RawAdmin {
        /// Its TCP address. Default `127.0.0.1:9901`. `AUTHFERRY_ADMIN_LISTEN` overrides it. Not reloaded.
        listen: At<Address>,
        /// Its unix socket; whoever can open it may change things. Default `state_dir/admin.sock`. Not reloaded.
        socket: At<PathBuf>,
        /// The bearer token for everything but metrics and health over TCP; without it, and without `client_ca`, that goes over the socket only. Not reloaded.
        token: RawSecretText,
        /// TLS of its address; without it, and without `client_ca`, cleartext. The files are read again when they change. Not reloaded.
        tls: RawTls,
        /// The authorities of operators, and their revocation lists where there are any, in one PEM file: over TCP whoever has no certificate of theirs is sent away, and whoever has one needs no token; its subject is the actor in the record. Without `tls`, our certificate is that of `server.tls`. Not reloaded.
        client_ca: RawFile,
    }

    /// A listener for `GET /metrics` alone.
    RawMetrics {
        /// Its address. Required. Not reloaded.
        listen: At<Address>,
    }

    /// Bounds on what a client may use, equal on HTTP/1.1 and HTTP/2.
    RawLimits {
        /// For the TLS handshake. From `100ms` to `1h`. Default `10s`.
        handshake: At<Span>,
        /// For the first byte of a request, and for its whole head. From `100ms` to `1h`. Default `10s`.
        head: At<Span>,
        /// The size of a request head, as HTTP/1.1 has it or would have it. From `1KiB` to `1MiB`. Default `32KiB`.
        head_size: At<Size>,
        /// How many header fields a request may have; the host is one, and all cookies of HTTP/2 together. From 16 to 1000. Default `100`.
        head_fields: At<Whole>,
        /// The size of a request target. From `256B` to `64KiB`. Default `8KiB`.
        target_size: At<Size>,
        /// How long an HTTP/1.1 connection may be idle. From `100ms` to `1h`. Default `60s`.
        idle_h1: At<Span>,
        /// How long an HTTP/2 connection may be without streams. From `100ms` to `1h`. Default `300s`.
        idle_h2: At<Span>,
        /// How long a request body may be slower than `body_rate`. From `100ms` to `1h`. Default `10s`.
        body_grace: At<Span>,
        /// How much of a request body must arrive per second. From `0B` to `1GiB`. Default `1KiB`.
        body_rate: At<Size>,
        /// Concurrent HTTP/2 streams of a connection. From 1 to 10000. Default `100`.
        h2_streams: At<Whole>,
        /// Client connections at once; never more than 80 % of the descriptor limit. From 1 to 10000000. Default `50000`. Not reloaded.
        connections: At<Whole>,
        /// Memory in use from which new connections are closed and new requests are answered with 503, as long as there are
        /// more than 64 connections. From `16MiB` to `1048576GiB`. Default: 80 % of the memory limit of the control group; without one, none.
        memory: At<Size>,
        /// The identity headers of one request, rendered; more is a denial. From `256B` to `256KiB`. Default `16KiB`.
        identity_size: At<Size>,
        /// Verified credentials that each worker remembers: about 3 KiB each. One that has run out goes when others come. From 1 to 10000000. Default `16384`. Not reloaded.
        cache_entries: At<Whole>,
        /// The longest time a verdict is remembered. Default `60s`.
        cache_ttl: At<Span>,
    }

    /// How a stop proceeds.
    RawDrain {
        /// How long `/-/ready` says no while everything is still served. Default `5s`.
        announce: At<Span>,
        /// How long requests under way may then take. Default `30s`.
        timeout: At<Span>,
    }
}

words! {
    /// A version of TLS.
    TlsVersionWord {
        /// TLS 1.2 and 1.3.
        "1.2" => Tls12,
        /// TLS 1.3 alone.
        "1.3" => Tls13,
    }

    /// What becomes of a client without a certificate.
    ClientCertificateMode {
        /// It is sent away.
        "required" => Required,
        /// It is served.
        "optional" => Optional,
    }

    /// A header that names a certificate.
    CertificateHeaderWord {
        /// `Client-Cert` (RFC 9440).
        "client_cert" => ClientCert,
        /// `X-Forwarded-Client-Cert`.
        "xfcc" => Xfcc,
    }
}
