//! Named groups of people and requests.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;

use crate::identity::ClaimPath;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::identity::named;
use crate::rollout::facts::Facts;

/// The name of a cohort.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CohortId(Arc<str>);

impl CohortId {
    /// The name, as the configuration spells it.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CohortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// When everything a cohort asks about is known.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// With the request itself.
    Before,
    /// Once the owner has verified the credential.
    After,
}

/// A predicate over [`Facts`].
#[derive(Clone, Debug)]
pub enum Cohort {
    /// These people, by canonical subject.
    Subjects(HashSet<Box<str>>),
    /// People whose verified address lies in one of these domains, compared whole and without regard to ASCII case.
    EmailDomain {
        /// The domains.
        domains: Vec<Box<str>>,
        /// Providers whose word about a domain needs no `email_verified` (`authoritative.email_domains`).
        authoritative: Vec<(ProviderId, Box<str>)>,
    },
    /// People whom `provider` lists in one of these groups.
    Group {
        /// Who must say so.
        provider: ProviderId,
        /// Any of these.
        any_of: HashSet<Box<str>>,
    },
    /// People of whom `provider` says that the claim has this value.
    Claim {
        /// Who must say so.
        provider: ProviderId,
        /// Which attribute.
        name: ClaimPath,
        /// Its value.
        equals: Box<str>,
    },
    /// These OAuth clients.
    ClientId(HashSet<Box<str>>),
    /// These client addresses. Steers a login; never widens acceptance.
    Cidr(Vec<IpNet>),
    /// These hosts.
    Host(Vec<Box<str>>),
    /// Paths; a trailing `*` matches any rest.
    Path(Vec<Box<str>>),
    /// These methods.
    Method(Vec<Box<str>>),
    /// These applications.
    App(Vec<Box<str>>),
    /// A header from a listed peer. Steers a login; never widens acceptance.
    Header {
        /// Its name, lower case.
        name: Box<str>,
        /// Its value.
        equals: Box<str>,
        /// The peers who may set it.
        trusted_from: Vec<IpNet>,
    },
    /// Browsers that brought a cookie which we sealed. Steers a login; never widens acceptance.
    SignedCookie(Box<str>),
    /// Whoever calls themselves one of these: small letters; after a leading `*`, the end of the name, such as `*@corp.example`.
    /// Steers a login; never widens acceptance.
    LoginHint(Vec<Box<str>>),
    /// All of these.
    All(Vec<Self>),
    /// Any of these.
    Any(Vec<Self>),
    /// None of this.
    Not(Box<Self>),
}

impl Cohort {
    /// Whether the facts fit; `None` when they do not say, now or ever.
    ///
    /// Three values, so that `Not` never makes a fact out of ignorance: a person of whom another provider speaks is
    /// neither in a group of this one nor outside of it. Whoever decides acts on `Some(true)` only.
    pub fn contains(&self, facts: &Facts<'_>) -> Option<bool> {
        match self {
            Self::Subjects(people) => Some(people.contains(facts.person?.canonical.as_str())),
            Self::EmailDomain {
                domains,
                authoritative,
            } => email_domain(facts.person?.identity, domains, authoritative),
            Self::Group { provider, any_of } => {
                let identity = facts.person?.identity;
                if identity.provider != *provider {
                    return None;
                }
                // A group list that cannot be read is not an empty one.
                let groups = identity.attributes.list("groups").ok()?;
                Some(groups.into_iter().any(|group| any_of.contains(group)))
            }
            Self::Claim {
                provider,
                name,
                equals,
            } => {
                let identity = facts.person?.identity;
                let equal = |value: &Value| named(value).is_some_and(|name| name == **equals);
                (identity.provider == *provider).then(|| name.any(&identity.attributes, &equal))
            }
            Self::ClientId(clients) => {
                let client = facts.person?.identity.client_id.as_deref();
                Some(client.is_some_and(|client| clients.contains(client)))
            }
            Self::Cidr(networks) => Some(within(networks, facts.client_ip?)),
            Self::Host(hosts) => Some(hosts.iter().any(|host| host_matches(host, facts.host))),
            Self::Path(paths) => Some(paths.iter().any(|path| path_matches(path, facts.path))),
            Self::Method(methods) => Some(methods.iter().any(|method| **method == *facts.method)),
            Self::App(apps) => Some(apps.iter().any(|app| **app == *facts.app.as_str())),
            Self::Header {
                name,
                equals,
                trusted_from,
            } => {
                // From any other peer the header is not there.
                if !within(trusted_from, facts.peer?) {
                    return Some(false);
                }
                Some(facts.fields?.equal(name, equals))
            }
            Self::SignedCookie(name) => Some(facts.fields?.sealed(name)),
            Self::LoginHint(names) => {
                let said = facts.hearsay.identifier?;
                Some(names.iter().any(|name| hint_matches(name, said)))
            }
            Self::All(parts) => combine(parts, facts, false),
            Self::Any(parts) => combine(parts, facts, true),
            Self::Not(part) => part.contains(facts).map(|fits| !fits),
        }
    }

