//! What a client did with its build so far, so that it can be done again on another pod under other handles.
//!
//! A pod names its results by random handles (`identity.NewID`, 25 characters). The client keeps the first ones that it got;
//! calls that name them are rewritten for the pod that has the build now. All handles have the same length, so the
//! messages keep their framing.

use std::collections::BTreeMap;

use buildfleet_proto::buildkit::Definition;
use buildfleet_proto::buildkit::frontend::{Ref, Result as BuildResult, SolveResponse, result::Result as Handles};
use bytes::Bytes;

use super::unary::{Answer, Question};

/// Where in a result a handle stands: the key under which a client asks for it.
type Seat = String;

/// A call that has to be repeated on another pod, with the handles that the client got.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) question: Question,
    handles: BTreeMap<Seat, String>,
}

/// A client's calls that were answered, in order.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: Vec<Entry>,
    /// What was done that cannot be repeated, in words for the user.
    obstacle: Option<String>,
}

impl Entry {
    /// Whether a pod's answer to the repeated call stands for the first one; the handles are learnt from it.
    pub(super) fn is_answered_by(&self, answer: &Answer, handles: &mut HandleMap) -> bool {
        if self.handles.is_empty() {
            return true;
        }
        answer.message().is_some_and(|answer| handles.learn(self, &answer))
    }
}

impl Journal {
    /// A call was answered that changed the build.
    pub(super) fn record(&mut self, question: Question, answer: Option<&SolveResponse>) {
        self.entries.push(Entry { question, handles: answer.map(handles).unwrap_or_default() });
    }

    /// From now on the build cannot begin anew.
    pub(super) fn obstruct(&mut self, what: &str) {
        self.obstacle.get_or_insert_with(|| what.to_owned());
    }

    pub(super) fn obstacle(&self) -> Option<&str> {
        self.obstacle.as_deref()
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.clone()
    }
}

/// The client's handles, each with that of the pod which has the build now.
#[derive(Debug, Clone, Default)]
pub(super) struct HandleMap(Vec<(String, String)>);

impl HandleMap {
    /// A repeated call was answered. False when the answer does not fit the client's handles.
    pub(super) fn learn(&mut self, entry: &Entry, answer: &SolveResponse) -> bool {
        let now = handles(answer);
        let fits = entry.handles.len() == now.len();
        for (seat, first) in &entry.handles {
            let Some(present) = now.get(seat).filter(|present| present.len() == first.len()) else { return false };
            self.0.push((first.clone(), present.clone()));
        }
        fits
    }

    /// A client's message in the pod's handles.
    pub(super) fn translate(&self, body: &Bytes) -> Bytes {
        let mut translated: Option<Vec<u8>> = None;
        for (first, present) in &self.0 {
            let length = first.len();
            let found: Vec<usize> = (0..(body.len() + 1).saturating_sub(length))
                .filter(|at| body[*at..at + length] == *first.as_bytes())
                .collect();
            for at in found {
                let bytes = translated.get_or_insert_with(|| body.to_vec());
                bytes[at..at + length].copy_from_slice(present.as_bytes());
            }
        }
        translated.map_or_else(|| body.clone(), Bytes::from)
    }
}

/// The graphs that a result stands for.
pub(super) fn graphs(answer: &SolveResponse) -> impl Iterator<Item = &Definition> {
    let refs = answer.result.as_ref().and_then(|result| result.result.as_ref());
    let refs: Vec<&Ref> = match refs {
        Some(Handles::Ref(one)) => vec![one],
        Some(Handles::Refs(many)) => many.refs.values().collect(),
        _ => Vec::new(),
    };
    refs.into_iter().filter_map(|one| one.def.as_ref())
}

