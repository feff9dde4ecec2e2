//! Exercises in the real program: judged by what was seen, recorded, and asked for by a stage.

use crate::control::authferry;
use crate::control::goes_to;
use crate::control::good;
use crate::control::records;
use crate::control::staged;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::until;
use crate::report::signed_in;

#[tokio::test(flavor = "multi_thread")]
async fn exercises_are_judged_recorded_and_asked_for() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let text = staged(&old, &new, &upstream);
    let asked = "mode: legacy-only, promote: { require: { drills_passed: [jwks-rotation, bad-token-format] } }";
    let text = text.replace("mode: legacy-only", asked);
    let text = format!("{text}cohorts: {{ staff: {{ subjects: [uid-ann] }} }}\n");
    let proxy = Proxy::start(&text);
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    let drill = |name: &str, more: &[&str]| {
        let words = [&["drill", name, "--reason", "IAM-1"], more].concat();
        authferry(&dir, &words)
    };
    let (done, said) = drill("bad-token-format", &[]);
    assert!(!done, "it has not begun: {said}");
    good(&dir, &["ctl", "start", "--reason", "a"]);
    let (done, said) = authferry(&dir, &["ctl", "promote", "--reason", "b"]);
    assert!(
        !done && said.contains("drill jwks-rotation has not passed"),
        "{said}"
    );
    for name in ["bad-token-format", "jwks-rotation"] {
        let (passed, said) = drill(name, &[]);
        assert!(passed && said.contains("were refused"), "{said}");
    }
    good(&dir, &["ctl", "promote", "--reason", "c"]);
    // An outage is for the people of its cohort, and for a while.
    let (done, said) = drill("modern-outage", &["--cohort", "nobody", "--for", "2s"]);
    assert!(!done && said.contains("no cohort"), "{said}");
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "d"]);
    let comes = async |who: &str| {
        let bearer = format!("Bearer {}", new.token(who));
        let given = [("Authorization", bearer.as_str())];
        request(proxy.address, "GET", "/", &given, b"").await.status
    };
    until(async || comes("ann").await == 200).await;
    let outage = {
        let dir = dir.clone();
        let words = [
            "drill",
            "modern-outage",
            "--cohort",
            "staff",
            "--for",
            "5s",
            "--reason",
            "x",
        ];
        std::thread::spawn(move || authferry(&dir, &words))
    };
    until(async || comes("ann").await == 503).await;
    assert_eq!(comes("bob").await, 200);
    until(async || comes("ann").await == 200).await;
    let (passed, said) = outage.join().unwrap();
    assert!(passed, "{said}");
    let ends: Vec<String> = records(&dir)
        .iter()
        .filter(|record| record["kind"] == "drill" && record["state"] != "running")
        .map(|record| format!("{} {}", record["drill"], record["state"]))
        .collect();
    assert_eq!(
        ends,
        [
            r#""bad-token-format" "passed""#,
            r#""jwks-rotation" "passed""#,
            r#""modern-outage" "passed""#
        ]
    );
    assert!(good(&dir, &["log", "verify"]).starts_with("ok "));
}

