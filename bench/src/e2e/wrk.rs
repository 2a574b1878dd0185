//! HTTP load by `wrk`, and what it prints.

use std::net::SocketAddrV4;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use lockstep_cluster_tests::namespace::Handle;
use lockstep_cluster_tests::process::Process;
use lockstep_cluster_tests::run::Run;
use lockstep_cluster_tests::wait;

use super::case::Measured;
use super::nginx::FILE;

const CONNECTIONS: &str = "64";
const THREADS: &str = "2";
/// Beyond the measurement's own length.
const GRACE: Duration = Duration::from_secs(20);
/// A rate with more requests failing than this share is no rate of the balancer's.
const MAX_ERRORS: f64 = 0.01;

/// Requests per second from `client` to `target`.
pub(crate) fn measure(
    client: &Handle,
    target: SocketAddrV4,
    length: Duration,
    close: bool,
    run: &Run,
) -> anyhow::Result<Measured> {
    let log = run.folder().join("wrk.log");
    match std::fs::remove_file(&log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", log.display()));
        }
        _ => {}
    }
    let mut command = Command::new("wrk");
    // wrk knows whole seconds only.
    let seconds = length.as_secs_f64().ceil() as u64;
    command.args(["-t", THREADS, "-c", CONNECTIONS, "-d", &format!("{seconds}s")]);
    if close {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(format!("http://{target}/{FILE}"));
    let mut process = Process::start("wrk", command, Some(client), &log)?;
    let status = wait::until("wrk to end", length + GRACE, || process.exit_status())?;
    let text = std::fs::read_to_string(&log).context("cannot read wrk's output")?;
    ensure!(status.success(), "wrk to {target}: {text}");
    parse(&text).with_context(|| format!("wrk to {target} printed:\n{text}"))
}

fn parse(text: &str) -> anyhow::Result<Measured> {
    let after = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)).map(str::trim);
    let rate: f64 = after("Requests/sec:").context("no rate")?.parse().context("its rate is no number")?;
    let requests: f64 = text
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ").map(|(count, _)| count))
        .context("no count of requests")?
        .parse()
        .context("its count is no number")?;
    if let Some(answers) = after("Non-2xx or 3xx responses:") {
        bail!("{answers} answers were errors");
    }
    let Some(errors) = after("Socket errors:") else { return Ok(Measured { rate, note: None }) };
    let sum: f64 = errors
        .split(|c: char| !c.is_ascii_digit())
        .filter(|number| !number.is_empty())
        .map(|number| number.parse::<f64>().unwrap_or(f64::INFINITY))
        .sum();
    ensure!(sum <= requests * MAX_ERRORS, "{sum} socket errors in {requests} requests");
    Ok(Measured { rate, note: Some(format!("socket errors: {errors}")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Running 1s test @ http://10.1.2.11:8080/file\n  2 threads and 64 connections\n\
        \x20 28123 requests in 1.00s, 6.75MB read\nRequests/sec:  28100.42\nTransfer/sec:      6.74MB\n";

    #[test]
    fn a_rate_is_read() {
        let measured = parse(GOOD).unwrap();
        assert_eq!((measured.rate, measured.note), (28100.42, None));
    }

    #[test]
    fn errors_are_told_or_refused() {
        let few = GOOD
            .replace("Requests/sec", "  Socket errors: connect 0, read 12, write 0, timeout 1\nRequests/sec");
        assert!(parse(&few).unwrap().note.is_some());
        assert!(parse(&few.replace("read 12", "read 1200")).is_err());
        assert!(
            parse(&few.replace(
                "Socket errors: connect 0, read 12, write 0, timeout 1",
                "Non-2xx or 3xx responses: 3"
            ))
            .is_err()
        );
        assert!(parse("").is_err());
    }
}
