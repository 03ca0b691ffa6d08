//! Objects into a cluster, out of it, or compared with it, through the daemon; what became of each is told.

use std::path::PathBuf;

use buildfleet_proto::fleet::put_object::Outcome;
use buildfleet_proto::fleet::put_objects_request::Action;
use buildfleet_proto::fleet::{Kubeconfig, PutObject, PutObjectsRequest};
use serde::Serialize;
use serde_json::Value;

use super::Context;
use super::choice::{Given, choose};
use super::failure::Failure;
use super::output::{Format, json_line, print};
use crate::builder::Driver;

/// Which cluster, and where in it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Cluster {
    /// The namespace of the objects; without it, that of the context
    #[arg(long, short, value_name = "NAME")]
    pub(super) namespace: Option<String>,
    /// The kubeconfig file to take the cluster from, instead of $KUBECONFIG and ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; without it, its current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl Cluster {
    /// Whether the user says which one.
    pub(super) fn is_named(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// Where the daemon finds it.
    pub(super) fn kubeconfig(&self, context: &Context) -> Result<Option<Kubeconfig>, Failure> {
        let kubeconfig = self.kubeconfig.as_ref().map(std::path::absolute).transpose();
        let kubeconfig = kubeconfig.map_err(|error| Failure::usage(format!("--kubeconfig is no path: {error}")))?;
        let given = Given {
            driver: Some(Driver::Kubernetes),
            kubeconfig,
            context: self.context.clone(),
            found: context.settings.kubeconfig(),
            in_cluster: context.in_cluster(),
            ..Given::default()
        };
        Ok(choose(given)?.kubeconfig)
    }
}

/// Does `action` with each object, and tells what became of it. The failure, if one failed, comes after the others.
pub(super) async fn put(
    context: &Context,
    cluster: &Cluster,
    objects: &[Value],
    action: Action,
    force: bool,
) -> Result<(), Failure> {
    let request = PutObjectsRequest {
        kubeconfig: cluster.kubeconfig(context)?,
        namespace: cluster.namespace.clone().unwrap_or_default(),
        objects: objects.iter().map(Value::to_string).collect(),
        action: action.into(),
        force,
    };
    let doing = format!("{} the objects", verb(action));
    let put = context.client().await?.put_objects(request).await.map_err(|failure| failure.doing(doing))?;
    print(told(&put, action, context.format)?)?;
    if action == Action::Diff && put.iter().all(|object| object.outcome() == Outcome::Unchanged) {
        context.info("nothing would change");
    }
    let failed: Vec<&PutObject> = put.iter().filter(|object| object.outcome() == Outcome::Failed).collect();
    context.each(failed, async |object| Err(failure(object, action))).await
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Apply => "apply",
        Action::Diff => "compare",
        Action::Delete => "delete",
    }
}

fn failure(object: &PutObject, action: Action) -> Failure {
    let failure = Failure::other(object.error.clone()).doing(format!("{} {}", verb(action), object.object));
    if object.hint.is_empty() { failure } else { failure.hint(object.hint.clone()) }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct View<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    object: &'a str,
    result: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    diff: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'a str,
}

fn told(put: &[PutObject], action: Action, format: Format) -> Result<String, Failure> {
    let one = |object: &PutObject| match (format, object.outcome()) {
        (Format::Json, outcome) => json_line(&View {
            namespace: &object.namespace,
            object: &object.object,
            result: result(outcome),
            diff: &object.unified_diff,
            error: &object.error,
            hint: &object.hint,
        }),
        // It goes to stderr.
        (Format::Text, Outcome::Failed) => Ok(String::new()),
        (Format::Text, _) if action == Action::Diff && object.unified_diff.is_empty() => Ok(String::new()),
        (Format::Text, _) if action == Action::Diff => Ok(format!("{}:\n{}", object.object, object.unified_diff)),
        (Format::Text, outcome) => Ok(format!("{} {}\n", object.object, result(outcome))),
    };
    put.iter().map(one).collect()
}

fn result(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Created => "created",
        Outcome::Changed => "changed",
        Outcome::Unchanged => "unchanged",
        Outcome::Deleted => "deleted",
        Outcome::Absent => "not there",
        Outcome::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, outcome: Outcome, unified_diff: &str) -> PutObject {
        PutObject {
            object: name.into(),
            namespace: "builds".into(),
            outcome: outcome.into(),
            unified_diff: unified_diff.into(),
            ..PutObject::default()
        }
    }

    #[test]
    fn each_object_is_told_with_what_became_of_it() {
        let put = [
            object("service buildkitd", Outcome::Created, "@@ -0,0 +1,1 @@\n+a\n"),
            object("pod buildkitd", Outcome::Unchanged, ""),
            PutObject { error: "e".into(), hint: "h".into(), ..object("pod b", Outcome::Failed, "") },
        ];
        let text = |action, format| told(&put, action, format).unwrap();
        assert_eq!(text(Action::Apply, Format::Text), "service buildkitd created\npod buildkitd unchanged\n");
        assert_eq!(text(Action::Diff, Format::Text), "service buildkitd:\n@@ -0,0 +1,1 @@\n+a\n");
        let json = text(Action::Apply, Format::Json);
        assert!(json.ends_with(
            "{\"Namespace\":\"builds\",\"Object\":\"pod b\",\"Result\":\"failed\",\"Error\":\"e\",\"Hint\":\"h\"}\n"
        ));
        let failure = failure(&put[2], Action::Apply).render();
        assert_eq!(failure, "error: failed to apply pod b: e\nhint: h\n");
    }
}
