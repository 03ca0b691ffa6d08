//! The cluster's registry, asked over plain HTTP as any client would.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::clock::seconds;
use super::tools::cluster;

const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// A name for an image in the registry that no other test has.
pub(crate) fn image(name: &str) -> String {
    format!("{}/e2e-{}/{name}:1", cluster().registry, std::process::id())
}

/// The index that the registry has under the name; another kind of manifest fails the test.
pub(crate) fn index(image: &str) -> Value {
    let index = manifest(image);
    assert!(index["manifests"].is_array(), "no index of {image}: {index:#}");
    index
}

/// What the registry has under the name: an index, or the manifest of one image.
pub(crate) fn manifest(image: &str) -> Value {
    answer(image, "manifests", reference(image)).json()
}

/// The digest of [`manifest`].
pub(crate) fn digest(image: &str) -> String {
    let answer = answer(image, "manifests", reference(image));
    let line = answer
        .head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("docker-content-digest: ").map(str::to_owned));
    line.unwrap_or_else(|| panic!("no digest of {image}: {}", answer.head))
}

/// One manifest of an index of the image's repository.
pub(crate) fn manifest_at(image: &str, digest: &str) -> Value {
    answer(image, "manifests", digest).json()
}

/// A document among the blobs of the image's repository.
pub(crate) fn blob(image: &str, digest: &str) -> Value {
    answer(image, "blobs", digest).json()
}

/// `host/repository:tag`
fn reference(image: &str) -> &str {
    image.rsplit_once(':').expect("an image with a tag").1
}

fn answer(image: &str, kind: &str, reference: &str) -> Answer {
    let (host, rest) = image.split_once('/').expect("an image in a registry");
    let (repository, _) = rest.rsplit_once(':').expect("an image with a tag");
    get(host, &format!("/v2/{repository}/{kind}/{reference}"))
}

#[derive(Debug)]
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.body))
    }
}

fn get(host: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(host).unwrap_or_else(|error| panic!("registry {host}: {error}"));
    stream.set_read_timeout(Some(seconds(10))).expect("a time limit");
    // HTTP/1.0: the answer ends with the connection, and has no chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: {MANIFESTS}\r\n\r\n").expect("the registry listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(head.contains(" 200 "), "{path}: {head}\n{body}");
    Answer { head: head.to_owned(), body: body.to_owned() }
}
