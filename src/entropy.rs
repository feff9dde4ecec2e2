//! Where unpredictable bytes come from: `state`, nonce, PKCE verifier, session and request ids.
//!
//! Only this module asks the random number generator, so that a test can hand out known bytes.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Hands out unpredictable bytes.
pub trait Entropy: fmt::Debug + Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// 256 unpredictable bits as base64url, 43 characters: a valid PKCE verifier (RFC 7636 §4.1).
    fn token(&self) -> String {
        let mut bytes = [0; 32];
        self.fill(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

impl<E: Entropy + ?Sized> Entropy for Arc<E> {
    fn fill(&self, bytes: &mut [u8]) {
        (**self).fill(bytes);
    }
}

/// The generator of the crypto library.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::fill(bytes)
            .expect("the operating system's generator does not fail once it is seeded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tokens_differ_and_fit_a_pkce_verifier() {
        let (a, b) = (SystemEntropy.token(), SystemEntropy.token());
        assert_ne!(a, b);
        assert_eq!(a.len(), 43);
    }
}
