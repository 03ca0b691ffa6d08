//! The cluster's registry, asked over plain HTTP as any client would.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::clock::seconds;
use super::tools::cluster;

const INDEXES: &str =
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A name for an image in the registry that no other test has.
pub(crate) fn image(name: &str) -> String {
    format!("{}/e2e-{}/{name}:1", cluster().registry, std::process::id())
}

/// The index that the registry has under the name.
pub(crate) fn index(image: &str) -> Value {
    let (registry, rest) = image.split_once('/').expect("an image in a registry");
    let (repository, tag) = rest.rsplit_once(':').expect("an image with a tag");
    let body = get(registry, &format!("/v2/{repository}/manifests/{tag}"), INDEXES);
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("no index of {image} ({error}): {body}"))
}

fn get(host: &str, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(host).unwrap_or_else(|error| panic!("registry {host}: {error}"));
    stream.set_read_timeout(Some(seconds(10))).expect("a time limit");
    // HTTP/1.0: the answer ends with the connection, and has no chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n").expect("the registry listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(head.contains(" 200 "), "{path}: {head}\n{body}");
    body.to_owned()
}
