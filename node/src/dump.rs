//! What a node has left, for post-mortems, whether or not its daemon runs: `lockstepd --dump-flows` shows the flows in
//! its pinned maps, which outlive the process (I12), `lockstepd --dump-store` its data directory.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use lockstep_loader::FlowTable;
use lockstep_raft_store::fs::SharedFs;
use lockstep_raft_store::fs::real::RealFs;
use serde_json::json;

use crate::config::Config;

const PAGE: usize = 4096;

/// Prints one JSON object a line.
pub(crate) fn flows(config: &Config) -> Result<()> {
    let dataplane = config.dataplane.as_ref().context("[dataplane]: missing; a witness holds no flows")?;
    let table = FlowTable::open_pinned(&dataplane.pin_dir)
        .with_context(|| format!("{} holds no readable flow table", dataplane.pin_dir.display()))?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut cursor = None;
    loop {
        let page = table.walk(cursor, PAGE)?;
        for flow in &page.flows {
            let record = &flow.record;
            let line = json!({
                "protocol": record.key.protocol, "client": record.key.client, "vip": record.key.service,
                "group": record.group, "service": record.service, "endpoint": record.endpoint_address,
                "source": record.source, "kind": record.kind,
                "state": record.state, "birth": record.version.birth, "n": record.version.n,
                "epoch": flow.epoch, "replicated": flow.replicated,
                "remaining_ms": record.remaining.as_millis() as u64,
            });
            writeln!(out, "{line}")?;
        }
        cursor = match page.next {
            Some(next) => Some(next),
            None => break,
        };
    }
    out.flush().context("standard output")
}

/// Prints one JSON object a line: what each piece of a data directory says, and where it is. Changes nothing, and goes on
/// behind damage.
pub(crate) fn store(data_dir: &Path) -> Result<()> {
    let fs: SharedFs = Arc::new(RealFs);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    lockstep_raft_store::dump::dump(&fs, data_dir, &mut |item| {
        if written.is_ok() {
            let line = serde_json::to_string(&item).expect("plain fields can be written down");
            written = writeln!(out, "{line}");
        }
    })?;
    written.and_then(|()| out.flush()).context("standard output")
}
