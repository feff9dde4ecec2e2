//! How many sessions a person has at a time.

use super::*;

fn nobody_joined(person: &str) -> CanonicalSubject {
    CanonicalSubject::unjoined(&key(person))
}

async fn alive(at_instance: &Instance, cookies: &[String], now: UnixTime) -> Vec<bool> {
    let mut alive = Vec::new();
    for cookie in cookies {
        alive.push(at_instance.restore(cookie, now).await.is_some());
    }
    alive
}

#[tokio::test]
async fn one_session_too_many_ends_the_oldest_of_that_person() {
    let rows = Arc::new(MemoryStore::default());
    let (a, b) = (instance(&rows), instance(&rows));
    let other = a.log_in("bob", at(0)).await;
    let mut cookies = Vec::new();
    for n in 0..5 {
        let instance = if n % 2 == 0 { &a } else { &b };
        cookies.push(instance.log_in("alice", at(n)).await);
    }
    let mut alive = Vec::new();
    for cookie in &cookies {
        alive.push(a.restore(cookie, at(6)).await.is_some());
    }
    assert_eq!(alive, [false, false, true, true, true]);
    assert!(a.restore(&other, at(6)).await.is_some());
}

#[tokio::test]
async fn both_accounts_of_a_person_count_together_and_those_of_another_do_not() {
    let rows = Arc::new(MemoryStore::default());
    let a = instance(&rows);
    let (alice, bob) = (
        CanonicalSubject::named("hr:1").unwrap(),
        CanonicalSubject::named("hr:2").unwrap(),
    );
    let other = a.log_in_as("bob", &bob, None, at(0)).await;
    let mut cookies = Vec::new();
    for (n, account) in ["alice", "alice", "alice-there", "alice-there"]
        .iter()
        .enumerate()
    {
        cookies.push(a.log_in_as(account, &alice, None, at(n as u64)).await);
    }
    assert_eq!(alive(&a, &cookies, at(5)).await, [false, true, true, true]);
    assert!(a.restore(&other, at(5)).await.is_some());
}

#[tokio::test]
async fn what_an_account_had_before_it_was_known_whose_it_is_counts() {
    let rows = Arc::new(MemoryStore::default());
    let a = instance(&rows);
    let alice = CanonicalSubject::named("hr:1").unwrap();
    let (alone, bobs) = (nobody_joined("alice"), nobody_joined("bob"));
    let other = a.log_in_as("bob", &bobs, None, at(0)).await;
    let mut cookies = Vec::new();
    for (n, person) in [&alone, &alone, &alice, &alice].into_iter().enumerate() {
        cookies.push(a.log_in_as("alice", person, None, at(n as u64)).await);
    }
    assert_eq!(alive(&a, &cookies, at(5)).await, [false, true, true, true]);
    assert!(a.restore(&other, at(5)).await.is_some());
}

#[tokio::test]
async fn a_session_that_is_replaced_costs_nobody_another() {
    let rows = Arc::new(MemoryStore::default());
    let a = instance(&rows);
    let mut cookies = Vec::new();
    for n in 0..3 {
        cookies.push(a.log_in("alice", at(n)).await);
    }
    let canonical = CanonicalSubject::named("hr:alice").unwrap();
    let earlier = cookies[2].clone();
    let next = a
        .log_in_as("alice", &canonical, Some(&earlier), at(3))
        .await;
    cookies.push(next);
    // The caller ends the one.
    assert_eq!(alive(&a, &cookies, at(4)).await, [true; 4]);
    a.log_in("alice", at(5)).await;
    assert_eq!(alive(&a, &cookies, at(6)).await, [false, false, true, true]);
}
