//! The rights that a node needs in its namespace, as docs/rbac.md lists them, and which of them are there.

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;

use super::Target;
use super::client::Connection;
use super::errors::{RequestError, ask};
use crate::backend::{Finding, Verdict};
use crate::manifest::{self, WorkloadKind};
use crate::options::{KubernetesOptions, TransportChoice};

/// What a missing right means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// The builder does not work.
    Needed,
    /// Only this is lost.
    Lost(&'static str),
}

/// What the rights depend on.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    options: &'a KubernetesOptions,
    /// `buildkitd` gets a configuration.
    config: bool,
}

/// Verbs on a resource.
struct Right {
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    /// `None` where the options do without.
    weight: fn(Wanted<'_>) -> Option<Weight>,
    /// A right may be for the node's own object alone, where the verb allows it.
    object: fn(&Target) -> Option<String>,
}

const NEEDED: fn(Wanted<'_>) -> Option<Weight> = |_| Some(Weight::Needed);

const RIGHTS: [Right; 10] = [
    Right {
        group: "apps",
        resource: "deployments",
        verbs: &["create", "patch", "list", "watch", "delete"],
        weight: |wanted| is_run_by(wanted, WorkloadKind::Deployment),
        object: |target| Some(target.workload_name()),
    },
    Right {
        group: "apps",
        resource: "statefulsets",
        verbs: &["create", "patch", "list", "watch", "delete"],
        weight: |wanted| is_run_by(wanted, WorkloadKind::StatefulSet),
        object: |target| Some(target.workload_name()),
    },
    Right {
        group: "",
        resource: "persistentvolumeclaims",
        verbs: &["list", "patch", "delete"],
        weight: |wanted| is_run_by(wanted, WorkloadKind::StatefulSet),
        object: |_| None,
    },
    Right {
        group: "policy",
        resource: "poddisruptionbudgets",
        verbs: &["get", "create", "patch", "delete"],
        weight: |wanted| wanted.options.budget.as_ref().map(|_| Weight::Needed),
        object: |target| Some(target.workload_name()),
    },
    Right { group: "", resource: "pods", verbs: &["list", "watch"], weight: NEEDED, object: |_| None },
    Right {
        group: "",
        resource: "pods/log",
        verbs: &["get"],
        weight: |_| Some(Weight::Lost("`logs` and the last lines of a crashed pod")),
        object: |_| None,
    },
    Right {
        group: "",
        resource: "events",
        verbs: &["list", "watch"],
        weight: |_| Some(Weight::Lost("why a pod does not start")),
        object: |_| None,
    },
    Right {
        group: "",
        resource: "secrets",
        verbs: &["get", "create", "patch", "delete"],
        weight: |wanted| (wanted.options.transport.needs_tls() || wanted.config).then_some(Weight::Needed),
        object: |target| match target.options.transport.needs_tls() {
            true => Some(target.secret_name()),
            false => Some(target.config_name()),
        },
    },
    Right {
        group: "",
        resource: "pods/portforward",
        verbs: &["get", "create"],
        weight: |wanted| by_transport(wanted, TransportChoice::PortForward, "the way by port-forward"),
        object: |_| None,
    },
    Right {
        group: "",
        resource: "pods/exec",
        verbs: &["get", "create"],
        weight: |wanted| by_transport(wanted, TransportChoice::Exec, "the way by exec"),
        object: |_| None,
    },
];

fn is_run_by(wanted: Wanted<'_>, kind: WorkloadKind) -> Option<Weight> {
    (manifest::workload_kind(wanted.options) == kind).then_some(Weight::Needed)
}

/// A way that is chosen is needed; one of several is a way less.
fn by_transport(wanted: Wanted<'_>, way: TransportChoice, lost: &'static str) -> Option<Weight> {
    match wanted.options.transport {
        chosen if chosen == way => Some(Weight::Needed),
        TransportChoice::Auto => Some(Weight::Lost(lost)),
        _ => None,
    }
}

/// Asks for each right; the findings are in the order of docs/rbac.md.
pub(super) async fn look(connection: &Connection, target: &Target) -> Vec<Finding> {
    let depends = Wanted { options: &target.options, config: target.node.config.is_some() };
    let wanted = RIGHTS.iter().filter_map(|right| Some((right, (right.weight)(depends)?)));
    let asking = wanted.map(|(right, weight)| {
        let asked = Asked { group: right.group, resource: right.resource, verbs: right.verbs, weight };
        asked.look(connection, (right.object)(target))
    });
    join_all(asking).await
}

/// Verbs on a resource that something needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    pub(super) verbs: &'static [&'static str],
    pub(super) weight: Weight,
}

impl Asked {
    /// Whether it is there, for this object alone where the verb allows that.
    pub(super) async fn look(self, connection: &Connection, object: Option<String>) -> Finding {
        let verbs = self.verbs.iter().map(|verb| {
            let object = object.clone().filter(|_| matches!(*verb, "get" | "patch" | "delete"));
            async move { (*verb, self.is_allowed(connection, verb, object).await) }
        });
        self.judge(&connection.namespace, join_all(verbs).await)
    }

