//! Debian machines for the commands of a page: each has a network, processes, and folders for programs, configuration and
//! state of its own. All of them are on one network. Programs that would change the computer are replaced: `apt-get`,
//! `cargo`, `scp`, `ssh`, `sysctl`, and `systemctl`, which runs units with their user and environment. Needs root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::namespace::{INSTALL, Namespace};
use crate::process::{ChildProcess, built, memory_folder, output};

/// Limit of one block of commands.
const LIMIT: Duration = Duration::from_secs(120);

/// Folders that each machine changes for itself.
const OWN: [&str; 4] = ["/etc", "/opt", "/usr/local", "/var/lib"];

/// Prepares a machine's file systems and says so, then waits for its end.
const BEGIN: &str = r#"
machine=$1 repository=$2 programs=$3
for folder in $OWN; do
    mkdir -p "$machine/changed$folder" "$machine/work$folder"
    mount -t overlay overlay -o "lowerdir=$folder,upperdir=$machine/changed$folder,workdir=$machine/work$folder" "$folder"
done
mkdir -p "$machine/root/setup" /usr/local/sbin /etc/systemd/system
mount --bind "$machine/root" /root
if [ -n "$repository" ]; then
    mkdir -p /opt/systir "$machine/changed/repository" "$machine/work/repository"
    mount -t overlay overlay -o "lowerdir=$repository,upperdir=$machine/changed/repository,workdir=$machine/work/repository" /opt/systir
