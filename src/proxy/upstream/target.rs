//! One upstream of the configuration, with everything that is made of it once: shared by all workers.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::HeaderValue;
use http::uri::Scheme;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::proxy::settings::Origin;
use crate::proxy::settings::Upstream;
use crate::proxy::upstream::connect::Speak;
use crate::proxy::upstream::tls::Material;
use crate::proxy::upstream::tls::TlsError;

/// An upstream. Workers keep their pools under its id, so one that did not change keeps its connections over a reload.
pub(crate) struct Target {
    id: u64,
    settings: Upstream,
    material: Material,
    tls: Option<Tls>,
    sites: Box<[Site]>,
    watched: AtomicBool,
}

/// Our side of TLS, by what is offered.
struct Tls {
    as_configured: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

/// One origin of an upstream.
pub(super) struct Site {
    pub(super) origin: Origin,
    /// Host and port as the upstream calls itself; a default port is left out.
    pub(super) authority: HeaderValue,
    pub(super) server_name: Option<ServerName<'static>>,
    /// The address, when the host is one: nothing to look up then.
    pub(super) address: Option<IpAddr>,
    /// `host:port`, for the log.
    label: Box<str>,
    well: AtomicBool,
}

/// Why an upstream cannot be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// There is nobody to connect to.
    #[error("an upstream needs an origin")]
    NoOrigin,
    /// The host of an origin is no name and no address.
    #[error("`{0}` is not a host")]
    Host(Box<str>),
    /// See [`TlsError`].
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Target {
    /// Builds an upstream; reads its certificates.
    ///
    /// # Errors
    ///
    /// See [`TargetError`].
    pub(crate) fn new(settings: Upstream) -> Result<Arc<Self>, TargetError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if settings.origins.is_empty() {
            return Err(TargetError::NoOrigin);
        }
        let sites: Box<[Site]> = settings
            .origins
            .iter()
            .map(Site::new)
            .collect::<Result<_, _>>()?;
        let encrypted = settings.origins.iter().any(|origin| origin.tls);
        let (ca, identity) = (settings.ca.as_deref(), settings.client_certificate.as_ref());
        let material = Material::read(ca, identity)?;
        let tls = if encrypted {
            let http1 = material.config(ca, identity)?;
            let mut both = ClientConfig::clone(&http1);
            if settings.http2 {
                both.alpn_protocols.insert(0, b"h2".to_vec());
            }
            Some(Tls {
                as_configured: Arc::new(both),
                http1: Arc::new(http1),
            })
        } else {
            None
        };
        Ok(Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            settings,
            material,
            tls,
            sites,
            watched: AtomicBool::new(false),
        }))
    }

    /// Whether this is what [`Target::new`] would make of `settings` now: then it is kept over a reload, with its
    /// connections. Certificates are compared by content.
    pub(crate) fn is_current(&self, settings: &Upstream) -> bool {
        self.settings == *settings
            && Material::read(settings.ca.as_deref(), settings.client_certificate.as_ref())
                .is_ok_and(|material| material == self.material)
    }

    /// What the configuration says.
    pub(crate) const fn settings(&self) -> &Upstream {
        &self.settings
    }

    /// Unique in this process.
    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn tls(&self, speak: Speak) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref().map(|tls| match speak {
            Speak::AsConfigured => &tls.as_configured,
            Speak::Http1 => &tls.http1,
        })
    }

    pub(super) fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// `host:port` of an origin, for the log.
    pub(crate) fn label(&self, origin: usize) -> Option<&str> {
        self.sites.get(origin).map(|site| &*site.label)
    }

    /// How many of the origins pass their health checks.
    #[cfg(test)]
    pub(super) fn well(&self) -> usize {
        self.sites.iter().filter(|site| site.is_well()).count()
    }

    /// Whether the watch over the health of this upstream is still to begin; asked once.
    pub(super) fn begin_watch(&self) -> bool {
        !self.watched.swap(true, Ordering::Relaxed)
    }
}

impl Site {
    fn new(origin: &Origin) -> Result<Self, TargetError> {
        let refused = || TargetError::Host(origin.host.clone());
        let bare = origin.host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<IpAddr> = bare.parse().ok();
        let host = match address {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(IpAddr::V4(_)) | None => bare.to_owned(),
        };
        let label = format!("{host}:{}", origin.port).into();
        let default = if origin.tls { 443 } else { 80 };
        let authority = if origin.port == default {
            host
        } else {
            format!("{host}:{}", origin.port)
        };
        let server_name = if origin.tls {
            Some(ServerName::try_from(bare.to_owned()).or(Err(refused()))?)
        } else {
            None
        };
        Ok(Self {
            origin: origin.clone(),
            authority: HeaderValue::from_maybe_shared(Bytes::from(authority)).or(Err(refused()))?,
            server_name,
            address,
            label,
            well: AtomicBool::new(true),
        })
    }

    pub(super) const fn scheme(&self) -> Scheme {
        if self.origin.tls {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        }
    }

    pub(super) fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }

    pub(super) fn set_well(&self, well: bool) {
        self.well.store(well, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("id", &self.id)
            .field("origins", &self.settings.origins)
            .finish_non_exhaustive()
    }
}
