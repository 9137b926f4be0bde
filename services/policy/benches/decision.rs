//! How long a decision takes: the demo's policy, alone and over fifty candidates.