    /// What it is made of; a matcher of its own is made of nothing.
    fn parts(&self) -> &[Self] {
        match self {
            Self::All(parts) | Self::Any(parts) => parts,
            Self::Not(part) => std::slice::from_ref(&**part),
            Self::Subjects(_)
            | Self::EmailDomain { .. }
            | Self::Group { .. }
            | Self::Claim { .. }
            | Self::ClientId(_)
            | Self::Cidr(_)
            | Self::Host(_)
            | Self::Path(_)
            | Self::Method(_)
            | Self::App(_)
            | Self::Header { .. }
            | Self::SignedCookie(_)
            | Self::LoginHint(_) => &[],
        }
    }

    /// Calls `each` with the name of every header that steers here, and the peers who may set it.
    pub fn headers<'a>(&'a self, each: &mut dyn FnMut(&'a str, &'a [IpNet])) {
        if let Self::Header {
            name, trusted_from, ..
        } = self
        {
            each(name, trusted_from);
        }
        for part in self.parts() {
            part.headers(each);
        }
    }

    /// Calls `each` with the name of every cookie of ours that steers here.
    pub fn signed_cookies<'a>(&'a self, each: &mut dyn FnMut(&'a str)) {
        if let Self::SignedCookie(name) = self {
            each(name);
        }
        for part in self.parts() {
            part.signed_cookies(each);
        }
    }

    /// Whether what somebody calls themselves may decide here.
    pub fn heeds_identifier(&self) -> bool {
        matches!(self, Self::LoginHint(_)) || self.parts().iter().any(Self::heeds_identifier)
    }

    /// When the answer is known: the earliest phase in which all of its matchers are.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Subjects(_)
            | Self::EmailDomain { .. }
            | Self::Group { .. }
            | Self::Claim { .. }
            | Self::ClientId(_) => Phase::After,
            Self::Cidr(_)
            | Self::Host(_)
            | Self::Path(_)
            | Self::Method(_)
            | Self::App(_)
            | Self::Header { .. }
            | Self::SignedCookie(_)
            | Self::LoginHint(_) => Phase::Before,
            Self::All(parts) | Self::Any(parts) => {
                let latest = parts.iter().map(Self::phase).max();
                latest.unwrap_or(Phase::Before)
            }
            Self::Not(part) => part.phase(),
        }
    }

    /// Whether the answer rests on facts that may not decide acceptance (address, header, what somebody calls themselves).
    pub fn rests_on_unverified(&self) -> bool {
        match self {
            Self::Cidr(_) | Self::Header { .. } | Self::SignedCookie(_) | Self::LoginHint(_) => {
                true
            }
            Self::Subjects(_)
            | Self::EmailDomain { .. }
            | Self::Group { .. }
            | Self::Claim { .. }
            | Self::ClientId(_)
            | Self::Host(_)
            | Self::Path(_)
            | Self::Method(_)
            | Self::App(_) => false,
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::rests_on_unverified),
            Self::Not(part) => part.rests_on_unverified(),
        }
    }

    /// Whether the answer depends on the request (application, host, path, method, address, header) and not only on
    /// the person: such an answer may not be kept with the person's verdict.
    pub fn depends_on_request(&self) -> bool {
        match self {
            Self::Cidr(_)
            | Self::Host(_)
            | Self::Path(_)
            | Self::Method(_)
            | Self::App(_)
            | Self::Header { .. }
            | Self::SignedCookie(_)
            | Self::LoginHint(_) => true,
            Self::Subjects(_)
            | Self::EmailDomain { .. }
            | Self::Group { .. }
            | Self::Claim { .. }
            | Self::ClientId(_) => false,
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::depends_on_request),
            Self::Not(part) => part.depends_on_request(),
        }
    }
}

