//! Passwords that are typed into the form of the old application.

use http::HeaderMap;

use super::*;
use crate::auth::fake::COOKIE;
use crate::providers::settings::FormFields;

/// The same world, in which the old application has a form that is read.
pub(super) fn with_form(accounts: FakeAccounts) -> World {
    let mut world = world(accounts);
    reads(&mut world);
    world
}

/// The old application has a form that is read.
pub(super) fn reads(world: &mut World) {
    let old = ProviderId::new("old");
    world.forms.insert(old.clone(), "/login".to_owned());
    let fields = FormFields {
        action: "/login".into(),
        username: "username".into(),
        password: "password".into(),
        claim: None,
        remembered: Vec::new(),
    };
    world.fields.insert(old, fields);
}

impl Instance<'_> {
    /// The old application has answered a form with a session, which is `session`'s; what follows from it has come to its end.
    async fn typed(&self, session: &str, (name, password): (&str, &str), now: UnixTime) {
        self.typed_under(KillPosition::Off, session, (name, password), now)
            .await;
    }

    async fn typed_under(
        &self,
        kill: KillPosition,
        session: &str,
        (name, password): (&str, &str),
        now: UnixTime,
    ) {
        self.fills_in(kill, session, (name, password), now).await;
        self.deps.homes.settled().await;
    }

    async fn fills_in(
        &self,
        kill: KillPosition,
        session: &str,
        (name, password): (&str, &str),
        now: UnixTime,
    ) {
        let policy = self.world.policy();
        let body = format!("next=%2F&username={name}&password={password}");
        let typed = policy.typed().unwrap().read(None, body.as_bytes()).unwrap();
        let session: HeaderMap = headers(&[("cookie", &format!("OLDSID={session}"))]);
        let gate = Gate::new(self.deps.clone());
        let way = (&self.world.facts(), &self.world.channel());
        let said = gate.signed_in_by_form(&policy, (&session, typed), way, kill, now);
        said.await;
    }
}

impl Instance<'_> {
    /// A page is opened with these cookies.
    pub(super) async fn opens(&self, cookies: &str, now: UnixTime) -> String {
        let policy = self.world.policy();
        let headers = headers(&[("cookie", cookies)]);
        let presented = extract(&headers, None, policy.owners(), &[]);
        let presented = presented.unwrap().expect("a session");
        let gate = Gate::new(self.deps.clone());
        let way = (&self.world.facts(), &self.world.channel());
        let said = gate.admit(&policy, 0, &presented, way, KillPosition::Off, now);
        match said.await {
            Ok(admitted) => format!("{} {}", admitted.provider(), admitted.canonical().as_str()),
            Err(error) => error.to_string(),
        }
    }
}

/// none → native, W and then X: a form password of somebody who is assigned, which the old side has accepted.
#[tokio::test]
async fn a_password_of_a_form_moves_once_and_has_one_judge_from_then_on() {
    let world = with_form(FakeAccounts::default());
    let one = Instance::of(&world);
    one.typed("alice", ("alice", "secret"), at(0)).await;
    let moved = ["find alice", "create alice", "set alice", "check alice"];
    assert_eq!(one.accounts().calls(), moved);
    assert_eq!(one.told("moved"), 1);
    let alice = CanonicalSubject::named("hr:alice").unwrap();
    let id = &world.plan.as_ref().unwrap().id;
    let pin = one.deps.pins.of(id, &alice, at(1));
    assert_eq!(pin.await.unwrap().unwrap().arm, Arm::To);
    // The form once more, the same or with what was typed before a change: also at another instance.
    for instance in [&one, &Instance::of(&world)] {
        instance.typed("alice", ("alice", "secret"), at(2)).await;
        instance.typed("alice", ("alice", "other"), at(120)).await;
    }
    assert_eq!((one.accounts().calls(), one.told("moved")), (vec![], 1));
    // What comes with requests is judged there, too.
    let asked = world.old.asked();
    assert_eq!(one.ask("alice", "secret", at(3)).await, "new hr:alice");
    assert_eq!(one.accounts().calls(), ["check alice"]);
    assert_eq!(world.old.asked(), asked, "nobody asked the old side");
}

#[tokio::test]
async fn what_is_typed_moves_nobody_whom_the_old_side_has_not_signed_in() {
    let world = with_form(FakeAccounts::default().with("alice", None));
    let one = Instance::of(&world);
    for session in ["bad", "disabled", "down", ""] {
        one.typed(session, ("alice", "secret"), at(0)).await;
    }
    assert_eq!(one.accounts().calls(), [""; 0]);
    assert_eq!((one.told("refused"), one.told("unavailable")), (0, 1));
    // It was typed for somebody else than whose session came of it, or not as the old side writes the name.
    for (count, (session, name)) in [("bob", "alice"), ("alice", "ALICE"), ("alice", "alice+")]
        .into_iter()
        .enumerate()
    {
        one.typed(session, (name, "secret"), at(0)).await;
        assert_eq!(one.accounts().calls(), [""; 0], "{session} {name}");
        let count = u64::try_from(count).unwrap();
        assert_eq!((one.told("refused"), one.told("moved")), (count + 1, 0));
    }
}

