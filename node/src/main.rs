//! The daemon `lockstepd`: one node of a cluster.
//!
//! `run` is the wiring; everything else is one part each. Data goes one way: API → Raft → state → reconciler
//! → kernel (intent), and kernel → events → replication → peers' kernels (flows).

mod announce;
mod api;
mod config;
mod counters;
mod dataplane;
mod doctor;
mod dump;
mod fitness;
mod health;
mod hops;
mod late_sync;
mod lease;
mod links;
mod member;
mod metrics;
mod parts;
mod ports;
mod reconcile;
mod relay;
mod routing;
mod run;
mod serve;
mod sync;
mod tls;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::EnvFilter;

use config::{Config, LogFormat};
use lockstep_raft_store::Departure;
use run::End;

/// One node of a Lockstep cluster.
#[derive(Debug, Parser)]
#[command(name = "lockstepd", version)]
struct Args {
    /// The node's configuration (TOML).
    #[arg(long, value_name = "FILE", required_unless_present = "dump_store")]
    config: Option<PathBuf>,
    /// Check the configuration and exit.
    #[arg(long)]
    check: bool,
    /// Look whether this machine is fit for the node, print a line per check, and exit; changes nothing, and may
    /// run beside the daemon. This is `lockstep doctor`.
    #[arg(long, conflicts_with = "check")]
    doctor: bool,
    /// Print the flows in this node's pinned maps, one JSON object a line, and exit; works while the daemon
    /// is stopped or dead.
    #[arg(long, conflicts_with_all = ["check", "doctor"])]
    dump_flows: bool,
    /// Print what a data directory holds, one JSON object a line with file, offset and length, and exit: identity,
    /// snapshots, and the Raft log record by record. Reads only, goes on behind damage, and needs no configuration.
    #[arg(long, value_name = "DATA_DIR", conflicts_with_all = ["config", "check", "doctor", "dump_flows", "purge"])]
    dump_store: Option<PathBuf>,
    /// Detach the programs, remove the pins, and exit: the node forgets every flow.
    #[arg(long, conflicts_with_all = ["check", "doctor", "dump_flows"])]
    purge: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lockstepd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> anyhow::Result<()> {
    if let Some(data_dir) = &args.dump_store {
        return dump::store(data_dir);
    }
    let file = args.config.as_deref().context("--config FILE: missing")?;
    if args.doctor {
        return doctor::run(file);
    }
    let config = Config::load(file)?;
    if args.check {
        println!("{}: ok", file.display());
        return Ok(());
    }
    if args.dump_flows {
        return dump::flows(&config);
    }
    if args.purge {
        return dataplane::purge(&config);
    }
    let filter = EnvFilter::try_new(&config.log.level)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    match run::run(config.clone())? {
        End::Stopped => Ok(()),
        End::Departed(departure) => {
            // Who has left knows no flow of whatever cluster comes next; a survivor keeps its flows.
            if departure == Departure::Left && config.dataplane.is_some() {
                dataplane::purge(&config)?;
            }
            start_over()
        }
    }
}

/// Becomes the same program anew, under the same process id: what has started as a member of one cluster cannot become
/// one of another. Returns only when that fails.
fn start_over() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("the daemon's own program cannot be found")?;
    tracing::info!("starting over");
    Err(std::process::Command::new(program).args(std::env::args_os().skip(1)).exec())
        .context("the daemon cannot start over")
}
