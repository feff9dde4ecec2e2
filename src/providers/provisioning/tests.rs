//! The contract of accounts, held against both ways to have them; what is particular to one of them is beside it.

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::Normalise;
use crate::identity::SubjectKey;
use crate::providers::Deps;
use crate::providers::Provider;
use crate::providers::fake::Reply;
use crate::providers::fixture::Idp;
use crate::providers::fixture::NOW;
use crate::providers::fixture::TOKEN;
use crate::providers::fixture::oauth_client;
use crate::providers::fixture::ready;
use crate::providers::settings as all;
use crate::providers::settings::KindSettings;

const PASSWORD: &str = "it's \"right\"";

/// The other side of one way to have accounts.
#[derive(Clone, Copy, Debug)]
enum Way {
    Keycloak,
    Scim,
}

impl Way {
    const ALL: [Self; 2] = [Self::Keycloak, Self::Scim];

    const fn users(self) -> &'static str {
        match self {
            Self::Keycloak => "/admin/users",
            Self::Scim => "/scim/Users",
        }
    }

    const fn secret_place(self) -> &'static str {
        match self {
            Self::Keycloak => "/admin/users/f81d/reset-password",
            Self::Scim => "/scim/Users/f81d",
        }
    }

    /// Alice, as she is shown there.
    fn alice(self) -> Value {
        match self {
            Self::Keycloak => json!({
                "id": "f81d", "username": "alice", "enabled": true,
                "attributes": { "employee_id": ["10442"] },
            }),
            Self::Scim => json!({
                "id": "f81d", "userName": "alice", "active": true, "externalId": "10442",
                "name": { "givenName": "Alice" },
                "emails": [{ "value": "other@corp.example" }, { "value": "alice@corp.example", "primary": true }],
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": { "employeeNumber": "10442" },
            }),
        }
    }

    fn found(self, users: &[Value]) -> Reply {
        match self {
            Self::Keycloak => Reply::json(&json!(users)),
            Self::Scim => Reply::json(&json!({ "totalResults": users.len(), "Resources": users })),
        }
    }
}

struct Double {
    way: Way,
    idp: Idp,
    provider: Arc<dyn Provider>,
    identity: Identity,
}

impl Double {
    async fn start(way: Way, create: bool) -> Self {
        let idp = Idp::start().await;
        let own = json!({ "token_type": "Bearer", "access_token": "ours", "expires_in": 300 });
        idp.fake.always(TOKEN, Reply::json(&own));
        let mut settings = idp.oidc();
        let KindSettings::Oidc(oidc) = &mut settings.kind else {
            panic!("an OpenID provider")
        };
        oidc.directory = Some(match way {
            Way::Keycloak => all::OidcDirectory::Keycloak(all::KeycloakDirectory {
                url: idp.fake.url("/admin"),
                client: oauth_client(),
                key: "employee_id".into(),
                full_path: false,
            }),
            Way::Scim => all::OidcDirectory::Scim(all::ScimDirectory {
                url: idp.fake.url("/scim"),
                token: Secret::new("ours".to_owned()),
                key: "externalId".into(),
                timeout: None,
            }),
        });
        let emails = match way {
            Way::Keycloak => "email",
            Way::Scim => "emails",
        };
        oidc.provisioning = Some(settings::Provisioning {
            by: "employee_id".into(),
            normalise: vec![Normalise::Trim, Normalise::StripLeadingZeros],
            create,
            attributes: vec![
                (emails.into(), "email".into()),
                ("cost".into(), "nothing".into()),
            ],
        });
        idp.fake
            .always("/admin/users/f81d/credentials", Reply::json(&json!([])));
        idp.fake
            .always("/admin/users/f81d/groups", Reply::json(&json!([])));
        let provider = ready(&settings, &Deps::for_test()).await;
        let mut attributes = crate::identity::ClaimMap::default();
        attributes.insert("employee_id", "0010442".into());
        attributes.insert("email", "alice@corp.example".into());
        let identity = Identity {
            provider: crate::identity::ProviderId::new("legacy"),
            key: SubjectKey {
                issuer: crate::identity::Issuer::new("urn:legacy"),
                subject: crate::identity::Subject::try_from("alice").unwrap(),
            },
            attributes: Arc::new(attributes),
            client_id: None,
            acr: None,
            scopes: Box::default(),
            delegation: crate::identity::Delegation::default(),
        };
        Self {
            way,
            idp,
            provider,
            identity,
        }
    }

