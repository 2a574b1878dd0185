use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

const G: GroupId = GroupId(7);
const DEADLINE: Duration = Duration::from_secs(10);

/// A folder with a hook of this text; gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn with_hook(name: &str, text: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("lockstep-routing-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let folder = Folder(folder);
        // Written by another process: one that this process starts meanwhile would inherit the open file, and what is
        // open for writing cannot be executed.
        let written = std::process::Command::new("sh")
            .args(["-c", "printf '%s' \"$1\" > \"$2\"", "sh", text])
            .arg(folder.hook())
            .status()
            .expect("sh runs");
        assert!(written.success());
        std::fs::set_permissions(folder.hook(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        folder
    }

    fn hook(&self) -> PathBuf {
        self.0.join("hook")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.0.join("log")).unwrap_or_default()
    }

    fn wait(&self, log: &str) {
        eventually(|| self.log() == log, || format!("wanted {log:?}, got {:?}", self.log()));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("it is ours");
    }
}

fn eventually(condition: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn start(hook: &Path, limit: Duration) -> Hook {
    start_settling(hook, limit, Duration::ZERO)
}

fn start_settling(hook: &Path, limit: Duration, settle: Duration) -> Hook {
    Hook::with_times(Target::Program(hook.to_owned()), limit, Duration::from_millis(10), settle)
        .expect("a thread can be started")
}

fn counts(hook: &Hook) -> [u64; 2] {
    [hook.shared.runs.load(Ordering::Relaxed), hook.shared.failures.load(Ordering::Relaxed)]
}

const LOGS: &str = "#!/bin/sh\necho \"$@\" >> \"${0%/*}/log\"\n";

#[test]
fn every_change_is_told_in_order() {
    let folder = Folder::with_hook("order", LOGS);
    let hook = start(&folder.hook(), DEADLINE);
    hook.know([(G, "edge".to_owned())].into());
    folder.wait("standby edge 0\n");
    hook.tell(G, "edge".into(), Epoch(9), Standing::Owner);
    folder.wait("standby edge 0\nowner edge 9\n");
    hook.know([(G, "edge".to_owned())].into());
    hook.tell(G, "edge".into(), Epoch(9), Standing::Standby);
    folder.wait("standby edge 0\nowner edge 9\nstandby edge 9\n");
    eventually(|| counts(&hook) == [3, 0], || format!("{:?}", counts(&hook)));
}

#[test]
fn a_failure_is_counted_and_repeated_until_it_succeeds() {
    let fails_twice = "#!/bin/sh\necho x >> \"${0%/*}/tries\"\n[ $(wc -l < \"${0%/*}/tries\") -gt 2 ] || exit 3\n\
                       echo \"$@\" >> \"${0%/*}/log\"\n";
    let folder = Folder::with_hook("fails", fails_twice);
    let hook = start(&folder.hook(), DEADLINE);
    hook.tell(G, "edge".into(), Epoch(9), Standing::Owner);
    folder.wait("owner edge 9\n");
    eventually(|| counts(&hook) == [1, 2], || format!("{:?}", counts(&hook)));
}

#[test]
fn a_hook_that_hangs_is_killed_and_the_newest_counts() {
    let hangs_as_owner = "#!/bin/sh\n[ $1 = owner ] && sleep 30\necho \"$@\" >> \"${0%/*}/log\"\n";
    let folder = Folder::with_hook("hangs", hangs_as_owner);
    let hook = start(&folder.hook(), Duration::from_millis(50));
    hook.tell(G, "edge".into(), Epoch(9), Standing::Owner);
    eventually(|| counts(&hook)[1] > 0, || "it was not killed".to_owned());
    hook.tell(G, "edge".into(), Epoch(9), Standing::Standby);
    eventually(|| counts(&hook)[0] > 0, || "the next was not told".to_owned());
    assert_eq!(folder.log(), "standby edge 9\n");
}

#[test]
fn one_that_is_missing_is_a_failure() {
    let hook = start(Path::new("/nonexistent/hook"), DEADLINE);
    hook.tell(G, "edge".into(), Epoch(9), Standing::Owner);
    eventually(|| counts(&hook)[1] > 1, || format!("{:?}", counts(&hook)));
    assert_eq!(counts(&hook)[0], 0);
}

#[test]
fn a_daemon_that_owns_again_after_its_start_never_says_that_it_did_not() {
    let folder = Folder::with_hook("settles", LOGS);
    let hook = start_settling(&folder.hook(), DEADLINE, Duration::from_secs(3600));
    hook.know([(G, "edge".to_owned()), (GroupId(8), "far".to_owned())].into());
    hook.tell(G, "edge".into(), Epoch(9), Standing::Owner);
    eventually(|| counts(&hook) == [1, 0], || format!("{:?}", counts(&hook)));
    assert_eq!(folder.log(), "owner edge 9\n");
    hook.know([].into());
    assert_eq!(
        hook.shared.lock().keys().collect::<Vec<_>>(),
        [&GroupId(8)],
        "what is told and gone is forgotten"
    );
}

/// A routing daemon's socket that answers each line, and what it was told.
fn listen(answers: &'static [&'static str]) -> (PathBuf, std::sync::mpsc::Receiver<String>) {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    static SOCKETS: AtomicU64 = AtomicU64::new(0);
    let number = SOCKETS.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("lockstep-routing-{}-{number}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).expect("the temporary folder can be written");
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            told.send(line).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (path, heard)
}

fn start_socket(path: &Path, limit: Duration) -> Hook {
    Hook::with_times(Target::Socket(path.to_owned()), limit, Duration::from_millis(10), Duration::ZERO)
        .expect("a thread can be started")
}

#[test]
fn a_socket_is_told_until_it_says_ok() {
    let (path, heard) = listen(&["", "busy\n", "ok\n", "ok\n"]);
    let hook = start_socket(&path, DEADLINE);
    hook.tell(G, "edge".into(), Epoch(9), Standing::Owner);
    for _ in 0..3 {
        assert_eq!(heard.recv_timeout(DEADLINE).unwrap(), "owner edge 9\n");
    }
    eventually(|| counts(&hook) == [1, 2], || format!("{:?}", counts(&hook)));
    hook.tell(G, "edge".into(), Epoch(9), Standing::Standby);
    assert_eq!(heard.recv_timeout(DEADLINE).unwrap(), "standby edge 9\n");
    eventually(|| counts(&hook) == [2, 2], || format!("{:?}", counts(&hook)));
    std::fs::remove_file(path).expect("it is ours");
}

#[test]
fn a_socket_that_is_missing_or_silent_is_a_failure() {
    let path = std::env::temp_dir().join(format!("lockstep-routing-{}-silent.sock", std::process::id()));
    let hook = start_socket(&path, Duration::from_millis(20));
    hook.tell(G, "edge".into(), Epoch(9), Standing::Owner);
    eventually(|| counts(&hook)[1] > 1, || format!("{:?}", counts(&hook)));
    // It takes connections, and never says anything.
    let _listener =
        std::os::unix::net::UnixListener::bind(&path).expect("the temporary folder can be written");
    let before = counts(&hook)[1];
    eventually(|| counts(&hook)[1] > before + 2, || format!("{:?}", counts(&hook)));
    assert_eq!(counts(&hook)[0], 0);
    std::fs::remove_file(path).expect("it is ours");
}
