//! `cluster backup`, `restore`, `recover`.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use lockstep_proto::admin::v1 as admin;

use super::hex;
use crate::client::Client;
use crate::failure::Failure;
use crate::print;

const CHUNK: usize = 1 << 20;

/// The file appears under its name only when all of it is on the disk.
pub(super) async fn backup(client: &mut Client, file: &Path) -> Result<(), Failure> {
    let mut stream = client.admin.cluster_backup(admin::ClusterBackupRequest {}).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        bytes.extend_from_slice(&message.data);
    }
    let aside = file.with_added_extension("tmp");
    let written = File::create(&aside)
        .and_then(|mut out| out.write_all(&bytes).and_then(|()| out.sync_all()))
        .and_then(|()| std::fs::rename(&aside, file));
    written.map_err(|e| Failure::Usage(format!("{} cannot be written: {e}", file.display())))?;
    print::text(&format!("{}: {} bytes\n", file.display(), bytes.len()));
    Ok(())
}

pub(super) async fn restore(client: &mut Client, file: &Path) -> Result<(), Failure> {
    let bytes =
        std::fs::read(file).map_err(|e| Failure::Usage(format!("{} cannot be read: {e}", file.display())))?;
    let chunks: Vec<_> =
        bytes.chunks(CHUNK).map(|data| admin::ClusterRestoreRequest { data: data.to_vec() }).collect();
    let answer = client.admin.cluster_restore(tokio_stream::iter(chunks)).await?.into_inner();
    print::text(&format!(
        "cluster {} begins with node {} and the intent of cluster {} at log {}; other nodes may join\n",
        hex(&answer.cluster_id),
        answer.node_id,
        hex(&answer.backup_cluster_id),
        answer.backup_log_index,
    ));
    Ok(())
}

pub(super) async fn recover(client: &mut Client, force_new_cluster: bool) -> Result<(), Failure> {
    let request = admin::ClusterRecoverRequest { force_new_cluster };
    let answer = client.admin.cluster_recover(request).await?.into_inner();
    print::text(&format!(
        "cluster {} begins with node {}; nodes of the former cluster {} are refused: empty their data directories, then \
         let them join\n",
        hex(&answer.cluster_id),
        answer.node_id,
        hex(&answer.former_cluster_id),
    ));
    Ok(())
}