/// `Any` for `decisive` = true, `All` for false (Kleene's strong logic): one decisive part decides, else one unknown part
/// leaves it open. Nothing is known of an empty list, so that neither it nor its opposite lets anybody in.
fn combine(parts: &[Cohort], facts: &Facts<'_>, decisive: bool) -> Option<bool> {
    let mut answer = (!parts.is_empty()).then_some(!decisive);
    for part in parts {
        match part.contains(facts) {
            Some(fits) if fits == decisive => return Some(decisive),
            Some(_) => {}
            None => answer = None,
        }
    }
    answer
}

/// The domain of a person's address: `None` unless it is an address with exactly one `@` and somebody vouches for it.
fn email_domain(
    identity: &Identity,
    domains: &[Box<str>],
    authoritative: &[(ProviderId, Box<str>)],
) -> Option<bool> {
    let (local, domain) = identity.attributes.text("email")?.split_once('@')?;
    if local.is_empty() || domain.is_empty() || domain.contains('@') {
        return None;
    }
    let authoritative = authoritative.iter().any(|(provider, owned)| {
        *provider == identity.provider && owned.eq_ignore_ascii_case(domain)
    });
    if !authoritative && !identity.attributes.flag("email_verified") {
        return None;
    }
    Some(
        domains
            .iter()
            .any(|listed| listed.eq_ignore_ascii_case(domain)),
    )
}

