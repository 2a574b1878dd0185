//! `lockstep-cluster-tests`: the demo and the tests that need a whole cluster. To be run as root.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lockstep_cluster_tests::{chaos, demo, interrupt, process, runner};

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
    /// A cluster, traffic, and random faults from a seed.
    Chaos(chaos::Options),
    /// Run the tests, or those whose name contains NAME.
    Test {
        #[arg(default_value = "")]
        name: String,
    },
    /// List the tests' names.
    List {
        /// And what they show.
        #[arg(long)]
        long: bool,
    },
    /// Run one test in this process.
    #[command(hide = true)]
    Scenario { name: String },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = interrupt::install().and_then(|()| match &arguments.command {
        Command::Demo(options) => process::take_priority().and_then(|()| demo::run(options)),
        Command::Chaos(options) => process::take_priority().and_then(|()| chaos::run(options)),
        Command::Test { name } => runner::test(name),
        Command::List { long } => {
            runner::list(*long);
            Ok(ExitCode::SUCCESS)
        }
        Command::Scenario { name } => process::take_priority().and_then(|()| runner::scenario(name)),
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
