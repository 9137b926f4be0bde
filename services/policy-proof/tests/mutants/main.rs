//! Every deletion, negation and widening of a single rule of the example policies and of the floor is caught: the loader
//! refuses it, a decision table or a guarantee fails, or it is proved to permit the same as before. Needs cvc5.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

#[path = "../examples/mod.rs"]
#[allow(dead_code, reason = "each test uses a part")]
mod examples;
mod mutate;

use std::sync::atomic::{AtomicUsize, Ordering};

use examples::{Example, NAMES, floor, floor_model};
use mutate::{Mutant, mutants};
use systir_documents::Floor;
use systir_policy::Action;
use systir_policy_proof::{DecisionTable, PolicyModel, Prover};

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Refused,
    Table,
    Guarantee,
    Equivalent,
    Survived,
}

/// The mutants of one text, and how each is judged.
struct Subject {
    name: &'static str,
    original: PolicyModel,
    mutants: Vec<Mutant>,
}

#[test]
fn every_mutant_of_a_rule_is_caught_or_proved_equivalent() {
    let tables: Vec<(Example, DecisionTable)> =
        NAMES.map(|name| (Example::read(name), Example::table(name))).into();
    let mut subjects = Vec::new();
    for (name, (example, _)) in NAMES.into_iter().zip(&tables) {
        let text =
            example.engine(&[]).unwrap().text(&example.bundle.institution).unwrap().institution.clone();
        subjects.push(Subject { name, original: example.model(), mutants: mutants(&text) });
    }
    subjects.push(Subject {
        name: "floor",
        original: floor_model(&floor()).unwrap(),
        mutants: mutants(&floor().policy),
    });
    let all: Vec<(&Subject, &Mutant)> = subjects
        .iter()
        .flat_map(|subject| subject.mutants.iter().map(move |mutant| (subject, mutant)))
        .collect();
    assert!(all.len() > 300, "{} mutants", all.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut prover = Prover::start().await.unwrap();
            let mut fates = Vec::new();
            while let Some((subject, mutant)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                let fate = fate(&mut prover, subject, mutant, &tables).await;
                fates.push((subject.name, format!("{}: {}", mutant.rule, mutant.what), fate));
            }
            fates
        })
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let fates: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let count = |wanted: Fate| fates.iter().filter(|(_, _, fate)| *fate == wanted).count();
    let (refused, table, guarantee) = (count(Fate::Refused), count(Fate::Table), count(Fate::Guarantee));
    println!(
        "{} mutants: killed {} ({table} by a decision table, {guarantee} by a guarantee, {refused} refused), equivalent {}, \
         survived {}",
        fates.len(),
        table + guarantee + refused,
        count(Fate::Equivalent),
        count(Fate::Survived)
    );
    for (name, what, _) in fates.iter().filter(|(_, _, fate)| *fate == Fate::Equivalent) {
        println!("equivalent, proved: {name}: {what}");
    }
    let survived: Vec<_> = fates.iter().filter(|(_, _, fate)| *fate == Fate::Survived).collect();
    assert!(survived.is_empty(), "survived: {survived:#?}");
    assert_eq!(fates.len(), all.len());
}

async fn fate(
    prover: &mut Prover,
    subject: &Subject,
    mutant: &Mutant,
    tables: &[(Example, DecisionTable)],
) -> Fate {
    let changed = if subject.name == "floor" {
        let floor = Floor { policy: mutant.text.clone(), ..floor() };
        let Ok(model) = floor_model(&floor) else { return Fate::Refused };
        for (example, table) in tables {
            if fails(&Example { floor: floor.clone(), ..example.clone() }, table) == Some(true) {
                return Fate::Table;
            }
        }
        model
    } else {
        let at = NAMES.iter().position(|name| *name == subject.name).unwrap();
        let (mut example, table) = (tables[at].0.clone(), &tables[at].1);
        example.bundle.policy = mutant.text.clone();
        match fails(&example, table) {
            None => return Fate::Refused,
            Some(true) => return Fate::Table,
            Some(false) => example.model(),
        }
    };
    let mut differs = false;
    // Other actions have the same rules as before.
    let affected = [&subject.original, &changed].map(|model| model.actions_of(&mutant.rule));
    for action in Action::ALL.into_iter().filter(|action| affected.iter().any(|of| of.contains(action))) {
        if prover.same(action, &subject.original, &changed).await.unwrap() {
            continue;
        }
        differs = true;
        if !prover.keeps(&changed, action).await.unwrap() {
            return Fate::Guarantee;
        }
    }
    if differs { Fate::Survived } else { Fate::Equivalent }
}

/// Does a decision come out otherwise than expected? None if the loader refuses the policy.
fn fails(example: &Example, table: &DecisionTable) -> Option<bool> {
    let engine = example.engine(&table.own_directories()).ok()?;
    Some(!table.problems(&engine, &example.bundle.institution).is_empty())
}
