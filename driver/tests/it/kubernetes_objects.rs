//! Objects through the daemon's API, against the API server for tests.

use buildfleet::builder::KubeContext;
use buildfleet::daemon::launch;
use buildfleet_proto::fleet::objects_client::ObjectsClient;
use buildfleet_proto::fleet::put_object::Outcome;
use buildfleet_proto::fleet::put_objects_request::Action;
use buildfleet_proto::fleet::{Kubeconfig, PutObject, PutObjectsRequest};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::support::api_server::{ApiServer, NAMESPACE};
use crate::support::daemon::{Home, Running};

/// A cluster and a daemon.
struct Scene {
    server: ApiServer,
    home: Home,
    _daemon: Running,
}

impl Scene {
    async fn new() -> Self {
        let (server, home) = (ApiServer::start().await, Home::new());
        let _daemon = home.start().await;
        Self { server, home, _daemon }
    }

    async fn put(&self, objects: &[Value], action: Action) -> Result<Vec<PutObject>, Status> {
        let KubeContext::File { paths, context } = self.server.context() else { panic!("it is one of a file") };
        let paths = paths.iter().map(|path| path.display().to_string()).collect();
        let daemon = launch::connect(&self.home.settings).await.unwrap().unwrap();
        let request = PutObjectsRequest {
            kubeconfig: Some(Kubeconfig { paths, context }),
            namespace: String::new(),
            objects: objects.iter().map(Value::to_string).collect(),
            action: action.into(),
            force: false,
        };
        Ok(ObjectsClient::new(daemon).put(request).await?.into_inner().objects)
    }

    async fn outcomes(&self, objects: &[Value], action: Action) -> Vec<(String, Outcome)> {
        let put = self.put(objects, action).await.unwrap();
        put.into_iter().map(|put| (put.object.clone(), put.outcome())).collect()
    }

    /// What was changed, in order.
    fn changes(&self) -> Vec<String> {
        let asked = self.server.requests().into_iter();
        asked.filter(|asked| asked.starts_with("PATCH") || asked.starts_with("DELETE")).collect()
    }
}

fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "buildkitd"}, "spec": {"ports": [{"port": 1234}]}})
}

fn deployment(replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "buildkitd", "namespace": NAMESPACE},
        "spec": {"replicas": replicas}})
}

fn outcome(object: &str, outcome: Outcome) -> (String, Outcome) {
    (object.to_owned(), outcome)
}

#[tokio::test]
async fn objects_are_applied_in_their_order_and_deleted_in_the_reverse_one() {
    let scene = Scene::new().await;
    let objects = [service(), deployment(1)];
    let (a, b) = ("service buildkitd", "deployment buildkitd");
    for (action, first, second) in [
        (Action::Diff, Outcome::Created, Outcome::Created),
        (Action::Apply, Outcome::Created, Outcome::Created),
        (Action::Apply, Outcome::Unchanged, Outcome::Unchanged),
        (Action::Delete, Outcome::Deleted, Outcome::Deleted),
        (Action::Delete, Outcome::Absent, Outcome::Absent),
    ] {
        let outcomes = scene.outcomes(&objects, action).await;
        assert_eq!(outcomes, [outcome(a, first), outcome(b, second)], "{action:?}");
    }
    let (patched, deleted) = (["PATCH services", "PATCH deployments"], ["DELETE deployments", "DELETE services"]);
    assert_eq!(scene.changes(), [patched, patched, patched, deleted, deleted].concat());
}

#[tokio::test]
async fn a_difference_is_shown_and_nothing_is_changed_for_it() {
    let scene = Scene::new().await;
    scene.put(&[deployment(1)], Action::Apply).await.unwrap();
    let shown = scene.put(&[deployment(2)], Action::Diff).await.unwrap().remove(0);
    assert_eq!((shown.outcome(), shown.namespace.as_str()), (Outcome::Changed, NAMESPACE));
    assert!(shown.unified_diff.contains("-  replicas: 1\n+  replicas: 2\n"), "{}", shown.unified_diff);
    assert_eq!(scene.server.object("deployments").unwrap()["spec"]["replicas"], 1);
}

#[tokio::test]
async fn what_is_in_a_secret_is_in_no_answer() {
    let scene = Scene::new().await;
    let secret =
        |key: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key.pem": key}});
    scene.put(&[secret("c2VjcmV0")], Action::Apply).await.unwrap();
    let put = scene.put(&[secret("b3RoZXJz")], Action::Apply).await.unwrap().remove(0);
    assert_eq!(put.outcome(), Outcome::Changed);
    let told = format!("{put:?}");
    assert!(!told.contains("c2VjcmV0") && !told.contains("b3RoZXJz") && told.contains("6 bytes (changed)"), "{told}");
}

#[tokio::test]
async fn one_that_fails_does_not_keep_the_others_and_says_what_can_be_done() {
    let scene = Scene::new().await;
    scene.server.refuse("PATCH services", 409, "Apply failed with 1 conflict: conflict with \"kubectl\": .spec.ports");
    let unknown = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}});
    let put = scene.put(&[service(), unknown, deployment(1)], Action::Apply).await.unwrap();
    let outcomes: Vec<Outcome> = put.iter().map(PutObject::outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Failed, Outcome::Created]);
    assert!(put[0].error.contains("conflict with \"kubectl\"") && put[0].hint.contains("--force"), "{:?}", put[0]);
    assert_eq!(put[1].error, "the cluster has no kind Thing in example.com/v1");
}

#[tokio::test]
async fn what_is_not_allowed_names_the_right() {
    let scene = Scene::new().await;
    scene.server.refuse("GET services", 403, "services \"buildkitd\" is forbidden");
    let put = scene.put(&[service()], Action::Apply).await.unwrap().remove(0);
    assert!(put.error.starts_with("not allowed to get services in namespace builds: "), "{}", put.error);
    assert!(put.hint.contains("docs/rbac.md"), "{}", put.hint);
}

#[tokio::test]
async fn a_server_that_is_silent_is_asked_once() {
    let mut scene = Scene::new().await;
    scene.server.crash();
    let put = scene.put(&[service(), deployment(1)], Action::Apply).await.unwrap();
    assert!(put[0].error.starts_with("failed to reach context `rig`"), "{}", put[0].error);
    assert!(put[1].error.starts_with("not asked for, because context `rig`"), "{}", put[1].error);
}

#[tokio::test]
async fn what_is_no_object_is_refused_before_anything_is_done() {
    let scene = Scene::new().await;
    let status = scene.put(&[service(), json!({"kind": "Pod"})], Action::Apply).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "object 2 is none: it has no apiVersion"));
    assert!(scene.changes().is_empty());
}
