//! What the cluster's machines say of themselves that pods without the machines' root need: pure.

use k8s_openapi::api::core::v1::{Node as Machine, NodeSystemInfo};

use crate::backend::kernel::{has_idmapped_mounts, without_overlayfs};
use crate::backend::{Finding, Verdict};
use crate::options::KubernetesOptions;

/// Those that a node's options need; nothing for privileged pods.
pub(super) fn needs(machines: &[Machine], options: &KubernetesOptions) -> Vec<Finding> {
    if options.rootless {
        return rootless(machines);
    }
    if options.host_users { Vec::new() } else { namespaces_of_pods(machines) }
}

/// Where rootlesskit may fail, and what is slow. Switches of a kernel cannot be seen from here.
fn rootless(machines: &[Machine]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ubuntu = named(machines, |info| restricts_by_apparmor(&info.os_image));
    if !ubuntu.is_empty() {
        let text = format!(
            "Ubuntu from 23.10 on forbids user namespaces to programs that no AppArmor profile allows them: {}",
            told(&ubuntu)
        );
        findings.push(Finding::new(Verdict::Note, "AppArmor", text).hint(
            "where pods end with `permission denied` of rootlesskit, set kernel.apparmor_restrict_unprivileged_userns=0 on these \
             machines, or load a profile there that grants userns",
        ));
    }
    let old = named(machines, |info| without_overlayfs(&info.kernel_version).is_some());
    if let Some(why) = machines.iter().filter_map(info).find_map(|info| without_overlayfs(&info.kernel_version)) {
        findings.push(Finding::new(Verdict::Warning, "overlayfs", format!("{why}: {}", told(&old))));
    }
    let text = "rootless pods need user.max_user_namespaces over 0 on their machines, and on Debian's older kernels \
                kernel.unprivileged_userns_clone=1; it cannot be seen from here";
    findings.push(Finding::new(Verdict::Note, "sysctls", text));
    findings
}

/// What `hostusers=false` needs.
fn namespaces_of_pods(machines: &[Machine]) -> Vec<Finding> {
    let cannot = |machine: &&Machine| {
        let handlers = machine.status.as_ref().and_then(|status| status.runtime_handlers.as_ref());
        let knows = handlers.is_some_and(|handlers| {
            handlers.iter().any(|it| it.features.as_ref().is_some_and(|it| it.user_namespaces == Some(true)))
        });
        !knows || info(machine).is_some_and(|info| has_idmapped_mounts(&info.kernel_version) == Some(false))
    };
    let without: Vec<String> = machines.iter().filter(cannot).map(name).collect();
    if machines.is_empty() {
        return Vec::new();
    }
    if without.is_empty() {
        return vec![Finding::new(Verdict::Works, "user namespaces", "all machines have them for pods")];
    }
    let verdict = if without.len() == machines.len() { Verdict::Fails } else { Verdict::Warning };
    let text = format!("these machines have none for pods: {}", told(&without));
    vec![Finding::new(verdict, "user namespaces", text).hint(
        "hostusers=false needs Kubernetes 1.33, containerd 2.0 or CRI-O 1.25, and Linux 6.3; --driver-opt nodeselector=… keeps \
         pods to machines that have them",
    )]
}

/// `Ubuntu 24.04.1 LTS`
fn restricts_by_apparmor(os_image: &str) -> bool {
    let version = os_image.strip_prefix("Ubuntu ").and_then(|rest| rest.split([' ', '.']).next()?.parse::<u32>().ok());
    // 23.04 does not, and is long out of use.
    version.is_some_and(|year| year >= 23)
}

fn info(machine: &Machine) -> Option<&NodeSystemInfo> {
    machine.status.as_ref()?.node_info.as_ref()
}

fn name(machine: &Machine) -> String {
    machine.metadata.name.clone().unwrap_or_default()
}

fn named(machines: &[Machine], is: impl Fn(&NodeSystemInfo) -> bool) -> Vec<String> {
    machines.iter().filter(|machine| info(machine).is_some_and(&is)).map(name).collect()
}

/// The first of them, and how many more there are.
fn told(names: &[String]) -> String {
    match names {
        [first, second, third, _, ..] => format!("{first}, {second}, {third} and {} more", names.len() - 3),
        few => few.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn machine(name: &str, os: &str, kernel: &str, namespaces: bool) -> Machine {
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {
            "nodeInfo": {"osImage": os, "kernelVersion": kernel, "architecture": "", "bootID": "", "containerRuntimeVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "systemUUID": ""},
            "runtimeHandlers": [{"name": "runc", "features": {"userNamespaces": namespaces}}]}}))
        .unwrap()
    }

    fn found(machines: &[Machine], rootless: bool, host_users: bool) -> Vec<(Verdict, String, String)> {
        let options = KubernetesOptions { rootless, host_users, ..KubernetesOptions::default() };
        needs(machines, &options).into_iter().map(|it| (it.verdict, it.subject, it.text)).collect()
    }

    #[test]
    fn only_what_pods_need_is_told() {
        let machines = [machine("a", "Debian GNU/Linux 12", "6.8.0", true)];
        assert_eq!(found(&machines, false, true), []);
        let subjects: Vec<String> = found(&machines, true, true).into_iter().map(|it| it.1).collect();
        assert_eq!(subjects, ["sysctls"]);
        assert_eq!(found(&machines, false, false)[0].0, Verdict::Works);
    }

    #[test]
    fn machines_that_may_fail_are_named() {
        let ubuntu = |name: &str| machine(name, "Ubuntu 24.04.1 LTS", "5.10.0-32", false);
        let machines: Vec<Machine> = ["a", "b", "c", "d", "e"].map(ubuntu).into();
        let findings = found(&machines, true, true);
        assert!(findings[0].2.ends_with(": a, b, c and 2 more"), "{findings:?}");
        assert_eq!((findings[1].0, findings[1].1.as_str()), (Verdict::Warning, "overlayfs"));
        assert_eq!(found(&machines, false, false)[0].0, Verdict::Fails);
        let mixed = [ubuntu("a"), machine("b", "Fedora", "6.8.0", true), machine("c", "Fedora", "6.1.0", true)];
        let (verdict, _, text) = found(&mixed, false, false).remove(0);
        assert_eq!((verdict, text.as_str()), (Verdict::Warning, "these machines have none for pods: a, c"));
    }

    #[test]
    fn the_restriction_is_that_of_ubuntu_s_later_releases() {
        for (os, restricts) in [
            ("Ubuntu 24.04.1 LTS", true),
            ("Ubuntu 23.10", true),
            ("Ubuntu 22.04.5 LTS", false),
            ("Debian GNU/Linux 12 (bookworm)", false),
            ("Bottlerocket OS 1.20.0", false),
        ] {
            assert_eq!(restricts_by_apparmor(os), restricts, "{os}");
        }
    }
}
