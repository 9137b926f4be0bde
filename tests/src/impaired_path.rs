//! A server and a subscriber, as network namespaces, with a router between them that can be as slow and
//! as lossy as a participant's access link. Publishers run beside the server; their packets pass no link.
//!
//! ```text
//!  [server, publishers] 10.71.1.2 ── 10.71.1.1 [router] 10.71.2.1 ── 10.71.2.2 [subscriber]
//! ```

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::Result;

use crate::namespace::Namespace;

/// The server's address, for both sides.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 71, 1, 2);

/// Where a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Beside the server.
    Server,
    /// Behind the router.
    Subscriber,
}

/// What the router does to packets for the subscriber; the other direction is always free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Free,
    /// It forwards at most this many kbit/s. Up to [`QUEUE_MS`] of packets wait, more are dropped.
    Rate(u32),
    /// It drops this percentage of all packets, at random.
    Loss(u8),
}

/// The queue before a slow link, in milliseconds: like that of an access router without active queue
/// management, but not a bufferbloated one.
pub const QUEUE_MS: u32 = 250;
/// Bytes that may leave at once after a pause: three full packets.
const BURST: u32 = 4_500;

/// The three namespaces.
#[derive(Debug)]
pub struct ImpairedPath {
    server: Namespace,
    router: Namespace,
    subscriber: Namespace,
}

impl ImpairedPath {
    /// A free path.
    ///
    /// # Errors
    /// When it cannot be created; says what to install.
    pub fn new() -> Result<Self> {
        let (server, router, subscriber) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        for (name, net, site) in [("server", 1, &server), ("subscriber", 2, &subscriber)] {
            router.shell(&format!(
                "ip link add {name} type veth peer name path netns {pid}
                 ip addr add 10.71.{net}.1/24 dev {name}; ip link set {name} up",
                pid = site.pid()
            ))?;
            // Bursts that the server hands over as one (GSO) are cut before they leave: a network card
            // does that, and the router must see, queue and drop single packets.
            site.shell(&format!(
                "ip addr add 10.71.{net}.2/24 dev path; ip link set path gso_max_segs 1
                 ip link set path up; ip route add default via 10.71.{net}.1"
            ))?;
        }
        router.shell(
            "echo 1 > /proc/sys/net/ipv4/ip_forward
             nft add table inet systir
             nft add chain inet systir loss '{ type filter hook forward priority 0; }'",
        )?;
        Ok(Self { server, router, subscriber })
    }

    /// A command that runs at one end.
    pub fn command(&self, at: At, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match at {
            At::Server => self.server.command(program),
            At::Subscriber => self.subscriber.command(program),
        }
    }

    /// The process that holds the server's namespace.
    pub(crate) fn server_pid(&self) -> u32 {
        self.server.pid()
    }

    /// Replaces the condition of the path.
    ///
    /// # Errors
    /// When tc or nft refuses.
    pub fn set(&self, condition: Condition) -> Result<()> {
        // Fails where there is no shaper yet.
        let free = "nft flush chain inet systir loss; tc qdisc del dev subscriber root 2>/dev/null || true";
        let then = match condition {
            Condition::Free => String::new(),
            Condition::Rate(kbps) => format!(
                "tc qdisc add dev subscriber root tbf rate {kbps}kbit burst {BURST} latency {QUEUE_MS}ms"
            ),
            Condition::Loss(percent) => format!(
                "nft add rule inet systir loss oifname subscriber numgen random mod 100 \\< {percent} drop"
            ),
        };
        self.router.shell(&format!("{free}\n{then}"))
    }
}
