//! The flags of `raftkv-operator`, each written once. From the table [`FLAGS`] the command line and the environment are
//! read, and `--help` and the errors are made. Each flag takes a value as text and puts it in its place in [`Args`].
//! Nothing is read or printed here: `command_line` does that. PURE.

use raftkv_crds::PullPolicy;
use std::net::SocketAddr;

/// Image of clusters that name none, where the installation names none either.
const NODE_IMAGE: &str = concat!("ghcr.io/raftkv/raftkv:", env!("CARGO_PKG_VERSION"));

/// The values of all flags, from the command line, the environment or the defaults. `config` checks them further.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// Namespaces whose clusters are run, separated by commas; empty for all of them.
    pub watch_namespace: String,
    /// Image of clusters whose spec names none.
    pub node_image: String,
    /// When that image is pulled.
    pub node_image_pull_policy: PullPolicy,
    /// DNS domain of the Kubernetes cluster.
    pub cluster_domain: String,
    /// Where health and metrics are served; `None` until its default is set.
    pub listen: Option<SocketAddr>,
    /// Namespace of the Lease; empty for the operator's own.
    pub lease_namespace: String,
    /// Name of the operator's pod; empty outside of a pod.
    pub pod_name: String,
    /// uid of the operator's pod; empty outside of a pod.
    pub pod_uid: String,
    /// Whether cluster-scoped objects may be read.
    pub cluster_reads: bool,
    /// What is logged.
    pub log: String,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// The URL to ask instead of running.
    pub probe: Option<String>,
    /// For tests only: how many actions to carry out before the process ends.
    pub exit_after: Option<u64>,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one object a line.
    Json,
}

/// One flag.
pub struct Flag {
    /// Its name, without the two dashes.
    pub name: &'static str,
    /// The environment variable that is read when the flag is not given.
    pub env: Option<&'static str>,
    /// The value that is used when the variable is not set either.
    pub default: Option<&'static str>,
    /// Its line in `--help`.
    pub help: &'static str,
    /// Whether `--help` leaves it out.
    pub hidden: bool,
    /// What it takes.
    pub takes: Takes,
}

