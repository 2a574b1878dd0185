//! `lockstepd --dump-flows`: what is in the pinned maps of a node, whether or not its daemon runs. For
//! post-mortems: the maps outlive the process (I12).

use std::io::{BufWriter, Write};

use anyhow::{Context, Result};
use lockstep_loader::FlowTable;
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
