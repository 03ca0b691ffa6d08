//! The score of a key on a pod, from which rendezvous hashing makes an order of the pods.

use super::StickyKey;
use crate::builder::PodName;
use crate::fnv;

/// A hash over keys and pod, of which caches would move if it changed, with a finaliser (that of MurmurHash3), because it
/// hardly mixes its last bytes into the high bits, and pods' names differ only there.
pub(super) fn score(keys: &[&StickyKey], pod: &PodName) -> u64 {
    // 0xff is in no text, so that no two lists of keys are the same bytes.
    let keys = keys.iter().flat_map(|key| key.as_bytes().iter().chain(&[0xff]));
    let mut hash = fnv::hash(keys.chain(pod.as_str().as_bytes()).copied());
    for multiplier in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(multiplier);
    }
    hash ^ (hash >> 33)
}
