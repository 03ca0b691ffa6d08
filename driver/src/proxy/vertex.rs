//! Steps of our own in a build's progress: the start of a pod, and the change to another one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

use buildfleet_proto::buildkit::{StatusResponse, Vertex, VertexLog};
use bytes::Bytes;

use crate::wire;

/// One step that the user sees as any other of the build.
#[derive(Debug)]
pub(super) struct Step {
    vertex: Vertex,
}

impl Step {
    /// A step that begins now. `number` tells the steps of one build apart.
    pub(super) fn begin(reference: &str, number: usize, name: String) -> Self {
        let started = Some(SystemTime::now().into());
        let vertex = Vertex { digest: digest(reference, number), name, started, ..Vertex::default() };
        Self { vertex }
    }

    /// The step itself.
    pub(super) fn message(&self) -> Bytes {
        wire::message(&StatusResponse { vertexes: vec![self.vertex.clone()], ..StatusResponse::default() })
    }

    /// A line of its output.
    pub(super) fn line(&self, text: &str) -> Bytes {
        let log = VertexLog {
            vertex: self.vertex.digest.clone(),
            timestamp: Some(SystemTime::now().into()),
            stream: 2,
            msg: format!("{text}\n").into_bytes(),
        };
        wire::message(&StatusResponse { logs: vec![log], ..StatusResponse::default() })
    }

    /// Its end, with an error when it failed.
    pub(super) fn end(mut self, error: Option<String>) -> Bytes {
        self.vertex.completed = Some(SystemTime::now().into());
        self.vertex.error = error.unwrap_or_default();
        self.message()
    }
}

/// Clients know a step by its digest, which for BuildKit's own is that of its definition.
fn digest(reference: &str, number: usize) -> String {
    let word = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        ("buildfleet", reference, number, salt).hash(&mut hasher);
        hasher.finish()
    };
    format!("sha256:{:016x}{:016x}{:016x}{:016x}", word(0), word(1), word(2), word(3))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn decoded(message: &Bytes) -> StatusResponse {
        StatusResponse::decode(&message[5..]).unwrap()
    }

    #[test]
    fn a_step_begins_speaks_and_ends_under_one_digest() {
        let step = Step::begin("r1", 0, "starting kube0".to_owned());
        let begun = decoded(&step.message()).vertexes.remove(0);
        assert!(begun.started.is_some() && begun.completed.is_none());
        let line = decoded(&step.line("scheduled on node-a")).logs.remove(0);
        assert_eq!((line.vertex.as_str(), &line.msg[..]), (begun.digest.as_str(), &b"scheduled on node-a\n"[..]));
        let ended = decoded(&step.end(Some("no room".to_owned()))).vertexes.remove(0);
        assert_eq!((ended.digest.as_str(), ended.error.as_str()), (begun.digest.as_str(), "no room"));
        assert!(ended.completed.is_some());
    }

    #[test]
    fn the_steps_of_all_builds_have_digests_of_their_own() {
        let digests = [digest("r1", 0), digest("r1", 1), digest("r2", 0)];
        assert!(digests[0] != digests[1] && digests[0] != digests[2]);
        assert!(digests.iter().all(|digest| digest.len() == 7 + 64));
    }
}
