//! Two sites and the network path between them, as network namespaces. The path has an MTU and can
//! lose packets. Clients on this host reach each site over its own unimpaired connection.
//!
//! ```text
//!  host ── 10.254.n.2 [near] 172.31.1.2 ── 172.31.1.1 [path] 172.31.2.1 ── 172.31.2.2 [far] 10.254.n.6 ── host
//! ```
//!
//! The interfaces disappear with their network namespaces.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::namespace::{INSTALL, Namespace, run};

/// The number of paths that can exist on this host at the same time.
const MAX_PATHS: u8 = 250;

/// One end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// Its interface to the path has an MTU of 1500: the node has to discover the path's MTU.
    Near,
    /// Its interface to the path has the path's MTU.
    Far,
}

/// A direction on the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutDirection {
    /// Both.
    Both,
    /// From near to far.
    NearToFar,
    /// From far to near.
    FarToNear,
}

/// What the path drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impairment {
    /// This percentage of all packets, at random.
    Loss(u8),
    /// All packets of a direction.
    Cut(CutDirection),
    /// All UDP.
    NoUdp,
    /// All TCP.
    NoTcp,
}

impl Impairment {
    fn rules(self) -> Vec<String> {
        match self {
            Self::Loss(0) => Vec::new(),
            Self::Loss(share) => vec![format!("numgen random mod 100 < {share} counter name lost drop")],
            Self::Cut(CutDirection::Both) => vec!["counter name lost drop".to_owned()],
            Self::Cut(CutDirection::NearToFar) => vec!["iifname \"near\" counter name lost drop".to_owned()],
            Self::Cut(CutDirection::FarToNear) => vec!["iifname \"far\" counter name lost drop".to_owned()],
            Self::NoUdp => vec!["meta l4proto udp counter name lost drop".to_owned()],
            Self::NoTcp => vec!["meta l4proto tcp counter name lost drop".to_owned()],
        }
    }
}

/// The path and the two sites.
#[derive(Debug)]
pub struct LossyPath {
    near: Namespace,
    far: Namespace,
    path: Namespace,
    number: u8,
}

