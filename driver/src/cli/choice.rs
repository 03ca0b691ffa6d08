//! Which driver and which cluster `create` means, from what the user gave and what the environment says.

use std::path::{Path, PathBuf};

use buildfleet_proto::fleet::Kubeconfig;

use super::failure::Failure;
use crate::builder::Driver;

/// What the choice is made from.
#[derive(Debug, Clone, Default)]
pub(super) struct Given<'a> {
    /// `--driver`
    pub(super) driver: Option<Driver>,
    /// Of the builder that exists already.
    pub(super) existing: Option<Driver>,
    /// A positional endpoint.
    pub(super) endpoint: Option<&'a str>,
    /// `--kubeconfig`, absolute.
    pub(super) kubeconfig: Option<PathBuf>,
    /// `--context`
    pub(super) context: Option<String>,
    /// From `$KUBECONFIG` or `~/.kube/config`.
    pub(super) found: &'a [PathBuf],
    /// Whether this process runs in a pod with a service account.
    pub(super) in_cluster: bool,
}

/// The choice, and why when the user did not make it.
#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) driver: Driver,
    pub(super) why: Option<String>,
    pub(super) kubeconfig: Option<Kubeconfig>,
}

/// Kubernetes where a cluster is known, this machine otherwise.
pub(super) fn choose(given: Given<'_>) -> Result<Choice, Failure> {
    let wants_cluster = given.kubeconfig.is_some() || given.context.is_some();
    let (driver, why) = match (given.driver, given.existing) {
        (Some(driver), _) => (driver, None),
        (None, Some(driver)) => (driver, None),
        (None, None) if given.endpoint.is_some() => (Driver::Remote, Some("an endpoint is given".to_owned())),
        (None, None) if wants_cluster => (Driver::Kubernetes, None),
        (None, None) => match given.found {
            [] if given.in_cluster => (Driver::Kubernetes, Some("this is a pod of a cluster".to_owned())),
            [] => (Driver::Local, Some("found no kubeconfig".to_owned())),
            found => (Driver::Kubernetes, Some(format!("found {}", joined(found)))),
        },
    };
    let at_cluster = driver == Driver::Remote && given.endpoint.is_some_and(|endpoint| endpoint.starts_with("kube-"));
    if driver != Driver::Kubernetes && !at_cluster {
        if wants_cluster {
            let but = match driver {
                Driver::Remote => ", unless it has an endpoint kube-pod:// or kube-service://",
                Driver::Kubernetes | Driver::Local => "",
            };
            let problem = format!("--kubeconfig and --context are for the kubernetes driver, not {driver}{but}");
            return Err(Failure::usage(problem));
        }
        return Ok(Choice { driver, why, kubeconfig: None });
    }
    let paths = given.kubeconfig.map_or_else(|| given.found.to_vec(), |path| vec![path]);
    // An endpoint may name a kubeconfig of its own.
    if paths.is_empty() && !given.in_cluster && !at_cluster {
        return Err(Failure::usage("the kubernetes driver found no cluster: neither --kubeconfig nor $KUBECONFIG is given, there is no ~/.kube/config, and this is no pod of a cluster")
            .hint("without a cluster, `--driver local` runs buildkitd on this machine"));
    }
    if paths.is_empty() && given.context.is_some() && !at_cluster {
        return Err(Failure::usage("--context needs a kubeconfig, and found none"));
    }
    let paths: Result<Vec<String>, Failure> = paths.iter().map(|path| utf8(path)).collect();
    let kubeconfig = Kubeconfig { paths: paths?, context: given.context.unwrap_or_default() };
    Ok(Choice { driver, why, kubeconfig: Some(kubeconfig) })
}

fn utf8(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format!("the path {} is not UTF-8", path.display())))
}

fn joined(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(path: &str, context: &str) -> Option<Kubeconfig> {
        Some(Kubeconfig { paths: vec![path.into()], context: context.into() })
    }

    #[test]
    fn kubernetes_where_a_cluster_is_known_and_this_machine_otherwise() {
        let found = [PathBuf::from("/h/.kube/config")];
        let none = Given::default();
        for (given, driver, why, wanted) in [
            (none.clone(), Driver::Local, Some("found no kubeconfig"), None),
            (
                Given { found: &found, ..none.clone() },
                Driver::Kubernetes,
                Some("found /h/.kube/config"),
                kubeconfig("/h/.kube/config", ""),
            ),
            (
                Given { in_cluster: true, ..none.clone() },
                Driver::Kubernetes,
                Some("this is a pod of a cluster"),
                Some(Kubeconfig::default()),
            ),
            (Given { driver: Some(Driver::Local), found: &found, ..none.clone() }, Driver::Local, None, None),
            (Given { existing: Some(Driver::Local), found: &found, ..none.clone() }, Driver::Local, None, None),
            (
                Given { endpoint: Some("tcp://h:1"), found: &found, ..none.clone() },
                Driver::Remote,
                Some("an endpoint is given"),
                None,
            ),
            (
                Given { kubeconfig: Some("/k".into()), context: Some("c".into()), found: &found, ..none.clone() },
                Driver::Kubernetes,
                None,
                kubeconfig("/k", "c"),
            ),
            (
                Given { context: Some("c".into()), found: &found, ..none },
                Driver::Kubernetes,
                None,
                kubeconfig("/h/.kube/config", "c"),
            ),
        ] {
            let choice = choose(given.clone()).expect("a choice");
            assert_eq!(choice, Choice { driver, why: why.map(str::to_owned), kubeconfig: wanted }, "{given:?}");
        }
    }

    #[test]
    fn an_address_in_a_cluster_comes_with_the_kubeconfig() {
        let found = [PathBuf::from("/h/.kube/config")];
        for (endpoint, context, wanted) in [
            ("kube-pod://b", None, kubeconfig("/h/.kube/config", "")),
            ("kube-service://b:1", Some("dev"), kubeconfig("/h/.kube/config", "dev")),
            ("ssh://h", None, None),
        ] {
            let context = context.map(str::to_owned);
            let given = Given { endpoint: Some(endpoint), context, found: &found, ..Given::default() };
            let choice = choose(given).unwrap();
            assert_eq!((choice.driver, choice.kubeconfig), (Driver::Remote, wanted), "{endpoint}");
        }
        // The address itself may name a file.
        let bare = choose(Given { endpoint: Some("kube-pod://b?kubeconfig=/k"), ..Given::default() }).unwrap();
        assert_eq!(bare.kubeconfig, Some(Kubeconfig::default()));
    }

    #[test]
    fn what_does_not_go_together_is_a_usage_error() {
        let none = Given::default();
        for (given, part) in [
            (Given { driver: Some(Driver::Kubernetes), ..none.clone() }, "found no cluster"),
            (
                Given { driver: Some(Driver::Local), context: Some("c".into()), ..none.clone() },
                "for the kubernetes driver, not local",
            ),
            (Given { context: Some("c".into()), in_cluster: true, ..none }, "--context needs a kubeconfig"),
        ] {
            let failure = choose(given.clone()).expect_err("no choice");
            assert_eq!(failure.exit() as u8, 2);
            assert!(failure.render().contains(part), "{given:?}: {}", failure.render());
        }
    }
}
