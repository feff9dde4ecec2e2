//! `session_probe.login`: the form of an old application, as its file says it.

use crate::config::shape::At;
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
        /// Where a name and a password stand in it. With them the password moves of somebody who fills it in and is assigned to `to`, as one does that comes with requests (`basic: migrate`, `carry_over: [credential]`), once the application has found it good: it answers 301, 302 or 303, which leads elsewhere than to the form, with a new value of the success cookie, and `introspect` names somebody whom `claims` call by the name that was typed. So an application must not answer a wrong password like that, whatever else signs somebody in. Only what a page of the application itself sends counts (`Origin`, `Sec-Fetch-Site`), as `application/x-www-form-urlencoded` in UTF-8, of at most 16 KiB; it passes unchanged and at once, and anything else passes and moves nobody. Nothing is seen of a form that another proxy forwards (`forward_auth`). Default: passwords in the form are not looked at.
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
    }
}