impl LossyPath {
    /// A path without impairments and with this MTU in bytes.
    ///
    /// # Errors
    /// When it cannot be created; says what to install.
    pub fn new(mtu: u16) -> Result<Self> {
        let (near, far, path) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        let number = reserve(near.pid(), far.pid())?;
        let made = Self { near, far, path, number };
        let far_address = made.address(6);
        run(
            Command::new("sh").arg("-ec").arg(format!(
                "ip addr add {to_near}/30 dev systir{number}n; ip link set systir{number}n up
                 ip addr add {to_far}/30 dev systir{number}f; ip link set systir{number}f up",
                to_near = made.address(1),
                to_far = made.address(5),
            )),
            "connections to both sites",
        )?;
        for (site, address, gateway) in
            [(&made.near, made.address(2), made.address(1)), (&made.far, far_address, made.address(5))]
        {
            site.shell(&format!(
                "ip addr add {address}/30 dev clients; ip link set clients up; ip route add default via {gateway}"
            ))?;
        }
        for (name, site, net, size) in [("near", &made.near, 1, 1500), ("far", &made.far, 2, mtu)] {
            made.path.shell(&format!(
                "ip link add {name} mtu {size} type veth peer name path mtu {size} netns {pid}
                 ip addr add 172.31.{net}.1/24 dev {name}; ip link set {name} up",
                pid = site.pid()
            ))?;
            site.shell(&format!(
                "ip addr add 172.31.{net}.2/24 dev path; ip link set path up
                 ip route add 172.31.{other}.0/24 via 172.31.{net}.1",
                other = 3 - net
            ))?;
        }
        made.path.shell(
            "echo 1 > /proc/sys/net/ipv4/ip_forward
             nft add table inet systir; nft add counter inet systir lost
             nft add chain inet systir impairments '{ type filter hook forward priority 0; }'",
        )?;
        Ok(made)
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 254, self.number, last)
    }

    /// The address at which clients and this test reach a site.
    #[must_use]
    pub fn client_address(&self, site: Site) -> Ipv4Addr {
        self.address(if site == Site::Near { 2 } else { 6 })
    }

    /// The address at which a site reaches this host.
    #[must_use]
    pub fn host_address(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// The address of a site on the path.
    #[must_use]
    pub fn path_address(&self, site: Site) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, if site == Site::Near { 1 } else { 2 }, 2)
    }

    /// A command that runs at a site.
    pub fn command(&self, site: Site, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match site {
            Site::Near => self.near.command(program),
            Site::Far => self.far.command(program),
        }
    }

    /// Replaces the impairments of the path.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn impair(&self, impairments: &[Impairment]) -> Result<()> {
        let mut script = String::from("flush chain inet systir impairments\n");
        for rule in impairments.iter().flat_map(|impairment| impairment.rules()) {
            script.push_str(&format!("add rule inet systir impairments {rule}\n"));
        }
        let mut nft = self.path.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        nft.stdin.take().context("no standard input")?.write_all(script.as_bytes())?;
        let status = nft.wait()?;
        if !status.success() {
            bail!("nft: {status}: {script}");
        }
        Ok(())
    }

    /// Blocks UDP between a site and this host.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn block_udp(&self, site: Site) -> Result<()> {
        let site = if site == Site::Near { &self.near } else { &self.far };
        site.shell(
            "nft add table inet no_udp
             nft add chain inet no_udp in '{ type filter hook input priority 0; }'
             nft add rule inet no_udp in iifname clients meta l4proto udp drop
             nft add chain inet no_udp out '{ type filter hook output priority 0; }'
             nft add rule inet no_udp out oifname clients meta l4proto udp drop",
        )
    }

    /// The packets that the path has dropped.
    ///
    /// # Errors
    /// When nft does not answer.
    pub fn lost_packets(&self) -> Result<u64> {
        let output = self.path.command("nft").args(["list", "counter", "inet", "systir", "lost"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        words
            .next()
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("no packet count in nft's output: {text}"))
    }
}

/// The number that this process tries first.
fn first_number() -> u8 {
    (std::process::id() % u32::from(MAX_PATHS)) as u8
}

/// Creates the interfaces to both sites under a number that no other path on this host uses: an
/// interface name exists once. A path that ends frees its two names one after the other.
fn reserve(near: u32, far: u32) -> Result<u8> {
    let mut last = String::new();
    for offset in 0..MAX_PATHS {
        let number = ((u16::from(first_number()) + u16::from(offset)) % u16::from(MAX_PATHS)) as u8 + 1;
        let (to_near, to_far) = (format!("systir{number}n"), format!("systir{number}f"));
        let refused = match connect(&to_near, near)? {
            None => match connect(&to_far, far)? {
                None => return Ok(number),
                refused => {
                    run(Command::new("ip").args(["link", "delete", &to_near]), "an unused connection")?;
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
    bail!("cannot create an interface ({last}): {INSTALL}")
}

/// Creates a pair of interfaces: `name` on this host and `clients` in the namespace of the process
/// `site`. Returns ip's error when it refuses.
fn connect(name: &str, site: u32) -> Result<Option<String>> {
    let output = Command::new("ip")
        .args(["link", "add", name, "type", "veth", "peer", "name", "clients", "netns"])
        .arg(site.to_string())
        .output()
        .context(INSTALL)?;
    let refused = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok((!output.status.success()).then_some(refused))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::run_scenario;

    #[test]
    fn a_number_with_a_leftover_interface_is_skipped() {
        // In a scenario: `run_scenario` kills processes that were started meanwhile.
        let result = run_scenario(async {
            let number = first_number() + 1;
            let leftover = format!("systir{number}f");
            run(Command::new("ip").args(["link", "add", &leftover, "type", "veth"]), "a leftover interface")?;
            let made = LossyPath::new(1500);
            run(Command::new("ip").args(["link", "delete", &leftover]), "a leftover interface")?;
            assert_ne!(made?.number, number);
            Ok(())
        });
        result.unwrap();
    }
}
