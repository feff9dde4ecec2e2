//! What is known when a decision is made.

use std::fmt;
use std::net::IpAddr;

use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::rollout::stage::AppId;
use crate::rollout::stage::Arm;

/// A request's fields.
pub trait Fields {
    /// Whether the field `name` (in lower case) came exactly once, and with this value.
    fn equal(&self, name: &str, value: &str) -> bool;

    /// Whether a cookie of this name came along that we sealed for this host.
    fn sealed(&self, _cookie: &str) -> bool {
        false
    }
}

impl<F: Fn(&str, &str) -> bool> Fields for F {
    fn equal(&self, name: &str, value: &str) -> bool {
        self(name, value)
    }
}

/// What is known about one request. Facts from before verification steer a login; they never widen acceptance.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The application asked for.
    pub app: &'a AppId,
    /// The canonical host, without port.
    pub host: &'a str,
    /// The canonical path.
    pub path: &'a str,
    /// The method.
    pub method: &'a str,
    /// The client's address, counted through `trusted_proxies`.
    pub client_ip: Option<IpAddr>,
    /// The address of the socket's peer, after the PROXY protocol: a header cohort names the peers it believes.
    pub peer: Option<IpAddr>,
    /// The request's fields; `None` when there is no request to look at.
    pub fields: Option<&'a dyn Fields>,
    /// The sealed device id of the browser.
    pub device: Option<&'a str>,
    /// What somebody says of themselves where a login starts.
    pub hearsay: Hearsay<'a>,
    /// The person, once an owner has vouched for them.
    pub person: Option<Person<'a>>,
}

/// What somebody says before anybody has vouched for them: true or not, it steers their login and nothing else. Once the
/// person is known, it is not there any more.
#[derive(Clone, Copy, Default)]
pub struct Hearsay<'a> {
    /// What they call themselves, in small letters.
    pub identifier: Option<&'a str>,
    /// Whom links know by that, or else the same words: what a bucket is made of.
    pub unit: Option<&'a str>,
    /// Where they want to sign in, if a rule lets them say so.
    pub chosen: Option<Arm>,
}

impl fmt::Debug for Hearsay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hearsay]")
    }
}

impl fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("app", self.app)
            .field("person", &self.person)
            .finish_non_exhaustive()
    }
}

/// A person for whom a provider vouched.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// Who it is across providers.
    pub canonical: &'a CanonicalSubject,
    /// What the owner says.
    pub identity: &'a Identity,
}
