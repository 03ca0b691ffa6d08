//! The port of a pod that a Service means: pure.

use k8s_openapi::api::core::v1::{Pod as KubePod, Service, ServicePort as Port};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::builder::ServicePort;

/// Why no port of a pod is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum PortError {
    #[error("service {service} has no port {wanted}, it has {known}")]
    Unknown { service: String, wanted: ServicePort, known: String },
    #[error(
        "service {service} has several ports, {known}: the address has to name one, as in kube-service://{service}:PORT"
    )]
    Several { service: String, known: String },
    #[error("service {service} has no ports")]
    None { service: String },
    #[error("no container of the pod has the port `{name}` that service {service} leads to")]
    Unnamed { service: String, name: String },
}

/// As the cluster's own load balancing finds it.
pub(in super::super) fn of_pod(
    service: &Service,
    wanted: Option<&ServicePort>,
    pod: &KubePod,
) -> Result<u16, PortError> {
    let port = chosen(service, wanted)?;
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Ok(number(port.port)),
        Some(IntOrString::Int(target)) => Ok(number(*target)),
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let named = ports.find(|port| port.name.as_ref() == Some(name));
            let unnamed = || PortError::Unnamed { service: service.name_any(), name: name.clone() };
            named.map(|port| number(port.container_port)).ok_or_else(unnamed)
        }
    }
}

fn chosen<'a>(service: &'a Service, wanted: Option<&ServicePort>) -> Result<&'a Port, PortError> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let name = || service.name_any();
    let known = || ports.iter().map(described).collect::<Vec<_>>().join(", ");
    match (wanted, ports) {
        (_, []) => Err(PortError::None { service: name() }),
        (None, [one]) => Ok(one),
        (None, _) => Err(PortError::Several { service: name(), known: known() }),
        (Some(wanted), ports) => {
            let is_it = |port: &&Port| match wanted {
                ServicePort::Number(number) => port.port == i32::from(*number),
                ServicePort::Name(name) => port.name.as_ref() == Some(name),
            };
            let unknown = || PortError::Unknown { service: name(), wanted: wanted.clone(), known: known() };
            ports.iter().find(is_it).ok_or_else(unknown)
        }
    }
}

fn described(port: &Port) -> String {
    let name = port.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{}{name}", port.port)
}

/// The API server lets no others in.
fn number(port: i32) -> u16 {
    u16::try_from(port).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(ports: &Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "b"}, "spec": {"ports": ports}})).unwrap()
    }

    fn pod() -> KubePod {
        let ports = json!([{"containerPort": 9000, "name": "debug"}, {"containerPort": 1235, "name": "grpc"}]);
        serde_json::from_value(json!({"spec": {"containers": [{"name": "x"}, {"name": "y", "ports": ports}]}})).unwrap()
    }

    #[test]
    fn a_port_is_found_by_number_by_name_or_as_the_only_one() {
        let one = json!([{"port": 1234}]);
        let two = json!([{"port": 80, "name": "http", "targetPort": 8080}, {"port": 1234, "name": "tls", "targetPort": "grpc"}]);
        let (by_number, by_name) = (|n| Some(ServicePort::Number(n)), |n: &str| Some(ServicePort::Name(n.to_owned())));
        for (ports, wanted, found) in [
            (&one, None, Ok(1234)),
            (&one, by_number(1234), Ok(1234)),
            (&one, by_number(1), Err("service b has no port 1, it has 1234")),
            (&two, by_number(80), Ok(8080)),
            (&two, by_name("tls"), Ok(1235)),
            (&two, by_name("x"), Err("service b has no port x, it has 80 (http), 1234 (tls)")),
            (
                &two,
                None,
                Err(
                    "service b has several ports, 80 (http), 1234 (tls): the address has to name one, as in kube-service://b:PORT",
                ),
            ),
            (&json!([]), None, Err("service b has no ports")),
            (
                &json!([{"port": 1, "targetPort": "x"}]),
                None,
                Err("no container of the pod has the port `x` that service b leads to"),
            ),
        ] {
            let port = of_pod(&service(ports), wanted.as_ref(), &pod()).map_err(|error| error.to_string());
            assert_eq!(port, found.map_err(str::to_owned), "{ports} {wanted:?}");
        }
    }
}
