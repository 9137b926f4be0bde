//! Checks values that cannot work, alone or together. A configuration that passes can be started.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use axum::http::Uri;

use super::{
    DrainSection, FieldError, HttpSection, JournalSection, LinksSection, MediaSection, NodeSection,
    PolicySection, RegistrySection, RelayConfig, TelemetrySection,
};
use crate::listen;

/// Shorter: a brief etcd outage ends the lease. Longer: placement proposes a dead node for too long.
const LEASE_SECONDS: std::ops::RangeInclusive<u64> = 2..=600;

/// At most a year.
const TOKEN_HOURS: std::ops::RangeInclusive<u32> = 1..=8760;

fn invalid(field: &str, problem: impl Into<String>) -> Result<(), FieldError> {
    Err(FieldError::new(field, problem))
}

impl RelayConfig {
    pub(super) fn check(&self) -> Result<(), FieldError> {
        node(&self.node)?;
        http(&self.http)?;
        media(&self.media)?;
        links(&self.links)?;
        telemetry(&self.telemetry)?;
        registry(&self.registry)?;
        policy(&self.policy)?;
        quotas(&self.node, &self.policy)?;
        drain(&self.drain)?;
        journal(&self.journal)?;
        self.check_keys()?;
        self.check_room_keys()
    }

    fn check_keys(&self) -> Result<(), FieldError> {
        for (name, key) in &self.keys {
            if !self.policy.institutions.contains_key(&key.institution) {
                let problem = format!("{} has no keys under [policy.institutions]", key.institution);
                return invalid(&format!("keys.{name}.institution"), problem);
            }
            if key.secret.is_some() == key.secret_file.is_some() {
                return invalid(&format!("keys.{name}"), "give either secret or secret_file");
            }
            if key.allow_weak_secret && self.http.others_reach_it() {
                let problem = "clients of other machines reach this node: remove it, and use a secret of 32 or more random \
                               characters (openssl rand -hex 32)";
                return invalid(&format!("keys.{name}.allow_weak_secret"), problem);
            }
        }
        match &self.page.guest_key {
            Some(guest) if !self.keys.contains_key(guest) => {
                invalid("page.guest_key", format!("there is no API key {guest} under [keys]"))
            }
            Some(guest) if self.keys.get(guest).is_some_and(|key| key.audience.is_some()) => {
                let problem =
                    format!("tokens of guests have no audience, which {guest} asks for; use another key");
                invalid("page.guest_key", problem)
            }
            _ => Ok(()),
        }
    }
}

impl RelayConfig {
    fn check_room_keys(&self) -> Result<(), FieldError> {
        for (name, key) in &self.room_keys {
            if !self.policy.institutions.contains_key(&key.institution) {
                let problem = format!("{} has no keys under [policy.institutions]", key.institution);
                return invalid(&format!("room_keys.{name}.institution"), problem);
            }
            if key.key.is_some() == key.key_file.is_some() {
                return invalid(&format!("room_keys.{name}"), "give either key or key_file");
            }
            let same = self.room_keys.iter().filter(|(_, other)| other.institution == key.institution);
            let creating: Vec<&str> =
                same.filter(|(_, key)| key.creates).map(|(name, _)| name.as_str()).collect();
            if creating.len() != 1 {
                let these = if creating.is_empty() { "none".to_owned() } else { creating.join(", ") };
                let problem = format!(
                    "exactly one room key of {} makes the tags of new rooms (these do: {these}); write creates = false for \
                     the others",
                    key.institution
                );
                return invalid(&format!("room_keys.{name}.creates"), problem);
            }
        }
        let with_api_key = self
            .keys
            .iter()
            .find(|(_, key)| self.room_keys.values().all(|room_key| room_key.institution != key.institution));
        match with_api_key {
            Some((name, key)) => {
                let problem = format!(
                    "{} has no room key here, so its rooms cannot be found; add one under [room_keys] (systirctl key room)",
                    key.institution
                );
                invalid(&format!("keys.{name}.institution"), problem)
            }
            None => Ok(()),
        }
    }
}

/// Characters that are safe in etcd keys and metric labels.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn node(node: &NodeSection) -> Result<(), FieldError> {
    for (field, name) in [("node.name", &node.name), ("node.cluster", &node.cluster)] {
        if !is_name(name) {
            return invalid(field, "use letters, digits, `-`, `_` and `.`");
        }
    }
    if node.capacity == 0 {
        return invalid(
            "node.capacity",
            "a node with 0 seats admits no participant; remove it from the cluster instead",
        );
    }
    Ok(())
}

fn journal(journal: &JournalSection) -> Result<(), FieldError> {
    if !(1..=3_650).contains(&journal.keep_days) {
        return invalid("journal.keep_days", "choose 1 to 3650 days");
    }
    if !(1..=1_048_576).contains(&journal.day_mib) {
        return invalid("journal.day_mib", "choose 1 to 1048576 MiB");
    }
    Ok(())
}

