//! LLB without a frontend, as an SDK makes it: the few messages of it that a step over a local directory needs.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use prost::Message;

use super::call::Call;

#[derive(Clone, PartialEq, Message)]
struct Definition {
    #[prost(bytes = "vec", repeated, tag = "1")]
    operations: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(message, repeated, tag = "1")]
    inputs: Vec<Input>,
    #[prost(message, optional, tag = "2")]
    exec: Option<Exec>,
    #[prost(message, optional, tag = "3")]
    source: Option<Source>,
}

#[derive(Clone, PartialEq, Message)]
struct Input {
    #[prost(string, tag = "1")]
    digest: String,
}

#[derive(Clone, PartialEq, Message)]
struct Source {
    #[prost(string, tag = "1")]
    identifier: String,
    #[prost(map = "string, string", tag = "2")]
    attributes: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Exec {
    #[prost(message, optional, tag = "1")]
    meta: Option<Meta>,
    #[prost(message, repeated, tag = "2")]
    mounts: Vec<Mount>,
}

#[derive(Clone, PartialEq, Message)]
struct Meta {
    #[prost(string, repeated, tag = "1")]
    arguments: Vec<String>,
    #[prost(string, tag = "3")]
    directory: String,
}

#[derive(Clone, PartialEq, Message)]
struct Mount {
    #[prost(string, tag = "3")]
    destination: String,
}

/// Writes what runs a program over the local directory `context`, and has the whole file system as its result.
pub(crate) fn write(to: &Path, arguments: &[&str]) {
    // Operations name each other by their digests.
    let digest = |bytes: &[u8]| {
        fs::write(to, bytes).expect("a file of our own");
        let sum = Call::new("sha256sum").arg(to).succeeds();
        format!("sha256:{}", sum.word().split(' ').next().expect("a sum"))
    };
    let source = Operation {
        inputs: Vec::new(),
        exec: None,
        source: Some(Source { identifier: "local://context".to_owned(), attributes: HashMap::new() }),
    };
    let source = source.encode_to_vec();
    let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
    let exec = Exec {
        meta: Some(Meta { arguments, directory: "/".to_owned() }),
        // The first input, and the first output: both 0.
        mounts: vec![Mount { destination: "/".to_owned() }],
    };
    let step = Operation { inputs: vec![Input { digest: digest(&source) }], exec: Some(exec), source: None };
    let step = step.encode_to_vec();
    let end = Operation { inputs: vec![Input { digest: digest(&step) }], exec: None, source: None };
    let definition = Definition { operations: vec![source, step, end.encode_to_vec()] };
    fs::write(to, definition.encode_to_vec()).expect("a file of our own");
}
