//! Every way in which a session comes to be, moves and ends during a migration, and the tests that show it.
//!
//! *none* no session, *native* one of the old system itself, *old* ours backed by the old side, *moved* ours that came to the new
//! side without a sign-in, *new* signed in there, *fallback* at the old side because the new one was away, *over* ended.
//! A row whose tests are gone or renamed fails here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// From → to, when, and where it is shown: file and test.
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const LOGIN: &str = "src/auth/login/tests.rs";
const CARRY: &str = "src/auth/login/tests/carry.rs";
const MEANWHILE: &str = "src/auth/login/tests/meanwhile.rs";
const RECALLED: &str = "src/auth/login/tests/recalled.rs";
const LINKED: &str = "src/auth/login/tests/linked.rs";
const CHOOSER: &str = "src/auth/login/tests/chooser.rs";
const WRAP: &str = "src/auth/login/tests/wrap.rs";
const WRAPPED: &str = "tests/integration/wrapped.rs";
const BOTH: &str = "src/auth/login/tests/both.rs";
const PLANNED: &str = "src/auth/login/tests/planned.rs";
const LEFT: &str = "tests/integration/left.rs";
const GATE: &str = "src/auth/gate/mod.rs";
const PASSWORDS: &str = "src/auth/gate/passwords/tests.rs";
const TYPED: &str = "src/auth/gate/passwords/tests/typed.rs";
const BEFORE: &str = "src/auth/gate/passwords/tests/before.rs";
const ACCEPT: &str = "src/rollout/accept.rs";
const LASTING: &str = "tests/integration/lasting.rs";

