//! `cargo xtask …`: what a developer, the README and CI run. It sets the machine up, tests, runs the demo,
//! and plants known bugs to see whether a test finds them.
//!
//! It knows cargo, git and the system; it knows nothing of the cluster (see `cluster-tests` for that).

mod cargo;
mod checks;
mod demo;
mod mutants;
mod process;
mod repository;
mod setup;
mod signals;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, tests, demo and planted bugs of Lockstep")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get everything that building and running need, or say what is missing
    Setup {
        /// Change nothing: report, and fail if something is missing
        #[arg(long)]
        check: bool,
    },
    /// Run all tests, or those whose name contains NAME
    Test { name: Option<String> },
    /// Run a cluster in network namespaces (see `cargo xtask demo --help`)
    #[command(disable_help_flag = true)]
    Demo {
        /// Handed to the demo as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Plant the bugs of `mutants/` one by one, and fail if the tests named there do not notice
    Mutants {
        /// Only those of one invariant, such as I3
        #[arg(long)]
        invariant: Option<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    signals::install();
    let outcome = match arguments.command {
        Command::Setup { check } => setup::run(if check { setup::Mode::Check } else { setup::Mode::Install }),
        Command::Test { name } => test::run(name.as_deref()),
        Command::Demo { arguments } => demo::run(&arguments),
        Command::Mutants { invariant } => mutants::run(invariant.as_deref()),
    };
    if let Some(signal) = signals::received() {
        return ExitCode::from(128 + signal);
    }
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
