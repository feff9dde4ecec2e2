//! A form that came back: whether it is ours, and what it asks for.

use std::collections::BTreeMap;

/// The longest reason, in bytes.
pub(super) const MAX_REASON: usize = 500;

/// What a form asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// To move the kill switch.
    Kill {
        /// Where to.
        position: String,
        /// One rollout; all if absent.
        rollout: Option<String>,
        /// Why.
        reason: String,
    },
    /// To order a rollout to do something.
    Order {
        /// Which.
        rollout: String,
        /// What: one of [`ORDERS`].
        command: &'static str,
        /// Why.
        reason: String,
    },
    /// To read the configuration again.
    Reload,
}

/// What a rollout can be ordered to do here, with what that means.
pub(super) const ORDERS: [(&str, &str); 5] = [
    ("start", "begin with the first stage"),
    (
        "promote",
        "go to the next step, now that everything it needs is there",
    ),
    ("pause", "stay in this step until somebody resumes"),
    ("resume", "go on, after a pause, a hold or a rollback"),
    ("rollback", "go back: new logins as in the step before"),
];

/// A form, read.
#[derive(Debug)]
pub(super) struct Form {
    /// What shows that the form was on a page of ours.
    pub(super) proof: String,
    /// What it asks for, or what is wrong with it.
    pub(super) wanted: Result<Wanted, String>,
}

impl Form {
    /// Reads a body.
    pub(super) fn read(body: &[u8]) -> Self {
        let mut fields = BTreeMap::new();
        let mut twice = false;
        for (name, value) in form_urlencoded::parse(body) {
            twice |= fields
                .insert(name.into_owned(), value.into_owned())
                .is_some();
        }
        let mut take = |name: &str| fields.remove(name).unwrap_or_default();
        let (proof, what) = (take("proof"), take("do"));
        let (position, rollout) = (take("position"), take("rollout"));
        let reason = take("reason").trim().to_owned();
        let wanted = match what.as_str() {
            _ if twice || !fields.is_empty() => Err("the form is not one of ours".to_owned()),
            "reload" => Ok(Wanted::Reload),
            "kill" => because(&reason).map(|()| Wanted::Kill {
                position,
                rollout: Some(rollout).filter(|name| !name.is_empty()),
                reason,
            }),
            what => match ORDERS.iter().find(|(command, _)| *command == what) {
                Some((command, _)) if position.is_empty() => {
                    because(&reason).map(|()| Wanted::Order {
                        rollout,
                        command,
                        reason,
                    })
                }
                Some(_) | None => Err("the form asks for nothing that can be done".to_owned()),
            },
        };
        Self { proof, wanted }
    }
}

/// Whatever is done here has a reason: it stands in the ledger.
fn because(reason: &str) -> Result<(), String> {
    if reason.is_empty() {
        return Err("say why: the reason is recorded".to_owned());
    }
    if MAX_REASON < reason.len() {
        return Err(format!("the reason is longer than {MAX_REASON} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_one_thing_and_why() {
        let form =
            Form::read(b"proof=p&do=kill&position=legacy&rollout=crm-2026&reason=IAM+15%2F3");
        assert_eq!(form.proof, "p");
        let wanted = Wanted::Kill {
            position: "legacy".into(),
            rollout: Some("crm-2026".into()),
            reason: "IAM 15/3".into(),
        };
        assert_eq!(form.wanted, Ok(wanted));
        assert_eq!(Form::read(b"do=reload&proof=p").wanted, Ok(Wanted::Reload));
        let order = Wanted::Order {
            rollout: "crm-2026".into(),
            command: "pause",
            reason: "x".into(),
        };
        let form = Form::read(b"do=pause&rollout=crm-2026&reason=x&proof=p");
        assert_eq!(form.wanted, Ok(order));
        for bad in [
            "",
            "do=kill&position=legacy",
            "do=kill&position=legacy&reason=++",
            "do=kill&position=off&position=deny&reason=x",
            "do=kill&position=off&reason=x&force=1",
            "do=erase&reason=x",
            "do=pause&rollout=crm-2026",
            "do=pause&rollout=crm-2026&position=off&reason=x",
            "do=set-stage&rollout=crm-2026&reason=x",
        ] {
            assert!(Form::read(bad.as_bytes()).wanted.is_err(), "{bad}");
        }
        let long = format!("do=kill&position=off&reason={}", "x".repeat(MAX_REASON + 1));
        assert!(Form::read(long.as_bytes()).wanted.is_err());
    }
}
