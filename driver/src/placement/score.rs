//! The score of a key on a pod, from which rendezvous hashing makes an order of the pods.

use super::StickyKey;
use crate::builder::PodName;

/// FNV-1a over keys and pod with a finaliser (that of MurmurHash3), because FNV alone hardly mixes its last bytes into the
/// high bits, and pods' names differ only there. Not `DefaultHasher`: that may change with the compiler, and caches would
/// move with it.
pub(super) fn score(keys: &[&StickyKey], pod: &PodName) -> u64 {
    // 0xff is in no text, so that no two lists of keys are the same bytes.
    let keys = keys.iter().flat_map(|key| key.as_bytes().iter().chain(&[0xff]));
    let mut hash = keys
        .chain(pod.as_str().as_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    for multiplier in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(multiplier);
    }
    hash ^ (hash >> 33)
}
