//! Values that cannot work, or not together. What is accepted here is served.

use std::net::{IpAddr, SocketAddr};

use axum::http::Uri;

use super::{Config, Fault, Http, Links, Media, Node, Registry, Telemetry};
use crate::listen;

/// A lease that is shorter is lost to a hiccup; in a longer one a dead node is offered to people.
const LEASE_SECONDS: std::ops::RangeInclusive<u64> = 2..=600;

fn wrong(field: &str, problem: impl Into<String>) -> Result<(), Fault> {
    Err(Fault::new(field, problem))
}

impl Config {
    pub(super) fn check(&self) -> Result<(), Fault> {
        node(&self.node)?;
        http(&self.http)?;
        media(&self.media)?;
        links(&self.links)?;
        telemetry(&self.telemetry)?;
        registry(&self.registry)?;
        self.check_keys()
    }

    fn check_keys(&self) -> Result<(), Fault> {
        for (name, key) in &self.keys {
            if !self.policy.institutions.contains_key(&key.institution) {
                let problem = format!("{} has no rules under [policy.institutions]", key.institution);
                return wrong(&format!("keys.{name}.institution"), problem);
            }
            if key.secret.is_some() == key.secret_file.is_some() {
                return wrong(&format!("keys.{name}"), "give either secret or secret_file");
            }
        }
        match &self.page.guest_key {
            Some(guest) if !self.keys.contains_key(guest) => {
                wrong("page.guest_key", format!("there is no API key {guest} under [keys]"))
            }
            _ => Ok(()),
        }
    }
}

/// A part of keys in etcd and of metrics' labels.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn node(node: &Node) -> Result<(), Fault> {
    for (field, name) in [("node.name", &node.name), ("node.cluster", &node.cluster)] {
        if !is_name(name) {
            return wrong(field, "use letters, digits, `-`, `_` and `.`");
        }
    }
    if node.capacity == 0 {
        return wrong(
            "node.capacity",
            "a node for 0 participants serves nobody; leave it out of the cluster instead",
        );
    }
    Ok(())
}

fn http(http: &Http) -> Result<(), Fault> {
    match (&http.certificate, &http.key) {
        (Some(_), None) | (None, Some(_)) => {
            return wrong("http.certificate", "certificate and key come together");
        }
        (None, None) if !http.listen.ip().is_loopback() && !http.behind_proxy => {
            let problem = format!(
                "{} is not loopback: give certificate and key, or say behind_proxy = true",
                http.listen
            );
            return wrong("http.certificate", problem);
        }
        _ => {}
    }
    if http.connections == 0 {
        return wrong("http.connections", "with 0 connections nobody can join");
    }
    Ok(())
}

/// Clients and nodes are told addresses that they can send to.
fn told(field: &str, ip: IpAddr) -> Result<(), Fault> {
    if ip.is_unspecified() || ip.is_multicast() {
        return wrong(field, format!("{ip} is no address that anybody can send to"));
    }
    plain(field, ip)
}

/// IPv4 in IPv6's dress is of neither family.
fn plain(field: &str, ip: IpAddr) -> Result<(), Fault> {
    match ip.to_canonical() {
        canonical if canonical != ip => wrong(field, format!("write {canonical} instead of {ip}")),
        _ => Ok(()),
    }
}

fn media(media: &Media) -> Result<(), Fault> {
    for (field, listen) in [("media.listen", Some(media.listen)), ("media.tcp", media.tcp)] {
        let Some(listen) = listen else { continue };
        plain(field, listen.ip())?;
        if listen.ip().is_unspecified() && media.advertise.is_empty() {
            let problem = format!(
                "clients cannot be told {}, which is {field}: list the addresses under which they reach this node",
                listen.ip()
            );
            return wrong("media.advertise", problem);
        }
        if let Err(ip) = listen::per_family(listen, &media.advertise) {
            let problem = format!(
                "nobody reaches {ip} of media.advertise at {}: `[::]` listens on all addresses of both families",
                listen.ip()
            );
            return wrong(field, problem);
        }
    }
    for ip in &media.advertise {
        told("media.advertise", *ip)?;
    }
    if media.workers > Media::MAX_WORKERS {
        return wrong("media.workers", format!("a node has at most {}", Media::MAX_WORKERS));
    }
    if media.ports().is_none() {
        let problem = format!(
            "each of {} workers takes a port, and there is none above {}",
            media.worker_count(),
            u16::MAX
        );
        return wrong("media.listen", problem);
    }
    Ok(())
}

