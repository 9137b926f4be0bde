//! Limits of the machine: open files, socket buffers, ephemeral ports, connection tracking.

use std::ops::RangeInclusive;

use crate::finding::{Finding, FindingArea};

const AREA: FindingArea = FindingArea::Kernel;
/// Files beside connections: libraries, epoll, timers, documents, the log, links.
const OTHER_FILES: u64 = 256;
/// Beyond this part of the table, in percent, a burst of new flows may fill it.
const FULL_PERCENT: u64 = 80;

/// What a node needs of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelNeeds {
    /// Connections that it accepts at the same time, on all TCP ports.
    pub connections: u64,
    /// Participants whose media it carries.
    pub participants: u64,
    /// Ports on which it listens.
    pub ports: Vec<u16>,
}

/// The limits of the machine, as far as they can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelLimits {
    /// Files that the process may have open, and whose limit it is.
    pub open_files: Option<OpenFileLimit>,
    /// Ports that the kernel gives to connections that name none.
    pub ephemeral: Option<RangeInclusive<u16>>,
    /// Ports in that range that it does not give.
    pub reserved: Vec<RangeInclusive<u16>>,
    /// The table of tracked connections; none if connections are not tracked.
    pub conntrack: Option<ConntrackTable>,
}

/// A limit of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFileLimit {
    /// Files.
    pub files: u64,
    /// Whose it is.
    pub of: OpenFileOwner,
}

/// Whose limit of open files is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFileOwner {
    /// The node that runs.
    Node,
    /// The systemd unit, with which the node is going to run.
    Unit,
    /// Whoever asks: nothing else is known.
    Shell,
}

/// The kernel's table of tracked connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConntrackTable {
    /// Entries now.
    pub used: u64,
    /// Entries at most; packets of further flows are dropped.
    pub max: u64,
}

/// All checks of limits, except those of sockets.
#[must_use]
pub fn kernel(needs: &KernelNeeds, limits: &KernelLimits) -> Vec<Finding> {
    let files = limits.open_files.map_or_else(|| unknown("open files"), |limit| open_files(needs, limit));
    let ephemeral = limits.ephemeral.as_ref();
    let ephemeral = ephemeral
        .map_or_else(|| unknown("ephemeral ports"), |range| ephemeral_ports(needs, range, &limits.reserved));
    let conntrack = limits.conntrack.map_or_else(
        || Finding::ok(AREA, "conntrack", "the kernel tracks no connections"),
        |table| conntrack(needs, table),
    );
    vec![files, ephemeral, conntrack]
}

fn unknown(subject: &str) -> Finding {
    Finding::warning(AREA, subject, "the limit cannot be read on this machine")
}

/// Each connection is a file. UDP needs one socket per worker.
fn open_files(needs: &KernelNeeds, limit: OpenFileLimit) -> Finding {
    let OpenFileLimit { files, of } = limit;
    let needed = needs.connections + OTHER_FILES;
    let whose = match of {
        OpenFileOwner::Node => "the node",
        OpenFileOwner::Unit => "the systemd unit",
        OpenFileOwner::Shell => "this shell",
    };
    if files >= needed {
        return Finding::ok(AREA, "open files", format!("{files} for {whose}, up to {needed} are needed"));
    }
    let what = format!("{files} for {whose}, but {needed} are needed for the connections that it may accept");
    Finding::warning(AREA, "open files", what)
        .advise("set LimitNOFILE=65536 in the systemd unit (ulimit -n 65536 in a shell)")
}

/// The check of the buffers of a socket: the bytes that the node requests, and those that the kernel grants to receive and to
/// send; none if no socket could be opened.
#[must_use]
pub fn socket_buffers(wanted: usize, granted: Option<(usize, usize)>) -> Finding {
    let Some((receive, send)) = granted else { return unknown("socket buffers") };
    if receive.min(send) >= wanted {
        return Finding::ok(AREA, "socket buffers", format!("{} MiB", wanted >> 20));
    }
    let what = format!(
        "the kernel grants {} KiB to receive and {} KiB to send, and the node requests {} KiB: bursts lose packets",
        receive >> 10,
        send >> 10,
        wanted >> 10
    );
    Finding::warning(AREA, "socket buffers", what).advise(format!(
        "install deploy/sysctl.d/90-systir.conf, or as root: sysctl -w net.core.rmem_max={wanted} net.core.wmem_max={wanted}"
    ))
}

/// A connection of another program may take a port of the node before the node starts.
fn ephemeral_ports(
    needs: &KernelNeeds,
    ephemeral: &RangeInclusive<u16>,
    reserved: &[RangeInclusive<u16>],
) -> Finding {
    let (first, last) = (ephemeral.start(), ephemeral.end());
    let at_risk = |port: &&u16| {
        **port != 0 && ephemeral.contains(*port) && !reserved.iter().any(|range| range.contains(*port))
    };
    let mut ports: Vec<String> = needs.ports.iter().filter(at_risk).map(u16::to_string).collect();
    ports.dedup();
    if ports.is_empty() {
        return Finding::ok(AREA, "ephemeral ports", format!("{first} to {last}, no port of the node"));
    }
    let ports = ports.join(",");
    let what = format!(
        "{first} to {last} contain ports of the node ({ports}), which a connection of another program may take"
    );
    Finding::warning(AREA, "ephemeral ports", what)
        .advise(format!("as root: sysctl -w net.ipv4.ip_local_reserved_ports={ports}, and in /etc/sysctl.d"))
}

