//! `session_probe.login`: the form of an old application, as its file says it.

use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::mappings;

mappings! {
    /// Where a browser signs in at the old side.
    RawProbeLogin {
        /// The old side's own form. Required.
        upstream_form: RawUpstreamForm,
    }

    /// A login form of the application itself.
    RawUpstreamForm {
        /// Its path. Required.
        start: At<String>,
        /// The cookie that a login sets; one of `owns.cookies`. Where a browser has several of them, it is the one that is judged. Default: the first of them.
        success_cookie: At<String>,
        /// Where a name and a password stand in it. With them the password moves of somebody who fills it in and is assigned to `to`, as one does that comes with requests (`basic: migrate`, `carry_over: [credential]`), once the application has found it good. That is believed only where nobody was signed in before: the form's request brings no session, or `introspect` says of each that it brings, asked anew before the application sees the form, that it is none (401 or a redirect; 403 and anything else is no such word). Then the application answers 301, 302 or 303, which leads elsewhere than to the form, with another value of the success cookie than any that came, and `introspect`, asked about that, names somebody whose name is the one that was typed, byte for byte. Whoever is at a second factor then is not named yet, and does not move. The field must hold the password as the person typed it, and nothing else: not one that a script has hashed, nor one with a code of a second factor behind it; and the path must take no other sign-in (a code by text message, a password of the help desk that opens every account). An application must not answer a wrong password like that, whatever else signs somebody in: see `remembered`. Only what a page of the application itself sends counts (`Origin`, `Sec-Fetch-Site`), as `application/x-www-form-urlencoded` in UTF-8, of a `Content-Length` of at most 16 KiB; anything else (in chunks, compressed, in parts, with two names or two passwords, also in the address or in another spelling, with a field there that has the name of a session cookie) passes and moves nobody, and so do forms that come at the same time with one session. A form passes unchanged; where it brings a session it waits for `introspect`, for 2 s at most. Nothing is seen of a form that another proxy forwards (`forward_auth`). Default: passwords in the form are not looked at.
        fields: RawFormFields,
    }

    /// Where a name and a password stand in the form of an old application.
    RawFormFields {
        /// The path that the form is sent to. Default: that of `start`.
        action: At<String>,
        /// The field of the name. Default `username`.
        username: At<String>,
        /// The field of the password. Default `password`.
        password: At<String>,
        /// Which of `claims` is the name that people type. Only a text that is the same byte for byte counts, and nothing else that the application says of them. Default: `subject`.
        claim: At<String>,
        /// Cookies by which the application signs people in again without a password ("remember me"), so that it need not look at the one that is typed. A form that comes with one of them moves nobody. Required: one that is left out lets move what nobody has judged; where there is no such cookie, say so by a name that none has (`[none]`). Usual names are `remember_me`, `remember-me`, `rememberMe`, `REMEMBERME`, `remember_token` and `remember_user_token`.
        remembered: List<At<String>>,
    }
}
