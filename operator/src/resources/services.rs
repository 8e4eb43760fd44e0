//! The two Services (rule O11): clients reach ready members, members reach each other whether ready or not. PURE.

use super::shared::{ADMIN_PORT, CLIENT_PORT, PEER_PORT, metadata, name, selector_labels};
use super::wanted::{hash, mark};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use raftkv_crds::{RaftKvCluster, child};

/// A ready pod is a voter that can read linearizably, so that readiness alone decides where clients are sent.
pub fn client_service(cluster: &RaftKvCluster) -> Service {
    marked(Service {
        metadata: metadata(cluster, name(cluster)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_string()),
            selector: Some(selector_labels(cluster)),
            ports: Some(vec![port("client", CLIENT_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

/// The members' names in DNS. They include nodes that are not ready, since the others need to find those most of all.
/// By the client port they also allow stale reads while the quorum is lost.
pub fn peers_service(cluster: &RaftKvCluster) -> Service {
    let ports = [("client", CLIENT_PORT), ("peer", PEER_PORT), ("admin", ADMIN_PORT)];
    marked(Service {
        metadata: metadata(cluster, &child::peers(name(cluster))),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_string()),
            cluster_ip: Some("None".to_string()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector_labels(cluster)),
            ports: Some(ports.map(|(name, number)| port(name, number)).to_vec()),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

fn marked(mut service: Service) -> Service {
    let hash = hash(&service);
    mark(&mut service.metadata, hash);
    service
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_string()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.to_string())),
        protocol: Some("TCP".to_string()),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::cluster;
    use super::*;
    use serde_json::json;

    #[test]
    fn rule_o11_services_select_by_the_cluster_label_alone() {
        let cluster = cluster(json!({}));
        for service in [client_service(&cluster), peers_service(&cluster)] {
            assert_eq!(
                serde_json::to_value(service.spec.unwrap().selector).unwrap(),
                json!({"raftkv.dev/cluster": "demo"})
            );
        }
    }

    #[test]
    fn members_find_each_other_before_they_are_ready() {
        let spec = peers_service(&cluster(json!({}))).spec.unwrap();
        assert_eq!((spec.cluster_ip.as_deref(), spec.publish_not_ready_addresses), (Some("None"), Some(true)));
        let ports: Vec<_> = spec.ports.unwrap().iter().map(|port| port.port).collect();
        assert_eq!(ports, [2379, 2380, 2381]);
    }
}
