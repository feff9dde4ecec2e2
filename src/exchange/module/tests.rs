//! Against SoftHSM (Debian: softhsm2), a real module: it makes the keys, and its signatures are checked like anybody's.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Map;

use super::*;
use crate::clock::UnixTime;
use crate::exchange::KeyRing;
use crate::exchange::settings::Ring;
use crate::secret::Secret;
use crate::token::KeySet;
use crate::token::verify_signature_only;

const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A token with a P-256 key `new`, an RSA key `old`, and one that is too short. SoftHSM finds it by an environment variable,
/// which a test must not change for others: hence a process of its own.
fn token(dir: &Path) {
    let objects = dir.join("tokens");
    std::fs::create_dir(&objects).unwrap();
    let conf = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        objects.display()
    );
    std::fs::write(dir.join("softhsm2.conf"), conf).unwrap();
}

fn module(keys: &[&str], pin: &str) -> Module {
    Module {
        library: PathBuf::from(LIBRARY),
        token: "ferry".into(),
        pin: Secret::new(pin.to_owned()),
        keys: keys.iter().map(|key| (*key).into()).collect(),
    }
}

/// Makes the token and its keys.
fn fill() {
    let context = Pkcs11::new(LIBRARY).expect("SoftHSM is installed (Debian: softhsm2)");
    context
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .unwrap();
    let slot = context.get_all_slots().unwrap()[0];
    let (officer, user) = (
        AuthPin::from("officer".to_owned()),
        AuthPin::from("1234".to_owned()),
    );
    context.init_token(slot, &officer, "ferry").unwrap();
    let slot = context.get_slots_with_initialized_token().unwrap()[0];
    let session = context.open_rw_session(slot).unwrap();
    session.login(UserType::So, Some(&officer)).unwrap();
    session.init_pin(&user).unwrap();
    session.logout().unwrap();
    session.login(UserType::User, Some(&user)).unwrap();
    let pair = |label: &str, mechanism: Mechanism<'_>, more: &[Attribute]| {
        let label = Attribute::Label(label.as_bytes().to_vec());
        let public = [
            &[
                label.clone(),
                Attribute::Token(true),
                Attribute::Verify(true),
            ],
            more,
        ]
        .concat();
        let private = [
            label,
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ];
        session
            .generate_key_pair(&mechanism, &public, &private)
            .unwrap();
    };
    pair(
        "new",
        Mechanism::EccKeyPairGen,
        &[Attribute::EcParams(P256.to_vec())],
    );
    let exponent = || Attribute::PublicExponent(vec![1, 0, 1]);
    let rsa = |bits: u64| [Attribute::ModulusBits(bits.into()), exponent()];
    pair("old", Mechanism::RsaPkcsKeyPairGen, &rsa(2_048));
    pair("short", Mechanism::RsaPkcsKeyPairGen, &rsa(1_024));
}

#[test]
fn a_module_signs_and_its_keys_never_leave_it() {
    const INNER: &str = "AUTHFERRY_TEST_PKCS11";
    if std::env::var_os(INNER).is_none() {
        let dir = tempfile::tempdir().unwrap();
        token(dir.path());
        let own = std::env::current_exe().unwrap();
        let name = "exchange::module::tests::a_module_signs_and_its_keys_never_leave_it";
        let done = Command::new(own)
            .args(["--exact", name, "--nocapture"])
            .env(INNER, "1")
            .env("SOFTHSM2_CONF", dir.path().join("softhsm2.conf"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr) + String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    fill();
    let now = UnixTime::from_secs(1_000_000);
    let dir = tempfile::tempdir().unwrap();
    let settings = |keys: &[&str]| Ring {
        module: Some(module(keys, "1234")),
        ..Ring::default()
    };
    let signed = |ring: &KeyRing| ring.sign("mint", "JWT", &Map::new(), now).unwrap().0;
    let published = |ring: &KeyRing| {
        let set = ring.jwks().to_string();
        assert!(!set.contains("\"d\""), "{set}");
        KeySet::from_remote(set.as_bytes()).unwrap().0
    };
    // The first signs, all are published.
    let ring = KeyRing::open(dir.path(), settings(&["new", "old"]), None, now).unwrap();
    let set = published(&ring);
    assert_eq!(set.len(), 2);
    let by_new = signed(&ring);
    assert_eq!(verify_signature_only(&by_new, &set), Ok(()));
    let views = ring.list(now);
    assert_eq!(
        (&*views[0].algorithm, views[0].state, views[1].state),
        ("ES256", "signing", "leaving")
    );
    assert!(ring.rotate(None, now).is_err(), "the operator rotates them");
    ring.tick(now);
    // Another order is another key, without a start.
    ring.configure(settings(&["old", "new"]), now);
    let by_old = signed(&ring);
    for token in [&by_new, &by_old] {
        assert_eq!(verify_signature_only(token, &published(&ring)), Ok(()));
    }
    assert_eq!(ring.list(now)[0].algorithm, "RS256");
    // What cannot be had changes nothing, and is said without the PIN.
    ring.configure(settings(&["lost"]), now);
    assert_eq!(
        verify_signature_only(&signed(&ring), &published(&ring)),
        Ok(())
    );
    for (keys, pin, said) in [
        (["lost"], "1234", "key `lost`"),
        (["short"], "1234", "less than 2048 bits"),
    ] {
        let cause = open(&module(&keys, pin))
            .map(|keys| keys.len())
            .unwrap_err();
        assert!(cause.contains(said) && !cause.contains("1234"), "{cause}");
    }
    let other = Module {
        token: "other".into(),
        ..module(&["new"], "1234")
    };
    assert!(open(&other).is_err());
    assert!(
        !dir.path().join("signing.json").exists(),
        "no key of ours was made"
    );
}
