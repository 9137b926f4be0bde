//! The load of this node: a hint for placement. The seat book decides whether a node is full.

use std::sync::{Arc, Mutex, PoisonError};

use systir_placement::{LoadReport, Seats};

/// Rates of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// CPU use, in thousandths of what the process may use.
    pub cpu_permille: u32,
    /// Bits per second sent to clients.
    pub egress_bps: u64,
    /// Datagrams per second sent to clients.
    pub packets: u64,
}

/// The load of this node.
#[derive(Debug)]
pub struct LocalLoad {
    seats: Arc<Seats>,
    rates: Mutex<Rates>,
}

impl LocalLoad {
    /// Rates are zero until they are first measured.
    #[must_use]
    pub fn new(seats: Arc<Seats>) -> Self {
        Self { seats, rates: Mutex::default() }
    }

    /// The last measured rates.
    #[must_use]
    pub fn rates(&self) -> Rates {
        *self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores newly measured rates.
    pub fn set_rates(&self, rates: Rates) {
        *self.rates.lock().unwrap_or_else(PoisonError::into_inner) = rates;
    }

    /// The load for placement.
    #[must_use]
    pub fn load(&self) -> LoadReport {
        let (participants, capacity) = self.seats.used_and_capacity();
        LoadReport { participants, capacity, cpu_permille: self.rates().cpu_permille, age_ms: 0 }
    }

    /// Does this node drain?
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.seats.is_draining()
    }

    /// The load for this node's lease.
    #[must_use]
    pub fn report(&self, at_ms: u64) -> systir_registry::NodeLoad {
        let (participants, capacity) = self.seats.used_and_capacity();
        let Rates { cpu_permille, egress_bps, packets } = self.rates();
        systir_registry::NodeLoad { participants, capacity, cpu_permille, egress_bps, packets, at_ms }
    }
}
