//! Keycloak, asked behind the proxy's back: accounts, sessions, and what its event log says of both.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::Answer;
use crate::harness::request;
use crate::var;

/// Its administrator. The token is good for a minute.
#[derive(Debug)]
pub(crate) struct Behind {
    bearer: String,
}

impl Behind {
    /// With a new token.
    pub(crate) async fn admin() -> Self {
        let form = "grant_type=password&client_id=admin-cli&username=admin&password=admin";
        let answer = token("master", form).await;
        let answer: Value = serde_json::from_str(&answer.text()).unwrap();
        let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
        Self { bearer }
    }

    /// Whatever an administrator may ask of the realm.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let to = format!("127.0.0.1:{}", var("KC_PORT"));
        let headers = [
            // It is called by one name.
            ("Host", to.as_str()),
            ("Authorization", self.bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        let path = format!("/admin/realms/new{path}");
        request(
            to.parse().unwrap(),
            method,
            &path,
            &headers,
            body.as_bytes(),
        )
        .await
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        let found = self.call("GET", path, "").await;
        serde_json::from_str(&found.text()).unwrap_or_else(|_| panic!("{path}: {found:?}"))
    }

    /// The accounts with a name.
    pub(crate) async fn accounts(&self, name: &str) -> Vec<Value> {
        let query = format!("exact=true&briefRepresentation=false&username={name}");
        self.list(&format!("/users?{query}")).await
    }

    /// The account of somebody.
    pub(crate) async fn id_of(&self, name: &str) -> String {
        let accounts = self.accounts(name).await;
        assert_eq!(accounts.len(), 1, "{name}");
        accounts[0]["id"].as_str().unwrap().to_owned()
    }

    /// An account is gone.
    pub(crate) async fn forgets(&self, name: &str) {
        let path = format!("/users/{}", self.id_of(name).await);
        let answer = self.call("DELETE", &path, "").await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    /// Lets somebody in, or keeps them out.
    pub(crate) async fn lets_in(&self, name: &str, enabled: bool) {
        let mut user = self.accounts(name).await.remove(0);
        user["enabled"] = enabled.into();
        let path = format!("/users/{}", user["id"].as_str().unwrap());
        let changed = self.call("PUT", &path, &user.to_string()).await;
        assert_eq!(changed.status, 204, "{}", changed.text());
    }

    /// What everybody is called, by account.
    pub(crate) async fn names(&self) -> BTreeMap<String, String> {
        let all = self
            .list("/users?max=100000&briefRepresentation=true")
            .await;
        let text = |user: &Value, field: &str| user[field].as_str().unwrap().to_owned();
        all.iter()
            .map(|user| (text(user, "id"), text(user, "username")))
            .collect()
    }

    /// What its log has of a kind, for one client, the latest first.
    pub(crate) async fn events(&self, client: &str, kind: &str) -> Vec<Value> {
        let query = format!("type={kind}&client={client}&max=100000");
        self.list(&format!("/events?{query}")).await
    }

    /// How often something has happened to somebody.
    pub(crate) async fn happened(&self, client: &str, kind: &str, account: &str) -> usize {
        let events = self.events(client, kind).await;
        let theirs = events.iter().filter(|event| event["userId"] == account);
        theirs.count()
    }
}

/// What the token endpoint of a realm says to a form.
pub(crate) async fn token(realm: &str, form: &str) -> Answer {
    let to = format!("127.0.0.1:{}", var("KC_PORT"));
    let fields = [
        ("Host", to.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let path = format!("/realms/{realm}/protocol/openid-connect/token");
    request(to.parse().unwrap(), "POST", &path, &fields, form.as_bytes()).await
}