fn drain(drain: &DrainSection) -> Result<(), FieldError> {
    if drain.deadline_seconds > 86_400 {
        return invalid("drain.deadline_seconds", "choose 0 to 86400 seconds");
    }
    if drain.notice_seconds > 600 {
        return invalid("drain.notice_seconds", "choose 0 to 600 seconds");
    }
    if !(1..=1_000).contains(&drain.per_second) {
        return invalid("drain.per_second", "choose 1 to 1000 participants per second");
    }
    let secrets = usize::from(drain.secret.is_some()) + usize::from(drain.secret_file.is_some());
    match &drain.api_key {
        None if secrets == 0 => Ok(()),
        Some(name) if !name.is_empty() && secrets == 1 => Ok(()),
        _ => invalid("drain.api_key", "give a name, and either secret or secret_file; or none of them"),
    }
}

/// Of a quota of 0 nobody can use a seat, and a participant that rejoins has two connections for a moment.
fn quotas(node: &NodeSection, policy: &PolicySection) -> Result<(), FieldError> {
    if node.seats_per_identity < 2 {
        return invalid(
            "node.seats_per_identity",
            "choose 2 or more: a participant that rejoins has two connections for a moment",
        );
    }
    if !(10..=600).contains(&policy.grant_seconds) {
        return invalid("policy.grant_seconds", "choose 10 to 600 seconds");
    }
    match policy.institutions.iter().find(|(_, institution)| institution.seats == Some(0)) {
        Some((name, _)) => invalid(
            &format!("policy.institutions.{name}.seats"),
            "with 0 seats no participant is admitted; remove the institution instead",
        ),
        None => Ok(()),
    }
}

fn http(http: &HttpSection) -> Result<(), FieldError> {
    match (&http.certificate, &http.key) {
        (Some(_), None) | (None, Some(_)) => {
            return invalid("http.certificate", "set both certificate and key, or neither");
        }
        (None, None) if !http.listen.ip().is_loopback() && !http.behind_proxy => {
            let problem =
                format!("{} is not loopback: set certificate and key, or behind_proxy = true", http.listen);
            return invalid("http.certificate", problem);
        }
        _ => {}
    }
    http.proxies()?;
    if http.connections == 0 {
        return invalid("http.connections", "with 0 connections no client can connect");
    }
    if !TOKEN_HOURS.contains(&http.max_token_hours) {
        let problem = format!("choose {} to {} hours", TOKEN_HOURS.start(), TOKEN_HOURS.end());
        return invalid("http.max_token_hours", problem);
    }
    Ok(())
}

/// An advertised address must be one that clients or nodes can send to.
fn advertised(field: &str, ip: IpAddr) -> Result<(), FieldError> {
    if ip.is_unspecified() || ip.is_multicast() {
        return invalid(field, format!("{ip} is no address that a client or node can send to"));
    }
    not_mapped(field, ip)
}

/// Refuses IPv4-mapped IPv6 addresses (RFC 4291 section 2.5.5.2): sockets are opened per address family.
fn not_mapped(field: &str, ip: IpAddr) -> Result<(), FieldError> {
    match ip.to_canonical() {
        canonical if canonical != ip => invalid(field, format!("write {canonical} instead of {ip}")),
        _ => Ok(()),
    }
}

fn media(media: &MediaSection) -> Result<(), FieldError> {
    for (field, listen) in [("media.listen", Some(media.listen)), ("media.tcp", media.tcp)] {
        let Some(listen) = listen else { continue };
        not_mapped(field, listen.ip())?;
        if listen.ip().is_unspecified() && media.advertise.is_empty() {
            let problem = format!(
                "{field} is {}, which clients cannot use: list the addresses at which clients reach this node",
                listen.ip()
            );
            return invalid("media.advertise", problem);
        }
        if let Err(ip) = listen::per_family(listen, &media.advertise) {
            let problem = format!(
                "{ip} of media.advertise cannot be reached at {}: use `[::]`, which listens on both address families",
                listen.ip()
            );
            return invalid(field, problem);
        }
    }
    for ip in &media.advertise {
        advertised("media.advertise", *ip)?;
    }
    if media.workers > MediaSection::MAX_WORKERS {
        return invalid("media.workers", format!("a node has at most {} workers", MediaSection::MAX_WORKERS));
    }
    if media.ports().is_none() {
        let problem =
            format!("{} workers need one port each, and ports end at {}", media.worker_count(), u16::MAX);
        return invalid("media.listen", problem);
    }
    Ok(())
}

fn links(links: &LinksSection) -> Result<(), FieldError> {
    let both = [("links.quic", links.quic), ("links.grpc", links.grpc)];
    for (field, listen) in both {
        not_mapped(field, listen.ip())?;
        match links.advertise {
            None if listen.ip().is_unspecified() => {
                return invalid("links.advertise", "set the address at which other nodes reach this one");
            }
            Some(ip) if !reaches(ip, listen) => {
                return invalid(
                    "links.advertise",
                    format!("{ip} cannot be reached at {}, which is {field}", listen.ip()),
                );
            }
            _ => {}
        }
    }
    match links.advertise {
        Some(ip) => advertised("links.advertise", ip)?,
        None if links.quic.ip() != links.grpc.ip() => {
            return invalid(
                "links.advertise",
                "links.quic and links.grpc have different addresses: set the address at which other nodes reach both",
            );
        }
        None => {}
    }
    if links.ceiling_mbps == 0 {
        return invalid("links.ceiling_mbps", "with 0 Mbit/s a link can send nothing");
    }
    Ok(())
}

