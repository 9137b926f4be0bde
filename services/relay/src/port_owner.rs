//! Which process has a port, from the kernel's tables of sockets.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use systir_doctor::ports::{ConfiguredPort, PortOwner, PortState};

/// The state LISTEN in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// An error for a port that the node cannot open: names the process that has it.
pub(crate) fn cannot_listen(
    field: &'static str,
    udp: bool,
    address: SocketAddr,
    error: &std::io::Error,
) -> anyhow::Error {
    let port = ConfiguredPort { field, udp, address, state: state_of(error, udp, address, None) };
    match port.problem() {
        Some((what, advice)) => anyhow::anyhow!("{field}: {what}; {advice}"),
        None => anyhow::anyhow!("{field}: {error}"),
    }
}

/// What an error of opening a port means. `node` is the running node.
pub(crate) fn state_of(
    error: &std::io::Error,
    udp: bool,
    address: SocketAddr,
    node: Option<&NodeProcess>,
) -> PortState {
    match error.kind() {
        std::io::ErrorKind::AddrNotAvailable => PortState::NoSuchAddress,
        std::io::ErrorKind::AddrInUse => {
            let owner = owner(udp, address);
            let is_node = owner.as_ref().zip(node).is_some_and(|(owner, node)| node.is(owner));
            if is_node { PortState::OwnNode } else { PortState::Taken(owner) }
        }
        _ => PortState::Failed(error.to_string()),
    }
}

/// A running node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeProcess {
    pub(crate) pid: u32,
    user: u32,
}

impl NodeProcess {
    /// The process that runs the node of this configuration file.
    pub(crate) fn find(config: &Path) -> Option<Self> {
        let config = std::fs::canonicalize(config).ok()?;
        processes().find_map(|(pid, folder)| {
            runs_node_of(&folder, &config).then_some(())?;
            Some(Self { pid, user: std::fs::metadata(&folder).ok()?.uid() })
        })
    }

    /// Only the user of a process and root see its sockets.
    fn is(&self, owner: &PortOwner) -> bool {
        match &owner.process {
            Some((pid, _)) => *pid == self.pid,
            None => owner.user == self.user,
        }
    }
}

fn processes() -> impl Iterator<Item = (u32, PathBuf)> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// Is this process `systir-relay --config FILE`, or with SYSTIR_CONFIG=FILE, with that file?
fn runs_node_of(process: &Path, config: &Path) -> bool {
    let read = |name: &str| {
        let text = std::fs::read(process.join(name)).unwrap_or_default();
        let parts = text.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        parts.collect::<Vec<_>>()
    };
    let arguments = read("cmdline");
    let program = arguments.first().map(Path::new).and_then(Path::file_name);
    if program.is_none_or(|program| program != "systir-relay") {
        return false;
    }
    let after = |pair: &[String]| (pair.first()? == "--config").then(|| pair.get(1).cloned())?;
    let joined = |argument: &String| argument.strip_prefix("--config=").map(str::to_owned);
    let file = arguments.windows(2).find_map(after).or_else(|| arguments.iter().find_map(joined));
    let variable = |text: &String| text.strip_prefix("SYSTIR_CONFIG=").map(str::to_owned);
    let Some(file) = file.or_else(|| read("environ").iter().find_map(variable)) else { return false };
    // Its relative paths are relative to its own folder.
    std::fs::canonicalize(process.join("cwd").join(file)).is_ok_and(|file| file == config)
}

/// The process that has the port at this address, or at one that includes it.
fn owner(udp: bool, address: SocketAddr) -> Option<PortOwner> {
    let tables = if udp { ["udp", "udp6"] } else { ["tcp", "tcp6"] };
    let socket = tables.iter().find_map(|table| {
        let text = std::fs::read_to_string(Path::new("/proc/net").join(table)).ok()?;
        text.lines().skip(1).find_map(|line| socket_on(line, udp, address))
    })?;
    let target = format!("socket:[{}]", socket.inode);
    let process = processes().find_map(|(pid, folder)| {
        let mut files = std::fs::read_dir(folder.join("fd")).ok()?.flatten();
        files
            .any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == target.as_str()))
            .then_some(())?;
        let name = std::fs::read_to_string(folder.join("comm")).ok()?;
        Some((pid, name.trim_end().to_owned()))
    });
    Some(PortOwner { process, user: socket.user })
}

#[derive(Debug, PartialEq, Eq)]
struct KernelSocket {
    user: u32,
    inode: u64,
}

/// A line of `/proc/net/tcp` and the like, if its socket is in the way of one at this address.
fn socket_on(line: &str, udp: bool, wanted: SocketAddr) -> Option<KernelSocket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, _, _, _, user, _, inode, ..] = fields.as_slice() else { return None };
    let (ip, port) = local.split_once(':')?;
    let same_port = u16::from_str_radix(port, 16).ok()? == wanted.port();
    let any = ip.bytes().all(|digit| digit == b'0');
    let overlaps = any || wanted.ip().is_unspecified() || ip.eq_ignore_ascii_case(&hex(wanted));
    (same_port && overlaps && (udp || *state == LISTENING))
        .then(|| Some(KernelSocket { user: user.parse().ok()?, inode: inode.parse().ok()? }))?
}

/// An address as in the kernel's tables: words of 32 bits in the machine's byte order.
fn hex(address: SocketAddr) -> String {
    let bytes = match address {
        SocketAddr::V4(address) => address.ip().octets().to_vec(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    };
    let words = bytes.chunks_exact(4).map(|word| {
        let mut octets = [0; 4];
        octets.copy_from_slice(word);
        format!("{:08X}", u32::from_ne_bytes(octets))
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let line = "   0: 0100007F:1EC8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31942 1 0 100 0 0 10 0";
        let on = |address: &str, line: &str| socket_on(line, false, address.parse().unwrap());
        let found = Some(KernelSocket { user: 1_000, inode: 31_942 });
        assert_eq!(on("127.0.0.1:7880", line), found);
        assert_eq!(on("0.0.0.0:7880", line), found);
        assert_eq!(on("127.0.0.1:7881", line), None);
        assert_eq!(on("127.0.0.2:7880", line), None);
        assert_eq!(on("127.0.0.1:7880", &line.replace(" 0A ", " 01 ")), None, "a connection is no listener");
        let everywhere = line.replace("0100007F", "00000000");
        assert_eq!(on("192.0.2.10:7880", &everywhere), found);
        assert_eq!(hex("[::1]:1".parse().unwrap()), "00000000000000000000000001000000");
    }

    #[test]
    fn the_process_that_has_a_port_is_named() {
        let own = std::process::id();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (is_udp, address) in [(false, tcp.local_addr().unwrap()), (true, udp.local_addr().unwrap())] {
            let owner = owner(is_udp, address).unwrap();
            assert_eq!(owner.process.map(|(pid, _)| pid), Some(own), "{address}");
        }
        let error = TcpListener::bind(tcp.local_addr().unwrap()).unwrap_err();
        let text = cannot_listen("http.listen", false, tcp.local_addr().unwrap(), &error).to_string();
        assert!(
            text.starts_with("http.listen: TCP 127.0.0.1:") && text.contains(&format!("(process {own})")),
            "{text}"
        );
        let address = "192.0.2.1:1".parse().unwrap();
        let error = UdpSocket::bind(address).unwrap_err();
        let text = cannot_listen("links.quic", true, address, &error).to_string();
        assert!(text.starts_with("links.quic: 192.0.2.1 is no address of this machine; "), "{text}");
    }
}
