//! Topology T0: the program, the upstream behind it, the providers beside it, and everybody who means it harm.

pub(crate) mod browser;
pub(crate) mod config;
mod doubles;
pub(crate) mod idp;
pub(crate) mod pki;
pub(crate) mod plan;
pub(crate) mod redis;
pub(crate) mod target;
pub(crate) mod upstream;

use std::sync::Arc;

use crate::names::Names;
use crate::tokens::Mint;
use crate::tokens::Ring;
use crate::wire::Trust;
use crate::wire::Wire;

pub(crate) use doubles::Legacy;
pub(crate) use doubles::Sink;
pub(crate) use idp::Idp;
pub(crate) use pki::Pki;
pub(crate) use plan::Plan;
pub(crate) use target::Target;
pub(crate) use upstream::Upstream;

/// Everything but the program: it lives as long as the run.
#[derive(Debug)]
pub(crate) struct World {
    /// Certificates and the directory of all files.
    pub(crate) pki: Pki,
    /// What stands behind the proxy.
    pub(crate) upstream: Upstream,
    /// The new provider.
    pub(crate) new: Idp,
    /// The old provider.
    pub(crate) old: Idp,
    /// The old application that judges its own cookie.
    pub(crate) legacy: Legacy,
    /// Where an attacker would like something to go.
    pub(crate) sink: Sink,
    /// Makes tokens.
    pub(crate) mint: Mint,
}

impl World {
    /// Starts all doubles on free loopback ports.
    pub(crate) async fn start() -> Self {
        let pki = Pki::new();
        let ring = Arc::new(Ring::generate());
        let (new_listener, new_name) = doubles::listen().await;
        let (old_listener, old_name) = doubles::listen().await;
        let mint = Mint {
            ring,
            names: Names {
                new: new_name,
                old: old_name,
                admin: String::new(),
            },
            certificates: pki.for_tokens(),
        };
        Self {
            upstream: Upstream::start().await,
            new: Idp::start("new", new_listener, mint.clone(), pki.server()),
            old: Idp::start("old", old_listener, mint.clone(), pki.server()),
            legacy: Legacy::start().await,
            sink: Sink::start().await,
            mint,
            pki,
        }
    }

    /// A wire to the public listener of the program.
    pub(crate) fn public(&self, target: &Target) -> Wire {
        Wire {
            to: target.public,
            tls: Some(Arc::clone(&self.pki.trust)),
        }
    }

    /// A provider by name.
    pub(crate) fn idp(&self, name: &str) -> Option<&Idp> {
        match name {
            "new" => Some(&self.new),
            "old" => Some(&self.old),
            _ => None,
        }
    }

    /// Everything as it was.
    pub(crate) fn calm(&self) {
        self.upstream.calm();
        self.new.calm();
        self.old.calm();
        self.legacy.calm();
    }
}

/// What clients are told to believe.
pub(crate) type Believes = Arc<Trust>;
