//! Lines of the doctor.

use serde::Serialize;

/// How bad it is. The order is that of badness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingLevel {
    /// As it should be.
    Ok,
    /// The node works, and something should be changed, or could not be checked.
    Warning,
    /// The node does not start, does not take part in the cluster, or its secrets are open.
    Wrong,
}

impl FindingLevel {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingArea {
    /// The configuration file.
    Configuration,
    /// Signed documents.
    Documents,
    /// Certificates of links, of HTTP and for etcd.
    Certificates,
    /// The node key, API keys, room keys, and who may read their files.
    Keys,
    /// Advertised addresses.
    Addresses,
    /// Ports on which the node listens.
    Ports,
    /// Limits of the machine.
    Kernel,
    /// The wall clock.
    Clock,
    /// The registry.
    Etcd,
    /// The other nodes.
    Peers,
}

impl FindingArea {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Documents => "documents",
            Self::Certificates => "certificates",
            Self::Keys => "keys",
            Self::Addresses => "addresses",
            Self::Ports => "ports",
            Self::Kernel => "kernel",
            Self::Clock => "clock",
            Self::Etcd => "etcd",
            Self::Peers => "peers",
        }
    }
}

/// One line of the doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub area: FindingArea,
    /// Which one: a field of the configuration, a document, a node, a limit of the kernel.
    pub subject: String,
    /// How bad it is.
    pub level: FindingLevel,
    /// What was found. Never contains a secret.
    pub what: String,
    /// What to do; none if nothing is to be done, or `what` says it.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(area: FindingArea, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { area, subject: subject.into(), level: FindingLevel::Ok, what: what.into(), advice: None }
    }

    /// The node works, and something should be changed.
    pub fn warning(area: FindingArea, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: FindingLevel::Warning, ..Self::ok(area, subject, what) }
    }

    /// It must be changed.
    pub fn wrong(area: FindingArea, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: FindingLevel::Wrong, ..Self::ok(area, subject, what) }
    }

    /// With what to do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// One line for a log: the subject, what was found, what to do.
    #[must_use]
    pub fn line(&self) -> String {
        let advice = self.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
        format!("{}: {}{advice}", self.subject, self.what)
    }
}

/// All lines of the doctor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The node; none if its configuration cannot be read.
    pub node: Option<String>,
    /// The lines.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// The worst level.
    #[must_use]
    pub fn worst(&self) -> FindingLevel {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(FindingLevel::Ok)
    }

    /// How many lines have this level.
    #[must_use]
    pub fn count(&self, level: FindingLevel) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_line_counts() {
        let ok = Finding::ok(FindingArea::Clock, "time", "right");
        let warning = Finding::warning(FindingArea::Kernel, "open files", "few").advise("raise them");
        let wrong = Finding::wrong(FindingArea::Etcd, "etcd", "away");
        assert_eq!(Diagnosis::default().worst(), FindingLevel::Ok);
        let of = |findings: &[&Finding]| {
            let findings = findings.iter().map(|finding| (*finding).clone()).collect();
            Diagnosis { node: None, findings }.worst()
        };
        assert_eq!(of(&[&ok]), FindingLevel::Ok);
        assert_eq!(of(&[&warning, &ok]), FindingLevel::Warning);
        assert_eq!(of(&[&wrong, &warning, &ok]), FindingLevel::Wrong);
        assert_eq!(warning.line(), "open files: few; raise them");
    }
}
