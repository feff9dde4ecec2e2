//! The closed sets behind label values. A label value is one of these words or a name from the configuration.

use crate::identity::CredentialClass;

/// Declares a closed set of words and their text.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub(crate) enum $name {
            $($(#[$word_doc])* $variant,)+
        }

        impl $name {
            /// The label value.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

/// As `words`, with a place for each word, for what is counted in arrays.
macro_rules! places {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        words! {
            $(#[$doc])*
            $name { $($(#[$word_doc])* $variant = $text,)+ }
        }

        impl $name {
            /// Every word, in the order of [`Self::index`].
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The place in [`Self::ALL`].
            pub(crate) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

places! {
    /// What kind of attempt to authenticate was made: a login, or the class of the presented credential.
    Flow {
        /// A browser login at a provider.
        Login = "login",
        /// A session cookie.
        Session = "session",
        /// A signed token.
        Bearer = "bearer",
        /// A token that only its issuer can read.
        Opaque = "opaque",
        /// User name and password.
        Basic = "basic",
        /// A client's key.
        ApiKey = "api_key",
        /// A client certificate.
        ClientCert = "client_cert",
        /// A refresh token.
        Refresh = "refresh",
    }
}

impl From<CredentialClass> for Flow {
    fn from(class: CredentialClass) -> Self {
        match class {
            CredentialClass::Session => Self::Session,
            CredentialClass::Bearer => Self::Bearer,
            CredentialClass::Opaque => Self::Opaque,
            CredentialClass::Basic => Self::Basic,
            CredentialClass::ApiKey => Self::ApiKey,
            CredentialClass::ClientCert => Self::ClientCert,
            CredentialClass::Refresh => Self::Refresh,
        }
    }
}

words! {
    /// A step of a login journey.
    Journey {
        /// Sent to a provider.
        Started = "started",
        /// Came back with an identity.
        Succeeded = "succeeded",
        /// Came back without one.
        Failed = "failed",
        /// Did not come back in time.
        Abandoned = "abandoned",
        /// Its browser was gone before it was told where to go.
        Withdrawn = "withdrawn",
    }
}

words! {
    /// What a provider is asked for.
    Operation {
        /// OpenID Connect Discovery 1.0, RFC 8414.
        Discovery = "discovery",
        /// A key set (RFC 7517).
        Keys = "keys",
        /// The token endpoint.
        Token = "token",
        /// RFC 7662.
        Introspect = "introspect",
        /// A session of the old system.
        Probe = "probe",
        /// Somebody's password, at a directory (RFC 4511 §4.2).
        #[cfg_attr(not(feature = "ldap"), expect(dead_code, reason = "only a directory is asked so"))]
        Bind = "bind",
        /// What it issued is to end (RFC 7009), or a session of the old system is.
        Revoke = "revoke",
        /// Somebody is looked up in its directory.
        Directory = "directory",
        /// An account is made there, or gets a password.
        Provision = "provision",
        /// The background check of its health.
        Health = "health",
    }
}

words! {
    /// How a call to a provider ended.
    Call {
        /// With what was asked for.
        Success = "success",
        /// With a refusal.
        Rejected = "rejected",
        /// Without an answer that counts.
        Unavailable = "unavailable",
    }
}

/// The position of a provider's circuit breaker; its number is the value of the gauge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Circuit {
    /// Calls pass.
    Closed = 0,
    /// One call at a time passes.
    HalfOpen = 1,
    /// No call passes.
    Open = 2,
}

places! {
    /// A cache of ours.
    Cache {
        /// A worker's verified credentials.
        Verdict = "verdict",
    }
}

places! {
    /// What a cache said.
    Lookup {
        /// It knew.
        Hit = "hit",
        /// It did not know.
        Miss = "miss",
    }
}

places! {
    /// What was turned away or dropped for want of room.
    Shed {
        /// A line of the access log.
        AccessLog = "access_log",
        /// A record of the decision log.
        DecisionLog = "decision_log",
        /// A trace span.
        Trace = "trace",
        /// A request to the admin listener.
        Admin = "admin",
        /// A connection that the system did not hand out, such as for want of descriptors.
        AcceptError = "accept_error",
        /// A connection or request that came while memory was short.
        Memory = "memory",
        /// A connection of a listed peer without a PROXY protocol header that we understand.
        ProxyHeader = "proxy_header_refused",
        /// No PROXY protocol header in time.
        ProxyHeaderTimeout = "proxy_header_timeout",
        /// A TLS handshake that failed.
        Handshake = "handshake_failed",
        /// No TLS handshake in time.
        HandshakeTimeout = "handshake_timeout",
        /// A connection that was silent since it came.
        FirstByteTimeout = "first_byte_timeout",
        /// A request head that did not end in time.
        HeadTimeout = "head_timeout",
        /// What is no head of HTTP/1.1, or a longer one than may be: answered before it was a request.
        BadHead = "bad_head",
        /// A connection that was idle for too long.
        Idle = "idle",
        /// A client that does not take what we write.
        WriteStalled = "write_stalled",
        /// A client that does not close after our goodbye.
        CloseTimeout = "close_timeout",
        /// A connection that outlived the drain.
        DrainTimeout = "drain_timeout",
    }
}

places! {
    /// Why an upstream did not answer, or not to the end.
    UpstreamError {
        /// No connection.
        Connect = "connect",
        /// No TLS session.
        Tls = "tls",
        /// No answer in time.
        Timeout = "timeout",
        /// The connection broke before an answer.
        Reset = "reset",
        /// An answer that is none.
        Protocol = "protocol",
        /// No origin is well.
        NoOrigin = "no_origin",
        /// An upgrade that was not agreed as asked.
        Upgrade = "upgrade",
    }
}

places! {
    /// Why a tunnel ended.
    TunnelEnd {
        /// The client closed it.
        Client = "client",
        /// The upstream closed it.
        Upstream = "upstream",
        /// Nothing moved.
        Idle = "idle",
        /// We are going away.
        Drain = "drain",
        /// The session or the person was revoked.
        Revoked = "revoked",
        /// The session or the token came to its end.
        Expired = "expired",
        /// Another session has taken the place of this one, of which the application is told something else.
        Moved = "moved",
    }
}

words! {
    /// Why something was revoked.
    RevocationSource {
        /// A person signed out here.
        Logout = "logout",
        /// A provider said so (OpenID Connect Back-Channel Logout 1.0).
        BackChannel = "back_channel",
        /// A provider had the browser say so (OpenID Connect Front-Channel Logout 1.0).
        FrontChannel = "front_channel",
        /// An operator did.
        Operator = "operator",
        /// A client gave its own token back (RFC 7009).
        Client = "client",
        /// The owner no longer stands for a session.
        Revalidation = "revalidation",
        /// A provider has barred an account of a person (`identity.denials`).
        Denial = "denial",
    }
}

impl RevocationSource {
    /// Every word.
    pub(crate) const ALL: [Self; 7] = [
        Self::Logout,
        Self::BackChannel,
        Self::FrontChannel,
        Self::Operator,
        Self::Client,
        Self::Revalidation,
        Self::Denial,
    ];

    /// Reads the label value.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == text)
    }
}

words! {
    /// What an account of a provider was found to be.
    Link {
        /// A person's, from now on.
        Linked = "linked",
        /// Not this person's: there is another account, or another person.
        Conflict = "conflict",
    }
}

words! {
    /// What became of an attempt to carry a session over to the new side.
    CarryOver {
        /// The session has moved.
        Moved = "moved",
        /// The new provider would have shown a page.
        LoginRequired = "login_required",
        /// It could not be asked.
        Unavailable = "unavailable",
        /// It, or the rollout, said no; or the session was over meanwhile.
        Refused = "refused",
        /// Somebody else is signed in there.
        SubjectMismatch = "subject_mismatch",
    }
}

words! {
    /// What was done with a key.
    KeyUse {
        /// Something was signed, or its code for authenticity made.
        Sign = "sign",
        /// A secret was shown to whom it is for.
        Send = "send",
        /// Something was sealed.
        Seal = "seal",
        /// Something that was sealed was opened.
        Open = "open",
    }
}

words! {
    /// What a store is asked.
    StoreOperation {
        /// To let us in.
        Connect = "connect",
        /// For a row.
        Get = "get",
        /// To write a row.
        Put = "put",
        /// To write a row that is as expected.
        Swap = "swap",
        /// To remove a row.
        Delete = "delete",
        /// For the rows with a prefix.
        Scan = "scan",
        /// To take, renew or give up a lease.
        Lease = "lease",
        /// To remove what has expired.
        Sweep = "sweep",
    }
}

words! {
    /// What became of a revocation.
    RevocationOutcome {
        /// It is written down and holds.
        Recorded = "recorded",
        /// The store did not take it: it holds in this process, and is tried again.
        Unavailable = "unavailable",
        /// What asked for it was no good.
        Refused = "refused",
    }
}

impl RevocationOutcome {
    /// Every word.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::Recorded, Self::Unavailable, Self::Refused];
}

words! {
    /// Why a store did not answer as asked.
    StoreFailure {
        /// It cannot, for now.
        Unavailable = "unavailable",
        /// No answer in time.
        Timeout = "timeout",
        /// No connection.
        Unreachable = "unreachable",
        /// No room for another row.
        Full = "full",
        /// It takes no writes.
        ReadOnly = "read_only",
        /// It does not let us in, or not at this.
        Denied = "denied",
        /// A row that cannot be read.
        Damaged = "damaged",
    }
}

words! {
    /// What became of an attempt to load a configuration.
    Reload {
        /// It runs, or ran already.
        Success = "success",
        /// It has problems, or could not be read or built; the running one stays.
        Refused = "refused",
    }
}
