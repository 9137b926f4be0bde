//! Kills every child of the tests, even when the test process itself is killed: a shell holds the
//! list of process groups and kills them when its standard input closes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Reads `add GROUP` and `remove GROUP`; kills the remaining groups at the end of its input.
const SHELL: &str = r#"
groups=
while read -r what group; do
    case $what in
        add) groups="$groups $group" ;;
        remove)
            left=
            for one in $groups; do [ "$one" = "$group" ] || left="$left $one"; done
            groups=$left ;;
    esac
done
for one in $groups; do kill -s KILL -- "-$one" 2>/dev/null; done
"#;

#[derive(Debug, Default)]
struct ProcessGroups {
    /// Running process groups, and the test that started each.
    groups: BTreeMap<u32, String>,
    shell: Option<(Child, ChildStdin)>,
}

impl ProcessGroups {
    fn notify_shell(&mut self, what: &str, group: u32) {
        if self.shell.is_none() {
            // It holds none of our outputs open, and a signal to the tests' own group does not reach it.
            let shell = Command::new("sh")
                .args(["-c", SHELL])
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            self.shell = shell.ok().and_then(|mut shell| shell.stdin.take().map(|stdin| (shell, stdin)));
        }
        if let Some((_, stdin)) = &mut self.shell
            && let Err(error) = writeln!(stdin, "{what} {group}").and_then(|()| stdin.flush())
        {
            eprintln!("process group {group} stays when this process is killed: {error}");
        }
    }
}

fn process_groups() -> MutexGuard<'static, ProcessGroups> {
    static GROUPS: OnceLock<Mutex<ProcessGroups>> = OnceLock::new();
    GROUPS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a process group that the running test started.
pub(crate) fn add(group: u32) {
    let mut all = process_groups();
    all.groups.insert(group, crate::scenario::current());
    all.notify_shell("add", group);
}

/// Kills a process group and forgets it.
pub(crate) fn kill(group: u32) {
    send_signal("KILL", &format!("-{group}"));
    let mut all = process_groups();
    all.groups.remove(&group);
    all.notify_shell("remove", group);
}

/// Kills all process groups that a test left behind.
pub(crate) fn kill_all_of(test: &str) {
    let left: Vec<u32> = {
        let all = process_groups();
        all.groups.iter().filter(|(_, owner)| *owner == test).map(|(group, _)| *group).collect()
    };
    for group in left {
        kill(group);
    }
}

/// Sends a signal with the shell's own `kill`, so that no other one needs to be installed.
pub(crate) fn send_signal(signal: &str, target: &str) -> bool {
    let script = format!("kill -s {signal} -- {target} 2>/dev/null");
    Command::new("sh").args(["-c", &script]).status().is_ok_and(|status| status.success())
}

/// Waits until no process of a group runs, 3 s at most. Its leader must have been waited for.
pub(crate) fn wait_until_ended(group: u32) {
    let end = Instant::now() + Duration::from_secs(3);
    while is_running(group) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Does any process of a group run?
pub(crate) fn is_running(group: u32) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // pid (name) state parent group …; a name may hold spaces and parentheses.
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let state = fields.next().unwrap_or("Z");
        state != "Z" && fields.nth(1).and_then(|text| text.parse::<u32>().ok()) == Some(group)
    })
}