/// Whether an address lies in a network; an IPv4 address that came over an IPv6 socket counts as IPv4.
fn within(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// A name, or the end of one after a leading `*`.
fn hint_matches(pattern: &str, said: &str) -> bool {
    match pattern.strip_prefix('*') {
        // The end alone is nobody's name.
        Some(end) => said.len() > end.len() && said.ends_with(end),
        None => pattern == said,
    }
}

/// A host, or `*.corp.example`, which matches one label.
fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// A path; a trailing `*` matches any rest, and nothing else is a wildcard.
pub(super) fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::testing::People;
    use crate::rollout::testing::facts;
    use proptest::prelude::*;
    use serde_json::json;

    fn names<C: FromIterator<Box<str>>>(names: &[&str]) -> C {
        names.iter().map(|name| Box::from(*name)).collect()
    }

    fn group(provider: &str, groups: &[&str]) -> Cohort {
        Cohort::Group {
            provider: ProviderId::new(provider),
            any_of: names(groups),
        }
    }

    fn claim(path: &str, equals: &str) -> Cohort {
        Cohort::Claim {
            provider: ProviderId::new("legacy"),
            name: ClaimPath::parse(path).unwrap(),
            equals: equals.into(),
        }
    }

    fn email_domain(domains: &[&str]) -> Cohort {
        Cohort::EmailDomain {
            domains: names(domains),
            authoritative: vec![(ProviderId::new("legacy"), "corp.example".into())],
        }
    }

    fn not(cohort: Cohort) -> Cohort {
        Cohort::Not(Box::new(cohort))
    }

    fn cidr(network: &str) -> Cohort {
        Cohort::Cidr(vec![network.parse().unwrap()])
    }

    fn header() -> Cohort {
        Cohort::Header {
            name: "x-canary".into(),
            equals: "1".into(),
            trusted_from: vec!["10.0.0.0/8".parse().unwrap()],
        }
    }

    #[test]
    fn a_number_is_as_its_text_also_where_it_is_excepted() {
        let people = People::of("legacy", "hr:17", json!({ "branch": 42, "staff": true }));
        for (path, equals, is) in [
            ("branch", "42", true),
            ("branch", "4", false),
            ("staff", "true", true),
        ] {
            let facts = people.facts();
            assert_eq!(claim(path, equals).contains(&facts), Some(is));
            assert_eq!(not(claim(path, equals)).contains(&facts), Some(!is));
        }
    }

    #[test]
    fn people_are_listed_by_canonical_subject() {
        let people = People::of("legacy", "hr:17", json!({}));
        let listed = Cohort::Subjects(names(&["hr:17"]));
        assert_eq!(listed.contains(&people.facts()), Some(true));
        assert_eq!(
            Cohort::Subjects(names(&["hr:1"])).contains(&people.facts()),
            Some(false)
        );
        assert_eq!(listed.contains(&facts()), None);
    }

    #[test]
    fn only_the_named_provider_speaks_about_its_groups_and_claims() {
        let attributes = json!({ "groups": ["it"], "region": "emea" });
        let legacy = People::of("legacy", "hr:17", attributes.clone());
        let modern = People::of("modern", "hr:17", attributes);
        let it = group("legacy", &["it", "platform"]);
        let emea = claim("region", "emea");
        for cohort in [&it, &emea] {
            assert_eq!(cohort.contains(&legacy.facts()), Some(true));
            assert_eq!(cohort.contains(&modern.facts()), None);
            assert_eq!(not(cohort.clone()).contains(&modern.facts()), None);
            assert_eq!(cohort.contains(&facts()), None);
        }
    }

    #[test]
    fn a_group_list_that_cannot_be_read_is_not_an_empty_one() {
        let of = |groups: Value| {
            let people = People::of("legacy", "hr:17", json!({ "groups": groups }));
            group("legacy", &["it"]).contains(&people.facts())
        };
        assert_eq!(of(json!(["hr", "it"])), Some(true));
        assert_eq!(of(json!("it")), Some(true));
        assert_eq!(of(json!("it,hr")), Some(false));
        assert_eq!(of(json!([])), Some(false));
        assert_eq!(of(json!(["it", 7])), None);
        assert_eq!(of(json!({ "it": true })), None);
        let without = People::of("legacy", "hr:17", json!({}));
        assert_eq!(
            group("legacy", &["it"]).contains(&without.facts()),
            Some(false)
        );
    }

    #[test]
    fn a_claim_equals_a_text_or_one_text_of_a_list() {
        let people = People::of(
            "legacy",
            "hr:17",
            json!({ "region": "emea", "roles": ["a", "b"], "nested": { "level": "3" }, "level": 3, "on": true }),
        );
        for (path, equals, expected) in [
            ("region", "emea", true),
            ("region", "EMEA", false),
            ("roles", "b", true),
            ("nested.level", "3", true),
            ("level", "3", true),
            ("level", "30", false),
            ("on", "true", true),
            ("on", "yes", false),
            ("absent", "", false),
        ] {
            let found = claim(path, equals).contains(&people.facts());
            assert_eq!(found, Some(expected), "{path}");
        }
    }

    #[test]
    fn a_domain_counts_only_with_a_verified_address_or_an_authoritative_provider() {
        let of = |provider: &str, attributes: Value| {
            let people = People::of(provider, "hr:17", attributes);
            email_domain(&["corp.example", "Subsidiary.Example"]).contains(&people.facts())
        };
        let verified = |email: &str| json!({ "email": email, "email_verified": true });
        assert_eq!(of("modern", verified("a@corp.example")), Some(true));
        assert_eq!(of("modern", verified("a@CORP.Example")), Some(true));
        assert_eq!(of("modern", verified("a@subsidiary.example")), Some(true));
        // The directory of corp.example may speak for corp.example, and for nothing else.
        assert_eq!(
            of("legacy", json!({ "email": "a@corp.example" })),
            Some(true)
        );
        assert_eq!(
            of("legacy", json!({ "email": "a@subsidiary.example" })),
            None
        );
        for email in [
            "evil@evil.example@corp.example",
            "a@corp.example@evil.example",
            "a@corp.example,b@evil.example",
            "@corp.example",
            "corp.example",
            "a@",
            "",
        ] {
            assert_eq!(of("modern", verified(email)), None, "{email}");
            assert_eq!(of("legacy", verified(email)), None, "{email}");
        }
        for email in [
            "x@evilcorp.example",
            "x@corp.example.evil.example",
            "x@sub.corp.example",
            "x@corp.example.",
        ] {
            assert_eq!(of("modern", verified(email)), Some(false), "{email}");
        }
        for flag in [
            json!("true"),
            json!(1),
            json!(false),
            json!([true]),
            json!(null),
        ] {
            let attributes = json!({ "email": "a@corp.example", "email_verified": flag });
            assert_eq!(of("modern", attributes), None, "{flag}");
        }
        assert_eq!(
            of(
                "modern",
                json!({ "email": ["a@corp.example"], "email_verified": true })
            ),
            None
        );
    }

    #[test]
    fn clients_are_named_by_the_credential() {
        let mut people = People::of("modern", "svc", json!({}));
        let nightly = Cohort::ClientId(names(&["crm-nightly"]));
        assert_eq!(nightly.contains(&people.facts()), Some(false));
        people.identity.client_id = Some("crm-nightly".into());
        assert_eq!(nightly.contains(&people.facts()), Some(true));
        assert_eq!(nightly.contains(&facts()), None);
    }

    #[test]
    fn addresses_are_compared_as_networks() {
        let office = cidr("10.20.0.0/16");
        for (address, expected) in [
            ("10.20.3.4", true),
            ("::ffff:10.20.3.4", true),
            ("10.21.0.1", false),
            ("2001:db8::1", false),
        ] {
            let facts = Facts {
                client_ip: Some(address.parse().unwrap()),
                ..facts()
            };
            assert_eq!(office.contains(&facts), Some(expected), "{address}");
        }
        assert_eq!(office.contains(&facts()), None);
        assert_eq!(not(office).contains(&facts()), None);
    }

    #[test]
    fn requests_are_matched_by_where_they_go() {
        let request = facts();
        for (cohort, expected) in [
            (Cohort::Host(names(&["CRM.corp.example"])), true),
            (Cohort::Host(names(&["*.corp.example"])), true),
            (Cohort::Host(names(&["*.example"])), false),
            (Cohort::Host(names(&["corp.example"])), false),
            (Cohort::Path(names(&["/orders/*"])), true),
            (Cohort::Path(names(&["/orders"])), false),
            (Cohort::Path(names(&["/orders/7"])), true),
            (Cohort::Path(names(&["/o*s/7"])), false),
            (Cohort::Method(names(&["GET", "HEAD"])), true),
            (Cohort::Method(names(&["get"])), false),
            (Cohort::App(names(&["crm"])), true),
            (Cohort::App(names(&["erp"])), false),
        ] {
            assert_eq!(cohort.contains(&request), Some(expected), "{cohort:?}");
        }
    }

    #[test]
    fn a_header_counts_only_from_a_listed_peer() {
        let lookup = |name: &str, value: &str| name == "x-canary" && value == "1";
        let from = |peer: Option<&str>| Facts {
            peer: peer.map(|peer| peer.parse().unwrap()),
            // The client's own address never makes a header credible.
            client_ip: Some("10.0.0.9".parse().unwrap()),
            fields: Some(&lookup),
            ..facts()
        };
        assert_eq!(header().contains(&from(Some("10.0.0.1"))), Some(true));
        assert_eq!(header().contains(&from(Some("192.0.2.1"))), Some(false));
        assert_eq!(header().contains(&from(None)), None);
        let none = Facts {
            fields: None,
            ..from(Some("10.0.0.1"))
        };
        assert_eq!(header().contains(&none), None);
    }

    #[test]
    fn what_somebody_calls_themselves_is_compared_whole_or_by_its_end() {
        let cohort = Cohort::LoginHint(names(&["alice", "*@corp.example"]));
        let said = |identifier| Facts {
            hearsay: crate::rollout::facts::Hearsay {
                identifier,
                ..Default::default()
            },
            ..facts()
        };
        for (name, expected) in [
            (Some("alice"), Some(true)),
            (Some("malice"), Some(false)),
            (Some("bob@corp.example"), Some(true)),
            (Some("@corp.example"), Some(false)),
            (Some("bob@corp.example.evil.test"), Some(false)),
            (None, None),
        ] {
            assert_eq!(cohort.contains(&said(name)), expected, "{name:?}");
        }
        assert!(cohort.rests_on_unverified() && cohort.depends_on_request());
        assert!(not(cohort).heeds_identifier());
    }

    #[test]
    fn what_is_unknown_stays_unknown_when_nested() {
        let people = People::of("legacy", "hr:17", json!({ "groups": ["it"] }));
        let (yes, no, unknown) = (
            || group("legacy", &["it"]),
            || group("legacy", &["hr"]),
            || group("modern", &["it"]),
        );
        for (cohort, expected) in [
            (Cohort::All(vec![yes(), yes()]), Some(true)),
            (Cohort::All(vec![unknown(), no()]), Some(false)),
            (Cohort::All(vec![yes(), unknown()]), None),
            (Cohort::Any(vec![unknown(), yes()]), Some(true)),
            (Cohort::Any(vec![no(), unknown()]), None),
            (Cohort::Any(vec![no(), no()]), Some(false)),
            (not(Cohort::Any(vec![no(), unknown()])), None),
            (not(no()), Some(true)),
            (Cohort::All(vec![]), None),
            (Cohort::Any(vec![]), None),
            (not(Cohort::All(vec![])), None),
        ] {
            assert_eq!(cohort.contains(&people.facts()), expected, "{cohort:?}");
        }
    }

    #[test]
    fn the_latest_matcher_sets_the_phase() {
        assert_eq!(cidr("10.0.0.0/8").phase(), Phase::Before);
        assert_eq!(group("legacy", &["it"]).phase(), Phase::After);
        let mixed = Cohort::All(vec![cidr("10.0.0.0/8"), not(group("legacy", &["it"]))]);
        assert_eq!(mixed.phase(), Phase::After);
        assert!(mixed.rests_on_unverified());
        assert!(mixed.depends_on_request());
        assert!(not(header()).rests_on_unverified());
        assert!(!Cohort::Path(names(&["/a"])).rests_on_unverified());
        assert!(Cohort::Path(names(&["/a"])).depends_on_request());
        assert!(!group("legacy", &["it"]).depends_on_request());
    }

    fn cohort() -> impl Strategy<Value = Cohort> {
        let leaf = proptest::sample::select(vec![
            group("legacy", &["it"]),
            group("modern", &["it"]),
            group("legacy", &["hr"]),
            cidr("10.0.0.0/8"),
            Cohort::Path(names(&["/orders/*"])),
            Cohort::Subjects(names(&["hr:17"])),
        ]);
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Cohort::All),
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Cohort::Any),
                inner.prop_map(|part| Cohort::Not(Box::new(part))),
            ]
        })
    }

    proptest! {
        /// Learning more turns "unknown" into an answer, never an answer into the other one.
        #[test]
        fn an_answer_holds_when_more_becomes_known(cohort in cohort()) {
            let people = People::of("legacy", "hr:17", json!({ "groups": ["it"] }));
            let more = Facts { client_ip: Some("10.1.1.1".parse().unwrap()), ..people.facts() };
            for less in [facts(), people.facts(), Facts { person: None, ..more }] {
                if let Some(answer) = cohort.contains(&less) {
                    prop_assert_eq!(cohort.contains(&more), Some(answer));
                }
            }
        }

        /// `All` is `Not` of `Any` of `Not`s.
        #[test]
        fn de_morgan_holds_for_three_values(parts in proptest::collection::vec(cohort(), 0..4)) {
            let people = People::of("legacy", "hr:17", json!({ "groups": ["it"] }));
            let nots = parts.iter().cloned().map(not).collect();
            let all = Cohort::All(parts).contains(&people.facts());
            prop_assert_eq!(all, not(Cohort::Any(nots)).contains(&people.facts()));
        }
    }
}
