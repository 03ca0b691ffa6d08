//! Who may connect to pods that are kept by hand.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{ByHand, DEBUG_PORT};
use crate::manifest::TLS_PORT;

/// Pods of the namespace reach the port that is guarded by certificates, pods of all namespaces that of the metrics, because
/// nobody knows where Prometheus is. All else is closed. Builds may go out to wherever they want.
pub(super) fn network_policy(set: &ByHand<'_>) -> NetworkPolicy {
    let rule = |port: u16, from: NetworkPolicyPeer| NetworkPolicyIngressRule {
        from: Some(vec![from]),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(i32::from(port))),
            ..NetworkPolicyPort::default()
        }]),
    };
    let same_namespace =
        NetworkPolicyPeer { pod_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() };
    let all_namespaces =
        NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() };
    let builds = set.options.tls_secret().map(|_| rule(TLS_PORT, same_namespace));
    let metrics = set.prometheus.then(|| rule(DEBUG_PORT, all_namespaces));
    let rules: Vec<NetworkPolicyIngressRule> = builds.into_iter().chain(metrics).collect();
    NetworkPolicy {
        metadata: set.metadata(),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector { match_labels: Some(set.selected()), match_expressions: None }),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: (!rules.is_empty()).then_some(rules),
            egress: None,
        }),
    }
}