/// What a flag takes, and where the value goes.
pub enum Takes {
    /// Any text; it goes to this place.
    Text(fn(&mut Args) -> &mut String),
    /// Text that this function can parse. The error says what would be right.
    Parsed(fn(&mut Args, &str) -> Result<(), &'static str>),
    /// One of these words.
    OneOf(&'static [Choice]),
}

/// One of the words that a flag takes.
pub struct Choice {
    /// The word.
    pub word: &'static str,
    /// What it means; empty where the word says it.
    pub help: &'static str,
    /// Puts the value in its place.
    pub set: fn(&mut Args),
}

/// All flags, in the order of `--help`.
pub const FLAGS: &[Flag] = &[
    Flag {
        name: "watch-namespace",
        env: Some("RAFTKV_WATCH_NAMESPACE"),
        default: None,
        help: "Namespaces whose clusters are run, separated by commas; all of them without it",
        hidden: false,
        takes: Takes::Text(|args| &mut args.watch_namespace),
    },
    Flag {
        name: "node-image",
        env: Some("RAFTKV_NODE_IMAGE"),
        default: Some(NODE_IMAGE),
        help: "Image of clusters whose spec names none",
        hidden: false,
        takes: Takes::Text(|args| &mut args.node_image),
    },
    Flag {
        name: "node-image-pull-policy",
        env: Some("RAFTKV_NODE_IMAGE_PULL_POLICY"),
        default: Some("IfNotPresent"),
        help: "When that image is pulled",
        hidden: false,
        takes: Takes::OneOf(&[
            Choice {
                word: "IfNotPresent",
                help: "",
                set: |args| args.node_image_pull_policy = PullPolicy::IfNotPresent,
            },
            Choice { word: "Always", help: "", set: |args| args.node_image_pull_policy = PullPolicy::Always },
            Choice { word: "Never", help: "", set: |args| args.node_image_pull_policy = PullPolicy::Never },
        ]),
    },
    Flag {
        name: "cluster-domain",
        env: Some("RAFTKV_CLUSTER_DOMAIN"),
        default: Some("cluster.local"),
        help: "DNS domain of the Kubernetes cluster",
        hidden: false,
        takes: Takes::Text(|args| &mut args.cluster_domain),
    },
    Flag {
        name: "listen",
        env: Some("RAFTKV_LISTEN"),
        default: Some("0.0.0.0:8080"),
        help: "Address of /livez, /readyz and /metrics",
        hidden: false,
        takes: Takes::Parsed(|args, value| {
            let wanted = "invalid socket address syntax, give an IP address and a port, as in 0.0.0.0:8080";
            args.listen = Some(value.parse().map_err(|_| wanted)?);
            Ok(())
        }),
    },
    Flag {
        name: "lease-namespace",
        env: Some("POD_NAMESPACE"),
        default: None,
        help: "Namespace of the Lease; the one that the operator runs in without it",
        hidden: false,
        takes: Takes::Text(|args| &mut args.lease_namespace),
    },
    Flag {
        name: "pod-name",
        env: Some("POD_NAME"),
        default: None,
        help: "Name of the operator's pod, for Events",
        hidden: false,
        takes: Takes::Text(|args| &mut args.pod_name),
    },
    Flag {
        name: "pod-uid",
        env: Some("POD_UID"),
        default: None,
        help: "uid of the operator's pod: who holds the Lease; drawn by chance without it",
        hidden: false,
        takes: Takes::Text(|args| &mut args.pod_uid),
    },
    Flag {
        name: "cluster-reads",
        env: Some("RAFTKV_CLUSTER_READS"),
        default: Some("true"),
        help: "Whether Nodes, PersistentVolumes and the CustomResourceDefinition may be read",
        hidden: false,
        takes: Takes::OneOf(&[
            Choice { word: "true", help: "", set: |args| args.cluster_reads = true },
            Choice { word: "false", help: "", set: |args| args.cluster_reads = false },
        ]),
    },
    Flag {
        name: "log",
        env: Some("RAFTKV_LOG"),
        default: Some("info"),
        help: "What is logged: error, warn, info, debug, or a filter such as info,raftkv_operator=debug",
        hidden: false,
        takes: Takes::Text(|args| &mut args.log),
    },
    Flag {
        name: "log-format",
        env: Some("RAFTKV_LOG_FORMAT"),
        default: Some("text"),
        help: "Form of log lines",
        hidden: false,
        takes: Takes::OneOf(&[
            Choice { word: "text", help: "For people", set: |args| args.log_format = LogFormat::Text },
            Choice {
                word: "json",
                help: "For programs: one object a line",
                set: |args| args.log_format = LogFormat::Json,
            },
        ]),
    },
    Flag {
        name: "probe",
        env: None,
        default: None,
        help: "Ask for this URL, and exit with 0 if the answer is a success, else with 1",
        hidden: true,
        takes: Takes::Parsed(|args, value| {
            args.probe = Some(value.to_string());
            Ok(())
        }),
    },
    Flag {
        name: "exit-after",
        env: Some("RAFTKV_OPERATOR_EXIT_AFTER"),
        default: None,
        help: "For tests only: exit with 17 after so many actions that change the world",
        hidden: true,
        takes: Takes::Parsed(|args, value| {
            args.exit_after = Some(value.parse().map_err(|_| "give a whole number, as in 3")?);
            Ok(())
        }),
    },
];

impl Flag {
    /// As it is typed, with a word for its value: `--listen <LISTEN>`.
    pub fn usage(&self) -> String {
        format!("--{} <{}>", self.name, self.name.to_uppercase().replace('-', "_"))
    }

    /// The words that it takes; none where it takes any text.
    pub fn choices(&self) -> &'static [Choice] {
        match self.takes {
            Takes::Text(_) | Takes::Parsed(_) => &[],
            Takes::OneOf(choices) => choices,
        }
    }

    /// ` [possible values: true, false]`, or nothing where any text is possible.
    pub fn possible_values(&self) -> Option<String> {
        let words: Vec<&str> = self.choices().iter().map(|choice| choice.word).collect();
        (!words.is_empty()).then(|| format!("[possible values: {}]", words.join(", ")))
    }
}
