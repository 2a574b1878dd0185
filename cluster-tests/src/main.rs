//! `lockstep-cluster-tests`: the demo and the tests that need a whole cluster. To be run as root.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lockstep_cluster_tests::{demo, interrupt};

/// Clusters of the real programs in network namespaces.
#[derive(Debug, Parser)]
#[command(name = "lockstep-cluster-tests", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A cluster, traffic, a fault, a report.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = interrupt::install().and_then(|()| match &arguments.command {
        Command::Demo(options) => demo::run(options),
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
