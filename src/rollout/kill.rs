//! The kill switch: positions and scopes. It stands outside the configuration.

use std::collections::BTreeMap;
use std::fmt;

use crate::rollout::stage::RolloutId;

/// A position of the kill switch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KillPosition {
    /// No effect.
    #[default]
    Off,
    /// Nothing moves by itself: who is where stays as the stage says.
    Freeze,
    /// All new logins and password checks at `from`.
    Legacy,
    /// All at `to`; credentials of `from` are quarantined.
    Modern,
    /// Everything is answered 503.
    Deny,
}

/// All inputs combined: the global position and one per rollout. The most restrictive wins.
///
/// Written out it is the text that [`KillState::parse`] reads.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KillState {
    /// For every rollout.
    pub global: KillPosition,
    /// For one rollout.
    pub rollouts: BTreeMap<RolloutId, KillPosition>,
}

impl KillPosition {
    /// Every position, mildest first.
    pub const ALL: [Self; 5] = [
        Self::Off,
        Self::Freeze,
        Self::Legacy,
        Self::Modern,
        Self::Deny,
    ];

    /// `deny` > `modern`/`legacy` > `freeze` > `off`; `modern` and `legacy` together are `deny`.
    #[must_use]
    pub const fn combine(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deny, _)
            | (_, Self::Deny)
            | (Self::Legacy, Self::Modern)
            | (Self::Modern, Self::Legacy) => Self::Deny,
            (Self::Modern, Self::Modern | Self::Freeze | Self::Off)
            | (Self::Freeze | Self::Off, Self::Modern) => Self::Modern,
            (Self::Legacy, Self::Legacy | Self::Freeze | Self::Off)
            | (Self::Freeze | Self::Off, Self::Legacy) => Self::Legacy,
            (Self::Freeze, Self::Freeze | Self::Off) | (Self::Off, Self::Freeze) => Self::Freeze,
            (Self::Off, Self::Off) => Self::Off,
        }
    }

    /// The word used in the file, the API and the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Freeze => "freeze",
            Self::Legacy => "legacy",
            Self::Modern => "modern",
            Self::Deny => "deny",
        }
    }

    /// The position called `word`, in any ASCII case: whoever types it is in a hurry.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|position| position.as_str().eq_ignore_ascii_case(word))
    }
}

impl fmt::Display for KillPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl KillState {
    /// Reads the kill file: lines of `POSITION [rollout=ID]`, empty lines, and comments after `#`. Several lines about
    /// one scope are combined; an empty file is `off`. What cannot be read is an error that names the line; the caller
    /// keeps the last good state.
    ///
    /// A rollout that does not exist cannot be told here: the caller compares [`KillState::rollouts`] with what runs.
    ///
    /// # Errors
    ///
    /// The number of the line, from 1, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut state = Self::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            let wrong = |what: String| (index + 1, what);
            let content = line.split_once('#').map_or(line, |(content, _)| content);
            let mut words = content.split_ascii_whitespace();
            let Some(word) = words.next() else {
                continue;
            };
            let position = KillPosition::parse(word).ok_or_else(|| {
                wrong(format!(
                    "`{}` is not a position: off, freeze, legacy, modern or deny",
                    word.escape_debug()
                ))
            })?;
            let scope = match words.next() {
                None => &mut state.global,
                Some(scope) => match scope.strip_prefix("rollout=") {
                    Some(id) if !id.is_empty() => {
                        state.rollouts.entry(RolloutId::new(id)).or_default()
                    }
                    Some(_) | None => {
                        let scope = scope.escape_debug();
                        return Err(wrong(format!("`{scope}` is not a scope: rollout=ID")));
                    }
                },
            };
            *scope = scope.combine(position);
            if let Some(rest) = words.next() {
                let rest = rest.escape_debug();
                return Err(wrong(format!(
                    "`{rest}` follows the position and its scope"
                )));
            }
        }
        Ok(state)
    }

    /// The position that holds for one rollout.
    pub fn position(&self, rollout: &RolloutId) -> KillPosition {
        let own = self.rollouts.get(rollout).copied().unwrap_or_default();
        self.global.combine(own)
    }

    /// Both inputs together.
    #[must_use]
    pub fn combine(&self, other: &Self) -> Self {
        let mut rollouts = self.rollouts.clone();
        for (id, position) in &other.rollouts {
            let own = rollouts.entry(id.clone()).or_default();
            *own = own.combine(*position);
        }
        Self {
            global: self.global.combine(other.global),
            rollouts,
        }
    }
}

