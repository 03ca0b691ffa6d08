//! A name for a builder that was given none.

use std::hash::{BuildHasher, RandomState};

use crate::builder::{BuilderName, NodeName};

const FIRST: [&str; 16] = [
    "amber", "brisk", "calm", "dusty", "eager", "fresh", "gentle", "hardy", "keen", "lively", "merry", "nimble",
    "quiet", "sturdy", "swift", "warm",
];

const SECOND: [&str; 16] = [
    "anvil", "barge", "bellows", "chisel", "crane", "forge", "hammer", "kiln", "ladle", "lathe", "loom", "mill",
    "quarry", "shuttle", "slipway", "winch",
];

/// Two words that no builder has yet; a number follows when those run out.
pub(super) fn builder_name(taken: impl Fn(&BuilderName) -> bool) -> BuilderName {
    // Its keys are random: that is all that is needed of chance here.
    let random = RandomState::new();
    (0_u64..)
        .map(|n| {
            let [first, second, ..] = random.hash_one(n).to_le_bytes();
            let pair =
                format!("{}-{}", FIRST[usize::from(first) % FIRST.len()], SECOND[usize::from(second) % SECOND.len()]);
            let name = if n < 100 { pair } else { format!("{pair}{n}") };
            name.parse::<BuilderName>().expect("two words and a number are a name")
        })
        .find(|name| !taken(name))
        .expect("the numbers do not run out")
}

/// A name for a Job. What is there already is not asked for: the last part makes two of a kind unlikely.
pub(super) fn job_name() -> NodeName {
    let [first, second, third, fourth, ..] = RandomState::new().hash_one(()).to_le_bytes();
    let (first, second) = (FIRST[usize::from(first) % FIRST.len()], SECOND[usize::from(second) % SECOND.len()]);
    format!("{first}-{second}-{third:02x}{fourth:02x}").parse().expect("two words and a number are a name")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_do_not_run_out_and_do_not_repeat() {
        let mut taken = BTreeSet::new();
        for _ in 0..FIRST.len() * SECOND.len() + 50 {
            let name = builder_name(|name| taken.contains(name));
            assert!(taken.insert(name));
        }
    }
}
