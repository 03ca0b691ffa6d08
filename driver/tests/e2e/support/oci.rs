//! Images as clients leave them: OCI layouts in tar files, and indexes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::call::Call;

/// Unpacks a tar file beside it.
pub(crate) fn unpack(tar: &Path) -> PathBuf {
    let dir = tar.with_extension("unpacked");
    fs::create_dir_all(&dir).expect("a directory of our own");
    Call::new("tar").arg("-xf").arg(tar).arg("-C").arg(&dir).succeeds();
    dir
}

/// The platforms of an OCI layout in a tar file, as `linux/amd64`, in their order.
pub(crate) fn platforms_of_layout(tar: &Path) -> Vec<String> {
    let dir = unpack(tar);
    let index = read(&dir.join("index.json"));
    let manifests = index["manifests"].as_array().expect("an index has manifests");
    let mut platforms = Vec::new();
    for descriptor in manifests {
        let digest = descriptor["digest"].as_str().expect("a descriptor has a digest");
        let document = read(&dir.join("blobs").join(digest.replace(':', "/")));
        if document["manifests"].is_array() {
            platforms.extend(platforms_of_index(&document));
        } else {
            // One platform: an image by itself, which says in its configuration what it is for.
            let digest = document["config"]["digest"].as_str().expect("an image has a configuration");
            platforms.push(platform(&read(&dir.join("blobs").join(digest.replace(':', "/")))));
        }
    }
    platforms
}

/// The platforms of an index; attestations, which are for `unknown/unknown`, do not count.
pub(crate) fn platforms_of_index(index: &Value) -> Vec<String> {
    let manifests = index["manifests"].as_array().unwrap_or_else(|| panic!("no index: {index:#}"));
    let platforms = manifests.iter().map(|manifest| platform(&manifest["platform"]));
    let mut platforms: Vec<String> = platforms.filter(|platform| platform != "unknown/unknown").collect();
    platforms.sort();
    platforms
}

/// Whether any file of an unpacked image has these words in it, compressed or not: documents, layers, attestations.
pub(crate) fn has_words(layout: &Path, words: &str) -> bool {
    let found = Call::new("sh").arg("-c").arg(r#"find "$1" -type f -exec zcat -f {} + | grep -aqF -e "$2""#);
    found.arg("sh").arg(layout).arg(words).end().is_success()
}

/// The digest that the index of a layout names first.
pub(crate) fn first_digest(layout: &Path) -> String {
    let index = read(&layout.join("index.json"));
    index["manifests"][0]["digest"].as_str().expect("a descriptor has a digest").to_owned()
}

fn platform(of: &Value) -> String {
    format!("{}/{}", of["os"].as_str().unwrap_or_default(), of["architecture"].as_str().unwrap_or_default())
}

fn read(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