const ROWS: &[Row] = &[
    (
        "none → old",
        "a sign-in that is assigned to the old side",
        &[(
            "tests/integration/login.rs",
            "a_person_signs_in_at_the_assigned_provider_and_lands_on_the_deep_link",
        )],
    ),
    (
        "none → native",
        "the form of the old application itself",
        &[(LOGIN, "the_old_form_is_behind_us_and_gets_the_address")],
    ),
    (
        "none → new",
        "a sign-in that is assigned to the new side; told once that the page has changed",
        &[
            (
                "tests/integration/login.rs",
                "a_person_signs_in_at_the_assigned_provider_and_lands_on_the_deep_link",
            ),
            (
                LOGIN,
                "somebody_is_told_once_that_the_sign_in_page_has_changed",
            ),
        ],
    ),
    (
        "native → native",
        "each request: the old system judges its own session",
        &[(GATE, "each_class_is_judged_by_its_owner_alone")],
    ),
    (
        "native → old",
        "a request with a live session of the old system, which gets one of ours beside it",
        &[
            (
                WRAP,
                "a_session_of_the_old_system_gets_one_of_ours_beside_it_and_is_not_asked_about_each_time",
            ),
            (
                WRAP,
                "ten_requests_at_once_make_one_session_and_so_does_a_browser_that_forgets_it",
            ),
            (WRAP, "the_cookie_beside_it_decides_whose_it_is"),
            (
                WRAPPED,
                "requests_at_once_get_one_session_which_lasts_as_long_as_the_old_one",
            ),
        ],
    ),
    (
        "old → moved",
        "assigned to the new side, which takes our word for who it is, a page is opened",
        &[
            (
                WRAPPED,
                "a_wrapped_session_becomes_one_of_the_new_provider_without_a_sign_in",
            ),
            (
                "tests/integration/moved.rs",
                "people_with_sessions_of_an_old_system_move_without_a_single_sign_in",
            ),
            (
                "tests/real/exchange.rs",
                "a_session_of_a_php_application_becomes_one_of_keycloak_without_a_second_login",
            ),
        ],
    ),
    (
        "old or native → moved",
        "assigned to the new side, which knows the person already, a page is opened",
        &[
            (
                CARRY,
                "a_session_moves_without_a_page_where_the_new_provider_knows_the_person",
            ),
            (CARRY, "a_session_of_the_old_system_itself_moves_too"),
            (
                "tests/integration/carry_over.rs",
                "a_session_moves_without_a_sign_in_and_the_application_sees_the_same_bytes",
            ),
        ],
    ),
    (
        "old → moved, meanwhile",
        "requests on their way are answered as before, and what is open goes on",
        &[
            (
                MEANWHILE,
                "what_was_on_its_way_is_answered_as_before_and_takes_nothing_of_the_new_session",
            ),
            (
                MEANWHILE,
                "whoever_signs_out_of_the_new_session_is_out_of_the_one_that_still_answers",
            ),
            (
                "tests/integration/carry_over.rs",
                "what_is_open_does_not_notice_a_move_and_ends_with_the_session_that_took_the_place",
            ),
        ],
    ),
    (
        "none → none, at the new side",
        "a password that comes with each request, of somebody who is assigned to the new side: found good at the old one, it moves",
        &[
            (
                PASSWORDS,
                "a_password_moves_once_and_is_judged_there_from_then_on",
            ),
            (
                PASSWORDS,
                "what_the_old_side_does_not_find_good_never_reaches_the_new_one",
            ),
            (
                "tests/integration/passwords.rs",
                "people_of_a_password_file_move_by_scim_and_stay_there_over_a_restart",
            ),
            (
                "tests/real/passwords.rs",
                "people_of_a_directory_come_to_keycloak_with_their_passwords_and_notice_nothing",
            ),
        ],
    ),
    (
        "none → native → old → moved",
        "the form of the old application itself, filled in by somebody who is assigned to the new side: the old side finds it good, and the pages after it are the same",
        &[(
            WRAPPED,
            "who_signs_in_by_the_form_of_the_old_application_and_is_assigned_goes_on_at_the_new_side",
        )],
    ),
    (
        "none → native → old → moved, with the password",
        "a form password of somebody who is assigned: the old application accepts it, it moves to the new side, and no other form is seen",
        &[
            (
                TYPED,
                "a_password_of_a_form_moves_once_and_has_one_judge_from_then_on",
            ),
            (
                TYPED,
                "what_is_typed_moves_nobody_whom_the_old_side_has_not_signed_in",
            ),
            (
                BEFORE,
                "only_a_clear_no_of_the_owner_says_that_nobody_is_signed_in",
            ),
            (
                "tests/integration/typed.rs",
                "who_fills_in_the_form_of_the_old_application_is_moved_with_their_password_and_sees_no_other_form",
            ),
            (
                "tests/integration/typed.rs",
                "a_form_that_is_none_or_is_not_accepted_passes_and_moves_nobody",
            ),
            (
                "tests/integration/typed.rs",
                "a_password_stays_where_it_is_unless_nobody_was_signed_in_when_it_was_typed",
            ),
            (
                "tests/real/passwords.rs",
                "who_fills_in_the_form_of_a_php_application_comes_to_keycloak_with_the_password",
            ),
        ],
    ),
    (
        "old → old",
        "the new side does not know them, or is away, or names somebody else",
        &[
            (
                CARRY,
                "whatever_else_comes_of_it_the_session_stays_as_it_is",
            ),
            (CARRY, "a_browser_that_forgets_is_sent_round_twice_a_day"),
            (WRAPPED, "whoever_cannot_be_exchanged_stays_as_they_are"),
        ],
    ),
    (
        "old → none → new",
        "it ends by itself, and the next sign-in is at the new side (row 8)",
        &[
            (
                BOTH,
                "a_session_of_the_old_side_that_has_run_out_leads_to_the_new_one_once_and_to_the_page",
            ),
            (
                "tests/integration/moved.rs",
                "two_hundred_people_move_stage_by_stage_and_nobody_signs_in_without_need",
            ),
        ],
    ),
    (
        "old → over",
        "the last stage, or the deadline of the old side (row 9); an old system is told of its own session where no application takes it any more",
        &[
            (GATE, "a_session_is_honoured_only_as_long_as_its_side_is"),
            (GATE, "a_verdict_ends_with_the_deadline_of_the_stage"),
            (
                WRAP,
                "it_lives_no_longer_than_the_old_session_and_ends_where_that_is_no_longer_honoured",
            ),
            (ACCEPT, "the_deadline_ends_everything_of_a_provider"),
            (
                PLANNED,
                "what_has_stopped_counting_for_good_ends_at_its_owner_and_its_cookie_goes",
            ),
            (
                PLANNED,
                "a_session_of_an_old_system_that_counts_nowhere_any_more_is_ended_there_once_and_its_cookie_goes",
            ),
            (
                PLANNED,
                "a_session_that_counts_for_somebody_or_somewhere_or_is_made_up_is_not_ended_at_its_system",
            ),
            (
                LEFT,
                "a_session_of_an_old_system_ends_there_once_no_application_takes_it_any_more",
            ),
        ],
    ),
    (
        "old → over",
        "the old side is closed for good",
        &[
            (
                "tests/integration/legacy.rs",
                "the_old_side_is_closed_across_a_crash_and_nobody_goes_back",
            ),
            (ACCEPT, "what_is_closed_for_good_stays_closed"),
        ],
    ),
    (
        "old → refused for minutes",
        "a brownout",
        &[
            (
                ACCEPT,
                "a_brownout_refuses_the_old_side_for_its_minutes_and_spares_the_excepted",
            ),
            (
                "tests/integration/legacy.rs",
                "a_client_that_still_needs_the_old_side_is_told_so_and_in_a_brownout_until_when",
            ),
            (
                PLANNED,
                "a_session_of_the_old_side_outlives_the_minutes_in_which_it_does_not_count",
            ),
            (
                LEFT,
                "a_browser_is_told_until_when_a_brownout_lasts_and_keeps_what_it_has",
            ),
        ],
    ),
    (
        "new → new",
        "the kill switch at `legacy`, or a rollback, where sessions are kept",
        &[
            (
                ACCEPT,
                "kill_legacy_lets_everybody_sign_in_at_from_and_keeps_sessions_of_to",
            ),
            (
                "tests/integration/moved.rs",
                "whoever_has_moved_goes_on_when_the_rollout_is_rolled_back",
            ),
        ],
    ),
    (
        "new or moved → over",
        "a rollback that revokes, by an operator or a guard (row 12)",
        &[
            (
                "tests/integration/moved.rs",
                "whoever_is_at_the_new_side_is_told_why_they_are_out_where_a_rollback_revokes",
            ),
            (
                "tests/integration/shadow.rs",
                "what_was_found_outlives_a_kill_and_sends_everybody_back",
            ),
        ],
    ),
    (
        "new → over",
        "the kill switch at `legacy`, where they are revoked",
        &[(
            "tests/integration/kill.rs",
            "the_wrong_people_are_out_for_good_where_the_switch_revokes",
        )],
    ),
    (
        "new → new",
        "the new side is away, and what it said still holds",
        &[
            (
                "tests/integration/credentials.rs",
                "known_keys_keep_working_while_the_provider_is_away",
            ),
            (GATE, "our_session_is_admitted_without_asking_anybody"),
        ],
    ),
    (
        "new → 503",
        "it must be asked and is away: nothing is lost",
        &[
            (
                "src/session/shared.rs",
                "an_owner_that_is_away_is_left_alone_as_long_as_it_asked_for_and_the_session_counts_one_period_more",
            ),
            (
                LASTING,
                "what_is_open_goes_on_while_its_provider_is_away_as_long_as_requests_would",
            ),
        ],
    ),
    (
        "none → fallback",
        "the new side is away as a whole; no page of ours says so, the application can (`{session_mark}`)",
        &[(
            LOGIN,
            "a_fallback_opens_only_for_an_outage_of_the_whole_provider_and_within_its_budget",
        )],
    ),
    (
        "fallback → new",
        "the new side is healthy again and knows its person, who opens a page; or else the next sign-in, at its end",
        &[
            (
                "src/auth/login/tests/back.rs",
                "the_session_of_a_fallback_moves_at_the_next_page_once_its_provider_is_healthy",
            ),
            (
                "src/auth/login/tests/back.rs",
                "whoever_would_have_to_sign_in_there_keeps_the_session_of_a_fallback_until_its_end",
            ),
        ],
    ),
    (
        "none → new",
        "the kill switch at `legacy`: somebody whom the old side does not know",
        &[(
            RECALLED,
            "who_has_no_account_at_the_old_side_stays_at_the_new_one_when_the_switch_sends_everybody_back",
        )],
    ),
    (
        "none → 503",
        "the kill switch at `legacy`: somebody whom the old side does not know, and the new one cannot be used",
        &[(
            RECALLED,
            "who_has_no_account_at_the_old_side_is_told_why_when_the_new_one_cannot_be_used",
        )],
    ),
    (
        "recalled → old",
        "a sign-in at the old side again: that the page is back, and whoever has a newer password at the new one, which it is",
        &[
            (
                RECALLED,
                "who_is_sent_back_is_told_once_that_the_page_from_before_is_back",
            ),
            (
                RECALLED,
                "who_has_a_newer_password_is_told_which_one_it_is_and_where_to_choose_another",
            ),
        ],
    ),
    (
        "under way at the old side → old, or → new",
        "the stage moves meanwhile: within the grace, or after it",
        &[
            (
                LOGIN,
                "a_login_begun_before_the_stage_has_its_grace_and_then_begins_anew",
            ),
            (
                ACCEPT,
                "a_login_begun_before_new_ones_were_refused_may_finish",
            ),
            (
                LOGIN,
                "who_signed_in_at_a_page_that_counts_no_more_is_asked_to_do_so_one_more_time",
            ),
        ],
    ),
    (
        "under way at the new side → new",
        "the kill switch moves to `legacy` meanwhile",
        &[(
            LOGIN,
            "the_kill_switch_steers_new_logins_and_lets_those_at_the_new_side_finish",
        )],
    ),
    (
        "under way at the new side → none → old",
        "the kill switch moves to `legacy` meanwhile, and revokes: a page says that they were signed out for security and leads to the old one",
        &[(
            "tests/integration/kill.rs",
            "the_wrong_people_are_out_for_good_where_the_switch_revokes",
        )],
    ),
    (
        "any → over",
        "the person signs out",
        &[
            (
                "src/auth/login/tests/signs_out.rs",
                "whoever_signs_out_while_the_new_session_is_written_stays_signed_out",
            ),
            (
                BOTH,
                "whoever_signs_out_with_one_of_two_sessions_of_which_the_browser_knows_one_is_out_of_both",
            ),
            (
                "src/auth/login/tests/signs_out.rs",
                "whoever_has_moved_without_a_sign_in_signs_out_at_both_providers",
            ),
            (
                "tests/integration/logout.rs",
                "a_sign_out_revokes_the_token_ends_the_old_session_and_goes_on_at_the_provider",
            ),
            (
                "tests/integration/login.rs",
                "signing_out_ends_the_session_for_a_copied_cookie_too",
            ),
        ],
    ),
    (
        "any → over",
        "a logout at either provider, or a revocation",
        &[
            (
                BOTH,
                "a_logout_that_names_a_session_of_the_old_provider_alone_ends_the_one_that_has_moved_from_it",
            ),
            (
                BOTH,
                "what_is_said_of_a_session_that_nobody_has_used_yet_is_said_of_the_one_that_it_was_given_for",
            ),
            (
                "tests/integration/logout.rs",
                "a_logout_at_one_provider_ends_what_the_other_vouched_for_and_what_is_open",
            ),
            (
                "tests/integration/revoke.rs",
                "what_a_revocation_ended_is_over_at_its_provider_and_stays_over",
            ),
        ],
    ),
    (
        "any → refused",
        "disabled at either side",
        &[
            (
                "tests/real/modern.rs",
                "somebody_disabled_at_the_new_side_does_not_get_in_there_or_elsewhere",
            ),
            (
                LASTING,
                "whom_a_provider_does_not_know_any_more_is_out_at_the_next_revalidation",
            ),
            (
                "tests/integration/denials.rs",
                "a_browser_of_somebody_whom_the_other_side_has_barred_gets_a_page_and_no_circle",
            ),
        ],
    ),
    (
        "at the new side → old, or refused",
        "the account there is joined with nobody",
        &[(
            LINKED,
            "who_has_no_partner_goes_where_the_configuration_says",
        )],
    ),
    (
        "at the old side → none → new",
        "moved before, on a device that does not know it: the refresh token that the old side issued is given back, and its own session is left to its end",
        &[
            (
                "src/rollout/assign.rs",
                "a_moved_person_on_a_new_device_signs_in_at_to_once_more",
            ),
            (
                LOGIN,
                "who_has_moved_stays_moved_on_this_device_and_on_a_fresh_one",
            ),
        ],
    ),
    (
        "at the new side → old",
        "two accounts claim one person, and the old side takes logins",
        &[(
            LINKED,
            "who_may_be_somebody_else_goes_on_at_the_old_side_once_and_without_a_page",
        )],
    ),
    (
        "at the new side → refused",
        "two accounts claim one person, and the old side takes no logins",
        &[
            (LOGIN, "a_link_conflict_is_a_page_and_no_session"),
            (
                LINKED,
                "who_may_be_somebody_else_is_refused_once_the_old_side_takes_no_logins",
            ),
            (
                LINKED,
                "a_conflict_stops_tokens_of_the_new_side_and_no_password_of_the_old_one",
            ),
        ],
    ),
    (
        "recalled → new",
        "the rollout goes on: the same people",
        &[
            (
                "src/rollout/assign.rs",
                "a_pin_of_the_present_epoch_holds_people_at_to",
            ),
            (
                "tests/real/crowd.rs",
                "a_thousand_people_move_by_percent_and_nobody_moves_back",
            ),
        ],
    ),
    (
        "none → asked → old, or → new",
        "who somebody says they are, or what they choose, decides where they sign in",
        &[
            (
                "tests/integration/chooser.rs",
                "whoever_says_who_they_are_signs_in_where_their_name_belongs",
            ),
            (
                "tests/integration/chooser.rs",
                "people_choose_where_a_rule_asks_and_move_by_it",
            ),
            (CHOOSER, "what_somebody_says_lets_nobody_in"),
        ],
    ),
    (
        "in circles → a page",
        "more than three redirects in a minute",
        &[(LOGIN, "a_browser_that_goes_round_in_circles_is_stopped")],
    ),
];