fi
cp "$programs"/* /usr/local/sbin
ip link set lo up
echo ready
exec cat
"#;

/// Installs nothing: the test needs what the page installs.
const APT_GET: &str = "#!/bin/sh\nset -eu\n[ \"$1 $2\" = 'install -y' ]\n";

/// The programs that were built stand for those of a release build.
const CARGO: &str = r#"#!/bin/sh
set -eu
[ "$1 $2" = "build --release" ]
mkdir -p /opt/systir/target/release
for program in systir-relay systirctl systir-load; do
    install -m 755 "$BUILT/$program" /opt/systir/target/release/
done
"#;

/// Copies to and from the folder of another machine's root.
const SCP: &str = r#"#!/bin/sh
set -eu
for last; do :; done
while [ $# -gt 1 ]; do
    cp "$1" "$MACHINES/${last%%:*}/root/${last#*:}"
    shift
done
"#;

const SSH: &str = r#"#!/bin/sh
set -eu
machine=$1
shift
cd "$MACHINES/$machine/root" && exec "$@"
"#;

const SYSCTL: &str = r#"#!/bin/sh
set -eu
[ "$1" = --system ]
grep -q '^net.core.rmem_max = ' /etc/sysctl.d/90-systir.conf
"#;

/// What systemd would do with the units of the page.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
for unit; do :; done
pid=/var/lib/$unit.pid
stop() {
    [ -e "$pid" ] || return 0
    kill "$(cat "$pid")"
    # Nobody reaps it: it ends as a zombie.
    until grep -q '^State:.Z' "/proc/$(cat "$pid")/status"; do sleep 0.05; done
    rm "$pid"
}
start() {
    case $unit in
    nftables) nft --file /etc/nftables.conf ;;
    etcd)
        install -d -o etcd -m 700 /var/lib/etcd-data
        (set -a && . /etc/default/etcd && ETCD_DATA_DIR=/var/lib/etcd-data &&
            exec setsid setpriv --reuid etcd --regid etcd --clear-groups etcd) < /dev/null > "$LOGS/$MACHINE-etcd.log" 2>&1 &
        echo $! > "$pid"
        until etcdctl --endpoints "$(. /etc/default/etcd; echo "$ETCD_LISTEN_CLIENT_URLS")" --cacert etcd/ca.pem \
            --cert etcd/cph-1.pem --key etcd/cph-1.key get x > /dev/null 2>&1; do sleep 0.1; done
        ;;
    systir-relay)
        file=/etc/systemd/system/systir-relay.service
        command=$(sed -n 's/^ExecStart=//p' $file)
        user=$(sed -n 's/^User=//p' $file)
        install -d -o "$user" -m 700 "/var/lib/$(sed -n 's/^StateDirectory=//p' $file)"
        # Not above what this computer permits.
        ulimit -n "$(sed -n 's/^LimitNOFILE=//p' $file)" 2> /dev/null || ulimit -n "$(ulimit -H -n)"
        # shellcheck disable=SC2086
        setsid setpriv --reuid "$user" --regid "$user" --clear-groups $command < /dev/null >> "$LOGS/$MACHINE.log" 2>&1 &
        echo $! > "$pid"
        until bash -c 'exec 3<>/dev/tcp/127.0.0.1/7872; printf "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" >&3
            grep -q "^HTTP/1.1 200" <&3' 2> /dev/null; do
            [ -e "/proc/$(cat "$pid")" ] || { cat "$LOGS/$MACHINE.log" >&2; exit 1; }
            sleep 0.1
        done
        ;;
    *) echo "no unit $unit" >&2; exit 1 ;;
    esac
}
case "$*" in
daemon-reload | "enable etcd") ;;
"show "*) echo LoadState=loaded && grep '^LimitNOFILE=' "/etc/systemd/system/$unit.service" ;;
"enable --now "*) start ;;
"restart "*) stop; start ;;
*) echo "systemctl $* is not expected" >&2; exit 1 ;;
esac
"#;

/// Some machines on one network.
#[derive(Debug)]
pub struct DebianMachines {
    machines: Vec<DebianMachine>,
    _switch: Namespace,
    folder: TempDir,
    logs: PathBuf,
}

#[derive(Debug)]
struct DebianMachine {
    name: String,
    /// Ends with all processes of the machine.
    _holder: ChildProcess,
    /// The first process inside.
    inside: u32,
}

impl DebianMachines {
    /// Starts machines with these names and addresses. The first has this repository in `/opt/systir`.
    ///
    /// # Errors
    /// When a program or the permission is missing.
    pub fn start(machines: &[(&str, &str)]) -> Result<Self> {
        let folder = memory_folder()?;
        let programs = folder.path().join("programs");
        std::fs::create_dir(&programs)?;
        let replaced = [
            ("apt-get", APT_GET),
            ("cargo", CARGO),
            ("scp", SCP),
            ("ssh", SSH),
            ("sysctl", SYSCTL),
            ("systemctl", SYSTEMCTL),
        ];
        for (name, text) in replaced {
            std::fs::write(programs.join(name), text)?;
            set_mode(&programs.join(name), 0o755)?;
        }
        // Users of the machines read programs below it.
        set_mode(folder.path(), 0o755)?;
        let switch = Namespace::new()?;
        switch.shell("ip link add switch type bridge && ip link set switch up")?;
        let logs = crate::scenario::artefacts()?;
        let mut all = Self { machines: Vec::new(), _switch: switch, folder, logs };
        for (index, (name, address)) in machines.iter().enumerate() {
            let machine = all.begin(name, index == 0)?;
            let script = format!(
                "ip link add to-{index} type veth peer name eth0 netns {inside}\n\
                 ip link set to-{index} master switch up\n\
                 nsenter --net=/proc/{inside}/ns/net sh -ec \
                 'ip address add {address}/32 dev eth0; ip link set eth0 up; ip route add default dev eth0'",
                inside = machine.inside,
            );
            all._switch.shell(&script)?;
            all.machines.push(machine);
        }
        Ok(all)
    }

    fn begin(&self, name: &str, has_repository: bool) -> Result<DebianMachine> {
        let at = self.folder.path().join(name);
        std::fs::create_dir(&at)?;
        let repository = if has_repository { repository()? } else { PathBuf::new() };
        let mut holder = ChildProcess::start(
            Command::new("unshare")
                .args([
                    "--net",
                    "--mount",
                    "--pid",
                    "--fork",
                    "--kill-child",
                    "--mount-proc",
                    "--propagation",
                    "private",
                ])
                .args(["sh", "-ec", BEGIN, "sh"])
                .arg(&at)
                .arg(repository)
                .arg(self.folder.path().join("programs"))
                .env("OWN", OWN.join(" "))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
            INSTALL,
        )?;
        let lines =
            crate::output_lines::OutputLines::of(holder.0.stdout.take().context("no standard output")?);
        let line = lines.next("the machine's file systems", LIMIT)?;
        ensure!(line.as_deref() == Some("ready"), "{name} did not start: {line:?}");
        let pid = holder.0.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let inside = children.split_whitespace().next().context("no process inside")?.parse()?;
        Ok(DebianMachine { name: name.to_owned(), _holder: holder, inside })
    }

    /// The folder `/root/setup` of a machine.
    #[must_use]
    pub fn setup(&self, machine: &str) -> PathBuf {
        self.folder.path().join(machine).join("root/setup")
    }

    /// Runs commands on a machine, in `/root/setup`; a command that fails ends them. Their output.
    ///
    /// # Errors
    /// With the output, when a command fails.
    pub async fn run(&self, machine: &str, commands: &str) -> Result<String> {
        let at = self.machines.iter().find(|known| known.name == machine);
        let at = at.with_context(|| format!("no machine {machine}"))?;
        let built = built("systirctl")?.parent().context("no folder")?.to_owned();
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--pid", "--target", &at.inside.to_string()]);
        command.args(["sh", "-ec", &format!("cd /root/setup\n{commands}")]);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("BUILT", built).env("MACHINES", self.folder.path());
        command.env("LOGS", &self.logs).env("MACHINE", machine);
        let output = output(command, LIMIT).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        eprintln!("{machine}: {commands}\n{stdout}{stderr}");
        ensure!(output.status.success(), "on {machine}, {}:\n{commands}\n{stdout}{stderr}", output.status);
        Ok(stdout)
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

fn repository() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?)
}