    fn accounts(&self) -> &dyn Provisioning {
        self.provider.provisioning().unwrap()
    }

    fn alice(&self) -> Newcomer<'_> {
        Newcomer {
            username: "alice",
            identity: &self.identity,
        }
    }

    async fn account(&self) -> Account {
        let way = self.way;
        let users = way.found(&[way.alice()]);
        self.idp.fake.always(way.users(), users);
        let found = self.accounts().find(self.alice(), NOW).await.unwrap();
        found.unwrap()
    }
}

#[tokio::test]
async fn an_account_is_found_by_what_never_changes_and_by_nothing_else() {
    for way in Way::ALL {
        let double = Double::start(way, true).await;
        let account = double.account().await;
        assert_eq!(&*account.username, "alice");
        assert_eq!(account.identity.key.subject.as_str(), "f81d", "{way:?}");
        assert!(account.enabled && !account.made);
        let says = matches!(way, Way::Keycloak).then_some(false);
        assert_eq!(account.has_password, says, "{way:?}");
        // A server that passes over the question names everybody.
        let mut bob = way.alice();
        bob["externalId"] = json!("10443");
        bob["attributes"] = json!({ "employee_id": ["10443"] });
        bob["id"] = json!("b0b");
        let place = way.users();
        double.idp.fake.always(place, way.found(&[bob.clone()]));
        let found = double.accounts().find(double.alice(), NOW).await;
        assert!(found.unwrap().is_none(), "{way:?}");
        let mut twin = way.alice();
        twin["id"] = json!("f81e");
        double
            .idp
            .fake
            .always(place, way.found(&[way.alice(), twin]));
        let found = double.accounts().find(double.alice(), NOW).await;
        assert_eq!(found.unwrap_err(), Refusal::LinkConflict.into());
        for (status, outage) in [
            (401, Outage::Malformed),
            (403, Outage::Malformed),
            (500, Outage::Http5xx),
        ] {
            double.idp.fake.always(place, Reply::text(status, "{}"));
            let found = double.accounts().find(double.alice(), NOW).await;
            let seen = found.unwrap_err();
            assert_eq!(seen, ProviderError::from(outage), "{way:?} {status}");
        }
    }
}

#[tokio::test]
async fn a_password_that_a_federated_directory_keeps_is_there() {
    let way = Way::Keycloak;
    let double = Double::start(way, true).await;
    let mut alice = way.alice();
    alice["federationLink"] = json!("the-directory");
    double.idp.fake.always(way.users(), way.found(&[alice]));
    let found = double.accounts().find(double.alice(), NOW).await.unwrap();
    assert_eq!(found.unwrap().has_password, Some(true));
}

