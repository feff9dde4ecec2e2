//! The people of the demonstration.

/// Somebody with an account at both providers.
#[derive(Clone, Debug)]
pub(super) struct Person {
    /// What they are called.
    pub(super) name: String,
    /// What the old application knows them by.
    pub(super) number: String,
    /// Their groups, the same at both providers.
    pub(super) groups: Vec<String>,
}

impl Person {
    fn new(name: &str, number: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            number: number.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        }
    }
}

/// Two hundred people for the drill: five of the IT department, ten who volunteer, and everybody else.
pub(super) fn two_hundred() -> Vec<Person> {
    let one = |n: usize| {
        let group = match n {
            0..5 => "it",
            5..15 => "testers",
            _ => "customers",
        };
        Person::new(&format!("p{n:03}"), &format!("{}", 20_000 + n), &[group])
    };
    (0..200).map(one).collect()
}

macro_rules! people {
    ($($name:literal $number:literal [$($group:literal),*];)*) => {
        /// The forty of the demonstration.
        pub(super) fn forty() -> Vec<Person> {
            vec![$(Person::new($name, $number, &[$($group),*])),*]
        }
    };
}

people! {
    "alice" "1001" ["staff", "it"]; "bob" "1002" ["staff"]; "carol" "1003" ["customers"]; "dave" "1004" ["customers"];
    "erin" "1005" ["customers"]; "frank" "1006" ["customers"]; "grace" "1007" ["customers"]; "heidi" "1008" ["customers"];
    "ivan" "1009" ["customers"]; "judy" "1010" ["customers"]; "karl" "1011" ["customers"]; "laura" "1012" ["customers"];
    "mallory" "1013" ["customers"]; "niaj" "1014" ["customers"]; "olivia" "1015" ["customers"]; "peggy" "1016" ["customers"];
    "quentin" "1017" ["customers"]; "rupert" "1018" ["customers"]; "sybil" "1019" ["customers"]; "trent" "1020" ["customers"];
    "ursula" "1021" ["customers"]; "victor" "1022" ["customers"]; "walter" "1023" ["customers"]; "xenia" "1024" ["customers"];
    "yves" "1025" ["customers"]; "zoe" "1026" ["customers"]; "anna" "1027" ["customers"]; "boris" "1028" ["customers"];
    "chen" "1029" ["customers"]; "dora" "1030" ["customers"]; "emil" "1031" ["customers"]; "fatima" "1032" ["customers"];
    "gustav" "1033" ["customers"]; "hana" "1034" ["customers"]; "igor" "1035" ["customers"]; "jamila" "1036" ["customers"];
    "kofi" "1037" ["customers"]; "lena" "1038" ["customers"]; "mateo" "1039" ["customers"]; "nora" "1040" ["customers"];
}
