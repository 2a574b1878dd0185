//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Inspect and change a Lockstep cluster.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// A node's API address; repeat it, and they are tried in turn.
    #[arg(
        long = "server",
        global = true,
        env = "LOCKSTEP_SERVER",
        value_delimiter = ',',
        default_value = "127.0.0.1:7443"
    )]
    pub(crate) servers: Vec<String>,
    /// How long to wait for an answer, e.g. 500ms, 5s.
    #[arg(long, global = true, default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Read what this node knows, without asking the cluster whether it is the newest.
    #[arg(long, global = true)]
    pub(crate) stale: bool,
    /// How to print.
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Certificate authority (PEM) that signed the server's certificate; turns TLS on.
    #[arg(long, global = true, value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Our certificate (PEM).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// Print formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    /// The table with every column.
    Wide,
    Json,
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the cluster what a manifest says (YAML or JSON; all of it, or nothing).
    Apply {
        /// The manifest; - for standard input.
        #[arg(short, value_name = "FILE")]
        file: String,
        /// Check it and say what would change.
        #[arg(long)]
        dry_run: bool,
        /// Also delete groups, services and SNAT rules that the manifest does not name.
        #[arg(long)]
        prune: bool,
    },
    /// Show what `apply` of a manifest would change, field by field. Exit code 0: nothing, 6: something.
    Diff {
        /// The manifest; - for standard input.
        #[arg(short, value_name = "FILE")]
        file: String,
    },
    /// Show objects: groups, services, snatrules, nodes, cluster, endpoints.
    Get {
        /// group(s), service(s) or svc, snatrule(s) or snat, node(s), cluster, endpoint(s) or ep (of the service NAME)
        kind: Kind,
        name: Option<String>,
        /// Go on, and show again what changes. Looks twice a second.
        #[arg(long, short)]
        watch: bool,
    },
    /// Show everything known of one object.
    Describe {
        /// group(s), service(s) or svc, snatrule(s) or snat, node(s), cluster, endpoint(s) or ep (of the service NAME)
        kind: Kind,
        name: Option<String>,
    },
    /// Delete a group, a service or an SNAT rule.
    Delete {
        #[arg(requires = "name", conflicts_with = "file", required_unless_present = "file")]
        kind: Option<Kind>,
        name: Option<String>,
        /// Delete what this manifest names; - for standard input.
        #[arg(short, value_name = "FILE")]
        file: Option<String>,
    },
    /// The flows in this node's kernel.
    Flows {
        /// key=value, repeatable: group, service (or SNAT rule), client, endpoint, protocol.
        #[arg(long = "filter", value_name = "KEY=VALUE")]
        filters: Vec<String>,
        /// At most this many; 0: all.
        #[arg(long, default_value_t = 0)]
        limit: u64,
    },
    /// Every reason this node's dataplane counts, also at zero.
    Counters,
    /// Change one endpoint of a service.
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Who owns a group, how long, and who could.
    #[command(subcommand)]
    Group(GroupCommand),
    /// The cluster itself.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// One node.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Whether this machine is fit for the node its configuration describes: a line per check. Runs here, as root,
    /// without a cluster; exit code 0: nothing failed.
    Doctor {
        /// The node's configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/lockstep/node.toml")]
        config: PathBuf,
    },
    /// Print a script that completes this command's words in a shell.
    Completion {
        /// Whose.
        shell: clap_complete::Shell,
    },
}

/// An endpoint.
#[derive(Debug, clap::Args)]
pub(crate) struct EndpointName {
    /// The service's name.
    pub(crate) service: String,
    /// The endpoint's address, e.g. 10.0.0.11, or with its port, 10.0.0.11:8443 or [2001:db8::1]:8443.
    pub(crate) address: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// Its flows go on, and it gets no new ones.
    Drain(EndpointName),
    /// It gets new flows.
    Enable(EndpointName),
    /// As drained; and it is not probed.
    Disable(EndpointName),
    /// Its share of the new flows, in proportion to those of the others.
    Weight {
        #[command(flatten)]
        name: EndpointName,
        /// 0 to 1000; 0: no new flows.
        weight: u16,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Owner, epoch, lease, promises, replication, and why each standby may or may not take over.
    Status {
        /// All groups if not given.
        name: Option<String>,
    },
    /// Give a group to another node, which must be fit and hold its flows. Its owner hands over.
    Move {
        /// The group.
        name: String,
        /// The next owner's name.
        #[arg(long, value_name = "NODE")]
        to: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make a cluster of this node and the peers its configuration names.
    Init,
    /// Make this node a member of a cluster that exists. May be repeated, also to give a learner its vote.
    Join {
        /// cluster.listen of members, tried in turn; those in the node's cluster.peers if not given.
        via: Vec<std::net::SocketAddr>,
        /// Carry traffic without a vote.
        #[arg(long)]
        learner: bool,
    },
    /// Take a node out of the cluster. A node that lives is told on its own API, and gives its groups away first.
    Leave {
        /// One that is gone for good, or owns nothing; the node asked if not given.
        node: Option<String>,
    },
    /// Write what the cluster agreed on to a file.
    Backup { file: PathBuf },
    /// Make a new cluster of the node asked, which must be empty, with the intent of a backup.
    Restore { file: PathBuf },
    /// Make a new cluster of the node asked, with all it knows, after the majority was lost for good.
    Recover {
        /// The others are gone for good. If they are not, groups are served twice.
        #[arg(long)]
        force_new_cluster: bool,
    },
    /// Leader, term, members and how far each is.
    Status,
    /// As `status`.
    Members,
    /// Move Raft leadership.
    TransferLeader {
        /// The next leader's name.
        node: String,
    },
}

impl ClusterCommand {
    /// Whether the answer waits for leases or for the log.
    pub(crate) const fn takes_long(&self) -> bool {
        !matches!(self, ClusterCommand::Status | ClusterCommand::Members)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// What a node is and does.
    Status {
        /// The node asked if not given.
        name: Option<String>,
    },
    /// Have a node own nothing, also after restarts: other nodes take its groups over, flows and all.
    Drain {
        /// Its name.
        name: String,
    },
    /// Let a drained node own groups again. It takes none back by itself, unless a group's failback says so.
    Undrain {
        /// Its name.
        name: String,
    },
}

/// Kinds of objects; plurals and short names are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    #[value(alias = "groups", alias = "grp")]
    Group,
    #[value(alias = "services", alias = "svc")]
    Service,
    #[value(name = "snatrule", alias = "snatrules", alias = "snat")]
    SnatRule,
    #[value(alias = "nodes")]
    Node,
    #[value(alias = "clusters")]
    Cluster,
    /// Named by their service.
    #[value(alias = "endpoints", alias = "ep")]
    Endpoint,
}

impl Kind {
    pub(crate) const fn singular(self) -> &'static str {
        match self {
            Kind::Group => "group",
            Kind::Service => "service",
            Kind::SnatRule => "snatrule",
            Kind::Node => "node",
            Kind::Cluster => "cluster",
            Kind::Endpoint => "endpoint",
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| format!("{text:?}: allowed: a number with ms, s or m"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => Err(format!("{text:?}: allowed: a number with ms, s or m")),
    }
}