#[test]
fn every_row_is_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = BTreeMap::new();
    let mut missing = Vec::new();
    for (way, when, tests) in ROWS {
        assert!(!tests.is_empty(), "{way}, {when}: shown nowhere");
        for (file, name) in *tests {
            let text = texts
                .entry(*file)
                .or_insert_with(|| fs::read_to_string(root.join(file)).unwrap());
            if !is_test(text, name) {
                missing.push(format!("{way}, {when}: {name} is no test of {file}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// Whether a function of this name is marked as a test, is not left out, and asserts something.
fn is_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().collect();
    let head = format!("fn {name}(");
    lines.iter().enumerate().any(|(place, line)| {
        let marks = lines.iter().take(place).rev().map(|line| line.trim());
        let mut marks = marks.take_while(|line| line.starts_with('#') || line.starts_with("//"));
        line.contains(&head) && marks.any(|line| line.contains("test")) && asserts(&lines, place)
    })
}

/// Whether the function that begins in this line says what must be.
fn asserts(lines: &[&str], place: usize) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let Some(head) = lines
        .get(place)
        .filter(|head| !head.trim_end().ends_with('}'))
    else {
        return false;
    };
    let own = indent(head);
    let body = lines.iter().skip(place + 1);
    let mut body = body.take_while(|line| line.trim() != "}" || indent(line) != own);
    // Some wait until it is so, and fail if it never is.
    let says = |line: &str| line.contains("assert") || line.contains("until(");
    body.any(|line| says(line) && !line.trim_start().starts_with("//"))
}

#[test]
fn a_row_whose_test_is_gone_or_empty_is_noticed() {
    let text = "#[tokio::test(start_paused = true)]\nasync fn one() {\n    assert!(true);\n}\nfn two() {\n    assert!(true);\n}\n\
                #[test]\nfn empty() {}\nfn after() {\n    assert!(true);\n}\n#[test]\nfn emptied() {\n    let x = 1;\n    // assert!(x == 1);\n}\nfn other() {\n    assert!(true);\n}\n";
    assert!(is_test(text, "one"));
    for none in ["two", "on", "empty", "emptied"] {
        assert!(!is_test(text, none), "{none}");
    }
}
