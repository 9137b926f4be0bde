//! Two places and the line between them: network namespaces of their own, in which packets get
//! lost and large ones do not pass. People reach each place from this machine, over clean
//! connections that are not the line.
//!
//! ```text
//!  this machine ── 10.254.n.2 [near] 172.31.1.2 ── 172.31.1.1 [line] 172.31.2.1 ── 172.31.2.2 [far] 10.254.n.6 ── this machine
//! ```
//!
//! A namespace lives as long as the process that holds it, and that one ends with this process,
//! however it ends; the interfaces go with their namespaces.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process::Owned;

const INSTALL: &str = "apt-get install util-linux iproute2 nftables, and run as root";
/// Lines that may exist on this machine at one time.
const LINES: u8 = 250;

/// One end of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its interface towards the line takes 1500 bytes: what passes it must find out by itself.
    Near,
    /// Its interface says what passes.
    Far,
}

/// A direction on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Both.
    Both,
    /// From near to far.
    There,
    /// From far to near.
    Back,
}

/// What is lost on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// This share of all packets, in hundredths, by chance.
    Loss(u8),
    /// Everything in one direction.
    Cut(Way),
    /// All UDP.
    NoUdp,
    /// All TCP.
    NoTcp,
}

impl Trouble {
    fn rules(self) -> Vec<String> {
        match self {
            Self::Loss(0) => Vec::new(),
            Self::Loss(share) => vec![format!("numgen random mod 100 < {share} counter name lost drop")],
            Self::Cut(Way::Both) => vec!["counter name lost drop".to_owned()],
            Self::Cut(Way::There) => vec!["iifname \"near\" counter name lost drop".to_owned()],
            Self::Cut(Way::Back) => vec!["iifname \"far\" counter name lost drop".to_owned()],
            Self::NoUdp => vec!["meta l4proto udp counter name lost drop".to_owned()],
            Self::NoTcp => vec!["meta l4proto tcp counter name lost drop".to_owned()],
        }
    }
}

/// A network namespace and the process that holds it.
#[derive(Debug)]
struct Namespace(Owned);

impl Namespace {
    fn new() -> Result<Self> {
        let mut holder = Owned::start(
            Command::new("unshare")
                .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
            INSTALL,
        )?;
        let out = holder.0.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("a network namespace cannot be made: {INSTALL}");
        }
        Ok(Self(holder))
    }

    fn pid(&self) -> u32 {
        self.0.0.id()
    }

    /// A command that will run inside.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid())).arg(program);
        command
    }

    fn shell(&self, script: &str) -> Result<()> {
        finish(self.command("sh").args(["-ec", script]), script)
    }
}