/// Both providers have passwords at their token endpoints; people of an address are known before they sign in.
fn ready(old: &Idp, new: &Idp, upstream: &Echo, asked: &str) -> String {
    let text = staged(old, new, upstream);
    let asked =
        format!("mode: legacy-only, promote: {{ require: {{ drills_passed: [{asked}] }} }}");
    let text = text.replace("mode: legacy-only", &asked);
    format!(
        r#"{text}cohorts:
  here: {{ cidr: [127.0.0.0/8] }}
  staff: {{ subjects: [uid-ann] }}
  testers: {{ subjects: [uid-zoe, uid-tina, uid-t0, uid-t1, uid-t2, uid-t3, uid-t4, uid-t5, uid-t6, uid-t7] }}
drills: {{ test_accounts: testers }}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_measured_with_test_accounts_and_with_nobody_elses() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&ready(&old, &new, &upstream, "\"provider-load:10\""));
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    good(&dir, &["ctl", "start", "--reason", "a"]);
    let load = |rps: &str, accounts: Option<&str>, more: &[&str]| {
        let mut words = vec!["drill", "provider-load", "--reason", "IAM-1", "--for", "2s"];
        words.extend(["--rps", rps]);
        let file = dir.join("accounts.csv");
        if let Some(text) = accounts {
            std::fs::write(&file, text).unwrap();
            words.extend(["--accounts", file.to_str().unwrap()]);
        }
        authferry(&dir, &[words.as_slice(), more].concat())
    };
    let before = new.hits("/token");
    let (done, said) = load("20", None, &[]);
    assert!(!done && said.contains("test accounts are needed"), "{said}");
    let (done, said) = load("501", Some("username,password\nuid-tina,x\n"), &[]);
    assert!(!done && said.contains("at most 500"), "{said}");
    assert_eq!(new.hits("/token"), before, "nothing was asked");
    new.chooses("uid-tina", "hunter2x");
    let (done, said) = load(
        "10",
        Some("username,password\nuid-tina,hunter2x\nuid-tom,wrong\n"),
        &[],
    );
    assert!(
        !done && said.contains("test account 2: credential rejected"),
        "{said}"
    );
    assert_eq!(
        new.hits("/token"),
        before + 2,
        "a wrong password is sent once"
    );
    // Somebody who was never here, and is no test account either.
    new.chooses("uid-real", "hunter2x");
    let (done, said) = load("10", Some("username,password\nuid-real,hunter2x\n"), &[]);
    assert!(!done && said.contains("test account 1 is none"), "{said}");
    assert_eq!(new.hits("/token"), before + 3, "and nothing more was sent");
    let mut right = String::from("username,password\n");
    for n in 0..8 {
        new.chooses(&format!("uid-t{n}"), "hunter2x");
        right += &format!("uid-t{n},hunter2x\n");
    }
    // On a busy machine a call may begin late, and that is said.
    let passes = |rps: &str, more: &[&str]| {
        let tries = (0..5).map(|_| load(rps, Some(&right), &[&["--p99", "10s"], more].concat()));
        let mut tries = tries.skip_while(|(done, said)| !done && said.contains("began late"));
        let (done, said) = tries.next().unwrap();
        assert!(done, "{said}");
        said
    };
    let view: serde_json::Value =
        serde_json::from_str(&passes("5", &["--format", "json"])).unwrap();
    let load_of = |name: &str| view["load"][name].clone();
    assert_eq!((load_of("sent"), load_of("good")), (10.into(), 10.into()));
    assert!(load_of("millis")["p99"].as_f64().unwrap() > 0.0);
    let (done, said) = authferry(&dir, &["ctl", "promote", "--reason", "b"]);
    assert!(
        !done && said.contains("drill provider-load:10 has not passed"),
        "{said}"
    );
    assert!(passes("10", &[]).contains("answers a second"));
    good(&dir, &["ctl", "promote", "--reason", "c"]);
    let told = records(&dir);
    let told: Vec<_> = told
        .iter()
        .filter(|record| record["state"] == "passed")
        .collect();
    assert_eq!(told.len(), 2);
    assert_eq!(
        (&told[1]["drill"], &told[1]["load"]["sent"]),
        (&"provider-load:10".into(), &20.into())
    );
    let ledger = std::fs::read_to_string(dir.join("state/decisions.jsonl")).unwrap();
    assert!(
        !ledger.contains("hunter2x") && !ledger.contains("tina"),
        "{ledger}"
    );
    assert!(!proxy.log().contains("hunter2x"));
    // What says that it is too much is not asked much more, and no breaker that people depend on has seen it.
    let circuit = "authferry_provider_circuit_state{provider=\"new\"} ";
    let open = proxy.metric(circuit).await;
    new.fail_with(Some(429));
    let (done, said) = load("10", Some(&right), &[]);
    assert!(!done && said.contains("test account 1"), "{said}");
    new.fail_with(None);
    assert!((proxy.metric(circuit).await - open).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cohort_meets_a_slow_provider_an_outage_at_its_sign_in_and_a_way_back() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&ready(&old, &new, &upstream, "slow"));
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    good(&dir, &["ctl", "start", "--reason", "a"]);
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "b"]);
    let drill = |name: &'static str, more: &'static [&'static str]| {
        let dir = dir.clone();
        std::thread::spawn(move || {
            let words = [&["drill", name, "--reason", "IAM-1"], more].concat();
            authferry(&dir, &words)
        })
    };
    let refused = |name: &'static str, more: &'static [&'static str], why: &str| {
        let (done, said) = drill(name, more).join().unwrap();
        assert!(!done && said.contains(why), "{name}: {said}");
    };
    let to_staff = &["--cohort", "staff", "--for", "2s"];
    refused("rollback", to_staff, "after a sign-in only");
    refused(
        "introspection-garbage",
        to_staff,
        "is not asked about credentials",
    );
    refused("slow:31s", to_staff, "at most 30 s");
    refused("jwks-rotation", to_staff, "says nothing to");
    refused("slow", &["--cohort", "staff"], "for how long");
    // Slow: they come in, and later.
    let slow = drill("slow:700ms", &["--cohort", "staff", "--for", "4s"]);
    let comes = async |who: &str| {
        let bearer = format!("Bearer {}", new.token(who));
        let given = [("Authorization", bearer.as_str())];
        let began = tokio::time::Instant::now();
        let answer = request(proxy.address, "GET", "/", &given, b"").await;
        (answer.status, began.elapsed().as_millis())
    };
    until(async || {
        let (status, took) = comes("ann").await;
        assert_eq!(status, 200);
        700 <= took
    })
    .await;
    let (passed, said) = slow.join().unwrap();
    assert!(passed && said.contains("waited 700 ms longer"), "{said}");
    // An outage is met by who signs in, too, if that is known before.
    let gone = drill("keys-gone", &["--cohort", "here", "--for", "5s"]);
    let navigation = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")];
    let signs_in = async || {
        request(proxy.address, "GET", "/", &navigation, b"")
            .await
            .status
    };
    until(async || signs_in().await == 503).await;
    let (passed, said) = gone.join().unwrap();
    assert!(
        passed && said.contains("keys_unavailable") && said.contains("sign-ins met it"),
        "{said}"
    );
    assert!(goes_to(&proxy, &new).await);
    let back = drill("rollback", &["--cohort", "here", "--for", "5s"]);
    until(async || goes_to(&proxy, &old).await).await;
    assert_eq!(comes("ann").await.0, 200, "who is in stays in");
    let (passed, said) = back.join().unwrap();
    assert!(passed && said.contains("began at old"), "{said}");
    assert!(goes_to(&proxy, &new).await);
    // Good tokens by a clock that is wrong.
    let accounts = dir.join("tokens.csv");
    std::fs::write(&accounts, format!("token\n{}\n", new.token("test"))).unwrap();
    for (skew, word) in [
        ("clock-skew:90s", "refused: expired"),
        ("clock-skew:10s", "within the leeway"),
    ] {
        let file = accounts.to_str().unwrap();
        let said = good(&dir, &["drill", skew, "--accounts", file, "--reason", "x"]);
        assert_eq!(said.matches(word).count(), 2, "{said}");
    }
    // Somebody who has signed in, and whose credentials leak.
    let leak = |subject: &str| {
        let words = [
            "drill",
            "credential-leak",
            "--subject",
            subject,
            "--reason",
            "x",
        ];
        authferry(&dir, &words)
    };
    let (passed, said) = leak("uid-tina");
    assert!(!passed && said.contains("nobody is signed in"), "{said}");
    // A real person stays in, whatever was typed.
    new.signs_in("bob");
    let mut bob = Browser::default();
    let start = bob.open(&proxy, "/").await;
    assert_eq!(bob.sign_in(&proxy, &start).await.status, 303);
    let (passed, said) = leak("uid-bob");
    assert!(!passed && said.contains("no test account"), "{said}");
    assert_eq!(bob.open(&proxy, "/").await.status, 200);
    signed_in(&proxy, &new, "zoe").await;
    let (passed, said) = leak("uid-zoe");
    assert!(
        passed && said.contains("1 sessions counted before, 0 after it"),
        "{said}"
    );
    assert!(good(&dir, &["log", "verify"]).starts_with("ok "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cohort_meets_an_old_side_that_is_away_a_limit_and_garbage_about_its_tokens() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let text = ready(&old, &new, &upstream, "legacy-outage");
    let issuer = format!("issuer: \"{}\",", new.issuer());
    let asked = format!("{issuer} introspect: {{ enabled: true }},");
    let proxy = Proxy::start(&text.replace(&issuer, &asked));
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    good(&dir, &["ctl", "start", "--reason", "a"]);
    for (drill, idp, seen) in [
        ("legacy-outage", &old, "met the outage"),
        ("rate-limited", &new, "met the outage"),
        ("introspection-garbage", &new, "met the outage"),
    ] {
        let tokens = ["ann", "bob"].map(|who| {
            let token = idp.token(who);
            new.opaque(&token, who);
            format!("Bearer {token}")
        });
        let comes = async |who: usize| {
            let given = [("Authorization", tokens[who].as_str())];
            request(proxy.address, "GET", "/", &given, b"").await.status
        };
        assert_eq!(comes(0).await, 200, "{drill}");
        let under_way = {
            let dir = dir.clone();
            let words = [
                "drill", drill, "--cohort", "staff", "--for", "3s", "--reason", "x",
            ];
            std::thread::spawn(move || authferry(&dir, &words))
        };
        until(async || comes(0).await == 503).await;
        assert_eq!(comes(1).await, 200, "{drill}: nobody else meets it");
        let (passed, said) = under_way.join().unwrap();
        assert!(passed && said.contains(seen), "{drill}: {said}");
        until(async || comes(0).await == 200).await;
        if drill == "legacy-outage" {
            // It was asked for.
            good(&dir, &["ctl", "promote", "--reason", "b"]);
            good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "c"]);
        }
    }
    let passed: Vec<_> = records(&dir)
        .iter()
        .filter(|record| record["state"] == "passed")
        .map(|record| record["drill"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        passed,
        ["legacy-outage", "rate-limited", "introspection-garbage"]
    );
    assert!(good(&dir, &["log", "verify"]).starts_with("ok "));
}
