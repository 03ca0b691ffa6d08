//! The `kubernetes` driver's options for builds that run as Jobs.

use super::by_hand::{HandKind, SENSELESS};
use super::kubernetes::{self, KubernetesOptions};
use super::table;
use super::{OptionError, OptionErrors, TransportChoice, split};
use crate::builder::Driver;

/// What the daemon does with a Job that it does not do with objects that are kept by hand.
const OF_THE_DAEMON: [&str; 2] = ["timeout", "manifest-patch"];

/// Types the options of a Job. It is rootless unless something else is said.
///
/// # Errors
/// All that is wrong with them together, in the order of the keys.
pub fn parse_for_job(driver_opts: &[String]) -> Result<KubernetesOptions, OptionErrors> {
    let (mut opts, mut errors) = split(driver_opts);
    for (key, kinds, why) in SENSELESS {
        let applies = kinds.contains(&HandKind::Job) && !OF_THE_DAEMON.contains(&key);
        if applies && opts.remove(key).is_some() {
            errors.push(OptionError { key: key.to_owned(), problem: format!("it makes no sense for a job: {why}") });
        }
    }
    if !opts.contains_key("hostusers") {
        opts.entry("rootless".to_owned()).or_insert_with(|| "true".to_owned());
    }
    let mut options: KubernetesOptions = table::read(Driver::Kubernetes, &kubernetes::KEYS, &opts, &mut errors);
    options.check(false, &mut errors);
    options.transport = TransportChoice::Exec;
    OptionErrors::none_of(errors).map(|()| options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(given: &str) -> Result<KubernetesOptions, String> {
        parse_for_job(&[given.to_owned()]).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_job_is_rootless_unless_something_else_is_said() {
        for (given, rootless, host_users) in [
            ("requests.cpu=1", true, true),
            ("rootless=false", false, true),
            ("rootless=true", true, true),
            ("hostusers=false", false, false),
        ] {
            let options = parsed(given).unwrap();
            assert_eq!((options.rootless, options.host_users), (rootless, host_users), "{given}");
        }
    }

    #[test]
    fn options_of_services_are_refused_together_and_those_of_pods_are_taken() {
        parsed("timeout=30s,nodeselector=disk=ssd,manifest-patch={spec: {template: {spec: {hostname: a}}}}").unwrap();
        let problem = parsed("replicas=2,loadbalance=random,namespace=builds,storageclass=fast").unwrap_err();
        for key in ["replicas", "loadbalance", "storageclass"] {
            assert!(problem.contains(&format!("`{key}`: it makes no sense for a job: ")), "{problem}");
        }
        assert_eq!(problem.lines().count(), 3, "{problem}");
    }
}
