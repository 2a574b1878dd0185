//! Rules of nftables in the namespaces of nodes: what a person would use to make a network lose packets.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};

use crate::namespace::Handle;
use crate::topology::{Node, Topology};

/// Tells the tables of one process apart: losses may overlap in a namespace.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A table in one namespace; gone when dropped.
#[derive(Debug)]
pub struct Table {
    namespace: Option<Handle>,
    name: String,
}

impl Table {
    /// A table whose only chain sees what comes in for this machine, and does what `rules` say.
    pub fn of_input(namespace: &Handle, rules: &str) -> anyhow::Result<Self> {
        let name = format!("lockstep{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let text = format!(
            "table inet {name} {{\nchain in {{\ntype filter hook input priority 0\n{rules}\n}}\n}}\n"
        );
        load(namespace, &text)?;
        Ok(Table { namespace: Some(namespace.clone()), name })
    }

    /// Takes it away.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> anyhow::Result<()> {
        let Some(namespace) = self.namespace.take() else { return Ok(()) };
        load(&namespace, &format!("delete table inet {}\n", self.name))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("rules: {error:#}");
        }
    }
}

/// What is lost between nodes on the management network (Raft, leases, flows); not any more once dropped. It is lost
/// on its arrival: who sends sees nothing of it.
#[derive(Debug, Default)]
pub struct Loss {
    tables: Vec<Table>,
}

impl Loss {
    /// Everything from `from` to `to`, and nothing the other way.
    pub fn one_way(topology: &Topology, from: &[Node], to: &[Node]) -> anyhow::Result<Self> {
        let sources: Vec<String> = from.iter().map(|node| node.management().to_string()).collect();
        let rule = format!("iifname \"eth2\" ip saddr {{ {} }} drop", sources.join(", "));
        let tables = to
            .iter()
            .map(|node| Table::of_input(topology.node(*node), &rule))
            .collect::<anyhow::Result<_>>()?;
        Ok(Loss { tables })
    }

    /// Everything between `one` and `others`.
    pub fn between(topology: &Topology, one: Node, others: &[Node]) -> anyhow::Result<Self> {
        // First what it would hear: it may not see the others turn away.
        let mut loss = Self::one_way(topology, others, &[one])?;
        loss.tables.extend(Self::one_way(topology, &[one], others)?.tables);
        Ok(loss)
    }

    /// Everything to and from `node`.
    pub fn around(topology: &Topology, node: Node) -> anyhow::Result<Self> {
        Self::between(topology, node, &node.others())
    }

    /// Ends it.
    pub fn end(self) -> anyhow::Result<()> {
        self.tables.into_iter().try_for_each(Table::end)
    }
}

/// Loads rules; they go with their namespace.
pub fn load(namespace: &Handle, rules: &str) -> anyhow::Result<()> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    namespace.place(&mut command);
    let mut child = command.spawn().context("cannot run `nft` (nftables)")?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(rules.as_bytes()).context("cannot write to `nft`")?;
    drop(stdin);
    let output = child.wait_with_output().context("cannot wait for `nft`")?;
    ensure!(output.status.success(), "`nft`: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
