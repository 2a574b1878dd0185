//! What a disk needs for the same bytes without any Raft: appends for all writers, one fdatasync, again and again.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::cluster::Log;
use super::{Measured, repeat};

/// Bytes of one commit in the log.
pub(super) fn bytes_each(log: &Log) -> usize {
    (log.bytes / log.records.max(1)).max(1) as usize
}

/// As many commits at once as there are writers: the least that a commit of theirs can cost.
pub(super) fn measure(
    dir: &Path,
    bytes: usize,
    writers: usize,
    length: Duration,
) -> anyhow::Result<Measured> {
    let path = dir.join("floor");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
    let mut file = file.with_context(|| format!("cannot make {}", path.display()))?;
    let payload = vec![0x5a; bytes * writers];
    let measured = repeat(length, || {
        file.write_all(&payload).context("append")?;
        file.sync_data().context("fdatasync")
    })?;
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    // Each sync is a commit of each writer.
    let took = measured.took.iter().flat_map(|took| std::iter::repeat_n(*took, writers)).collect();
    Ok(Measured { took, elapsed: measured.elapsed })
}