fn finish(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("{INSTALL}: {what}"))?;
    if !output.status.success() {
        bail!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The line and what is at its ends.
#[derive(Debug)]
pub struct Line {
    near: Namespace,
    far: Namespace,
    line: Namespace,
    number: u8,
}

impl Line {
    /// A line without trouble that packets of up to `mtu` bytes pass.
    ///
    /// # Errors
    /// When it cannot be made; with what to install.
    pub fn new(mtu: u16) -> Result<Self> {
        let (near, far, line) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        let number = reserve(near.pid(), far.pid())?;
        let made = Self { near, far, line, number };
        let far_host = made.host(6);
        finish(
            Command::new("sh").arg("-ec").arg(format!(
                "ip addr add {here}/30 dev systir{number}n; ip link set systir{number}n up
                 ip addr add {there}/30 dev systir{number}f; ip link set systir{number}f up",
                here = made.host(1),
                there = made.host(5),
            )),
            "connections to both places",
        )?;
        for (place, people, gateway) in
            [(&made.near, made.host(2), made.host(1)), (&made.far, far_host, made.host(5))]
        {
            place.shell(&format!(
                "ip addr add {people}/30 dev people; ip link set people up; ip route add default via {gateway}"
            ))?;
        }
        for (name, place, net, size) in [("near", &made.near, 1, 1500), ("far", &made.far, 2, mtu)] {
            made.line.shell(&format!(
                "ip link add {name} mtu {size} type veth peer name line mtu {size} netns {pid}
                 ip addr add 172.31.{net}.1/24 dev {name}; ip link set {name} up",
                pid = place.pid()
            ))?;
            place.shell(&format!(
                "ip addr add 172.31.{net}.2/24 dev line; ip link set line up
                 ip route add 172.31.{other}.0/24 via 172.31.{net}.1",
                other = 3 - net
            ))?;
        }
        made.line.shell(
            "echo 1 > /proc/sys/net/ipv4/ip_forward
             nft add table inet line; nft add counter inet line lost
             nft add chain inet line way '{ type filter hook forward priority 0; }'",
        )?;
        Ok(made)
    }

    fn host(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 254, self.number, last)
    }

    /// Where people and this test reach a place.
    #[must_use]
    pub fn door(&self, place: Place) -> Ipv4Addr {
        self.host(if place == Place::Near { 2 } else { 6 })
    }

    /// Where a place reaches this machine.
    #[must_use]
    pub fn here(&self) -> Ipv4Addr {
        self.host(1)
    }

    /// A place's address on the line.
    #[must_use]
    pub fn end(&self, place: Place) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, if place == Place::Near { 1 } else { 2 }, 2)
    }

    /// A command that will run at a place.
    pub fn command(&self, place: Place, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match place {
            Place::Near => self.near.command(program),
            Place::Far => self.far.command(program),
        }
    }

    /// From now on this is the line's trouble, and no other.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn trouble(&self, troubles: &[Trouble]) -> Result<()> {
        let mut script = String::from("flush chain inet line way\n");
        for rule in troubles.iter().flat_map(|trouble| trouble.rules()) {
            script.push_str(&format!("add rule inet line way {rule}\n"));
        }
        let mut nft = self.line.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        nft.stdin.take().context("no standard input")?.write_all(script.as_bytes())?;
        let status = nft.wait()?;
        if !status.success() {
            bail!("nft: {status}: {script}");
        }
        Ok(())
    }

    /// From now on no UDP passes between a place and this machine.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn wall(&self, place: Place) -> Result<()> {
        let place = if place == Place::Near { &self.near } else { &self.far };
        place.shell(
            "nft add table inet wall
             nft add chain inet wall in '{ type filter hook input priority 0; }'
             nft add rule inet wall in iifname people meta l4proto udp drop
             nft add chain inet wall out '{ type filter hook output priority 0; }'
             nft add rule inet wall out oifname people meta l4proto udp drop",
        )
    }

    /// Packets that were lost on the line so far.
    ///
    /// # Errors
    /// When nft does not answer.
    pub fn lost(&self) -> Result<u64> {
        let output = self.line.command("nft").args(["list", "counter", "inet", "line", "lost"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        words.next().and_then(|word| word.parse().ok()).with_context(|| format!("nft said: {text}"))
    }
}

/// The number that this process asks for first.
fn first_number() -> u8 {
    (std::process::id() % u32::from(LINES)) as u8
}

/// A number that no other line on this machine has, with the interfaces to both places: the kernel
/// takes each name once, and a line that ended frees its two names one after the other.
fn reserve(near: u32, far: u32) -> Result<u8> {
    let mut last = String::new();
    for offset in 0..LINES {
        let number = ((u16::from(first_number()) + u16::from(offset)) % u16::from(LINES)) as u8 + 1;
        let (to_near, to_far) = (format!("systir{number}n"), format!("systir{number}f"));
        let refused = match connect(&to_near, near)? {
            None => match connect(&to_far, far)? {
                None => return Ok(number),
                refused => {
                    finish(Command::new("ip").args(["link", "delete", &to_near]), "a connection not needed")?;
                    refused
                }
            },
            refused => refused,
        };
        last = refused.unwrap_or_default();
        if !last.contains("exists") {
            break;
        }
    }
    bail!("no interface can be made ({last}): {INSTALL}")
}

/// A pair of interfaces, ours and the one that people at a place come by; or why there is none.
fn connect(name: &str, place: u32) -> Result<Option<String>> {
    let output = Command::new("ip")
        .args(["link", "add", name, "type", "veth", "peer", "name", "people", "netns"])
        .arg(place.to_string())
        .output()
        .context(INSTALL)?;
    let refused = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok((!output.status.success()).then_some(refused))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::play;

    #[test]
    fn a_line_that_is_half_gone_is_in_nobodys_way() {
        // In a turn of its own: whoever plays ends the processes that were started meanwhile.
        let played = play(async {
            let number = first_number() + 1;
            let left = format!("systir{number}f");
            finish(
                Command::new("ip").args(["link", "add", &left, "type", "veth"]),
                "what is left of a line",
            )?;
            let made = Line::new(1500);
            finish(Command::new("ip").args(["link", "delete", &left]), "what is left of a line")?;
            assert_ne!(made?.number, number);
            Ok(())
        });
        played.unwrap();
    }
}