#[tokio::test]
async fn somebody_without_an_account_gets_one_without_a_password() {
    for way in Way::ALL {
        let double = Double::start(way, true).await;
        let (fake, place) = (&double.idp.fake, way.users());
        match way {
            Way::Keycloak => {
                fake.next(place, Reply::text(201, ""));
                fake.always(place, way.found(&[way.alice()]));
            }
            Way::Scim => fake.next(place, Reply::text(201, &way.alice().to_string())),
        }
        let account = double.accounts().create(double.alice(), NOW).await.unwrap();
        assert!(
            account.made && account.has_password == Some(false),
            "{way:?}"
        );
        let sent = fake.seen(place).remove(0);
        assert_eq!(
            (
                sent.method.as_str(),
                &sent.headers["authorization"] == "Bearer ours"
            ),
            ("POST", true)
        );
        let sent: Value = serde_json::from_str(&sent.body).unwrap();
        match way {
            Way::Keycloak => assert_eq!(
                sent,
                json!({
                    "username": "alice", "enabled": true, "email": "alice@corp.example",
                    "emailVerified": true, "attributes": { "employee_id": ["10442"] },
                })
            ),
            Way::Scim => assert_eq!(
                sent,
                json!({
                    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "alice", "active": true,
                    "externalId": "10442", "emails": [{ "value": "alice@corp.example", "primary": true }],
                })
            ),
        }
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict_unless_it_is_the_same_person() {
    for way in Way::ALL {
        for same in [true, false] {
            let double = Double::start(way, true).await;
            let (fake, place) = (&double.idp.fake, way.users());
            fake.next(place, Reply::text(409, "{}"));
            let users = if same { vec![way.alice()] } else { vec![] };
            fake.always(place, way.found(&users));
            let made = double.accounts().create(double.alice(), NOW).await;
            match made {
                Ok(account) => assert!(same && !account.made, "{way:?}"),
                Err(error) => assert_eq!((error, same), (Refusal::LinkConflict.into(), false)),
            }
        }
        let double = Double::start(way, false).await;
        let made = double.accounts().create(double.alice(), NOW).await;
        assert_eq!(made.unwrap_err(), Refusal::NoLink.into());
        assert!(double.idp.fake.seen(way.users()).is_empty(), "{way:?}");
    }
}

#[tokio::test]
async fn a_password_is_set_once_and_what_the_provider_says_of_it_is_final() {
    for way in Way::ALL {
        let double = Double::start(way, true).await;
        let account = double.account().await;
        let password = Secret::new(PASSWORD.to_owned());
        for (status, expected) in [
            (204, Ok(())),
            (400, Err(Refusal::Policy.into())),
            (403, Err(Outage::Malformed.into())),
            (404, Err(Outage::Malformed.into())),
            (503, Err(Outage::Http5xx.into())),
        ] {
            let place = way.secret_place();
            let before = double.idp.fake.seen(place).len();
            double.idp.fake.always(place, Reply::text(status, ""));
            let set = double
                .accounts()
                .set_password(&account, &password, NOW)
                .await;
            assert_eq!(set, expected, "{way:?} {status}");
            let mut seen = double.idp.fake.seen(place).split_off(before);
            assert_eq!(seen.len(), 1, "{way:?} {status}");
            let sent: Value = serde_json::from_str(&seen.remove(0).body).unwrap();
            let value = match way {
                Way::Keycloak => &sent["value"],
                Way::Scim => &sent["Operations"][0]["value"],
            };
            assert_eq!(value, PASSWORD);
        }
        assert!(!format!("{account:?} {:?}", double.alice().identity).contains(PASSWORD));
    }
}

#[tokio::test]
async fn the_token_endpoint_judges_a_password_and_its_session_ends() {
    let double = Double::start(Way::Scim, true).await;
    let fake = &double.idp.fake;
    let judge = double.provider.passwords().unwrap();
    let password = Secret::new(PASSWORD.to_owned());
    fake.next(TOKEN, Reply::text(401, r#"{"error":"invalid_grant"}"#));
    let answer = json!({
        "token_type": "Bearer", "access_token": "a", "refresh_token": "r",
        "id_token": double.idp.id_token(&json!({ "nonce": null })),
    });
    fake.always(TOKEN, Reply::json(&answer));
    let refused = judge.check("alice", &password, NOW).await.unwrap_err();
    assert_eq!(refused, Refusal::BadCredentials.into());
    let proof = judge.check("alice", &password, NOW).await.unwrap();
    assert_eq!(proof.identity().key.subject.as_str(), "f81d");
    assert_eq!(proof.expires(), NOW + std::time::Duration::from_secs(30));
    let asked = fake.seen(TOKEN).pop().unwrap();
    assert_eq!(
        asked.body,
        "grant_type=password&username=alice&password=it%27s%20%22right%22&scope=openid%20profile"
    );
    for (status, body, expected) in [
        (400, r#"{"error":"unauthorized_client"}"#, Outage::Malformed),
        (
            400,
            r#"{"error":"unsupported_grant_type"}"#,
            Outage::Malformed,
        ),
        (503, "", Outage::Http5xx),
        (200, "{}", Outage::Malformed),
    ] {
        fake.always(TOKEN, Reply::text(status, body));
        let error = judge.check("alice", &password, NOW).await.unwrap_err();
        assert_eq!(error, ProviderError::from(expected), "{body}");
    }
    let calls = fake.seen(TOKEN).len();
    let empty = judge.check("alice", &Secret::new(String::new()), NOW).await;
    assert_eq!(empty.unwrap_err(), Refusal::BadCredentials.into());
    assert_eq!(fake.seen(TOKEN).len(), calls);
}

#[tokio::test]
async fn a_directory_by_scim_describes_people_and_lists_them_to_the_end() {
    let double = Double::start(Way::Scim, true).await;
    let fake = &double.idp.fake;
    let directory = double.provider.directory().unwrap();
    let mut alice = Way::Scim.alice();
    alice["groups"] = json!([{ "value": "1", "display": "it" }]);
    fake.always("/scim/Users", Way::Scim.found(&[alice.clone()]));
    let known = directory.find("10442", NOW).await.unwrap();
    let crate::providers::Known::Person { identity, enabled } = known else {
        panic!("{known:?}")
    };
    assert!(enabled);
    assert_eq!(identity.attributes.list("groups").unwrap(), ["it"]);
    assert_eq!(fake.seen("/scim/Users")[0].method.as_str(), "GET");
    let all = directory.everybody(10, NOW).await.unwrap();
    assert_eq!(all, [Box::from("10442")]);
    // A page that says that there are more and shows none is cut off.
    let cut = json!({ "totalResults": 2, "Resources": [] });
    fake.next("/scim/Users", Way::Scim.found(&[alice.clone()]));
    fake.always("/scim/Users", Reply::json(&cut));
    let first = json!({ "totalResults": 2, "Resources": [alice] });
    fake.next("/scim/Users", Reply::json(&first));
    assert!(directory.everybody(10, NOW).await.is_ok());
    let error = directory.everybody(10, NOW).await.unwrap_err();
    assert_eq!(error, Outage::Malformed.into());
    alice_without_display(&double, directory).await;
}

/// A group that cannot be read is not no group.
async fn alice_without_display(double: &Double, directory: &dyn crate::providers::Directory) {
    let mut alice = Way::Scim.alice();
    alice["groups"] = json!([{ "value": "1" }]);
    let users = Way::Scim.found(&[alice]);
    double.idp.fake.always("/scim/Users", users);
    let error = directory.find("10442", NOW).await.unwrap_err();
    assert_eq!(error, Refusal::Policy.into());
}

/// What people have agreed to is what others may do for them; our own registration, and a session that outlives its page, is not.
#[tokio::test]
async fn keycloak_says_whether_somebody_lets_others_act_for_them() {
    let double = Double::start(Way::Keycloak, true).await;
    let fake = &double.idp.fake;
    let place = "/admin/users/f81d/consents";
    let directory = double.provider.directory().unwrap();
    let consents = directory.consents().unwrap();
    let subject = crate::identity::Subject::try_from("f81d").unwrap();
    let of = |client: &str, scopes: Value| json!({ "clientId": client, "grantedClientScopes": scopes, "createdDate": 1 });
    let ours = oauth_client().id.to_string();
    let offline = json!({
        "clientId": "planner", "grantedClientScopes": [],
        "additionalGrants": [{ "client": "1", "key": "Offline Token" }],
    });
    for (said, given) in [
        (json!([]), false),
        (json!([of(&ours, json!(["profile"])), offline]), false),
        (
            json!([of(&ours, json!([])), of("planner", json!(["calendar"]))]),
            true,
        ),
    ] {
        fake.always(place, Reply::json(&said));
        assert_eq!(consents.given(&subject, NOW).await, Ok(given), "{said}");
    }
    assert_eq!(fake.seen(place).first().unwrap().method.as_str(), "GET");
    // What is no answer says neither.
    for reply in [
        Reply::text(404, "{}"),
        Reply::text(403, "{}"),
        Reply::json(&json!({})),
        Reply::json(&json!([{ "grantedClientScopes": ["calendar"] }])),
    ] {
        fake.always(place, reply);
        let told = consents.given(&subject, NOW).await;
        assert!(
            matches!(told, Err(ProviderError::Unavailable { .. })),
            "{told:?}"
        );
    }
    let scim = Double::start(Way::Scim, true).await;
    assert!(scim.provider.directory().unwrap().consents().is_none());
}
