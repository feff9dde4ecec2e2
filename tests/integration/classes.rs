//! What two tokens of one person may differ in, in the real program: each difference is told by its class.

use serde_json::Value;
use serde_json::json;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::now;
use crate::harness::request;
use crate::reload::until;
use crate::report::report;
use crate::report::rows;
use crate::shadow::tokens;

#[tokio::test(flavor = "multi_thread")]
async fn each_difference_of_two_tokens_is_told_by_its_class() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let verify = "verify: { audiences: [app]";
    let acr = "assurance: { acr_claim: acr, map: { \"1\": pwd, \"2\": mfa } }, verify: { audiences: [app]";
    let all = "compare: [decision, subject, groups, scopes, assurance, lifetime]";
    let text = tokens(&old, &new, &upstream)
        .replace(verify, acr)
        .replace("compare: [decision, subject, groups]", all);
    // Nothing is exchanged: what stands beside is all that is compared.
    let (head, tail) = text.split_once("      - { method: exchange").unwrap();
    let (_, tail) = tail.split_once('\n').unwrap();
    let (before, twin) = head.split_once("  twin: ").unwrap();
    let (_, after) = twin.split_once('\n').unwrap();
    let proxy = Proxy::start(&format!("{before}{after}{tail}"));
    proxy.settled().await;
    let ends = now() + 250;
    let rows_wanted = [
        (
            "ann",
            json!({ "scope": "read" }),
            json!({ "scope": "read" }),
            None,
        ),
        (
            "bob",
            json!({ "scope": "read write" }),
            json!({ "scope": "read" }),
            Some("scope_missing"),
        ),
        (
            "cid",
            json!({ "scope": "read" }),
            json!({ "scope": "read write" }),
            Some("scope_extra"),
        ),
        (
            "dan",
            json!({ "acr": "2" }),
            json!({ "acr": "1" }),
            Some("assurance_lower"),
        ),
        (
            "eve",
            json!({ "acr": "1" }),
            json!({ "acr": "2" }),
            Some("assurance_higher"),
        ),
        (
            "fay",
            json!({ "exp": ends }),
            json!({ "exp": ends - 125 }),
            Some("lifetime"),
        ),
        (
            "gil",
            json!({ "exp": ends }),
            json!({ "exp": ends + 10 }),
            None,
        ),
        (
            "hal",
            json!({ "groups": ["users", "it"] }),
            json!({}),
            Some("groups_missing"),
        ),
        (
            "ida",
            json!({}),
            json!({ "groups": ["users", "it"] }),
            Some("groups_extra"),
        ),
    ];
    let token = |idp: &Idp, who: &str, changed: &Value| {
        let mut own = idp.claims(who);
        own.extend(changed.as_object().unwrap().clone());
        format!("Bearer {}", idp.sign(&own))
    };
    let compared = async || {
        let mut all = 0.0;
        for result in ["same", "different"] {
            let series = format!(
                "authferry_shadow_comparisons_total{{app=\"crm\",oracle=\"dual_token\",result=\"{result}\"}} "
            );
            all += proxy.metric(&series).await;
        }
        all as usize
    };
    let told = || -> Vec<Value> {
        let found = report(&proxy, &["divergences"]);
        let rows = rows(&found, "Differences").into_iter();
        rows.map(|row| json!([row["class"], row["people"]]))
            .collect()
    };
    let mut expected = Vec::new();
    for (index, (who, here, there, class)) in rows_wanted.into_iter().enumerate() {
        let (own, beside) = (token(&old, who, &here), token(&new, who, &there));
        let given = [
            ("Authorization", own.as_str()),
            ("X-Authferry-Candidate", beside.as_str()),
        ];
        let answer = request(proxy.address, "GET", "/", &given, b"").await;
        assert_eq!(answer.status, 200, "{who}");
        until(async || compared().await == index + 1).await;
        expected.extend(class.map(|class| json!([class, 1])));
        let told = told();
        assert_eq!(told.len(), expected.len(), "{who}: {told:?}");
        assert!(
            expected.iter().all(|one| told.contains(one)),
            "{who}: {told:?}"
        );
    }
}
