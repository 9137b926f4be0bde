//! Ends every child of the tests, also when the test process itself is killed: a small shell holds
//! the list and acts when its input closes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Reads `add GROUP` and `gone GROUP`; kills what is left when nobody writes any more.
const SHELL: &str = r#"
groups=
while read -r what group; do
    case $what in
        add) groups="$groups $group" ;;
        gone)
            left=
            for one in $groups; do [ "$one" = "$group" ] || left="$left $one"; done
            groups=$left ;;
    esac
done
for one in $groups; do kill -s KILL -- "-$one" 2>/dev/null; done
"#;

#[derive(Debug, Default)]
struct Reaper {
    /// Process groups that live, and the test that started each.
    groups: BTreeMap<u32, String>,
    shell: Option<(Child, ChildStdin)>,
}

impl Reaper {
    fn tell(&mut self, what: &str, group: u32) {
        if self.shell.is_none() {
            // It holds no output of ours open, and a signal to the tests' own group misses it.
            let shell = Command::new("sh")
                .args(["-c", SHELL])
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            self.shell = shell.ok().and_then(|mut shell| shell.stdin.take().map(|to| (shell, to)));
        }
        if let Some((_, to)) = &mut self.shell
            && let Err(error) = writeln!(to, "{what} {group}").and_then(|()| to.flush())
        {
            eprintln!("nobody ends process group {group} if this process is killed: {error}");
        }
    }
}

fn reaper() -> MutexGuard<'static, Reaper> {
    static REAPER: OnceLock<Mutex<Reaper>> = OnceLock::new();
    REAPER.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process group began to live for the test that runs now.
pub(crate) fn born(group: u32) {
    let mut reaper = reaper();
    reaper.groups.insert(group, crate::scenario::current());
    reaper.tell("add", group);
}

/// Ends a process group and waits until nothing of it runs.
pub(crate) fn end(group: u32) {
    kill(group);
    let mut reaper = reaper();
    reaper.groups.remove(&group);
    reaper.tell("gone", group);
}

/// Ends all that a test left behind.
pub(crate) fn end_all_of(test: &str) {
    let left: Vec<u32> = {
        let reaper = reaper();
        reaper.groups.iter().filter(|(_, owner)| *owner == test).map(|(group, _)| *group).collect()
    };
    for group in left {
        end(group);
    }
}

/// The shell's own `kill`: another one need not be installed.
pub(crate) fn send(signal: &str, target: &str) -> bool {
    let script = format!("kill -s {signal} -- {target} 2>/dev/null");
    Command::new("sh").args(["-c", &script]).status().is_ok_and(|status| status.success())
}

fn kill(group: u32) {
    send("KILL", &format!("-{group}"));
}

/// Waits until the kernel has taken the last process of a group away; its leader was waited for.
pub(crate) fn wait_until_gone(group: u32) {
    let end = Instant::now() + Duration::from_secs(3);
    while lives(group) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Does any process of a group run?
pub(crate) fn lives(group: u32) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // pid (name) state parent group …; a name may hold spaces and parentheses.
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let state = fields.next().unwrap_or("Z");
        state != "Z" && fields.nth(1).and_then(|text| text.parse::<u32>().ok()) == Some(group)
    })
}
