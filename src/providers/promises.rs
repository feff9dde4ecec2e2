//! What holds for what providers answer and certificates say, whatever that is. See `crate::promises`.

pub(crate) use crate::providers::client_cert::promise as certificate_names;
pub(crate) use crate::providers::oauth::promises::provider_answer;
