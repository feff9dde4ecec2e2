//! The people of the demonstration.

/// Somebody with an account at both providers.
#[derive(Debug)]
pub(super) struct Person {
    /// What they are called.
    pub(super) name: &'static str,
    /// What the old application knows them by.
    pub(super) number: &'static str,
    /// Their groups, the same at both providers.
    pub(super) groups: &'static [&'static str],
}

macro_rules! people {
    ($($name:literal $number:literal [$($group:literal),*];)*) => {
        /// Everybody.
        pub(super) const PEOPLE: &[Person] = &[$(Person { name: $name, number: $number, groups: &[$($group),*] }),*];
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

/// The person called `name`.
pub(super) fn person(name: &str) -> Option<&'static Person> {
    PEOPLE.iter().find(|p| p.name == name)
}
