//! Connections to a real OpenLDAP, counted on their way there.

use std::process::Command;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::clock::Clock as _;
use crate::clock::SystemClock;
use crate::identity::Credential;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::contract::Double;
use crate::providers::contract::real::Directory;
use crate::providers::contract::real::LDAPS;
use crate::providers::contract::real::PLAIN;
use crate::providers::contract::real::STARTTLS;
use crate::providers::contract::real::secret;
use crate::secret::Secret;

/// What somebody of the crowd is called there, and their number.
fn person(index: usize) -> (String, String) {
    (format!("p{index:04}"), format!("{}", 20_000 + index))
}

async fn number_of(provider: &dyn Provider, name: &str) -> Result<String, ProviderError> {
    let credential = Credential::Basic {
        username: name.into(),
        password: Secret::new(secret(&format!("{name}-pw"))),
    };
    let proof = provider
        .authenticate(&credential, SystemClock.now())
        .await?;
    Ok(proof.identity().key.subject.as_str().to_owned())
}

async fn come_in(provider: &dyn Provider, index: usize) {
    let (name, number) = person(index);
    let seen = number_of(provider, &name).await;
    assert_eq!(seen, Ok(number), "{name}");
}

/// Many binds of many people, one after the other and then eight at once.
async fn few_connections<const TLS: u8>() {
    let double = Directory::<TLS>::start().await;
    let provider = double.provider();
    for index in 1..=30 {
        come_in(&*provider, index).await;
    }
    assert_eq!(double.relay.connections(), 1);
    for round in 0..4 {
        let mut all = JoinSet::new();
        for one in 1..=8 {
            let provider = Arc::clone(&provider);
            all.spawn(async move { come_in(&*provider, 30 + 8 * round + one).await });
        }
        all.join_all().await;
    }
    let connections = double.relay.connections();
    assert!(connections <= 8, "{connections}");
}

#[tokio::test]
async fn many_binds_use_few_connections_in_cleartext() {
    few_connections::<PLAIN>().await;
}

#[tokio::test]
async fn many_binds_use_few_connections_with_starttls() {
    few_connections::<STARTTLS>().await;
}

#[tokio::test]
async fn many_binds_use_few_connections_with_tls() {
    few_connections::<LDAPS>().await;
}

fn script(name: &str) {
    let status = Command::new(format!("tests/real/idps/{name}-slapd.sh")).status();
    assert!(status.unwrap().success(), "{name}");
}

#[tokio::test]
async fn a_directory_that_was_restarted_judges_the_next_password_and_sees_it_once() {
    let double = Directory::<PLAIN>::start().await;
    let provider = double.provider();
    come_in(&*provider, 1).await;
    let restarting = tokio::task::spawn_blocking(|| {
        script("stop");
        script("start");
    });
    restarting.await.unwrap();
    come_in(&*provider, 2).await;
    assert!(provider.health().usable);
    let (name, _) = person(2);
    let password = secret(&format!("{name}-pw"));
    assert_eq!(
        double.relay.sent(&password),
        1,
        "it was sent more than once"
    );
    assert_eq!(double.relay.connections(), 2);
}
