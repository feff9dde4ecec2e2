//! One question to the gate, and what is made of the credential.

use std::sync::Arc;

use crate::auth::gate::ForClient;
use crate::auth::gate::passwords::InHand;
use crate::auth::policy::AppPolicy;
use crate::auth::possession::Channel;
use crate::clock::UnixTime;
use crate::exchange::Exchange;
use crate::identity::CanonicalSubject;
use crate::identity::Confirmation;
use crate::identity::Identity;
use crate::revocation::Marks;
use crate::rollout::Facts;
use crate::rollout::KillPosition;
use crate::rollout::Person;

/// One question to the gate.
pub(super) struct Asked<'a> {
    pub(super) policy: &'a AppPolicy,
    pub(super) instead: Instead<'a>,
    pub(super) facts: &'a Facts<'a>,
    pub(super) channel: &'a Channel<'a>,
    pub(super) kill: KillPosition,
    pub(super) now: UnixTime,
    /// Since when a token is fetched that nobody has presented: what is revoked meanwhile counts, however young it is.
    pub(super) fetched_since: Option<UnixTime>,
    /// What its holder typed into the form of the old application, whose answer the credential is.
    pub(super) typed: Option<&'a InHand>,
}

/// What is made of the credential.
#[derive(Clone, Copy)]
pub(super) enum Instead<'a> {
    /// What the upstream of this route gets.
    OnRoute(usize),
    /// The same, for what a request of before has opened: nothing is told to the browser any more.
    StillOnRoute(usize),
    /// What a client asked for.
    ForClient(&'a ForClient<'a>),
    /// Nothing: it is only judged, for somebody to whom it was shown. What it is bound to is asked of whoever shows it there.
    Nothing,
}

impl<'a> Asked<'a> {
    pub(super) const fn new(
        policy: &'a AppPolicy,
        instead: Instead<'a>,
        (facts, channel): (&'a Facts<'a>, &'a Channel<'a>),
        kill: KillPosition,
        now: UnixTime,
    ) -> Self {
        Self {
            policy,
            instead,
            facts,
            channel,
            kill,
            now,
            fetched_since: None,
            typed: None,
        }
    }

    /// The exchange of the route.
    pub(super) fn on_route(&self) -> Option<&'a Arc<Exchange>> {
        match self.instead {
            Instead::OnRoute(route) | Instead::StillOnRoute(route) => self.policy.exchange(route),
            Instead::ForClient(_) | Instead::Nothing => None,
        }
    }

    /// Whether it is a request for the application: its answer may carry a cookie.
    pub(super) const fn is_a_request(&self) -> bool {
        match self.instead {
            Instead::OnRoute(_) => true,
            Instead::StillOnRoute(_) | Instead::ForClient(_) | Instead::Nothing => false,
        }
    }

    /// Whether it is asked for something that is open, with what its request brought.
    pub(super) const fn is_open(&self) -> bool {
        match self.instead {
            Instead::StillOnRoute(_) => true,
            Instead::OnRoute(_) | Instead::ForClient(_) | Instead::Nothing => false,
        }
    }

    /// Whether what the token is bound to need not be proved as with a request to the application: nobody uses it, or a client
    /// has proved to hold that when it asked for another one.
    pub(super) fn is_proven(&self, bound: Option<&Confirmation>) -> bool {
        match self.instead {
            Instead::OnRoute(_) | Instead::StillOnRoute(_) => false,
            Instead::Nothing => true,
            Instead::ForClient(client) => bound.is_some_and(|bound| {
                let certificate = self.channel.certificate;
                client.own.is_none()
                    && bound.key.is_none_or(|key| client.proven == Some(key))
                    && bound.certificate.is_none_or(|own| certificate == Some(own))
            }),
        }
    }

    /// A token that was fetched with what a client has had for longer can be revoked as if it were as old.
    pub(super) fn since(&self, marks: Marks) -> Marks {
        let marks = match self.fetched_since {
            Some(began) => marks.since(Some(began)),
            None => marks,
        };
        match self.instead {
            Instead::ForClient(client) => match client.own {
                Some(own) => marks.since(own.began),
                None => marks,
            },
            Instead::OnRoute(_) | Instead::StillOnRoute(_) | Instead::Nothing => marks,
        }
    }

    pub(super) fn with<'p>(
        &'p self,
        canonical: &'p CanonicalSubject,
        identity: &'p Identity,
    ) -> Facts<'p> {
        Facts {
            person: Some(Person {
                canonical,
                identity,
            }),
            ..*self.facts
        }
    }
}
