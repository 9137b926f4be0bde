//! The kinds of attack, and which of them a seed makes.

macro_rules! attacks {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// What the attacker does to etcd.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Attack {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Attack {
            /// All attacks.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name, such as `unapproved-spill`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

attacks! {
    // Records of rooms.
    /// Adds the unapproved node to the spill nodes of each room.
    UnapprovedSpill = "unapproved-spill",
    /// Makes the unapproved node home, in the next epoch or in the same one.
    UnapprovedHome = "unapproved-home",
    /// Swaps the home with a spill node.
    SwapHome = "swap-home",
    /// Removes all spill nodes from the records.
    DropSpill = "drop-spill",
    /// Writes the highest epoch, with the unapproved node as home.
    LastEpoch = "last-epoch",
    /// Writes epoch 2^64-1, which no node reads.
    EndlessEpoch = "endless-epoch",
    /// Writes grants that list the unapproved node in all roles, in a later epoch. Their signature is wrong.
    ForgedGrant = "forged-grant",
    /// Puts the grant of one room into the record of another.
    OtherGrant = "other-grant",
    /// Writes times at the ends of their range.
    WrongTimes = "wrong-times",
    /// Writes a room of another institution under the key of this one.
    OtherInstitution = "other-institution",
    /// Writes bytes that are no record.
    Garbage = "garbage",
    /// Deletes the records of rooms.
    DeleteRooms = "delete-rooms",
    // Leases.
    /// Writes leases that make the unapproved node look idle and approved, and all others full, draining and busy.
    IdleUnapproved = "idle-unapproved",
    /// Writes leases of approved nodes with the link addresses of the unapproved one.
    UnapprovedAddress = "unapproved-address",
    /// Writes leases with an address at which no node answers.
    WrongAddress = "wrong-address",
    /// Deletes the records of leases.
    DeleteLeases = "delete-leases",
    /// Ends all leases, so that their records vanish and nodes must get new ones.
    RevokeLeases = "revoke-leases",
    // Everything in etcd.
    /// Deletes everything.
    DeleteAll = "delete-all",
    /// Writes earlier values again.
    ReplayOld = "replay-old",
    /// Swaps values between keys, of rooms and of leases.
    SwapValues = "swap-values",
    /// Writes hundreds of records of rooms and nodes that do not exist, one of them large.
    Flood = "flood",
    // etcd itself.
    /// Restores a backup as another etcd cluster, with an older revision, at the same address.
    RestoreBackup = "restore-backup",
    /// Restores a backup as the same etcd cluster, with an older revision.
    RestoreSame = "restore-same",
    /// Drops the history that a watch continues from.
    Compact = "compact",
    /// Stops answering for a while.
    Withhold = "withhold",
    /// Crashes and starts again a while later.
    Crash = "crash",
    /// Refuses all requests for a while.
    Refuse = "refuse",
    // The path of one node.
    /// Answers nothing to one node.
    WithholdFromOne = "withhold-from-one",
    /// Ends the connections of one node and accepts none of it.
    CutOne = "cut-one",
    /// Shows one node another etcd, which has the backup.
    ShowOneBackup = "show-one-backup",
}

impl Attack {
    /// The attack of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|attack| attack.name() == name)
    }
}

/// The attacks of a seed, without end: each kind once in random order, then again in another order.
pub fn attacks_of(seed: u64) -> impl Iterator<Item = Attack> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(move || {
        let mut all = Attack::ALL.to_vec();
        random.shuffle(&mut all);
        all
    })
    .flatten()
}

/// Each kind of attack once, dealt out to the seeds.
#[must_use]
pub fn dealt_to(seeds: &[u64]) -> Vec<(u64, Vec<Attack>)> {
    let order: Vec<Attack> =
        attacks_of(seeds.first().copied().unwrap_or_default()).take(Attack::ALL.len()).collect();
    let hand = |at| order.iter().copied().skip(at).step_by(seeds.len()).collect();
    seeds.iter().enumerate().map(|(at, seed)| (*seed, hand(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_attacks_and_each_attack_has_a_name() {
        let first = |seed| attacks_of(seed).take(6).collect::<Vec<_>>();
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
        assert!(Attack::ALL.iter().all(|attack| Attack::from_name(attack.name()) == Some(*attack)));
    }

    #[test]
    fn seeds_make_each_attack_once_together_and_each_seed_makes_all_in_the_end() {
        for seeds in [&[1][..], &[1, 2, 3]] {
            let mut all: Vec<Attack> = dealt_to(seeds).into_iter().flat_map(|(_, attacks)| attacks).collect();
            all.sort_unstable();
            assert_eq!(all, Attack::ALL);
        }
        let mut second: Vec<Attack> = attacks_of(7).skip(Attack::ALL.len()).take(Attack::ALL.len()).collect();
        second.sort_unstable();
        assert_eq!(second, Attack::ALL);
    }
}
