//! An HTTP server that serves one small file from memory.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use lockstep_cluster_tests::namespace::Handle;
use lockstep_cluster_tests::process::Process;

/// What a request asks for.
pub(crate) const FILE: &str = "file";
const FILE_LENGTH: usize = 128;

/// Starts it on `port` in `namespace`; it keeps its files in `folder`.
pub(crate) fn start(folder: &Path, namespace: &Handle, port: u16) -> anyhow::Result<Process> {
    let root = folder.join("www");
    std::fs::create_dir(&root).context("cannot make nginx's folder")?;
    std::fs::write(root.join(FILE), [b'x'; FILE_LENGTH]).context("cannot write nginx's file")?;
    let here = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {here}/{kind};"))
        .concat();
    // As root, or its workers could not read the folder of the run.
    let configuration = format!(
        "user root; daemon off; pid {here}/nginx.pid; worker_processes auto; error_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; {temporary} keepalive_requests 1000000000; keepalive_timeout 60s;\n\
         open_file_cache max=16; server {{ listen {port} reuseport backlog=4096; root {root}; }} }}\n",
        root = root.display()
    );
    let path = folder.join("nginx.conf");
    std::fs::write(&path, configuration).with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new("nginx");
    command.arg("-e").arg("stderr").arg("-c").arg(&path).arg("-p").arg(folder);
    Process::start("nginx", command, Some(namespace), &folder.join("nginx.log"))
}
