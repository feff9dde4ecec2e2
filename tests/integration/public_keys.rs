//! What proves a key although it proves nothing else: a public client's refresh tokens, bound to that key (RFC 9449 §5).

use serde_json::json;

use crate::harness::Answer;
use crate::harness::Holder;
use crate::public_clients::DEVICE;
use crate::public_clients::DEVICE_CODE;
use crate::public_clients::INTROSPECT;
use crate::public_clients::TOKEN;
use crate::public_clients::stage;
use crate::refresh::good;
use crate::refresh::post;
use crate::token_endpoint::claims;
use crate::token_endpoint::is_error;
use crate::token_endpoint::object;

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_of_a_public_client_is_bound_to_the_key_that_it_was_asked_for_with() {
    let stage = stage(0, "").await;
    let (own, thief) = (Holder::new(), Holder::new());
    let here = ("POST", "http://app.test/.authferry/oauth2/token");
    let with = async |holder: Option<&Holder>, token: &str| {
        let proof = holder.map(|holder| holder.proof(here, None, &json!({})));
        let fields: Vec<_> = proof.iter().map(|proof| ("DPoP", proof.as_str())).collect();
        let pairs = [
            ("grant_type", "refresh_token"),
            ("client_id", "pocket"),
            ("refresh_token", token),
        ];
        stage.send(TOKEN, &fields, &pairs).await
    };
    let is_bound = |answer: &Answer| {
        assert_eq!(
            answer.status,
            200,
            "{}\n{}",
            answer.text(),
            stage.proxy.log()
        );
        let got = object(answer);
        assert_eq!(got["token_type"], json!("DPoP"));
        let cnf = &claims(&got["access_token"])["cnf"];
        assert_eq!(cnf, &json!({ "jkt": own.thumbprint() }));
        got["refresh_token"].as_str().unwrap().to_owned()
    };
    let theirs = stage.old.refresh_token("alice");
    let first = is_bound(&with(Some(&own), &theirs).await);
    // Whoever has the token without the key neither uses it nor ends it.
    is_error(&with(None, &first).await, 400, "invalid_grant");
    is_error(&with(Some(&thief), &first).await, 400, "invalid_grant");
    let who = ("api", "s3cret");
    let said = object(&post(&stage.proxy, who, INTROSPECT, &[("token", &first)]).await);
    let cnf = json!({ "jkt": own.thumbprint() });
    assert_eq!((&said["active"], &said["cnf"]), (&json!(true), &cnf));
    let second = is_bound(&with(Some(&own), &first).await);
    // Nor by one that was used already: its holder would be out.
    is_error(&with(Some(&thief), &theirs).await, 400, "invalid_grant");
    let third = is_bound(&with(Some(&own), &second).await);
    is_error(&with(Some(&own), &theirs).await, 400, "invalid_grant");
    is_error(&with(Some(&own), &third).await, 400, "invalid_grant");
    // One that was bound to nothing is bound from its first proof on.
    let (got, loose) = good(&with(None, &stage.old.refresh_token("bob")).await);
    assert_eq!(got["token_type"], json!("Bearer"));
    let bound = is_bound(&with(Some(&own), &loose).await);
    is_error(&with(None, &bound).await, 400, "invalid_grant");
    // A device that proves a key when it fetches what its person signed in for.
    let answer = stage.named("pocket", DEVICE, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let code = object(&answer)["device_code"].as_str().unwrap().to_owned();
    stage.old.types_in(Some("carol"));
    let poll = [
        ("grant_type", DEVICE_CODE),
        ("client_id", "pocket"),
        ("device_code", &*code),
    ];
    let proof = own.proof(here, None, &json!({}));
    let fetched = is_bound(&stage.send(TOKEN, &[("DPoP", &proof)], &poll).await);
    is_error(&with(Some(&thief), &fetched).await, 400, "invalid_grant");
    is_bound(&with(Some(&own), &fetched).await);
}