fn handles(answer: &SolveResponse) -> BTreeMap<Seat, String> {
    let mut found = BTreeMap::new();
    found.insert("deprecated".to_owned(), answer.r#ref.clone());
    if let Some(result) = &answer.result {
        of_result(result, &mut found);
    }
    // A result without content has no handle.
    found.retain(|_, handle| !handle.is_empty());
    found
}

fn of_result(result: &BuildResult, found: &mut BTreeMap<Seat, String>) {
    match &result.result {
        None => {}
        Some(Handles::RefDeprecated(id)) => drop(found.insert("single".to_owned(), id.clone())),
        Some(Handles::Ref(one)) => drop(found.insert("single".to_owned(), one.id.clone())),
        Some(Handles::RefsDeprecated(many)) => {
            found.extend(many.refs.iter().map(|(key, id)| (format!("of {key}"), id.clone())));
        }
        Some(Handles::Refs(many)) => {
            found.extend(many.refs.iter().map(|(key, one)| (format!("of {key}"), one.id.clone())));
        }
    }
    for (key, attestations) in &result.attestations {
        for (index, attestation) in attestations.attestation.iter().enumerate() {
            let id = attestation.r#ref.as_ref().map(|one| one.id.clone()).unwrap_or_default();
            found.insert(format!("attestation {index} of {key}"), id);
        }
    }
}

#[cfg(test)]
mod tests {
    use buildfleet_proto::buildkit::frontend::{RefMap, ReturnRequest};

    use super::*;
    use crate::wire;

    fn answer(ids: &[(&str, &str)]) -> SolveResponse {
        let of = |id: &str| Ref { id: id.to_owned(), def: None };
        let refs = ids.iter().map(|(key, id)| ((*key).to_owned(), of(id))).collect();
        let result = BuildResult { result: Some(Handles::Refs(RefMap { refs })), ..BuildResult::default() };
        SolveResponse { result: Some(result), ..SolveResponse::default() }
    }

    fn question() -> Question {
        let head = http::Request::post("http://localhost/x").body(()).unwrap().into_parts().0;
        Question::new(head, Bytes::new())
    }

    #[test]
    fn a_message_names_the_handles_of_the_pod_that_has_the_build_now() {
        let first = answer(&[("linux/amd64", "aaaa1"), ("linux/arm64", "aaaa2"), ("empty", "")]);
        let second = answer(&[("linux/amd64", "bbbb1"), ("linux/arm64", "bbbb2"), ("empty", "")]);
        let mut journal = Journal::default();
        journal.record(question(), Some(&first));
        let mut map = HandleMap::default();
        assert!(map.learn(&journal.entries()[0], &second));
        let sent = wire::message(&ReturnRequest { result: first.result, ..ReturnRequest::default() });
        let arrives = wire::message(&ReturnRequest { result: second.result, ..ReturnRequest::default() });
        // A map's order on the wire is not fixed, so the messages are compared as sets of handles.
        let translated = map.translate(&sent);
        assert_eq!(translated.len(), arrives.len());
        for handle in ["bbbb1", "bbbb2"] {
            assert!(translated.windows(5).any(|window| window == handle.as_bytes()), "{handle}");
        }
        assert!(!translated.windows(4).any(|window| window == b"aaaa"));
    }

    #[test]
    fn an_answer_with_other_handles_does_not_fit() {
        let first = answer(&[("linux/amd64", "aaaa1")]);
        let mut journal = Journal::default();
        journal.record(question(), Some(&first));
        let entry = &journal.entries()[0];
        for (other, fits) in [
            (answer(&[("linux/amd64", "bbbb1")]), true),
            (answer(&[("linux/arm64", "bbbb1")]), false),
            (answer(&[("linux/amd64", "longer")]), false),
            (answer(&[("linux/amd64", "bbbb1"), ("linux/arm64", "bbbb2")]), false),
            (answer(&[]), false),
        ] {
            assert_eq!(HandleMap::default().learn(entry, &other), fits, "{other:?}");
        }
    }

    #[test]
    fn what_cannot_be_repeated_is_told_by_its_first_reason() {
        let mut journal = Journal::default();
        assert_eq!(journal.obstacle(), None);
        journal.obstruct("a file of its result was read");
        journal.obstruct("something else");
        assert_eq!(journal.obstacle(), Some("a file of its result was read"));
    }
}
