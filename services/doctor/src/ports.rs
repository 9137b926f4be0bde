//! The ports of the node: free, its own, or another program's.

use std::net::SocketAddr;

use crate::finding::{Finding, FindingArea};

/// A process that has a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortOwner {
    /// Its id and its name; none if only its user may see them.
    pub process: Option<(u32, String)>,
    /// The id of the user.
    pub user: u32,
}

impl std::fmt::Display for PortOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.process {
            Some((pid, name)) => write!(f, "{name} (process {pid})"),
            None => write!(f, "a process of user {} (root sees which)", self.user),
        }
    }
}

/// What was found when the port was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortState {
    /// It could be opened.
    Free,
    /// The running node of this configuration has it.
    OwnNode,
    /// Another process has it; none if it is not known which.
    Taken(Option<PortOwner>),
    /// No interface of this machine has the address.
    NoSuchAddress,
    /// It could not be opened for another reason.
    Failed(String),
}

/// A port of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredPort {
    /// The field: `links.quic`.
    pub field: &'static str,
    /// Is it UDP, else TCP?
    pub udp: bool,
    /// Where the node listens.
    pub address: SocketAddr,
    /// What was found.
    pub state: PortState,
}

impl ConfiguredPort {
    fn protocol(&self) -> &'static str {
        if self.udp { "UDP" } else { "TCP" }
    }

    /// Why the node cannot listen there, and what to do; none if it can.
    #[must_use]
    pub fn problem(&self) -> Option<(String, &'static str)> {
        let (address, protocol) = (self.address, self.protocol());
        match &self.state {
            PortState::Free | PortState::OwnNode => None,
            PortState::Taken(owner) => {
                let owner = owner.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string);
                let what = format!("{protocol} {address} is taken by {owner}");
                Some((what, "stop it, or choose another port"))
            }
            PortState::NoSuchAddress => {
                let what = format!("{} is no address of this machine", address.ip());
                Some((
                    what,
                    "listen on an address that `ip address` shows, or on 0.0.0.0 or [::] with `advertise`",
                ))
            }
            PortState::Failed(error) => {
                Some((format!("cannot listen on {protocol} {address}: {error}"), "see the error"))
            }
        }
    }
}

/// A line for each field.
#[must_use]
pub fn ports(all: &[ConfiguredPort]) -> Vec<Finding> {
    let mut fields: Vec<&'static str> = all.iter().map(|port| port.field).collect();
    fields.dedup();
    let of = |field| all.iter().filter(move |port| port.field == field).collect::<Vec<_>>();
    fields.into_iter().map(|field| one_field(field, &of(field))).collect()
}

fn one_field(field: &str, ports: &[&ConfiguredPort]) -> Finding {
    let area = FindingArea::Ports;
    let mut problems = ports.iter().filter_map(|port| port.problem());
    if let Some((what, advice)) = problems.next() {
        let more = problems.count();
        let what = if more == 0 { what } else { format!("{what}, and {more} more like it") };
        return Finding::wrong(area, field, what).advise(advice);
    }
    let running = ports.iter().all(|port| port.state == PortState::OwnNode);
    let state = if running { "the running node listens" } else { "free" };
    let (Some(first), Some(last)) = (ports.first(), ports.last()) else {
        return Finding::ok(area, field, "none");
    };
    let (first_port, last_port) = (first.address.port(), last.address.port());
    let range = if first_port == last_port { String::new() } else { format!(" to {last_port}") };
    Finding::ok(area, field, format!("{} {}{range}: {state}", first.protocol(), first.address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(field: &'static str, address: &str, state: PortState) -> ConfiguredPort {
        let udp = ["media.listen", "links.quic"].contains(&field);
        ConfiguredPort { field, udp, address: address.parse().unwrap(), state }
    }

    fn line(all: &[ConfiguredPort]) -> String {
        let found = ports(all);
        assert_eq!(found.len(), 1, "{found:?}");
        format!("{} {}", found[0].level.as_str(), found[0].line())
    }

    #[test]
    fn a_port_is_free_or_the_nodes_own() {
        let workers = |state: PortState| {
            ["127.0.0.1:7882", "127.0.0.1:7883"].map(|at| port("media.listen", at, state.clone()))
        };
        assert_eq!(line(&workers(PortState::Free)), "ok media.listen: UDP 127.0.0.1:7882 to 7883: free");
        let running = line(&workers(PortState::OwnNode));
        assert_eq!(running, "ok media.listen: UDP 127.0.0.1:7882 to 7883: the running node listens");
        assert_eq!(
            line(&[port("http.listen", "0.0.0.0:7880", PortState::Free)]),
            "ok http.listen: TCP 0.0.0.0:7880: free"
        );
    }

    #[test]
    fn a_port_of_another_process_is_named_with_the_process() {
        let owner = PortOwner { process: Some((812, "nginx".to_owned())), user: 33 };
        let taken = |owner| line(&[port("http.listen", "0.0.0.0:7880", PortState::Taken(owner))]);
        let expected = "wrong http.listen: TCP 0.0.0.0:7880 is taken by nginx (process 812); stop it, or choose another port";
        assert_eq!(taken(Some(owner)), expected);
        assert!(
            taken(Some(PortOwner { process: None, user: 33 }))
                .contains("a process of user 33 (root sees which)")
        );
        assert!(taken(None).contains("taken by another process"));
    }

    #[test]
    fn several_ports_of_one_field_are_one_line() {
        let taken = || PortState::Taken(None);
        let all = [
            port("media.listen", "127.0.0.1:7882", PortState::Free),
            port("media.listen", "127.0.0.1:7883", taken()),
            port("media.listen", "127.0.0.1:7884", taken()),
        ];
        let line = line(&all);
        assert!(line.contains("127.0.0.1:7883 is taken by another process, and 1 more like it"), "{line}");
    }

    #[test]
    fn an_address_of_another_machine_is_wrong() {
        let line = line(&[port("links.quic", "192.0.2.10:7870", PortState::NoSuchAddress)]);
        assert!(line.starts_with("wrong links.quic: 192.0.2.10 is no address of this machine"), "{line}");
    }
}