    async fn is_allowed(
        self,
        connection: &Connection,
        verb: &str,
        object: Option<String>,
    ) -> Result<bool, RequestError> {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (self.resource, None),
        };
        let attributes = ResourceAttributes {
            group: Some(self.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource,
            verb: Some(verb.to_owned()),
            name: object,
            namespace: Some(connection.namespace.clone()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let api: Api<SelfSubjectAccessReview> = Api::all(connection.client.clone());
        let answer = ask(api.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    fn judge(self, namespace: &str, verbs: Vec<(&'static str, Result<bool, RequestError>)>) -> Finding {
        let mut by: BTreeMap<bool, Vec<&str>> = BTreeMap::new();
        for (verb, allowed) in verbs {
            match allowed {
                Ok(allowed) => by.entry(allowed).or_default().push(verb),
                Err(error) => {
                    let text = format!("it is not known whether this is allowed: {}", crate::report::chain(&error));
                    return Finding::new(Verdict::Note, self.resource, text);
                }
            }
        }
        let Some(missing) = by.get(&false) else {
            return Finding::new(Verdict::Works, self.resource, self.verbs.join(", "));
        };
        let (verdict, lost) = match self.weight {
            Weight::Needed => (Verdict::Fails, String::new()),
            Weight::Lost(what) => (Verdict::Warning, format!(": {what} is lost")),
        };
        let text = format!("not allowed to {} {} in namespace {namespace}{lost}", joined(missing), self.resource);
        Finding::new(verdict, self.resource, text).hint("docs/rbac.md has the Role for each transport")
    }
}

/// `get, create or delete`
fn joined(verbs: &[&str]) -> String {
    match verbs {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::builder::Driver;
    use crate::options::DriverOptions;

    /// Resource and verb of each row of the table in docs/rbac.md.
    fn documented() -> BTreeSet<(String, String)> {
        let mut rights = BTreeSet::new();
        for line in include_str!("../../../../docs/rbac.md").lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let quoted =
                |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
            // Rows of other tables have fewer columns, or no verbs.
            let [_, _, resource, verbs, _, _] = cells[..] else { continue };
            for resource in quoted(resource) {
                rights.extend(quoted(verbs).into_iter().map(|verb| (resource.clone(), verb)));
            }
        }
        rights
    }

    /// Those that only some options need, which docs/rbac.md has in a table of options.
    const BY_OPTIONS: [&str; 3] = ["statefulsets", "persistentvolumeclaims", "poddisruptionbudgets"];

    #[test]
    fn the_rights_are_those_of_the_documentation() {
        let known: BTreeSet<(String, String)> = RIGHTS
            .iter()
            .filter(|right| !BY_OPTIONS.contains(&right.resource))
            .flat_map(|right| right.verbs.iter().map(|verb| (right.resource.to_owned(), (*verb).to_owned())))
            .collect();
        let documented = documented();
        assert!(documented.len() > 15, "{documented:?}");
        assert_eq!(known, documented, "driver/src/backend/kubernetes/rights.rs and docs/rbac.md differ");
    }

    #[test]
    fn only_what_the_options_need_is_asked_for() {
        let options = |transport| KubernetesOptions { transport, ..KubernetesOptions::default() };
        let auto = ["deployments", "pods", "pods/log", "events", "secrets", "pods/portforward", "pods/exec"];
        let without = |absent: &[&str]| auto.into_iter().filter(|it| !absent.contains(it)).collect::<Vec<_>>();
        for (transport, config, asked) in [
            (TransportChoice::Auto, false, without(&[])),
            (TransportChoice::Exec, false, without(&["secrets", "pods/portforward"])),
            (TransportChoice::Exec, true, without(&["pods/portforward"])),
            (TransportChoice::PortForward, false, without(&["pods/exec"])),
            (TransportChoice::PodIp, false, without(&["pods/portforward", "pods/exec"])),
        ] {
            let options = options(transport);
            let needed = |right: &&Right| (right.weight)(Wanted { options: &options, config }).is_some();
            let found: Vec<&str> = RIGHTS.iter().filter(needed).map(|right| right.resource).collect();
            assert_eq!(found, asked, "{transport:?} {config}");
        }
        let given = ["persistent-volume-claim.requests.storage=1Gi,poddisruptionbudget=minAvailable=1".to_owned()];
        let (_, parsed) = crate::options::parse_driver_opts(Driver::Kubernetes, &given).unwrap();
        let DriverOptions::Kubernetes(options) = parsed else { panic!("they are of that driver") };
        let needed = |right: &&Right| (right.weight)(Wanted { options: &options, config: false }).is_some();
        let found: Vec<&str> = RIGHTS.iter().filter(needed).map(|right| right.resource).collect();
        assert_eq!(found[..3], BY_OPTIONS, "{found:?}");
    }

    #[test]
    fn a_missing_right_names_verbs_resource_and_namespace() {
        let judged = |weight, allowed: [bool; 4]| {
            let verbs = ["get", "create", "patch", "delete"].into_iter().zip(allowed.map(Ok)).collect();
            let verbs_of_it = &["get", "create", "patch", "delete"];
            Asked { group: "", resource: "secrets", verbs: verbs_of_it, weight }.judge("builds", verbs)
        };
        assert_eq!(
            judged(Weight::Needed, [true; 4]),
            Finding::new(Verdict::Works, "secrets", "get, create, patch, delete")
        );
        let missing = judged(Weight::Needed, [true, false, true, false]);
        assert_eq!(missing.verdict, Verdict::Fails);
        assert_eq!(missing.text, "not allowed to create or delete secrets in namespace builds");
        let lost = judged(Weight::Lost("the news"), [false; 4]);
        assert_eq!(lost.verdict, Verdict::Warning);
        assert!(lost.text.ends_with("in namespace builds: the news is lost"), "{}", lost.text);
    }
}