/// Of what the old side says of its person, one thing is the name that they type.
#[tokio::test]
async fn a_name_is_compared_with_the_one_claim_that_holds_it() {
    let mut world = with_form(FakeAccounts::default());
    *world.old.verdict.lock().unwrap() = Arc::new(|_| {
        let mut identity = identity("old", "1001");
        let mut attributes = (*identity.attributes).clone();
        attributes.insert("login", "alice".into());
        attributes.insert("email", "alice@corp.example".into());
        attributes.insert("name", "mallory".into());
        attributes.insert("groups", serde_json::json!(["bob"]));
        identity.attributes = Arc::new(attributes);
        Ok(Authenticated::for_test(identity, at(100_000)))
    });
    let mut refused = 0;
    for claim in [None, Some("login"), Some("groups"), Some("nothing")] {
        let fields = world.fields.get_mut(&ProviderId::new("old")).unwrap();
        fields.claim = claim.map(Into::into);
        let one = Instance::of(&world);
        for name in ["alice@corp.example", "mallory", "bob", "1001", "alice"] {
            let is = matches!((claim, name), (None, "1001") | (Some("login"), "alice"));
            if is {
                continue;
            }
            one.typed("S1", (name, "secret"), at(0)).await;
            refused += 1;
            assert_eq!(one.accounts().calls(), [""; 0], "{claim:?} {name}");
            assert_eq!(one.told("refused"), refused, "{claim:?} {name}");
        }
    }
    let fields = world.fields.get_mut(&ProviderId::new("old")).unwrap();
    fields.claim = Some("login".into());
    let one = Instance::of(&world);
    one.typed("S1", ("alice", "secret"), at(0)).await;
    assert_eq!(one.told("moved"), 1);
}

#[tokio::test]
async fn nobody_moves_by_a_form_who_is_not_assigned_or_while_the_switch_stands_elsewhere() {
    let mut world = with_form(FakeAccounts::default());
    for kill in [
        KillPosition::Freeze,
        KillPosition::Legacy,
        KillPosition::Modern,
        KillPosition::Deny,
    ] {
        let one = Instance::of(&world);
        one.typed_under(kill, "alice", ("alice", "secret"), at(0))
            .await;
    }
    world.plan.as_mut().unwrap().stage.passwords = rollout::Passwords::Kept;
    let one = Instance::of(&world);
    one.typed("alice", ("alice", "secret"), at(0)).await;
    world.plan.as_mut().unwrap().stage.passwords = rollout::Passwords::Moving;
    world.plan.as_mut().unwrap().stage.assign.clear();
    let one = Instance::of(&world);
    one.typed("alice", ("alice", "secret"), at(0)).await;
    one.typed("alice", ("bob", "secret"), at(0)).await;
    assert_eq!(one.accounts().calls(), [""; 0]);
    assert_eq!((one.told("moved"), one.told("refused")), (0, 0));
}

#[tokio::test]
async fn what_was_chosen_there_is_not_overwritten_by_a_form_and_a_refusal_is_not_repeated() {
    let world = with_form(FakeAccounts::default().with("alice", Some("other")));
    let one = Instance::of(&world);
    one.typed("alice", ("alice", "secret"), at(0)).await;
    assert_eq!(one.accounts().calls(), ["find alice", "check alice"]);
    assert_eq!(one.told("refused"), 1);
    one.typed("alice", ("alice", "secret"), at(3_599)).await;
    assert_eq!(one.accounts().calls(), [""; 0], "not for an hour");

    let world = with_form(FakeAccounts::default().with("alice", None));
    let one = Instance::of(&world);
    *one.accounts().policy.lock().unwrap() = Some(Outage::Http5xx.into());
    one.typed("alice", ("alice", "secret"), at(0)).await;
    assert_eq!(one.told("unavailable"), 1);
    *one.accounts().policy.lock().unwrap() = None;
    one.typed("alice", ("alice", "secret"), at(60)).await;
    assert_eq!(one.told("moved"), 1);
}

#[tokio::test]
async fn of_many_forms_at_once_one_takes_the_password_along_and_there_is_a_bound() {
    let world = with_form(FakeAccounts::default());
    let one = Instance::of(&world);
    let who = ("alice", "secret");
    let many = (0..8).map(|_| one.fills_in(KillPosition::Off, "alice", who, at(0)));
    futures_util::future::join_all(many).await;
    one.deps.homes.settled().await;
    let calls = one.accounts().calls();
    let count = |what: &str| calls.iter().filter(|call| call.starts_with(what)).count();
    assert_eq!((count("create"), count("set")), (1, 1), "{calls:?}");
    // Enough are under way: nobody is asked about another one.
    let room: Vec<_> = std::iter::from_fn(|| one.deps.homes.room()).collect();
    let asked = world.old.asked();
    one.fills_in(KillPosition::Off, "bob", ("bob", "secret"), at(0))
        .await;
    assert_eq!(world.old.asked(), asked);
    assert_eq!(one.told("unavailable"), 1);
    drop(room);
}

#[tokio::test]
async fn who_moves_by_the_form_goes_on_with_the_session_that_it_gave_and_with_no_other() {
    let mut world = with_form(FakeAccounts::default());
    world.wraps = true;
    let one = Instance::of(&world);
    one.typed("alice", ("alice", "secret"), at(0)).await;
    assert_eq!(one.told("moved"), 1);
    // Also beside one of ours that was over before.
    let ours = format!("{COOKIE}={}", "A".repeat(43));
    for cookies in ["OLDSID=alice", &format!("{ours}; OLDSID=alice")] {
        assert_eq!(one.opens(cookies, at(1)).await, "old hr:alice", "{cookies}");
    }
    // The next sign-in is at the new side, whatever the form of the old one gave meanwhile.
    one.typed("ALICE", ("alice", "secret"), at(2)).await;
    for _ in 0..2 {
        let said = one.opens(&format!("{ours}; OLDSID=ALICE"), at(3)).await;
        assert!(said.contains("inactive"), "{said}");
    }
    assert_eq!(one.opens("OLDSID=alice", at(3)).await, "old hr:alice");
}
