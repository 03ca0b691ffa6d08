//! A node's platforms into the machines that its pods may run on.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Affinity, NodeSelectorRequirement, NodeSelectorTerm};

use crate::builder::{Node, Platform};
use crate::options::KubernetesOptions;

const ARCH_LABEL: &str = "kubernetes.io/arch";

/// The labels by which a `nodeselector` may have chosen an architecture already.
const ARCH_LABELS: [&str; 2] = [ARCH_LABEL, "beta.kubernetes.io/arch"];

/// The user's affinity, and with it one to machines that build the node's platforms natively.
pub(super) fn of_pods(node: &Node, options: &KubernetesOptions) -> Option<Affinity> {
    let Some(machines) = to_machines(node, options) else { return options.affinity.clone() };
    let mut affinity = options.affinity.clone().unwrap_or_default();
    let on_machines = affinity.node_affinity.get_or_insert_default();
    let required = on_machines.required_during_scheduling_ignored_during_execution.get_or_insert_default();
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    // One of the terms has to hold: the machines are part of each.
    for term in &mut required.node_selector_terms {
        term.match_expressions.get_or_insert_default().push(machines.clone());
    }
    Some(affinity)
}

/// Machines that build the node's platforms natively. None when the user chose the machines (`nodeselector`, `affinity`),
/// wants emulation everywhere (`qemu.install`), or named no platform.
fn to_machines(node: &Node, options: &KubernetesOptions) -> Option<NodeSelectorRequirement> {
    let chosen = ARCH_LABELS.iter().any(|label| options.nodeselector.contains_key(*label));
    if options.qemu_install || chosen || options.affinity.as_ref().is_some_and(chooses_machines) {
        return None;
    }
    let machines = native_machines(&node.platforms);
    (!machines.is_empty()).then(|| NodeSelectorRequirement {
        key: ARCH_LABEL.to_owned(),
        operator: "In".to_owned(),
        values: Some(machines.into_iter().map(str::to_owned).collect()),
    })
}

/// Whether it says something of architectures.
fn chooses_machines(affinity: &Affinity) -> bool {
    let on_machines = affinity.node_affinity.iter();
    let required = on_machines
        .clone()
        .filter_map(|it| it.required_during_scheduling_ignored_during_execution.as_ref())
        .flat_map(|required| &required.node_selector_terms);
    let preferred = on_machines
        .filter_map(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref())
        .flatten()
        .map(|preferred| &preferred.preference);
    let mut wanted = required.chain(preferred).filter_map(|term| term.match_expressions.as_ref()).flatten();
    wanted.any(|requirement| ARCH_LABELS.contains(&requirement.key.as_str()))
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
