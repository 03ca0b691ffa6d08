//! The Objects service: requests into what the backend does with a cluster, what comes of it into messages.

use std::sync::Arc;

use buildfleet_proto::fleet::objects_server::Objects;
use buildfleet_proto::fleet::put_object::Outcome;
use buildfleet_proto::fleet::put_objects_request::Action;
use buildfleet_proto::fleet::{PutObject, PutObjectsRequest, PutObjectsResponse};
use tonic::{Request, Response, Status};

use super::{Api, status};
use crate::backend::kubernetes::{GivenObject, Put, PutAction, PutObjects, PutOutcome};
use crate::daemon::given::{located, some};
use crate::daemon::registry::Registry;
use crate::report;

#[tonic::async_trait]
impl Objects for Api {
    async fn put(&self, request: Request<PutObjectsRequest>) -> Result<Response<PutObjectsResponse>, Status> {
        let registry = Arc::clone(&self.registry);
        let command = async move { Box::pin(put(&registry, request.into_inner())).await };
        self.complete(command).await.map(Response::new)
    }
}

async fn put(registry: &Registry, request: PutObjectsRequest) -> Result<PutObjectsResponse, Status> {
    let action = match request.action() {
        Action::Apply => PutAction::Apply,
        Action::Diff => PutAction::Diff,
        Action::Delete => PutAction::Delete,
    };
    let located = located(registry.backends(), request.kubeconfig);
    let (context, _) = located.map_err(Status::failed_precondition)?;
    let put = PutObjects {
        context,
        namespace: some(request.namespace),
        api_server: registry.settings().kubernetes_service().map(str::to_owned),
        objects: objects(&request.objects)?,
        action,
        force: request.force,
    };
    let puts = put.run().await.map_err(|error| status::cluster(&error))?;
    Ok(PutObjectsResponse { objects: puts.into_iter().map(told).collect() })
}

/// All that is wrong with them at once.
fn objects(texts: &[String]) -> Result<Vec<GivenObject>, Status> {
    let (mut objects, mut wrong) = (Vec::new(), Vec::new());
    for (at, text) in texts.iter().enumerate() {
        match GivenObject::try_new(text) {
            Ok(object) => objects.push(object),
            Err(error) => wrong.push(format!("object {} is none: {error}", at + 1)),
        }
    }
    if wrong.is_empty() { Ok(objects) } else { Err(Status::invalid_argument(wrong.join("\n"))) }
}

fn told(put: Put) -> PutObject {
    let Put { object, namespace, outcome, diff: unified_diff } = put;
    let (outcome, error, hint) = match outcome {
        Ok(outcome) => (outcome_told(outcome), String::new(), String::new()),
        Err(error) => (Outcome::Failed, report::chain(&error), error.hint().unwrap_or_default()),
    };
    PutObject { object, namespace, outcome: outcome.into(), unified_diff, error, hint }
}

fn outcome_told(outcome: PutOutcome) -> Outcome {
    match outcome {
        PutOutcome::Created => Outcome::Created,
        PutOutcome::Changed => Outcome::Changed,
        PutOutcome::Unchanged => Outcome::Unchanged,
        PutOutcome::Deleted => Outcome::Deleted,
        PutOutcome::Absent => Outcome::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_no_object_is_told_at_once() {
        let good = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#.to_owned();
        assert_eq!(objects(std::slice::from_ref(&good)).unwrap().len(), 1);
        let status = objects(&["{}".to_owned(), good, r#"{"apiVersion":"v1"}"#.to_owned()]).unwrap_err();
        assert_eq!(status.message(), "object 1 is none: it has no apiVersion\nobject 3 is none: it has no kind");
    }
}
