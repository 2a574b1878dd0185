//! The command `lockstep`: asks a node over gRPC and prints the answer. Only `doctor` looks at this machine, and `completion` at nothing.
//!
//! Exit codes: 0 done, 1 the server refused, 2 wrong use, 3 not reachable, 4 not found, 5 conflict, 6 differs (`diff`).

#![forbid(unsafe_code)]

mod args;
mod client;
mod cluster;
mod doctor;
mod endpoint;
mod failure;
mod flows;
mod intent;
mod print;
mod status;

use clap::{CommandFactory, Parser};

use args::{Cli, Command, GroupCommand};
use client::Client;
use failure::Failure;

/// For what waits for leases to end, or for the log or flows to arrive: --timeout, if it is longer.
const LONG: std::time::Duration = std::time::Duration::from_secs(90);

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("lockstep: {failure}");
            failure.exit_code()
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    if let Command::Doctor { config } = &cli.command {
        return Err(doctor::run(config));
    }
    if let Command::Completion { shell } = cli.command {
        clap_complete::generate(shell, &mut Cli::command(), "lockstep", &mut std::io::stdout());
        return Ok(());
    }
    let mut global = cli.global;
    if matches!(&cli.command, Command::Cluster(command) if command.takes_long())
        || matches!(&cli.command, Command::Group(GroupCommand::Move { .. }))
    {
        global.timeout = global.timeout.max(LONG);
    }
    let mut client = Client::connect(&global).await?;
    let output = global.output;
    match cli.command {
        Command::Apply { file, dry_run, prune } => intent::apply(&mut client, &file, dry_run, prune).await,
        Command::Diff { file } => intent::diff(&mut client, &file).await,
        Command::Get { kind, name, watch } => intent::get(&mut client, kind, name, output, watch).await,
        Command::Describe { kind, name } => intent::describe(&mut client, kind, name, output).await,
        Command::Delete { kind, name, file } => intent::delete(&mut client, kind, name, file).await,
        Command::Flows { filters, limit } => flows::flows(&mut client, &filters, limit, output).await,
        Command::Counters => status::counters(&mut client, output).await,
        Command::Group(args::GroupCommand::Status { name }) => status::group(&mut client, name, output).await,
        Command::Group(args::GroupCommand::Move { name, to }) => {
            cluster::move_group(&mut client, name, to).await
        }
        Command::Node(args::NodeCommand::Status { name }) => status::node(&mut client, name, output).await,
        Command::Node(args::NodeCommand::Drain { name }) => cluster::drain(&mut client, name, true).await,
        Command::Node(args::NodeCommand::Undrain { name }) => cluster::drain(&mut client, name, false).await,
        Command::Doctor { .. } | Command::Completion { .. } => {
            unreachable!("it asks no server, and has run")
        }
        Command::Endpoint(command) => endpoint::run(&mut client, command).await,
        Command::Cluster(command) => cluster::run(&mut client, command, output).await,
    }
}