impl fmt::Display for KillState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.global)?;
        for (id, position) in &self.rollouts {
            writeln!(f, "{position} rollout={id}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use KillPosition::*;
    use proptest::prelude::*;

    fn crm() -> RolloutId {
        RolloutId::new("crm-2026")
    }

    #[test]
    fn reads_what_an_operator_writes_in_a_hurry() {
        for (text, global, of_crm) in [
            ("", Off, Off),
            ("\n", Off, Off),
            ("legacy\n", Legacy, Legacy),
            ("LEGACY", Legacy, Legacy),
            ("\u{feff}deny\r\n", Deny, Deny),
            ("freeze # until IAM-1533\n", Freeze, Freeze),
            ("# nothing yet\n\n  off  \n", Off, Off),
            ("legacy rollout=crm-2026\n", Off, Legacy),
            ("freeze\nlegacy\trollout=crm-2026\n", Freeze, Legacy),
            ("modern\nlegacy rollout=crm-2026\n", Modern, Deny),
            ("legacy\nlegacy rollout=erp\n", Legacy, Legacy),
            ("off rollout=crm-2026\ndeny\n", Deny, Deny),
        ] {
            let state = KillState::parse(text).unwrap();
            assert_eq!(state.global, global, "{text:?}");
            assert_eq!(state.position(&crm()), of_crm, "{text:?}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        for (text, line, what) in [
            ("legcay\n", 1, "`legcay` is not a position"),
            (
                "legacy\n\nrollout=crm deny\n",
                3,
                "`rollout=crm` is not a position",
            ),
            ("deny rolout=crm\n", 1, "`rolout=crm` is not a scope"),
            ("deny rollout=\n", 1, "`rollout=` is not a scope"),
            ("deny rollout=a b\n", 1, "`b` follows"),
            ("deny \u{1b}[2J", 1, "`\\u{1b}[2J` is not a scope"),
        ] {
            let (at, why) = KillState::parse(text).unwrap_err();
            assert_eq!(at, line, "{text:?}");
            assert!(why.starts_with(what), "{text:?}: {why}");
        }
    }

    #[test]
    fn two_opposite_orders_stop_everything() {
        assert_eq!(Legacy.combine(Modern), Deny);
        assert_eq!(Freeze.combine(Legacy), Legacy);
        assert_eq!(Off.combine(Freeze), Freeze);
    }

    fn position() -> impl Strategy<Value = KillPosition> {
        proptest::sample::select(KillPosition::ALL.as_slice())
    }

    fn state() -> impl Strategy<Value = KillState> {
        let rollouts = proptest::collection::btree_map("[a-c]", position(), 0..3);
        (position(), rollouts).prop_map(|(global, rollouts)| KillState {
            global,
            rollouts: rollouts
                .into_iter()
                .map(|(id, position)| (RolloutId::new(&id), position))
                .collect(),
        })
    }

    proptest! {
        /// In whatever order the inputs arrive, and however often, the result is the same.
        #[test]
        fn combining_is_commutative_associative_and_idempotent(a in state(), b in state(), c in state()) {
            prop_assert_eq!(a.combine(&b), b.combine(&a));
            prop_assert_eq!(a.combine(&b).combine(&c), a.combine(&b.combine(&c)));
            prop_assert_eq!(a.combine(&a), a.clone());
        }

        #[test]
        fn a_state_survives_being_written(state in state()) {
            prop_assert_eq!(KillState::parse(&state.to_string()), Ok(state));
        }

        #[test]
        fn reading_the_file_never_panics(text in "(\\PC|\\n|\\r| ){0,200}") {
            drop(KillState::parse(&text));
        }
    }
}
