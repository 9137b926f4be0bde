//! This machine: ports, limits of the kernel and of the systemd unit, whether NTP sets its clock.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use systir_doctor::ports::{self, ConfiguredPort, PortState};
use systir_doctor::{Finding, kernel};

use crate::config::RelayConfig;
use crate::kernel_limits;
use crate::listen;
use crate::port_owner::{NodeProcess, state_of};

/// Limit of a program that is asked.
const PROGRAM_LIMIT: Duration = Duration::from_secs(2);

/// Ports and limits.
pub(super) fn check(config: &RelayConfig, file: &Path, unit_limit: Option<u64>) -> Vec<Finding> {
    let node = NodeProcess::find(file);
    let mut findings = ports::ports(&configured_ports(config, node.as_ref()));
    let limits = kernel_limits::read(node.map(|node| node.pid), unit_limit);
    findings.extend(kernel::kernel(&kernel_limits::needs(config), &limits));
    findings.push(kernel_limits::socket_buffers());
    findings
}

/// Does the kernel say that its clock is synchronized? `timedatectl` asks it with adjtimex(2), whichever NTP client runs.
/// None: it cannot be told, as in a container.
pub(super) async fn is_synchronized() -> Option<bool> {
    match output("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).await?.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// The soft limit of open files of the node's systemd unit, which is the one that holds. None without that unit.
pub(super) async fn unit_limit() -> Option<u64> {
    let properties = ["show", "--property=LoadState", "--property=LimitNOFILESoft", "systir-relay"];
    let text = output("systemctl", &properties).await?;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let limit = value("LimitNOFILESoft").filter(|_| value("LoadState") == Some("loaded"))?;
    if limit == "infinity" { Some(u64::MAX) } else { limit.parse().ok() }
}

/// The output of a program; none if it is not there or does not answer.
async fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PROGRAM_LIMIT, command.output()).await.ok()?.ok()?;
    String::from_utf8(output.stdout).ok()
}

/// Each port, opened for a moment as the node opens it.
fn configured_ports(config: &RelayConfig, node: Option<&NodeProcess>) -> Vec<ConfiguredPort> {
    let port = |field, udp, address, opened: io::Result<()>| {
        let state = opened.map_or_else(|error| state_of(&error, udp, address, node), |()| PortState::Free);
        ConfiguredPort { field, udp, address, state }
    };
    let tcp = |address| TcpListener::bind(address).map(drop);
    let mut all = vec![port("http.listen", false, config.http.listen, tcp(config.http.listen))];
    let families = |listen: SocketAddr| {
        // The configuration was checked: each advertised address has a socket.
        listen::per_family(listen, &config.media.advertise).unwrap_or_default()
    };
    for number in config.media.ports().unwrap_or_default() {
        for address in families(SocketAddr::new(config.media.listen.ip(), number)) {
            all.push(port("media.listen", true, address, listen::udp(&[address]).map(drop)));
        }
    }
    for address in config.media.tcp.map(families).unwrap_or_default() {
        all.push(port("media.tcp", false, address, listen::tcp(&[address]).map(drop)));
    }
    let (quic, grpc) = (config.links.quic, config.links.grpc);
    all.push(port("links.quic", true, quic, listen::link_udp(quic).map(drop)));
    all.push(port("links.grpc", false, grpc, listen::link_tcp(grpc).map(drop)));
    let telemetry = config.telemetry.listen;
    all.push(port("telemetry.listen", false, telemetry, tcp(telemetry)));
    all
}
