//! The limits of this machine, and what a node needs of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};
use systir_cascade::LinksConfig;
use systir_doctor::kernel::{self, ConntrackTable, KernelLimits, KernelNeeds, OpenFileLimit, OpenFileOwner};
use systir_doctor::{Finding, FindingLevel};

use crate::config::RelayConfig;
use crate::node::METRICS_CONNECTIONS;

/// What the node of this configuration needs.
pub(crate) fn needs(config: &RelayConfig) -> KernelNeeds {
    // Each participant may use TCP.
    let over_tcp = config.media.tcp.map_or(0, |_| u64::from(config.node.capacity));
    let mut ports: Vec<u16> = config.media.ports().unwrap_or_default();
    ports.extend(config.media.tcp.map(|tcp| tcp.port()));
    let others = [config.http.listen, config.links.quic, config.links.grpc, config.telemetry.listen];
    ports.extend(others.iter().map(SocketAddr::port));
    ports.sort_unstable();
    KernelNeeds {
        connections: config.http.connections as u64 + METRICS_CONNECTIONS as u64 + over_tcp,
        participants: u64::from(config.node.capacity),
        ports,
    }
}

/// The limits of the machine, and of the running node; if there is none, that of the systemd unit; else of this process.
pub(crate) fn read(node: Option<u32>, unit: Option<u64>) -> KernelLimits {
    let limits = |process: &str| std::fs::read_to_string(format!("/proc/{process}/limits")).ok();
    let of_process = |process: &str| limits(process).as_deref().and_then(soft_limit);
    let limit = |of| move |files| OpenFileLimit { files, of };
    let open_files = node
        .and_then(|pid| of_process(&pid.to_string()))
        .map(limit(OpenFileOwner::Node))
        .or_else(|| unit.map(limit(OpenFileOwner::Unit)))
        .or_else(|| of_process("self").map(limit(OpenFileOwner::Shell)));
    let sysctl = |name: &str| std::fs::read_to_string(Path::new("/proc/sys/net").join(name)).ok();
    let number = |name: &str| sysctl(name)?.trim().parse().ok();
    KernelLimits {
        open_files,
        ephemeral: sysctl("ipv4/ip_local_port_range").as_deref().and_then(two_ports),
        reserved: sysctl("ipv4/ip_local_reserved_ports").as_deref().map(port_ranges).unwrap_or_default(),
        conntrack: number("netfilter/nf_conntrack_count")
            .zip(number("netfilter/nf_conntrack_max"))
            .map(|(used, max)| ConntrackTable { used, max }),
    }
}

/// The buffers that a socket gets when links request theirs: tried, because the limit cannot be read in every network
/// namespace.
pub(crate) fn socket_buffers() -> Finding {
    let granted = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).ok()?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).ok()?;
        let _ = socket.set_recv_buffer_size(LinksConfig::SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(LinksConfig::SOCKET_BUFFER);
        // Linux reports twice the granted size (socket(7), SO_RCVBUF).
        Some((socket.recv_buffer_size().ok()? / 2, socket.send_buffer_size().ok()? / 2))
    };
    kernel::socket_buffers(LinksConfig::SOCKET_BUFFER, granted())
}

/// Logs what is too low for the node that starts; links say it of their own socket.
pub(crate) fn warn_of_low_limits(config: &RelayConfig) {
    let found = kernel::kernel(&needs(config), &read(Some(std::process::id()), None));
    for finding in found.iter().filter(|finding| finding.level != FindingLevel::Ok) {
        tracing::warn!("{}", finding.line());
    }
}

/// The soft limit of open files in `/proc/PID/limits`.
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        files => files.parse().ok(),
    }
}

fn two_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ports = text.split_whitespace().map(|port| port.parse().ok());
    Some(ports.next()??..=ports.next()??)
}

/// `8080,9148-9150`
fn port_ranges(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.trim().split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             96290                96290                processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(text), Some(1_024));
        assert_eq!(soft_limit(&text.replace("1024  ", "unlimited")), Some(u64::MAX));
        assert_eq!(soft_limit("Max processes 1 1"), None);
        assert_eq!(two_ports("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(two_ports("x"), None);
        assert_eq!(port_ranges("7880,7882-7897\n"), [7_880..=7_880, 7_882..=7_897]);
        assert_eq!(port_ranges("\n"), []);
    }

    #[test]
    fn the_limits_of_this_machine_can_be_read() {
        let limits = read(None, None);
        assert!(limits.open_files.is_some_and(|limit| limit.files > 0 && limit.of == OpenFileOwner::Shell));
        assert!(limits.ephemeral.is_some_and(|range| !range.is_empty()));
        assert_eq!(socket_buffers().subject, "socket buffers");
    }
}
