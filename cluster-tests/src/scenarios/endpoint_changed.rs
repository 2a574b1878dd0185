//! One endpoint of a service is drained, weighed, enabled by command; `diff` says what became of the manifest.

use anyhow::ensure;

use crate::cluster::Cluster;
use crate::manifest::{EXAMPLE, Profile};
use crate::topology::Node;

const DIFFERS: i32 = 6;
const NOT_FOUND: i32 = 4;
const WRONG_USE: i32 = 2;

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    check(&cluster).map_err(|error| cluster.explain(error))
}

fn check(cluster: &Cluster) -> anyhow::Result<()> {
    demand(cluster, &["diff", "-f", "-"], EXAMPLE, 0, &[])?;
    demand(cluster, &["endpoint", "drain", "web", "10.0.0.11"], "", 0, &["service/web"])?;
    demand(cluster, &["endpoint", "weight", "web", "10.0.0.12:8443", "7"], "", 0, &["service/web"])?;
    let differences = [
        "service/web spec.endpoints[0].state: \"drain\", would be \"active\"",
        "service/web spec.endpoints[1].weight: 7, would be 100",
    ];
    demand(cluster, &["diff", "-f", "-"], EXAMPLE, DIFFERS, &differences)?;
    let renamed = EXAMPLE.replace("name: web", "name: other").replace("192.0.2.10", "192.0.2.99");
    demand(cluster, &["diff", "-f", "-"], &renamed, DIFFERS, &["service/other is not there"])?;

    demand(cluster, &["endpoint", "enable", "web", "10.0.0.11:8443"], "", 0, &["service/web"])?;
    demand(cluster, &["endpoint", "weight", "web", "10.0.0.12", "100"], "", 0, &["service/web"])?;
    demand(cluster, &["diff", "-f", "-"], EXAMPLE, 0, &[])?;

    demand(
        cluster,
        &["endpoint", "drain", "web", "10.0.0.99"],
        "",
        NOT_FOUND,
        &["10.0.0.99", "10.0.0.11:8443"],
    )?;
    demand(cluster, &["endpoint", "drain", "nobody", "10.0.0.11"], "", NOT_FOUND, &["nobody"])?;
    demand(cluster, &["endpoint", "weight", "web", "10.0.0.11", "70000"], "", WRONG_USE, &["70000"])?;
    demand(cluster, &["endpoint", "weight", "web", "10.0.0.11", "1001"], "", 1, &["1001", "1000"])?;
    demand(cluster, &["diff", "-f", "-"], EXAMPLE, 0, &[])?;
    demand(cluster, &["completion", "bash"], "", 0, &["transfer-leader"])
}

fn demand(cluster: &Cluster, args: &[&str], stdin: &str, code: i32, named: &[&str]) -> anyhow::Result<()> {
    let output = cluster.try_lockstep(Node::A, args, stdin)?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let command = args.join(" ");
    ensure!(
        output.status.code() == Some(code),
        "`{command}` ends with {}, not {code}: {said}",
        output.status
    );
    for word in named {
        ensure!(said.contains(word), "`{command}` does not name {word}: {said}");
    }
    Ok(())
}
