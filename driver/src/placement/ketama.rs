//! Consistent hashing as serialx/hashring has it, for those who have chosen pods by BuildKit's example: to the letter.

use md5::{Digest, Md5};

/// A place on the ring: that library takes an MD5 for two signed numbers, the first of which decides.
type Place = (i64, i64);

/// The node of a key; none when there are no nodes. Their order does not matter.
pub fn pick<'a>(key: &str, nodes: &[&'a str]) -> Option<&'a str> {
    // One place for each node: what is called its first one, of as many as it has weight.
    let mut ring: Vec<(Place, &str)> = nodes.iter().map(|node| (place(&format!("{node}-0")), *node)).collect();
    ring.sort_unstable();
    let key = place(key);
    let next = ring.iter().find(|(place, _)| *place > key);
    next.or(ring.first()).map(|(_, node)| *node)
}

fn place(text: &str) -> Place {
    let hash: [u8; 16] = Md5::digest(text.as_bytes()).into();
    let number = |half: &[u8]| half.iter().rev().fold(0_i64, |number, byte| (number << 8) | i64::from(*byte));
    (number(&hash[..8]), number(&hash[8..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `testdata/placement/record-ketama` has asked of the library itself.
    #[derive(Debug, serde::Deserialize)]
    struct Recorded {
        keys: Vec<String>,
        rings: Vec<Ring>,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Ring {
        nodes: Vec<String>,
        picked: Vec<String>,
    }

    #[test]
    fn every_key_has_the_node_that_the_library_gave_it() {
        let recorded: Recorded = serde_json::from_str(include_str!("../../../testdata/placement/ketama.json")).unwrap();
        assert!(recorded.keys.len() > 50 && recorded.rings.len() > 10);
        for ring in &recorded.rings {
            assert_eq!(ring.picked.len(), recorded.keys.len());
            let nodes: Vec<&str> = ring.nodes.iter().map(String::as_str).collect();
            for (key, picked) in recorded.keys.iter().zip(&ring.picked) {
                assert_eq!(pick(key, &nodes), Some(picked.as_str()), "{key} among {nodes:?}");
            }
        }
    }

    #[test]
    fn neither_the_order_nor_a_second_mention_of_a_node_matters() {
        for key in 0..200 {
            let key = format!("github.com/team/app-{key}");
            let picked = pick(&key, &["a", "b", "c"]);
            assert!(picked.is_some());
            assert_eq!(picked, pick(&key, &["c", "a", "b"]));
            assert_eq!(picked, pick(&key, &["a", "b", "c", "b"]));
        }
        assert_eq!(pick("x", &[]), None);
    }
}
