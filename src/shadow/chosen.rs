//! Who is in a share of the people. A bucket costs as much as all the rest of an offer, so requests leave it to whoever asks.

use crate::identity::CanonicalSubject;
use crate::rollout::Bucket;
use crate::rollout::BucketKey;
use crate::rollout::Percent;
use crate::rollout::UnitKind;
use crate::shadow::job::Job;
use crate::shadow::job::Question;

/// The salt of the sample: another share of people than any canary's.
const SALT: &str = "authferry/shadow/v1";
/// The salt of those about whom the deciding side is asked twice.
const NOISE: &str = "authferry/shadow-noise/v1";

/// Whether somebody is to be asked about this. Who shows the token of the other side, too, wants it compared, whoever is in the
/// sample.
pub(super) fn is(job: &Job) -> bool {
    let settings = &job.block.settings;
    let (share, salt) = match job.question {
        Question::Credential(_) | Question::Person | Question::Exchange(..) => {
            (settings.sample, SALT)
        }
        Question::Again(_) => (settings.noise, NOISE),
        Question::Beside(_) => return true,
    };
    sampled(share, (&job.block.key, salt), &job.canonical)
}

/// Where everybody is in it, nothing is hashed.
fn sampled(share: Percent, (key, salt): (&BucketKey, &str), who: &CanonicalSubject) -> bool {
    share == Percent::ALL || Bucket::of(key, salt, UnitKind::Subject, who.as_str()).is_within(share)
}
