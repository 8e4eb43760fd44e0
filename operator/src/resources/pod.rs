//! The pod of a member. PURE.
//!
//! It satisfies the restricted Pod Security Standard. Nothing in it depends on the membership: the volume says which
//! cluster a node belongs to, and others reach the node by its name.

use super::shared::{
    ADMIN_PORT, CLIENT_PORT, CONTAINER, PEER_PORT, Settings, image, labels, name, namespace, peer_domain, selector,
};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, LocalObjectReference,
    ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use raftkv_crds::{PullPolicy, RaftKvCluster, Spread, child};
use std::collections::BTreeMap;

/// User and group of the image.
const UID: i64 = 65_532;
/// The time to stop: to hand leadership over, to wait for `--drain`, to answer the requests in flight and to close the
/// log.
const GRACE_S: i64 = 30;
/// A node goes on serving for this long after SIGTERM, since kube-proxy learns of it about a second late (rule O22).
const DRAIN: &str = "3s";
/// Where the volume is.
const DATA_DIR: &str = "/var/lib/raftkv";
/// Where the Secret is.
const AUTH_DIR: &str = "/etc/raftkv/auth";
/// The volume with the Secret.
const AUTH_VOLUME: &str = "auth";
/// The mode of the Secret's files: readable by the user and, since fsGroup is their group, by the node.
const AUTH_MODE: i32 = 0o440;
/// The scheduler's greatest weight, so that no other preference puts two members on one machine.
const SPREAD_WEIGHT: i32 = 100;

/// The template: the same for every pod.
pub(super) fn template(cluster: &RaftKvCluster, settings: &Settings) -> PodTemplateSpec {
    let pod = &cluster.spec.pod;
    // Our own entries come last, so that they win.
    let labels: BTreeMap<_, _> = pod.labels.clone().into_iter().chain(labels(cluster)).collect();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: some_map(&pod.annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(cluster, settings)),
    }
}

