//! A node's platforms into the machines that its pods may run on.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use crate::builder::{Node, Platform};
use crate::options::KubernetesOptions;

const ARCH_LABEL: &str = "kubernetes.io/arch";

/// The labels by which a `nodeselector` may have chosen an architecture already.
const ARCH_LABELS: [&str; 2] = [ARCH_LABEL, "beta.kubernetes.io/arch"];

/// Affinity to machines that build the node's platforms natively. None when the user chose the machines (`nodeselector`),
/// wants emulation everywhere (`qemu.install`), or named no platform.
pub(super) fn to_machines(node: &Node, options: &KubernetesOptions) -> Option<Affinity> {
    if options.qemu_install || ARCH_LABELS.iter().any(|label| options.nodeselector.contains_key(*label)) {
        return None;
    }
    let machines = native_machines(&node.platforms);
    if machines.is_empty() {
        return None;
    }
    let requirement = NodeSelectorRequirement {
        key: ARCH_LABEL.to_owned(),
        operator: "In".to_owned(),
        values: Some(machines.into_iter().map(str::to_owned).collect()),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    Some(Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector { node_selector_terms: vec![term] }),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    })
}

/// The architectures of machines that run all of `platforms` natively; where no machine does, those that run the first one.
///
/// The pods of a node are equal: which of them gets a build must not decide whether it works. With pods on both kinds of
/// machine, a node of `linux/amd64,linux/arm64` would do without emulation only by luck (docker/buildx#342).
fn native_machines(platforms: &[Platform]) -> BTreeSet<&str> {
    let mut linux = platforms.iter().filter(|platform| platform.os() == "linux").map(machines_for);
    let Some(first) = linux.next() else { return BTreeSet::new() };
    let all = linux.fold(first.clone(), |all, next| all.intersection(&next).copied().collect());
    if all.is_empty() { first } else { all }
}

/// The architectures, as `kubernetes.io/arch` has them, of machines that run the platform natively.
fn machines_for(platform: &Platform) -> BTreeSet<&str> {
    match platform.arch() {
        "386" => BTreeSet::from(["386", "amd64"]),
        "arm" => BTreeSet::from(["arm", "arm64"]),
        other => BTreeSet::from([other]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_run_all_platforms_natively_or_else_the_first() {
        for (platforms, machines) in [
            ("", &[][..]),
            ("linux/amd64", &["amd64"]),
            ("linux/amd64/v3", &["amd64"]),
            ("linux/amd64,linux/386", &["amd64"]),
            ("linux/386", &["386", "amd64"]),
            ("linux/arm64,linux/arm/v7,linux/arm/v6", &["arm64"]),
            ("linux/arm/v7", &["arm", "arm64"]),
            ("linux/amd64,linux/arm64", &["amd64"]),
            ("linux/arm64,linux/amd64", &["arm64"]),
            ("linux/arm/v7,linux/amd64", &["arm", "arm64"]),
            ("linux/riscv64", &["riscv64"]),
            ("windows/amd64", &[]),
            ("windows/amd64,linux/arm64", &["arm64"]),
        ] {
            let platforms = Platform::parse_list(platforms).unwrap();
            let wanted: BTreeSet<&str> = machines.iter().copied().collect();
            assert_eq!(native_machines(&platforms), wanted, "{platforms:?}");
        }
    }
}