/// Sockets on `[::]` also accept IPv4.
fn reaches(ip: IpAddr, listen: SocketAddr) -> bool {
    ip.is_ipv4() == listen.is_ipv4() || listen.is_ipv6() && listen.ip().is_unspecified()
}

fn telemetry(telemetry: &TelemetrySection) -> Result<(), FieldError> {
    if let Some(collector) = &telemetry.otlp
        && !(collector.starts_with("http://") && is_address(collector) && is_loopback(collector))
    {
        return invalid(
            "telemetry.otlp",
            "write it like http://127.0.0.1:4317: spans are sent without TLS, so only to this machine; a collector here can \
             forward them over TLS",
        );
    }
    match tracing_subscriber::EnvFilter::try_new(&telemetry.log) {
        Ok(_) => Ok(()),
        Err(error) => invalid("telemetry.log", format!("not a valid filter: {error}")),
    }
}

/// `http://HOST:PORT` or `https://HOST:PORT`, without user, path or query.
fn is_address(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let host = uri.host().is_some_and(|host| !host.is_empty());
    let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let scheme = uri.scheme_str().is_some_and(|scheme| ["http", "https"].contains(&scheme));
    scheme && host && !user && uri.path().len() <= 1 && uri.query().is_none()
}

/// Is the host of this address this machine?
fn is_loopback(address: &str) -> bool {
    let Ok(uri) = address.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn policy(policy: &PolicySection) -> Result<(), FieldError> {
    let names = policy.operators.keys().map(|name| ("policy.operators", name));
    let names = names.chain(policy.institutions.keys().map(|name| ("policy.institutions", name)));
    for (section, name) in names {
        // Kept documents have the name in their file names.
        if !is_name(name) || name.starts_with('.') {
            return invalid(&format!("{section}.{name}"), "use letters, digits, `-`, `_` and `.`");
        }
    }
    if !policy.operators.contains_key(&policy.operator) {
        let problem = format!("{} has no keys under [policy.operators]", policy.operator);
        return invalid("policy.operator", problem);
    }
    // SPIFFE ids and CA roots of two operators must differ.
    let mut domains = BTreeMap::new();
    for (name, operator) in &policy.operators {
        if let Some(other) = domains.insert(&operator.trust_domain, name) {
            let problem = format!("{other} has it too: each operator has a trust domain of its own");
            return invalid(&format!("policy.operators.{name}.trust_domain"), problem);
        }
    }
    policy.pins().map(drop)
}

fn registry(registry: &RegistrySection) -> Result<(), FieldError> {
    if registry.certificate.is_some() != registry.key.is_some() {
        return invalid("registry.certificate", "set both certificate and key, or neither");
    }
    if registry.etcd.is_empty() {
        return invalid("registry.etcd", "set at least one etcd address");
    }
    // Errors name the position of an address, not its text, which may hold a password.
    for (position, address) in (1..).zip(&registry.etcd) {
        if !is_address(address) {
            let problem =
                format!("write address {position} like https://192.0.2.10:2379, without user or path");
            return invalid("registry.etcd", problem);
        }
        if address.starts_with("http://") && (registry.ca.is_some() || registry.certificate.is_some()) {
            let problem =
                format!("address {position} uses http://, which ignores ca and certificate; use https://");
            return invalid("registry.etcd", problem);
        }
        if address.starts_with("http://") && !is_loopback(address) {
            let problem = format!(
                "address {position} is on another machine and uses http://, so that anyone between could read and rewrite \
                 records: write https://, with ca, certificate and key (deploy/etcd/README.md)"
            );
            return invalid("registry.etcd", problem);
        }
    }
    if !LEASE_SECONDS.contains(&registry.lease_seconds) {
        let problem = format!("choose {} to {} seconds", LEASE_SECONDS.start(), LEASE_SECONDS.end());
        return invalid("registry.lease_seconds", problem);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_sent_without_tls_only_to_this_machine() {
        let with = |otlp: &str| {
            telemetry(&TelemetrySection {
                listen: ([127, 0, 0, 1], 7872).into(),
                otlp: Some(otlp.to_owned()),
                log: "info".to_owned(),
                json: false,
            })
        };
        for good in
            ["http://127.0.0.1:4317", "http://127.0.0.2:4317", "http://[::1]:4317", "http://localhost:4317"]
        {
            with(good).unwrap();
        }
        for bad in [
            "http://192.0.2.10:4317",
            "http://collector:4317",
            "http://[2001:db8::1]:4317",
            "http://localhost.example:4317",
            "http://127.0.0.1.example:4317",
            "http://localhost@192.0.2.10:4317",
            "https://127.0.0.1:4317",
            "http://",
        ] {
            let error = with(bad).unwrap_err().to_string();
            assert!(
                error.contains("telemetry.otlp") && error.contains("only to this machine"),
                "{bad}: {error}"
            );
        }
    }
}