fn spec(cluster: &RaftKvCluster, settings: &Settings) -> PodSpec {
    let (spec, pod) = (&cluster.spec, &cluster.spec.pod);
    let secrets = spec.image_pull_secrets.iter().map(|secret| LocalObjectReference { name: secret.name.clone() });
    PodSpec {
        affinity: affinity(cluster),
        automount_service_account_token: Some(false),
        containers: vec![container(cluster, settings)],
        // Otherwise a Service called `raftkv-name` would set variables RAFTKV_NAME..., which the node reads.
        enable_service_links: Some(false),
        image_pull_secrets: some_list(secrets.collect()),
        node_selector: some_map(&pod.node_selector),
        priority_class_name: pod.priority_class_name.clone(),
        security_context: Some(PodSecurityContext {
            fs_group: Some(UID),
            // A large volume is not walked at each start to change the owner of its files.
            fs_group_change_policy: Some("OnRootMismatch".to_string()),
            run_as_group: Some(UID),
            run_as_non_root: Some(true),
            run_as_user: Some(UID),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_string(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        termination_grace_period_seconds: Some(GRACE_S),
        tolerations: some_list(pod.tolerations.clone()),
        volumes: Some(vec![Volume {
            name: AUTH_VOLUME.to_string(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(child::auth(name(cluster))),
                default_mode: Some(AUTH_MODE),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    }
}

fn some_map(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then(|| map.clone())
}

fn some_list<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn affinity(cluster: &RaftKvCluster) -> Option<Affinity> {
    let topology = &cluster.spec.topology;
    let term = PodAffinityTerm {
        label_selector: Some(selector(cluster)),
        topology_key: topology.topology_key.clone(),
        ..PodAffinityTerm::default()
    };
    let apart = match topology.spread {
        Spread::Off => return None,
        Spread::Required => PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..PodAntiAffinity::default()
        },
        Spread::Preferred => PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                pod_affinity_term: term,
                weight: SPREAD_WEIGHT,
            }]),
            ..PodAntiAffinity::default()
        },
    };
    Some(Affinity { pod_anti_affinity: Some(apart), ..Affinity::default() })
}

fn container(cluster: &RaftKvCluster, settings: &Settings) -> Container {
    let ports = [("client", CLIENT_PORT), ("peer", PEER_PORT), ("admin", ADMIN_PORT)];
    Container {
        name: CONTAINER.to_string(),
        image: Some(image(cluster, settings).to_string()),
        image_pull_policy: Some(pull_policy(cluster, settings).as_str().to_string()),
        args: Some(args(cluster, settings)),
        env: Some(env(cluster)),
        ports: Some(ports.map(|(name, number)| port(name, number)).to_vec()),
        // It is asked only until it first answers, and a node answers while it still reads its data: no limit depends
        // on their size.
        startup_probe: Some(probe("/livez", Timing { period_s: 1, timeout_s: 2, failures: 60 })),
        liveness_probe: Some(probe("/livez", Timing { period_s: 10, timeout_s: 5, failures: 6 })),
        // An election (about a second) must not empty the Service (rule O11).
        readiness_probe: Some(probe("/readyz", Timing { period_s: 2, timeout_s: 2, failures: 5 })),
        resources: Some(resources(cluster)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_string()]), add: None }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        // The last words of a node say why it ended, and `kubectl describe pod` shows them.
        termination_message_policy: Some("FallbackToLogsOnError".to_string()),
        volume_mounts: Some(vec![
            VolumeMount {
                name: child::CLAIM_TEMPLATE.to_string(),
                mount_path: DATA_DIR.to_string(),
                ..VolumeMount::default()
            },
            VolumeMount {
                name: AUTH_VOLUME.to_string(),
                mount_path: AUTH_DIR.to_string(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
        ]),
        ..Container::default()
    }
}

/// The policy of the installation is for the image of the installation; a policy in the spec is for any image.
fn pull_policy(cluster: &RaftKvCluster, settings: &Settings) -> PullPolicy {
    let asked = cluster.spec.image_pull_policy;
    let is_default = asked == PullPolicy::default();
    if cluster.spec.image.is_none() && is_default { settings.node_image_pull_policy } else { asked }
}

fn args(cluster: &RaftKvCluster, settings: &Settings) -> Vec<String> {
    let host = format!("$(POD_NAME).{}", peer_domain(cluster, settings));
    let mut args = vec![
        "serve".to_string(),
        "--name=$(POD_NAME)".to_string(),
        format!("--data-dir={DATA_DIR}"),
        // Without its volume, a node would look Blank (rule N7).
        "--require-mount".to_string(),
        format!("--token-file={AUTH_DIR}/{}", child::TOKEN_KEY),
    ];
    for (which, port) in [("client", CLIENT_PORT), ("peer", PEER_PORT), ("admin", ADMIN_PORT)] {
        args.push(format!("--listen-{which}=0.0.0.0:{port}"));
        args.push(format!("--{which}-url=http://{host}:{port}"));
    }
    args.push(format!("--allowed-host={}", allowed_hosts(cluster, settings).join(",")));
    args.push(format!("--drain={DRAIN}"));
    args.push("--log-format=json".to_string());
    let config = &cluster.spec.config;
    // A quota that is not a number of bytes makes the spec invalid, and then this template is not applied.
    args.extend(config.quota.as_ref().and_then(|quota| quota.bytes().ok()).map(|bytes| format!("--quota={bytes}")));
    args.extend(config.compact_retention.as_ref().map(|kept| format!("--compact-retention={kept}")));
    args
}

/// The short and long names of the Services, so that a node accepts them as its own.
fn allowed_hosts(cluster: &RaftKvCluster, settings: &Settings) -> Vec<String> {
    let (name, namespace, domain) = (name(cluster), namespace(cluster), &settings.cluster_domain);
    let peers = child::peers(name);
    let services = [name.to_string(), peers.clone(), format!("$(POD_NAME).{peers}")];
    let forms = |service: String| {
        let in_namespace = format!("{service}.{namespace}");
        let long = [format!("{in_namespace}.svc"), format!("{in_namespace}.svc.{domain}")];
        [service, in_namespace].into_iter().chain(long)
    };
    services.into_iter().flat_map(forms).collect()
}

fn env(cluster: &RaftKvCluster) -> Vec<EnvVar> {
    let field = ObjectFieldSelector { field_path: "metadata.name".to_string(), api_version: None };
    let pod_name = EnvVar {
        name: "POD_NAME".to_string(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        value: None,
    };
    let log = cluster.spec.config.log.clone();
    let log = log.map(|filter| EnvVar { name: "RAFTKV_LOG".to_string(), value: Some(filter), value_from: None });
    [pod_name].into_iter().chain(log).collect()
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_string()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_string()),
        ..ContainerPort::default()
    }
}

struct Timing {
    period_s: i32,
    timeout_s: i32,
    failures: i32,
}

fn probe(path: &str, timing: Timing) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_string()),
            port: IntOrString::String("admin".to_string()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(timing.period_s),
        timeout_seconds: Some(timing.timeout_s),
        failure_threshold: Some(timing.failures),
        ..Probe::default()
    }
}

fn resources(cluster: &RaftKvCluster) -> ResourceRequirements {
    let amounts = |of: &BTreeMap<String, raftkv_crds::Quantity>| {
        let amounts = of.iter().map(|(name, amount)| (name.clone(), Quantity(amount.0.clone())));
        (!of.is_empty()).then(|| amounts.collect())
    };
    let resources = &cluster.spec.resources;
    ResourceRequirements { requests: amounts(&resources.requests), limits: amounts(&resources.limits), claims: None }
}
