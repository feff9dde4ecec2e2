//! Signing keys that never leave a PKCS#11 module: it signs, and we publish their public halves.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cryptoki::context::CInitializeArgs;
use cryptoki::context::CInitializeFlags;
use cryptoki::context::Pkcs11;
use cryptoki::error::Error;
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::object::AttributeType;
use cryptoki::object::ObjectClass;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use serde_json::Value;
use serde_json::json;

use crate::exchange::settings::Module;
use crate::token::Algorithm;
use crate::token::MintError;
use crate::token::SigningKey;

/// `secp256r1` (RFC 5480 §2.1.1.1), as `CKA_EC_PARAMS` says it.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// A point of P-256 that is not compressed, in an OCTET STRING (PKCS#11 v3.0 §2.3.3).
const POINT: [u8; 3] = [0x04, 0x41, 0x04];

/// The keys of a token, in the order of their labels in the configuration.
///
/// # Errors
///
/// When the module cannot be loaded, there is no such token, or a key is missing or of another kind. Says no PIN.
pub(super) fn open(module: &Module) -> Result<Vec<SigningKey>, String> {
    let token = Arc::new(Token::open(module)?);
    let one = |label: &str| {
        let named = |cause: String| format!("key `{label}`: {cause}");
        Token::key(&token, label).map_err(named)
    };
    module.keys.iter().map(|label| one(label)).collect()
}

/// A session with a token. One thing is signed after the other.
struct Token {
    settings: Module,
    context: Pkcs11,
    session: Mutex<Session>,
}

impl Token {
    fn open(module: &Module) -> Result<Self, String> {
        let said = |cause: Error| format!("{}: {cause}", module.library.display());
        let context = Pkcs11::new(&module.library).map_err(said)?;
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // By ourselves, for an earlier configuration.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(cause) => return Err(said(cause)),
        }
        let session = session(&context, module)?;
        Ok(Self {
            settings: module.clone(),
            context,
            session: Mutex::new(session),
        })
    }

    /// The key with a label, whose signatures this token makes.
    fn key(token: &Arc<Self>, label: &str) -> Result<SigningKey, String> {
        let (algorithm, public) = {
            let session = token.session.lock();
            let session = session.unwrap_or_else(PoisonError::into_inner);
            private(&session, label)?;
            public(&session, label)?
        };
        let (own, name) = (Arc::clone(token), label.to_owned());
        let sign = move |input: &[u8]| own.sign(&name, algorithm, input);
        SigningKey::elsewhere(algorithm, public, Box::new(sign)).map_err(|cause| cause.to_string())
    }

    /// Signs, in a new session where the one from before has ended.
    fn sign(&self, label: &str, algorithm: Algorithm, input: &[u8]) -> Result<Vec<u8>, MintError> {
        let mut held = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        match sign_in(&held, label, algorithm, input) {
            Ok(signature) => Ok(signature),
            Err(first) => {
                let again = session(&self.context, &self.settings);
                *held = again.map_err(|cause| MintError(format!("{first}; {cause}")))?;
                sign_in(&held, label, algorithm, input).map_err(MintError)
            }
        }
    }
}

fn session(context: &Pkcs11, module: &Module) -> Result<Session, String> {
    let said = |cause: Error| format!("token `{}`: {cause}", module.token);
    let slots = context.get_slots_with_token().map_err(said)?;
    let slot = slots.into_iter().find(|slot| {
        let info = context.get_token_info(*slot);
        info.is_ok_and(|info| *info.label() == *module.token)
    });
    let slot = slot.ok_or_else(|| format!("there is no token `{}`", module.token))?;
    let session = context.open_ro_session(slot).map_err(said)?;
    let pin = AuthPin::from(module.pin.expose().clone());
    match session.login(UserType::User, Some(&pin)) {
        // Logins belong to the process, not to the session (PKCS#11 v3.0 §5.6.8).
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(cause) => Err(said(cause)),
    }
}

fn sign_in(
    session: &Session,
    label: &str,
    algorithm: Algorithm,
    input: &[u8],
) -> Result<Vec<u8>, String> {
    let key = private(session, label)?;
    let signed = if algorithm == Algorithm::Es256 {
        // Two numbers of 32 bytes, as RFC 7518 §3.4 has them.
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, input);
        session.sign(&Mechanism::Ecdsa, key, hash.as_ref())
    } else {
        session.sign(&Mechanism::Sha256RsaPkcs, key, input)
    };
    signed.map_err(|cause| cause.to_string())
}

fn private(session: &Session, label: &str) -> Result<ObjectHandle, String> {
    one(session, label, ObjectClass::PRIVATE_KEY)
}

fn one(session: &Session, label: &str, class: ObjectClass) -> Result<ObjectHandle, String> {
    let wanted = [
        Attribute::Class(class),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let found = session.find_objects(&wanted);
    match found.map_err(|cause| cause.to_string())?.as_slice() {
        [one] => Ok(*one),
        [] => Err(format!("the token has no {class} of this label")),
        _ => Err(format!("the token has several {class}s of this label")),
    }
}

/// What a key is, and its public half as a JWK.
fn public(session: &Session, label: &str) -> Result<(Algorithm, Value), String> {
    let key = one(session, label, ObjectClass::PUBLIC_KEY)?;
    let wanted = [
        AttributeType::EcParams,
        AttributeType::EcPoint,
        AttributeType::Modulus,
        AttributeType::PublicExponent,
    ];
    let attributes = session.get_attributes(key, &wanted);
    let (mut params, mut point, mut modulus, mut exponent) = (None, None, None, None);
    for attribute in attributes.map_err(|cause| cause.to_string())? {
        if let Attribute::EcParams(bytes) = attribute {
            params = Some(bytes);
        } else if let Attribute::EcPoint(bytes) = attribute {
            point = Some(bytes);
        } else if let Attribute::Modulus(bytes) = attribute {
            modulus = Some(bytes);
        } else if let Attribute::PublicExponent(bytes) = attribute {
            exponent = Some(bytes);
        }
    }
    if let (Some(modulus), Some(exponent)) = (modulus, exponent) {
        let bits = modulus.iter().skip_while(|byte| **byte == 0).count() * 8;
        if bits < 2_048 {
            return Err("the RSA key has less than 2048 bits".to_owned());
        }
        let plain = |bytes: Vec<u8>| {
            let bytes: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            URL_SAFE_NO_PAD.encode(bytes)
        };
        let jwk =
            json!({ "kty": "RSA", "alg": "RS256", "n": plain(modulus), "e": plain(exponent) });
        return Ok((Algorithm::Rs256, jwk));
    }
    let of_p256 = params.as_deref() == Some(&P256[..]);
    let point = point.unwrap_or_default();
    let numbers = point.strip_prefix(&POINT[..]).filter(|_| of_p256);
    let numbers = numbers.filter(|numbers| numbers.len() == 64);
    let (x, y) = numbers
        .and_then(|numbers| numbers.split_at_checked(32))
        .ok_or("it is no key for ES256 or RS256")?;
    let jwk = json!({
        "kty": "EC", "alg": "ES256", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
    });
    Ok((Algorithm::Es256, jwk))
}

#[cfg(test)]
mod tests;