/// Each client is a flow of media and one of signalling; a few leave and join again.
fn conntrack(needs: &KernelNeeds, table: ConntrackTable) -> Finding {
    let ConntrackTable { used, max } = table;
    let needed = 4 * needs.participants + needs.connections;
    let advice = |least: u64| {
        let size = least.next_power_of_two().max(262_144);
        format!(
            "as root: sysctl -w net.netfilter.nf_conntrack_max={size}, or do not track the node's ports (notrack)"
        )
    };
    if used >= max {
        let what = format!("the table is full ({used} of {max}): the kernel drops packets of new flows");
        return Finding::wrong(AREA, "conntrack", what).advise(advice(2 * needed.max(max)));
    }
    if used * 100 > max * FULL_PERCENT {
        let what = format!("the table is nearly full: {used} of {max} entries");
        return Finding::warning(AREA, "conntrack", what).advise(advice(2 * needed.max(max)));
    }
    if max < needed {
        let what = format!("the table has {max} entries, and a full node may need {needed}");
        return Finding::warning(AREA, "conntrack", what).advise(advice(2 * needed));
    }
    Finding::ok(AREA, "conntrack", format!("{used} of {max} entries"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingLevel;

    fn needs() -> KernelNeeds {
        KernelNeeds { connections: 8_192, participants: 500, ports: vec![7880, 7882, 7883] }
    }

    fn good() -> KernelLimits {
        KernelLimits {
            open_files: Some(OpenFileLimit { files: 65_536, of: OpenFileOwner::Unit }),
            ephemeral: Some(32_768..=60_999),
            reserved: Vec::new(),
            conntrack: Some(ConntrackTable { used: 10, max: 262_144 }),
        }
    }

    fn bad(limits: KernelLimits) -> Vec<String> {
        let all = kernel(&needs(), &limits).into_iter().filter(|finding| finding.level != FindingLevel::Ok);
        all.map(|finding| format!("{} {}", finding.level.as_str(), finding.line())).collect()
    }

    #[test]
    fn a_machine_that_is_set_up_is_ok() {
        assert_eq!(bad(good()), Vec::<String>::new());
        assert_eq!(bad(KernelLimits { conntrack: None, ..good() }), Vec::<String>::new());
    }

    #[test]
    fn each_limit_that_is_too_low_is_named_with_what_to_do() {
        let one = |limits| {
            let found = bad(limits);
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].clone()
        };
        let files = Some(OpenFileLimit { files: 1_024, of: OpenFileOwner::Shell });
        let line = one(KernelLimits { open_files: files, ..good() });
        assert!(line.starts_with("warning open files: 1024 for this shell, but 8448 are needed"), "{line}");
        assert!(line.contains("LimitNOFILE=65536"), "{line}");
        let line = one(KernelLimits { ephemeral: Some(1_024..=60_999), ..good() });
        assert!(
            line.contains("(7880,7882,7883)") && line.contains("reserved_ports=7880,7882,7883"),
            "{line}"
        );
        let full = ConntrackTable { used: 65_536, max: 65_536 };
        let line = one(KernelLimits { conntrack: Some(full), ..good() });
        assert!(line.starts_with("wrong conntrack: the table is full"), "{line}");
        let nearly = ConntrackTable { used: 60_000, max: 65_536 };
        let line = one(KernelLimits { conntrack: Some(nearly), ..good() });
        assert!(line.starts_with("warning conntrack: the table is nearly full"), "{line}");
        let small = ConntrackTable { used: 0, max: 8_192 };
        let line = one(KernelLimits { conntrack: Some(small), ..good() });
        assert!(line.contains("a full node may need 10192") && line.contains("max=262144"), "{line}");
    }

    #[test]
    fn reserved_ports_are_not_at_risk() {
        let ephemeral = Some(1_024..=60_999);
        let limits = KernelLimits { ephemeral, reserved: vec![7880..=7880, 7882..=7890], ..good() };
        assert_eq!(bad(limits), Vec::<String>::new());
    }

    #[test]
    fn a_socket_with_smaller_buffers_than_requested_is_a_warning() {
        const WANTED: usize = 32 << 20;
        assert_eq!(socket_buffers(WANTED, Some((WANTED, WANTED))).level, FindingLevel::Ok);
        let found = socket_buffers(WANTED, Some((212_992, WANTED)));
        assert_eq!(found.level, FindingLevel::Warning);
        assert!(
            found.line().contains("208 KiB to receive") && found.line().contains("rmem_max=33554432"),
            "{found:?}"
        );
        assert!(socket_buffers(WANTED, None).line().contains("cannot be read"));
    }

    #[test]
    fn what_cannot_be_read_is_a_warning() {
        let found = bad(KernelLimits::default());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|line| line.starts_with("warning ") && line.contains("cannot be read")));
    }
}
