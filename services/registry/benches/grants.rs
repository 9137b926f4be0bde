//! What grants cost: signing and verifying one, deciding about one, and renewing those of 5,000 rooms. Prints p50 and p99.

#![allow(clippy::disallowed_methods)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use systir_documents::{Lifetime, SignedGrant, SigningKey};
use systir_policy::Authority;
use systir_policy::demo::DemoDocuments;
use systir_registry::{Assignments, GrantSigner, LocalStore};
use systir_room_tag::test_keys;

type BoxError = Box<dyn std::error::Error>;

const ROOMS: usize = 5_000;

/// Life of the grants here. All are due once half of it has passed.
const LIFE: Duration = Duration::from_secs(20);

/// Half of a grant's life in a cluster, when it is renewed.
const RENEWED_AFTER: Duration = Duration::from_secs(300);

fn node(store: &LocalStore, name: &str, life: Duration) -> Result<Arc<Assignments>, BoxError> {
    let key = || SigningKey::from_seed("cph-1", [1; 32]);
    let public = key()?.public();
    let lifetime = Lifetime { issued: 0, renew_by: u64::MAX, not_after: u64::MAX };
    let prefix = "192.0.2.0/24".parse()?;
    let documents = DemoDocuments::new(lifetime, "", |_| (vec![public.clone()], vec![prefix]))?;
    let authority = Arc::new(Authority::new(documents.engine()?, name, Arc::default()));
    authority.use_room_keys(test_keys::keys());
    let signer =
        GrantSigner { node: name.to_owned(), trust_domain: "nordu.net".to_owned(), key: key()?.into(), life };
    Ok(Assignments::new(Arc::new(store.registry()), signer, authority))
}

#[allow(clippy::print_stdout, reason = "a benchmark prints")]
fn percentiles<T>(what: &str, runs: usize, mut run: impl FnMut() -> T) {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |permille: usize| times.get(runs * permille / 1000).copied().unwrap_or_default();
    println!("{what:<34} p50 {:>9.1?}  p99 {:>9.1?}", at(500), at(990));
}

#[allow(clippy::print_stdout, reason = "a benchmark prints")]
fn main() -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = LocalStore::default();
        let home = node(&store, "cph-1", LIFE)?;
        for number in 0..ROOMS {
            let room = test_keys::room(&format!("room-{number}"));
            home.create(&room, || format!("RM_{number}")).await.map_err(|refusal| refusal.to_string())?;
        }
        let room = test_keys::room("room-0");
        let (note, key) = (home.note(&room), SigningKey::from_seed("cph-1", [1; 32])?);
        let verify = || SignedGrant::verify(&note, |_| vec![key.public()]);
        let grant = verify()?.grant().clone();
        percentiles("sign a grant", 10_000, || SignedGrant::sign(grant.clone(), &key).is_ok());
        percentiles("verify a grant", 10_000, || verify().is_ok());
        let member = node(&store, "sto-1", Duration::from_secs(600))?;
        let mut number = 0;
        percentiles("read, verify and follow a record", ROOMS, || {
            number += 1;
            member.get(&test_keys::room(&format!("room-{}", number - 1)))
        });
        let rooms: Vec<_> = (0..ROOMS).map(|number| test_keys::room(&format!("room-{number}"))).collect();
        let notes = || rooms.iter().map(|room| home.note(room)).collect::<Vec<_>>();
        let before = notes();
        tokio::time::sleep(LIFE / 2).await;
        let start = Instant::now();
        home.renew_all(|_| true);
        let (took, every) = (start.elapsed(), RENEWED_AFTER);
        if before.iter().zip(notes()).any(|(before, after)| *before == after) {
            return Err("a grant was not renewed".into());
        }
        let share = 100.0 * took.as_secs_f64() / every.as_secs_f64();
        println!("renew the grants of {ROOMS} rooms: {took:.1?}, every {every:?}: {share:.3} % of a core (goal < 1 %)");
        let start = Instant::now();
        for room in &rooms {
            // As a spill node follows the renewal that the home tells it.
            let followed = member.offered(room, &home.note(room), "cph-1").await;
            followed.map_err(|refusal| refusal.to_string())?;
        }
        let took = start.elapsed();
        let share = 100.0 * took.as_secs_f64() / every.as_secs_f64();
        println!("follow the renewals of {ROOMS} rooms: {took:.1?}, every {every:?}: {share:.3} % of a core (goal < 1 %)");
        Ok(())
    })
}