fn links(links: &Links) -> Result<(), Fault> {
    let both = [("links.quic", links.quic), ("links.grpc", links.grpc)];
    for (field, listen) in both {
        plain(field, listen.ip())?;
        match links.advertise {
            None if listen.ip().is_unspecified() => {
                return wrong("links.advertise", "say under which address other nodes reach this one");
            }
            Some(ip) if !reaches(ip, listen) => {
                return wrong(
                    "links.advertise",
                    format!("nobody reaches {ip} at {}, which is {field}", listen.ip()),
                );
            }
            _ => {}
        }
    }
    match links.advertise {
        Some(ip) => told("links.advertise", ip)?,
        None if links.quic.ip() != links.grpc.ip() => {
            return wrong(
                "links.advertise",
                "links.quic and links.grpc differ: say under which address other nodes reach both",
            );
        }
        None => {}
    }
    if links.trust.is_empty() {
        return wrong("links.trust", "without the root of any trust domain no node can be believed");
    }
    if links.ceiling_mbps == 0 {
        return wrong("links.ceiling_mbps", "a link that may send nothing carries no room");
    }
    Ok(())
}

/// Sockets on `[::]` take IPv4 as well.
fn reaches(ip: IpAddr, listen: SocketAddr) -> bool {
    ip.is_ipv4() == listen.is_ipv4() || listen.is_ipv6() && listen.ip().is_unspecified()
}

fn telemetry(telemetry: &Telemetry) -> Result<(), Fault> {
    if let Some(collector) = &telemetry.otlp
        && !(collector.starts_with("http://") && is_address(collector))
    {
        return wrong(
            "telemetry.otlp",
            "write it like http://127.0.0.1:4317; let a collector on this machine carry the spans further over TLS",
        );
    }
    match tracing_subscriber::EnvFilter::try_new(&telemetry.log) {
        Ok(_) => Ok(()),
        Err(error) => wrong("telemetry.log", format!("this is no filter: {error}")),
    }
}

/// `http://HOST:PORT` or `https://HOST:PORT`, and nothing more: no user, no path.
fn is_address(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let host = uri.host().is_some_and(|host| !host.is_empty());
    let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let schemed = uri.scheme_str().is_some_and(|scheme| ["http", "https"].contains(&scheme));
    schemed && host && !user && uri.path().len() <= 1 && uri.query().is_none()
}

fn registry(registry: &Registry) -> Result<(), Fault> {
    if registry.certificate.is_some() != registry.key.is_some() {
        return wrong("registry.certificate", "certificate and key come together");
    }
    if registry.etcd.is_empty() {
        return wrong("registry.etcd", "name at least one etcd address");
    }
    // By its place and not by its words, which may hold a password.
    for (place, address) in (1..).zip(&registry.etcd) {
        if !is_address(address) {
            let problem = format!("write address {place} like https://192.0.2.10:2379, without user or path");
            return wrong("registry.etcd", problem);
        }
        if address.starts_with("http://") && (registry.ca.is_some() || registry.certificate.is_some()) {
            let problem =
                format!("address {place} begins with http://, where nothing is proved; write https://");
            return wrong("registry.etcd", problem);
        }
    }
    if !LEASE_SECONDS.contains(&registry.lease_seconds) {
        let problem = format!("choose {} to {} seconds", LEASE_SECONDS.start(), LEASE_SECONDS.end());
        return wrong("registry.lease_seconds", problem);
    }
    Ok(())
}
